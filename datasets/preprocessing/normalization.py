"""Unicode normalisation in the graph, with core TensorFlow ops only: NFC, and full-width and half-width forms.

`tf.strings` has no normalisation. The tables here are those of Python's `unicodedata` when the graph is built. They become
constants of the SavedModel, so that a client sends texts as they are.
"""

from __future__ import annotations

import functools
import itertools
import unicodedata
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

_WIDTH_FORMS = [code for code in range(0xFF01, 0xFFEF) if code != 0xFFE3]  # a space with a mark stays one sign
_SYLLABLES, _LEADS, _VOWELS, _TAILS = (
    range(0xAC00, 0xD7A4),
    range(0x1100, 0x1113),
    range(0x1161, 0x1176),
    range(0x11A8, 0x11C3),
)
"""Hangul, which is composed by a formula: the syllables, and the letters of their three places."""
_LONGEST = 4
"""Code points of the longest canonical decomposition."""


class _Tables(NamedTuple):
    """Constants of the graph. Code points are sorted, because they are searched.

    Attributes:
        decomposed: code points that have a decomposition.
        parts: their parts, int32 (decomposed + 1, 4), -1 for none; the last row is that of all other code points.
        marks: code points with a canonical combining class above 0.
        classes: these classes, int32 (marks + 1,); the last is 0.
        firsts: first code points of the compositions.
        seconds: second code points of the compositions.
        composed: int32 (firsts + 1, seconds + 1): the composition of each pair, -1 for none.
    """

    decomposed: tf.Tensor
    parts: tf.Tensor
    marks: tf.Tensor
    classes: tf.Tensor
    firsts: tf.Tensor
    seconds: tf.Tensor
    composed: tf.Tensor


def normalize(texts: tf.Tensor) -> tf.Tensor:
    """Returns texts in Unicode's normalisation form C (NFC), with full-width and half-width forms replaced.

    Texts that differ only in how accented letters or syllables are encoded become equal. Full-width Latin letters, digits
    and marks become ASCII, and half-width Katakana and Hangul the usual ones. Other compatibility forms are kept. Texts
    without any such character cost one search.

    Args:
        texts: string (batch,), valid UTF-8.

    Example:
        >>> [text.decode() for text in normalize(tf.constant(["cafe\\u0301", "ＡＢＣ１２３", "ﾊﾟﾝ"])).numpy()]
        ['café', 'ABC123', 'パン']
    """
    differs = tf.strings.regex_full_match(texts, _pattern())
    return tf.cond(tf.reduce_any(differs), lambda: _normalized(texts), lambda: texts)


def _normalized(texts: tf.Tensor) -> tf.Tensor:
    tables = _constants()
    # A space composes with nothing, so a mark at the start of a text stays apart from the text before it.
    decoded = tf.raw_ops.UnicodeDecode(
        input=tf.strings.join([" ", texts]), input_encoding="UTF-8", errors="replace", Tsplits=tf.int32
    )
    owners = tf.repeat(tf.range(tf.size(texts)), decoded.row_splits[1:] - decoded.row_splits[:-1])
    parts = tf.gather(tables.parts, _find(tables.decomposed, decoded.char_values))
    whole = tf.where(parts[:, :1] < 0, decoded.char_values[:, tf.newaxis], parts[:, :1])
    parts = tf.concat([whole, parts[:, 1:]], axis=1)
    characters = tf.boolean_mask(parts, parts >= 0)
    owners = tf.boolean_mask(tf.tile(owners[:, tf.newaxis], [1, _LONGEST]), parts >= 0)
    # The canonical order: consecutive marks by their class.
    classes = tf.gather(tables.classes, _find(tables.marks, characters))
    order = tf.argsort(256 * tf.cumsum(tf.cast(classes == 0, tf.int32)) + classes, stable=True)
    characters, owners = _compose(tables, tf.gather(characters, order), tf.gather(classes, order), owners)
    sizes = tf.math.unsorted_segment_sum(tf.ones_like(owners), owners, tf.size(texts))
    splits = tf.concat([[0], tf.cumsum(sizes)], axis=0)
    encoded = tf.raw_ops.UnicodeEncode(input_values=characters, input_splits=splits, output_encoding="UTF-8")
    return tf.strings.substr(encoded, 1, 2**31 - 1)


