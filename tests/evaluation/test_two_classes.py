"""Metrics of two classes, and areas under curves of several, compared with scikit-learn."""

from __future__ import annotations

import doctest
import json

import matplotlib.image
import numpy as np
import pytest
from sklearn import metrics

from zoo.evaluation import discrimination
from zoo.evaluation.classification import classification_report, headline, summary
from zoo.evaluation.discrimination import macro_auc, plot_threshold_curves, roc_areas

NAMES = ["ham", "spam"]


@pytest.fixture(scope="module")
def example():
    """Targets, probabilities with many ties, and weights."""
    rng = np.random.default_rng(0)
    targets = (rng.random(400) < 0.3).astype(int)
    positive = np.round(1 / (1 + np.exp(-(rng.normal(size=400) + 1.5 * targets - 1))), 2)
    return targets, np.stack([1 - positive, positive], axis=1), rng.uniform(0.5, 2, 400)


def test_f1_stands_next_to_that_of_the_most_frequent_class(example):
    targets, probabilities, _ = example
    for counts, always in (([3, 1], np.zeros(400)), ([1, 3], np.ones(400))):
        report = classification_report(targets, probabilities, NAMES, train_class_counts=counts)
        figure = headline(report)[1]
        assert (figure.metric, figure.baseline) == ("F1 of spam", "the most frequent class")
        assert figure.baseline_value == pytest.approx(metrics.f1_score(targets, always, zero_division=0))


@pytest.mark.parametrize("weighted", [False, True])
def test_metrics_of_two_classes_equal_scikit_learn(example, weighted):
    targets, probabilities, weights = example
    weights = weights if weighted else None
    report = classification_report(targets, probabilities, NAMES, weights=weights)
    scores = probabilities[:, 1]
    assert report["roc_auc"] == pytest.approx(metrics.roc_auc_score(targets, scores, sample_weight=weights))
    expected = metrics.average_precision_score(targets, scores, sample_weight=weights)
    assert report["average_precision"] == pytest.approx(expected)
    assert report["brier"] == pytest.approx(metrics.brier_score_loss(targets, scores, sample_weight=weights))
    assert report["positive_f1"] == report["per_class"][1]["f1"] and report["positive_class"] == "spam"
    assert len(report["thresholds"]) == 11 and "macro_auc" not in report
    for row in report["thresholds"]:
        predicted = scores >= row["threshold"]
        expected = metrics.precision_recall_fscore_support(
            targets, predicted, average="binary", sample_weight=weights, zero_division=0
        )
        assert (row["precision"], row["recall"], row["f1"]) == pytest.approx(expected[:3])
        assert row["share_predicted"] == pytest.approx(np.average(predicted, weights=weights))
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_curves_have_at_most_101_points_and_the_area_of_the_report():
    rng = np.random.default_rng(1)
    targets = rng.integers(0, 2, 3000)
    scores = np.clip(rng.normal(0.4 + 0.2 * targets, 0.2), 0, 1)
    report = classification_report(targets, np.stack([1 - scores, scores], axis=1), NAMES)
    curves = report["threshold_curves"]
    assert {len(points) for curve in curves.values() for points in curve.values()} == {101}
    roc, both = curves["roc"], curves["precision_recall"]
    assert metrics.auc(roc["false_positive_rate"], roc["true_positive_rate"]) == pytest.approx(
        report["roc_auc"], abs=2e-3
    )
    assert metrics.auc(both["recall"], both["precision"]) == pytest.approx(report["average_precision"], abs=1e-2)
    assert (roc["false_positive_rate"][0], roc["true_positive_rate"][-1]) == (0, 1)


def test_one_class_alone_has_no_area(tmp_path):
    report = classification_report([1, 1], [[0.5, 0.5], [0.2, 0.8]], NAMES)
    assert report["roc_auc"] is report["average_precision"] is None and "threshold_curves" not in report
    assert "ROC" not in summary(report) and [figure.metric for figure in headline(report)] == ["accuracy", "F1 of spam"]
    plot_threshold_curves(report, tmp_path / "curves.png")
    assert not list(tmp_path.iterdir())


def test_macro_auc_equals_scikit_learn_over_the_classes_that_occur():
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 4, 300)
    probabilities = rng.dirichlet(np.ones(4), 300) * 0.6 + 0.4 * np.eye(4)[targets]
    report = classification_report(targets, probabilities, list("abcd"))
    assert report["macro_auc"] == pytest.approx(metrics.roc_auc_score(targets, probabilities, multi_class="ovr"))
    assert f"macro AUC          {report['macro_auc']:.4f}" in summary(report).splitlines() and "roc_auc" not in report
    some = targets < 3  # the last class never occurs
    each = [metrics.roc_auc_score(targets[some] == k, probabilities[some, k]) for k in range(3)]
    rest = classification_report(targets[some], probabilities[some], list("abcd"))
    assert rest["macro_auc"] == pytest.approx(np.mean(each))
    assert macro_auc(np.zeros(5, int), np.full((5, 3), 1 / 3), np.ones(5)) is None


def test_areas_of_many_samples_equal_those_of_each(example):
    targets, probabilities, _ = example
    counts = np.random.default_rng(2).integers(0, 3, (5, 400)).astype(float)
    found = roc_areas(probabilities[:, 1], targets == 1)(counts)
    for row, weights in enumerate(counts):
        expected = metrics.roc_auc_score(targets, probabilities[:, 1], sample_weight=weights)
        assert found[row] == pytest.approx(expected)
    assert np.isnan(roc_areas(probabilities[:, 1], targets == 1)(counts * (targets == 1))).all()


def test_summary_and_headline_name_the_positive_class(example):
    targets, probabilities, _ = example
    report = classification_report(targets, probabilities, NAMES)
    assert summary(report).splitlines()[2] == (
        f'positive class     "spam": ROC AUC {report["roc_auc"]:.4f}, average precision '
        f"{report['average_precision']:.4f}, Brier score {report['brier']:.4f}"
    )
    assert [(figure.metric, figure.key) for figure in headline(report)] == [
        ("accuracy", "accuracy"),
        ("F1 of spam", "positive_f1"),
        ("ROC AUC", "roc_auc"),
    ]


def test_the_curves_are_drawn_from_the_report_alone(example, tmp_path):
    targets, probabilities, _ = example
    report = json.loads(json.dumps(classification_report(targets, probabilities, ["$a", "$b"])))
    plot_threshold_curves(report, tmp_path / "new" / "curves.png")
    image = matplotlib.image.imread(tmp_path / "new" / "curves.png")
    assert image.shape[0] > 300 and image.std() > 0.01
    with pytest.raises(ValueError, match=r"ends in \.png"):
        plot_threshold_curves(report, tmp_path / "curves.svg")


def test_docstring_examples_run():
    for name in ("roc_areas", "two_classes", "macro_auc"):
        function = getattr(discrimination, name)
        test = doctest.DocTestParser().get_doctest(function.__doc__, vars(discrimination), name, None, None)
        lines: list[str] = []
        assert not doctest.DocTestRunner().run(test, out=lines.append).failed, "".join(lines)
