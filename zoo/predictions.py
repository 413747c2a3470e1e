"""A model's predictions for a whole split, as arrays."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from zoo.kernels import traced
from zoo.tasks import call_model

if TYPE_CHECKING:
    import keras

Arrays = dict[str, Any]


def predict_split(model: keras.Model, data: Any, split: str, batch_size: int) -> tuple[Arrays, Arrays, Arrays]:
    """Returns targets, predictions and weights of a whole split, each a dict of arrays by name. Sequences are padded to the
    longest, with weight 0. `data` is the result of `data.prepare(...)`."""

    # Traced with a dynamic batch, because Keras's evaluation of a fixed batch counts a phantom batch.
    @functools.partial(traced, autograph=False)
    def forward(inputs: Mapping[str, tf.Tensor]) -> Any:
        return data.task.prediction(call_model(model, inputs))

    batches = [
        tf.nest.map_structure(np.asarray, (targets, forward(inputs), weights))
        for inputs, targets, weights in data.batches(split, batch_size)
    ]
    targets, predictions, weights = (
        {name: joined([part[name] for part in parts]) for name in parts[0]} for parts in zip(*batches, strict=True)
    )
    return targets, predictions, weights


def joined(parts: Sequence[Any]) -> Any:
    """Concatenates batches. Batches with fewer steps are padded with 0."""
    if parts[0].ndim > 1:
        longest = max(part.shape[1] for part in parts)
        parts = [np.pad(p, [(0, 0), (0, longest - p.shape[1]), *[(0, 0)] * (p.ndim - 2)]) for p in parts]
    return np.concatenate(parts)
