"""Entities from tags: which tag sets mark them, and their scores, compared with the rules of conlleval."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import tensorflow as tf

from zoo.evaluation.entities import entity_report, summary
from zoo.tasks.entities import answers, find, scheme_of

IOB = ("B-LOC", "B-PER", "I-LOC", "I-PER", "O")
BIOES = (*sorted(f"{prefix}-{kind}" for prefix in "BIES" for kind in ("A-B", "C")), "O")


@pytest.mark.parametrize(
    ("tags", "name", "types"),
    [
        (IOB, "IOB", ("LOC", "PER")),
        (("I-NP", "O"), "IOB", ("NP",)),
        (BIOES, "BIOES", ("A-B", "C")),
        (("B-X", "I-X", "L-X", "O", "U-X"), "BILOU", ("X",)),
        (("B-é ü", "O"), "IOB", ("é ü",)),
        (("NOUN", "VERB", "O"), None, ()),
        (("B-X", "O", "X"), None, ()),
        (("B-X", "E-X", "L-X", "O"), None, ()),
        (("S-X", "E-X"), None, ()),
        (("0", "1"), None, ()),
        (("B", "I", "O"), None, ()),
    ],
)
def test_tag_sets_that_mark_entities_are_recognised(tags, name, types):
    scheme = scheme_of(tags)
    assert (scheme and scheme.name) == name and (scheme.types if scheme else ()) == types


def chunks(tags):
    """The rules of conlleval, as two separate questions about each pair of neighbours: does a chunk end between them, and
    does one start?"""
    parts = [("O", "")] + [(tag[0], tag[2:]) for tag in tags] + [("O", "")]
    found, start = [], None
    for i, ((before, before_kind), (now, kind)) in enumerate(itertools.pairwise(parts)):
        ends = before in "ES" or (before in "BI" and now in "BSO") or (before != "O" and before_kind != kind)
        starts = now in "BS" or (before in "ESO" and now in "EI") or (now != "O" and before_kind != kind)
        if before != "O" and ends:
            found.append((before_kind, start, i - 1))
        if now != "O" and starts:
            start = i
    return found


def random_sequences(names, count=1_000, seed=0):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(0, 13, count)
    true = [rng.integers(0, len(names), size).tolist() for size in sizes]
    found = [[tag if rng.random() < 0.7 else int(rng.integers(len(names))) for tag in row] for row in true]
    return true, found


def named(rows, names):
    return [[names[tag] for tag in row] for row in rows]


@pytest.mark.parametrize("names", [IOB, BIOES], ids=["IOB", "BIOES"])
def test_scores_equal_those_of_the_rules_on_1000_random_sequences(names):
    true, found = random_sequences(names)
    report, _ = entity_report(true, found, scheme_of(names))
    pairs = [({*chunks(a)}, {*chunks(b)}) for a, b in zip(named(true, names), named(found, names), strict=True)]

    def scores(kind):
        of_kind = [tuple({c for c in side if kind in (None, c[0])} for side in pair) for pair in pairs]
        right = sum(len(a & b) for a, b in of_kind)
        support, predicted = (sum(len(pair[side]) for pair in of_kind) for side in (0, 1))
        precision, recall = right / predicted, right / support
        f1 = 2 * precision * recall / (precision + recall)
        return {"precision": precision, "recall": recall, "f1": f1, "support": support, "predicted": predicted}

    assert {key: report[key] for key in scores(None)} == pytest.approx(scores(None))
    for kind in scheme_of(names).types:
        assert report["by_type"][kind] == pytest.approx(scores(kind))
    assert 0.1 < report["f1"] < 0.9


@pytest.mark.parametrize("names", [IOB, BIOES], ids=["IOB", "BIOES"])
def test_scores_equal_those_of_seqeval(names):
    """seqeval's types may have no hyphen: it keeps what follows the first one, as here."""
    metrics = pytest.importorskip("seqeval.metrics", reason="seqeval is not installed")
    true, found = random_sequences(names, seed=1)
    report, _ = entity_report(true, found, scheme_of(names))
    theirs = metrics.classification_report(named(true, names), named(found, names), output_dict=True)
    for kind, ours in [("micro avg", report), *report["by_type"].items()]:
        expected = {"precision": "precision", "recall": "recall", "f1": "f1-score", "support": "support"}
        assert {key: ours[key] for key in expected} == pytest.approx({k: theirs[kind][v] for k, v in expected.items()})


