"""EfficientNet-Lite: EfficientNets without squeeze-and-excitation and with ReLU6, which convert and quantise well."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from zoo import checkpoints
from zoo.errors import UsageError
from zoo.frozen_head import solve_head
from zoo.recommended.images import fine_tuning_of_images, published_image_size
from zoo.registry import register_model, register_variant

if TYPE_CHECKING:
    import keras

_SMALLEST = 32
"""The image is halved five times."""
_STEM, _HEAD = 32, 1280
"""Filters of the first and the last convolution, in every size."""
_STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
           (1, 3, 1, 6, 320))  # fmt: skip
"""The stages of lite0: blocks, kernel size, stride, expansion, filters."""


@register_model(
    tasks=("image_classification", "image_multilabel", "image_regression"),
    reference="Tan and Le, EfficientNet: Rethinking model scaling for convolutional neural networks, ICML 2019, "
    "arXiv:1905.11946; the Lite sizes are of 2020",
    features_layer="features",
    closed_form=solve_head,
    recommended_options=fine_tuning_of_images("BatchNormalization"),
    preprocessing={"image_size": (_SMALLEST, _SMALLEST)},
    checkpoints=("efficientnet_lite",),
    initial_arguments=("weights", "load_classifier", "labels"),
    recommended_arguments=published_image_size(224),
    tiny={"input_shape": (32, 32, 1), "num_classes": 3, "width_factor": 0.35, "depth_factor": 0.3, "dropout": 0.0},
    heavy=True,
    golden=(
        ({"input_shape": (224, 224, 3), "num_classes": 1000}, 4_694_024),
        ({"input_shape": (32, 32, 1), "num_classes": 10}, 3_425_834),
    ),
)
def build_efficientnet_lite0_model(
    input_shape: Sequence[int],
    num_classes: int,
    width_factor: float = 1.0,
    depth_factor: float = 1.0,
    weights: str | None = None,
    load_classifier: bool = False,
    labels: list[str] | None = None,
    dropout: float = 0.2,
    batch_norm_momentum: float = 0.9,
    classifier_activation: Literal["softmax", "sigmoid", "linear"] | None = "softmax",
) -> keras.Model:
    """EfficientNet-Lite0: inverted residual blocks with ReLU6, the mean over the image, a softmax.

    Use it with published weights if you have few images, or as a small model for other runtimes. Input `image`: float32
    (batch, *input_shape), 0 to 1, at least 32x32, grey or colour. The published weights expect 224x224 (lite1 to lite4:
    240, 260, 280, 300). Output `probabilities` (or `logits` with `classifier_activation=None`, `values` with `linear`):
    float32 (batch, num_classes).

    Args:
        input_shape: Shape of one image, (height, width, channels) with 1 or 3 channels.
        num_classes: Number of classes.
        width_factor: Factor of the number of filters, which is rounded to multiples of 8.
        depth_factor: Factor of the number of blocks of a stage, rounded up. First and last stage keep one block.
        weights: Path of a file of PyTorch tensors of EfficientNet-Lite-PyTorch with the same factors, such as
            efficientnet-lite0-57934424.pth; null for random weights.
        load_classifier: Whether to load the classifier from the file, too. If false, it starts from random weights.
        labels: The file's label names in the wanted order of the classes; null for the file's order.
        dropout: Dropout rate of the classifier's inputs.
        batch_norm_momentum: Momentum of batch normalisation's moving mean and variance.
        classifier_activation: Activation of the last layer: sigmoid for several labels, linear for values, null for
            logits.

    Raises:
        UsageError: a size or factor that is not positive, a fraction out of range, an image below 32x32 or of other
            channels, or a file of weights that is missing, damaged or of another architecture.

    Example:
        >>> zoo.build_efficientnet_lite0_model(input_shape=(32, 32, 3), num_classes=10).count_params()
        3425834
    """
    import keras
    from keras import layers

    from zoo.layers import blocks, images

    blocks.check_fraction(dropout=dropout, batch_norm_momentum=batch_norm_momentum)
    blocks.check_positive(num_classes=num_classes)
    blocks.check_factor(width_factor=width_factor, depth_factor=depth_factor)
    if load_classifier and weights is None:
        raise UsageError("load_classifier requires weights, which are not given. Pass weights, or leave it out.")

    def normalised(x: Any, name: str) -> Any:
        # Synchronised, because the moving statistics of several replicas would silently diverge.
        norm = layers.BatchNormalization(
            momentum=batch_norm_momentum, epsilon=1e-3, synchronized=True, name=f"{name}_norm"
        )
        return norm(x)

    def convolution(x: Any, filters: int, kernel: int, strides: int, name: str) -> Any:
        x = layers.Conv2D(filters, kernel, strides, padding="same", use_bias=False, name=name)(x)
        return normalised(x, name)

    def block(x: Any, filters: int, kernel: int, strides: int, expansion: int, name: str) -> Any:
        start = x
        if expansion > 1:
            x = convolution(x, expansion * x.shape[-1], 1, 1, f"{name}_expand")
            x = layers.ReLU(6.0, name=f"{name}_expand_relu")(x)
        x = layers.DepthwiseConv2D(kernel, strides, padding="same", use_bias=False, name=f"{name}_depthwise")(x)
        x = layers.ReLU(6.0, name=f"{name}_depthwise_relu")(normalised(x, f"{name}_depthwise"))
        x = convolution(x, filters, 1, 1, f"{name}_project")
        is_residual = strides == 1 and start.shape[-1] == filters
        return layers.Add(name=f"{name}_add")([x, start]) if is_residual else x

    inputs, x = images.scaled_input("lite", input_shape, _SMALLEST)
    x = layers.ReLU(6.0, name="stem_relu")(convolution(x, _STEM, 3, 2, "stem"))
    number = 0
    for repeats, kernel, strides, expansion, filters in _STAGES:
        # As in the published sizes, the first and the last stage have one block.
        for repeat in range(repeats if repeats == 1 else math.ceil(depth_factor * repeats)):
            number += 1
            width = _rounded(filters * width_factor)
            x = block(x, width, kernel, 1 if repeat else strides, expansion, f"block_{number}")
    x = layers.ReLU(6.0, name="head_relu")(convolution(x, _HEAD, 1, 1, "head"))
    x = layers.GlobalAveragePooling2D(name="features")(x)
    if dropout:
        x = layers.Dropout(dropout, name="classifier_dropout")(x)
    outputs = blocks.classifier(x, num_classes, classifier_activation)
    model = keras.Model(inputs, outputs, name="efficientnet_lite0")
    if weights is not None:
        checkpoint = checkpoints.find("efficientnet_lite0", weights)
        checkpoint.load(model, classifier=load_classifier, labels=labels)
    return model


def _rounded(filters: float) -> int:
    """Returns the nearest multiple of 8, at least 8 and at least 0.9 of the number."""
    found = max(8, int(filters + 4) // 8 * 8)
    return found + 8 if found < 0.9 * filters else found


# --- Named sizes ------------------------------------------------------------------------------------------------------

_IMAGENET = {"num_classes": 1000}
build_efficientnet_lite1_model = register_variant(
    build_efficientnet_lite0_model,
    "efficientnet_lite1",
    "EfficientNet-Lite1: lite0 with more blocks, for images of 240x240.",
    depth_factor=1.1,
    golden=(({"input_shape": (240, 240, 3), **_IMAGENET}, 5_470_344),),
    spec={"recommended_arguments": published_image_size(240)},
)
build_efficientnet_lite2_model = register_variant(
    build_efficientnet_lite0_model,
    "efficientnet_lite2",
    "EfficientNet-Lite2: lite0 with more blocks and filters, for images of 260x260.",
    width_factor=1.1,
    depth_factor=1.2,
    dropout=0.3,
    golden=(({"input_shape": (260, 260, 3), **_IMAGENET}, 6_150_168),),
    spec={"recommended_arguments": published_image_size(260)},
)
build_efficientnet_lite3_model = register_variant(
    build_efficientnet_lite0_model,
    "efficientnet_lite3",
    "EfficientNet-Lite3: lite0 with more blocks and filters, for images of 280x280.",
    width_factor=1.2,
    depth_factor=1.4,
    dropout=0.3,
    golden=(({"input_shape": (280, 280, 3), **_IMAGENET}, 8_273_768),),
    spec={"recommended_arguments": published_image_size(280)},
)
build_efficientnet_lite4_model = register_variant(
    build_efficientnet_lite0_model,
    "efficientnet_lite4",
    "EfficientNet-Lite4: lite0 with more blocks and filters, for images of 300x300.",
    width_factor=1.4,
    depth_factor=1.8,
    dropout=0.3,
    golden=(({"input_shape": (300, 300, 3), **_IMAGENET}, 13_118_936),),
    spec={"recommended_arguments": published_image_size(300)},
)
