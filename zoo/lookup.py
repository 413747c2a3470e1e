"""Lookup tables: from tensors, or from the lines of a file, which becomes an asset of a SavedModel.

All tables of a process that have the same name are one table, also those of SavedModels that were loaded one after the other.
TensorFlow would name a table after its file, or number it; different tables of two SavedModels could then have the same name.
Here the name is a hash of the content: tables with the same name are equal, and the same model is written as the same bytes.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import tensorflow as tf

from zoo import storage


class _Lines(tf.lookup.TextFileInitializer):
    """The lines of a file. `what` is the part of a table's name that says which columns are keys and values."""

    def __init__(self, what: str, file: Path, *columns: Any) -> None:
        super().__init__(str(file), *columns)
        self._content = f"{what}_{storage.sha256(file)}"

    @property
    def _shared_name(self) -> str:
        return self._content


class _Pairs(tf.lookup.KeyValueTensorInitializer):
    """Keys and values that are tensors."""

    @property
    def _shared_name(self) -> str:
        content = hashlib.sha256()
        for tensor in (self._keys, self._values):
            known = tf.get_static_value(tensor)
            if known is None:
                return ""  # TensorFlow generates a name
            content.update(f"{tensor.dtype.name} {known.size} ".encode())
            texts = known.dtype == object
            content.update(
                b"".join(b"%d:%b" % (len(text), text) for text in known.ravel()) if texts else known.tobytes()
            )
        return f"pairs_{content.hexdigest()}"


def numbers_of_lines(file: Path, default: int) -> tf.lookup.StaticHashTable:
    """Returns the table from a line, string, to its number from 0, int64; `default` for unknown strings.

    Example:
        >>> numbers_of_lines(Path("labels.txt"), default=-1).lookup(tf.constant(["seven"]))
        <tf.Tensor: shape=(1,), dtype=int64, numpy=array([7])>
    """
    line, number = tf.lookup.TextFileIndex.WHOLE_LINE, tf.lookup.TextFileIndex.LINE_NUMBER
    return tf.lookup.StaticHashTable(_Lines("numbers_of_lines", file, tf.string, line, tf.int64, number), default)


def lines_by_number(file: Path, default: str) -> tf.lookup.StaticHashTable:
    """Returns the table from a number from 0, int64, to the line, string; `default` for other numbers.

    Example:
        >>> lines_by_number(Path("labels.txt"), default="").lookup(tf.constant([7], tf.int64))
        <tf.Tensor: shape=(1,), dtype=string, numpy=array([b'seven'], dtype=object)>
    """
    line, number = tf.lookup.TextFileIndex.WHOLE_LINE, tf.lookup.TextFileIndex.LINE_NUMBER
    return tf.lookup.StaticHashTable(_Lines("lines_by_number", file, tf.int64, number, tf.string, line), default)


def order_of_numbers(file: Path, default: int) -> tf.lookup.StaticHashTable:
    """Returns the table from the number on a line, int64, to the number of the line from 0, int64; `default` for unknown
    numbers.

    Example:
        >>> order_of_numbers(Path("merges.txt"), default=-1).lookup(tf.constant([512], tf.int64))
        <tf.Tensor: shape=(1,), dtype=int64, numpy=array([3])>
    """
    place = tf.lookup.TextFileIndex.LINE_NUMBER
    return tf.lookup.StaticHashTable(_Lines("order_of_numbers", file, tf.int64, 0, tf.int64, place), default)


def in_memory(keys: Any, values: Any, default: Any) -> tf.lookup.StaticHashTable:
    """Returns the table from keys to values, tensors of equal length; `default` for unknown keys.

    Example:
        >>> in_memory(tf.constant(["a", "b"]), tf.constant([4, 9]), default=0).lookup(tf.constant(["b", "c"]))
        <tf.Tensor: shape=(2,), dtype=int32, numpy=array([9, 0], dtype=int32)>
    """
    return tf.lookup.StaticHashTable(_Pairs(keys, values), default)
