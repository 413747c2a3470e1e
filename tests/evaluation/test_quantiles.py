"""Quantiles in the report of values compared with scikit-learn, and gradient boosting of quantiles next to them."""

from __future__ import annotations

import json

import matplotlib.image
import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.metrics import mean_pinball_loss
from threadpoolctl import threadpool_limits

import zoo
from source_examples import rows
from zoo.evaluation import quantiles, value_plots
from zoo.evaluation.values import summary, value_intervals, value_report

LEVELS = [0.05, 0.1, 0.5, 0.9]
NAMES = ["price", "rate"]


@pytest.fixture(scope="module")
def example():
    """Returns targets, predictions, quantiles, training targets and weights of two values."""
    rng = np.random.default_rng(0)
    targets = rng.gamma(2.0, [50.0, 0.1], (200, 2))
    widths = np.array([-1.0, -0.8, 0.0, 0.9]) * rng.uniform(0.1, 1.0, (200, 1, 1)) + 1
    found = targets[..., np.newaxis] * rng.uniform(0.7, 1.3, (200, 2, 1)) * widths
    weights = rng.integers(0, 4, (200, 2)).astype(float)
    return targets, found[..., 2], found, rng.gamma(2.0, [40.0, 0.2], (300, 2)), weights


@pytest.mark.parametrize("weighted", [False, True])
def test_metrics_equal_scikit_learn(example, weighted):
    targets, predictions, found, train, weights = example
    weights = weights if weighted else None
    report = value_report(
        targets, predictions, NAMES, train_targets=train, weights=weights, levels=LEVELS, quantiles=found
    )
    for j, target in enumerate(report["targets"]):
        true, of = targets[:, j], np.ones(200) if weights is None else weights[:, j]
        always = np.quantile(train[:, j], LEVELS)
        losses = [mean_pinball_loss(true, found[:, j, k], alpha=p, sample_weight=of) for k, p in enumerate(LEVELS)]
        bases = [
            mean_pinball_loss(true, np.full(200, always[k]), alpha=p, sample_weight=of) for k, p in enumerate(LEVELS)
        ]
        assert [row["pinball"] for row in target["quantiles"]] == pytest.approx(losses, rel=1e-6)
        assert [row["baseline"] for row in target["quantiles"]] == [
            pytest.approx({"value": value, "pinball": loss}, rel=1e-6)
            for value, loss in zip(always, bases, strict=True)
        ]
        assert target["pinball"] == pytest.approx(np.mean(losses)) == report[f"pinball of {NAMES[j]}"]
        for k, row in enumerate(target["quantiles"]):
            assert row["below"] == pytest.approx(np.average(true <= found[:, j, k], weights=of))
        inside = [low <= value <= high for value, low, high in zip(true, found[:, j, 1], found[:, j, 3], strict=True)]
        assert target["interval"] == [0.1, 0.9], "0.05 has no other end"
        assert target["coverage"] == pytest.approx(np.average(inside, weights=of))
        assert target["interval_width"] == pytest.approx(np.average(found[:, j, 3] - found[:, j, 1], weights=of))
        base = target["baseline"]
        assert base["pinball"] == pytest.approx(np.mean(bases))
        assert base["coverage"] == pytest.approx(np.average((true >= always[1]) & (true <= always[3]), weights=of))
        assert base["interval_width"] == pytest.approx(always[3] - always[1])
        without = value_report(targets, predictions, NAMES, train_targets=train, weights=weights)["targets"][j]
        assert all(target[key] == without[key] for key in ("mae", "rmse", "r2", "bias"))
    json.dumps(report, allow_nan=False)


def test_a_bootstrap_interval_covers_the_spread_of_the_coverage(example):
    targets, predictions, found, _, _ = example
    ends = value_intervals(targets[:, 0], predictions[:, 0], ["price"], levels=LEVELS, quantiles=found[:, :1])
    inside = (found[:, 0, 1] <= targets[:, 0]) & (targets[:, 0] <= found[:, 0, 3])
    share = inside.mean()
    error = (share * (1 - share) / 200) ** 0.5
    assert ends["coverage"] == pytest.approx([share - 1.96 * error, share + 1.96 * error], abs=0.015)
    several = value_intervals(targets, predictions, NAMES, levels=LEVELS, quantiles=found)
    assert several["coverage of price"] == pytest.approx(ends["coverage"])
    assert {"pinball of rate", "coverage of rate", "interval_width of rate"} <= {*several}


