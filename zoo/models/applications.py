"""Published image architectures of `keras.applications`: ResNet-50, VGG-16, MobileNetV2.

Every builder takes images of 0 to 1, grey or colour. The model scales them as the architecture's published weights expect.
`weights="imagenet"` downloads the published weights as Keras does. Without a network, `weights` is a file that
`keras.applications.ResNet50().save_weights("resnet50.weights.h5")` writes on another machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from zoo import checkpoints
from zoo.checkpoints import PublishedFile
from zoo.errors import UsageError
from zoo.frozen_head import solve_head
from zoo.recommended.images import fine_tuning_of_images
from zoo.registry import register_model

if TYPE_CHECKING:
    import keras

# All of them halve the image five times.
_SMALLEST = 32
_STORAGE = "https://storage.googleapis.com/tensorflow/keras-applications"
_ALPHAS = (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)


def _resnet50_file(arguments: Mapping[str, Any]) -> PublishedFile:
    name = "resnet50_weights_tf_dim_ordering_tf_kernels.h5"
    return PublishedFile(f"{_STORAGE}/resnet/{name}", "MIT", "2cb95161c43110f7111970584f804107")


def _vgg16_file(arguments: Mapping[str, Any]) -> PublishedFile:
    name = "vgg16_weights_tf_dim_ordering_tf_kernels.h5"
    return PublishedFile(f"{_STORAGE}/vgg16/{name}", "CC-BY-4.0", "64373286793e3c8b2b4e3219cbf3544b")


def _mobilenet_v2_file(arguments: Mapping[str, Any]) -> PublishedFile:
    alpha = arguments["alpha"]
    if alpha not in _ALPHAS:
        raise UsageError(
            f"No weights are published for alpha={alpha!r}. Choose one of {', '.join(map(str, _ALPHAS))}, or leave "
            "weights out."
        )
    name = f"mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{float(alpha)}_224.h5"  # Keras has no hash for it
    return PublishedFile(f"{_STORAGE}/mobilenet_v2/{name}", "Apache-2.0")


@register_model(
    tasks=("image_classification", "image_multilabel", "image_regression"),
    reference="He, Zhang, Ren and Sun, Deep residual learning for image recognition, CVPR 2016, arXiv:1512.03385",
    features_layer="features",
    closed_form=solve_head,
    recommended_options=fine_tuning_of_images("BatchNormalization"),
    preprocessing={"image_size": (32, 32)},
    checkpoints=("keras_weights",),
    published={"imagenet": _resnet50_file},
    initial_arguments=("weights",),
    tiny={"input_shape": (32, 32, 1), "num_classes": 3},
    heavy=True,
    golden=(
        ({"input_shape": (224, 224, 3), "num_classes": 1000}, 25_636_712),
        ({"input_shape": (32, 32, 1), "num_classes": 10}, 23_608_202),
    ),
)
def build_resnet50_model(
    input_shape: Sequence[int],
    num_classes: int,
    weights: str | None = None,
    dropout: float = 0.0,
    batch_norm_momentum: float = 0.9,
    classifier_activation: Literal["softmax", "sigmoid", "linear"] | None = "softmax",
) -> keras.Model:
    """ResNet-50: 50 layers of convolutions with residual connections, the mean over the image, a softmax.

    Use it as the standard backbone, mainly with published weights. Input `image`: float32 (batch, *input_shape), 0 to
    1, at least 32x32, grey or colour. Output `probabilities` (or `logits` with `classifier_activation=None`, `values`
    with `linear`): float32 (batch, num_classes).

    Args:
        input_shape: Shape of one image, (height, width, channels) with 1 or 3 channels.
        num_classes: Number of classes.
        weights: imagenet, path of a weights file of keras.applications.ResNet50, or null for random weights. The last
            layer is loaded only if the file has it with the same number of classes.
        dropout: Dropout rate of the classifier's inputs.
        batch_norm_momentum: Momentum of batch normalisation's moving mean and variance.
        classifier_activation: Activation of the last layer: sigmoid for several labels, linear for values, null for
            logits.

    Raises:
        UsageError: a size that is not positive, a fraction out of range, an image below 32x32 or of other channels, or a
            file of weights that is missing or of another architecture.

    Example:
        >>> zoo.build_resnet50_model(input_shape=(32, 32, 3), num_classes=10).count_params()
        23608202
    """
    import keras
    from keras import layers

    x = _scaled_image("caffe", input_shape, num_classes, dropout=dropout, batch_norm_momentum=batch_norm_momentum)
    body = keras.applications.ResNet50(include_top=False, weights=None, input_tensor=x, input_shape=x.shape[1:])
    _normalise_for_training(body, batch_norm_momentum)
    x = layers.GlobalAveragePooling2D(name="avg_pool")(body.output)
    return _with_classifier("resnet50", body, x, num_classes, dropout, classifier_activation, weights)


@register_model(
    tasks=("image_classification", "image_multilabel", "image_regression"),
    reference="Simonyan and Zisserman, Very deep convolutional networks for large-scale image recognition, ICLR 2015, "
    "arXiv:1409.1556",
    features_layer="features",
    closed_form=solve_head,
    recommended_options=fine_tuning_of_images(),
    preprocessing={"image_size": (32, 32)},
    checkpoints=("keras_weights",),
    published={"imagenet": _vgg16_file},
    initial_arguments=("weights",),
    tiny={"input_shape": (32, 32, 1), "num_classes": 3},
    heavy=True,
    golden=(({"input_shape": (32, 32, 3), "num_classes": 10}, 33_638_218),),
)
def build_vgg16_model(
    input_shape: Sequence[int],
    num_classes: int,
    weights: str | None = None,
    dropout: float = 0.0,
    classifier_activation: Literal["softmax", "sigmoid", "linear"] | None = "softmax",
) -> keras.Model:
    """VGG-16: 13 convolutions 3x3 with max-pooling between them, two dense layers of 4096, a softmax.

    Use it with published weights if you need its plain features. Without normalisation it hardly trains from random
    weights, and most of its parameters are in the dense layers. Input `image`: float32 (batch, *input_shape), 0 to 1,
    at least 32x32, grey or colour. Output `probabilities` (or `logits` with `classifier_activation=None`, `values` with
    `linear`): float32 (batch, num_classes).

    Args:
        input_shape: Shape of one image, (height, width, channels) with 1 or 3 channels.
        num_classes: Number of classes.
        weights: imagenet, path of a weights file of keras.applications.VGG16, or null for random weights. The dense
            layers are loaded only if the image size is the same, and the last one only if the number of classes is the same.
        dropout: Dropout rate of the outputs of each 4096-unit layer; 0.5 in the paper.
        classifier_activation: Activation of the last layer: sigmoid for several labels, linear for values, null for
            logits.

    Raises:
        UsageError: a size that is not positive, a fraction out of range, an image below 32x32 or of other channels, or a
            file of weights that is missing or of another architecture.

    Example:
        >>> zoo.build_vgg16_model(input_shape=(32, 32, 3), num_classes=10).count_params()
        33638218
    """
    import keras
    from keras import layers

    x = _scaled_image("caffe", input_shape, num_classes, dropout=dropout)
    body = keras.applications.VGG16(include_top=False, weights=None, input_tensor=x, input_shape=x.shape[1:])
    x = layers.Flatten(name="flatten")(body.output)
    x = layers.Dense(4096, activation="relu", name="fc1")(x)
    if dropout:
        x = layers.Dropout(dropout, name="fc1_dropout")(x)
    x = layers.Dense(4096, activation="relu", name="fc2")(x)
    return _with_classifier("vgg16", body, x, num_classes, dropout, classifier_activation, weights)


@register_model(
    tasks=("image_classification", "image_multilabel", "image_regression"),
    reference="Sandler, Howard, Zhu, Zhmoginov and Chen, MobileNetV2: Inverted residuals and linear bottlenecks, CVPR 2018, "
    "arXiv:1801.04381",
    features_layer="features",
    closed_form=solve_head,
    recommended_options=fine_tuning_of_images("BatchNormalization"),
    preprocessing={"image_size": (32, 32)},
    checkpoints=("keras_weights",),
    published={"imagenet": _mobilenet_v2_file},
    initial_arguments=("weights",),
    tiny={"input_shape": (32, 32, 1), "num_classes": 3, "alpha": 0.1},
    heavy=True,
    golden=(
        ({"input_shape": (224, 224, 3), "num_classes": 1000}, 3_538_984),
        ({"input_shape": (32, 32, 1), "num_classes": 10, "alpha": 0.35}, 423_018),
    ),
)
def build_mobilenet_v2_model(
    input_shape: Sequence[int],
    num_classes: int,
    alpha: float = 1.0,
    weights: str | None = None,
    dropout: float = 0.0,
    batch_norm_momentum: float = 0.9,
    classifier_activation: Literal["softmax", "sigmoid", "linear"] | None = "softmax",
) -> keras.Model:
    """MobileNetV2: inverted residual blocks of depthwise convolutions, the mean over the image, a softmax.

    Use it if the model must be small and fast. Input `image`: float32 (batch, *input_shape), 0 to 1, at least 32x32,
    grey or colour. Output `probabilities` (or `logits` with `classifier_activation=None`, `values` with `linear`):
    float32 (batch, num_classes).

    Args:
        input_shape: Shape of one image, (height, width, channels) with 1 or 3 channels.
        num_classes: Number of classes.
        alpha: Factor of the number of filters of every layer; weights are published for 0.35, 0.5, 0.75, 1.0, 1.3, 1.4.
        weights: imagenet, path of a weights file of keras.applications.MobileNetV2 with the same alpha, or null for random
            weights. The
            last layer is loaded only if the file has it with the same number of classes.
        dropout: Dropout rate of the classifier's inputs.
        batch_norm_momentum: Momentum of batch normalisation's moving mean and variance.
        classifier_activation: Activation of the last layer: sigmoid for several labels, linear for values, null for
            logits.

    Raises:
        UsageError: a size or factor that is not positive, a fraction out of range, an image below 32x32 or of other
            channels, or a file of weights that is missing or of another architecture.

    Example:
        >>> zoo.build_mobilenet_v2_model(input_shape=(32, 32, 3), num_classes=10, alpha=0.35).count_params()
        423018
    """
    import keras
    from keras import layers

    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not 0 < alpha < 100:
        raise UsageError(f"alpha is {alpha!r}; expected a factor above 0. Pass alpha=1.0, say.")
    x = _scaled_image("tf", input_shape, num_classes, dropout=dropout, batch_norm_momentum=batch_norm_momentum)
    body = keras.applications.MobileNetV2(
        alpha=alpha, include_top=False, weights=None, input_tensor=x, input_shape=x.shape[1:]
    )
    _normalise_for_training(body, batch_norm_momentum)
    x = layers.GlobalAveragePooling2D(name="avg_pool")(body.output)
    return _with_classifier("mobilenet_v2", body, x, num_classes, dropout, classifier_activation, weights, alpha=alpha)


# --- Shared functions -------------------------------------------------------------------------------------------------


def _scaled_image(
    mode: Literal["caffe", "tf", "torch"], input_shape: Sequence[int], num_classes: int, **fractions: float
) -> keras.KerasTensor:
    """Returns the scaled input `image`, (batch, height, width, 3), after checking the arguments."""
    import keras

    from zoo.layers import blocks, images

    blocks.check_image_shape(input_shape)
    blocks.check_positive(num_classes=num_classes)
    blocks.check_fraction(**fractions)
    height, width, channels = input_shape
    if min(height, width) < _SMALLEST:
        raise UsageError(
            f"An image of {height}x{width} is too small: it is halved five times, which needs at least "
            f"{_SMALLEST}x{_SMALLEST}. Pass input_shape=[{_SMALLEST}, {_SMALLEST}, {channels}], say."
        )
    inputs = keras.Input(tuple(input_shape), name="image")
    return images.ImageNetScaling(mode, name="scaling")(inputs)


def _normalise_for_training(body: keras.Model, momentum: float) -> None:
    """Configures every BatchNormalization of a body that has not run yet.

    They are synchronised, because the moving statistics of several replicas would silently diverge; on one device the
    step is the same. The momentum of Keras's models, 0.99 and 0.999, suits hundreds of thousands of steps: after a few
    hundred, predictions would still depend on the initial statistics.
    """
    from keras import layers

    for layer in body.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.synchronized, layer.momentum = True, momentum


def _with_classifier(
    name: str,
    body: keras.Model,
    x: keras.KerasTensor,
    num_classes: int,
    dropout: float,
    activation: str | None,
    weights: str | None,
    **sizes: float,
) -> keras.Model:
    import keras
    from keras import layers

    from zoo.layers import blocks

    x = layers.Identity(name="features")(x)
    if dropout:
        x = layers.Dropout(dropout, name="classifier_dropout")(x)
    model = keras.Model(body.inputs[0], blocks.classifier(x, num_classes, activation), name=name)
    if weights is not None:
        checkpoints.find(name, weights, sizes).load(model)
    return model
