"""Reports of runs and models on other data than their own."""

from __future__ import annotations

import csv
import json

import keras
import numpy as np
import pandas as pd
import pytest

import zoo
from untrained_runs import untrained
from zoo.scripts import cli

LABELS = ("meh", "neg", "pos")
SMALL = {"embedding_dim": 4, "filters": 3, "dense_units": 3}


def rows(numbers, labels=LABELS):
    return [(f"film number {i} is {labels[i % len(labels)]}", labels[i % len(labels)]) for i in numbers]


def write(file, lines, head=("text", "label")):
    with open(file, "w", newline="", encoding="utf-8") as opened:
        csv.writer(opened).writerows([head, *lines])
    return f"csv:{file}"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on a CSV file, with its report."""
    folder = tmp_path_factory.mktemp("other")
    own = [(text, label, LABELS[LABELS.index(label) - 1]) for text, label in rows(range(90))]
    untrained(folder / "run", write(folder / "own.csv", own, ("text", "label", "other")), "attention", **SMALL)
    zoo.evaluate(folder / "run", directory=folder / "run")
    return folder / "run"


def accuracy(run, texts, labels):
    """Returns the share of right answers, from the model and the vocabulary in the run's own files."""
    model = keras.saving.load_model(run / "model.keras", compile=False)
    facts = json.loads((run / "interface" / "interface.json").read_text())
    known = {word: number for number, word in enumerate(facts["preprocessor"]["vocabulary"], 2)}
    ids = np.zeros((len(texts), 8), np.int32)
    for row, text in enumerate(texts):
        numbers = [known.get(word, 1) for word in text.split()]
        ids[row, : len(numbers)] = numbers
    answers = np.asarray(model(ids)).argmax(axis=1)
    return float(
        np.mean([facts["class_names"][answer] == label for answer, label in zip(answers, labels, strict=True)])
    )


def test_a_file_without_splits_is_evaluated_as_a_whole_with_the_runs_vocabulary(run, tmp_path, capsys):
    lines = rows(range(200, 217), LABELS[:2])  # other labels, in which the second class of the run is the first
    name = write(tmp_path / "week.csv", lines, ("body", "kind"))
    before = (run / "evaluation.json").read_bytes()
    columns = '{"text": "body", "label": "kind"}'
    assert cli.main(["evaluate", str(run), "--data", name, "--data.columns", columns]) == 0
    printed = capsys.readouterr().out
    (file,) = run.glob("evaluation-csv-*week.csv.json")
    assert printed.splitlines()[-1] == f"Report: {file}" and "measured on        17 examples, 3 classes" in printed
    report = json.loads(file.read_text())
    assert report["accuracy"] == pytest.approx(accuracy(run, *zip(*lines, strict=True)))
    assert report["baseline"]["from"] == "training split" and report["class_names"] == list(LABELS)
    assert (run / "evaluation.json").read_bytes() == before
    assert len([*run.glob("plots/*week.csv.png")]) == 2 and (run / "plots" / "confusion_matrix.png").is_file()


@pytest.mark.slow
def test_arrays_and_frames_give_the_same_report(run, tmp_path):
    lines = rows(range(300, 309))
    texts, labels = (list(column) for column in zip(*lines, strict=True))
    numbers = np.array([LABELS.index(label) for label in labels])
    given = [(texts, labels), (texts, numbers), pd.DataFrame({"text": texts, "label": labels})]
    reports = [zoo.evaluate(run, data) for data in given]
    assert {report["num_examples"] for report in reports} == {9}
    assert len({report["log_loss"] for report in reports}) == 1
    assert reports[0]["accuracy"] == pytest.approx(accuracy(run, texts, labels))
    divided = [(*row, ("train", "test")[i % 2]) for i, row in enumerate(lines)]
    name = write(tmp_path / "split.csv", divided, ("text", "label", "split"))
    assert [zoo.evaluate(run, name, split)["num_examples"] for split in ("train", "all")] == [5, 9]


