"""The folder next to the output that holds the answers of finished chunks until all are finished."""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import storage
from zoo._version import __version__
from zoo.errors import UsageError
from zoo.export.bulk.chunks import Chunk, printable

if TYPE_CHECKING:
    from zoo.export.bulk.predictor import Answered

_MANIFEST = "manifest.json"


def folder_of(output: Path) -> Path:
    """Returns the folder of the parts of an output."""
    return output.with_name(f"{output.name}.parts")


def rejected_file(output: Path) -> Path:
    """Returns the file that gets the rows without an answer.

    Example:
        >>> rejected_file(Path("answers.csv"))
        PosixPath('answers.csv.rejected.jsonl')
    """
    return output.with_name(f"{output.name}.rejected.jsonl")


def write(folder: Path, chunk: Chunk, content: bytes, found: Answered) -> dict[str, Any]:
    """Writes the answers of a chunk, then its record, each whole or not at all; returns the record.

    Nothing waits for the disk, which would take longer than small chunks: `Parts.record` notices what a power failure lost.
    """
    place = _place(folder, chunk.number)
    with storage.replacing(place.with_suffix(".part"), sync=False) as temporary:
        temporary.write_bytes(content)
    record = {
        "chunk": chunk.digest,
        "part": _hash(content),
        "answered": found.table.num_rows,
        "rejected": [dataclasses.asdict(fault) for fault in found.rejected],
        "unknown": [list(entry) for entry in found.unknown],
        "unused": [printable(name) for name in found.unused],
        "marks": None if found.marks is None else [printable(part) for part in found.marks],
    }
    with storage.replacing(place.with_suffix(".json"), sync=False) as temporary:
        temporary.write_text(json.dumps(record, ensure_ascii=False), encoding="utf-8")
    return record


def _hash(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _place(folder: Path, number: int) -> Path:
    return folder / f"{number:08d}"


class Parts:
    """The parts of an output, of this run and of earlier ones that were interrupted.

    Args:
        output: the output.
        manifest: what the answers depend on, by name for messages.

    Raises:
        UsageError: another process writes the output, or the parts belong to another call.
    """

    def __init__(self, output: Path, manifest: Mapping[str, Any]) -> None:
        self.folder = folder_of(output)
        self.folder.mkdir(exist_ok=True)
        self._lock = os.open(self.folder / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise UsageError(f"Another process writes {output} now. Wait for it, or pass another --output.") from error
        storage.remove_leftovers(self.folder)
        wanted = {"zoo": __version__, **manifest}
        file = self.folder / _MANIFEST
        try:
            if file.is_file() and self._has_records():
                self._compare(storage.read_json(file), wanted, output)
            else:
                storage.write_json(file, wanted)
        except BaseException:
            self.close()
            raise

    def _has_records(self) -> bool:
        return any(file.stem.isdecimal() for file in self.folder.glob("*.json"))

    def _compare(self, held: Mapping[str, Any], wanted: Mapping[str, Any], output: Path) -> None:
        for name, value in wanted.items():
            if held.get(name) != value:
                raise UsageError(
                    f"{self.folder} holds the beginning of other predictions: {name.replace('_', ' ')} was "
                    f"{_shown(held.get(name))}, and is {_shown(value)} now. Call the same command as before to go on, remove "
                    f"the folder to start again, or pass another --output than {output.name}."
                )

    def record(self, number: int) -> dict[str, Any] | None:
        """Returns the record of a finished chunk; None for one that is not finished, or whose answers are damaged."""
        place = _place(self.folder, number)
        try:
            found = storage.read_json(place.with_suffix(".json"))
            is_whole = _hash(place.with_suffix(".part").read_bytes()) == found["part"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return dict(found) if is_whole else None

    def contents(self, records: Mapping[int, Mapping[str, Any]]) -> Iterator[bytes]:
        """Yields the bytes of the parts in order.

        Raises:
            UsageError: a part was changed.
        """
        for number, record in sorted(records.items()):
            file = _place(self.folder, number).with_suffix(".part")
            content = file.read_bytes() if file.is_file() else b""
            if _hash(content) != record["part"]:
                raise UsageError(f"{file} was changed. Remove the folder {self.folder} to start again.")
            yield content

    def remove(self) -> None:
        """Removes the folder, after the output was written."""
        storage.remove_tree(self.folder)

    def close(self) -> None:
        """Lets another process write the output. A folder in which no chunk is finished is removed."""
        if self.folder.is_dir() and not self._has_records():
            storage.remove_tree(self.folder)
        os.close(self._lock)


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


_LONGEST = 80
