"""Converted models are written, loaded in another process, compared and run as their README describes, or rejected."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf

import processes
import zoo
from zoo import storage
from zoo.errors import UsageError
from zoo.export import artifact, artifact_paths, conversion, convert, live
from zoo.export.inspection import operations


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """An artifact of a model for series of any length, before its verification."""
    prepared = zoo.datasets.load("digit_rows").prepare("attention", filters=4, dense_units=4)
    folder = tmp_path_factory.mktemp("conversion") / "rows" / "1"
    folder.mkdir(parents=True)
    model = prepared.build(seed=0)
    interface = artifact._fitting(model, prepared.interface)
    artifact._write(folder, model, interface, live.golden(model, interface), {}, {})
    artifact_paths.write_sums(folder)
    return folder


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A small SavedModel without a training proof: two inputs and outputs, an exact GELU, and a signature for texts.

    For the exact GELU, tf2onnx writes an invalid file without an error.
    """
    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, "b"), tf.TensorSpec([None], tf.int32, "a")])
    def mixed(b, a):
        return {"wide": tf.nn.gelu(b, approximate=False), "one": tf.cast(a, tf.float32) + b[:, 0]}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "text")])
    def upper(text):
        return {"upper": tf.strings.upper(text)}

    module.mixed, module.upper = mixed, upper
    folder = tmp_path_factory.mktemp("plain") / "model"
    tf.saved_model.save(module, str(folder), signatures={"mixed": mixed, "serving_default": upper})
    return folder


def check_published(folder, file, run_python):
    """Checks that the sums are correct and that the README's request returns the outputs of the signature."""
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert names >= {file, "README.md", "verification.json", "SHA256SUMS"}
    if shutil.which("sha256sum"):
        done = subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=folder, capture_output=True)
        assert done.returncode == 0 and done.stdout.count(b": OK\n") == len(names) - 1
    (request,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    return run_python(
        "import os, sys; os.chdir(sys.argv[1]); exec(sys.argv[2], {})", folder, request, kind="tensorflow"
    ).stdout


def leftovers(base):
    return sorted(path.name for path in base.parent.iterdir() if path.name not in ("rows", "model"))


def test_an_artifact_converts_to_openvino(saved, run_python, tmp_path):
    source = shutil.copytree(saved, tmp_path / "rows" / "1")
    (source / "assets" / "words.txt").write_text("one\ntwo\n")
    (source / "assets" / "model.bin").write_text("an asset of the name that the weights get")
    artifact_paths.write_sums(source)
    folder = convert(source, "openvino", output=tmp_path / "other", sequence_length=5)
    assert folder == tmp_path / "other" / "1"
    assert (folder / "words.txt").read_text() == "one\ntwo\n" and b"an asset" not in (folder / "model.bin").read_bytes()
    answer = check_published(folder, "model.xml", run_python)
    assert (folder / "model.bin").is_file() and "probabilities" in answer
    assert (folder / "labels.txt").read_text() == (saved / "assets" / "labels.txt").read_text()
    content = storage.read_json(folder / "verification.json")
    assert content["passed"] and content["runtimes"] == {"openvino": "agrees"}
    # The golden examples have another length, so this comparison proves nothing about the training.
    compared_with = "TensorFlow's outputs of the SavedModel for generated inputs"
    assert content["proof"] is False and content["compared_with"].startswith(compared_with)
    assert content["checks"][0]["difference"] < content["checks"][0]["allowed"] == 1e-4
    assert content["source"]["sha256"] == storage.sha256(saved / "saved_model.pb")
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert (
        card.startswith("# attention of digit_rows for OpenVINO")
        and "`zoo.json` describes how to make the inputs" in card
    )
    assert storage.read_json(folder / "zoo.json")["preprocessor"]
    assert "| input | `series` | float32 | batch, 5, 8 |" in card and "the length is fixed to 5" in card
    assert "all possible checks passed; no training proof is available" in conversion.summary(folder)
    with pytest.raises(UsageError, match=r"holds a model that `zoo convert` wrote.*Pass the SavedModel that"):
        zoo.export.verify(folder.parent)


def test_an_artifact_converts_to_a_savedmodel_for_other_converters(saved, run_python, tmp_path):
    folder = convert(saved, "savedmodel", output=tmp_path / "out")
    answer = check_published(folder, "saved_model.pb", run_python)
    assert (
        "probabilities" in answer and (folder / "labels.txt").read_text() == (saved / "assets/labels.txt").read_text()
    )
    content = storage.read_json(folder / "verification.json")
    assert content["passed"] and content["proof"] and content["source"]["signature"] == "predict"
    assert "`saved_model.pb` is the signature `predict`" in (folder / "README.md").read_text(encoding="utf-8")
    graph = operations.read(folder)
    assert set(graph.signature_def) == {"serving_default", operations.INIT}
    counts = operations.scan(graph).counts
    assert any("Table" in op for op in operations.scan(operations.read(saved)).counts)
    assert not [op for op in counts if "Table" in op or "Initialize" in op] and not graph.asset_file_def
    assert "table_initializer" not in graph.collection_def and not (folder / "assets").exists()
    ovc = Path(sys.executable).with_name("ovc")
    if not ovc.is_file():
        pytest.skip("OpenVINO's converter ovc is not installed")
    without_telemetry = os.environ | {"CI": "true", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, ovc, folder, "--output_model", tmp_path / "model.xml", "--compress_to_fp16=False"]
    done = processes.run(command, "tensorflow", capture_output=True, text=True, check=False, env=without_telemetry)
    assert done.returncode == 0 and (tmp_path / "model.bin").is_file(), done.stderr
    ports = re.findall(r'name="(.*?)" type="(?:Parameter|Result)"', (tmp_path / "model.xml").read_text())
    assert ports == ["series", "attention_weights", "probabilities"]


def test_failed_conversions_give_a_reason_and_leave_no_files(saved, plain, tmp_path):
    names = "has strings as inputs or outputs"
    for path, options, message in (
        (saved, {"to": "tensorrt"}, r"Unknown format 'tensorrt'. Did you mean 'litert'"),
        (saved, {"to": "onnx", "sequence_length": 0}, "sequence_length is 0; expected at least 1"),
        (
            saved,
            {"to": "onnx", "signature": "top_k"},
            rf"'top_k' cannot be .* {names} \(class_name\).*--signature predict.",
        ),
        (saved, {"to": "onnx", "signature": "predicts"}, "has no signature 'predicts'. Did you mean 'predict'"),
        (plain, {"to": "onnx", "signature": "serving_default"}, rf"{names} \(text, upper\).*Pass --signature mixed."),
    ):
        with pytest.raises(UsageError, match=message) as caught:
            convert(path, **options)
        assert "\n" not in str(caught.value)
        assert leftovers(path.parent if path == saved else path) == []
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"contains mine.txt, which are not versions"):
        convert(saved, "onnx", output=tmp_path / "taken")


