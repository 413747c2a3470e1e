"""Subword tokens by byte pair encoding: learned from texts, and looked up in the graph with core TensorFlow ops only.

A text is split into chunks (a word with the space before it, a digit, a punctuation mark), and a chunk into the longest known
subword tokens from its start.
"""

from __future__ import annotations

import collections
import heapq
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import tensorflow as tf

UNKNOWN = 1
MARK = "\u2581"
"""Stands for a space in a token, so that it is visible in a vocabulary file. In a text it is read as a space."""
_MIN_COUNT = 2
_LONGEST = 20
"""Maximum number of characters of a token."""

# An apostrophe stays with the letters before it, as in elisions (l', qu'), and a no-break space with the mark after it. Any
# other symbol (\p{So}), also MARK itself, is a separate chunk.
_CHUNK = (
    rf"({MARK}?[\pL\pM]+['\x{{2019}}]?|{MARK}?\pN|"
    rf"[{MARK}\x{{a0}}\x{{202f}}]?[\pP\p{{Sm}}\p{{Sc}}\p{{Sk}}]|(?s:.))"
)
_CUT = "\x01"


def chunks(texts: tf.Tensor, most: int | None = None) -> tf.RaggedTensor:
    """Splits texts, string (batch,), into chunks, ragged string (batch, at least 1). Joined chunks give the text again.

    Args:
        texts: UTF-8.
        most: maximum number of tokens needed per text. Characters that are surely beyond are not processed.

    Example:
        >>> [c.decode() for c in chunks(tf.constant(["J'ai 19 ans !"]))[0].numpy()]
        ["\u2581J'", 'ai', '\u25811', '9', '\u2581ans', '\u2581!']
    """
    texts = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")
    if most is not None:
        texts = tf.strings.substr(texts, 0, most * _LONGEST, unit="UTF8_CHAR")
    texts = tf.strings.regex_replace(texts, r"[\p{Cc}\x{2028}\x{2029} ]", MARK)
    texts = tf.strings.join([MARK, texts])  # a word has the same token at the start of a text and within it
    cut = tf.strings.regex_replace(texts, _CHUNK, rf"{_CUT}\1")
    return tf.strings.split(tf.strings.substr(cut, 1, 2**31 - 1), _CUT)


def longest_pieces(texts: tf.Tensor, table: tf.lookup.StaticHashTable) -> tf.RaggedTensor:
    """Splits chunks, string (n,), into the longest tokens in a table, from the start: ragged int32 (n, at least 1).

    A character that is not in the table becomes one unknown token.
    """
    characters = tf.strings.unicode_split(texts, "UTF-8").to_tensor("")  # (n, longest)
    whole = tf.cast(table.lookup(texts), tf.int32)
    rest = tf.where(whole == UNKNOWN)[:, 0]  # most chunks are a single token
    characters = tf.gather(characters, rest)
    present = characters != ""
    width = tf.shape(characters)[1]
    places = tf.range(width)

    def longer(size: tf.Tensor, candidates: tf.Tensor, sizes: tf.Tensor, numbers: tf.Tensor) -> Any:
        """Updates the longest known token that starts at each place with the tokens of length `size`."""
        known = tf.cast(table.lookup(candidates), tf.int32)
        fits = (known != UNKNOWN) & (places + size <= tf.reduce_sum(tf.cast(present, tf.int32), axis=1, keepdims=True))
        sizes, numbers = tf.where(fits, size, sizes), tf.where(fits, known, numbers)
        following = tf.concat([characters[:, size:], tf.fill([tf.shape(rest)[0], size], "")], axis=1)
        return size + 1, tf.strings.join([candidates, following]), sizes, numbers

    ones = tf.ones_like(characters, tf.int32)
    _, _, sizes, numbers = tf.while_loop(
        lambda size, *_: (size <= tf.minimum(width, _LONGEST)) & (tf.shape(rest)[0] > 0),
        longer,
        (tf.constant(1), characters, ones, ones * UNKNOWN),
        shape_invariants=(tf.TensorShape([]), *[tf.TensorShape([None, None])] * 3),
    )

    def follow(place: tf.Tensor, at: tf.Tensor, taken: tf.Tensor) -> Any:
        """Marks the places where a token starts. `at` is the start of the next token."""
        here = at == place
        taken |= here[:, tf.newaxis] & (places == place)
        return place + 1, tf.where(here, place + sizes[:, place], at), taken

    _, _, taken = tf.while_loop(
        lambda place, *_: (place < width) & (tf.shape(rest)[0] > 0),
        follow,
        (tf.constant(0), tf.zeros_like(rest, tf.int32), tf.zeros_like(present)),
        shape_invariants=(tf.TensorShape([]), tf.TensorShape([None]), tf.TensorShape([None, None])),
    )
    parts = tf.ragged.boolean_mask(numbers, taken & present)
    # Whole and split chunks, back in their order.
    ordered = tf.where(whole != UNKNOWN)[:, 0]
    both = tf.concat([tf.RaggedTensor.from_tensor(tf.gather(whole, ordered)[:, tf.newaxis]), parts], axis=0)
    return tf.gather(both, tf.argsort(tf.concat([ordered, rest], axis=0)))


