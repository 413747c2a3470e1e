"""Artifacts that were really written: read by a stranger, tampered with, killed, on full disks, two at once.

A replay in a clean process takes seconds, so artifacts are written once and copied by the tests that change them.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import zoo
from zoo import lookup, storage, tasks
from zoo._version import __version__
from zoo.datasets.preprocessing.images import ImagePreprocessor
from zoo.errors import UsageError
from zoo.export import artifact, artifact_paths, live, publishing
from zoo.export.graph import forms, signatures
from zoo.export.standalone import arrays, compare
from zoo.export.verification import Verification, check, verify


@pytest.fixture(scope="module")
def digits():
    return zoo.datasets.load("digits")


@pytest.fixture(scope="module")
def prepared(digits):
    return digits.prepare("mlp", hidden_units=(16,), input_shape=(8, 8, 1))


@pytest.fixture(scope="module")
def model(prepared):
    """Trained for long enough to answer every label."""
    keras.utils.set_random_seed(0)
    model = prepared.build()
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    model.fit(prepared.keras_batches("train", 64, seed=0), epochs=6, verbose=0, shuffle=False)
    return model


@pytest.fixture(scope="module")
def report(model, prepared):
    return zoo.evaluate(model, prepared)


@pytest.fixture(scope="module")
def base(model, prepared, report, tmp_path_factory):
    """Two versions: the trained model with its report, and one with other weights."""
    base = tmp_path_factory.mktemp("exports") / "digits"
    assert zoo.export.save(model, prepared.interface, base, report=report) == base / "1"
    assert zoo.export.save(other_weights(model, prepared), prepared.interface, str(base)) == base / "2"
    return base


@pytest.fixture(scope="module")
def colour(digits, tmp_path_factory):
    """An untrained convolutional network for colour images of another size than the data's."""
    prepared = digits.prepare("cnn", input_shape=(12, 10, 3), filters=(4,), dense_units=None)
    keras.utils.set_random_seed(1)
    return zoo.export.load(
        zoo.export.save(prepared.build(), prepared.interface, tmp_path_factory.mktemp("exports") / "colour")
    )


@pytest.fixture
def copy(base, tmp_path):
    """A copy of version 1 that a test may change."""
    return Path(shutil.copytree(base / "1", tmp_path / "copied" / "1"))


def other_weights(model, prepared):
    other = prepared.build()
    other.set_weights([w * 1.5 for w in model.get_weights()])
    return other


def png(array):
    return encoded(Image.fromarray(array))


