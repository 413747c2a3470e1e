"""Names of splits and classes in the user's own files."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from zoo.errors import UsageError

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


def numbered(labels: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """Returns the number of every label among the classes, int64.

    Example:
        >>> numbered(["b", "a"], ["a", "b"]).tolist()
        [1, 0]
    """
    numbers = {label: number for number, label in enumerate(classes)}
    return np.array([numbers[label] for label in labels], np.int64)


def check_classes(where: str, classes: Sequence[str]) -> None:
    """Checks that there are at least two classes, and that their names can be lines of labels.txt.

    Raises:
        UsageError: there are fewer than two classes, or a name is blank or has a line break.
    """
    if len(classes) < 2:
        raise UsageError(
            f"{where} has only one class, {classes[0]!r}; expected two or more. Choose another column or folder."
        )
    for name in classes:
        if not name.strip() or "\n" in name or "\r" in name:
            raise UsageError(
                f"{where} has the class {name!r}; expected names that are not blank and have no line break. Rename it."
            )
