"""Names of splits and classes in the user's own files."""

from __future__ import annotations

import contextlib
import contextvars
import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence

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

_NO_ACCIDENT = 5
"""If a split should have this many examples of a class by its share of train, and has none, this is no accident."""

_FREQUENT = 10
"""Training examples of a class from which on a split with a tenth of the examples should have one."""
_MOST_NAMED = 3

_OUT_OF_SCOPE: contextvars.ContextVar[str | None] = contextvars.ContextVar("out_of_scope", default=None)

_ASIDE = ("set", "data", "dataset", "image", "images", "text", "texts", "file", "files", "split", "seg")


@contextlib.contextmanager
def leaving_out(label: str | None) -> Iterator[None]:
    """Loads data of which a label is out of scope: in the block, splits may lack this label.

    Example:
        >>> with leaving_out("oos"):
        ...     data = zoo.datasets.load("csv:intents.csv")
    """
    token = _OUT_OF_SCOPE.set(label)
    try:
        yield
    finally:
        _OUT_OF_SCOPE.reset(token)


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


def count_classes(
    name: str, labels: Mapping[str, np.ndarray], class_names: Sequence[str], given: Collection[str]
) -> dict[str, list[int]]:
    """Returns the number of examples of each class, by split.

    Args:
        name: name of the data set, for messages.
        labels: of the examples of each split, class numbers (examples,), or 0 or 1 for each label (examples, labels).
        class_names: the labels.
        given: the splits that the source gives; the others are cut from train.

    A label that is out of scope may be missing anywhere.

    Raises:
        UsageError: train lacks a class, or a given split lacks one by no accident.
    """
    several = labels["train"].ndim > 1
    counts = {
        role: part.sum(axis=0).astype(np.int64) if several else np.bincount(part, minlength=len(class_names))
        for role, part in labels.items()
    }
    train, needed = counts["train"], np.array([label != _OUT_OF_SCOPE.get() for label in class_names])
    if not train[needed].all() and (given or several or np.count_nonzero(train) < 2):
        lacking = int(np.flatnonzero((train == 0) & needed)[0])
        held = {role: int(count[lacking]) for role, count in counts.items()}
        raise UsageError(
            f"Data set {name!r} has no training example of the class {class_names[lacking]!r}: {held}. Move some of "
            "its examples to train, or remove the class."
        )
    for number, label in enumerate(class_names):
        for role in sorted({*given} - {"train"}):
            expected = train[number] / len(labels["train"]) * len(labels[role])
            if needed[number] and not counts[role][number] and expected >= _NO_ACCIDENT:
                raise UsageError(
                    f"Data set {name!r} has {train[number]:,} training examples of the class {label!r} and none in "
                    f"{role}, where about {expected:.0f} are expected. Move some of them there; if {label!r} means "
                    "examples without a label, remove it."
                )
    return {role: count.tolist() for role, count in counts.items()}


def note_on_lacking(
    counts: Mapping[str, Sequence[int]], class_names: Sequence[str], given: Collection[str]
) -> list[str]:
    """Returns a sentence if frequent classes have no example in a split that was cut from train, and one if rare classes
    have none.

    Args:
        counts: the number of examples of each class, by split.
        class_names: the labels.
        given: the splits that the source gives.

    Example:
        >>> note_on_lacking({"train": [12, 40], "validation": [0, 5], "test": [1, 5]}, ["hello", "bye"], ())[0][:58]
        "Frequent classes without an example: 'hello' (12 in train,"
    """
    frequent: list[str] = []
    rare: list[str] = []
    for number, label in enumerate(class_names):
        roles = [role for role in counts if role not in given and not counts[role][number]]
        if roles and "train" not in roles and label != _OUT_OF_SCOPE.get():
            count = counts["train"][number]
            found = frequent if count >= _FREQUENT else rare
            found.append(f"{printable(label)!r} ({count:,} in train, none in {' or '.join(roles)})")
    notes = []
    if frequent:
        notes.append(
            f"Frequent classes without an example: {_first(frequent)}. Equal examples stay in one split: add examples that "
            "differ, or give a validation and a test split."
        )
    if rare:
        notes.append(
            f"Classes that are too rare to be measured: {_first(rare)}. Add examples of them, or leave these classes out."
        )
    return notes


def _first(found: Sequence[str]) -> str:
    more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
    return f"{', '.join(found[:_MOST_NAMED])}{more}"
