"""Quantiles of forecasts: solved weights, served outputs and the report compared with NumPy and scikit-learn."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from sklearn.metrics import mean_pinball_loss

import zoo
from source_examples import rows
from zoo import copies
from zoo.datasets.preprocessing.series import SeriesPreprocessor
from zoo.evaluation import forecast_quantiles
from zoo.export import live
from zoo.metrics import QuantileLoss
from zoo.models.nlinear import solve

LEVELS = (0.1, 0.5, 0.9)
NAMES = [f"forecast_q{percent}" for percent in (10, 50, 90)]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A short series with a season and skewed noise, prepared for three steps and their quantiles."""
    rng = np.random.default_rng(0)
    sold = 20 + 5 * np.sin(np.arange(400) * 2 * np.pi / 7) + rng.gamma(2.0, 2.0, 400)
    path = tmp_path_factory.mktemp("series") / "sales.csv"
    pd.DataFrame({"sold": sold}).to_csv(path, index=False)
    data = zoo.datasets.load(f"csv:{path}", columns={"forecast": "sold"}, window=14, horizon=3)
    return data.prepare("nlinear", quantiles=LEVELS)


def test_the_loss_is_the_absolute_error_plus_the_pinball_loss():
    rng = np.random.default_rng(0)
    true, output = rng.normal(size=(50, 3)), rng.normal(size=(50, 12))
    found = QuantileLoss(LEVELS, 1, reduction=None, dtype="float64")(true, output).numpy()
    levels = [mean_pinball_loss(true, output[:, 3:].reshape(50, 3, 3)[..., k], alpha=p) for k, p in enumerate(LEVELS)]
    assert found.mean() == pytest.approx(np.abs(output[:, :3] - true).mean() + np.mean(levels), rel=1e-6)


def test_the_solved_quantiles_are_those_of_the_errors_on_the_last_windows():
    rng = np.random.default_rng(0)
    series, forecast = rng.normal(size=(60, 8, 1)), rng.normal(size=(60, 2))
    model = zoo.build_nlinear_model(input_shape=(None, 1), num_classes=8, length=8)
    solve(model, {"series": series}, {"forecast": forecast}, levels=LEVELS)
    kernel, bias = (weight.numpy() for weight in model.layers[-1].weights)
    np.testing.assert_allclose(kernel[:, 2:], np.repeat(kernel[:, :2], 3, axis=1))
    shifts = bias[2:].reshape(2, 3) - bias[:2, np.newaxis]
    assert (np.diff(shifts) > 0).all()
    plain = zoo.build_nlinear_model(input_shape=(None, 1), num_classes=2, length=8)
    solve(plain, {"series": series}, {"forecast": forecast})
    np.testing.assert_allclose(plain.layers[-1].kernel, kernel[:, :2])
    # 12 of 60 windows are held out; the 2 before them share forecast steps with them.
    weights = [ridge_without_intercept(series[:46, :, 0], forecast[:46], alpha) for alpha in np.logspace(-5, 3, 17)]
    errors = [forecast[48:] - other(series[48:, :, 0]) for other in weights]
    best = min(errors, key=lambda error: np.abs(error).mean())
    np.testing.assert_allclose(shifts, np.quantile(best, LEVELS, axis=0).T, atol=1e-4)


def ridge_without_intercept(x, y, alpha):
    """Ridge regression whose penalty is for each window, of inputs divided by the root of their number."""
    x, center = x / 8**0.5, x.mean(axis=0) / 8**0.5
    scale = np.square(x - center).sum(axis=1).mean()
    gram = (x - center).T @ (x - center) + alpha * len(x) * scale / 8 * np.eye(8)
    kernel = np.linalg.solve(gram, (x - center).T @ (y - y.mean(axis=0)))
    return lambda other: (other / 8**0.5 - center) @ kernel + y.mean(axis=0)


def test_quantiles_get_the_unit_and_the_start_of_the_forecast():
    preprocess = SeriesPreprocessor((10.0,), (2.0,), longest=4, horizon=2, season=1, quantiles=[0.1, 0.9])
    _, extras = preprocess.serve({"series": np.float32([[[5], [7]]])})
    scaled = np.float32([[[-1, 1], [0, 3]]])
    np.testing.assert_allclose(preprocess.unscale(scaled, extras), [[[5, 9], [7, 13]]])
    assert preprocess.targets.arguments == {"num_classes": 6}
    assert SeriesPreprocessor(**preprocess.config()) == preprocess


