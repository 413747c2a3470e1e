"""Tables in memory: rows of numbers, lists of dicts and DataFrames with their targets in another array."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits, load_iris

import zoo

X, Y = load_iris(return_X_y=True)
FRAME = pd.DataFrame({"age": np.arange(200) % 37 * 1.5, "job": ["a", "b", "c", "b"] * 50, "on": [True, False] * 100})
LABELS = pd.Series((["no", "no", "yes"] * 67)[:200], name="income")
PRICES = pd.Series(np.random.default_rng(0).random(200), name="price")


def whole(data, key):
    """Returns a column of all splits, sorted."""
    return np.sort([example[key] for split in data.splits.values() for example in split.dataset().as_numpy_iterator()])


def test_rows_of_numbers_are_a_table_for_models_of_tables():
    data = zoo.datasets.load((X, Y), model="mlp", class_names=["setosa", "versicolor", "virginica"])
    assert data.task == "tabular_classification" and data.class_names == ("setosa", "versicolor", "virginica")
    assert data.about["table"] == {f"column {number}": "number" for number in (1, 2, 3, 4)}
    for number in range(4):
        np.testing.assert_array_equal(whole(data, f"column {number + 1}"), np.sort(X[:, number].astype(np.float32)))
    assert zoo.datasets.load((X, Y), model="lstm").task == "series_classification"
    assert zoo.datasets.from_arrays(X, Y, task="tabular_classification").task == data.task
    assert zoo.datasets.load((X, X[:, 0] * 1.1), model="wide_deep").task == "tabular_regression"
    with pytest.raises(
        zoo.UsageError,
        match=r"Pass task='series_classification' or task='tabular_classification'; to zoo.run, data_arg",
    ):
        zoo.datasets.load((X, Y))
    with pytest.raises(
        zoo.UsageError, match=r"y has the 35 labels.*or task='tabular_regression', say, if they are values"
    ):
        zoo.datasets.load((X, np.round(X[:, 0] * 10)), model="mlp")


def test_class_numbers_keep_their_order():
    data = zoo.datasets.load((np.random.default_rng(0).normal(size=(240, 3)), np.arange(240) % 12), model="mlp")
    assert data.class_names == tuple(map(str, range(12)))
    np.testing.assert_array_equal(np.bincount(whole(data, "label")), [20] * 12)


@pytest.mark.parametrize("form", ["frame", "records"])
def test_features_of_any_kind_come_with_their_targets(form):
    x = FRAME if form == "frame" else FRAME.to_dict("records")
    data = zoo.datasets.load((x, LABELS))
    assert data.task == "tabular_classification" and data.class_names == ("no", "yes")
    assert data.about["table"] == {"age": "number", "job": "category", "on": "yes_no"}
    together = zoo.datasets.load(FRAME.assign(income=LABELS), columns={"label": "income"})
    for key in ("age", "job", "on", "label"):
        np.testing.assert_array_equal(whole(data, key), whole(together, key))
    assert zoo.datasets.load((x, PRICES), model="mlp").about["value_names"] == ["price"]


def test_given_splits_are_kept():
    data = zoo.datasets.load((FRAME, LABELS), validation=(FRAME[:30], LABELS[:30]))
    sizes = {role: split.num_examples for role, split in data.splits.items()}
    assert sizes["validation"] == 30 and sizes["train"] + sizes["test"] == 200 and sizes["test"] > 5
    data = zoo.datasets.load((X, Y), model="mlp", validation=(X[::5], Y[::5]), test=(X[1::5], Y[1::5]))
    assert {role: split.num_examples for role, split in data.splits.items()} == {
        "train": 150,
        "validation": 30,
        "test": 30,
    }


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (
            (FRAME, LABELS),
            {"model": "transformer"},
            r"columns age, job, on; expected the inputs of text_.*Pass a column",
        ),
        ((FRAME, None), {}, r"y is None. Pass labels or values as y; or the whole DataFrame, with columns="),
        ((FRAME, LABELS[:9]), {}, r"x has 200 examples and y has 9"),
        (
            (FRAME, LABELS),
            {"test": (FRAME[["age"]], LABELS)},
            r"x of the test split has the columns age; expected those",
        ),
        ((FRAME, LABELS), {"test": (X, Y)}, r"x of the test split is no table with the columns age, job, on\. Pass"),
        (([{"a": 1}, {"b": 2}], [0, 1]), {}, r"x\[1\] and x\[0\] differ in 'a', 'b'. Pass dicts with the same keys"),
        ((np.full((20, 3), np.inf), Y[:20]), {"model": "mlp"}, r"x\[0, 0\] is inf"),
    ],
)
def test_tables_that_do_not_fit_are_rejected(data, options, message):
    with pytest.raises(zoo.UsageError, match=message):
        zoo.datasets.load(data, **options)


def test_flat_images_and_dark_images_are_named(capsys):
    digits = load_digits()
    zoo.datasets.load((digits.data.astype(int), digits.target), model="mlp")
    assert "x: a table of 64 columns. If the rows are flat images, pass x.reshape(-1, 8, 8)" in capsys.readouterr().out
    for images in (digits.images, digits.images.astype(np.uint8)):
        data = zoo.datasets.load((images, digits.target), model="cnn")
        assert "the brightest pixel is 16 of 255" in capsys.readouterr().out
        assert "If 16 is white, pass x * (255 / 16)" in data.about["notes"][0]
    assert (
        not zoo.datasets.load((digits.images * (255 / 16), digits.target), model="cnn").about["notes"][0].count("16 of")
    )


def test_windows_of_large_numbers_are_no_images():
    windows = np.random.default_rng(0).random((60, 10, 3)) * 400
    assert zoo.datasets.load((windows, np.arange(60) % 3)).task == "series_classification"
    assert zoo.datasets.load((windows / 400, np.arange(60) % 3), model="attention").task == "series_classification"
