"""Compares outputs with expected outputs: numbers within a tolerance, labels with ties, and correct answers."""

from __future__ import annotations

from typing import Any

import numpy as np


def right(answers: dict[str, Any], targets: Any, labels: list[bytes], tolerance: float) -> dict[str, list[int]]:
    """Returns, by output, the number of correct examples, the number of examples, and the number of near ties. Outputs
    with labels come first, then probabilities of all labels."""
    found: dict[str, list[int]] = {}
    if targets is None or not labels or targets.dtype.kind not in "iu":
        return found
    for name, value in sorted(answers.items(), key=lambda item: item[1].dtype != object):
        if value.dtype == object and not {*value.ravel().tolist()} <= {*labels, b""}:
            continue  # texts such as the words of a sentence
        want, close = targets[: len(value)] if value.ndim else targets, 0
        known = np.array(labels, object)[np.clip(want, 0, len(labels) - 1)]
        if value.dtype == object and want.ndim == 1 <= value.ndim:  # one label or several labels per example
            met = (value.reshape(len(value), -1) == known[:, None]).any(axis=1)
        elif (
            value.dtype == object and value.shape == want.shape
        ):  # a label for every step; padding has none, or no target
            met = (value == known)[(value != b"") & (want >= 0)]
        elif value.dtype.kind == "f" and want.ndim == 1 and value.shape == (len(want), len(labels)) and len(labels) > 1:
            met = value.argmax(axis=1) == want
            best = np.sort(value, axis=1)[:, -2:]
            close = int(np.sum(best[:, 1] - best[:, 0] <= 2 * tolerance))
        else:
            continue
        found[name] = [int(met.sum()), int(met.size), close]
    return found


def compare(
    expected: dict[str, Any],
    got: dict[str, Any],
    labels: list[bytes],
    tolerance: float,
    known: Any = None,
    decided: Any = None,
) -> list[dict[str, Any]]:
    """Returns a row per output: the largest and the allowed difference of numbers, or the number of differing strings.

    If an example has several labels, ties between them are found with `known`, the probabilities of all its labels.

    `decided` is what the task decided. With `thresholds` in it, an example has any number of labels; a tie is a label whose
    probability is at its threshold. With a threshold in its `answers`, an example may have no answer; a tie is an example
    whose best probability is at this threshold. With the name of an output in its `margins`, answers are
    compared up to the first step that rounding may decide.
    """
    expected, got, uncertain = _certain(expected, got, (decided or {}).get("margins"), tolerance)
    rows = []
    thresholds: Any = (decided or {}).get("thresholds")
    limit: Any = ((decided or {}).get("answers") or {}).get("threshold")
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
            row["detail"] = "missing in the outputs" if name not in got else "golden.npz has no data for it"
            continue
        want, have = expected[name], got[name]
        if have.shape != want.shape or have.dtype != want.dtype:
            shown = [f"{a.dtype.name} {list(a.shape)}" for a in (have, want)]
            row["detail"] = f"{shown[0]}, expected {shown[1]}"
        elif want.dtype == object:
            wrong = np.flatnonzero((have != want).ravel())
            probabilities = [v for v in got.values() if v.dtype != object and v.shape == (*have.shape, len(labels))]
            ties = _ties(want.ravel()[wrong], have.ravel()[wrong], wrong, probabilities, labels, tolerance)
            if want.ndim == 1 and limit is not None and known is not None:
                ties += sum(
                    _is_at(limit, known[i], tolerance) and _one_unknown(want[i], have[i], labels) for i in wrong
                )
            if not probabilities and want.ndim == 2 and known is not None and len(wrong):
                rows_of = (want, have, known, labels, tolerance)
                ties = _swaps(*rows_of) if thresholds is None else _edges(*rows_of, thresholds)
            if not ties and len(wrong) and (ranked := _ranked_scores(got, have)) is not None:
                ties = _reordered(want, have, ranked, tolerance)
            row |= _counted(len(wrong), int(ties), want.size)
        elif want.dtype == bool:
            wrong = np.flatnonzero((have != want).ravel())
            of_examples = want.ndim == 1 and limit is not None and known is not None
            ties = sum(_is_at(limit, known[i], tolerance) for i in wrong) if of_examples else 0
            row |= _counted(len(wrong), int(ties), want.size)
        elif not (np.all(np.isfinite(want)) and np.all(np.isfinite(have))):
            row["detail"] = "has values that are not finite"
        else:
            wide = np.complex128 if want.dtype.kind == "c" else np.float64
            want, have = want.astype(wide), have.astype(wide)
            gap = np.abs(have - want)
            # Relative to the largest value: rounding depends on the size of the summands, not of the sum.
            row["allowed"] = tolerance * max(1.0, float(np.max(np.abs(want), initial=0.0)))
            row["passed"] = bool(np.all(gap <= row["allowed"]))
            row["difference"] = float(np.max(gap, initial=0.0))
        if uncertain and row["detail"]:
            row["detail"] += f", {uncertain} of {len(want)} compared up to a step that rounding may decide"
    return rows


