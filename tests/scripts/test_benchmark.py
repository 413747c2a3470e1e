"""`zoo benchmark training`: the mechanics, with the smallest family. Timings are not tested."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import zoo
from zoo.scripts import cli
from zoo.scripts.benchmarks import servers, serving, training, with_keras

WORDS = ["benchmark", "training", "--families", "mlp", "--steps", "2", "--seconds", "0.01", "--threads", "1"]


@pytest.mark.slow
def test_rounds_alternate_and_a_missing_framework_is_reported(tmp_path, capsys):
    """Compares with Keras's fit: the same parameters, and the same loss, because both start from the same weights."""
    file = tmp_path / "figures.csv"
    without_torch = tmp_path / "python"
    without_torch.write_text(f'#!/bin/sh\nexec {sys.executable} -S -E "$@"\n')  # -S hides all installed packages
    without_torch.chmod(0o755)
    words = ["--contenders", "keras", "torch", "--torch-python", str(without_torch), "--output", str(file)]
    assert cli.main([*WORDS, *words]) == 0
    shown = capsys.readouterr().out
    rows = list(csv.DictReader(file.open()))
    assert [row["contender"] for row in rows] == ["zoo", "keras"]
    assert [int(row["parameters"]) for row in rows] == [55_050, 55_050]
    assert float(rows[0]["loss"]) == pytest.approx(float(rows[1]["loss"]), rel=1e-4)
    assert all(float(row["examples_per_second"]) > 0 and int(row["rounds"]) >= 3 for row in rows)
    assert float(rows[0]["ratio"]) == 1.0
    assert "| family | batch size | threads | precision | zoo.train | Keras fit(x, y) |\n" in shown
    assert re.search(r"^\| `mlp` \| 64 \| 1 \| float32 \| [\d,]+ \| [\d,]+ \(x[\d.]+\) \|$", shown, re.MULTILINE)
    assert "PyTorch, DataLoader: skipped: numpy is not installed; pip install torch lightning" in shown


@pytest.mark.parametrize("family", sorted(training.FAMILIES))
def test_the_keras_contender_computes_the_same_function(family):
    """With the same weights, the zoo's model and a model of Keras's own layers give the same outputs."""
    settings = training.FAMILIES[family]
    ours = zoo.build(family, **settings["model"])
    theirs = with_keras.plain_keras(family, settings["model"], settings.get("length"))
    theirs.set_weights(ours.get_weights())
    x, y = with_keras.make_data({**settings, "family": family, "batch_size": 3, "steps": 1})
    answers = [np.asarray(model(x, training=False)) for model in (ours, theirs)]
    np.testing.assert_allclose(*answers, atol=1e-5)
    assert y.shape == answers[0].shape[:-1]
    assert [type(v).__module__.startswith("zoo") for v in theirs.layers if "lstm" in v.name or "gru" in v.name] in (
        [],
        [False],
        [False, False],
    ), "the contender must be Keras's own layer"


@pytest.mark.parametrize("family", sorted(training.FAMILIES))
def test_the_pytorch_contender_computes_the_same_function(family, tmp_path):
    torch = pytest.importorskip("torch")
    from zoo.scripts.benchmarks import with_torch

    settings = training.FAMILIES[family]
    model = zoo.build(family, **settings["model"])
    x, _ = with_keras.make_data({**settings, "family": family, "batch_size": 3, "steps": 1})
    module = with_torch.make_module(family, iter(model.get_weights())).eval()
    taken = np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if family == "cnn" else x
    with torch.no_grad():
        found = torch.softmax(module(torch.from_numpy(taken)), -1).numpy()
    np.testing.assert_allclose(found, model(x, training=False), atol=1e-5)


def row(contender, parameters=10, loss=1.0):
    return training.Row("mlp", contender, parameters, loss, [1.0])


def test_a_contender_that_trains_another_model_is_rejected():
    training._check_alike([row("zoo"), row("keras", loss=1.04)])
    with pytest.raises(zoo.UsageError, match=r"keras trains 11 parameters of mlp, zoo 10. Correct"):
        training._check_alike([row("zoo"), row("keras", parameters=11)])
    with pytest.raises(zoo.UsageError, match=r"keras has a loss of 1.0600 on mlp, zoo 1.0000. Correct"):
        training._check_alike([row("zoo"), row("keras", loss=1.06)])


