"""The contents of an artifact: files, facts, labels, golden examples and outputs; and how paths are resolved."""

from __future__ import annotations

import dataclasses
import functools
import io
import json
import os
import re
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import zoo
from artifact_parts import golden, other_weights, png, written
from zoo import storage, tasks
from zoo._version import __version__
from zoo.errors import UsageError
from zoo.export import artifact, artifact_paths, live
from zoo.export.graph import forms, signatures
from zoo.export.keras_models.interface import interface_of
from zoo.export.verification import Verification, verify

# ---------------------------------------------------------------- contents


def test_versions_have_the_documented_layout(base):
    assert sorted(p.name for p in base.iterdir()) == ["1", "2"]
    for version in (base / "1", base / "2"):
        assert [str(file) for file in artifact_paths.files(version)] == [
            "README.md",
            "assets/labels.txt",
            "assets.extra/golden.npz",
            "assets.extra/request.c",
            "assets.extra/statistics.json",
            "assets.extra/tf_serving_warmup_requests",
            "assets.extra/verification.json",
            "assets.extra/verify.py",
            "assets.extra/zoo.json",
            "fingerprint.pb",
            "saved_model.pb",
            "variables/variables.data-00000-of-00001",
            "variables/variables.index",
        ]
        assert {p.name for p in version.iterdir() if p.is_dir()} == {"assets", "assets.extra", "variables"}
        assert artifact_paths.check_sums(version) == []


def test_sums_can_be_checked_with_sha256sum(base):
    if shutil.which("sha256sum") is None:
        pytest.skip("needs sha256sum")
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", "assets.extra/SHA256SUMS"], cwd=base / "1", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(": OK\n") == 13


def test_files_have_default_permissions(base):
    mask = os.umask(0o022)
    os.umask(mask)
    for path in [base / "1", *(base / "1").rglob("*")]:
        assert path.stat().st_mode & 0o777 == (0o777 if path.is_dir() else 0o666) & ~mask, path


def test_zoo_json_describes_the_artifact(base, model, report):
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
            "category_sizes": None,
            "bin_edges": None,
            "number_embedding": "bins",
            "embedding_dim": 16,
            "category_dim": 8,
            "members": 1,
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
            "inputs": {
                "image": {
                    "dtype": "float32",
                    "shape": [None, 8, 8, 1],
                    "kind": "number",
                    "description": "pixels from 0 (black) to 1 (white)",
                }
            },
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


def test_weights_hash_depends_only_on_the_weights(model, prepared, base):
    same, other = prepared.build(), other_weights(model, prepared)
    same.set_weights(model.get_weights())
    assert artifact.weights_hash(same) == artifact.weights_hash(model) != artifact.weights_hash(other)
    hashes = [storage.read_json(base / v / "assets.extra" / "zoo.json")["weights_sha256"] for v in "12"]
    assert hashes == [artifact.weights_hash(model), artifact.weights_hash(other)]


def test_zoo_json_records_only_the_model_arguments(digits, prepared):
    built = zoo.build_mlp_model(input_shape=(8, 8, 1), num_classes=10, hidden_units=(5,))
    assert artifact._fitting(built, prepared.interface).build["arguments"]["hidden_units"] == [5]


