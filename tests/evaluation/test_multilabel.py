"""The report of several labels at once, the thresholds and the training's metric, against scikit-learn."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
from PIL import Image
from sklearn import metrics as reference

from zoo import scores
from zoo.errors import UsageError
from zoo.evaluation.multilabel import multilabel_intervals, multilabel_report, summary
from zoo.evaluation.multilabel_plots import plot_areas, plot_labels
from zoo.export.standalone.compare import compare
from zoo.metrics import LabelF1
from zoo.tasks.shared import binary_cross_entropy

NAMES = ["joy", "anger", "fear", "never", "$5"]
RANDOM = np.random.default_rng(0)
TRUE = (RANDOM.random((200, 5)) < [0.6, 0.3, 0.1, 0.0, 0.5]).astype(np.float32)
# Rounded, so that probabilities are equal, and some are at the threshold.
FOUND = np.clip(0.35 * TRUE + 0.65 * RANDOM.random((200, 5)), 0, 1).round(2).astype(np.float32)
LEVELS = np.float32([0.5, 0.35, 0.62, 0.9, 0.5])


@pytest.fixture(scope="module")
def report():
    return multilabel_report(TRUE, FOUND, NAMES, thresholds=LEVELS, train_frequencies=[0.6, 0.3, 0.1, 0.0, 0.5])


def test_the_metrics_equal_those_of_scikit_learn(report):
    chosen = FOUND >= LEVELS
    for average in ("micro", "macro"):
        expected = reference.precision_recall_fscore_support(TRUE, chosen, average=average, zero_division=0)[:3]
        assert [report[average][name] for name in ("precision", "recall", "f1")] == pytest.approx(expected)
        assert report[f"{average}_f1"] == report[average]["f1"]
    assert report["subset_accuracy"] == pytest.approx(reference.accuracy_score(TRUE, chosen))
    known = [0, 1, 2, 4]
    assert report["macro_auc"] == pytest.approx(reference.roc_auc_score(TRUE[:, known], FOUND[:, known]))
    expected = reference.average_precision_score(TRUE[:, known], FOUND[:, known])
    assert report["macro_average_precision"] == pytest.approx(expected)
    expected = np.mean(
        [reference.log_loss(TRUE[:, k], FOUND[:, k].clip(1e-7, 1 - 1e-7), labels=[0, 1]) for k in range(5)]
    )
    assert report["log_loss"] == pytest.approx(expected, rel=1e-5)
    columns = reference.precision_recall_fscore_support(TRUE, chosen, average=None, zero_division=0)
    for k, row in enumerate(report["per_label"]):
        assert [row[name] for name in ("precision", "recall", "f1", "support")] == pytest.approx(
            [c[k] for c in columns]
        )
        assert (row["class_name"], row["threshold"], row["predicted"]) == (NAMES[k], LEVELS[k], chosen[:, k].sum())
    assert report["per_label"][3]["roc_auc"] is None, "a label that no example has"
    assert report["labels_per_example"] == pytest.approx({"true": TRUE.sum() / 200, "predicted": chosen.sum() / 200})
    json.dumps(report, allow_nan=False)


def test_the_baseline_predicts_the_best_constant_labels(report):
    """Of all sets of labels, the one of the baseline has the best expected F1 score for the frequencies."""
    frequencies = np.array([0.6, 0.3, 0.1, 0.0, 0.5])
    sets = [[n >> k & 1 for k in range(5)] for n in range(1, 32)]
    best = max(sets, key=lambda held: 2 * np.dot(held, frequencies) / (sum(held) + frequencies.sum()))
    base = report["baseline"]
    assert base["class_names"] == [name for name, is_in in zip(NAMES, best, strict=True) if is_in] == ["joy", "$5"]
    always = np.broadcast_to(best, TRUE.shape)
    assert base["micro_f1"] == pytest.approx(reference.f1_score(TRUE, always, average="micro"))
    assert base["macro_f1"] == pytest.approx(reference.f1_score(TRUE, always, average="macro", zero_division=0))
    assert base["subset_accuracy"] == pytest.approx(reference.accuracy_score(TRUE, always))


def test_an_interval_covers_the_metric_and_narrows_with_examples(report):
    ends = multilabel_intervals(TRUE, FOUND, NAMES, thresholds=LEVELS)
    more = multilabel_intervals(np.tile(TRUE, (9, 1)), np.tile(FOUND, (9, 1)), NAMES, thresholds=LEVELS)
    for name in ("micro_f1", "macro_f1", "subset_accuracy"):
        low, high = ends[name]
        assert low < report[name] < high
        assert (high - low) / (more[name][1] - more[name][0]) == pytest.approx(3, rel=0.25)


def test_the_summary_names_the_baseline_and_the_labels(report):
    lines = summary(report).splitlines()
    assert lines[0].startswith(f"micro F1           {report['micro_f1']:.4f}")
    assert lines[0].endswith('always "joy", "$5", from the training split)')
    assert [line.split()[0] for line in lines if line.split()[0] in NAMES] == ["joy", "$5", "anger", "fear", "never"]


def test_the_plots_are_drawn(report, tmp_path):
    none = multilabel_report([[1, 1]], [[0.2, 0.7]], ["a", "b"])
    for number, held in enumerate((report, none)):
        for draw in (plot_labels, plot_areas):
            draw(held, tmp_path / "x.png")
            assert min(Image.open(tmp_path / "x.png").size) > 300, (number, draw)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((TRUE, FOUND[:, :4], NAMES), "targets have shape .200, 5., probabilities .200, 4., and there are 5 names"),
        ((TRUE + 1, FOUND, NAMES), "targets have values other than 0 and 1. Pass 1 for every"),
        ((TRUE, FOUND * 9, NAMES), "probabilities reach from .* expected finite numbers from 0 to 1. Apply a sigmoid"),
        ((TRUE[:0], FOUND[:0], NAMES), "expected .n, labels. for both with at least one example"),
    ],
)
def test_invalid_arguments_are_rejected(arguments, message):
    with pytest.raises(UsageError, match=message):
        multilabel_report(*arguments)


def test_the_best_thresholds_reach_the_best_f1_of_scikit_learn():
    found = scores.best_thresholds(TRUE, FOUND)
    assert found[3] == 0.5, "a label that no example has"
    for k in (0, 1, 2, 4):
        precision, recall, _ = reference.precision_recall_curve(TRUE[:, k], FOUND[:, k])
        best = np.max(2 * precision * recall / np.maximum(precision + recall, 1e-9))
        assert reference.f1_score(TRUE[:, k], FOUND[:, k] >= np.float32(found[k])) == pytest.approx(best)
        assert not np.isclose(FOUND[:, k], found[k], atol=1e-4).any(), "between two probabilities"
    assert scores.best_thresholds([[1], [0]], [[0.0], [0.0]]) == [0.5]
    assert scores.best_thresholds([[1], [1]], [[0.5], [np.nextafter(np.float32(0.5), 1)]]) == [0.25]


@pytest.mark.parametrize("output", ["probabilities", "logits"])
def test_the_metric_of_training_is_the_micro_f1_at_one_half(output):
    given = (
        FOUND if output == "probabilities" else np.log(FOUND.clip(1e-6, 1 - 1e-6) / (1 - FOUND.clip(1e-6, 1 - 1e-6)))
    )
    metric = LabelF1.from_config(LabelF1(from_logits=output == "logits").get_config())
    for part in np.array_split(np.arange(200), 3):
        metric.update_state(TRUE[part], given[part], sample_weight=np.float32(part % 5 > 0))
    kept = np.arange(200) % 5 > 0
    assert float(metric.result()) == pytest.approx(reference.f1_score(TRUE[kept], FOUND[kept] > 0.5, average="micro"))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_is_the_mean_over_the_labels_of_each_example(smoothing):
    logits = np.log(FOUND.clip(1e-3, 0.999) / (1 - FOUND.clip(1e-3, 0.999)))
    soft = TRUE * (1 - smoothing) + smoothing / 2
    expected = -np.mean(
        soft * np.log(FOUND.clip(1e-3, 0.999)) + (1 - soft) * np.log(1 - FOUND.clip(1e-3, 0.999)), axis=1
    )
    for output, given in (("probabilities", FOUND.clip(1e-3, 0.999)), ("logits", logits)):
        losses = binary_cross_entropy(output, smoothing)(TRUE, given)
        np.testing.assert_allclose(losses, expected, rtol=1e-4)
        whole = keras.losses.BinaryCrossentropy(from_logits=output == "logits", label_smoothing=smoothing)
        assert float(np.mean(losses)) == pytest.approx(float(whole(TRUE, given)), rel=1e-5), "what fit computes"


def test_labels_at_their_threshold_are_ties_in_a_replay():
    """A label may differ only where rounding can move its probability over the threshold."""
    labels, levels = [b"a", b"b", b"c"], [0.5, 0.5, 0.5]
    known = np.float32([[0.9, 0.5, 0.1], [0.9, 0.2, 0.8]])
    want = {"labels": np.array([[b"a", b"b"], [b"a", b"c"]], object)}
    near = {"labels": np.array([[b"a", b""], [b"a", b"c"]], object)}
    far = {"labels": np.array([[b"a", b"b"], [b"a", b""]], object)}
    rows = [compare(want, got, labels, 1e-5, known, {"thresholds": levels})[0] for got in (want, near, far)]
    assert [(row["passed"], row["ties"]) for row in rows] == [(True, 0), (True, 1), (False, 0)]
    assert rows[1]["detail"] == "1 of 4 differ, 1 of them ties"
