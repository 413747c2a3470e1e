"""`zoo cross-validate`, `zoo reproduce` and `zoo results`, on embedded data."""

from __future__ import annotations

import csv
import json

import pytest

import zoo
from zoo import cross_validation
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
def test_the_first_lines_of_every_recipe_contain_its_commands(name):
    for words in reproduce.recipe_commands(name):
        assert words[1] in cli.COMMANDS and words[words.index("--config") + 1] == name


def test_a_recipe_may_have_several_models(recipes, tmp_path):
    line = "# zoo cross-validate --config tiny --model {} --seeds 0,1\n"
    (recipes / "tiny.yaml").write_text(
        line.format("mlp") + line.format("wide_deep") + "# Expected\ndata:\n  name: iris\n"
    )
    found = reproduce.recipe_runs("tiny", tmp_path)
    assert [folder for _, folder in found] == [tmp_path / "tiny" / "mlp", tmp_path / "tiny" / "wide_deep"]
    assert found[1][0] == ["zoo", "cross-validate", "--config", "tiny", "--model", "wide_deep", "--seeds", "0,1"]
    (recipes / "tiny.yaml").write_text(line.format("mlp") * 2)
    with pytest.raises(zoo.UsageError, match=r"tiny.yaml has two commands with the same model. Pass another --model"):
        reproduce.recipe_commands("tiny")


def test_original_files_may_be_in_the_folder_of_another_data_set(recipes, tmp_path):
    (recipes / "tiny.yaml").write_text("data:\n  name: bike_sharing_hours\n")
    assert reproduce._places("tiny", "prepared", str(tmp_path)) == ["--data.data_dir", "prepared"]
    for folder in ("bike_sharing", "bike_sharing_hours"):
        (tmp_path / folder).mkdir()
        assert reproduce._places("tiny", None, str(tmp_path)) == ["--data.manual_dir", str(tmp_path / folder)]


def test_shipped_results_belong_to_shipped_recipes():
    rows = read(results.RECORDED)
    assert rows and list(rows[0]) == results.COLUMNS
    assert {row["recipe"] for row in rows} <= set(train.recipes())
    assert {row["verified"] for row in rows} == {"yes"}
    for row in rows:
        assert all(float(row[column]) >= 0 for column in ("value", "parameters", "minutes", "examples"))
        assert bool(row["baseline"]) == bool(row["baseline_value"])
        assert int(row["runs"]) > 1 if row["deviation"] or " mean of " in row["metric"] else row["runs"] == "1"
        assert not row["baseline_deviation"] or row["deviation"]


