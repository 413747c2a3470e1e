"""Copies of a model that compute what it computes.

A model is more than its weights: `Normalization` keeps constants that it made of them, a lookup layer keeps a table, and a
layer of a user's own may keep a number in an attribute. Every copy that the package makes gets all of it from `carry`, and
`check_copy` compares a copy with its original on real inputs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from zoo.errors import UsageError, one_line

_RECORDS = "_zoo_build", "_zoo_trained"
"""What the package remembers of a model, past Keras's attribute tracking."""
_OF_EVERY_LAYER = frozenset(vars(keras.layers.Layer())) | {"built", "name"}
_TABLES = tf.lookup.StaticHashTable, tf.lookup.StaticVocabularyTable, tf.lookup.experimental.MutableHashTable
_PLAIN = bool, int, float, complex, str, bytes, type(None), np.ndarray, np.generic


def record(model: keras.Model, name: str, value: Any) -> None:
    """Remembers a fact about a model that every copy of it keeps too.

    Example:
        >>> record(model, "_zoo_trained", {"inputs": {}})
    """
    object.__setattr__(model, name, value)  # past Keras's attribute tracking, which would wrap it


def record_training(model: keras.Model, inputs: Any, rows: Sequence[Mapping[str, float]]) -> None:
    """Records on a model what its inputs looked like in training, and the figures of its last epoch.

    Args:
        model: the trained model.
        inputs: the model inputs of some training examples.
        rows: figures of each epoch.
    """
    described = [describe_values(np.asarray(part)) for part in tf.nest.flatten(inputs)]
    record(model, "_zoo_trained", {"inputs": described, "figures": dict(rows[-1]) if rows else {}})


def describe_values(values: np.ndarray) -> dict[str, float] | None:
    """Returns range, mean and deviation of floating-point values; None for others, whose size means nothing.

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
    """Gives a copy all state of the model whose config it was made from, and returns it.

    That is: weights, the state of seed generators, what layers write and read when a model is saved (adapted statistics,
    vocabularies), plain attributes of layers of a user's own, and what the package remembers of the model.

    Args:
        model: the original.
        copy: made from its config, layer by layer.
        weights: what the copy's weights are; those of the model by default.
        changed: names of layers that the copy has in another form; their state is in `weights` alone.

    Raises:
        UsageError: the copy has other layers, or a layer's state cannot be carried.
    """
    copy.set_weights(model.get_weights() if weights is None else weights)
    others = {id(layer) for layer in model.layers if layer.name in changed}
    pairs = list(zip(_layers(model), _layers(copy), strict=False))
    if len(pairs) != max(len(_layers(model)), len(_layers(copy))):
        raise UsageError(
            f"A copy of model {model.name!r} has {len(_layers(copy))} layers, the model {len(_layers(model))}. "
            "Make every layer in the constructor of what holds it, from what get_config() returns."
        )
    for layer, twin in pairs:
        if id(layer) in others:
            continue
        try:
            _carry_layer(layer, twin)
        except (TypeError, ValueError, KeyError, AttributeError, OSError, RuntimeError, tf.errors.OpError) as error:
            raise UsageError(
                f"The state of layer {layer.name!r} cannot be carried to a copy of model {model.name!r}: "
                f"{one_line(error, 200)}. Give the layer its state in its constructor, and return it from get_config()."
            ) from error
    for name in _RECORDS:
        if hasattr(model, name):
            record(copy, name, getattr(model, name))
    return copy


def _layers(model: keras.Model) -> list[Any]:
    return list(model._flatten_layers())


def _carry_layer(layer: Any, twin: Any) -> None:
    """Carries what one layer holds outside of its weights."""
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
    """Whether a layer's class is a user's own."""
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
    """Yields the lookup tables of a model's layers, which must be saved with a function that reads them."""
    for layer in _layers(model):
        for value in vars(layer).values():
            if isinstance(value, _TABLES):
                yield value


def check_copy(model: keras.Model, copy: keras.Model, inputs: Any, *, tolerance: float = 1e-5) -> None:
    """Compares a copy with its original on real inputs, outside training.

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
                f"Pass what {_suspects(model)} hold to add_weight(), or return it from get_config(); or "
                "train in float32 on one device."
            )


def _suspects(model: keras.Model) -> str:
    """Returns which layers to look at where a copy is not the model: those of a user's own, else all."""
    own = [repr(layer.name) for layer in _layers(model) if is_own(layer) and layer is not model]
    return f"the layers of your own ({', '.join(own[:5])})" if own else "its layers"


def outputs_of(model: keras.Model, inputs: Any) -> list[np.ndarray]:
    """Returns the model's outputs outside training, float64, with 0 where they are not finite."""
    shortened = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        answered = tf.nest.flatten(model(inputs, training=False))
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(shortened)
    return [np.nan_to_num(np.asarray(part).astype(np.float64), posinf=0.0, neginf=0.0) for part in answered]


def _copy_outputs(model: keras.Model, copy: keras.Model, inputs: Any) -> list[np.ndarray]:
    try:
        return outputs_of(copy, inputs)
    except (ValueError, TypeError, AttributeError, RuntimeError, tf.errors.OpError) as error:
        raise UsageError(
            f"A copy of model {model.name!r} for one device cannot be called: {one_line(error, 200)}. "
            f"Pass what {_suspects(model)} hold to add_weight(), or return it from get_config(); or "
            "train in float32 on one device."
        ) from error


def scale_of(values: np.ndarray) -> float:
    """Returns the larger of 1 and the largest value: rounding follows the size of what was added up."""
    return max(1.0, float(np.max(np.abs(values), initial=0.0)))


def check_agreement(model: keras.Model, copy: keras.Model, inputs: Any) -> None:
    """Compares a float32 copy with a model that computes in half precision: what rounding explains is allowed.

    Numbers may be 5 % of the largest apart on average, and single examples may be decided otherwise only where the copy
    itself is undecided: where its best class leads by less than a fifth of the largest.

    Raises:
        UsageError: the copy cannot be called, or predicts otherwise.
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
                f"Pass what {_suspects(model)} hold to add_weight(), or return it from get_config(); or "
                "train in float32 on one device."
            )
