"""A linear map from the window of a series to its next steps, solved at once, with an optional dense network beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.registry import Situation, register_model

if TYPE_CHECKING:
    import keras

_FEW = 1_000
"""Up to this number of windows the linear map is solved for and nothing is trained."""
_ALPHAS = np.logspace(-5, 3, 17)
"""Penalties of the linear map for each window and inputs of mean square 1."""
_HELD = 0.2
_MOST_ROWS = 4_000
_MOST_CELLS = 100_000_000


def hidden_layers(situation: Situation) -> dict[str, Any]:
    """Returns arguments of a linear forecaster: a dense network beside it for many windows.

    Example:
        >>> hidden_layers(Situation("forecasting", 10_000, {}))["hidden_units"]
        (128,)
    """
    return {"hidden_units": (128,), "dropout": 0.2} if situation.examples > _FEW else {}


def options(situation: Situation) -> dict[str, Any]:
    """Returns options for a linear forecaster. Its linear map is solved for. If it has a dense network, all weights are then
    trained from there with a small rate, and those of the best epoch of the validation split are kept.

    Example:
        >>> options(Situation("forecasting", 100, {}))
        {'closed_form': True}
    """
    if not situation.arguments.get("hidden_units"):
        return {"closed_form": True}
    return {
        "head_first": True,
        "epochs": 15,
        "batch_size": 64,
        "learning_rate": 5e-4,
        "schedule": "cosine",
        "warmup_fraction": 0.05,
        "patience": 4,
        "keep_best": 1,
    }


def solve(
    model: keras.Model,
    inputs: Mapping[str, np.ndarray],
    targets: Mapping[str, np.ndarray],
    levels: Sequence[float] = (),
    overlap: int = 1,
) -> None:
    """Sets the weights of the linear map by ridge regression, and those behind the dense network to 0.

    The penalty has the smallest mean absolute error on the last fifth of the windows; the map is then fitted to all. A
    quantile of a step is its forecast plus that quantile of the errors on the last fifth. Windows that share forecast steps
    with these are not fitted while the penalty is chosen.

    Args:
        model: a model of `build_nlinear_model`.
        inputs: the training windows in the order of time, a dict with `series`, float32 (windows, steps, channels), and
            perhaps `known`, (windows, horizon, features).
        targets: a dict with `forecast`, float32 (windows, horizon).
        overlap: the number of neighbouring windows that may share forecast steps: of several series more than the horizon.
        levels: levels of the quantiles of each step, which follow the forecasts in the model's output.

    Example:
        >>> model = build_nlinear_model(input_shape=(None, 1), num_classes=2, length=8)
        >>> solve(model, {"series": np.random.normal(size=(40, 8, 1))}, {"forecast": np.random.normal(size=(40, 2))})
    """
    import keras

    (target,) = targets.values()
    body = keras.Model(model.inputs, model.get_layer("flat").output)
    size = int(body.outputs[0].shape[-1])
    most = max(100, min(len(target), _MOST_CELLS // size, _MOST_ROWS if size > _MOST_ROWS else len(target)))
    rows = np.unique(np.linspace(0, len(target) - 1, most).astype(int))
    names = [tensor.name for tensor in model.inputs]
    parts = [
        body([inputs[name][rows[start : start + 1_024]] for name in names]) for start in range(0, len(rows), 1_024)
    ]
    x, y = np.concatenate([np.asarray(part) for part in parts]), np.asarray(target, np.float64)[rows]
    held = max(1, int(_HELD * len(x)))
    # Windows that share forecast steps with the held-out ones are left out.
    gap = max(y.shape[1], math.ceil(overlap * len(rows) / len(target)))
    kept = max(1, len(x) - held - gap)
    errors = [y[-held:] - x[-held:] @ kernel - bias for kernel, bias in _ridge(x[:kept], y[:kept], _ALPHAS)]
    best = int(np.argmin([np.abs(error).mean() for error in errors]))
    ((kernel, bias),) = _ridge(x, y, _ALPHAS[[best]])
    if levels:
        spread = np.quantile(errors[best], levels, axis=0).T  # (horizon, levels)
        kernel = np.concatenate([kernel, np.repeat(kernel, len(levels), axis=1)], axis=1)
        bias = np.concatenate([bias, (bias[:, np.newaxis] + spread).ravel()])
    last = model.layers[-1]
    whole = np.zeros(last.kernel.shape)
    whole[:size] = kernel
    last.kernel.assign(whole)
    last.bias.assign(bias)


def _ridge(x: np.ndarray, y: np.ndarray, alphas: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns weights and biases of ridge regressions. A constant input has no effect."""
    center, middle = x.mean(axis=0, dtype=np.float64), y.mean(axis=0)
    x, y = (x - center.astype(x.dtype)), y - middle
    scale = max(float(np.square(x, dtype=np.float64).sum(axis=1).mean()), 1e-12)
    wide = x.shape[1] > len(x)
    values, vectors = np.linalg.eigh((x @ x.T if wide else x.T @ x).astype(np.float64))
    projected = vectors.T @ (y if wide else x.T @ y)
    found = []
    for alpha in alphas * len(x) * scale / x.shape[1]:
        weights = vectors @ (projected / (np.maximum(values, 0) + alpha)[:, np.newaxis])
        weights = x.T @ weights if wide else weights
        found.append((weights, middle - center @ weights))
    return found


