"""Exports that are not published, and paths that are not changed."""

from __future__ import annotations

import dataclasses
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from zoo import lookup
from zoo.errors import UsageError
from zoo.export import publishing
from zoo.export.graph import signatures
from zoo.export.verification import Verification


def hidden(base):
    return sorted(p.name for p in base.iterdir() if p.name.startswith("."))


# ---------------------------------------------------------------- rejected exports


def assert_rejected(model, interface, base, message):
    with pytest.raises(UsageError, match=message):
        zoo.export.save(model, base, interface=interface)
    assert not base.exists()


def test_a_copy_that_differs_and_wrong_labels_in_the_graph_are_not_published(model, prepared, tmp_path, monkeypatch):
    copied, read = signatures.served_copy, lookup.lines_by_number

    def perturbed(*arguments):
        copy = copied(*arguments)
        copy.set_weights([w + 1e-3 for w in copy.get_weights()])
        return copy

    def reversed_table(file, default):
        lines = file.read_text().splitlines()
        file.write_text("".join(f"{line}\n" for line in lines[::-1]))
        return read(file, default)

    monkeypatch.setattr(signatures, "served_copy", perturbed)
    monkeypatch.setattr(lookup, "lines_by_number", reversed_table)
    with pytest.raises(UsageError, match=r"not published, because its verification failed: ") as error:
        zoo.export.save(model, tmp_path / "new", interface=prepared.interface)
    for message in (
        r"predict probabilities, batch 64: largest difference 0\.",
        r"class_name, batch 64: 64 of 64 differ",
        r"weights: 4 tensors, different",
        r"labels: line 1 is '9'",
    ):
        assert re.search(message, str(error.value)), str(error.value)
    assert not (tmp_path / "new").exists()


def test_the_graph_does_not_contain_its_path(base):
    """By default, the table of a file is named after the path of the file."""
    content = (base / "1" / "saved_model.pb").read_bytes()
    assert not [part for part in base.absolute().parts[1:] if len(part) > 3 and part.encode() in content]


def test_a_model_that_outputs_nan_is_not_published(model, prepared, report, tmp_path):
    broken = prepared.build()
    broken.set_weights([w * np.nan for w in model.get_weights()])
    with pytest.raises(UsageError, match="probabilities, batch 64: has values that are not finite"):
        zoo.export.save(
            broken, tmp_path / "new", interface=prepared.interface, report={**report, "log_loss": float("nan")}
        )
    assert not (tmp_path / "new").exists()


@keras.saving.register_keras_serializable("test_export")
class CallsPython(keras.layers.Layer):
    def call(self, x):
        return tf.ensure_shape(tf.numpy_function(lambda a: a, [x], x.dtype), x.shape)


def test_models_that_other_runtimes_cannot_serve_are_not_published(digits, prepared, tmp_path):
    inputs = keras.Input((8, 8, 1), name="image", dtype="float64")
    x = keras.layers.Flatten(dtype="float64")(inputs)
    x = CallsPython(dtype="float64")(x)
    x = keras.layers.Identity(name="features", dtype="float64")(x)
    outputs = keras.layers.Dense(10, "softmax", dtype="float64", name="probabilities")(x)
    with pytest.raises(UsageError) as refused:
        zoo.export.save(keras.Model(inputs, outputs), tmp_path / "new", interface=prepared.interface)
    message = str(refused.value)
    assert "input image of predict is float64, expected one of float32, int32, int64, string" in message
    assert "ops: PyFunc runs Python" in message
    assert "Check which layer uses the op" in message
    assert not (tmp_path / "new").exists()


def test_model_and_interface_must_match(prepared, digits, tmp_path):
    def built(**arguments):
        return zoo.build_mlp_model(**{"input_shape": (8, 8, 1), "num_classes": 10, **arguments})

    assert_rejected(
        built(num_classes=12),
        prepared.interface,
        tmp_path / "new",
        r"has 12 classes, the interface has 10. Pass the interface of the data that the model was trained on",
    )
    assert_rejected(
        built(input_shape=(8, 9, 1)),
        prepared.interface,
        tmp_path / "new",
        r"takes \[8, 9, 1\], but the interface's preprocessor returns \[8, 8, 1\]. Pass the interface of the data",
    )
    examples = dataclasses.replace(prepared.interface.examples, requests={"image_bytes": np.zeros(0, object)})
    assert_rejected(
        built(),
        dataclasses.replace(prepared.interface, examples=examples),
        tmp_path / "new",
        r"The interface has no examples, so nothing could be verified. Use data with a test split",
    )


