"""The inputs of a bulk prediction: folders and files, in order, and their chunks."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo.errors import UsageError, did_you_mean
from zoo.export.bulk.chunks import Chunk, Limits, Served, printable
from zoo.export.bulk.formats import all_suffixes, format_of, readers, single_files
from zoo.tables import formats
from zoo.tables.formats import TableFormat


def check_exist(paths: Sequence[Path]) -> None:
    """Raises UsageError for a path that does not exist, with the nearest name."""
    for path in paths:
        if not path.exists():
            near = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
            hint = did_you_mean(path.name, near, listing=f"ls {path.parent}") if near else ""
            raise UsageError(
                f"The input {path} does not exist. {hint} Pass files or folders; texts only without --output."
            )


class Inputs:
    """Folders and files that a signature predicts for.

    Args:
        paths: the folders and files, in order.
        served: the signature.
        options: options of CSV files.
        limits: the sizes of chunks.

    Raises:
        UsageError: a folder has no file for the model, or a file is of another kind.
    """

    def __init__(self, paths: Sequence[Path], served: Served, options: Mapping[str, Any], limits: Limits) -> None:
        self._served, self._limits = served, limits
        self._format = _table_format(served, options)
        self._groups: list[tuple[str, list[Path]]] = []
        for path in paths:
            for name, file in self._found(path):
                if name == "single_files" and self._groups and self._groups[-1][0] == name:
                    self._groups[-1][1].append(file)
                else:
                    self._groups.append((name, [file]))

    @property
    def total(self) -> float:
        """The weight of all chunks: bytes of files with several examples, and files with one."""
        sizes = [len(files) if name == "single_files" else sum(map(_size, files)) for name, files in self._groups]
        return float(sum(sizes))

    def check_output(self, output: Path) -> None:
        """Raises UsageError if a file that is written to is one of the inputs."""
        if not output.exists():
            return
        known = output.stat()
        for file in (file for _, group in self._groups for file in group):
            if os.path.samestat(file.stat(), known):
                raise UsageError(
                    f"The output {output} is also an input, {file}, and would replace it. Pass another --output, outside of "
                    "the folders of the inputs."
                )

    @property
    def fingerprint(self) -> dict[str, Any]:
        """The names and sizes of the files, as a number and a hash; chunks have hashes of their contents."""
        files = [file for _, group in self._groups for file in group]
        found = hashlib.blake2b(digest_size=16)
        for file in files:
            found.update(f"{file} {file.stat().st_size}\n".encode("utf-8", "surrogateescape"))
        return {"files": len(files), "first": printable(str(files[0])), "names_and_sizes": found.hexdigest()}

    def chunks(self) -> Iterator[Chunk]:
        """Yields the chunks of all inputs, numbered."""
        number = 0
        for name, files in self._groups:
            arguments = (self._served, self._format, self._limits)
            if name == "single_files":
                found = single_files.chunks_of(files, *arguments)
            else:
                found = readers()[name].chunks(files[0], *arguments)
            for chunk in found:
                yield dataclasses.replace(chunk, number=number)
                number += 1

    def _found(self, path: Path) -> Iterator[tuple[str, Path]]:
        """Yields the files of a path with the names of their formats."""
        kinds = self._served.kinds
        own = kinds[0].suffixes if len(self._served.needed) == 1 and not self._served.are_columns else ()
        if not path.is_dir():
            yield self._format_of(path, own), path
            return
        files = [file for file in sorted(path.rglob("*")) if file.is_file() and not _is_hidden(file, path)]
        singles = [file for file in files if own and file.name.lower().endswith(own)]
        tables = [file for file in files if format_of(file) is not None]
        if singles:
            yield from (("single_files", file) for file in singles)
        elif tables:
            yield from ((str(format_of(file)), file) for file in tables)
        else:
            wanted = ", ".join([*own, *all_suffixes()])
            raise UsageError(f"The folder {path} has no file for {self._served.takes}. Pass one with {wanted} files.")

    def _format_of(self, path: Path, own: Sequence[str]) -> str:
        name = path.name.lower()
        if own and name.endswith(tuple(own)):
            return "single_files"
        if (found := format_of(path)) is not None:
            return found
        wanted = ", ".join([*own, *all_suffixes()])
        raise UsageError(f"{path} has no known ending for {self._served.takes}. Pass files with {wanted}.")


def _size(file: Path) -> int:
    """Returns the bytes of a file; of one that gzip has compressed, of its content, modulo 4 GiB."""
    if not file.name.lower().endswith(".gz"):
        return file.stat().st_size
    with file.open("rb") as packed:
        packed.seek(max(0, file.stat().st_size - 4))
        return int.from_bytes(packed.read(4), "little")


def _is_hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def _table_format(served: Served, options: Mapping[str, Any]) -> TableFormat:
    if unknown := [name for name in options if name not in formats.OPTIONS]:
        raise UsageError(f"predict takes no {unknown[0]}. {did_you_mean(unknown[0], formats.OPTIONS)}")
    written = served.data.get("format") if isinstance(served.data, Mapping) else None
    return formats.for_request(written if isinstance(written, Mapping) else None, options)
