"""Weights by name in real processes: two at once, a cache that cannot be written, and a killed run."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
import yaml

import zoo
from loopback_hub import COMMIT, Hub
from small_bert import SMALL
from untrained_runs import untrained
from zoo import pipeline
from zoo.checkpoints.bert_folder import save_folder
from zoo.scripts import export

pytestmark = pytest.mark.slow
NAME = f"hf:acme/tiny@{COMMIT}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A masked language model as `save_huggingface` writes it."""
    place = tmp_path_factory.mktemp("tiny")
    untrained(place / "run", "command_lines", "bert_mlm", vocab_size=200, **{**SMALL, "max_length": 32})
    pipeline.save_huggingface(place / "run", place / "folder")
    (place / "folder/README.md").write_text("---\nlicense: mit\n---\n")
    return place / "folder"


@pytest.fixture
def served(folder):
    hub = Hub()
    hub.add("acme/tiny", folder)
    yield hub
    hub.close()


# Without this capability, root must obey the modes of folders as everybody.
_BOUND = ("setpriv", "--bounding-set", "-dac_override") if os.geteuid() == 0 else ()


def start(hub, home, *words, before=(), **settings) -> subprocess.Popen:
    environment = {**os.environ, **hub.environment(home), "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    command = [*before, sys.executable, "-P", "-m", "zoo.scripts.cli", *map(str, words)]
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": Path(sys.executable).anchor}
    return subprocess.Popen(command, env=environment | settings.pop("env", {}), **{**output, **settings})


def finish(process) -> tuple[int, str, str]:
    said, errors = process.communicate(timeout=300)
    return process.returncode, said, errors


def test_two_processes_fetch_the_same_weights_at_once(served, folder, tmp_path):
    processes = [start(served, tmp_path / "home", "fetch", "hf:acme/tiny", "--quiet") for _ in range(2)]
    results = [finish(process) for process in processes]
    assert [status for status, _, _ in results] == [0, 0], results
    assert results[0][1] == results[1][1]
    path = Path(results[0][1].strip())
    assert (path / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    assert not [*(tmp_path / "home").rglob("*.incomplete")]


def test_fetch_prints_the_folder_and_shows_a_bar_in_a_terminal(served, tmp_path):
    master, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 120))
    process = start(served, tmp_path / "home", "fetch", "hf:acme/tiny", "--revision", "main", stderr=terminal)
    status, said, _ = finish(process)
    os.close(terminal)
    shown = os.read(master, 100_000).decode()
    os.close(master)
    *_, source, digest, path = said.splitlines()
    assert status == 0 and source == f"{NAME}: licence mit" and digest.startswith("model.safetensors: sha256 ")
    assert Path(path, "config.json").is_file()
    assert "model.safetensors: 100%" in shown and "vocab.txt" not in shown
    copy = shutil.copytree(path, tmp_path / "copy")
    assert zoo.checkpoints.build("bert", copy, num_classes=2).output_shape == (None, 2)
    status, said, errors = finish(start(served, tmp_path / "home", "fetch", "bert-base-uncased"))
    assert (status, said) == (2, "") and errors.startswith(
        "zoo: 'bert-base-uncased' is not the name of weights. Pass hf:"
    )
    assert errors.count("\n") == 1


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="root may write everywhere")
def test_a_cache_that_cannot_be_written_is_read(served, folder, tmp_path):
    home = tmp_path / "home"
    assert finish(start(served, home, "fetch", NAME))[0] == 0
    for place in (home, *home.rglob("*")):
        if place.is_dir():
            place.chmod(0o555)
    files = {p: p.lstat().st_mtime_ns for p in home.rglob("*")}
    status, said, errors = finish(start(served, home, "fetch", "hf:acme/tiny", "--quiet", before=_BOUND))
    assert (status, Path(said.strip()).name) == (0, COMMIT), errors
    served.add("acme/tiny", folder, "f" * 40)
    status, said, errors = finish(start(served, home, "fetch", "hf:acme/tiny", "--quiet", before=_BOUND))
    last = errors.splitlines()[-1]
    assert (
        status == 2
        and last.startswith("zoo: The cache")
        and "cannot be written: Permission denied. Set HF_HOME" in last
    )
    assert {p: p.lstat().st_mtime_ns for p in home.rglob("*")} == files
    for place in (home, *home.rglob("*")):
        if place.is_dir():
            place.chmod(0o755)


