"""Documents for language models: a text file, or a folder of text files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from zoo.datasets.data import Data
from zoo.datasets.sources.files import read_text
from zoo.datasets.sources.in_memory import Rows, texts
from zoo.datasets.sources.registry import register_source
from zoo.datasets.sources.splitting import digest, divide, duplicates
from zoo.errors import UsageError, did_you_mean

_SHARES = (0.9, 0.05, 0.05)
_NEAR = 50
"""A text is cut at a line break if one is nearer to the mark than this part of its length."""
_ENOUGH = 100
"""Documents from which on whole documents are divided among the splits; fewer are cut themselves."""


@register_source("documents")
def read_documents(name: str, path: Path, memory_limit: int) -> Data:
    """Reads texts for text generation: a UTF-8 file, or a folder with files *.txt, also in its folders.

    A hash of their content divides many documents 90/5/5. Of fewer than 100, each is cut at line breaks or spaces: its first
    90 % are the training text, and the rest is halved.

    Args:
        name: the name that `load` was called with.
        path: the file or folder.
        memory_limit: see `zoo.datasets.load`.

    Raises:
        UsageError: the file or folder is missing, holds no text or too little, or a file is not UTF-8.
    """
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*.txt") if file.is_file())
    if not files:
        others = [p.name for p in path.parent.glob("*")] if path.parent.is_dir() else []
        near = "" if path.exists() or not others else f" {did_you_mean(path.name, others)}"
        what = "holds no *.txt files" if path.is_dir() else "is not a file or folder"
        raise UsageError(f"{path} {what}.{near} Pass a UTF-8 text file, or a folder of *.txt files.")
    contents = [read_text(file) for file in files]
    kept = [content for content in contents if content.strip()]
    if len(kept) >= _ENOUGH:
        digests = [digest(content) for content in kept]
        parts = divide(digests, shares=_SHARES)
    else:
        pieces = [(part, piece) for content in kept for part, piece in enumerate(_cut(content)) if piece.strip()]
        kept = [piece for _, piece in pieces]
        digests, parts = [digest(piece) for piece in kept], np.array([part for part, _ in pieces], np.int64)
    if len(set(parts.tolist())) < len(_SHARES):
        raise UsageError(
            f"{path} has too little text for a training, a validation and a test split. Pass a text of several lines."
        )
    empty = len(contents) - sum(1 for content in contents if content.strip())
    rows = Rows(
        tasks=("text_generation",),
        columns={"text": texts(kept)},
        digests=digests,
        parts=parts,
        about={"left_out": {"empty files": empty} if empty else {}, "duplicates": duplicates(digests)},
    )
    kind = "file" if path.is_file() else "folder"
    return rows.to_data(name, {}, f"documents in the {kind} {path.name}", memory_limit)


def _cut(text: str) -> list[str]:
    """Returns the training, the validation and the test part of a text, which end at line breaks.

    Example:
        >>> [len(part) for part in _cut("line\\n" * 100)]
        [450, 25, 25]
    """
    parts, start = [], 0
    for share in np.cumsum(_SHARES)[:-1]:
        mark = round(share * len(text))
        nearest = max(start, mark - len(text) // _NEAR)
        # The last line break before the mark, unless that would cut off much: then the last space.
        found = (text.rfind(border, nearest, mark) + 1 for border in ("\n", " "))
        end = next((place for place in found if place > start), mark)
        parts.append(text[start:end])
        start = end
    return [*parts, text[start:]]
