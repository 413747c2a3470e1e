"""Linear models of texts next to a model: the same metrics as scikit-learn alone gives, in any language."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from threadpoolctl import threadpool_limits

import zoo
from zoo.evaluation.baselines import BASELINES, read_columns, texts

WORDS = {"ngram_range": (1, 2), "token_pattern": r"(?u)\b\w+\b"}
CHARACTERS = {"analyzer": "char", "ngram_range": (1, 3)}


@pytest.fixture(autouse=True)
def one_thread():
    with threadpool_limits(1):
        yield


def tfidf(options):
    return TfidfVectorizer(sublinear_tf=True, dtype=np.float32, **options)


def classifier():
    return OneVsRestClassifier(LogisticRegression(C=10, solver="liblinear", dual=True, tol=0.01, random_state=0))


def parts(data, split):
    """Returns the columns of a split, and its texts."""
    columns = read_columns(data.splits[split])
    return columns, [text.decode() for text in columns["text"]]


def sentences(count=400, seed=0):
    """Returns sentences whose label depends on one word, or on one character in Chinese, which has no spaces."""
    rng = np.random.default_rng(seed)
    words = [f"word{k}" for k in range(30)]
    english = [" ".join(rng.choice(words, 6)) for _ in range(count)]
    signs = [chr(0x4E00 + k) for k in range(60)]
    chinese = ["".join(rng.choice(signs, 12)) for _ in range(count)]
    return english, chinese


@pytest.mark.parametrize("language", ["english", "chinese"])
def test_words_or_characters_are_used_whichever_is_better_on_the_validation_split(language):
    english, chinese = sentences()
    held = english if language == "english" else chinese
    key = "word1" if language == "english" else chr(0x4E00 + 1)
    frame = pd.DataFrame({"text": held, "label": [("with" if key in text else "without") for text in held]})
    data = zoo.datasets.load(frame, columns={"text": "text", "label": "label"})
    (train, given), (test, asked), (known, other) = (parts(data, name) for name in ("train", "test", "validation"))
    models = [make_pipeline(tfidf(way), classifier()).fit(given, train["label"]) for way in (WORDS, CHARACTERS)]
    best = max(models, key=lambda model: model.score(other, known["label"]))
    if language == "chinese":
        assert best is models[1], "a sentence without spaces is one word"
    found = BASELINES.get("logistic regression on TF-IDF").predict(train, test, data)["probabilities"]
    np.testing.assert_allclose(found, best.predict_proba(asked), atol=1e-6)


def test_several_labels_have_a_model_and_a_threshold_each():
    english, _ = sentences()
    tags = [[f"t{k}" for k in (1, 2, 3) if f"word{k} " in text + " "] for text in english]
    frame = pd.DataFrame({"text": english, "tags": ["|".join(tag) for tag in tags]})
    data = zoo.datasets.load(frame, columns={"text": "text", "labels": "tags", "separator": "|"})
    (train, given), (test, asked) = parts(data, "train"), parts(data, "test")
    found = BASELINES.get("logistic regression on TF-IDF").predict(train, test, data)
    expected = make_pipeline(tfidf(WORDS), classifier()).fit(given, train["labels"].astype(int)).predict_proba(asked)
    np.testing.assert_allclose(found["probabilities"], expected, atol=1e-6)
    assert len(found["thresholds"]) == 3
    right = (found["probabilities"] >= found["thresholds"]) == test["labels"]
    assert right.mean() > 0.9


def test_values_are_those_of_ridge_regression_and_missing_ones_are_left_out():
    english, _ = sentences()
    value = [text.count("word1 ") * 3.0 + text.count("word2") for text in english]
    value[0] = None
    data = zoo.datasets.load(
        pd.DataFrame({"text": english, "value": value}), columns={"text": "text", "value": "value"}
    )
    (train, given), (test, asked) = parts(data, "train"), parts(data, "test")
    target = train["value"].reshape(-1).astype(float)
    kept = np.isfinite(target)
    models = [make_pipeline(tfidf(way), Ridge(solver="lsqr")) for way in (WORDS, CHARACTERS)]
    for model in models:
        model.fit([text for text, keep in zip(given, kept, strict=True) if keep], target[kept])
    found = BASELINES.get("ridge regression on TF-IDF").predict(train, test, data)["values"]
    assert found.shape == (len(asked), 1)
    assert any(np.allclose(found[:, 0], model.predict(asked), atol=1e-4) for model in models)


def test_texts_without_words_and_without_a_validation_split():
    signs = [("?" if k % 2 else "!") * (k + 1) for k in range(60)]
    frame = pd.DataFrame({"text": signs, "label": ["a", "b"] * 30})
    data = zoo.datasets.load(frame, columns={"text": "text", "label": "label"})
    (train, _), (test, asked) = parts(data, "train"), parts(data, "test")
    found = BASELINES.get("logistic regression on TF-IDF").predict(train, test, data)["probabilities"]
    assert found.shape == (len(asked), 2) and np.allclose(found.sum(axis=1), 1)


def test_it_stands_in_the_report_and_says_who_wins():
    prepared = zoo.datasets.load("commands").prepare("embedding_lstm", lstm_units=4, embedding_dim=4)
    report = zoo.evaluate(prepared.build(seed=0), prepared)
    (entry,) = report["baselines"]
    assert entry["name"] == "logistic regression on TF-IDF" and entry["accuracy"] > 0.9
    assert "logistic regression on TF-IDF is better than this model" in report["comparison"]
    assert not texts._applies("value")(prepared.data)
