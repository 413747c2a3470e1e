"""Errors of TensorFlow that a user can fix, as one sentence."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from zoo.config import TrainConfig
from zoo.errors import UsageError, one_line
from zoo.training.data.user_iterables import own_errors
from zoo.training.protocols import TrainingData


@contextlib.contextmanager
def explained(config: TrainConfig, strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Replaces TensorFlow's errors about invalid batches, memory and lost workers by a UsageError.

    Args:
        config: of the run in the block.
        strategy: of the run in the block.

    Raises:
        UsageError: what went wrong and what to try.
    """
    replicas = strategy.num_replicas_in_sync
    try:
        with own_errors():
            yield
    except tf.errors.InvalidArgumentError as error:
        if "assertion failed" not in str(error):
            raise
        raise UsageError(f"A batch was rejected: {one_line(error)} Check the data set.") from error
    except (tf.errors.ResourceExhaustedError, MemoryError) as error:
        parts = config.accumulation_steps
        more = 2 * parts if config.batch_size >= 2 * parts * replicas else parts
        cure = (
            f"accumulation_steps={more}, which computes the same batch in smaller parts"
            if more > parts
            else "less data"
        )
        raise UsageError(
            f"Out of memory with batch_size={config.batch_size}, accumulation_steps={parts} on {replicas} device(s). "
            f"Pass {cure}, or a smaller model."
        ) from error
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError) as error:
        if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
            raise
        raise UsageError(
            f"Another worker was lost: {one_line(error, 200)} Start every worker again with the same command; the run "
            "resumes from its last checkpoint."
        ) from error


@contextlib.contextmanager
def readable(data: TrainingData, split: str, batch_size: int, **position: int) -> Iterator[None]:
    """Replaces TensorFlow's error about an example that cannot be read by a sentence about its file.

    Args:
        data: the data that is read in the block.
        split: name of the split.
        batch_size: examples per batch.
        **position: `seed`, `epoch` and `start` of the batches, as in `TrainingData.batches`.

    Raises:
        UsageError: a file is missing or has changed.
    """
    try:
        yield
    except tf.errors.OpError as error:
        fault = getattr(data, "fault", None)
        if fault is not None and (found := fault(split, batch_size, **position)):
            raise UsageError(
                f"{found}. Put the file back as it was: the same command then resumes the run from its last checkpoint."
            ) from error
        raise


def invalid_example(data: TrainingData) -> str:
    """Returns a sentence about the first training example with NaN or infinity in its inputs, empty if there is none, or if
    NaN marks a missing value."""
    if math.isnan(getattr(getattr(data, "preprocessor", None), "padding", 0.0)):
        return ""
    start = 0
    for inputs, _, _ in data.batches("train", 256):
        for name, tensor in inputs.items():
            values = np.asarray(tensor)
            if values.dtype.kind != "f" or np.isfinite(values).all():
                continue
            place = np.argwhere(~np.isfinite(values))[0]
            return f"Training example {start + place[0]} has {values[tuple(place)]} in {name}."
        start += len(next(iter(inputs.values())))
    return ""
