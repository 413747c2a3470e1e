"""Convolutions with fixed kernels and a solved linear layer: series classification without gradient steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from zoo.frozen_head import solve_ridge_head
from zoo.registry import Situation, register_model

if TYPE_CHECKING:
    import keras

_MOST_CELLS = 40_000_000
"""Features of all training examples together: about 160 MB."""
_EXAMPLES, _BATCHES = 512, 4
"""Training examples, and batches that are read for them, from which thresholds are drawn."""


def number_of_features(situation: Situation) -> dict[str, Any]:
    """Returns arguments for the size of the data: many examples get fewer features, which bounds memory and time.

    Example:
        >>> number_of_features(Situation("series_classification", 300, {}))
        {'num_features': 9996}
    """
    features = max(1_680, min(9_996, _MOST_CELLS // max(1, situation.examples)))
    return {"num_features": features}


def options(situation: Situation) -> dict[str, Any]:
    """Returns options for a rocket: its last layer is solved for, and nothing is trained."""
    return {"closed_form": True}


def set_thresholds(model: keras.Model, inputs: Callable[[], Iterable[Mapping[str, np.ndarray]]]) -> None:
    """Sets the thresholds of all kernels to quantiles of their outputs for training series.

    Args:
        model: a model of `build_rocket_model`.
        inputs: returns the batches of training series, dicts with `series`, float32 (batch, steps, channels).

    Example:
        >>> set_thresholds(model, lambda: [{"series": np.zeros((2, 20, 3), np.float32)}])
    """
    import keras

    rows = [row for _, batch in zip(range(_BATCHES), inputs(), strict=False) for row in batch["series"]][:_EXAMPLES]
    steps = max(len(row) for row in rows)
    padded = np.stack([np.pad(row, ((0, steps - len(row)), (0, 0)), constant_values=np.nan) for row in rows])
    layer = model.get_layer("filled")
    series, mask = layer(padded), layer.compute_mask(keras.ops.convert_to_tensor(padded))
    model.get_layer("shares").set_thresholds(series, mask)
    statistics = model.get_layer("statistics")(series, mask=mask)
    model.get_layer("similarities").adapt(np.asarray(statistics, np.float64))


def solve(model: keras.Model, inputs: Mapping[str, np.ndarray], targets: Mapping[str, np.ndarray]) -> None:
    """Solves for the last layer by ridge regression, in which each group of features has its own weight.

    Args:
        model: a model of `build_rocket_model`.
        inputs: the training series, a dict with `series`, float32 (examples, steps, channels).
        targets: a dict with `label`, int (examples,).

    Example:
        >>> model = build_rocket_model(input_shape=(None, 1), num_classes=2, length=50, num_features=336)
        >>> solve(model, {"series": np.random.normal(size=(8, 50, 1))}, {"label": np.arange(8) % 2})
    """
    groups = [model.get_layer(name).output.shape[-1] for name in ("shares", "statistics", "similarities")]
    solve_ridge_head(model, inputs, targets, groups=groups)


@register_model(
    tasks=("series_classification",),
    reference="Dempster, Schmidt and Webb, MiniRocket: a very fast (almost) deterministic transform for time series "
    "classification, KDD 2021; Rahimi and Recht, Random features for large-scale kernel machines, NeurIPS 2007",
    features_layer="features",
    recommended_arguments=number_of_features,
    recommended_options=options,
    data_arguments=("num_classes", "length"),
    closed_form=solve,
    adapt=lambda model, data: set_thresholds(model, data.training_inputs),
    tiny={"input_shape": (None, 3), "num_classes": 3, "length": 12, "num_features": 168, "num_similarities": 10},
    # Channels and widths of 84 kernels, two thresholds of each; 67 statistics to 10 similarities; a dense layer.
    golden=(
        (
            {"input_shape": (None, 3), "num_classes": 3, "length": 12, "num_features": 168, "num_similarities": 10},
            84 * 3 + 84 + 168 + 67 * 10 + 10 + (168 + 67 + 10) * 3 + 3,
        ),
    ),
)
def build_rocket_model(
    input_shape: Sequence[int | None],
    num_classes: int,
    length: int,
    num_features: int = 9_996,
    num_similarities: int = 2_000,
    classifier_activation: Literal["softmax"] | None = "softmax",
) -> keras.Model:
    """MiniRocket's features, statistics of every channel and similarities of these, and a linear layer.

    Use it first for every series classifier: it has no settings, and is often as good as the best trained networks. Input
    `series`: float32 (batch, steps, channels). Trailing steps of NaN are padding, which does not affect the output. Other
    NaN is a missing value, replaced by the value before. Output `probabilities` (or `logits` with
    `classifier_activation=None`): float32 (batch, num_classes).

    Args:
        input_shape: Shape of one series, (steps or null, channels).
        num_classes: Number of classes.
        length: Steps of the longest series, which limits the dilations of the kernels.
        num_features: Number of shares, rounded down to a multiple of 84.
        num_similarities: Number of random Fourier features of the statistics.
        classifier_activation: Activation of the last layer, null for logits.

    Raises:
        UsageError: a size that is not positive.

    Example:
        >>> zoo.build_rocket_model(input_shape=(None, 1), num_classes=2, length=100).get_layer("features").output.shape
        (None, 12019)
    """
    import keras
    from keras import layers

    from zoo.layers import blocks, series
    from zoo.layers.rocket import FillGaps, RandomFourier, RocketFeatures, SeriesStatistics

    blocks.check_positive(
        num_classes=num_classes, length=length, num_features=num_features, num_similarities=num_similarities
    )
    inputs = keras.Input(series.check_series_shape(input_shape), name="series")
    x = FillGaps(length, name="filled")(inputs)
    shares = RocketFeatures(length, num_features, name="shares")(x)
    statistics = SeriesStatistics(name="statistics")(x)
    similarities = RandomFourier(num_similarities, name="similarities")(statistics)
    x = layers.Concatenate(name="features")([shares, statistics, similarities])
    outputs = blocks.classifier(x, num_classes, classifier_activation)
    return keras.Model(inputs, outputs, name="rocket")