def test_labels_and_model_card_are_written(base, report):
    assert (base / "1" / "assets" / "labels.txt").read_text() == "".join(f"{n}\n" for n in range(10))
    card = (base / "1" / "README.md").read_text(encoding="utf-8")
    assert card.startswith(
        "# mlp for digits\n\nA model for image classification with 1,210 parameters, exported by savedmodel-zoo"
    )
    low, high = report["intervals"]["accuracy"]
    value, baseline = (f"{part['accuracy']:.4f}" for part in (report, report["baseline"]))
    shown = rf"\| \*\*accuracy\*\* \| {value} \(([\d.]+) to ([\d.]+)\) \| {baseline}"
    ends = re.search(shown, card)
    assert ends and [float(end) for end in ends.groups()] == pytest.approx([low, high], abs=0.005)
    assert "## Measured on the test split" in card
    assert "360 examples." in card
    assert "Licence of the data: CC BY 4.0" in card
    assert "`hidden_units=[16]`" in card
    for row in (
        "| `predict` | `image`: float32 (batch, 8, 8, 1), pixels from 0 (black) to 1 (white) "
        "| `probabilities`: float32 (batch, 10) |",
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


def test_golden_examples_are_test_examples_of_every_class(base, digits):
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


def test_the_artifact_predicts_without_keras(base, digits, model, run_python, tmp_path):
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
        kind="tensorflow",
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


# ---------------------------------------------------------------- other models


def test_logits_and_unusual_class_names_are_exported(digits, tmp_path):
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
    saved = zoo.export.save(model, tmp_path / "logits", interface=interface)
    signature = storage.read_json(saved / "assets.extra" / "zoo.json")["signatures"]
    assert list(signature["predict"]["outputs"]) == ["logits"]
    assert sorted(signature["serving_default"]["outputs"]) == ["class_name", "probabilities"]
    assert "classifier_activation=None" in (saved / "README.md").read_text(encoding="utf-8")
    served = zoo.export.load(saved)
    assert served.labels() == list(names)
    # The weights select the first class, so every name is returned once.
    file = png(np.zeros((8, 8), np.uint8))
    logits = served({"image": np.zeros((1, 8, 8, 1))}, "predict")["logits"]
    assert logits.tolist() == [[4.0] + 9 * [0.0]]
    probabilities = served({"image_bytes": [file]})["probabilities"][0]
    np.testing.assert_allclose(probabilities, np.exp(logits[0]) / np.exp(logits[0]).sum(), atol=1e-6)
    variable = served._model.model_weights[1]
    for number, name in enumerate(names):
        variable.assign(4.0 * np.eye(10)[number])
        assert served({"image_bytes": [file]})["class_name"][0].decode() == name


def test_half_precision_models_have_float32_inputs_and_outputs(digits, tmp_path):
    prepared = digits.prepare("cnn", input_shape=(8, 8, 1), filters=(4,), dense_units=8)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = prepared.build()
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.get_layer("features").compute_dtype == "bfloat16"
    saved = written(model, prepared.interface, tmp_path / "half")
    outputs = storage.read_json(saved / "assets.extra" / "zoo.json")["signatures"]["features"]["outputs"]
    assert outputs == {"features": {"dtype": "float32", "shape": [None, 8]}}


@pytest.mark.slow
def test_a_model_of_two_replicas_is_exported(run_python, tmp_path):
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
                zoo.export.save(model, sys.argv[1], interface=prepared.interface)
            except zoo.errors.UsageError as error:
                print("inside:", error)
        print("mirrored:", type(model.weights[0].value).__name__)
        print(zoo.export.save(model, sys.argv[1], interface=prepared.interface))
        print(zoo.export.load(sys.argv[1]).predict([sys.argv[2]]))
        """,
        tmp_path / "digits",
        write_picture(tmp_path / "picture.png"),
        kind="zoo",
    )
    assert (
        "inside: A SavedModel cannot be written inside a distribution strategy. Call zoo.export.save after strategy.scope()"
        in done.stdout
    )
    assert "mirrored: MirroredVariable" in done.stdout
    assert Verification.read(tmp_path / "digits").passed
    assert b"CPU:1" not in (tmp_path / "digits" / "1" / "saved_model.pb").read_bytes()


def write_picture(path):
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(path)
    return path


def test_live_outputs_use_full_precision_and_restore_the_setting(model, prepared, monkeypatch):
    seen = []
    enabled = tf.config.experimental.tensor_float_32_execution_enabled
    honest = live._live_answers
    monkeypatch.setattr(live, "_live_answers", lambda *a: seen.append(enabled()) or honest(*a))
    assert enabled()
    live.golden(model, prepared.interface)
    assert seen == [False]
    assert enabled()


def test_a_model_that_computes_something_else_on_a_gpu_is_not_exported(model, prepared, monkeypatch):
    inner = model.layers[-1]
    monkeypatch.setattr(inner, "use_cudnn", "auto", raising=False)
    honest = inner.call
    monkeypatch.setattr(inner, "call", lambda x, **_: honest(x) * (1 if inner.use_cudnn is False else 0.9))
    live.golden(model, prepared.interface)  # computed without cuDNN
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind=None: ["a GPU"])
    with pytest.raises(
        UsageError, match=r"something else on the GPU, where it was trained, than on the CPU: .* differs by"
    ):
        live.golden(model, prepared.interface)
    assert inner.use_cudnn == "auto"


# ---------------------------------------------------------------- path resolution


def test_a_path_selects_a_version_or_the_newest_one(base, tmp_path):
    assert artifact_paths.versions(base) == [1, 2]
    assert artifact_paths.versions(tmp_path / "missing") == []
    assert artifact_paths.find(base / "1") == base / "1"
    assert artifact_paths.find(str(base)) == base / "2"
    run = tmp_path / "run"
    run.mkdir()
    (run / "saved_model").symlink_to(base)
    assert artifact_paths.find(run) == run / "saved_model" / "2"
    # Versions sort as numbers. Folders without a SavedModel or with a non-canonical number are not versions.
    for name, is_model in (("9", True), ("10", True), ("11", False), ("012", True), ("²", True), (".writing-1", True)):
        (tmp_path / "many" / name).mkdir(parents=True)
        if is_model:
            (tmp_path / "many" / name / "saved_model.pb").touch()
    assert artifact_paths.versions(tmp_path / "many") == [9, 10]
    assert artifact_paths.find(tmp_path / "many") == tmp_path / "many" / "10"


@pytest.mark.parametrize("function", [artifact_paths.find, verify, zoo.export.load, Verification.read])
def test_a_path_without_a_savedmodel_is_rejected(tmp_path, function):
    with pytest.raises(
        UsageError, match=r"nowhere does not exist. Pass a folder with saved_model.pb, one with versions"
    ):
        function(tmp_path / "nowhere")
    with pytest.raises(UsageError, match=rf"{tmp_path} holds no SavedModel. Pass a folder with saved_model.pb"):
        function(tmp_path)


def test_public_names_exist():
    assert (zoo.export.save, zoo.export.verify) == (artifact.save, verify)
    with pytest.raises(AttributeError, match=r"module 'zoo.export' has no attribute 'sav'"):
        zoo.export.sav  # noqa: B018


def test_recurrent_layers_are_exported_without_cudnn(monkeypatch, tmp_path):
    layer = keras.layers.LSTM(2)
    model, interface, _ = interface_of(keras.Sequential([keras.Input((3, 1)), layer]), np.ones((2, 3, 1), np.float32))
    seen, call = [], keras.layers.LSTM.call

    @functools.wraps(call)
    def recorded(self, sequences, *arguments, **options):
        if tf.is_tensor(sequences):  # traced, not only built
            seen.append((self, self.use_cudnn))
        return call(self, sequences, *arguments, **options)

    monkeypatch.setattr(keras.layers.LSTM, "call", recorded)
    for form in (forms.SERVED, forms.AS_TRAINED):
        seen.clear()
        signatures.served_model(model, interface, tmp_path, None, form)
        assert seen and not any(use for _, use in seen)
        assert {found is layer for found, _ in seen} == {form is forms.AS_TRAINED}
    assert layer.use_cudnn == "auto"
