"""Preprocessors: raw feature in, model input out, from core TensorFlow ops.

One object per run. Training maps it over batches; the exporter traces the same object into the SavedModel, so that what
is served is what was trained on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import tensorflow as tf

from zoo.datasets.interactions import InteractionPreprocessor
from zoo.datasets.series import SeriesPreprocessor
from zoo.datasets.tagging import TaggingPreprocessor
from zoo.datasets.text import TextPreprocessor
from zoo.datasets.translation import TranslationPreprocessor
from zoo.errors import UsageError

if TYPE_CHECKING:
    from zoo.datasets.data import Batch, Data


class Preprocessor(Protocol):
    """What every preprocessor offers; `PREPROCESSORS` holds them by the name that tasks use."""

    kind: ClassVar[str]
    padding: ClassVar[float]
    """What sequences of numbers are filled up with at their end; integers get 0."""

    @classmethod
    def for_model(
        cls, data: Data, needs: Mapping[str, Any], arguments: Mapping[str, Any]
    ) -> tuple[Preprocessor, dict[str, Any]]:
        """Makes one from a data set (fitted on its training split), the spec's `preprocessing` and the builder arguments
        so far; returns it with the builder arguments that it fixes."""

    @property
    def output_shape(self) -> tuple[int | None, ...] | dict[str, tuple[int | None, ...]]:
        """Shape of the longest model input there is; by input name where there are several."""

    @property
    def requests(self) -> dict[str, tf.TensorSpec]:
        """All raw inputs that signatures take, by name, with a batch dimension."""

    @property
    def limits(self) -> tuple[str, ...]:
        """What it refuses, what it cuts and what it makes of unknown input, in sentences for the model card."""

    def encode(self, examples: Mapping[str, tf.Tensor]) -> Batch:
        """A batch of raw examples as model inputs, targets and weights, which are None or 0 on padding."""

    def trim(self, inputs: Any, targets: tf.Tensor, weights: tf.Tensor | None) -> Batch:
        """A batch without what is padding in all of its rows."""

    def serve(self, requests: Mapping[str, tf.Tensor]) -> tuple[Any, dict[str, tf.Tensor]]:
        """A batch of raw requests, some of `requests`, as model inputs, and side products that an answer may show."""

    def to_requests(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
        """Raw examples of a data set as a client would send them, every input of `requests`."""

    def for_export(self, directory: Path) -> tuple[Preprocessor, list[Any]]:
        """An equal one that reads its vocabularies from files, which it writes into a folder, and what must be saved with
        it; the files become the artifact's assets."""

    def config(self) -> dict[str, Any]:
        """Everything that it takes to make an equal one: `PREPROCESSORS[kind](**config)`."""


