"""Comparison of outputs with expected ones: numbers within a tolerance, labels with ties, how many are right."""

from __future__ import annotations

from typing import Any

import numpy as np


def right(answers: dict[str, Any], targets: Any, labels: list[bytes], tolerance: float) -> dict[str, list[int]]:
    """Returns, by output, how many examples are answered rightly, of how many, and how many of them are close calls:
    labels first, then probabilities of all labels."""
    found: dict[str, list[int]] = {}
    if targets is None or not labels or targets.dtype.kind not in "iu":
        return found
    for name, value in sorted(answers.items(), key=lambda item: item[1].dtype != object):
        want, close = targets[: len(value)] if value.ndim else targets, 0
        known = np.array(labels, object)[np.clip(want, 0, len(labels) - 1)]
        if value.dtype == object and want.ndim == 1 <= value.ndim:  # one label, or several to an example
            met = (value.reshape(len(value), -1) == known[:, None]).any(axis=1)
        elif value.dtype == object and value.shape == want.shape:  # a label for every step; padding has none
            met = (value == known)[value != b""]
        elif value.dtype.kind == "f" and want.ndim == 1 and value.shape == (len(want), len(labels)) and len(labels) > 1:
            met = value.argmax(axis=1) == want
            best = np.sort(value, axis=1)[:, -2:]
            close = int(np.sum(best[:, 1] - best[:, 0] <= 2 * tolerance))
        else:
            continue
        found[name] = [int(met.sum()), int(met.size), close]
    return found


def compare(
    expected: dict[str, Any], got: dict[str, Any], labels: list[bytes], tolerance: float, known: Any = None
) -> list[dict[str, Any]]:
    """Returns a row per output: the largest difference of numbers and the one allowed, the number of differing strings.

    Several labels of an example are compared by `known`, its probabilities of all labels, where there are any.
    """
    rows = []
    for name in sorted({*expected, *got}):
        row: dict[str, Any] = {
            "output": name,
            "passed": False,
            "difference": None,
            "detail": "",
            "allowed": None,
            "ties": 0,
        }
        rows.append(row)
        if name not in got or name not in expected:
            row["detail"] = "missing in the answer" if name not in got else "golden.npz holds nothing for it"
            continue
        want, have = expected[name], got[name]
        if have.shape != want.shape or have.dtype != want.dtype:
            shown = [f"{a.dtype.name} {list(a.shape)}" for a in (have, want)]
            row["detail"] = f"{shown[0]}, expected {shown[1]}"
        elif want.dtype == object:
            wrong = np.flatnonzero((have != want).ravel())
            beside = [v for v in got.values() if v.dtype != object and v.shape == (*have.shape, len(labels))]
            ties = _ties(want.ravel()[wrong], have.ravel()[wrong], wrong, beside, labels, tolerance)
            if not beside and want.ndim == 2 and known is not None:
                ties = _swaps(want, have, known, labels, tolerance)
            row["passed"], row["ties"] = len(wrong) == ties, int(ties)
            row["detail"] = f"{len(wrong)} of {want.size} differ" + (f", {ties} of them ties" if ties else "")
        elif not (np.all(np.isfinite(want)) and np.all(np.isfinite(have))):
            row["detail"] = "holds values that are not finite"
        else:
            wide = np.complex128 if want.dtype.kind == "c" else np.float64
            want, have = want.astype(wide), have.astype(wide)
            gap = np.abs(have - want)
            # Relative to the largest value: rounding follows the size of what was added up, not of what came out.
            row["allowed"] = tolerance * max(1.0, float(np.max(np.abs(want), initial=0.0)))
            row["passed"] = bool(np.all(gap <= row["allowed"]))
            row["difference"] = float(np.max(gap, initial=0.0))
    return rows


def _ties(want: Any, have: Any, where: Any, beside: list[Any], labels: list[bytes], tolerance: float) -> int:
    """Counts differing labels that are excused: the answer names its own most probable class, and the expected one is as
    probable within the tolerance."""
    if not beside or not labels or not len(where):
        return 0
    rows = beside[0].reshape(-1, len(labels))
    count = 0
    for wanted, given, row in zip(want, have, rows[where], strict=True):
        near = {label for label, p in zip(labels, row, strict=True) if row.max() - p <= 2 * tolerance}
        count += given == labels[np.argmax(row)] and wanted in near
    return count


def _swaps(want: Any, have: Any, known: Any, labels: list[bytes], tolerance: float) -> int:
    """Counts differing labels that are excused: as probable, within the tolerance, as the one expected in their place."""
    place = {label: i for i, label in enumerate(labels)}
    wrong = [(row, place[want[row, i]], place.get(have[row, i])) for row, i in np.argwhere(want != have)]
    return sum(b is not None and bool(abs(known[row, a] - known[row, b]) <= 2 * tolerance) for row, a, b in wrong)
