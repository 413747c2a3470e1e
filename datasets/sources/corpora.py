"""Texts to search, from the user's files: every text keeps its place and its id. No split is made."""

from __future__ import annotations

from pathlib import Path

from zoo.datasets.preprocessing.sentences import Corpus
from zoo.datasets.sources import csv_files
from zoo.datasets.sources.files import read_text
from zoo.errors import UsageError, one_line

_FORMS = "lines:FILE, a text on each line, or csv:FILE with the columns id and text"


def read_corpus(name: str) -> Corpus:
    """Reads the texts to search.

    Args:
        name: `lines:FILE`, UTF-8 with one text per line, whose id is the number of the line, from 1; empty lines are left
            out. Or `csv:FILE` with the columns `id` and `text`.

    Raises:
        UsageError: the name has another form; the file is missing, is not UTF-8 or has no text; a column is missing; an id is
            blank or occurs twice.

    Example:
        >>> read_corpus("lines:faq.txt").ids[:2]
        ('1', '2')
    """
    kind, _, path = name.partition(":")
    if kind not in ("lines", "csv") or not path:
        raise UsageError(f"The corpus is {name!r}; expected {_FORMS}. Pass lines:texts.txt, say.")
    file = Path(path).expanduser()
    if not file.is_file():
        raise UsageError(f"{file} is not a file, so there is no corpus. Pass {_FORMS}.")
    pairs = _lines(file) if kind == "lines" else _rows(file)
    kept = [(number, shown) for number, text in pairs if (shown := " ".join(text.replace("\0", " ").split()))]
    if not kept:
        raise UsageError(f"{file} has no text. Pass a file with texts to search.")
    ids, texts = zip(*kept, strict=True)
    return Corpus(f"{kind}:{file.name}", ids, texts)


def _lines(file: Path) -> list[tuple[str, str]]:
    return [(str(number), line) for number, line in enumerate(read_text(file).split("\n"), 1)]


def _rows(file: Path) -> list[tuple[str, str]]:
    frame, _ = csv_files.read(file)
    missing = [column for column in ("id", "text") if column not in frame]
    if missing:
        raise UsageError(
            f"{file} has the columns {', '.join(map(str, frame.columns))}; expected id and text. Rename the columns."
        )
    ids = [" ".join(str(cell).split()) for cell in frame["id"].fillna("")]
    seen: set[str] = set()
    for row, each in zip(frame.index, ids, strict=True):
        if not each or each in seen:
            what = f"the id {one_line(ValueError(each), 60)!r} a second time" if each else "no id"
            raise UsageError(f"{file} row {row + 1} has {what}; expected an id of its own for each text. Correct it.")
        seen.add(each)
    return list(zip(ids, map(str, frame["text"].fillna("")), strict=True))