def test_message_names_a_contender_that_dies(tmp_path):
    job = {"contender": "keras", "folder": str(tmp_path), "threads": 1}
    worker = training.Worker([sys.executable, "-c", "raise SystemExit('no memory')"], job)
    with pytest.raises(zoo.UsageError, match="A contender ended: no memory Leave it out"):
        worker.answer()
    worker.close()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["training", "--families", "mpl"], "--families has 'mpl'. Did you mean 'mlp'"),
        (["training", "--contenders", "pytorch"], "--contenders has 'pytorch'"),
        (["training", "--threads", "0"], "--threads is 0; expected at least 1"),
        (["serve"], "Did you mean 'server' or 'serving'"),
    ],
)
def test_invalid_options_are_rejected(words, message, capsys):
    assert cli.main(["benchmark", *words]) == 2
    assert message in capsys.readouterr().err


def test_the_pytorch_worker_runs_without_this_package(tmp_path):
    """The worker may run in another Python, which has PyTorch but not this package."""
    file = Path(training.__file__).with_name("with_torch.py")
    job = json.dumps({"contender": "torch", "folder": str(tmp_path), "threads": 1})
    environment = {"PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, "-S", "-E", str(file), job], capture_output=True, text=True, env=environment, check=True
    )
    assert json.loads(done.stdout.removeprefix("@@"))["skipped"].startswith("numpy is not installed; pip install")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--families", "cn"], r"--families has 'cn'. Did you mean 'cnn'\?"),
        (["--batch_sizes", "0"], r"--batch_sizes has 0; expected 1 to 100000. Try --batch_sizes 1"),
    ],
)
def test_invalid_serving_options_are_rejected(words, message, capsys):
    assert cli.main(["benchmark", "serving", *words]) == 2
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize("length", ["0", "-3"])
def test_a_benchmark_without_steps_is_rejected(length, capsys):
    assert cli.main(["benchmark", "serving", "--families", "bert", "--length", length]) == 2
    assert f"--length has {length}; expected at least 1. Try --length 50." in capsys.readouterr().err


def test_serving_benchmark_covers_every_family():
    assert sorted(serving.FAMILIES) == zoo.list_models(variants=False)


@pytest.mark.slow
def test_serving_benchmark_compares_outputs_before_measuring(tmp_path, capsys):
    file = tmp_path / "figures.csv"
    words = [
        "--families",
        "mlp",
        "--threads",
        "1",
        "--batch_sizes",
        "1",
        "5",
        "--seconds",
        "0.05",
        "--output",
        str(file),
    ]
    assert cli.main(["benchmark", "serving", *words]) == 0
    shown = capsys.readouterr().out
    rows = list(csv.DictReader(file.open()))
    measured = {row["contender"] for row in rows}
    assert measured >= {
        "zoo",
        "zoo_raw",
        "keras_export",
        "keras_predict",
        "keras_call",
        "keras_xla",
        "onnxruntime",
        "openvino",
    }
    assert {(row["family"], row["batch"], row["threads"]) for row in rows} == {("mlp", "1", "1"), ("mlp", "5", "1")}
    assert all(float(row["milliseconds"]) > 0 and row["rounds"] == "5" for row in rows)
    assert "| `mlp` | 5 | 1 | " in shown


@pytest.mark.slow
def test_a_contender_with_different_outputs_is_not_measured(tmp_path):
    job = {"family": "mlp", "data": "digits", "contender": "zoo", "threads": 1, "folder": str(tmp_path), "rows": 8}
    servers.write_artifact({**job, "model": {"hidden_units": [4]}})
    with np.load(tmp_path / "start.npz") as start:
        inputs = {k.removeprefix("x_"): start[k] for k in start.files if k.startswith("x_")}
        expected = start["answer"]
    call = servers.zoo_call(job)
    with pytest.raises(ValueError, match=r"differs from the Keras model.s by 0\.5"):
        servers.serve(call, inputs, expected + 0.5)


@pytest.mark.slow
@pytest.mark.parametrize("family", sorted(serving.FAMILIES))
def test_the_contenders_of_every_family_answer_as_the_model_does(tmp_path, family):
    """Raw requests are answered as they were when the SavedModel was written; also for a batch below eight."""
    job = {**serving.FAMILIES[family], "family": family, "folder": str(tmp_path), "rows": 3}
    servers.write_artifact(job)
    with np.load(tmp_path / "start.npz") as start:
        inputs = {k.removeprefix("x_"): start[k] for k in start.files if k.startswith("x_")}
        expected = start["answer"]
    assert servers.gap(servers.zoo_call(job)(inputs), expected) < 1e-4
    call, requests, answers = servers.raw_requests(job)
    assert servers.gap(call(requests), answers) < 1e-4
    assert {len(values) for values in requests.values()} == {3}
