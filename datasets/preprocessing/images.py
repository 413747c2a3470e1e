"""Images: files or arrays of any size to model inputs, with core TensorFlow ops."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import tensorflow as tf

from zoo.datasets.preprocessing.base import Choices, object_array, register_preprocessor
from zoo.datasets.preprocessing.image_files import MAX_PIXELS, decode_examined, examined
from zoo.datasets.preprocessing.mirroring import compare_mirrored
from zoo.datasets.preprocessing.resizing import resized
from zoo.datasets.preprocessing.targets import Targets
from zoo.errors import UsageError
from zoo.tasks import Request, get_task

if TYPE_CHECKING:
    from zoo.datasets.preprocessing.base import Batch, Tensors
    from zoo.datasets.raw import RawData

_MOST_VALUES = 2**28  # of all images of a request after resizing; they take a gibibyte

_IN_PARALLEL = ((2**22, 10), (2**24, 2))
"""How many images are decoded in parallel, if none has more pixels; else one after the other. Decoding takes about 16 bytes
per pixel."""

_MOST_PIXELS, _PIXELS_PER_BYTE = 2**27, 32
"""A request may have this many pixels, and more for every byte: photographs have up to 10 per byte, files made to be
expensive have hundreds."""

_GENERATED = 2**20
"""Maximum values of all generated images."""

_LUMA = (0.299, 0.587, 0.114)
"""The weights of red, green and blue in Rec. 601, as in the PNG and JPEG decoders."""


@register_preprocessor
@dataclasses.dataclass(frozen=True)
class ImagePreprocessor:
    """Images of any size, as uint8 arrays or as PNG, JPEG, BMP or GIF bytes, to float32 in 0 to 1.

    For a model with one channel, colour is converted to luminance; for three channels, grey is repeated. Transparency is
    dropped. Images are resized bilinearly with anti-aliasing, without keeping the aspect ratio. Only the upper 8 of 16 bits
    and the first picture of an animation are used. JPEG files are turned upright by their EXIF orientation.

    Attributes:
        height: rows of the model's input.
        width: columns of the model's input.
        channels: 1 or 3.
        rows_as_steps: whether a sequence model reads the image row by row.
        every_step: whether that model has an output after every row.
        targets: makes the model's targets.
        choices: how the size was chosen, if the user left it open.

    Example:
        >>> ImagePreprocessor(28, 28, 1)(np.zeros((2, 8, 8, 3), np.uint8)).shape
        TensorShape([2, 28, 28, 1])
    """

    kind: ClassVar[str] = "image"
    padding: ClassVar[float] = 0
    height: int
    width: int
    channels: int
    rows_as_steps: bool = False
    every_step: bool = False
    targets: Targets = dataclasses.field(default_factory=Targets)
    choices: Choices = dataclasses.field(default=Choices(), compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", Targets.restored(self.targets))

    @classmethod
    def for_model(
        cls, data: RawData, needs: Mapping[str, Any], arguments: Mapping[str, Any]
    ) -> tuple[ImagePreprocessor, dict[str, Any]]:
        """The model's input has the shape `input_shape` if given. For the weights of a run, and for published weights that
        say it, it has their shape. Otherwise it has the size of the data's images, if that is fixed and not smaller than the
        spec's `image_size`, or else `image_size`. With `longest_side` in its spec, images of various sizes have their
        median size in the training split, and larger ones are scaled down to that side. With fewer training images than
        `mirrored_below` in its spec, the choices say whether mirrored images keep their classes. A sequence model with
        `rows_as_steps` in its spec gets (rows, columns x channels)."""
        notes: tuple[str, ...] = ()
        shape, feature = arguments.get("input_shape"), data.features["image"]
        if shape is None and (earlier := needs.get("earlier")) is not None:
            shape = (earlier.preprocessor.height, earlier.preprocessor.width, earlier.preprocessor.channels)
        if shape is None and (checkpoint := needs.get("checkpoint")) is not None:
            shape = checkpoint.arguments().get("input_shape")
        if needs.get("rows_as_steps"):
            shape = (*shape, 1) if isinstance(shape, (list, tuple)) and len(shape) == 2 else shape
        if shape is None:
            own = feature.shape[:2]
            least = needs.get("image_size", own)
            if None in least:
                raise UsageError(
                    f"The images of data set {data.name!r} have various sizes. Pass input_shape=[28, 28, 1], say, or name "
                    "an image_size in the model's preprocessing."
                )
            size, notes = _size_for(own, least, needs.get("longest_side"), data.about.get("median_image_size"))
            shape = (*size, 1 if feature.shape[-1] in (1, 2) else 3)
        valid = isinstance(shape, (list, tuple)) and len(shape) == 3 and all(isinstance(n, int) for n in shape)
        if not valid or min(shape) < 1 or shape[2] not in (1, 3):
            raise UsageError(
                f"input_shape is {shape!r}; expected [height, width, channels] with 1 or 3 channels. "
                "Pass input_shape=[28, 28, 1], say, or leave it out."
            )
        targets = Targets.fit(data, needs.get("quantiles", ()))
        facts, more = _facts(data, needs.get("mirrored_below", 0))
        if needs.get("rows_as_steps"):
            height, width, channels = shape
            every_step = bool(arguments.get("return_sequences"))
            made = cls(height, width, channels, rows_as_steps=True, every_step=every_step, targets=targets)
            return made, {"input_shape": made.shape, **targets.arguments}
        height, width, channels = shape
        choices = Choices(notes=(*notes, *more), facts=facts)
        made = cls(height, width, channels, targets=targets, choices=choices)
        return made, {"input_shape": tuple(shape), **targets.arguments}

    @classmethod
    def without_data(
        cls, needs: Mapping[str, Any], arguments: Mapping[str, Any]
    ) -> tuple[ImagePreprocessor, dict[str, Any]]:
        """The model's input has the shape `input_shape`, or else the spec's `image_size` in colour."""
        height, width, channels = arguments.get("input_shape") or (*needs["image_size"], 3)
        return cls(height, width, channels), {"input_shape": (height, width, channels)}

    @property
    def input_shapes(self) -> dict[str, tuple[int | None, ...]]:
        """{"image": shape}."""
        return {"image": self.shape}

    def generated(self, generator: np.random.Generator, count: int) -> dict[str, list[np.ndarray]]:
        """Returns images of noise in the size of the model's input: fewer large ones, because they cannot be compressed."""
        count = min(count, max(4, _GENERATED // (self.height * self.width * self.channels)))
        shape = (count, self.height, self.width, self.channels)
        return {"image_bytes": list(generator.integers(0, 256, shape).astype(np.uint8))}

    @property
    def described_inputs(self) -> dict[str, str]:
        """The range of the pixels."""
        rows = ", one row of the image per step" if self.rows_as_steps else ""
        return {"image": f"pixels from 0 (black) to 1 (white){rows}"}

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one model input: (height, width, channels), or (height, width x channels) for rows as steps."""
        if self.rows_as_steps:
            return self.height, self.width * self.channels
        return self.height, self.width, self.channels

    @property
    def requests(self) -> dict[str, Request]:
        """`image_bytes`: string (batch,), each a whole PNG, JPEG, BMP or GIF file."""
        return {"image_bytes": Request("image_bytes", "file", "string", (), "a whole PNG, JPEG, BMP or GIF file")}

    @property
    def limits(self) -> tuple[str, ...]:
        """Which files are decoded, how sizes and colours are converted, and what is rejected."""
        colours = (
            "Colour is converted to luminance." if self.channels == 1 else "Grey is repeated in all three channels."
        )
        return (
            f"Images of any size are resized to {self.height} x {self.width}, without keeping the aspect ratio. {colours} "
            "Transparency is dropped. Only the first picture of an animation is used. JPEG files are turned upright by their "
            "EXIF orientation.",
            f"PNG, JPEG, BMP and GIF files of up to {MAX_PIXELS:,} pixels are decoded. A batch is rejected if a file is of "
            "another kind or cannot be decoded, or if it is a BMP file with a colour palette, a CMYK JPEG file without "
            "Adobe's marker, or a PNG file with 16 bits per channel that uses at most 12 of them.",
        )

    def __call__(self, raw: tf.Tensor) -> tf.Tensor:
        """Turns images (batch, height, width, channels), uint8, into float32 (batch, *shape), 0 to 1."""
        raw = tf.convert_to_tensor(raw)
        if raw.dtype != tf.uint8 or raw.shape.rank != 4:
            raise UsageError(
                f"An image batch is {raw.dtype.name} of shape {raw.shape}; expected uint8 (batch, height, width, channels). "
                "Pass images with levels 0 to 255, one alone as image[None]."
            )
        images = self._with_channels(raw)
        size = (self.height, self.width)
        if raw.shape[1:3].as_list() != list(size):
            images = tf.cond(
                tf.reduce_all(tf.equal(tf.shape(raw)[1:3], size)),
                lambda: tf.cast(images, tf.float32),
                lambda: resized(images, *size),
            )
        images = tf.ensure_shape(tf.cast(images, tf.float32), [None, self.height, self.width, self.channels])
        # Not divided by 255: some graphs replace a division by this factor, and the last bit would differ.
        return tf.reshape(images * np.float32(1 / 255), [-1, *self.shape])

    def encode(self, examples: Tensors) -> Batch:
        """Turns `image` and the target into those of the model. With `every_step`, the label is repeated for each row."""
        inputs, targets = {"image": self(examples["image"])}, self.targets.encode(examples)
        if not self.every_step:
            return inputs, targets, {}
        labels = tf.repeat(targets["label"][:, tf.newaxis], self.height, axis=1)
        return inputs, {"label": labels}, {"label": tf.ones_like(labels, tf.float32)}

    def _with_channels(self, images: tf.Tensor) -> tf.Tensor:
        count = images.shape[-1] if images.shape[-1] is not None else tf.shape(images)[-1]
        colour = count >= 3  # 1: grey, 2: grey and alpha, 3: colour, 4: colour and alpha
        if self.channels == 1:

            def from_colour() -> tf.Tensor:  # channel after channel, which takes a third of the memory
                red, green, blue = (
                    tf.cast(images[..., channel : channel + 1], tf.float32) * np.float32(weight)
                    for channel, weight in enumerate(_LUMA)
                )
                return red + green + blue

            def from_grey() -> tf.Tensor:
                return tf.cast(images[..., :1], tf.float32)
        else:

            def from_colour() -> tf.Tensor:
                return images[..., :3]

            def from_grey() -> tf.Tensor:
                return tf.repeat(images[..., :1], 3, axis=-1)

        if isinstance(colour, bool):
            return from_colour() if colour else from_grey()
        return tf.cond(colour, from_colour, from_grey)

    def serve(self, requests: Tensors) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """Decodes `image_bytes`, string (batch,), to `image`, float32 (batch, *shape); images may differ in size.

        A file of another kind, with more than `MAX_PIXELS` pixels, or with colours that TensorFlow decodes incorrectly is
        an error, which is raised before decoding.
        """

        def one(content: tf.Tensor) -> tf.Tensor:
            image = decode_examined(content)
            return self(tf.reshape(image, tf.concat([[1], tf.shape(image)], 0)))[0]

        contents, pixels = _not_inflated(*examined(self._few(requests["image_bytes"])))
        form, largest = tf.TensorSpec(self.shape, tf.float32), tf.reduce_max(pixels)

        def decoded(at_once: int) -> tf.Tensor:
            return tf.map_fn(one, contents, fn_output_signature=form, parallel_iterations=at_once)

        images = tf.case(
            [(largest <= most, lambda at_once=at_once: decoded(at_once)) for most, at_once in _IN_PARALLEL],
            default=lambda: decoded(1),
        )
        return {"image": images}, {"lengths": tf.fill([tf.shape(contents)[0]], self.height)}

    def _few(self, contents: tf.Tensor) -> tf.Tensor:
        """Rejects more images than fit in `_MOST_VALUES`: small files can become large arrays."""
        most = max(1, _MOST_VALUES // math.prod(self.shape))
        said = f" images; expected at most {most:,} in a request. Send fewer at once."
        counted = tf.strings.join([tf.strings.as_string(tf.size(contents)), said])
        with tf.control_dependencies([tf.debugging.Assert(tf.size(contents) <= most, [counted])]):
            return tf.identity(contents)

    def to_requests(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
        """Encodes uint8 images as PNG, which is lossless."""
        return {"image_bytes": object_array([tf.io.encode_png(example["image"]).numpy() for example in examples])}

    def trim(self, inputs: Tensors, targets: Tensors, weights: Tensors) -> Batch:
        """Images have no padding."""
        return inputs, targets, weights

    def for_export(self, directory: Path) -> tuple[ImagePreprocessor, list[Any]]:
        """Images need no vocabulary."""
        return self, []

    def config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        fields = [field.name for field in dataclasses.fields(self) if field.name not in ("targets", "choices")]
        own = {name: getattr(self, name) for name in fields}
        return {**own, **self.targets.described()}


def _size_for(
    own: Sequence[int | None], least: Sequence[int], longest: int | None, median: Sequence[int] | None
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Returns the size of a model's input, and lines about it that are printed.

    Args:
        own: height and width of the images, None where they vary.
        least: the smallest size.
        longest: the longest side, None to keep the size of the images, or `least` if it varies.
        median: the median size of the training images, None if it is unknown.
    """
    varies = None in own
    found = (median if longest is not None else None) if varies else own
    known = [side for side in found or () if side is not None]
    if not known or any(side < n for side, n in zip(known, least, strict=True)):
        return tuple(least), ()
    if longest is None or (not varies and max(known) <= longest):
        return tuple(known), ()
    factor = min(1.0, longest / max(known))
    size = tuple(max(n, round(factor * side)) for side, n in zip(known, least, strict=True))
    what = "have a median size of" if varies else "have"
    return size, (
        f"The images {what} {known[0]} x {known[1]} pixels. The model's input has {size[0]} x {size[1]}: "
        "pass --model.input_shape to choose another size",
    )


def _facts(data: RawData, mirrored_below: int) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Returns what a model recommends its options from, and lines about it that are printed."""
    few = data.splits["train"].num_examples < mirrored_below
    if not few or get_task(data.task).targets != ("label",) or "validation" not in data.splits:
        return {}, ()
    found = compare_mirrored(data)
    return ({}, ()) if found is None else ({"mirrored": found.keeps}, (str(found),))


def _not_inflated(contents: tf.Tensor, pixels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Rejects files that have too many pixels together: a megabyte can hold a billion."""
    size = tf.reduce_sum(tf.cast(tf.strings.length(contents), tf.int64))
    message = (
        f"image_bytes has too many pixels in few bytes; expected at most {_MOST_PIXELS:,}. Send fewer images at once."
    )
    few = tf.reduce_sum(pixels) <= _MOST_PIXELS + _PIXELS_PER_BYTE * size
    with tf.control_dependencies([tf.debugging.Assert(few, [message])]):
        return tf.identity(contents), pixels
