"""The program that `zoo launch ray` prints, on a real Ray: a worker dies, Ray starts the group again, the run resumes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from zoo.scripts import launch

pytest.importorskip("ray.train", reason='Ray is not installed: pip install "ray[train]"')

TRAIN = [
    "train",
    "--model",
    "mlp",
    "--data",
    "digits",
    "--model.hidden_units",
    "[8]",
    "--no-export",
    "--baselines",
    "none",
]
TRAIN += ["--config.deterministic", "true", "--config.batch_size", "256", "--config.epochs", "5", "--quiet"]
# A plugin, which every worker loads: it ends one of them, once, after the first checkpoint.
KILL = """
import json, os, threading, time
from pathlib import Path

def watch():
    while True:
        if list(Path("{run}").glob("checkpoints/step-*")) and not Path("{run}.killed").exists():
            Path("{run}.killed").touch()
            os._exit(1)
        time.sleep(0.05)

if json.loads(os.environ.get("TF_CONFIG") or "{{}}").get("task", {{}}).get("index") == {victim}:
    threading.Thread(target=watch, daemon=True).start()
"""


def losses(directory):
    rows = (directory / "history.csv").read_text().splitlines()
    place = rows[0].split(",").index("loss")
    return [float(row.split(",")[place]) for row in rows[1:]]


@pytest.mark.slow
@pytest.mark.parametrize("victim", [1, 0], ids=["worker", "chief"])
def test_a_group_that_lost_a_worker_resumes(tmp_path, monkeypatch, capsys, victim):
    monkeypatch.chdir(tmp_path)
    environment = {
        **os.environ,
        "CUDA_VISIBLE_DEVICES": "-1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_TRAIN_V2_ENABLED": "1",
    }

    def run(words):
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=900, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-5000:]
        return done.stdout + done.stderr

    alone = [*TRAIN, "--config.strategy", "one_device", "--run-directory", str(tmp_path / "alone")]
    run([sys.executable, "-P", "-m", "zoo.scripts.cli", *alone])
    directory = tmp_path / "group"
    (tmp_path / "kill.py").write_text(KILL.format(run=directory, victim=victim))
    words = [*TRAIN, "--plugin", str(tmp_path / "kill.py"), "--run-directory", str(directory)]
    assert launch.command(["ray", "--nodes", "2", "--restarts", "3", "--", *words]) == 0
    (tmp_path / "job.py").write_text(capsys.readouterr().out)
    shown = run([sys.executable, "-P", str(tmp_path / "job.py")])
    assert (tmp_path / "group.killed").exists() and "of 2 (TF_CONFIG)" in shown and "resuming in epoch" in shown
    print(losses(tmp_path / "alone")[-1], losses(directory)[-1])
    assert losses(directory) == pytest.approx(losses(tmp_path / "alone"), abs=1e-5)
