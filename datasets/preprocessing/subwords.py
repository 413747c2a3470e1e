"""Words to pieces, greedy longest match first, inside the graph, with core TensorFlow ops only."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from zoo.checkpoints.wordpiece_files import CONTINUES

MOST_CHARACTERS = 100
"""Longer words are unknown ones, as in the reference."""

LONGEST = MOST_CHARACTERS * 4
"""Bytes of the longest word."""

Lookup = Callable[[tf.Tensor], tf.Tensor]


def match(words: tf.Tensor, lookup: Lookup, unknown: int, longest: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Takes words apart into the longest pieces there are, from the left; a word with a part that is no piece is unknown.

    Most words are pieces themselves: all are looked up at once. Of the others every beginning is looked up at once, and
    what follows the longest one that is a piece is treated likewise, until nothing is left of any.

    Args:
        words: string (words,), UTF-8, none of them empty.
        lookup: maps strings of any shape to their numbers, int32; -1 for what is no piece.
        unknown: the number of an unknown word.
        longest: bytes of the longest piece, without the mark of those that continue a word.

    Returns:
        The numbers of all pieces in order, int32 (pieces,), and how many each word has, int32 (words,).

    Example:
        >>> table = {b"un": 5, b"##able": 6, b"like": 7}
        >>> lookup = lambda words: tf.constant([table.get(w, -1) for w in words.numpy().ravel()])
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
    others = _numbers_of(whole < 0)
    strings = tf.gather(words, others)
    fits = tf.strings.length(strings, "UTF8_CHAR") <= MOST_CHARACTERS
    fitting = _numbers_of(fits)
    # One row a piece: the word's number, the piece's place within it, its number or -1.
    rows = _all_parts(tf.gather(strings, fitting), tf.gather(others, fitting), lookup, longest)
    failed = tf.concat(
        [tf.gather(others, _numbers_of(~fits)), tf.gather(rows[:, 0], _numbers_of(rows[:, 2] < 0))], axis=0
    )
    whole = tf.tensor_scatter_nd_update(whole, failed[:, tf.newaxis], tf.fill(tf.shape(failed), unknown))

    # Every piece goes to where the pieces of the words before end; an unknown word's first part is the word itself.
    single = _numbers_of(whole >= 0)
    rows = tf.gather(rows, _numbers_of(tf.gather(whole, rows[:, 0]) < 0))
    counts = tf.math.unsorted_segment_sum(tf.ones_like(rows[:, 0]), rows[:, 0], tf.size(words))
    counts += tf.cast(whole >= 0, tf.int32)
    starts = tf.cumsum(counts, exclusive=True)
    places = tf.concat([tf.gather(starts, single), tf.gather(starts, rows[:, 0]) + rows[:, 1]], axis=0)
    numbers = tf.concat([tf.gather(whole, single), rows[:, 2]], axis=0)
    return tf.scatter_nd(places[:, tf.newaxis], numbers, tf.shape(places)), counts


def _numbers_of(mask: tf.Tensor) -> tf.Tensor:
    """The numbers of the elements that are true, int32; `tf.boolean_mask` takes a dozen ops for the same."""
    return tf.cast(tf.where(mask)[:, 0], tf.int32)


def _all_parts(words: tf.Tensor, owners: tf.Tensor, lookup: Lookup, longest: int) -> tf.Tensor:
    """Returns of every piece the owner, the place within the word and its number, int32 (pieces, 3); number -1 where
    nothing matches, which ends a word."""

    def step(left, owner, mark, at, rows):  # type: ignore[no-untyped-def]
        sizes = tf.strings.length(left)
        ends = tf.range(mark + 1, tf.minimum(mark + longest, tf.reduce_max(sizes)) + 1)
        ends = tf.tile(ends[tf.newaxis], [tf.size(left), 1])
        # Bytes, not characters: what ends within a character is no piece.
        found = lookup(tf.strings.substr(left[:, tf.newaxis], tf.zeros_like(ends), ends))
        best = tf.reduce_max(tf.where(found >= 0, ends, mark), axis=1)
        number = tf.gather(found, tf.maximum(best - mark - 1, 0), axis=1, batch_dims=1)
        new = tf.stack([owner, tf.fill(tf.shape(owner), at), number], axis=1)
        # Beyond the end of a string its whole is taken, so the longest match may say more than there is.
        going = _numbers_of((best > mark) & (best < sizes))
        begin = tf.gather(best, going)
        rest = tf.strings.substr(tf.gather(left, going), begin, tf.fill(tf.shape(begin), LONGEST))
        return (
            tf.strings.join([CONTINUES, rest]),
            tf.gather(owner, going),
            len(CONTINUES),
            at + 1,
            tf.concat([rows, new], 0),
        )

    vector, scalar = tf.TensorShape([None]), tf.TensorShape([])
    *_, rows = tf.while_loop(
        lambda left, *_: tf.size(left) > 0,
        step,
        (words, owners, 0, 0, tf.zeros([0, 3], tf.int32)),
        shape_invariants=(vector, vector, scalar, scalar, tf.TensorShape([None, 3])),
    )
    return rows
