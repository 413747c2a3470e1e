"""The other architectures of `keras.applications`, each a named size: ConvNeXt, DenseNet, EfficientNet, Inception, ...

keras_applications.csv has a row for each: how it scales images, the image size of its published weights, the smallest image
that it takes, its parameters with 1,000 classes, and the file, licence and hash of the weights. ResNet-50, VGG-16 and
MobileNetV2 have builders of their own in `applications.py`.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import importlib.resources
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from zoo import checkpoints, model_archive
from zoo.checkpoints import PublishedFile
from zoo.errors import UsageError, did_you_mean
from zoo.frozen_head import solve_head
from zoo.recommended.images import fine_tuning_of_images, published_image_size
from zoo.registry import Builder, register_model, register_variant

if TYPE_CHECKING:
    import keras

_STORAGE = "https://storage.googleapis.com"


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A row of keras_applications.csv.

    Attributes:
        name: the registered name.
        builder: the function of `keras.applications`.
        scaling: mode of `ImageNetScaling`, equal to the function's preprocessing.
        size: height and width of the images of the published weights.
        smallest: the smallest height and width.
        parameters: their number for colour images and 1,000 classes.
        licence: the licence of the published weights; "unknown" if their source does not say.
        file: the path of the published weights.
        cached_as: their name in Keras's cache, if it is another than in the path.
        hash: their MD5 or SHA-256 in Keras; empty if Keras has none.
        frozen: the class of layers that keep their published weights in fine-tuning; empty for none.
    """

    name: str
    builder: str
    scaling: Any
    size: int
    smallest: int
    parameters: int
    licence: str
    file: str
    cached_as: str
    hash: str
    frozen: str

    @property
    def published(self) -> PublishedFile:
        """The published weights."""
        return PublishedFile(f"{_STORAGE}/{self.file}", self.licence, self.hash or None, self.cached_as or None)


@functools.cache
def architectures() -> Mapping[str, Architecture]:
    """Returns the architectures by name.

    Example:
        >>> architectures()["xception"].size
        299
    """
    text = importlib.resources.files("zoo.models").joinpath("keras_applications.csv").read_text(encoding="utf-8")
    numbers = ("size", "smallest", "parameters")
    rows = csv.DictReader(text.splitlines())
    found = [Architecture(**{**row, **{name: int(row[name]) for name in numbers}}) for row in rows]  # type: ignore[arg-type]
    return {each.name: each for each in found}


def _find(name: Any) -> Architecture:
    if name not in architectures():
        raise UsageError(f"architecture is {name!r}. {did_you_mean(str(name), architectures())}")
    return architectures()[name]


_DEFAULT = "efficientnet_v2_b0"


