"""Puts the tensors of a checkpoint into the variables of a model: all of them, or none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from zoo.errors import UsageError

if TYPE_CHECKING:
    import keras
    import numpy as np


class Place(NamedTuple):
    """The place of one of a format's tensors in the model.

    Attributes:
        name: the tensor's name in the format.
        layer: the model's layer.
        path: the variable in that layer, such as `inner.kernel`.
        part: number of the part along the last axis of the variable, and the number of parts.
        axes: the axes of the variable in the order of the format, such as (1, 0) if the format stores a dense layer as
            (outputs, inputs); empty for the same order.
    """

    name: str
    layer: str
    path: str
    part: tuple[int, int] = (0, 1)
    axes: tuple[int, ...] = ()

    def cut(self, variable: np.ndarray) -> np.ndarray:
        """Returns the tensor in the form of the format, from a variable's value or from a gradient of its shape."""
        number, parts = self.part
        width = variable.shape[-1] // parts
        found = variable[..., number * width : (number + 1) * width]
        return found.transpose(self.axes) if self.axes else found

    def turned(self, tensor: np.ndarray) -> np.ndarray:
        """Returns a tensor of the format with the axes of the variable."""
        return tensor.transpose([self.axes.index(axis) for axis in range(len(self.axes))]) if self.axes else tensor

    def variable(self, model: keras.Model) -> Any:
        """Returns the variable of a model."""
        found: Any = model.get_layer(self.layer)
        for name in self.path.split("."):
            found = getattr(found, name)
        return found


DENSE = (1, 0)
"""PyTorch's axes of a dense kernel."""
CONVOLUTION = (3, 2, 0, 1)
"""PyTorch's axes of a convolution's kernel: (outputs, inputs, height, width)."""
DEPTHWISE = (2, 3, 0, 1)
"""PyTorch's axes of a depthwise convolution's kernel: (channels, 1, height, width)."""


def batch_norm(name: str, layer: str) -> Iterator[Place]:
    """Yields the places of PyTorch's batch normalisation."""
    for theirs, ours in _BATCH_NORM.items():
        yield Place(f"{name}.{theirs}", layer, ours)


_BATCH_NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}


def misfits(model: keras.Model, wanted: Mapping[str, Place], found: Mapping[str, np.ndarray]) -> list[str]:
    """Returns a phrase for every tensor with another shape than its variable, and for those that cannot be weights.

    Args:
        model: the model.
        wanted: places by the tensors' names.
        found: tensors by name. Tensors without a place, and places without a tensor, are skipped.
    """
    import numpy as np

    problems = []
    for name, place in wanted.items():
        if name not in found:
            continue
        shape = place.cut(np.broadcast_to(np.float32(), place.variable(model).shape)).shape
        if found[name].shape != shape:
            problems.append(f"{name} is {found[name].shape}, expected {shape}")
        elif wrong := _not_weights(found[name]):
            problems.append(f"{name} {wrong}")
    return problems


def check(file: Path, problems: Sequence[str], fitting: str) -> None:
    """Raises UsageError if there are problems, with the first three of them and what would fit."""
    if problems:
        more = f" and {len(problems) - 3:,} more" if len(problems) > 3 else ""
        raise UsageError(f"{file} does not fit: {'; '.join(problems[:3])}{more}. Pass {fitting}.")


def assign(model: keras.Model, wanted: Mapping[str, Place], found: Mapping[str, np.ndarray]) -> None:
    """Sets the variables whose tensors are there. Call `misfits` first."""
    import numpy as np

    values: dict[tuple[str, str], list[np.ndarray]] = {}
    for name, place in wanted.items():
        if name in found:
            values.setdefault((place.layer, place.path), []).append(place.turned(found[name]))
    for place in wanted.values():
        if parts := values.pop((place.layer, place.path), None):
            place.variable(model).assign(np.concatenate(parts, axis=-1))


def _not_weights(array: np.ndarray) -> str | None:
    """Returns why an array cannot be weights, or None."""
    import numpy as np

    if array.dtype.kind != "f":
        return f"is of type {array.dtype}, expected floating-point numbers"
    count = array.size - np.count_nonzero(np.isfinite(array))
    return f"has {count} of {array.size} values that are NaN or beyond float32's range" if count else None
