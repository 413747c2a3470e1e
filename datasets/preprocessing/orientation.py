"""Turns decoded JPEG files upright, as their EXIF orientation says, with core TensorFlow ops."""

from __future__ import annotations

import functools
import threading
from typing import Any

import tensorflow as tf

_MOST_SEGMENTS = 256
"""Maximum segments that are skipped to find the EXIF data. Cameras write it first, editors after a few others."""

_EXIF = b"Exif\0\0"
_TAG, _SHORT, _LONG = 0x0112, 3, 4
_ENTRY = 12
_MIRRORED, _UPSIDE_DOWN, _TRANSPOSED = (2, 3, 6, 7), (3, 4, 7, 8), (5, 6, 7, 8)
_TRACING = threading.Lock()


def upright(content: tf.Tensor, image: tf.Tensor) -> tf.Tensor:
    """Turns or mirrors the pixels of a JPEG file by its EXIF orientation. Other files stay as they are.

    Files whose EXIF data are damaged, or give another number than 1 to 8, stay as they are too.

    Args:
        content: string (), the whole file.
        image: uint8 (height, width, channels), its pixels as stored.

    Returns:
        uint8 (height, width, channels), or (width, height, channels) for the orientations 5 to 8.

    Example:
        >>> image = tf.constant([[[1], [2]]], tf.uint8)
        >>> upright(tf.io.encode_jpeg(image), image).shape
        TensorShape([1, 2, 1])
    """
    is_jpeg = tf.equal(tf.strings.substr(content, 0, 3), b"\xff\xd8\xff")
    turned = tf.cond(is_jpeg, lambda: _upright_jpeg()(content, image), lambda: tf.identity(image))
    return tf.ensure_shape(turned, [None, None, image.shape[-1]])


def _upright_jpeg() -> Any:
    """Returns a function of all graphs of a process, because a graph decodes at several places."""
    with _TRACING:  # threads that check files would each trace it
        return _traced()


@functools.cache
def _traced() -> Any:
    def turn(content: tf.Tensor, image: tf.Tensor) -> tf.Tensor:
        orientation = _orientation(content)
        return tf.cond(orientation > 1, lambda: _turned(image, orientation), lambda: tf.identity(image))

    form = [tf.TensorSpec([], tf.string), tf.TensorSpec([None, None, None], tf.uint8)]
    return tf.function(turn, input_signature=form, autograph=False)


def _turned(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    def among(numbers: tuple[int, ...]) -> tf.Tensor:
        return tf.reduce_any(orientation == numbers)

    image = tf.cond(among(_TRANSPOSED), lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
    image = tf.cond(among(_MIRRORED), lambda: image[:, ::-1], lambda: image)
    return tf.cond(among(_UPSIDE_DOWN), lambda: image[::-1], lambda: image)


def _orientation(content: tf.Tensor) -> tf.Tensor:
    """Returns the EXIF orientation of a JPEG file, int32 (), 1 to 8; 1 if it has none that is valid."""

    def read() -> tf.Tensor:
        place = _exif_place(content)
        return tf.cond(place > 0, lambda: _orientation_at(content, place), lambda: 1)

    # Most files have no EXIF data. One search is faster than the steps from segment to segment.
    around = tf.raw_ops.StringSplitV2(input=content[tf.newaxis], sep=_EXIF, maxsplit=1)
    return tf.cond(tf.size(around.values) > 1, read, lambda: 1)


def _exif_place(content: tf.Tensor) -> tf.Tensor:
    """Returns the place of the segment with the EXIF data; 0 if there is none before the pixels."""

    def head(place: tf.Tensor) -> tf.Tensor:
        return _codes(content, place, 4)  # 0xFF, the kind, and the length in two bytes

    def is_exif(place: tf.Tensor, codes: tf.Tensor) -> tf.Tensor:
        return (codes[1] == 0xE1) & tf.equal(_part(content, place + 4, 6), _EXIF)

    def goes_on(place: tf.Tensor, codes: tf.Tensor, steps: tf.Tensor) -> tf.Tensor:
        is_segment = (codes[0] == 0xFF) & (codes[1] > 0xBF) & (codes[1] != 0xDA)  # 0xDA is followed by the pixels
        return is_segment & ~is_exif(place, codes) & (steps < _MOST_SEGMENTS)

    def skip(place: tf.Tensor, codes: tf.Tensor, steps: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        place = tf.minimum(place + 2 + 256 * codes[2] + codes[3], tf.strings.length(content))
        return place, head(place), steps + 1

    first = tf.constant(2)
    place, codes, _ = tf.while_loop(goes_on, skip, (first, head(first), 0))
    return tf.where(is_exif(place, codes), place, 0)


def _orientation_at(content: tf.Tensor, place: tf.Tensor) -> tf.Tensor:
    """Reads the orientation from the first directory of the EXIF data, which have the format of a TIFF file."""
    size = _codes(content, place + 2, 2)
    data = _part(content, place + 10, tf.maximum(0, 256 * size[0] + size[1] - 8))
    start = tf.strings.substr(data, 0, 4)
    is_little, is_big = tf.equal(start, b"II*\0"), tf.equal(start, b"MM\0*")

    def number(codes: tf.Tensor) -> tf.Tensor:
        """Returns numbers of two or four bytes, int32 (...), which is negative for the largest; codes (..., bytes)."""
        codes = tf.where(is_little, codes[..., ::-1], codes)
        weights = [256**power for power in reversed(range(codes.shape[-1] - 1))]
        low = tf.reduce_sum(codes[..., 1:] * weights, axis=-1) if codes.shape[-1] > 2 else codes[..., 1]
        return tf.bitwise.left_shift(codes[..., 0], 8 * (codes.shape[-1] - 1)) + low

    directory = number(_codes(data, 4, 4))
    directory = tf.where((directory >= 0) & (directory < tf.strings.length(data)), directory, tf.strings.length(data))
    count = number(_codes(data, directory, 2))
    whole = tf.maximum(0, tf.strings.length(data) - directory - 2) // _ENTRY
    held = _part(data, directory + 2, _ENTRY * tf.minimum(count, whole))
    entries = tf.cast(tf.reshape(tf.io.decode_raw(held, tf.uint8), [-1, _ENTRY]), tf.int32)
    form, values = number(entries[:, 2:4]), number(entries[:, 4:8])
    value = tf.where(form == _SHORT, number(entries[:, 8:10]), number(entries[:, 8:12]))
    fits = (number(entries[:, :2]) == _TAG) & ((form == _SHORT) | (form == _LONG)) & (values == 1)
    found = tf.concat([[1], tf.boolean_mask(value, fits)], axis=0)[-1]
    return tf.where((is_little | is_big) & (found > 0) & (found < 9), found, 1)


def _codes(content: tf.Tensor, start: Any, count: int) -> tf.Tensor:
    """Returns bytes of a file as numbers, int32 (count,); 0 beyond its end."""
    rest = _part(content, start, count)
    return tf.cast(tf.io.decode_raw(rest[tf.newaxis], tf.uint8, fixed_length=count)[0], tf.int32)


def _part(content: tf.Tensor, start: Any, length: Any) -> tf.Tensor:
    """Returns bytes of a file as string (), fewer at its end. `tf.strings.substr` fails if it starts beyond the end."""
    return tf.strings.substr(content, tf.minimum(start, tf.strings.length(content)), length)
