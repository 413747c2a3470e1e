"""Validation: the metrics of a whole split, without training on it."""

from __future__ import annotations

import math

import keras
import tensorflow as tf

from zoo.training.checkpoints import assign_values, read_values
from zoo.training.loop.call_length import CallLength, needs_every_test_batch
from zoo.training.loop.computation import Computation
from zoo.training.loop.failures import readable
from zoo.training.loop.shares import divide
from zoo.training.loop.signals import Stops


class ValidationInterrupted(Exception):
    """A signal came during validation; the metrics are as they were at the end of the epoch's training."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Validation:
    """Measures the model on a split.

    Args:
        computation: what the run computes with.
        callbacks: called before and after a validation.
        stops: asked after each compiled call whether a signal has come.
        length: the number of batches of a call.
    """

    def __init__(
        self, computation: Computation, callbacks: keras.callbacks.CallbackList, stops: Stops, length: CallLength
    ) -> None:
        self._computation, self._callbacks, self._stops, self._length = computation, callbacks, stops, length
        self._each = any(needs_every_test_batch(callback) for callback in callbacks.callbacks)

    def run(self) -> dict[str, float]:
        """Returns the figures of the validation split as `val_NAME`, empty where there is none.

        Raises:
            ValidationInterrupted: a signal has come; a resumed run begins with this validation.
        """
        if not self._computation.has_validation:
            return {}
        self._callbacks.on_test_begin()
        metrics = self._computation.metric_variables
        trained = read_values(metrics)
        try:
            logs = self.measure("validation", interruptible=True, each=self._each)
        except ValidationInterrupted:
            assign_values(metrics, trained)
            raise
        self._callbacks.on_test_end(logs)
        return {f"val_{name}": value for name, value in logs.items()}

    def measure(self, split: str, *, interruptible: bool = False, each: bool = False) -> dict[str, float]:
        """Returns the metrics of a split by name.

        Args:
            split: name of the split.
            interruptible: whether a signal raises ValidationInterrupted.
            each: whether callbacks get every batch, of the size of those in training.
        """
        computation = self._computation
        computation.reset_metrics()
        size = computation.config.batch_size
        if not (each or getattr(computation.data, "whole_batches", False)):
            size = max(size, 256)  # figures do not depend on the batches
        batches = math.ceil(computation.data.num_examples(split) / size)
        share = getattr(computation.data, "share", None)
        own = share and (lambda *numbers: share(split, size, numbers))
        iterator = iter(divide(lambda: computation.data.batches(split, size), computation.strategy, share=own))
        most = 1 if each else self._length.of_validation(batches, size / computation.config.batch_size)
        for first in range(0, batches, most):
            if each:
                self._callbacks.on_test_batch_begin(first)
            with readable(computation.data, split, size, start=first):
                computation.calls.test(iterator, tf.constant(min(most, batches - first), tf.int32))
            if each:
                self._callbacks.on_test_batch_end(first, computation.logs())
            if interruptible and (number := self._stops.signal()):
                raise ValidationInterrupted(number)
        logs = computation.logs()
        computation.reset_metrics()
        return logs
