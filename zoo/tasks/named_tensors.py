"""Keras models by named tensors: the names of inputs and outputs, and a forward pass between dicts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

SINGLE = ""
"""The name of the only input of a model that declares no inputs, such as a subclassed model."""


INPUT_NAMES = "_zoo_input_names"
"""The attribute of a model whose inputs are served under other names than their layers have: these names, in order."""


def output_names(model: keras.Model) -> list[str]:
    """Returns the names of a model's outputs, which are those of their layers, such as `probabilities` or `logits`.

    Example:
        >>> output_names(zoo.build("mlp", input_shape=(8, 8, 1), num_classes=3))
        ['probabilities']
    """
    names, outputs = getattr(model, "output_names", None), getattr(model, "outputs", None) or [None]
    structure = getattr(model, "_outputs_struct", None)
    if isinstance(structure, Mapping):  # built with a dict: its keys, in the order of the outputs
        keys = {id(part): key for key, part in structure.items()}
        names = [keys.get(id(output), name) for output, name in zip(outputs, names or [], strict=True)]
    if names is None:
        names = ["output"] if len(outputs) == 1 else [f"output_{i}" for i in range(len(outputs))]
    return [str(name) for name in names]


def model_input(model: keras.Model, inputs: Mapping[str, Any]) -> Any:
    """Returns named inputs in the form that a model takes: a dict for several inputs, or the only tensor."""
    if set(inputs) == {SINGLE}:
        return inputs[SINGLE]
    if (names := getattr(model, INPUT_NAMES, None)) is not None:
        return [inputs[name] for name in names] if len(names) > 1 else next(iter(inputs.values()))
    declared = getattr(model, "inputs", None)
    by_name = len(inputs) > 1 or not declared or isinstance(getattr(model, "_inputs_struct", None), Mapping)
    return dict(inputs) if by_name else next(iter(inputs.values()))


def named_outputs(model: keras.Model, outputs: Any) -> dict[str, Any]:
    """Returns a model's outputs by name, from one tensor, a list or a dict."""
    if isinstance(outputs, Mapping):
        return dict(outputs)
    parts = list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
    names = output_names(model)
    if len(names) != len(parts):
        names = [f"output_{i}" for i in range(len(parts))]
    return dict(zip(names, parts, strict=True))


def call_model(model: keras.Model, inputs: Mapping[str, Any], training: bool = False) -> dict[str, Any]:
    """Runs a model's forward pass from named inputs to named outputs.

    Example:
        >>> call_model(zoo.build("mlp", input_shape=(8, 8, 1), num_classes=3), {"image": np.zeros((2, 8, 8, 1))}).keys()
        dict_keys(['probabilities'])
    """
    return named_outputs(model, model(model_input(model, inputs), training=training))
