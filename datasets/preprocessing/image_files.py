"""Decodes image files with core TensorFlow ops, for training and serving alike. Files that are not safe to decode, or whose
pixels would be wrong, are rejected before decoding."""

from __future__ import annotations

import functools
import threading
from typing import Any

import tensorflow as tf

from zoo.datasets.preprocessing.orientation import upright
from zoo.errors import one_line

MAX_PIXELS = 2**25
"""Maximum pixels of an image file in a request, such as 8192 x 4096. A few kilobytes can encode a billion pixels."""

_MAX_SCANS = 64
"""Maximum scans of a progressive JPEG. A scan needs few bytes but decodes every pixel. Encoders write about ten."""

_MAX_GIF_STEPS = 2**14
"""Maximum steps to find the end of the first picture of a GIF. A step skips up to 256 blocks of up to 255 bytes."""

_DARKEST_DEEP = 2**12
"""The brightest level of a PNG of 16 bits per channel must reach this, unless all are 0."""

_GIF_HEADER = 13
_TRACING = threading.Lock()


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
            JPEG file with too many scans, a GIF file whose first picture is truncated or does not fill its screen, or a PNG
            file of 16 bits per channel that uses 12 of them.

    Example:
        >>> examined(tf.constant([tf.io.encode_png(np.zeros((8, 9, 1), np.uint8)).numpy()]))[1].numpy().tolist()
        [72]
    """
    words = tf.io.decode_raw(contents, tf.int32, little_endian=False, fixed_length=28)  # (batch, 7)
    is_png = tf.reduce_all(words[:, :2] == [_signed(b"\x89PNG"), _signed(b"\r\n\x1a\n")], axis=1)
    sizes = tf.cast(words[:, 4:6], tf.int64)
    pixels = tf.reduce_prod(sizes, axis=1)
    shallow = tf.bitwise.right_shift(words[:, 6], 24) < 16  # the first byte is the number of bits
    fine = is_png & shallow & (tf.reduce_min(sizes, axis=1) > 0) & (pixels <= MAX_PIXELS)
    # For valid PNG files, which most requests have, these few ops are the whole cost.
    return tf.cond(
        tf.reduce_all(fine),
        lambda: (tf.identity(contents), pixels),
        lambda: _any_kind()(contents),
    )


@functools.cache
def _any_kind() -> Any:
    """Returns the checks of files of any kind, traced once for all graphs of a process: they are a thousand ops."""

    def examine(contents: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return _without_fault(*_examined_by_kind(contents))

    return tf.function(examine, input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)


def decode_examined(content: tf.Tensor) -> tf.Tensor:
    """Decodes one of the files that `examined` returned, string (), to uint8 (height, width, channels), turned upright."""
    return upright(content, tf.io.decode_image(content, channels=0, expand_animations=False))


@functools.cache
def decoder() -> Any:
    """Returns a traced function that decodes a file for which `check` found no fault, string (), as serving does.

    It raises InvalidArgumentError if the file has become one of another kind, on which TensorFlow can overwrite memory.

    Example:
        >>> decoder()(tf.io.encode_png(np.zeros((8, 9, 1), np.uint8))).shape
        TensorShape([8, 9, 1])
    """

    def decode(content: tf.Tensor) -> tf.Tensor:
        jpeg, png, gif, bmp = (kind[0] for kind in _kinds(_magic(content[tf.newaxis])))
        with tf.control_dependencies([tf.debugging.Assert(jpeg | png | gif | bmp, ["An image file has changed."])]):
            return decode_examined(tf.cond(gif, lambda: _gif(content)[0], lambda: content))

    return tf.function(decode, input_signature=[tf.TensorSpec([], tf.string)])


def check(content: bytes) -> tuple[tuple[int, ...], str]:
    """Decodes a file as training and serving do. Returns its shape and why it cannot be decoded, of which one is empty.

    Example:
        >>> check(b"GIF")
        ((), '0 x 0 pixels; expected 1 to 33,554,432 of them')
    """
    looks = {b"\xff\xd8\xff": _jpeg, b"\x89PN": _png, b"GIF": _gif}
    look = looks.get(content[:3], _bmp if content[:2] == b"BM" else _unknown)
    try:
        cut, _, fault = _traced(look)(tf.constant(content))
        why = fault.numpy().decode()
        return ((), why.split(". ")[0]) if why else (tuple(decode_examined(cut).shape), "")
    except tf.errors.InvalidArgumentError as error:
        # Of an error in a traced function, the lines before the last are places in the code.
        sentence = error.message.split("[[{{node", 1)[0].strip().rsplit("\n", 1)[-1]
        return (), one_line(ValueError(sentence), 120)


def _traced(look: Any) -> Any:
    with _TRACING:  # threads that check files would each trace it
        return _trace(look)


@functools.cache
def _trace(look: Any) -> Any:
    return tf.function(look, input_signature=[tf.TensorSpec([], tf.string)]).get_concrete_function()


def _magic(contents: tf.Tensor) -> tf.Tensor:
    """Returns the first three bytes of each file as a number, int32 (batch,)."""
    words = tf.io.decode_raw(contents, tf.int32, little_endian=False, fixed_length=4)
    return tf.bitwise.right_shift(words[:, 0], 8)


def _kinds(magic: tf.Tensor) -> list[tf.Tensor]:
    """Whether files are JPEG, PNG, GIF and BMP."""
    starts = (b"\xff\xd8\xff", b"\x89PN", b"GIF")
    return [*(magic == _signed(start) for start in starts), tf.bitwise.right_shift(magic, 8) == _signed(b"BM")]


def _examined_by_kind(contents: tf.Tensor) -> _Examined:
    """Checks files of any kind, string (batch,)."""
    jpeg, *others = _kinds(_magic(contents))
    kinds = tf.argmax(tf.stack([*others, tf.ones_like(jpeg)]), output_type=tf.int32)

    def one(item: tuple[tf.Tensor, tf.Tensor]) -> _Examined:
        content, kind = item
        return tf.switch_case(kind, [lambda look=look: look(content) for look in (_png, _gif, _bmp, _unknown)])

    form = tf.TensorSpec([], tf.string), tf.TensorSpec([], tf.int64), tf.TensorSpec([], tf.string)
    rest = tf.map_fn(one, (contents[~jpeg], kinds[~jpeg]), fn_output_signature=form)
    rows = [tf.cast(tf.where(is_row)[:, 0], tf.int32) for is_row in (jpeg, ~jpeg)]
    parts = zip(_jpegs(contents[jpeg]), rest, strict=True)
    contents, pixels, faults = (tf.dynamic_stitch(rows, pair) for pair in parts)
    return contents, pixels, faults


def _without_fault(contents: tf.Tensor, pixels: tf.Tensor, faults: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    wrong = tf.concat([tf.where(faults != "")[:, 0], [-1]], axis=0)[0]
    message = tf.strings.join(["image_bytes, row ", tf.strings.as_string(wrong), ": ", faults[tf.maximum(wrong, 0)]])
    with tf.control_dependencies([tf.debugging.Assert(wrong < 0, [message])]):
        return tf.identity(contents), pixels


_Examined = tuple[tf.Tensor, tf.Tensor, tf.Tensor]
"""Files to decode, their pixels, and their faults ("" for none): string, int64, string."""


def _jpegs(contents: tf.Tensor) -> _Examined:
    """Checks JPEG files, string (n,)."""
    return _examined_jpegs(
        contents, tf.map_fn(tf.io.extract_jpeg_shape, contents, fn_output_signature=tf.TensorSpec([3], tf.int32))
    )


def _examined_jpegs(contents: tf.Tensor, shapes: tf.Tensor) -> _Examined:
    """Checks JPEG files, string (n,), of known shapes, int32 (n, 3)."""
    height, width, channels = tf.unstack(shapes, axis=1)
    # FF DA starts a scan, and does not occur in compressed data.
    scans = tf.strings.split(contents, b"\xff\xda").row_lengths() - 1
    many = f"a JPEG file of more than {_MAX_SCANS} scans. Send it as PNG."
    # Only Adobe's marker says whether 255 means full ink or no ink. Without it, programs differ.
    unclear = (channels == 4) & (tf.strings.split(contents, b"\xff\xee\x00\x0eAdobe").row_lengths() < 2)
    inks = "a CMYK JPEG file without Adobe's marker, which is needed to read the colours. Send it in RGB."
    fault = tf.where(scans > _MAX_SCANS, many, tf.where(unclear, inks, ""))
    return _examined(contents, width, height, fault)


def _jpeg(content: tf.Tensor) -> _Examined:
    shape = tf.io.extract_jpeg_shape(content)
    contents, pixels, faults = _examined_jpegs(content[tf.newaxis], shape[tf.newaxis])
    return contents[0], pixels[0], faults[0]


def _png(content: tf.Tensor) -> _Examined:
    width, height, rest = tf.unstack(_numbers(content, 16, 3, little_endian=False))
    content, pixels, fault = _examined(content, width, height)
    deep = (tf.bitwise.right_shift(rest, 24) == 16) & (fault == "")  # the first byte is the number of bits
    return content, pixels, tf.cond(deep, lambda: _deep_fault(content), lambda: fault)


def _deep_fault(content: tf.Tensor) -> tf.Tensor:
    """Rejects pictures of 12 bits or fewer in 16: of their levels, the upper 8 bits would keep 16 or fewer, nearly black."""
    image = tf.io.decode_png(content, channels=0, dtype=tf.uint16)
    channels = tf.shape(image)[-1]
    brightest = tf.reduce_max(tf.cast(image[..., : channels - 1 + channels % 2], tf.int32))  # without transparency
    dark = (brightest > 0) & (brightest < _DARKEST_DEEP)
    shown = tf.strings.as_string(brightest)
    sentence = "a PNG file of 16 bits whose levels end at "
    return tf.where(dark, tf.strings.join([sentence, shown, " of 65535. Scale it to all 16 bits, or to 8."]), "")


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
    start = tf.strings.join([content, bytes(12)])
    webp = (tf.strings.substr(start, 0, 4) == "RIFF") & (tf.strings.substr(start, 8, 4) == "WEBP")
    fault = "this is not a PNG, JPEG, BMP or GIF file{}. Send one of these."
    return content, tf.constant(0, tf.int64), tf.where(webp, fault.format(", but WebP"), fault.format(""))


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
