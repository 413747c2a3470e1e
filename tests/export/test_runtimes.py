"""Other runtimes really run: their outputs are compared, unsupported models are reported, and crashes are contained."""

from __future__ import annotations

import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from zoo import storage
from zoo.errors import UsageError
from zoo.export import verification
from zoo.export.runtimes import c_api, comparison
from zoo.export.verification import Verification, questions, verify

needs_compiler = pytest.mark.skipif(c_api.missing() is not None, reason="needs a C compiler")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """An artifact that declares OpenVINO."""
    prepared = zoo.datasets.load("digits").prepare("mlp", hidden_units=(8,), input_shape=(8, 8, 1))
    base = tmp_path_factory.mktemp("runtimes") / "digits"
    return zoo.export.save(prepared.build(seed=0), base, interface=prepared.interface, runtimes=("openvino",))


def lines(verification):
    return {check.name: check for check in verification.checks}


def foreign(function, path, name="serving_default"):
    module = tf.Module()
    module.function = function
    tf.saved_model.save(module, str(path), signatures={name: function})
    return path


def signature(*specs):
    return tf.function(autograph=False, input_signature=list(specs))


# ---------------------------------------------------------------- artifacts


@needs_compiler
def test_every_installed_runtime_agrees(saved):
    verdict = verify(saved)
    assert verdict.passed, verdict.table()
    assert verdict.runtimes == dict.fromkeys(("openvino", "onnxruntime", "litert", "c_api"), "agrees")
    assert set(verdict.runtime) == {"tensorflow", "python", "openvino", "onnxruntime", "litert", "c_api"}
    seen = lines(verdict)
    asked = ["C API features", "C API predict", "C API serving_default", "C API top_k"]
    for name in ("OpenVINO predict", "ONNX Runtime predict", "LiteRT predict", *asked):
        assert seen[name].passed and seen[name].difference < 1e-5, name
        assert "batches of 64 and 3" in seen[name].detail
    for name in ("serving_default", "top_k", "OpenVINO predict", "LiteRT predict", "C API serving_default"):
        assert seen[f"{name}, accuracy"].passed and " correct, trained model " in seen[f"{name}, accuracy"].detail, name


def test_runtimes_requested_at_export_are_recorded(saved):
    verdict = Verification.read(saved)
    assert verdict.runtimes == {"openvino": "agrees"}
    assert lines(verdict)["OpenVINO predict"].passed


def test_a_runtime_with_different_outputs_fails(saved):
    asked = questions(saved)
    (name, values), *_ = asked["predict"].outputs.items()
    moved = values.copy()
    moved[5, 2] += 0.001
    wrong = {"predict": comparison.Question(asked["predict"].inputs, {name: moved})}
    outcome = comparison.compare("openvino", saved, wrong, "predict", [], promised=False)
    assert outcome.state == "differs"
    (check,) = outcome.checks
    assert check.passed is False and check.difference == pytest.approx(0.001, rel=1e-2)
    assert check.detail.startswith("differs in probabilities at batch 64")


def test_unsupported_strings_fail_only_if_the_runtime_is_required(saved):
    asked = questions(saved)
    for promised, passed in ((False, None), (True, False)):
        outcome = comparison.compare("onnxruntime", saved, asked, "serving_default", [], promised)
        assert outcome.state == "cannot be converted"
        assert outcome.checks[0].passed is passed
        assert "serving_default has strings as inputs or outputs (image_bytes, class_name)" in outcome.checks[0].detail


def test_a_runtime_that_returns_fewer_rows_fails(saved):
    """The output must have exactly as many rows as the input."""
    question = questions(saved)["predict"]
    (name, values), *_ = question.outputs.items()
    for given, passed in (({64: values, 3: values[:16]}, True), ({64: values[:5], 3: values[:16]}, False)):
        answers = {size: {name: rows} for size, rows in given.items()}
        for answered in (answers, {64: answers[64]}):
            outcome = comparison.judged(
                "openvino", saved, {"predict": question}, {"version": "1", "answers": {"predict": answered}}, True
            )
            assert (outcome.state == "agrees") is (passed and len(answered) == 2)


def test_a_model_that_loads_but_cannot_run_fails(saved, tmp_path):
    asked = questions(saved)["predict"]
    odd = {name: value[:, :5] for name, value in asked.inputs.items()}
    answered = comparison._converted("openvino", saved, "predict", comparison.Question(odd, asked.outputs), tmp_path)
    assert answered["error"].startswith("was converted and loaded, but fails when it runs: ")
    outcome = comparison.judged("openvino", saved, {"predict": asked}, answered, promised=False)
    assert outcome.state == "differs" and outcome.checks[0].passed is False


