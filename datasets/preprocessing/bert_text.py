"""BERT's basic tokenization in the graph: texts to normalised words, with core TensorFlow ops only.

The graph holds one table from code points to code points. The table is built with the graph, by normalising every code
point with the `tokenizers` library. So its Unicode data is that of the reference, and not that of Python.
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
"""Maximum number of code points that one becomes: a mark between two spaces, or three parts of a Hangul syllable."""
_PAGE = 256
_LAST = 0x10FFFF
_UNASSIGNED = range(0x40000, 0xE0000)
"""Planes that Unicode does not assign: their code points do not change."""
_PRIVATE = (range(0xF0000, 0xFFFFE), range(0x100000, 0x10FFFE))
"""Private use planes, without the last two code points of each, which are not characters. They are removed."""
_CLEANED = _PRIVATE[1][-1]
_MARKS = tuple(_PRIVATE[1][-16 : len(SPECIAL_TOKENS) - 16])
"""Private use code points that stand for the special tokens during the look-up in the table."""
_SPACE, _BRACKET = ord(" "), ord("[")


@dataclasses.dataclass(frozen=True)
class CharacterTable:
    """The result for every code point c, in three look-ups: `rows[entries[pages[c // 256] * 256 + c % 256]]`.

    Attributes:
        pages: int32 (4352,), number of the page of 256 entries.
        entries: int32 (256 times the number of different pages,), number of the row.
        rows: int32 (different rows, 3), the code points; -1 is none and -2 the code point itself.
    """

    pages: np.ndarray
    entries: np.ndarray
    rows: np.ndarray

    def expand(self, codepoint: int) -> list[int]:
        """Returns the code points that replace one code point. White space separates words.

        Example:
            >>> "".join(map(chr, character_table(Rules()).expand(ord("É"))))
            'e'
        """
        entry = self.entries[self.pages[codepoint // _PAGE] * _PAGE + codepoint % _PAGE]
        return [codepoint if c == _ITSELF else int(c) for c in self.rows[entry] if c != _NOTHING]


@functools.lru_cache(maxsize=8)
def character_table(rules: Rules) -> CharacterTable:
    """Normalises every code point with the reference. It takes about a second for each set of rules.

    Single code points are enough. Only the canonical order of consecutive marks depends on several code points, and nearly
    all marks with an order are removed.
    """
    # Surrogates do not occur in texts. The separator is treated as a punctuation mark.
    known = (range(0xD800, 0xE000), _UNASSIGNED, *_PRIVATE)
    others = sorted({*range(_LAST + 1)}.difference(*known))
    separator = "!"
    text = separator.join(map(chr, (c for c in others if c != ord(separator))))
    results: Iterator[str] = iter(normalizer(rules).normalize_str(text).split(separator))
    became = {c: separator if c == ord(separator) else next(results) for c in others}
    white, alone = _breaks({*"".join(became.values())})
    rows: dict[tuple[int, ...], int] = {}
    numbers = np.full(_LAST + 1, _row(rows, (_NOTHING, _ITSELF, _NOTHING)), np.int32)
    for part in _PRIVATE:
        numbers[part.start : part.stop] = _row(rows, (_NOTHING,) * _WIDTH)
    for c, result in became.items():
        if len(result) == 1 and ord(result) == c and result not in white and result not in alone:
            continue
        numbers[c] = _row(rows, _parts(c, result, white, alone))
    pages, inverse = np.unique(numbers.reshape(-1, _PAGE), axis=0, return_inverse=True)
    return CharacterTable(inverse.reshape(-1).astype(np.int32), pages.reshape(-1), np.array(list(rows), np.int32))


def _row(rows: dict[tuple[int, ...], int], row: tuple[int, ...]) -> int:
    return rows.setdefault(row, len(rows))


def _breaks(characters: set[str]) -> tuple[set[str], set[str]]:
    """Returns the characters that separate words, and those that are separate words."""
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


def _parts(codepoint: int, result: str, white: set[str], alone: set[str]) -> tuple[int, ...]:
    parts: list[int] = []
    for character in result:
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
    """Splits texts into words with BERT's basic tokenization. Each of its tables is one constant of the graph.

    Args:
        rules: rules of the tokenization.
        special_tokens: those of `SPECIAL_TOKENS` that are recognised as words in a text.
    """

    def __init__(self, rules: Rules, special_tokens: Sequence[str] = SPECIAL_TOKENS) -> None:
        table = character_table(rules)
        with tf.init_scope():  # captured; without it each function of a SavedModel would have a copy of the tables
            self._pages, self._entries, self._rows = (
                tf.constant(part) for part in (table.pages, table.entries, table.rows)
            )
        self._marks = {token: chr(_MARKS[SPECIAL_TOKENS.index(token)]) for token in special_tokens}

    def __call__(self, texts: tf.Tensor, most: int = -1) -> tuple[tf.Tensor, tf.Tensor]:
        """Splits texts.

        Args:
            texts: string (batch,), UTF-8; other bytes are removed.
            most: maximum number of words to split off; the rest is returned as one more word. -1 splits off all words.

        Returns:
            All words in order, string (words,), and the number of the text of each word, int64 (words,).

        Example:
            >>> words, texts = Words(Rules())(tf.constant(["It's ÉTÉ", "", "中文"]))
            >>> [word.decode() for word in words.numpy()], texts.numpy().tolist()
            (['it', "'", 's', 'ete', '中', '文'], [0, 0, 0, 0, 2, 2])
        """
        splits, characters = _decode(texts)
        if not self._marks:
            return self._split(splits, characters, most)
        # The search for special tokens takes as long as everything else, and few texts have a bracket.
        return tf.cond(
            tf.reduce_any(characters == _BRACKET),
            lambda: self._with_special_tokens(texts, most),
            lambda: self._split(splits, characters, most),
        )

    def _split(self, splits: tf.Tensor, characters: tf.Tensor, most: int) -> tuple[tf.Tensor, tf.Tensor]:
        return _at_spaces(self._normalised(splits, characters), most)

    def _normalised(self, splits: tf.Tensor, characters: tf.Tensor, marked: bool = False) -> tf.Tensor:
        """Texts of code points as strings, with a space between words."""
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
        # Marks in the text itself would become special tokens. They are replaced by a character that is removed later. With
        # an empty string instead, the characters around them could form a special token.
        texts = tf.strings.regex_replace(texts, f"[{chr(_MARKS[0])}-{chr(_MARKS[-1])}]", chr(_CLEANED))
        for token, mark in self._marks.items():
            texts = tf.strings.regex_replace(texts, token.replace("[", r"\[").replace("]", r"\]"), mark)
        texts = self._normalised(*_decode(texts), marked=True)
        for token, mark in self._marks.items():
            texts = tf.strings.regex_replace(texts, mark, token)
        return _at_spaces(texts, most)


def _decode(texts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The row splits and the code points of all texts; U+FFFD replaces bytes that are not UTF-8."""
    decoded = tf.raw_ops.UnicodeDecode(input=texts, input_encoding="UTF-8", errors="replace", Tsplits=tf.int32)
    return decoded.row_splits, decoded.char_values


def _at_spaces(texts: tf.Tensor, most: int) -> tuple[tf.Tensor, tf.Tensor]:
    found = tf.raw_ops.StringSplitV2(input=texts, sep="", maxsplit=most)
    if most < 0:
        return found.values, found.indices[:, 0]
    # The op ends a text of exactly `most` words with an empty word.
    kept = tf.where(tf.strings.length(tf.strings.strip(found.values)) > 0)[:, 0]
    return tf.gather(found.values, kept), tf.gather(found.indices[:, 0], kept)
