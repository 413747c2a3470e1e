"""Records of TFRecord and ArrayRecord files by their number, without reading the records before them."""

from __future__ import annotations

import dataclasses
import mmap
import struct
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from zoo.errors import one_line, printable

_HEADER, _AROUND = struct.Struct("<Q"), 16
"""The length of a TFRecord, and the bytes around its content: the length, and the checksums of both."""


@dataclasses.dataclass(frozen=True)
class Part:
    """Some records of a file.

    Attributes:
        file: the file.
        first: number of the first record in the file.
        count: number of records.
    """

    file: str
    first: int
    count: int


class RecordFiles:
    """The records of some files, in the order of the files, as serialized examples.

    ArrayRecord files have an index of their own. That of a TFRecord file is made when its first record is read, from the
    lengths of the records alone: 8 bytes of memory per record.

    Args:
        parts: which records of which files.

    Example:
        >>> files = RecordFiles([Part("train.tfrecord-00000-of-00001", 0, 100)])
        >>> len(files), len(files.read(99))
        (100, 312)
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = [part for part in parts if part.count]
        self._ends = np.cumsum([part.count for part in self._parts])
        self._readers: list[Callable[[int], bytes] | None] = [None] * len(self._parts)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def read(self, number: int) -> bytes:
        """Returns a record.

        Raises:
            tf.errors.OpError: the file is missing, too short or damaged.
        """
        which, place = self._place(number)
        with self._lock:  # TensorFlow's reader keeps its place in a buffer: two threads must not share it
            reader = self._readers[which]
            if reader is None:
                reader = self._readers[which] = _reader(self._parts[which].file)
            try:
                return reader(place)
            except IndexError:
                raise tf.errors.DataLossError(None, None, f"there is no record {place}") from None

    def fetch(self, number: tf.Tensor) -> tf.Tensor:
        """Returns a record of a number, int64 (), as string (). It is traceable."""
        record = tf.numpy_function(lambda n: self.read(int(n)), [number], tf.string, stateful=False)
        return tf.ensure_shape(record, [])

    def fault(self, number: int) -> str:
        """Returns why a record cannot be read, empty if it can."""
        which, place = self._place(number)
        try:
            self.read(number)
        except (tf.errors.OpError, OSError, ValueError) as error:
            file = printable(self._parts[which].file)
            return f"Record {place} of {file} cannot be read: {one_line(error, 200)}"
        return ""

    def _place(self, number: int) -> tuple[int, int]:
        which = int(np.searchsorted(self._ends, number, side="right"))
        part = self._parts[which]
        return which, part.first + number - int(self._ends[which]) + part.count


def is_array_record(file: str) -> bool:
    """Returns whether a file of TensorFlow Datasets is an ArrayRecord file, by its name.

    Example:
        >>> is_array_record("mnist-train.array_record-00000-of-00001")
        True
    """
    return ".array_record" in Path(file).name


def _reader(file: str) -> Callable[[int], bytes]:
    if is_array_record(file):
        from array_record.python.array_record_data_source import ArrayRecordDataSource

        source: Any = ArrayRecordDataSource([file])
        return lambda place: bytes(source[place])
    from tensorflow.python.lib.io import tf_record  # which checks the checksums; no public name reads at a place

    starts, reader = record_starts(file), tf_record.tf_record_random_reader(file)
    return lambda place: bytes(reader.read(int(starts[place]))[0])


def record_starts(file: str) -> np.ndarray:
    """Returns the first byte of each record of an uncompressed TFRecord file, int64 (records,).

    Example:
        >>> record_starts("train.tfrecord-00000-of-00001")[:3].tolist()
        [0, 328, 656]
    """
    starts = []
    with Path(file).open("rb") as opened:
        size = opened.seek(0, 2)
        if not size:
            return np.zeros(0, np.int64)
        with mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
            place = 0
            while place + _AROUND <= size:
                starts.append(place)
                place += _AROUND + _HEADER.unpack_from(content, place)[0]
    return np.array(starts, np.int64)
