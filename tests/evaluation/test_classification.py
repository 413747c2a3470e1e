"""Classification reports: the metrics against explicit arithmetic, every message, and every plot."""

import ast
import doctest
import json
import math
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selection import slow
from zoo.evaluation import classification, plots
from zoo.evaluation.classification import classification_report, summary
from zoo.evaluation.plots import plot_confusion_matrix, plot_reliability

NAMES = ["ant", "bee", "cat"]

# Six examples, computed by hand: 0, 2 and 5 are correct; "bee" is predicted as "ant" twice and "cat" as "bee" once.
TARGETS = np.array([0, 1, 1, 1, 2, 0])
PROBABILITIES = np.array(
    [
        [0.7, 0.2, 0.1],
        [0.5, 0.3, 0.2],
        [0.1, 0.8, 0.1],
        [0.6, 0.4, 0.0],
        [0.0, 1.0, 0.0],
        [0.9, 0.05, 0.05],
    ]
)


def random_case(seed: int, n: int = 200, num_classes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, num_classes, n)
    scores = rng.normal(size=(n, num_classes)) + 1.5 * np.eye(num_classes)[targets]
    exponentials = np.exp(scores)
    return targets, exponentials / exponentials.sum(axis=1, keepdims=True)


def letters(num_classes: int) -> list[str]:
    return [f"class {index}" for index in range(num_classes)]


def without_names(report: dict) -> dict:
    """Flattens the report's numbers to {path: number}, so that pytest.approx can compare two reports."""
    flat: dict = {}

    def walk(value: object, path: str) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                walk(item, f"{path}/{key}")
        elif isinstance(value, list):
            for index, item in enumerate(value):
                walk(item, f"{path}/{index}")
        elif isinstance(value, int | float):
            flat[path] = value

    walk(report, "")
    return flat


# ---------------------------------------------------------------- figures


def test_metrics_equal_hand_computed_values():
    report = classification_report(TARGETS, PROBABILITIES, NAMES)
    assert report["num_examples"] == 6
    assert report["accuracy"] == pytest.approx(3 / 6)
    assert report["confusion_matrix"] == [[2, 0, 0], [2, 1, 0], [0, 1, 0]]
    assert report["class_names"] == NAMES
    expected = [
        ("ant", 2 / 4, 2 / 2, 2 * 0.5 * 1 / 1.5, 2),
        ("bee", 1 / 2, 1 / 3, 2 * (1 / 2) * (1 / 3) / (5 / 6), 3),
        ("cat", 0.0, 0.0, 0.0, 1),  # never predicted: precision is undefined and reported as 0
    ]
    for row, (name, precision, recall, f1, support) in zip(report["per_class"], expected, strict=True):
        assert row["class_name"] == name
        assert row["support"] == support
        assert (row["precision"], row["recall"], row["f1"]) == pytest.approx((precision, recall, f1))
    for column, metric in ((1, "precision"), (2, "recall"), (3, "f1")):
        values = [row[column] for row in expected]
        assert report["macro"][metric] == pytest.approx(sum(values) / 3)
        assert metric != "f1" or report["macro_f1"] == report["macro"]["f1"]
        assert report["weighted"][metric] == pytest.approx((2 * values[0] + 3 * values[1] + values[2]) / 6)
    logs = [math.log(p) for p in (0.7, 0.3, 0.8, 0.4, 1e-7, 0.9)]  # the fifth value is 0, clipped
    assert report["log_loss"] == pytest.approx(-sum(logs) / 6)


def test_metrics_equal_explicit_numpy():
    targets, probabilities = random_case(0)
    report = classification_report(targets, probabilities.astype(np.float32), letters(5))
    predicted = probabilities.argmax(axis=1)
    matrix = np.zeros((5, 5), dtype=int)
    for true, answer in zip(targets, predicted, strict=True):
        matrix[true, answer] += 1
    assert report["confusion_matrix"] == matrix.tolist()
    precision = np.diag(matrix) / matrix.sum(axis=0)
    recall = np.diag(matrix) / matrix.sum(axis=1)
    f1 = 2 * precision * recall / (precision + recall)
    for metric, values in (("precision", precision), ("recall", recall), ("f1", f1)):
        assert [row[metric] for row in report["per_class"]] == pytest.approx(values.tolist())
        assert report["macro"][metric] == pytest.approx(values.mean())
        assert report["weighted"][metric] == pytest.approx((values * matrix.sum(axis=1)).sum() / 200)
    assert report["log_loss"] == pytest.approx(-np.log(probabilities[np.arange(200), targets]).mean(), rel=1e-6)


