"""Answers from a probability on that the validation split decides, and examples that belong to none of the classes."""

import csv

import numpy as np
import pytest
import tensorflow as tf

import zoo
from zoo.evaluation.abstention import answer_report, lines, out_of_scope_report
from zoo.export.standalone import compare
from zoo.tasks.abstention import decided_answers, last_steps

LIMIT = 0.9


def made_up(count, seed, classes=4):
    """Returns class numbers, and probabilities of which the high ones are right more often."""
    draw = np.random.default_rng(seed)
    logits = draw.normal(size=(count, classes)) * draw.choice([0.5, 3.0], size=(count, 1))
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    drawn = [draw.choice(classes, p=row) for row in probabilities]
    return np.array(drawn), probabilities.astype(np.float32)


@pytest.mark.parametrize("accuracy", [0.7, 0.8, 0.9])
@pytest.mark.parametrize("seed", range(4))
def test_the_probability_is_the_least_one_with_enough_right_answers(accuracy, seed):
    """The reference tries the probability of every example."""
    targets, probabilities = made_up(300, seed)
    best, right = probabilities.max(1), probabilities.argmax(1) == targets
    enough = [p for p in best if right[best >= p].mean() >= accuracy and (best >= p).sum() >= 1 / (1 - accuracy) - 1e-9]
    found = decided_answers(targets, probabilities, accuracy)
    assert enough, "the example must have a solution"
    chosen = best >= np.float32(found["threshold"])
    np.testing.assert_array_equal(chosen, best >= min(enough))
    assert found["coverage"] == pytest.approx(chosen.mean())
    assert found["reached"] == pytest.approx(right[chosen].mean())


def test_equal_probabilities_are_answered_together():
    probabilities = np.array([[0.9, 0.1]] * 3 + [[0.7, 0.3]] * 4)
    found = decided_answers([0, 0, 0, 0, 0, 0, 1], probabilities, 0.6)
    assert (found["coverage"], found["threshold"]) == (1.0, pytest.approx(0.7))
    found = decided_answers([0, 0, 0, 1, 1, 1, 0], probabilities, 0.6)
    assert (found["coverage"], found["threshold"]) == (pytest.approx(3 / 7), pytest.approx(0.8))


def test_an_accuracy_that_is_not_reached_or_not_measurable_gives_no_probability():
    found = decided_answers([1] * 40, np.tile([0.9, 0.1], (40, 1)), 0.95)
    assert (found["threshold"], found["coverage"], found["reached"]) == (None, 1.0, 0.0)
    few = decided_answers([0] * 16, np.tile([0.9, 0.1], (16, 1)), 0.95)
    assert few["threshold"] is None, "16 right answers of 16 do not show 95 %"
    report = answer_report([0], [[0.9, 0.1]], {"answers": few})
    assert lines(report)[0] == (
        "answers            every example, because no probability gives an accuracy of 0.95 on validation, which needs 20 "
        "answers"
    )
    assert "answer_coverage" not in report


def test_the_last_step_of_a_sequence_is_its_answer():
    values, weights = np.arange(24).reshape(2, 3, 4), np.array([[1, 1, 0], [1, 1, 1]])
    np.testing.assert_array_equal(last_steps(values, weights), values[[0, 1], [1, 2]])


def test_the_report_of_answers_counts_as_numpy_does():
    decided = {"answers": {"accuracy": 0.8, "threshold": 0.75, "coverage": 0.5, "reached": 0.8, "examples": 300}}
    targets, probabilities = made_up(500, 9)
    best, right = probabilities.max(1), probabilities.argmax(1) == targets
    report = answer_report(targets, probabilities, decided)
    assert report["answer_coverage"] == pytest.approx((best >= 0.75).mean())
    assert report["answer_accuracy"] == pytest.approx(right[best >= 0.75].mean())
    low, high = report["intervals"]["answer_accuracy"]
    assert low < report["answer_accuracy"] < high
    none = answer_report([0], [[0.6, 0.4]], decided)
    assert (none["answer_coverage"], none["answer_accuracy"]) == (0.0, None)
    assert answer_report([0], [[0.6, 0.4]], {}) == {}


def test_out_of_scope_examples_are_scored_as_in_scikit_learn():
    from sklearn.metrics import roc_auc_score

    known, others = made_up(200, 1)[1], made_up(90, 2)[1] ** 0.5
    others /= others.sum(1, keepdims=True)
    decided = {"answers": {"threshold": 0.6}}
    report = out_of_scope_report(known, others, decided)
    scores = np.concatenate([known.max(1), others.max(1)])
    assert report["out_of_scope_auroc"] == pytest.approx(roc_auc_score([0] * 200 + [1] * 90, -scores))
    assert report["out_of_scope_recall"] == pytest.approx((others.max(1) < 0.6).mean())
    assert "out_of_scope_recall" not in out_of_scope_report(known, others, {})


