"""The program that `zoo launch ray` prints, on a real Ray: a worker dies, Ray starts the group again, the run resumes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from small_trainings import small_training
from zoo.scripts import launch

pytest.importorskip("ray.train", reason='Ray is not installed: pip install "ray[train]"')

TRAIN = [*small_training(batch_size=256), "--config.epochs", "12"]
# A plugin, which every worker loads: worker 1 ends after the first checkpoint, once, and the chief after a later one.
KILL = """
import json, os, threading, time
from pathlib import Path

def newest():
    return max((path.name for path in Path("{run}").glob("checkpoints/step-*")), default="")

def watch(index, begun):
    killed, before = Path(f"{run}.killed-{{index}}"), Path("{run}.killed-1")
    while not killed.exists():
        if newest() > begun and (index or before.exists()):
            killed.touch()
            os._exit(1)
        time.sleep(0.02)

task = json.loads(os.environ.get("TF_CONFIG") or "{{}}").get("task")
if task:
    threading.Thread(target=watch, args=(task["index"], newest()), daemon=True).start()
"""


def losses(directory):
    rows = (directory / "history.csv").read_text().splitlines()
    place = rows[0].split(",").index("loss")
    return [float(row.split(",")[place]) for row in rows[1:]]


@pytest.mark.slow
def test_a_group_that_lost_a_worker_and_then_its_chief_resumes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    environment = {
        **os.environ,
        "CUDA_VISIBLE_DEVICES": "-1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_TRAIN_V2_ENABLED": "1",
        "RAY_memory_monitor_refresh_ms": "0",  # it kills workers where other programs fill the machine's memory
    }

    def run(words):
        with open(tmp_path / "log", "w") as log:  # not a pipe: processes of Ray hold it longer than their driver
            done = subprocess.run(words, env=environment, stdout=log, stderr=log, timeout=1800, check=False)
        shown = (tmp_path / "log").read_text(errors="replace")
        assert done.returncode == 0, shown[-8000:]
        return shown

    directory = tmp_path / "group"
    (tmp_path / "kill.py").write_text(KILL.format(run=directory))
    words = [*TRAIN, "--plugin", str(tmp_path / "kill.py"), "--run-directory", str(directory)]
    assert launch.command(["ray", "--nodes", "2", "--restarts", "3", "--", *words]) == 0
    (tmp_path / "job.py").write_text(capsys.readouterr().out)
    shown = run([sys.executable, "-P", str(tmp_path / "job.py")])
    assert (tmp_path / "group.killed-1").exists() and (tmp_path / "group.killed-0").exists()
    assert "of 2 (TF_CONFIG)" in shown and shown.count("resuming in epoch") >= 2
    alone = [*TRAIN, "--config.strategy", "one_device", "--run-directory", str(tmp_path / "alone")]
    run([sys.executable, "-P", "-m", "zoo.scripts.cli", *alone])
    print(losses(tmp_path / "alone")[-1], losses(directory)[-1])
    assert losses(directory) == pytest.approx(losses(tmp_path / "alone"), abs=1e-5)
