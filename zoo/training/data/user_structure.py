"""The inputs and outputs of a model, and users' arrays for them, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from zoo.errors import UsageError, did_you_mean

Shapes = dict[str, tuple[int | None, ...]]


class Inputs:
    """What a model declares of its inputs, and how what came is handed to it.

    Args:
        model: a Keras model. A subclassed one declares nothing: it gets what came.
    """

    def __init__(self, model: keras.Model) -> None:
        declared = getattr(model, "inputs", None) or None
        if declared is not None and not isinstance(model, keras.Sequential):
            declared = model.input  # in the structure that the model is called with
        self.shapes: Shapes | None = None
        self.dtypes: dict[str, str] = {}
        if declared is not None:
            tensors = declared if isinstance(declared, Mapping) else {t.name: t for t in tf.nest.flatten(declared)}
            self.shapes = {name: tuple(t.shape[1:]) for name, t in tensors.items()}
            self.dtypes = {name: t.dtype for name, t in tensors.items()}

    def columns(self, x: Any, where: str) -> dict[str, Any]:
        """Returns the inputs by name; by "" what a subclassed model gets as one.

        Raises:
            UsageError: a name that the model has not, or one that is missing.
        """
        if self.shapes is None:
            return dict(x) if _is_dict(x) else {"": x}
        names = list(self.shapes)
        if _is_dict(x):
            for name in x:
                if name not in names:
                    raise UsageError(
                        f"{where} has {name!r}; the model has no such input. {did_you_mean(str(name), names)}"
                    )
            if missing := [name for name in names if name not in x]:
                raise UsageError(f"{where} lacks {missing[0]!r}; the model takes {', '.join(names)}. Pass all of them.")
            return {name: x[name] for name in names}
        if len(names) == 1:
            return {names[0]: x}
        if isinstance(x, (list, tuple)) and len(x) == len(names):
            return dict(zip(names, x, strict=True))
        raise UsageError(f"The model takes {', '.join(names)}; {where} is one array. Pass a dict with these names.")

    def check(self, shapes: Shapes, where: str) -> None:
        """Raises `UsageError` for inputs, without their batch axis, that the model does not take."""
        for name, shape in shapes.items() if self.shapes is not None else ():
            expected = (self.shapes or {})[name]
            if not fits(shape, expected):
                label = f"{where}[{name!r}]" if len(shapes) > 1 else where
                raise UsageError(
                    f"{label} has examples of shape {format_shape(shape)}; the model takes {format_shape(expected)}. "
                    f"Pass an array of shape {format_shape(('examples', *expected))}."
                )


class Outputs:
    """The outputs of a model that are compared with targets, and how targets are distinguished from weights.

    Args:
        all_names: the model's outputs.
        names: those that have a loss or metrics.
    """

    def __init__(self, all_names: Sequence[str], names: Sequence[str]) -> None:
        self.all_names, self.names = list(all_names), list(names)

    def label(self, where: str, name: str) -> str:
        """Returns how messages call what belongs to an output."""
        return where if len(self.all_names) == 1 else f"{where}[{name!r}]"

    def targets(self, y: Any, where: str) -> dict[str, Any]:
        """Returns targets by output.

        Raises:
            UsageError: a name that the model has not, or one that is missing.
        """
        if not self.names:
            return {}
        if len(self.all_names) == 1:
            if _is_dict(y) and set(y) != set(self.names):
                raise UsageError(f"{where} is a dict; expected one array, as the model has one output. Pass the array.")
            return {self.names[0]: y[self.names[0]] if _is_dict(y) else y}
        found = self._named(y, where)
        if missing := [name for name in self.names if name not in found]:
            raise UsageError(
                f"{where} lacks {missing[0]!r}; the model is compiled for {', '.join(self.names)}. Pass it."
            )
        return {name: found[name] for name in self.names}

    def weights(self, given: Any, where: str) -> dict[str, Any]:
        """Returns weights by output, of those that have any; one array is for all of them.

        Raises:
            UsageError: a name that the model has not.
        """
        if given is None or not self.names:
            return {}
        several = len(self.all_names) > 1 and isinstance(given, (Mapping, list, tuple))
        found = self._named(given, where) if several else dict.fromkeys(self.names, given)
        return {name: found[name] for name in self.names if found.get(name) is not None}

    def _named(self, value: Any, where: str) -> dict[str, Any]:
        if _is_dict(value):
            for name in value:
                if name not in self.all_names:
                    raise UsageError(
                        f"{where} has {name!r}; the model has no such output. {did_you_mean(str(name), self.all_names)}"
                    )
            return dict(value)
        for names in (self.all_names, self.names):
            if isinstance(value, (list, tuple)) and len(value) == len(names):
                return dict(zip(names, value, strict=True))
        raise UsageError(
            f"The model has the outputs {', '.join(self.all_names)}; {where} is one array. Pass a dict with these names."
        )


def _is_dict(x: Any) -> bool:
    return isinstance(x, Mapping)


def format_shape(shape: Sequence[Any]) -> str:
    """Returns a shape as Python writes it, without quotes around names."""
    return str(tuple(shape)).replace("'", "")


def fits(shape: Sequence[int | None], expected: Sequence[int | None], exact: bool = False) -> bool:
    """Returns whether a shape is that of an input; like Keras, unless `exact`, it lets an axis of size 1 at the end come
    or go."""
    shape, expected = tuple(shape), tuple(expected)
    if not exact and len(shape) == len(expected) - 1 and expected[-1] == 1:
        expected = expected[:-1]
    elif not exact and len(shape) == len(expected) + 1 and shape[-1] == 1:
        shape = shape[:-1]
    return len(shape) == len(expected) and all(
        a == b or a is None or b is None for a, b in zip(shape, expected, strict=True)
    )
