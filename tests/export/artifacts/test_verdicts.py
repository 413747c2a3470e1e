"""Verification of a written artifact: its comparisons, and the detection of every change."""

from __future__ import annotations

import dataclasses
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import processes
import zoo
from artifact_parts import golden
from zoo import storage
from zoo.errors import UsageError
from zoo.export import artifact_paths
from zoo.export.standalone import arrays, compare
from zoo.export.verification import Verification, check, verify
from zoo.scripts import predict
from zoo.scripts.console import run_command


@pytest.fixture
def copy(base, tmp_path):
    """A copy of version 1 that a test can modify."""
    return Path(shutil.copytree(base / "1", tmp_path / "copied" / "1"))


def failed(verification):
    return {check.name: check.detail for check in verification.checks if not check.passed}


def test_a_published_artifact_passes_verification(base):
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
        "ok SHA256SUMS 13 files unchanged",
        "ok clean process neither keras nor zoo can be imported there",
        "ok serving_default class_name, batch 64 0 of 64 differ",
        f"ok serving_default, accuracy {right} of 64 correct, trained model {right}",
        "ok serving_default probabilities, batch 64 largest difference N, allowed N",
        "ok serving_default probabilities, batch 3 largest difference N, allowed N",
        "ok serving_default, empty batch rejected with a message",
        "ok predict probabilities, batch 64 largest difference N, allowed N",
        "ok features features, batch 3 largest difference N, allowed N",
        "ok weights 4 tensors, identical to the trained model's",
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


def test_a_failed_verdict_lists_its_failures(base):
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


def test_replay_finds_changed_outputs(copy):
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


def test_replay_finds_changed_weights_and_reordered_labels_with_valid_sums(base, copy):
    shutil.copytree(base / "2" / "variables", copy / "variables", dirs_exist_ok=True)
    labels = copy / "assets" / "labels.txt"
    labels.write_text("".join(f"{n}\n" for n in (0, 2, 1, *range(3, 10))))
    artifact_paths.write_sums(copy)
    verdict = check(copy, sums=True)
    wrong = failed(verdict)
    assert wrong["weights"] == "4 tensors, different from the trained model's"
    assert wrong["labels"] == "line 2 is '2', expected '1'; line 3 is '1', expected '2'"
    assert {"serving_default probabilities, batch 64", "predict probabilities, batch 3"} < set(wrong)
    assert {f"{name} class_name, batch {n}" for name in ("serving_default", "top_k") for n in (3, 64)} < set(wrong)
    differences = {c.name: c.difference for c in verdict.checks}
    assert differences["serving_default probabilities, batch 64"] > 1e-3
    assert "SHA256SUMS" not in wrong


@pytest.mark.slow  # alone, without other weights
def test_replay_finds_reordered_labels(copy):
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
    with pytest.raises(UsageError, match=rf"{copy} cannot be loaded: .*`zoo verify {copy}` to find the cause"):
        zoo.export.load(copy)


def test_added_and_removed_files_are_found(copy):
    (copy / "assets" / "more.txt").write_text("more")
    (copy / "README.md").unlink()
    assert artifact_paths.check_sums(copy) == ["README.md is missing", "assets/more.txt is not listed"]
    (copy / "assets.extra" / "SHA256SUMS").unlink()
    assert artifact_paths.check_sums(copy) == ["assets.extra/SHA256SUMS is missing"]


def test_a_dirty_or_dead_process_fails_verification(base, tmp_path, monkeypatch):
    # Python imports sitecustomize before any import can be blocked.
    early = tmp_path / "sitecustomize.py"
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    early.write_text("import sys, types\nsys.modules['zoo.early'] = types.ModuleType('zoo.early')\n")
    assert failed(verify(base / "1", runtimes=())) == {"clean process": "imported zoo.early"}
    early.write_text("import os\nos.write(2, b'one line\\nno such library\\n')\nos._exit(7)\n")
    assert failed(verify(base / "1", runtimes=())) == {"replay in a clean process": "exit status 7: no such library"}


@pytest.mark.parametrize("name", ["golden.npz", "zoo.json"])
def test_verification_requires_the_golden_files(copy, name):
    (copy / "assets.extra" / name).unlink()
    assert failed(verify(copy, runtimes=())) == {
        "SHA256SUMS": f"assets.extra/{name} is missing",
        f"assets.extra/{name}": "missing, so there is nothing to compare the outputs with; `zoo export` writes this file",
    }


