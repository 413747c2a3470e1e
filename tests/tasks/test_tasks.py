"""Every model on each of its tasks: from embedded raw data to a verified SavedModel and its outputs."""

from __future__ import annotations

import csv
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from zoo import tasks
from zoo.datasets.sources.embedded import EMBEDDED
from zoo.evaluation.reports import get_report
from zoo.scripts import cli

AGAIN = [
    ("attention", "series_classification"),
    ("attention", "text_classification"),
    ("attention", "text_multilabel"),
    ("attention", "text_regression"),
    ("bert", "tagging"),
    ("bert", "text_multilabel"),
    ("bert", "text_regression"),
    ("cnn", "image_classification"),
    ("cnn", "image_multilabel"),
    ("cnn", "image_regression"),
    ("bert", "text_classification"),
    ("bert_mlm", "masked_language_modelling"),
    ("gpt", "text_generation"),  # tests/export/test_card.py exports one
    ("embedding_lstm", "text_classification"),
    ("embedding_lstm", "text_multilabel"),
    ("embedding_lstm", "text_regression"),
    ("lstm", "image_classification"),
    ("lstm", "series_classification"),
    ("mlp", "image_classification"),
    ("mlp", "image_multilabel"),
    ("mlp", "image_regression"),
    ("mlp", "tabular_classification"),
    ("mlp", "tabular_multilabel"),
    ("ft_transformer", "tabular_classification"),
    ("ft_transformer", "tabular_multilabel"),
    ("ft_transformer", "tabular_regression"),
    ("wide_deep", "tabular_classification"),
    ("wide_deep", "tabular_multilabel"),
    ("wide_deep", "tabular_regression"),
    ("seq2seq_transformer", "translation"),
    ("transformer", "text_classification"),
    ("transformer", "text_multilabel"),
    ("transformer", "text_regression"),
]
PAIRS = [(name, task) for name in zoo.list_models(variants=False) for task in zoo.get_spec(name).tasks]


@pytest.fixture(scope="module")
def embedded():
    """Returns the name of an embedded data set for each task."""
    found: dict[str, str] = {}
    for name in sorted(EMBEDDED):
        found.setdefault(zoo.datasets.load(name).task, name)
    return found


def small(name: str, task: str) -> dict:
    """Returns the smallest arguments of a model that do not contradict a data set."""
    spec = zoo.get_spec(name)
    decided = {"num_classes", *spec.data_arguments, *tasks.get_task(task).arguments}
    decided |= {"input_shape"} if not task.startswith("image") or name == "lstm" else set()
    decided |= {"vocab_size"} if task == "series_classification" else set()
    return {k: v for k, v in spec.tiny.items() if k not in decided and not k.endswith(("vocab_size", "max_length"))}


def test_every_task_has_embedded_data_and_a_model(embedded):
    assert set(embedded) == set(tasks.list_tasks()) == {task for _, task in PAIRS}


def cases():
    """Returns all pairs; pairs whose model and task are covered by other pairs or other files are slow tests."""
    again = [pair for pair in PAIRS if pair in AGAIN]
    assert len(again) == len(AGAIN)
    for name, task in PAIRS:
        slow = zoo.get_spec(name).heavy or (name, task) in AGAIN
        yield pytest.param((name, task), id=f"{name}-{task}", marks=[pytest.mark.slow] * slow)


# Batch sizes that divide the training examples: a smaller last batch would be traced too.
BATCH = {"digits": 431, "digit_rows": 431, "commands": 72, "tastes": 81, "seasons": 89}
BATCH |= {"baskets": 421, "digit_ink": 479, "digit_shapes": 1439, "wishes": 195}


@pytest.fixture(scope="module", params=cases())
def run(request, embedded, tmp_path_factory):
    name, task = request.param
    directory = tmp_path_factory.mktemp(name) / "run"
    rate = 0.001 if zoo.get_spec(name).heavy else 0.01  # deep networks diverge
    config = zoo.TrainConfig(epochs=1, batch_size=BATCH.get(embedded[task], 64), learning_rate=rate)
    arguments = small(name, task)
    result = zoo.run(name, embedded[task], config=config, model_arguments=arguments, run_directory=directory, verbose=0)
    keras.backend.clear_session()
    return result


