"""Words to pieces, greedy longest match first, inside the graph, with core TensorFlow ops only."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

MOST_CHARACTERS = 100
"""Longer words are unknown ones, as in the reference."""
CONTINUES = "##"
"""What a vocabulary writes before pieces that do not begin a word."""

Lookup = Callable[[tf.Tensor], tf.Tensor]


def match(words: tf.Tensor, lookup: Lookup, unknown: int, longest: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Takes words apart into the longest pieces there are, from the left; a word with a part that is no piece is unknown.

    Most words are pieces themselves: all are looked up at once. Of the others every beginning is looked up at once, and
    what follows the longest one that is a piece is treated likewise, until nothing is left of any.

    Args:
        words: string (words,), UTF-8, none of them empty.
        lookup: maps strings of any shape to their numbers, int64; -1 for what is no piece.
        unknown: the number of an unknown word.
        longest: bytes of the longest piece, without the mark of those that continue a word.

    Returns:
        The numbers of all pieces in order, int64 (pieces,), and how many each word has, int64 (words,).

    Example:
        >>> table = {b"un": 5, b"##able": 6, b"like": 7}
        >>> lookup = lambda words: tf.constant([table.get(w, -1) for w in words.numpy().ravel()], tf.int64)
        >>> match(tf.constant(["unable", "like", "no"]), lookup, unknown=1, longest=4)[0].numpy().tolist()
        [5, 6, 7, 1]
    """
    whole = lookup(words)
    return tf.cond(
        tf.reduce_all(whole >= 0),
        lambda: (whole, tf.ones_like(whole)),
        lambda: _with_parts(words, whole, lookup, unknown, longest),
    )


def _with_parts(
    words: tf.Tensor, whole: tf.Tensor, lookup: Lookup, unknown: int, longest: int
) -> tuple[tf.Tensor, tf.Tensor]:
    others = tf.boolean_mask(tf.range(tf.size(words)), whole < 0)
    strings = tf.gather(words, others)
    fits = tf.strings.length(strings, "UTF8_CHAR") <= MOST_CHARACTERS
    owners, steps, numbers, failed = _all_parts(
        tf.boolean_mask(strings, fits), tf.boolean_mask(others, fits), lookup, longest
    )
    failed = tf.concat([tf.boolean_mask(others, ~fits), failed], axis=0)

    # Every word's pieces go to where the pieces of the words before it end.
    known = whole >= 0
    is_failed = tf.scatter_nd(failed[:, tf.newaxis], tf.ones_like(failed), [tf.size(words)]) > 0
    counts = tf.math.unsorted_segment_sum(tf.ones_like(owners), owners, tf.size(words))
    counts = tf.where(known | is_failed, 1, counts)
    starts = tf.cumsum(counts, exclusive=True)
    good = ~tf.gather(is_failed, owners)
    owners, steps, numbers = (tf.boolean_mask(values, good) for values in (owners, steps, numbers))
    ones = tf.boolean_mask(tf.range(tf.size(words)), known | is_failed)
    single = tf.where(tf.gather(known, ones), tf.gather(whole, ones), tf.cast(unknown, tf.int64))
    places = tf.concat([tf.gather(starts, ones), tf.gather(starts, owners) + steps], axis=0)
    pieces = tf.scatter_nd(
        places[:, tf.newaxis], tf.concat([single, numbers], axis=0), [tf.reduce_sum(counts)]
    )
    return pieces, tf.cast(counts, tf.int64)


def _all_parts(
    words: tf.Tensor, owners: tf.Tensor, lookup: Lookup, longest: int
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns the owner, the place within the word and the number of every piece, and the owners that have a part that
    is none."""
    none = tf.zeros([0], tf.int32)

    def step(left, owner, mark, at, owned, steps, numbers, failed):  # type: ignore[no-untyped-def]
        bytes_left = tf.strings.length(left)
        ends = tf.range(mark + 1, tf.minimum(mark + longest, tf.reduce_max(bytes_left)) + 1)
        ends = tf.tile(ends[tf.newaxis], [tf.size(left), 1])
        # Bytes, not characters: what ends within a character is no piece.
        found = lookup(tf.strings.substr(left[:, tf.newaxis], tf.zeros_like(ends), ends))
        best = tf.reduce_max(tf.where(found >= 0, ends, 0), axis=1)
        number = tf.gather(found, tf.maximum(best - mark - 1, 0), axis=1, batch_dims=1)
        matched, best = best > 0, tf.minimum(best, bytes_left)
        goes_on = matched & (best < bytes_left)
        new = tf.boolean_mask(owner, matched)
        left = tf.strings.substr(
            tf.boolean_mask(left, goes_on), tf.boolean_mask(best, goes_on), tf.boolean_mask(bytes_left, goes_on)
        )
        return (
            tf.strings.join([CONTINUES, left]),
            tf.boolean_mask(owner, goes_on),
            len(CONTINUES),
            at + 1,
            tf.concat([owned, new], axis=0),
            tf.concat([steps, tf.fill(tf.shape(new), at)], axis=0),
            tf.concat([numbers, tf.boolean_mask(number, matched)], axis=0),
            tf.concat([failed, tf.boolean_mask(owner, ~matched)], axis=0),
        )

    vector = tf.TensorShape([None])
    state = (words, owners, 0, 0, none, none, tf.zeros([0], tf.int64), none)
    *_, owned, steps, numbers, failed = tf.while_loop(
        lambda left, *_: tf.size(left) > 0,
        step,
        state,
        shape_invariants=(vector, vector, tf.TensorShape([]), tf.TensorShape([]), *(vector,) * 4),
    )
    return owned, steps, numbers, failed
