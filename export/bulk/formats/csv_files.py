"""CSV files, also compressed with gzip. The first lines decide how a file is written; the rows are parsed in chunks."""

from __future__ import annotations

import codecs
import csv
import dataclasses
import io
import itertools
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from zoo.errors import UsageError, one_line
from zoo.export.bulk.chunks import MOST_BYTES, Chunk, Limits, Marks, Rejected, Rows, Served
from zoo.export.bulk.formats import Reader, opened
from zoo.export.bulk.frames import check_header, rows_of
from zoo.tables import cells, encodings, parsing
from zoo.tables.formats import TableFormat
from zoo.tables.parsing import Layout

_HEAD = 1 << 20
_HEAD_LINES = 4096
_MOST_WHOLE = 1 << 30
"""The most bytes of a file that is held in memory, because its line breaks are not single bytes `\\n`."""
csv.field_size_limit(max(csv.field_size_limit(), 1 << 30))  # by default, a longer cell than 128 KB is an error


def chunks(path: Path, served: Served, format: TableFormat, limits: Limits) -> Iterator[Chunk]:
    """Divides a file at the ends of its rows. Rows without a character are skipped, as everywhere."""
    written, lines = format, _lines(path, format)
    if _is_wide(format):
        format = dataclasses.replace(format, encoding=None)  # the lines are UTF-8
    first_lines = list(itertools.islice(lines, _HEAD_LINES))
    head = b"".join(first_lines)
    layout = parsing.layout(path, head or b" ", format)
    check_header(path, list(layout.names), served)
    quotes = _quotes(path, layout, written)
    layout = layout._replace(quotes=quotes is not False)
    format = _decided(path, head, layout, format)
    lines = itertools.chain(first_lines, lines)
    records = _records(lines, layout.separator) if quotes else ((line, 1) for line in lines)
    records = _after_header(path, records, has_cells_with_breaks=bool(quotes))
    if keeps_empty := len(layout.names) == 1:  # there, an empty line is an empty cell
        records = _without_empty_end(records)
    blank = b" \r\n" if layout.separator == "\t" else b" \t\r\n"
    held: list[bytes] = []
    size, weight, first = 0, 0, 1
    unused = tuple(served.unused(layout.names))
    for record, _ in records:
        weight += len(record)
        if not keeps_empty and not record.strip(blank):
            continue
        held.append(record if record.endswith(b"\n") else record + b"\n")
        size += len(record)
        if len(held) == limits.rows or size >= MOST_BYTES:
            content = (b"".join(held), layout, format)
            yield Chunk("csv_files", str(path), first, len(held), content, weight, unused=unused)
            first += len(held)
            held, size, weight = [], 0, 0
    if held:
        content = (b"".join(held), layout, format)
        yield Chunk("csv_files", str(path), first, len(held), content, weight, unused=unused)
    elif first == 1:
        raise UsageError(f"{path} has a header and no rows. Choose a file with rows.")


def _lines(path: Path, format: TableFormat) -> Iterator[bytes]:
    """Yields the lines of a file, unpacked; in UTF-8 where a line break is not one byte."""
    with opened(path) as file:
        try:
            start = file.read(_HEAD)
            if _is_wide(format):
                yield from encodings.decoded(path, _whole(path, start, file), format).encode().splitlines(keepends=True)
            elif b"\n" not in start and b"\r" in start:  # the line breaks of old Macs
                yield from _whole(path, start, file).replace(b"\r", b"\n").splitlines(keepends=True)
            else:
                *whole, rest = start.split(b"\n")
                yield from (line + b"\n" for line in whole)
                rest += file.readline()
                yield from [rest] if rest else []
                yield from file
        except (OSError, EOFError, zlib.error) as error:
            raise UsageError(
                f"{path} is damaged: {one_line(error, 100)}. Replace it with the original file."
            ) from error


def _whole(path: Path, start: bytes, file: IO[bytes]) -> bytes:
    content = start + file.read(max(0, _MOST_WHOLE + 1 - len(start)))
    if len(content) > _MOST_WHOLE:
        raise UsageError(
            f"{path} has more than {_MOST_WHOLE / (1 << 30):g} GiB, and is UTF-16 or UTF-32, or has the line breaks of old "
            "Macs. Convert it to UTF-8 with line breaks of Linux or Windows."
        )
    return content


def _is_wide(format: TableFormat) -> bool:
    return codecs.lookup(format.encoding or "utf-8").name.startswith(("utf-16", "utf-32"))


def _decided(path: Path, head: bytes, layout: Layout, format: TableFormat) -> TableFormat:
    """Returns the format with what the first rows decide for all: whether the numbers have decimal commas."""
    if layout.separator == "," or format.point:
        return format
    text = encodings.decoded(path, head, format)
    rows = text.split("\n", 2 if text.lower().startswith("sep=") else 1)[-1]
    try:
        frame = parsing.parse_rows(path, rows, layout, format)
    except UsageError:  # a row is too long; it is rejected later
        return format
    found: TableFormat = frame.attrs["format"]
    return dataclasses.replace(format, commas=found.commas, comma_columns=found.comma_columns)


