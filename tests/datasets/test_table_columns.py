"""The kinds of columns of a table, compared with NumPy, pandas and scikit-learn."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import QuantileTransformer, StandardScaler

from zoo.datasets.preprocessing import moments
from zoo.datasets.preprocessing.columns import COLUMNS, NO, YES, Categories, Lists, Moments, Numbers, YesNo, input_names
from zoo.datasets.preprocessing.tables import quantile_edges
from zoo.datasets.sources import table_kinds

NAMES = ("a", "b", "c")


def fitted(kind, values, **options):
    names = NAMES[: values.shape[1]]
    return kind.fit(names, names, values, options)


def numbers_of(columns, raw):
    """Returns the numbers of raw values, equal in the graph and in eager mode."""
    eager = columns.numbers(tf.constant(raw)).numpy()
    np.testing.assert_array_equal(eager, tf.function(columns.numbers, autograph=False)(tf.constant(raw)).numpy())
    assert eager.dtype == np.float32 and eager.shape == (len(raw), len(columns.binned))
    return eager


def values_with_gaps(rows, seed):
    """Returns three columns: a skewed one with gaps, counts with gaps, and one without gaps."""
    rng = np.random.default_rng(seed)
    values = np.stack([rng.lognormal(3, 2, rows), rng.poisson(2, rows), rng.normal(-5, 0.1, rows)], axis=1)
    values[:, :2][rng.random((rows, 2)) < 0.2] = np.nan
    return values.astype(np.float32)


def test_numbers_equal_median_marks_and_standard_scaling_of_scikit_learn():
    train, other = values_with_gaps(300, 1), values_with_gaps(50, 2)
    imputer = SimpleImputer(strategy="median", add_indicator=True).fit(train)
    scaler = StandardScaler().fit(imputer.transform(train)[:, :3])
    found = fitted(Numbers, train)
    for raw in (train, other):
        filled = imputer.transform(raw)
        right = np.concatenate([scaler.transform(filled[:, :3]), filled[:, 3:]], axis=1)
        np.testing.assert_allclose(numbers_of(found, raw), right, rtol=2e-5, atol=2e-5)
    assert found.gaps == (0, 1) and found.whole == (1,) and found.binned == (True, True, True, False, False)


def test_clipping_replaces_values_beyond_the_training_split():
    train = values_with_gaps(300, 1)
    far = np.float32([[1e9, -1e9, 0], [-1e9, 1e9, -9]])
    limits = np.clip(far, np.nanmin(train, axis=0), np.nanmax(train, axis=0))
    plain, clipped = fitted(Numbers, train), fitted(Numbers, train, clip=True)
    np.testing.assert_array_equal(numbers_of(clipped, far), numbers_of(plain, limits))
    assert np.abs(numbers_of(plain, far)).max() > 1e4


def test_scaling_by_quantiles_equals_scikit_learn_within_its_interpolation():
    train, other = values_with_gaps(2_000, 3), values_with_gaps(500, 4)
    imputer = SimpleImputer(strategy="median").fit(train)
    theirs = QuantileTransformer(n_quantiles=256, output_distribution="normal", subsample=None)
    theirs.fit(imputer.transform(train))
    found = fitted(Numbers, train, scaling="quantile")
    for raw in (train, other):
        right = theirs.transform(imputer.transform(raw))
        ours = numbers_of(found, raw)[:, :3]
        inner = (
            np.abs(right) < 2.4
        )  # of the most frequent counts, it maps the smallest to -5, and we to its middle rank
        np.testing.assert_allclose(ours[inner], right[inner], atol=0.02)
        ours, right, inner = (part[:, [0, 2]] for part in (ours, right, inner))
        assert (np.abs(ours[~inner]) > 2.35).all() and np.abs(ours).max() <= 3
        assert (np.sign(ours[~inner]) == np.sign(right[~inner])).all()


@pytest.mark.parametrize("scaling", ["standard", "quantile"])
def test_a_constant_column_becomes_0(scaling):
    train = np.full((20, 1), 7, np.float32)
    assert np.abs(numbers_of(fitted(Numbers, train, scaling=scaling), train)).max() <= 3e-7


def test_whole_numbers_with_gaps_stay_whole_whatever_their_median():
    assert fitted(Numbers, np.float32([[1], [2], [np.nan]])).whole == (0,)  # the median is 1.5
    assert fitted(Numbers, np.float32([[1e30], [2]])).whole == ()  # no int64


def test_yes_and_no_become_signs_and_marks():
    train = np.float32([[1, 0], [0, 1], [np.nan, 1]])
    found = fitted(YesNo, train)
    assert numbers_of(found, train).tolist() == [[1, -1, 0], [-1, 1, 0], [0, 1, 1]]
    assert numbers_of(fitted(YesNo, train[:2]), train[:2]).tolist() == [[1, -1], [-1, 1]]
    words = [["Yes", "n"], [" true ", "OFF"], ["1", "0"], ["", "na"]]
    requests = {name: tf.constant(column) for name, column in zip("ab", zip(*words, strict=True), strict=True)}
    np.testing.assert_array_equal(found.raw(requests), [[1, 0], [1, 0], [1, 0], [np.nan, np.nan]])
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"b is neither yes nor no. Send yes, no, true, false"):
        found.raw({"a": tf.constant(["yes"]), "b": tf.constant(["maybe"])})


def test_yes_and_no_are_known_in_other_languages():
    found = fitted(YesNo, np.float32([[1, 0], [0, 1]]))
    words = [["Ja", "Sí"], ["NEIN", "no"], ["да", "はい"], ["Нет", "いいえ"], ["oui", "हाँ"], ["Non", "नहीं"]]
    requests = {name: tf.constant(column) for name, column in zip("ab", zip(*words, strict=True), strict=True)}
    np.testing.assert_array_equal(found.raw(requests)[:, 0], [1, 0, 1, 0, 1, 0])
    np.testing.assert_array_equal(found.raw(requests)[:, 1], [1, 0, 1, 0, 1, 0])
    assert not {*YES} & {*NO}
    kinds = [kind_of(["ja", "nein"]), kind_of(["Да", "нет"]), kind_of(["ja", "non"]), kind_of(["red", "no"])]
    assert kinds == ["yes_no", "yes_no", "category", "category"]


def kind_of(words):
    """Returns the kind of a column whose cells alternate between words."""
    cells = pd.Series(words * 20, name="column")
    return table_kinds._kind(Path("file.csv"), cells, cells.unique(), None, False)


def test_dates_become_trend_season_weekday_and_clock():
    stamps = pd.date_range("2019-12-30 00:00", "2024-03-02 17:00", periods=200).floor("s")
    seconds = ((stamps - pd.Timestamp(0)) // pd.Timedelta(seconds=1)).to_numpy(np.float64)
    days = np.floor(seconds / moments.DAY) * moments.DAY
    train = np.stack([seconds, days], axis=1)
    train[5, 1] = np.nan
    found = Moments.fit(NAMES[:2], NAMES[:2], train, {"orders": {"a": "ymd", "b": "dmy"}})
    numbers = numbers_of(found, train)
    assert found.clocks == (0,) and found.gaps == (1,) and numbers.shape == (200, 12 + 12 + 7 + 1)
    np.testing.assert_allclose(numbers[:, 0], np.interp(seconds, [seconds[0], seconds[-1]], [-1, 1]), atol=1e-6)
    assert numbers[:, 5:12].argmax(axis=1).tolist() == stamps.dayofweek.tolist()
    assert (numbers[:, 5:12].sum(axis=1) == 1).all()
    angle = 2 * np.pi * np.floor(seconds / moments.DAY) / 365.2425
    right = np.stack([np.sin(angle), np.cos(angle), np.sin(2 * angle), np.cos(2 * angle)], axis=1)
    np.testing.assert_allclose(numbers[:, 1:5], right, atol=1e-6)
    hours = (stamps - stamps.floor("D")) / pd.Timedelta(hours=1)
    np.testing.assert_allclose(numbers[:, 24], hours / 12 - 1, atol=1e-6)
    np.testing.assert_allclose(numbers[:, 25], np.sin(2 * np.pi * hours / 24), atol=1e-6)
    midnights = np.stack([np.arange(5_000.0, 30_000) * moments.DAY] * 2, axis=1)
    weekdays = numbers_of(found, midnights)[:, 5:12].argmax(axis=1)
    assert weekdays.tolist() == ((np.arange(5_000, 30_000) + 3) % 7).tolist()
    assert (numbers[5, 12:24] == 0).all() and numbers[5, -1] == 1 and numbers[4, -1] == 0
    later = numbers_of(found, train + 10 * 365 * moments.DAY)
    assert (later[:, 0] <= 1).all(), "the trend ends with the training split"


def test_categories_are_numbered_by_frequency_as_counter_counts_them():
    rng = np.random.default_rng(0)
    words = np.array([b"a", b"b\xc3\xa4", b"", b"rare"], object)
    train = words[rng.choice(4, size=(400, 2), p=[0.2, 0.5, 0.27, 0.03])]
    for least in (1, 30):
        found = fitted(Categories, train, min_count=least)
        numbers = found.lookup(tf.constant(train)).numpy()
        for place in range(2):
            often = [(word, n) for word, n in Counter(train[:, place].tolist()).most_common() if n >= least]
            right = {word: number for number, (word, _) in enumerate(often, 1)}
            assert numbers[:, place].tolist() == [right.get(word, 0) for word in train[:, place]]
            assert found.sizes[place] == len(often) + 1
        unknown = np.array([["never", "rare" if least > 1 else "RARE"], ["1:a", " a"]], object)
        assert not found.lookup(tf.constant(unknown)).numpy().any(), "byte by byte, and not the value of another column"


def test_missing_categories_have_a_number_only_if_the_training_split_has_them():
    train = np.array([[b"x", b""], [b"y", b"x"]], object)
    found = fitted(Categories, train)
    assert (
        found.lookup(tf.constant([[b"", b""]])).numpy()[0, 0]
        == 0
        < found.lookup(tf.constant([[b"", b""]])).numpy()[0, 1]
    )


@pytest.mark.parametrize("kind", COLUMNS.values())
def test_columns_survive_their_configuration(kind):
    rng = np.random.default_rng(0)
    train = rng.integers(0, 2, (30, 2)).astype(np.float64)
    train = np.where(train > 0, b"one", b"").astype(object) if kind in (Categories, Lists) else train
    found = kind.fit(NAMES[:2], NAMES[:2], train, {"orders": {"a": "ymd", "b": "mdy"}, "scaling": "quantile"})
    assert kind(**found.config()) == found


def test_edges_of_bins_ascend_within_the_range_and_atoms_take_one_bin():
    for seed in range(200):
        rng = np.random.default_rng(seed)
        count, bins = int(rng.integers(1, 400)), int(rng.integers(2, 40))
        values = rng.choice([rng.normal(size=count), rng.integers(0, 9, count), rng.exponential(size=count)])
        values = np.where(rng.random(count) < rng.random(), values, 0).astype(np.float32)
        edges = quantile_edges(values, bins)
        assert (np.diff(edges) > 0).all() and edges[0] == values.min() and edges[-1] == values.max(), seed
        assert len(edges) <= 2 * bins + 2 and set(edges.tolist()) <= set(values.tolist()), seed
        atoms = [value for value, n in Counter(values.tolist()).items() if n * bins > count]
        assert set(atoms) <= set(edges.tolist()), seed
        if len(np.unique(values)) == count >= 10 * bins:  # without atoms, as quantiles
            counts = np.histogram(values, edges)[0]
            assert len(edges) == bins + 1 and counts.max() - counts.min() <= 2, seed


def test_names_of_inputs_are_identifiers_and_differ():
    names = ["a b", "a_b", "a-b", "2nd", "年龄", "年", "examples", "self", "class", " ", "", "__x__", "größe", "A B"]
    found = input_names(names)
    assert list(found) == names and len(set(found.values())) == len(names)
    assert all(name.isidentifier() and name.isascii() and name[0] != "_" for name in found.values())
    assert not {"examples", "self", "class"} & set(found.values())
    assert (
        found["2nd"] == "column_2nd"
        and found["a_b"] == "a_b"
        and found["a b"] == "a_b_1"
        and found["年龄"] == "column_5"
    )


def test_made_names_of_inputs_do_not_look_like_other_columns():
    assert input_names(["年龄", "column_1", "体重"]) == {
        "年龄": "unnamed_column_1",
        "column_1": "column_1",
        "体重": "unnamed_column_3",
    }
    assert input_names(["2", "年龄"]) == {"2": "column_2", "年龄": "unnamed_column_2"}  # a file without a header
    assert list(input_names(["Länge", "Lange", "Straße", "Lange_1"]).values()) == [
        "Lange_1_",
        "Lange",
        "Strasse",
        "Lange_1",
    ]
    # A column's input depends on its own place, not on how many others have no Latin letter.
    assert input_names(["a", "年龄"])["年龄"] == input_names(["年", "年龄"])["年龄"] == "column_2"


def test_descriptions_of_inputs_name_columns_of_other_names():
    found = Numbers.fit(["年龄", "age"], ["column_1", "age"], np.float32([[1, 2], [3, 4]]), {})
    first, second = (found.request(place) for place in (0, 1))
    assert first.description.startswith("column '年龄': whole number, 1 to 3 in the data")
    assert second.description.startswith("whole number") and first.columns == {"column": "年龄"}
