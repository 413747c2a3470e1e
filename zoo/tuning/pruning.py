"""A Keras callback that records the metric of a trial after every epoch, and ends hopeless trials."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import keras

from zoo.tuning.records import PRUNED

if TYPE_CHECKING:
    from zoo.tuning.records import Clock, Trial
    from zoo.tuning.sampling import Judge


class Pruned(Exception):
    """A trial was ended early. Its run keeps its last checkpoint, from which `zoo train` would resume it."""


class Pruning(keras.callbacks.Callback):
    """Records the metric of a trial after every epoch, and ends the trial if the judge calls it hopeless.

    Args:
        trial: the trial.
        monitor: name of the metric.
        judge: decides; None to record only.
        clock: of the trial.
        write: writes the records.
    """

    def __init__(
        self, trial: Trial, monitor: str, judge: Judge | None, clock: Clock, write: Callable[[], None]
    ) -> None:
        super().__init__()
        self._trial, self._monitor, self._judge, self._clock, self._write = trial, monitor, judge, clock, write

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Records the metric; the decision is written together with it, so that a kill cannot come between."""
        value = float((logs or {})[self._monitor])
        # After a kill before the checkpoint, the epoch comes again with the same value.
        repeated = epoch < len(self._trial.values)
        self._trial.values[epoch:] = [value]
        self._clock.stop()
        if not repeated and self._judge is not None and self._judge.is_hopeless(epoch + 1, value):
            self._trial.state = PRUNED
        self._write()

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Ends the trial here, where the checkpoint of the epoch before is written."""
        if self._trial.state == PRUNED:
            raise Pruned
