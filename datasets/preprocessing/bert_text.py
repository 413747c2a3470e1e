"""BERT's basic tokenization inside the graph: texts to normalised words, with core TensorFlow ops only.

The graph holds one table from code points to code points. It is made when the graph is made, by asking the `tokenizers`
library what it makes of every code point: its Unicode data then is that of the reference, whatever Python's is.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from zoo.checkpoints.wordpiece_files import SPECIAL_TOKENS, Rules, normalizer

_NOTHING, _ITSELF = -1, -2
_WIDTH = 3
"""Most code points that one becomes: a punctuation mark between spaces, or the three parts of a Hangul syllable."""
_PAGE = 256
_LAST = 0x10FFFF
_UNASSIGNED = range(0x40000, 0xE0000)
"""Planes that Unicode keeps free: their code points stay as they are."""
_PRIVATE = (range(0xF0000, 0xFFFFE), range(0x100000, 0x10FFFE))
"""Planes of private use, without the last two of each, which are none: their code points are cleaned away."""
_CLEANED = _PRIVATE[1][-1]
_MARKS = tuple(_PRIVATE[1][-16 : len(SPECIAL_TOKENS) - 16])
"""Code points of private use that stand for the special tokens on their way through the table."""
_SPACE, _BRACKET = ord(" "), ord("[")


@dataclasses.dataclass(frozen=True)
class CharacterTable:
    """What becomes of every code point, in three steps: `rows[entries[pages[c // 256] * 256 + c % 256]]`.

    Attributes:
        pages: int32 (4352,), number of the page of 256 entries.
        entries: int32 (256 times the pages that differ,), number of the row.
        rows: int32 (rows that differ, 3), the code points; -1 is none and -2 the code point itself.
    """

    pages: np.ndarray
    entries: np.ndarray
    rows: np.ndarray

    def expand(self, codepoint: int) -> list[int]:
        """Returns what one code point becomes; white space parts words.

        Example:
            >>> "".join(map(chr, character_table(Rules()).expand(ord("É"))))
            'e'
        """
        entry = self.entries[self.pages[codepoint // _PAGE] * _PAGE + codepoint % _PAGE]
        return [codepoint if c == _ITSELF else int(c) for c in self.rows[entry] if c != _NOTHING]


@functools.lru_cache(maxsize=8)
def character_table(rules: Rules) -> CharacterTable:
    """Asks the reference about every code point; takes about a second, once for each of the rules.

    One by one is enough: of what the reference does, only the canonical order of marks that follow each other looks at
    more than one code point, and nearly all marks that have an order are left out.
    """
    # Surrogates are in no text; the separator itself is a punctuation mark as others are.
    known = (range(0xD800, 0xE000), _UNASSIGNED, *_PRIVATE)
    asked = sorted({*range(_LAST + 1)}.difference(*known))
    separator = "!"
    text = separator.join(map(chr, (c for c in asked if c != ord(separator))))
    answers: Iterator[str] = iter(normalizer(rules).normalize_str(text).split(separator))
    became = {c: separator if c == ord(separator) else next(answers) for c in asked}
    white, alone = _breaks({*"".join(became.values())})
    rows: dict[tuple[int, ...], int] = {}
    numbers = np.full(_LAST + 1, _row(rows, (_NOTHING, _ITSELF, _NOTHING)), np.int32)
    for part in _PRIVATE:
        numbers[part.start : part.stop] = _row(rows, (_NOTHING,) * _WIDTH)
    for c, answer in became.items():
        if len(answer) == 1 and ord(answer) == c and answer not in white and answer not in alone:
            continue
        numbers[c] = _row(rows, _parts(c, answer, white, alone))
    pages, inverse = np.unique(numbers.reshape(-1, _PAGE), axis=0, return_inverse=True)
    return CharacterTable(inverse.reshape(-1).astype(np.int32), pages.reshape(-1), np.array(list(rows), np.int32))


def _row(rows: dict[tuple[int, ...], int], row: tuple[int, ...]) -> int:
    return rows.setdefault(row, len(rows))


def _breaks(characters: set[str]) -> tuple[set[str], set[str]]:
    """Returns the characters that part words, and those that are words of their own."""
    from tokenizers import pre_tokenizers

    ordered = sorted(characters)
    text = "x" + "x".join(ordered) + "x"
    white: set[str] = set()
    alone: set[str] = set()
    end = 0
    for word, (start, stop) in pre_tokenizers.BertPreTokenizer().pre_tokenize_str(text):
        white.update(text[end:start])
        if stop - start == 1 and word != "x":
            alone.add(word)
        end = stop
    return white, alone


def _parts(codepoint: int, answer: str, white: set[str], alone: set[str]) -> tuple[int, ...]:
    parts: list[int] = []
    for character in answer:
        if character in white:
            parts.append(_SPACE)
        elif character in alone:
            parts += [_SPACE, ord(character), _SPACE]
        else:
            parts.append(ord(character))
    parts = [_ITSELF if part == codepoint and part != _SPACE else part for part in parts]
    if len(parts) == 1:
        parts = [_NOTHING, *parts]
    assert len(parts) <= _WIDTH, f"U+{codepoint:04X} becomes {len(parts)} code points"
    return tuple(parts + [_NOTHING] * (_WIDTH - len(parts)))


class Words:
    """Texts to words, as BERT's basic tokenization makes them; its tables are constants of the graph, each once.

    Args:
        rules: what it leaves out.
        special_tokens: those of `SPECIAL_TOKENS` that are words wherever they stand in a text, as they are written.
    """

    def __init__(self, rules: Rules, special_tokens: Sequence[str] = SPECIAL_TOKENS) -> None:
        table = character_table(rules)
        with tf.init_scope():  # captured: else each function of a SavedModel would have the tables once more
            self._pages, self._entries, self._rows = (
                tf.constant(part) for part in (table.pages, table.entries, table.rows)
            )
        self._marks = {token: chr(_MARKS[SPECIAL_TOKENS.index(token)]) for token in special_tokens}

    def __call__(self, texts: tf.Tensor, most: int = -1) -> tuple[tf.Tensor, tf.Tensor]:
        """Splits texts.

        Args:
            texts: string (batch,), UTF-8; what is not UTF-8 is left out.
            most: how many words of a text to split off; what follows comes as one more. -1 splits off all.

        Returns:
            All words one after the other, string (words,), and the number of the text of each, int64 (words,).

        Example:
            >>> words, texts = Words(Rules())(tf.constant(["It's ÉTÉ", "", "中文"]))
            >>> [word.decode() for word in words.numpy()], texts.numpy().tolist()
            (['it', "'", 's', 'ete', '中', '文'], [0, 0, 0, 0, 2, 2])
        """
        splits, characters = _decode(texts)
        if not self._marks:
            return self._split(splits, characters, most)
        # Looking for special tokens takes as long as all the rest, and few texts have a bracket.
        return tf.cond(
            tf.reduce_any(characters == _BRACKET),
            lambda: self._with_special_tokens(texts, most),
            lambda: self._split(splits, characters, most),
        )

    def _split(self, splits: tf.Tensor, characters: tf.Tensor, most: int) -> tuple[tf.Tensor, tf.Tensor]:
        return _at_spaces(self._normalised(splits, characters), most)

    def _normalised(self, splits: tf.Tensor, characters: tf.Tensor, marked: bool = False) -> tf.Tensor:
        """Texts of code points as strings, with a space wherever words part."""
        page = tf.gather(self._pages, tf.bitwise.right_shift(characters, 8))
        entry = tf.gather(self._entries, page * _PAGE + tf.bitwise.bitwise_and(characters, _PAGE - 1))
        row = tf.gather(self._rows, entry)
        if marked:
            is_mark = (characters >= _MARKS[0]) & (characters <= _MARKS[-1])
            row = tf.where(is_mark[:, tf.newaxis], (_SPACE, _ITSELF, _SPACE), row)
        parts = tf.reshape(tf.where(row == _ITSELF, characters[:, tf.newaxis], row), [-1])
        is_there = parts >= 0
        before = tf.cumsum(tf.concat([[0], tf.cast(is_there, tf.int32)], axis=0))
        return tf.raw_ops.UnicodeEncode(
            input_values=tf.gather(parts, tf.where(is_there)[:, 0]),
            input_splits=tf.gather(before, splits * _WIDTH),
            output_encoding="UTF-8",
        )

    def _with_special_tokens(self, texts: tf.Tensor, most: int) -> tuple[tf.Tensor, tf.Tensor]:
        texts = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")
        # A text's own marks would pass for special tokens. What takes their place is cleaned away as they would be; an
        # empty string would let what stands around them grow into a special token.
        texts = tf.strings.regex_replace(texts, f"[{chr(_MARKS[0])}-{chr(_MARKS[-1])}]", chr(_CLEANED))
        for token, mark in self._marks.items():
            texts = tf.strings.regex_replace(texts, token.replace("[", r"\[").replace("]", r"\]"), mark)
        texts = self._normalised(*_decode(texts), marked=True)
        for token, mark in self._marks.items():
            texts = tf.strings.regex_replace(texts, mark, token)
        return _at_spaces(texts, most)


def _decode(texts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The code points of all texts, and where each text begins and ends in them; U+FFFD for what is not UTF-8."""
    decoded = tf.raw_ops.UnicodeDecode(input=texts, input_encoding="UTF-8", errors="replace", Tsplits=tf.int32)
    return decoded.row_splits, decoded.char_values


def _at_spaces(texts: tf.Tensor, most: int) -> tuple[tf.Tensor, tf.Tensor]:
    found = tf.raw_ops.StringSplitV2(input=texts, sep="", maxsplit=most)
    return found.values, found.indices[:, 0]
