"""Bootstrap intervals compared with loops over resampled examples, and how they are shown."""

from __future__ import annotations

import doctest
import time

import numpy as np
import pytest
from sklearn import metrics

from translation_texts import FRENCH
from zoo import display
from zoo.evaluation import intervals, language, ranking, regression, tagging, translation
from zoo.evaluation.classification import class_intervals, classification_report, summary
from zoo.evaluation.intervals import bootstrap, mean, with_interval
from zoo.evaluation.values import value_intervals


@pytest.fixture(scope="module")
def two_classes():
    rng = np.random.default_rng(0)
    targets = (rng.random(300) < 0.3).astype(int)
    positive = 1 / (1 + np.exp(-(rng.normal(size=300) + 1.5 * targets - 1)))
    return targets, np.stack([1 - positive, positive], axis=1)


def resampled(n, compute, seed=1, samples=1000):
    """Returns the ends of an interval from a loop, with other random numbers."""
    rng = np.random.default_rng(seed)
    return np.quantile([compute(rng.integers(0, n, n)) for _ in range(samples)], (0.025, 0.975))


def test_means_cover_the_interval_of_the_central_limit_theorem():
    values = np.random.default_rng(0).normal(3, 2, 400)
    (low, high) = bootstrap(400, lambda counts: {"mean": mean(counts, values)})["mean"]
    half = 1.96 * values.std() / 20
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.05)


def test_intervals_cover_the_truth_19_times_in_20():
    rng = np.random.default_rng(3)
    covered = 0
    for seed in range(200):
        right = rng.random(200) < 0.8
        low, high = bootstrap(200, lambda counts, right=right: {"accuracy": mean(counts, right)}, seed=seed)["accuracy"]
        covered += low <= 0.8 <= high
    assert 180 <= covered <= 198


def test_intervals_of_two_classes_equal_a_loop_with_scikit_learn(two_classes):
    targets, probabilities = two_classes
    found, predicted = class_intervals(targets, probabilities), probabilities.argmax(axis=1)
    assert set(found) == {"accuracy", "positive_f1", "roc_auc"}
    for key, score in {
        "accuracy": lambda rows: metrics.accuracy_score(targets[rows], predicted[rows]),
        "positive_f1": lambda rows: metrics.f1_score(targets[rows], predicted[rows]),
        "roc_auc": lambda rows: metrics.roc_auc_score(targets[rows], probabilities[rows, 1]),
    }.items():
        assert found[key] == pytest.approx(resampled(300, score, samples=150), abs=0.04), key
    assert found == class_intervals(targets, probabilities), "the seed is fixed"


def test_steps_of_an_example_are_drawn_together():
    """Ten equal steps hold no more information than one."""
    right = np.random.default_rng(0).random(100) < 0.7
    targets = np.zeros((100, 10), int)
    probabilities = np.repeat(np.stack([right, ~right, 0 * right], axis=1).astype(float), 10, axis=0)
    steps = class_intervals(targets, probabilities.reshape(100, 10, 3))["accuracy"]
    assert steps == pytest.approx(class_intervals(targets[:, 0], probabilities[::10])["accuracy"])
    low, high = class_intervals(targets.ravel(), probabilities)["accuracy"]
    assert high - low < 0.5 * (steps[1] - steps[0])
    padded = np.concatenate([targets, np.full((100, 4), 7)], axis=1), np.zeros((100, 14, 3))
    padded[1][:, :10] = probabilities.reshape(100, 10, 3)
    assert class_intervals(*padded, weights=np.arange(14) < np.full((100, 1), 10))["accuracy"] == pytest.approx(steps)


def test_intervals_of_values_equal_a_loop_with_scikit_learn():
    rng = np.random.default_rng(0)
    targets = rng.gamma(2.0, 50.0, (250, 2)) + 1_000
    predictions = targets + rng.normal(0, 30, targets.shape)
    true, guessed = targets[:, 0], predictions[:, 0]
    found = value_intervals(true, guessed, ["price"])
    for key, score in {
        "mae": metrics.mean_absolute_error,
        "rmse": metrics.root_mean_squared_error,
        "r2": metrics.r2_score,
    }.items():
        expected = resampled(250, lambda rows, score=score: score(true[rows], guessed[rows]), samples=150)
        assert found[key] == pytest.approx(expected, rel=0.05), key
    both = value_intervals(targets, predictions, ["price", "rate"], weights=np.ones((250, 1)))
    assert set(both) == {"r2", "mae of price", "mae of rate"} and both["mae of price"] == pytest.approx(found["mae"])


def test_metrics_without_spread_have_no_interval():
    only = np.zeros(20, int), np.tile([0.9, 0.1], (20, 1))
    only[1][3] = 0.1, 0.9
    assert set(class_intervals(*only)) == {"accuracy"}, "an area is not defined, and F1 is 0 in every sample"
    assert set(value_intervals(np.ones(9), np.arange(9), ["price"])) == {"mae", "rmse"}, "R2 is not defined"
    right = np.arange(20) % 3
    assert class_intervals(right, np.eye(3)[right]) == {}, "20 right answers do not prove that all others are right"


