"""All adaptations of a run, as one object."""

from __future__ import annotations

import contextlib
import functools
import importlib
import math
import pkgutil
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from zoo.config import TrainConfig
from zoo.training.adaptations.contract import Adaptation, registered


@functools.cache
def _scan() -> None:
    """Imports every module of this folder, which registers what it holds."""
    package = importlib.import_module("zoo.training.adaptations")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")


class Adaptations:
    """The adaptations that a config switches on.

    Args:
        model: the model, built in its strategy's scope.
        config: the settings of the run.
    """

    def __init__(self, model: keras.Model, config: TrainConfig) -> None:
        _scan()
        self._model = model
        self._active: list[Adaptation] = [kind(model, config) for kind in registered() if kind.is_on(config)]
        self._own: list[Sequence[Sequence[keras.Variable]]] = []

    def apply(self) -> None:
        """Changes the model; see `Adaptation.apply`."""
        for adaptation in self._active:
            adaptation.apply()

    def optimizer(self, optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
        """Returns the optimizer that trains; see `Adaptation.optimizer`."""
        for adaptation in self._active:
            optimizer = adaptation.optimizer(optimizer)
        return optimizer

    def rate(self, weight: keras.Variable) -> float:
        """Returns the factor of the learning rate of a weight."""
        return math.prod((adaptation.rate(weight) for adaptation in self._active), start=1.0)

    def build(self, weights: Sequence[keras.Variable]) -> None:
        """Makes the variables of the adaptations; call it in the strategy's scope."""
        self._own = [adaptation.build(weights) for adaptation in self._active]

    @property
    def variables(self) -> list[keras.Variable]:
        """Everything that a checkpoint must hold."""
        return [variable for own in self._own for each in own for variable in each]

    def own(self, number: int) -> list[list[Any]]:
        """Returns the variables that belong to a weight, a list for each adaptation."""
        return [[variable.value for variable in own[number]] for own in self._own]

    def after_step(self, weight: tf.Variable, number: int, own: Sequence[Sequence[Any]], step: tf.Tensor) -> None:
        """Changes a weight after its update; `own` holds what `own()` returned, as copies on this device."""
        for adaptation, mine in zip(self._active, own, strict=True):
            adaptation.after_step(weight, number, mine, step)

    @property
    def evaluated(self) -> Sequence[keras.Variable]:
        """The variables that are evaluated instead of the trainable weights, empty for the weights themselves."""
        return next((a.evaluated for a in reversed(self._active) if a.evaluated), ())

    @property
    def summary(self) -> str:
        """How many parameters train, in a sentence; empty where every adaptation leaves that as it is."""
        notes = [adaptation.note for adaptation in self._active if adaptation.note]
        if not notes:
            return ""
        count = sum(math.prod(v.shape) for v in self._model.trainable_variables)
        return f"{count:,} parameters are trained ({'; '.join(notes)})."

    def close(self) -> None:
        """Takes back what `apply` changed; a second call does nothing."""
        while self._active:
            self._active.pop().close()


@contextlib.contextmanager
def adapted(model: keras.Model, config: TrainConfig) -> Iterator[Adaptations]:
    """Adapts a model as its config says while the block runs, or until `close` is called.

    Example:
        >>> with adapted(model, zoo.TrainConfig(freeze=["embedding"])):
        ...     print(len(model.trainable_variables))
    """
    with contextlib.closing(Adaptations(model, config)) as adaptations:
        adaptations.apply()
        yield adaptations