def test_a_damaged_golden_file_gets_no_advice_to_load_a_pickle(copy):
    (copy / "assets.extra" / "golden.npz").write_bytes(b"no archive")
    found = failed(verify(copy, runtimes=()))
    assert found["SHA256SUMS"] == "assets.extra/golden.npz was changed"
    assert found["replay in a clean process"] == "ValueError: It is not an NPZ file. Pass a file that `save` wrote."


def test_changed_artifacts_are_not_converted_and_predict_warns(copy, capsys):
    labels = copy / "assets" / "labels.txt"
    labels.write_text("".join(reversed(labels.read_text().splitlines(keepends=True))))
    with pytest.raises(
        UsageError, match=r"is not converted, because it has changed since its export: assets/labels.txt was"
    ):
        zoo.export.convert(copy, "onnx")
    png = copy.parent / "image.png"
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(png)
    assert run_command(predict.command, [str(copy), str(png)]) == 0
    assert (
        "has changed since its export: assets/labels.txt was changed. Its answers may be wrong"
        in capsys.readouterr().err
    )


def test_a_damaged_graph_is_reported_in_one_sentence(copy):
    graph = copy / "saved_model.pb"
    graph.write_bytes(graph.read_bytes().replace(b"^StatefulPartitionedCall", b"^StatefulQartitionedCall"))
    with pytest.raises(UsageError, match=r"cannot be loaded: .* Run `zoo verify .*` to find the cause"):
        zoo.export.load(copy)


def test_reading_a_missing_verdict_is_rejected(copy):
    (copy / "assets.extra" / "verification.json").unlink()
    with pytest.raises(UsageError, match=rf"{copy} has no recorded verdict. `zoo export` writes SavedModels with one"):
        Verification.read(copy)


# The comparison, on explicit arrays.
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


def test_nonfinite_values_never_agree():
    for value in (np.nan, np.inf):
        assert compared({"x": [value]}, {"x": [value]})["x"] == (False, "has values that are not finite")
        assert compared({"x": [1.0]}, {"x": [value]})["x"] == (False, "has values that are not finite")


def test_outputs_missing_on_one_side_fail():
    rows = compared({"x": [1.0]}, {"y": [1.0]})
    assert rows == {"x": (False, "missing in the outputs"), "y": (False, "golden.npz has no data for it")}


def test_a_label_may_differ_only_at_a_tie():
    even = [[0.4, 0.4, 0.2]]
    nearly = [[0.4, 0.400001, 0.2]]
    assert compared(answer(even, b"ant"), answer(nearly, b"bee"))["class_name"] == (
        True,
        "1 of 1 differ, 1 of them ties",
    )
    # Equally probable, but inconsistent with these probabilities: the order of the labels is wrong.
    assert compared(answer(even, b"ant"), answer(even, b"bee"))["class_name"] == (False, "1 of 1 differ")
    assert compared(answer(even, b"ant"), answer(even, b"cat"))["class_name"] == (False, "1 of 1 differ")
    clear = [[0.4, 0.41, 0.19]]
    assert compared(answer(even, b"ant"), answer(clear, b"bee"))["class_name"] == (False, "1 of 1 differ")


# --- verify.py -------------------------------------------------------------------------------------------------------


def test_the_artifact_checks_itself_without_keras_and_without_this_package(base, tmp_path):
    folder = tmp_path / "moved"
    shutil.copytree(base / "1", folder)
    file = str(folder / "assets.extra" / "verify.py")
    script = f"import runpy, sys; sys.modules['keras'] = sys.modules['zoo'] = None; sys.argv[:] = [{file!r}]"
    script += f"; runpy.run_path({file!r}, run_name='__main__')"

    def verdict():
        done = processes.run(
            [sys.executable, "-c", script], kind="tensorflow", capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout.splitlines()

    status, lines = verdict()
    recorded = Verification.read(folder).table().splitlines()
    ours = {line.split()[1] for line in recorded if line.startswith("ok")}
    assert status == 0 and lines[-1].startswith(f"{folder}: verified (tensorflow ")
    assert {"predict", "serving_default", "weights", "labels"} <= ours & {line.split()[1] for line in lines}
    labels = folder / "assets" / "labels.txt"
    labels.write_text(labels.read_text().replace("3", "three"))
    status, lines = verdict()
    failed = [line for line in lines if line.startswith("FAILED")]
    assert status == 1 and lines[-1].startswith(f"{folder}: NOT VERIFIED")
    assert any("SHA256SUMS" in line and "assets/labels.txt was changed" in line for line in failed)
    assert any("line 4 is 'three', expected '3'" in line for line in failed)
