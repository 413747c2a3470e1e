"""Differences of two models on the same examples: bootstrap intervals and McNemar's exact test."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from zoo.evaluation.intervals import Array, bootstrap, mean, sums


class Outcome(NamedTuple):
    """A metric of one model on every example: its sum over the example's elements, and the number of these elements, float64
    (examples,). The metric is the quotient of the sums of both, or its root."""

    totals: Array
    counts: Array
    root: bool = False

    @property
    def figure(self) -> float:
        """The metric over all examples."""
        value = float(self.totals.sum() / self.counts.sum())
        return value**0.5 if self.root else value

    def at(self, rows: np.ndarray) -> Outcome:
        """Returns the outcome on some of the examples."""
        return Outcome(self.totals[rows], self.counts[rows], self.root)

    def each(self) -> Array:
        """Returns the metric of every single example, NaN for an example without an element."""
        found = np.divide(self.totals, self.counts, out=np.full(len(self.totals), np.nan), where=self.counts > 0)
        return np.sqrt(found) if self.root else found


def difference_interval(first: Outcome, second: Outcome, block: int = 1) -> list[float] | None:
    """Returns the 95 % bootstrap interval of the difference of a metric, second minus first.

    Both models have the same examples in every sample, so what is hard for both does not widen the interval.

    Args:
        first: of the first model.
        second: of the second model, on the same examples.
        block: number of neighbouring examples that are drawn together, because they overlap as the windows of a series do.

    Returns:
        The lower and the upper end; None if the difference is the same in every sample.

    Example:
        >>> right = np.array([1.0, 1.0, 0.0, 1.0] * 25)
        >>> difference_interval(Outcome(right, np.ones(100)), Outcome(1 - right, np.ones(100)))
        [-0.66, -0.34]
    """
    groups = np.arange(len(first.totals)) // block
    count = int(groups[-1]) + 1
    parts = [[sums(values, groups, count) for values in (one.totals, one.counts)] for one in (first, second)]

    def statistics(drawn: Array) -> dict[str, Array]:
        found = [mean(drawn, totals, counts) for totals, counts in parts]
        before, after = (np.sqrt(values) if first.root else values for values in found)
        return {"difference": after - before}

    return bootstrap(count, statistics).get("difference")


def normal_interval(first: Outcome, second: Outcome) -> list[float] | None:
    """Returns the 95 % interval of a difference by the normal approximation, for the many slices of a comparison; None if it
    has no width.

    The quotient of two sums is treated as linear in both: Cochran, Sampling Techniques, 1977, chapter 6.
    """
    gaps = np.zeros(len(first.totals))
    for one, sign in ((second, 1.0), (first, -1.0)):
        if not one.counts.sum():
            return None
        gaps += sign * (one.totals - one.totals.sum() / one.counts.sum() * one.counts) / one.counts.mean()
    half = 1.96 * float(gaps.std(ddof=1)) / len(gaps) ** 0.5 if len(gaps) > 1 else 0.0
    middle = second.figure - first.figure
    return [middle - half, middle + half] if half else None


class McNemar(NamedTuple):
    """McNemar's test: how many examples each model alone has right, and the exact two-sided p-value."""

    both: int
    only_first: int
    only_second: int
    neither: int
    p_value: float


def mcnemar(first: Outcome, second: Outcome) -> McNemar | None:
    """Returns McNemar's exact test of two models; None if their examples are not simply right or wrong.

    If the models were equally good, each example that one of them alone has right would be a fair coin. The p-value is that
    of the binomial test, as `statsmodels.stats.contingency_tables.mcnemar(table, exact=True)` computes it.

    Example:
        >>> ones = np.ones(4)
        >>> mcnemar(Outcome(np.array([1.0, 1, 1, 0]), ones), Outcome(np.array([1.0, 0, 0, 0]), ones)).p_value
        0.5
    """
    from scipy.stats import binomtest

    for one in (first, second):
        if not (np.isin(one.totals, (0, 1)).all() and (one.counts == 1).all()):
            return None
    before, after = first.totals > 0, second.totals > 0
    only_first, only_second = int((before & ~after).sum()), int((~before & after).sum())
    apart = only_first + only_second
    p_value = float(binomtest(only_first, apart, 0.5).pvalue) if apart else 1.0
    return McNemar(int((before & after).sum()), only_first, only_second, int((~before & ~after).sum()), p_value)
