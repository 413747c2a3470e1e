"""Multi-layer perceptron: the baseline that a first experiment should beat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from zoo.registry import register_model

if TYPE_CHECKING:
    import keras


@register_model(
    tasks=("image_classification",),
    reference="Rumelhart, Hinton and Williams, Learning representations by back-propagating errors, Nature 323, 1986",
    features_layer="features",
    jit_compile=True,
    preprocessing={"image_size": (28, 28)},
    tiny={"input_shape": (6, 5, 1), "num_classes": 3, "hidden_units": (4,)},
    golden=(
        ({"input_shape": (28, 28, 1), "num_classes": 10}, 55_050),
        ({"input_shape": (28, 28, 1), "num_classes": 10, "hidden_units": (128,)}, 101_770),
        ({"input_shape": (784,), "num_classes": 10}, 55_050),
        ({"input_shape": (784,), "num_classes": 10, "hidden_units": (128,)}, 101_770),
    ),
)
def build_mlp_model(
    input_shape: Sequence[int],
    num_classes: int,
    hidden_units: Sequence[int] = (64, 64),
    activation: str = "relu",
    dropout: float = 0.0,
    classifier_activation: Literal["softmax"] | None = "softmax",
) -> keras.Model:
    """Fully connected layers over the flattened image.

    Use it as a first baseline and for small, centred images. Input `image`: float32
    (batch, *input_shape), values 0 to 1; an image may be flat, as (batch, 784). Output `probabilities` (or
    `logits` with `classifier_activation=None`): float32 (batch, num_classes).

    Args:
        input_shape: Shape of one example, such as (height, width, channels), (height, width) or the flat (784,).
        num_classes: Number of classes.
        hidden_units: Units of each hidden layer; an empty list gives multinomial logistic regression.
        activation: Keras activation of the hidden layers.
        dropout: Dropout rate of each hidden layer's outputs.
        classifier_activation: Activation of the last layer, null for logits.

    Raises:
        UsageError: a size that is not positive, a fraction out of range, or an unknown activation.

    Example:
        >>> zoo.build_mlp_model((784,), 10).count_params()
        55050
    """
    import keras
    from keras import layers

    from zoo.layers import blocks

    blocks.check_input_shape(input_shape)
    blocks.check_each_positive(hidden_units=hidden_units)
    blocks.check_activation(activation=activation)
    blocks.check_fraction(dropout=dropout)
    inputs = keras.Input(tuple(input_shape), name="image")
    x = layers.Flatten(name="flatten")(inputs)
    for i, units in enumerate(hidden_units, start=1):
        x = layers.Dense(units, activation=activation, name=f"hidden_{i}")(x)
        if dropout:
            x = layers.Dropout(dropout, name=f"dropout_{i}")(x)
    x = layers.Identity(name="features")(x)
    outputs = blocks.classifier(x, num_classes, classifier_activation)
    return keras.Model(inputs, outputs, name="mlp")