def test_a_killed_run_resumes_with_the_recorded_commit(served, folder, tmp_path):
    run = tmp_path / "run"
    words = (
        *("train", "--model", "bert", "--model.weights", "hf:acme/tiny@main", "--data", "commands", "--quiet"),
        *("--config.epochs", 3, "--config.checkpoint_steps", 1, "--run_directory", run, "--baselines", "none"),
    )
    process = start(served, tmp_path / "home", *words)
    while process.poll() is None and not [*run.glob("checkpoints/step-*")]:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    content = yaml.safe_load((run / "config.yaml").read_text())
    recorded = content["pretrained"]
    assert recorded["name"] == "hf:acme/tiny@main" and recorded["source"] == content["model"]["weights"] == NAME
    other = shutil.copytree(folder, tmp_path / "other")
    (other / "README.md").write_text("---\nlicense: gpl\n---\n")
    served.add("acme/tiny", other, "f" * 40)  # the branch has moved
    before = len(served.requests)
    status, said, errors = finish(start(served, tmp_path / "home", *words))
    assert status == 0, errors
    assert "resuming in epoch" in said and "Downloads" not in said
    assert len(served.requests) == before
    assert yaml.safe_load((run / "config.yaml").read_text())["pretrained"] == recorded
    facts = json.loads((run / "saved_model/1/assets.extra/zoo.json").read_text())
    assert facts["pretrained"] == recorded
    line = (
        f"- Made from the published weights `{NAME}`, licence mit, SHA-256 `{recorded['sha256']['model.safetensors']}`"
    )
    assert line in (run / "README.md").read_text() and line in (run / "saved_model/1/README.md").read_text()
    again = ("train", "--config", run / "config.yaml", "--run_directory", tmp_path / "again", "--no-export", "--quiet")
    status, said, errors = finish(start(served, tmp_path / "home", *again, env={"HF_HUB_OFFLINE": "1"}))
    assert status == 0, errors
    assert yaml.safe_load((tmp_path / "again/config.yaml").read_text())["pretrained"]["sha256"] == recorded["sha256"]
    assert len(served.requests) == before


def test_a_classifier_is_exported_by_its_name(tmp_path, monkeypatch, pieces, capsys):
    labels = ["switch on", "blame", "switch off", "ask"]
    model = zoo.build("bert", vocab_size=len(pieces), num_classes=4, **{**SMALL, "max_length": 32})
    hub = Hub()
    hub.add("acme/intents", save_folder(model, tmp_path / "folder", vocabulary=pieces, labels=labels))
    for name, value in hub.environment(tmp_path / "home").items():
        monkeypatch.setenv(name, value)
    with pytest.raises(
        zoo.UsageError, match=r"^hf:acme/intents needs a data set to prepare its requests\. Pass --data"
    ):
        export.command(["hf:acme/intents", str(tmp_path / "exports")])
    path = pipeline.export_checkpoint("hf:acme/intents", tmp_path / "exports", "commands")
    hub.close()
    facts = json.loads((path / "assets.extra/zoo.json").read_text())
    assert facts["pretrained"]["source"] == f"hf:acme/intents@{COMMIT}" and facts["pretrained"]["licence"] == "unknown"
    assert facts["class_names"] == sorted(labels)
    assert str(tmp_path / "home") not in "".join(p.read_text("latin-1") for p in path.rglob("*") if p.is_file())