def test_only_an_example_at_the_probability_may_be_answered_differently():
    labels, known = [b"a", b"b"], np.array([[0.6 + 1e-7, 0.4], [0.9, 0.1]])
    decided = {"answers": {"threshold": 0.6}}

    def rows(names, answered):
        want = {"answered": np.array([True, True]), "class_name": np.array([b"a", b"a"], object)}
        got = {"answered": np.array(answered), "class_name": np.array(names, object)}
        return [row["passed"] for row in compare.compare(want, got, labels, 1e-5, known, decided)]

    assert rows([b"a", b"a"], [True, True]) == [True, True]
    assert rows([b"unknown", b"a"], [False, True]) == [True, True]
    assert rows([b"a", b"unknown"], [True, False]) == [False, False]
    assert rows([b"b", b"a"], [True, True]) == [True, False]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A classifier of digits that has never seen a 7, and answers if it is right nine times of ten."""
    return zoo.run(
        "mlp",
        "digits",
        config={"epochs": 4, "abstain": LIMIT},
        data_arguments={"out_of_scope": "7"},
        run_directory=tmp_path_factory.mktemp("run") / "digits",
        baselines="none",
        verbose=0,
    )


def test_the_saved_model_answers_from_the_probability_on(run):
    data = run.prepared.data
    images = [
        e["image"] for part in (data.splits, data.out_of_scope) for e in part["test"].dataset().as_numpy_iterator()
    ]
    served = tf.saved_model.load(str(run.saved_model)).signatures["serving_default"]
    found = served(image_bytes=tf.constant([tf.io.encode_png(image).numpy() for image in images]))
    best = found["probabilities"].numpy().max(1)
    answered = best >= run.report["abstention"]["threshold"]
    np.testing.assert_array_equal(found["answered"], answered)
    names = np.array([name.encode() for name in data.class_names])[found["probabilities"].numpy().argmax(1)]
    np.testing.assert_array_equal(found["class_name"].numpy() == b"unknown", ~answered)
    np.testing.assert_array_equal(found["class_name"].numpy()[answered], names[answered])
    known = len(images) - data.out_of_scope["test"].num_examples
    assert run.report["answer_coverage"] == pytest.approx(answered[:known].mean())
    assert run.report["out_of_scope_recall"] == pytest.approx(1 - answered[known:].mean())
    (unsure,) = zoo.load(run.run_directory).predict([images[int(np.argmin(best))]])
    assert (unsure["class_name"], bool(unsure["answered"])) == ("unknown", False)
    assert run.verification.passed


def test_the_report_says_how_often_answers_are_right(run):
    metrics = [figure["metric"] for figure in run.report["headline"]]
    assert metrics[-4:] == [
        "coverage of the answers",
        "accuracy of the answers",
        "out-of-scope AUROC",
        "out-of-scope recall",
    ]
    card = (run.run_directory / "README.md").read_text()
    assert f"Answers: {run.report['answers'].split(' of the examples')[0]} of the examples" in card
    assert "accuracy of the answers" in card


def test_out_of_scope_examples_are_in_no_split(run):
    data = run.prepared.data
    whole = zoo.datasets.load("digits")
    assert data.class_names == tuple("012345689")
    counts = {
        name: int((np.array([*p.column("label").as_numpy_iterator()]) == 7).sum()) for name, p in whole.splits.items()
    }
    assert {name: part.num_examples for name, part in data.out_of_scope.items()} == {
        "validation": counts["validation"],
        "test": counts["test"] + counts["train"],
    }
    for name, part in data.splits.items():
        kept = [(e["image"], whole.class_names[e["label"]]) for e in whole.splits[name].dataset().as_numpy_iterator()]
        kept = [pair for pair in kept if pair[1] != "7"]
        found = [(e["image"], data.class_names[e["label"]]) for e in part.dataset().as_numpy_iterator()]
        assert part.num_examples == len(found) == len(kept)
        assert all(a[1] == b[1] and (a[0] == b[0]).all() for a, b in zip(found, kept, strict=True))


def test_a_csv_file_may_have_out_of_scope_texts_in_its_test_split_alone(tmp_path):
    file = tmp_path / "intents.csv"
    with file.open("w", newline="") as stream:
        rows = [
            (f"{word} number {n}", word, part)
            for part in ("train", "validation", "test")
            for n in range(9)
            for word in "xy"
        ]
        csv.writer(stream).writerows(
            [("text", "label", "split"), *rows, *((f"nothing {n}", "oos", "test") for n in range(5))]
        )
    data = zoo.datasets.load(f"csv:{file}", out_of_scope="oos")
    assert data.class_names == ("x", "y")
    assert data.out_of_scope["test"].num_examples == 5 and set(data.out_of_scope) == {"test"}
    assert data.arguments["out_of_scope"] == "oos"
    with pytest.raises(zoo.UsageError, match=r"has no training example of the class 'oos'"):
        zoo.datasets.load(f"csv:{file}")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("digits", r"has no label 'benign' for out_of_scope\. "),
        ("breast_cancer", r"one is left, and a classifier needs two"),
        ("diabetes", r"needs data with one label per example"),
    ],
)
def test_data_without_other_classes_has_no_out_of_scope_label(name, message):
    with pytest.raises(zoo.UsageError, match=message):
        zoo.datasets.load(name, out_of_scope="benign")


def test_abstention_needs_classes_and_a_validation_split():
    with pytest.raises(
        zoo.UsageError, match=r"abstain is 1; expected a number above 0 and below 1\. Pass abstain=0\.95"
    ):
        zoo.TrainConfig(abstain=1)
    prepared = zoo.datasets.load("diabetes").prepare("mlp")
    with pytest.raises(zoo.UsageError, match=r"abstain=0\.9 needs one label per example, as in image_classification"):
        zoo.train(prepared.build(), prepared, {"epochs": 1, "abstain": 0.9}, verbose=0)
