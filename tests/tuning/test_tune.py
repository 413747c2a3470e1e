"""A search on the command line, killed and resumed, ends like one that was not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

import zoo

SPACE = ["learning_rate=1e-4:3e-2:log", "hidden_units=[8],[32]"]
CONFIG = {"epochs": 4}


def test_settings_that_contradict_a_search_are_rejected(tmp_path):
    given = {"run_directory": tmp_path / "search", "verbose": 0}
    with pytest.raises(zoo.UsageError, match=r"trials is 0; expected a whole number of at least 1"):
        zoo.tune("mlp", "iris", trials=0, **given)
    with pytest.raises(zoo.UsageError, match=r"config.learning_rate is set and is in the search space. Leave one"):
        zoo.tune("mlp", "iris", space=SPACE, config={"learning_rate": 0.1}, **given)
    with pytest.raises(zoo.UsageError, match=r"seeds is \[0, 1\]; expected two or more, other than the search's own 0"):
        zoo.tune("mlp", "iris", space=SPACE, seeds=[0, 1], **given)
    with pytest.raises(zoo.UsageError, match=r"overwrite has no effect on a search"):
        zoo.tune("mlp", "iris", overwrite=True, **given)
    assert not (tmp_path / "search").exists()


@pytest.mark.slow
def test_a_killed_search_ends_in_the_same_best(tmp_path):
    whole = zoo.tune(
        "mlp", "iris", trials=6, space=SPACE, config=CONFIG, seeds=(), run_directory=tmp_path / "whole", verbose=0
    )
    assert [trial.number for trial in whole.trials] == list(range(6)) and not whole.trials[0].drawn
    words = ["--model", "mlp", "--data", "iris", "--trials", "6", "--space", *SPACE, "--config.epochs", "4"]
    words += ["--seeds", "none", "--json", "--run_directory", str(tmp_path / "killed")]
    command = [sys.executable, "-P", "-m", "zoo.scripts.cli", "tune", *words]
    file = tmp_path / "killed" / "search.json"
    for done in (1, 9, 17):  # epochs of all trials before the kill
        started = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=tmp_path)
        while epochs(file) < done and started.poll() is None:
            time.sleep(0.02)
        os.kill(started.pid, signal.SIGKILL)
        started.wait()
    assert epochs(file) < epochs(tmp_path / "whole" / "search.json")
    printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    resumed = json.loads(printed.splitlines()[-1])
    kept = ("number", "drawn", "state", "values", "value", "epoch")
    expected = [{name: getattr(trial, name) for name in kept} for trial in whole.trials]
    assert [{name: trial[name] for name in kept} for trial in resumed["trials"]] == expected
    assert resumed["best"] == whole.best.number and resumed["final"] is None
    assert resumed["settings"] == {part: dict(values) for part, values in whole.settings.items()}
    for trial in whole.trials:  # no trial was scored on the test split
        folder = tmp_path / "whole" / trial.name
        assert (folder / "config.yaml").is_file() and not (folder / "evaluation.json").exists()


def epochs(file):
    return sum(len(trial["values"]) for trial in json.loads(file.read_text())["trials"]) if file.is_file() else 0


@pytest.mark.slow
def test_only_the_best_settings_are_scored_on_the_test_split(tmp_path):
    given = {"space": SPACE, "config": CONFIG, "run_directory": tmp_path / "search", "verbose": 0, "baselines": "none"}
    found = zoo.tune("mlp", "iris", trials=3, export=False, **given)
    reports = sorted(file.relative_to(tmp_path / "search").parts[:3] for file in tmp_path.rglob("evaluation.json"))
    trial = f"trial-{found.best.number:03}"
    assert reports == [("best", trial, "seed-1"), ("best", trial, "seed-2")] and found.final.seeds == (1, 2)
    for seed in (1, 2):
        settings = zoo.config.read_yaml(tmp_path / "search" / "best" / trial / f"seed-{seed}" / "config.yaml")
        for name, value in found.settings["config"].items():
            assert settings["config"][name] == value
        assert settings["config"]["seed"] == seed and settings["config"]["epochs"] == 4
    assert found.best.value == max(t.value for t in found.trials if t.value is not None) or found.metric[1] == "min"
    assert "On the test split:" in found.table()
    more = zoo.tune("mlp", "iris", trials=4, seeds=(), **given)
    assert [t.drawn for t in more.trials[:3]] == [t.drawn for t in found.trials] and len(more.trials) == 4
    with pytest.raises(zoo.UsageError, match=r"holds a search with space .*; received .*. Pass the same again"):
        zoo.tune("mlp", "iris", trials=4, **{**given, "space": SPACE[:1]})
