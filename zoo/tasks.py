"""What a task means, once, for every part of the package.

A task says which preprocessor makes model inputs of a data set's examples, how an answer is judged while training (loss,
metrics) and afterwards (the report), and which signatures a SavedModel has: what each takes and answers. The trainer,
the evaluator and the exporter look these up; none of them knows a task by name, so a new task is one entry in `TASKS`,
and at most one new preprocessor in `zoo.datasets` and one new report in `zoo.evaluation`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

from zoo import scores
from zoo.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Served:
    """What an answer is made from, inside the served graph.

    Attributes:
        outputs: what the signature's head answers by name, such as {"probabilities": (batch, classes)}.
        label: maps int64 class numbers of any shape to string tensors, from the artifact's `assets/labels.txt`.
        extras: side products of the preprocessor that an answer may show, such as the tokens of a text, or the
            `lengths` of sequences, int32 (batch,).
        preprocessor: the run's preprocessor, which turns numbers back into what a client reads: a forecast into its
            unit, token ids into text.
    """

    outputs: Mapping[str, tf.Tensor]
    label: Callable[[tf.Tensor], tf.Tensor]
    extras: Mapping[str, tf.Tensor] = dataclasses.field(default_factory=dict)
    preprocessor: Any = None


@dataclasses.dataclass(frozen=True)
class Signature:
    """A function of the SavedModel that takes raw requests.

    Attributes:
        requests: the names of the raw inputs that it takes, of those that the preprocessor knows.
        answer: makes the named outputs, inside the graph, from core TensorFlow ops.
        answers: the outputs by name, with what each holds (for README and the model card).
        head: what runs the model: its forward pass, `predict`, or a named function of its spec, such as `beam`.
        optional: the names of those that it takes too where the preprocessor knows them.
    """

    requests: tuple[str, ...]
    answer: Callable[[Served], dict[str, tf.Tensor]]
    answers: Mapping[str, str]
    head: str = "predict"
    optional: tuple[str, ...] = ()

    def takes(self, known: Collection[str]) -> tuple[str, ...]:
        """Returns the names of the raw inputs, of a preprocessor that knows these."""
        return (*self.requests, *(name for name in self.optional if name in known))


@dataclasses.dataclass(frozen=True)
class Task:
    """One entry of `TASKS`.

    Attributes:
        name: the name that specs and data sets use.
        target: the key of a data set's examples that holds what is right.
        preprocessor: the entry of `zoo.datasets`'s preprocessors that turns examples into model inputs and targets.
        report: the entry of `zoo.evaluation`'s reports.
        signatures: the SavedModel's functions of raw requests; one is `serving_default`.
        loss: makes the Keras loss for a model and a label smoothing, without reduction: one value per element of the
            target.
        metrics: makes fresh Keras metrics; they are updated with (target, output, weights).
        prediction: what the report judges, from the model's outputs by name, such as probabilities from logits.
        monitor: the metric of the validation split by which one model is better than another, and its direction.
        needs_class_names: whether targets are class numbers with names.
        arguments: arguments that the task decides for every builder that has them.
        score: how answers to raw requests are judged; None where no figure is a mean over examples, as with BLEU.
    """

    name: str
    target: str
    preprocessor: str
    report: str
    signatures: Mapping[str, Signature]
    loss: Callable[[keras.Model, float], keras.losses.Loss]
    metrics: Callable[[], list[keras.metrics.Metric]]
    prediction: Callable[[Mapping[str, tf.Tensor]], tf.Tensor]
    monitor: tuple[str, str] = ("val_loss", "min")
    needs_class_names: bool = True
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    score: scores.Score | None = None


def output_name(model: keras.Model) -> str:
    """Returns the name of a single-output model's output: its last layer's, such as `probabilities` or `logits`."""
    names = list(model.output_names)
    if len(names) != 1:
        raise UsageError(
            f"Model {model.name!r} has the outputs {names}; this task expects one. Build it with one output."
        )
    return str(names[0])


def check_output(model: keras.Model, task: Task) -> None:
    """Refuses a model of classes whose last layer's name does not tell what it answers.

    Raises:
        UsageError: it has several outputs, or one that is called neither `probabilities` nor `logits`.
    """
    name = output_name(model)
    if task.prediction is _class_probabilities and name not in ("probabilities", "logits"):
        raise UsageError(
            f"Model {model.name!r} ends with a layer called {name!r}; expected 'probabilities', or 'logits' before a "
            "softmax. Call its last layer so."
        )


def _cross_entropy(model: keras.Model, label_smoothing: float = 0.0) -> keras.losses.Loss:
    from zoo.metrics import CrossEntropy

    logits = output_name(model) == "logits"
    return CrossEntropy(from_logits=logits, label_smoothing=label_smoothing, reduction=None)


def _squared_error(model: keras.Model, label_smoothing: float = 0.0) -> keras.losses.Loss:
    from zoo.metrics import SquaredError

    if label_smoothing:
        raise UsageError(
            f"label_smoothing={label_smoothing} goes with classes; this task predicts numbers. Leave label_smoothing out."
        )
    return SquaredError(reduction=None)


def _accuracy() -> list[keras.metrics.Metric]:
    import keras

    return [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]


def _element_accuracy() -> list[keras.metrics.Metric]:
    from zoo.metrics import ElementAccuracy

    return [ElementAccuracy(name="accuracy")]


def _last_step_accuracy() -> list[keras.metrics.Metric]:
    from zoo.metrics import LastStepAccuracy

    return [LastStepAccuracy(name="accuracy")]


def _errors() -> list[keras.metrics.Metric]:
    import keras

    from zoo.metrics import AbsoluteError

    return [AbsoluteError(name="mae"), keras.metrics.RootMeanSquaredError(name="rmse")]


def _class_probabilities(outputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
    import tensorflow as tf

    return outputs["probabilities"] if "probabilities" in outputs else tf.nn.softmax(outputs["logits"])


def _values(outputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
    (values,) = outputs.values()
    return values


def _best_labels(served: Served, probabilities: tf.Tensor) -> tf.Tensor:
    import tensorflow as tf

    return served.label(tf.argmax(probabilities, axis=-1, output_type=tf.int64))


def _every_step(served: Served, probabilities: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the label and the probabilities of every step, (batch, steps) and (batch, steps, classes), with nothing
    in the steps that are padding."""
    import tensorflow as tf

    real = tf.sequence_mask(served.extras["lengths"], tf.shape(probabilities)[1])
    labels = tf.where(real, _best_labels(served, probabilities), "")
    return labels, tf.where(real[..., tf.newaxis], probabilities, 0.0)