def test_unsupported_models_are_rejected(prepared, tmp_path):
    class Subclassed(keras.Model):
        def call(self, x):
            return x

    image = keras.Input((8, 8, 1), name="image")
    flat = keras.layers.Flatten()(image)
    first = keras.layers.Dense(10, name="first")(flat)
    second = keras.layers.Dense(10, name="second")(flat)
    sequential = keras.Sequential([image, keras.layers.Flatten(), keras.layers.Dense(10)])
    for model in (Subclassed(), sequential):
        kind = type(model).__name__
        message = rf"needs a Functional Keras model, .*; received a {kind}. For a Sequential, pass keras.Model\(model"
        assert_rejected(model, prepared.interface, tmp_path / "new", message)
    assert_rejected(
        keras.Model(image, keras.layers.Dense(10, name="probabilities")(flat)),
        prepared.interface,
        tmp_path / "new",
        r"has no layer 'features', which every 'mlp' has. Name the layer before the last 'features', or pass a model that",
    )
    assert_rejected(
        keras.Model([image, keras.Input((8, 8, 1))], first),
        prepared.interface,
        tmp_path / "new",
        r"takes {'image': \[8, 8, 1\], .*}, but the interface's preprocessor returns {'image': \[8, 8, 1\]}",
    )
    assert_rejected(
        keras.Model(image, [first, second]),
        prepared.interface,
        tmp_path / "new",
        r"has the outputs \['first', 'second'\]",
    )


@pytest.mark.parametrize("name", ["", "two\nlines", "carriage\rreturn"])
def test_class_names_that_labels_txt_cannot_store_are_rejected(model, prepared, tmp_path, name):
    interface = dataclasses.replace(prepared.interface, class_names=("zero", name, *map(str, range(2, 10))))
    assert_rejected(
        model, interface, tmp_path / "new", re.escape(f"The class name {name!r} is empty or has a line break")
    )


def test_message_names_a_layer_without_config(prepared, tmp_path):
    class NoConfig(keras.layers.Layer):
        def __init__(self, factor):
            super().__init__()
            self.factor = factor

        def call(self, x):
            return x * tf.constant(2.0)

    image = keras.Input((8, 8, 1), name="image")
    x = keras.layers.Identity(name="features")(NoConfig(object())(keras.layers.Flatten()(image)))
    assert_rejected(
        keras.Model(image, keras.layers.Dense(10, name="logits")(x), name="odd"),
        prepared.interface,
        tmp_path / "new",
        r"Model 'odd' cannot be rebuilt from its config \(.*\). Pass a Functional Keras model whose layers have",
    )


# ---------------------------------------------------------------- target paths


def test_a_folder_with_other_files_is_not_changed(model, prepared, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(
        UsageError,
        match=r"exists and contains notes.txt, which are not versions of a SavedModel. .*Nothing was changed",
    ):
        zoo.export.save(model, tmp_path, interface=prepared.interface)
    (tmp_path / "notes.txt").rename(tmp_path / "01")  # "01" is not a version: it is never found as `1`
    with pytest.raises(UsageError, match=r"exists and contains 01, which are not versions"):
        zoo.export.save(model, tmp_path, interface=prepared.interface)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("01", "mine")]


def test_unusable_target_paths_are_rejected(model, prepared, base, tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(UsageError, match=r"file exists and is not a folder. Pass another folder for the export"):
        zoo.export.save(model, file, interface=prepared.interface)
    with pytest.raises(
        UsageError, match=r"Cannot write a SavedModel to .*/file/below: .*Not a directory.* pass another"
    ):
        zoo.export.save(model, file / "below", interface=prepared.interface)
    assert file.read_text() == "mine"
    for name in ("lr[0.1]", "a*", "what?", "back\\slash"):
        with pytest.raises(
            UsageError, match=r"contains one of \* \? \[ \\, which TensorFlow interprets as a pattern when it"
        ):
            zoo.export.save(model, tmp_path / name / "digits", interface=prepared.interface)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    with pytest.raises(UsageError, match=r"contains README.md, assets, assets.extra, which are not versions"):
        zoo.export.save(model, base / "1", interface=prepared.interface)


def test_leftovers_are_removed_only_for_dead_processes(model, prepared, tmp_path):
    base = tmp_path / "digits"
    (base / ".writing-12345" / "variables").mkdir(parents=True)
    with publishing.hidden_folder(base) as living:
        assert hidden(base) == [living.name]
        (living / "file").touch()
        (base / ".writing-67890").mkdir()
        saved = zoo.export.save(model, base, interface=prepared.interface)
        assert (living / "file").exists()
        assert sorted(p.name for p in base.iterdir()) == [living.name, "1"]
    assert [p.name for p in base.iterdir()] == ["1"]
    assert Verification.read(saved).passed


def test_used_version_numbers_are_skipped(base, tmp_path):
    target = tmp_path / "digits"
    for taken in ("1", "3"):
        (target / taken).mkdir(parents=True)
        (target / taken / "file").touch()
    (target / "2").touch()
    written = tmp_path / "written"
    written.mkdir()
    assert publishing.publish(written, target) == target / "4"
