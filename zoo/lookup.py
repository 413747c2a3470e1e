"""Lookup tables: from tensors, or from the lines of a file, which becomes an asset of a SavedModel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tensorflow as tf


class _Lines(tf.lookup.TextFileInitializer):
    # TensorFlow would name the table after the file. Then the published graph would contain a local path, and two tables
    # with equal paths would be shared. Without a name TensorFlow generates one.
    _shared_name = ""


def numbers_of_lines(file: Path, default: int) -> tf.lookup.StaticHashTable:
    """Returns the table from a line, string, to its number from 0, int64; `default` for unknown strings.

    Example:
        >>> numbers_of_lines(Path("labels.txt"), default=-1).lookup(tf.constant(["seven"]))
        <tf.Tensor: shape=(1,), dtype=int64, numpy=array([7])>
    """
    line, number = tf.lookup.TextFileIndex.WHOLE_LINE, tf.lookup.TextFileIndex.LINE_NUMBER
    return tf.lookup.StaticHashTable(_Lines(str(file), tf.string, line, tf.int64, number), default)


def lines_by_number(file: Path, default: str) -> tf.lookup.StaticHashTable:
    """Returns the table from a number from 0, int64, to the line, string; `default` for other numbers.

    Example:
        >>> lines_by_number(Path("labels.txt"), default="").lookup(tf.constant([7], tf.int64))
        <tf.Tensor: shape=(1,), dtype=string, numpy=array([b'seven'], dtype=object)>
    """
    line, number = tf.lookup.TextFileIndex.WHOLE_LINE, tf.lookup.TextFileIndex.LINE_NUMBER
    return tf.lookup.StaticHashTable(_Lines(str(file), tf.int64, number, tf.string, line), default)


def order_of_numbers(file: Path, default: int) -> tf.lookup.StaticHashTable:
    """Returns the table from the number on a line, int64, to the number of the line from 0, int64; `default` for unknown
    numbers.

    Example:
        >>> order_of_numbers(Path("merges.txt"), default=-1).lookup(tf.constant([512], tf.int64))
        <tf.Tensor: shape=(1,), dtype=int64, numpy=array([3])>
    """
    place = tf.lookup.TextFileIndex.LINE_NUMBER
    return tf.lookup.StaticHashTable(_Lines(str(file), tf.int64, 0, tf.int64, place), default)


def in_memory(keys: Any, values: Any, default: Any) -> tf.lookup.StaticHashTable:
    """Returns the table from keys to values, tensors of equal length; `default` for unknown keys.

    Example:
        >>> in_memory(tf.constant(["a", "b"]), tf.constant([4, 9]), default=0).lookup(tf.constant(["b", "c"]))
        <tf.Tensor: shape=(2,), dtype=int32, numpy=array([9, 0], dtype=int32)>
    """
    return tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, values), default)
