"""Arguments that functions do not take: the message says where they belong; nothing is trained."""

from __future__ import annotations

import re

import keras
import numpy as np
import pandas as pd
import pytest

import zoo

X, Y = np.random.default_rng(0).random((60, 4)).astype(np.float32), np.arange(60) % 3
IMAGES = np.random.default_rng(0).integers(0, 256, (60, 8, 8)).astype(np.uint8)
FRAME = pd.DataFrame({"age": np.arange(60) % 7, "job": ["clerk", "nurse"] * 30, "income": ["high", "low", "low"] * 20})


@pytest.fixture(scope="module")
def model():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": 3}, r"zoo.train takes no argument 'epochs'. Pass config=zoo.TrainConfig\(epochs=...\)"),
        ({"validation_data": (X, Y)}, r"takes no argument 'validation_data'. Pass validation=\(x, y\)"),
        ({"callback": []}, r"takes no argument 'callback'. Did you mean 'callbacks'"),
        ({"config": Y}, r"config is array.*expected training options.*data as one argument, \(x, y\)"),
    ],
)
def test_training_says_where_arguments_belong(model, arguments, message):
    with pytest.raises(zoo.UsageError, match=message):
        zoo.train(model, (X, Y), **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"class_names": ["a"]}, r"argument of the data: pass data_arguments=\{'class_names': \['a'\]\}"),
        ({"labels": ["a"]}, r"Pass data_arguments=\{'class_names': \['cat', 'dog'\]\}"),
        ({"target": "a"}, r"Pass data_arguments=\{'columns': \{'label': NAME\}\}"),
        ({"validation_data": (X, Y)}, r"Pass validation=\(x, y\)"),
        ({"epochs": 2}, r"pass config=zoo.TrainConfig\(epochs=2\)"),
        ({"config": {"epoch": 2}}, r"TrainConfig has no field 'epoch'. Did you mean 'epochs'"),
    ],
)
def test_a_run_says_where_arguments_belong(arguments, message, tmp_path):
    with pytest.raises(zoo.UsageError, match=message):
        zoo.run("cnn", (IMAGES, Y), run_directory=tmp_path / "run", **arguments)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        ((IMAGES, Y), {"labels": ["a"]}, r"Data from arrays takes no labels. Pass class_names=\['cat', 'dog'\], say"),
        (FRAME, {"target": "income"}, r"A DataFrame takes no target. Pass columns=\{'label': NAME\}"),
        (FRAME, {"window": None}, r"fit no task.*'\{\"label\": \"income\"\}', say, or columns=... in Python"),
        (FRAME, {"columns": {"income": "label"}}, r"keys come first. Pass columns=\{'label': 'income'\}"),
    ],
)
def test_data_says_where_arguments_belong(data, options, message):
    with pytest.raises(zoo.UsageError, match=message):
        zoo.datasets.load(data, **options)


def test_an_export_takes_frames_of_numbers_and_class_names(model, tmp_path):
    from zoo.export.keras_models.network import named_network

    frame = pd.DataFrame(X, columns=["a", "b", "c", "d"])
    _, arrays, _ = named_network(model, frame)
    np.testing.assert_array_equal(arrays["input"], X)
    with pytest.raises(
        zoo.UsageError, match=r"takes input, numbers; the DataFrame has other values in b\. Pass its columns"
    ):
        named_network(model, frame.assign(b="x"))
    with pytest.raises(zoo.UsageError, match=r"zoo.export.save takes no argument 'labels'. Pass class_names"):
        zoo.export.save(model, tmp_path / "saved", examples=X, labels=["a", "b", "c"])
    assert not (tmp_path / "saved").exists()


def test_a_preview_of_arrays_needs_no_folder():
    shown = zoo.preview("mlp", (IMAGES, Y), config={"epochs": 1})
    assert "Run:      zoo.run needs a folder: pass run_directory='runs/NAME-mlp'" in repr(shown)
    assert not {"bin_edges", "category_sizes"} & shown.options["model"].keys()
    assert "bin_edges" in zoo.preview("mlp", (X, Y), config={"epochs": 1}).options["model"]


def test_a_run_of_an_own_model_says_in_words_what_differs(model, tmp_path):
    folder = tmp_path / "run"
    trained = zoo.train(model, (X, Y), {"epochs": 1}, run_directory=folder, verbose=0)
    assert re.match(r"sequential(_\d+)? after 1 epoch\n", repr(trained))
    with pytest.raises(
        zoo.UsageError, match=r"trained on other data: its examples of train differ\. Pass another run_dir"
    ):
        zoo.train(model, (X + 1, Y), {"epochs": 1}, run_directory=folder, verbose=0)
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5), keras.layers.Dense(3, activation="softmax")])
    other.compile("adam", "sparse_categorical_crossentropy")
    with pytest.raises(zoo.UsageError, match=r"of another model: its layers, shapes or code differ"):
        zoo.train(other, (X, Y), {"epochs": 1}, run_directory=folder, verbose=0)
    with pytest.raises(zoo.UsageError, match=r"model of your own.*zoo.export.save\(result.model, FOLDER, examples=x\)"):
        zoo.pipeline.export_run(folder, tmp_path / "saved")