def test_log_loss_is_computed_in_double_precision():
    # 1 - 1e-9 is 1 in float32; in float64 the loss is 1e-9.
    sure = np.array([[1 - 1e-9, 1e-9]])
    assert classification_report([0], sure, ["no", "yes"])["log_loss"] == pytest.approx(1e-9, rel=1e-6)
    # float16 sums of many equal terms lose precision; the report of the same values in float64 must be equal.
    half = np.full((5000, 4), 0.25, dtype=np.float16)
    report = classification_report(np.zeros(5000, dtype=int), half, letters(4))
    assert report["log_loss"] == pytest.approx(math.log(4), rel=1e-12)


def test_perfect_predictions_have_perfect_metrics():
    report = classification_report([0, 1, 2], np.eye(3), NAMES)
    assert report["accuracy"] == report["macro"]["f1"] == 1.0
    assert str(report["log_loss"]) == "0.0"  # not "-0.0"
    assert report["expected_calibration_error"] == 0.0


def test_macro_average_ignores_classes_that_never_occur():
    four = np.hstack([PROBABILITIES, np.zeros((6, 1))])
    report = classification_report(TARGETS, four, [*NAMES, "dog"])
    assert report["macro"] == pytest.approx(classification_report(TARGETS, PROBABILITIES, NAMES)["macro"])
    assert report["per_class"][3] == {"class_name": "dog", "precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0}


def test_macro_average_includes_classes_that_are_only_predicted():
    report = classification_report([0, 0], [[0.9, 0.1], [0.2, 0.8]], ["no", "yes"])
    assert report["macro"]["recall"] == pytest.approx((1 / 2 + 0) / 2)
    assert report["weighted"]["recall"] == pytest.approx(1 / 2)


def test_ties_go_to_the_first_class():
    report = classification_report([1], [[0.5, 0.5]], ["no", "yes"])
    assert report["confusion_matrix"] == [[0, 0], [1, 0]]


# ---------------------------------------------------------------- calibration


def test_calibration_error_equals_a_hand_computed_case():
    # Bins are 1/15 wide. 0.95 and 0.97 lie in (14/15, 1], one of them right; 0.62 in (9/15, 10/15], wrong.
    probabilities = np.array([[0.95, 0.05], [0.97, 0.03], [0.38, 0.62]])
    report = classification_report([0, 1, 0], probabilities, ["no", "yes"])
    top, middle = abs(1 / 2 - 0.96), abs(0 - 0.62)
    assert report["expected_calibration_error"] == pytest.approx(2 / 3 * top + 1 / 3 * middle)
    bins = report["reliability"]
    assert [bin_["count"] for bin_ in bins] == [0] * 9 + [1] + [0] * 4 + [2]
    assert (bins[14]["mean_confidence"], bins[14]["accuracy"]) == pytest.approx((0.96, 0.5))
    assert (bins[9]["mean_confidence"], bins[9]["accuracy"]) == pytest.approx((0.62, 0.0))
    assert bins[0] == {
        "lower": 0.0,
        "upper": pytest.approx(1 / 15),
        "count": 0,
        "mean_confidence": None,
        "accuracy": None,
    }
    assert [bin_["lower"] for bin_ in bins[1:]] == [bin_["upper"] for bin_ in bins[:-1]]
    assert bins[-1]["upper"] == 1.0


def test_calibration_bins_include_their_upper_edge():
    # 0.6 = 9/15 closes bin 8, and 1.0 belongs to the last bin.
    report = classification_report([0, 0], [[0.6, 0.4], [1.0, 0.0]], ["no", "yes"])
    assert [index for index, bin_ in enumerate(report["reliability"]) if bin_["count"]] == [8, 14]


def test_over_and_underconfidence_do_not_cancel_between_bins():
    probabilities = [[0.9, 0.1], [0.6, 0.4]]  # confident and wrong, unsure and correct
    report = classification_report([1, 0], probabilities, ["no", "yes"])
    assert report["expected_calibration_error"] == pytest.approx((0.9 + 0.4) / 2)


# ---------------------------------------------------------------- baseline


def test_baseline_uses_the_training_split():
    baseline = classification_report(TARGETS, PROBABILITIES, NAMES, train_class_counts=[1, 1, 2])["baseline"]
    assert baseline["from"] == "training split"
    assert baseline["class_name"] == "cat"
    assert baseline["accuracy"] == pytest.approx(1 / 6)
    assert baseline["log_loss"] == pytest.approx(-(5 * math.log(0.25) + math.log(0.5)) / 6)


def test_baseline_without_training_counts_uses_the_targets():
    baseline = classification_report(TARGETS, PROBABILITIES, NAMES)["baseline"]
    assert baseline["from"] == "evaluated targets"
    assert baseline["class_name"] == "bee"
    assert baseline["accuracy"] == pytest.approx(3 / 6)
    entropy = -(2 / 6 * math.log(2 / 6) + 3 / 6 * math.log(3 / 6) + 1 / 6 * math.log(1 / 6))
    assert baseline["log_loss"] == pytest.approx(entropy)


def test_baseline_is_finite_for_a_class_missing_from_training():
    baseline = classification_report([0, 1], np.eye(2), ["no", "yes"], train_class_counts=[8, 0])["baseline"]
    assert baseline["log_loss"] == pytest.approx((0 - math.log(1e-7)) / 2)


# ---------------------------------------------------------------- weights and steps


def test_rows_with_zero_weight_have_no_effect():
    plain = classification_report(TARGETS, PROBABILITIES, NAMES)
    targets = np.concatenate([[-1], TARGETS, [99, 0]])
    probabilities = np.vstack([[math.nan] * 3, PROBABILITIES, [5.0, -3.0, 7.0], [math.inf] * 3])
    assert classification_report(targets, probabilities, NAMES, weights=[0, 1, 1, 1, 1, 1, 1, 0, 0]) == plain
    mask = np.array([False] + [True] * 6 + [False] * 2)
    assert classification_report(targets, probabilities, NAMES, weights=mask) == plain


def test_integer_weights_equal_repeated_rows():
    times = np.array([2, 1, 3, 1, 2, 1])
    weighted = classification_report(TARGETS, PROBABILITIES, NAMES, weights=times)
    copied = classification_report(TARGETS.repeat(times), PROBABILITIES.repeat(times, axis=0), NAMES)
    assert (weighted.pop("num_examples"), copied.pop("num_examples")) == (6, 10)
    assert without_names(weighted) == pytest.approx(without_names(copied))
    assert all(isinstance(count, int) for row in weighted["confusion_matrix"] for count in row)


def test_fractional_weights_affect_every_metric():
    report = classification_report([0, 1], [[0.8, 0.2], [0.7, 0.3]], ["no", "yes"], weights=[0.5, 1.5])
    assert report["confusion_matrix"] == [[0.5, 0], [1.5, 0]]
    assert report["accuracy"] == pytest.approx(0.25)
    assert report["log_loss"] == pytest.approx(-(0.5 * math.log(0.8) + 1.5 * math.log(0.3)) / 2)
    assert report["expected_calibration_error"] == pytest.approx(0.25 * 0.2 + 0.75 * 0.7)
    assert report["per_class"][1]["support"] == 1.5
    assert report["baseline"]["accuracy"] == pytest.approx(0.75)


def test_report_of_steps_equals_report_of_flattened_elements():
    targets, probabilities = random_case(1, n=60)
    weights = np.arange(60) % 3 != 0
    flat = classification_report(targets, probabilities, letters(5), weights=weights)
    steps = classification_report(
        targets.reshape(6, 10), probabilities.reshape(6, 10, 5), letters(5), weights=weights.reshape(6, 10)
    )
    assert steps == flat
    assert steps["num_examples"] == 40


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_accuracy_equals_trace_and_weighted_recall(data: st.DataObject):
    num_classes = data.draw(st.integers(2, 6))
    n = data.draw(st.integers(1, 30))
    targets = np.array(data.draw(st.lists(st.integers(0, num_classes - 1), min_size=n, max_size=n)))
    predicted = np.array(data.draw(st.lists(st.integers(0, num_classes - 1), min_size=n, max_size=n)))
    weights = np.array(data.draw(st.lists(st.sampled_from([0.0, 1.0, 1.0, 2.5]), min_size=n, max_size=n)))
    weights[0] = 1.0
    probabilities = np.full((n, num_classes), 0.4 / num_classes)
    probabilities[np.arange(n), predicted] += 0.6

    report = classification_report(targets, probabilities, letters(num_classes), weights=weights)
    matrix = np.array(report["confusion_matrix"])
    assert report["accuracy"] == pytest.approx(np.trace(matrix) / matrix.sum())
    assert report["weighted"]["recall"] == pytest.approx(report["accuracy"])
    assert matrix.sum() == pytest.approx(weights.sum())
    assert sum(row["support"] for row in report["per_class"]) == pytest.approx(weights.sum())
    assert sum(bin_["count"] for bin_ in report["reliability"]) == pytest.approx(weights.sum())
    assert 0 <= report["expected_calibration_error"] <= 1
    assert json.loads(json.dumps(report, allow_nan=False)) == report


# ---------------------------------------------------------------- the dict and its summary


def test_report_survives_json_and_does_not_change_its_input():
    targets, probabilities = TARGETS.copy(), PROBABILITIES.copy()
    report = classification_report(targets, probabilities, np.array(NAMES), train_class_counts=np.array([1, 2, 3]))
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert all(type(name) is str for name in report["class_names"])
    assert np.array_equal(targets, TARGETS)
    assert np.array_equal(probabilities, PROBABILITIES)


def test_summary_lists_metrics_and_the_three_most_frequent_confusions():
    matrix = [[50, 3, 0, 1], [0, 50, 5, 0], [2, 0, 50, 0], [1, 0, 0, 50]]
    pairs = [(true, answer) for true in range(4) for answer in range(4) for _ in range(matrix[true][answer])]
    targets = [true for true, _ in pairs]
    probabilities = np.eye(4)[[answer for _, answer in pairs]] * 0.8 + 0.05
    text = summary(classification_report(targets, probabilities, ["9", "4", "7", "1"], train_class_counts=[1, 1, 1, 9]))
    lines = text.splitlines()
    assert lines[0] == 'accuracy           0.9434  (baseline 0.2406: always "1", from the training split)'
    assert lines[1].startswith("macro F1           0.94")
    assert lines.pop(2).startswith("macro AUC          0.9")
    loss = -(200 * math.log(0.85) + 12 * math.log(0.05)) / 212
    baseline_loss = -(161 * math.log(1 / 12) + 51 * math.log(9 / 12)) / 212
    assert lines[2] == f"log loss           {loss:.4f}  (baseline {baseline_loss:.4f})"
    assert lines[3] == f"calibration error  {200 / 212 - 0.85:.4f}"
    assert lines[4] == "measured on        212 examples, 4 classes"
    assert lines[5:] == [
        "confused most often",
        "  4 predicted as 7: 5 times",
        "  9 predicted as 4: 3 times",
        "  7 predicted as 9: 2 times",
    ]


def test_summary_of_perfect_predictions_lists_no_confusions():
    text = summary(classification_report([1], [[0.0, 1.0]], ["no", "yes"]))
    assert text.splitlines()[-2:] == ["measured on        1 example, 2 classes", "no confusions"]


# ---------------------------------------------------------------- errors

TWO_ROWS = [[0.9, 0.1], [0.2, 0.8]]
NO_YES = ["no", "yes"]


@pytest.mark.parametrize(
    ("arguments", "keywords", "message"),
    [
        (([], np.zeros((0, 2)), NO_YES), {}, "are empty. Check that the split has examples"),
        (([0, 1], TWO_ROWS, NO_YES), {"weights": [0, 0]}, "all 2 weights are 0. Weight 0 marks padding"),
        (([0, 1, 1], TWO_ROWS, NO_YES), {}, r"targets of shape \(3,\) and probabilities of shape \(2, 2\) do not fit"),
        (([0, 1], [0.9, 0.2], NO_YES), {}, r"probabilities of shape \(2,\) do not fit: .* one class number per row"),
        (([[1, 0], [0, 1]], TWO_ROWS, NO_YES), {}, r"One-hot targets become .* targets.argmax\(axis=-1\)"),
        (([0, 1], [[0.9], [0.2]], ["yes"]), {}, r"\(2, 1\), expected at least 2 columns.*concatenate\(\[1 - p, p\]"),
        (([0.0, 1.0], TWO_ROWS, NO_YES), {}, r"targets have dtype float64, expected integers.*astype\('int64'\)"),
        (([0, 2], TWO_ROWS, NO_YES), {}, r"targets hold 2 at index 1, expected 0 to 1, .*\(1 target\(s\)"),
        (([-1, 0], TWO_ROWS, NO_YES), {}, "targets hold -1 at index 0.*marks padding, give it weight 0"),
        (([[0, 7]], [TWO_ROWS], NO_YES), {}, r"targets hold 7 at index \(0, 1\)"),
        (([0, 1], [[0.9, 0.1], [math.nan, 0.8]], NO_YES), {}, r"probabilities hold nan at index \(1, 0\).*diverged"),
        (([0, 1], [[0.9, math.inf], [0.2, 0.8]], NO_YES), {}, r"probabilities hold inf at index \(0, 1\)"),
        (([0, 1], [[0.9, 0.1], [3.0, -1.0]], NO_YES), {}, "index 1 sum to 2 .*logits: apply a softmax"),
        (([0, 1], [[0.9, 0.1], [1.5, -0.5]], NO_YES), {}, "index 1 sum to 1 with smallest value -0.5.*logits"),
        (([[0, 1]], [[[0.9, 0.1], [0.2, 0.7]]], NO_YES), {}, r"index \(0, 1\) sum to 0.9 .*classifier_activation"),
        (([0, 1], TWO_ROWS, ["yes"]), {}, "class_names has 1 names, but probabilities have 2 columns"),
        (([0, 1], TWO_ROWS, ["yes", "yes"]), {}, "class_names holds 'yes' twice, at 0 and 1.*Rename one"),
        (([0, 1], TWO_ROWS, [0, 1]), {}, r"class_names is \[0, 1\], expected a list of strings"),
        (([0, 1], TWO_ROWS, "ny"), {}, "class_names is 'ny', expected a list of strings"),
        (([0, 1], TWO_ROWS, NO_YES), {"weights": [1]}, r"weights have shape \(1,\), expected .* targets, \(2,\)"),
        (([0, 1], TWO_ROWS, NO_YES), {"weights": [1, -2]}, "weights hold -2.0 at index 1, expected finite numbers"),
        (([0, 1], TWO_ROWS, NO_YES), {"weights": [math.nan, 1]}, "weights hold nan at index 0"),
        (([0, 1], TWO_ROWS, NO_YES), {"train_class_counts": [1, 2, 3]}, r"shape \(3,\), expected \(2,\).*bincount"),
        (([0, 1], TWO_ROWS, NO_YES), {"train_class_counts": [0, 0]}, "not negative and not all 0"),
        (([0, 1], TWO_ROWS, NO_YES), {"train_class_counts": [3, -1]}, r"train_class_counts is \[3.0, -1.0\]"),
        (([0, 1], TWO_ROWS, NO_YES), {"train_class_counts": [3, math.inf]}, "not negative and not all 0"),
    ],
)
def test_invalid_arguments_are_rejected(arguments: tuple, keywords: dict, message: str):
    with pytest.raises(ValueError, match=message):
        classification_report(*arguments, **keywords)


def test_row_index_in_a_message_includes_rows_of_weight_zero():
    with pytest.raises(ValueError, match="targets hold 5 at index 2"):
        classification_report([9, 0, 5], [[0.5, 0.5]] * 3, NO_YES, weights=[0, 1, 1])
    with pytest.raises(ValueError, match=r"probabilities hold nan at index \(2, 1\)"):
        classification_report([9, 0, 1], [[0.5, 0.5], [0.5, 0.5], [1.0, math.nan]], NO_YES, weights=[0, 1, 1])


def test_rounded_probabilities_are_accepted():
    report = classification_report([0, 1], [[0.9995, 0.0], [0.0, 1.0005]], NO_YES)
    assert report["reliability"][-1]["count"] == 2
    assert 0 <= report["log_loss"] < 1e-3


# ---------------------------------------------------------------- plots


def read_png(path: Path) -> np.ndarray:
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    return matplotlib.image.imread(path)  # (height, width, 4)


def report_of(num_classes: int, seed: int = 0) -> dict:
    targets, probabilities = random_case(seed, n=10 * num_classes, num_classes=num_classes)
    names = [f"a rather long name for class number {index}" for index in range(num_classes)]
    return classification_report(targets, probabilities, names)


@pytest.mark.parametrize("plot", [plot_confusion_matrix, plot_reliability])
@pytest.mark.parametrize("num_classes", [2, slow(10), slow(31)])
def test_plots_write_a_png(tmp_path: Path, plot, num_classes: int):
    path = tmp_path / "plots" / "picture.png"
    plot(report_of(num_classes), path)
    pixels = read_png(path)
    assert min(pixels.shape[:2]) > 500
    colours = np.ascontiguousarray((pixels * 255).astype(np.uint8)).view(np.uint32)  # four bytes as one number
    assert len(np.unique(colours)) > 20  # the plot is not empty
    assert [entry.name for entry in path.parent.iterdir()] == ["picture.png"]  # no temporary file is left


@pytest.mark.parametrize("plot", [plot_confusion_matrix, plot_reliability])
def test_plots_depend_only_on_the_report(tmp_path: Path, plot):
    plot(report_of(3, seed=0), tmp_path / "first.png")
    plot(report_of(3, seed=1), tmp_path / "other.png")
    plot(json.loads(json.dumps(report_of(3, seed=0))), tmp_path / "json.png")
    first = (tmp_path / "first.png").read_bytes()
    assert (tmp_path / "json.png").read_bytes() == first
    assert (tmp_path / "other.png").read_bytes() != first


def drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, plot, report: dict):
    """Returns the figure that `plot` writes, so that a test can read its texts."""
    figures = []
    monkeypatch.setattr(plots, "write_figure", lambda figure, path: figures.append(figure))
    plot(report, tmp_path / "unused.png")
    return figures[0]