def test_masks_and_sentences_are_drawn_by_their_text():
    rng = np.random.default_rng(0)
    texts = np.repeat(np.arange(60), rng.integers(1, 5, 60))
    chances = rng.uniform(0.1, 1, len(texts))
    right = rng.random(len(texts)) < 0.6
    found = language.mask_intervals(np.zeros(len(texts), int), chances, 1 - right, texts)
    places = [np.flatnonzero(texts == text) for text in range(60)]

    def drawn(compute):
        return resampled(60, lambda rows: compute(np.concatenate([places[row] for row in rows])), samples=400)

    expected = drawn(lambda masks: np.exp(-np.log(chances[masks]).mean()))
    assert found["perplexity"] == pytest.approx(expected, rel=0.05)
    assert found["accuracy"] == pytest.approx(drawn(lambda masks: right[masks].mean()), abs=0.03)
    dictionary = tagging.MostFrequentTag({"known": 0}, 0)
    tokens = [["known", *["new"] * len(place)] for place in places]
    tags, predicted = [[0] * len(row) for row in tokens], [[1, *(1 - right[place])] for place in places]
    unknown = tagging.unknown_interval(tokens, tags, predicted, dictionary)["unknown_accuracy"]
    assert unknown == pytest.approx(found["accuracy"], abs=1e-9), "the same sums of the same sentences"
    assert tagging.unknown_interval([["known"]], [[0]], [[0]], dictionary) == {}


def test_translations_are_scored_again_as_sacrebleu_does():
    sacrebleu = pytest.importorskip("sacrebleu")
    answers = [line if i % 3 else line[::-1] for i, line in enumerate(FRENCH)]
    found = translation.translation_intervals(FRENCH, answers)

    def drawn(score):
        return resampled(
            len(FRENCH), lambda rows: score([answers[i] for i in rows], [[FRENCH[i] for i in rows]]).score, samples=200
        )

    assert found["bleu"] == pytest.approx(drawn(sacrebleu.corpus_bleu), abs=4)
    assert found["chrf"] == pytest.approx(drawn(sacrebleu.corpus_chrf), abs=4)


def test_forecasts_are_drawn_in_blocks_of_the_horizon():
    error = np.abs(np.random.default_rng(0).normal(size=300))
    windows = np.lib.stride_tricks.sliding_window_view(error, 24)
    low, high = regression.forecast_intervals(np.zeros_like(windows), windows)["mae"]
    assert low < windows.mean() < high
    alone = bootstrap(len(windows), lambda counts: {"mae": mean(counts, windows.mean(axis=1))})["mae"]
    assert high - low > 2 * (alone[1] - alone[0]), "windows that overlap are no independent examples"


def test_rankings_are_drawn_by_user_and_errors_by_rating():
    error, hits = np.random.default_rng(0).normal(size=400), np.random.default_rng(1).random(90) < 0.3
    found = bootstrap(90, lambda counts: ranking._means(counts, {"hit_rate": hits, "ndcg": hits / 2}))
    found |= bootstrap(400, lambda counts: {"rmse": np.sqrt(mean(counts, error**2))})
    assert found["hit_rate"] == pytest.approx(resampled(90, lambda rows: hits[rows].mean()), abs=0.03)
    assert found["ndcg"] == pytest.approx([end / 2 for end in found["hit_rate"]])
    assert found["rmse"] == pytest.approx(resampled(400, lambda rows: np.sqrt((error[rows] ** 2).mean())), abs=0.02)


def test_the_spread_of_very_many_examples_follows_from_fewer():
    right = np.random.default_rng(0).random(400_000) < 0.8
    low, high = bootstrap(len(right), lambda counts: {"accuracy": mean(counts, right)})["accuracy"]
    assert high - low == pytest.approx(2 * 1.96 * 0.4 / np.sqrt(400_000), rel=0.25)
    assert (low + high) / 2 == pytest.approx(right.mean(), abs=3e-4)


def test_intervals_are_cheap():
    rng, count = np.random.default_rng(0), 10_000
    targets, positive = rng.integers(0, 2, count), rng.random(count).round(3)
    start = time.process_time()
    found = class_intervals(targets, np.stack([1 - positive, positive], axis=1))
    assert time.process_time() - start < 1
    low, high = found["accuracy"]
    assert 3 / np.sqrt(count) / 2 < high - low < 5 / np.sqrt(count) / 2


def test_intervals_are_shown_with_the_decimals_that_they_justify(two_classes):
    assert display.interval_text([0.99652, 0.99798]) == "(0.9965 to 0.9980)"
    assert display.interval_text([0.5, 0.5]) == "(0.5000 to 0.5000)"
    assert display.interval_text([-45123.2, 45123.2]) == "(-45,123 to 45,123)"
    report = classification_report(*two_classes, ["no", "yes"])
    assert with_interval(report, "accuracy", ".2f") == f"{report['accuracy']:.2f}"
    report["intervals"] = {"accuracy": [0.81, 0.89], "roc_auc": [0.8, 0.9]}
    lines = summary(report).splitlines()
    assert lines[0].startswith(f"accuracy           {report['accuracy']:.4f} (0.81 to 0.89)  (baseline ")
    assert f"ROC AUC {report['roc_auc']:.4f} (0.80 to 0.90), average precision" in lines[2]


def test_docstring_examples_run():
    scope = {**vars(intervals), **vars(display)}
    scope |= vars(regression) | vars(translation) | vars(language)
    examples = (regression.forecast_intervals, translation.translation_intervals, language.mask_intervals)
    for function in (
        *examples,
        bootstrap,
        intervals.sums,
        mean,
        with_interval,
        display.number_text,
        display.interval_text,
        display.metric_rows,
    ):
        test = doctest.DocTestParser().get_doctest(function.__doc__, scope, function.__name__, None, None)
        lines: list[str] = []
        assert not doctest.DocTestRunner().run(test, out=lines.append).failed, "".join(lines)
