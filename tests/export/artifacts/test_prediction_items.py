"""What `predict` takes: DataFrames, Series, dicts of columns, files, and images as training reads them."""

from __future__ import annotations

import shutil
import warnings

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

import zoo
from mixed_tables import mixed_table, write_table
from zoo.export import artifact, live
from zoo.export.standalone import arrays

TABLE = mixed_table(60)
FEATURES = {name: values for name, values in TABLE.items() if name != "target"}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """An untrained model of a table with columns of all kinds."""
    folder = tmp_path_factory.mktemp("tables")
    data = zoo.datasets.load(write_table(folder / "mixed.csv", TABLE), columns={"label": "target"})
    prepared = data.prepare("mlp", hidden_units=(4,))
    keras.utils.set_random_seed(1)
    model, interface = prepared.build(), prepared.interface
    (folder / "saved").mkdir()
    # Without the verification, which takes longer than all tests of this file.
    artifact._write(folder / "saved", model, interface, live.golden(model, interface), {}, {})
    return zoo.load(folder / "saved")


@pytest.fixture(scope="module")
def expected(table, tmp_path_factory):
    """The probabilities of the table's rows, from its CSV file."""
    file = tmp_path_factory.mktemp("rows") / "rows.csv"
    write_table(file, FEATURES)
    return chances(table.predict(str(file)))


@pytest.fixture(scope="module")
def simple(tmp_path_factory):
    """A SavedModel with a signature for each kind of input."""
    module = tf.Module()

    def signature(**inputs):
        specs = {name: tf.TensorSpec([None, *shape], dtype, name) for name, (dtype, shape) in inputs.items()}
        return tf.function(
            lambda **given: {
                f"{name}_size": tf.strings.length(value) if value.dtype == tf.string else value + 1
                for name, value in given.items()
            }
        ).get_concrete_function(**specs)

    signatures = {
        "serving_default": signature(text=(tf.string, [])),
        "number": signature(x=(tf.float32, [])),
        "numbers": signature(x=(tf.float32, [3])),
        "window": signature(x=(tf.float32, [None, 1])),
        "two": signature(picture=(tf.float32, [4, 4]), meta=(tf.float32, [2])),
        "pair": signature(user=(tf.string, []), item=(tf.string, [])),
    }
    folder = tmp_path_factory.mktemp("simple")
    tf.saved_model.save(module, str(folder), signatures=signatures)
    return zoo.load(folder)


def chances(answers):
    return np.stack([answer["probabilities"] for answer in answers])


def test_rows_of_a_table_may_have_any_form(table, expected):
    frame = pd.DataFrame(FEATURES)
    assert len(np.unique(expected.round(5), axis=0)) > 30, "rows differ"
    typed = frame.assign(**{"hours per week": pd.to_numeric(frame["hours per week"])})
    typed["class"] = typed["class"].astype("category")
    forms = {
        "frame": frame,
        "other order, numbers and categories": typed[typed.columns[::-1]],
        "records": typed.to_dict("records"),
        "dict of columns": {name: list(values) for name, values in FEATURES.items()},
        "None for missing": frame.astype(object).where(frame != "", None),
        "rows by input": table.predict
        and [dict(row) for row in pd.DataFrame(FEATURES).set_axis(sorted_inputs(table), axis=1).to_dict("records")],
    }
    for name, form in forms.items():
        np.testing.assert_allclose(chances(table.predict(form)), expected, atol=1e-6, err_msg=name)
    np.testing.assert_allclose(chances(table.predict(frame.iloc[3])), expected[3:4], atol=1e-6)
    np.testing.assert_allclose(chances(table.predict(frame, batch_size=7)), expected, atol=1e-6)
    assert table.predict(frame[:0]) == []


def sorted_inputs(table):
    """Returns the names of the inputs in the order of the table's columns."""
    columns = {entry["columns"]["column"]: name for name, entry in table.entries("serving_default").items()}
    return [columns[name] for name in FEATURES]


