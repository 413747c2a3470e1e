"""The tokenizers of texts, in core TensorFlow ops: words, characters, or subwords that are learned from the texts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import tensorflow as tf

from zoo.datasets.preprocessing.normalization import normalize
from zoo.datasets.preprocessing.pair_encoding import MARK, chunks, learn_pieces, longest_pieces

MIN_COUNT = 2
"""Tokens that occur once in training count as unknown, so that the model learns from unknown tokens."""
_EVERYTHING = 2**31 - 1
MOST_CHARACTERS = 4_096
"""Code points of a text that are read at most."""


@dataclasses.dataclass(frozen=True)
class Tokenizer:
    """One way to split texts into tokens.

    Attributes:
        unit: what a token is called.
        split: splits texts, string (batch,), into tokens, or into chunks that hold whole tokens, ragged string (batch,
            tokens). The argument `most` is the maximum number of tokens that are needed of a text; None needs all.
        learn: returns at most so many tokens, the most frequent first, from the number of occurrences of each token or
            chunk in the training split.
        find: returns the numbers of the tokens of each chunk, ragged int32 (chunks, tokens), by a table from tokens to
            numbers; None if a chunk is a token.
        separator: what stands between tokens in a text.
        rule: a sentence about the splitting.
        advice: what to do if many tokens are unknown.
        many_unknown: the share of unknown tokens above which that is said.
    """

    unit: str
    split: Callable[[tf.Tensor, int | None], tf.RaggedTensor]
    learn: Callable[[Mapping[bytes, int], int], list[str]]
    find: Callable[[tf.Tensor, tf.lookup.StaticHashTable], tf.RaggedTensor] | None
    separator: str
    rule: str
    advice: str
    many_unknown: float

    def code_points(self, parts: tf.RaggedTensor, most: int = MOST_CHARACTERS) -> tf.Tensor:
        """Returns the first code points of texts, int32 (batch, characters), padded with 0, with a space before and after the
        text and between words.

        Args:
            parts: what `split` returned, ragged string (batch, parts).
            most: maximum number of code points of a text.

        Example:
            >>> TOKENIZERS["words"].code_points(tf.ragged.constant([["hi", "!"]])).numpy().tolist()
            [[32, 104, 105, 32, 33, 32]]
        """
        texts = tf.strings.reduce_join(parts, axis=1, separator=self.separator)
        texts = tf.strings.regex_replace(texts, MARK, " ") if self.separator != " " else texts
        texts = tf.strings.substr(tf.strings.join([" ", tf.strings.strip(texts)]), 0, most - 1, unit="UTF8_CHAR")
        codes = tf.strings.unicode_decode(tf.strings.join([texts, " "]), "UTF-8")
        return codes.to_tensor(0)


def clean(texts: tf.Tensor) -> tf.Tensor:
    """Returns texts, string (batch,), as valid UTF-8 in lower case, normalised, with a space for white space and control
    characters.

    Example:
        >>> clean(tf.constant(["\\tFULL　Ｗｉｄｔｈ\\n"])).numpy()[0]
        b' full width '
    """
    texts = normalize(tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace"))
    # This must precede lower-casing, which silently ends a text at its first NUL.
    texts = tf.strings.regex_replace(texts, r"[\pZ\pC]+", " ")
    return tf.strings.lower(texts, encoding="utf-8")


def words(texts: tf.Tensor) -> tf.RaggedTensor:
    """Splits texts, string (batch,), into words, ragged string (batch, words).

    Example:
        >>> words(tf.constant(["It's 5 o'clock!"])).to_list()
        [[b'it', b"'", b's', b'5', b'o', b"'", b'clock', b'!']]
    """
    return tf.strings.split(tf.strings.regex_replace(clean(texts), r"([\p{P}\p{S}])", r" \1 "))


def characters(texts: tf.Tensor, most: int | None = None) -> tf.RaggedTensor:
    """Splits texts, string (batch,), into characters, ragged string (batch, characters). A space becomes a visible mark.

    Args:
        texts: UTF-8.
        most: maximum number of characters of a text; None returns all.

    Example:
        >>> [token.decode() for token in characters(tf.constant(["很好 OK"]))[0].numpy()]
        ['很', '好', '\u2581', 'o', 'k']
    """
    return tf.strings.unicode_split(_marked(texts, most), "UTF-8")


def _marked(texts: tf.Tensor, most: int | None) -> tf.Tensor:
    texts = tf.strings.strip(clean(texts))
    texts = tf.strings.substr(texts, 0, _EVERYTHING if most is None else most, unit="UTF8_CHAR")
    return tf.strings.regex_replace(texts, " ", MARK)


def _chunks(texts: tf.Tensor, most: int | None) -> tf.RaggedTensor:
    return chunks(tf.strings.strip(clean(texts)), most)


def _frequent(counts: Mapping[bytes, int], size: int) -> list[str]:
    ranked = sorted((-count, token) for token, count in counts.items() if count >= MIN_COUNT and token)
    return [token.decode() for _, token in ranked[:size]]


def _subwords(counts: Mapping[bytes, int], size: int) -> list[str]:
    # Chunks that occur once count too: in scripts without spaces, nearly all of them do.
    return learn_pieces({chunk.decode(): count for chunk, count in counts.items()}, size, least=1)


TOKENIZERS: Mapping[str, Tokenizer] = {
    "words": Tokenizer(
        unit="word",
        split=lambda texts, most: words(texts)[:, :most],
        learn=_frequent,
        find=None,
        separator=" ",
        rule="Text is split at white space; every punctuation mark and symbol is a word.",
        advice="Pass --data.tokenizer subwords, or characters for languages without spaces between words; a larger "
        "vocab_size; or more texts.",
        many_unknown=0.3,
    ),
    "characters": Tokenizer(
        unit="character",
        split=characters,
        learn=_frequent,
        find=None,
        separator="",
        rule=f"Every Unicode character is a token, marks of letters and emoji modifiers too; {MARK} is a space.",
        advice="Pass training texts in the same script, or a larger vocab_size.",
        many_unknown=0.1,
    ),
    "subwords": Tokenizer(
        unit="subword token",
        split=_chunks,
        learn=_subwords,
        find=longest_pieces,
        separator="",
        rule=f"Words are split into the longest known subword tokens from the left; {MARK} is a space.",
        advice="Pass training texts in the same script, or a larger vocab_size.",
        many_unknown=0.1,
    ),
}
"""The tokenizers by name, the values of the option `tokenizer`."""