@dataclasses.dataclass(frozen=True)
class ImagePreprocessor:
    """Images of any size, as uint8 arrays or as PNG, JPEG, BMP or GIF bytes, to float32 in 0 to 1.

    Colour is turned to luminance for a model of one channel, grey is repeated for one of three, transparency is dropped;
    another size is resized bilinearly with anti-aliasing, the aspect ratio not kept.

    Attributes:
        height: rows of the model's input.
        width: columns of the model's input.
        channels: 1 or 3.
        rows_as_steps: whether a model of sequences reads the image row by row.
        every_step: whether that model answers after every row.

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

    @classmethod
    def for_model(
        cls, data: Data, needs: Mapping[str, Any], arguments: Mapping[str, Any]
    ) -> tuple[ImagePreprocessor, dict[str, Any]]:
        """The model's input is what `input_shape` says; else the data's own size where that is fixed and not smaller
        than the spec's `image_size`; else `image_size`. A model of sequences, whose spec says `rows_as_steps`, gets
        (rows, columns x channels)."""
        shape, feature = arguments.get("input_shape"), data.features["image"]
        if needs.get("rows_as_steps"):
            shape = (*shape, 1) if isinstance(shape, (list, tuple)) and len(shape) == 2 else shape
        if shape is None:
            least = needs["image_size"]
            own = feature.shape[:2]
            fits = all(o is not None and o >= n for o, n in zip(own, least, strict=True))
            shape = (*(own if fits else least), 1 if feature.shape[-1] in (1, 2) else 3)
        valid = isinstance(shape, (list, tuple)) and len(shape) == 3 and all(isinstance(n, int) for n in shape)
        if not valid or min(shape) < 1 or shape[2] not in (1, 3):
            raise UsageError(
                f"input_shape is {shape!r}; expected [height, width, channels] with 1 or 3 channels. "
                "Pass input_shape=[28, 28, 1], say, or leave it out."
            )
        if needs.get("rows_as_steps"):
            height, width, channels = shape
            every_step = bool(arguments.get("return_sequences"))
            made = cls(height, width, channels, rows_as_steps=True, every_step=every_step)
            return made, {"input_shape": made.output_shape}
        return cls(*shape), {"input_shape": tuple(shape)}

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of one model input: (height, width, channels), or (height, width x channels) for rows as steps."""
        if self.rows_as_steps:
            return self.height, self.width * self.channels
        return self.height, self.width, self.channels

    @property
    def requests(self) -> dict[str, tf.TensorSpec]:
        """`image_bytes`: string (batch,), each a whole PNG, JPEG, BMP or GIF file."""
        return {"image_bytes": tf.TensorSpec([None], tf.string, "image_bytes")}

    @property
    def limits(self) -> tuple[str, ...]:
        """What is decoded, what becomes of other sizes and colours, and what is refused."""
        colours = "grey; colour becomes luminance" if self.channels == 1 else "colour; grey is repeated"
        return (
            f"Images of any size are resized to {self.height} x {self.width}, the aspect ratio not kept, in {colours}; "
            "transparency is dropped, and of an animation the first frame counts.",
            "PNG, JPEG, BMP, GIF and WebP are decoded. What cannot be decoded, and a BMP file with a palette of colours, "
            "is refused, and the whole batch with it.",
        )

    def __call__(self, raw: tf.Tensor) -> tf.Tensor:
        """Turns images (batch, height, width, channels), uint8, into float32 (batch, *output_shape), 0 to 1."""
        raw = tf.convert_to_tensor(raw)
        if raw.dtype != tf.uint8 or raw.shape.rank != 4:
            raise UsageError(
                f"An image batch is {raw.dtype.name} of shape {raw.shape}; expected uint8 (batch, height, width, channels). "
                "Pass images with levels 0 to 255, one alone as image[None]."
            )
        images = self._with_channels(tf.cast(raw, tf.float32))
        size = (self.height, self.width)
        if raw.shape[1:3].as_list() != list(size):
            images = tf.cond(
                tf.reduce_all(tf.equal(tf.shape(raw)[1:3], size)),
                lambda: images,
                lambda: tf.image.resize(images, size, antialias=True),
            )
        images = tf.ensure_shape(images, [None, self.height, self.width, self.channels])
        # Not divided by 255: some graphs do that by this factor, others not, and the last bit would differ.
        return tf.reshape(images * np.float32(1 / 255), [-1, *self.output_shape])

    def encode(self, examples: Mapping[str, tf.Tensor]) -> Batch:
        """Turns `image` and `label` into model inputs and targets; a label for every row where every row is answered."""
        labels = examples["label"]
        if not self.every_step:
            return self(examples["image"]), labels, None
        labels = tf.repeat(labels[:, tf.newaxis], self.height, axis=1)
        return self(examples["image"]), labels, tf.ones_like(labels, tf.float32)

    def _with_channels(self, images: tf.Tensor) -> tf.Tensor:
        count = images.shape[-1] if images.shape[-1] is not None else tf.shape(images)[-1]
        colour = count >= 3  # 1: grey, 2: grey and alpha, 3: colour, 4: colour and alpha
        if self.channels == 1:
            # Rec. 601 luma weights, as the PNG and JPEG decoders use for a request of one channel.
            def from_colour() -> tf.Tensor:
                return tf.reduce_sum(images[..., :3] * tf.constant([0.299, 0.587, 0.114]), axis=-1, keepdims=True)

            def from_grey() -> tf.Tensor:
                return images[..., :1]
        else:

            def from_colour() -> tf.Tensor:
                return images[..., :3]

            def from_grey() -> tf.Tensor:
                return tf.repeat(images[..., :1], 3, axis=-1)

        if isinstance(colour, bool):
            return from_colour() if colour else from_grey()
        return tf.cond(colour, from_colour, from_grey)

    def serve(self, requests: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Decodes `image_bytes`, string (batch,), to float32 (batch, *output_shape); images may differ in size."""

        def one(content: tf.Tensor) -> tf.Tensor:
            image = tf.io.decode_image(content, channels=0, expand_animations=False)
            return self(tf.reshape(image, tf.concat([[1], tf.shape(image)], 0)))[0]

        contents = requests["image_bytes"]
        # TensorFlow takes the palette numbers of a BMP file for grey levels: right for a grey palette only.
        head = tf.strings.join([tf.strings.substr(contents, 0, 1078), tf.constant(bytes(1078))])
        numbers = (tf.strings.substr(head, 0, 2) == b"BM") & (tf.strings.substr(head, 28, 2) == b"\x08\x00")
        other_palette = numbers & (
            tf.strings.substr(head, 54, 1024) != bytes(b for n in range(256) for b in (n, n, n, 0))
        )
        message = "A BMP file with a palette of colours cannot be read. Send it as PNG."
        with tf.control_dependencies([tf.debugging.Assert(~tf.reduce_any(other_palette), [message])]):
            contents = tf.identity(contents)
        images = tf.map_fn(one, contents, fn_output_signature=tf.TensorSpec(self.output_shape, tf.float32))
        return images, {"lengths": tf.fill([tf.shape(contents)[0]], self.height)}

    def to_requests(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
        """Encodes uint8 images as PNG, which loses nothing."""
        encoded = np.empty(len(examples), object)
        encoded[:] = [tf.io.encode_png(example["image"]).numpy() for example in examples]
        return {"image_bytes": encoded}

    def trim(self, inputs: tf.Tensor, targets: tf.Tensor, weights: tf.Tensor | None) -> Batch:
        """Images have no padding."""
        return inputs, targets, weights

    def for_export(self, directory: Path) -> tuple[ImagePreprocessor, list[Any]]:
        """Images need no vocabulary."""
        return self, []

    def config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return dataclasses.asdict(self)


_KINDS: tuple[Any, ...] = (
    ImagePreprocessor,
    InteractionPreprocessor,
    SeriesPreprocessor,
    TaggingPreprocessor,
    TextPreprocessor,
    TranslationPreprocessor,
)
PREPROCESSORS: dict[str, Any] = {cls.kind: cls for cls in _KINDS}
