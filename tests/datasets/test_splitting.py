"""How examples are divided into splits, folds and windows."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import tensorflow as tf

import zoo
from source_examples import SPLITS, message, rows, sizes, words, write
from zoo.datasets.sources import splitting
from zoo.datasets.sources.in_memory import split_of, texts
from zoo.datasets.sources.windows import window_splits

# --- Division --------------------------------------------------------------------------------------------------------


def digests(count: int) -> list[bytes]:
    return [splitting.digest(str(i)) for i in range(count)]


def test_splitting_does_not_depend_on_the_order_of_rows():
    held, strata = digests(200), [i % 3 for i in range(200)]
    parts = splitting.divide(held, strata)
    order = np.random.default_rng(0).permutation(200)
    again = splitting.divide([held[i] for i in order], [strata[i] for i in order])
    np.testing.assert_array_equal(again, parts[order])
    for stratum in range(3):
        counts = np.bincount(parts[np.array(strata) == stratum])
        assert counts.tolist() in ([53, 7, 7], [52, 7, 7])


def test_equal_examples_stay_in_the_same_split():
    held = digests(30) * 4
    for parts in (splitting.divide(held, [i % 7 for i in range(120)]), splitting.deal(held, None, 5)):
        assert all(len({parts[i] for i in range(k, 120, 30)}) == 1 for k in range(30))


@pytest.mark.parametrize("count", [3, 4, 9, 10, 25])
def test_small_strata_are_in_every_split(count):
    assert set(splitting.divide(digests(count)).tolist()) == {0, 1, 2}


def test_digests_distinguish_the_fields_of_an_example():
    assert splitting.digest("ab", "c") != splitting.digest("a", "bc") != splitting.digest("abc")
    assert splitting.digest("é") == splitting.digest("é".encode())


def test_ratings_of_each_user_are_split_by_time():
    users = ["a"] * 20 + ["b"] * 4 + ["c"] * 5
    times = [*range(100, 80, -1), 1, 2, 3, 4, 7, 7, 7, 7, 7]
    parts = splitting.divide_users_by_time(users, times)
    assert parts[:20].tolist() == [2] * 4 + [1] * 2 + [0] * 14, "the file has the newest first"
    assert parts[20:24].tolist() == [0] * 4, "too few to divide"
    assert parts[24:].tolist() == [0, 0, 0, 1, 2], "in the same second the file's order counts"


def test_pairs_that_share_a_sentence_form_a_group():
    pairs = [("Go.", "Va !"), ("go", "Allez."), ("Leave!", "ALLEZ"), ("Stay.", "Reste."), ("?", "!"), ("!", "…")]
    groups = splitting.sentence_groups(pairs)
    assert groups[0] == groups[1] == groups[2]
    assert len({groups[i] for i in (0, 3, 4, 5)}) == 4, "marks alone are sentences too"
    assert splitting.sentence_groups(pairs[::-1]) == groups[::-1]


# --- Splits in memory ------------------------------------------------------------------------------------------------


def test_sequences_of_unequal_length_are_preserved():
    series = [np.arange(2 * n, dtype=np.float32).reshape(n, 2) for n in (3, 1, 0, 5)]
    tokens = [texts(["a"] * n) for n in (1, 2, 3, 4)]
    split = split_of(
        {"series": series, "label": np.arange(4), "tokens": tokens, "text": texts(["", "é", "\0x\0", "y"])}
    )
    spec = split.dataset().element_spec
    assert {k: (v.shape.as_list(), v.dtype.name) for k, v in spec.items()} == {
        "series": ([None, 2], "float32"),
        "label": ([], "int64"),
        "tokens": ([None], "string"),
        "text": ([], "string"),
    }
    for _ in range(2):
        found = list(split.dataset().as_numpy_iterator())
        for i, example in enumerate(found):
            np.testing.assert_array_equal(example["series"], series[i])
            assert example["tokens"].tolist() == tokens[i].tolist()
        assert [e["text"] for e in found] == [b"", "é".encode(), b"\0x\0", b"y"]
    assert split.num_examples == 4
    padded = split.dataset().padded_batch(4)
    assert next(iter(padded))["series"].shape == (4, 5, 2)


def test_windows_are_followed_by_their_forecasts():
    values = np.stack([np.arange(100), -np.arange(100)], axis=1).astype(np.float32)
    splits = window_splits("s", values, 10, 4, bounds=(60, 75))
    times = {}
    for role, split in splits.items():
        found = list(split.dataset().as_numpy_iterator())
        assert len(found) == split.num_examples
        for example in found:
            start = int(example["forecast"][0])
            np.testing.assert_array_equal(example["series"], values[start - 10 : start])
            np.testing.assert_array_equal(example["forecast"], values[start : start + 4, 0])
        times[role] = {int(t) for e in found for t in e["forecast"]}
    assert times["train"] == set(range(10, 60))
    assert times["validation"] == set(range(60, 75))
    assert times["test"] == set(range(75, 100))
    assert splits["train"].dataset().element_spec["series"] == tf.TensorSpec((10, 2), tf.float32)


def test_windows_with_a_missing_forecast_are_omitted():
    values = np.arange(100, dtype=np.float32)[:, np.newaxis].copy()
    values[[30, 80]] = np.nan
    splits = window_splits("s", values, 5, 3)
    forecasts = [e["forecast"] for s in splits.values() for e in s.dataset().as_numpy_iterator()]
    assert not np.isnan(forecasts).any()
    # Omitted: three forecasts for each missing value, and the history that ends with it.
    assert sum(s.num_examples for s in splits.values()) == (65 - 2 - 3 - 1) + 8 + (20 - 2 - 1 - 1)


# --- Folds -----------------------------------------------------------------------------------------------------------


def test_every_example_is_in_the_test_split_of_one_fold():
    whole = Counter(words(e) for e in rows(zoo.datasets.load("commands")))
    seen = Counter()
    for fold in range(3):
        data = zoo.datasets.load("commands", folds=3, fold=fold)
        parts = [rows(data, s) for s in SPLITS]
        assert sizes(data) == [len(part) for part in parts]
        assert Counter(words(e) for part in parts for e in part) == whole
        counts = [np.bincount([e["label"] for e in part], minlength=4) for part in parts]
        assert np.ptp(counts[2] / np.bincount([e["label"] for p in parts for e in p])) < 0.05
        assert len(parts[1]) == pytest.approx(0.1 * (len(parts[0]) + len(parts[1])), abs=2)
        seen += Counter(words(e) for e in parts[2])
    assert seen == whole
    assert data.arguments == {"folds": 3, "fold": 2}
    assert data.prepare("embedding_lstm").describe()["data"]["fold"] == 2


def test_equal_texts_are_in_one_fold(tmp_path):
    lines = "".join(f"text {i % 40},{'ab'[i % 2]}\n" for i in range(120))
    name = write(tmp_path / "t.csv", f"text,label\n{lines}")
    for fold in (0, 3):
        data = zoo.datasets.load(name, folds=4, fold=fold)
        held = [{words(e) for e in rows(data, s)} for s in SPLITS]
        assert sum(map(len, held)) == 40
        assert len(held[2]) == 10


@pytest.mark.parametrize(
    "name", ["tagged_commands", "number_words", pytest.param("digit_rows", marks=pytest.mark.slow)]
)
def test_folds_work_for_other_tasks(name):
    data = zoo.datasets.load(name, folds=3, fold=1)
    assert sum(sizes(data)) == sum(sizes(zoo.datasets.load(name)))
    assert len(rows(data, "test")) == data.splits["test"].num_examples


def test_invalid_folds_are_rejected():
    assert message("digits", folds=5) == (
        "folds is 5 and fold is None; expected both or none. Pass folds=5 and fold=0 to 4, or leave both out."
    )
    assert message("digits", folds=1, fold=0).startswith("folds is 1; expected a whole number of at least 2. Pass")
    assert message("digits", folds=5, fold=5) == "fold is 5; expected 0 to 4. Pass fold=0 for the first."
    for name in ("seasons", "tastes"):
        assert message(name, folds=5, fold=0) == (
            f"Data set '{name}' is split by time: with folds, training would see values from after the test. "
            "Leave folds and fold out."
        )
