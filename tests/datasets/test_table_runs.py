"""Runs on tables: other data, a second start, a kill, edited files, and answers of the SavedModel."""

from __future__ import annotations

import json
import re

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

import zoo
from mixed_tables import mixed_table, write_table
from untrained_runs import untrained
from zoo.datasets.interface import Interface
from zoo.export import artifact
from zoo.export.graph import signatures
from zoo.pipeline import export_run
from zoo.scripts import cli
from zoo.tasks.row_files import read_rows

COLUMNS = {"label": "target"}
SMALL = {"hidden_units": [4]}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run on a table with columns of all kinds."""
    folder = tmp_path_factory.mktemp("table")
    name = write_table(folder / "own.csv", mixed_table(90))
    untrained(folder / "run", name, "mlp", data={"columns": COLUMNS}, **SMALL)
    return folder / "run"


OTHER = {
    "a number that no model knows": ["1", "2", "3"],
    "target": ["few", "few", "many"],
    "last/seen": ["2001-02-03 10:00:00", "", "2001-02-04 00:00:00"],
    "joined on": ["01/02/2001", "03/04/2001", "05/06/2001"],  # which may begin with the month
    "from": ["1", "0", "1"],  # numbers, by themselves
    "self": ["7", "8", "9"],
    "年龄": ["", "", ""],
    "class": ["red", "red", "red"],
    "examples": ["1", "", "1"],
    "2nd": ["3", "4", "5"],
    "hours_per_week": ["5", "5", "5"],
    "hours per week": ["38", "39", "40"],
}
"""A small table whose cells alone would suggest other kinds than the run's."""


def losses(run, table):
    """Returns the log loss of rows, from requests as a client would write them and the model in the run's files."""
    preprocessor = Interface.load(run / "interface").preprocessor
    requests = {}
    for request in preprocessor.requests.values():
        if request.name != "examples":
            cells = table[request.columns["column"]]
            values = cells if request.dtype == "string" else [float(cell) if cell else np.nan for cell in cells]
            requests[request.name] = tf.constant(values, request.dtype)
    inputs, _ = preprocessor.serve(requests)
    model = keras.saving.load_model(run / "model.keras", compile=False)
    output = np.asarray(model(inputs, training=False))
    numbers = [("few", "many").index(label) for label in table["target"]]
    return float(-np.log(output[np.arange(len(numbers)), numbers]).mean())


def test_other_data_is_read_with_the_columns_and_kinds_of_the_run(run, tmp_path):
    name = write_table(tmp_path / "week.csv", OTHER, ";")
    report = zoo.evaluate(run, name)
    assert report["num_examples"] == 3
    assert report["log_loss"] == pytest.approx(losses(run, OTHER), rel=1e-5)
    frame = pd.DataFrame(OTHER).astype({"hours per week": float, "hours_per_week": "Int64", "from": int})
    assert zoo.evaluate(run, frame)["log_loss"] == pytest.approx(report["log_loss"], rel=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"hours per week": None},
            "has no column 'hours per week', which the run learned from. Did you mean 'hours_per_week'",
        ),
        ({"2nd": ["3", "many", "5"]}, "row 2: 2nd is 'many'; expected a number"),
        ({"from": ["yes", "no", "perhaps"]}, "row 3: from is 'perhaps', neither yes nor no"),
        ({"joined on": ["01.02.2001", "", "13.13.2001"]}, "row 3: joined on is '13.13.2001', which is no date"),
        ({"target": ["few", "none", "many"]}, "has the classes 'none', which the run in .* does not know"),
    ],
)
def test_other_data_that_does_not_fit_is_rejected(change, message, run, tmp_path):
    table = {name: column for name, column in {**OTHER, **change}.items() if column}
    with pytest.raises(zoo.UsageError, match=message):
        zoo.evaluate(run, write_table(tmp_path / "week.csv", table))


