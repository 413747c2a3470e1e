"""Comparisons and mistakes of runs, next to the runs' own reports."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

import zoo
from untrained_runs import untrained
from zoo.scripts import cli

LABELS = ("meh", "neg", "pos")


def write(file, rows, head=("text", "label")):
    with open(file, "w", newline="", encoding="utf-8") as opened:
        csv.writer(opened).writerows([head, *rows])
    return f"csv:{file}"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs on the same file, and one on the same texts with other classes."""
    folder = tmp_path_factory.mktemp("compared")
    rows = [(f"film number {i} of {i % 7} is {LABELS[i % 3]}", LABELS[i % 3]) for i in range(300)]
    name = write(folder / "films.csv", rows)
    untrained(folder / "a", name, "attention", embedding_dim=4, filters=3, dense_units=3)
    untrained(folder / "b", name, "attention", embedding_dim=6, filters=2, dense_units=3)
    other = write(folder / "others.csv", [(text, f"{label}!") for text, label in rows])
    untrained(folder / "c", other, "attention", embedding_dim=4, filters=3, dense_units=3)
    return folder


def test_metrics_are_those_of_the_reports_of_both_runs(runs, capsys):
    found = zoo.compare(runs / "a", runs / "b", count=3)
    reports = [zoo.evaluate(runs / name, baselines="none") for name in ("a", "b")]
    assert found.num_examples == reports[0]["num_examples"]
    for metric in found.metrics:
        name = metric["metric"]
        assert (metric["first"], metric["second"]) == pytest.approx([report[name] for report in reports], abs=1e-6)
        assert metric["difference"] == metric["second"] - metric["first"]
    assert [metric["metric"] for metric in found.metrics] == ["accuracy", "log_loss"]
    right = found.mcnemar["both"] + found.mcnemar["only_first"]
    assert right == round(reports[0]["accuracy"] * found.num_examples)
    by_class = {part["value"]: part["first"] for part in found.slices}
    recalls = {part["class_name"]: part["recall"] for part in reports[0]["per_class"] if part["support"] >= 20}
    assert by_class == pytest.approx(recalls)
    assert found.models[0]["bytes"] is None and found.models[0]["milliseconds"]["one"] > 0
    worst = [abs(part["first"]["log_loss"] - part["second"]["log_loss"]) for part in found.examples]
    assert len(worst) == 3 and worst == sorted(worst, reverse=True)
    assert found.examples[0]["input"]["text"].startswith("film number")
    assert found.examples[0]["input"]["text"].endswith(found.examples[0]["target"])
    assert cli.main(["compare", str(runs / "a"), str(runs / "b"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["mcnemar"] == found.mcnemar


def test_other_data_is_compared_as_a_whole(runs, tmp_path):
    rows = [(f"film number {i} is pos", "pos") for i in range(400, 430)]
    found = zoo.compare(runs / "a", runs / "b", write(tmp_path / "week.csv", rows))
    assert (found.num_examples, found.split, found.slices) == (30, "test", [])
    assert "30 examples, the test split of csv:" in found.table()


def test_models_that_do_not_belong_together_are_rejected(runs, tmp_path):
    with pytest.raises(
        zoo.UsageError, match=r"c does not have the classes 'meh', 'neg', 'pos' of the other model. Pass"
    ):
        zoo.compare(runs / "a", runs / "c")
    with pytest.raises(zoo.UsageError, match=r"nothing does not exist. Pass the folder of a run or of a SavedModel"):
        zoo.compare(runs / "a", tmp_path / "nothing")
    with pytest.raises(zoo.UsageError, match=r"columns came without data. Pass data, or leave it out"):
        zoo.compare(runs / "a", runs / "b", columns={})
    with pytest.raises(zoo.UsageError, match=r"count is -1; expected a whole number of at least 0. Pass count=5"):
        zoo.compare(runs / "a", runs / "b", count=-1)


def test_runs_on_other_splits_of_the_data_are_rejected(runs, tmp_path):
    name = f"csv:{runs / 'films.csv'}"
    data = {"folds": 5, "fold": 1}
    untrained(tmp_path / "fold", name, "attention", data=data, embedding_dim=4, filters=3, dense_units=3)
    with pytest.raises(zoo.UsageError, match=r"may be training examples of the other. Pass data that neither has seen"):
        zoo.compare(runs / "a", tmp_path / "fold")


def test_the_worst_mistakes_come_first(runs, tmp_path, capsys):
    found = zoo.mistakes(runs / "a", count=4)
    report = zoo.evaluate(runs / "a", baselines="none")
    assert found.num_wrong == round((1 - report["accuracy"]) * report["num_examples"])
    losses = [part["loss"] for part in found.examples]
    assert len(losses) == 4 and losses == sorted(losses, reverse=True)
    assert all(part["answer"].split()[0] != part["target"] for part in found.examples)
    # The log loss of the whole split is the mean of those of all examples, right ones included.
    everything = zoo.mistakes(runs / "a", count=10**6)
    assert len(everything.examples) == everything.num_wrong and losses[0] == max(p["loss"] for p in everything.examples)
    model, prepared, _ = zoo.open_run(runs / "a")
    examples = list(prepared.data.test.as_numpy_iterator())
    inputs, targets, _ = next(iter(prepared.batches("test", 1000)))
    probabilities = np.asarray(model(next(iter(inputs.values()))))
    want = -np.log(probabilities[np.arange(len(examples)), targets["label"]])
    place = found.examples[0]["place"]
    assert losses[0] == pytest.approx(float(want[place]), rel=1e-4)
    assert examples[place]["text"].decode() == found.examples[0]["input"]["text"]
    files = [str(tmp_path / name) for name in ("errors.csv", "errors.json")]
    assert cli.main(["errors", str(runs / "a"), "--count", "4", "--output", *files]) == 0
    assert f"{found.num_wrong:,} of {found.num_examples:,} examples" in capsys.readouterr().out
    rows = list(csv.DictReader(open(files[0], encoding="utf-8")))
    assert [row["text"] for row in rows] == [part["input"]["text"] for part in found.examples]
    assert json.loads((tmp_path / "errors.json").read_text())["metric"] == "log_loss"


def test_files_of_mistakes_have_known_endings(runs, tmp_path):
    found = zoo.mistakes(runs / "a", count=1)
    with pytest.raises(zoo.UsageError, match=r"ends with '.txt'; expected .json, .csv, .png. Pass errors.csv"):
        found.write(tmp_path / "errors.txt")
    with pytest.raises(zoo.UsageError, match=r"have no images or series to draw. Choose a .csv or .json file"):
        found.write(tmp_path / "errors.png")
    with pytest.raises(zoo.UsageError, match=r"count is 0; expected a whole number of at least 1"):
        zoo.mistakes(runs / "a", count=0)
