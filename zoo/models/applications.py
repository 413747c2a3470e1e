"""Published architectures for images, as `keras.applications` has them: ResNet-50, VGG-16, MobileNetV2.

Every builder takes images of 0 to 1, grey or colour, and scales them inside the model as the architecture's published
weights expect it. Nothing is downloaded: `weights` is a file, such as
`keras.applications.ResNet50().save_weights("resnet50.weights.h5")` writes on a machine with a network.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from zoo.errors import UsageError
from zoo.registry import register_model

if TYPE_CHECKING:
    import keras

# All of them halve the image five times.
_SMALLEST = 32


@register_model(
    tasks=("image_classification",),
    reference="He, Zhang, Ren and Sun, Deep residual learning for image recognition, CVPR 2016, arXiv:1512.03385",
    features_layer="features",
    preprocessing={"image_size": (32, 32)},
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
    classifier_activation: Literal["softmax"] | None = "softmax",
) -> keras.Model:
    """ResNet-50: 50 layers of convolutions with residual connections, the mean over the image, a softmax.

    Use it as the standard backbone, above all with published weights. Input `image`: float32 (batch, *input_shape), 0 to
    1, at least 32x32, grey or colour. Output `probabilities` (or `logits` with `classifier_activation=None`): float32
    (batch, num_classes).

    Args:
        input_shape: Shape of one image, (height, width, channels) with 1 or 3 channels.
        num_classes: Number of classes.
        weights: Path of a file of keras.applications.ResNet50, null for random weights. The last layer is taken from
            it only if it is there and has as many classes.
        dropout: Fraction of the classifier's inputs that training drops.
        batch_norm_momentum: How much of their past the means and variances used for prediction keep per training step.
        classifier_activation: Activation of the last layer, null for logits.

    Raises:
        UsageError: a size that is not positive, a fraction out of range, an image below 32x32 or of other channels, or a
            file of weights that is missing or of another architecture.

    Example:
        >>> zoo.build_resnet50_model(input_shape=(32, 32, 3), num_classes=10).count_params()
        23608202
    """
    import keras
    from keras import layers

    x = _scaled_image("caffe", input_shape, num_classes, dropout)
    body = keras.applications.ResNet50(include_top=False, weights=None, input_tensor=x, input_shape=x.shape[1:])
    _normalise_for_training(body, batch_norm_momentum)
    x = layers.GlobalAveragePooling2D(name="avg_pool")(body.output)
    return _with_classifier("resnet50", body, x, num_classes, dropout, classifier_activation, weights)


@register_model(
    tasks=("image_classification",),
    reference="Simonyan and Zisserman, Very deep convolutional networks for large-scale image recognition, ICLR 2015, "
    "arXiv:1409.1556",
    features_layer="features",
    preprocessing={"image_size": (32, 32)},
    tiny={"input_shape": (32, 32, 1), "num_classes": 3},
    heavy=True,
    golden=(({"input_shape": (32, 32, 3), "num_classes": 10}, 33_638_218),),
)
def build_vgg16_model(
    input_shape: Sequence[int],
    num_classes: int,
    weights: str | None = None,
    dropout: float = 0.0,
    classifier_activation: Literal["softmax"] | None = "softmax",
) -> keras.Model:
    """VGG-16: 13 convolutions 3x3 with max-pooling between them, two dense layers of 4096, a softmax.

    Use it with published weights, where its plain features are asked for; without normalisation it hardly trains from
    random weights, and most of its parameters are in the dense layers. Input `image`: float32 (batch, *input_shape), 0 to
    1, at least 32x32, grey or colour. Output `probabilities` (or `logits` with `classifier_activation=None`): float32
    (batch, num_classes).

    Args:
        input_shape: Shape of one image, (height, width, channels) with 1 or 3 channels.
        num_classes: Number of classes.
        weights: Path of a file of keras.applications.VGG16, null for random weights. The dense layers are taken from it
            only if they are there and fit, which takes the same image size, the last one if it has as many classes.
        dropout: Fraction of each 4096-unit layer's outputs that training drops; 0.5 in the paper.
        classifier_activation: Activation of the last layer, null for logits.

    Raises:
        UsageError: a size that is not positive, a fraction out of range, an image below 32x32 or of other channels, or a
            file of weights that is missing or of another architecture.

    Example:
        >>> zoo.build_vgg16_model(input_shape=(32, 32, 3), num_classes=10).count_params()
        33638218
    """
    import keras
    from keras import layers

    x = _scaled_image("caffe", input_shape, num_classes, dropout)
    body = keras.applications.VGG16(include_top=False, weights=None, input_tensor=x, input_shape=x.shape[1:])
    x = layers.Flatten(name="flatten")(body.output)
    x = layers.Dense(4096, activation="relu", name="fc1")(x)
    if dropout:
        x = layers.Dropout(dropout, name="fc1_dropout")(x)
    x = layers.Dense(4096, activation="relu", name="fc2")(x)
    return _with_classifier("vgg16", body, x, num_classes, dropout, classifier_activation, weights)


@register_model(
    tasks=("image_classification",),
    reference="Sandler, Howard, Zhu, Zhmoginov and Chen, MobileNetV2: Inverted residuals and linear bottlenecks, CVPR 2018, "
    "arXiv:1801.04381",
    features_layer="features",
    preprocessing={"image_size": (32, 32)},
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
    classifier_activation: Literal["softmax"] | None = "softmax",
) -> keras.Model:
    """MobileNetV2: inverted residual blocks of depthwise convolutions, the mean over the image, a softmax.

    Use it where the model must be small and fast. Input `image`: float32 (batch, *input_shape), 0 to 1, at least 32x32,
    grey or colour. Output `probabilities` (or `logits` with `classifier_activation=None`): float32 (batch, num_classes).

    Args:
        input_shape: Shape of one image, (height, width, channels) with 1 or 3 channels.
        num_classes: Number of classes.
        alpha: Factor on the number of filters of every layer; weights are published for 0.35, 0.5, 0.75, 1.0, 1.3, 1.4.
        weights: Path of a file of keras.applications.MobileNetV2 of the same alpha, null for random weights. The last
            layer is taken from it only if it is there and has as many classes.
        dropout: Fraction of the classifier's inputs that training drops.
        batch_norm_momentum: How much of their past the means and variances used for prediction keep per training step.
        classifier_activation: Activation of the last layer, null for logits.

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
    x = _scaled_image("tf", input_shape, num_classes, dropout)
    body = keras.applications.MobileNetV2(
        alpha=alpha, include_top=False, weights=None, input_tensor=x, input_shape=x.shape[1:]
    )
    _normalise_for_training(body, batch_norm_momentum)
    x = layers.GlobalAveragePooling2D(name="avg_pool")(body.output)
    return _with_classifier("mobilenet_v2", body, x, num_classes, dropout, classifier_activation, weights)


