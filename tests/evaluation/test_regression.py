"""The forecasting report compared with scikit-learn and hand-computed metrics."""

from __future__ import annotations

import doctest
import json

import matplotlib.image
import numpy as np
import pytest
from sklearn import metrics

import zoo
from zoo.evaluation import regression, regression_plots
from zoo.evaluation.regression import naive_forecasts, regression_report, summary


@pytest.fixture
def example():
    rng = np.random.default_rng(0)
    targets = rng.gamma(2.0, 50.0, (200, 24))
    predictions = targets + rng.normal(0, 12, targets.shape)
    naive = {
        "yesterday": targets + rng.normal(0, 30, targets.shape),
        "last week": targets + rng.normal(3, 25, targets.shape),
    }
    return targets, predictions, naive


def test_metrics_equal_scikit_learn(example):
    targets, predictions, naive = example
    report = regression_report(targets, predictions, naive=naive, unit="bikes per hour", channel="bikes")
    true, guessed = targets.ravel(), predictions.ravel()
    np.testing.assert_allclose(report["mae"], metrics.mean_absolute_error(true, guessed), rtol=1e-12)
    np.testing.assert_allclose(report["rmse"], metrics.root_mean_squared_error(true, guessed), rtol=1e-12)
    np.testing.assert_allclose(report["r2"], metrics.r2_score(true, guessed), rtol=1e-12)
    np.testing.assert_allclose(report["mape"], metrics.mean_absolute_percentage_error(true, guessed), rtol=1e-12)
    per_step = metrics.mean_absolute_error(targets, predictions, multioutput="raw_values")
    np.testing.assert_allclose(report["mae_per_step"], per_step, rtol=1e-12)
    assert [figures["name"] for figures in report["naive"]] == ["last week", "yesterday"], "the best comes first"
    best = metrics.mean_absolute_error(true, naive["last week"].ravel())
    np.testing.assert_allclose(report["naive"][0]["mae"], best, rtol=1e-12)
    np.testing.assert_allclose(report["skill"], 1 - report["mae"] / best, rtol=1e-12)
    assert (report["num_examples"], report["horizon"], report["unit"]) == (200, 24, "bikes per hour")
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_metrics_equal_hand_computed_values():
    report = regression_report([[10, 0], [0, 20]], [[12, 0], [5, 10]])
    assert report["mae"] == (2 + 0 + 5 + 10) / 4
    assert report["rmse"] == pytest.approx(np.sqrt((4 + 25 + 100) / 4))
    assert report["mean_error"] == (2 + 5 - 10) / 4
    assert report["mape"] is None, "a target is 0"
    assert report["smape"] == pytest.approx((2 * 2 / 22 + 0 + 2 + 2 * 10 / 30) / 4)
    assert report["mae_per_step"] == [3.5, 5.0]
    assert report["naive"] == [] and report["skill"] is None
    assert "MAPE" not in summary(report).replace("sMAPE", "") and "naive" not in summary(report)


def test_equal_targets_have_no_r2_and_no_skill():
    report = regression_report([3.0, 3.0], [3.0, 4.0], naive={"last": [3.0, 3.0]})
    assert report["horizon"] == 1 and report["mae_per_step"] == [0.5]
    assert report["r2"] is None and report["skill"] is None, "nothing to explain, and a naive forecast without error"
    assert "per step" not in summary(report)


def test_summary_reports_a_forecast_worse_than_the_naive_one():
    report = regression_report([[1.0, 2.0]], [[3.0, 4.0]], naive={"last": [[1.0, 1.0]]})
    assert report["skill"] == -3.0
    assert "300.0 % more error than the best simple method" in summary(report)


@pytest.mark.parametrize("window", [24, 25, 168, 200])
@pytest.mark.parametrize("horizon", [1, 24, 30, 180])
def test_naive_forecasts_equal_a_loop(window, horizon):
    series = np.random.default_rng(window).normal(size=(3, window))
    lags = {"day": 24, "last": 1, **({"week": 168} if window >= 168 else {})}
    found = naive_forecasts(series, lags, horizon)
    for name, lag in lags.items():
        for n in range(3):
            for ahead in range(1, horizon + 1):
                time = ahead  # the window's last value is at time 0
                while time > 0:
                    time -= lag
                assert found[name][n, ahead - 1] == series[n, window - 1 + time]


def test_naive_forecast_of_a_periodic_series_is_exact():
    series = np.tile(np.arange(7.0), 10)[None]
    (forecast,) = naive_forecasts(series[:, :30], {"period": 7}, 40).values()
    np.testing.assert_array_equal(forecast, series[:, 30:])