def test_a_second_start_keeps_the_columns_and_reads_dates_as_the_new_table(run, tmp_path):
    earlier = Interface.load(run / "interface")
    table = mixed_table(60, seed=3)
    table["joined on"] = [f"{c[3:5]}/{c[:2]}/{c[6:]}" if c else "" for c in table["joined on"]]
    data = zoo.datasets.load(write_table(tmp_path / "new.csv", table), columns=COLUMNS)
    prepared = data.prepare_like(earlier, "mlp", **SMALL)
    old, new = (
        p.groups[[group.kind for group in p.groups].index("time")]
        for p in (earlier.preprocessor, prepared.preprocessor)
    )
    assert prepared.arguments["bin_edges"] == earlier.build["arguments"]["bin_edges"], "the weights belong to these"
    assert old.orders == ("dmy", "ymd") and new.orders == ("mdy", "ymd") and new.starts == old.starts
    served = prepared.preprocessor.serve({k: tf.constant(v) for k, v in prepared.interface.examples.requests.items()})[
        0
    ]
    np.testing.assert_array_equal(served["numbers"], prepared.interface.examples.inputs["numbers"])
    del table["class"]
    data = zoo.datasets.load(write_table(tmp_path / "less.csv", table), columns=COLUMNS)
    with pytest.raises(zoo.UsageError, match=r"other columns or kinds than this table: class. Pass the same columns"):
        data.prepare_like(earlier, "mlp", **SMALL)


def train(name, run, epochs, **arguments):
    config = zoo.TrainConfig(epochs=epochs, batch_size=16)
    return zoo.run(
        *("mlp", name), config=config, model_arguments=SMALL, data_arguments={"columns": COLUMNS, "clip": True},
        run_directory=run, export=False, verbose=0, **arguments
    )  # fmt: skip