def test_other_columns_are_ignored_with_a_warning(table, expected):
    frame = pd.DataFrame(FEATURES).assign(id=range(60), target="few")
    with pytest.warns(UserWarning, match=r"The model does not use the columns id\."):
        got = table.predict(frame)
    np.testing.assert_allclose(chances(got), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop(columns="class"), r"DataFrame has no column 'class'; its columns are .*Add or rename"),
        (lambda f: f.drop(columns="class").to_dict("records"), r"items has no column 'class'"),
        (lambda f: f.assign(**{"2nd": "many"}), r"DataFrame row 1: 2nd is 'many'; expected a number"),
        (lambda f: f.assign(**{"2nd": np.inf}), r"DataFrame row 1: 2nd is inf; expected a number"),
        (lambda f: [*f.to_dict("records"), {"class": "red"}], r"item 61 and item 1 differ in .*Pass the same names"),
        (lambda f: f.iloc[0].to_dict(), r"a dict whose .* is .*; expected a list.*pass \[item\]"),
        (lambda f: {**f.to_dict("list"), "class": ["red"]}, r"60 of 2nd.* and 1 of class|Pass as many of each"),
        (lambda f: f.to_numpy(), r"takes the columns .*; received an array.*Pass a DataFrame, a list of dicts"),
        (lambda f: 7, r"takes the columns .*; received 7\. Pass a DataFrame"),
    ],
)
def test_rows_that_do_not_fit_are_rejected(table, change, message):
    with pytest.raises(zoo.UsageError, match=message):
        table.predict(change(pd.DataFrame(FEATURES)))


def test_texts_and_numbers_come_as_columns(simple):
    frame = pd.DataFrame({"message": ["ab", "abc"]})
    for given in (
        frame,
        frame["message"],
        {"text": ["ab", "abc"]},
        np.array(["ab", "abc"], object),
        iter(["ab", "abc"]),
    ):
        assert [answer["text_size"] for answer in simple.predict(given)] == [2, 3]
    ages = pd.DataFrame({"age": [1.0, 2.0]})
    assert [answer["x_size"] for answer in simple.predict(ages, "number")] == [2, 3]
    with pytest.raises(
        zoo.UsageError,
        match=r"takes text; the DataFrame has the columns message, n, not 'text', as the input is called\. Rename a col",
    ):
        simple.predict(frame.assign(n=1))
    wide = pd.DataFrame(np.arange(6.0).reshape(2, 3), columns=["a", "b", "c"])
    assert simple.predict(wide, "numbers")[1]["x_size"].tolist() == [4, 5, 6]
    with pytest.raises(
        zoo.UsageError, match=r"numbers takes x, numbers; the DataFrame has other values in b.*select_dtypes"
    ):
        simple.predict(wide.assign(b=["x", "y"]), "numbers")
    with pytest.raises(zoo.UsageError, match=r"3 numbers for each item; the DataFrame has 2 columns"):
        simple.predict(wide[["a", "b"]], "numbers")
    with pytest.raises(
        zoo.UsageError, match=r"window takes x; received a DataFrame with the columns a, b, c\. Pass a list"
    ):
        simple.predict(wide, "window")


def test_several_inputs_come_as_columns_or_rows(simple):
    picture, meta = np.zeros((3, 4, 4), np.float32), np.ones((3, 2), np.float32)
    answers = simple.predict({"picture": picture, "meta": meta}, "two")
    assert len(answers) == 3 and answers[0]["meta_size"].tolist() == [2, 2]
    assert simple(picture=picture, meta=meta, signature="two")["picture_size"].shape == (3, 4, 4)
    assert simple(["abc"])["text_size"].tolist() == [3]
    with pytest.raises(
        zoo.UsageError, match=r"two takes meta and picture; received an array.*Pass a dict with these names: of"
    ):
        simple.predict([picture, meta], "two")
    with pytest.raises(zoo.UsageError, match=r"3 of picture and 2 of meta. Pass as many of each"):
        simple.predict({"picture": picture, "meta": meta[:2]}, "two")
    with pytest.raises(zoo.UsageError, match=r"takes meta and picture; received a\. Pass a dict"):
        simple.predict(["a"], "two")
    frame = pd.DataFrame({"item": ["ab"], "user": ["a"], "stars": [4]})
    with pytest.warns(UserWarning, match=r"does not use the columns stars"):
        assert simple.predict(frame, "pair") == [{"item_size": 2, "user_size": 1}]
    with pytest.raises(
        zoo.UsageError, match=r"the DataFrame has the columns item, stars, not 'user', as the input is called. Rename"
    ):
        simple.predict(frame[["item", "stars"]], "pair")