def learn_pieces(words: Mapping[str, int], size: int, least: int = _MIN_COUNT) -> list[str]:
    """Returns at most `size` subword tokens, the most frequent first.

    It starts from the characters and repeatedly joins the most frequent pair of neighbours. Pairs that occur once are not
    joined. Source: Sennrich et al., Neural machine translation of rare words with subword units, ACL 2016.

    Args:
        words: number of occurrences of each chunk.
        size: maximum number of tokens.
        least: how often a chunk must occur to be learned from.

    Example:
        >>> learn_pieces({"\u2581an": 5, "\u2581on": 3}, 5)
        ['\u2581an', '\u2581on', 'n', '\u2581', 'a']
    """
    alphabet: collections.Counter[str] = collections.Counter()
    for word, count in words.items():
        for character in word:
            alphabet[character] += count
    alphabet[MARK] += _MIN_COUNT  # always included: it is the token of an empty text
    known = [c for c, n in sorted(alphabet.items(), key=lambda item: (-item[1], item[0])) if n >= _MIN_COUNT][:size]
    spelled = [(list(word), count) for word, count in sorted(words.items()) if count >= least]
    known += _joined_pairs(spelled, size - len(known), set(known))
    frequency: collections.Counter[str] = collections.Counter(dict.fromkeys(known, 0))
    for spelling, count in spelled:
        for piece in spelling:
            frequency[piece] += count
    order = {piece: (-frequency[piece], -alphabet[piece], i) for i, piece in enumerate(known)}
    return sorted(known, key=order.__getitem__)


def _joined_pairs(spelled: list[tuple[list[str], int]], most: int, known: set[str]) -> list[str]:
    """Joins pairs in the spellings, in place, until there are `most` new tokens, and returns these."""
    made: list[str] = []
    if most <= 0:
        return made
    for left, right in joined_pairs(spelled, _MIN_COUNT, lambda joined: len(joined) > _LONGEST):
        if (joined := left + right) not in known:  # another pair may have produced it
            known.add(joined)
            made.append(joined)
            if len(made) == most:
                break
    return made


def joined_pairs(
    spelled: list[tuple[list[str], int]], least: int, refuses: Callable[[str], bool]
) -> Iterator[tuple[str, str]]:
    """Joins the most frequent pair of neighbours in the spellings, in place, and yields it; then the next one, and so on.

    Args:
        spelled: tokens of each word, and how often the word occurs.
        least: how often a pair must occur.
        refuses: whether a token must not be made of a pair.
    """
    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    where: dict[tuple[str, str], set[int]] = collections.defaultdict(set)
    for i, (spelling, count) in enumerate(spelled):
        for pair in itertools.pairwise(spelling):
            counts[pair] += count
            where[pair].add(i)
    waiting = [(-count, pair) for pair, count in counts.items()]
    heapq.heapify(waiting)
    while waiting:
        count, pair = heapq.heappop(waiting)
        joined = "".join(pair)
        if counts[pair] != -count or -count < least or refuses(joined):
            continue  # refused, or an outdated entry: the pair is also in the heap with its current count
        changes: collections.Counter[tuple[str, str]] = collections.Counter()
        for i in sorted(where.pop(pair)):
            spelling, times = spelled[i]
            gone, new = _join(spelling, pair, joined)
            for old in gone:
                changes[old] -= times
            for other in new:
                changes[other] += times
                where[other].add(i)
        for other, change in changes.items():
            counts[other] += change
            if change and counts[other] >= least:
                heapq.heappush(waiting, (-counts[other], other))
        yield pair


def _join(
    spelling: list[str], pair: tuple[str, str], joined: str
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Joins a pair in a spelling, in place. Returns the pairs of neighbours that are gone, and the new ones."""
    result: list[str] = []
    before: set[int] = set()
    after: set[int] = set()
    i, last = 0, len(spelling) - 1
    while i <= last:
        if i < last and spelling[i] == pair[0] and spelling[i + 1] == pair[1]:
            before.update((i - 1, i, i + 1))
            after.update((len(result) - 1, len(result)))
            result.append(joined)
            i += 2
        else:
            result.append(spelling[i])
            i += 1
    gone = [(spelling[k], spelling[k + 1]) for k in before if 0 <= k < last]
    new = [(result[k], result[k + 1]) for k in after if 0 <= k < len(result) - 1]
    spelling[:] = result
    return gone, new
