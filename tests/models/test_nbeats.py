"""N-BEATS compared with NumPy."""

from __future__ import annotations

import numpy as np
import pytest

import zoo


@pytest.mark.parametrize("known", [False, True])
def test_forecasts_are_the_sum_of_the_blocks(known):
    rng = np.random.default_rng(0)
    shape = (3, 4) if known else None
    model = zoo.build_nbeats_model((None, 2), 3, length=5, units=7, num_blocks=3, num_layers=2, known_shape=shape)
    for weight in model.weights:
        weight.assign(rng.normal(size=weight.shape) / 2)
    series, ahead = rng.normal(size=(6, 8, 2)), rng.normal(size=(6, 3, 4))
    series[0, 6] = np.nan  # a missing value, which is replaced by the one before
    whole = series.copy()
    whole[0, 6] = whole[0, 5]
    rest, forecast = whole[:, -5:].reshape(6, 10), np.zeros((6, 3))
    last, bias = (np.asarray(weight) for weight in model.get_layer("values").weights)
    for block in range(1, 4):
        x = np.concatenate([rest, ahead.reshape(6, 12)], axis=1) if known else rest
        for layer in range(1, 3):
            x = np.maximum(dense(model, f"block_{block}_dense_{layer}", x), 0)
        forecast += x @ last[7 * (block - 1) : 7 * block]
        if block < 3:
            rest = rest - dense(model, f"block_{block}_backcast", x)
    inputs = [series, ahead] if known else series
    np.testing.assert_allclose(model(inputs), forecast + bias, rtol=1e-3, atol=1e-3)


def dense(model, name, x):
    kernel, bias = (np.asarray(weight, np.float64) for weight in model.get_layer(name).weights)
    return x @ kernel + bias


def test_invalid_sizes_are_rejected():
    with pytest.raises(zoo.UsageError, match=r"num_blocks is 0; expected a whole number of at least 1"):
        zoo.build_nbeats_model((None, 1), 3, length=5, num_blocks=0)