def encoded(image, format="PNG", **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def failed(verification):
    return {check.name: check.detail for check in verification.checks if not check.passed}


def golden(version):
    return arrays.load(version / "assets.extra" / "golden.npz")


def hidden(base):
    return sorted(p.name for p in base.iterdir() if p.name.startswith("."))


# ---------------------------------------------------------------- what is written


def test_versions_and_layout(base):
    assert sorted(p.name for p in base.iterdir()) == ["1", "2"]
    for version in (base / "1", base / "2"):
        assert [str(file) for file in artifact_paths.files(version)] == [
            "README.md",
            "assets/labels.txt",
            "assets.extra/golden.npz",
            "assets.extra/request.c",
            "assets.extra/tf_serving_warmup_requests",
            "assets.extra/verification.json",
            "assets.extra/zoo.json",
            "fingerprint.pb",
            "saved_model.pb",
            "variables/variables.data-00000-of-00001",
            "variables/variables.index",
        ]
        assert {p.name for p in version.iterdir() if p.is_dir()} == {"assets", "assets.extra", "variables"}
        assert artifact_paths.check_sums(version) == []


def test_sums_are_read_by_sha256sum(base):
    if shutil.which("sha256sum") is None:
        pytest.skip("needs sha256sum")
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", "assets.extra/SHA256SUMS"], cwd=base / "1", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(": OK\n") == 11


def test_permissions_are_the_usual_ones(base):
    mask = os.umask(0o022)
    os.umask(mask)
    for path in [base / "1", *(base / "1").rglob("*")]:
        assert path.stat().st_mode & 0o777 == (0o777 if path.is_dir() else 0o666) & ~mask, path


def test_zoo_json_says_what_it_is(base, model, report):
    facts = storage.read_json(base / "1" / "assets.extra" / "zoo.json")
    assert facts["model"] == {
        "name": "mlp",
        "arguments": {
            "input_shape": [8, 8, 1],
            "num_classes": 10,
            "hidden_units": [16],
            "activation": "relu",
            "dropout": 0.0,
            "classifier_activation": "softmax",
        },
    }
    assert facts["parameters"] == 64 * 16 + 16 + 16 * 10 + 10
    assert facts["task"] == "image_classification"
    assert facts["class_names"] == [str(n) for n in range(10)]
    assert facts["data"]["name"] == "digits"
    assert facts["data"]["licence"] == "CC BY 4.0"
    assert facts["preprocessor"].items() >= {"kind": "image", "height": 8, "width": 8, "channels": 1}.items()
    image = {"dtype": "string", "shape": [None], "kind": "file", "description": "a whole PNG, JPEG, BMP or GIF file"}
    request, probabilities = {"image_bytes": image}, {"dtype": "float32", "shape": [None, 10]}
    default, top_k = (tasks.get_task("image_classification").signatures[name] for name in ("serving_default", "top_k"))

    def described(signature, **outputs):
        return {name: {**spec, "description": signature.answers[name]} for name, spec in outputs.items()}

    plain = {"kind": "values", "outputs": [], "digits": 4}
    assert facts["signatures"] == {
        "serving_default": {
            "inputs": request,
            "outputs": described(default, class_name={"dtype": "string", "shape": [None]}, probabilities=probabilities),
            "shown": {"kind": "labels", "outputs": ["probabilities"], "digits": 4},
            "golden": {"inputs": "requests", "answers": "serving_default"},
        },
        "predict": {
            "inputs": {"image": {"dtype": "float32", "shape": [None, 8, 8, 1], "kind": "number"}},
            "outputs": {"probabilities": probabilities},
            "shown": plain,
            "golden": {"inputs": "inputs", "answers": "predict"},
        },
        "features": {
            "inputs": request,
            "outputs": {"features": {"dtype": "float32", "shape": [None, 16]}},
            "shown": plain,
            "golden": {"inputs": "requests", "answers": "features"},
        },
        "top_k": {
            "inputs": request,
            "outputs": described(
                top_k,
                class_name={"dtype": "string", "shape": [None, 5]},
                probability={"dtype": "float32", "shape": [None, 5]},
            ),
            "shown": {"kind": "rows", "outputs": ["class_name", "probability"], "digits": 4},
            "golden": {"inputs": "requests", "answers": "top_k"},
        },
    }
    assert facts["portable_signature"] == "predict", "the same ops are the fastest here"
    assert facts["weights_sha256"] == artifact.weights_hash(model)
    assert facts["metrics"]["accuracy"] == report["accuracy"]
    assert facts["baseline"]["accuracy"] == report["baseline"]["accuracy"]
    assert facts["written_by"] == {
        "savedmodel-zoo": __version__,
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "python": ".".join(map(str, sys.version_info[:3])),
    }


def test_weights_hash_follows_the_weights_alone(model, prepared, base):
    same, other = prepared.build(), other_weights(model, prepared)
    same.set_weights(model.get_weights())
    assert artifact.weights_hash(same) == artifact.weights_hash(model) != artifact.weights_hash(other)
    hashes = [storage.read_json(base / v / "assets.extra" / "zoo.json")["weights_sha256"] for v in "12"]
    assert hashes == [artifact.weights_hash(model), artifact.weights_hash(other)]


def test_zoo_json_tells_how_the_model_was_built_not_how_the_data_was_prepared(digits, prepared):
    built = zoo.build_mlp_model(input_shape=(8, 8, 1), num_classes=10, hidden_units=(5,))
    assert artifact._fitting(built, prepared.interface).build["arguments"]["hidden_units"] == [5]


def test_labels_and_model_card(base, report):
    assert (base / "1" / "assets" / "labels.txt").read_text() == "".join(f"{n}\n" for n in range(10))
    card = (base / "1" / "README.md").read_text(encoding="utf-8")
    assert card.startswith("# mlp for digits\n\nFor image classification, 1,210 parameters; exported by savedmodel-zoo")
    assert f"| **accuracy** | {report['accuracy']:.4f} | {report['baseline']['accuracy']:.4f}" in card
    assert "## Measured on the test split" in card
    assert "360 examples." in card
    assert "Licence of the data: CC BY 4.0" in card
    assert "`hidden_units=[16]`" in card
    for row in (
        "| `predict` | `image`: float32 (batch, 8, 8, 1) | `probabilities`: float32 (batch, 10) |",
        "| `features` | `image_bytes`: string (batch), a whole PNG, JPEG, BMP or GIF file "
        "| `features`: float32 (batch, 16) |",
    ):
        assert row in card
    without = (base / "2" / "README.md").read_text(encoding="utf-8")
    assert "Measured" not in without


def test_every_weight_is_stored_once(base, model):
    stored = tf.train.list_variables(str(base / "1" / "variables" / "variables"))
    shapes = [shape for name, shape in stored if name != "_CHECKPOINTABLE_OBJECT_GRAPH"]
    assert shapes == [list(w.shape) for w in model.get_weights()]


def test_golden_examples_are_real_and_cover_every_class(base, digits):
    content = golden(base / "1")
    assert sorted(content) == [
        "answers/features/features",
        "answers/predict/probabilities",
        "answers/serving_default/class_name",
        "answers/serving_default/probabilities",
        "answers/top_k/class_name",
        "answers/top_k/probability",
        "inputs/image",
        "requests/image_bytes",
        "targets/label",
    ]
    assert all(len(value) == 64 for value in content.values())
    assert all(content["answers/top_k/class_name"][:, 0] == content["answers/serving_default/class_name"])
    assert set(content["targets/label"].tolist()) == set(range(10))
    assert set(content["answers/serving_default/class_name"].tolist()) == {str(n).encode() for n in range(10)}
    test = {(e["image"].tobytes(), int(e["label"])) for e in digits.test.as_numpy_iterator()}
    for request, image, target in zip(
        content["requests/image_bytes"], content["inputs/image"], content["targets/label"], strict=True
    ):
        pixels = np.asarray(Image.open(io.BytesIO(request)))
        assert (pixels.tobytes(), int(target)) in test
        np.testing.assert_allclose(image[..., 0], pixels / 255, atol=1e-7)


def test_a_stranger_without_keras_gets_label_and_probabilities(base, digits, model, run_python, tmp_path):
    images = [e["image"][..., 0] for e in digits.test.take(20).as_numpy_iterator()]
    for i, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    card = (base / "1" / "README.md").read_text(encoding="utf-8")
    (request,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    done = run_python(
        """
        import sys
        for name in ("keras", "tf_keras", "zoo"):
            sys.modules[name] = None
        import json, os, pathlib
        import tensorflow as tf
        folder = pathlib.Path(sys.argv[2])
        files = [(folder / f"{i}.png").read_bytes() for i in range(20)]
        answer = tf.saved_model.load(sys.argv[1]).signatures["serving_default"](image_bytes=tf.constant(files))
        for name in ("keras", "zoo"):
            try:
                __import__(name)
            except ImportError:
                pass
            else:
                sys.exit(f"{name} can be imported")
        os.chdir(sys.argv[1])
        exec(sys.argv[3], {})  # the request that the model card shows
        names = [name.decode() for name in answer["class_name"].numpy()]
        print(json.dumps([names, answer["probabilities"].numpy().tolist()]))
        """,
        base / "1",
        tmp_path,
        request.replace("/path/to/image.png", str(tmp_path / "0.png")),
    )
    assert "'class_name': array([b'" in done.stdout
    names, probabilities = json.loads(done.stdout.splitlines()[-1])
    pixels = np.stack([np.asarray(Image.open(tmp_path / f"{i}.png")) for i in range(20)])
    kernel_1, bias_1, kernel_2, bias_2 = (w.astype(np.float64) for w in model.get_weights())
    hidden_layer = np.maximum(pixels.reshape(20, 64) / 255 @ kernel_1 + bias_1, 0)
    scores = np.exp(hidden_layer @ kernel_2 + bias_2)
    expected = scores / scores.sum(1, keepdims=True)
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    assert names == [str(n) for n in expected.argmax(1)]
    assert len(set(names)) > 5


# ---------------------------------------------------------------- verification


def test_the_verdict_on_a_published_artifact(base):
    before = {file: storage.sha256(base / "1" / file) for file in artifact_paths.files(base / "1")}
    verdict = verify(base / "1", runtimes=())
    assert verdict.passed
    assert verdict.failures == ""
    assert verdict.runtime == {"tensorflow": tf.__version__, "python": ".".join(map(str, sys.version_info[:3]))}
    lines = verdict.table().splitlines()
    assert all(line.startswith("ok     ") for line in lines[:-1])
    versions = f"tensorflow {tf.__version__}, python {verdict.runtime['python']}"
    assert lines[-1] == f"{base / '1'}: verified ({versions})"
    table = re.sub(r"(difference|allowed) [-.0-9e]+", r"\1 N", re.sub(" +", " ", verdict.table()))
    right = int(
        (
            golden(base / "1")["answers/serving_default/class_name"].astype(int) == golden(base / "1")["targets/label"]
        ).sum()
    )
    for line in (
        "ok SHA256SUMS 11 files unchanged",
        "ok clean process neither keras nor zoo can be imported there",
        "ok serving_default class_name, batch 64 0 of 64 differ",
        f"ok serving_default, accuracy {right} of 64 right, live model {right}",
        "ok serving_default probabilities, batch 64 largest difference N, allowed N",
        "ok serving_default probabilities, batch 3 largest difference N, allowed N",
        "ok serving_default, empty batch refused with a sentence",
        "ok predict probabilities, batch 64 largest difference N, allowed N",
        "ok features features, batch 3 largest difference N, allowed N",
        "ok weights 4 tensors, bit by bit the live model's",
        "ok labels 10, in the model's order",
        "ok signature contract named, dynamic batch, plain types",
    ):
        assert line in table.splitlines()
    assert all(c.difference < 1e-6 for c in verdict.checks if c.difference is not None)
    assert {file: storage.sha256(base / "1" / file) for file in artifact_paths.files(base / "1")} == before


def test_the_verdict_is_stored_in_the_artifact(base):
    content = storage.read_json(base / "1" / "assets.extra" / "verification.json")
    assert content["passed"] is True
    assert {check["allowed"] is None for check in content["checks"] if check["difference"] is None} == {True}
    assert min(check["allowed"] for check in content["checks"] if check["difference"] is not None) == 1e-5
    read = Verification.read(base / "1")
    assert read.to_dict()["checks"] == content["checks"]
    assert read.path == base / "1"
    assert Verification.read(str(base)).path == base / "2"
    assert len({check.name for check in read.checks}) == len(read.checks) > 10


def test_a_verdict_that_does_not_hold_says_so(base):
    read = Verification.read(base / "1")
    checks = [
        dataclasses.replace(read.checks[0], passed=False, detail="imported keras"),
        dataclasses.replace(read.checks[1], name="numbers", passed=False, difference=0.25, detail="", allowed=0.1),
        *read.checks[2:],
    ]
    verdict = dataclasses.replace(read, checks=tuple(checks))
    assert not verdict.passed
    assert verdict.failures == "clean process: imported keras; numbers: largest difference 0.25, allowed 0.1"
    lines = verdict.table().splitlines()
    assert lines[0].split() == ["FAILED", "clean", "process", "imported", "keras"]
    assert f"{base / '1'}: NOT VERIFIED (" in lines[-1]


def test_replay_finds_changed_answers(copy):
    content = golden(copy)
    content["answers/serving_default/class_name"][7] = b"something else"
    content["answers/serving_default/probabilities"][40, 3] += 3e-5  # beyond the examples of the smaller batch
    content["answers/predict/probabilities"] = content["answers/predict/probabilities"][:, :9]
    content["answers/features/features"] = content["answers/features/features"].astype(np.float64)
    content["answers/nowhere/x"] = np.zeros(3)
    arrays.save(copy / "assets.extra" / "golden.npz", content)
    assert failed(verify(copy, runtimes=())) == {
        "SHA256SUMS": "assets.extra/golden.npz was changed",
        "serving_default class_name, batch 64": "1 of 64 differ",
        "serving_default class_name, batch 3": "1 of 16 differ",
        "serving_default probabilities, batch 64": "",
        "predict probabilities, batch 64": "float32 [64, 10], expected float32 [64, 9]",
        "predict probabilities, batch 3": "float32 [16, 10], expected float32 [16, 9]",
        "features features, batch 64": "float32 [64, 16], expected float64 [64, 16]",
        "features features, batch 3": "float32 [16, 16], expected float64 [16, 16]",
        "nowhere": "missing in the SavedModel",
    }


def test_replay_finds_other_weights_under_right_sums(base, copy):
    shutil.copytree(base / "2" / "variables", copy / "variables", dirs_exist_ok=True)
    artifact_paths.write_sums(copy)
    verdict = verify(copy, runtimes=())
    wrong = failed(verdict)
    assert wrong["weights"] == "4 tensors, not those of the live model"
    assert {"serving_default probabilities, batch 64", "predict probabilities, batch 3"} < set(wrong)
    differences = {c.name: c.difference for c in verdict.checks}
    assert differences["serving_default probabilities, batch 64"] > 1e-3
    assert "SHA256SUMS" not in wrong


def test_replay_finds_labels_in_another_order(copy):
    labels = copy / "assets" / "labels.txt"
    labels.write_text("".join(f"{n}\n" for n in (0, 2, 1, *range(3, 10))))
    artifact_paths.write_sums(copy)
    wrong = failed(check(copy, sums=True))
    assert wrong.pop("labels") == "line 2 is '2', expected '1'; line 3 is '1', expected '2'"
    assert sorted(wrong) == [f"{name} class_name, batch {n}" for name in ("serving_default", "top_k") for n in (3, 64)]


def test_a_flipped_byte_is_found(copy):
    file = copy / "variables" / "variables.data-00000-of-00001"
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(content)
    wrong = failed(verify(copy, runtimes=()))
    assert wrong["SHA256SUMS"] == "variables/variables.data-00000-of-00001 was changed"
    assert "DataLossError" in wrong["replay in a clean process"]
    with pytest.raises(UsageError, match=rf"{copy} cannot be loaded: .*`zoo verify {copy}` says what is wrong"):
        zoo.export.load(copy)


def test_added_and_removed_files_are_found(copy):
    (copy / "assets" / "more.txt").write_text("more")
    (copy / "README.md").unlink()
    assert artifact_paths.check_sums(copy) == ["README.md is missing", "assets/more.txt is not listed"]
    (copy / "assets.extra" / "SHA256SUMS").unlink()
    assert artifact_paths.check_sums(copy) == ["assets.extra/SHA256SUMS is missing"]


def test_a_process_that_is_not_clean_or_dies_is_no_verdict(base, tmp_path, monkeypatch):
    # Python itself imports sitecustomize before anything can be blocked.
    early = tmp_path / "sitecustomize.py"
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    early.write_text("import sys, types\nsys.modules['zoo.early'] = types.ModuleType('zoo.early')\n")
    assert failed(verify(base / "1", runtimes=())) == {"clean process": "imported zoo.early"}
    early.write_text("import os\nos.write(2, b'one line\\nno such library\\n')\nos._exit(7)\n")
    assert failed(verify(base / "1", runtimes=())) == {"replay in a clean process": "exit status 7: no such library"}


@pytest.mark.parametrize("name", ["golden.npz", "zoo.json"])
def test_without_its_proof_there_is_nothing_to_verify(copy, name):
    (copy / "assets.extra" / name).unlink()
    with pytest.raises(UsageError, match=rf"carries no assets.extra/{name}, so there is nothing to compare with"):
        verify(copy, runtimes=())


def test_without_a_verdict_there_is_none_to_read(copy):
    (copy / "assets.extra" / "verification.json").unlink()
    with pytest.raises(UsageError, match=rf"{copy} carries no verdict. `zoo export` writes SavedModels that carry one"):
        Verification.read(copy)


# The comparison itself, on arrays written out.

LABELS = [b"ant", b"bee", b"cat"]


def compared(expected, got):
    rows = compare.compare(
        {k: np.asarray(v) for k, v in expected.items()}, {k: np.asarray(v) for k, v in got.items()}, LABELS, 1e-5
    )
    return {row["output"]: (row["passed"], row["detail"] or row["difference"]) for row in rows}


def answer(probabilities, *names):
    strings = np.empty(len(names), object)
    strings[:] = names
    return {"probabilities": np.array(probabilities, np.float32), "class_name": strings}


def test_comparison_is_relative_above_one_and_absolute_below():
    assert compared({"x": [1000.0]}, {"x": [1000.009]})["x"][0]
    assert not compared({"x": [1000.0]}, {"x": [1000.011]})["x"][0]
    assert compared({"x": [1e-9]}, {"x": [9e-6]})["x"][0]
    assert not compared({"x": [0.0]}, {"x": [1.1e-5]})["x"][0]
    assert compared({"x": np.zeros((0, 3))}, {"x": np.zeros((0, 3))})["x"] == (True, 0.0)


def test_values_that_are_not_finite_are_no_agreement():
    for value in (np.nan, np.inf):
        assert compared({"x": [value]}, {"x": [value]})["x"] == (False, "holds values that are not finite")
        assert compared({"x": [1.0]}, {"x": [value]})["x"] == (False, "holds values that are not finite")


def test_outputs_that_only_one_side_has():
    rows = compared({"x": [1.0]}, {"y": [1.0]})
    assert rows == {"x": (False, "missing in the answer"), "y": (False, "golden.npz holds nothing for it")}


def test_a_label_may_differ_at_a_tie_and_nowhere_else():
    even = [[0.4, 0.4, 0.2]]
    nearly = [[0.4, 0.400001, 0.2]]
    assert compared(answer(even, b"ant"), answer(nearly, b"bee"))["class_name"] == (
        True,
        "1 of 1 differ, 1 of them ties",
    )
    # As probable, but not what these probabilities say: the labels are in the wrong order.
    assert compared(answer(even, b"ant"), answer(even, b"bee"))["class_name"] == (False, "1 of 1 differ")
    assert compared(answer(even, b"ant"), answer(even, b"cat"))["class_name"] == (False, "1 of 1 differ")
    clear = [[0.4, 0.41, 0.19]]
    assert compared(answer(even, b"ant"), answer(clear, b"bee"))["class_name"] == (False, "1 of 1 differ")


# ---------------------------------------------------------------- what is never published


def refuse(model, interface, base, message):
    with pytest.raises(UsageError, match=message):
        zoo.export.save(model, interface, base)
    assert not base.exists()


def test_a_copy_that_differs_is_not_published(model, prepared, tmp_path, monkeypatch):
    honest = signatures.served_copy

    def perturbed(*arguments):
        copied = honest(*arguments)
        copied.set_weights([w + 1e-3 for w in copied.get_weights()])
        return copied

    monkeypatch.setattr(signatures, "served_copy", perturbed)
    refuse(
        model,
        prepared.interface,
        tmp_path / "new",
        r"not published, it failed its verification: .*probabilities, batch 64: largest difference .*weights: 4 tensors, not",
    )


def test_wrong_labels_in_the_graph_are_not_published(model, prepared, tmp_path, monkeypatch):
    honest = lookup.lines_by_number

    def reversed_table(file, default):
        lines = file.read_text().splitlines()
        file.write_text("".join(f"{line}\n" for line in lines[::-1]))
        return honest(file, default)

    monkeypatch.setattr(lookup, "lines_by_number", reversed_table)
    refuse(model, prepared.interface, tmp_path / "new", r"class_name, batch 64: 64 of 64 differ.*labels: line 1 is '9'")


def test_the_graph_does_not_tell_where_it_was_written(base):
    """A table of a file is named after the file's path, if nobody takes care."""
    content = (base / "1" / "saved_model.pb").read_bytes()
    assert not [part for part in base.absolute().parts[1:] if len(part) > 3 and part.encode() in content]


def test_a_model_that_answers_nan_is_not_published(model, prepared, report, tmp_path):
    broken = prepared.build()
    broken.set_weights([w * np.nan for w in model.get_weights()])
    with pytest.raises(UsageError, match="probabilities, batch 64: holds values that are not finite"):
        zoo.export.save(broken, prepared.interface, tmp_path / "new", report={**report, "log_loss": float("nan")})
    assert not (tmp_path / "new").exists()


@keras.saving.register_keras_serializable("test_export")
class CallsPython(keras.layers.Layer):
    def call(self, x):
        return tf.ensure_shape(tf.numpy_function(lambda a: a, [x], x.dtype), x.shape)


def test_what_other_runtimes_cannot_serve_is_not_published(digits, prepared, tmp_path):
    inputs = keras.Input((8, 8, 1), name="image", dtype="float64")
    x = keras.layers.Flatten(dtype="float64")(inputs)
    x = CallsPython(dtype="float64")(x)
    x = keras.layers.Identity(name="features", dtype="float64")(x)
    outputs = keras.layers.Dense(10, "softmax", dtype="float64", name="probabilities")(x)
    with pytest.raises(UsageError) as refused:
        zoo.export.save(keras.Model(inputs, outputs), prepared.interface, tmp_path / "new")
    message = str(refused.value)
    assert "input image of predict is float64, expected one of float32, int32, int64, string" in message
    assert "ops: PyFunc runs Python" in message
    assert "Check which layer the op belongs to" in message
    assert not (tmp_path / "new").exists()


def test_model_and_interface_must_belong_together(prepared, digits, tmp_path):
    def built(**arguments):
        return zoo.build_mlp_model(**{"input_shape": (8, 8, 1), "num_classes": 10, **arguments})

    refuse(
        built(num_classes=12),
        prepared.interface,
        tmp_path / "new",
        r"answers 12 classes, the interface names 10. Pass the interface of the data that the model was trained on",
    )
    refuse(
        built(input_shape=(8, 9, 1)),
        prepared.interface,
        tmp_path / "new",
        r"takes \[8, 9, 1\], the interface's preprocessor makes \[8, 8, 1\]. Pass the interface of the data",
    )
    examples = dataclasses.replace(prepared.interface.examples, requests={"image_bytes": np.zeros(0, object)})
    refuse(
        built(),
        dataclasses.replace(prepared.interface, examples=examples),
        tmp_path / "new",
        r"The interface holds no examples, so that nothing could be verified. Use data with a test split",
    )


def test_models_that_cannot_be_exported(prepared, tmp_path):
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
        message = rf"takes a Functional Keras model, .*; received a {kind}. Pass keras.Model\(model"
        refuse(model, prepared.interface, tmp_path / "new", message)
    refuse(
        keras.Model(image, keras.layers.Dense(10, name="probabilities")(flat)),
        prepared.interface,
        tmp_path / "new",
        r"has no layer 'features', which every 'mlp' has. Pass the model that prepared.build\(\) or zoo.build\('mlp', ",
    )
    refuse(
        keras.Model([image, keras.Input((8, 8, 1))], first),
        prepared.interface,
        tmp_path / "new",
        r"takes {'image': \[8, 8, 1\], .*}, the interface's preprocessor makes {'image': \[8, 8, 1\]}",
    )
    refuse(
        keras.Model(image, [first, second]),
        prepared.interface,
        tmp_path / "new",
        r"has the outputs \['first', 'second'\]",
    )


@pytest.mark.parametrize("name", ["", "two\nlines", "carriage\rreturn"])
def test_class_names_that_labels_txt_cannot_hold(model, prepared, tmp_path, name):
    interface = dataclasses.replace(prepared.interface, class_names=("zero", name, *map(str, range(2, 10))))
    refuse(model, interface, tmp_path / "new", re.escape(f"The class name {name!r} is empty or has a line break"))


def test_a_layer_without_config_is_named(prepared, tmp_path):
    class NoConfig(keras.layers.Layer):
        def __init__(self, factor):
            super().__init__()
            self.factor = factor

        def call(self, x):
            return x * tf.constant(2.0)

    image = keras.Input((8, 8, 1), name="image")
    x = keras.layers.Identity(name="features")(NoConfig(object())(keras.layers.Flatten()(image)))
    refuse(
        keras.Model(image, keras.layers.Dense(10, name="logits")(x), name="odd"),
        prepared.interface,
        tmp_path / "new",
        r"Model 'odd' cannot be rebuilt from its config \(.*\). Pass a Functional Keras model whose layers have",
    )


# ---------------------------------------------------------------- where it goes


def test_a_folder_with_something_else_is_left_alone(model, prepared, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(
        UsageError, match=r"exists and holds notes.txt, no versions of a SavedModel. .*nothing was changed"
    ):
        zoo.export.save(model, prepared.interface, tmp_path)
    (tmp_path / "notes.txt").rename(tmp_path / "01")  # no version either: nobody finds it as `1`
    with pytest.raises(UsageError, match=r"exists and holds 01, no versions"):
        zoo.export.save(model, prepared.interface, tmp_path)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("01", "mine")]


def test_paths_that_cannot_be_folders(model, prepared, base, tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(UsageError, match=r"file exists and is not a folder. Pass another folder to export to"):
        zoo.export.save(model, prepared.interface, file)
    with pytest.raises(
        UsageError, match=r"Cannot write a SavedModel to .*/file/below: .*Not a directory.* pass another"
    ):
        zoo.export.save(model, prepared.interface, file / "below")
    assert file.read_text() == "mine"
    for name in ("lr[0.1]", "a*", "what?", "back\\slash"):
        with pytest.raises(
            UsageError, match=r"has one of \* \? \[ \\ in it, which TensorFlow takes for a pattern when it"
        ):
            zoo.export.save(model, prepared.interface, tmp_path / name / "digits")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    with pytest.raises(UsageError, match=r"holds README.md, assets, assets.extra, no versions"):
        zoo.export.save(model, prepared.interface, base / "1")


def test_leftovers_of_the_dead_are_cleared_and_the_living_left_alone(model, prepared, tmp_path):
    base = tmp_path / "digits"
    (base / ".writing-12345" / "variables").mkdir(parents=True)
    with publishing.hidden_folder(base) as living:
        assert hidden(base) == [living.name]
        (living / "file").touch()
        (base / ".writing-67890").mkdir()
        saved = zoo.export.save(model, prepared.interface, base)
        assert (living / "file").exists()
        assert sorted(p.name for p in base.iterdir()) == [living.name, "1"]
    assert [p.name for p in base.iterdir()] == ["1"]
    assert Verification.read(saved).passed


def test_a_number_that_is_taken_is_left_out(base, tmp_path):
    target = tmp_path / "digits"
    for taken in ("1", "3"):
        (target / taken).mkdir(parents=True)
        (target / taken / "file").touch()
    (target / "2").touch()
    written = tmp_path / "written"
    written.mkdir()
    assert publishing.publish(written, target) == target / "4"


# ---------------------------------------------------------------- requests


def pictures():
    """A picture in every kind of file that is promised, with the array that it stands for."""
    rng = np.random.default_rng(0)

    def noise(*shape):
        return rng.integers(0, 256, (9, 7, *shape), np.uint8)

    grey, colour = Image.fromarray(noise()), Image.fromarray(noise(3))
    palette = colour.quantize(16)
    deep = rng.integers(0, 65536, (9, 7), np.uint16)
    other = Image.fromarray(noise(3)).quantize(8)
    # A JPEG is not what was put into it, so these change slowly; a difference of a level or two stays.
    slope = np.add.outer(np.arange(64), np.arange(48))[..., None]
    smooth = Image.fromarray((slope * [1, 2, 0.5]).astype(np.uint8))
    transparent, grey_transparent = Image.fromarray(noise(4)), Image.fromarray(noise(2), "LA")
    black_and_white = grey.convert("1")
    return {
        "PNG, grey": (encoded(grey), grey),
        "PNG, colour": (encoded(colour), colour),
        "PNG, colour and alpha": (encoded(transparent), transparent),
        "PNG, grey and alpha": (encoded(grey_transparent), grey_transparent),
        "PNG, palette": (encoded(palette), palette.convert("RGB")),
        "PNG, palette with a transparent colour": (encoded(palette, transparency=3), palette.convert("RGB")),
        "PNG, 16 bits": (encoded(Image.fromarray(deep)), Image.fromarray((deep >> 8).astype(np.uint8))),
        "PNG, 1 bit": (encoded(black_and_white), black_and_white.convert("L")),
        "JPEG, colour": (encoded(smooth, "JPEG", quality=95), smooth),
        "JPEG, grey": (encoded(smooth.convert("L"), "JPEG", quality=95), smooth.convert("L")),
        "JPEG, progressive": (encoded(smooth, "JPEG", quality=95, progressive=True), smooth),
        "BMP, colour": (encoded(colour, "BMP"), colour),
        "BMP, grey": (encoded(grey, "BMP"), grey),
        "BMP, colour and alpha": (encoded(transparent, "BMP"), transparent),
        "GIF": (encoded(palette, "GIF"), palette.convert("RGB")),
        "GIF, its first frame": (encoded(palette, "GIF", save_all=True, append_images=[other]), palette.convert("RGB")),
    }


@pytest.fixture(scope="module")
def grey(base):
    return zoo.export.load(base / "1")


@pytest.mark.parametrize("kind", list(pictures()))
def test_every_kind_of_picture_is_answered_as_the_preprocessor_sees_it(grey, colour, kind):
    content, picture = pictures()[kind]
    array = np.asarray(picture)
    for served, channels, size in ((grey, 1, (8, 8)), (colour, 3, (12, 10))):
        preprocess = ImagePreprocessor(*size, channels)
        image = preprocess(array.reshape(1, *array.shape[:2], -1))
        expected = served({"image": image}, "predict")["probabilities"]
        got = served({"image_bytes": [content]})["probabilities"]
        np.testing.assert_allclose(got, expected, atol=1e-2 if kind.startswith("JPEG") else 1e-6)


def test_a_palette_in_a_bmp_is_not_taken_for_grey_levels(grey):
    palette = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)).quantize(16)
    expected = grey({"image_bytes": [encoded(palette.convert("RGB"))]})["probabilities"]
    try:
        got = grey({"image_bytes": [encoded(palette, "BMP")]})["probabilities"]
    except UsageError:
        return  # refused: as good
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_any_batch_of_any_sizes(grey, colour, digits):
    rng = np.random.default_rng(2)
    files = [
        png(rng.integers(0, 256, shape, np.uint8)) for shape in [(8, 8), (28, 28), (1, 1), (5, 40, 3), (300, 200, 4)]
    ]
    for served in (grey, colour):
        together = served({"image_bytes": files})
        assert together["probabilities"].shape == (5, 10)
        for i, file in enumerate(files):
            alone = served({"image_bytes": [file]})
            assert alone["class_name"].shape == (1,)
            assert alone["class_name"][0] == together["class_name"][i]
            np.testing.assert_allclose(alone["probabilities"][0], together["probabilities"][i], atol=1e-6)
    features = colour({"image_bytes": files}, "features")["features"]
    assert features.shape == (5, 10 * 8 * 4)


def test_an_empty_batch_is_refused_by_every_signature(grey, colour):
    requests = {"serving_default": "image_bytes", "features": "image_bytes", "predict": "image"}
    for served, shape in ((grey, (0, 8, 8, 1)), (colour, (0, 12, 10, 3))):
        for signature, name in requests.items():
            value = np.zeros(shape, np.float32) if signature == "predict" else []
            with pytest.raises(UsageError, match=rf"{name} is an empty batch; expected at least one example"):
                served({name: value}, signature)


NO_PICTURES = {
    "nothing": b"",
    "text": b"no picture at all",
    "half a PNG": png(np.random.default_rng(0).integers(0, 256, (30, 30), np.uint8))[:200],
    "half a JPEG": encoded(Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 30), np.uint8)), "JPEG")[
        :300
    ],
    "a TIFF": encoded(Image.fromarray(np.zeros((8, 8), np.uint8)), "TIFF"),
}


