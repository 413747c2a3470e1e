"""Checkpoints of finished runs are deleted, and nothing else."""

from __future__ import annotations

import fcntl

import pytest

import zoo
from zoo.scripts import cli


def run(folder, *files):
    for name, size in {"config.yaml": 0, "checkpoints/step-1/weights": 1000, "checkpoints/best": 500}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x" * size)
    (folder / "config.yaml").write_text("# All settings of this run.\n")
    for name in files:
        (folder / name).write_bytes(b"x")
    return folder


@pytest.fixture
def runs(tmp_path):
    """A finished run, one that is not, one that is evaluated, one in use, and a trial of a search."""
    for name in ("done", "busy"):
        run(tmp_path / name, "model.keras", "evaluation.json")
    run(tmp_path / "begun")
    run(tmp_path / "trained", "model.keras")
    run(tmp_path / "search" / "trial-000", "model.keras")
    (tmp_path / "search" / "search.json").write_text("{}")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.yaml").write_text("name: of another program\n")
    with open(tmp_path / "busy" / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield tmp_path


def test_only_checkpoints_of_finished_runs_are_deleted(runs):
    would = zoo.clean(runs, dry_run=True)
    assert len([*runs.rglob("best")]) == 5
    found = zoo.clean([runs, runs / "done"])
    assert found == would
    assert {part.run.relative_to(runs).as_posix(): (part.freed, part.kept) for part in found} == {
        "done": (1500, ""),
        "search/trial-000": (1500, ""),
        "begun": (0, "its training is not finished"),
        "trained": (0, "it has no report yet; `zoo evaluate` writes it"),
        "busy": (0, "a process uses it"),
    }
    assert sorted(file.parts[-3] for file in runs.rglob("best")) == ["begun", "busy", "trained"]
    assert (runs / "done" / "model.keras").is_file() and (runs / "done" / "evaluation.json").is_file()
    assert zoo.clean(runs / "done")[0].kept == "it has no checkpoints"


def test_the_command_asks_or_needs_a_yes(runs, capsys, monkeypatch):
    assert cli.main(["clean", str(runs)]) == 2
    assert "0.00 MB would be freed, and nobody can be asked. Pass --yes" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda question: "n")
    assert cli.main(["clean", str(runs)]) == 0 and "Nothing was deleted." in capsys.readouterr().out
    assert len([*runs.rglob("best")]) == 5
    assert cli.main(["clean", str(runs), "--yes"]) == 0 and "Freed: 0.00 MB" in capsys.readouterr().out
    assert len([*runs.rglob("best")]) == 3
    assert cli.main(["clean", str(runs), "--yes"]) == 0 and "There is nothing to delete." in capsys.readouterr().out


def test_other_folders_are_rejected(runs):
    with pytest.raises(zoo.UsageError, match=r"other holds no run. Pass a folder that `zoo train` made"):
        zoo.clean(runs / "other")
    with pytest.raises(zoo.UsageError, match=r"nothing does not exist. Pass a folder"):
        zoo.clean(runs / "nothing")
