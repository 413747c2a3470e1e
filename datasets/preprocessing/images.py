"""Images: files or arrays of any size to model inputs, with core TensorFlow ops. Files that are not safe to decode are
rejected before decoding."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import tensorflow as tf

from zoo.datasets.preprocessing.base import object_array, register_preprocessor
from zoo.errors import UsageError
from zoo.tasks import Request

if TYPE_CHECKING:
    from zoo.datasets.preprocessing.base import Batch, Tensors
    from zoo.datasets.raw import RawData

MAX_PIXELS = 2**25
"""Maximum pixels of an image file in a request, such as 8192 x 4096. A few kilobytes can encode a billion pixels."""

_MAX_SCANS = 64
"""Maximum scans of a progressive JPEG. A scan needs few bytes but decodes every pixel. Encoders write about ten."""

_MAX_GIF_STEPS = 2**14
"""Maximum steps to find the end of the first picture of a GIF. A step skips up to 256 blocks of up to 255 bytes."""

_MOST_VALUES = 2**28  # of all images of a request after resizing; they take a gibibyte

_LARGE = 2**22
"""If an image has more pixels, fewer images are decoded in parallel: decoding takes about 40 bytes per pixel."""

_GIF_HEADER = 13


@register_preprocessor
@dataclasses.dataclass(frozen=True)
class ImagePreprocessor:
    """Images of any size, as uint8 arrays or as PNG, JPEG, BMP or GIF bytes, to float32 in 0 to 1.

    For a model with one channel, colour is converted to luminance; for three channels, grey is repeated. Transparency is
    dropped. Images are resized bilinearly with anti-aliasing, without keeping the aspect ratio. Only the upper 8 of 16 bits
    and the first picture of an animation are used. The EXIF orientation is ignored.

    Attributes:
        height: rows of the model's input.
        width: columns of the model's input.
        channels: 1 or 3.
        rows_as_steps: whether a sequence model reads the image row by row.
        every_step: whether that model has an output after every row.

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
        cls, data: RawData, needs: Mapping[str, Any], arguments: Mapping[str, Any]
    ) -> tuple[ImagePreprocessor, dict[str, Any]]:
        """The model's input has the shape `input_shape` if given. Otherwise it has the size of the data's images, if that is
        fixed and not smaller than the spec's `image_size`, or else `image_size`. A sequence model with `rows_as_steps` in
        its spec gets (rows, columns x channels)."""
        shape, feature = arguments.get("input_shape"), data.features["image"]
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
            return made, {"input_shape": made.shape}
        return cls(*shape), {"input_shape": tuple(shape)}

    @property
    def input_shapes(self) -> dict[str, tuple[int | None, ...]]:
        """{"image": shape}."""
        return {"image": self.shape}

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
            "Transparency is dropped. Only the first picture of an animation is used. The EXIF orientation is ignored.",
            f"PNG, JPEG, BMP and GIF files of up to {MAX_PIXELS:,} pixels are decoded. A batch is rejected if a file is of "
            "another kind or cannot be decoded, or if it is a BMP file with a colour palette or a CMYK JPEG file without "
            "Adobe's marker.",
        )

    def __call__(self, raw: tf.Tensor) -> tf.Tensor:
        """Turns images (batch, height, width, channels), uint8, into float32 (batch, *shape), 0 to 1."""
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
        # Not divided by 255: some graphs replace a division by this factor, and the last bit would differ.
        return tf.reshape(images * np.float32(1 / 255), [-1, *self.shape])

    def encode(self, examples: Tensors) -> Batch:
        """Turns `image` and `label` into the input and the target. With `every_step`, the label is repeated for each row."""
        inputs, labels = {"image": self(examples["image"])}, examples["label"]
        if not self.every_step:
            return inputs, {"label": labels}, {}
        labels = tf.repeat(labels[:, tf.newaxis], self.height, axis=1)
        return inputs, {"label": labels}, {"label": tf.ones_like(labels, tf.float32)}

    def _with_channels(self, images: tf.Tensor) -> tf.Tensor:
        count = images.shape[-1] if images.shape[-1] is not None else tf.shape(images)[-1]
        colour = count >= 3  # 1: grey, 2: grey and alpha, 3: colour, 4: colour and alpha
        if self.channels == 1:
            # Rec. 601 luma weights, as in the PNG and JPEG decoders.
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

    def serve(self, requests: Tensors) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """Decodes `image_bytes`, string (batch,), to `image`, float32 (batch, *shape); images may differ in size.

        A file of another kind, with more than `MAX_PIXELS` pixels, or with colours that TensorFlow decodes incorrectly is
        an error, which is raised before decoding.
        """

        def one(content: tf.Tensor) -> tf.Tensor:
            image = tf.io.decode_image(content, channels=0, expand_animations=False)
            return self(tf.reshape(image, tf.concat([[1], tf.shape(image)], 0)))[0]

        contents, pixels = examined(self._few(requests["image_bytes"]))
        form = tf.TensorSpec(self.shape, tf.float32)
        images = tf.cond(
            tf.reduce_all(pixels <= _LARGE),
            lambda: tf.map_fn(one, contents, fn_output_signature=form),
            lambda: tf.map_fn(one, contents, fn_output_signature=form, parallel_iterations=2),
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
        return dataclasses.asdict(self)


def examined(contents: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Checks image files before decoding, and rejects those that are not safe to decode.

    Width and height are read from the header. Files that decoders silently decode incorrectly are rejected too.

    Args:
        contents: string (batch,), whole files.

    Returns:
        The files, string (batch,), unchanged except that a GIF is cut after its first picture; and their pixels, int64
        (batch,).

    Raises:
        InvalidArgumentError: at run time. The message gives the first invalid row: not a PNG, JPEG, BMP or GIF file, no
            pixel or more than `MAX_PIXELS`, a BMP file with a colour palette, a CMYK JPEG file without Adobe's marker, a
            JPEG file with too many scans, or a GIF file whose first picture is truncated or does not fill its screen.

    Example:
        >>> examined(tf.constant([tf.io.encode_png(np.zeros((8, 9, 1), np.uint8)).numpy()]))[1].numpy().tolist()
        [72]
    """
    words = tf.io.decode_raw(contents, tf.int32, little_endian=False, fixed_length=24)  # (batch, 6)
    is_png = tf.reduce_all(words[:, :2] == [_signed(b"\x89PNG"), _signed(b"\r\n\x1a\n")], axis=1)
    sizes = tf.cast(words[:, 4:6], tf.int64)
    pixels = tf.reduce_prod(sizes, axis=1)
    fine = is_png & (tf.reduce_min(sizes, axis=1) > 0) & (pixels <= MAX_PIXELS)
    # For valid PNG files, which most requests have, these few ops are the whole cost.
    return tf.cond(
        tf.reduce_all(fine),
        lambda: (tf.identity(contents), pixels),
        lambda: _examined_by_kind(contents, tf.bitwise.right_shift(words[:, 0], 8)),
    )


def _examined_by_kind(contents: tf.Tensor, magic: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """`examined` for a batch with files of any kind.

    Args:
        contents: string (batch,).
        magic: int32 (batch,), the first three bytes of each.
    """
    jpeg = magic == _signed(b"\xff\xd8\xff")
    others = [magic == _signed(b"\x89PN"), magic == _signed(b"GIF"), tf.bitwise.right_shift(magic, 8) == _signed(b"BM")]
    kinds = tf.argmax(tf.stack([*others, tf.ones_like(jpeg)]), output_type=tf.int32)

    def one(item: tuple[tf.Tensor, tf.Tensor]) -> _Examined:
        content, kind = item
        return tf.switch_case(kind, [lambda look=look: look(content) for look in (_png, _gif, _bmp, _unknown)])

    form = tf.TensorSpec([], tf.string), tf.TensorSpec([], tf.int64), tf.TensorSpec([], tf.string)
    rest = tf.map_fn(one, (contents[~jpeg], kinds[~jpeg]), fn_output_signature=form)
    rows = [tf.cast(tf.where(is_row)[:, 0], tf.int32) for is_row in (jpeg, ~jpeg)]
    parts = zip(_jpegs(contents[jpeg]), rest, strict=True)
    contents, pixels, faults = (tf.dynamic_stitch(rows, pair) for pair in parts)

    wrong = tf.concat([tf.where(faults != "")[:, 0], [-1]], axis=0)[0]
    message = tf.strings.join(["image_bytes, row ", tf.strings.as_string(wrong), ": ", faults[tf.maximum(wrong, 0)]])
    with tf.control_dependencies([tf.debugging.Assert(wrong < 0, [message])]):
        return tf.identity(contents), pixels


_Examined = tuple[tf.Tensor, tf.Tensor, tf.Tensor]
"""Files to decode, their pixels, and their faults ("" for none): string, int64, string."""


def _jpegs(contents: tf.Tensor) -> _Examined:
    """Checks JPEG files, string (n,)."""
    shapes = tf.map_fn(tf.io.extract_jpeg_shape, contents, fn_output_signature=tf.TensorSpec([3], tf.int32))
    height, width, channels = tf.unstack(shapes, axis=1)
    # FF DA starts a scan, and does not occur in compressed data.
    scans = tf.strings.split(contents, b"\xff\xda").row_lengths() - 1
    many = f"a JPEG file of more than {_MAX_SCANS} scans. Send it as PNG."
    # Only Adobe's marker says whether 255 means full ink or no ink. Without it, programs differ.
    unclear = (channels == 4) & (tf.strings.split(contents, b"\xff\xee\x00\x0eAdobe").row_lengths() < 2)
    inks = "a CMYK JPEG file without Adobe's marker, which is needed to read the colours. Send it in RGB."
    fault = tf.where(scans > _MAX_SCANS, many, tf.where(unclear, inks, ""))
    return _examined(contents, width, height, fault)


def _png(content: tf.Tensor) -> _Examined:
    width, height = tf.unstack(_numbers(content, 16, 2, little_endian=False))
    return _examined(content, width, height)


def _gif(content: tf.Tensor) -> _Examined:
    """Cuts the file after its first picture. The decoder would decode all pictures, of any size, to return one."""
    size = tf.strings.length(content)
    codes = tf.pad(tf.io.decode_raw(content, tf.uint8), [[0, 1024]])  # a step below goes less than 1024 beyond the end

    def at(place: tf.Tensor) -> tf.Tensor:
        return tf.cast(codes[place], tf.int32)

    def table(flags: tf.Tensor) -> tf.Tensor:
        return tf.where(flags >= 128, 3 * tf.bitwise.left_shift(2, flags % 8), 0)

    def leap(place: tf.Tensor, steps: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Skips a block of data and up to 255 further blocks of the same length, which nearly all blocks have."""
        stride = at(place) + 1
        lengths = codes[place : place + 256 * stride : stride]
        other = tf.concat([lengths != codes[place], [True]], axis=0)
        return place + stride * tf.argmax(other, output_type=tf.int32), steps + 1

    def skip(place: tf.Tensor, steps: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Skips all blocks of data up to and including the last one, whose length is 0."""
        place, steps = tf.while_loop(
            lambda place, steps: (codes[place] > 0) & (steps < _MAX_GIF_STEPS), leap, (place, steps)
        )
        return place + 1, steps + 1

    # Extensions, such as a comment or a delay, precede the picture.
    place, steps = tf.while_loop(
        lambda place, steps: (at(place) == 0x21) & (steps < _MAX_GIF_STEPS),
        lambda place, steps: skip(place + 2, steps),
        (tf.minimum(_GIF_HEADER + table(at(10)), size), 0),
    )
    screen, picture = _numbers(content, 6, 2, tf.uint16), _numbers(content, place + 1, 4, tf.uint16)
    fills = tf.reduce_all(picture == tf.concat([[0, 0], screen], axis=0))
    stop, steps = skip(tf.minimum(place + 11 + table(at(place + 9)), size), steps)
    whole = (at(place) == 0x2C) & (stop <= size) & (steps < _MAX_GIF_STEPS)
    partial = "a GIF file whose first picture does not fill its screen. Send it as PNG."
    broken = "a GIF file without a complete picture. Send another file."
    fault = tf.where(whole, tf.where(fills, "", partial), broken)
    cut = tf.strings.join([tf.strings.substr(content, 0, stop), ";"])
    return _examined(cut, screen[0], screen[1], fault)


def _bmp(content: tf.Tensor) -> _Examined:
    header, width, height, depth, compression = tf.unstack(_numbers(content, 14, 5))
    depth = tf.bitwise.right_shift(depth, 16)
    # TensorFlow reads the numbers of a palette as grey levels, which is right for one palette only, and assumes the usual
    # order of colours.
    grey = tf.strings.substr(tf.strings.join([content, bytes(54)]), 54, 1024) == bytes(
        b for n in range(256) for b in (n, n, n, 0)
    )
    usual = tf.reduce_all(_numbers(content, 54, 3) == [0xFF0000, 0xFF00, 0xFF])
    plain = (compression == 0) | ((compression == 3) & (depth == 32) & usual)
    palette = "a BMP file with a colour palette cannot be read. Send it as PNG."
    other = "a BMP file that is compressed or very old cannot be read. Send it as PNG."
    fault = tf.where((header < 40) | ~plain, other, tf.where((depth == 8) & ~grey, palette, ""))
    return _examined(content, width, tf.abs(height), fault)


def _unknown(content: tf.Tensor) -> _Examined:
    fault = "this is not a PNG, JPEG, BMP or GIF file. Send one of these."
    return content, tf.constant(0, tf.int64), tf.constant(fault)


def _numbers(content: tf.Tensor, start: Any, count: int, dtype: Any = tf.int32, *, little_endian: bool = True) -> Any:
    """Returns consecutive numbers of a file, int32 (count,); 0 beyond its end."""
    length = count * dtype.size
    rest = tf.strings.substr(content, tf.minimum(start, tf.strings.length(content)), length)
    numbers = tf.io.decode_raw(rest[tf.newaxis], dtype, little_endian=little_endian, fixed_length=length)
    return tf.cast(numbers[0], tf.int32)


def _examined(content: tf.Tensor, width: tf.Tensor, height: tf.Tensor, fault: Any = "") -> _Examined:
    """Returns content, pixels and fault. No pixels or too many are a fault, too."""
    pixels = tf.cast(width, tf.int64) * tf.cast(height, tf.int64)
    shown = [tf.strings.as_string(width), " x ", tf.strings.as_string(height)]
    sentence = tf.strings.join([*shown, f" pixels; expected 1 to {MAX_PIXELS:,} of them. Send a smaller image."])
    few = (width > 0) & (height > 0) & (pixels <= MAX_PIXELS)
    return content, pixels, tf.where(few, fault, sentence)


def _signed(magic: bytes) -> int:
    """Returns the bytes as a signed big-endian number, as in the int32 values that they are compared with."""
    return int.from_bytes(magic, "big", signed=True)
