"""The parts of a time that are known in advance: hour, weekday and month."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zoo.errors import UsageError
from zoo.tables import cells

if TYPE_CHECKING:
    import pandas as pd

PARTS = {"hour": (0, 24), "weekday": (0, 7), "month": (1, 12)}
"""The smallest value of each part, and after how many values it repeats. Monday is weekday 0."""
_DAY = 86_400
_NANOSECONDS = 10**15
"""Larger times are nanoseconds, see `cells.times`."""


def calendar(file: Path, times: pd.Series, parts: Sequence[str]) -> np.ndarray:
    """Returns parts of a column of dates, in UTC if they name a zone, float32 (rows, parts).

    Args:
        file: the file, for messages.
        times: the cells of the column.
        parts: names of `PARTS`; an hour may have a fraction.

    Raises:
        UsageError: a cell is no date, or all are numbers.

    Example:
        >>> calendar(Path("a.csv"), pd.Series(["2024-01-31 06:30"]), ["hour", "weekday", "month"]).tolist()
        [[6.5, 2.0, 1.0]]
    """
    if cells.as_numbers(times).notna().all():
        raise UsageError(
            f"{file} has numbers in {times.name}, such as {times.iloc[0]}; a calendar needs dates. Convert them to "
            "2024-01-31 13:00, say, or leave calendar out."
        )
    found = cells.times(file, times)
    seconds = found / 1e9 if np.abs(found).max() > _NANOSECONDS else found
    days = np.floor(seconds / _DAY)
    months = days.astype("datetime64[D]").astype("datetime64[M]").astype(int) % 12 + 1
    known = {"hour": (seconds - days * _DAY) / 3_600, "weekday": (days + 3) % 7, "month": months}
    return np.stack([known[part] for part in parts], axis=1).astype(np.float32)


def check_parts(parts: object) -> tuple[str, ...]:
    """Returns the parts of a calendar that a user chose, in the order of `PARTS`; all parts for True.

    Raises:
        UsageError: one is unknown.
    """
    if isinstance(parts, bool):
        return tuple(PARTS) if parts else ()
    chosen = [parts] if isinstance(parts, str) else list(parts) if isinstance(parts, (list, tuple)) else [parts]
    if unknown := [part for part in chosen if part not in PARTS]:
        raise UsageError(
            f"calendar has {unknown[0]!r}; expected {', '.join(PARTS)}. Pass calendar=['hour', 'weekday'], say."
        )
    return tuple(part for part in PARTS if part in chosen)


def circles(values: np.ndarray, parts: Sequence[str], waves: int) -> np.ndarray:
    """Returns sine and cosine of parts and of their multiples, which are close for the end and the start of a cycle.

    Args:
        values: (..., parts).
        parts: names of `PARTS`.
        waves: number of multiples, from 1.

    Returns:
        (..., parts x waves x 2).

    Example:
        >>> circles(np.array([[6.0]]), ["hour"], 1).round(3).tolist()
        [[1.0, 0.0]]
    """
    if not parts:
        return np.zeros((*values.shape[:-1], 0))
    turns = [2 * np.pi * (values[..., i] - PARTS[part][0]) / PARTS[part][1] for i, part in enumerate(parts)]
    angles = np.stack([turn * wave for turn in turns for wave in range(1, waves + 1)], axis=-1)
    return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(*values.shape[:-1], -1)
