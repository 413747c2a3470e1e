"""The rows of a split that is not held in memory, by their numbers: any order, from any place, any share of each batch."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from zoo.datasets.cached_columns import CachedColumns, open_cached
from zoo.datasets.interface import described
from zoo.datasets.raw import Access
from zoo.datasets.shares import Share, cut
from zoo.errors import UsageError

if TYPE_CHECKING:
    from zoo.datasets.cache import Cache
    from zoo.datasets.encoding import Encoder
    from zoo.datasets.preprocessing.base import Preprocessor
    from zoo.datasets.raw import Split


class NumberedRows:
    """Reads rows by their numbers, and nothing else.

    Args:
        encoder: turns raw examples into batches.
        preprocessor: its preprocessor.
        access: reads the examples; None if all rows are cached.
        columns: cached rows, None without a cache on a disk.
        is_cached: whether no file of the data set is read.
    """

    def __init__(
        self,
        encoder: Encoder,
        preprocessor: Preprocessor,
        access: Access | None,
        columns: CachedColumns | None,
        is_cached: bool,
    ) -> None:
        self._encoder, self._preprocessor, self._access, self.columns = encoder, preprocessor, access, columns
        self.is_cached = is_cached

    @property
    def have_one_shape(self) -> bool:
        """Whether all examples have inputs of the same shape, so that rows of a batch do not depend on the other rows."""
        return all(None not in shape for shape in self._preprocessor.input_shapes.values())

    def batches(self, order: np.ndarray, batch_size: int) -> tf.data.Dataset:
        """Returns batches (inputs, targets, weights) of rows in an order, int64 (rows,)."""
        return self._read(tf.data.Dataset.from_tensor_slices(order), batch_size)

    def share(
        self, order: np.ndarray, batch_size: int, share: Share, check: Callable[[tf.data.Dataset], tf.data.Dataset]
    ) -> tf.data.Dataset:
        """Returns a share of each batch: ((inputs, targets, weights), (places, real, size)), see `shares.Part`.

        Args:
            order: numbers of rows, int64 (rows,).
            batch_size: rows of a whole batch.
            share: which share.
            check: checks batches.
        """
        parts = []
        for part in cut(order, batch_size, share):
            width = part.numbers.shape[1]
            batches = check(self._read(tf.data.Dataset.from_tensor_slices(part.numbers.ravel()), width))
            place = tf.data.Dataset.from_tensors((part.places, part.real, np.int32(part.size))).repeat()
            parts.append(tf.data.Dataset.zip((batches, place)))
        first, *others = parts
        for other in others:
            first = first.concatenate(other)
        return first

    def _read(self, numbers: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
        if self.columns is not None:
            gather = tf.autograph.experimental.do_not_convert(self.columns.gather)
            return numbers.batch(batch_size).map(gather, num_parallel_calls=2, deterministic=True)
        assert self._access is not None
        return self._encoder.at(self._access, numbers, batch_size).map(self._preprocessor.trim)


def numbered_rows(
    split: Split, name: str, encoder: Encoder, preprocessor: Preprocessor, cache: Cache | None
) -> NumberedRows | None:
    """Returns the rows of a split by their numbers; None if its source reads them only one after the other.

    Args:
        split: the split.
        name: its name.
        encoder: turns raw examples into batches.
        preprocessor: its preprocessor.
        cache: what is kept of the examples.

    Raises:
        UsageError: the cache cannot be written, or does not fit into memory.
    """
    if cache is not None and cache.kind == "disk":
        facts = {"content": split.sha256, "preprocessor": described(preprocessor)}
        spec = encoder.batches(split.dataset(), 1).element_spec

        def read() -> tf.data.Dataset:
            return encoder.batches(split.dataset(), 64)

        columns = open_cached(cache.folder, name, facts, split.num_examples, spec, read)
        return NumberedRows(encoder, preprocessor, None, columns, True)
    if split.access is None:
        return None
    if cache is None or not split.access.costly:
        return NumberedRows(encoder, preprocessor, split.access, None, False)
    access = _in_memory(split.access, split.num_examples, name)
    return NumberedRows(encoder, preprocessor, access, None, True)


def _in_memory(access: Access, count: int, name: str) -> Access:
    """Returns access to the same examples, with what is stored of them in memory.

    Raises:
        UsageError: it takes more than half of the machine's memory.
    """
    most = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    fetch = tf.autograph.experimental.do_not_convert(access.fetch)
    numbers = tf.data.Dataset.range(count)
    parts: list[dict[str, Any]] = []
    size = 0
    for part in numbers.map(fetch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).batch(256):
        size += sum(_bytes(values) for values in part.values())
        if size > most:
            raise UsageError(
                f"The files of the {name} split take more than {most:,} bytes, half of this machine's memory. Pass "
                "--data.cache disk, or leave cache out."
            )
        parts.append(part)
    with tf.device("CPU"):
        held = {key: tf.concat([part[key] for part in parts], axis=0) for key in parts[0]}
    print(f"The files of the {name} split are in memory: {size / 1e6:,.1f} MB", flush=True)
    return Access(lambda number: {key: column[number] for key, column in held.items()}, access.decode)


def _bytes(values: tf.Tensor) -> int:
    if values.dtype == tf.string:
        return int(tf.reduce_sum(tf.cast(tf.strings.length(values), tf.int64)))
    return int(values.numpy().nbytes)
