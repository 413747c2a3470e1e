"""Files that hold one example each, such as images and texts; or several, if the kind of input says so, as for series."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoo.errors import UsageError
from zoo.export.bulk.chunks import Chunk, Limits, Rejected, Rows, Served
from zoo.export.bulk.formats import Reader
from zoo.tables.formats import TableFormat


def chunks_of(files: Sequence[Path], served: Served, format: TableFormat, limits: Limits) -> Iterator[Chunk]:
    """Divides a list of files. Their sizes and times are part of a chunk, so that a change is noticed."""
    several = len(served.needed) == 1 and served.kinds[0].read_items is not None
    step = 1 if several else limits.files
    for start in range(0, len(files), step):
        part = files[start : start + step]
        states = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in part]
        yield Chunk("single_files", str(part[0]), 0, None if several else len(part), (states, format), len(part))


def chunks(path: Path, served: Served, format: TableFormat, limits: Limits) -> Iterator[Chunk]:
    """Returns the chunk of a single file."""
    return chunks_of([path], served, format, limits)


def rows(chunk: Chunk, model: Any, served: Served) -> Rows:
    """Returns the examples of a chunk; bytes are read when they are needed."""
    states, format = chunk.content
    (name,), (kind,) = served.needed, served.kinds
    entry = served.entries.get(name, {})
    files = [file for file, _, _ in states]
    try:
        held = None if kind.read_items is None else kind.read_items(Path(files[0]), entry, format)
    except UsageError as error:
        return Rows({name: []}, np.zeros(0, np.int64), files[0], [Rejected(files[0], 0, str(error))])
    if held is not None:
        items = [value for _, value in held[0]]
        return Rows({name: items}, np.arange(1, len(items) + 1), files[0])
    found: list[Any] = []
    kept: list[str] = []
    rejected: list[Rejected] = []
    for file in files:
        try:
            found.append(_value(file, kind, entry, format))
            kept.append(file)
        except UsageError as error:
            rejected.append(Rejected(file, 0, str(error)))
    return Rows({name: found}, np.zeros(len(kept), np.int64), kept, rejected)


def _value(file: str, kind: Any, entry: Any, format: TableFormat) -> Any:
    """Returns the example in a file; the path, if its bytes are the example."""
    if kind.open is not None:
        return kind.open(file).encode()
    return kind.read(file, entry, format) if kind.has_format else file


READER = Reader((), chunks, rows)
