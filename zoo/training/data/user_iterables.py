"""What `fit` takes besides arrays and datasets: loaders, `PyDataset`, functions that make a generator."""

from __future__ import annotations

import contextlib
import inspect
import re
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from zoo.errors import UsageError, one_line
from zoo.iterables import arrays_of, start_of
from zoo.training.data.user_structure import format_shape


def as_dataset(data: Any, prefix: str) -> Any:
    """Returns batches that Python code yields as a `tf.data.Dataset`; everything else unchanged.

    Args:
        data: a function without arguments that returns an iterator of batches (x, y) or (x, y, sample_weight), a
            `PyDataset`, or an object that can be iterated again and again, such as a `DataLoader` of PyTorch.
        prefix: goes before names in messages, such as "validation ".

    Raises:
        UsageError: a generator, which can be read only once, or batches that are empty.

    Example:
        >>> as_dataset(lambda: iter([(np.zeros((2, 4)), np.zeros(2))]), "").element_spec[0].shape
        TensorShape([None, 4])
    """
    if inspect.isgenerator(data) or hasattr(data, "__next__"):
        raise UsageError(
            f"The {prefix}data is a {type(data).__name__}, which can be read only once; training reads it again in every "
            "epoch. Pass the function that makes it, without calling it, or a tf.data.Dataset."
        )
    start = start_of(data)
    if start is None:
        return data
    first = next(iter(start()), None)
    if first is None:
        raise UsageError(f"The {prefix}dataset is empty. Pass one with at least one batch.")
    like = arrays_of(first)
    for part in tf.nest.flatten(like):
        if part.ndim == 0 or part.dtype.kind not in "biufSU":
            raise UsageError(
                f"The {prefix}data yields {part.dtype} of shape {format_shape(part.shape)}; expected batches of numbers, "
                "(x, y) or (x, y, sample_weight). Pass arrays of several examples."
            )
    specs = tf.nest.map_structure(lambda part: tf.TensorSpec([None, *part.shape[1:]], part.dtype), like)

    def batches() -> Iterator[Any]:
        for element in start():
            batch = arrays_of(element)
            for part, known in zip(tf.nest.flatten(batch), tf.nest.flatten(like), strict=True):
                if part.shape[1:] != known.shape[1:]:
                    raise UsageError(
                        f"The {prefix}data yields examples of several sizes, {format_shape(known.shape[1:])} and "
                        f"{format_shape(part.shape[1:])}. Make them one size by padding."
                    )
            yield batch

    return tf.data.Dataset.from_generator(batches, output_signature=specs)


@contextlib.contextmanager
def own_errors() -> Iterator[None]:
    """Turns TensorFlow's report of a UsageError in a user's batches into that error again."""
    try:
        yield
    except tf.errors.OpError as error:
        found = re.search(r"UsageError: (.*)", str(error))
        if found is None:
            raise
        raise UsageError(f"{found[1]} Correct what the loader or the function yields.") from error


def build_from(model: Any, data: Any) -> None:
    """Builds a model that has no weights yet on the first examples, in its strategy's scope, as `fit` does.

    Raises:
        UsageError: the model does not take them.
    """
    if not isinstance(model, keras.Model) or model.built:
        return
    if isinstance(data, tf.data.Dataset):
        element = next(iter(data.take(1)), None)
        x = element[0] if isinstance(element, tuple) else None
    else:
        x = data[0] if isinstance(data, tuple) and data else None
        x = None if x is None else _first_rows(x)
    if x is None:
        return
    try:
        with model.distribute_strategy.scope():
            model(x)
    except (ValueError, TypeError, AttributeError, tf.errors.OpError) as error:
        raise UsageError(
            f"The model {model.name!r} cannot be built on the data: {one_line(error, 200)} Pass a model that begins with "
            "keras.Input."
        ) from error


def _first_rows(x: Any) -> Any:
    if isinstance(x, dict):
        return {name: _first_rows(part) for name, part in x.items()}
    if isinstance(x, tuple):
        return tuple(_first_rows(part) for part in x)
    return np.asarray(x[:1].toarray() if hasattr(x, "toarray") else x[:1])
