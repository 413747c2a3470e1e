"""Columns of several categories in one cell."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import tensorflow as tf

from zoo.datasets.preprocessing.columns.base import Tensors
from zoo.datasets.preprocessing.columns.vocabularies import UNKNOWN, KnownValues
from zoo.tasks import Request

SEPARATOR = "|"
_MOST = 1_000
_FEWEST = 2


@dataclasses.dataclass(frozen=True)
class Lists(KnownValues):
    """Categories that are separated by "|", such as genres: strings, empty for none. Each known category becomes a number, 1
    if the cell has it, otherwise 0.

    Attributes:
        vocabularies: the known categories of every column, the most frequent first.
        file: name of the file of all categories in an export.
    """

    kind: ClassVar[str] = "list"
    file: str = "lists.txt"

    @classmethod
    def fit(cls, names: Sequence[str], inputs: Sequence[str], values: np.ndarray, options: Mapping[str, Any]) -> Self:
        """Collects the categories that at least two cells have, at most 1,000 of a column."""
        vocabularies = []
        for column in values.T:
            counts = Counter(part for cell in column for part in {*_parts(cell.decode("utf-8", "replace"))})
            often = sorted((part for part, count in counts.items() if count >= _FEWEST), key=lambda p: (-counts[p], p))
            vocabularies.append(tuple(often[:_MOST]))
        return cls(tuple(names), tuple(inputs), tuple(vocabularies))

    def request(self, place: int) -> Request:
        """string; the description has the most frequent categories."""
        known = self.vocabularies[place]
        shown = ", ".join(part[:40] for part in known[:6]) + (
            f", ... ({len(known):,} values)" if len(known) > 6 else ""
        )
        text = f'any of {shown}, separated by "{SEPARATOR}"; others are ignored'
        return self._request(place, "string", text)

    def raw(self, requests: Tensors) -> tf.Tensor:
        """Stacks the requests."""
        return tf.stack([requests[name] for name in self.inputs], axis=1)

    def to_request(self, value: Any, place: int) -> Any:
        """Returns the text."""
        return bytes(value)

    def numbers(self, raw: tf.Tensor) -> tf.Tensor:
        """Returns 1 for every category of a cell, otherwise 0."""
        found, start = [], 0
        for place, known in enumerate(self.vocabularies):
            parts = tf.strings.split(raw[:, place], SEPARATOR)
            keys = tf.strings.join([f"{place}:", tf.strings.strip(parts.values)])
            numbers = tf.cast(self._table().lookup(keys), tf.int32)
            columns = tf.where(numbers > UNKNOWN, numbers - start, 0)
            flat = parts.value_rowids() * (len(known) + 1) + tf.cast(columns, tf.int64)
            size = tf.shape(raw, tf.int64)[0] * (len(known) + 1)
            counts = tf.math.unsorted_segment_sum(tf.ones_like(columns, tf.float32), flat, size)
            found.append(tf.minimum(tf.reshape(counts, [-1, len(known) + 1])[:, 1:], 1.0))
            start += len(known)
        return tf.concat(found, axis=1)

    @property
    def binned(self) -> tuple[bool, ...]:
        """Marks are not binned."""
        return (False,) * sum(map(len, self.vocabularies))

    @property
    def limits(self) -> tuple[str, ...]:
        """How unknown categories are treated."""
        return (f"Of {', '.join(self.names)}, the categories in `assets/{self.file}` are known. Others are ignored.",)


def is_list(cells: Sequence[str]) -> bool:
    """Whether cells hold several categories each: some have the separator, and all have fewer different parts than there are
    different cells.

    Example:
        >>> is_list(["Comedy|Drama", "Drama", "Comedy", "Drama|Horror", "Horror|Comedy"])
        True
    """
    different = {*cells}
    parts = {part for cell in different for part in _parts(cell)}
    return any(SEPARATOR in cell for cell in different) and len(parts) < len(different)


def _parts(cell: str) -> list[str]:
    parts = [part.strip() for part in cell.split(SEPARATOR)]
    return [part for part in parts if part and not any(c in part for c in "\r\n\0")]
