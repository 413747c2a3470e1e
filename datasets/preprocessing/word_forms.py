"""The forms of words: their signs, such as capitals and digits, and their first and last letters. Core ops only."""

from __future__ import annotations

import tensorflow as tf

from zoo.datasets.preprocessing.normalization import normalize

_SUFFIXES = (3, 2, 1, 0)
NUM_PARTS = 8


def forms(words: tf.Tensor) -> list[tf.Tensor]:
    """Returns the forms of clean words, string of any shape, with the last 3, 2, 1 and 0 letters. Digits become 0.

    Example:
        >>> [form.numpy()[0].decode() for form in forms(tf.constant(["Re-reading7"]))]
        [' CD-:ng0', ' CD-:g0', ' CD-:0', ' CD-:']
    """
    flags, lower = _signs(words), _letters(words)
    return [
        tf.strings.join([" ", *flags, ":", tf.strings.regex_replace(lower, rf"^.*(.{{{n}}})$", r"\1")])
        for n in _SUFFIXES
    ]


def parts(words: tf.Tensor) -> list[tf.Tensor]:
    """Returns the parts of clean words, string of any shape: their signs, themselves in lower case, the first 2 and 3 and the
    last 1 to 4 letters. Digits become 0.

    Example:
        >>> [part.numpy()[0].decode() for part in parts(tf.constant(["Re-reading7"]))]
        [':CD-', '=re-reading0', '<re', '<re-', '>0', '>g0', '>ng0', '>ing0']
    """
    flags, lower = _signs(words), _letters(words)
    first = [tf.strings.regex_replace(lower, rf"^(.{{{n}}}).*$", r"\1") for n in (2, 3)]
    last = [tf.strings.regex_replace(lower, rf"^.*(.{{{n}}})$", r"\1") for n in (1, 2, 3, 4)]
    marked = [("<", part) for part in first] + [(">", part) for part in last]
    return [tf.strings.join([":", *flags]), *(tf.strings.join(pair) for pair in [("=", lower), *marked])]


def _letters(words: tf.Tensor) -> tf.Tensor:
    return tf.strings.regex_replace(tf.strings.lower(words, encoding="utf-8"), r"\p{N}", "0")


def _signs(words: tf.Tensor) -> list[tf.Tensor]:
    """Returns for each sign of a word its letter, or nothing if the word does not have it."""
    flags = [
        ("C", r"\p{Lu}.*"),
        ("A", r"[^\p{Ll}]*\p{Lu}[^\p{Ll}]*\p{Lu}[^\p{Ll}]*"),  # two capitals at least, no small letter
        ("D", r".*\p{N}.*"),
        ("-", r".*-.*"),
        ("S", r"[^\p{L}\p{N}]+"),
    ]
    return [tf.where(tf.strings.regex_full_match(words, pattern), flag, "") for flag, pattern in flags]


def clean(words: tf.Tensor) -> tf.Tensor:
    """Cleans words of a data set, string (words,), as the tokenizer does: UTF-8 in NFC without white space and control
    characters."""
    words = tf.strings.unicode_transcode(words, "UTF-8", "UTF-8", errors="replace")
    return normalize(tf.strings.regex_replace(words, r"[\pZ\pC]+", ""))
