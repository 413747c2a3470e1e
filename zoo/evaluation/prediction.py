"""A model's answers to a whole split, as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from zoo.tasks import output_name

if TYPE_CHECKING:
    import keras

    from zoo.datasets.data import Prepared


def predict_split(model: keras.Model, data: Prepared, split: str, batch_size: int) -> tuple[Any, Any, Any]:
    """Returns targets, predictions and weights (None where there are none) of a whole split; sequences are filled up to
    the longest with weight 0."""
    name = output_name(model)

    # Traced over a dynamic batch: Keras's own evaluation of a fixed one counts a phantom batch.
    @tf.function(reduce_retracing=True)
    def forward(inputs: Any) -> Any:
        return data.task.prediction({name: model(inputs, training=False)})

    columns: list[list[Any]] = [[], [], []]
    for inputs, targets, *weights in data.batches(split, batch_size):
        for column, part in zip(columns, (targets, forward(inputs), *weights), strict=False):
            column.append(np.asarray(part))
    targets, predictions, weights = (joined(c) if c else None for c in columns)
    return targets, predictions, weights


def joined(parts: Sequence[Any]) -> Any:
    """Concatenates batches; those of fewer steps are filled up with 0."""
    if parts[0].ndim > 1:
        longest = max(part.shape[1] for part in parts)
        parts = [np.pad(p, [(0, 0), (0, longest - p.shape[1]), *[(0, 0)] * (p.ndim - 2)]) for p in parts]
    return np.concatenate(parts)