def test_the_runs_own_data_elsewhere_is_its_test_split(run, tmp_path):
    moved = tmp_path / "moved.csv"
    moved.write_bytes((run.parent / "own.csv").read_bytes())
    own = zoo.evaluate(run)
    assert zoo.evaluate(run, f"csv:{moved}")["log_loss"] == own["log_loss"] and own["num_examples"] == 9
    with pytest.raises(
        zoo.UsageError, match=r"is the data of the run .* include those of the training\. Pass split='test'"
    ):
        zoo.evaluate(run, f"csv:{moved}", "all")


def test_the_runs_own_data_read_in_another_way_is_rejected(run):
    """Its test split would hold training examples, or its class numbers would be others."""
    file = f"csv:{run.parent / 'own.csv'}"
    with pytest.raises(zoo.UsageError, match="was trained on, with other labels, columns or splits"):
        zoo.evaluate(run, file, columns={"text": "text", "label": "other"})


def test_arrays_that_cannot_be_loaded_again_have_no_training_split_for_the_baseline(tmp_path):
    x, y = np.random.default_rng(0).integers(0, 256, (90, 8, 8), np.uint8), np.array(["b", "a", "c"] * 30)
    untrained(tmp_path / "run", (x, y), "mlp", hidden_units=(4,))
    other = np.random.default_rng(1).integers(0, 256, (12, 8, 8), np.uint8)
    report = zoo.evaluate(tmp_path / "run", (other, np.array(["c", "a"] * 6)))
    assert report["baseline"]["from"] == "evaluated targets" and report["class_names"] == ["a", "b", "c"]
    assert [entry["support"] for entry in report["per_class"]] == [6, 0, 6]
    prepared = zoo.datasets.load((x, y)).prepare("mlp")
    assert zoo.evaluate(tmp_path / "run", prepared)["num_examples"] == 9  # the run's own arrays


def test_another_frame_has_the_columns_of_the_runs_frame(tmp_path):
    frame = pd.DataFrame(
        {"age": np.arange(90) % 23 * 1.5, "job": ["x", "y", "z"] * 30, "income": ["hi", "lo", "lo"] * 30}
    )
    data = {"columns": {"label": "income"}, "keep": ["job"]}
    prepared = untrained(tmp_path / "run", frame, "mlp", data=data, hidden_units=(4,))
    report = zoo.evaluate(tmp_path / "run", frame[:40].assign(more=1))
    assert (report["num_examples"], report["class_names"]) == (40, ["hi", "lo"])
    own = zoo.evaluate(tmp_path / "run", frame, keep=["job"])
    assert own["num_examples"] == prepared.num_examples("test") < 20, "the same content is the run's own data"


def test_another_series_is_forecast_as_a_whole(tmp_path):
    def series(file, count, seed):
        values = np.random.default_rng(seed).normal(size=(count, 2)).round(3).tolist()
        return write(file, values, ("sold", "visitors"))

    columns = {"forecast": "sold", "series": ["sold", "visitors"]}
    data = {"columns": columns, "window": 8, "horizon": 2}
    untrained(tmp_path / "run", series(tmp_path / "a.csv", 120, 0), "lstm", data=data, units=(3,))
    report = zoo.evaluate(tmp_path / "run", series(tmp_path / "b.csv", 30, 1))
    assert (report["num_examples"], report["horizon"], report["unit"]) == (30 - 8 - 2 + 1, 2, "sold")
    with pytest.raises(zoo.UsageError, match=r"has series with 1 channels; the run has 2\. Pass data with"):
        zoo.evaluate(tmp_path / "run", series(tmp_path / "c.csv", 30, 1), columns={"forecast": "sold"})


