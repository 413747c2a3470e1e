"""Measures a model on arrays or datasets of model inputs, with the losses and metrics that `zoo.train` would use."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from zoo.kernels import traced
from zoo.tasks import call_model
from zoo.training.data.user_data import wrap
from zoo.training.figures import figures, own_metrics
from zoo.training.objective import ModelObjective, Tensors


def measure(model: keras.Model, data: Any, batch_size: int = 256) -> dict[str, float]:
    """Returns the number of examples, the loss and the metrics of a model on data that `zoo.train` takes.

    Args:
        model: a Keras model: compiled with a loss, or a registered one, which has the losses and metrics of its task.
        data: (x, y), (x, y, sample_weight), or a dataset or loader of such. x holds model inputs, not raw examples.
        batch_size: examples per forward pass.

    Raises:
        UsageError: the data does not fit the model, or the model has no loss; the message says what to pass.

    Example:
        >>> measure(model, (np.zeros((10, 28, 28, 1), "float32"), np.zeros(10, int)))["loss"]
    """
    given = wrap(model, data)
    objective = ModelObjective(given.objective, model)
    inputs, targets, _ = next(iter(given.batches("train", 1)))
    objective.build_metrics(targets, call_model(model, inputs))
    metrics = [*objective.metrics, *(own_metrics(model) if model.compiled else ())]
    for metric in metrics:
        metric.reset_state()

    def add(inputs: Tensors, targets: Tensors, weights: Tensors) -> None:
        outputs = call_model(model, inputs)
        sums = [term.sum(targets, outputs, weights) for term in objective.terms]
        total = sums[0][0]
        penalties = [tf.cast(tf.reduce_sum(loss), total.dtype) for loss in model.losses]
        penalty = tf.add_n(penalties) if penalties else tf.zeros_like(total)
        objective.update_metrics(targets, outputs, weights, sums, penalty)

    step = traced(add, autograph=False)
    for batch in given.batches("train", batch_size):
        step(*batch)
    found = {name: value for metric in metrics for name, value in figures(metric).items()}
    return {"num_examples": given.num_examples("train"), **found}