def test_recorded_results_are_printed(capsys):
    assert cli.main(["results", "--data", "mnist"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["recipe", "model", "metric", "value", "examples", "baseline"]
    recipes = [line.split()[0] for line in lines if not line.startswith(" ")]  # further baselines follow below a recipe
    assert recipes == ["image_mnist", "lstm_mnist", "mlp_mnist"]
    rows = [{**row, "value": "0.5"} for row in results.read(results.RECORDED) if row["recipe"] == "mlp_mnist"]
    line = results.table(rows, recorded=results.read(results.RECORDED)).splitlines()[1]
    assert line.split()[:5] == ["mlp_mnist", "mlp", "accuracy", "0.5", "0.9771"]


def row_of(**values):
    row = dict.fromkeys(results.COLUMNS, "")
    row |= {"recipe": "tiny", "model": "mlp", "metric": "MAE", "value": "1.5", "examples": "9", "parameters": "5"}
    return {**row, **values}


def test_all_baselines_of_a_figure_are_printed_next_to_it():
    rows = [
        row_of(baseline="the median", baseline_value="3.0"),
        row_of(metric="R2", value="0.5", deviation="0.1"),
        row_of(baseline="ridge regression", baseline_value="2.0", baseline_deviation="0.25"),
        row_of(model="wide_deep", baseline="the median", baseline_value="3.0", baseline_deviation="0.0000"),
    ]
    assert [line.split() for line in results.table(rows, recorded=rows[:2]).splitlines()[1:]] == [
        ["tiny", "mlp", "MAE", "1.5", "1.5", "9", "3.0", "the", "median"],
        ["2.0", "+-", "0.25", "ridge", "regression"],
        ["tiny", "mlp", "R2", "0.5", "+-", "0.1", "0.5", "+-", "0.1", "9"],
        ["tiny", "wide_deep", "MAE", "1.5", "9", "3.0", "the", "median"],
    ]
    lines = results.markdown(rows).splitlines()[2:]
    assert lines[0].startswith("| `tiny` | `mlp` | MAE | 1.5 of 9 | 3.0 the median; 2.0 +- 0.25 ridge regression | 5 |")
    assert len(lines) == 3


@pytest.mark.slow
def test_folds_become_runs_and_a_row_of_results(recipes, tmp_path, capsys):
    (recipes / "tiny.yaml").write_text(RECIPE.format(command="cross-validate"))
    runs = tmp_path / "runs" / "tiny"
    words = ["cross-validate", "--config", str(recipes / "tiny.yaml"), "--folds", "2", "--run_directory", str(runs)]
    assert cli.main([*words, "--quiet"]) == 0
    assert "2 folds, mean and standard deviation" in capsys.readouterr().out
    kept = json.loads((runs / "cross_validation.json").read_text())
    assert kept["verified"] is True and [*kept["runs"]] == ["fold-0", "fold-1"]
    values = [json.loads((runs / f"fold-{k}" / "evaluation.json").read_text()) for k in (0, 1)]
    assert kept["summary"]["accuracy"]["mean"] == pytest.approx(sum(v["accuracy"] for v in values) / 2)
    assert sum(v["num_examples"] for v in values) == 1797, "every example is in the test split of one fold"

    row, *others = reproduce.rows("tiny", runs)
    assert len({other["baseline"] for other in (row, *others)}) == 1 + len(others)
    assert all({**other, **{key: row[key] for key in row if "baseline" in key}} == row for other in others)
    assert row["metric"] == "accuracy, mean of 2 folds" and row["verified"] == "yes" and row["examples"] == 1797
    assert float(row["value"]) == pytest.approx(kept["summary"]["accuracy"]["mean"], abs=1e-4)
    assert float(row["deviation"]) == pytest.approx(abs(values[0]["accuracy"] - values[1]["accuracy"]) / 2, abs=1e-4)
    assert row["runs"] == 2
    output = tmp_path / "results.csv"
    reproduce.write_rows(output, "tiny", [row])
    reproduce.write_rows(output, "another", [{**row, "recipe": "another"}])
    reproduce.write_rows(output, "tiny", [{**row, "value": "0.5000"}])
    assert [(r["recipe"], r["value"]) for r in read(output)] == [("another", row["value"]), ("tiny", "0.5000")]
    assert cli.main(["results", "--markdown", "--file", str(output)]) == 0
    assert f"accuracy, mean of 2 folds | 0.5000 +- {row['deviation']} of 1,797 |" in capsys.readouterr().out


@pytest.mark.slow
def test_seeds_become_runs_on_one_split_and_a_row_per_baseline(recipes, tmp_path, capsys):
    line = "# zoo cross-validate --config tiny --model {} --seeds 3,0\n"
    content = "data:\n  name: wine\nconfig:\n  epochs: 1\n  learning_rate: 0.01\n"
    (recipes / "tiny.yaml").write_text(line.format("mlp") + line.format("wide_deep") + content)
    output = tmp_path / "results.csv"
    for words, folder in reproduce.recipe_runs("tiny", tmp_path):
        words = [str(recipes / "tiny.yaml") if word == "tiny" else word for word in words[1:]]
        assert cli.main([*words, "--quiet", "--run_directory", str(folder)]) == 0
        assert "2 seeds, mean and standard deviation" in capsys.readouterr().out
        reproduce.write_rows(output, "tiny", reproduce.rows("tiny", folder))
    history = (tmp_path / "tiny" / "mlp" / "seed-3" / "history.csv").read_text()
    found = read(output)
    assert [row["model"] for row in found] == ["mlp"] * 3 + ["wide_deep"] * 3
    assert {row["baseline"] for row in found} == {
        *("the most frequent class", "logistic regression", "HistGradientBoosting")
    }
    reports = {
        seed: json.loads((tmp_path / "tiny" / "mlp" / f"seed-{seed}" / "evaluation.json").read_text())
        for seed in (3, 0)
    }
    first, second = (report["accuracy"] for report in reports.values())
    for row in found[:3]:
        assert float(row["value"]) == pytest.approx((first + second) / 2, abs=1e-4)
        assert float(row["deviation"]) == pytest.approx(abs(first - second) / 2, abs=1e-4)
        assert row["metric"] == "accuracy, mean of 2 seeds" and row["runs"] == "2" and row["verified"] == "yes"
        assert int(row["examples"]) == reports[0]["num_examples"] and float(row["baseline_deviation"]) == 0
    assert reports[3]["log_loss"] != reports[0]["log_loss"], "the seeds differ"
    settings = {"config": {"epochs": 1, "learning_rate": 0.01}, "run_directory": tmp_path / "tiny" / "mlp"}
    result = zoo.cross_validate("mlp", "wine", seeds=[3, 0], verbose=0, **settings)
    assert result.passed and [*result.runs] == ["seed-3", "seed-0"]
    assert result.runs["seed-3"]["accuracy"] == pytest.approx(first)
    again = (tmp_path / "tiny" / "mlp" / "seed-3" / "history.csv").read_text()
    assert "seconds" in history and again == history, "no run is repeated"


def test_options_that_were_not_passed_stay_open_for_recommendations():
    (config, other) = cross_validation._with_seeds(zoo.TrainConfig(epochs=3), (4, 5))
    assert config.given == {"epochs", "seed"} and config.epochs == 3 and (config.seed, other.seed) == (4, 5)
    assert [config.given for config in cross_validation._with_seeds({"epochs": 3}, ())] == [{"epochs"}]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seeds", "0,a"], "--seeds is '0,a'; expected whole numbers, separated by commas. Pass --seeds 0,1,2,3,4"),
        (["--seeds", "5"], r"seeds is [5]; expected two or more different whole numbers. Pass seeds=[0, 1, 2, 3, 4]"),
        (["--seeds", "1,1"], r"seeds is [1, 1]; expected two or more different whole numbers"),
        (
            ["--seeds", "1,2", "--folds", "3"],
            "folds is 3 and seeds is [1, 2]; expected one of them. Pass folds to split",
        ),
        (["--seeds", "1,2", "--config.seed", "0"], "seed=0 has no effect with seeds. Leave it out."),
        (["--seeds", "1,99999999999"], "seed is 99999999999; expected"),
        (["--folds", "1"], "folds is 1; expected a whole number of at least 2. Pass folds=5, say."),
    ],
)
def test_invalid_folds_and_seeds_are_rejected_before_any_run(words, message, tmp_path, capsys):
    folder = tmp_path / "runs"
    assert cli.main(["cross-validate", "--model", "mlp", "--data", "iris", *words, "--run_directory", str(folder)]) == 2
    assert message in capsys.readouterr().err and not folder.exists()


def test_errors_are_reported_in_one_line(recipes, tmp_path, capsys):
    (recipes / "tiny.yaml").write_text("# nothing\n" + RECIPE)
    with pytest.raises(zoo.UsageError, match=r"The first line of tiny.yaml is '# nothing'. Write the command there"):
        reproduce.recipe_commands("tiny")
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
