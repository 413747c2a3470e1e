"""Arguments that functions do not take: the message says where they belong; nothing is trained."""

from __future__ import annotations

import re

import keras
import numpy as np
import pandas as pd
import pytest

import zoo
from untrained_runs import untrained

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
        (
            FRAME,
            {"window": None},
            r"income, which fit no task. Pass columns=\{'label': 'income'\}, say; the keys are ",
        ),
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


@pytest.mark.parametrize("call", [zoo.run, zoo.preview, zoo.cross_validate])
def test_a_keras_model_in_place_of_a_name_is_sent_to_the_training_of_own_models(model, call, tmp_path):
    message = (
        r"The model is a Sequential; expected the name.*call zoo.train\(model, data.*zoo.export.save\(model, path, ex"
    )
    with pytest.raises(zoo.UsageError, match=message):
        call(model, (X, Y), run_directory=tmp_path / "run")
    with pytest.raises(zoo.UsageError, match=r"The model is a Sequential; expected its name. Pass one of attention"):
        zoo.datasets.load((IMAGES, Y)).prepare(model)


def test_hints_are_valid_python_however_long_a_value_is(tmp_path):
    names = [f"number {number}" for number in range(10)]
    for argument, value, hint in (
        ("class_names", names, "data_arguments={'class_names': [...]}."),
        ("filters", tuple(range(100, 120)), "model_arguments={'filters': (...)}."),
        ("columns", {"label": "x" * 50}, "data_arguments={'columns': {...}}."),
    ):
        with pytest.raises(zoo.UsageError) as error:
            zoo.run("cnn", (IMAGES, Y), run_directory=tmp_path / "run", **{argument: value})
        assert str(error.value).endswith(f"pass {hint}")


def test_a_run_on_arrays_is_opened_with_the_same_arrays(tmp_path):
    x = IMAGES + np.arange(60, dtype=np.uint8)[:, None, None]
    untrained(tmp_path / "run", (x, Y), "mlp", hidden_units=(4,))
    for call in (zoo.open_run, zoo.evaluate):
        with pytest.raises(
            zoo.UsageError, match=r"data in memory.*data=\(x, y\).*zoo.open_run.*zoo.load\('.*run'\) gives"
        ):
            call(tmp_path / "run")
    model, prepared, settings = zoo.open_run(tmp_path / "run", data=(x, Y))
    assert settings["model"]["name"] == "mlp" and prepared.num_examples("test") == 6 and model.count_params()
    with pytest.raises(zoo.UsageError, match=r"was trained on other data"):
        zoo.open_run(tmp_path / "run", data=(x[:50], Y[:50]))
    with pytest.raises(zoo.UsageError, match=r"test came without data. Pass data"):
        zoo.open_run(tmp_path / "run", test=(x, Y))


def test_a_classifier_for_numbers_is_rejected_before_it_is_trained():
    prepared = zoo.datasets.load((IMAGES, np.random.default_rng(0).random((60, 3)).astype("float32"))).prepare("mlp")
    for name, allowed in (("probabilities", False), ("logits", False), ("my_values", True)):
        inputs = keras.Input((8, 8, 1))
        outputs = keras.layers.Dense(3, name=name)(keras.layers.Flatten()(inputs))
        objective = prepared.objective
        if allowed:
            objective.check_outputs(keras.Model(inputs, outputs))
        else:
            with pytest.raises(
                zoo.UsageError, match=rf"layer named '{name}', the output of a classifier.*Build it with"
            ):
                objective.check_outputs(keras.Model(inputs, outputs))
