"""Stacked LSTM: series to a label or a number at every step, or once at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from zoo.errors import UsageError
from zoo.registry import register_model

if TYPE_CHECKING:
    import keras


_UNROLLED = 16
"""Maximum fixed length of series that are computed without a loop. This is a third faster but compiles longer."""


@register_model(
    tasks=("series_classification", "forecasting", "image_classification"),
    reference="Hochreiter and Schmidhuber, Long short-term memory, Neural Computation 9(8), 1997; forget gates: Gers, "
    "Schmidhuber and Cummins, Learning to forget, Neural Computation 12(10), 2000",
    features_layer="features",
    data_arguments=("num_classes", "known_shape"),
    jit_compile=True,  # only series of a fixed length are compiled
    preprocessing={"image_size": (28, 28), "rows_as_steps": True},
    search_space={
        "config.learning_rate": "3e-4:1e-2:log",
        "model.units": "[32],[64],[64, 64],[128, 128]",
        "model.dropout": "0:0.5",
    },
    tiny={"input_shape": (None, 3), "num_classes": 3, "units": (16, 12)},
    # A layer of u units over c channels: 4 ((c + u) u + u).
    golden=(
        ({"input_shape": (10, 1), "num_classes": 10}, 50_570),
        ({"input_shape": (28, 28), "num_classes": 10, "units": (128,), "return_sequences": False}, 81_674),
    ),
)
def build_lstm_model(
    input_shape: Sequence[int | None],
    num_classes: int,
    units: Sequence[int] = (64, 64),
    return_sequences: bool = True,
    bidirectional: bool = False,
    dropout: float = 0.0,
    classifier_activation: Literal["softmax", "linear"] | None = "softmax",
    known_shape: Sequence[int] | None = None,
) -> keras.Model:
    """Stacked LSTM layers with an output at every step or one at the end.

    Use it for series in which distant steps matter; for an image the rows are the steps. Input `series`: float32
    (batch, steps, channels). Trailing steps of NaN are padding, which does not affect the output. Other NaN is a missing
    value, read as 0. Output `probabilities` (`logits` with `classifier_activation=None`; `values`, numbers to forecast, with
    "linear"): float32 (batch, steps, num_classes), or with `return_sequences=False` (batch, num_classes) after the last
    real step.

    Args:
        input_shape: Shape of one series, (steps or null, channels).
        num_classes: Number of classes, or of numbers to forecast.
        units: Units of each LSTM in each direction; at least one LSTM.
        return_sequences: Whether there is an output at every step, or one for the whole series.
        bidirectional: Whether a second LSTM per layer reads the series backwards. Every output then depends on all steps.
        dropout: Dropout rate of each LSTM's outputs.
        classifier_activation: Activation of the last layer, null for logits, linear for numbers.
        known_shape: Shape of the input `known`, what is known in advance of each step to forecast, (horizon, features); null
            if nothing is. Only with `return_sequences=False`.

    Raises:
        UsageError: a size that is not positive, an empty list of units, or a fraction out of range.

    Example:
        >>> zoo.build_lstm_model(input_shape=(10, 1), num_classes=10).count_params()
        50570
    """
    import keras
    from keras import layers

    from zoo.layers import blocks, series
    from zoo.layers.recurrent import lstm_gru

    blocks.check_each_positive(units=units)
    if not units:
        raise UsageError("units is empty; expected one number per LSTM. Pass units=[64, 64].")
    blocks.check_fraction(dropout=dropout)
    inputs = keras.Input(series.check_series_shape(input_shape), name="series")
    x = series.FillMissing(name="filled")(inputs)
    short = input_shape[0] is not None and input_shape[0] <= _UNROLLED
    for i, count in enumerate(units, start=1):
        lstm = lstm_gru.LSTM(count, return_sequences=return_sequences or i < len(units), unroll=short, name=f"lstm_{i}")
        x = (layers.Bidirectional(lstm, name=f"bidirectional_{i}") if bidirectional else lstm)(x)
        if dropout:
            x = layers.Dropout(dropout, name=f"dropout_{i}")(x)
    known = series.known_input(known_shape)
    if known:
        if return_sequences:
            raise UsageError("known_shape needs one output for the whole series. Pass return_sequences=False.")
        x = layers.Concatenate(name="with_known")([x, layers.Flatten(name="steps_ahead")(known[0])])
    x = layers.Identity(name="features")(x)
    outputs = blocks.classifier(x, num_classes, classifier_activation)
    return keras.Model([inputs, *known] if known else inputs, outputs, name="lstm")
