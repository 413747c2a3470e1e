"""Comparisons and mistakes of runs, next to the runs' own reports."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

import zoo
from untrained_runs import untrained
from zoo.analysis import Mistakes
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
    for part in found.examples:  # one model alone is right
        answers = [part[name]["answer"].split()[0] for name in ("first", "second")]
        assert sum(answer == part["target"] for answer in answers) == 1
    assert found.examples[0]["input"]["text"].startswith("film number")
    assert found.examples[0]["input"]["text"].endswith(found.examples[0]["target"])
    capsys.readouterr()
    assert cli.main(["compare", str(runs / "a"), str(runs / "b"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["mcnemar"] == found.mcnemar


@pytest.mark.slow
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


@pytest.mark.slow
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
    model, prepared, _ = zoo.open_run(runs / "a")
    examples = list(prepared.data.test.as_numpy_iterator())
    inputs, targets, _ = next(iter(prepared.batches("test", 1000)))
    probabilities = np.asarray(model(next(iter(inputs.values()))))
    want = -np.log(probabilities[np.arange(len(examples)), targets["label"]])
    place = found.examples[0]["place"]
    assert losses[0] == pytest.approx(float(want[place]), rel=1e-4)
    wrong = probabilities.argmax(axis=1) != targets["label"].numpy()
    assert losses == pytest.approx(sorted(want[wrong], reverse=True)[:4], rel=1e-4)
    assert examples[place]["text"].decode() == found.examples[0]["input"]["text"]
    files = [str(tmp_path / name) for name in ("errors.csv", "errors.json")]
    assert cli.main(["errors", str(runs / "a"), "--count", "4", "--output", *files]) == 0
    assert f"{found.num_wrong:,} of {found.num_examples:,} examples" in capsys.readouterr().out
    with open(files[0], encoding="utf-8") as opened:
        rows = list(csv.DictReader(opened))
    assert [row["text"] for row in rows] == [part["input"]["text"] for part in found.examples]
    assert json.loads((tmp_path / "errors.json").read_text())["metric"] == "log_loss"


@pytest.mark.slow
def test_answers_of_words_and_labels_are_text(tmp_path):
    untrained(tmp_path / "tags", "tagged_commands", "rnn", embedding_dim=4, rnn_units=4)
    part = zoo.mistakes(tmp_path / "tags", count=1).examples[0]
    words = [pair.rpartition("/")[0] for pair in part["answer"].split()]
    assert words == part["input"]["tokens"] and len(part["target"]) == len(words)
    untrained(tmp_path / "labels", "pastimes", "mlp", hidden_units=(4,))
    for part in zoo.mistakes(tmp_path / "labels", count=20).examples:
        answered = "no label" not in part["answer"]
        assert answered or part["target"]  # no label at all is right for an example without labels


def test_files_of_mistakes_have_known_endings(tmp_path):
    example = {"place": 3, "input": {"text": "a film"}, "target": "pos", "answer": "neg 0.5", "loss": 0.7}
    found = Mistakes("a", "films", "test", 30, 1, "log_loss", [example], [{"text": b"a film"}])
    with pytest.raises(zoo.UsageError, match=r"ends with '.txt'; expected .json, .csv, .png. Pass errors.csv"):
        found.write(tmp_path / "errors.txt")
    with pytest.raises(zoo.UsageError, match=r"have no images or series to draw. Choose a .csv or .json file"):
        found.write(tmp_path / "errors.png")
    with pytest.raises(zoo.UsageError, match=r"count is 0; expected a whole number of at least 1"):
        zoo.mistakes("a", count=0)


def test_an_unmet_requirement_has_an_exit_status_of_its_own(runs, capsys):
    words = ["evaluate", str(runs / "a"), "--baselines", "none", "--json", "--require"]
    assert cli.main([*words, "accuracy>=0", "accuracy>1"]) == 3
    printed = capsys.readouterr()
    report = json.loads(printed.out)
    assert f"zoo: accuracy is {report['accuracy']:.4f}; required is > 1" in printed.err
    assert cli.main([*words, "accuracy=1"]) == 2  # before anything is evaluated
    printed = capsys.readouterr()
    assert not printed.out and "is not of the form METRIC>=NUMBER" in printed.err


@pytest.mark.slow
def test_saved_models_are_evaluated_and_compared_like_their_runs(runs, tmp_path):
    paths = [zoo.pipeline.export_run(runs / name, tmp_path / name) for name in ("a", "b")]
    before = {file: file.stat().st_mtime_ns for path in paths for file in path.rglob("*")}
    data = f"csv:{runs / 'films.csv'}"
    with pytest.raises(zoo.UsageError, match=r"do not say where their data is. Pass data"):
        zoo.compare(*paths)
    found, of_runs = zoo.compare(*paths, data), zoo.compare(runs / "a", runs / "b")
    assert found.num_examples == of_runs.num_examples  # the test split: the file is what both were trained on
    assert [part["metric"] for part in found.metrics] == [part["metric"] for part in of_runs.metrics]
    for one, other in zip(found.metrics, of_runs.metrics, strict=True):
        assert one["difference"] == pytest.approx(other["difference"], abs=1e-5)
    assert found.models[0]["bytes"] == sum(file.stat().st_size for file in paths[0].rglob("*") if file.is_file())
    report, of_run = zoo.evaluate(paths[0], data), zoo.evaluate(runs / "a", baselines="none")
    assert report["confusion_matrix"] == of_run["confusion_matrix"]
    assert report["log_loss"] == pytest.approx(of_run["log_loss"], abs=1e-6)
    assert zoo.mistakes(paths[0], data, count=2).examples[0]["place"] == zoo.mistakes(runs / "a").examples[0]["place"]
    assert cli.main(["evaluate", str(paths[0]), "--data", data, "--require", "accuracy>=0"]) == 0
    assert before == {file: file.stat().st_mtime_ns for path in paths for file in path.rglob("*")}
