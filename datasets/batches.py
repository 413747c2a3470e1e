"""Functions on batches: concatenation, padding, and the form that Keras's `fit` takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf


def plain(inputs: Mapping[str, Any], targets: Mapping[str, Any], weights: Mapping[str, Any]) -> tuple[Any, ...]:
    """Returns a batch as `keras.Model.fit` takes it: (x, y) or (x, y, sample_weight). Single tensors lose their name.

    Example:
        >>> plain({"image": 1}, {"label": 2}, {})
        (1, 2)
    """
    parts = (inputs, targets, weights) if weights else (inputs, targets)
    return tuple(next(iter(part.values())) if len(part) == 1 else dict(part) for part in parts)


def joined(parts: Sequence[tf.Tensor], padding: float) -> tf.Tensor:
    """Concatenates batches. Sequences are padded at the end to the longest.

    Args:
        parts: tensors of one dtype, of any batch size and length.
        padding: padding value of floating-point sequences; integers are padded with 0.

    Example:
        >>> joined([tf.constant([[1, 2]]), tf.constant([[3]])], 0).numpy().tolist()
        [[1, 2], [3, 0]]
    """
    if parts[0].shape.rank > 1:
        longest = max(part.shape[1] for part in parts)
        rest = [[0, 0]] * (parts[0].shape.rank - 2)
        filler = padding if parts[0].dtype.is_floating else 0
        parts = [
            tf.pad(part, [[0, 0], [0, longest - part.shape[1]], *rest], constant_values=tf.constant(filler, part.dtype))
            for part in parts
        ]
    return tf.concat(parts, axis=0)


def rectangular(targets: Sequence[Any]) -> np.ndarray:
    """Stacks targets. Sequences of classes are padded with -1, and texts become objects.

    Example:
        >>> rectangular([np.array([1, 2]), np.array([3])]).tolist()
        [[1, 2], [3, -1]]
    """
    if isinstance(targets[0], bytes):
        return np.array([*targets, None], object)[:-1]  # None: without it NumPy makes fixed-width strings
    if np.ndim(targets[0]) == 0 or len({np.shape(t) for t in targets}) == 1:
        return np.array(targets)
    longest = max(len(t) for t in targets)
    return np.array([np.pad(t, (0, longest - len(t)), constant_values=-1) for t in targets])