@pytest.mark.slow
def test_a_third_party_savedmodel_converts_to_onnx(plain, run_python):
    folder = convert(plain, "onnx")
    assert folder == plain.with_name("model-onnx") / "1"
    assert "array([[0., 0., 0.]]" in check_published(folder, "model.onnx", run_python)
    content = storage.read_json(folder / "verification.json")
    assert content["passed"] and not content["proof"] and content["source"]["signature"] == "mixed"
    card = (folder / "README.md").read_text(encoding="utf-8")
    for row in (
        "| input | `a` | int32 | batch |",
        "| input | `b` | float32 | batch, 3 |",
        "| output | `wide` | float32 |",
    ):
        assert row in card
    assert "compared with TensorFlow's outputs of the SavedModel for generated inputs" in card


@pytest.mark.slow
def test_message_names_an_op_that_the_converter_does_not_support(tmp_path):
    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, "x")])
    def spectrum(x):
        return {"y": tf.math.bessel_i0e(x)}

    module.spectrum = spectrum
    tf.saved_model.save(module, str(tmp_path / "model"), signatures={"serving_default": spectrum})
    with pytest.raises(
        UsageError, match=r"cannot be converted to onnx, because .*BesselI0e.*Try --to litert or --to openvino"
    ):
        convert(tmp_path / "model", "onnx")
    assert leftovers(tmp_path / "model") == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("to", "file"), [("onnx", "model.onnx"), ("openvino", "model.xml"), ("litert", "model.tflite")]
)
def test_artifacts_convert_to_every_format(saved, run_python, tmp_path, to, file):
    for number in ("1", "2"):
        folder = convert(saved, to, output=tmp_path / "out")
        assert folder == tmp_path / "out" / number
        assert storage.read_json(folder / "verification.json")["proof"] is True
    check_published(folder, file, run_python)


@pytest.mark.slow
def test_litert_models_with_loops_have_a_fixed_batch(run_python, tmp_path):
    import keras

    inputs = keras.Input((6, 4), name="series")
    keras.Model(inputs, keras.layers.LSTM(3)(inputs)).export(str(tmp_path / "model"), verbose=False)
    folder = convert(tmp_path / "model", "litert")
    assert "the batch is fixed to 1" in (folder / "README.md").read_text(encoding="utf-8")
    check_published(folder, "model.tflite", run_python)


@pytest.mark.slow
def test_a_third_party_signature_keeps_the_tables_that_it_reads(run_python, tmp_path):
    module = tf.Module()
    numbers = tf.lookup.KeyValueTensorInitializer(tf.constant([1, 2], tf.int64), tf.constant([10.0, 20.0]))
    module.table, module.scale = tf.lookup.StaticHashTable(numbers, 0.0), tf.Variable(0.5)
    words = tf.lookup.KeyValueTensorInitializer(["one", "two"], tf.constant([1, 2], tf.int64))
    module.words = tf.lookup.StaticHashTable(words, 0)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64, "code")])
    def look_up(code):
        return {"price": module.scale * module.table.lookup(code)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "word")])
    def code(word):
        return {"code": module.words.lookup(word)}

    module.functions = (look_up, code)
    tf.saved_model.save(module, str(tmp_path / "model"), signatures={"look_up": look_up, "serving_default": code})
    folder = convert(tmp_path / "model", "savedmodel")
    assert "array([0.]" in check_published(folder, "saved_model.pb", run_python)
    assert operations.scan(operations.read(folder)).counts["HashTableV2"] == 1
    served = tf.saved_model.load(str(folder)).signatures["serving_default"]
    assert served(code=tf.constant([2, 1, 7], tf.int64))["price"].numpy().tolist() == [10.0, 5.0, 0.0]
