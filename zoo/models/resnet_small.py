"""Small residual network: for images of any kind with random weights, trained in minutes on a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from zoo.errors import UsageError
from zoo.recommended.images import FEW_IMAGES, residual_image_options
from zoo.registry import register_model

if TYPE_CHECKING:
    import keras

_SMALL = 16
"""Of images with a longer side, the first convolution keeps every other row and column."""


@register_model(
    tasks=("image_classification", "image_multilabel", "image_regression"),
    reference="He, Zhang, Ren and Sun, Deep residual learning for image recognition, CVPR 2016, arXiv:1512.03385, with fewer "
    "and narrower blocks",
    features_layer="features",
    preprocessing={"image_size": (28, 28), "longest_side": 96, "mirrored_below": FEW_IMAGES},
    recommended_options=residual_image_options,
    search_space={"config.learning_rate": "3e-4:1e-2:log", "config.batch_size": "32,64,128", "model.dropout": "0:0.5"},
    tiny={"input_shape": (12, 10, 1), "num_classes": 3, "filters": (4, 6)},
    golden=(
        ({"input_shape": (28, 28, 1), "num_classes": 10}, 309_978),
        ({"input_shape": (96, 96, 3), "num_classes": 10}, 310_266),
    ),
)
def build_resnet_small_model(
    input_shape: Sequence[int],
    num_classes: int,
    filters: Sequence[int] = (16, 32, 64, 128),
    dropout: float = 0.2,
    classifier_activation: Literal["softmax", "sigmoid", "linear"] | None = "softmax",
) -> keras.Model:
    """Four residual blocks of convolutions 3x3 with batch normalisation, the mean over the image, a softmax.

    Use it for photographs and for few images, where its mean over the image and its batch normalisation learn more than
    `cnn`. Each block after the first halves height and width. The first convolution does so too if a side has more than 16
    pixels. Input `image`: float32 (batch, *input_shape), values 0 to 1. Output `probabilities` (or `logits` with
    `classifier_activation=None`, `values` with `linear`): float32 (batch, num_classes).

    Args:
        input_shape: Shape of one image, (height, width, channels).
        num_classes: Number of classes.
        filters: Filters of each block, at least one.
        dropout: Dropout rate of the inputs of the classifier.
        classifier_activation: Activation of the last layer: sigmoid for several labels, linear for values, null for
            logits.

    Raises:
        UsageError: a size that is not positive, no filters, or a fraction out of range.

    Example:
        >>> zoo.build_resnet_small_model(input_shape=(28, 28, 1), num_classes=10).count_params()
        309978
    """
    import keras
    from keras import layers

    from zoo.layers import blocks

    blocks.check_image_shape(input_shape)
    blocks.check_each_positive(filters=filters)
    blocks.check_fraction(dropout=dropout)
    if not filters:
        raise UsageError("filters is empty; expected one number per block. Pass filters=[32, 64].")

    def convolution(x: keras.KerasTensor, count: int, size: int, strides: int, name: str) -> keras.KerasTensor:
        x = layers.Conv2D(
            count, size, strides, "same", use_bias=False, kernel_initializer="he_normal", name=f"{name}_conv"
        )(x)
        return layers.BatchNormalization(momentum=0.9, name=f"{name}_norm")(x)

    inputs = keras.Input(tuple(input_shape), name="image")
    x = convolution(inputs, filters[0], 3, 2 if max(input_shape[0], input_shape[1]) > _SMALL else 1, "stem")
    x = layers.Activation("relu", name="stem_relu")(x)
    for i, count in enumerate(filters, start=1):
        name, strides = f"block_{i}", 1 if i == 1 else 2
        y = layers.Activation("relu", name=f"{name}_1_relu")(convolution(x, count, 3, strides, f"{name}_1"))
        y = convolution(y, count, 3, 1, f"{name}_2")
        shortcut = x
        if i > 1:
            # A convolution of 1x1 with strides takes the same places; its gradient by oneDNN fails for some sizes of a batch.
            places = layers.MaxPooling2D(1, strides, "same", name=f"{name}_places")(x)
            shortcut = convolution(places, count, 1, 1, f"{name}_shortcut")
        x = layers.Activation("relu", name=f"{name}_relu")(layers.Add(name=f"{name}_add")([y, shortcut]))
    x = layers.GlobalAveragePooling2D(name="features")(x)
    if dropout:
        x = layers.Dropout(dropout, name="classifier_dropout")(x)
    outputs = blocks.classifier(x, num_classes, classifier_activation)
    return keras.Model(inputs, outputs, name="resnet_small")