@pytest.mark.slow
def test_a_run_resumes_after_a_kill_and_rejects_an_edited_file(tmp_path, monkeypatch):
    file, table = tmp_path / "own.csv", mixed_table(60)
    name = write_table(file, table)

    def killed(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(zoo.evaluation, "evaluate_run", killed)
        with pytest.raises(KeyboardInterrupt):
            train(name, tmp_path / "run", 1)
    result = train(name, tmp_path / "run", 2)
    assert len(result.history) == 2 and result.report["num_examples"] == 6
    write_table(file, {**table, "2nd": [*table["2nd"][:-1], "17"]})
    with pytest.raises(zoo.UsageError, match="trained on other data"):
        train(name, tmp_path / "run", 3)
    write_table(file, {**table, "class": [f"{n}" for n in range(60, 0, -1)]})  # a category became a number
    with pytest.raises(zoo.UsageError, match="trained on other data"):
        train(name, tmp_path / "run", 3)


def saved(prepared, folder):
    """Returns the signatures of a SavedModel with untrained weights."""
    keras.utils.set_random_seed(0)
    (folder / "sources").mkdir()
    labels = artifact._labels_file(folder / "sources", prepared.interface) if prepared.class_names else None
    module, functions = signatures.served_model(prepared.build(), prepared.interface, folder / "sources", labels)
    tf.saved_model.save(module, str(folder / "saved"), signatures=functions)
    return tf.saved_model.load(str(folder / "saved"))


TASKS = {
    "tabular_classification": COLUMNS,
    "tabular_regression": {"value": ["target", "size"]},
    "tabular_multilabel": {"labels": ["target", "size"]},
}


@pytest.mark.parametrize(
    "task", [pytest.param(task, marks=[pytest.mark.slow] * (task != "tabular_classification")) for task in TASKS]
)
def test_columns_records_and_files_get_the_same_answers(task, tmp_path):
    table = mixed_table(40)
    if task != "tabular_classification":
        numbers = np.random.default_rng(0).integers(0, 2, (2, 40))
        table["target"], table["size"] = (list(map(str, column)) for column in numbers)
    data = zoo.datasets.load(write_table(tmp_path / "own.csv", table), columns=TASKS[task])
    prepared = data.prepare("mlp", **SMALL)
    assert prepared.task.name == task
    model = saved(prepared, tmp_path)
    examples = prepared.interface.examples.requests
    named = {name: tf.constant(values) for name, values in examples.items() if name != "examples"}
    answers = model.signatures["serving_default"](**named)
    for name, values in model.signatures["examples"](examples=tf.constant(examples["examples"])).items():
        np.testing.assert_array_equal(values, answers[name])
    entries = {r.name: {"dtype": r.dtype, "columns": r.columns} for r in prepared.preprocessor.requests.values()}
    entries.pop("examples")
    columns = {entry["columns"]["column"]: name for name, entry in entries.items()}
    shuffled = sorted(columns, reverse=True)
    written = {column: [_written(value) for value in examples[columns[column]]] for column in shuffled}
    write_table(tmp_path / "rows.csv", {"more": ["x"] * len(examples["examples"]), **written})
    rows, unused = read_rows(tmp_path / "rows.csv", entries)
    batch = {name: tf.constant([row[name] for row in rows]) for name in entries}
    assert unused == ["more"]
    for name, values in model.signatures["serving_default"](**batch).items():
        np.testing.assert_array_equal(values, answers[name])
    del written["class"], written["2nd"]
    write_table(tmp_path / "rows.csv", written)
    with pytest.raises(zoo.UsageError, match=r"has no column '2nd', 'class'; its columns are 年龄, self, last"):
        read_rows(tmp_path / "rows.csv", entries)


def _written(value):
    return value.decode() if isinstance(value, bytes) else "" if np.isnan(value) else repr(float(value))


@pytest.mark.slow
def test_records_columns_and_lines_of_a_file_get_the_same_numbers_from_a_run(run, tmp_path, capsys):
    """An export that a clean process verified answers a client's `tf.Example`, named inputs, and `zoo predict`."""
    saved_model = export_run(run, tmp_path / "exports")
    capsys.readouterr()
    shuffled = dict(sorted(OTHER.items(), reverse=True))
    write_table(tmp_path / "rows.csv", shuffled)
    assert cli.main(["predict", str(saved_model), str(tmp_path / "rows.csv"), "--json"]) == 0
    said = capsys.readouterr()
    assert "columns that the model does not use: target, a number that no model knows" in said.err
    lines = [json.loads(line) for line in said.out.splitlines()]

    signatures = tf.saved_model.load(str(saved_model)).signatures
    requests = Interface.load(run / "interface").preprocessor.requests
    named, records = {}, [{} for _ in OTHER["target"]]
    for request in requests.values():
        if request.name == "examples":
            continue
        column = request.columns["column"]
        cells = [cell if request.dtype == "string" else float(cell or "nan") for cell in OTHER[column]]
        named[request.name] = tf.constant(cells, request.dtype)
        for features, cell in zip(records, cells, strict=True):
            if isinstance(cell, str):
                features[column] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[cell.encode()]))
            elif (
                column in ("hours_per_week", "examples") and cell == cell
            ):  # whole numbers in training; NaN is left out
                features[column] = tf.train.Feature(int64_list=tf.train.Int64List(value=[int(cell)]))
            elif cell == cell:
                features[column] = tf.train.Feature(float_list=tf.train.FloatList(value=[cell]))
    made = [tf.train.Example(features=tf.train.Features(feature=f)).SerializeToString() for f in records]
    by_column = signatures["serving_default"](**named)
    by_record = signatures["examples"](examples=tf.constant(made))
    for name, values in by_column.items():
        np.testing.assert_array_equal(by_record[name], values)
    printed = np.array([line["probabilities"] for line in lines], np.float32)
    np.testing.assert_array_equal(printed, by_column["probabilities"])
    assert [line["class_name"].encode() for line in lines] == by_column["class_name"].numpy().tolist()

    write_table(tmp_path / "rows.csv", {**OTHER, "2nd": ["1", "many", "3"]})
    assert cli.main(["predict", str(saved_model), str(tmp_path / "rows.csv")]) == 2
    assert "row 2: 2nd is 'many'; expected a number. Pass --missing" in capsys.readouterr().err
    del shuffled["2nd"], shuffled["class"]
    write_table(tmp_path / "rows.csv", shuffled)
    assert cli.main(["predict", str(saved_model), str(tmp_path / "rows.csv")]) == 2
    said = capsys.readouterr()
    assert (
        re.search(r"has no column 'class', '2nd'; its columns are .*Add or rename columns", said.err) and not said.out
    )
