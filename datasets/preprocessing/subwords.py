"""Splits words into subword tokens in the graph, by greedy longest match first, with core TensorFlow ops only."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from zoo.checkpoints.wordpiece_files import CONTINUES

MOST_CHARACTERS = 100
"""Longer words become the unknown token, as in the reference implementation."""

LONGEST = MOST_CHARACTERS * 4
"""Bytes of the longest word."""

Lookup = Callable[[tf.Tensor], tf.Tensor]


def match(words: tf.Tensor, lookup: Lookup, unknown: int, longest: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Splits words into the longest tokens from the left. A word with a part that is not a token is unknown.

    Most words are tokens themselves, so all words are looked up at once first. For the others, all prefixes are looked up
    at once. The rest after the longest known prefix is treated in the same way, until nothing remains.

    Args:
        words: string (words,), UTF-8, none of them empty.
        lookup: maps strings of any shape to their numbers, int32; -1 for strings that are not tokens.
        unknown: the number of the unknown token.
        longest: bytes of the longest token, without the mark of tokens that continue a word.

    Returns:
        The numbers of all tokens in order, int32 (tokens,), and the number of tokens of each word, int32 (words,).

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
    # One row per token: the word's number, the token's position in the word, the token's number or -1.
    rows = _all_parts(tf.gather(strings, fitting), tf.gather(others, fitting), lookup, longest)
    failed = tf.concat(
        [tf.gather(others, _numbers_of(~fits)), tf.gather(rows[:, 0], _numbers_of(rows[:, 2] < 0))], axis=0
    )
    whole = tf.tensor_scatter_nd_update(whole, failed[:, tf.newaxis], tf.fill(tf.shape(failed), unknown))

    # Every token is placed after the tokens of the words before it. An unknown word is a single token.
    single = _numbers_of(whole >= 0)
    rows = tf.gather(rows, _numbers_of(tf.gather(whole, rows[:, 0]) < 0))
    counts = tf.math.unsorted_segment_sum(tf.ones_like(rows[:, 0]), rows[:, 0], tf.size(words))
    counts += tf.cast(whole >= 0, tf.int32)
    starts = tf.cumsum(counts, exclusive=True)
    places = tf.concat([tf.gather(starts, single), tf.gather(starts, rows[:, 0]) + rows[:, 1]], axis=0)
    numbers = tf.concat([tf.gather(whole, single), rows[:, 2]], axis=0)
    return tf.scatter_nd(places[:, tf.newaxis], numbers, tf.shape(places)), counts


def _numbers_of(mask: tf.Tensor) -> tf.Tensor:
    """The positions of the true elements, int32. `tf.boolean_mask` needs a dozen ops for this."""
    return tf.cast(tf.where(mask)[:, 0], tf.int32)


def _all_parts(words: tf.Tensor, owners: tf.Tensor, lookup: Lookup, longest: int) -> tf.Tensor:
    """Returns the word, the position in the word and the number of every token, int32 (tokens, 3). The number is -1 if
    nothing matches, which ends a word."""

    def step(left, owner, mark, at, rows):  # type: ignore[no-untyped-def]
        sizes = tf.strings.length(left)
        ends = tf.range(mark + 1, tf.minimum(mark + longest, tf.reduce_max(sizes)) + 1)
        ends = tf.tile(ends[tf.newaxis], [tf.size(left), 1])
        # Bytes, not characters: a prefix that ends within a character is never a token.
        found = lookup(tf.strings.substr(left[:, tf.newaxis], tf.zeros_like(ends), ends))
        best = tf.reduce_max(tf.where(found >= 0, ends, mark), axis=1)
        number = tf.gather(found, tf.maximum(best - mark - 1, 0), axis=1, batch_dims=1)
        new = tf.stack([owner, tf.fill(tf.shape(owner), at), number], axis=1)
        # `substr` stops at the end of a string, so the longest match may be longer than the string.
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
