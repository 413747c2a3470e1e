"""The parts of a verification, each tested separately: storage, inputs, comparison, messages and cleanup."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from zoo import storage
from zoo.errors import UsageError
from zoo.export import conversion, describe, foreign, publishing, scratch, verification
from zoo.export.inspection import operations
from zoo.export.runtimes import c_api, comparison, runtimes, source
from zoo.export.standalone import arrays as array_files
from zoo.export.standalone import compare, convert_worker, probe, process
from zoo.export.verdict import Check, Verification
from zoo.scripts.verify import asked_runtimes


def signature(*specs):
    return tf.function(autograph=False, input_signature=list(specs))


# --- Storage, inputs and comparison ----------------------------------------------------------------------------------


def test_arrays_of_any_name_and_type_survive_a_round_trip(tmp_path):
    text = np.empty((2, 1), object)
    text[:, 0] = [b"a\x00", b""]
    alone = np.array(b"one\x00", object)
    arrays = {
        "file": np.arange(3, dtype=np.int32),
        "a.bytes": text,
        "a/b\n": np.array(1.5, np.float32),
        "odd": np.array([1.5, -2], ml_dtypes.bfloat16),
        "none": np.zeros((0, 3), bool),
        "alone": alone,
        "100 %.npy": np.arange(2.0),
        "": np.array(3),
        "a\0b": np.array(4),
    }
    array_files.save(str(tmp_path / "x.npz"), arrays)
    found = array_files.load(str(tmp_path / "x.npz"))
    assert list(found) == list(arrays)
    for name, value in arrays.items():
        assert (found[name].dtype, found[name].shape) == (value.dtype, value.shape), name
        assert np.all(found[name] == value) and found[name].flags.writeable, name


def test_correct_outputs_are_counted():
    labels, targets = [b"ant", b"bee"], np.array([0, 1, 1])
    answers = {
        "probabilities": np.array([[0.9, 0.1], [0.4, 0.6], [0.5, 0.5]], np.float32),
        "best": np.array([[b"ant"], [b"ant"], [b"bee"]], object),
        "features": np.zeros((3, 5), np.float32),
    }
    assert compare.right(answers, targets, labels, 1e-4) == {"best": [2, 3, 0], "probabilities": [2, 3, 1]}
    tags = {"tags": np.array([[b"ant", b""], [b"bee", b"bee"]], object)}
    assert compare.right(tags, np.array([[0, 0], [0, 1]]), labels, 1e-4) == {"tags": [2, 3, 0]}
    words = {"tokens": np.array([[b"an", b""], [b"old", b"bee"]], object), **tags}
    assert compare.right(words, np.array([[0, -1], [-1, 1]]), labels, 1e-4) == {"tags": [2, 2, 0]}, "-1: no target"
    for unknown in (None, np.array([0.5, 1.0, 2.0])):
        assert compare.right(answers, unknown, labels, 1e-4) == {}


def test_verdicts_report_the_tolerance_and_old_verdicts_are_readable(tmp_path):
    want = {"y": np.array([200.0, 1.0])}
    (row,) = compare.compare(want, {"y": want["y"] + 1e-4}, [], 1e-5)
    assert row["passed"] and row["allowed"] == pytest.approx(2e-3)
    table = Verification(tmp_path, (Check("y", True, row["difference"], "", row["allowed"]),), {}).table()
    assert "largest difference 0.0001, allowed 0.002" in table
    check = {"name": "y", "passed": True, "difference": 0.1, "detail": "", "of a later version": 1}
    content = {"passed": True, "tolerance": 1e-5, "runtime": {"python": "3"}, "checks": [check]}
    storage.write_json(tmp_path / "old.json", content)
    (read,) = Verification.of(tmp_path, tmp_path / "old.json").checks
    assert read == Check("y", True, 0.1)
    for broken in ("{", "[]", '{"checks": [null]}', '{"checks": []}'):
        (tmp_path / "old.json").write_text(broken)
        with pytest.raises(UsageError, match=r"old.json cannot be read: .*`zoo verify"):
            Verification.of(tmp_path, tmp_path / "old.json")


def test_questions_of_fixed_size_are_not_resized():
    assert comparison.portions({"x": np.zeros(100)}, (64, 3)) == [(64, 64), (3, 16)]
    assert comparison.portions({"x": np.zeros(100)}, [1]) == [(1, 8)]
    assert comparison.portions({"x": np.array(1.0)}, ()) == [(0, 0)]
    question = comparison.Question({"x": np.array(1.0)}, {"y": np.array(2.0)}, ())
    rows = lambda want, got: compare.compare(want, got, [], 1e-4)  # noqa: E731
    for got, passed in ((2.0, True), (3.0, False)):
        check = comparison._check("x", question, {0: {"y": np.array(got)}}, set(), rows, {})
        assert check.passed is passed


def test_scalar_inputs_and_rejected_batch_sizes_are_handled():
    @signature(tf.TensorSpec([], tf.float32, "x"), tf.TensorSpec([], tf.string, "t"))
    def scalar(x, t):
        return {"y": x * 2.0, "t": t}

    inputs = {"x": np.array(1.5, np.float32), "t": np.array(b"a\x00", object)}
    seen, answers = probe._probe(scalar, [inputs], True, 1e-5)
    assert seen["rows"] == [] and answers["y"] == 3.0 and answers["t"].item() == b"a\x00"

    @signature(tf.TensorSpec([None, 2], tf.float32, "x"))
    def pairs(x):
        return {"y": tf.ensure_shape(x, [4, 2]) * 2.0}

    seen, answers = probe._probe(pairs, [{"x": np.ones((4, 2), np.float32)}], False, 1e-5)
    assert "InvalidArgument" in seen["whole"] and answers["y"].shape == (4, 2)
    (line, *_) = foreign._lines("pairs", seen)
    assert line.passed is None and line.detail.startswith("accepts 4 rows and rejects 2: ")


def test_a_signature_without_outputs_is_no_proof():
    @signature(tf.TensorSpec([None], tf.float32, "x"))
    def silent(x):
        return {}

    seen, _ = probe._probe(silent, [{"x": np.ones(4, np.float32)}], False, 1e-5)
    (line,) = foreign._lines("silent", seen)
    assert line.passed is None and "nothing to compare" in line.detail


@pytest.fixture
def odd_signature():
    found = meta_graph_pb2.SignatureDef()
    found.inputs["x"].name, found.inputs["x"].dtype = "x:0", 1
    found.outputs["y"].name, found.outputs["y"].dtype = "y:0", 1
    return found


def test_unsupported_tensor_types_are_reported(odd_signature):
    assert operations.is_plain(odd_signature)
    info = odd_signature.outputs["y"]
    for dtype, told in ((999, "unknown type 999"), (0, "unknown type 0"), (20, "resource"), (11, "qint8")):
        info.dtype = dtype
        assert operations.type_name(info) == told and not operations.is_plain(odd_signature)
    info.coo_sparse.values_tensor_name = "y"
    assert operations.type_name(info) == "sparse" and not operations.is_plain(odd_signature)
    info.composite_tensor.components.add(name="y", dtype=1)
    assert operations.type_name(info) == "ragged or composite" and not operations.is_plain(odd_signature)
    graph = meta_graph_pb2.MetaGraphDef()
    graph.signature_def["serving_default"].CopyFrom(odd_signature)
    assert any("is ragged or composite, expected one of" in wrong for wrong in verification._contract(graph))


def test_unsupported_graphs_are_rejected_by_the_c_program(odd_signature):
    graph = meta_graph_pb2.MetaGraphDef()
    graph.signature_def["wide"].CopyFrom(odd_signature)
    assert c_api._refused(graph, ["wide"]) == "the graph has the tags [], but the program needs ['serve']"
    graph.meta_info_def.tags.append("serve")
    assert c_api._refused(graph, ["wide"]) is None
    for i in range(70):
        graph.signature_def["wide"].outputs[f"y{i}"].name = "y:0"
    assert c_api._refused(graph, ["wide"]) == "wide has 71 outputs, but the program supports at most 64"
    assert f"#define LIMIT {c_api.LIMIT}\n" in c_api.SOURCE.read_text()
    assert c_api._has_loaded(b"LOADED\n") and not c_api._has_loaded(None)


def test_every_artifact_requires_serving_default_and_predict():
    graph = meta_graph_pb2.MetaGraphDef()
    graph.signature_def["features"].SetInParent()
    wrong = verification._check_contract(graph)
    assert (wrong.passed, wrong.detail) == (False, "there is no serving_default; there is no predict")
    assert verification._contract(graph) == ["there is no serving_default"], "others need not answer model tensors"


def test_the_converter_process_uses_the_version_of_each_module(monkeypatch):
    monkeypatch.syspath_prepend(Path(convert_worker.__file__).parent)  # as when a file is run
    for name, runtime in runtimes().items():
        if runtime.version:
            loaded = convert_worker.load(str(source(name)))  # as in its own process
            tolerance = 1e-4 if runtime.verifies else 1e-5
            assert (loaded.title, loaded.tolerance, loaded.version) == (runtime.title, tolerance, runtime.version)
    assert runtimes()["litert"].version == "tensorflow"


# --- Unreadable files --------------------------------------------------------------------------------------------------


def test_an_unreadable_graph_fails_verification(tmp_path):
    extra = tmp_path / "assets.extra"
    extra.mkdir()
    for name in ("golden.npz", "zoo.json", "verification.json", "SHA256SUMS"):
        (extra / name).write_text("null")
    (tmp_path / "saved_model.pb").write_bytes(b"\xff\xff nothing")
    for asked in ("installed", ()):
        verdict = verification.verify(tmp_path, runtimes=asked)
        wrong = {check.name: check.detail for check in verdict.checks if check.passed is False}
        assert set(wrong) == {"SHA256SUMS", "saved_model.pb"} and not verdict.passed
        assert "cannot be read as a SavedModel" in wrong["saved_model.pb"]
    with pytest.raises(UsageError, match=r"golden.npz cannot be read as zoo.json describes it"):
        verification.questions(tmp_path)


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    """A SavedModel with two variables of the same name and shape."""
    module = tf.Module()
    module.a, module.b = (tf.Variable(tf.ones((2, 3)), name="kernel") for _ in range(2))

    @signature(tf.TensorSpec([None, 2], tf.float32, "x"))
    def adds(x):
        return {"y": x @ module.a + x @ module.b}

    module.adds = adds
    folder = tmp_path_factory.mktemp("twins")
    tf.saved_model.save(module, str(folder / "model"), signatures={"serving_default": adds})
    return folder / "model"


def test_variables_with_the_same_name_are_counted_separately(twins):
    assert describe(twins).facts["parameters"] == 12


@pytest.mark.parametrize(
    "facts",
    [
        *("null", "[]", "{", '{"model": 1}', '{"model": {"arguments": {}}, "task": 3}'),
        '{"model": {"name": "m", "arguments": {"a": []}}, "task": "t", "data": 1, "metrics": [], "parameters": "x"}',
        '{"model": {"name": "m", "arguments": {}}, "task": "t", "portable_signature": {}, "metrics": {"a": null}}',
        "[" * 100_000,
    ],
)
def test_a_malformed_zoo_json_is_tolerated(twins, facts):
    extra = twins / "assets.extra"
    extra.mkdir(exist_ok=True)
    (extra / "zoo.json").write_text(facts)
    text = describe(twins).text()
    assert "12 parameters" in text and ("m for t" in text) is facts.startswith('{"model": {"name"')
    assert conversion._portable(twins) is None
    (extra / "zoo.json").write_text('{"portable_signature": "serving_default"}')
    assert conversion._portable(twins) == "serving_default"


# --- Leftover files ----------------------------------------------------------------------------------------------------


def test_a_converted_model_gets_the_next_version_number(tmp_path):
    base = tmp_path / "rows-onnx"
    (base / "7").mkdir(parents=True)
    (base / "7" / "model.onnx").touch()
    with publishing.hidden_folder(base) as folder:
        (folder / "model.onnx").touch()
        publishing.flush(folder)
        assert publishing.publish(folder, base) == base / "8"


def test_temporary_files_of_dead_processes_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with scratch.folder() as folder:
        left = folder.with_name(".writing-left-behind")
        left.mkdir()
        with scratch.folder() as other:
            assert not left.exists() and folder.exists() and other.exists()
            assert folder.parent.stat().st_mode & 0o077 == 0
    assert list(folder.parent.iterdir()) == []
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(UsageError, match=r"Temporary files cannot be written to .*none: .*set TMPDIR to another"):
        scratch.folder().__enter__()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(OSError, match="somebody else's disk"), scratch.folder():
        raise OSError(28, "somebody else's disk")


def test_child_process_ends_with_its_parent(run_python, tmp_path):
    script = tmp_path / "waits.py"
    script.write_text(
        "import importlib.util, os, sys, time\n"
        f"spec = importlib.util.spec_from_file_location('process', {process.__file__!r})\n"
        "module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module)\n"
        "module.die_with_parent()\n"
        "open(sys.argv[1], 'w').write(str(os.getpid()))\n"
        "time.sleep(60)\n"
    )
    source = """
        import os, signal, sys, threading, time
        from pathlib import Path
        from zoo.export.runtimes import comparison

        def killed():
            while not pid.is_file() or not pid.read_text():
                time.sleep(0.02)
            os.kill(os.getpid(), signal.SIGKILL)

        pid = Path(sys.argv[2])
        threading.Thread(target=killed, daemon=True).start()
        comparison.run_script(Path(sys.argv[1]), [str(pid)], "WORKER ")
    """
    done = run_python(source, script, tmp_path / "pid", check=False, kind="zoo")
    assert done.returncode == -9, done.stderr[-3000:]
    child, deadline = int((tmp_path / "pid").read_text()), time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            with open(f"/proc/{child}/stat") as stat:
                if stat.read().rsplit(")", 1)[1].split()[0] == "Z":
                    return  # the process is dead, but its exit status was not read yet
        except OSError:
            return
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    pytest.fail("it lives on")


def test_command_line_values_of_runtimes_are_parsed():
    assert asked_runtimes(["none"]) == [] and asked_runtimes(["installed"]) == "installed"
    assert json.dumps(asked_runtimes(["litert"])) == '["litert"]'