@register_model(
    tasks=("image_classification", "image_multilabel", "image_regression"),
    reference="the papers that the documentation of keras.applications names",
    features_layer="features",
    closed_form=solve_head,
    recommended_options=fine_tuning_of_images("BatchNormalization"),
    preprocessing={"image_size": (96, 96)},
    checkpoints=("keras_weights",),
    published={"imagenet": lambda arguments: _find(arguments["architecture"]).published},
    initial_arguments=("weights",),
    recommended_arguments=published_image_size(architectures()[_DEFAULT].size),
    tiny={"architecture": "mobilenet_v3_small", "input_shape": (32, 32, 1), "num_classes": 3},
    heavy=True,
    golden=(({"input_shape": (224, 224, 3), "num_classes": 1000}, architectures()[_DEFAULT].parameters),),
)
def build_keras_application_model(
    input_shape: Sequence[int],
    num_classes: int,
    architecture: str = _DEFAULT,
    weights: str | None = None,
    dropout: float = 0.0,
    batch_norm_momentum: float = 0.9,
    classifier_activation: Literal["softmax", "sigmoid", "linear"] | None = "softmax",
) -> keras.Model:
    """Any other architecture of keras.applications, by name: ConvNeXt, DenseNet, EfficientNet, Inception, NASNet, ...

    Use it with published weights. Input `image`: float32 (batch, *input_shape), 0 to 1, at least 32x32 (Inception 75x75,
    Xception 71x71), grey or colour; the model scales it as its published weights expect. Output `probabilities` (or
    `logits` with `classifier_activation=None`, `values` with `linear`): float32 (batch, num_classes).

    Args:
        input_shape: Shape of one image, (height, width, channels) with 1 or 3 channels.
        num_classes: Number of classes.
        architecture: Name of the architecture, such as efficientnet_b0 or convnext_tiny.
        weights: imagenet, path of a weights file of the same model of keras.applications, or null for random weights. The
            last layer is loaded only if the file has it with the same number of classes.
        dropout: Dropout rate of the classifier's inputs.
        batch_norm_momentum: Momentum of batch normalisation's moving mean and variance, if the architecture has any.
        classifier_activation: Activation of the last layer: sigmoid for several labels, linear for values, null for
            logits.

    Raises:
        UsageError: an unknown architecture, a size that is not positive, a fraction out of range, an image that is too small
            or of other channels, or a file of weights that is missing or of another architecture.

    Example:
        >>> zoo.build_xception_model(input_shape=(96, 96, 3), num_classes=10).count_params()
        20881970
    """
    import keras
    from keras import layers

    from zoo.layers import blocks, images

    chosen = _find(architecture)
    inputs, x = images.scaled_input(chosen.scaling, input_shape, chosen.smallest)
    blocks.check_positive(num_classes=num_classes)
    blocks.check_fraction(dropout=dropout, batch_norm_momentum=batch_norm_momentum)
    make = getattr(keras.applications, chosen.builder)
    settings = {"include_preprocessing": False} if _scales_itself(make) else {}
    with model_archive.names_from_start():  # some layers have no name, and Keras numbers those of the whole process
        body = make(weights=None, input_tensor=x, input_shape=tuple(x.shape[1:]), classes=num_classes, **settings)
    for layer in body.layers:
        if isinstance(layer, layers.BatchNormalization):
            # Synchronised, because the moving statistics of several replicas would silently diverge. Keras's momentum suits
            # hundreds of thousands of steps.
            layer.synchronized, layer.momentum = True, batch_norm_momentum
    _set_constants(body)
    x = layers.Identity(name="features")(_classifier_input(body))
    if dropout:
        x = layers.Dropout(dropout, name="classifier_dropout")(x)
    outputs = blocks.classifier(x, num_classes, classifier_activation)
    model = keras.Model(inputs, outputs, name="keras_application")
    if weights is not None:
        checkpoints.find("keras_application", weights, {"architecture": architecture}).load(model)
        _set_constants(model)
    return model


def _scales_itself(make: Any) -> bool:
    """Whether a function of keras.applications can leave out its preprocessing."""
    import inspect

    return "include_preprocessing" in inspect.signature(make).parameters


def _classifier_input(body: keras.Model) -> Any:
    """Returns the input of the last layer with weights, before dropout, as (batch, channels)."""
    from keras import layers

    last = next(layer for layer in reversed(body.layers) if layer.weights)
    x = last.input
    while isinstance(layer := x._keras_history.operation, (layers.Dropout, layers.Flatten, layers.Reshape)):
        if len(layer.output.shape) == 2 and max(layer.input.shape[1:-1], default=1) != 1:
            break  # it flattens an image
        x = layer.input
    return x if len(x.shape) == 2 else layers.Flatten(name="flatten_features")(x)


_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _set_constants(model: keras.Model) -> None:
    """Sets the mean and variance of images in EfficientNet, which has them as weights.

    Its published files hold the deviation as the variance, for which Keras adds a layer that divides again, but only to
    models that it loads itself. So the right constants stand here, for any source of the other weights.
    """
    from keras import layers

    for layer in model.layers:
        if isinstance(layer, layers.Normalization) and layer.weights:
            layer.adapt_mean.assign(_MEAN)
            layer.adapt_variance.assign([deviation**2 for deviation in _DEVIATION])
            layer.finalize_state()


# --- Named sizes ------------------------------------------------------------------------------------------------------

if TYPE_CHECKING:

    def __getattr__(name: str) -> Builder:
        """Editors take the builders that are registered below from here."""


for _name, _each in architectures().items():
    globals()[f"build_{_name}_model"] = register_variant(
        build_keras_application_model,
        _name,
        f"{_each.builder} of keras.applications, for images of {_each.size}x{_each.size}.",
        architecture=_name,
        golden=(({"input_shape": (_each.size, _each.size, 3), "num_classes": 1000}, _each.parameters),),
        spec={
            "preprocessing": {"image_size": (_each.smallest, _each.smallest)},
            "recommended_arguments": published_image_size(_each.size),
            "recommended_options": fine_tuning_of_images(*filter(None, [_each.frozen])),
        },
    )
