"""Tagged words of languages without spaces, which become tagged characters: a served text has no words to find."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from zoo.datasets.preprocessing.tagged_tokens import UNSPACED, found_share, joined_words
from zoo.datasets.raw import Feature, Split
from zoo.errors import UsageError
from zoo.tasks.entities import scheme_of

if TYPE_CHECKING:
    from zoo.datasets.data import Data

_SAMPLE = 256
_FEWEST_FOUND = 0.5
"""If the rules for words find fewer words of the data, and the script has no spaces, characters are tagged."""
_MANY_UNSPACED = 0.3
_LETTER = re.compile(UNSPACED)
_LAST = {"BIOES": "E", "BILOU": "L"}
"""The prefix of the last word of an entity by the scheme."""


def with_characters(data: Data, name: str | None) -> Data:
    """Returns a data set of tagged words as its option `tokenizer` says: unchanged for `words`; with a tag for every
    character, and a note about it, for `characters`. `auto` takes characters if a script has no spaces between words and
    the rules for words find less than half of the words of the data in its texts.

    Raises:
        UsageError: another tokenizer.
    """
    if name not in (None, "auto", "words", "characters"):
        raise UsageError(
            f"tokenizer is {name!r}, but data set {data.name!r} has a tag for each word; expected words, characters or auto. "
            "Pass tokenizer='characters' for languages without spaces between words."
        )
    if data.arguments.get("tokenizer") == "characters":
        return data  # loaded before
    if name == "words":
        return dataclasses.replace(data, arguments={**data.arguments, "tokenizer": name})
    reason = ""
    if name != "characters":
        share, found = _measured(data)
        if share < _MANY_UNSPACED or found >= _FEWEST_FOUND:
            return data
        reason = f": {share:.0%} of the letters are of scripts without spaces"
    note = f"tokenizer characters{reason}. Every character of a word gets a tag."
    made = by_characters(data)
    return dataclasses.replace(made, about={**made.about, "notes": [*made.about.get("notes", ()), note]})


def _measured(data: Data) -> tuple[float, float]:
    """Returns the share of letters of scripts without spaces in the first training sentences, and that of the words that the
    rules for words find."""
    first = data.splits["train"] if "train" in data.splits else next(iter(data.splits.values()))
    sample = [*first.dataset().take(_SAMPLE).as_numpy_iterator()]
    words = "".join(token.decode("utf-8", "replace") for example in sample for token in example["tokens"])
    letters = [letter for letter in words if letter.isalpha()]
    share = sum(_LETTER.match(letter) is not None for letter in letters) / max(1, len(letters))
    if share < _MANY_UNSPACED:
        return share, 1.0
    texts = [example.get("text") or joined_words(example["tokens"]) for example in sample]
    return share, found_share(sample, texts, "words")[0]


def by_characters(data: Data) -> Data:
    """Returns a data set of tagged words with a tag for every character. A tag that marks entities is continued in its
    scheme: B-LOC becomes B-LOC I-LOC, and S-LOC becomes B-LOC E-LOC. Any other tag is repeated. The text of a sentence is
    `text`, or its words, joined with spaces but between letters of scripts without them.

    Example:
        >>> data = by_characters(zoo.datasets.from_arrays([["北京", "好"]] * 9, [["B-LOC", "O"]] * 9))
        >>> data.class_names
        ('B-LOC', 'I-LOC', 'O')
    """
    table = {tag: _continued(tag, data.class_names) for tag in data.class_names}
    longer = _longer_tags(data)
    names = tuple(sorted({*data.class_names, *(part for tag in longer for part in table[tag])}))
    numbers = [[names.index(part) if part in names else 0 for part in table[tag]] for tag in data.class_names]
    only = [names.index(tag) for tag in data.class_names]
    about = {key: value for key, value in data.about.items() if key != "class_counts"}  # of words
    return dataclasses.replace(
        data,
        splits={role: _divided(split, numbers, only) for role, split in data.splits.items()},
        features={**data.features, "text": Feature((), "string")},
        class_names=names,
        about=about,
        arguments={**data.arguments, "tokenizer": "characters"},
    )


def _continued(tag: str, class_names: tuple[str, ...]) -> tuple[str, str, str]:
    """Returns the tags of the first, the inner and the last characters of a word with a tag."""
    scheme, parts = scheme_of(class_names), re.fullmatch(r"([BIESLU])-(.+)", tag, re.DOTALL)
    if scheme is None or parts is None:
        return tag, tag, tag
    prefix, kind = parts[1], parts[2]
    first = "B" if prefix in "BSU" else "I"
    last = _LAST.get(scheme.name, "I") if prefix in "ESLU" else "I"
    return f"{first}-{kind}", f"I-{kind}", f"{last}-{kind}"


def _longer_tags(data: Data) -> set[str]:
    """Returns the tags of words of two characters or more."""
    found: set[int] = set()
    for split in data.splits.values():
        for example in split.dataset().as_numpy_iterator():
            found.update(
                int(tag)
                for token, tag in zip(example["tokens"], example["tags"], strict=True)
                if len(token.decode("utf-8", "replace")) > 1
            )
    return {data.class_names[tag] for tag in found if 0 <= tag < len(data.class_names)}


def _divided(split: Split, numbers: list[list[int]], only: list[int]) -> Split:
    """Returns a split with the characters of its words, and their tags: `numbers` are those of the first, the inner and the
    last characters, and `only` those of a word of one character."""
    with tf.device("CPU"):
        parts, alone = tf.constant(numbers, tf.int64), tf.constant(only, tf.int64)

    def divide(example: dict[str, Any]) -> dict[str, Any]:
        words, tags = example["tokens"], tf.cast(example["tags"], tf.int64)
        cleaned = tf.strings.unicode_transcode(words, "UTF-8", "UTF-8", errors="replace")
        cleaned = tf.strings.regex_replace(cleaned, r"[\pZ\pC]+", "")
        letters = tf.strings.unicode_split(cleaned, "UTF-8")
        sizes = letters.row_lengths()
        owners, place = letters.value_rowids(), tf.ragged.range(sizes).flat_values
        known = tf.maximum(tf.gather(tags, owners), 0)
        which = tf.where(place == 0, 0, tf.where(place == tf.gather(sizes, owners) - 1, 2, 1))
        found = tf.gather_nd(parts, tf.stack([known, tf.cast(which, tf.int64)], axis=1))
        found = tf.where(tf.gather(sizes, owners) == 1, tf.gather(alone, known), found)
        found = tf.where(tf.gather(tags, owners) < 0, tf.constant(-1, tf.int64), found)
        written = example["text"] if "text" in example else tf.constant("")
        text = tf.where(written == "", _joined(tf.boolean_mask(cleaned, sizes > 0)), written)
        return {**example, "tokens": letters.flat_values, "tags": tf.cast(found, example["tags"].dtype), "text": text}

    return split.map(divide)


def _joined(words: tf.Tensor) -> tf.Tensor:
    """Returns words, string (words,), as `joined_words` joins them; single characters without any space."""
    if_words = tf.reduce_any(tf.strings.length(words, unit="UTF8_CHAR") > 1)
    ends = tf.strings.regex_full_match(words, f"(?s).*{UNSPACED}")
    begins = tf.strings.regex_full_match(words, f"(?s){UNSPACED}.*")
    begins = tf.concat([begins[1:], tf.ones_like(begins[:1])], axis=0)
    is_last = tf.range(tf.size(words)) == tf.size(words) - 1
    gaps = tf.where((ends & begins) | is_last | ~if_words, "", " ")
    return tf.strings.reduce_join(tf.strings.join([words, gaps]))
