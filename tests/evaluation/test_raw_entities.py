"""Entities of raw texts: their places, and their scores compared with a count in plain Python."""

from __future__ import annotations

import numpy as np
import pytest

import zoo
from zoo.evaluation.raw_entities import character_places, places_by_words
from zoo.tasks.entities import scheme_of

NAMES = ("B-LOC", "B-PER", "I-LOC", "I-PER", "O")
LINES = (
    (("Ann", "B-PER"), ("Lee", "I-PER"), ("saw", "O"), ("New", "B-LOC"), ("York", "I-LOC"), (".", "O")),
    (("Stratford-upon-Avon", "B-LOC"), ("is", "O"), ("far", "O")),  # several words for the served tokenizer
    (("can't", "O"), ("Bo", "B-PER"), ("Oslo", "B-LOC"), ("Rome", "B-LOC")),
)


def test_places_are_those_of_the_text():
    scheme = scheme_of(NAMES)
    tokens, tags = [b"in", b"New", "Y\u00f6rk".encode(), b"Ann"], [4, 0, 2, 1]
    text = "  in\tNew  Y\u00f6rk, Ann"  # the comma is no word of the data, so the last letter is out of step
    assert character_places(scheme, tokens[:3], tags[:3], text.encode()) == {("LOC", 5, 14)}
    assert character_places(scheme, [b"Ann"], [1], b"") == {("PER", -1, -1)}, "nobody finds it there"
    assert places_by_words(scheme, NAMES, [0, -1, 1, 2, -1], [0, 2, 1]) == {("LOC", 0, 0), ("LOC", 1, 1), ("PER", 2, 2)}
    assert places_by_words(scheme, NAMES[:4], [0], [0]) is None


def spans(tags, starts, ends):
    """The entities of IOB tags, by a loop over the words."""
    found, last = [], "O"
    for tag, start, end in zip(tags, starts, ends, strict=True):
        if tag != "O" and (tag[0] == "B" or last[2:] != tag[2:]):
            found.append([tag[2:], start, end])
        elif tag != "O":
            found[-1][2] = end
        last = tag
    return {tuple(row) for row in found}


def by_search(words, text):
    """The first and the last place of each word, by searching the text."""
    starts, place = [], 0
    for word in words:
        starts.append(text.index(word, place))
        place = starts[-1] + len(word)
    return starts, [start + len(word) for start, word in zip(starts, words, strict=True)]


def test_entities_in_raw_text_equal_a_count_in_plain_python(tmp_path):
    sentences = [[*LINES[i % 3], (f"w{i}", "O")] for i in range(60)]
    (tmp_path / "a.conll").write_text("\n\n".join("\n".join(map(" ".join, row)) for row in sentences))
    prepared = zoo.datasets.load(f"conll:{tmp_path}/a.conll").prepare("rnn", embedding_dim=4, rnn_units=4)
    model = prepared.build(seed=1)
    report = zoo.evaluate(model, prepared, split="train", baselines=["linear tagger"])
    right = support = predicted = 0
    for example in prepared.data.train.as_numpy_iterator():
        words = [word.decode() for word in example["tokens"]]
        text = " ".join(words)
        inputs, extras = prepared.preprocessor.serve({"text": [text]})
        tags = np.argmax(model(inputs), axis=-1)[0]
        found = [token.decode() for token in extras["tokens"].numpy()[0]]
        answered = spans([NAMES[tag] for tag in tags], *by_search(found, text))
        true = spans([NAMES[tag] for tag in example["tags"]], *by_search(words, text))
        right, support, predicted = right + len(true & answered), support + len(true), predicted + len(answered)
    entities = report["raw_text_entities"]
    assert (entities["support"], entities["predicted"]) == (support, predicted) and predicted > 0
    assert report["raw_text_entity_f1"] == pytest.approx(2 * right / (support + predicted))
    assert 0.9 < entities["baseline_f1"] < report["entities"]["baseline_f1"], "Stratford-upon-Avon is five words"
    figures = {(f["metric"], f["baseline"]): f for f in report["headline"]}
    linear = figures["entity F1 in raw text", "linear tagger"]
    assert linear["baseline_value"] < figures["entity F1", "linear tagger"]["baseline_value"]
