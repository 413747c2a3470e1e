"""Texts that end a generated text: where they occur, and which bytes may still become one, with core TensorFlow ops."""

from __future__ import annotations

import tensorflow as tf


def first_stop(texts: tf.Tensor, stops: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Finds the first stop string of each text: the one that ends first, and of several the longest one.

    Args:
        texts: string (batch,), of any bytes.
        stops: string (batch, stops), those of each text; empty ones are ignored.

    Returns:
        Whether there is one, bool (batch,). The number of bytes before it, or of the text without one, int32 (batch,). The
        number of bytes at the end of the text that are the beginning of a stop string, int32 (batch,).

    Example:
        >>> has, place, begun = first_stop(tf.constant(["a.b!", "a|"]), tf.constant([["!", "."], ["||", ""]]))
        >>> has.numpy().tolist(), place.numpy().tolist(), begun.numpy().tolist()
        ([True, False], [1, 2], [0, 1])
    """
    found, wanted = _codes(texts), _codes(tf.reshape(stops, [-1]))
    rows, count = tf.shape(stops)[0], tf.shape(stops)[1]
    length = tf.shape(found)[1]
    sizes = tf.reshape(tf.strings.length(stops), [rows, count, 1])
    wanted = tf.reshape(wanted, [rows, count, tf.shape(wanted)[1]])
    longest = tf.shape(wanted)[2]
    padded = tf.pad(found, [[0, 0], [0, longest]], constant_values=_BEYOND)

    def compare(number: tf.Tensor, alike: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        ours = padded[:, tf.newaxis, number : number + length]
        theirs = wanted[:, :, number, tf.newaxis]
        is_equal = (ours == theirs) | (number >= sizes) | (ours == _BEYOND)
        return number + 1, tf.ensure_shape(alike & is_equal, (None, None, None))

    first = (tf.constant(0), tf.fill([rows, count, length], True))
    shapes = (tf.TensorShape([]), tf.TensorShape([None, None, None]))
    _, alike = tf.while_loop(lambda number, _: number < longest, compare, first, shape_invariants=shapes)
    place = tf.range(length)[tf.newaxis, tf.newaxis]
    total = tf.strings.length(texts)[:, tf.newaxis, tf.newaxis]
    alike &= (sizes > 0) & (place < total)
    ends = place + sizes
    is_whole = alike & (ends <= total)
    # The smallest of these has the first end, and of equal ends the first beginning.
    order = tf.where(is_whole, ends * (longest + 1) + longest - sizes, _NEVER)
    best = tf.reduce_min(order, axis=[1, 2])
    step = longest + 1
    has = best < _NEVER
    start = best // step - (longest - best % step)
    begun = tf.reduce_max(tf.where(alike & ~is_whole, total - place, 0), axis=[1, 2])
    return has, tf.where(has, start, total[:, 0, 0]), tf.where(has, 0, tf.maximum(begun, 0))


def advance(waiting: tf.Tensor, added: tf.Tensor, stops: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Divides the bytes of a text that grows into those that are certain, and those that wait for what follows.

    Bytes wait if they are a part of a character, or the beginning of a stop string. The certain parts, one after the other,
    are the text before the first stop string.

    Args:
        waiting: the bytes that wait, string (batch,); empty at first.
        added: the bytes that follow, string (batch,).
        stops: as in `first_stop`.

    Returns:
        The certain bytes, string (batch,); those that wait, string (batch,); and whether a stop string was found, bool
        (batch,), after which nothing waits.

    Example:
        >>> certain, waiting, stopped = advance(tf.constant(["a"]), tf.constant(["b|"]), tf.constant([["||"]]))
        >>> certain.numpy().tolist(), waiting.numpy().tolist(), stopped.numpy().tolist()
        ([b'ab'], [b'|'], [False])
    """
    whole = tf.strings.join([waiting, added])
    stopped, place, begun = first_stop(whole, stops)
    kept = tf.where(stopped, place, place - tf.maximum(begun, _incomplete(whole)))
    rest = tf.where(stopped, 0, tf.strings.length(whole) - kept)
    return _part(whole, tf.zeros_like(kept), kept), _part(whole, kept, rest), stopped


def before(texts: tf.Tensor, stops: tf.Tensor) -> tf.Tensor:
    """Returns the bytes of each text before its first stop string, string (batch,)."""
    _, place, _ = first_stop(texts, stops)
    return _part(texts, tf.zeros_like(place), place)


def _incomplete(texts: tf.Tensor) -> tf.Tensor:
    """Returns the number of bytes at the end of each text that are the beginning of a UTF-8 character, int32 (batch,)."""
    codes = _codes(tf.strings.reduce_join([tf.fill(tf.shape(texts), "   "), texts], axis=0))
    last = tf.strings.length(texts) + 3
    third, second, first = (tf.gather(codes, last - back, axis=1, batch_dims=1) for back in (3, 2, 1))

    def within(code: tf.Tensor, low: int, high: int) -> tf.Tensor:
        return (code >= low) & (code <= high)

    def may_follow(lead: tf.Tensor, code: tf.Tensor) -> tf.Tensor:
        # Unicode 15, table 3-7: some leading bytes limit the byte after them.
        low = tf.where(lead == 0xE0, 0xA0, tf.where(lead == 0xF0, 0x90, 0x80))
        high = tf.where(lead == 0xED, 0x9F, tf.where(lead == 0xF4, 0x8F, 0xBF))
        return (code >= low) & (code <= high)

    three = within(third, 0xF0, 0xF4) & may_follow(third, second) & within(first, 0x80, 0xBF)
    two = within(second, 0xE0, 0xF4) & may_follow(second, first)
    one = within(first, 0xC2, 0xF4)
    return tf.where(one, 1, tf.where(two, 2, tf.where(three, 3, 0)))


_BEYOND = -1
"""The code after the last byte of a text."""
_NEVER = tf.int32.max


def _codes(texts: tf.Tensor) -> tf.Tensor:
    """Returns the bytes of texts, int32 (texts, longest), -1 after the end."""
    # ISO-8859-1 has a character for every byte.
    return tf.strings.unicode_decode(texts, "ISO-8859-1").to_tensor(_BEYOND)


def _part(texts: tf.Tensor, start: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    return tf.strings.substr(texts, start, size)
