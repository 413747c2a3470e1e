"""The file formats of a bulk prediction, one file each, found by scanning: divided in one process, read in others."""

from __future__ import annotations

import dataclasses
import functools
import gzip
import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, cast

from zoo.export.bulk.chunks import Chunk, Limits, Rows, Served
from zoo.tables.formats import TableFormat


@dataclasses.dataclass(frozen=True)
class Reader:
    """A file format.

    Attributes:
        suffixes: endings of the names of its files, small letters; empty for files that hold one example each.
        chunks: divides a file, without TensorFlow; raises UsageError for a file that does not fit to the model.
        rows: reads a chunk in a process that has loaded the SavedModel; its second argument is a `LoadedModel`.
    """

    suffixes: tuple[str, ...]
    chunks: Callable[[Path, Served, TableFormat, Limits], Iterator[Chunk]]
    rows: Callable[[Chunk, Any, Served], Rows]


@functools.cache
def readers() -> Mapping[str, Reader]:
    """Returns the formats by the name of their file."""
    modules = [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
    return {module.__name__.rpartition(".")[2]: module.READER for module in modules}


def format_of(path: Path) -> str | None:
    """Returns the name of the format of a file with several examples, by its name; None for another file."""
    name = path.name.lower()
    return next((key for key, reader in readers().items() if name.endswith(reader.suffixes or ("\0",))), None)


def opened(path: Path) -> IO[bytes]:
    """Opens a file, unpacked if gzip has compressed it; its first bytes say so, whatever its name."""
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
    return cast("IO[bytes]", gzip.open(path)) if packed else path.open("rb")


def all_suffixes() -> list[str]:
    """Returns the endings of the names of files with several examples."""
    return [suffix for reader in readers().values() for suffix in reader.suffixes]
