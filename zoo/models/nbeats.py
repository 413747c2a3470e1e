"""N-BEATS: dense blocks, each of which forecasts from what the blocks before it have left of the window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from zoo.registry import Situation, register_model

if TYPE_CHECKING:
    import keras


def options(situation: Situation) -> dict[str, Any]:
    """Returns options for N-BEATS: training ends when the loss of the validation split no longer falls, and the weights of
    its best epoch are kept.

    Example:
        >>> options(Situation("forecasting", 10_000, {}))["batch_size"]
        256
    """
    return {
        "epochs": 30,
        "batch_size": 256 if situation.examples > 4_000 else 64,
        "learning_rate": 1e-3,
        "schedule": "cosine",
        "warmup_fraction": 0.05,
        "patience": 8,
        "keep_best": 1,
    }


@register_model(
    tasks=("forecasting",),
    reference="Oreshkin, Carpov, Chapados and Bengio, N-BEATS: Neural basis expansion analysis for interpretable time series "
    "forecasting, ICLR 2020, generic architecture; inputs that are known in advance as in Olivares et al., NBEATSx, "
    "International Journal of Forecasting 39(2), 2023",
    features_layer="features",
    recommended_options=options,
    search_space={
        "config.learning_rate": "1e-4:3e-3:log",
        "model.units": "64,128,256",
        "model.num_blocks": "2:8",
        "model.dropout": "0:0.4",
    },
    data_arguments=("num_classes", "length", "known_shape"),
    tiny={"input_shape": (None, 3), "num_classes": 2, "length": 6, "units": 16, "num_blocks": 2, "num_layers": 1},
    # Of 168 steps: a block has 168 x 128 + 128, 128 x 128 + 128, and a backcast of 128 x 168 + 168, but for the last one; the
    # forecasts of four blocks have 512 x 24 + 24.
    golden=(
        (
            {"input_shape": (None, 1), "num_classes": 24, "length": 168},
            4 * (168 * 128 + 128 + 128 * 128 + 128) + 3 * (128 * 168 + 168) + 512 * 24 + 24,
        ),
    ),
)
def build_nbeats_model(
    input_shape: Sequence[int | None],
    num_classes: int,
    length: int,
    units: int = 128,
    num_blocks: int = 4,
    num_layers: int = 2,
    dropout: float = 0.0,
    known_shape: Sequence[int] | None = None,
) -> keras.Model:
    """N-BEATS: dense blocks, each of which forecasts from what the blocks before it have left of the window.

    Use it next to `nlinear` where there are thousands of windows and the relation is not linear. Input `series`: float32
    (batch, steps, channels); the last `length` steps are used, and a shorter series is extended by its first value. Trailing
    NaN is padding; other NaN is a missing value, replaced by the value before. Input `known`, with `known_shape`: what is
    known in advance of each step, float32 (batch, horizon, features), which every block reads. Output `values`: float32
    (batch, num_classes), the sum of the forecasts of all blocks. This sum is one dense layer on the outputs of all blocks.

    Args:
        input_shape: Shape of one series, (steps or null, channels).
        num_classes: Number of steps to forecast.
        length: Steps of the window.
        units: Units of the dense layers of a block.
        num_blocks: Number of blocks.
        num_layers: Dense layers of a block.
        dropout: Dropout rate of the output of each block.
        known_shape: Shape of what is known in advance, (horizon, features); null if nothing is.

    Raises:
        UsageError: a size that is not positive, or a fraction out of range.

    Example:
        >>> zoo.build_nbeats_model(input_shape=(None, 1), num_classes=24, length=168).count_params()
        229904
    """
    import keras
    from keras import layers

    from zoo.layers import blocks, series
    from zoo.layers.rocket import FillGaps, LastSteps

    blocks.check_positive(
        num_classes=num_classes, length=length, units=units, num_blocks=num_blocks, num_layers=num_layers
    )
    blocks.check_fraction(dropout=dropout)
    inputs = keras.Input(series.check_series_shape(input_shape), name="series")
    known = series.known_input(known_shape)
    ahead = [layers.Flatten(name="steps_ahead")(part) for part in known]
    x = FillGaps(length, name="filled")(inputs)
    rest = layers.Flatten(name="steps")(LastSteps(length, name="window")(x))
    found = []
    for block in range(1, num_blocks + 1):
        h = layers.Concatenate(name=f"block_{block}_inputs")([rest, *ahead]) if ahead else rest
        for layer in range(1, num_layers + 1):
            h = layers.Dense(units, activation="relu", name=f"block_{block}_dense_{layer}")(h)
        if dropout:
            h = layers.Dropout(dropout, name=f"block_{block}_dropout")(h)
        found.append(h)
        if block < num_blocks:
            backcast = layers.Dense(rest.shape[-1], name=f"block_{block}_backcast")(h)
            rest = layers.Subtract(name=f"block_{block}_rest")([rest, backcast])
    x = layers.Concatenate(name="features")(found) if len(found) > 1 else layers.Identity(name="features")(found[0])
    outputs = blocks.classifier(x, num_classes, "linear")
    return keras.Model([inputs, *known] if known else inputs, outputs, name="nbeats")
