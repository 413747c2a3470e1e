"""JSON lines: an object by input or column in each line, or the value of the only input."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from zoo.errors import UsageError, one_line
from zoo.export.bulk.chunks import MOST_BYTES, Chunk, Limits, Rejected, Rows, Served
from zoo.export.bulk.formats import Reader, opened
from zoo.export.bulk.frames import by_column, rows_of
from zoo.tables import frames
from zoo.tables.formats import TableFormat


def chunks(path: Path, served: Served, format: TableFormat, limits: Limits) -> Iterator[Chunk]:
    """Divides a file by lines; empty ones are skipped."""
    held: list[bytes] = []
    size, weight, first = 0, 0, 1
    try:
        with opened(path) as file:
            for line in file:
                weight += len(line)
                if not line.strip():
                    continue
                held.append(line if line.endswith(b"\n") else line + b"\n")
                size += len(line)
                if len(held) == limits.rows or size >= MOST_BYTES:
                    yield Chunk("json_lines", str(path), first, len(held), (b"".join(held), format), weight)
                    first += len(held)
                    held, size, weight = [], 0, 0
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{path} is damaged: {one_line(error, 100)}. Replace it with the original file.") from error
    if held:
        yield Chunk("json_lines", str(path), first, len(held), (b"".join(held), format), weight)
    elif first == 1:
        raise UsageError(f"{path} is empty. Choose a file with a JSON value in each line.")


def rows(chunk: Chunk, model: Any, served: Served) -> Rows:
    """Reads the lines of a chunk."""
    content, format = chunk.content
    found: list[dict[str, Any]] = []
    numbers: list[int] = []
    rejected: list[Rejected] = []
    unused: dict[str, None] = {}
    for number, line in enumerate(content.split(b"\n")[:-1], start=chunk.first):
        try:
            row = _row(line, served, unused)
            found.append(_cells(row) if served.are_columns else _values(row, chunk.source, model, served))
            numbers.append(number)
        except UsageError as error:
            rejected.append(Rejected(chunk.source, number, str(error)))
    if not found:
        return Rows(
            {name: [] for name in served.inputs}, np.zeros(0, np.int64), chunk.source, rejected, unused=(*unused,)
        )
    if not served.are_columns:
        inputs = {name: [row[name] for row in found] for name in served.inputs}
        return Rows(inputs, np.array(numbers), chunk.source, rejected)
    import pandas as pd

    columns = {served.columns[name]: _column([row[name] for row in found]) for name in served.inputs}
    frame = frames.as_texts(pd.DataFrame(columns), chunk.source, format)
    frame.index = [number - 1 for number in numbers]
    read = rows_of(chunk.source, frame, served, rejected)
    read.unused = (*unused,)
    return read


def _column(values: list[Any]) -> Any:
    """Returns a column. JSON writes numbers with points, whatever the texts of the training data have."""
    import pandas as pd

    known = [value for value in values if value is not None]
    are_exact = all(type(value) is float or (type(value) is int and abs(value) <= _EXACT) for value in known)
    return pd.Series(values, dtype=np.float64 if known and are_exact else object)


_MOST_UNUSED = 100
_EXACT = 2**53
"""Larger whole numbers are rounded as floats."""


def _row(line: bytes, served: Served, unused: dict[str, None]) -> dict[str, Any]:
    """Returns the values of a line by input. Names that a table does not need are added to `unused`; other examples with
    such names are rejected."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"is not JSON: {one_line(error, 100)}. Correct it.") from error
    if b"\\u" in line or b"\xed" in line:
        _check_characters(value)
    if isinstance(value, dict) and set(value) != {"b64"}:
        unknown = served.unused(value)
        if unknown and not served.are_columns:
            raise UsageError(f"has {', '.join(unknown):.200}; {served.takes}. Rename or remove it.")
        unused |= dict.fromkeys(unknown[: max(0, _MOST_UNUSED - len(unused))])
        return by_column(value, served)
    if len(served.needed) > 1 or served.are_columns:
        raise UsageError(f"is a JSON {type(value).__name__}; {served.takes}. Pass an object with these names.")
    return by_column({served.needed[0]: value}, served)


def _check_characters(value: Any) -> None:
    """Raises UsageError for half of a character that UTF-16 writes in two parts."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(error.object[error.start]):04x}"
        raise UsageError(f"has {half}, which is half of a character, as in a text that was cut. Remove it.") from error


def _cells(row: dict[str, Any]) -> dict[str, Any]:
    for name, value in row.items():
        if isinstance(value, (list, dict)):
            raise UsageError(f"has {json.dumps(value)[:40]} as {name}; expected one value. Correct it.")
    return row


def _values(row: dict[str, Any], source: str, model: Any, served: Served) -> dict[str, Any]:
    """Returns the values of one example: bytes, arrays, or the path of a file."""
    from zoo.export.serving import values
    from zoo.export.serving.refusals import Refused
    from zoo.tasks import REQUEST_KINDS

    specs, _ = model.specs(served.signature)
    found: dict[str, Any] = {}
    for name, value in row.items():
        kind = REQUEST_KINDS.get(served.inputs[name].kind)
        if kind.is_path and isinstance(value, str):
            found[name] = str(Path(source).parent / value)
            continue
        try:
            given = values.Input(specs[name], kind.is_bytes, served.inputs[name].kind)
            array = values.array(value, name, given, batch=False)
        except Refused as refused:
            raise _passed_on(refused) from refused
        found[name] = array[()] if array.ndim == 0 else array
    return found


def _passed_on(refused: Exception) -> UsageError:
    return UsageError(str(refused))


READER = Reader((".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz"), chunks, rows)
