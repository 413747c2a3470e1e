"""Stacked LSTM: series to a label or a number at every step, or once at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from zoo.errors import UsageError
from zoo.registry import register_model

if TYPE_CHECKING:
    import keras


_UNROLLED = 16
"""Steps up to which a series of one length is computed without a loop, which is a third faster, and compiled longer."""


@register_model(
    tasks=("series_classification", "forecasting", "image_classification"),
    reference="Hochreiter and Schmidhuber, Long short-term memory, Neural Computation 9(8), 1997; forget gates: Gers, "
    "Schmidhuber and Cummins, Learning to forget, Neural Computation 12(10), 2000",
    features_layer="features",
    jit_compile=True,  # for series of one length; of any length nothing is compiled
    preprocessing={"image_size": (28, 28), "rows_as_steps": True},
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
) -> keras.Model:
    """LSTM layers one over the other, an answer at every step or one at the end.

    Use it for series, where what came long before may matter; for an image its rows are the steps. Input `series`: float32
    (batch, steps, channels); trailing steps of NaN are padding, which changes nothing, and other NaN is a missing value,
    read as 0. Output `probabilities` (`logits` with `classifier_activation=None`, `values`, numbers to forecast, with
    "linear"): float32 (batch, steps, num_classes), or with `return_sequences=False` (batch, num_classes) after the last
    real step.

    Args:
        input_shape: Shape of one series, (steps or null, channels).
        num_classes: Number of classes, or of numbers to forecast.
        units: Units of each LSTM, of each direction, at least one.
        return_sequences: Whether every step is answered, else the whole series.
        bidirectional: Whether a second LSTM per layer reads the series backwards; every answer then knows what follows.
        dropout: Fraction of each LSTM's outputs that training drops.
        classifier_activation: Activation of the last layer, null for logits, linear for numbers.

    Raises:
        UsageError: a size that is not positive, no unit at all, or a fraction out of range.

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
    x = layers.Identity(name="features")(x)
    outputs = blocks.classifier(x, num_classes, classifier_activation)
    return keras.Model(inputs, outputs, name="lstm")
