"""Runs that are interrupted by signals or killed at random moments, in real processes."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import keras
import pytest

import zoo
from zoo.training.cluster import Workers
from zoo.training.loop.signals import Interrupted, Interruption, Stops

TIMES = ("seconds", "examples_per_second")
TRAIN = [
    *("train", "--model", "cnn", "--data", "digits", "--no-export", "--quiet"),
    *("--model.filters", "[4, 6]", "--model.dense_units", "8", "--model.input_shape", "[12, 12, 1]"),
    *("--model.dropout", "0.3", "--config.deterministic", "true", "--config.steps_per_call", "3"),
    *("--config.ema_momentum", "0.9", "--config.keep_best", "2", "--config.augmentation", "[crop]"),
]


def start(directory, *words):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "zoo.scripts.cli", *TRAIN, "--run_directory", str(directory), *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=Path(sys.executable).anchor,
    )


def facts(directory):
    """Returns the values that must be equal in two equal runs: the bytes of the weights, and the history without times."""
    weights = keras.saving.load_model(directory / "model.keras", compile=False).get_weights()
    header, *rows = [line.split(",") for line in (directory / "history.csv").read_text().splitlines()]
    keep = [i for i, name in enumerate(header) if name not in TIMES]
    return [w.tobytes() for w in weights], [[row[i] for i in keep] for row in rows]


def wait_for(condition, process, seconds=120):
    until = time.monotonic() + seconds
    while not condition() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [(), ("--config.lora_rank", "2", "--config.layer_decay", "0.8")], ids=["all", "lora"]
)
def test_a_signal_saves_the_run_and_the_same_command_resumes_it(tmp_path, options):
    """Sends SIGTERM, then kill -9 to the resumed run; the final weights equal those of an uninterrupted run."""
    words = ("--config.epochs", "24", "--config.checkpoint_steps", "7", *options)
    history = tmp_path / "run" / "history.csv"
    for number, status, rows in ((signal.SIGTERM, 143, 4), (signal.SIGKILL, -9, 12)):
        process = start(tmp_path / "run", *words)
        wait_for(lambda rows=rows: history.exists() and len(history.read_text().splitlines()) > rows, process)
        began = time.monotonic()
        process.send_signal(number)
        text, _ = process.communicate(timeout=60)
        assert process.returncode == status, text[-2000:]
        assert time.monotonic() - began < 20
        if status > 0:
            assert "zoo: Training was interrupted; the same command resumes from epoch" in text, text[-2000:]
        assert "Traceback" not in text and not (tmp_path / "run" / "model.keras").exists()
    for name in ("run", "whole"):
        process = start(tmp_path / name, *words)
        text, _ = process.communicate(timeout=200)
        assert process.returncode == 0, text[-2000:]
        assert ("resuming in epoch" in text) == (name == "run")
    assert facts(tmp_path / "run") == facts(tmp_path / "whole")


@pytest.mark.slow
def test_a_killed_run_that_began_with_other_weights_resumes_without_them(tmp_path):
    other = tmp_path / "other"
    text, _ = start(other, "--config.epochs", "1").communicate(timeout=200)
    words = (
        "--start-from",
        str(other),
        "--config.epochs",
        "12",
        "--config.checkpoint_steps",
        "7",
        "--config.seed",
        "5",
    )
    text, _ = start(tmp_path / "whole", *words).communicate(timeout=200)
    assert f"Starts with 8 of 8 weights of {other}." in text, text[-2000:]
    history = tmp_path / "run" / "history.csv"
    process = start(tmp_path / "run", *words)
    wait_for(lambda: history.exists() and len(history.read_text().splitlines()) > 3, process)
    process.kill()
    process.communicate(timeout=60)
    assert process.returncode == -9 and not (tmp_path / "run" / "model.keras").exists()
    shutil.rmtree(other)
    text, _ = start(tmp_path / "run", *words).communicate(timeout=200)
    assert "resuming in epoch" in text and "Starts with" not in text, text[-2000:]
    assert facts(tmp_path / "run") == facts(tmp_path / "whole")


@pytest.mark.slow
def test_ten_kills_at_random_moments_do_not_change_the_result(tmp_path):
    """Saves a checkpoint after every second step, so many kills hit the writing of a checkpoint."""
    words = ("--config.epochs", "4", "--config.checkpoint_steps", "2", "--config.keep_checkpoints", "3")
    whole = start(tmp_path / "whole", *words)
    text, _ = whole.communicate(timeout=300)
    assert whole.returncode == 0, text[-2000:]
    checkpoints, moments, kills = tmp_path / "run" / "checkpoints", random.Random(0), 0
    while True:
        process = start(tmp_path / "run", *words)
        if kills < 10:
            before = sorted(checkpoints.glob("step-*"))
            wait_for(lambda before=before: sorted(checkpoints.glob("step-*")) != before, process)
            time.sleep(moments.uniform(0, 0.25))
            process.kill()
        text, _ = process.communicate(timeout=300)
        if process.returncode == 0:
            break
        assert process.returncode == -9, text[-2000:]
        kills += 1
    print(f"{kills} kills")
    assert kills >= 5
    assert facts(tmp_path / "run") == facts(tmp_path / "whole")


class Together(Workers):
    """Two workers in two threads: an exchange waits until both make it."""

    def __init__(self, exchange):
        self.count, self.index, self._exchange = 2, 1, exchange

    def sum(self, values):
        self._exchange()
        return values


def leave(exchange):
    """Leaves a run as a worker without a run directory; returns when."""
    state = SimpleNamespace(epoch=0, step=3, directory=None, kept=True)
    with pytest.raises(Interrupted, match="worker 0 has saved the run, and this is worker 1 of 2"):
        Stops(None, Together(exchange), state, None).leave(signal.SIGTERM)
    return time.monotonic()


def test_workers_leave_after_the_chief_has_written():
    both = threading.Barrier(2)
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(leave, both.wait)
        time.sleep(0.5)  # the chief writes its checkpoint
        written = time.monotonic()
        leave(both.wait)
        assert other.result(20) >= written


def test_workers_leave_without_one_that_is_lost(monkeypatch):
    monkeypatch.setattr("zoo.training.loop.signals._SECONDS_TO_SAVE", 0.2)
    began, never = time.monotonic(), threading.Event()
    leave(lambda: never.wait(60))

    def fails():
        raise RuntimeError("UNAVAILABLE: Socket closed")

    leave(fails)
    assert time.monotonic() - began < 10
    never.set()


def test_signal_handlers_are_restored():
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with Interruption() as interruption:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)
        assert interruption.number == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):  # a second one is obeyed at once
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_training_in_a_thread_installs_no_signal_handlers():
    found = []

    def run():
        with Interruption() as interruption:
            found.append(interruption.number)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [0]


def test_interruption_without_a_run_directory_reports_the_loss():
    prepared = zoo.datasets.load("digits").prepare("mlp", hidden_units=[4], input_shape=[8, 8, 1])
    model = prepared.build(seed=0)

    class Leave(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted, match=r"no run directory, so nothing of it is kept; pass run_directory") as caught:
        zoo.train(model, prepared, zoo.TrainConfig(epochs=2, steps_per_call=4), callbacks=[Leave()], verbose=0)
    assert caught.value.status == 130


def test_a_signal_during_validation_keeps_the_training_of_the_epoch(tmp_path):
    """Saves the training metrics of the epoch; the resumed run validates again and ends with the same result."""

    class Leave(keras.callbacks.Callback):
        def on_test_begin(self, logs=None):
            os.kill(os.getpid(), signal.SIGTERM)

    prepared = zoo.datasets.load("digits").prepare("mlp", hidden_units=[4], input_shape=[8, 8, 1])
    config = zoo.TrainConfig(epochs=2, batch_size=431, ema_momentum=0.9, deterministic=True)
    whole = zoo.train(prepared.build(seed=0), prepared, config, verbose=0)
    with pytest.raises(Interrupted, match=r"resumes from epoch 1, step 4") as caught:
        zoo.train(prepared.build(seed=0), prepared, config, run_directory=tmp_path, callbacks=[Leave()], verbose=0)
    assert caught.value.status == 143
    result = zoo.train(prepared.build(seed=1), prepared, config, run_directory=tmp_path, verbose=0)
    assert result.resumed_at == (0, 3)
    for one, two in zip(whole.history, result.history, strict=True):
        assert {k: v for k, v in one.items() if k not in TIMES} == {k: v for k, v in two.items() if k not in TIMES}
    for one, two in zip(whole.model.get_weights(), result.model.get_weights(), strict=True):
        assert one.tobytes() == two.tobytes()
