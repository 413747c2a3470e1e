"""Columns whose known values are numbered by one table."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Self

import tensorflow as tf

from zoo import lookup
from zoo.datasets.preprocessing.columns.base import Columns

UNKNOWN = 0


@dataclasses.dataclass(frozen=True)
class KnownValues(Columns):
    """Columns of one kind with a vocabulary each. The values of all columns are numbered from 1; 0 is an unknown value.

    Attributes:
        vocabularies: the known values of every column.
        file: name of the file of all values in an export.
    """

    vocabularies: tuple[tuple[str, ...], ...]
    file: str = "values.txt"
    _path: Path | None = dataclasses.field(default=None, compare=False, repr=False)
    _tables: list[Any] = dataclasses.field(default_factory=list, compare=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "_tables", [])

    def _keys(self) -> list[str]:
        return [f"{place}:{value}" for place, known in enumerate(self.vocabularies) for value in known]

    def _table(self) -> Any:
        if not self._tables:
            with tf.init_scope():  # needed if the first access is in a traced tf.data function
                if self._path is not None:
                    table = lookup.numbers_of_lines(self._path, UNKNOWN)
                else:
                    keys = self._keys()
                    numbers = tf.range(1, len(keys) + 1, dtype=tf.int64)
                    table = lookup.in_memory(tf.constant(keys, tf.string, [len(keys)]), numbers, UNKNOWN)
            self._tables.append(table)
        return self._tables[0]

    def for_export(self, directory: Path) -> tuple[Self, list[Any]]:
        """Writes all values to a file. The number of a line is that of the value, line 0 is an unknown value."""
        path = directory / self.file
        path.write_text("".join(f"{line}\n" for line in ("unknown", *self._keys())), encoding="utf-8", newline="\n")
        served = dataclasses.replace(self, _path=path)
        return served, [served._table()]

    def owned_by(self, owner: str) -> Self:
        """Returns equal columns whose file has the owner in its name, so that those of two tables differ."""
        return dataclasses.replace(self, file=f"{owner}_{self.file}")
