"""Examples of a Keras model's inputs, as arrays by name."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from zoo.errors import UsageError, did_you_mean, one_line
from zoo.export.prediction_items import numbers_of

MOST = 64
"""The number of examples that an artifact keeps."""


def named_arrays(
    examples: Any, takes: Mapping[str, tf.TensorSpec] | None, model: str
) -> dict[str, np.ndarray[Any, Any]]:
    """Returns at most `MOST` examples as arrays by input name, in the types of the inputs, strings as bytes.

    Args:
        examples: an array for a model with one input, a list of arrays in the order of the inputs, a dict of arrays by input
            name, or a DataFrame with a column for each input.
        takes: the model's inputs by name; None to take a dict as it is, with numbers of Python in Keras's usual types.
        model: the model's name, for messages.

    Raises:
        UsageError: a name is missing or unknown, an array has no rows, another number of rows, or a shape or type that does
            not fit.
    """
    _check_kind(examples)
    parts = _by_name(examples, list(takes) if takes is not None else None, model)
    found = {}
    for name, value in parts.items():
        values = _array(value, name, model)
        found[name] = values[:MOST] if takes is None else _fitting(values[:MOST], takes[name], name, model)
    counts = {name: len(value) for name, value in parts.items()}
    if len(set(counts.values())) > 1:
        raise UsageError(
            f"The examples have {' and '.join(f'{count:,} of {name}' for name, count in counts.items())}; expected as many "
            "of each. Pass arrays with equal numbers of rows."
        )
    return found


def _check_kind(examples: Any) -> None:
    """Raises UsageError for paths and data sets."""
    if isinstance(examples, (str, os.PathLike)):
        raise UsageError(
            f"examples is the path {os.fspath(examples)!r}; expected arrays. Pass np.load({str(examples)!r})."
        )
    if hasattr(examples, "element_spec") or (hasattr(examples, "__iter__") and not hasattr(examples, "__len__")):
        raise UsageError(
            f"examples is a {type(examples).__name__}; expected arrays. Pass the inputs of its first batch: "
            "x, y = next(iter(dataset))."
        )


def _by_name(examples: Any, names: Sequence[str] | None, model: str) -> dict[str, Any]:
    if hasattr(examples, "columns") and hasattr(examples, "to_numpy"):  # a DataFrame
        if names is not None and len(names) == 1 and list(map(str, examples.columns)) != list(names):
            return {names[0]: numbers_of(examples, None, f"Model {model!r} takes {names[0]}")}
        examples = {str(column): examples[column].to_numpy() for column in examples.columns}
    if isinstance(examples, Mapping):
        if names is None:
            return dict(examples)
        missing, unknown = [name for name in names if name not in examples], [n for n in examples if n not in names]
        if len(names) == 1 == len(examples):
            return {names[0]: next(iter(examples.values()))}
        if missing or unknown:
            hint = did_you_mean(str(unknown[0]), list(names)) if unknown else ""
            raise UsageError(
                f"Model {model!r} takes {', '.join(names)}; received {', '.join(map(str, examples)) or 'nothing'}. {hint} "
                "Pass an array for each of these names."
            )
        return {name: examples[name] for name in names}
    assert names is not None, "a structure without names is named by the caller"
    if len(names) == 1:
        return {names[0]: examples}
    if not isinstance(examples, (list, tuple)) or len(examples) != len(names):
        raise UsageError(
            f"Model {model!r} takes {len(names)} inputs: {', '.join(names)}. Pass examples={{{names[0]!r}: ..., ...}}, an "
            "array for each."
        )
    return dict(zip(names, examples, strict=True))


def _array(value: Any, name: str, model: str) -> np.ndarray[Any, Any]:
    if isinstance(value, (tf.RaggedTensor, tf.SparseTensor)):
        raise UsageError(f"The examples of {name} are a {type(value).__name__}; expected an array. Pass a dense array.")
    try:
        values = np.asarray(value)
    except Exception as error:  # rows of unlike length, tensors without values
        if isinstance(value, tuple) and len({np.shape(part) for part in value if hasattr(part, "shape")}) > 1:
            raise UsageError(
                f"The examples of {name} are a tuple of {len(value)} arrays of unlike shapes; model {model!r} takes one "
                "array. Pass x alone, without targets."
            ) from error
        raise UsageError(
            f"The examples of {name} are no array: {one_line(error, 120)} Pass one array, rows padded to one length."
        ) from error
    if not values.ndim or not len(values):
        raise UsageError(
            f"The examples of {name} have no rows; expected at least one. Pass examples of model {model!r}, batch first."
        )
    if values.dtype.kind in "OSU":
        return _strings(values, name)
    return values.astype(np.float32) if values.dtype == np.float64 else values


def _strings(values: np.ndarray[Any, Any], name: str) -> np.ndarray[Any, Any]:
    flat = values.ravel().tolist()
    if wrong := [v for v in flat if not isinstance(v, (str, bytes))]:
        cure = "x.astype('float32')" if isinstance(wrong[0], (int, float, np.number)) else "rows padded to one length"
        raise UsageError(
            f"The examples of {name} hold {repr(wrong[0])[:60]} as an object; expected strings or numbers. Pass one array, "
            f"{cure}."
        )
    found = np.empty(len(flat), object)
    found[:] = [v.encode() if isinstance(v, str) else v for v in flat]
    return found.reshape(values.shape)


def _fitting(values: np.ndarray[Any, Any], spec: tf.TensorSpec, name: str, model: str) -> np.ndarray[Any, Any]:
    """Returns values in the type and rank of an input, as Keras converts them."""
    is_text, wanted = values.dtype == object, "strings" if spec.dtype == tf.string else f"numbers ({spec.dtype.name})"
    if is_text != (spec.dtype == tf.string):
        raise UsageError(
            f"Input {name} of model {model!r} takes {wanted}; the examples hold {'strings' if is_text else 'numbers'}. "
            "Pass what the model was trained on."
        )
    if values.ndim == spec.shape.rank - 1 and spec.shape[-1] == 1:
        values = values[..., np.newaxis]  # Keras does the same
    if not spec.shape[1:].is_compatible_with(values.shape[1:]):
        sizes = ", ".join(str(size or "any") for size in spec.shape[1:])
        raise UsageError(
            f"Input {name} of model {model!r} takes rows of the shape ({sizes}); the examples have rows of "
            f"{values.shape[1:]}. Pass examples of this shape, batch first."
        )
    return values if is_text else values.astype(spec.dtype.as_numpy_dtype)
