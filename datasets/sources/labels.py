"""Names of splits and classes in the user's own files."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

import numpy as np

from zoo.datasets.sources.splitting import is_undivided
from zoo.errors import UsageError, printable

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
"""Accepted names of splits, and the split that each means."""

_ASIDE = ("set", "data", "dataset", "image", "images", "text", "texts", "file", "files", "split", "seg")


def split_role(folder: str) -> str | None:
    """Returns the split that the name of a folder means, or None.

    Example:
        >>> split_role("training_set"), split_role("Test Images"), split_role("trains")
        ('train', 'test', None)
    """
    words = [word.removesuffix("set") for word in re.findall("[a-z]+", folder.lower())]
    words = [word for word in words if word and word not in _ASIDE]
    return SPLIT_NAMES.get(words[0]) if len(words) == 1 else None


def unified(label: str) -> str:
    """Returns a label in Unicode's composed form (NFC): macOS writes an umlaut as two characters, other systems as one.

    Example:
        >>> unified("u\u0308") == "\u00fc"
        True
    """
    return unicodedata.normalize("NFC", label)


def numbered(labels: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """Returns the number of every label among the classes, int64.

    Example:
        >>> numbered(["b", "a"], ["a", "b"]).tolist()
        [1, 0]
    """
    numbers = {label: number for number, label in enumerate(classes)}
    return np.array([numbers[label] for label in labels], np.int64)


def rarest(flags: np.ndarray) -> np.ndarray:
    """Returns the number of each example's rarest label, int64 (examples,); -1 for an example without labels.

    Args:
        flags: 0 or 1, (examples, labels).

    Example:
        >>> rarest(np.array([[1, 0], [1, 1], [0, 0]])).tolist()
        [0, 1, -1]
    """
    counts = np.where(flags > 0, flags.sum(axis=0), np.inf)
    return np.where(flags.any(axis=1), counts.argmin(axis=1), -1)


def check_classes(where: str, classes: Sequence[str]) -> None:
    """Checks that there are at least two classes, and that their names can be lines of labels.txt and can be told apart.

    Raises:
        UsageError: there are fewer than two classes, a name is blank, has a line break or is not UTF-8, or two names differ
            only in invisible characters.
    """
    if len(classes) < 2 and not (classes and is_undivided()):
        held = f"only one class, {classes[0]!r}" if classes else "no class"
        raise UsageError(f"{where} has {held}; expected two or more. Choose another column or folder.")
    for name in classes:
        if not name.strip() or "\n" in name or "\r" in name:
            raise UsageError(
                f"{where} has the class {name!r}; expected names that are not blank and have no line break. Rename it."
            )
        if any("\ud800" <= letter <= "\udfff" for letter in name):
            raise UsageError(f"{where} has the class '{printable(name)}', which is not UTF-8. Rename it.")
    seen: dict[str, str] = {}
    for name in classes:
        # Marks of direction are invisible, except those that join letters (U+200C, U+200D), and all spaces look alike.
        visible = "".join(c for c in unified(name) if unicodedata.category(c) != "Cf" or c in "\u200c\u200d")
        other = seen.setdefault(" ".join(visible.split()), name)
        if other != name:
            raise UsageError(
                f"{where} has the classes {other!a} and {name!a}, which look alike. Give them one name, or names "
                "that differ visibly."
            )
