"""Learns the pairs of byte-level tokens from the training split."""

from __future__ import annotations

import collections
import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING

import tensorflow as tf

from zoo.checkpoints.byte_pair_files import as_merges
from zoo.datasets.preprocessing.byte_pairs import END_PIECE, BytePairs
from zoo.datasets.preprocessing.pair_encoding import joined_pairs

if TYPE_CHECKING:
    from zoo.datasets.raw import RawData

_BATCH = 256
_LEAST = 2
"""How often a pair must occur to become a token."""


def fit_byte_pairs(data: RawData, tokenizer: str, size: int) -> BytePairs:
    """Returns the tokens of a data set, at most `size`: its characters, or parts of words that are learned from it.

    A character that is no token has those of its bytes, so no text is unknown.

    Args:
        data: the data set, with the feature `text`.
        tokenizer: `characters` or `subwords`.
        size: the most tokens, at least 257.
    """
    rule = "characters" if tokenizer == "characters" else "words"
    counts: collections.Counter[bytes] = collections.Counter()
    signature = [tf.TensorSpec([None], tf.string)]
    cut = tf.function(lambda texts: BytePairs((), rule).cut(texts).flat_values, signature, autograph=False)
    for batch in data.train.batch(_BATCH):
        counts.update(cut(batch["text"]).numpy().tolist())
    counts.pop(END_PIECE, None)  # it has its own number
    most = size - 257
    pairs = _characters(counts, most) if tokenizer == "characters" else learn_byte_pairs(counts, most)
    return BytePairs(as_merges(pairs), rule)


def _characters(counts: Mapping[bytes, int], most: int) -> list[tuple[bytes, bytes]]:
    """Returns pairs that join the bytes of each character, the most frequent characters first."""
    made: dict[bytes, tuple[bytes, bytes]] = {}
    for character, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        new = [end for end in range(2, len(character) + 1) if character[:end] not in made]
        if count < _LEAST or len(made) + len(new) > most:
            break
        made |= {character[:end]: (character[: end - 1], character[end - 1 : end]) for end in new}
    return list(made.values())


def learn_byte_pairs(words: Mapping[bytes, int], most: int) -> list[tuple[bytes, bytes]]:
    """Returns at most `most` pairs of bytes in the order in which they are joined, the most frequent pair first, as in GPT-2.

    A pair whose bytes are those of an earlier pair is not joined. Of pairs that are equally frequent, the first in the order
    of their bytes is joined.

    Args:
        words: number of occurrences of each piece.
        most: number of pairs.

    Example:
        >>> learn_byte_pairs({b" an": 5, b" on": 3}, 2)
        [(b'a', b'n'), (b' ', b'an')]
    """
    spelled = [([chr(byte) for byte in word], count) for word, count in sorted(words.items())]
    made: dict[str, tuple[str, str]] = {}
    for pair in itertools.islice(joined_pairs(spelled, _LEAST, made.__contains__), max(most, 0)):
        made["".join(pair)] = pair
    return [(left.encode("latin-1"), right.encode("latin-1")) for left, right in made.values()]
