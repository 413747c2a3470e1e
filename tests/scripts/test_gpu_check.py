"""The check of training on GPUs, run on the CPU: its comparisons, and proofs that it can fail."""

from __future__ import annotations

import re
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

import zoo
from zoo.registry import check_arguments, get_spec, list_models
from zoo.scripts import gpu_check, gpu_check_worker
from zoo.scripts.gpu_check import CHECKS, Check, Runner, judge
from zoo.scripts.gpu_check_worker import STEPS, small_arguments

CHECK = Check("float32", weights=0.01, loss=0.02)
START = [np.zeros((2, 2)), np.zeros(3)]
END = [np.array([[3.0, 0.0], [0.0, 0.0]]), np.array([4.0, 0.0, 0.0])]  # the weights moved by a distance of 5


def made(end=END, **facts):
    losses = {"loss": 2.0, "val_loss": 1.0}
    facts = {"devices": ["/device:GPU:0"], "cudnn_ops": False, "steps": STEPS, "losses": losses, **facts}
    return {"start": START, "end": end, "recurrent": False, **facts}


@pytest.mark.parametrize(
    ("run", "check", "verdict", "detail"),
    [
        (made(), CHECK, "passed", r"weights 0\.0e\+00 \(at most 1\.0e-02\), loss 0\.0e\+00"),
        (made([END[0], np.array([4.0, 0.0, 0.049])]), CHECK, "passed", r"weights 9\.8e-03"),
        (made([END[0], np.array([4.0, 0.0, 0.051])]), CHECK, "failed", r"weights 1\.0e-02 \(at most"),
        (made(START), CHECK, "failed", r"weights 1\.0e\+00"),
        (made(losses={"loss": 2.03, "val_loss": 1.0}), CHECK, "passed", r"loss 1\.5e-02"),
        (made(losses={"loss": 2.0, "val_loss": 0.97}), CHECK, "failed", r"loss 3\.0e-02 \(at most 2\.0e-02\)"),
        (made(losses={"loss": float("nan"), "val_loss": 1.0}), CHECK, "failed", r"the losses are .*nan"),
        (made(steps=3), CHECK, "failed", rf"the run has 3 steps, expected {STEPS}"),
        (made(devices=["/device:CPU:0"]), CHECK, "failed", r"the weights are on /device:CPU:0, not on the GPU"),
        (made(), Check("cudnn on", cudnn=True), "failed", r"the graph has no cuDNN ops"),
        (made(cudnn_ops=True), Check("cudnn on", cudnn=True), "passed", r"weights"),
        (made(cudnn_ops=True), Check("cudnn off", cudnn=False), "failed", r"the graph has cuDNN ops"),
    ],
)
def test_verdicts_depend_on_the_numbers(run, check, verdict, detail):
    got = judge(made(), run, check, "gpu")
    assert got[0] == verdict and re.search(detail, got[1]), got


def test_tolerance_grows_with_sensitivity_at_low_precision():
    run = made([END[0], np.array([4.0, 0.0, 2.5])])  # half of the movement of 5
    for bits, verdict in ((8, "passed"), (11, "passed"), (24, "failed")):
        assert judge(made(), run, Check("any", bits=bits, loss=1), "gpu", sensitivity=1.3e-4)[0] == verdict, bits
    assert judge(made(), run, Check("any", bits=11, loss=1), "gpu", sensitivity=1.2e-4)[0] == "failed"


def test_tolerance_of_the_loss_grows_with_its_sensitivity():
    run = made(losses={"loss": 2.1, "val_loss": 1.0})  # 5 % from the reference
    for bits in (8, 20):
        for sensitivity, verdict in ((1e-3, "failed"), (1e-2, "passed")):
            assert judge(made(), run, Check("any", bits=bits, loss=0.01), "gpu", 0, sensitivity)[0] == verdict, bits


def test_rounding_equals_bfloat16():
    values = np.random.default_rng(0).normal(size=1000).astype(np.float32) * 1e-3
    assert np.array_equal(
        gpu_check_worker.round_to(values, 8), tf.cast(tf.cast(values, tf.bfloat16), tf.float32).numpy()
    )
    assert not np.array_equal(gpu_check_worker.round_to(values, 9), gpu_check_worker.round_to(values, 8))
    assert np.array_equal(gpu_check_worker.round_to(np.arange(3) + 1000, 8), np.arange(3) + 1000)