@pytest.mark.parametrize("kind", NO_PICTURES)
def test_bytes_that_are_no_picture_are_refused_and_the_next_request_is_right(base, grey, kind):
    good = golden(base / "1")["requests/image_bytes"][:2]
    before = grey({"image_bytes": good})["probabilities"]
    function = tf.saved_model.load(str(base / "1")).signatures["serving_default"]
    with pytest.raises(tf.errors.InvalidArgumentError):
        function(image_bytes=tf.constant([good[0], NO_PICTURES[kind], good[1]]))
    with pytest.raises(UsageError, match="serving_default refused the request: "):
        grey({"image_bytes": [good[0], NO_PICTURES[kind], good[1]]})
    np.testing.assert_array_equal(grey({"image_bytes": good})["probabilities"], before)


def test_files_are_answered_and_a_bad_one_is_named(base, grey, tmp_path):
    content = golden(base / "1")
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(content["requests/image_bytes"][i])
    (tmp_path / "letter.txt").write_text("Dear all")
    answers = grey.predict([tmp_path / f"{i}.png" for i in range(3)])
    assert [a["class_name"] for a in answers] == [n.decode() for n in content["answers/serving_default/class_name"][:3]]
    np.testing.assert_allclose(
        [a["probabilities"] for a in answers], content["answers/serving_default/probabilities"][:3], atol=1e-6
    )
    with pytest.raises(UsageError, match=r"Cannot answer .*letter.txt: .*this is no PNG, JPEG, BMP or GIF file"):
        grey.predict([tmp_path / "0.png", tmp_path / "letter.txt"])
    with pytest.raises(UsageError, match=r"Cannot read .*missing.png: No such file or directory. Pass a file"):
        grey.predict([tmp_path / "missing.png"])
    with pytest.raises(UsageError, match=r"Cannot read .*: Is a directory"):
        grey.predict([str(tmp_path)])


