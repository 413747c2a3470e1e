"""Columns of categories."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import tensorflow as tf

from zoo.datasets.preprocessing.columns.base import Tensors
from zoo.datasets.preprocessing.columns.vocabularies import UNKNOWN, KnownValues
from zoo.tasks import Request

_MOST = 10_000


@dataclasses.dataclass(frozen=True)
class Categories(KnownValues):
    """Words or numbers that name a group: strings, empty for a missing value.

    Number 0 is an unknown value. The others are numbered from 1, the most frequent of the training split first; a missing
    value has a number of its own if the training split has one.

    Attributes:
        vocabularies: the known values of every column.
        file: name of the file of all values in an export.
    """

    kind: ClassVar[str] = "category"
    file: str = "categories.txt"

    @classmethod
    def fit(cls, names: Sequence[str], inputs: Sequence[str], values: np.ndarray, options: Mapping[str, Any]) -> Self:
        """Collects the values that occur at least `min_count` times, at most 10,000 of a column."""
        vocabularies = []
        for column in values.T:
            known, counts = np.unique(column.astype(object), return_counts=True)
            order = np.lexsort((np.arange(len(known)), -counts))
            often = [known[i].decode() for i in order if counts[i] >= options.get("min_count", 1)]
            vocabularies.append(tuple(often[:_MOST]))
        return cls(tuple(names), tuple(inputs), tuple(vocabularies))

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many numbers every column has, the unknown included."""
        return tuple(len(known) + 1 for known in self.vocabularies)

    def request(self, place: int) -> Request:
        """string; the description has the most frequent values."""
        known = [f"{value[:40]}{'...' * (len(value) > 40)}" for value in self.vocabularies[place] if value]
        shown = ", ".join(known[:6]) + (f", ... ({len(known):,} values)" if len(known) > 6 else "")
        missing = "missing" if "" in self.vocabularies[place] else "unknown"
        text = f"one of {shown}; an empty text is {missing}, another value is unknown"
        return self._request(place, "string", text)

    def raw(self, requests: Tensors) -> tf.Tensor:
        """Stacks the requests, without blanks around them."""
        return tf.strings.strip(tf.stack([requests[name] for name in self.inputs], axis=1))

    def to_request(self, value: Any, place: int) -> Any:
        """Returns the text."""
        return bytes(value)

    def lookup(self, raw: tf.Tensor) -> tf.Tensor:
        """Turns raw values (batch, columns) into their numbers, int32, by one table for all columns."""
        places = tf.constant([f"{place}:" for place in range(len(self.names))])
        starts = np.cumsum([0, *(len(known) for known in self.vocabularies)])[:-1]
        found = tf.cast(self._table().lookup(tf.strings.join([tf.broadcast_to(places, tf.shape(raw)), raw])), tf.int32)
        return tf.where(found > UNKNOWN, found - tf.constant(starts, tf.int32), UNKNOWN)

    @property
    def limits(self) -> tuple[str, ...]:
        """How unknown values are treated."""
        return (
            f"Of {', '.join(self.names)}, the values in `assets/{self.file}` are known, byte by byte without blanks around "
            "them. Others are unknown, which the model treats as no information.",
        )
