"""What the layouts of CSV files share: splits, labels, and rows that belong together."""

from __future__ import annotations

import re

import numpy as np

from zoo.datasets.sources.csv_files import Table
from zoo.datasets.sources.labels import SPLIT_NAMES, check_classes
from zoo.errors import UsageError, did_you_mean

_MANY = 50
"""More labels than this that are numbers, some with fractions, are measurements."""
_FEW = 20
"""Up to this number of rows, nearly as many labels as rows are no mistake."""


def splits_of(table: Table, picked: list[int] | None = None) -> list[str] | None:
    """Returns the split of every row, or of the picked rows; None without a split column."""
    if "split" not in table:
        return None
    cells = table.text("split")
    for row, cell in zip(table.frame.index, cells, strict=True):
        if cell.strip().lower() not in SPLIT_NAMES:
            raise UsageError(
                f"{table.path} row {row + 1}: the split is {cell!r}. {did_you_mean(cell.strip().lower(), SPLIT_NAMES)}"
            )
    found = [SPLIT_NAMES[cell.strip().lower()] for cell in cells]
    return found if picked is None else [found[i] for i in picked]


def classes_of(table: Table, labels: list[str]) -> tuple[str, ...]:
    """Returns the classes of a column of labels, sorted.

    Raises:
        UsageError: there are fewer than two, or so many that they are texts or measurements.
    """
    classes = tuple(sorted(set(labels)))
    (column,) = table.columns["label"]
    check_classes(f"{table.path} column {column}", classes)
    if len(labels) > _FEW and 2 * len(classes) > len(labels):
        raise UsageError(
            f"{table.path} column {column} has {len(classes):,} different labels in {len(labels):,} rows, {labels[0]!r} for "
            "example; expected several rows of every label. Choose another column as label."
        )
    fractions = [label for label in classes if re.fullmatch(r"[+-]?\d*[.,]\d+", label)]
    whole = [label for label in classes if re.fullmatch(r"[+-]?\d+", label)]
    if len(classes) > _MANY and fractions and len(fractions) + len(whole) == len(classes):
        raise UsageError(
            f"{table.path} column {column} has {len(classes):,} different numbers, {fractions[0]!r} for example, which would "
            "be as many classes. Choose another column as label, or put the numbers into a few named ranges."
        )
    return classes


def sequences_of(table: Table, key: str) -> list[np.ndarray]:
    """Returns the positions of the rows of every sequence, in the order of the file.

    Raises:
        UsageError: the rows of a sequence are not contiguous.
    """
    ids = table.text(key)
    parts: dict[str, list[int]] = {}
    for position, current in enumerate(ids):
        if current in parts and ids[position - 1] != current:
            raise UsageError(
                f"{table.path} row {table.frame.index[position] + 1}: the rows of {key} {current!r} are not contiguous. "
                "Give every sequence a unique id, and put its rows together."
            )
        parts.setdefault(current, []).append(position)
    return [np.array(positions) for positions in parts.values()]