def test_requests_that_the_contract_does_not_know(grey):
    with pytest.raises(UsageError, match=r"1 has no signature 'predct'. Did you mean 'predict'\?"):
        grey({"image": []}, "predct")
    with pytest.raises(UsageError, match="predict takes image; received picture"):
        grey({"picture": []}, "predict")
    with pytest.raises(UsageError, match="predict takes image; received nothing"):
        grey({}, "predict")
    with pytest.raises(UsageError, match="predict refused the request: "):
        grey({"image": [["a"]]}, "predict")
    with pytest.raises(UsageError, match="predict refused the request: "):
        grey({"image": np.zeros((2, 3, 3, 1))}, "predict")
    assert grey.inputs() == ["image_bytes"]
    assert grey.inputs("predict") == ["image"]
    assert grey.labels() == [str(n) for n in range(10)]


def test_a_saved_model_of_other_make_loads_too(tmp_path):
    module = tf.Module()
    module.double = tf.function(lambda x: {"y": 2 * x}, input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    tf.saved_model.save(module, str(tmp_path / "other"), signatures=module.double)
    served = zoo.export.load(tmp_path / "other")
    assert served({"x": [1.0, 2.0]})["y"].tolist() == [2, 4]
    assert served.labels() == []
    verdict = verify(tmp_path / "other", runtimes=())
    assert verdict.passed and verdict.table().splitlines()[-1].count("it carries no proof of what was trained") == 1


# ---------------------------------------------------------------- other models


def test_logits_and_class_names_of_every_kind(digits, tmp_path):
    names = (
        "#comment",
        "a b",
        " leading",
        "trailing ",
        "tab\tin",
        "ü漢字🙂",
        "a,b;c",
        '"quoted"',
        "line\u2028separator",
        "\x0cfeed",
    )
    prepared = digits.prepare("mlp", hidden_units=(), input_shape=(8, 8, 1), classifier_activation=None)
    interface = dataclasses.replace(prepared.interface, class_names=names)
    model = prepared.build()
    model.set_weights([np.zeros((64, 10)), 4.0 * np.eye(10)[0]])
    saved = zoo.export.save(model, interface, tmp_path / "logits")
    signature = storage.read_json(saved / "assets.extra" / "zoo.json")["signatures"]
    assert list(signature["predict"]["outputs"]) == ["logits"]
    assert sorted(signature["serving_default"]["outputs"]) == ["class_name", "probabilities"]
    assert "classifier_activation=None" in (saved / "README.md").read_text(encoding="utf-8")
    served = zoo.export.load(saved)
    assert served.labels() == list(names)
    # The model's weights say which class comes first, so that every name is answered once.
    file = png(np.zeros((8, 8), np.uint8))
    logits = served({"image": np.zeros((1, 8, 8, 1))}, "predict")["logits"]
    assert logits.tolist() == [[4.0] + 9 * [0.0]]
    probabilities = served({"image_bytes": [file]})["probabilities"][0]
    np.testing.assert_allclose(probabilities, np.exp(logits[0]) / np.exp(logits[0]).sum(), atol=1e-6)
    variable = served._model.model_weights[1]
    for number, name in enumerate(names):
        variable.assign(4.0 * np.eye(10)[number])
        assert served({"image_bytes": [file]})["class_name"][0].decode() == name


def test_half_precision_inside_is_float32_at_the_edge(digits, tmp_path):
    prepared = digits.prepare("cnn", input_shape=(8, 8, 1), filters=(4,), dense_units=8)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = prepared.build()
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.get_layer("features").compute_dtype == "bfloat16"
    saved = zoo.export.save(model, prepared.interface, tmp_path / "half")
    outputs = storage.read_json(saved / "assets.extra" / "zoo.json")["signatures"]["features"]["outputs"]
    assert outputs == {"features": {"dtype": "float32", "shape": [None, 8]}}


@pytest.mark.slow
def test_a_model_of_two_replicas(run_python, tmp_path):
    done = run_python(
        """
        import sys
        import tensorflow as tf
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
        import zoo
        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
        prepared = zoo.datasets.load("digits").prepare("cnn", input_shape=(8, 8, 1), filters=(4,), dense_units=8)
        with strategy.scope():
            model = prepared.build()
            try:
                zoo.export.save(model, prepared.interface, sys.argv[1])
            except zoo.errors.UsageError as error:
                print("inside:", error)
        print("mirrored:", type(model.weights[0].value).__name__)
        print(zoo.export.save(model, prepared.interface, sys.argv[1]))
        print(zoo.export.load(sys.argv[1]).predict([sys.argv[2]]))
        """,
        tmp_path / "digits",
        write_picture(tmp_path / "picture.png"),
    )
    assert (
        "inside: A SavedModel is written outside any strategy. Call zoo.export.save after strategy.scope()"
        in done.stdout
    )
    assert "mirrored: MirroredVariable" in done.stdout
    assert Verification.read(tmp_path / "digits").passed
    assert b"CPU:1" not in (tmp_path / "digits" / "1" / "saved_model.pb").read_bytes()


def write_picture(path):
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(path)
    return path


def test_live_answers_are_computed_in_full_precision_and_the_setting_comes_back(model, prepared, monkeypatch):
    seen = []
    enabled = tf.config.experimental.tensor_float_32_execution_enabled
    honest = live._live_answers
    monkeypatch.setattr(live, "_live_answers", lambda *a: seen.append(enabled()) or honest(*a))
    assert enabled()
    live.golden(model, prepared.interface)
    assert seen == [False]
    assert enabled()


# ---------------------------------------------------------------- finding artifacts


def test_a_path_means_a_version_or_the_newest_one(base, tmp_path):
    assert artifact_paths.versions(base) == [1, 2]
    assert artifact_paths.versions(tmp_path / "missing") == []
    assert artifact_paths.find(base / "1") == base / "1"
    assert artifact_paths.find(str(base)) == base / "2"
    run = tmp_path / "run"
    run.mkdir()
    (run / "saved_model").symlink_to(base)
    assert artifact_paths.find(run) == run / "saved_model" / "2"
    # Sorted as numbers; what holds no SavedModel, or is no number as it is written, is no version.
    for name, is_model in (("9", True), ("10", True), ("11", False), ("012", True), ("²", True), (".writing-1", True)):
        (tmp_path / "many" / name).mkdir(parents=True)
        if is_model:
            (tmp_path / "many" / name / "saved_model.pb").touch()
    assert artifact_paths.versions(tmp_path / "many") == [9, 10]
    assert artifact_paths.find(tmp_path / "many") == tmp_path / "many" / "10"


@pytest.mark.parametrize("function", [artifact_paths.find, verify, zoo.export.load, Verification.read])
def test_a_path_without_a_saved_model(tmp_path, function):
    with pytest.raises(
        UsageError, match=r"nowhere does not exist. Pass a folder with saved_model.pb, one with versions"
    ):
        function(tmp_path / "nowhere")
    with pytest.raises(UsageError, match=rf"{tmp_path} holds no SavedModel. Pass a folder with saved_model.pb"):
        function(tmp_path)


def test_the_public_names_are_there():
    assert (zoo.export.save, zoo.export.verify) == (artifact.save, verify)
    with pytest.raises(AttributeError, match=r"module 'zoo.export' has no attribute 'sav'"):
        zoo.export.sav  # noqa: B018


def test_recurrent_layers_are_exported_without_cudnn():
    model = zoo.build_embedding_lstm_model(vocab_size=9, num_classes=2, bidirectional=True)
    copied = signatures.served_copy(model, forms.as_trained(model, ()))
    layers = [layer for layer in copied._flatten_layers() if hasattr(layer, "use_cudnn")]
    assert len(layers) >= 2 and not any(layer.use_cudnn for layer in layers)
