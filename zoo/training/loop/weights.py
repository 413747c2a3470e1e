"""Which weights a run is judged by, and ends in: the last ones, their moving average, or those of the best epoch."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import keras
import numpy as np

from zoo.training.checkpoints import Checkpoints
from zoo.training.loop.selection import Selection


class Weights:
    """The weights of a run's model.

    Args:
        model: the model that is trained.
        averages: the moving averages of its trainable variables, empty for none.
        selection: compares the epochs.
    """

    def __init__(self, model: keras.Model, averages: Sequence[keras.Variable], selection: Selection) -> None:
        self._model, self._averages, self.selection = model, averages, selection
        self._best: tuple[int, list[np.ndarray]] | None = None
        self.checkpoints: Checkpoints | None = None

    def _values(self) -> list[np.ndarray]:
        return [v.numpy() for v in self._model.weights]

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Puts the moving average in the place of the weights while the block runs."""
        trained = self._model.trainable_variables if self._averages else []
        kept = [v.numpy() for v in trained]
        self._take_averages()
        try:
            yield
        finally:
            for variable, value in zip(trained, kept, strict=True):
                variable.assign(value)

    def _take_averages(self) -> None:
        for variable, average in zip(self._model.trainable_variables, self._averages, strict=False):
            variable.assign(average.numpy())

    def judge(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Notes how good an epoch was, counted from 1, and keeps the weights if it is among the best."""
        if not self.selection.add(epoch, logs):
            return
        values = self._values()
        if self.selection.chosen == epoch:
            self._best = epoch, values
        if self.checkpoints is not None:
            self.checkpoints.save_best(epoch, values)

    def settle(self, from_chief: Callable[[np.ndarray], np.ndarray] | None = None) -> None:
        """Ends in the weights of the best epoch, or in the moving average, where one of them was asked for.

        Args:
            from_chief: gives every worker the chief's array, None for a single process.
        """
        epoch = self.selection.chosen
        if epoch is None:
            self._take_averages()
            return
        values = self._values()
        if self._best is not None and self._best[0] == epoch:
            values = self._best[1]
        elif self.checkpoints is not None:
            values = self.checkpoints.read_best(epoch, values)
        for variable, value in zip(self._model.weights, values, strict=True):
            variable.assign(value if from_chief is None else from_chief(value))
