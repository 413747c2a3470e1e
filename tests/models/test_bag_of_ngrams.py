"""Bags of n-grams compared with scikit-learn's TF-IDF, and the default model of every task."""

from __future__ import annotations

import itertools

import keras
import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

import zoo
from zoo import registry, tasks
from zoo.errors import UsageError
from zoo.layers.ngrams import MOST_BUCKETS, NgramIds
from zoo.models.bag_of_ngrams import inverse_document_frequencies

SIZES = {"vocab_size": 9, "num_classes": 3, "embedding_dim": 5, "dropout": 0.0}


def some_ids(count: int = 40) -> np.ndarray:
    """Returns texts of 1 to 8 random tokens, int32 (count, 8), padded with 0."""
    rng = np.random.default_rng(0)
    ids = rng.integers(1, SIZES["vocab_size"], (count, 8))
    return np.where(np.arange(8) < rng.integers(1, 9, (count, 1)), ids, 0).astype(np.int32)


@pytest.mark.parametrize("ngrams", [1, 2, 3])
def test_features_equal_tf_idf_of_scikit_learn(ngrams):
    """With one channel for each n-gram, the features are the TF-IDF of n-grams in two texts or more."""
    ids = some_ids()
    model = zoo.build_bag_of_ngrams_model(**SIZES, ngrams=ngrams, num_features=600)
    inverse_document_frequencies(model, lambda: iter([{"token_ids": ids[:25]}, {"token_ids": ids[25:]}]))
    terms, layer = model.get_layer("term_weights"), model.get_layer("ngrams")
    texts = [" ".join(map(str, row[row > 0])) for row in ids]
    reference = TfidfVectorizer(ngram_range=(1, ngrams), token_pattern=r"\d+", norm=None)
    expected = reference.fit_transform(texts).toarray()
    common = (expected > 0).sum(0) >= 2
    common |= np.array([" " not in name for name in reference.get_feature_names_out()])  # words are all kept
    expected = expected[:, common]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = np.zeros((len(ids), terms.size))
    weights = np.asarray(keras.Model(model.input, model.get_layer("scaled_weights").output)(ids))
    for row, numbers, values in zip(found, np.asarray(layer(ids)), weights, strict=True):
        np.add.at(row, numbers, values)
    assert (found[:, 0] == 0).all(), "padding and n-grams that are left out have no weight"
    # scikit-learn adds up the counts of an n-gram before it takes the length; here every place counts.
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    found = found[:, found.any(axis=0)] / lengths
    order = np.lexsort(np.round(found, 4)), np.lexsort(np.round(expected, 4))
    np.testing.assert_allclose(found[:, order[0]], expected[:, order[1]], atol=1e-5)


def test_the_model_equals_numpy():
    ids = some_ids(6)
    model = zoo.build_bag_of_ngrams_model(**SIZES, num_features=50, num_buckets=70)
    rng = np.random.default_rng(1)
    table, terms = rng.normal(size=(59, 5)), rng.uniform(0.5, 2, 59)
    kernel, bias = rng.normal(size=(5, 3)), rng.normal(size=3)
    model.get_layer("embedding").embeddings.assign(table)
    model.get_layer("term_weights").values.assign(terms)
    model.get_layer("probabilities").set_weights([kernel, bias])
    for row, found in zip(ids, np.asarray(model(ids)), strict=True):
        words = [int(word) for word in row if word]
        numbers = words + [9 + (first * 1_031 + second) % 70 % 50 for first, second in itertools.pairwise(words)]
        weights = 10 * terms[numbers] / np.linalg.norm(terms[numbers])
        scores = np.exp(weights @ table[numbers] @ kernel + bias)
        np.testing.assert_allclose(found, scores / scores.sum(), atol=1e-5)


def test_buckets_never_overflow():
    layer = NgramIds(10**7, 3, 100, MOST_BUCKETS)
    ids = np.full((1, 3), 10**7 - 1, np.int32)
    pair = ((10**7 - 1) % MOST_BUCKETS * 1_031 + 10**7 - 1) % MOST_BUCKETS
    triple = (pair * 1_031 + 10**7 - 1) % MOST_BUCKETS
    assert np.asarray(layer.buckets(ids)).tolist() == [[pair, pair, -1, triple, -1, -1]]
    with pytest.raises(
        UsageError, match=r"num_buckets is 2097152; expected at most 1048576\. Pass num_buckets=1048576"
    ):
        zoo.build_bag_of_ngrams_model(**SIZES, num_buckets=2**21)


def test_prepared_models_have_the_weights_of_the_training_split():
    prepared = zoo.datasets.load("commands").prepare("bag_of_ngrams", embedding_dim=4)
    model, again = prepared.build(seed=0), prepared.build(seed=0)
    values = np.asarray(model.get_layer("term_weights").values)
    assert values.min() >= 1 and len(np.unique(values)) > 10
    for first, second in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("task", tasks.list_tasks())
def test_the_default_model_of_a_task_serves_it(task):
    assert task in registry.get_spec(str(tasks.get_task(task).default_model)).tasks


def test_a_run_without_a_model_trains_the_default_and_says_so(tmp_path, capsys):
    preview = zoo.preview(None, "iris", run_directory=tmp_path / "new")
    assert "mlp" in preview.summary
    assert capsys.readouterr().out == "No model was named: mlp is the default of tabular_classification\n"
    assert zoo.preview(None, "iris").directory == "runs/iris-mlp, new"
