"""How texts are split into what has a tag: words by the rules of English treebanks, or single characters."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from zoo.datasets.preprocessing.treebank_words import LONGEST, places_of, tokenize
from zoo.scores import word_spans

if TYPE_CHECKING:
    from zoo.datasets.raw import RawData

UNSPACED = "[\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3001-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef]"
"""Letters and marks of Thai, Lao, Tibetan, Burmese, Khmer, Chinese and Japanese, which have no spaces between words."""
_UNSPACED = re.compile(UNSPACED)
_SEPARATORS = r"[\pZ\pC]"


@dataclasses.dataclass(frozen=True)
class Splitter:
    """One way to split texts into tokens that have tags.

    Attributes:
        unit: what a token is called.
        split: splits texts, string (batch,), into at most so many tokens each, ragged string (batch, tokens).
        places: returns where these tokens, string (batch, tokens) with padding, are in the texts, as `places_of` does.
        join: makes the text of a sentence from its tokens.
        rule: a sentence about the splitting.
    """

    unit: str
    split: Callable[[tf.Tensor, int], tf.RaggedTensor]
    places: Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
    join: Callable[[Sequence[bytes]], bytes]
    rule: str


def characters(texts: tf.Tensor, most: int) -> tf.RaggedTensor:
    """Splits texts, string (batch,), into characters, ragged string (batch, characters). White space, control and format
    characters separate and are no tokens; bytes that are not UTF-8 become U+FFFD.

    Args:
        texts: UTF-8.
        most: maximum number of characters of a text.

    Example:
        >>> [token.decode() for token in characters(tf.constant(["我在 Rom"]), 4)[0].numpy()]
        ['我', '在', 'R', 'o']
    """
    texts = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")
    texts = tf.strings.substr(tf.strings.regex_replace(texts, f"{_SEPARATORS}+", ""), 0, most, unit="UTF8_CHAR")
    return tf.strings.unicode_split(texts, "UTF-8")


def places_of_characters(texts: tf.Tensor, tokens: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns where the tokens of `characters` are in their texts, as `places_of` does.

    Example:
        >>> texts = tf.constant(["我 在"])
        >>> [part.numpy().tolist() for part in places_of_characters(texts, characters(texts, 9).to_tensor())]
        [[[0, 2]], [[1, 3]]]
    """
    texts = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")
    blanked = tf.strings.unicode_decode(tf.strings.regex_replace(texts, _SEPARATORS, " "), "UTF-8")
    places = tf.cast(tf.ragged.range(blanked.row_lengths()), tf.int32)
    found = tf.ragged.boolean_mask(places, blanked != ord(" "))
    starts = found.to_tensor(0, shape=[None, None])[:, : tf.shape(tokens)[1]]
    starts = tf.pad(starts, [[0, 0], [0, tf.shape(tokens)[1] - tf.shape(starts)[1]]])
    return tf.where(tokens != "", starts, 0), tf.where(tokens != "", starts + 1, 0)


def joined_words(tokens: Sequence[bytes]) -> bytes:
    """Joins words with spaces, except between letters of scripts that are written without them.

    Example:
        >>> joined_words([b"a", b"b", "很".encode(), "好".encode()]).decode()
        'a b 很好'
    """
    words = [word for token in tokens if (word := token.decode("utf-8", "replace"))]
    gaps = ["" if _UNSPACED.match(a[-1]) and _UNSPACED.match(b[0]) else " " for a, b in itertools.pairwise(words)]
    return "".join(itertools.chain(*zip(words, [*gaps, ""], strict=True))).encode("utf-8", "replace")


SPLITTERS: Mapping[str, Splitter] = {
    "words": Splitter(
        unit="word",
        split=tokenize,
        places=places_of,
        join=joined_words,
        rule="Texts are split into words by the rules of English treebanks. Of a part without spaces, the first "
        f"{LONGEST} bytes are used.",
    ),
    "characters": Splitter(
        unit="character",
        split=characters,
        places=places_of_characters,
        join=b"".join,
        rule="Texts are split into single characters. Spaces and control characters have no tag.",
    ),
}
"""The splitters by name, the values of the option `tokenizer` of data with tags."""


def splitter_of(data: RawData) -> str:
    """Returns the name of the splitter of a data set with tags: its option `tokenizer`, `words` without one."""
    return str(data.arguments.get("tokenizer", "words"))


def found_share(
    examples: Sequence[Mapping[str, Any]], texts: Sequence[bytes], splitter: str
) -> tuple[float, list[str]]:
    """Returns the share of the words of examples that a splitter finds in their texts, and the first words of the sentence
    with the lowest share, of the data and of the splitter.

    Args:
        examples: raw examples with `tokens`.
        texts: their texts.
        splitter: a name of `SPLITTERS`.
    """
    most = max([1, *map(len, texts)])  # no text has more tokens than bytes
    found = SPLITTERS[splitter].split(tf.constant(texts, tf.string), most).to_list()
    known = [[token for token in e["tokens"] if token] for e in examples]
    same = [len({*word_spans(a)} & {*word_spans(b)}) for a, b in zip(found, known, strict=True)]
    if not known:
        return 0.0, ["", ""]
    worst = min(range(len(known)), key=lambda i: same[i] / max(1, len(known[i])))
    shown = [" ".join(w.decode("utf-8", "replace") for w in part[worst][:8]) for part in (known, found)]
    return sum(same) / max(1, sum(map(len, known))), shown