def test_confusion_matrix_shows_class_names_and_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    figure = drawn(monkeypatch, tmp_path, plot_confusion_matrix, classification_report(TARGETS, PROBABILITIES, NAMES))
    axes = figure.axes[0]
    assert axes.get_title() == "Accuracy 0.5000 on 6 examples"
    assert [label.get_text() for label in axes.get_yticklabels()] == NAMES
    assert [label.get_text() for label in axes.get_xticklabels()] == NAMES
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("true class", "predicted class")
    cells = {(text.get_position()[1], text.get_position()[0]): text.get_text() for text in axes.texts}
    assert cells == {(0, 0): "2", (1, 0): "2", (1, 1): "1", (2, 1): "1", (2, 2): "0"}
    assert axes.images[0].get_array().tolist() == [
        [1, 0, 0],
        [pytest.approx(2 / 3), pytest.approx(1 / 3), 0],
        [0, 1, 0],
    ]


def test_confusion_matrix_marks_a_class_without_examples(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    report = classification_report([0, 0], [[0.9, 0.1], [0.2, 0.8]], NO_YES)
    axes = drawn(monkeypatch, tmp_path, plot_confusion_matrix, report).axes[0]
    assert axes.get_ylabel() == "true class (grey: no examples)"
    assert axes.images[0].get_array().mask.tolist() == [[False, False], [True, True]]


def test_plots_of_many_classes_omit_counts_and_shorten_labels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    assert drawn(monkeypatch, tmp_path, plot_confusion_matrix, report_of(30)).axes[0].texts
    assert not drawn(monkeypatch, tmp_path, plot_confusion_matrix, report_of(31)).axes[0].texts
    axes = drawn(monkeypatch, tmp_path, plot_confusion_matrix, report_of(150)).axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert len(labels) == 150
    assert labels[149].endswith("lass number 149")  # cut in the middle, so that the distinctive end remains
    assert max(map(len, labels)) <= 32
    thinned = drawn(monkeypatch, tmp_path, plot_confusion_matrix, report_of(400)).axes[0].get_yticklabels()
    assert 50 <= len(thinned) < 400


def test_reliability_diagram_shows_bins_and_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    report = classification_report([0, 1, 0], [[0.95, 0.05], [0.97, 0.03], [0.38, 0.62]], NO_YES)
    upper, lower = drawn(monkeypatch, tmp_path, plot_reliability, report).axes
    accuracy, gap = upper.containers
    assert [bar.get_height() for bar in accuracy] == pytest.approx([0.0, 0.5])
    assert [bar.get_height() for bar in gap] == pytest.approx([0.62, 0.46])
    assert [bar.get_height() for bar in lower.containers[0]] == [1, 2]
    assert [bar.get_x() for bar in accuracy] == pytest.approx([9 / 15, 14 / 15])
    assert [text.get_text() for text in lower.texts] == ["1", "2"]
    assert f"calibration error {report['expected_calibration_error']:.4f}" in upper.get_title()


def test_class_names_are_not_parsed_as_formulas(tmp_path: Path):
    names = [r"$\frac$", "50% $ off_"]  # the first is a syntax error in matplotlib's formula parser
    report = classification_report([0, 1], np.eye(2), names)
    plot_confusion_matrix(report, tmp_path / "confusion.png")
    read_png(tmp_path / "confusion.png")


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (3.0, "3"),
        (2.5, "2.5"),
        (1 / 3, "0.333"),
        (9999, "9999"),
        (12345, "12.3k"),
        (999_600, "1M"),
        (4.567e6, "4.57M"),
    ],
)
def test_counts_are_formatted_briefly(count: float, text: str):
    assert plots._count_text(count) == text