@pytest.mark.slow
def test_tags_in_another_order_get_the_runs_numbers(tmp_path):
    untrained(tmp_path / "run", "tagged_commands", "rnn", embedding_dim=4, rnn_units=3)
    data = zoo.datasets.load("tagged_commands")
    examples = [example for example in data.test.as_numpy_iterator() if 1 not in example["tags"]][:12]
    words = [[word.decode() for word in example["tokens"]] for example in examples]
    tags = [[data.class_names[number] for number in example["tags"]] for example in examples]
    report = zoo.evaluate(tmp_path / "run", (words, tags))
    used = {tag for row in tags for tag in row}
    assert (
        {entry["class_name"] for entry in report["per_class"] if entry["support"]}
        == used
        == {*data.class_names} - {data.class_names[1]}
    )
    assert report["words"]["all"]["num_words"] == sum(map(len, words))


def test_models_are_measured_on_model_inputs_as_keras_does():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    x, y = np.random.default_rng(0).normal(size=(50, 4)).astype("float32"), np.arange(50) % 3
    expected = model.evaluate(x, y, return_dict=True, verbose=0)
    report = zoo.evaluate(model, (x, y), batch_size=16)
    assert report == {"num_examples": 50, **{name: pytest.approx(value, abs=1e-6) for name, value in expected.items()}}
    ours = zoo.build_mlp_model(input_shape=(4,), num_classes=3, hidden_units=())
    targets = -np.log(np.asarray(ours(x))[np.arange(50), y])
    assert zoo.evaluate(ours, (x, y))["loss"] == pytest.approx(targets.mean(), abs=1e-6)


def test_raw_pixels_are_no_model_inputs():
    x, y = np.random.default_rng(0).integers(0, 256, (30, 4, 4, 1), np.uint8), np.arange(30) % 2
    with zoo.strategy("one_device").scope():
        model = zoo.build_mlp_model(input_shape=(4, 4, 1), num_classes=2, hidden_units=())
    trained = zoo.train(model, (x / 255.0, y), zoo.TrainConfig(epochs=1), verbose=0).model
    assert zoo.evaluate(trained, (x / 255.0, y))["num_examples"] == 30
    with pytest.raises(
        zoo.UsageError, match=r"x has values from 0 to 255; the model was trained on inputs from 0 to 1\. Pass"
    ):
        zoo.evaluate(trained, (x, y))


REJECTED = {
    "unknown classes": (
        lambda folder: write(folder / "a.csv", [*rows(range(9)), ("so so", "new")]),
        "",
        "has the classes 'new'",
    ),
    "another task": (lambda folder: "digits", "", "does not serve the task 'text_classification'. Did you mean"),
    "images": (
        lambda folder: (np.zeros((4, 8, 8), np.uint8), np.zeros(4, int)),
        "",
        "fit image_classification, not the task",
    ),
    "a class number too many": (
        lambda folder: (["a film"] * 4, [0, 1, 2, 3]),
        "",
        "label 3; expected 0 to 2. .*or correct it",
    ),
    "an unknown split": (
        lambda folder: (["a film"] * 4, [0, 1, 2, 0]),
        "dev",
        "has the splits test; received split 'dev'",
    ),
    "a missing file": (lambda folder: f"csv:{folder / 'no.csv'}", "", "Cannot read .*no.csv"),
}


@pytest.mark.parametrize("case", REJECTED)
def test_other_data_that_does_not_fit_is_rejected(run, tmp_path, case):
    make, split, message = REJECTED[case]
    with pytest.raises(zoo.UsageError, match=message):
        zoo.evaluate(run, make(tmp_path), split or "test", directory=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_model_alone_takes_no_raw_data(capsys):
    model = zoo.build_mlp_model(input_shape=(4,), num_classes=3, hidden_units=())
    for data in ("digits", None, pd.DataFrame({"a": [1]}), zoo.datasets.load("digits")):
        with pytest.raises(zoo.UsageError, match=r"a model alone has no preprocessor for raw examples\. Pass the run"):
            zoo.evaluate(model, data)
    with pytest.raises(zoo.UsageError, match=r"columns belongs to the data of a run\. Leave it out"):
        zoo.evaluate(model, (np.zeros((2, 4)), [0, 1]), columns={})
    assert cli.main(["evaluate", "runs/none", "--data.window", "3"]) == 2
    assert "--data.window came without --data. Pass --data NAME" in capsys.readouterr().err
