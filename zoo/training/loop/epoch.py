"""The training part of an epoch: batches in its order, several steps in one compiled call."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from zoo.training.augmentation import augment, augment_share
from zoo.training.image_draws import PLACED
from zoo.training.loop.call_length import CallLength
from zoo.training.loop.computation import Computation
from zoo.training.loop.failures import readable
from zoo.training.loop.shares import divide
from zoo.training.loop.signals import Stops
from zoo.training.loop.state import RunState
from zoo.training.loop.validation import Validation


class Epoch:
    """Trains from the position of a run to the end of its epoch.

    Args:
        computation: what the run computes with.
        state: the position, which moves.
        callbacks: called before and after each compiled call.
        stops: checked after each compiled call.
        length: the number of steps of a call.
        validation: measures a model that is solved for at once.
    """

    def __init__(
        self,
        computation: Computation,
        state: RunState,
        callbacks: keras.callbacks.CallbackList,
        stops: Stops,
        length: CallLength,
        validation: Validation,
    ) -> None:
        self._computation, self._config, self._state = computation, computation.config, state
        self._callbacks, self._stops, self._length, self._validation = callbacks, stops, length, validation

    def run(self) -> tuple[dict[str, float], dict[str, float]]:
        """Trains; returns the figures of the epoch so far, and its speed, each by name."""
        state = self._state
        if state.step == 0:
            self._computation.reset_metrics()
        started, first = time.perf_counter(), state.step
        run_steps = self._source()
        if self._computation.solve():
            state.step = self._computation.steps
            logs = self._validation.measure("train")
        else:
            logs = self._computation.logs()
        while not state.epoch_finished:
            logs = self._call(run_steps)
        seconds = time.perf_counter() - started
        examples = self._examples(state.step) - self._examples(first)
        return logs, {"seconds": round(seconds, 3), "examples_per_second": round(examples / seconds, 1)}

    def _examples(self, steps: int) -> int:
        return min(steps * self._config.batch_size, self._computation.data.num_examples("train"))

    def _call(self, run_steps: Callable[[int], Any]) -> dict[str, float]:
        """Runs a number of steps in one compiled call."""
        state, count = self._state, self._steps_of_next_call()
        self._callbacks.on_train_batch_begin(state.step)
        started = time.perf_counter()
        with readable(self._computation.data, "train", self._config.batch_size, **self._position):
            done, loss = run_steps(count)
        done = int(done)
        self._computation.check_gradients()
        self._computation.check_draws(state.devices)
        self._length.record(time.perf_counter() - started, done)
        state.step += done
        logs = self._computation.logs()
        self._callbacks.on_train_batch_end(state.step - 1, logs)
        state.reject_non_finite({"loss": float(loss)})
        state.reject_non_finite(logs)
        if state.step < self._computation.steps:
            every = self._config.checkpoint_steps
            if every and state.step % every == 0:
                state.save()
            self._stops.check()
        return logs

    def _steps_of_next_call(self) -> int:
        """Returns a number of steps that ends at the epoch's end and at a checkpoint."""
        config, step = self._config, self._state.step
        limits = [self._computation.steps - step, config.steps_per_call]
        if config.checkpoint_steps:
            limits.append(config.checkpoint_steps - step % config.checkpoint_steps)
        return min(*limits, self._length.of_training(config.steps_per_call))

    def _source(self) -> Callable[[int], Any]:
        """Returns the function that runs a number of steps from here on, in the order of this epoch."""
        config, computation, state = self._config, self._computation, self._state
        if computation.resident is None:
            parts = computation.strategy, config.accumulation_steps
            iterator = iter(divide(self._batches, *parts, numbered=True, share=self._share))
            return lambda count: computation.calls.train(iterator, tf.constant(count, tf.int32))
        numbers = computation.resident.order(config.seed, state.epoch, config.batch_size, config.group_by_length)
        order, columns, examples = tf.constant(numbers, tf.int32), computation.resident.columns, len(numbers)

        def run(count: int) -> Any:
            first = state.step * config.batch_size
            size = min(config.batch_size, examples - first)
            full = max(1, (examples - first) // config.batch_size)  # the last, smaller one is a call of its own
            numbers = (tf.constant(n, tf.int32) for n in (first, min(count, full)))
            return computation.calls.train_rows(columns, order, *numbers, size)

        return run

    @property
    def _position(self) -> dict[str, int]:
        return {"seed": self._config.seed, "epoch": self._state.epoch, "start": self._state.step}

    def _batches(self) -> tf.data.Dataset:
        config, data, position = self._config, self._computation.data, self._position
        batches = data.batches("train", config.batch_size, **position, group_by_length=config.group_by_length)
        if not config.augmentation:
            return batches
        return augment(batches, config.augmentation, **position, num_classes=len(data.class_names))

    def _share(self, index: int, count: int, least: int) -> tf.data.Dataset | None:
        """Returns the rows of a worker alone, if neither the data nor the augmentation needs the others."""
        config, share = self._config, getattr(self._computation.data, "share", None)
        if share is None or not {*config.augmentation} <= PLACED:
            return None
        rows = share("train", config.batch_size, (index, count, least), **self._position)
        if rows is None or not config.augmentation:
            return rows
        return augment_share(rows, config.augmentation, **self._position)