def test_a_failed_write_keeps_the_old_picture(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    path = tmp_path / "picture.png"
    plot_reliability(report_of(2), path)
    before = path.read_bytes()

    def interrupted(source: object, target: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(plots.os, "replace", interrupted)
    with pytest.raises(OSError, match="disk full"):
        plot_reliability(report_of(2, seed=1), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("plot", [plot_confusion_matrix, plot_reliability])
def test_plots_reject_other_formats(tmp_path: Path, plot):
    with pytest.raises(ValueError, match=r"picture.pdf', expected a name that ends in .png"):
        plot(report_of(2), tmp_path / "picture.pdf")


# ---------------------------------------------------------------- the modules themselves


@pytest.mark.parametrize("module", [classification, plots])
def test_docstring_examples_run(module, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(module)
    assert result.attempted >= 2
    assert result.failed == 0


@pytest.mark.parametrize("module", [classification, plots])
def test_heavy_libraries_are_imported_on_first_use(module):
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))

    def imported(nodes) -> set[str]:
        names: set[str] = set()
        for node in nodes:
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names |= {f"{node.module}.{alias.name}" for alias in node.names}
        return names

    at_import = {name.split(".")[0] for name in imported(tree.body)}
    for_types = {
        id(n) for i in ast.walk(tree) if isinstance(i, ast.If) for n in ast.walk(i) if "TYPE_" in ast.unparse(i.test)
    }
    anywhere = imported(node for node in ast.walk(tree) if id(node) not in for_types)
    assert not at_import & {"sklearn", "matplotlib", "scipy", "pandas"}
    assert not {name.split(".")[0] for name in anywhere} & {"tensorflow", "keras"}
    assert not any("pyplot" in name for name in anywhere)  # pyplot keeps global state and may need a display
