"""`zoo cross-validate`, `zoo reproduce` and `zoo results`, on embedded data."""

from __future__ import annotations

import csv
import json

import pytest

import zoo
from zoo.scripts import cli, reproduce, results, train

RECIPE = """# zoo {command} --config tiny
# Expected: an answer
model:
  name: attention
  filters: 8
data:
  name: digit_rows
config:
  epochs: 1
  learning_rate: 0.01
"""


@pytest.fixture
def recipes(tmp_path, monkeypatch):
    """A folder with recipes for these tests."""
    folder = tmp_path / "recipes"
    folder.mkdir()
    for module in (train, reproduce):
        monkeypatch.setattr(module, "RECIPES", folder)
    return folder


def read(file):
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


@pytest.mark.parametrize("name", train.recipes())
def test_the_first_line_of_every_recipe_contains_its_command(name):
    words = reproduce.recipe_command(name)
    assert words[1] in cli.COMMANDS and words[words.index("--config") + 1] == name


def test_shipped_results_belong_to_shipped_recipes():
    rows = read(results.RECORDED)
    assert rows and list(rows[0]) == results.COLUMNS
    assert {row["recipe"] for row in rows} <= set(train.recipes())
    assert {row["verified"] for row in rows} == {"yes"}
    for row in rows:
        assert all(float(row[column]) >= 0 for column in ("value", "parameters", "minutes", "examples"))
        assert bool(row["baseline"]) == bool(row["baseline_value"])


def test_recorded_results_are_printed(capsys):
    assert cli.main(["results", "--data", "mnist"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["recipe", "metric", "value", "baseline", "examples"]
    assert [line.split()[0] for line in lines] == ["lstm_mnist", "mlp_mnist"]
    rows = [{**row, "value": "0.5"} for row in results.read(results.RECORDED) if row["recipe"] == "mlp_mnist"]
    line = results.table(rows, recorded=results.read(results.RECORDED)).splitlines()[1]
    assert line.split()[:4] == ["mlp_mnist", "accuracy", "0.5", "0.9771"]


@pytest.mark.slow
def test_folds_become_runs_and_a_row_of_results(recipes, tmp_path, capsys):
    (recipes / "tiny.yaml").write_text(RECIPE.format(command="cross-validate"))
    runs = tmp_path / "runs" / "tiny"
    words = ["cross-validate", "--config", str(recipes / "tiny.yaml"), "--folds", "2", "--run_directory", str(runs)]
    assert cli.main([*words, "--quiet"]) == 0
    assert "2 folds, mean and standard deviation" in capsys.readouterr().out
    kept = json.loads((runs / "cross_validation.json").read_text())
    assert kept["verified"] is True and len(kept["folds"]) == 2
    values = [json.loads((runs / f"fold-{k}" / "evaluation.json").read_text()) for k in (0, 1)]
    assert kept["summary"]["accuracy"]["mean"] == pytest.approx(sum(v["accuracy"] for v in values) / 2)
    assert sum(v["num_examples"] for v in values) == 1797, "every example is in the test split of one fold"

    (row,) = reproduce.rows("tiny", runs)
    assert row["metric"] == "accuracy, mean of 2 folds" and row["verified"] == "yes" and row["examples"] == 1797
    assert float(row["value"]) == pytest.approx(kept["summary"]["accuracy"]["mean"], abs=1e-4)
    output = tmp_path / "results.csv"
    reproduce.write_rows(output, "tiny", [row])
    reproduce.write_rows(output, "another", [{**row, "recipe": "another"}])
    reproduce.write_rows(output, "tiny", [{**row, "value": "0.5000"}])
    assert [(r["recipe"], r["value"]) for r in read(output)] == [("another", row["value"]), ("tiny", "0.5000")]
    assert cli.main(["results", "--markdown", "--file", str(output)]) == 0
    assert "| `tiny` | accuracy, mean of 2 folds | 0.5000 of 1,797 |" in capsys.readouterr().out


def test_errors_are_reported_in_one_line(recipes, tmp_path, capsys):
    (recipes / "tiny.yaml").write_text("# nothing\n" + RECIPE)
    with pytest.raises(zoo.UsageError, match=r"The first line of tiny.yaml is '# nothing'. Write the command there"):
        reproduce.recipe_command("tiny")
    with pytest.raises(zoo.UsageError, match=r"The run of tiny in .* is not complete: .*Run `zoo reproduce tiny`"):
        reproduce.rows("tiny", tmp_path / "none")
    assert cli.main(["reproduce", "tyni"]) == 2
    assert "Unknown recipe 'tyni'. Did you mean 'tiny'?" in capsys.readouterr().err
    assert cli.main(["reproduce"]) == 2
    assert "No recipe was given; expected names or --all. Choose from tiny." in capsys.readouterr().err
    assert cli.main(["reproduce", "tiny", "--all"]) == 2
    assert "Both recipes and --all were given" in capsys.readouterr().err
    assert cli.main(["results", "--file", str(tmp_path / "none.csv")]) == 2
    assert "does not exist. Run `zoo reproduce NAME --output" in capsys.readouterr().err
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    assert cli.main(["results", "--file", str(tmp_path / "other.csv")]) == 2
    assert "has other columns than recipe, model" in capsys.readouterr().err
    assert cli.main(["results", "--data", "nothing"]) == 2
    assert "No recipe with data 'nothing' has results. Choose from " in capsys.readouterr().err
    assert cli.main(["results", "--data", "mnist", "--model", "cnn"]) == 2
    assert "No recipe with data 'mnist' has results. Choose from digits, fashion_mnist." in capsys.readouterr().err
    words = ["cross-validate", "--model", "lstm", "--data", "seasons", "--run_directory", str(tmp_path / "folds")]
    assert cli.main(words) == 2
    assert "is split by time: with folds, training would see values from after the test" in capsys.readouterr().err
