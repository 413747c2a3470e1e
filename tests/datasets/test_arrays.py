"""Arrays, lists of texts and DataFrames as data sets."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import tensorflow as tf
from PIL import Image

import zoo
from zoo.datasets.sources import array_kinds

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (60, 8, 8, 1)).astype(np.uint8)
LABELS = np.arange(60) % 3
TEXTS = [f"sentence number {i} {'good' if i % 2 else 'bad'}" for i in range(60)]
SERIES = RANDOM.normal(size=(60, 5, 2)).astype(np.float32)
RAGGED = [RANDOM.normal(size=(3 + i % 4, 2)) for i in range(60)]
WORDS = [["turn", f"it{i}", "off"] for i in range(60)]
TAGS = [["verb", "noun", "part"]] * 60


def first(data, split="train"):
    return next(iter(data.splits[split].dataset().as_numpy_iterator()))


@pytest.mark.parametrize(
    "x, y, options, task",
    [
        (IMAGES, LABELS, {}, "image_classification"),
        (IMAGES[..., 0], LABELS.astype(str), {}, "image_classification"),
        (IMAGES / 255, np.eye(3)[LABELS], {}, "image_classification"),
        (IMAGES[..., 0] / 255, LABELS, {"task": "image_classification"}, "image_classification"),
        (IMAGES[..., 0] / 255, LABELS, {"model": "cnn"}, "image_classification"),
        (TEXTS, LABELS, {}, "text_classification"),
        (np.array(TEXTS), ["yes", "no"] * 30, {}, "text_classification"),
        (pd.Series(TEXTS), pd.Series(LABELS), {}, "text_classification"),
        (TEXTS, None, {}, "masked_language_modelling"),
        (TEXTS, [t.upper() for t in TEXTS], {"task": "translation"}, "translation"),
        (WORDS, TAGS, {}, "tagging"),
        (SERIES, LABELS, {"task": "series_classification"}, "series_classification"),
        (RAGGED, LABELS, {}, "series_classification"),
        (SERIES, RANDOM.normal(size=(60, 4)), {}, "forecasting"),
        (SERIES[..., 0], RANDOM.normal(size=60), {"task": "forecasting"}, "forecasting"),
    ],
)
def test_the_task_follows_from_the_arrays(x, y, options, task):
    data = zoo.datasets.load((x, y), **options)
    assert data.task == task
    assert sum(split.num_examples for split in data.splits.values()) == 60
    assert all(split.num_examples for split in data.splits.values())
    key = next(k for layout in array_kinds.LAYOUTS if layout.task == task for k in [layout.key])
    assert key in first(data) and key in data.features


def test_values_arrive_unchanged():
    data = zoo.datasets.from_arrays(
        IMAGES, LABELS, validation=(IMAGES[:9], LABELS[:9]), test=(IMAGES[9:20], LABELS[9:20])
    )
    assert {k: s.num_examples for k, s in data.splits.items()} == {"train": 60, "validation": 9, "test": 11}
    for split, rows in {"train": slice(None), "validation": slice(9), "test": slice(9, 20)}.items():
        examples = list(data.splits[split].dataset().as_numpy_iterator())
        np.testing.assert_array_equal([e["image"] for e in examples], IMAGES[rows])
        np.testing.assert_array_equal([e["label"] for e in examples], LABELS[rows])
    ragged = zoo.datasets.from_arrays(RAGGED, LABELS, validation=(RAGGED, LABELS), test=(RAGGED, LABELS))
    for example, want in zip(ragged.train.as_numpy_iterator(), RAGGED, strict=True):
        np.testing.assert_array_equal(example["series"], want.astype(np.float32))
    words = zoo.datasets.from_arrays(WORDS, TAGS, validation=(WORDS, TAGS), test=(WORDS, TAGS))
    assert first(words)["tokens"].tolist() == [b"turn", b"it0", b"off"]
    assert [words.class_names[i] for i in first(words)["tags"]] == TAGS[0]


def test_all_scales_of_pixels_give_the_same_images():
    for scaled in (IMAGES / 255, (IMAGES / 255).astype(np.float32), IMAGES.astype(np.float32), IMAGES.astype(np.int64)):
        data = zoo.datasets.from_arrays(scaled, LABELS)
        np.testing.assert_array_equal(first(data)["image"], first(zoo.datasets.from_arrays(IMAGES, LABELS))["image"])
        assert data.about["notes"] == []


def test_rounded_pixels_are_reported(capsys):
    zoo.datasets.load((np.clip(RANDOM.random((60, 8, 8, 3)), 0, 1), LABELS))
    assert "x: pixels from 0 to 1 are rounded to 256 levels, as in image files" in capsys.readouterr().out


def test_equal_examples_stay_in_one_split_in_any_order():
    doubled = np.concatenate([IMAGES, IMAGES]), np.concatenate([LABELS, LABELS])
    data = zoo.datasets.from_arrays(*doubled)
    held = {split: {e["image"].tobytes() for e in s.dataset().as_numpy_iterator()} for split, s in data.splits.items()}
    assert not held["train"] & held["test"] and not held["train"] & held["validation"]
    backwards = zoo.datasets.from_arrays(doubled[0][::-1], doubled[1][::-1])
    assert held["test"] == {e["image"].tobytes() for e in backwards.test.as_numpy_iterator()}


def test_class_names_replace_numbers():
    data = zoo.datasets.load((IMAGES, LABELS), class_names=["cat", "dog", "fox"])
    assert data.class_names == ("cat", "dog", "fox")
    assert zoo.datasets.load((TEXTS, ["b", "a"] * 30)).class_names == ("a", "b")
    assert zoo.datasets.load((IMAGES, LABELS)).class_names == ("0", "1", "2")


@pytest.mark.parametrize(
    "x, y, options, message",
    [
        (IMAGES[:9], LABELS[:8], {}, "x has 9 examples and y has 8; expected the same number"),
        (IMAGES.astype(object), LABELS, {}, "x is an array of objects; entry 0 is .* of type int. Pass strings, or"),
        (
            np.where(np.arange(60)[:, None, None, None] == 7, np.nan, IMAGES / 255),
            LABELS,
            {},
            r"x\[7, 0, 0, 0\] is nan",
        ),
        (
            IMAGES,
            np.full(60, None),
            {},
            "y is an array of objects; entry 0 is None .* leave out examples without a value",
        ),
        (
            IMAGES,
            np.array(["a", 1, "b"] * 20, object),
            {},
            r"entry 1 is 1 of type int. Pass strings, or .* y.astype\(str\)",
        ),
        (IMAGES, np.where(LABELS, LABELS, np.nan), {}, r"y\[0\] is nan, as are 19 other values. Replace them"),
        (
            IMAGES,
            np.eye(3)[LABELS][:, None],
            {},
            r"y is an array of float64 with the shape \(60, 1, 3\); these do not fit",
        ),
        (
            IMAGES,
            LABELS - 1,
            {},
            "y has the 3 labels -1, 0, 1; .* Leave out examples with -1 if that means none, or add 1",
        ),
        (3, LABELS, {}, "x is 3; expected an array or a list. Pass one entry"),
        (np.float32(3), LABELS, {}, "x is one value, 3.0; expected an array"),
        (
            scipy.sparse.csr_matrix(IMAGES.reshape(60, -1)),
            LABELS,
            {},
            r"x is a csr_matrix, which is sparse; .* as x.toarray\(\)",
        ),
        (
            [np.zeros((8 + i % 2, 8, 3)) for i in range(60)],
            LABELS,
            {},
            r"several shapes, \(8, 8, 3\) and \(9, 8, 3\): resize",
        ),
        (
            [np.zeros((8 + i % 2, 8)) for i in range(60)],
            LABELS,
            {"model": "cnn"},
            r"image_classification.*\. The entries of x have several .* Choose one of these",
        ),
        ([""] * 60, LABELS, {}, "too small to split: .* 59 of the examples are equal to others, which stay together"),
        (IMAGES, LABELS + 1, {}, "y has the 3 labels 1, 2, 3; expected 0 to 2. Subtract 1"),
        (IMAGES, LABELS * 2, {}, r"0, 2, 4; expected 0 to 2. Number them without gaps.*pass y.astype\(str\)"),
        (IMAGES, LABELS * 0, {}, "y has only one class, '0'; expected two or more. Add examples of another"),
        (IMAGES / 127.5 - 1, LABELS, {}, "x has values from -1 to 1; expected pixels from 0 to 255, or from 0 to 1"),
        (IMAGES * 2.0, LABELS, {}, "x has values from .* to 510; expected pixels"),
        (np.moveaxis(IMAGES.repeat(3, -1), -1, 1), LABELS, {}, r"channels are first, pass np.moveaxis\(x, 1, -1\)"),
        (IMAGES.reshape(60, -1), LABELS, {}, r"fit any task. If the rows are flat images, reshape them: x.reshape"),
        (
            SERIES,
            LABELS,
            {},
            "these fit several tasks. Pass task='image_classification' or task='series_classification'",
        ),
        (TEXTS, LABELS, {"task": "tagging"}, "these fit text_classification, not the task tagging. Choose"),
        (TEXTS, LABELS, {"model": "cnn"}, "these fit text_classification, not a model for image_classification"),
        (TEXTS, [t.upper() for t in TEXTS], {}, "Pass task='text_classification' or task='translation'"),
        (TEXTS, None, {"class_names": ["a", "b"]}, "class_names were given; masked_language_modelling has no classes"),
        (IMAGES, LABELS, {"class_names": ["a", "b"]}, "y has the label 2; expected 0 to 1. Pass class_names with all"),
        (TEXTS, LABELS, {"test": (TEXTS[:2], [0, 5])}, "y of the test split has the label 5; expected 0 to 2"),
        (
            TEXTS,
            ["a", "b"] * 30,
            {"test": (TEXTS[:2], ["a", "c"])},
            "y of the test split has the label 'c', which is not",
        ),
        (IMAGES[:6], LABELS[:6], {"test": (IMAGES[:2], LABELS[:2]), "columns": {"a": "b"}}, "arrays takes no columns"),
        (IMAGES[:2], LABELS[:2], {}, "The arrays are too small to split: {'train': 2"),
        ([[], ["a"]] * 30, [["b"], ["b"]] * 30, {}, "do not fit any task|expected a list of words"),
        ("hello", LABELS, {}, "x is 'hello'; expected an array or a list"),
        ([], LABELS, {}, "x has no entries. Pass at least one"),
        (SERIES, np.where(np.arange(60)[:, None] == 3, np.inf, np.ones((60, 2)) / 3), {}, r"y\[3, 0\] is inf"),
    ],
)
def test_invalid_arrays_are_rejected(x, y, options, message):
    with pytest.raises(zoo.UsageError, match=message):
        zoo.datasets.load((x, y), **options)


@pytest.mark.parametrize(
    "data, message",
    [
        ((IMAGES, LABELS, LABELS), r"The data is a tuple of 3 arrays; expected inputs and targets. Pass \(x, y\)"),
        ([IMAGES, LABELS], r"The data is a list of two arrays; expected a tuple of inputs and targets. Pass \(x, y\)"),
        ({"x": IMAGES, "y": LABELS}, r"The data is a dict of x, y; expected splits, .* Pass \(x, y\), or {'train'"),
    ],
)
def test_what_is_no_pair_is_rejected(data, message, tmp_path):
    with pytest.raises(zoo.UsageError, match=message):
        zoo.run("cnn", data, run_directory=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_pixels_of_one_bit_are_black_and_white():
    bits = IMAGES > 99
    data = zoo.datasets.from_arrays(bits, LABELS, validation=(bits, LABELS), test=(bits, LABELS))
    np.testing.assert_array_equal([e["image"] for e in data.train.as_numpy_iterator()], bits * 255)
    for whole in (bits.astype(np.uint8), bits.astype(int)):
        notes = zoo.datasets.from_arrays(whole, LABELS).about["notes"]
        assert notes == ["x: pixels are 0 and 1 of 255, which is black; pass x * 255 if 1 is white"]


def test_a_frame_has_the_columns_of_a_csv_file(tmp_path):
    frame = pd.DataFrame({"message": TEXTS, "kind": ["ham", "spam"] * 30})
    frame.to_csv(tmp_path / "mails.csv", index=False)
    columns = {"text": "message", "label": "kind"}
    ours, theirs = (
        zoo.datasets.load(frame, columns=columns),
        zoo.datasets.load(f"csv:{tmp_path}/mails.csv", columns=columns),
    )
    assert ours.class_names == theirs.class_names == ("ham", "spam")
    for split in ours.splits:
        assert ours.splits[split].sha256 == theirs.splits[split].sha256
    steps = pd.DataFrame({"time": pd.date_range("2024-01-01", periods=200, freq="h"), "load": np.arange(200.0)})
    data = zoo.datasets.from_frame(steps, {"forecast": "load", "time": "time"}, window=12, horizon=3)
    assert data.task == "forecasting" and first(data)["series"][:, 0].tolist() == list(range(12))
    with pytest.raises(zoo.UsageError, match=r"The DataFrame has two columns named 'kind'"):
        zoo.datasets.from_frame(pd.concat([frame, frame["kind"]], axis=1), columns)
    with pytest.raises(zoo.UsageError, match=r"The DataFrame has two columns named '1'. Rename one"):
        zoo.datasets.from_frame(frame.assign(**{"1": 2}).rename(columns={"kind": 1}), columns)
    with pytest.raises(zoo.UsageError, match=r"frame is a list; expected a pandas DataFrame. Pass pd.DataFrame"):
        zoo.datasets.from_frame([1, 2])
    with pytest.raises(zoo.UsageError, match=r"DataFrame has no column 'massage'. Did you mean 'message'"):
        zoo.datasets.from_frame(frame, {"text": "massage", "label": "kind"})


def test_rows_of_a_frame_that_are_left_out_are_reported(capsys):
    frame = pd.DataFrame({"text": TEXTS, "label": ["ham", "spam", None] * 20})
    assert sum(split.num_examples for split in zoo.datasets.load(frame).splits.values()) == 40
    assert "Left out of arrays: 20 " in capsys.readouterr().out


def test_other_objects_and_options_are_rejected():
    loaded = zoo.datasets.load("digits")
    assert zoo.datasets.load(loaded) is loaded
    with pytest.raises(zoo.UsageError, match=r"A loaded data set takes no test. Leave it out"):
        zoo.datasets.load(loaded, test=(IMAGES, LABELS))
    with pytest.raises(zoo.UsageError, match=r"Data set 'digits' takes no test. Leave it out"):
        zoo.datasets.load("digits", test=(IMAGES, LABELS))
    with pytest.raises(zoo.UsageError, match=r"trained on arrays in memory, which its config.yaml does not hold"):
        zoo.datasets.load("arrays")
    with pytest.raises(zoo.UsageError, match=r"Data from memory has no name. Pass run_directory='runs/NAME'"):
        zoo.run("mlp", (IMAGES, LABELS))


@pytest.mark.slow
def test_a_run_from_arrays_equals_the_run_from_files(tmp_path):
    splits = {"train": slice(40), "validation": slice(40, 50), "test": slice(50, 60)}
    rows = []
    for split, part in splits.items():
        for number in range(60)[part]:
            Image.fromarray(IMAGES[number, ..., 0]).save(tmp_path / f"{number}.png")
            rows.append({"image": f"{number}.png", "label": LABELS[number], "split": split})
    pd.DataFrame(rows).to_csv(tmp_path / "images.csv", index=False)
    train, validation, test = ((IMAGES[part], LABELS[part]) for part in splits.values())
    settings = {
        "config": zoo.TrainConfig(epochs=1, batch_size=20, strategy="one_device", deterministic=True),
        "model_arguments": {"hidden_units": (8,)},
        "verbose": 0,
        "export": False,
    }
    from_files = zoo.run("mlp", f"csv:{tmp_path}/images.csv", run_directory=tmp_path / "a", **settings)
    from_arrays = zoo.run("mlp", train, validation=validation, test=test, run_directory=tmp_path / "b", **settings)
    for ours, theirs in zip(from_arrays.model.get_weights(), from_files.model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert from_arrays.report["accuracy"] == from_files.report["accuracy"]
    again = zoo.run("mlp", train, validation=validation, test=test, run_directory=tmp_path / "b", **settings)
    assert [row["loss"] for row in again.history] == [row["loss"] for row in from_arrays.history], "it is finished"
    with pytest.raises(zoo.UsageError, match=r"the train split has different content"):
        zoo.run(
            "mlp", (train[0] // 2, train[1]), validation=validation, test=test, run_directory=tmp_path / "b", **settings
        )
    assert set(from_arrays.plots) >= {"history", "confusion_matrix"}
    assert repr(from_arrays).splitlines()[0] == f"Run in {tmp_path / 'b'}, 1 epochs"
    assert from_arrays._repr_html_().count("<img") == len(from_arrays.plots)
    assert isinstance(
        from_arrays.prepared.preprocessor.serve({"image_bytes": tf.constant([(tmp_path / "3.png").read_bytes()])}),
        tuple,
    )


@pytest.mark.parametrize(
    "arguments, hint",
    [
        ({"epochs": 3}, r"'epochs'. It is an option of the training: pass config=zoo.TrainConfig\(epochs=3\)"),
        ({"hidden_units": (8,)}, r"It is an argument of the model: pass model_arguments={'hidden_units': \(8,\)}"),
        ({"folds": 5}, r"It is an argument of the data: pass data_arguments={'folds': 5}"),
        ({"run_dir": "a"}, r"zoo.run takes no argument 'run_dir'. Did you mean 'run_directory'"),
    ],
)
def test_misplaced_arguments_of_a_run_are_named(arguments, hint):
    with pytest.raises(zoo.UsageError, match=hint):
        zoo.run("mlp", "digits", **arguments)
