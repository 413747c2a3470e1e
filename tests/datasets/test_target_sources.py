"""Several labels and values from CSV files, DataFrames and arrays, and what is rejected with which message."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import zoo
from source_examples import SPLITS, rows
from zoo.datasets.sources.splitting import undivided
from zoo.errors import UsageError

TEXTS = [f"text {n}" for n in range(40)]
TAGS = [["a|b", "b", "", "c | a"][n % 4] for n in range(40)]
FLAGS = np.array([[n % 4 in (0, 3), n % 4 < 2, n % 4 == 3] for n in range(40)], np.float32)


def frame(**columns) -> pd.DataFrame:
    return pd.DataFrame({"text": TEXTS, **columns})


def targets_by_text(data: zoo.datasets.Data, key: str) -> np.ndarray:
    """Returns the targets of all splits in the order of TEXTS."""
    found = {example["text"].decode(): example[key] for example in rows(data)}
    return np.stack([found[text] for text in TEXTS])


def test_a_column_that_lists_labels_is_split_at_the_separator():
    data = zoo.datasets.from_frame(frame(tags=TAGS), {"text": "text", "labels": "tags", "separator": "|"})
    assert (data.task, data.class_names) == ("text_multilabel", ("a", "b", "c"))
    np.testing.assert_array_equal(targets_by_text(data, "labels"), FLAGS)
    assert data.features["labels"].dtype == "float32"
    counts = {role: np.sum([e["labels"] for e in rows(data, role)], axis=0).tolist() for role in SPLITS}
    assert data.about["class_counts"] == counts and min(counts["train"]) > 0
    assert "3 labels: 'a' (" in repr(data)


@pytest.mark.parametrize(("yes", "no"), [("1", "0"), ("TRUE", "False"), ("x", ""), ("Yes", "no")])
def test_columns_of_yes_and_no_are_labels(yes, no):
    columns = {name: np.where(FLAGS[:, n] > 0, yes, no) for n, name in enumerate("cab")}
    data = zoo.datasets.from_frame(frame(**columns), {"text": "text", "labels": ["c", "a", "b"]})
    assert data.class_names == ("c", "a", "b"), "the order of the columns"
    np.testing.assert_array_equal(targets_by_text(data, "labels"), FLAGS)


@pytest.mark.parametrize("key", ["value", "values"])
def test_columns_of_numbers_are_values(key):
    prices = [f"{n}.5" for n in range(40)]
    data = zoo.datasets.from_frame(frame(price=prices, area=range(40)), {"text": "text", key: ["price", "area"]})
    assert (data.task, data.about["value_names"], data.class_names) == ("text_regression", ["price", "area"], ())
    found = targets_by_text(data, "value")
    np.testing.assert_array_equal(found, np.stack([np.arange(40) + 0.5, np.arange(40)], axis=1))
    assert found.dtype == np.float32


def test_rows_without_a_value_are_left_out():
    prices = ["", "NaN", *map(str, range(38))]
    data = zoo.datasets.from_frame(frame(price=prices), {"text": "text", "value": "price"})
    assert sum(split.num_examples for split in data.splits.values()) == 38
    assert data.about["left_out"] == {"rows without price": 2}


def test_images_of_a_csv_have_labels_and_values(tmp_path):
    for n in range(12):
        Image.fromarray(np.full((4, 5), 20 * n, np.uint8)).save(tmp_path / f"{n}.png")
    lines = ["image,tags,light,split"]
    lines += [f"{n}.png,{'a;b' if n % 2 else 'b'},{20 * n},{SPLITS[n % 3]}" for n in range(12)]
    (tmp_path / "pictures.csv").write_text("\n".join(lines))
    (tmp_path / "broken.png").write_bytes(b"no picture")
    name = f"csv:{tmp_path / 'pictures.csv'}"
    labelled = zoo.datasets.load(name, columns={"image": "image", "labels": "tags", "separator": ";"})
    assert labelled.task == "image_multilabel" and labelled.features["image"].shape == (4, 5, 1)
    for example in rows(labelled):
        np.testing.assert_array_equal(example["labels"], [example["image"].max() // 20 % 2, 1])
    valued = zoo.datasets.load(name, columns={"image": "image", "value": "light"}, log_values=True)
    assert all(example["value"] == [example["image"].max()] for example in rows(valued))
    assert valued.about["log_values"] is True and valued.arguments["log_values"] is True
    targets = valued.prepare("cnn", filters=(2,)).preprocessor.targets
    assert targets.log and targets.mean == pytest.approx([np.mean(np.log1p([0, 60, 120, 180]))], rel=1e-5)


MARKED = frame(a=["1", "0"] * 20, b=["1"] * 39 + ["0"])


@pytest.mark.parametrize(
    ("table", "columns", "message"),
    [
        (
            MARKED.assign(a=["1", "0", "maybe", "0"] * 10),
            {"labels": ["a", "b"]},
            "row 3: the label 'a' is 'maybe'; expected yes or no.*Correct it; if the column lists labels",
        ),
        (
            MARKED.assign(a=["1", "0", "", "0"] * 10),
            {"labels": ["a", "b"]},
            "row 3: the label 'a' is ''; expected yes or no",
        ),
        (MARKED.assign(b="0"), {"labels": ["a", "b"]}, "has the label 'b' in no row, so nothing.*Leave the column out"),
        (MARKED.assign(b="yes"), {"labels": ["a", "b"]}, "has the label 'b' in all rows, so nothing"),
        (
            MARKED,
            {"labels": "a"},
            "one column for labels, 'a'; several labels at once need two or more.*use the key label",
        ),
        (
            frame(tags=TAGS),
            {"labels": "tags", "separator": ";"},
            "the separator ';' in no cell; 'c . a' is one. Pass the mark",
        ),
        (frame(tags=["a|a", "a"] * 20), {"labels": "tags", "separator": "|"}, "has only one class, 'a'; expected two"),
        (
            frame(tags=TAGS),
            {"labels": "tags", "separator": ""},
            "the separator '' and 1 columns for labels; expected a text",
        ),
        (
            frame(tags=[f"{n}|{n + 40}" for n in range(40)]),
            {"labels": "tags", "separator": "|"},
            "80 different labels in 40",
        ),
        (
            frame(tags=TAGS),
            {"labels": "tags"},
            "one column for labels, 'tags'.*If its cells list labels, pass the separator",
        ),
        (
            frame(price=["1", "dear"] * 20),
            {"value": "price"},
            "row 2: price is 'dear'; expected a number. Pass --data.missing .* Correct it",
        ),
        (frame(price=[""] * 40), {"value": "price"}, "has no complete row: {'rows without price': 40}. Choose"),
        (
            frame(price=["1"] * 40),
            {"value": "price", "values": "price"},
            "the keys value and values, which are the same",
        ),
    ],
)
def test_invalid_columns_are_rejected(table, columns, message):
    with pytest.raises(UsageError, match=message):
        zoo.datasets.from_frame(table, {"text": "text", **columns})


@pytest.mark.parametrize(
    ("prices", "log", "message"),
    [
        (["7"] * 40, False, "price is 7 in all training examples"),
        (["-1", "3"] * 20, True, "price of -1; log_values takes none"),
    ],
)
def test_values_that_cannot_be_learned_are_rejected_before_training(prices, log, message):
    columns = {"text": "text", "value": "price"}
    with pytest.raises(UsageError, match=message):
        zoo.datasets.from_frame(frame(price=prices), columns, log_values=log).prepare("embedding_lstm")


def test_log_values_needs_values():
    with pytest.raises(UsageError, match=r"is for text_multilabel and takes no log_values\. Leave it out"):
        zoo.datasets.from_frame(frame(t=TAGS), {"text": "text", "labels": "t", "separator": "|"}, log_values=True)


def test_a_label_without_a_training_example_is_rejected():
    split = ["test"] + ["train"] * 20 + ["validation"] * 19
    with pytest.raises(UsageError, match="no training example of the class 'rare'"):
        zoo.datasets.from_frame(
            frame(tags=["rare|a"] + ["a", "a|b", ""] * 13, split=split),
            {"text": "text", "labels": "tags", "separator": "|"},
        )


def test_data_for_an_evaluation_alone_may_lack_labels():
    with undivided():
        data = zoo.datasets.from_frame(
            frame(tags=["a", "b"] * 20), {"text": "text", "labels": "tags", "separator": "|"}
        )
    assert data.splits["test"].num_examples == 40


IMAGES = np.random.default_rng(0).integers(0, 256, (40, 6, 5), np.uint8)
FLOATS = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)


@pytest.mark.parametrize(
    ("x", "y", "options", "task", "key", "expected"),
    [
        (IMAGES, FLAGS, {}, "image_multilabel", "labels", FLAGS),
        (TEXTS, FLAGS.astype(int), {}, "text_multilabel", "labels", FLAGS),
        (IMAGES, FLOATS, {}, "image_regression", "value", FLOATS),
        (TEXTS, FLOATS[:, 0], {}, "text_regression", "value", FLOATS[:, :1]),
        (TEXTS, np.arange(40) % 5, {"task": "text_regression"}, "text_regression", "value", np.arange(40)[:, None] % 5),
        (
            IMAGES,
            np.eye(2)[[0, 1] * 20],
            {"task": "image_multilabel"},
            "image_multilabel",
            "labels",
            np.eye(2)[[0, 1] * 20],
        ),
    ],
)
def test_arrays_of_labels_and_values_are_recognised(x, y, options, task, key, expected):
    data = zoo.datasets.from_arrays(x, y, **options)
    assert data.task == task
    with undivided():
        whole = zoo.datasets.from_arrays(x, y, task=task)
    np.testing.assert_array_equal(np.stack([e[key] for e in rows(whole, "test")]), expected)


@pytest.mark.parametrize(
    ("x", "y", "task"),
    [
        (TEXTS, np.arange(40) % 5, "text_classification"),
        (IMAGES, np.eye(2)[[0, 1] * 20], "image_classification"),
        (TEXTS, (np.arange(40) % 5).astype(float), "text_classification"),
        (IMAGES / 255, FLOATS, "forecasting"),
    ],
)
def test_arrays_that_fitted_another_task_before_still_do(x, y, task):
    assert zoo.datasets.from_arrays(x, y).task == task


def test_names_of_labels_and_values_are_given_or_numbers():
    assert zoo.datasets.from_arrays(TEXTS, FLAGS).class_names == ("0", "1", "2")
    assert zoo.datasets.from_arrays(TEXTS, FLAGS, class_names=list("abc")).class_names == ("a", "b", "c")
    assert zoo.datasets.from_arrays(TEXTS, FLOATS).about["value_names"] == ["value 1", "value 2"]
    named = zoo.datasets.from_arrays(TEXTS, FLOATS[:, 0], value_names=["price"], log_values=True)
    assert named.about["value_names"] == ["price"] and named.about["log_values"] is True


@pytest.mark.parametrize(
    ("y", "options", "message"),
    [
        (FLAGS, {"class_names": ["a", "b"]}, "y has 3 columns and class_names 2 names. Pass one for each"),
        (FLOATS, {"value_names": ["a"]}, "value_names is .'a'.; expected 2 different names. Pass one for each column"),
        (FLAGS, {"value_names": ["a"]}, "value_names came for text_multilabel, which has no values. Leave it out"),
        (
            FLOATS,
            {"test": (TEXTS[:2], FLOATS[:2, :1])},
            "y of the test split has 1 columns, y 2; expected the same number",
        ),
        (FLAGS + 0.5, {"task": "text_multilabel"}, "these fit text_regression, not the task text_multilabel"),
        (FLOATS.astype(int), {}, "these do not fit any task.*any numbers with task='image_regression', say"),
        (np.full(40, np.nan), {}, "y.0. is nan, as are 39 other values. Replace them"),
    ],
)
def test_invalid_arrays_are_rejected(y, options, message):
    with pytest.raises(UsageError, match=message):
        zoo.datasets.from_arrays(TEXTS, y, **options)


def test_rare_labels_are_spread_over_the_splits():
    """Each label of few examples occurs in every split, as classes do."""
    lists = [json.dumps([1, int(n % 8 == 0)]) for n in range(40)]
    flags = np.array([json.loads(row) for row in lists], np.float32)
    data = zoo.datasets.from_arrays(TEXTS, np.column_stack([flags, 1 - flags[:, 1:]]))
    assert all(count[1] > 0 for count in data.about["class_counts"].values())


def test_folds_spread_labels():
    data = zoo.datasets.load("wishes", folds=3, fold=1)
    shares = [np.mean([e["labels"] for e in rows(data, role)], axis=0) for role in SPLITS]
    assert data.splits["test"].num_examples == 162
    np.testing.assert_allclose(shares[0], shares[2], atol=0.1)
