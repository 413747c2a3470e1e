"""The splits of arrays: those that are given, and those that are cut from the training examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from zoo.datasets.raw import SPLITS
from zoo.datasets.sources.in_memory import Column
from zoo.datasets.sources.splitting import SHARES, digest, divide, duplicates, is_undivided
from zoo.errors import UsageError


def digests_of(column: Column) -> list[bytes]:
    """Returns a hash of every example."""
    if isinstance(column, np.ndarray) and column.dtype == object:
        return [digest(value) for value in column]
    return [digest(*row) if row.dtype == object else digest(np.ascontiguousarray(row).tobytes()) for row in column]


def cut(digests: Mapping[str, Sequence[bytes]], strata: Any) -> dict[str, tuple[str, np.ndarray]]:
    """Returns, for each split, the argument that it comes from and the rows in it. Missing splits are cut from train."""
    if is_undivided():
        found = {role: (role, np.arange(len(part))) for role, part in digests.items()}
        return found if "test" in found else {"test": found["train"]}
    lacking = [role for role in SPLITS if role not in digests]
    shares = (1 - sum(SHARES[1 : len(lacking) + 1]), *SHARES[1 : len(lacking) + 1])
    parts = divide(digests["train"], None if strata is None else list(strata), shares)
    found = {role: (role, np.arange(len(part))) for role, part in digests.items()}
    for number, role in enumerate(["train", *lacking]):
        found[role] = ("train", np.flatnonzero(parts == number))
    sizes = {role: len(found[role][1]) for role in SPLITS}
    if not all(sizes.values()):
        equal = duplicates(digests["train"])
        why = f" {equal} of the examples are equal to others, which stay together." * (equal > 0)
        raise UsageError(
            f"The arrays are too small to split: {sizes}.{why} Pass more examples, or validation=... and test=..."
        )
    return {role: found[role] for role in SPLITS}


def rows_of(column: Column, index: np.ndarray) -> Column:
    """Returns the examples with these numbers."""
    if isinstance(column, np.ndarray):
        return column if len(index) == len(column) else column[index]
    return [column[i] for i in index]
