"""A model's predictions for a whole split, as arrays; and sentences about examples that can no longer be read."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from zoo.errors import UsageError
from zoo.kernels import traced
from zoo.tasks import call_model

if TYPE_CHECKING:
    import keras

Arrays = dict[str, Any]


@contextlib.contextmanager
def readable(fault: Callable[[], str]) -> Iterator[None]:
    """Replaces TensorFlow's error about an example that cannot be read by a sentence about its file.

    Args:
        fault: returns which example cannot be read, and why; empty if all can.

    Raises:
        UsageError: an example cannot be read any more.
    """
    try:
        yield
    except tf.errors.OpError as error:
        if found := fault():
            raise UsageError(f"{found}. Put the file back as it was, and start again.") from error
        raise


def predict_split(model: keras.Model, data: Any, split: str, batch_size: int) -> tuple[Arrays, Arrays, Arrays]:
    """Returns targets, predictions and weights of a whole split, each a dict of arrays by name. Sequences are padded to the
    longest, with weight 0. `data` is the result of `data.prepare(...)`."""

    # Traced with a dynamic batch, because Keras's evaluation of a fixed batch counts a phantom batch.
    @functools.partial(traced, autograph=False)
    def forward(inputs: Mapping[str, tf.Tensor]) -> Any:
        return data.task.prediction(call_model(model, inputs))

    batches: list[Any] = []
    with readable(lambda: data.fault(split, batch_size, start=len(batches))):
        for inputs, targets, weights in data.batches(split, batch_size):
            batches.append(tf.nest.map_structure(np.asarray, (targets, forward(inputs), weights)))
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
