"""What a task means, once, for every part of the package.

A task says which features of a data set it reads, which preprocessor makes them model inputs, how an answer is judged
while training (loss, metrics) and afterwards (the report), and what a SavedModel takes and answers. The trainer, the
evaluator and the exporter look these up; none of them knows a task by name, so a new task is one entry in `TASKS`,
and at most one new preprocessor in `zoo.datasets` and one new report in `zoo.evaluation`.

How the tasks to come fit, so that none needs a branch elsewhere:

- Series classification: the same loss, metrics, report and answer as images and texts (`_CLASSIFIER`); another feature,
  another preprocessor ("series"), another raw input (`series`: float32 of any length).
- An answer at every step, tagging: targets (batch, steps); the preprocessor's batches carry weights (batch, steps) that
  are 0 on padding, by which the loss, every metric and the report already leave padding out. The answer maps every step
  to its label (`tokens`, `tags`), so it reads the preprocessor's tokens: `answer` gets the model inputs' side
  outputs through `Served.extras`.
- Forecasting (regression): `loss` becomes the squared error, metrics MAE and RMSE, report "regression" (against naive
  forecasts, which are the task's baseline), answer `forecast`: the preprocessor fitted the scaling on the training split
  and inverts it; `Served` gets it as one more attribute. No class names: `needs_class_names=False`.
- Sequence to sequence: inputs `source` and the target shifted right, targets the target, weights 0 on padding. The
  answer is not read off one forward pass: the spec's named function `decode` runs the model inside the graph, and the
  task's `answer` turns its token ids into `text`. Report "translation" (BLEU).
- Recommendation: inputs `user_id`, `item_id`, target `rating`, loss squared error; `serving_default` takes `user_id` and
  answers from the spec's named function `top_k`; report "ranking" (hit rate, NDCG beside most-popular).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from zoo.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Served:
    """What an answer is made from, inside the served graph.

    Attributes:
        outputs: the model's outputs by name, such as {"probabilities": (batch, classes)}.
        label: maps int64 class numbers of any shape to string tensors, from the artifact's `assets/labels.txt`.
        extras: side products of the preprocessor that an answer may show, such as the tokens of a text.
    """

    outputs: Mapping[str, tf.Tensor]
    label: Callable[[tf.Tensor], tf.Tensor]
    extras: Mapping[str, tf.Tensor] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Task:
    """One entry of `TASKS`.

    Attributes:
        name: the name that specs and data sets use.
        feature: the key of a data set's examples that the model reads.
        target: the key of what it should answer.
        preprocessor: the entry of `zoo.datasets`'s preprocessors that turns the feature into model inputs.
        report: the entry of `zoo.evaluation`'s reports.
        answers: the outputs of `serving_default` by name, with what each holds (for README and the model card).
        loss: makes the Keras loss for a model, without reduction: one value per element of the target.
        metrics: makes fresh Keras metrics; they are updated with (target, output, weights).
        prediction: what the report judges, from the model's outputs by name, such as probabilities from logits.
        answer: makes the named outputs of `serving_default`, inside the graph, from core TensorFlow ops.
        monitor: the metric of the validation split by which one model is better than another, and its direction.
        needs_class_names: whether targets are class numbers with names.
    """

    name: str
    feature: str
    target: str
    preprocessor: str
    report: str
    answers: Mapping[str, str]
    loss: Callable[[keras.Model], keras.losses.Loss]
    metrics: Callable[[], list[keras.metrics.Metric]]
    prediction: Callable[[Mapping[str, tf.Tensor]], tf.Tensor]
    answer: Callable[[Served], dict[str, tf.Tensor]]
    monitor: tuple[str, str] = ("val_loss", "min")
    needs_class_names: bool = True


def output_name(model: keras.Model) -> str:
    """Returns the name of a single-output model's output: its last layer's, such as `probabilities` or `logits`."""
    names = list(model.output_names)
    if len(names) != 1:
        raise UsageError(
            f"Model {model.name!r} has the outputs {names}; this task expects one. Build it with one output."
        )
    return str(names[0])


def _classification_loss(model: keras.Model) -> keras.losses.Loss:
    import keras

    return keras.losses.SparseCategoricalCrossentropy(from_logits=output_name(model) == "logits", reduction=None)


def _classification_metrics() -> list[keras.metrics.Metric]:
    import keras

    return [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]


def _class_probabilities(outputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
    import tensorflow as tf

    return outputs["probabilities"] if "probabilities" in outputs else tf.nn.softmax(outputs["logits"])


def _classification_answer(served: Served) -> dict[str, tf.Tensor]:
    import tensorflow as tf

    probabilities = _class_probabilities(served.outputs)
    best = tf.argmax(probabilities, axis=-1, output_type=tf.int64)
    return {"class_name": served.label(best), "probabilities": probabilities}


_CLASSIFIER: dict[str, Any] = {
    "target": "label",
    "report": "classification",
    "answers": {
        "class_name": "the most probable label",
        "probabilities": "of every label, in the order of assets/labels.txt",
    },
    "loss": _classification_loss,
    "metrics": _classification_metrics,
    "prediction": _class_probabilities,
    "answer": _classification_answer,
    "monitor": ("val_accuracy", "max"),
}

TASKS: dict[str, Task] = {
    task.name: task
    for task in [
        Task(name="image_classification", feature="image", preprocessor="image", **_CLASSIFIER),
        Task(name="text_classification", feature="text", preprocessor="text", **_CLASSIFIER),
    ]
}


def get_task(name: str) -> Task:
    """Returns a task by its name.

    Raises:
        UsageError: no such task; the message offers the nearest.

    Example:
        >>> get_task("image_classification").feature
        'image'
    """
    if name not in TASKS:
        raise UsageError(f"Unknown task {name!r}. {did_you_mean(name, TASKS)}")
    return TASKS[name]