def test_unchanged_weights_are_no_proof():
    assert judge(made(START), made(START), CHECK, "gpu") == ("failed", "the reference run has not changed its weights")


def test_rounding_of_large_weights_is_tolerated():
    start = [np.full(4, 1000.0)]
    reference = {**made(), "start": start, "end": [np.full(4, 1000.001)]}
    run = {**made(), "start": start, "end": [np.full(4, 1000.001 + 3e-5)]}
    assert judge(reference, run, Check("float32"), "cpu")[0] == "passed"
    assert judge(reference, {**run, "end": [np.full(4, 1000.003)]}, Check("float32"), "cpu")[0] == "failed"


@pytest.mark.slow
def test_without_a_gpu_every_line_is_skipped(monkeypatch, capsys):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert gpu_check.command([]) == 0
    *lines, summary = capsys.readouterr().out.splitlines()
    assert len(lines) == len(list_models(variants=False)) * len(CHECKS)
    assert all(line.endswith("skipped: no GPU is visible to TensorFlow") for line in lines)
    assert re.match(rf"{len(lines)} checks on gpu: 0 passed, 0 failed, {len(lines)} skipped in \d+ s", summary)


def test_every_family_has_arguments_for_its_first_task():
    for model in list_models(variants=False):
        arguments = small_arguments(model, get_spec(model).tasks[0])
        check_arguments(get_spec(model), arguments)
        assert not set(arguments) & {"num_classes", *get_spec(model).data_arguments}
        assert all(value == 0 for name, value in arguments.items() if "dropout" in name), "masks differ by device"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--check", "flaot32"], r"Unknown check 'flaot32'\. Pass one of float32, xla,.*export\."),
        (["nothing*"], r"No model matches 'nothing\*'\. Pass a name that `zoo list` prints\."),
        (["--jobs", "0"], r"--jobs is 0 and --limit is 300; expected numbers above 0\. Try --jobs 1 --limit 300\."),
        (["--device", "tpu"], r"--device|invalid choice"),
    ],
)
def test_invalid_arguments_are_rejected(words, message):
    with pytest.raises(zoo.UsageError, match=message):
        gpu_check.command(words)


def test_a_process_over_its_time_limit_is_killed_with_its_children(tmp_path):
    source = (
        (
            "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', "
            f"'import time, pathlib; time.sleep(2); pathlib.Path({str(tmp_path / 'alive')!r}).touch()']); time.sleep(60)"
        )
        .replace("'import", '"import')
        .replace("touch()'", 'touch()"')
    )
    assert Runner(tmp_path, "cpu", 1, 0.7)._process(["-c", source], "cpu", "slow") == "took more than 0.7 s"
    time.sleep(2.5)
    assert not (tmp_path / "alive").exists()


def test_the_cause_of_a_failed_process_is_reported(tmp_path):
    runner = Runner(tmp_path, "cpu", 1, 60)
    source = "import os; print(os.environ['CUDA_VISIBLE_DEVICES']); raise ValueError('no such thing')"
    assert runner._process(["-c", source], "cpu", "bad") == "exit status 1: ValueError: no such thing"
    assert (tmp_path / "bad.log").read_text().startswith("-1\n")
    assert runner._process(["-c", "import os; os.kill(os.getpid(), 9)"], "cpu", "dead") == "exit status -9: no output"
    assert runner._process(["-c", "pass"], "cpu", "good") == ""


@pytest.mark.slow
def test_the_check_runs_on_the_cpu():
    """A family with a recurrent layer passes through every check that needs no GPU."""
    words = [sys.executable, "-P", "-m", "zoo.scripts.gpu_check", "embedding_lstm", "--device", "cpu", "--jobs", "1"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    verdicts = dict(re.findall(r"^embedding_lstm +(\S+(?: \S+)?) +(\w+): ", done.stdout, re.MULTILINE))
    assert list(verdicts) == [check.name for check in CHECKS]
    for check in CHECKS:
        assert verdicts[check.name] == ("skipped" if check.gpu_only else "passed"), done.stdout
    assert done.returncode == 0


@pytest.mark.slow
def test_a_different_learning_rate_is_detected(tmp_path):
    wrong = Check("float32", {"learning_rate": 0.26})
    ((_, _, verdict, detail),) = Runner(tmp_path, "cpu", 1, 300).run(["mlp"], [wrong])
    assert verdict == "failed" and re.match(r"weights 4\.0e-02 \(at most 1\.\de-03\)", detail), detail
