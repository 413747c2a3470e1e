"""The default models of series, compared with plain NumPy and scikit-learn."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from sklearn.linear_model import Ridge

import zoo
from zoo import minirocket
from zoo.frozen_head import solve_ridge_head
from zoo.layers.rocket import FillGaps, LastSteps, RocketFeatures, SeriesStatistics
from zoo.models import nlinear, rocket

NAN = float("nan")


@pytest.fixture(autouse=True)
def same_start():
    keras.utils.set_random_seed(0)


def walks(count: int, steps: int, channels: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(count, steps, channels)).cumsum(axis=1).astype(np.float32)


def naive_output(series: np.ndarray, kernel: int, dilation: int, channels: np.ndarray, step: int) -> float:
    """Returns one convolution, weight by weight; beyond both ends there are zeros."""
    total = 0.0
    for j, weight in enumerate(minirocket.KERNELS[kernel]):
        place = step + (j - 4) * dilation
        if 0 <= place < len(series):
            total += weight * series[place][channels > 0].sum()
    return total


def test_the_kernels_are_those_of_the_paper():
    assert minirocket.KERNELS.shape == (84, 9) and (minirocket.KERNELS.sum(axis=1) == 0).all()
    assert len(np.unique(minirocket.KERNELS, axis=0)) == 84
    plan = minirocket.dilations(150, 9_996)
    assert sum(count for _, count in plan) == 119 and plan[0][0] == 1 and 8 * plan[-1][0] < 150
    assert minirocket.dilations(3, 84) == [(1, 1)], "a series that is shorter than a kernel"


def test_shares_equal_a_plain_loop():
    """Hard thresholds in the baseline, soft ones in the layer, on a series of 20 steps and one of 13 with padding."""
    x = walks(2, 20, 3)
    x[1, 13:] = NAN
    layer = RocketFeatures(20, 400)
    mask = np.array([[True] * 20, [True] * 13 + [False] * 7])
    filled = FillGaps(20)(x)
    layer.build(filled.shape)
    layer.set_thresholds(filled, mask)
    found = np.asarray(layer(filled, mask=keras.ops.convert_to_tensor(mask)))
    chosen, scales, offsets = (np.asarray(part) for part in (layer.channels, layer.scales, layer.offsets))
    for row, length in enumerate((20, 13)):
        expected, start = [], 0
        for number, (dilation, count) in enumerate(layer.plan):
            order, half = layer._orders[number], []
            for position, kernel in enumerate(order):
                reach = 4 * dilation
                steps = range(length)
                if position >= 42 and length > 2 * reach:
                    steps = range(reach, length - reach)
                assert minirocket.is_padded(number)[kernel] == (position < 42)
                values = np.array(
                    [naive_output(x[row, :length], kernel, dilation, chosen[number][:, position], s) for s in steps]
                )
                above = values[:, np.newaxis] * scales[number, position] + offsets[position, start : start + count]
                half.append(np.clip(above, 0, 1).mean(axis=0))
            expected.append(np.concatenate(half))
            start += count
        np.testing.assert_allclose(found[row], np.concatenate(expected), atol=2e-4)


def test_the_baseline_equals_a_plain_loop():
    series = list(walks(3, 21, 2))
    plan = minirocket.dilations(21, 300)
    generator = np.random.default_rng(0)
    chosen = [minirocket.chosen_channels(2, generator) for _ in plan]
    matrices = [minirocket.weights(part) for part in chosen]
    bounds = [found for found, _ in minirocket.thresholds(series, plan, matrices, generator)]
    found = minirocket.features(series, plan, matrices, bounds)
    start = 0
    for number, (dilation, count) in enumerate(plan):
        for i in range(count):
            for kernel in (0, 1, 40, 83):
                steps = range(21) if minirocket.is_padded(number)[kernel] else range(4 * dilation, 21 - 4 * dilation)
                values = [naive_output(series[2], kernel, dilation, chosen[number][:, kernel], s) for s in steps]
                share = np.mean(np.array(values) > bounds[number][kernel, i])
                assert abs(found[2, start + kernel] - share) < 0.06, "a rounding may move one of 21 steps"
            start += 84


def test_padding_and_gaps():
    x = np.float32([[[NAN], [2], [NAN], [NAN], [5], [NAN]]])
    assert FillGaps(6)(x)[0, :, 0].numpy().tolist() == [2, 2, 2, 2, 5, 5]
    np.testing.assert_array_equal(minirocket.filled(x[0]).ravel(), [2, 2, 2, 2, 5])
    mask = FillGaps(6).compute_mask(keras.ops.convert_to_tensor(x))
    assert LastSteps(3)(FillGaps(6)(x), mask=mask)[0, :, 0].numpy().tolist() == [2, 2, 5]
    assert LastSteps(7)(FillGaps(6)(x), mask=mask)[0, :, 0].numpy().tolist() == [2, 2, 2, 2, 2, 2, 5]


def test_statistics_ignore_padding():
    x = walks(1, 32, 2)
    found = np.asarray(SeriesStatistics()(x))[0]
    parts = x[0].reshape(16, 2, 2).mean(axis=1)
    expected = [x[0].mean(0), x[0].std(0), x[0].min(0), x[0].max(0), x[0, 0], x[0, -1], parts.ravel(), [np.log(32)]]
    np.testing.assert_allclose(found, np.concatenate(expected), rtol=1e-4, atol=1e-5)
    padded = np.concatenate([x, np.repeat(x[:, -1:], 5, axis=1)], axis=1)
    mask = keras.ops.convert_to_tensor(np.arange(37)[np.newaxis] < 32)
    np.testing.assert_allclose(np.asarray(SeriesStatistics()(padded, mask=mask))[0], found, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:An ill-conditioned matrix")
@pytest.mark.parametrize("count", [12, 40])
def test_the_solved_head_is_ridge_regression_with_a_penalty_by_leave_one_out(count):
    rng = np.random.default_rng(0)
    inputs = keras.Input((30,))
    model = keras.Model(inputs, keras.layers.Dense(3, activation="softmax", name="probabilities")(inputs))
    labels = rng.integers(0, 3, count)
    x = (rng.normal(size=(count, 30)) + np.eye(3, 30)[labels]).astype(np.float32)
    solve_ridge_head(model, {"x": x}, {"label": labels})
    scaled, classes = (x - x.mean(0)) / x.std(0), np.eye(3)[labels]
    best = None
    for alpha in np.logspace(-7, 2, 28) * 30:
        errors = []
        for i in range(count):
            kept = np.arange(count) != i
            ridge = Ridge(alpha).fit(scaled[kept], classes[kept])
            errors.append(((ridge.predict(scaled[[i]]) - classes[i]) ** 2).mean())
        best = min(best, (np.mean(errors), alpha)) if best else (np.mean(errors), alpha)
    scores = Ridge(best[1]).fit(scaled, classes).predict(scaled)
    logits = np.log(np.asarray(model(x)))
    ratio = (logits[:, 0] - logits[:, 1]) / (scores[:, 0] - scores[:, 1])
    np.testing.assert_allclose(ratio, np.median(ratio), rtol=2e-2)
    assert ratio[0] > 0


def test_constant_channels_and_short_series_are_solved():
    x = walks(30, 5, 2)
    x[..., 1] = 3
    x[3, 2:] = NAN
    labels = np.arange(30) % 2
    x[labels == 1, :, 0] += 4
    model = zoo.build_rocket_model((None, 2), 2, length=5, num_features=336, num_similarities=20)
    rocket.set_thresholds(model, lambda: [{"series": x}])
    rocket.solve(model, {"series": x}, {"label": labels})
    outputs = np.asarray(model(x))
    assert np.isfinite(outputs).all() and (outputs.argmax(1) == labels).mean() > 0.8


def test_the_linear_forecaster_finds_the_map():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 6, 2)).astype(np.float32)
    kernel = rng.normal(size=(12, 3))
    y = (x.reshape(400, 12) @ kernel + 5).astype(np.float32)
    model = zoo.build_nlinear_model((None, 2), 3, length=6, hidden_units=(4,))
    nlinear.solve(model, {"series": x}, {"forecast": y})
    np.testing.assert_allclose(np.asarray(model(x)), y, atol=0.01)
    short = np.asarray(model(x[:, :2]))
    np.testing.assert_allclose(
        short, np.asarray(model(np.pad(x[:, :2], ((0, 0), (4, 0), (0, 0)), mode="edge"))), atol=1e-5
    )


def test_windows_that_share_steps_with_the_held_out_ones_are_not_fitted(monkeypatch):
    """The windows of several series alternate, so more of them lie between two that share no step."""
    fitted, ridge = [], nlinear._ridge
    monkeypatch.setattr(nlinear, "_ridge", lambda x, y, alphas: (fitted.append(len(x)), ridge(x, y, alphas))[1])
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(100, 6, 1)).astype(np.float32), rng.normal(size=(100, 3))
    model = zoo.build_nlinear_model((None, 1), 3, length=6)
    for overlap, left in ((1, 77), (3, 77), (24, 56)):  # a fifth is held out
        nlinear.solve(model, {"series": x}, {"forecast": y}, overlap=overlap)
        assert fitted == [left, 100], "the map is fitted to all windows in the end"
        fitted.clear()
