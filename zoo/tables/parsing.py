"""Parses CSV, JSON and Parquet files: all cells are texts, and nothing is guessed that could be wrong without a word."""

from __future__ import annotations

import csv
import io
import itertools
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from zoo import storage
from zoo.errors import UsageError, did_you_mean, one_line
from zoo.tables import encodings, formats, frames, json_rows
from zoo.tables.formats import DEFAULT, TableFormat
from zoo.tables.headers import column_name

if TYPE_CHECKING:
    import pandas as pd


def read_bytes(path: Path) -> bytes:
    """Returns a file's content. A missing file is a UsageError that suggests similar names."""
    try:
        return storage.read_bytes(path, _LARGEST)
    except OSError as error:
        files = [p.name for p in path.parent.iterdir() if _SUFFIXES & {*p.suffixes}] if path.parent.is_dir() else []
        near = did_you_mean(path.name, files) if files else ""
        raise UsageError(f"Cannot read {path}: {error.strerror}. {near} Pass csv:FILE.") from error


_LARGEST = 4 << 30
"""Maximum bytes of a CSV file, which is held in memory, and of what gzip has compressed."""
_SUFFIXES = {".csv", ".tsv", ".parquet", ".json", ".jsonl"}


_GZIP, _PARQUET = b"\x1f\x8b", b"PAR1"
_PACKED = {b"PK": "an Excel or ZIP file", b"\xd0\xcf\x11\xe0": "an Excel file", b"BZh": "compressed with bzip2"}
_SEPARATORS = ",;\t|"


def parse(path: Path, content: bytes, *, header: bool = True, format: TableFormat = DEFAULT) -> pd.DataFrame:
    """Returns all cells as texts; missing words are empty. Duplicate column names and rows that are too long are errors,
    unlike in pandas.

    The content is CSV or JSON, perhaps compressed with gzip, or Parquet. `attrs` has the format of the table, see
    `formats.applied`, and the kinds of the columns of JSON and Parquet, see `frames.as_texts`. Without a header line, columns
    are named by their numbers from 0.
    """
    if content.startswith(_PARQUET):
        if not header:
            raise UsageError(
                f"{path} is Parquet, whose columns have names. Leave header=False (--data.header false) out."
            )
        return _of_parquet(path, content, format)
    content = _unpacked(path, content) if content.startswith(_GZIP) else content
    if json_rows.is_json(content[:1000].decode("utf-8", "replace").removeprefix("\ufeff")):
        if not header:
            raise UsageError(f"{path} is JSON, whose values have names. Leave header=False (--data.header false) out.")
        return json_rows.parse(path, encodings.decoded(path, content, format), format)
    text, found = _layout(path, content, header, format)
    frame = _frame(path, text, found._replace(quotes=_quotes(path, text, found.separator, len(found.names))), header)
    if frame.empty:
        raise UsageError(f"{path} has a header and no rows. Choose a file with rows.")
    return formats.applied(frame, format, found.separator)


class Layout(NamedTuple):
    """How a CSV file is written: the names of its columns, the mark between cells, and whether quotation marks enclose
    cells."""

    names: tuple[str, ...]
    separator: str
    quotes: bool = True


def layout(path: Path, head: bytes, format: TableFormat = DEFAULT) -> Layout:
    """Returns the layout of a CSV file from its first lines, for `parse_rows`.

    Args:
        path: the file, for messages.
        head: its first lines, whole ones, not compressed.
        format: how it writes numbers and missing values.

    Raises:
        UsageError: it is no CSV file, is empty, or two columns have one name.

    Example:
        >>> layout(Path("a.csv"), b"name;age\\nIda;39\\n").separator
        ';'
    """
    return _layout(path, head, True, format)[1]


def parse_rows(path: Path, rows: str, layout: Layout, format: TableFormat = DEFAULT) -> pd.DataFrame:
    """Returns some rows of a CSV file as `parse` does, without its header line.

    Raises:
        UsageError: a row has more cells than the header.
    """
    names = csv_line(layout.names, layout.separator) if layout.quotes else layout.separator.join(layout.names)
    return formats.applied(_frame(path, f"{names}\n{rows}", layout, True), format, layout.separator)


def csv_line(cells: Sequence[str], separator: str) -> str:
    """Returns a row of a CSV file without its line break."""
    line = io.StringIO()
    csv.writer(line, delimiter=separator, lineterminator="").writerow(cells)
    return line.getvalue()


def _layout(path: Path, content: bytes, header: bool, format: TableFormat) -> tuple[str, Layout]:
    text, separator = _text(path, content, format)
    separator = separator or _separator(text, format)
    names = [column_name(column.strip()) for column in next(_rows(text, separator), [])]
    names = names if header else [str(number) for number in range(len(names))]
    twice = sorted({column for column in names if names.count(column) > 1})
    if twice:
        raise UsageError(f"{path} has two columns named {twice[0]!r}. Rename one of them.")
    return text, Layout(tuple(names), separator)


