"""Bootstrap intervals: how far a metric would move if other examples of the same kind had been evaluated.

Examples are drawn with replacement, and the metrics are computed again on every such sample. A sample is held as the number
of times that each example was drawn, so that most metrics are products of matrices. Efron and Tibshirani, An Introduction to
the Bootstrap, 1993, chapter 13 (percentile intervals).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zoo.display import interval_text, number_text

Array = NDArray[np.float64]
Statistics = Callable[[Array], Mapping[str, Array]]

RESAMPLES = 1_000
FEWEST = 100
DRAWS = 20_000_000
"""Maximum number of drawn examples in all samples: more than 20,000 examples get fewer than 1,000 samples."""
MOST_DRAWN = 200_000
"""Maximum number of drawn examples in a sample. The spread of a larger number follows from its square root."""
_CELLS = 100_000
"""Maximum number of drawn examples that are held at once: 800 kB, which a cache holds."""


def bootstrap(num_examples: int, statistics: Statistics, *, seed: int = 0) -> dict[str, list[float]]:
    """Returns 95 % bootstrap intervals of metrics, as a report's `intervals`.

    Args:
        num_examples: how many examples were evaluated. If several values belong together, such as the words of a sentence,
            the sentence is the example.
        statistics: function from counts, float64 `(samples, num_examples)`, to the metrics of each sample, `(samples,)`, by
            name. A count is how often an example is in a sample. `mean` computes most metrics. NaN marks a sample in which
            a metric is undefined.
        seed: of the random numbers; the same seed gives the same intervals.

    Returns:
        The lower and the upper end by name. A metric that is undefined in every sample is left out, and one that is the same
        in every sample, such as an accuracy of 1: the samples then say nothing about its spread.

    Example:
        >>> correct = np.array([True, True, False, True] * 25)
        >>> bootstrap(100, lambda counts: {"accuracy": mean(counts, correct)})
        {'accuracy': [0.67, 0.84]}
    """
    rng = np.random.default_rng(seed)
    drawn = min(num_examples, MOST_DRAWN)
    left = int(np.clip(DRAWS // num_examples, FEWEST, RESAMPLES))
    at_once = max(1, _CELLS // num_examples)
    found: dict[str, list[Array]] = {}
    while left:
        rows = min(left, at_once)
        places = rng.integers(0, num_examples, (rows, drawn)) + np.arange(rows)[:, np.newaxis] * num_examples
        counts = np.bincount(places.ravel(), minlength=rows * num_examples).reshape(rows, -1).astype(np.float64)
        for name, values in statistics(counts).items():
            found.setdefault(name, []).append(np.asarray(values, np.float64))
        left -= rows
    ends = {}
    for name, parts in found.items():
        known = np.concatenate(parts)
        known = known[np.isfinite(known)]
        if known.size and known.min() < known.max():
            middle, *outer = np.quantile(known, (0.5, 0.025, 0.975))
            ends[name] = [float(middle + (end - middle) * np.sqrt(drawn / num_examples)) for end in outer]
    return ends


def sums(values: ArrayLike, groups: ArrayLike, num_groups: int) -> Array:
    """Returns the sum of the values of every group, `(num_groups,)`: of the words of a sentence, say.

    Example:
        >>> sums([1.0, 2.0, 5.0], [0, 0, 1], 2)
        array([3., 5.])
    """
    return np.bincount(np.asarray(groups), np.asarray(values, np.float64), num_groups).astype(np.float64)


def mean(counts: Array, values: ArrayLike, weights: ArrayLike | None = None) -> Array:
    """Returns the mean of a value per example in every sample of `bootstrap`, `(samples,)`; NaN without weight.

    Args:
        counts: `(samples, examples)`.
        values: one per example, already multiplied by its weight.
        weights: the weight of every example, or the number of values that its value is the sum of; None for 1.

    Example:
        >>> mean(np.array([[1.0, 1.0], [2.0, 0.0]]), [0.0, 1.0])
        array([0.5, 0. ])
    """
    total = counts @ np.asarray(values, np.float64)
    size = counts.sum(axis=1) if weights is None else counts @ np.asarray(weights, np.float64)
    return np.divide(total, size, out=np.full_like(total, np.nan), where=size > 0)


def with_interval(report: Mapping[str, Any], key: str, form: str = ".4f") -> str:
    """Returns a metric of a report as text, followed by its interval if the report has one.

    Example:
        >>> with_interval({"accuracy": 0.8512, "intervals": {"accuracy": [0.8417, 0.8618]}}, "accuracy")
        '0.8512 (0.84 to 0.86)'
    """
    return f"{number_text(report[key], form)} {interval_text(report.get('intervals', {}).get(key))}".rstrip()
