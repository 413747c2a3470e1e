"""The state of callbacks, kept in a checkpoint and restored when a run resumes."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np

# Keras's own callbacks have no such methods; these attributes hold their state.
_KERAS = {
    keras.callbacks.EarlyStopping: ("wait", "best", "best_epoch", "stopped_epoch", "best_weights"),
    keras.callbacks.ReduceLROnPlateau: ("wait", "best", "cooldown_counter"),
    keras.callbacks.ModelCheckpoint: ("best",),
}


def get_states(callbacks: Iterable[keras.callbacks.Callback]) -> list[dict[str, Any]]:
    """Returns the state of each callback in types of JSON.

    It is what `get_state()` returns, or the known attributes of Keras's EarlyStopping, ReduceLROnPlateau and
    ModelCheckpoint. Other callbacks have no state.

    Example:
        >>> get_states([keras.callbacks.EarlyStopping(patience=3)])[0]["class"]
        'EarlyStopping'
    """
    return [{"class": type(c).__name__, "state": _encode(_state_of(c))} for c in callbacks]


def set_states(callbacks: Iterable[keras.callbacks.Callback], states: Iterable[Mapping[str, Any]]) -> None:
    """The inverse of `get_states`, for callbacks of the same classes in the same order; others are left alone."""
    for callback, kept in zip(callbacks, states, strict=False):
        if kept["class"] != type(callback).__name__ or kept["state"] is None:
            continue
        state = _decode(kept["state"])
        if hasattr(callback, "set_state"):
            callback.set_state(state)
        else:
            for name, value in state.items():
                setattr(callback, name, value)


def _state_of(callback: keras.callbacks.Callback) -> Any:
    if hasattr(callback, "get_state") and hasattr(callback, "set_state"):
        return callback.get_state()
    for kind, names in _KERAS.items():
        if isinstance(callback, kind):
            return {name: getattr(callback, name) for name in names if hasattr(callback, name)}
    return None


def _encode(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        content = io.BytesIO()
        np.save(content, value, allow_pickle=False)
        return {"__array__": base64.b64encode(content.getvalue()).decode()}
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return {"__float__": repr(value)}  # JSON has no infinity
    if isinstance(value, Mapping):
        return {str(k): _encode(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_encode(v) for v in value]
    return value


def _decode(value: Any) -> Any:
    if isinstance(value, Mapping):
        if "__array__" in value:
            return np.load(io.BytesIO(base64.b64decode(value["__array__"])), allow_pickle=False)
        if "__float__" in value:
            return float(value["__float__"])
        return {k: _decode(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_decode(v) for v in value]
    return value
