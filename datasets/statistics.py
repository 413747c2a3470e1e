"""Statistics of requests, and how far others are from them: what an artifact keeps of the inputs it was trained on."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.errors import UsageError
from zoo.tasks import REQUEST_KINDS

if TYPE_CHECKING:
    from zoo.datasets.preprocessing.base import Preprocessor

Columns = dict[tuple[str, str], list[Any]]
"""Numbers or texts by input and measure, one for each request."""
UNKNOWN = "unknown"
"""The measure of the share of tokens that the model does not know."""
_SHARES = (UNKNOWN, "missing")
"""Measures that are shares from 0 to 1; their means are compared."""
_MOST_CATEGORIES = 20
_MOST_TEXT = 60
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_BINS = np.arange(1, 10) / 10
PSI, DIFFERENCE = "population stability index", "difference"
LIMITS: Mapping[str, float] = {PSI: 0.2, DIFFERENCE: 0.05}
"""Distances that are usually called a change of the data."""
_BY_CHANCE = 3.0
"""A distance must be this many times what samples of equal data have by chance."""


def measured(preprocessor: Preprocessor, requests: Mapping[str, Any]) -> Columns:
    """Returns what is measured of requests.

    Args:
        preprocessor: its requests have kinds, which declare what is measured; with `unknown`, the share of unknown tokens is
            measured too.
        requests: values by input.

    Example:
        >>> measured(preprocessor, {"text": [b"lights on", b"off"]})[("text", "words")]
        [2.0, 1.0]
    """
    found: Columns = {}
    for name, values in requests.items():
        measure = REQUEST_KINDS.get(preprocessor.requests[name].kind).measure
        if measure is not None and len(values):
            found |= {(name, column): part for column, part in measure(values).items()}
    unknown = getattr(preprocessor, "unknown", None)
    for name, values in requests.items() if unknown is not None else ():
        if preprocessor.requests[name].kind == "text":
            found[name, UNKNOWN] = _unknown_shares(preprocessor, unknown, name, values)
            break  # the text that the model reads first
    return found


def _unknown_shares(preprocessor: Preprocessor, unknown: Any, name: str, values: Sequence[Any]) -> list[float]:
    import tensorflow as tf

    shares: list[float] = []
    for start in range(0, len(values), 256):
        batch = {name: tf.constant(list(values[start : start + 256]), tf.string)}
        inputs = preprocessor.serve(batch)[0]
        numbers = inputs[unknown.input].numpy()
        real = inputs["padding_mask"].numpy() != 0 if "padding_mask" in inputs else numbers != 0
        real = real.reshape(numbers.shape) & np.ones(numbers.shape, bool)
        counts = real.reshape(len(numbers), -1).sum(axis=1)
        lost = (real & (numbers == unknown.number)).reshape(len(numbers), -1).sum(axis=1)
        shares += [float(a / b) if b else math.nan for a, b in zip(lost, counts, strict=True)]
    return shares


def summarize(columns: Columns) -> dict[str, dict[str, Any]]:
    """Returns statistics as JSON values, by input and measure.

    Of numbers: `count`, the share `missing`, `mean`, `deviation`, `quantiles`, and how many are in each bin (`counts`)
    between `edges`, the deciles. Of texts: `count`, `missing`, and the `counts` of the most frequent ones and of all `other`
    ones.
    No statistic is the value of one example alone, except quantiles of few examples.
    """
    found: dict[str, dict[str, Any]] = {}
    for (name, measure), values in columns.items():
        found.setdefault(name, {})[measure] = _numbers(values) if _are_numbers(values) else _texts(values)
    return found


def _are_numbers(values: Sequence[Any]) -> bool:
    return all(isinstance(value, (int, float)) for value in values)


def _numbers(values: Sequence[float]) -> dict[str, Any]:
    known = _known(values)
    found: dict[str, Any] = {"count": len(values), "missing": (len(values) - len(known)) / max(1, len(values))}
    if not len(known):
        return {**found, "edges": [], "counts": []}
    edges = np.unique(np.quantile(known, _BINS))
    if edges[0] == known.min():  # values below a frequent lowest one get a bin of their own
        edges = np.array([np.nextafter(edges[0], -np.inf), *edges])
    quantiles = {
        f"{share:g}": float(value) for share, value in zip(_QUANTILES, np.quantile(known, _QUANTILES), strict=True)
    }
    found |= {"mean": float(known.mean()), "deviation": float(known.std()), "quantiles": quantiles}
    return {**found, "edges": edges.tolist(), "counts": _binned(known, edges)}


def _known(values: Sequence[float]) -> np.ndarray:
    numbers = np.asarray(values, np.float64)
    return numbers[np.isfinite(numbers)]


def _binned(known: np.ndarray, edges: Any) -> list[int]:
    """Returns how many numbers are in each bin; a number that equals an edge is in the bin below it."""
    places = np.searchsorted(np.asarray(edges, np.float64), known, side="left")
    return [int(count) for count in np.bincount(places, minlength=len(edges) + 1)]


def _texts(values: Sequence[Any]) -> dict[str, Any]:
    known = Counter(str(value)[:_MOST_TEXT] for value in values if value)
    count = sum(known.values())
    # A text of one example could be private.
    frequent = {text: number for text, number in known.most_common(_MOST_CATEGORIES) if number > 1}
    missing = (len(values) - count) / max(1, len(values))
    return {"count": len(values), "missing": missing, "counts": frequent, "other": count - sum(frequent.values())}


@dataclasses.dataclass(frozen=True)
class Change:
    """How far one measure of later requests is from the training data.

    Attributes:
        input: the input.
        measure: what was measured of it, such as `value` or `words`; `missing` is the share of missing values.
        kind: `PSI`, or `DIFFERENCE` of two shares.
        distance: the distance.
        by_chance: about the largest distance that requests like the training data have, as there are few of them.
        moved: whether the distance is above its limit, and above `by_chance`.
        detail: what changed most.
    """

    input: str
    measure: str
    kind: str
    distance: float
    by_chance: float
    moved: bool
    detail: str


def changes(known: Mapping[str, Mapping[str, Any]], columns: Columns, limits: Mapping[str, float]) -> list[Change]:
    """Returns the distance of every measure from its statistics, the largest relative to its limit first.

    Args:
        known: the result of `summarize` for the training data.
        columns: the result of `measured` for later requests.
        limits: the distance by kind from which on a measure has moved.

    Raises:
        KeyError, TypeError, ValueError: the statistics are damaged.
    """
    found = []
    for (name, measure), values in columns.items():
        before = known.get(name, {}).get(measure)
        if before is None or not values:
            continue
        gone = np.mean([not v if isinstance(v, str) else not math.isfinite(v) for v in values])
        spread = math.sqrt(before["missing"] * (1 - before["missing"]))
        if gone or before["missing"]:
            shares = (before["missing"], float(gone))
            found.append(_share(name, f"{measure} missing", shares, spread, (before["count"], len(values)), limits))
        if measure in _SHARES:
            numbers = _known(values)
            if len(numbers) and "mean" in before:
                shares = (before["mean"], float(numbers.mean()))
                sizes = (before["count"], len(numbers))
                found.append(
                    _share(name, measure, shares, max(before["deviation"], float(numbers.std())), sizes, limits)
                )
        elif change := _index(name, measure, before, values, limits):
            found.append(change)
    return sorted(found, key=lambda change: (not change.moved, -change.distance / limits[change.kind]))


def _share(
    name: str,
    measure: str,
    shares: tuple[float, float],
    deviation: float,
    sizes: tuple[int, int],
    limits: Mapping[str, float],
) -> Change:
    before, now = shares
    deviation = max(deviation, math.sqrt(now * (1 - now)) if 0 <= now <= 1 else 0.0)
    chance = _BY_CHANCE * deviation * math.sqrt(1 / max(1, sizes[0]) + 1 / max(1, sizes[1]))
    distance = abs(now - before)
    moved = distance > max(limits[DIFFERENCE], chance)
    return Change(name, measure, DIFFERENCE, distance, chance, moved, f"{before:.3f} -> {now:.3f}")


def _index(
    name: str, measure: str, before: Mapping[str, Any], values: Sequence[Any], limits: Mapping[str, float]
) -> Change | None:
    if "edges" in before:
        if not _are_numbers(values):
            raise UsageError(
                f"{name} had numbers in training, and has texts. Correct them, or convert them to numbers."
            )
        known = _known(values)
        expected, found = before["counts"], _binned(known, before["edges"])
        if not expected or not len(known):
            return None
        detail = f"median {before['quantiles']['0.5']:.4g} -> {float(np.median(known)):.4g}"
    else:
        texts = Counter(str(value)[:_MOST_TEXT] for value in values if value)
        names = [*before["counts"]]
        expected = [*before["counts"].values(), before["other"]]
        found = [*(texts[text] for text in names), sum(texts.values()) - sum(texts[text] for text in names)]
        if not sum(expected) or not sum(found):
            return None
        detail = _most_changed([*names, "all others"], expected, found)
    distance = stability_index(expected, found)
    chance = _BY_CHANCE * (len(expected) - 1) * (1 / sum(expected) + 1 / sum(found))
    return Change(name, measure, PSI, distance, chance, distance > max(limits[PSI], chance), detail)


def _most_changed(names: Sequence[str], expected: Sequence[int], found: Sequence[int]) -> str:
    shares = np.array(expected) / sum(expected), np.array(found) / sum(found)
    place = int(np.argmax(np.abs(shares[1] - shares[0])))
    return f"{names[place]} {shares[0][place]:.1%} -> {shares[1][place]:.1%}"


def stability_index(expected: Sequence[int], found: Sequence[int]) -> float:
    """Returns the population stability index of two histograms: the sum of (q - p) ln(q / p) over the shares of their bins.
    Half an example is added to every bin, so that empty ones have a logarithm.

    Example:
        >>> round(stability_index([50, 50], [80, 20]), 3)
        0.407
    """
    p, q = (np.asarray(counts, np.float64) + 0.5 for counts in (expected, found))
    p, q = p / p.sum(), q / q.sum()
    return float(np.sum((q - p) * np.log(q / p)))
