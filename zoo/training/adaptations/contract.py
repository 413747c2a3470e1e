"""What an adaptation is: a change of how a model trains, switched on by fields of `TrainConfig`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol, TypeVar

import keras
import tensorflow as tf

from zoo.config import TrainConfig


class Adaptation(Protocol):
    """A change of how a model trains. Subclass it, override what you need, and call `register_adaptation`.

    A run calls `apply`, `optimizer` and `build` once, in this order. `after_step` runs after every update of a weight.
    `close` takes back what `apply` changed.

    Attributes:
        fields: fields of TrainConfig; the adaptation is on where one of them differs from its default.
        order: adaptations are applied from the lowest to the highest, and closed in reverse.
        evaluated: variables whose values are validated, evaluated and exported instead of the trainable weights, one for
            each of them; empty for the weights themselves. Set by `build`.
        note: why fewer parameters train, such as "LoRA in 5 layers"; printed before the run. Set by `apply`.

    Args:
        model: the model, built in its strategy's scope.
        config: the settings of the run.

    Example:
        >>> @register_adaptation
        ... class Clipping(Adaptation):
        ...     fields = ("largest_weight",)
        ...
        ...     def after_step(self, weight, number, own, step):
        ...         limit = self.config.largest_weight
        ...         weight.assign(tf.clip_by_value(weight, -limit, limit))
    """

    model: keras.Model
    config: TrainConfig
    fields: ClassVar[tuple[str, ...]]
    order: ClassVar[int] = 0
    evaluated: Sequence[keras.Variable] = ()
    note: str = ""

    def __init__(self, model: keras.Model, config: TrainConfig) -> None:
        self.model, self.config = model, config

    @classmethod
    def is_on(cls, config: TrainConfig) -> bool:
        """Returns whether a config switches the adaptation on."""
        default = type(config)()
        return any(getattr(config, name, None) != getattr(default, name, None) for name in cls.fields)

    def apply(self) -> None:
        """Changes the model before its optimizer is made.

        Raises:
            UsageError: the model or the config does not allow it.
        """

    def optimizer(self, optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
        """Returns the optimizer that trains; called in the strategy's scope."""
        return optimizer

    def rate(self, weight: keras.Variable) -> float:
        """Returns the factor of the learning rate of a weight."""
        return 1.0

    def build(self, weights: Sequence[keras.Variable]) -> Sequence[Sequence[keras.Variable]]:
        """Returns own variables of the adaptation, a list for each weight that trains; checkpoints keep them.

        It is called in the strategy's scope.
        """
        return [()] * len(weights)

    def after_step(self, weight: tf.Variable, number: int, own: Sequence[tf.Variable], step: tf.Tensor) -> None:
        """Changes a weight after the optimizer has updated it; traced, on every device.

        Args:
            weight: the copy of the weight on this device.
            number: the position of the weight among those that train.
            own: the copies of what `build` returned for this weight.
            step: number of the step, from 0, an integer scalar.
        """
        return

    def close(self) -> None:
        """Takes back what `apply` changed."""


Kind = TypeVar("Kind", bound=type[Adaptation])
_REGISTERED: dict[str, type[Adaptation]] = {}


def register_adaptation(kind: Kind) -> Kind:
    """Registers a class of adaptations, and returns it.

    Raises:
        ValueError: another module has registered a class of the same name.
    """
    first = _REGISTERED.get(kind.__name__, kind)
    if first.__module__ != kind.__module__:
        raise ValueError(
            f"Adaptation {kind.__name__!r} is registered twice: by {first.__module__} and by {kind.__module__}. "
            "Rename one of them."
        )
    _REGISTERED[kind.__name__] = kind
    return kind


def registered() -> list[type[Adaptation]]:
    """Returns the registered classes in the order in which they are applied."""
    return sorted(_REGISTERED.values(), key=lambda kind: (kind.order, kind.__name__))
