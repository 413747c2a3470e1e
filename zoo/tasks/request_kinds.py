"""The kinds of raw inputs that come with this package."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo import storage
from zoo.errors import UsageError
from zoo.tables.formats import TableFormat
from zoo.tasks import request_measures as measures
from zoo.tasks.kinds import RequestKind, register_request_kind
from zoo.tasks.row_files import read_columns, read_rows
from zoo.tasks.series_files import read_series, read_several

_LARGEST_FILE = 1 << 30
"""Maximum bytes of a file."""


def _read_file(file: Any, entry: Mapping[str, Any]) -> bytes:
    try:
        return storage.read_bytes(Path(file), _LARGEST_FILE)
    except OSError as error:
        raise UsageError(f"Cannot read {file}: {error.strerror}. Pass a file.") from error


def _read_text(file: Any) -> str:
    """Returns the text of a file, with line breaks as in training."""
    try:
        return _read_file(file, {}).decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not UTF-8 at byte {error.start}. Convert it to UTF-8.") from error


def _read_series(file: Any, entry: Mapping[str, Any], format: TableFormat) -> Any:
    return read_series(Path(file), entry.get("columns", {}), format)


def _read_several(file: Any, entry: Mapping[str, Any], format: TableFormat) -> Any:
    return read_several(Path(file), entry.get("columns", {}), format)


def _read_ids(text: Any, entry: Mapping[str, Any]) -> list[bytes]:
    """Returns ids that a command line separates by commas."""
    return [part.strip().encode("utf-8", "surrogateescape") for part in str(text).split(",")]


def _read_texts(text: Any, entry: Mapping[str, Any]) -> list[bytes]:
    """Returns texts that a command line separates by line breaks; \\n is a line break in a text."""
    return [part.replace("\\n", "\n").encode("utf-8", "surrogateescape") for part in str(text).split("\n")]


for _name, _kind in {
    "file": RequestKind(
        "FILE",
        "the bytes of a whole file",
        is_path=True,
        is_bytes=True,
        path="/path/to/image.png",
        suffixes=(".png", ".jpg", ".jpeg", ".bmp", ".gif"),
        media=("image/*", "application/octet-stream"),
        read=_read_file,
        measure=measures.of_image,
    ),
    "id": RequestKind("ID", "a string that is looked up unchanged", media=("text/plain",), measure=measures.of_value),
    "ids": RequestKind("ID,ID", "strings that are looked up unchanged", read=_read_ids, measure=measures.of_ids),
    "number": RequestKind("NUMBER", "numbers of any shape, for requests from programs", measure=measures.of_numbers),
    "series": RequestKind(
        "FILE.csv",
        "numbers, one row per step",
        is_path=True,
        suffixes=(".csv", ".tsv"),
        media=("text/csv",),
        read=_read_series,
        has_format=True,
        read_items=_read_several,
        measure=measures.of_series,
    ),
    "record": RequestKind(
        "RECORD",
        "a serialized tf.Example",
        is_bytes=True,
        path="/path/to/record",
        media=("application/octet-stream",),
    ),
    "text": RequestKind(
        '"a text"',
        "text in UTF-8",
        suffixes=(".txt",),
        media=("text/plain", "text/csv"),
        open=_read_text,
        measure=measures.of_text,
    ),
    "texts": RequestKind("TEXT", "texts, each in a line of its own", read=_read_texts),
    "value": RequestKind(
        "ROWS.csv",
        "the value of a column",
        media=("text/csv",),
        read_rows=read_rows,
        read_columns=read_columns,
        measure=measures.of_value,
    ),
}.items():
    register_request_kind(_name, _kind)
