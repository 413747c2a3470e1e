"""Entities from tags: which tag sets mark entities, and the entities of a sentence, in Python and in the served graph.

A tag such as B-PER is a prefix and a type. The prefixes are those of IOB1, IOB2 (also called BIO), BIOES (IOBES) and BILOU:

| prefix | the word |
|---|---|
| B | begins an entity; in IOB1 only one that follows an entity of its type |
| I | is inside an entity |
| E, in BILOU L | ends an entity |
| S, in BILOU U | is an entity alone |

One rule reads all of them, also sequences that break their scheme, as conlleval and seqeval do: a tagged word begins an
entity if it has the prefix B or S, if the word before it has no tag or another type, or if that word has the prefix E or S.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tensorflow as tf

OUTSIDE = "O"
_TAG = re.compile(r"([BIESLU])-(.+)", re.DOTALL)
_NONE = -1
_BEGIN, _END = "BSU", "ESLU"


@dataclasses.dataclass(frozen=True)
class Scheme:
    """What each tag of a tag set means.

    Attributes:
        prefixes: the prefixes that occur, sorted, such as "BI".
        types: the types of entities, sorted.
        type_of: for each tag the number of its type, -1 for O.
        begins: for each tag whether it always begins an entity.
        ends: for each tag whether it always ends one.
    """

    prefixes: str
    types: tuple[str, ...]
    type_of: tuple[int, ...]
    begins: tuple[bool, ...]
    ends: tuple[bool, ...]

    @property
    def name(self) -> str:
        """BIOES, BILOU or IOB, by the prefixes; `is_iob1` tells the two kinds of IOB apart."""
        return "BILOU" if {*"LU"} & {*self.prefixes} else "BIOES" if {*"ES"} & {*self.prefixes} else "IOB"

    def spans(self, tags: Iterable[int]) -> list[tuple[int, int, int]]:
        """Returns the entities of a sentence: the number of the type, the first word, and the last word.

        Example:
            >>> scheme_of(["B-PER", "I-PER", "O"]).spans([0, 1, 2, 1])
            [(0, 0, 1), (0, 3, 3)]
        """
        found: list[tuple[int, int, int]] = []
        before, ended = _NONE, False
        for place, tag in enumerate(tags):
            current = self.type_of[tag]
            if current != _NONE:
                if current != before or ended or self.begins[tag]:
                    found.append((current, place, place))
                else:
                    found[-1] = (current, found[-1][1], place)
            before, ended = current, self.ends[tag]
        return found

    def is_iob1(self, sentences: Iterable[Iterable[int]]) -> bool:
        """Returns whether entities begin with the prefix I, as in IOB1, in the tags of some sentences."""
        return self.name == "IOB" and any(
            not self.begins[tags[first]] for tags in map(list, sentences) for _, first, _ in self.spans(tags)
        )


@functools.lru_cache(maxsize=64)
def _scheme(class_names: tuple[str, ...]) -> Scheme | None:
    parts = [_TAG.fullmatch(name) for name in class_names]
    if not any(parts) or any(part is None and name != OUTSIDE for part, name in zip(parts, class_names, strict=True)):
        return None
    prefixes = "".join(sorted({part[1] for part in parts if part}))
    if ({*"ES"} & {*prefixes} and {*"LU"} & {*prefixes}) or not {*"BI"} & {*prefixes}:
        return None
    types = tuple(sorted({part[2] for part in parts if part}))
    numbers = {name: number for number, name in enumerate(types)}
    return Scheme(
        prefixes,
        types,
        tuple(numbers[part[2]] if part else _NONE for part in parts),
        tuple(part is not None and part[1] in _BEGIN for part in parts),
        tuple(part is not None and part[1] in _END for part in parts),
    )


def scheme_of(class_names: Sequence[str]) -> Scheme | None:
    """Returns the scheme of a tag set; None if its tags mark no entities, such as parts of speech.

    Example:
        >>> scheme_of(["B-LOC", "I-LOC", "O"]).name, scheme_of(["NOUN", "VERB"])
        ('IOB', None)
    """
    return _scheme(tuple(class_names))


def find(scheme: Scheme, tags: tf.Tensor, real: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Finds the entities of sentences in the graph.

    Args:
        scheme: the scheme of the tags.
        tags: tag numbers, int (batch, words).
        real: whether a word is no padding, bool (batch, words).

    Returns:
        Whether each word is the first of an entity, and whether it is the last, bool (batch, words); and the number of its
        entity in the sentence, int32 (batch, words), -1 for a word outside.

    Example:
        >>> scheme = scheme_of(["B-PER", "I-PER", "O"])
        >>> find(scheme, tf.constant([[0, 1, 2, 1]]), tf.ones((1, 4), bool))[2].numpy().tolist()
        [[0, 0, -1, 1]]
    """
    import tensorflow as tf

    types = tf.where(real, tf.gather(tf.constant(scheme.type_of, tf.int32), tags), _NONE)
    inside = types != _NONE
    begins, ends = (tf.gather(tf.constant(flags), tags) for flags in (scheme.begins, scheme.ends))
    before = tf.pad(types, [[0, 0], [1, 0]], constant_values=_NONE)[:, :-1]
    ended = tf.pad(ends, [[0, 0], [1, 0]])[:, :-1]
    first = inside & (begins | ended | (before != types))
    # An entity ends before the next one, and before a word outside.
    after = tf.pad(~inside | first, [[0, 0], [0, 1]], constant_values=True)[:, 1:]
    numbers = tf.where(inside, tf.cumsum(tf.cast(first, tf.int32), axis=1) - 1, _NONE)
    return first, inside & after, numbers


