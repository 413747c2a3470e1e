"""The interface of a kind of columns, and their names as inputs of a SavedModel."""

from __future__ import annotations

import dataclasses
import keyword
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import tensorflow as tf

from zoo.tasks import Request
from zoo.tasks.shared import RECORDS

Tensors = Mapping[str, tf.Tensor]


@dataclasses.dataclass(frozen=True)
class Columns:
    """The columns of one kind.

    Attributes:
        names: their names in the file, which are the keys of raw examples and of `tf.Example`.
        inputs: the names of the SavedModel's inputs.
    """

    kind: ClassVar[str]
    names: tuple[str, ...]
    inputs: tuple[str, ...]

    @classmethod
    def fit(cls, names: Sequence[str], inputs: Sequence[str], values: np.ndarray, options: Mapping[str, Any]) -> Self:
        """Creates the columns from the training split, an array (examples, columns) of raw values.

        Args:
            names: see `Columns`.
            inputs: see `Columns`.
            values: the raw values.
            options: the options of the data set: `scaling`, `min_count`, `orders` of dates.
        """
        raise NotImplementedError

    def request(self, place: int) -> Request:
        """The input of one column."""
        raise NotImplementedError

    def _request(self, place: int, dtype: str, text: str) -> Request:
        """Returns the input of one column. Its description names the column if the input has another name."""
        name, key = self.names[place], self.inputs[place]
        described = text if name == key else f"column {' '.join(name.split())!r}: {text}"
        return Request(key, "value", dtype, (), described, {"column": name})

    def raw(self, requests: Tensors) -> tf.Tensor:
        """Turns requests into raw values, (batch, columns)."""
        raise NotImplementedError

    def to_request(self, value: Any, place: int) -> Any:
        """Returns the raw value of a column as a client sends it."""
        raise NotImplementedError

    def numbers(self, raw: tf.Tensor) -> tf.Tensor:
        """Turns raw values (batch, columns) into numbers, float32 (batch, `len(binned)`)."""
        return tf.zeros([tf.shape(raw)[0], 0])

    @property
    def binned(self) -> tuple[bool, ...]:
        """For each number, whether it is a measurement, which bins can describe, and not a part of a set, such as a
        weekday."""
        return ()

    def for_export(self, directory: Path) -> tuple[Columns, list[Any]]:
        """Returns equal columns that read vocabularies from files, and the objects to save with them."""
        return self, []

    def owned_by(self, owner: str) -> Self:
        """Returns equal columns whose files, if they write any, have the owner in their names."""
        return self

    @property
    def limits(self) -> tuple[str, ...]:
        """What is rejected or treated as unknown, as sentences for the model card."""
        return ()

    def config(self) -> dict[str, Any]:
        """Returns the fields as plain values."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if not f.name.startswith("_")}

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if isinstance(getattr(self, field.name), (list, tuple)):  # it may have been read from a file
                object.__setattr__(self, field.name, _hashable(getattr(self, field.name)))


def _hashable(values: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(_hashable(value) if isinstance(value, (list, tuple)) else value for value in values)


def floats(values: np.ndarray) -> tuple[float, ...]:
    """Returns numbers as a tuple that JSON can hold."""
    return tuple(float(value) for value in values)


def checked(values: tf.Tensor, valid: tf.Tensor, names: Sequence[str], said: str) -> tf.Tensor:
    """Returns values, (batch, columns), or raises an error that names the first row and column that is not valid."""
    row, column = tf.unstack(tf.concat([tf.where(~valid), [[0, 0]]], axis=0)[0])
    message = tf.strings.join(["row ", tf.strings.as_string(row), ": ", tf.constant(list(names))[column], " ", said])
    valid = tf.reduce_all(valid)
    with tf.control_dependencies([tf.debugging.Assert(valid, [message])]):
        return tf.identity(values)


_TAKEN = (RECORDS, "self", *keyword.kwlist)
"""The input of serialized rows, and names that TensorFlow's functions do not accept."""


def input_names(columns: Sequence[str]) -> dict[str, str]:
    """Returns the input of every column: its name with letters, digits and underscores only, which all runtimes accept. A
    column whose name needs no change keeps it. A name without Latin letters and digits becomes `column_PLACE`, and one that
    another column has gets its place as ending; both never look like the names of other columns.

    Example:
        >>> input_names(["hours per week", "2nd", "年龄", "Rosé", "Rose"])
        {'hours per week': 'hours_per_week', '2nd': 'column_2nd', '年龄': 'column_3', 'Rosé': 'Rose_4', 'Rose': 'Rose'}
    """
    found = {
        column: column for column in columns if re.fullmatch(r"[A-Za-z]\w*", column, re.ASCII) and column not in _TAKEN
    }
    plain = {column: _plain(column) for column in columns}
    prefix = "column"
    while any(re.fullmatch(rf"{prefix}_\d+_*", name) for name in plain.values()):
        prefix = f"unnamed_{prefix}"
    for place, column in enumerate(columns, start=1):
        if column in found:
            continue
        name = plain[column] or f"{prefix}_{place}"
        name = f"{name}_{place}" if name in found.values() else name
        while name in found.values() or name in _TAKEN:
            name += "_"
        found[column] = name
    return {column: found[column] for column in columns}


_SPELLED = str.maketrans(
    {"ß": "ss", "æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "đ": "d", "ı": "i"}
)
"""Latin letters that are no letter with a mark."""


def _plain(column: str) -> str:
    """Returns the Latin letters without marks and the digits of a name; "" without any."""
    letters = unicodedata.normalize("NFKD", column.translate(_SPELLED)).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9_]+", "_", letters.strip()).strip("_")
    return name if not name or name[0].isalpha() else f"column_{name}"
