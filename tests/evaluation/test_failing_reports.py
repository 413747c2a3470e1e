"""A report, a plot or a summary that fails is named, and nothing else of a run is lost."""

import dataclasses
import json

import pytest

import zoo
from zoo.errors import UsageError
from zoo.evaluation import evaluator
from zoo.evaluation.reports import get_report


@pytest.fixture(scope="module")
def prepared():
    return zoo.datasets.load("digits").prepare("mlp", hidden_units=[8])


@pytest.fixture
def kind(monkeypatch):
    """Returns a function that changes the report of classification."""

    def change(**parts):
        changed = dataclasses.replace(get_report("classification"), **parts)
        monkeypatch.setattr(evaluator, "get_report", lambda name: changed)

    return change


def test_a_run_with_a_failing_report_is_exported(kind, tmp_path, capsys):
    def compute(*_):
        raise KeyError("forecast")

    kind(compute=compute)
    config = zoo.TrainConfig(epochs=1)
    result = zoo.run(
        "mlp", "digits", model_arguments={"hidden_units": [8]}, config=config, run_directory=tmp_path / "run"
    )
    assert result.verification.passed
    assert result.report == {"failure": "The report 'classification' failed: KeyError: 'forecast'"}
    assert "'forecast'. The run goes on without it; `zoo evaluate " in capsys.readouterr().out
    with pytest.raises(UsageError, match=r"KeyError: 'forecast'. Correct the report, and evaluate the run again"):
        zoo.evaluation.headline(result.report)


def test_numbers_that_are_not_finite_are_written_as_null(kind, prepared, tmp_path):
    honest = get_report("classification").compute
    kind(compute=lambda *given: {**honest(*given), "odd": [float("nan"), {"deep": float("inf")}]})
    report = zoo.evaluate(prepared.build(seed=0), prepared, directory=tmp_path)
    assert report["odd"] == [None, {"deep": None}]
    assert json.loads((tmp_path / "evaluation.json").read_text()) == report


def test_a_failing_plot_or_summary_is_named(kind, prepared, tmp_path, capsys):
    def fail(*_):
        raise ValueError("no\nfont")

    plots = get_report("classification").plots
    kind(plots={"first": fail, **plots}, summary=fail)
    report = evaluator.evaluate_run(prepared.build(seed=0), prepared, tmp_path, 1)
    printed = capsys.readouterr().out
    assert f"The plot {tmp_path}/plots/first.png could not be drawn: ValueError: no font" in printed
    assert f"The summary 'classification' of {tmp_path}/evaluation.json failed: ValueError: no font" in printed
    assert json.loads((tmp_path / "evaluation.json").read_text()) == report
    # The curves of a threshold are those of two classes; the digits have ten.
    assert {file.stem for file in (tmp_path / "plots").iterdir()} == {*plots} - {"threshold_curves"}
