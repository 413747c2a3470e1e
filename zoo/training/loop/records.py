"""The files of a run besides its checkpoints: history, curves, TensorBoard, the trained model."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import keras
import tensorflow as tf

from zoo.tasks import call_model
from zoo.training.devices import DeviceRecord
from zoo.training.loop.computation import Computation
from zoo.training.plots import plot_history
from zoo.training.run_directory import RunDirectory, writing

_DRAWING_SHARE = 0.05  # of the time between two epochs' ends, at most: epochs may be shorter than a drawing takes
_FIRST_DRAWING = 6.0  # seconds after the start: a drawing takes 0.3 s, and a short run is drawn once, at its end


class Records:
    """Writes the files of a run, nothing where it has no directory.

    Args:
        computation: what the run computes with.
        directory: where they go, None for nowhere.
    """

    def __init__(self, computation: Computation, directory: RunDirectory | None) -> None:
        self._computation, self._directory = computation, directory
        self._next_drawing = time.monotonic() + _FIRST_DRAWING

    def begin(self) -> None:
        """Writes the settings; call it once everything has been checked."""
        if self._directory is not None:
            self._directory.record()

    def write_epoch(self, rows: Sequence[Mapping[str, float]], devices: DeviceRecord) -> None:
        """Writes the history after an epoch, and draws the curves unless epochs are short."""
        if self._directory is None:
            return
        with writing(self._directory.path):
            self._directory.write_history(devices.with_columns(rows))
            self._directory.write_scalars(rows)
            if self._computation.config.histograms:
                self._directory.write_histograms(self._computation.model, len(rows))
            if time.monotonic() >= self._next_drawing:
                self._plot(rows)

    def write_graph(self) -> None:
        """Adds the forward pass to TensorBoard, as training made it."""
        if self._directory is None:
            return
        model = self._computation.model
        inputs, *_ = next(iter(self._computation.data.batches("train", 1)))
        traced = tf.function(lambda inputs: call_model(model, inputs), autograph=False).get_concrete_function(inputs)
        with writing(self._directory.path):
            self._directory.write_graph(traced)

    def finish(
        self, rows: Sequence[Mapping[str, float]], devices: DeviceRecord, model: keras.Model, epoch: int | None
    ) -> None:
        """Writes the trained model, and history and curves once more, which mark the epoch of the model: a resumed run may
        have trained no epoch."""
        if self._directory is None:
            return
        with writing(self._directory.path):
            self._directory.write_history(devices.with_columns(rows))
            if rows:
                self._plot(rows, epoch)
            self._directory.write_model(model)
        self._directory.publish(final=True)

    def _plot(self, rows: Sequence[Mapping[str, float]], exported: int | None = None) -> None:
        assert self._directory is not None
        started = time.monotonic()
        plots = self._directory.path / "plots"
        plots.mkdir(exist_ok=True)
        plot_history(rows, plots / "history.png", exported)
        ended = time.monotonic()
        self._next_drawing = ended + (ended - started) / _DRAWING_SHARE