def _compose(
    tables: _Tables, characters: tf.Tensor, classes: tf.Tensor, owners: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Joins pairs of characters while there are any. Returns the characters, and the number of the text of each."""

    def step(characters, classes, owners, letters, joined):  # type: ignore[no-untyped-def]
        found = tf.cast(tf.where(joined >= 0)[:, 0], tf.int32)
        places = tf.gather(letters, found)
        # At most one join for each letter at a time, and none for a letter that is itself joined to another now.
        is_first = tf.concat([tf.ones_like(places[:1], tf.bool), places[1:] != places[:-1]], axis=0)
        is_first &= tf.gather(joined, places) < 0
        found, places = tf.boolean_mask(found, is_first), tf.boolean_mask(places, is_first)
        characters = tf.tensor_scatter_nd_update(characters, places[:, tf.newaxis], tf.gather(joined, found))
        is_left = tf.scatter_nd(found[:, tf.newaxis], tf.ones_like(found), tf.shape(characters)) == 0
        characters, classes, owners = (tf.boolean_mask(part, is_left) for part in (characters, classes, owners))
        return characters, classes, owners, *_joins(tables, characters, classes)

    characters, _, owners, _, _ = tf.while_loop(
        lambda characters, classes, owners, letters, joined: tf.reduce_any(joined >= 0),
        step,
        (characters, classes, owners, *_joins(tables, characters, classes)),
        shape_invariants=(tf.TensorShape([None]),) * 5,
    )
    return characters, owners


def _joins(tables: _Tables, characters: tf.Tensor, classes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the place of the letter that each character may be joined to, and the result of the join, -1 for none.

    Between a letter and a mark there may be marks of lower classes only. Another letter must follow at once.
    """
    is_letter = tf.cast(classes == 0, tf.int32)
    starts = tf.cast(tf.where(classes == 0)[:, 0], tf.int32)
    letters = tf.gather(starts, tf.maximum(tf.cumsum(is_letter) - 1 - is_letter, 0))
    places = tf.range(tf.size(characters))
    lower = tf.concat([classes[:1], classes[:-1]], axis=0)
    is_free = (letters == places - 1) | ((lower > 0) & (lower < classes))
    first, second = tf.gather(characters, letters), characters
    joined = tf.gather_nd(
        tables.composed, tf.stack([_find(tables.firsts, first), _find(tables.seconds, second)], axis=1)
    )
    # Hangul: a lead and a vowel, or these and a tail.
    lead, vowel, tail = first - _LEADS.start, second - _VOWELS.start, second - _TAILS.start + 1
    is_pair = (lead >= 0) & (lead < len(_LEADS)) & (vowel >= 0) & (vowel < len(_VOWELS))
    per_vowel = len(_TAILS) + 1
    joined = tf.where(is_pair, _SYLLABLES.start + (lead * len(_VOWELS) + vowel) * per_vowel, joined)
    is_open = (first >= _SYLLABLES.start) & (first < _SYLLABLES.stop) & ((first - _SYLLABLES.start) % per_vowel == 0)
    joined = tf.where(is_open & (tail >= 1) & (tail <= len(_TAILS)), first + tail, joined)
    return letters, tf.where(is_free, joined, -1)


def _find(keys: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Returns the places of values among sorted keys; the number of keys for those that are not among them."""
    place = tf.searchsorted(keys, values)
    last = tf.size(keys)
    return tf.where(tf.gather(keys, tf.minimum(place, last - 1)) == values, place, last)


@functools.cache
def _constants() -> _Tables:
    with tf.init_scope(), tf.device("CPU:0"):  # without init_scope, each function of a SavedModel would have a copy
        return _Tables(*map(tf.constant, _arrays()))


def _known() -> Iterator[int]:
    """The code points that may have decompositions or classes: all but surrogates, Hangul and empty planes."""
    return itertools.chain(range(_SYLLABLES.start), range(_SYLLABLES.stop, 0xD800), range(0xE000, 0x30000))


@functools.cache
def _arrays() -> tuple[np.ndarray, ...]:
    parts: dict[int, str] = {}
    pairs: dict[tuple[int, int], int] = {}
    for code in _known():
        character = chr(code)
        found = unicodedata.normalize("NFD", character)
        if found == character:
            continue
        parts[code] = found
        if unicodedata.normalize("NFC", character) == character:
            first, second = unicodedata.decomposition(character).split()
            pairs[int(first, 16), int(second, 16)] = code
    parts |= {code: unicodedata.normalize("NFKD", chr(code)) for code in _WIDTH_FORMS}
    parts = {code: found for code, found in sorted(parts.items()) if found != chr(code)}
    rows = np.full((len(parts) + 1, _LONGEST), -1, np.int32)
    for row, found in zip(rows, parts.values(), strict=False):
        row[: len(found)] = [*map(ord, found)]
    classes = {code: unicodedata.combining(chr(code)) for code in _known() if unicodedata.combining(chr(code))}
    firsts, seconds = (sorted({pair[i] for pair in pairs}) for i in range(2))
    composed = np.full((len(firsts) + 1, len(seconds) + 1), -1, np.int32)
    for pair, code in pairs.items():
        composed[firsts.index(pair[0]), seconds.index(pair[1])] = code
    marks = np.array([*classes.values(), 0], np.int32)
    keys = (np.array([*found], np.int32) for found in (parts, classes, firsts, seconds))
    decomposed, marked, first_keys, second_keys = keys
    return decomposed, rows, marked, marks, first_keys, second_keys, composed


@functools.cache
def _pattern() -> str:
    """The pattern of texts that may change: with a width form, a character that NFC replaces or may join to the one before,
    or two marks in a row."""
    _, _, marks, _, _, seconds, _ = _arrays()
    replaced = [code for code in _known() if unicodedata.normalize("NFC", chr(code)) != chr(code)]
    others = {*replaced, *_WIDTH_FORMS, *seconds.tolist(), *_VOWELS, *_TAILS}
    return f"(?s).*(?:[{_ranges(others)}]|[{_ranges(marks.tolist())}]{{2}}).*"


def _ranges(codes: Iterable[int]) -> str:
    """Returns the body of a character class."""
    ordered = sorted(codes)
    breaks = [0, *(i for i in range(1, len(ordered)) if ordered[i] != ordered[i - 1] + 1), len(ordered)]
    return "".join(rf"\x{{{ordered[a]:x}}}-\x{{{ordered[b - 1]:x}}}" for a, b in itertools.pairwise(breaks))