@register_model(
    tasks=("forecasting",),
    reference="Zeng, Chen, Zhang and Xu, Are Transformers effective for time series forecasting?, AAAI 2023; a dense network "
    "beside a linear map as in Das et al., Long-term forecasting with TiDE, Transactions on Machine Learning Research, 2023",
    features_layer="features",
    recommended_arguments=hidden_layers,
    recommended_options=options,
    data_arguments=("num_classes", "length", "known_shape"),
    closed_form=solve,
    tiny={"input_shape": (None, 3), "num_classes": 2, "length": 6, "hidden_units": (5,)},
    golden=(
        ({"input_shape": (None, 1), "num_classes": 24, "length": 168}, 168 * 24 + 24),
        (
            {"input_shape": (None, 8), "num_classes": 24, "length": 168, "hidden_units": (128,)},
            1_344 * 128 + 128 + (1_344 + 128) * 24 + 24,
        ),
    ),
)
def build_nlinear_model(
    input_shape: Sequence[int | None],
    num_classes: int,
    length: int,
    hidden_units: Sequence[int] = (),
    dropout: float = 0.0,
    known_shape: Sequence[int] | None = None,
) -> keras.Model:
    """A linear map from a window to the next steps, with a dense network beside it.

    Use it first for every forecast: linear maps are hard to beat, most of all with few windows. The preprocessor has already
    subtracted the last value, or that of a season earlier, as NLinear does. Input `series`: float32 (batch, steps, channels);
    the last `length` steps are used, and a shorter series is extended by its first value. Trailing NaN is padding; other NaN
    is a missing value, replaced by the value before. Input `known`, with `known_shape`: what is known in advance of
    each step, float32 (batch, horizon, features). Output `values`: float32 (batch, num_classes).

    Args:
        input_shape: Shape of one series, (steps or null, channels).
        num_classes: Number of steps to forecast.
        length: Steps of the window.
        hidden_units: Units of each dense layer beside the linear map; none for the linear map alone.
        dropout: Dropout rate of the outputs of each dense layer.
        known_shape: Shape of what is known in advance, (horizon, features); null if nothing is.

    Raises:
        UsageError: a size that is not positive, or a fraction out of range.

    Example:
        >>> zoo.build_nlinear_model(input_shape=(None, 1), num_classes=24, length=168).count_params()
        4056
    """
    import keras
    from keras import layers

    from zoo.layers import blocks, series
    from zoo.layers.rocket import FillGaps, LastSteps

    blocks.check_positive(num_classes=num_classes, length=length)
    blocks.check_each_positive(hidden_units=hidden_units)
    blocks.check_fraction(dropout=dropout)
    inputs = keras.Input(series.check_series_shape(input_shape), name="series")
    x = FillGaps(length, name="filled")(inputs)
    x = LastSteps(length, name="window")(x)
    known = series.known_input(known_shape)
    x = layers.Flatten(name="steps")(x)
    if known:
        x = layers.Concatenate(name="with_known")([x, layers.Flatten(name="steps_ahead")(known[0])])
    # Adam moves all weights of the linear map alike. The factor keeps the sum of these moves small, however long the window.
    flat = layers.Rescaling(x.shape[-1] ** -0.5, name="flat")(x)
    for i, count in enumerate(hidden_units, start=1):
        x = layers.Dense(count, activation="relu", name=f"dense_{i}")(x)
        if dropout:
            x = layers.Dropout(dropout, name=f"dropout_{i}")(x)
    x = layers.Concatenate(name="features")([flat, x]) if hidden_units else layers.Identity(name="features")(flat)
    outputs = blocks.classifier(x, num_classes, "linear")
    return keras.Model([inputs, *known] if known else inputs, outputs, name="nlinear")
