"""The layers and weights of a model by name, and which of them train."""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import keras

from zoo.errors import UsageError, did_you_mean

Part: TypeAlias = keras.layers.Layer | keras.Variable


class Trainability:
    """Remembers which layers and weights of a model are trainable.

    Args:
        model: the model as it is now.
    """

    def __init__(self, model: keras.Model) -> None:
        self._model = model
        self._layers = [(layer, layer._trainable) for layer in model._flatten_layers()]
        self._variables = [(v, v.trainable) for v in model.variables]

    def restore(self) -> None:
        """Makes them trainable or not, as they were."""
        for layer, trainable in self._layers:
            layer._trainable = trainable
        for variable, trainable in self._variables:
            variable.trainable = trainable
        self.forget_traces()

    def forget_traces(self) -> None:
        """Makes Keras trace its functions again: the traced ones know the layers as they were."""
        self._model.train_function = self._model.test_function = self._model.predict_function = None


def named_parts(model: keras.Model) -> dict[str, Part]:
    """Returns all layers and weights of a model by names such as block_1, block_1/inner and block_1/inner/kernel.

    An inner layer without a name of its own is called like the attribute that holds it. Keras numbers such layers, so their
    own names depend on what was built before.

    Example:
        >>> [name for name in named_parts(model) if name.startswith("block_1/inner")]
        ['block_1/inner', 'block_1/inner/kernel', 'block_1/inner/bias']
    """
    parts: dict[str, Part] = {}

    def walk(layer: keras.layers.Layer, name: str) -> None:
        if not layer.weights:
            return
        parts[name] = layer
        parts.update({f"{name}/{v.name}": v for v in (*layer._trainable_variables, *layer._non_trainable_variables)})
        for inner in layer._layers:
            walk(inner, f"{name}/{_name_within(layer, inner)}")

    for layer in model.layers:
        walk(layer, layer.name)
    return parts


def _name_within(outer: keras.layers.Layer, layer: keras.layers.Layer) -> str:
    by_keras = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", type(layer).__name__).lower()
    if not re.fullmatch(rf"{re.escape(by_keras)}(_\d+)?", layer.name):
        return str(layer.name)
    for name, value in vars(outer).items():
        if value is layer:
            return name.lstrip("_")
        if name != "_layers" and isinstance(value, list) and any(each is layer for each in value):
            return f"{name.lstrip('_')}_{[id(each) for each in value].index(id(layer)) + 1}"
    return str(layer.name)


def matching(patterns: Sequence[str], parts: Mapping[str, Part], field: str) -> dict[str, Part]:
    """Returns the parts whose names match one of the patterns, and layers of a class that a pattern names.

    Raises:
        UsageError: a pattern matches none; the nearest names are offered.
    """
    found: dict[str, Part] = {}
    for pattern in patterns:
        # A class, because the names of normalisation layers differ from architecture to architecture.
        matched = fnmatch.filter(parts, pattern) or [k for k, part in parts.items() if type(part).__name__ == pattern]
        if not matched:
            is_near = difflib.get_close_matches(pattern, parts, n=1, cutoff=0.5)
            near = did_you_mean(pattern, parts if is_near else [name for name in parts if "/" not in name])
            raise UsageError(f"{field} has {pattern!r}, which matches nothing here. {near}")
        found |= {name: parts[name] for name in matched}
    return found