def answers(
    scheme: Scheme,
    texts: tf.Tensor,
    places: tuple[tf.Tensor, tf.Tensor],
    real: tf.Tensor,
    probabilities: tf.Tensor,
    label: Any,
) -> dict[str, tf.Tensor]:
    """Returns the entities of texts as outputs of a signature, padded to the text of the batch with the most entities.

    Args:
        scheme: the scheme of the tags.
        texts: string (batch,).
        places: the first character of every word and the character after its last, int32 (batch, words) each.
        real: whether a word is no padding, bool (batch, words).
        probabilities: of the tags of every word, (batch, words, tags).
        label: maps tag numbers to tags.

    Returns:
        `DESCRIBED` describes them; all are (batch, entities).
    """
    import tensorflow as tf

    tags = tf.argmax(probabilities, axis=-1, output_type=tf.int64)
    shape = tf.shape(tags)
    first, last, numbers = find(scheme, tags, real)
    most = tf.maximum(tf.reduce_max(tf.concat([tf.reshape(numbers, [-1]), [0]], axis=0)) + 1, 1)
    begin, end = tf.where(first), tf.where(last)  # in the same order, one of each for every entity
    at = tf.stack([tf.cast(begin[:, 0], tf.int32), tf.gather_nd(numbers, begin)], axis=1)
    padded = tf.stack([shape[0], most])
    starts = tf.scatter_nd(at, tf.gather_nd(places[0], begin), padded)
    ends = tf.scatter_nd(at, tf.gather_nd(places[1], end), padded)
    is_entity = ends > 0
    names = tf.strings.regex_replace(label(tf.gather_nd(tags, begin)), "^[BIESLU]-", "", replace_global=False)
    rows = tf.tile(tf.range(shape[0])[:, tf.newaxis], [1, shape[1]])
    owners = tf.where(numbers == _NONE, _NONE, rows * most + numbers)
    joint = tf.math.unsorted_segment_prod(
        tf.reshape(tf.reduce_max(probabilities, axis=-1), [-1]), tf.reshape(owners, [-1]), shape[0] * most
    )
    # `substr` takes no text without characters, so every text gets one more.
    longer = tf.strings.join([tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace"), " "])
    written = tf.strings.substr(longer[:, tf.newaxis], starts, ends - starts, unit="UTF8_CHAR")
    return {
        "entities": written,
        "entity_types": tf.tensor_scatter_nd_update(tf.fill(padded, ""), at, names),
        "entity_starts": starts,
        "entity_ends": ends,
        "entity_probabilities": tf.where(is_entity, tf.reshape(joint, padded), 0.0),
    }


DESCRIBED = {
    "entities": "the text of each entity that the tags mark, in the order of the text, empty on padding",
    "entity_types": "the type of each entity, such as PER for the tags B-PER and I-PER, empty on padding",
    "entity_starts": "the first character of each entity, from 0, in Unicode characters and not in bytes, 0 on padding",
    "entity_ends": "the character after the last one of each entity, so that in Python `text[start:end]` is the entity; 0 on "
    "padding, and nowhere else",
    "entity_probabilities": "the product of the probabilities of the tags of each entity, 0 on padding",
}
"""The outputs of `answers` by name."""
