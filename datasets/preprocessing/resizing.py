"""Resizes images as `tf.image.resize` does with anti-aliasing, to the bit, in less time."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def resized(images: tf.Tensor, height: Any, width: Any) -> tf.Tensor:
    """Returns images in another size, bilinearly with anti-aliasing.

    TensorFlow's kernel adds whole rows, then single pixels of all channels. Here the second sum is one of whole rows, too,
    those of the transposed images: the same numbers are added in the same order.

    Args:
        images: uint8 or float32 (batch, height, width, channels).
        height: new height.
        width: new width.

    Returns:
        float32 (batch, height, width, channels).

    Example:
        >>> resized(tf.zeros((1, 500, 375, 3), tf.uint8), 224, 224).shape
        TensorShape([1, 224, 224, 3])
    """
    columns = tf.transpose(_with_rows(images, height), [0, 2, 1, 3])
    return tf.transpose(_with_rows(columns, width), [0, 2, 1, 3])


def _with_rows(images: tf.Tensor, height: Any) -> tf.Tensor:
    batch, rows, columns, channels = tf.unstack(tf.shape(images))
    # One pixel per row, whose channels are those of the whole row.
    whole = tf.image.resize(tf.reshape(images, [batch, rows, 1, columns * channels]), (height, 1), antialias=True)
    return tf.reshape(whole, [batch, height, columns, channels])
