"""Image files for any Keras model: decoded and resized, then scaled as the model expects."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

import numpy as np
import tensorflow as tf

from zoo.datasets.preprocessing.base import register_preprocessor
from zoo.datasets.preprocessing.images import ImagePreprocessor
from zoo.errors import UsageError, did_you_mean


class Scaling(NamedTuple):
    """A map from pixels of 0 to 255 to model inputs: (pixel - mean) / deviation for each channel.

    Attributes:
        description: the resulting range, for the model card.
        mean: a number for red, green and blue, or one for all.
        deviation: the same.
        blue_first: whether the channels are in the order blue, green, red.
    """

    description: str
    mean: tuple[float, ...] = (0.0,)
    deviation: tuple[float, ...] = (1.0,)
    blue_first: bool = False


SCALINGS: Mapping[str, Scaling] = {
    "unit": Scaling("pixels from 0 (black) to 1 (white)", deviation=(255.0,)),
    "bytes": Scaling("pixels from 0 (black) to 255 (white)"),
    "symmetric": Scaling("pixels from -1 (black) to 1 (white)", mean=(127.5,), deviation=(127.5,)),
    "torch": Scaling(
        "pixels of 0 to 1 minus ImageNet's mean, divided by its deviation",
        mean=(0.485 * 255, 0.456 * 255, 0.406 * 255),
        deviation=(0.229 * 255, 0.224 * 255, 0.225 * 255),
    ),
    "caffe": Scaling(
        "pixels of 0 to 255 minus ImageNet's mean; blue, green, red", mean=(123.68, 116.779, 103.939), blue_first=True
    ),
}
"""The usual scalings. Those of `keras.applications.imagenet_utils.preprocess_input` are `symmetric` (its mode "tf"), `torch`
and `caffe`."""


@register_preprocessor
@dataclasses.dataclass(frozen=True)
class ScaledImagePreprocessor(ImagePreprocessor):
    """Images of any size to float32, resized as `ImagePreprocessor` does and scaled.

    Attributes:
        scaling: one of `SCALINGS`.

    Example:
        >>> ScaledImagePreprocessor(2, 2, 3, scaling="symmetric")(np.zeros((1, 4, 4, 3), np.uint8)).numpy().max()
        -1.0
    """

    kind: ClassVar[str] = "scaled_image"
    scaling: str = "unit"

    @property
    def described_inputs(self) -> dict[str, str]:
        """The range of the pixels."""
        return {"image": SCALINGS[self.scaling].description}

    def __call__(self, raw: tf.Tensor) -> tf.Tensor:
        """Turns images (batch, height, width, channels), uint8, into float32 (batch, *shape)."""
        images = super().__call__(raw)
        chosen = SCALINGS[self.scaling]
        mean, deviation = (np.asarray(part, np.float64) for part in (chosen.mean, chosen.deviation))
        if chosen == SCALINGS["unit"]:
            return images
        scaled = images * (255.0 / deviation).astype(np.float32) - (mean / deviation).astype(np.float32)
        return scaled[..., ::-1] if chosen.blue_first else scaled


def image_files(size: Sequence[int], *, channels: int = 3, scaling: str = "unit") -> ScaledImagePreprocessor:
    """Returns a preprocessor with which a SavedModel of any Keras model takes image files.

    Args:
        size: (height, width) of the model's input.
        channels: 3, or 1 for grey.
        scaling: `unit` (0 to 1), `bytes` (0 to 255), `symmetric` (-1 to 1), `torch`, `caffe`; or the name of a module of
            `keras.applications`, such as `resnet50`, for its `preprocess_input`.

    Raises:
        UsageError: the size is no pair of positive numbers, or the scaling is unknown or needs three channels.

    Example:
        >>> files = zoo.datasets.image_files((224, 224), scaling="mobilenet_v2")
        >>> zoo.export.save(model, "exports/photos", examples=["cat.jpg"], preprocessor=files, class_names=names)
        PosixPath('exports/photos/1')
    """
    if len(tuple(size)) != 2 or not all(isinstance(n, (int, np.integer)) and n > 0 for n in size):
        raise UsageError(f"size is {size!r}; expected (height, width). Pass size=(224, 224), say.")
    if channels not in (1, 3):
        raise UsageError(f"channels is {channels!r}; expected 1 or 3. Pass channels=3 for colour.")
    name = scaling if scaling in SCALINGS else _of_application(scaling)
    if channels == 1 and len(SCALINGS[name].mean) == 3:
        raise UsageError(f"The scaling {scaling!r} needs three channels. Pass channels=3, or scaling='unit'.")
    return ScaledImagePreprocessor(int(size[0]), int(size[1]), channels, scaling=name)


def _of_application(name: str) -> str:
    """Returns the scaling that a module of `keras.applications` uses, found by calling its `preprocess_input`."""
    import keras

    known = [n for n in dir(keras.applications) if hasattr(getattr(keras.applications, n), "preprocess_input")]
    if name not in known:
        raise UsageError(f"Unknown scaling {name!r}. {did_you_mean(name, [*SCALINGS, *known])}")
    probe = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3)).astype(np.uint8)
    want = np.asarray(getattr(keras.applications, name).preprocess_input(probe.astype(np.float32)))
    for scaling in SCALINGS:
        got = ScaledImagePreprocessor(8, 8, 3, scaling=scaling)(probe).numpy()
        if np.allclose(want, got, rtol=1e-4, atol=1e-4):
            return scaling
    raise UsageError(
        f"keras.applications.{name}.preprocess_input is none of {', '.join(SCALINGS)}. Put the scaling into the model, as "
        "its first layers, and pass scaling='bytes'."
    )
