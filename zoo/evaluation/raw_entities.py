"""Entities of raw texts, as the SavedModel answers them with its own tokenizer, against those of the data by their places."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from zoo.evaluation.entities import Places, span_report
from zoo.scores import word_spans
from zoo.tasks.contract import Served, Task
from zoo.tasks.entities import OUTSIDE, Scheme

KEY = "raw_text_entity_f1"
_SIGNATURE = "serving_default"


class RawEntities:
    """Collects the entities of raw texts, batch by batch, for a report.

    Args:
        task: the task, whose signature answers.
        preprocessor: that of the run.
        class_names: the tags.
        scheme: their scheme.
    """

    def __init__(self, task: Task, preprocessor: Any, class_names: Sequence[str], scheme: Scheme) -> None:
        self._task, self._preprocessor, self._names, self._scheme = task, preprocessor, tuple(class_names), scheme
        self._expected: list[Places] = []
        self._answered: list[Places] = []
        self._guessed: list[Places] = []

    def add(
        self,
        examples: Sequence[Mapping[str, Any]],
        texts: Sequence[bytes],
        outputs: Mapping[str, Any],
        extras: Mapping[str, Any],
        guesses: Sequence[Sequence[int]],
    ) -> None:
        """Adds a batch.

        Args:
            examples: raw examples.
            texts: their texts.
            outputs: the outputs of the model for the texts.
            extras: the side products of the preprocessor.
            guesses: the tags of a baseline for the tokens of the texts.
        """
        import tensorflow as tf

        names = tf.constant(self._names)
        served = Served(
            outputs=outputs,
            label=lambda numbers: tf.gather(names, numbers),
            extras=extras,
            preprocessor=self._preprocessor,
            class_names=self._names,
        )
        answer = {name: np.asarray(part) for name, part in self._task.signatures[_SIGNATURE].answer(served).items()}
        kinds, starts, ends = (answer[f"entity_{part}"].tolist() for part in ("types", "starts", "ends"))
        for kind, start, end in zip(kinds, starts, ends, strict=True):
            found = zip(kind, start, end, strict=True)
            self._answered.append({(name.decode(), first, last) for name, first, last in found if last > 0})
        for example, text in zip(examples, texts, strict=True):
            self._expected.append(character_places(self._scheme, example["tokens"], example["tags"], text))
        words = np.asarray(extras["tokens"])
        begins, stops = (np.asarray(part) for part in self._preprocessor.places(extras["text"], extras["tokens"]))
        for row, tags in enumerate(guesses):
            spans = self._scheme.spans(tags[: int(np.sum(words[row] != b""))])
            types = self._scheme.types
            self._guessed.append(
                {(types[kind], int(begins[row, first]), int(stops[row, last])) for kind, first, last in spans}
            )

    def report(self) -> tuple[dict[str, Any], dict[str, list[float]]]:
        """Returns precision, recall and F1 as `entity_report` does, with `baseline_f1`, and the interval of the F1."""
        found, ends = span_report(self._expected, self._answered, KEY)
        return {**found, "baseline_f1": span_report(self._expected, self._guessed, KEY)[0]["f1"]}, ends


def character_places(scheme: Scheme, tokens: Sequence[bytes], tags: Sequence[int], text: bytes) -> Places:
    """Returns the entities of tagged words by their places in a text: the type, the first character, and the character after
    the last one.

    Args:
        scheme: the scheme of the tags.
        tokens: the words, whose letters are those of the text in their order.
        tags: their tags.
        text: UTF-8. White space and control characters are in no word.

    Example:
        >>> scheme = scheme_of(["B-LOC", "I-LOC", "O"])
        >>> character_places(scheme, [b"in", b"New", b"York"], [2, 0, 1], b"in  New York")
        {('LOC', 4, 12)}
    """
    letters = [
        place
        for place, letter in enumerate(text.decode("utf-8", "replace"))
        if unicodedata.category(letter)[0] not in "ZC"
    ]
    spans = word_spans(tokens)
    found = set()
    for kind, first, last in scheme.spans([int(tag) for tag in tags]):
        start, end = spans[first][0], spans[last][1] - 1
        if end < start or end >= len(letters):  # words that the text does not have are nowhere, so nobody finds them
            found.add((scheme.types[kind], -1 - first, -1 - last))
        else:
            found.add((scheme.types[kind], letters[start], letters[end] + 1))
    return found


def places_by_words(scheme: Scheme, names: Sequence[str], at: Collection[int], tags: Sequence[int]) -> Places | None:
    """Returns the entities that tags of the data's words mark in raw text, by the numbers of their first and last words. A
    token of the text that is no word of the data is outside of entities.

    Args:
        scheme: the scheme of the tags.
        names: the tags by number.
        at: for each token of the text the number of the word that it is, -1 for none.
        tags: the tag of each word.

    Returns:
        None if no tag marks words outside of entities.
    """
    if OUTSIDE not in names:
        return None
    outside = list(names).index(OUTSIDE)
    words = [int(word) for word in at]
    spans = scheme.spans([int(tags[word]) if word >= 0 else outside for word in words])
    return {(scheme.types[kind], words[first], words[last]) for kind, first, last in spans}
