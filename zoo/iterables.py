"""Objects whose batches or examples Python code yields: loaders, `PyDataset`, functions that make a generator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from inspect import isfunction, ismethod
from typing import Any

import numpy as np


def start_of(data: Any) -> Callable[[], Iterator[Any]] | None:
    """Returns a function that begins to read an object's elements; None for arrays, structures of them and `tf.data`.

    Example:
        >>> start = start_of(lambda: iter([(np.zeros((2, 4)), np.zeros(2))]))
        >>> [element[0].shape for element in start()]
        [(2, 4)]
    """
    import keras
    import tensorflow as tf

    if isinstance(data, keras.utils.PyDataset):
        return lambda: _read(data)
    if isinstance(data, (tf.data.Dataset, tuple, list, dict, str, bytes)) or hasattr(data, "__array__"):
        return None
    if isfunction(data) or ismethod(data):
        return lambda: iter(data())
    return data.__iter__ if hasattr(data, "__iter__") else None


def _read(data: Any) -> Iterator[Any]:
    """Yields a pass over a `PyDataset`, which may shuffle itself after it."""
    count, number = data.num_batches, 0
    while count is None or number < count:
        yield data[number]
        number += 1
    data.on_epoch_end()


def arrays_of(element: Any, outermost: bool = True) -> Any:
    """Returns a batch with arrays in tuples and dicts, from arrays or tensors of any library in lists, tuples and dicts."""
    if isinstance(element, dict):
        return {name: arrays_of(part, False) for name, part in element.items()}
    if isinstance(element, (list, tuple)) and (outermost or not all(np.isscalar(part) for part in element)):
        return tuple(arrays_of(part, False) for part in element)
    return array_of(element)


def array_of(part: Any) -> np.ndarray:
    """Returns an array for an array or tensor of any library, or a list of numbers."""
    if hasattr(part, "detach"):  # PyTorch: no gradient, not on a GPU
        part = part.detach().cpu()
    return np.asarray(part.toarray() if hasattr(part, "toarray") else part)
