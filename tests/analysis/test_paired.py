"""Paired differences compared with loops over resampled examples, and McNemar's test with binomial coefficients."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from zoo.analysis import comparison
from zoo.analysis.paired import Outcome, difference_interval, mcnemar, normal_interval
from zoo.analysis.slices import Slice, compared


@pytest.fixture(scope="module")
def pair():
    """Two models that are right on 80 % and 86 % of the same 400 examples, most of them the same ones."""
    rng = np.random.default_rng(0)
    hard = rng.random(400)
    right = [(hard + 0.1 * rng.random(400) < share).astype(float) for share in (0.8, 0.86)]
    return [Outcome(values, np.ones(400)) for values in right]


def resampled(first, second, rng, block=1, root=False):
    """Returns the ends of a paired interval from a loop."""
    blocks = [np.arange(i, min(i + block, len(first.totals))) for i in range(0, len(first.totals), block)]
    found = []
    for _ in range(2000):
        rows = np.concatenate([blocks[number] for number in rng.integers(0, len(blocks), len(blocks))])
        a, b = (one.totals[rows].sum() / one.counts[rows].sum() for one in (first, second))
        found.append(math.sqrt(b) - math.sqrt(a) if root else b - a)
    return np.quantile(found, (0.025, 0.975))


def test_intervals_are_those_of_a_loop_over_pairs(pair):
    found = difference_interval(*pair)
    assert found == pytest.approx(resampled(*pair, np.random.default_rng(5)), abs=0.008)
    apart = math.hypot(*(one.totals.std() / 20 for one in pair)) * 1.96
    assert (found[1] - found[0]) / 2 < 0.8 * apart  # narrower than without pairs


def test_neighbouring_windows_are_drawn_together_and_roots_are_taken():
    rng = np.random.default_rng(1)
    walk = np.repeat(rng.gamma(2.0, size=(60, 2)), 10, axis=0)  # errors of ten windows that are alike
    first, second = (Outcome(walk[:, i] * (1 + 0.2 * i), np.ones(600), root=True) for i in (0, 1))
    found = difference_interval(first, second, block=10)
    assert found == pytest.approx(resampled(first, second, rng, block=10, root=True), abs=0.05)
    alone = difference_interval(first, second)
    assert found[1] - found[0] > 2 * (alone[1] - alone[0])


def test_equal_models_have_no_interval(pair):
    assert difference_interval(pair[0], pair[0]) is None and normal_interval(pair[0], pair[0]) is None


def test_the_normal_interval_is_that_of_paired_differences(pair):
    gaps = pair[1].totals - pair[0].totals
    low, high = stats.norm.interval(0.95, gaps.mean(), gaps.std(ddof=1) / 20)
    assert normal_interval(*pair) == pytest.approx([low, high], abs=1e-4)


def exact(b, c):
    """Returns the two-sided p-value of b heads in b + c throws of a fair coin, by counting."""
    few = min(b, c)
    return min(1.0, 2 * sum(math.comb(b + c, k) for k in range(few + 1)) / 2 ** (b + c))


@pytest.mark.parametrize(("only_first", "only_second"), [(3, 12), (12, 3), (7, 7), (1, 0), (0, 0)])
def test_mcnemar_is_the_exact_binomial_test(only_first, only_second):
    first = np.array([1.0] * only_first + [0.0] * only_second + [1.0] * 5 + [0.0] * 2)
    second = np.array([0.0] * only_first + [1.0] * only_second + [1.0] * 5 + [0.0] * 2)
    found = mcnemar(*(Outcome(values, np.ones(len(values))) for values in (first, second)))
    assert found[:4] == (5, only_first, only_second, 2)
    assert found.p_value == pytest.approx(exact(only_first, only_second))


def test_mcnemar_needs_examples_that_are_right_or_wrong(pair):
    tags = Outcome(pair[0].totals * 3, np.full(400, 3.0))
    assert mcnemar(tags, tags) is None


def test_slices_are_those_of_pandas(pair):
    colours = np.array(["red", "green", "blue", "blue"] * 100)
    slices = [Slice("colour", name, np.flatnonzero(colours == name)) for name in ("red", "green", "blue")]
    table = pd.DataFrame({"colour": colours, "first": pair[0].totals, "second": pair[1].totals})
    want = table.groupby("colour").mean()
    found = compared(slices, *pair)
    assert {part["value"]: (part["first"], part["second"]) for part in found} == {
        name: pytest.approx(tuple(row)) for name, row in zip(want.index, want.to_numpy(), strict=True)
    }
    halves = [(part["interval"][1] - part["interval"][0]) / 2 for part in found]
    ranks = [abs(part["difference"]) / half for part, half in zip(found, halves, strict=True)]
    assert ranks == sorted(ranks, reverse=True) and found[0]["examples"] in (100, 200)


@pytest.mark.parametrize(
    ("gap", "interval", "higher", "said"),
    [
        (0.03, [0.01, 0.05], True, "B is better: accuracy 0.0300 higher (0.01 to 0.05)"),
        (-0.03, [-0.05, -0.01], True, "A is better: accuracy 0.0300 higher (0.01 to 0.05)"),
        (-0.03, [-0.05, -0.01], False, "B is better: accuracy 0.0300 lower (0.01 to 0.05)"),
        (0.03, [0.01, 0.05], False, "A is better: accuracy 0.0300 lower (0.01 to 0.05)"),
        (0.0, None, True, "A and B have the same accuracy"),
        (0.03, [-0.01, 0.07], True, "these examples cannot tell A and B apart"),
    ],
)
def test_the_verdict_names_the_better_model(gap, interval, higher, said):
    metric = {"metric": "accuracy", "difference": gap, "interval": interval, "higher_is_better": higher}
    assert comparison.verdict(metric).startswith(said)
