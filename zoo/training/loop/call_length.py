"""How many steps one compiled call takes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras

from zoo.training.cluster import Workers

_CALL_SECONDS = 1.0  # about how long a call may take, so that signals are obeyed and progress is seen


class CallLength:
    """Chooses the number of steps of a call: one at first, then as many as take about a second.

    Workers measure different times, and must make the same calls: all take the chief's number.

    Args:
        workers: all workers of the run.
    """

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._traced, self._seconds = False, math.inf

    def record(self, seconds: float, steps: int) -> None:
        """Takes the time of a training call; the first call traces, and says nothing about the speed."""
        if self._traced:
            self._seconds = seconds / max(1, steps)
        self._traced = True

    def of_training(self, most: int) -> int:
        """Returns the number of training steps of the next call, at most `most`."""
        return self._workers.number_from_chief(max(1, min(most, _fitting(self._seconds))))

    def of_validation(self, most: int, relative_size: float) -> int:
        """Returns the number of batches of each call of a validation.

        Args:
            most: the number of all batches.
            relative_size: size of a batch, compared with one of training.
        """
        # A validation step takes less time than a training step of the same size.
        seconds = self._seconds * relative_size if math.isfinite(self._seconds) else 0.0
        return max(1, self._workers.number_from_chief(min(most, _fitting(seconds))))


def _fitting(seconds: float) -> int:
    return int(_CALL_SECONDS / max(seconds, 1e-6))


_BATCH_HOOKS = ("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end")
_TEST_HOOKS = ("on_test_batch_begin", "on_test_batch_end")


def needs_every_batch(callback: keras.callbacks.Callback) -> bool:
    """Whether a callback has a hook for every batch. Of Keras's own this depends on `save_freq`, `update_freq` and
    `profile_batch`.

    Example:
        >>> needs_every_batch(keras.callbacks.ModelCheckpoint("x.keras", save_freq=4))
        True
        >>> needs_every_batch(keras.callbacks.ModelCheckpoint("x.keras"))
        False
    """
    if _has_hook(callback, _BATCH_HOOKS):
        return True
    often = getattr(callback, "save_freq", getattr(callback, "update_freq", "epoch")) != "epoch"
    return often or bool(getattr(callback, "profile_batch", 0))


def needs_every_test_batch(callback: keras.callbacks.Callback) -> bool:
    """Whether a callback has a hook for every batch of a validation; Keras's own have none that matters.

    Example:
        >>> needs_every_test_batch(keras.callbacks.LambdaCallback(on_epoch_end=print))
        False
    """
    return _has_hook(callback, _TEST_HOOKS)


def _has_hook(callback: keras.callbacks.Callback, hooks: Sequence[str]) -> bool:
    """Whether a callback has one of the hooks that is not Keras's."""
    for hook in hooks:
        owner = next((cls for cls in type(callback).__mro__ if hook in vars(cls)), keras.callbacks.Callback)
        if hook in vars(callback) or not owner.__module__.startswith("keras."):
            return True
    return False
