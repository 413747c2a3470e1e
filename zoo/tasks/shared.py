"""Shared parts of tasks: losses and metrics of classes, of several labels and of numbers, and their outputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zoo import scores
from zoo.errors import UsageError
from zoo.tasks.abstention import UNKNOWN, is_answered
from zoo.tasks.contract import Measure, Objective, Served, Shown, Signature, Term
from zoo.tasks.quantiles import calibrated, percent, quantile_name, split_columns

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

CLASS_OUTPUTS = ("probabilities", "logits")
"""Names of a classifier's output: after a softmax, or before it."""

_TOP = 5
_ANSWERED = {
    "answered": "whether the probability of the best label reaches the one that was chosen on the validation split"
}
_TOP_ANSWERS = {
    "class_name": f"the {_TOP} most probable labels, or all if there are fewer, the best first",
    "probability": "the probability of each of these labels",
    **_ANSWERED,
}
_ASIDE_ANSWERS = {
    "attention_weights": "the attention weight of each step, 0 on padding",
    "tokens": "the words of the text, empty on padding",
}
_PROBABILITIES = "the probability of every label, in the order of assets/labels.txt"
_CLASS_ANSWERS = {
    "class_name": f"the most probable label; {UNKNOWN} if there is an output `answered` and it is false",
    "probabilities": _PROBABILITIES,
    **_ANSWERED,
    "step_class_name": "the most probable label after each step, empty on padding",
    "step_probabilities": "the probability of every label after each step, 0 on padding",
    **_ASIDE_ANSWERS,
}
_LABEL_ANSWERS = {
    "labels": "the labels whose probability reaches their threshold, in the order of assets/labels.txt, empty on padding",
    "probabilities": f"{_PROBABILITIES}; each is independent of the others",
    **_ASIDE_ANSWERS,
}


# --- Losses, metrics and predictions ---------------------------------------------------------------------------------


def cross_entropy(output: str, label_smoothing: float = 0.0) -> keras.losses.Loss:
    """Returns the loss of class numbers with an output named `probabilities` or `logits`."""
    from zoo.metrics import CrossEntropy

    return CrossEntropy(from_logits=output == "logits", label_smoothing=label_smoothing, reduction=None)


def binary_cross_entropy(output: str, label_smoothing: float = 0.0) -> keras.losses.Loss:
    """Returns the loss of several labels with an output named `probabilities` or `logits`, the mean over the labels of each
    example."""
    import keras

    from_logits = output == "logits"
    return keras.losses.BinaryCrossentropy(from_logits=from_logits, label_smoothing=label_smoothing, reduction=None)


def squared_error(output: str, label_smoothing: float = 0.0) -> keras.losses.Loss:
    """Returns the loss of numbers, one value per example.

    Raises:
        UsageError: label smoothing is set, which applies only to classes.
    """
    from zoo.metrics import SquaredError

    _no_smoothing(label_smoothing)
    return SquaredError(reduction=None)


def absolute_error(output: str, label_smoothing: float = 0.0) -> keras.losses.Loss:
    """Returns the absolute loss of numbers, one value per example.

    Raises:
        UsageError: label smoothing is set, which applies only to classes.
    """
    from zoo.metrics import AbsoluteLoss

    _no_smoothing(label_smoothing)
    return AbsoluteLoss(reduction=None)


def _no_smoothing(label_smoothing: float) -> None:
    if label_smoothing:
        raise UsageError(
            f"label_smoothing={label_smoothing} requires classes; this task predicts numbers. Leave label_smoothing out."
        )


def accuracy() -> list[keras.metrics.Metric]:
    """Returns the accuracy of one class per example."""
    import keras

    return [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]


def element_accuracy() -> list[keras.metrics.Metric]:
    """Returns the accuracy over the elements of all examples, such as tokens."""
    from zoo.metrics import ElementAccuracy

    return [ElementAccuracy(name="accuracy")]


def last_step_accuracy() -> list[keras.metrics.Metric]:
    """Returns the accuracy after the last step, or plain accuracy for outputs without steps."""
    from zoo.metrics import LastStepAccuracy

    return [LastStepAccuracy(name="accuracy")]


def label_f1(output: str) -> list[keras.metrics.Metric]:
    """Returns the F1 score over all labels of all examples, for thresholds of 0.5."""
    from zoo.metrics import LabelF1

    return [LabelF1(from_logits=output == "logits", name="micro_f1")]


def errors() -> list[keras.metrics.Metric]:
    """Returns the mean absolute and the root mean squared error."""
    import keras

    from zoo.metrics import AbsoluteError

    return [AbsoluteError(name="mae"), keras.metrics.RootMeanSquaredError(name="rmse")]


