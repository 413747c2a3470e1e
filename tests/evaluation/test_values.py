"""The report of values compared with scikit-learn, and on data with targets in their own units."""

from __future__ import annotations

import doctest
import json

import matplotlib.image
import numpy as np
import pytest
from sklearn import metrics

import zoo
from small_tables import diabetes, linear_model, prepared_numbers, table_task
from zoo.evaluation import value_plots, values
from zoo.evaluation.values import summary, value_report


@pytest.fixture(scope="module")
def example():
    rng = np.random.default_rng(0)
    targets = rng.gamma(2.0, [50.0, 0.1], (200, 2))
    return targets, targets * rng.normal(1.1, 0.2, targets.shape), rng.gamma(2.0, [40.0, 0.2], (300, 2))


def test_metrics_equal_scikit_learn(example):
    targets, predictions, train = example
    report = value_report(targets, predictions, ["price", "rate"], train_targets=train)
    for j, found in enumerate(report["targets"]):
        true, guessed = targets[:, j], predictions[:, j]
        assert (found["name"], found["count"]) == (("price", "rate")[j], 200)
        assert found["mae"] == pytest.approx(metrics.mean_absolute_error(true, guessed))
        assert found["rmse"] == pytest.approx(metrics.root_mean_squared_error(true, guessed))
        assert found["r2"] == pytest.approx(metrics.r2_score(true, guessed))
        assert found["bias"] == pytest.approx(np.mean(guessed - true))
        mean, median = np.full(200, train[:, j].mean()), np.full(200, np.median(train[:, j]))
        assert found["baseline"] == pytest.approx(
            {
                "mean": mean[0],
                "median": median[0],
                "mae": metrics.mean_absolute_error(true, median),
                "rmse": metrics.root_mean_squared_error(true, mean),
                "r2": metrics.r2_score(true, mean),
            }
        )
    assert report["r2"] == pytest.approx(metrics.r2_score(targets, predictions)), "the uniform average"
    assert "mae" not in report and report["baseline_from"] == "training split"
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_one_target_has_its_metrics_at_the_top(example):
    targets, predictions, _ = (part[:, 0] for part in example)
    report = value_report(targets, predictions, ["price"])
    (only,) = report["targets"]
    assert {key: report[key] for key in ("mae", "rmse", "r2", "bias", "baseline")} == {
        key: only[key] for key in ("mae", "rmse", "r2", "bias", "baseline")
    }
    assert report["baseline_from"] == "evaluated targets" and report["baseline"]["r2"] == pytest.approx(0)


def test_weights_equal_scikit_learn_and_skip_missing_values(example):
    targets, predictions, train = (part.copy() for part in example)
    weights = np.random.default_rng(1).uniform(0.5, 2, targets.shape)
    weights[:5, 1], targets[:5, 1], train[:7, 0] = 0, np.nan, np.nan
    found = value_report(targets, predictions, ["a", "b"], train_targets=train, weights=weights)["targets"]
    for j, skipped in ((0, 0), (1, 5)):
        true, guessed, weight = targets[skipped:, j], predictions[skipped:, j], weights[skipped:, j]
        assert found[j]["count"] == 200 - skipped
        assert found[j]["mae"] == pytest.approx(metrics.mean_absolute_error(true, guessed, sample_weight=weight))
        assert found[j]["r2"] == pytest.approx(metrics.r2_score(true, guessed, sample_weight=weight))
    assert found[0]["baseline"]["mean"] == pytest.approx(train[7:, 0].mean())
    everything = value_report(targets[5:], predictions[5:], ["a", "b"], weights=np.ones(195))
    assert everything == value_report(targets[5:], predictions[5:], ["a", "b"])


def test_equal_targets_have_no_r2():
    report = value_report([3.0, 3.0], [3.0, 4.0], ["a"])
    assert report["r2"] is None and report["mae"] == 0.5 and "R2" not in summary(report)
    assert [figure.metric for figure in values._headline(report)] == ["MAE", "RMSE"]


