"""The weights that a run evaluates and ends with: the last ones, their stand-ins, or those of the best epoch."""

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
        evaluated: what is evaluated instead of its trainable variables, such as moving averages; empty for themselves.
        selection: compares the epochs.
        checkpoints: where the best weights are kept, None for memory alone.
    """

    def __init__(
        self,
        model: keras.Model,
        evaluated: Sequence[keras.Variable],
        selection: Selection,
        checkpoints: Checkpoints | None,
    ) -> None:
        self._model, self._evaluated = model, evaluated
        self._selection, self._checkpoints = selection, checkpoints
        self._best: tuple[int, list[np.ndarray]] | None = None

    def _values(self) -> list[np.ndarray]:
        return [v.numpy() for v in self._model.weights]

    @contextlib.contextmanager
    def evaluated(self) -> Iterator[None]:
        """Gives the model the weights that are evaluated while the block runs."""
        trained = self._model.trainable_variables if self._evaluated else []
        kept = [v.numpy() for v in trained]
        self._take_evaluated()
        try:
            yield
        finally:
            for variable, value in zip(trained, kept, strict=True):
                variable.assign(value)

    def _take_evaluated(self) -> None:
        for variable, stand_in in zip(self._model.trainable_variables, self._evaluated, strict=False):
            variable.assign(stand_in.numpy())

    def score(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Compares an epoch, counted from 1, with the others, and keeps its weights if it is among the best."""
        if not self._selection.add(epoch, logs):
            return
        values = self._values()
        if self._selection.chosen == epoch:
            self._best = epoch, values
        if self._checkpoints is not None:
            self._checkpoints.save_best(epoch, values)

    def choose(self, from_chief: Callable[[np.ndarray], np.ndarray] | None = None) -> None:
        """Gives the model its final weights: those of the best epoch where it is kept, else those that are evaluated.

        Args:
            from_chief: gives every worker the chief's array, None for a single process.
        """
        epoch = self._selection.chosen
        if epoch is None:
            self._take_evaluated()
            return
        values = self._values()
        if self._best is not None and self._best[0] == epoch:
            values = self._best[1]
        elif self._checkpoints is not None:
            values = self._checkpoints.read_best(epoch, values)
        for variable, value in zip(self._model.weights, values, strict=True):
            variable.assign(value if from_chief is None else from_chief(value))
