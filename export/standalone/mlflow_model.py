"""A SavedModel as a model of MLflow, with TensorFlow, NumPy and pandas alone.

`zoo.export.serving.mlflow` copies this file into the folder `code` of an MLflow model, and `mlflow.pyfunc` imports it there.
The folder `data` has the SavedModel and `served.json`, which names its signature.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

SERVED = "served.json"
MODEL = "model"
_BATCH = 256
"""Rows that are computed together, so that a request may be larger than what the graph accepts."""


class SavedModel:
    """Answers the rows of a DataFrame, or arrays by input name, with one signature.

    Args:
        path: the folder `data` of the MLflow model.

    Example:
        >>> mlflow.pyfunc.load_model("models:/commands/1").predict(pandas.DataFrame({"text": ["turn the light on"]}))
              class_name                 probabilities
        0      switch on  [0.001, 0.001, 0.002, 0.996]
    """

    def __init__(self, path: str) -> None:
        import tensorflow as tf

        with open(os.path.join(path, SERVED), encoding="utf-8") as file:
            self._facts = json.load(file)
        self._model = tf.saved_model.load(os.path.join(path, MODEL))
        self._function = self._model.signatures[self._facts["signature"]]
        self._specs = self._function.structured_input_signature[1]
        outputs = self._function.structured_outputs.values()
        # Outputs that are padded to the longest example of a batch would depend on the neighbours.
        is_fixed = all(None not in tensor.shape.as_list()[1:] for tensor in outputs)
        self._size = _BATCH if is_fixed else 1

    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> Any:
        """Returns the outputs as a DataFrame with a column for each, and a row for each example.

        Args:
            model_input: a DataFrame with a column for each input, or a dict of arrays; bytes of files as `bytes`. None and
                NaN are missing values. Inputs with a default may be left out.
            params: not used; MLflow passes it.

        Raises:
            ValueError: an input is missing or unknown, or the SavedModel rejects a row.
        """
        import pandas as pd

        given = {str(name): _values(model_input[name]) for name in model_input}
        rows = len(next(iter(given.values()), ()))
        defaults = {name: [value] * rows for name, value in self._facts["defaults"].items() if name not in given}
        given = {**defaults, **given}
        if set(given) != set(self._specs):
            raise ValueError(
                f"The model takes {', '.join(sorted(self._specs))}; it got {', '.join(sorted(given))}. Pass these names."
            )
        index = getattr(model_input, "index", None)
        parts = [self._call(given, start) for start in range(0, rows, self._size)]
        columns = {
            name: [value for part in parts for value in part[name]]
            for name in sorted(self._function.structured_outputs)
        }
        return pd.DataFrame(columns, index=index)

    def _call(self, given: Mapping[str, Any], start: int) -> dict[str, list[Any]]:
        import tensorflow as tf

        tensors = {}
        for name, values in given.items():
            spec, part = self._specs[name], values[start : start + self._size]
            array = _strings(part) if spec.dtype == tf.string else np.asarray(list(part), spec.dtype.as_numpy_dtype)
            if array.ndim == spec.shape.rank + 1 and array.shape[-1] == 1:
                array = array[..., 0]
            tensors[name] = tf.constant(array, spec.dtype)
        try:
            answers = self._function(**tensors)
        except (tf.errors.OpError, ValueError) as error:
            message = " ".join(str(getattr(error, "message", error)).split())[:_LONGEST]
            raise ValueError(
                f"The SavedModel rejected row {start} or one of the next {self._size}: {message} Correct it, or leave it out."
            ) from error
        return {name: _plain(value.numpy()) for name, value in answers.items()}


_LONGEST = 300


def _values(column: Any) -> Sequence[Any]:
    """Returns a column of a DataFrame or an array as a list; missing values as NaN, which `_strings` takes for no text."""
    if hasattr(column, "isna"):
        return [np.nan if missing else value for value, missing in zip(column, column.isna(), strict=True)]
    found: Sequence[Any] = list(column)
    return found


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)


def _strings(part: Any) -> np.ndarray[Any, Any]:
    """Returns texts and bytes as an array of bytes; a missing one is empty."""
    array = np.empty(np.shape(part), object) if isinstance(part, np.ndarray) else np.empty(_shape(part), object)
    flat = array.reshape(-1)
    flat[:] = [_bytes(value) for value in _flat(part)]
    return array


def _shape(part: Any) -> tuple[int, ...]:
    if isinstance(part, (list, tuple, np.ndarray)):
        return (len(part), *(_shape(part[0]) if len(part) else ()))
    return ()


def _flat(part: Any) -> list[Any]:
    if isinstance(part, (list, tuple, np.ndarray)):
        return [value for inner in part for value in _flat(inner)]
    return [part]


def _bytes(value: Any) -> bytes:
    if _is_missing(value):
        return b""
    return value if isinstance(value, bytes) else str(value).encode()


def _plain(array: np.ndarray[Any, Any]) -> list[Any]:
    """Returns the rows of an output: numbers, texts, or lists of these."""
    if array.dtype != object:
        return list(array) if array.ndim == 1 else array.tolist()
    return [_texts(value) for value in array.tolist()]


def _texts(value: Any) -> Any:
    if isinstance(value, list):
        return [_texts(part) for part in value]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _load_pyfunc(path: str) -> SavedModel:
    """Returns the model; MLflow calls this."""
    return SavedModel(path)