def _quotes(path: Path, layout: Layout, format: TableFormat) -> bool | None:
    """Returns whether quotation marks enclose cells; None without any."""
    if not any(b'"' in line for line in _lines(path, format)):
        return None
    lines = (line.decode("latin-1") for line in _lines(path, format))
    try:
        for _ in csv.reader(lines, delimiter=layout.separator, strict=True):
            pass
    except csv.Error as error:
        mark, count = layout.separator.encode(), len(layout.names) - 1
        if all(line.count(mark) == count for line in _lines(path, format) if line.strip()):
            return False
        raise UsageError(
            f"{path} has a quotation mark that is not closed, or letters after a closing one: {error}. Write two marks for "
            "one inside a cell, or correct that line."
        ) from error
    return True


def _records(lines: Iterator[bytes], separator: str) -> Iterator[tuple[bytes, int]]:
    """Yields rows whose cells may have line breaks in quotation marks, with the number of their lines."""
    held: list[bytes] = []

    def texts() -> Iterator[str]:
        for line in lines:
            held.append(line)
            yield line.decode("latin-1")

    for _ in csv.reader(texts(), delimiter=separator):
        yield b"".join(held), len(held)
        held.clear()


def _without_empty_end(records: Iterator[tuple[bytes, int]]) -> Iterator[tuple[bytes, int]]:
    """Yields rows without the empty lines at the end of the file."""
    empty: list[tuple[bytes, int]] = []
    for record in records:
        empty.append(record)
        if record[0].strip(b"\r\n"):
            yield from empty
            empty.clear()


def _after_header(
    path: Path, records: Iterator[tuple[bytes, int]], *, has_cells_with_breaks: bool
) -> Iterator[tuple[bytes, int]]:
    first = next(records, (b"", 0))
    if first[0].lower().lstrip(b"\xef\xbb\xbf").startswith(b"sep="):
        first = next(records, (b"", 0))
    while not first[0].strip() and first[1]:  # pandas skips empty lines before the header
        first = next(records, (b"", 0))
    if b"\r" in first[0].rstrip(b"\r\n") and not has_cells_with_breaks:
        raise UsageError(
            f"The header of {path} ends with the line break of old Macs, and other lines end otherwise. Convert all line "
            "breaks to one kind, or save the file as CSV again."
        )
    return records


def rows(chunk: Chunk, model: Any, served: Served) -> Rows:
    """Parses a chunk."""
    content, layout, format = chunk.content
    path = Path(chunk.source)
    try:
        text = encodings.decoded(path, content, format)
    except UsageError as error:
        begin, end = chunk.first, chunk.first + (chunk.rows or 1) - 1
        raise UsageError(f"Rows {begin:,} to {end:,}, counted from there: {error}") from error
    try:
        frame = parsing.parse_rows(path, text, layout, format)
        rejected: dict[int, str] = {}
    except UsageError:
        text, rejected = _without_long_rows(text, layout)
        if not rejected:
            raise
        frame = parsing.parse_rows(path, text, layout, format)
    if len(frame) + len(rejected) != chunk.rows:
        raise UsageError(
            f"{path}: {chunk.rows:,} lines from row {chunk.first:,} on are read as {len(frame):,} rows. Correct the "
            "quotation marks and line breaks there, or save the file as CSV again."
        )
    frame.index = [chunk.first - 1 + at for at in range(chunk.rows or 0) if at not in rejected]
    places = [Rejected(chunk.source, chunk.first + at, why) for at, why in rejected.items()]
    found = rows_of(chunk.source, frame, served, places)
    found.marks = _marks(chunk.source, frame, layout, format)
    return found


def _marks(source: str, frame: Any, layout: Layout, format: TableFormat) -> Marks | None:
    """Returns the decimal marks of rows, if neither options nor the first rows of the file decide them."""
    if layout.separator == "," or format.point or format.commas:
        return None
    points = (cells.grouped_points(frame[name]) for name in frame.columns)
    return Marks(source, frame.attrs["format"].commas, next(filter(None, points), ""))


def _without_long_rows(text: str, layout: Layout) -> tuple[str, dict[int, str]]:
    """Returns rows without those that have more cells than the header, and why they are rejected, by place from 0."""
    kept: list[str] = []
    rejected: dict[int, str] = {}
    width, mark = len(layout.names), layout.separator
    quoting = csv.QUOTE_MINIMAL if layout.quotes else csv.QUOTE_NONE
    lines = io.StringIO(text, newline="")
    for place, row in enumerate(csv.reader(lines, delimiter=mark, quoting=quoting)):  # type: ignore[arg-type]
        if len(row) > width:
            rejected[place] = f"has {len(row)} cells; the header has {width}. Correct the row."
        else:
            kept.append(parsing.csv_line(row, mark) if layout.quotes else mark.join(row))
    return "".join(f"{line}\n" for line in kept), rejected


READER = Reader((".csv", ".tsv", ".csv.gz", ".tsv.gz"), chunks, rows)