def _whole(served: Served) -> tf.Tensor:
    """Returns the probabilities of the whole example, (batch, classes): where every step is answered, the last one has
    seen all of them."""
    import tensorflow as tf

    probabilities = _class_probabilities(served.outputs)
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
    every = _class_probabilities(served.outputs)
    if every.shape.rank == 3:
        answer["step_class_name"], answer["step_probabilities"] = _every_step(served, every)
    aside = {name: value for name, value in served.outputs.items() if name not in ("probabilities", "logits")}
    if aside and "tokens" in served.extras:
        aside["tokens"] = served.extras["tokens"]  # what the weights weigh
    return {"class_name": _best_labels(served, probabilities), "probabilities": probabilities, **answer, **aside}


def _tagging_answer(served: Served) -> dict[str, tf.Tensor]:
    tags, probabilities = _every_step(served, _class_probabilities(served.outputs))
    return {"tokens": served.extras["tokens"], "tags": tags, "probabilities": probabilities}


def _forecast_answer(served: Served) -> dict[str, tf.Tensor]:
    return {"forecast": served.preprocessor.unscale(_values(served.outputs), served.extras)}


def _translation_answer(served: Served) -> dict[str, tf.Tensor]:
    return {"text": served.preprocessor.to_text(served.outputs["token_ids"]), "score": served.outputs["score"]}


def _top_items_answer(served: Served) -> dict[str, tf.Tensor]:
    ids, titles = served.preprocessor.items(served.outputs["item_ids"])
    return {"item_id": ids, "title": titles, "score": served.outputs["score"]}


def _filled_answer(served: Served) -> dict[str, tf.Tensor]:
    filled: dict[str, tf.Tensor] = served.preprocessor.fill(_class_probabilities(served.outputs), served.extras)
    return filled


def _rating_answer(served: Served) -> dict[str, tf.Tensor]:
    return {"rating": _values(served.outputs)}


_TOP = 5
_TOP_ANSWERS = {
    "class_name": f"the {_TOP} most probable labels, all where there are fewer, the best first",
    "probability": "of each of them",
}
_CLASS_ANSWERS = {
    "class_name": "the most probable label",
    "probabilities": "of every label, in the order of assets/labels.txt",
    "step_class_name": "the most probable label after each step, empty on padding",
    "step_probabilities": "of every label after each step, 0 on padding",
    "attention_weights": "how much each step counted, 0 on padding",
    "tokens": "the words of the text, empty on padding",
}


