"""Decoded examples on a disk: the model inputs, targets and weights of a split, one file per tensor, read by row number."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from zoo import storage
from zoo._version import __version__
from zoo.errors import UsageError

if TYPE_CHECKING:
    from zoo.datasets.preprocessing.base import Batch


class CachedColumns:
    """The rows of a split on a disk.

    Args:
        folder: where `write` has written them.
        spec: the element spec of a batch.
    """

    def __init__(self, folder: Path, spec: Any) -> None:
        self._spec, self._flat = spec, tf.nest.flatten(spec)
        self.arrays = [np.load(_file(folder, number), mmap_mode="r") for number in range(len(self._flat))]

    def gather(self, numbers: tf.Tensor) -> Batch:
        """Returns the rows of some numbers, int64 (rows,), as a batch. It is traceable."""
        kinds = [part.dtype for part in self._flat]
        parts = tf.numpy_function(lambda rows: [array[rows] for array in self.arrays], [numbers], kinds, stateful=False)
        for part, known in zip(parts, self._flat, strict=True):
            part.set_shape([numbers.shape[0], *known.shape[1:]])
        batch: Batch = tf.nest.pack_sequence_as(self._spec, parts)
        return batch

    def all(self) -> Batch:
        """Returns all rows as one batch in memory."""
        with tf.device("CPU"):
            batch: Batch = tf.nest.pack_sequence_as(self._spec, [tf.constant(array) for array in self.arrays])
            return batch


def open_cached(
    parent: Path, split: str, facts: Mapping[str, Any], count: int, spec: Any, read: Callable[[], tf.data.Dataset]
) -> CachedColumns:
    """Returns the decoded rows of a split, which are written if they are not there: hidden first, then renamed.

    Args:
        parent: the folder of the cache.
        split: name of the split.
        facts: all that the rows depend on, as JSON values. Other facts, or another version, have other files.
        count: number of rows.
        spec: the element spec of a batch.
        read: returns all rows in batches, in order.

    Raises:
        UsageError: the rows have no fixed size, or the folder is full or cannot be written.
    """
    parts = tf.nest.flatten(spec)
    if any(not part.shape[1:].is_fully_defined() or part.dtype == tf.string for part in parts):
        raise UsageError(
            f"cache='disk' needs model inputs of one size; those of the {split} split vary in length. Leave cache out."
        )
    versions = {"zoo": __version__, "tensorflow": tf.__version__}
    key = hashlib.sha256(json.dumps([facts, versions, count, str(spec)], sort_keys=True).encode()).hexdigest()
    folder = parent / f"{split}-{key[:32]}"
    if not folder.is_dir():
        size = count * sum(part.dtype.size * math.prod(part.shape[1:]) for part in parts)
        _write(folder, split, size, count, parts, read)
    return CachedColumns(folder, spec)


def _write(
    folder: Path, split: str, size: int, count: int, parts: Sequence[Any], read: Callable[[], tf.data.Dataset]
) -> None:
    hidden = folder.with_name(f".{folder.name}-{uuid.uuid4().hex}")
    with _explained(folder.parent, split, size):
        folder.parent.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(folder.parent).free < size:
            raise OSError(errno.ENOSPC, "full")
        print(f"Writing {_shown(size)} of decoded examples of the {split} split to {folder.parent}, once", flush=True)
        hidden.mkdir()
        try:
            with contextlib.ExitStack() as stack:
                files = [stack.enter_context(_file(hidden, number).open("wb")) for number in range(len(parts))]
                for file, part in zip(files, parts, strict=True):
                    header = {"descr": np.dtype(part.dtype.as_numpy_dtype).str, "fortran_order": False}
                    np.lib.format.write_array_header_1_0(file, {**header, "shape": (count, *part.shape[1:])})
                for batch in read().as_numpy_iterator():
                    for file, part in zip(files, tf.nest.flatten(batch), strict=True):
                        file.write(np.ascontiguousarray(part).data)
                for file in files:
                    file.flush()
                    os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError, OSError if folder.is_dir() else FileExistsError):
                hidden.rename(folder)
        finally:
            if hidden.is_dir():
                storage.remove_tree(hidden)


@contextlib.contextmanager
def _explained(parent: Path, split: str, size: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UsageError(
                f"The cache folder {parent} is full: the decoded examples of the {split} split need {_shown(size)}. Pass "
                "--data.cache_dir with a folder on another disk, --data.cache memory, or leave cache out."
            ) from error
        raise UsageError(
            f"The cache folder {parent} cannot be written: {error.strerror}. Pass --data.cache_dir with a folder of yours, "
            "--data.cache memory, or leave cache out."
        ) from error


def _shown(size: int) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{size / 1e6:,.1f} MB"


def _file(folder: Path, number: int) -> Path:
    return folder / f"{number}.npy"
