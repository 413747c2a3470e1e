"""The linear tagger next to a model: it is compared with scikit-learn's features of the same kind."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import SGDClassifier
from threadpoolctl import threadpool_limits

import zoo
from zoo.evaluation.baselines import BASELINES, read_columns, tags


def sentences(count=300, seed=0):
    """Returns sentences whose tags depend on suffixes, on the shape of a word and on the word before it."""
    rng = np.random.default_rng(seed)
    words, tagged = [], []
    for _ in range(count):
        stems = ["".join(rng.choice(list("bdfgklmnprst"), 4)) for _ in range(6)]
        row = [
            stem + str(rng.choice(["ing", "ed", ""])) if k % 2 else stem.capitalize() for k, stem in enumerate(stems)
        ]
        row.insert(3, "not")
        words.append(row)
        before = ["", *row]
        tagged.append(
            [
                "NEG" if before[k] == "not" else "ING" if w.endswith("ing") else "CAP" if w[0].isupper() else "X"
                for k, w in enumerate(row)
            ]
        )
    return words, tagged


def test_it_uses_the_word_its_letters_its_shape_and_its_neighbours():
    data = zoo.datasets.load(sentences(), model="rnn")
    train, test = (read_columns(data.splits[name]) for name in ("train", "test"))
    baseline = BASELINES.get("linear tagger")
    assert baseline.applies(data) and not baseline.applies(zoo.datasets.load("iris"))
    with threadpool_limits(1):
        found, again = (baseline.predict(train, test, data)["tags"] for _ in range(2))
    assert [len(row) for row in found] == [len(row) for row in test["tags"]]
    assert all((a == b).all() for a, b in zip(found, again, strict=True)), "it is deterministic"
    accuracy = np.mean(np.concatenate(found) == np.concatenate([*test["tags"]]))

    def features(rows):
        for words in rows["tokens"]:
            text = ["", "", *(word.decode() for word in words), "", ""]
            for at in range(2, len(text) - 2):
                word = text[at]
                parts = {f"own {part}" for part in (word, word[-3:], word[:2], str(word[:1].isupper()))}
                yield dict.fromkeys([*parts, *(f"{d} {text[at + d]}" for d in (-2, -1, 1, 2))], 1.0)

    vectors = DictVectorizer()
    model = SGDClassifier("modified_huber", alpha=1e-6, average=True, max_iter=5, tol=None, random_state=0)
    rows = vectors.fit_transform(features(train))
    rows.indices, rows.indptr = rows.indices.astype(np.int32), rows.indptr.astype(np.int32)
    model.fit(rows, np.concatenate([*train["tags"]]))
    reference = model.score(vectors.transform(features(test)), np.concatenate([*test["tags"]]))
    assert accuracy == pytest.approx(reference, abs=0.02) and accuracy > 0.97


def test_features_are_those_of_the_sentence_alone_also_with_line_breaks_as_words():
    rows, lengths = tags._matrix({"tokens": np.array([[b"a", b"\n"], [b"b"], [b"a", b"\n"]], object)})
    assert lengths == [2, 1, 2] and rows.shape[0] == 5
    assert (rows[0] != rows[3]).nnz == 0 and (rows[1] != rows[4]).nnz == 0 and (rows[0] != rows[2]).nnz > 0


def test_its_metrics_are_those_of_the_report():
    """A model that has learned nothing is next to the linear tagger, whose figures are counted here again."""
    words, tagged = sentences(120)
    tagged = [[f"B-{tag}" if tag in ("CAP", "NEG") else "O" for tag in row] for row in tagged]
    data = zoo.datasets.load((words, tagged), model="rnn")
    prepared = data.prepare("rnn", embedding_dim=4, rnn_units=4)
    report = zoo.evaluate(prepared.build(seed=0), prepared)
    (entry,) = report["baselines"]
    train, test = (read_columns(data.splits[name]) for name in ("train", "test"))
    with threadpool_limits(1):
        found = np.concatenate(BASELINES.get("linear tagger").predict(train, test, data)["tags"])
    true = np.concatenate([*test["tags"]])
    assert entry["accuracy"] == pytest.approx(np.mean(found == true))
    assert entry["raw_text_accuracy"] == entry["accuracy"], "the tokenizer finds all words"
    outside = data.class_names.index("O")
    right = np.sum((found == true) & (true != outside))
    expected = 2 * right / (np.sum(true != outside) + np.sum(found != outside))  # every entity is one word
    assert entry["entity_f1"] == pytest.approx(expected) and report["entities"]["scheme"] == "IOB2"
    known = {word for row in train["tokens"] for word in row.tolist()}
    new = np.array([word not in known for row in test["tokens"] for word in row.tolist()])
    assert entry["unknown_accuracy"] == pytest.approx(np.mean((found == true)[new]))
    first = report["headline"][0]
    assert (first["metric"], first["baseline"]) == ("entity F1", "most frequent tag of each word")
    assert report["comparison"].startswith("entity F1 of linear tagger ")
    assert "linear tagger is better than this model" in report["comparison"]