def test_values_without_weight_have_no_influence(example):
    targets, predictions, found, _, _ = (part.copy() for part in example)
    weights = np.ones((200, 2))
    weights[:50, 1] = 0
    options = {"levels": LEVELS, "train_targets": targets}
    expected = value_report(
        targets[50:, 1],
        predictions[50:, 1],
        ["rate"],
        quantiles=found[50:, 1:],
        **options | {"train_targets": targets[:, 1]},
    )
    targets[:50, 1], found[:50, 1] = np.nan, np.nan
    options["train_targets"] = example[0]
    report = value_report(targets, predictions, NAMES, weights=weights, quantiles=found, **options)
    assert report["targets"][1]["quantiles"] == expected["targets"][0]["quantiles"]
    assert report["coverage of rate"] == expected["coverage"]
    assert value_intervals(targets, predictions, NAMES, weights=weights, levels=LEVELS, quantiles=found)[
        "coverage of rate"
    ]


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ([0.1, 0.9], (0, 1)),
        ([0.025, 0.1, 0.9, 0.975], (0, 3)),
        ([0.1, 0.5], None),
        ([0.5], None),
        ([0.29, 0.71], (0, 1)),
    ],
)
def test_the_widest_symmetric_interval(levels, expected):
    assert quantiles.widest(levels) == expected


def test_the_summary_names_coverage_width_and_levels(example):
    targets, predictions, found, train, _ = example
    one = {"train_targets": train[:, 0], "levels": LEVELS, "quantiles": found[:, :1]}
    text = summary(value_report(targets[:, 0], predictions[:, 0], ["price"], **one))
    assert "10 to 90 %   0." in text and "of the values inside, expected 0.8  (baseline 0." in text
    assert "mean width" in text and "\n5 %       " in text
    text = summary(value_report(targets, predictions, NAMES, train_targets=train, levels=LEVELS, quantiles=found))
    assert "inside 10 to 90 %" in text and "expected inside: 0.8" in text
    one["levels"], one["quantiles"] = [0.5], found[:, :1, 2:3]
    text = summary(value_report(targets[:, 0], predictions[:, 0], ["price"], **one))
    assert "pinball loss" in text and "inside" not in text


@pytest.mark.parametrize(
    ("quantiles", "message"),
    [
        (np.zeros((3, 1, 2)), r"quantiles have shape \(3, 1, 2\); expected \(3, 1, 4\), .*Pass what"),
        (np.full((3, 1, 4), np.nan), r"quantiles hold NaN or infinity\. Look for"),
    ],
)
def test_invalid_quantiles_are_rejected(quantiles, message):
    with pytest.raises(zoo.UsageError, match=message):
        value_report([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], ["price"], levels=LEVELS, quantiles=quantiles)


def test_the_plot_shows_the_interval(example, tmp_path):
    targets, predictions, found, _, _ = example
    report = value_report(targets, predictions, NAMES, levels=LEVELS, quantiles=found)
    assert [*report["samples"][0]] == ["true", "predicted", "low", "high"]
    value_plots.plot_quantiles(json.loads(json.dumps(report)), tmp_path / "quantiles.png")
    picture = matplotlib.image.imread(tmp_path / "quantiles.png")
    assert picture.shape[1] > 1.5 * picture.shape[0], "a panel for each value"
    value_plots.plot_quantiles(value_report(targets, predictions, NAMES), tmp_path / "none.png")
    value_plots.plot_quantiles(
        value_report(targets, predictions, NAMES, levels=[0.5], quantiles=found[..., 2:3]), tmp_path / "none.png"
    )
    assert not (tmp_path / "none.png").exists(), "a report without an interval has no such plot"


def test_gradient_boosting_of_quantiles_is_a_baseline():
    prepared = zoo.datasets.load("diabetes").prepare("mlp", quantiles=[0.1, 0.9], hidden_units=(4,))
    report = zoo.evaluate(prepared.build(seed=0), prepared)
    boosted, ridge = report["baselines"]
    assert (boosted["name"], ridge["name"]) == ("HistGradientBoosting", "ridge regression") and "pinball" not in ridge
    columns = [*prepared.data.about["table"]]
    (x, y), (others, true) = (
        (np.array([[row[name] for name in columns] for row in found]), np.array([row["value"][0] for row in found]))
        for found in (rows(prepared.data, "train"), rows(prepared.data, "test"))
    )
    with threadpool_limits(1):  # threads of a busy machine wait for each other
        made = [
            HistGradientBoostingRegressor(loss="quantile", quantile=p, random_state=0).fit(x, y).predict(others)
            for p in (0.1, 0.9)
        ]
    low, high = np.sort(made, axis=0)
    expected = (mean_pinball_loss(true, low, alpha=0.1) + mean_pinball_loss(true, high, alpha=0.9)) / 2
    assert boosted["pinball"] == pytest.approx(expected, rel=1e-6)
    assert boosted["coverage"] == pytest.approx(np.mean((low <= true) & (true <= high)))
    figures = {(figure["metric"], figure["baseline"]): figure["baseline_value"] for figure in report["headline"]}
    assert figures["pinball loss", "HistGradientBoosting"] == boosted["pinball"]
    train = np.quantile(y, [0.1, 0.9])
    assert figures["interval width", "the training quantiles"] == pytest.approx(np.diff(train)[0])
    assert report["intervals"]["coverage"] or report["coverage"] in (0, 1)