def _frame(path: Path, text: str, layout: Layout, header: bool) -> pd.DataFrame:
    import pandas as pd

    try:
        frame = pd.read_csv(
            io.StringIO(text),
            sep=layout.separator,
            dtype=str,
            keep_default_na=False,
            na_filter=False,
            index_col=None,
            header=0 if header else None,
            skip_blank_lines=len(layout.names) > 1,  # in a file of one column an empty line is an empty cell
            quoting=csv.QUOTE_MINIMAL if layout.quotes else csv.QUOTE_NONE,
        )
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise UsageError(f"{path} cannot be read as CSV: {one_line(error, 200)} Correct that line.") from error
    if not isinstance(frame.index, pd.RangeIndex):
        raise UsageError(
            f"{path} has rows with more cells than its header, which has {len(layout.names)}. Correct the header."
        )
    frame.columns = pd.Index(layout.names)
    return frame.fillna("")


def _of_parquet(path: Path, content: bytes, format: TableFormat) -> pd.DataFrame:
    import pyarrow
    import pyarrow.parquet

    if format.encoding is not None and not format.inherited:
        raise UsageError(f"{path} is Parquet, which is UTF-8 and takes no encoding. Leave it out.")
    try:
        table = pyarrow.parquet.read_table(io.BytesIO(content))
        frame = table.to_pandas(integer_object_nulls=True)
    except (pyarrow.ArrowException, OSError) as error:
        raise UsageError(
            f"{path} cannot be read as Parquet: {one_line(error, 200)} Convert it again, or pass it as CSV."
        ) from error
    if frame.empty:
        raise UsageError(f"{path} has no rows. Choose a file with rows.")
    if any(frame.index.names):  # a named index of pandas is a column
        frame = frame.reset_index()
    return frames.as_texts(frame, str(path), format)


def _unpacked(path: Path, content: bytes) -> bytes:
    """Returns what gzip has compressed, possibly in several parts."""
    parts, size = [], 0
    try:
        while content:
            stream = zlib.decompressobj(wbits=31)
            parts.append(stream.decompress(content, _LARGEST - size + 1))
            size += len(parts[-1])
            if size > _LARGEST:
                raise UsageError(f"{path} holds more than {_LARGEST >> 30} GiB. Pass several smaller files.")
            if not stream.eof:
                raise zlib.error("it ends early")
            content = stream.unused_data.lstrip(b"\0")
    except zlib.error as error:
        raise UsageError(f"{path} is damaged: {one_line(error, 100)}. Replace it with the original file.") from error
    return b"".join(parts)


def _text(path: Path, content: bytes, format: TableFormat) -> tuple[str, str]:
    """Returns the file's text, with a line break at its end, and the separator that Excel's first line `sep=;` names."""
    for mark, what in _PACKED.items():
        if content.startswith(mark):
            raise UsageError(f"{path} is {what}. Unpack it, or save it as CSV UTF-8, and pass that file.")
    text = encodings.decoded(path, content, format)
    if "\n" not in text:
        text = text.replace("\r", "\n")  # the line breaks of old Macs
    if not text.strip():
        raise UsageError(f"{path} is empty. Choose a file with a header and rows.")
    if json_rows.is_json(text):
        raise UsageError(f"{path} holds JSON. Name it FILE.jsonl, or pass it as CSV.")
    named = re.match(r"(?i)sep=(.)\r?\n", text)
    return text[named.end() if named else 0 :].rstrip("\r\n") + "\n", named.group(1) if named else ""


def _separator(text: str, format: TableFormat) -> str:
    """Returns the mark that gives the first rows as many cells as the header; of several, the one with most cells. In a file
    of one column, a decimal comma is none."""

    def fits(mark: str) -> tuple[bool, int]:
        try:
            header, *rows = itertools.islice(_rows(text, mark), 20)
        except (csv.Error, ValueError):
            return False, 0
        alike = [len(row) == len(header) for row in rows if row]
        return len(header) > 1 and all(alike), len(header)

    best = max(_SEPARATORS, key=fits)
    return ";" if best == format.point and fits(best)[1] < 2 else best


def _rows(text: str, separator: str, *, strict: bool = False) -> Any:
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))
    return csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=strict)


def _quotes(path: Path, text: str, separator: str, width: int) -> bool:
    """Whether quotation marks enclose cells. If one is not closed, they are letters, as in many files separated by tabs;
    otherwise the rows up to the next mark would become one cell."""
    if '"' not in text:
        return True
    rows = _rows(text, separator, strict=True)
    last = 0
    try:
        for _ in rows:
            last = rows.line_num
    except csv.Error as error:
        if all(line.count(separator) == width - 1 for line in text.replace("\r\n", "\n").split("\n") if line):
            return False
        begun = last + 1
        where = f"in line {begun}" if begun >= rows.line_num else f"in the row that begins in line {begun}"
        raise UsageError(
            f"{path} has a quotation mark that is not closed, or letters after a closing one, {where}: {error}. Write two "
            "marks for one inside a cell, or correct that line."
        ) from error
    return True
