"""Shared parts of tasks: losses and metrics of classes and of numbers, and outputs with labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from zoo.errors import UsageError
from zoo.tasks.contract import Measure, Objective, Served, Shown, Signature, Term

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

CLASS_OUTPUTS = ("probabilities", "logits")
"""Names of a classifier's output: after a softmax, or before it."""

_TOP = 5
_TOP_ANSWERS = {
    "class_name": f"the {_TOP} most probable labels, or all if there are fewer, the best first",
    "probability": "the probability of each of these labels",
}
_CLASS_ANSWERS = {
    "class_name": "the most probable label",
    "probabilities": "the probability of every label, in the order of assets/labels.txt",
    "step_class_name": "the most probable label after each step, empty on padding",
    "step_probabilities": "the probability of every label after each step, 0 on padding",
    "attention_weights": "the attention weight of each step, 0 on padding",
    "tokens": "the words of the text, empty on padding",
}


# --- Losses, metrics and predictions ---------------------------------------------------------------------------------


def cross_entropy(output: str, label_smoothing: float = 0.0) -> keras.losses.Loss:
    """Returns the loss of class numbers with an output named `probabilities` or `logits`."""
    from zoo.metrics import CrossEntropy

    return CrossEntropy(from_logits=output == "logits", label_smoothing=label_smoothing, reduction=None)


def squared_error(output: str, label_smoothing: float = 0.0) -> keras.losses.Loss:
    """Returns the loss of numbers, one value per example.

    Raises:
        UsageError: label smoothing is set, which applies only to classes.
    """
    from zoo.metrics import SquaredError

    if label_smoothing:
        raise UsageError(
            f"label_smoothing={label_smoothing} requires classes; this task predicts numbers. Leave label_smoothing out."
        )
    return SquaredError(reduction=None)


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


def value_objective(target: str) -> Objective:
    """Returns the objective of one target of numbers."""
    return Objective(loss=(Term(target, (), squared_error),), metrics=(Measure(target, (), errors),))


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
    return {"class_name": served.label(tf.cast(numbers, tf.int64)), "probability": best}


def _classification_answer(served: Served) -> dict[str, tf.Tensor]:
    probabilities, answer = _whole(served), {}
    every = class_probabilities(served.outputs)
    if every.shape.rank == 3:
        answer["step_class_name"], answer["step_probabilities"] = every_step(served, every)
    aside = {name: value for name, value in served.outputs.items() if name not in CLASS_OUTPUTS}
    if aside and "tokens" in served.extras:
        aside["tokens"] = served.extras["tokens"]  # the attention weights refer to these
    return {"class_name": best_labels(served, probabilities), "probabilities": probabilities, **answer, **aside}


def class_signatures(
    *requests: str, optional: tuple[str, ...] = (), all_but: tuple[str, ...] | None = None
) -> dict[str, Signature]:
    """Returns the signatures of classifiers: the best label with all probabilities, and the best few labels.

    Args:
        *requests: the names of the raw inputs.
        optional: names of further inputs, used if the preprocessor has them.
        all_but: see `Signature`.
    """
    return {
        "serving_default": Signature(
            requests,
            _classification_answer,
            _CLASS_ANSWERS,
            optional=optional,
            all_but=all_but,
            shown=Shown("labels", ("probabilities",)),
        ),
        "top_k": Signature(
            requests,
            _top_answer,
            _TOP_ANSWERS,
            optional=optional,
            all_but=all_but,
            shown=Shown("rows", ("class_name", "probability")),
        ),
    }
