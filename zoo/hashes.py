"""Random numbers that depend only on what they are for, not on the batch, the device or the version of TensorFlow."""

from __future__ import annotations

import tensorflow as tf


def scrambled(numbers: tf.Tensor) -> tf.Tensor:
    """Returns a hash of each uint32 number, of the same shape.

    It is a multiply-xorshift function with the constants of Chris Wellons ("lowbias32").

    Example:
        >>> len(set(scrambled(tf.cast(tf.range(1000), tf.uint32)).numpy().tolist()))
        1000
    """

    def folded(x: tf.Tensor, bits: int) -> tf.Tensor:
        return tf.bitwise.bitwise_xor(x, tf.bitwise.right_shift(x, tf.constant(bits, tf.uint32)))

    x = folded(numbers, 16) * tf.constant(0x7FEB352D, tf.uint32)
    x = folded(x, 15) * tf.constant(0x846CA68B, tf.uint32)
    return folded(x, 16)
