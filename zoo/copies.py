"""Copies of a model that compute the same outputs.

A model is more than its weights: `Normalization` keeps constants that it computed from them, a lookup layer keeps a table,
and a custom layer may keep a number in an attribute. `carry` copies all of this state, and `check_copy` compares a copy with
its original on real inputs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from zoo import kernels, lineage
from zoo.errors import UsageError, one_line

_DECIDED = "_zoo_decided"
_RECORDS = "_zoo_build", "_zoo_own", "_zoo_trained", "_zoo_input_names", _DECIDED, lineage.RECORD
"""Records of this package on a model, outside Keras's attribute tracking."""
_OF_EVERY_LAYER = frozenset(vars(keras.layers.Layer())) | {"built", "name"}
_TABLES = tf.lookup.StaticHashTable, tf.lookup.StaticVocabularyTable, tf.lookup.experimental.MutableHashTable
_PLAIN = bool, int, float, complex, str, bytes, type(None), np.ndarray, np.generic


def record(model: keras.Model, name: str, value: Any) -> None:
    """Stores a record on a model. Every copy of the model gets it too.

    Example:
        >>> record(model, "_zoo_trained", {"inputs": {}})
    """
    object.__setattr__(model, name, value)  # avoids Keras's attribute tracking, which would wrap it


def record_decided(model: keras.Model, values: Mapping[str, Any]) -> None:
    """Records on a model what its task decided after the training, such as thresholds, as plain values.

    Example:
        >>> record_decided(model, {"thresholds": [0.5, 0.25]})
        >>> decided(model)
        {'thresholds': [0.5, 0.25]}
    """
    record(model, _DECIDED, dict(values))


def decided(model: keras.Model) -> dict[str, Any]:
    """Returns what the model's task decided after the training; empty if it decided nothing."""
    found: dict[str, Any] = getattr(model, _DECIDED, {})
    return found


def record_training(model: keras.Model, inputs: Any, rows: Sequence[Mapping[str, float]]) -> None:
    """Records statistics of the training inputs and the metrics of the last epoch on a model.

    Args:
        model: the trained model.
        inputs: the model inputs of some training examples.
        rows: metrics of each epoch.
    """
    described = [describe_values(np.asarray(part)) for part in tf.nest.flatten(inputs)]
    record(model, "_zoo_trained", {"inputs": described, "figures": dict(rows[-1]) if rows else {}})


def describe_values(values: np.ndarray) -> dict[str, float] | None:
    """Returns range, mean and standard deviation of floating-point values; None for other types.

    Example:
        >>> describe_values(np.array([0.0, 255.0]))
        {'low': 0.0, 'high': 255.0, 'mean': 127.5, 'deviation': 127.5}
    """
    if values.dtype.kind != "f":
        return None
    real = values[np.isfinite(values)].astype(np.float64)
    if not real.size:
        return None
    return {
        "low": float(real.min()),
        "high": float(real.max()),
        "mean": float(real.mean()),
        "deviation": float(real.std()),
    }


def carry(
    model: keras.Model,
    copy: keras.Model,
    weights: Sequence[np.ndarray] | None = None,
    changed: Collection[str] = (),
) -> keras.Model:
    """Copies all state of a model to a copy that was made from its config, and returns the copy.

    The state is: weights, seed generators, what layers save with a model (adapted statistics, vocabularies), plain
    attributes of custom layers, and the records of this package.

    Args:
        model: the original.
        copy: made from the original's config, layer by layer.
        weights: the weights of the copy; those of the model by default.
        changed: names of layers that have another form in the copy. Their state is only in `weights`.

    Raises:
        UsageError: the copy has other layers, or a layer's state cannot be copied.
    """
    copy.set_weights(model.get_weights() if weights is None else weights)
    others = {id(layer) for layer in model.layers if layer.name in changed}
    pairs = list(zip(_layers(model), _layers(copy), strict=False))
    if len(pairs) != max(len(_layers(model)), len(_layers(copy))):
        raise UsageError(
            f"A copy of model {model.name!r} has {len(_layers(copy))} layers, the model {len(_layers(model))}. "
            "Make every layer in the constructor of its parent layer, from the values that get_config() returns."
        )
    for layer, twin in pairs:
        if id(layer) in others:
            continue
        try:
            _carry_layer(layer, twin)
        except (TypeError, ValueError, KeyError, AttributeError, OSError, RuntimeError, tf.errors.OpError) as error:
            raise UsageError(
                f"Cannot copy the state of layer {layer.name!r} to a copy of model {model.name!r}: "
                f"{one_line(error, 200)}. Pass the state to the layer's constructor, and return it from get_config()."
            ) from error
    for name in _RECORDS:
        if hasattr(model, name):
            record(copy, name, getattr(model, name))
    return copy


def _layers(model: keras.Model) -> list[Any]:
    return list(model._flatten_layers())


def _carry_layer(layer: Any, twin: Any) -> None:
    """Copies the state of one layer apart from its weights."""
    base = keras.layers.Layer
    if hasattr(layer, "finalize_state") or (
        is_own(layer) and type(layer).load_own_variables is not base.load_own_variables
    ):
        store: dict[str, Any] = {}
        layer.save_own_variables(store)
        twin.load_own_variables({name: np.asarray(value) for name, value in store.items()})
    if hasattr(layer, "save_assets") and hasattr(twin, "load_assets"):
        with tempfile.TemporaryDirectory() as folder:
            layer.save_assets(folder)
            twin.load_assets(folder)
    if hasattr(layer, "get_vocabulary") and layer.get_vocabulary() != twin.get_vocabulary():
        raise ValueError("Its vocabulary has a token with a line break; expected none.")
    for generator, other in zip(layer._seed_generators, twin._seed_generators, strict=True):
        other.state.assign(generator.state)
    if is_own(layer):
        for name, value in vars(layer).items():
            if name not in _OF_EVERY_LAYER and _is_plain(value) and not _equal(value, vars(twin).get(name)):
                setattr(twin, name, value)