def test_missing_values_are_skipped():
    nan = np.nan
    series = [[1, 2, 3, nan], [nan, 7, nan, nan], [nan, nan, nan, nan]]
    found = naive_forecasts(series, {"two": 2}, 2)["two"]
    # One period earlier; the last known value where no whole period fits; the mean of all known values.
    np.testing.assert_allclose(found, [[3, 2], [7, 7], [3.25, 3.25]])


@pytest.mark.parametrize(
    ("series", "lags", "horizon", "message"),
    [
        (
            np.zeros((1, 100)),
            {"a week ago": 168},
            3,
            r"'a week ago' looks 168 steps back; the window has 100. Pass a window",
        ),
        (np.zeros(100), {"last": 1}, 3, r"series have shape \(100,\); expected \(n, window\)"),
        (np.zeros((1, 9)), {"last": 0}, 3, r"last is 0; expected at least 1 step"),
        (np.zeros((1, 9)), {"last": 1}, 0, r"horizon is 0; expected at least 1 step"),
        (np.full((1, 9), np.nan), {"last": 1}, 1, r"Every value of the series is missing"),
    ],
)
def test_impossible_naive_forecasts_are_rejected(series, lags, horizon, message):
    with pytest.raises(zoo.UsageError, match=message):
        naive_forecasts(series, lags, horizon)


@pytest.mark.parametrize(
    ("targets", "predictions", "naive", "message"),
    [
        (np.zeros((0, 3)), np.zeros((0, 3)), {}, r"targets have shape \(0, 3\); expected \(n, horizon\)"),
        (np.zeros((2, 3, 1)), np.zeros((2, 3, 1)), {}, r"targets have shape \(2, 3, 1\)"),
        (
            np.zeros((2, 3)),
            np.zeros((2, 4)),
            {},
            r"predictions have shape \(2, 4\), targets \(2, 3\). Pass one forecast",
        ),
        (
            np.zeros((2, 3)),
            np.zeros((2, 3)),
            {"day": np.zeros(2)},
            r"naive\['day'\] have shape \(2,\), targets \(2, 3\)",
        ),
        ([[1.0, np.nan]], [[1.0, 1.0]], {}, r"targets hold nan at index \[0, 1\]; expected finite numbers"),
        ([[1.0, 1.0]], [[np.inf, 1.0]], {}, r"predictions hold inf at index \[0, 0\].*the first epoch whose loss"),
    ],
)
def test_invalid_arrays_are_rejected(targets, predictions, naive, message):
    with pytest.raises(zoo.UsageError, match=message):
        regression_report(targets, predictions, naive=naive)


def test_summary_lists_metrics_and_baseline(example):
    targets, predictions, naive = example
    report = regression_report(targets, predictions, naive=naive, unit="bikes per hour")
    text = summary(report)
    assert (
        f"MAE          {report['mae']:.4g} bikes per hour  (best simple method {report['naive'][0]['mae']:.4g}: last week)"
        in text
    )
    assert f"{100 * report['skill']:.1f} % less error" in text and text.endswith("measured on  200 windows")


def test_docstring_examples_run():
    for name in ("regression_report", "naive_forecasts", "summary"):
        function = getattr(regression, name)
        test = doctest.DocTestParser().get_doctest(function.__doc__, vars(regression), name, None, None)
        lines: list[str] = []
        assert not doctest.DocTestRunner().run(test, out=lines.append).failed, "".join(lines)


def test_plots_are_written(example, tmp_path):
    targets, predictions, naive = example
    report = json.loads(json.dumps(regression_report(targets, predictions, naive=naive, unit="bikes per hour")))
    one_step = regression_report(targets[:, :1], predictions[:, :1])
    window = np.random.default_rng(1).gamma(2.0, 50.0, (200, 168))
    window[:, 20:30] = np.nan
    files = [tmp_path / "new" / name for name in ("by_step.png", "one_step.png", "forecasts.png", "single.png")]
    regression_plots.plot_error_by_step(report, files[0])
    regression_plots.plot_error_by_step(one_step, files[1])
    regression_plots.plot_forecasts(window, targets, predictions, files[2], unit="bikes per hour", channel="bikes")
    regression_plots.plot_forecasts(window[:1], targets[:1], predictions[:1], files[3])
    for file in files:
        image = matplotlib.image.imread(file)
        assert image.shape[0] > 300 and image.std() > 0.01
    assert sorted(file.name for file in files[0].parent.iterdir()) == sorted(file.name for file in files)
    with pytest.raises(ValueError, match=r"ends in \.png"):
        regression_plots.plot_error_by_step(report, tmp_path / "plot.pdf")
    with pytest.raises(zoo.UsageError, match=r"do not fit. Pass \(n, window\)"):
        regression_plots.plot_forecasts(window, targets[:5], predictions, tmp_path / "plot.png")
