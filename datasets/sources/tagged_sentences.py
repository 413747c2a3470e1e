"""Tagged sentences from files of any form, which become a data set for tagging."""

from __future__ import annotations

import codecs
import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo import storage
from zoo.datasets.data import Data
from zoo.datasets.sources.in_memory import Rows, texts
from zoo.datasets.sources.labels import check_classes, numbered, unified
from zoo.datasets.sources.splitting import digest, duplicates
from zoo.errors import UsageError, did_you_mean, printable

_LARGEST = 4 << 30
"""Maximum bytes of a file, which is held in memory."""


@dataclasses.dataclass
class Sentences:
    """The sentences of a file.

    Attributes:
        path: the file.
        tokens: the words of each.
        tags: their tags.
        texts: the text of each, "" if the file does not have it.
        left_out: number of sentences with a word that has no tag.
    """

    path: Path
    tokens: list[list[str]] = dataclasses.field(default_factory=list)
    tags: list[list[str]] = dataclasses.field(default_factory=list)
    texts: list[str] = dataclasses.field(default_factory=list)
    left_out: int = 0

    def add(self, words: Sequence[tuple[str, str]], text: str = "") -> None:
        """Adds a sentence of (word, tag) pairs; an empty tag is missing. Nothing is added without words."""
        if not words:
            return
        if not all(tag for _, tag in words):
            self.left_out += 1
            return
        self.tokens.append([token for token, _ in words])
        self.tags.append([unified(tag) for _, tag in words])
        self.texts.append(text)


def given_files(path: Path, validation: str | None, test: str | None) -> dict[str, Path]:
    """Returns the file of every split. Those of the other splits are named from the folder of the first."""
    others = (("validation", validation), ("test", test))
    return {"train": path, **{role: path.parent / Path(file).expanduser() for role, file in others if file}}


def decode(path: Path, encoding: str | None, usage: str) -> str:
    """Returns the text of a file with line breaks as \\n. A byte order mark is removed.

    Raises:
        UsageError: the file is missing or has another encoding, or the encoding is unknown.
    """
    codec = encoding or "utf-8-sig"
    try:
        codecs.lookup(codec)
    except LookupError as error:
        raise UsageError(
            f"encoding is {encoding!r}, which is no codec of Python. Pass latin-1, say, or leave it out."
        ) from error
    try:
        content = storage.read_bytes(path, _LARGEST)
    except OSError as error:
        near = [p.name for p in path.parent.iterdir() if p.is_file()] if path.parent.is_dir() else []
        hint = did_you_mean(path.name, near) if near else ""
        raise UsageError(f"Cannot read {printable(str(path))}: {error.strerror}. {hint} Pass {usage}.") from error
    try:
        return content.decode(codec).replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UsageError(
            f"{printable(str(path))} line {line} is not {encoding or 'UTF-8'}. Convert the file, or pass "
            "--data.encoding latin-1, say."
        ) from error


def to_data(
    parts: Mapping[str, Sentences],
    name: str,
    arguments: Mapping[str, Any],
    files: Mapping[str, Path],
    memory_limit: int,
    notes: Sequence[str] = (),
) -> Data:
    """Returns the data set of the sentences of one file, or of a file for each split. `notes` are lines for the user.

    Raises:
        UsageError: a file has no sentence, there is only one tag, or there are too few sentences to split.
    """
    for part in parts.values():
        if not part.tokens:
            held = f": {part.left_out} have a word without a tag" if part.left_out else ""
            raise UsageError(f"{part.path} has no sentence with all its tags{held}. Choose another column or file.")
    tokens = [row for part in parts.values() for row in part.tokens]
    tags = [row for part in parts.values() for row in part.tags]
    classes = tuple(sorted({tag for row in tags for tag in row}))
    check_classes(str(parts["train"].path), classes)
    columns: dict[str, Any] = {
        "tokens": [texts(row) for row in tokens],
        "tags": [numbered(row, classes) for row in tags],
    }
    written = [text for part in parts.values() for text in part.texts]
    if any(written):
        columns["text"] = texts(written)
    digests = [digest(*row) for row in tokens]
    left_out = sum(part.left_out for part in parts.values())
    given = [role for role, part in parts.items() for _ in part.tokens] if len(parts) > 1 else None
    rows = Rows(
        tasks=("tagging",),
        columns=columns,
        digests=digests,
        given=given,
        class_names=classes,
        about={
            "left_out": {"sentences with a word that has no tag": left_out} if left_out else {},
            "duplicates": duplicates(digests),
            "notes": list(notes),
        },
    )
    sha256 = hashlib.sha256(b"".join(digest(*row) for row in (*tokens, *tags))).hexdigest()
    listed = " and ".join(file.name if role == "train" else f"{file.name} ({role})" for role, file in files.items())
    return rows.to_data(name, arguments, f"file {listed} (SHA-256 of its sentences {sha256[:16]})", memory_limit)


def check_tags(where: str, tokens: Sequence[Any], tags: Sequence[Any]) -> None:
    """Raises UsageError if a sentence has another number of tags than words."""
    if len(tokens) != len(tags):
        raise UsageError(
            f"{where} has {len(tokens)} words and {len(tags)} tags; expected a tag for every word. Correct it."
        )
