"""Bags of n-grams compared with scikit-learn's TF-IDF and linear models, and the default model of every task."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import scipy.sparse
import tensorflow as tf
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multiclass import OneVsRestClassifier

import zoo
from zoo import registry, tasks
from zoo.errors import UsageError
from zoo.layers.ngrams import MOST_BUCKETS, CharacterNgramIds, NgramIds
from zoo.linear_solutions import _best_strength, _held_out, solve_sparse
from zoo.models.bag_of_ngrams import _features, inverse_document_frequencies, solve

SIZES = {"vocab_size": 9, "num_classes": 3, "embedding_dim": 5, "dropout": 0.0, "character_ngrams": 0}


def some_ids(count: int = 40) -> np.ndarray:
    """Returns texts of 1 to 8 random tokens, int32 (count, 8), padded with 0."""
    rng = np.random.default_rng(0)
    ids = rng.integers(1, SIZES["vocab_size"], (count, 8))
    return np.where(np.arange(8) < rng.integers(1, 9, (count, 1)), ids, 0).astype(np.int32)


def assert_equal_columns(found: np.ndarray, expected: np.ndarray) -> None:
    """Compares two matrices whose columns may have another order."""
    order = np.lexsort(np.round(found, 4)), np.lexsort(np.round(expected, 4))
    np.testing.assert_allclose(found[:, order[0]], expected[:, order[1]], atol=1e-5)


@pytest.mark.parametrize("ngrams", [1, 2, 3])
def test_features_equal_tf_idf_of_scikit_learn(ngrams):
    """The features are the TF-IDF of the n-grams in two texts or more, each of which counts once in a text."""
    ids = some_ids()
    model = zoo.build_bag_of_ngrams_model(**SIZES, ngrams=ngrams, num_features=600)
    inverse_document_frequencies(model, lambda: iter([{"token_ids": ids[:25]}, {"token_ids": ids[25:]}]))
    texts = [" ".join(map(str, row[row > 0])) for row in ids]
    reference = TfidfVectorizer(ngram_range=(1, ngrams), token_pattern=r"\d+", norm=None, binary=True)
    expected = reference.fit_transform(texts).toarray()
    common = (expected > 0).sum(0) >= 2
    common |= np.array([" " not in name for name in reference.get_feature_names_out()])  # words are all kept
    expected = expected[:, common]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = _features(model, {"token_ids": ids}, model.get_layer("term_weights").size).toarray()
    assert_equal_columns(found[:, found.any(axis=0)], expected)


def test_n_grams_of_characters_equal_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcé日本"), rng.integers(3, 7))) for _ in range(12)]
    texts = [" ".join(rng.choice(words, rng.integers(1, 6))) for _ in range(30)]
    codes = [[ord(letter) for letter in f" {text} "] for text in texts]
    longest = max(map(len, codes))
    characters = np.array([row + [0] * (longest - len(row)) for row in codes], np.int32)
    inputs = {"token_ids": np.ones((30, 1), np.int32), "characters": characters}
    model = zoo.build_bag_of_ngrams_model(2, 2, num_features=2_000)
    inverse_document_frequencies(model, lambda: iter([inputs]))
    found = _features(model, inputs, model.get_layer("term_weights").size).toarray()[:, 2:]
    reference = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), binary=True, min_df=2)
    assert_equal_columns(found[:, found.any(axis=0)], reference.fit_transform(texts).toarray())


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
        numbers = {*words} | {9 + (first * 1_031 + second) % 70 % 50 for first, second in itertools.pairwise(words)}
        numbers = sorted(numbers)
        weights = 10 * terms[numbers] / np.linalg.norm(terms[numbers])
        scores = np.exp(weights @ table[numbers] @ kernel + bias)
        np.testing.assert_allclose(found, scores / scores.sum(), atol=1e-5)


def test_buckets_never_overflow():
    layer = NgramIds(10**7, 3, 100, MOST_BUCKETS)
    ids = np.full((1, 3), 10**7 - 1, np.int32)
    pair = ((10**7 - 1) % MOST_BUCKETS * 1_031 + 10**7 - 1) % MOST_BUCKETS
    triple = (pair * 1_031 + 10**7 - 1) % MOST_BUCKETS
    assert np.asarray(layer.buckets(ids)).tolist() == [[pair, pair, -1, triple, -1, -1]]
    last = 0x10FFFF  # the last code point
    pair = (last % MOST_BUCKETS * 1_031 + last) % MOST_BUCKETS
    assert np.asarray(CharacterNgramIds(1, 2, 2, 9, MOST_BUCKETS).buckets(np.full((1, 2), last))).tolist() == [
        [pair, -1]
    ]


def test_invalid_sizes_are_rejected():
    with pytest.raises(
        UsageError, match=r"num_buckets is 2097152; expected at most 1048576\. Pass num_buckets=1048576"
    ):
        zoo.build_bag_of_ngrams_model(**SIZES, num_buckets=2**21)
    message = r"character_ngrams is 2; expected 3 to 8 characters, or 0 for none\. Pass character_ngrams=5"
    with pytest.raises(UsageError, match=message):
        zoo.build_bag_of_ngrams_model(9, 3, character_ngrams=2)
    message = (
        "embedding_dim=5 adds a layer, so the model cannot be solved for at once. Leave closed_form or embedding_dim"
    )
    with pytest.raises(UsageError, match=message):
        solve(zoo.build_bag_of_ngrams_model(**SIZES), {"token_ids": some_ids()}, {"label": np.arange(40) % 3})


def test_prepared_models_have_the_weights_of_the_training_split():
    prepared = zoo.datasets.load("commands").prepare("bag_of_ngrams", embedding_dim=4)
    model, again = prepared.build(seed=0), prepared.build(seed=0)
    values = np.asarray(model.get_layer("term_weights").values)
    assert values.min() >= 1 and len(np.unique(values)) > 10
    for first, second in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("tokenizer", ["words", "characters", "subwords"])
def test_the_preprocessor_gives_the_characters_of_every_tokenizer(tokenizer):
    """Whatever the tokens are, the characters are those of the normalised text, with a space before and after it."""
    data = zoo.datasets.load("commands", tokenizer=tokenizer)
    prepared = data.prepare("bag_of_ngrams", max_length=64)
    inputs, _ = prepared.preprocessor.serve({"text": tf.constant(["Turn Ｏff  the\tlight", "", "\xe9t\u00e9 e\u0301"])})
    rows = ["".join(map(chr, row[row > 0])) for row in inputs["characters"].numpy()]
    assert [row.split() for row in rows] == [["turn", "off", "the", "light"], [], ["\xe9t\xe9", "\xe9"]]
    assert all(row[0] == row[-1] == " " for row in rows)
    assert not data.prepare("bag_of_ngrams", character_ngrams=0).preprocessor.reads_characters
    assert not data.prepare("attention").preprocessor.reads_characters


def test_one_long_text_does_not_fill_the_memory():
    """What a split takes in memory is what was counted: the characters are padded to the longest text that is read."""
    rows = [f"turn {number} on" for number in range(400)]
    rows[7] = "long words " * 300
    other = (["on", "off"], ["on", "off"])
    limit = 4 * 400 * (60 + 300)
    for most, expected in ((limit, 300), (2 << 30, 3_301), (0, 256)):
        data = zoo.datasets.load((rows, ["on", "off"] * 200), validation=other, test=other, memory_limit=most)
        prepared = data.prepare("bag_of_ngrams", max_length=60)
        assert prepared.preprocessor.most_characters == expected
        assert f"the first {expected:,} are read" in " ".join(prepared.preprocessor.limits)
        held = prepared.resident("train")
        assert (held is None) == (most == 0), "what does not fit is read as a stream"
        stored = prepared.preprocessor.encode({"text": rows, "label": [0] * 400})[0].values()
        taken = sum(4 * 400 * part.shape[1] for part in stored)
        assert taken <= most or not most


def test_solved_models_equal_scikit_learn():
    """Classes, two classes, several labels and values."""
    rng = np.random.default_rng(0)
    features = scipy.sparse.random(40, 30, 0.3, "csr", rng=rng)
    for classes in (2, 4):
        label = rng.integers(0, classes, 40)
        kernel, bias = solve_sparse(features, label, classes + 1, False)
        liblinear = LogisticRegression(C=10.0, solver="liblinear", dual=True, tol=0.1, random_state=0)
        reference = liblinear if classes == 2 else OneVsRestClassifier(liblinear)
        expected = reference.fit(features, label).decision_function(features)
        logits = features @ kernel + bias
        assert (logits.argmax(axis=1) < classes).all(), "a class without examples is never predicted"
        found = logits[:, 1] - logits[:, 0] if classes == 2 else logits[:, :classes]
        np.testing.assert_allclose(found, expected, atol=1e-8)
    labels = rng.integers(0, 2, (40, 3))
    labels[:, 2] = 0
    kernel, bias = solve_sparse(features, labels, 3, False)
    assert ((features @ kernel + bias)[:, 2] < -20).all()
    values = rng.normal(size=(40, 2))
    values[:5, 1] = np.nan
    kernel, bias = solve_sparse(features, values, 2, True)
    expected = Ridge(1.0, solver="lsqr").fit(features[5:], values[5:, 1])
    np.testing.assert_allclose(kernel[:, 1], expected.coef_, atol=1e-8)
    with pytest.raises(UsageError, match="All training examples have the same label, so nothing can be solved"):
        solve_sparse(features, np.ones(40, int), 2, False)


def test_the_penalty_is_chosen_on_held_out_examples():
    """Labels of pure noise need a stronger penalty than labels that follow from the features."""
    rng = np.random.default_rng(0)
    features = scipy.sparse.random(2_000, 200, 0.1, "csr", rng=rng)
    held = _held_out(2_000)
    clear = (features @ rng.normal(size=200) > 0).astype(int)
    noisy = np.where(rng.random(2_000) < 0.4, 1 - clear, clear)
    assert held.sum() == 200 and _held_out(400) is None
    assert _best_strength(features, clear, 2, held) > _best_strength(features, noisy, 2, held)


def test_options_of_training_replace_the_closed_form(tmp_path):
    prepared = zoo.datasets.load("commands").prepare("bag_of_ngrams")
    solved = prepared.complete({"seed": 3, "abstain": 0.9})
    assert solved == zoo.TrainConfig(closed_form=True, seed=3, abstain=0.9)
    trained = prepared.complete({"epochs": 2})
    assert (trained.closed_form, trained.epochs, trained.optimizer, trained.keep_best) == (False, 2, "sgd", 1)
    assert not zoo.datasets.load("commands").prepare("bag_of_ngrams", embedding_dim=4).complete().closed_form
    assert not dataclasses.replace(prepared, start={"run": "earlier"}).complete().closed_form
    with zoo.strategy("one_device").scope():
        model = prepared.build(seed=0)
    history = zoo.train(model, prepared, verbose=0).history
    assert len(history) == 1 and history[0]["val_accuracy"] > 0.95


@pytest.mark.parametrize("task", tasks.list_tasks())
def test_the_default_model_of_a_task_serves_it(task):
    assert task in registry.get_spec(str(tasks.get_task(task).default_model)).tasks


def test_a_run_without_a_model_trains_the_default_and_says_so(tmp_path, capsys):
    preview = zoo.preview(None, "iris", run_directory=tmp_path / "new")
    assert "mlp" in preview.summary
    assert capsys.readouterr().out == "No model was named: mlp is the default of tabular_classification\n"
    assert zoo.preview(None, "iris").directory == "runs/iris-mlp, new"