def test_report_and_served_outputs_have_the_same_quantiles(prepared):
    assert prepared.complete().closed_form, "few windows are solved, quantiles included"
    model = prepared.build(seed=0)
    inputs, targets, _ = next(iter(prepared.batches("train", 1_000)))
    solve(model, {"series": inputs["series"].numpy()}, {"forecast": targets["forecast"].numpy()}, levels=LEVELS)
    copies.record_decided(model, prepared.decide(model))
    report = zoo.evaluate(model, prepared, split="validation")
    examples = rows(prepared.data, "validation")
    true = np.array([example["forecast"] for example in examples])
    signature = live.signatures(model, prepared.interface)["serving_default"]
    answer = signature({"series": tf.constant(prepared.preprocessor.to_requests(examples)["series"])})
    served = np.stack([answer[name].numpy() for name in NAMES], axis=-1)
    assert (np.diff(served, axis=-1) >= 0).all() and served.shape == (*true.shape, 3)
    for k, row in enumerate(report["quantiles"]):
        expected = mean_pinball_loss(true, served[..., k], alpha=LEVELS[k])
        assert row["pinball"] == pytest.approx(expected, rel=1e-4)
        assert row["below"] == pytest.approx(np.mean(true <= served[..., k]), abs=0.01)
        assert row["below"] == pytest.approx(LEVELS[k], abs=0.04), "calibrated on these very windows"
    inside = (served[..., 0] <= true) & (true <= served[..., 2])
    assert report["coverage"] == pytest.approx(inside.mean(), abs=0.01) and report["interval"] == [0.1, 0.9]
    assert report["coverage_per_step"] == pytest.approx(inside.mean(axis=0), abs=0.03)
    assert report["interval_width"] == pytest.approx((served[..., 2] - served[..., 0]).mean(), rel=1e-4)
    low, high = report["intervals"]["pinball"]
    assert low < report["pinball"] < high
    json.dumps(report, allow_nan=False)


def test_simple_methods_have_quantiles_too(prepared):
    report = zoo.evaluate(prepared.build(seed=0), prepared)
    pinball = {figure["baseline"] for figure in report["headline"] if figure["metric"] == "pinball loss"}
    assert {"the last value", "7 steps before", "ridge regression on the window"} <= pinball
    known, examples = rows(prepared.data, "validation"), rows(prepared.data, "test")
    naive = next(part for part in report["naive"] if part["name"] == "the last value")
    errors = np.array([e["forecast"] - e["series"][-1, 0] for e in known])
    shifts = np.quantile(errors, LEVELS, axis=0, method="weibull").T
    predicted = np.array([e["series"][-1] for e in examples])[:, np.newaxis] + shifts
    true = np.array([e["forecast"] for e in examples])
    expected = np.mean([mean_pinball_loss(true, predicted[..., k], alpha=p) for k, p in enumerate(LEVELS)])
    assert naive["pinball"] == pytest.approx(expected, rel=1e-5)
    inside = (predicted[..., 0] <= true) & (true <= predicted[..., 2])
    assert naive["coverage"] == pytest.approx(inside.mean())


def test_quantiles_of_forecasts_of_another_shape_are_rejected():
    with pytest.raises(zoo.UsageError, match=r"quantiles have shape \(2, 1, 2\); expected \(2, 1, 3\).*Pass what"):
        forecast_quantiles.figures(np.zeros((2, 1)), np.zeros((2, 1, 2)), LEVELS)


@pytest.mark.slow
def test_a_trained_network_forecasts_quantiles(tmp_path):
    """Noise that doubles in the second half of each week has intervals twice as wide there."""
    rng, step = np.random.default_rng(0), np.arange(3_000)
    sold = 20 + np.where(step % 8 < 4, 1.0, 4.0) * rng.normal(size=3_000)
    pd.DataFrame({"sold": sold}).to_csv(tmp_path / "sales.csv", index=False)
    arguments = {"columns": {"forecast": "sold"}, "window": 16, "horizon": 2}
    result = zoo.run(
        "lstm",
        f"csv:{tmp_path / 'sales.csv'}",
        data_arguments=arguments,
        model_arguments={"units": (16,)},
        config={"epochs": 15, "quantiles": [0.1, 0.9], "learning_rate": 0.01},
        run_directory=tmp_path / "run",
    )
    assert result.verification.passed and result.report["coverage"] == pytest.approx(0.8, abs=0.06)
    answers = zoo.load(tmp_path / "run").predict(
        [sold[2_400 - 16 : 2_400, np.newaxis], sold[2_404 - 16 : 2_404, np.newaxis]]
    )
    quiet, noisy = (answer["forecast_q90"] - answer["forecast_q10"] for answer in answers)
    assert (noisy > 2 * quiet).all()