def test_the_savedmodel_is_verified_and_the_report_is_complete(run, opened):
    assert run.verification.passed, run.verification.table()
    names = [check.name for check in run.verification.checks]
    task = tasks.get_task(run.report["task"]).for_targets(opened[1].preprocessor)
    for signature in (*task.signatures, "predict"):
        assert any(name.startswith(f"{signature} ") for name in names), f"{signature} was not replayed"
    figures = zoo.evaluation.figures(run.report)
    assert figures and all(np.isfinite(value) for value in figures.values())
    assert any(beside for beside in figures if ", " in beside), "no figure without a baseline"
    json.dumps(run.report, allow_nan=False)
    assert (run.run_directory / "evaluation.json").is_file()
    drawn = {p.name for p in (run.run_directory / "plots").iterdir()}
    expected = {"history", *get_report(task.report).plots}
    expected -= {"threshold_curves", "quantiles"} - {*run.report}  # of two classes; of values, on request
    expected -= (
        set() if "rmse" in run.report or task.name != "recommendation" else {"rating_errors"}
    )  # of ratings alone
    assert drawn == {f"{name}.png" for name in expected}


@pytest.fixture(scope="module")
def loaded(run):
    return tf.saved_model.load(str(run.saved_model))


@pytest.fixture(scope="module")
def opened(run):
    return zoo.pipeline.open_run(run.run_directory)


def test_the_outputs_are_those_that_the_task_declares(run, loaded, opened):
    task = tasks.get_task(run.report["task"]).for_targets(opened[1].preprocessor)
    assert set(task.signatures) <= set(loaded.signatures)
    card = (run.saved_model / "README.md").read_text(encoding="utf-8")
    for name, signature in task.signatures.items():
        function = loaded.signatures[name]
        assert set(function.structured_input_signature[1]) == set(signature.takes(opened[1].preprocessor.requests))
        described = signature.described(opened[1].preprocessor)
        assert set(function.structured_outputs) <= set(described), "an answer that no document explains"
        assert all(f"`{key}`: " in card for key in function.structured_outputs)


@pytest.mark.slow  # runs on texts, tables and plugins are evaluated again in files of their own
def test_a_finished_run_is_evaluated_again(run, opened):
    model, prepared, _ = opened
    again = zoo.evaluate(model, prepared)
    for key, value in zoo.evaluation.figures(run.report).items():
        assert zoo.evaluation.figures(again)[key] == pytest.approx(value, abs=1e-5), key


def requests_of(run, prepared, tmp_path) -> list[str]:
    """Returns the first test example as a user would type it."""
    signature, known = prepared.task.signatures["serving_default"], prepared.preprocessor.requests
    values = {name: prepared.interface.examples.requests[name][0] for name in signature.takes(known)}
    if prepared.task.preprocessor == "table":
        cells = {known[name].columns.get("column", name): value for name, value in values.items()}
        cells = {column: value.decode() if isinstance(value, bytes) else value for column, value in cells.items()}
        with (tmp_path / "rows.csv").open("w", newline="") as file:
            csv.writer(file).writerows([cells, cells.values()])
        return [str(tmp_path / "rows.csv")]
    ((name, value),) = values.items()
    if name == "image_bytes":
        (tmp_path / "image.png").write_bytes(value)
        return [str(tmp_path / "image.png")]
    if isinstance(value, bytes):
        return [value.decode()]
    with (tmp_path / "series.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["" if np.isnan(v) else v for v in step] for step in value.tolist()])
    return [str(tmp_path / "series.csv")]


def test_predict_accepts_typed_requests(run, loaded, opened, tmp_path, capsys, monkeypatch):
    (item,) = requests_of(run, opened[1], tmp_path)
    monkeypatch.setattr(tf.saved_model, "load", {str(run.saved_model): loaded}.__getitem__)  # loads it once for all
    assert cli.main(["predict", str(run.run_directory), item]) == 0
    line = capsys.readouterr().out.strip()
    assert line.startswith((f"{item}:", f"{item} row 1:"))  # after one epoch, a model may return an empty translation
    assert cli.main(["predict", str(run.run_directory), item, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    task = tasks.get_task(run.report["task"])
    described = task.signatures["serving_default"].described(opened[1].preprocessor)
    assert set(answer) - {"input"} <= set(described)