# --- What they share --------------------------------------------------------------------------------------------------


def _scaled_image(
    mode: Literal["caffe", "tf", "torch"], input_shape: Sequence[int], num_classes: int, dropout: float
) -> keras.KerasTensor:
    """Returns the input `image`, scaled: (batch, height, width, 3). Checks first what is cheaper to check than to build."""
    import keras

    from zoo.layers import blocks, images

    blocks.check_image_shape(input_shape)
    blocks.check_positive(num_classes=num_classes)
    blocks.check_fraction(dropout=dropout)
    height, width, channels = input_shape
    if min(height, width) < _SMALLEST:
        raise UsageError(
            f"An image of {height}x{width} is too small: it is halved five times, which takes at least "
            f"{_SMALLEST}x{_SMALLEST}. Pass input_shape=[{_SMALLEST}, {_SMALLEST}, {channels}], say."
        )
    inputs = keras.Input(tuple(input_shape), name="image")
    return images.ImageNetScaling(mode, name="scaling")(inputs)


def _normalise_for_training(body: keras.Model, momentum: float) -> None:
    """Sets every BatchNormalization of a body that nothing has run yet.

    Synchronised, because the moving statistics of several replicas would drift apart without a word; on one device the
    step is the same. The momentum of Keras's own models, 0.99 and 0.999, is made for hundreds of thousands of steps: after a
    few hundred, predictions still rest on the initial statistics.
    """
    from keras import layers

    from zoo.layers import blocks

    blocks.check_fraction(batch_norm_momentum=momentum)
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
) -> keras.Model:
    import keras
    from keras import layers

    from zoo.layers import blocks

    x = layers.Identity(name="features")(x)
    if dropout:
        x = layers.Dropout(dropout, name="classifier_dropout")(x)
    model = keras.Model(body.inputs[0], blocks.classifier(x, num_classes, activation), name=name)
    if weights is not None:
        _load(model, body, weights)
    return model