def class_probabilities(outputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """Returns the probabilities of classes from either output, `probabilities` or `logits`."""
    import tensorflow as tf

    return outputs["probabilities"] if "probabilities" in outputs else tf.nn.softmax(outputs["logits"])


def predicted_classes(outputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Returns the prediction of tasks with classes: {"probabilities": (batch, ..., classes)}."""
    return {"probabilities": class_probabilities(outputs)}


def label_probabilities(outputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """Returns the probability of each of several labels from either output, `probabilities` or `logits`."""
    import tensorflow as tf

    return outputs["probabilities"] if "probabilities" in outputs else tf.nn.sigmoid(outputs["logits"])


def predicted_labels(outputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Returns the prediction of tasks with several labels: {"probabilities": (batch, labels)}."""
    return {"probabilities": label_probabilities(outputs)}


def decided_thresholds(targets: Mapping[str, Any], predictions: Mapping[str, Any]) -> dict[str, Any]:
    """Returns {"thresholds": [...]}, for each label the one with the best F1 score on these examples."""
    return {"thresholds": scores.best_thresholds(targets["labels"], predictions["probabilities"])}


def only_output(outputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """Returns the only output, whatever its name."""
    (values,) = outputs.values()
    return values


def predicted_values(outputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Returns the prediction of tasks with numbers: {"values": (batch, ...)}."""
    return {"values": only_output(outputs)}


def class_objective(target: str, metrics: Any, *, named: bool = True, monitor: str = "accuracy") -> Objective:
    """Returns the objective of one target of class numbers.

    Args:
        target: name of the target.
        metrics: function that creates the metrics.
        named: whether the classes have names.
        monitor: `accuracy` or `loss` of the validation split.
    """
    return Objective(
        loss=(Term(target, CLASS_OUTPUTS, cross_entropy),),
        metrics=(Measure(target, CLASS_OUTPUTS, metrics),),
        monitor=("val_accuracy", "max") if monitor == "accuracy" else ("val_loss", "min"),
        classes=target if named else None,
    )


def label_objective(target: str = "labels") -> Objective:
    """Returns the objective of one target of several labels."""
    return Objective(
        loss=(Term(target, CLASS_OUTPUTS, binary_cross_entropy),),
        metrics=(Measure(target, CLASS_OUTPUTS, label_f1, by_output=True),),
        labels=target,
    )


@dataclasses.dataclass(frozen=True)
class _NumberTerm(Term):
    """The loss of numbers. The output may have any name but those of a classifier, whose outputs add up to 1."""

    def output_of(self, names: Sequence[str], model: str) -> str:
        """See the base.

        Raises:
            UsageError: as the base; or the output has the name of a classifier's.
        """
        found = super().output_of(names, model)
        if found in CLASS_OUTPUTS:
            raise UsageError(
                f"Model {model!r} ends with a layer named {found!r}, the output of a classifier; this task predicts numbers. "
                "Build it with a linear last layer, and name this layer 'values'."
            )
        return found


def value_objective(target: str, loss: Callable[[str, float], keras.losses.Loss] = squared_error) -> Objective:
    """Returns the objective of one target of numbers."""
    return Objective(loss=(_NumberTerm(target, (), loss),), metrics=(Measure(target, (), errors),))


# --- Outputs with labels ---------------------------------------------------------------------------------------------


def best_labels(served: Served, probabilities: tf.Tensor) -> tf.Tensor:
    """Returns the most probable labels, string of the shape of the probabilities without the last axis."""
    import tensorflow as tf

    return served.label(tf.argmax(probabilities, axis=-1, output_type=tf.int64))


def every_step(served: Served, probabilities: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the label and the probabilities of every step, (batch, steps) and (batch, steps, classes), empty and 0 on
    padding."""
    import tensorflow as tf

    real = tf.sequence_mask(served.extras["lengths"], tf.shape(probabilities)[1])
    labels = tf.where(real, best_labels(served, probabilities), "")
    return labels, tf.where(real[..., tf.newaxis], probabilities, 0.0)


def _whole(served: Served) -> tf.Tensor:
    """Returns the probabilities of the whole example, (batch, classes). For a model with an output at every step, they are
    those of the last step."""
    import tensorflow as tf

    probabilities = class_probabilities(served.outputs)
    if probabilities.shape.rank < 3:
        return probabilities
    last = tf.maximum(served.extras["lengths"] - 1, 0)
    return tf.gather(probabilities, last, axis=1, batch_dims=1)


def _top_answer(served: Served) -> dict[str, tf.Tensor]:
    import tensorflow as tf

    probabilities = _whole(served)
    best, numbers = tf.math.top_k(probabilities, min(_TOP, probabilities.shape[-1]))
    answered = is_answered(probabilities, served.decided)
    found = {"class_name": served.label(tf.cast(numbers, tf.int64)), "probability": best}
    return found if answered is None else {**found, "answered": answered}


def _classification_answer(served: Served) -> dict[str, tf.Tensor]:
    import tensorflow as tf

    probabilities, answer = _whole(served), {}
    every = class_probabilities(served.outputs)
    if every.shape.rank == 3:
        answer["step_class_name"], answer["step_probabilities"] = every_step(served, every)
    found = {"class_name": best_labels(served, probabilities), "probabilities": probabilities}
    if (answered := is_answered(probabilities, served.decided)) is not None:
        found |= {"class_name": tf.where(answered, found["class_name"], UNKNOWN), "answered": answered}
    return {**found, **answer, **_aside(served, CLASS_OUTPUTS)}


def _aside(served: Served, main: Collection[str]) -> dict[str, tf.Tensor]:
    """Returns the outputs of a signature's head other than the main ones, such as attention weights."""
    aside = {name: value for name, value in served.outputs.items() if name not in main}
    if aside and "tokens" in served.extras:
        aside["tokens"] = served.extras["tokens"]  # the attention weights refer to these
    return aside


def _labels_answer(served: Served) -> dict[str, tf.Tensor]:
    import tensorflow as tf

    probabilities = label_probabilities(served.outputs)
    thresholds = served.decided.get("thresholds") or [scores.THRESHOLD] * probabilities.shape[-1]
    chosen = tf.cast(probabilities >= tf.constant(thresholds, probabilities.dtype), tf.int32)
    most = tf.maximum(tf.reduce_max(tf.reduce_sum(chosen, axis=1)), 1)
    is_chosen, numbers = tf.math.top_k(chosen, most)  # of equal values the first
    labels = tf.where(is_chosen > 0, served.label(tf.cast(numbers, tf.int64)), "")
    return {"labels": labels, "probabilities": probabilities, **_aside(served, CLASS_OUTPUTS)}


def _values_answer(served: Served) -> dict[str, tf.Tensor]:
    targets, outputs = served.preprocessor.targets, served.outputs
    main = "values" if "values" in outputs else next(iter(outputs))  # a model of the user may have another name
    levels = targets.quantiles
    values, *rest = split_columns(outputs[main], levels) if levels else (outputs[main],)
    values = targets.unscale(values)
    quantiles = [targets.unscale(calibrated(part, served.decided)) for part in rest]
    answer = {}
    for i, name in enumerate(targets.value_names):
        answer[name] = values[:, i]
        answer |= {quantile_name(name, level): quantiles[0][:, i, k] for k, level in enumerate(levels)}
    return {**answer, **_aside(served, (main,))}


def class_signatures(*requests: str, optional: tuple[str, ...] = ()) -> dict[str, Signature]:
    """Returns the signatures of classifiers: the best label with all probabilities, and the best few labels.

    Args:
        *requests: the names of the raw inputs.
        optional: names of further inputs, used if the preprocessor has them.
    """
    return {
        "serving_default": Signature(
            requests,
            _classification_answer,
            _CLASS_ANSWERS,
            optional=optional,
            shown=Shown("labels", ("probabilities",)),
        ),
        "top_k": Signature(
            requests,
            _top_answer,
            _TOP_ANSWERS,
            optional=optional,
            shown=Shown("rows", ("class_name", "probability")),
        ),
    }


def label_signatures(*requests: str, optional: tuple[str, ...] = ()) -> dict[str, Signature]:
    """Returns the signature of models with several labels: those that reach their threshold, and all probabilities.

    Args:
        *requests: the names of the raw inputs.
        optional: names of further inputs, used if the preprocessor has them.
    """
    shown = Shown("several_labels", ("labels", "probabilities"))
    return {"serving_default": Signature(requests, _labels_answer, _LABEL_ANSWERS, optional=optional, shown=shown)}


def value_signatures(*requests: str, optional: tuple[str, ...] = ()) -> dict[str, Signature]:
    """Returns the signature of models with values: an output per value and per quantile of it, in its own unit.

    Args:
        *requests: the names of the raw inputs.
        optional: names of further inputs, used if the preprocessor has them.
    """

    def named(preprocessor: Any) -> dict[str, str]:
        found = {}
        for name in preprocessor.targets.value_names:
            found[name] = f"the predicted {name}, in its own unit"
            for level in preprocessor.targets.quantiles:
                found[quantile_name(name, level)] = f"the {percent(level)} % quantile of {name}, in its own unit"
        return found

    answers = Signature(requests, _values_answer, _ASIDE_ANSWERS, optional=optional, named=named)
    return {"serving_default": answers}


RECORDS = "examples"
"""The input of serialized rows, and the signature that takes them."""


def of_rows(signatures: Mapping[str, Signature]) -> dict[str, Signature]:
    """Returns signatures for the rows of a table: with one input per column, and one that takes serialized rows.

    Args:
        signatures: the signatures of another kind of example, whose answers are the same.
    """
    of_columns = {name: dataclasses.replace(part, all_but=(RECORDS,)) for name, part in signatures.items()}
    return {**of_columns, RECORDS: dataclasses.replace(signatures["serving_default"], requests=(RECORDS,))}
