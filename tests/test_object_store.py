"""Data, exports and runs over S3's protocol, from a server on loopback: also through a connection that breaks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

pytest.importorskip("s3fs", reason='s3fs is not installed: pip install ".[remote]"')
pytest.importorskip("moto.server", reason='moto is not installed: pip install "moto[server]"')

import zoo
from object_store import ObjectStore
from small_trainings import small_training
from zoo import remote
from zoo.errors import UsageError
from zoo.export import artifact_paths
from zoo.remote import store
from zoo.scripts import cli

TRAIN = small_training(batch_size=32)


@pytest.fixture(scope="module")
def s3():
    started = ObjectStore()
    yield started
    started.close()


@pytest.fixture
def box(s3, tmp_path, monkeypatch):
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(store, "_ATTEMPTS", (0.1,))
    monkeypatch.chdir(tmp_path)
    s3.proxy.breaks = lambda head: False
    return s3


def command(*words):
    return [sys.executable, "-P", "-m", "zoo.scripts.cli", *words]


def failed(capsys, *words):
    """Returns the one line that a command prints before it ends with status 2."""
    assert cli.main(list(words)) == 2
    line = capsys.readouterr().err.strip()
    assert line.startswith("zoo: ") and "\n" not in line and "very-secret-key" not in line
    return line


def test_data_is_read(box):
    rows = "".join(f"{i % 7},{'ab'[i % 2]}\n" for i in range(60))
    box.client().put_object(Bucket="box", Key="data/a.csv", Body=b"x,label\n" + rows.encode())
    data = zoo.datasets.load("csv:s3://box/data/a.csv")
    assert sum(part.num_examples for part in data.splits.values()) == 60 and data.name == "csv:s3://box/data/a.csv"
    address = f"{box.url}/box/data/a.csv".replace("//", "//ann:very-secret-key@") + "?X-Amz-Signature=1f"
    page = zoo.datasets.load(f"csv:{address}")
    assert page.name == f"csv:{box.url}/box/data/a.csv" and page.splits["train"].num_examples > 40


def test_a_bucket_that_is_not_there(box, capsys):
    line = failed(capsys, "train", "--model", "mlp", "--data", "csv:s3://nowhere/a.csv", "--run-directory", "runs/a")
    assert "s3://nowhere/a.csv" in line and "does not exist" in line and not os.path.exists("runs")
    line = failed(capsys, *TRAIN, "--run-directory", "s3://nowhere/run")
    assert "Cannot write s3://nowhere/run: The specified bucket does not exist. Create the bucket" in line
    with pytest.raises(
        UsageError, match=r"Cannot write s3://nowhere/model: The specified bucket does not exist. Create"
    ):
        zoo.export.save(None, "s3://nowhere/model", examples=[1])


def test_no_right_to_write(box, capsys):
    deny = {"Effect": "Deny", "Principal": "*", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::locked/*"}
    box.client().create_bucket(Bucket="locked")
    box.client().put_bucket_policy(Bucket="locked", Policy=json.dumps({"Version": "2012-10-17", "Statement": [deny]}))
    line = failed(capsys, *TRAIN, "--run-directory", "s3://locked/run")
    assert "Cannot write s3://locked/run: " in line and "Pass credentials that may write there" in line
    with pytest.raises(UsageError, match=r"Cannot write s3://locked/model: .* Pass credentials that may write there"):
        zoo.export.save(None, "s3://locked/model", examples=[1])


def saved_model(folder):
    import keras

    x = np.random.default_rng(0).normal(size=(32, 200)).astype("float32")
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((200,)), keras.layers.Dense(64), keras.layers.Dense(3)])
    return model, x, zoo.export.save(model, folder, examples=x, verbose=0)


def test_an_export_is_loaded_back_equal(box, tmp_path):
    model, x, place = saved_model("s3://box/models/dense")
    assert remote.shown(place) == "s3://box/models/dense/1"
    assert "saved_model.pb" in box.names("models/dense/1/") and ".writing" not in box.names("models/dense/1/")
    answers = zoo.export.load(place)(x)
    loaded = zoo.export.load(place)
    local = zoo.export.load(zoo.export.save(model, tmp_path / "local", examples=x, verbose=0))
    for name, values in local(x).items():
        np.testing.assert_array_equal(answers[name], values)
    assert zoo.export.verify("s3://box/models/dense", runtimes=()).passed
    assert artifact_paths.check_sums(loaded.path) == []
    files = {f.relative_to(loaded.path).as_posix(): f.read_bytes() for f in loaded.path.rglob("*") if f.is_file()}
    client = box.client()
    names = box.names("models/dense/1/")
    there = {name: client.get_object(Bucket="box", Key=f"models/dense/1/{name}")["Body"].read() for name in names}
    assert there == files, "byte by byte"
    print(f"{len(files)} files, {sum(map(len, files.values())):,} bytes equal, 32 answers equal")


def test_a_connection_that_breaks_in_an_upload(box):
    box.proxy.breaks = lambda head: head.startswith(b"PUT ") and b"variables.data" in head.split(b"\r\n")[0]
    with pytest.raises(
        UsageError,
        match=r"^Cannot write s3://box/models/broken: .*Nothing was published; the next try takes another number.$",
    ) as error:
        saved_model("s3://box/models/broken")
    assert box.proxy.broken and "very-secret-key" not in str(error.value)
    assert "1/saved_model.pb" not in box.names("models/broken/")
    with pytest.raises(UsageError, match="holds no complete SavedModel"):
        zoo.export.load("s3://box/models/broken")
    count, box.proxy.breaks = box.proxy.broken, lambda head: False
    *_, place = saved_model("s3://box/models/broken")
    assert zoo.export.verify(place, runtimes=()).passed and box.proxy.broken == count


def history(directory):
    rows = (directory / "history.csv").read_text().splitlines()
    place = rows[0].split(",").index("loss")
    return [float(row.split(",")[place]) for row in rows[1:]]


@pytest.mark.slow
def test_a_killed_run_resumes_on_another_machine(box, tmp_path):
    words = [*TRAIN, "--config.epochs", "6", "--config.checkpoint_steps", "10"]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
    whole = subprocess.run(command(*words, "--run-directory", "whole"), env=environment, capture_output=True, text=True)
    assert whole.returncode == 0, whole.stderr
    words += ["--run-directory", "s3://box/runs/killed"]
    with open("first.log", "w") as log:
        first = subprocess.Popen(
            command(*words), env={**environment, "ZOO_CACHE": str(tmp_path / "one")}, stdout=log, stderr=log
        )
        deadline = time.monotonic() + 300
        while sum(name.endswith("state.json") for name in box.names("runs/killed/")) < 2:
            assert first.poll() is None and time.monotonic() < deadline, (tmp_path / "first.log").read_text()
            time.sleep(0.05)
        first.send_signal(signal.SIGKILL)
        first.wait()
    steps = sorted({name.split("/")[1] for name in box.names("runs/killed/") if "state.json" in name})
    assert ".lease" in box.names("runs/killed/"), "a killed process leaves its lease"
    second = subprocess.run(
        command(*words), env={**environment, "ZOO_CACHE": str(tmp_path / "two")}, capture_output=True, text=True
    )
    assert second.returncode == 0, second.stdout + second.stderr
    assert "Found the run in s3://box/runs/killed: resuming in epoch" in second.stdout
    (run,) = (tmp_path / "two" / "runs").iterdir()
    print(
        steps,
        [line for line in second.stdout.splitlines() if "Found" in line],
        history(run),
        history(tmp_path / "whole"),
    )
    assert history(run) == history(tmp_path / "whole"), "the same digits as an unbroken run"
    assert (
        box.client().get_object(Bucket="box", Key="runs/killed/history.csv")["Body"].read()
        == (run / "history.csv").read_bytes()
    )
    texts = [(tmp_path / "first.log").read_text(), second.stdout, second.stderr]
    texts += [f.read_bytes().decode("utf-8", "replace") for f in run.rglob("*") if f.is_file()]
    assert not any("very-secret-key" in text or "AKIATESTKEY" in text for text in texts)