def is_own(layer: Any) -> bool:
    """Whether a layer has a custom class."""
    return type(layer).__module__.partition(".")[0] not in ("keras", "zoo")


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(_is_plain(part) for part in value.values())
    if isinstance(value, (list, tuple, set, frozenset)):
        return all(_is_plain(part) for part in value)
    return isinstance(value, (*_PLAIN, tf.Tensor))


def _equal(first: Any, second: Any) -> bool:
    if type(first) is not type(second):
        return False
    if isinstance(first, (np.ndarray, tf.Tensor)):
        return first.dtype == second.dtype and np.array_equal(np.asarray(first), np.asarray(second))
    try:
        return bool(first == second)
    except (ValueError, TypeError):  # arrays inside
        return False


def tables(model: keras.Model) -> Iterator[Any]:
    """Yields the lookup tables of a model's layers. They must be saved with a function that reads them."""
    for layer in _layers(model):
        for value in vars(layer).values():
            if isinstance(value, _TABLES):
                yield value


def check_copy(model: keras.Model, copy: keras.Model, inputs: Any, *, tolerance: float = 1e-5) -> None:
    """Compares a copy with its original on real inputs, in inference mode.

    Args:
        model: the original.
        copy: the copy, of the same precision.
        inputs: a batch of model inputs.
        tolerance: largest difference, relative to the larger of 1 and the largest output.

    Raises:
        UsageError: the copy cannot be called, or its outputs differ.
    """
    for want, got in zip(outputs_of(model, inputs), _copy_outputs(model, copy, inputs), strict=True):
        allowed = tolerance * scale_of(want)
        gap = float(np.max(np.abs(want - got), initial=0.0))
        if not gap <= allowed:
            raise UsageError(
                f"A copy of model {model.name!r} for one device has other outputs than the model: on {len(want)} examples "
                f"the largest difference is {gap:.2g}, allowed {allowed:.2g}. "
                f"Pass the state of {_suspects(model)} to add_weight(), or return it from get_config(); or "
                "train in float32 on one device."
            )


def _suspects(model: keras.Model) -> str:
    """Returns the layers that may be the cause if a copy differs: the custom layers, or else all layers."""
    own = [repr(layer.name) for layer in _layers(model) if is_own(layer) and layer is not model]
    return f"your custom layers ({', '.join(own[:5])})" if own else "its layers"


def outputs_of(model: keras.Model, inputs: Any) -> list[np.ndarray]:
    """Returns the model's outputs in inference mode, float64, with 0 for values that are not finite."""
    with kernels.whole_float32():
        outputs = tf.nest.flatten(model(inputs, training=False))
    return [np.nan_to_num(np.asarray(part).astype(np.float64), posinf=0.0, neginf=0.0) for part in outputs]


def _copy_outputs(model: keras.Model, copy: keras.Model, inputs: Any) -> list[np.ndarray]:
    try:
        return outputs_of(copy, inputs)
    except (ValueError, TypeError, AttributeError, RuntimeError, tf.errors.OpError) as error:
        raise UsageError(
            f"A copy of model {model.name!r} for one device cannot be called: {one_line(error, 200)}. "
            f"Pass the state of {_suspects(model)} to add_weight(), or return it from get_config(); or "
            "train in float32 on one device."
        ) from error


def scale_of(values: np.ndarray) -> float:
    """Returns the larger of 1 and the largest value, because rounding errors grow with the size of the summands."""
    return max(1.0, float(np.max(np.abs(values), initial=0.0)))


def check_agreement(model: keras.Model, copy: keras.Model, inputs: Any) -> None:
    """Compares a float32 copy with a model that computes in half precision. Rounding differences are allowed.

    The mean difference may be 5 % of the largest output. Predicted classes may differ only for examples on which the copy is
    uncertain: its best class leads by less than a fifth of the largest output.

    Raises:
        UsageError: the copy cannot be called, or its predictions differ.
    """
    for want, got in zip(outputs_of(model, inputs), _copy_outputs(model, copy, inputs), strict=True):
        scale = scale_of(want)
        mean, flipped = float(np.mean(np.abs(want - got))), 0
        if want.ndim > 1 and want.shape[-1] > 1:
            rows = got.reshape(-1, got.shape[-1])
            best = np.sort(rows, axis=-1)
            sure = best[:, -1] - best[:, -2] > scale / 5
            flipped = int(np.sum((rows.argmax(-1) != want.reshape(rows.shape).argmax(-1)) & sure))
        if not mean <= 0.05 * scale or flipped > 0.05 * max(20, want.size // want.shape[-1]):
            raise UsageError(
                f"The float32 copy of model {model.name!r} has other outputs than the model in half precision: on "
                f"{len(want)} examples the mean difference is {mean:.2g}, allowed {0.05 * scale:.2g}; {flipped} clear "
                f"predictions differ. "
                f"Pass the state of {_suspects(model)} to add_weight(), or return it from get_config(); or "
                "train in float32 on one device."
            )