def test_a_missing_runtime_fails_only_if_requested(saved, monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler")
    for named, passed in ((False, None), (True, False)):
        (check,), states, _ = verification._check_runtimes(saved, {"c_api": True}, named)
        assert check.passed is passed and states == {"c_api": "not installed"}
        message = "agreed at the export, but is not installed here, so nothing was compared ("
        assert check.detail.startswith(message) is not named
    with pytest.raises(UsageError, match=r"C API cannot run on this machine: no C compiler.*leave c_api out"):
        zoo.export.save(None, saved.parent, interface=None, runtimes=["c_api"])  # before any argument is used


def test_message_reports_a_missing_compiler(saved, monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler")
    asked = questions(saved)
    for promised, passed in ((False, None), (True, False)):
        outcome = comparison.compare("c_api", saved, asked, "predict", [], promised)
        assert (outcome.state, outcome.checks[0].passed) == ("not installed", passed)
        assert outcome.checks[0].detail == "no C compiler; install one, or set CC to its path"


def test_unknown_runtime_names_are_rejected_first(saved):
    with pytest.raises(UsageError, match=r"Unknown runtime 'onnx'. Did you mean 'onnxruntime'"):
        verify(saved, runtimes=["onnx"])


def test_a_missing_python_fails_verification(saved):
    verdict = verify(saved, runtimes=(), python="/nowhere/python")
    assert not verdict.passed
    assert lines(verdict)["replay in a clean process"].detail == "cannot run /nowhere/python: No such file or directory"


@pytest.mark.parametrize(
    ("source", "told", "loaded"),
    [
        ("import os; os.abort()", "ended by SIGABRT", False),
        ("import os; print('LOADED', flush=True); os.abort()", "ended by SIGABRT", True),
        ("import sys; sys.exit('no such op')", "exit status 1: no such op", False),
        ("import time; time.sleep(60)", "no answer after 2 seconds", False),
        ("print('something else')", "exit status 0: no message", False),
    ],
)
def test_converters_that_crash_or_hang_are_reported(tmp_path, monkeypatch, source, told, loaded):
    script = tmp_path / "converter.py"
    script.write_text(source)
    monkeypatch.setattr(comparison, "TIME_LIMIT", 2.0)
    outcome = comparison.run_script(script, [], "WORKER ")
    assert outcome["error"].startswith(told) and outcome["loaded"] is loaded


# ---------------------------------------------------------------- third-party SavedModels


def test_a_third_party_savedmodel_is_checked_partially(tmp_path):
    kernel = tf.constant(np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32))

    @signature(tf.TensorSpec([None, 3], tf.float32, "x"))
    def gelu(x):
        return {"y": tf.nn.gelu(x @ kernel, approximate=False)}

    verdict = verify(foreign(gelu, tmp_path / "gelu"), runtimes=["openvino"])
    assert verdict.passed and not verdict.proof, verdict.table()
    seen = lines(verdict)
    assert seen["serving_default y, batch 4 and 2"].passed
    assert seen["OpenVINO serving_default"].difference < 1e-5
    assert seen["serving_default, empty batch"].detail == "returned [0] rows"
    assert "all possible checks passed; no training proof is available" in verdict.table().splitlines()[-1]


def test_dangerous_savedmodels_are_not_run(tmp_path):
    trace = tmp_path / "trace"

    @signature(tf.TensorSpec([None], tf.string, "text"))
    def writes(text):
        tf.io.write_file(str(trace), "x")
        return {"text": text}

    verdict = verify(foreign(writes, tmp_path / "evil"))
    assert not verdict.passed and not trace.exists()
    assert "WriteFile writes files (node WriteFile in function" in lines(verdict)["ops"].detail
    assert "FAILED; no training proof is available" in verdict.table()


@pytest.mark.slow
def test_a_nondeterministic_savedmodel_fails(tmp_path):
    @signature(tf.TensorSpec([None, 2], tf.float32, "x"))
    def noisy(x):
        return {"y": x + tf.random.uniform(tf.shape(x))}

    verdict = verify(foreign(noisy, tmp_path / "noisy"), runtimes=())
    assert lines(verdict)["serving_default y, batch 4 and 2"].passed is False


@pytest.mark.slow
def test_keras_exports_fixed_batches_and_texts_are_verified(tmp_path):
    inputs = keras.Input((20, 4))
    model = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.GRU(6)(inputs)))
    model.export(str(tmp_path / "keras"), verbose=False)
    verdict = verify(tmp_path / "keras")
    assert verdict.passed, verdict.table()
    assert verdict.runtimes["openvino"] == verdict.runtimes["onnxruntime"] == "agrees"

    @signature(tf.TensorSpec([2, 3], tf.float32, "x"))
    def fixed(x):
        return {"y": x * 2.0}

    verdict = verify(foreign(fixed, tmp_path / "fixed"))
    assert verdict.passed, verdict.table()
    assert "has no other batch size" in lines(verdict)["serving_default"].detail
    assert lines(verdict)["note"].detail.endswith("has a fixed batch")

    @signature(tf.TensorSpec([None], tf.string, "text"))
    def upper(text):
        return {"upper": tf.strings.upper(text)}

    verdict = verify(foreign(upper, tmp_path / "upper"))
    assert verdict.passed and verdict.runtimes["openvino"] == "cannot be converted"
    assert c_api.missing() or verdict.runtimes["c_api"] == "agrees"