# --- Files of weights -------------------------------------------------------------------------------------------------


def _load(model: keras.Model, body: keras.Model, path: str) -> None:
    """Loads a file into the model: all of the body, of the layers on top those before the first that does not fit."""
    body_names = {layer.name for layer in body.layers}
    ours = [layer for layer in model.layers if layer.weights]
    size = sum(layer.name in body_names for layer in ours)
    found = _read(path, [layer.name for layer in ours])
    if len(found) not in (size, len(ours)):
        raise UsageError(
            f"{path} holds {len(found)} layers of weights; {model.name} has {len(ours)}, {size} without those on top. Pass "
            "a file of the same architecture."
        )
    fitting = []
    for i, (layer, (name, arrays)) in enumerate(zip(ours, found, strict=False)):
        expected, came = [tuple(w.shape) for w in layer.weights], [tuple(a.shape) for a in arrays]
        if expected == came:
            fitting.append((layer, arrays))
        elif i >= size:
            break
        else:
            raise UsageError(
                f"{path} does not fit {model.name}: {name} is {came}, {layer.name} is {expected}. Pass a file of the same "
                "architecture."
            )
    for layer, arrays in fitting:  # only now: a file that does not fit changes nothing
        layer.set_weights(arrays)


def _read(path: str, names: Sequence[str]) -> list[tuple[str, list[Any]]]:
    """Returns a file's layers that have weights, as (name, arrays), those of `names` first and in that order.

    Reads what Keras writes: NAME.weights.h5, NAME.keras, and HDF5 of Keras 2, which the published weights are in; its
    names are of many ages, so its order counts, as it does to Keras.
    """
    import h5py

    if not isinstance(path, str):
        raise UsageError(
            f"weights is {path!r}; expected the path of a file as text. Pass weights='resnet50.weights.h5'."
        )
    if not Path(path).is_file():
        raise UsageError(
            f"weights: there is no file {path!r}, and nothing is downloaded. Call save_weights('NAME.weights.h5') on a "
            "model of keras.applications where there is a network, and pass that file; or leave weights out."
        )
    try:
        content: Any = path
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                content = io.BytesIO(archive.read("model.weights.h5"))
        with h5py.File(content, "r") as file:
            group = file.get("model_weights", file)
            return _read_keras2(group) if "layer_names" in group.attrs else _read_keras3(file, names)
    except (OSError, KeyError) as error:
        raise UsageError(
            f"{path} is not a file of Keras weights ({error}). Pass a .weights.h5, .keras or .h5."
        ) from error


def _read_keras2(group: Any) -> list[tuple[str, list[Any]]]:
    def texts(values: Any) -> list[str]:
        return [v.decode() if isinstance(v, bytes) else str(v) for v in values]

    layers = [(name, group[name]) for name in texts(group.attrs["layer_names"])]
    found = [(name, [layer[w][()] for w in texts(layer.attrs["weight_names"])]) for name, layer in layers]
    return [(name, arrays) for name, arrays in found if arrays]


def _read_keras3(file: Any, names: Sequence[str]) -> list[tuple[str, list[Any]]]:
    found: dict[str, list[Any]] = {}

    def visit(path: str, group: Any) -> None:
        if path.startswith("layers/") and path.endswith("/vars") and len(group):
            found[str(group.attrs.get("name", path))] = [group[str(i)][()] for i in range(len(group))]

    file.visititems(visit)
    place = {name: i for i, name in enumerate(names)}
    return sorted(found.items(), key=lambda item: place.get(item[0], len(names)))
