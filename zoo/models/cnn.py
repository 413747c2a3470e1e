"""Convolutional network similar to LeNet: for small images, trained in a few minutes on a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from zoo.errors import UsageError
from zoo.recommended.images import small_image_options
from zoo.registry import register_model

if TYPE_CHECKING:
    import keras


@register_model(
    tasks=("image_classification", "image_multilabel", "image_regression"),
    reference="LeCun, Bottou, Bengio and Haffner, Gradient-based learning applied to document recognition, "
    "Proceedings of the IEEE 86(11), 1998",
    features_layer="features",
    preprocessing={"image_size": (28, 28), "longest_side": 64},
    recommended_options=small_image_options,
    search_space={"config.learning_rate": "1e-4:1e-2:log", "config.batch_size": "32,64,128", "model.dropout": "0:0.6"},
    tiny={"input_shape": (12, 10, 1), "num_classes": 3, "filters": (3, 4), "dense_units": 5},
    golden=(
        ({"input_shape": (28, 28, 1), "num_classes": 10}, 688_138),
        ({"input_shape": (28, 28, 1), "num_classes": 10, "filters": (32, 64, 64), "dense_units": None}, 61_514),
    ),
)
def build_cnn_model(
    input_shape: Sequence[int],
    num_classes: int,
    filters: Sequence[int] = (32, 64, 128),
    dense_units: int | None = 512,
    dropout: float = 0.0,
    classifier_activation: Literal["softmax", "sigmoid", "linear"] | None = "softmax",
) -> keras.Model:
    """Convolutions 3x3 with max-pooling between them, then a dense layer.

    Use it for small images. Every convolution but the last is followed by max-pooling 2x2; nothing is padded. Input
    `image`: float32 (batch, *input_shape), values 0 to 1. Output `probabilities` (or `logits` with
    `classifier_activation=None`, `values` with `linear`): float32 (batch, num_classes).

    Args:
        input_shape: Shape of one image, (height, width, channels).
        num_classes: Number of classes.
        filters: Filters of each convolution, at least one.
        dense_units: Units of the dense layer before the classifier, null for none.
        dropout: Dropout rate of the inputs of the dense layer and of the classifier.
        classifier_activation: Activation of the last layer: sigmoid for several labels, linear for values, null for
            logits.

    Raises:
        UsageError: a size that is not positive, a fraction out of range, or an image too small for that many
            convolutions.

    Example:
        >>> zoo.build_cnn_model(input_shape=(28, 28, 1), num_classes=10).count_params()
        688138
    """
    import keras
    from keras import layers

    from zoo.layers import blocks

    blocks.check_image_shape(input_shape)
    blocks.check_each_positive(filters=filters)
    blocks.check_positive(dense_units=1 if dense_units is None else dense_units)
    blocks.check_fraction(dropout=dropout)
    _check_image_size(input_shape, filters)
    inputs = x = keras.Input(tuple(input_shape), name="image")
    for i, count in enumerate(filters, start=1):
        x = layers.Conv2D(count, 3, activation="relu", name=f"conv_{i}")(x)
        if i < len(filters):
            x = layers.MaxPooling2D(2, name=f"pool_{i}")(x)
    x = layers.Flatten(name="flatten")(x)
    if dense_units is not None:
        if dropout:
            x = layers.Dropout(dropout, name="dense_dropout")(x)
        x = layers.Dense(dense_units, activation="relu", name="dense")(x)
    x = layers.Identity(name="features")(x)
    if dropout:
        x = layers.Dropout(dropout, name="classifier_dropout")(x)
    outputs = blocks.classifier(x, num_classes, classifier_activation)
    return keras.Model(inputs, outputs, name="cnn")


def _check_image_size(input_shape: Sequence[int], filters: Sequence[int]) -> None:
    """Raises UsageError if a convolution would get less than its 3x3 window. Keras's message does not say what to do."""
    if not filters:
        raise UsageError("filters is empty; expected one number per convolution. Pass filters=[32, 64].")

    def smallest(convolutions: int) -> int:
        size = 3
        for _ in range(convolutions - 1):
            size = 2 * size + 2
        return size

    side, least = min(input_shape[0], input_shape[1]), smallest(len(filters))
    if side < least:
        fit = max((n for n in range(1, len(filters)) if smallest(n) <= side), default=0)
        other = f", or at most {fit} filters" if fit else ""
        raise UsageError(
            f"An image of {input_shape[0]}x{input_shape[1]} is too small for filters={list(filters)}: "
            f"{len(filters)} convolutions with {len(filters) - 1} pooling stages between them need at least "
            f"{least}x{least}. Pass larger images, input_shape=[{least}, {least}, {input_shape[2]}]{other}."
        )
