"""The parts into which the inputs of a bulk prediction are divided, and what a process needs to know to divide them."""

from __future__ import annotations

import dataclasses
import hashlib
import pickle
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from zoo.errors import UsageError
from zoo.export.signature_columns import needed_inputs, targets_of

_TABLE_ROWS, _ROWS, _FILES = 4096, 512, 512
"""Rows of a table, of other examples, and files of a chunk, about: full batches, and little lost by a kill."""
MOST_BYTES = 8 << 20
"""A chunk ends after the row with which it has this many bytes."""


@dataclasses.dataclass(frozen=True)
class InputInfo:
    """An input of a signature, without TensorFlow: its kind, its type, and the shape of one example."""

    kind: str
    dtype: str
    shape: tuple[int | None, ...]


@dataclasses.dataclass(frozen=True)
class Served:
    """What the process that reads files knows of a SavedModel; a process that has loaded it makes this.

    Attributes:
        path: the version folder.
        signature: the name of the signature.
        inputs: its inputs by name.
        outputs: type and shape of one example of its outputs by name, in order.
        columns: the column of a table for each input.
        entries: the inputs in zoo.json.
        data: what zoo.json has as `data`.
        digest: a hash of the SavedModel's files.
        defaults: the values of inputs that may be left out.
        tensorflow: the version of TensorFlow that computes.
    """

    path: str
    signature: str
    inputs: Mapping[str, InputInfo]
    outputs: Mapping[str, tuple[str, tuple[int | None, ...]]]
    columns: Mapping[str, str]
    entries: Mapping[str, Any]
    data: Any
    digest: str
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    tensorflow: str = ""

    @property
    def needed(self) -> list[str]:
        """The inputs that have no default."""
        return list(needed_inputs(self.inputs, self.defaults))

    @property
    def kinds(self) -> list[Any]:
        """The kinds of these inputs, without duplicates."""
        from zoo.tasks import REQUEST_KINDS

        return [REQUEST_KINDS.get(kind) for kind in dict.fromkeys(self.inputs[name].kind for name in self.needed)]

    @property
    def are_columns(self) -> bool:
        """Whether the signature has an input per column of a table."""
        return len(self.kinds) == 1 and self.kinds[0].read_columns is not None

    @property
    def are_files(self) -> bool:
        """Whether an example is a file."""
        return len(self.needed) == 1 and self.kinds[0].is_path

    def unused(self, names: Iterable[str]) -> list[str]:
        """Returns the names of columns that are no input, and held no targets in the training data."""
        known = {*self.inputs, *self.columns.values(), *targets_of(self.data)}
        return [name for name in names if name not in known]

    @property
    def takes(self) -> str:
        """The signature and its inputs, for messages."""
        return f"{self.signature} takes {', '.join(self.inputs)}"


@dataclasses.dataclass(frozen=True)
class Limits:
    """The sizes of chunks: full batches of `batch_size` rows; more of them for tables, whose models are fast."""

    batch_size: int
    are_columns: bool

    @property
    def rows(self) -> int:
        """Rows of a chunk."""
        return self.batch_size * max(1, (_TABLE_ROWS if self.are_columns else _ROWS) // self.batch_size)

    @property
    def files(self) -> int:
        """Files of a chunk."""
        return self.batch_size * max(1, _FILES // self.batch_size)


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Rows that are predicted together.

    Attributes:
        reader: the name of the file format that reads `content`.
        source: the file, for messages and for the column `input` of the answers.
        first: the number of the first row in the file, from 1; 0 for files that hold one example each.
        rows: the number of rows; None if reading them shows it.
        content: what the format needs, without TensorFlow.
        weight: the bytes or files that it takes of the whole, for the progress.
        number: its place in the whole, from 0.
        unused: columns of the file that the model does not use.
    """

    reader: str
    source: str
    first: int
    rows: int | None
    content: Any
    weight: float
    number: int = -1
    unused: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """A hash of the content."""
        content = (self.reader, self.source, self.first, self.rows, self.content)
        return hashlib.blake2b(pickle.dumps(content, protocol=5), digest_size=16).hexdigest()


_HALF = re.compile("[\ud800-\udfff]")


def printable(text: str) -> str:
    """Returns a text without bytes of a file's name that are not UTF-8, which no file of answers can hold.

    Example:
        >>> printable("caf\\udce9.png")
        'caf\ufffd.png'
    """
    return _HALF.sub("\ufffd", text)


@dataclasses.dataclass
class Rejected:
    """A row that has no answer: the file, its number in it (0 for a file with one example), and the reason."""

    source: str
    row: int
    reason: str


class Marks(NamedTuple):
    """What some rows of a CSV file say of its decimal marks, if its first rows say nothing.

    Attributes:
        source: the file.
        commas: a clause about a column with decimal commas; "" without any.
        points: a cell whose points may separate thousands; "" without any.
    """

    source: str
    commas: str
    points: str


def check_marks(found: Iterable[Marks]) -> None:
    """Raises UsageError if some rows of a file have decimal commas, and others have points that were read as decimal ones."""
    commas: dict[str, str] = {}
    points: dict[str, str] = {}
    for mark in found:
        for held, clause in ((commas, mark.commas), (points, mark.points)):
            if clause:
                held.setdefault(mark.source, clause)
        if mark.source in commas and mark.source in points:
            raise UsageError(
                f"In {mark.source}, {commas[mark.source]}, and other rows have {points[mark.source]}, whose points may "
                "separate thousands. Pass --decimal , (decimal=',' in Python) or --decimal . for the whole file."
            )


@dataclasses.dataclass
class Rows:
    """The rows of a chunk.

    Attributes:
        inputs: a value for each row, by input; for a file of one example, its path.
        numbers: the number of each row in its file.
        sources: the file of each row, or one for all.
        rejected: rows that cannot be read.
        signature: the signature to call, if it is not the one that was asked for but takes the same examples.
        marks: which decimal marks the rows have, see `Marks`.
        unused: names in the rows that the model does not use, if only reading the rows shows them.
    """

    inputs: Mapping[str, Sequence[Any] | np.ndarray]
    numbers: np.ndarray
    sources: str | list[str]
    rejected: list[Rejected] = dataclasses.field(default_factory=list)
    signature: str | None = None
    marks: Marks | None = None
    unused: tuple[str, ...] = ()

    def source(self, place: int) -> str:
        """The file of a row."""
        return self.sources if isinstance(self.sources, str) else self.sources[place]

    def __len__(self) -> int:
        return len(self.numbers)