def _classifier(*requests: str, optional: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "target": "label",
        "report": "classification",
        "signatures": {
            "serving_default": Signature(requests, _classification_answer, _CLASS_ANSWERS, optional=optional),
            "top_k": Signature(requests, _top_answer, _TOP_ANSWERS, optional=optional),
        },
        "loss": _cross_entropy,
        "metrics": _accuracy,
        "prediction": _class_probabilities,
        "monitor": ("val_accuracy", "max"),
        "score": scores.Score("accuracy", scores.right_labels),
    }


_TAGGER = Signature(
    requests=("text",),
    answer=_tagging_answer,
    answers={
        "tokens": "the words of the text, empty on padding",
        "tags": "the most probable tag of each word, empty on padding",
        "probabilities": "of every tag for each word, in the order of assets/labels.txt, 0 on padding",
    },
)
_FORECASTER = Signature(
    requests=("series",),
    answer=_forecast_answer,
    answers={"forecast": "the next steps of the first channel, in its own unit"},
)
_TRANSLATION = {"text": "the translation", "score": "its log-probability, by length"}
_FILLED = {
    "pieces": "the pieces of the text, the most probable one in every blank, empty on padding",
    "probability": "of that piece, 1 where nothing was asked, 0 on padding",
    "text": "the pieces put together",
}
_RECOMMENDATION = {
    "item_id": "the best items that the user has not rated, the most popular ones for an unknown user",
    "title": "of each item",
    "score": "the rating that the model predicts; an unknown user's items come by popularity instead",
}

TASKS: dict[str, Task] = {
    task.name: task
    for task in [
        Task(
            name="image_classification",
            preprocessor="image",
            **(_classifier("image_bytes") | {"metrics": _last_step_accuracy}),
        ),
        Task(name="text_classification", preprocessor="text", **_classifier("text", optional=("text_pair",))),
        Task(
            name="series_classification",
            preprocessor="series",
            **(_classifier("series") | {"metrics": _last_step_accuracy}),
        ),
        Task(
            name="forecasting",
            target="forecast",
            preprocessor="series",
            report="regression",
            signatures={"serving_default": _FORECASTER},
            loss=_squared_error,
            metrics=_errors,
            prediction=_values,
            needs_class_names=False,
            arguments={"classifier_activation": "linear", "return_sequences": False},
            score=scores.Score("mae", scores.distances("forecast"), higher_is_better=False),
        ),
        Task(
            name="tagging",
            target="tags",
            preprocessor="tagging",
            report="tagging",
            signatures={"serving_default": _TAGGER},
            loss=_cross_entropy,
            metrics=_element_accuracy,
            prediction=_class_probabilities,
            monitor=("val_accuracy", "max"),
            score=scores.Score("accuracy", scores.right_tags),
        ),
        Task(
            name="translation",
            target="translation",
            preprocessor="translation",
            report="translation",
            signatures={
                "serving_default": Signature(("text",), _translation_answer, _TRANSLATION, head="beam"),
                "greedy": Signature(("text",), _translation_answer, _TRANSLATION, head="greedy"),
            },
            loss=_cross_entropy,
            metrics=_element_accuracy,
            prediction=_class_probabilities,
            needs_class_names=False,
        ),
        Task(
            name="masked_language_modelling",
            target="text",
            preprocessor="masked_text",
            report="masked_language",
            signatures={"serving_default": Signature(("text",), _filled_answer, _FILLED)},
            loss=_cross_entropy,
            metrics=_element_accuracy,
            prediction=_class_probabilities,
            needs_class_names=False,
        ),
        Task(
            name="recommendation",
            target="rating",
            preprocessor="interactions",
            report="ranking",
            signatures={
                "serving_default": Signature(("user_id",), _top_items_answer, _RECOMMENDATION, head="top_k"),
                "rating": Signature(
                    ("user_id", "item_id"), _rating_answer, {"rating": "what the user would give the item"}
                ),
            },
            loss=_squared_error,
            metrics=_errors,
            prediction=_values,
            needs_class_names=False,
            score=scores.Score("mae", scores.distances("rating"), signature="rating", higher_is_better=False),
        ),
    ]
}


def get_task(name: str) -> Task:
    """Returns a task by its name.

    Raises:
        UsageError: no such task; the message offers the nearest.

    Example:
        >>> get_task("image_classification").target
        'label'
    """
    if name not in TASKS:
        raise UsageError(f"Unknown task {name!r}. {did_you_mean(name, TASKS)}")
    return TASKS[name]