@pytest.mark.parametrize("names", [IOB, BIOES], ids=["IOB", "BIOES"])
def test_the_graph_finds_the_same_entities(names):
    scheme, (rows, _) = scheme_of(names), random_sequences(names)
    longest = max(map(len, rows))
    padded = tf.constant([row + [0] * (longest - len(row)) for row in rows])
    real = tf.sequence_mask([len(row) for row in rows], longest)
    first, last, numbers = (part.numpy() for part in find(scheme, padded, real))
    for row, tags in enumerate(rows):
        spans = scheme.spans(tags)
        assert spans == [(scheme.types.index(kind), a, b) for kind, a, b in chunks(named([tags], names)[0])]
        assert np.flatnonzero(first[row]).tolist() == [start for _, start, _ in spans]
        assert np.flatnonzero(last[row]).tolist() == [stop for _, _, stop in spans]
        expected = np.full(longest, -1)
        for number, (_, start, stop) in enumerate(spans):
            expected[start : stop + 1] = number
        assert numbers[row].tolist() == expected.tolist()


def test_answers_are_padded_to_the_text_with_the_most_entities():
    labels = tf.constant(IOB)
    texts = tf.constant(["Jo Lee in Où", "", "no names"])
    starts, ends = (
        tf.constant([[0, 3, 7, 10], [0] * 4, [0, 3, 0, 0]]),
        tf.constant([[2, 6, 9, 12], [0] * 4, [2, 8, 0, 0]]),
    )
    probabilities = tf.one_hot([[1, 3, 4, 0], [1] * 4, [4, 4, 1, 1]], 5) * 0.75 + 0.05
    real = tf.constant([[True] * 4, [False] * 4, [True, True, False, False]])
    scheme = scheme_of(IOB)
    found = answers(scheme, texts, (starts, ends), real, probabilities, lambda tags: tf.gather(labels, tags))
    assert {name: part.numpy().tolist() for name, part in found.items() if name != "entity_probabilities"} == {
        "entities": [[b"Jo Lee", "Où".encode()], [b"", b""], [b"", b""]],
        "entity_types": [[b"PER", b"LOC"], [b"", b""], [b"", b""]],
        "entity_starts": [[0, 10], [0, 0], [0, 0]],
        "entity_ends": [[6, 12], [0, 0], [0, 0]],
    }
    np.testing.assert_allclose(found["entity_probabilities"], [[0.64, 0.8], [0, 0], [0, 0]], rtol=1e-6)


def test_iob1_is_told_from_iob2_and_words_that_are_not_tagged_count_as_missed():
    scheme = scheme_of(IOB)
    assert entity_report([[3, 1, 4]], [[3]], scheme)[0]["scheme"] == "IOB1"
    report, ends = entity_report([[1, 3, 4, 0]] * 60 + [[1]] * 40, [[1, 3]] * 60 + [[0]] * 40, scheme)
    assert report["scheme"] == "IOB2" and report["support"] == 160 and report["predicted"] == 100
    assert report["precision"] == 0.6 and report["recall"] == 60 / 160
    assert ends["entity_f1"][0] < report["f1"] < ends["entity_f1"][1]
    assert summary(report, "most frequent tag of each word", 0.25).splitlines() == [
        "entities (IOB2)    precision 0.6000  recall 0.3750  F1 0.4615  of 160  (most frequent tag of each word: F1 0.2500)",
        "  LOC              precision 0.0000  recall 0.0000  F1 0.0000  of 60",
        "  PER              precision 1.0000  recall 0.6000  F1 0.7500  of 100",
    ]
