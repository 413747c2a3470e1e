"""Targets of models with one output: a class, several labels at once, or values, from raw examples and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from zoo.errors import UsageError
from zoo.tasks import get_task
from zoo.tasks.quantiles import quantile_name

if TYPE_CHECKING:
    from zoo.datasets.preprocessing.base import Tensors
    from zoo.datasets.raw import RawData

_BATCH = 1024


@dataclasses.dataclass(frozen=True)
class Targets:
    """Turns the target of raw examples into that of a model. A preprocessor has one as its attribute `targets`.

    | target | raw examples and model |
    |---|---|
    | `label` | the number of a class, int64 (batch,), unchanged |
    | `labels` | 1 for every label that an example has, else 0: float32 (batch, labels), unchanged |
    | `value` | numbers in their own units, float32 (batch, values); for the model standard deviations of the training split |

    Attributes:
        name: the key of the target in raw examples, and its name for the loss.
        value_names: for values, their names in order.
        mean: for values, the mean of each in the training split, after the logarithm.
        deviation: for values, the standard deviation of each, after the logarithm.
        log: for values, whether the model gets log(1 + value).
        quantiles: for values, the levels of the quantiles that the model also predicts, ascending, between 0 and 1.

    Example:
        >>> targets = Targets("value", ("price",), mean=(10.0,), deviation=(2.0,))
        >>> targets.encode({"value": tf.constant([[14.0]])})["value"].numpy().tolist()
        [[2.0]]
        >>> targets.unscale(np.float32([[2.0]])).tolist()
        [[14.0]]
    """

    name: str = "label"
    value_names: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()
    log: bool = False
    quantiles: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for name in ("value_names", "mean", "deviation", "quantiles"):  # they are lists if they were read from a file
            object.__setattr__(self, name, tuple(getattr(self, name)))

    @classmethod
    def fit(cls, data: RawData, quantiles: Sequence[float] = ()) -> Targets:
        """Returns the targets of a data set's task, fitted on the training split.

        Args:
            data: the data set.
            quantiles: the levels of quantiles of its values, `needs["quantiles"]` of a preprocessor's `for_model`.

        Raises:
            UsageError: a value is the same in all training examples, is not finite, or has no logarithm; or it has the name
                of a quantile's output.
        """
        names = get_task(data.task).targets
        name = next((name for name in names if name in _KINDS), cls.name)
        found = dataclasses.replace(_KINDS[name](data), quantiles=tuple(quantiles))
        _check_names(data.name, found)
        return found

    @classmethod
    def restored(cls, config: Targets | Mapping[str, Any]) -> Targets:
        """Returns targets from themselves or from their `config`."""
        return cls(**config) if isinstance(config, Mapping) else config

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments of a model's builder that the targets determine, in addition to the number of classes."""
        return {"num_classes": len(self.value_names) * (1 + len(self.quantiles))} if self.value_names else {}

    @property
    def described_outputs(self) -> dict[str, str]:
        """What a model's outputs hold, by name, for the model card: how values become those in their own units."""
        if not self.mean:
            return {}
        ways = (
            f"{n} = {a:.9g} + {s:.9g} x" for n, a, s in zip(self.value_names, self.mean, self.deviation, strict=True)
        )
        log = ", which is the logarithm log(1 + value)" if self.log else ""
        levels = ", ".join(f"{level:g}" for level in self.quantiles)
        more = (
            f". Then the quantiles of each value for {levels}, in the same scale, neither calibrated nor sorted"
            if levels
            else ""
        )
        return {"values": f"x in standard deviations of the training split: {', '.join(ways)}{log}{more}"}

    def encode(self, examples: Tensors) -> dict[str, tf.Tensor]:
        """Returns the target of a batch of raw examples, by its name."""
        target = examples[self.name]
        if not self.mean:
            return {self.name: target}
        values = tf.math.log1p(target) if self.log else target
        return {self.name: (values - _constant(self.mean)) / _constant(self.deviation)}

    def unscale(self, values: Any) -> Any:
        """Returns values in their own units, from a model's output: a tensor or an array (batch, values), or quantiles of
        them, (batch, values, quantiles)."""
        if not self.mean:
            return values
        mean, deviation = _constant(self.mean), _constant(self.deviation)
        if len(values.shape) == 3:
            mean, deviation = mean[:, np.newaxis], deviation[:, np.newaxis]
        found = values * deviation + mean
        if not self.log:
            return found
        return tf.math.expm1(found) if tf.is_tensor(found) else np.expm1(found)

    def config(self) -> dict[str, Any]:
        """Returns the constructor's arguments as plain values, without those at their defaults."""
        found = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in found.items()
            if value != defaults[name]
        }

    def described(self) -> dict[str, Any]:
        """Returns {"targets": config} for the configuration of a preprocessor, or nothing for a class."""
        config = self.config()
        return {"targets": config} if config else {}


def _check_names(where: str, targets: Targets) -> None:
    """Raises UsageError if a quantile's output would have the name of a value."""
    for name in targets.value_names:
        for level in targets.quantiles:
            if (taken := quantile_name(name, level)) in targets.value_names:
                raise UsageError(
                    f"{where} has a value {taken!r}, which is also the name of the output for the quantile {level:g} of "
                    f"{name!r}. Rename the column {taken!r}, or leave the quantile {level:g} out."
                )


def _constant(numbers: tuple[float, ...]) -> np.ndarray:
    return np.array(numbers, np.float32)


def _fit_values(data: RawData) -> Targets:
    batches = data.splits["train"].column("value").batch(_BATCH)
    values = np.concatenate(list(batches.as_numpy_iterator())).astype(np.float64)
    log = bool(data.about.get("log_values", False))
    names = tuple(data.about.get("value_names") or (f"value {n}" for n in range(1, values.shape[1] + 1)))
    check_values(data.name, values, names, log=log)
    values = np.log1p(values) if log else values
    mean, deviation = values.mean(axis=0), values.std(axis=0)
    return Targets("value", names, tuple(mean.tolist()), tuple(deviation.tolist()), log)


def check_values(where: str, values: np.ndarray, names: tuple[str, ...], *, log: bool = False) -> None:
    """Checks that a model can learn values.

    Args:
        where: the data, for messages.
        values: (examples, values).
        names: the names of the values.
        log: whether the model gets their logarithms.

    Raises:
        UsageError: a value is the same in all examples, is not finite, or has no logarithm.
    """
    for name, column in zip(names, values.T, strict=True):
        if not np.isfinite(column).all():
            raise UsageError(f"{where} has a {name} that is not a finite number. Correct it, or leave the example out.")
        if log and column.min() < 0:
            raise UsageError(
                f"{where} has a {name} of {column.min():g}; log_values takes none below 0. Leave log_values out."
            )
        if column.min() == column.max():
            raise UsageError(
                f"{name} is {column[0]:g} in all training examples of {where}, so nothing can be learned. Choose another "
                "column."
            )


_KINDS: dict[str, Callable[[RawData], Targets]] = {
    "label": lambda data: Targets("label"),
    "labels": lambda data: Targets("labels"),
    "value": _fit_values,
}
"""Functions that fit the targets of a data set, by the name of its task's target."""
