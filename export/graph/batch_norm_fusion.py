"""Fuses batch normalization into the preceding convolution or Dense layer, for serving.

Outside training, batch normalization scales and shifts every channel by constants. Multiplying the kernel by the scale and
adding the shift to the bias gives the same outputs with one pass over the tensor less, and TensorFlow can fuse the
following activation into the same op. Names and order of layers are kept; normalization layers become identities.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import keras
import numpy as np
from keras import layers

_DEPTHWISE = layers.DepthwiseConv1D, layers.DepthwiseConv2D
_FUSED = layers.Conv1D, layers.Conv2D, layers.Conv3D, layers.Dense, *_DEPTHWISE
_EXACT = "float32", "float64"
_FAR = 20.0
"""Limit in standard deviations. A sum of 20 deviations has a rounding error 20 times that of the normalized result."""


def plan(model: keras.Model, kept: Collection[str | None] = ()) -> dict[str, str]:
    """Returns the pairs to fuse: names of layers to names of the normalization layers that follow them.

    Args:
        model: a Functional or Sequential model; nothing is fused in other models and inside nested models.
        kept: names of layers whose own outputs are needed.
    """
    try:
        whole = model.get_config()
    except (TypeError, ValueError, NotImplementedError):  # rebuilding the model reports this
        return {}
    graph = {"layers"} if isinstance(model, keras.Sequential) else {"layers", "input_layers", "output_layers"}
    if not isinstance(whole, dict) or not graph <= whole.keys():
        return {}
    by_name = {layer.name: layer for layer in model.layers}
    return {
        before: after
        for before, after in _pairs(whole)
        if before not in kept and _can_fuse(by_name.get(before), by_name.get(after))
    }


def weights(model: keras.Model, pairs: Mapping[str, str]) -> list[np.ndarray[Any, Any]]:
    """Returns the weights of the fused model, in its order."""
    if not pairs:
        return list(model.get_weights())
    by_name = {layer.name: layer for layer in model.layers}
    gone, found = set(pairs.values()), []
    for layer in model.layers:
        if layer.name in pairs:
            found += _together(layer, by_name[pairs[layer.name]])
        elif layer.name not in gone:
            found += layer.get_weights()
    return found


def config(model: keras.Model, pairs: Mapping[str, str]) -> dict[str, Any]:
    """Returns the config of the fused model."""
    whole: dict[str, Any] = model.get_config()
    if not pairs:
        return whole
    gone = set(pairs.values())

    def changed(entry: dict[str, Any]) -> dict[str, Any]:
        name = _name(entry)
        if name in pairs:
            return {k: v for k, v in entry.items() if k != "build_config"} | {
                "config": entry["config"] | {"use_bias": True}
            }
        if name not in gone:
            return entry
        identity = keras.saving.serialize_keras_object(layers.Identity(name=name, dtype=entry["config"]["dtype"]))
        nodes = [
            node | {"kwargs": {k: v for k, v in node["kwargs"].items() if k == "inputs"}}
            for node in entry.get("inbound_nodes", ())
        ]
        return identity | {"name": name, "inbound_nodes": nodes} if "inbound_nodes" in entry else identity

    return whole | {"layers": [changed(entry) for entry in whole["layers"]]}


def _name(entry: dict[str, Any]) -> str:
    return str(entry.get("name") or entry["config"]["name"])


def _pairs(config: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields pairs of layers (first, second) that are each called once, where only the second reads the first's output."""
    entries = config["layers"]
    if "input_layers" not in config:  # Sequential
        names = [_name(entry) for entry in entries]
        yield from itertools.pairwise(names)
        return
    read = {_name(entry): list(_tensors(entry["inbound_nodes"])) for entry in entries}
    readers = Counter(name for names in read.values() for name in names)
    readers.update(_histories(config["output_layers"]))
    used = {_name(entry): len(entry["inbound_nodes"]) for entry in entries}
    for name, inputs in read.items():
        if len(inputs) == 1 and used[name] == 1 and used[inputs[0]] == 1 and readers[inputs[0]] == 1:
            yield inputs[0], name


def _tensors(nested: Any) -> Iterator[str]:
    """Yields the names of the layers whose outputs a serialized call reads."""
    if isinstance(nested, dict):
        if nested.get("class_name") == "__keras_tensor__":
            yield str(nested["config"]["keras_history"][0])
            return
        nested = list(nested.values())
    if isinstance(nested, (list, tuple)):
        for part in nested:
            yield from _tensors(part)


def _histories(nested: Any) -> Iterator[str]:
    """Yields the names of layers in a structure of (layer, node, tensor)."""
    if isinstance(nested, dict):
        nested = list(nested.values())
    if nested and isinstance(nested[0], str):
        yield nested[0]
        return
    for part in nested:
        yield from _histories(part)


def _can_fuse(layer: Any, norm: Any) -> bool:
    """Whether the normalization can be fused into the layer for every channel without loss of precision."""
    if type(layer) not in _FUSED or type(norm) is not layers.BatchNormalization:
        return False
    if not (layer.built and norm.built):
        return False
    channels = len(norm.input.shape) - 1
    return (
        layer.activation is keras.activations.linear
        and getattr(layer, "data_format", "channels_last") == "channels_last"
        and not getattr(layer, "lora_enabled", False)
        and getattr(layer, "quantization_mode", None) is None
        and norm.axis in (channels, -1)
        and all(one.compute_dtype == one.variable_dtype in _EXACT for one in (layer, norm))
        and layer.compute_dtype == norm.compute_dtype
        and _is_near(layer, norm)
    )


def _is_near(layer: Any, norm: Any) -> bool:
    """Whether every channel's mean is within `_FAR` deviations of 0. Beyond that, scale and shift are large and nearly
    cancel, so the result depends on the order of operations."""
    bias = _wide(layer.bias if layer.use_bias else None, 0.0)
    away = np.abs(_wide(norm.moving_mean, 0.0) - bias) / np.sqrt(_wide(norm.moving_variance, 1.0) + norm.epsilon)
    return bool(np.all(away < _FAR))


def _wide(variable: Any, otherwise: float) -> Any:
    return otherwise if variable is None else keras.ops.convert_to_numpy(variable).astype("float64")


def _together(layer: Any, norm: Any) -> list[np.ndarray[Any, Any]]:
    """Returns the fused kernel and bias, computed in float64."""
    scale = _wide(norm.gamma, 1.0) / np.sqrt(_wide(norm.moving_variance, 1.0) + norm.epsilon)
    shift = _wide(norm.beta, 0.0) - _wide(norm.moving_mean, 0.0) * scale
    kernel, bias = _wide(layer.kernel, 0.0), _wide(layer.bias if layer.use_bias else None, 0.0)
    # The last axes of a depthwise kernel are (channels, multiplier); other kernels end with the channels.
    factor = scale.reshape(kernel.shape[-2:]) if isinstance(layer, _DEPTHWISE) else scale
    return [values.astype(layer.variable_dtype) for values in (kernel * factor, bias * scale + shift)]