def test_a_window_of_one_channel_needs_no_axis_for_it(simple):
    (one,), (other,) = (simple.predict([window], "window") for window in (np.arange(4.0), np.arange(4.0)[:, None]))
    np.testing.assert_array_equal(one["x_size"], other["x_size"])


@pytest.mark.parametrize("size", [0, -1, 2.5, True, "8"])
def test_invalid_batch_sizes_are_rejected(simple, size):
    with pytest.raises(zoo.UsageError, match=r"batch_size is .*; expected a whole number of at least 1"):
        simple.predict(["a"], batch_size=size)


def test_images_are_read_as_in_training(base, digits):
    served = zoo.load(base / "1")
    images = np.stack([example["image"] for example in digits.test.take(6).as_numpy_iterator()])
    want = chances(served.predict(list(images)))
    forms = {
        "floats from 0 to 1": images / 255,
        "float32": (images / 255).astype(np.float32)[..., 0],
        "floats from 0 to 255": images.astype(np.float64),
        "integers": images.astype(np.int64),
        "lists": images.tolist(),
        "dict": {"image_bytes": images / 255},
        "tensor": tf.constant(images / 255),
    }
    for name, form in forms.items():
        np.testing.assert_allclose(chances(served.predict(form)), want, atol=1e-6, err_msg=name)
    np.testing.assert_allclose(chances(served.predict([images[0] / 255])), want[:1], atol=1e-6)
    dark = [images[0] * 0.0 + 1, images[1] * 1.0]  # a pixel of 1 is nearly black, since another image has 255
    np.testing.assert_allclose(
        chances(served.predict(dark))[0], chances(served.predict([np.ones_like(images[0])]))[0], atol=1e-6
    )
    with pytest.raises(zoo.UsageError, match=r"image_bytes has values from .*; expected pixels from 0 to 255"):
        served.predict([images[0] / 255 - 0.5])
    with pytest.raises(zoo.UsageError, match=r"image_bytes takes images; received an array.*Pass a list of images"):
        served.predict(images[0, ..., 0])
    with pytest.raises(
        zoo.UsageError, match=r"received a DataFrame with the columns 0, 1.*Pass a list of paths or arrays"
    ):
        served.predict(pd.DataFrame(images[0, ..., 0]))


def test_images_on_another_scale_than_in_training_are_named(base, digits, tmp_path):
    served = zoo.load(base / "1")
    pixels = np.stack([example["image"] for example in digits.test.take(20).as_numpy_iterator()])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        served.predict(list(pixels))
        served.predict(list(pixels / 255))
        served.predict([np.zeros((8, 8), np.uint8)])
    with pytest.warns(UserWarning, match=r"brightest pixel is 16 of 255.*If 16 is white, pass image \* \(255 / 16\)"):
        served.predict(list(pixels * (16 / 255)))
    with pytest.warns(UserWarning, match=r"pixels are 0 and 1 of 255, which is black; pass image \* 255"):
        served.predict(pixels // 255)
    folder = tmp_path / "dark"
    shutil.copytree(base / "1", folder)
    held = dict(arrays.load(folder / "assets.extra" / "golden.npz"))
    dark = [tf.io.encode_png(tf.constant(image // 16)).numpy() for image in pixels]
    held["requests/image_bytes"] = np.array(dark, object)
    arrays.save(folder / "assets.extra" / "golden.npz", held)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        zoo.load(folder).predict(list(pixels // 16))
    with pytest.warns(UserWarning, match=r"pixel is 255 of 255; that of the images .* trained on is 15 of 255. Pass"):
        zoo.load(folder).predict(list(pixels))
