"""The state of a run: its position, its history, and all that a checkpoint holds."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from zoo.errors import UsageError
from zoo.training.checkpoints import Checkpoints, assign_parts, assign_values, held, read_parts, read_values
from zoo.training.cluster import Workers
from zoo.training.devices import DeviceRecord
from zoo.training.loop.callback_state import get_states, set_states
from zoo.training.loop.computation import Computation
from zoo.training.loop.failures import invalid_example
from zoo.training.loop.selection import Selection
from zoo.training.run_directory import RunDirectory


class RunState:
    """Where a run is, saved to and restored from its checkpoints.

    Attributes:
        epoch: number of epochs that are done.
        step: number of steps of the current epoch that are done.
        rows: the history, a row for each epoch.
        selection: the comparison of the epochs.
        directory: where the run is kept, None where nothing is kept.
        checkpoints: the checkpoints in it.
        kept: whether any worker keeps the run, which is the chief.
        devices: what the run was trained on so far.

    Args:
        computation: holds the variables.
        selection: compares the epochs.
        callbacks: the user's callbacks, whose state is kept too.
        workers: of a run of several, all hold the same state and the chief alone has a directory.
        directory: where the run is kept, None to keep nothing.
    """

    def __init__(
        self,
        computation: Computation,
        selection: Selection,
        callbacks: Sequence[keras.callbacks.Callback],
        workers: Workers,
        directory: RunDirectory | None,
    ) -> None:
        self.epoch, self.step = 0, 0
        self.rows: list[dict[str, float]] = []
        self.selection, self.directory = selection, directory
        self.checkpoints: Checkpoints | None = None
        if directory is not None:
            self.checkpoints = Checkpoints(directory.checkpoints, computation.config.keep_checkpoints)
        self._model, self._steps, self._epochs = computation.model, computation.steps, computation.config.epochs
        self._data = computation.data
        self._variables, self._metrics = computation.variables, computation.metric_variables["metrics"]
        self._strategy = computation.strategy
        self._callbacks, self._callback_states = callbacks, list[Any]()
        self._limit = float(computation.config.time_limit or math.inf)
        self._before, self._begun = 0.0, time.monotonic()
        self._workers = workers
        self.kept = bool(workers.number_from_chief(int(directory is not None)))
        replicas = computation.strategy.num_replicas_in_sync
        self.devices = DeviceRecord(replicas, workers.count, computation.compiled)

    @property
    def finished(self) -> bool:
        """Whether no epoch is left, or a callback has ended the run."""
        return not self.epochs_left or bool(self._model.stop_training)

    @property
    def epochs_left(self) -> bool:
        """Whether the config asks for more epochs."""
        return self.epoch < self._epochs

    @property
    def seconds(self) -> float:
        """How long the run has been trained, with the time before interruptions."""
        return self._before + time.monotonic() - self._begun

    @property
    def time_is_up(self) -> bool:
        """Whether the run has reached its time limit."""
        return self.seconds >= self._limit

    @property
    def epoch_finished(self) -> bool:
        """Whether no step of the epoch is left, or a callback has ended the run."""
        return self.step >= self._steps or bool(self._model.stop_training)

    def restore(self) -> tuple[int, int] | None:
        """Restores the newest checkpoint on every worker; returns its (epoch, step), None where there is none."""
        values, parts = read_values(self._variables), read_parts(self._strategy, self._workers, self._metrics)
        found = self.checkpoints.restore(values, parts) if self.checkpoints else None
        state = json.loads(self._workers.text_from_chief(json.dumps(found[1] if found else None)))
        if state is None:
            return None
        restored = found[0] if found else {**values, **held(state, parts)}
        if self._workers.count > 1:
            restored = {
                group: [self._workers.from_chief(array) for array in arrays] for group, arrays in restored.items()
            }
        assign_values(self._variables, restored)
        assign_parts(self._strategy, self._workers, self._metrics, restored)
        self.epoch, self.step, self.rows = state["epoch"], state["step_in_epoch"], state["history"]
        self.devices.restore(state.get("devices", ()), self.epoch, self.step)
        self.selection.restore(state["selection"])
        self._callback_states = state["callbacks"]
        # A run that a callback ended stays ended, unless it is given more epochs or time than it was stopped under.
        self._before, self._begun = state.get("seconds", 0.0), time.monotonic()
        time_is_up = self._before >= self._limit  # not `self.time_is_up`: all workers must agree
        extended = self._epochs > state["epochs"] or (state.get("time_is_up", False) and not time_is_up)
        ended = time_is_up and self.step == 0 and bool(self.rows)  # interrupted between the last epoch and its end
        self._model.stop_training = ended or (state["stopped"] and not extended)
        return self.epoch, self.step

    def follow_callbacks(self, initial_epoch: int | None) -> None:
        """Starts at the epoch that a callback has restored, as `BackupAndRestore` does in `on_train_begin`.

        A run that its own directory has resumed keeps its state, which holds more: the position in the epoch, the order of
        the batches, the history.
        """
        if initial_epoch is None:
            return
        if self.restore() is None:
            self.epoch = min(int(initial_epoch), self._epochs)

    def restore_callbacks(self) -> None:
        """Gives the callbacks their state; call it after `on_train_begin`, in which they reset themselves."""
        set_states(self._callbacks, self._callback_states)

    def save(self) -> None:
        """Writes a checkpoint; all workers must call it, as a metric is the sum over all of them."""
        if self._workers.count == 1 and self.checkpoints is None:
            return
        values = {**read_values(self._variables), **read_parts(self._strategy, self._workers, self._metrics)}
        if self.checkpoints is None or self.directory is None:
            return
        self.directory.check()
        state = {
            "epoch": self.epoch,
            "step_in_epoch": self.step,
            "history": self.rows,
            "devices": self.devices.state(),
            "epochs": self._epochs,
            "stopped": self._model.stop_training,
            "seconds": self.seconds,
            "time_is_up": self.time_is_up,
            "selection": self.selection.state(),
            "callbacks": get_states(self._callbacks),
        }
        self.checkpoints.save(self.epoch * self._steps + self.step, values, state)
        self.directory.publish()

    def finish_epoch(self, row: Mapping[str, float]) -> None:
        """Adds an epoch to the history and moves to the start of the next one."""
        self.epoch, self.step = self.epoch + 1, 0
        self.rows.append({"epoch": self.epoch, **row})

    @staticmethod
    def is_finite(logs: Mapping[str, float]) -> bool:
        """Whether every figure is a finite number."""
        return all(math.isfinite(value) for value in logs.values())

    def reject_non_finite(self, logs: Mapping[str, float]) -> None:
        """Raises UsageError for the first figure that is infinite or no number."""
        wrong = next((key for key, value in logs.items() if not math.isfinite(value)), None)
        if wrong is not None:
            kept = f" The last good checkpoint is in {self.directory.checkpoints}." if self.directory else ""
            found = f"The {wrong} is {logs[wrong]} at step {self.step} of epoch {self.epoch + 1}.{kept}"
            if invalid := invalid_example(self._data):
                raise UsageError(f"{found} {invalid} Remove or replace such values.")
            if not wrong.endswith("loss"):
                raise UsageError(
                    f"{found} The loss is finite, so the metric has no value for these examples. Leave {wrong!r} out of "
                    "compile, or let the metric return a number."
                )
            raise UsageError(f"{found} Try a lower learning_rate, a warm-up, or clip_norm=1.0.")

    def describe(self) -> str:
        """Returns where a restored run resumes, in a sentence."""
        if self.finished:
            where = f"training is done, after {self.epoch} epochs"
        else:
            where = f"resuming in epoch {self.epoch + 1} of {self._epochs}, step {self.step + 1} of {self._steps}"
        found = f"Found the run in {self.directory.shown if self.directory else ''}: {where}."
        return found + self.devices.describe_change()
