"""Forms of an export: a new form is a single object, and a trace does not depend on when it is made."""

from __future__ import annotations

import contextlib
import shutil

import keras
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf

import zoo
from zoo import storage
from zoo.errors import UsageError
from zoo.export.graph import forms, signatures
from zoo.export.verification import Verification


def to_bfloat16(model, kept):
    weights = [w.astype(ml_dtypes.bfloat16).astype(w.dtype) if w.dtype.kind == "f" else w for w in model.get_weights()]
    return forms.Content(model.get_config(), weights, detail="rounded to bfloat16")


ROUNDED = forms.Form("bfloat16", 0.02, "weights have 8 bits of precision", write=to_bfloat16)


@pytest.fixture(scope="module")
def digits():
    """A trained model with its data."""
    prepared = zoo.datasets.load("digits").prepare("mlp", hidden_units=(16,), input_shape=(8, 8, 1))
    keras.utils.set_random_seed(0)
    model = prepared.build()
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    model.fit(prepared.keras_batches("train", 64, seed=0), epochs=6, verbose=0, shuffle=False)
    return model, prepared.interface


@pytest.fixture(scope="module")
def rounded(digits, tmp_path_factory):
    """The artifact of a custom form."""
    folder = tmp_path_factory.mktemp("forms") / "rounded"
    return zoo.export.save(digits[0], folder, interface=digits[1], forms=[ROUNDED], runtimes=["openvino"])


def test_a_custom_form_is_exported_and_verified(digits, rounded):
    (model, _), path = digits, rounded
    facts = storage.read_json(path / "assets.extra" / "zoo.json")
    assert facts["form"] == {
        "name": "bfloat16",
        "weights": "rounded to bfloat16",
        "tolerance": 0.02,
        "reason": "weights have 8 bits of precision",
    }
    verdict = Verification.read(path)
    assert verdict.passed, verdict.table()
    seen = {check.name: check for check in verdict.checks}
    assert seen["weights"].detail == "4 tensors, identical to the trained model's rounded to bfloat16"
    assert seen["form"].detail == "bfloat16 allows outputs to differ by 0.02: weights have 8 bits of precision"
    moved = seen["predict probabilities, batch 64"]
    assert moved.allowed == 0.02 and forms.ROUNDING < moved.difference < 0.02
    assert seen["OpenVINO predict"].passed and seen["OpenVINO predict"].allowed == 0.02
    loaded = tf.saved_model.load(str(path))
    for held, weight in zip(loaded.model_weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(held.numpy(), weight.astype(ml_dtypes.bfloat16).astype("float32"))


STRICT = forms.Form("strict", forms.ROUNDING, "", write=to_bfloat16)


@pytest.mark.slow
def test_a_form_that_exceeds_its_tolerance_is_not_published(digits, tmp_path):
    with pytest.raises(
        UsageError, match=r"not published, because its verification failed: .*probabilities, batch 64: large"
    ):
        zoo.export.save(digits[0], tmp_path / "none", interface=digits[1], forms=[STRICT])
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
def test_the_next_form_replaces_one_that_exceeds_its_tolerance(digits, tmp_path):
    path = zoo.export.save(digits[0], tmp_path / "next", interface=digits[1], forms=[STRICT, forms.SERVED])
    assert storage.read_json(path / "assets.extra" / "zoo.json")["form"]["name"] == "served"
    assert [p.name for p in path.parent.iterdir()] == ["1"]


@pytest.mark.parametrize("tolerance", [0.0, 1.0, -1e-5, float("nan"), float("inf")])
def test_a_meaningless_tolerance_is_rejected(tolerance, digits, tmp_path):
    with pytest.raises(
        UsageError, match=r"form 'x' has the tolerance .*expected more than 0 and less than 1. Pass 1e-05"
    ):
        forms.Form("x", tolerance, "")


def test_a_meaningless_tolerance_in_an_artifact_fails_verification(rounded, tmp_path):
    path = shutil.copytree(rounded, tmp_path / "saved" / "1")
    file = path / "assets.extra" / "zoo.json"
    facts = storage.read_json(file)
    storage.write_json(file, facts | {"form": facts["form"] | {"tolerance": 2.0}})
    seen = {check.name: check for check in zoo.export.verify(path, runtimes=()).checks}
    assert seen["replay in a clean process"].passed is False
    message = "the tolerance in zoo.json is 2.0; expected more than 0 and less than 1"
    assert message in seen["replay in a clean process"].detail


@pytest.fixture(scope="module")
def recurrent():
    prepared = zoo.datasets.load("digit_rows").prepare("lstm", units=(6,))
    return prepared.build(seed=0), prepared.interface


def traced(model, interface, folder, form):
    folder.mkdir()
    labels = folder / "labels.txt"
    labels.write_text("".join(f"{name}\n" for name in interface.class_names))
    return signatures.served_model(model, interface, folder, labels, form)


def ops_of(function):
    graph = function.graph.as_graph_def()
    return {node.op for node in [*graph.node, *(n for f in graph.library.function for n in f.node_def)]}


def test_only_the_portable_form_has_exclusively_portable_ops(recurrent, tmp_path):
    module, functions = traced(*recurrent, tmp_path / "portable", forms.PORTABLE)
    assert "predict_portable" not in functions, "predict is the same"
    assert not any("BlockLSTM" in ops_of(function) for function in functions.values())
    assert module.packed_weights == [[]]
    _, functions = traced(*recurrent, tmp_path / "served", forms.SERVED)
    assert [name for name in functions if "BlockLSTM" not in ops_of(functions[name])] == ["predict_portable"]


def test_layers_are_changed_only_during_a_trace(recurrent):
    layer = next(layer for layer in recurrent[0]._flatten_layers() if hasattr(layer, "pack_weights"))
    packed = [tf.Variable(w) for w in layer.pack_weights()]
    before = layer.form, layer.packed
    with contextlib.suppress(RuntimeError), forms.SERVED.prepared([layer], [packed]):
        assert layer.form == "shared" and len(layer.packed) == 2
        with forms.PORTABLE.prepared([layer], [packed]):
            assert (layer.form, layer.packed) == ("portable", None)
        assert layer.form == "shared" and len(layer.packed) == 2
        raise RuntimeError("a trace that fails")
    assert (layer.form, layer.packed) == before == ("live", None)


def test_message_names_an_op_that_the_form_excludes(recurrent, tmp_path):
    form = forms.Form("no fused ops", 1e-5, "", excluded_ops=frozenset({"BlockLSTM"}))
    with pytest.raises(
        UsageError, match=r"contains BlockLSTM, which the form 'no fused ops' excludes. Change the layer"
    ):
        traced(*recurrent, tmp_path / "sources", form)
