"""With --json, standard output holds JSON alone, for other programs."""

from __future__ import annotations

import json

import pytest

from zoo.scripts import cli


@pytest.mark.slow
def test_commands_print_json_alone(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [
        "--model",
        "mlp",
        "--data",
        "iris",
        "--config.epochs",
        "3",
        "--baselines",
        "none",
        "--run_directory",
        "run",
    ]
    assert cli.main(["train", *words, "--json"]) == 0
    *epochs, result = map(json.loads, capfd.readouterr().out.splitlines())
    assert [line["epoch"] for line in epochs] == [1, 2, 3] and all(line["loss"] > 0 for line in epochs)
    assert result["report"]["accuracy"] == json.loads((tmp_path / "run" / "evaluation.json").read_text())["accuracy"]
    assert (result["saved_model"], result["verified"], result["epochs"]) == ("run/saved_model/1", True, 3)
    assert cli.main(["evaluate", "run", "--baselines", "none", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["accuracy"] == result["report"]["accuracy"]
    assert cli.main(["verify", "run", "--runtimes", "none", "--json"]) == 0
    verdict = json.loads(capfd.readouterr().out)
    assert verdict["passed"] and verdict["path"] == "run/saved_model/1" and verdict["checks"]
    assert cli.main(["export", "run", "exported", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["path"] == "exported/1"