def test_summary_of_several_targets_is_a_table(example):
    targets, predictions, train = example
    lines = summary(value_report(targets, predictions, ["price", "rate"], train_targets=train)).splitlines()
    assert [line.split()[0] for line in lines] == ["target", "price", "rate", "in", "R2", "measured"]
    assert lines[1].index("(") == lines[2].index("("), "the columns are aligned"
    many = value_report(np.tile(targets, 6), np.tile(predictions, 6), [f"t{j}" for j in range(12)])
    assert summary(many).splitlines()[11] == "... 2 more" and len(many["samples"]) == 4


@pytest.mark.parametrize(
    ("arguments", "keywords", "message"),
    [
        ((np.zeros((0, 1)), np.zeros((0, 1)), ["a"]), {}, r"targets have shape \(0, 1\).*Pass one prediction"),
        ((np.zeros((3, 2)), np.zeros((3, 1)), ["a", "b"]), {}, r"predictions \(3, 1\)"),
        ((np.zeros(3), np.zeros(3), ["a", "b"]), {}, "There are 1 targets and 2 names. Pass one name"),
        (([1.0, np.nan], [1.0, 1.0], ["a"]), {}, "targets hold nan at example 1 for 'a'; expected finite"),
        (([1.0], [np.inf], ["a"]), {}, "predictions hold inf at example 0.*first epoch whose loss"),
        (([1.0], [1.0], ["a"]), {"weights": [-1.0]}, r"weights have shape \(1, 1\); expected .*not negative"),
        (([1.0], [1.0], ["a"]), {"weights": [0.0]}, "'a' has no value to evaluate: all weights are 0. Check"),
        (([1.0], [1.0], ["a"]), {"train_targets": [np.nan]}, r"train_targets have shape \(1, 1\).*Pass the targets"),
        (([1.0], [1.0], ["a"]), {"train_targets": np.zeros((4, 2))}, r"shape \(4, 2\); expected \(m, 1\)"),
    ],
)
def test_invalid_arrays_are_rejected(arguments, keywords, message):
    with pytest.raises(zoo.UsageError, match=message):
        value_report(*arguments, **keywords)


def test_docstring_examples_run():
    for name in ("value_report", "summary"):
        function = getattr(values, name)
        test = doctest.DocTestParser().get_doctest(function.__doc__, vars(values), name, None, None)
        lines: list[str] = []
        assert not doctest.DocTestRunner().run(test, out=lines.append).failed, "".join(lines)


def test_plots_are_written(example, tmp_path):
    targets, predictions, _ = (np.tile(part, (4, 2))[:, :3] for part in example)
    report = json.loads(json.dumps(value_report(targets, predictions, ["$a", "b", "c"])))
    assert [len(samples["true"]) for samples in report["samples"]] == [500, 500, 500]
    for draw in (value_plots.plot_predicted, value_plots.plot_residuals):
        file = tmp_path / "new" / "plot.png"
        draw(report, file)
        image = matplotlib.image.imread(file)
        assert image.shape[0] > 300 and image.std() > 0.01
        with pytest.raises(ValueError, match=r"ends in \.png"):
            draw(report, tmp_path / "plot.svg")


def test_targets_are_compared_in_their_own_units(tmp_path, monkeypatch):
    prepared = prepared_numbers(diabetes(), table_task("values of a test", "values", monkeypatch))
    model = linear_model(prepared)
    report = zoo.evaluate(model, prepared, directory=tmp_path)
    test, train = (next(iter(split.batch(1000))) for split in (prepared.data.test, prepared.data.train))
    answers = np.asarray(model(prepared.preprocessor.encode(test)[0]["numbers"]))
    true, scale = test["value"].numpy(), prepared.preprocessor.targets
    guessed = answers * scale.deviation[0] + scale.mean[0]
    assert report["mae"] == pytest.approx(metrics.mean_absolute_error(true, guessed), rel=1e-5)
    assert report["r2"] == pytest.approx(metrics.r2_score(true, guessed), rel=1e-4)
    assert report["baseline"]["median"] == np.median(train["value"])
    assert report["baseline_from"] == "training split" and report["targets"][0]["name"] == "progression"
    assert list(dict.fromkeys(figure["metric"] for figure in report["headline"])) == ["MAE", "RMSE", "R2"]
    assert {file.name for file in (tmp_path / "plots").iterdir()} == {"predicted.png", "residuals.png"}
    assert json.loads((tmp_path / "evaluation.json").read_text()) == report
    assert zoo.evaluation.read_report(tmp_path / "evaluation.json") == report