@pytest.mark.slow
def test_inputs_without_a_batch_and_with_unusual_names_are_verified(tmp_path):
    @signature(tf.TensorSpec([], tf.float32, "file"), tf.TensorSpec([], tf.float32, "x"))
    def scalar(file, x):
        return {"y": file * x}

    verdict = verify(foreign(scalar, tmp_path / "scalar"))
    assert verdict.passed, verdict.table()
    assert set(verdict.runtimes.values()) <= {"agrees", "cannot be converted", "not installed"}
    assert c_api.missing() or verdict.runtimes["c_api"] == "agrees"


@pytest.mark.slow
@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("name", ["saved_model.pb", "zoo.json", "golden.npz", "verification.json", "SHA256SUMS"])
def test_a_flipped_byte_anywhere_fails_verification(saved, tmp_path, name, place):
    """The verdict reports the failure; no exception is raised."""
    copy = Path(shutil.copytree(saved, tmp_path / "1"))
    file = copy / name if name == "saved_model.pb" else copy / "assets.extra" / name
    content = bytearray(file.read_bytes())
    content[int(place * len(content))] ^= 0x11
    file.write_bytes(content)
    verdict = verify(copy, runtimes=())
    assert not verdict.passed and lines(verdict)["SHA256SUMS"].passed is False


# ---------------------------------------------------------------- all families

FAMILIES = {
    "cnn": ("digits", {"filters": (4,), "dense_units": None}),
    "lstm": ("digit_rows", {"units": (8,)}),
    "attention": ("digit_rows", {}),
    "embedding_lstm": ("commands", {"embedding_dim": 8, "lstm_units": 8}),
    "transformer": ("commands", {"embedding_dim": 8, "num_heads": 2, "feed_forward_dim": 8, "num_layers": 1}),
    "rnn": ("tagged_commands", {"embedding_dim": 8, "rnn_units": 8}),
    "seq2seq_rnn": ("number_words", {"embedding_dim": 8, "rnn_units": 8}),
    "matrix_factorization": ("tastes", {}),
    "mlp": ("pastimes", {"number_embedding": "waves", "members": 4}),
    "wide_deep": ("pastimes", {}),
    "ft_transformer": ("pastimes", {}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_runs_in_every_runtime(name, tmp_path):
    data, arguments = FAMILIES[name]
    prepared = zoo.datasets.load(data).prepare(name, **arguments)
    path = zoo.export.save(prepared.build(seed=0), tmp_path / name, interface=prepared.interface)
    verdict = verify(path)
    assert verdict.passed, verdict.table()
    assert {verdict.runtimes[runtime] for runtime in ("openvino", "onnxruntime", "c_api")} <= {
        "agrees",
        "not installed",
    }
    assert verdict.runtimes["litert"] in ("agrees", "cannot be converted", "not installed")


@pytest.mark.slow
def test_runtimes_that_agreed_at_export_must_still_agree(saved, tmp_path):
    """The weights change while the sums stay valid: every runtime that agreed must now disagree."""
    copy = Path(shutil.copytree(saved, tmp_path / "1"))
    file = copy / "assets.extra" / "verification.json"
    content = storage.read_json(file)
    content["runtimes"] = {"litert": "agrees", "onnxruntime": "cannot be converted"}
    storage.write_json(file, content)
    facts = storage.read_json(copy / "assets.extra" / "zoo.json")
    storage.write_json(copy / "assets.extra" / "zoo.json", facts | {"portable_signature": "serving_default"})
    seen = lines(verify(copy))
    assert seen["LiteRT serving_default"].passed is False
    assert seen["ONNX Runtime serving_default"].passed is None