_SURE = 1e-3
"""A step is certain if it is ahead of the next one by more than this, and by more than twice the tolerance."""


def _certain(
    expected: dict[str, Any], got: dict[str, Any], margins: Any, tolerance: float
) -> tuple[dict[str, Any], dict[str, Any], int]:
    """Returns the outputs without what comes after a step that rounding may decide, and the number of such rows.

    Both get the expected values there, which then do not differ: from that step on for outputs of every step, and whole rows
    for others.
    """
    if margins not in expected or margins not in got or expected[margins].shape != got[margins].shape:
        return expected, got, 0
    ahead = expected[margins]
    close = (ahead > 0) & (ahead <= max(_SURE, 2 * tolerance))
    hidden = np.cumsum(close, axis=1) > 0
    rows = hidden.any(axis=1)
    found = dict(got)
    for name, want in expected.items():
        have = got.get(name)
        if have is None or have.shape != want.shape or have.dtype != want.dtype:
            continue
        mask = hidden if want.shape == hidden.shape else rows.reshape(-1, *[1] * (want.ndim - 1))
        found[name] = np.where(mask, want, have)
    return expected, found, int(rows.sum())


def _is_at(limit: float, probabilities: Any, tolerance: float) -> bool:
    """Whether the best probability is at the one from which on an example is answered."""
    return abs(float(probabilities.max()) - limit) <= 2 * tolerance


def _one_unknown(want: Any, have: Any, labels: list[bytes]) -> bool:
    """Whether one label is that of an example without an answer, and the other a class."""
    return (want == b"unknown" and have in labels) or (have == b"unknown" and want in labels)


def _counted(wrong: int, ties: int, size: int) -> dict[str, Any]:
    """Returns the entries of a row for values of which `wrong` differ, `ties` of them by rounding."""
    detail = f"{wrong} of {size} differ" + (f", {ties} of them ties" if ties else "")
    return {"passed": wrong == ties, "ties": ties, "detail": detail}


def _ties(want: Any, have: Any, where: Any, probabilities: list[Any], labels: list[bytes], tolerance: float) -> int:
    """Counts differing labels that are ties: the label is the most probable class of the output, and the expected label is
    equally probable within the tolerance."""
    if not probabilities or not labels or not len(where):
        return 0
    rows = probabilities[0].reshape(-1, len(labels))
    count = 0
    for wanted, given, row in zip(want, have, rows[where], strict=True):
        near = {label for label, p in zip(labels, row, strict=True) if row.max() - p <= 2 * tolerance}
        count += given == labels[np.argmax(row)] and wanted in near
    return count


def _swaps(want: Any, have: Any, known: Any, labels: list[bytes], tolerance: float) -> int:
    """Counts differing labels that are ties: equally probable, within the tolerance, as the expected label."""
    place = {label: i for i, label in enumerate(labels)}
    wrong = [(row, place[want[row, i]], place.get(have[row, i])) for row, i in np.argwhere(want != have)]
    return sum(b is not None and bool(abs(known[row, a] - known[row, b]) <= 2 * tolerance) for row, a, b in wrong)


def _ranked_scores(got: dict[str, Any], have: Any) -> Any:
    """Returns the scores by which the strings of each row are ordered, best first; None for strings without them."""
    scores = (v for v in got.values() if v.dtype.kind == "f" and v.shape == have.shape and v.ndim == 2)
    return next((v for v in scores if v.shape[1] > 1 and bool(np.all(np.diff(v, axis=1) <= 0))), None)


def _reordered(want: Any, have: Any, scores: Any, tolerance: float) -> int:
    """Counts differing strings of ranked rows that are ties: they changed places with a string of an equal score, within the
    tolerance. At the end of a row a string may change places with one that is not in the row, whose score is unknown. That is
    a tie in few rows only."""
    inside = outside = 0
    for row, i in np.argwhere(want != have):
        near = np.abs(scores[row] - scores[row, i]) <= 2 * tolerance
        if want[row, i] in {*have[row][near]} and have[row, i] in {*want[row][near]}:
            inside += 1
        elif near[-1]:
            outside += 1
        else:
            return 0
    return inside + (outside if outside <= max(1, len(want) // 20) else 0)


def _edges(want: Any, have: Any, known: Any, labels: list[bytes], tolerance: float, thresholds: Any) -> int:
    """Counts differing entries in rows whose labels differ only where a probability is at its threshold."""
    count = 0
    for row in np.flatnonzero((want != have).any(axis=1)):
        differing = ({*want[row]} ^ {*have[row]}) - {b""}
        places = [labels.index(label) for label in differing if label in labels]
        near = all(abs(float(known[row, i]) - thresholds[i]) <= 2 * tolerance for i in places)
        count += int((want[row] != have[row]).sum()) * (near and len(places) == len(differing) > 0)
    return count
