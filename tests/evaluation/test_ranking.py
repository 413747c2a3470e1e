"""The recommendation report compared with brute force, scikit-learn and dense least squares."""

from __future__ import annotations

import json

import matplotlib.image
import numpy as np
import pytest
from sklearn import metrics

import zoo
from recommendation_models import random_ratings
from recommendation_reference import dense_biases
from zoo import display
from zoo.evaluation import ranking, ranking_plots
from zoo.evaluation.ranking import fit_biases, ranking_report, summary
from zoo.models.matrix_factorization import build_matrix_factorization_model as build
from zoo.models.matrix_factorization import closed_form


def report_example(num_users=25, num_items=60, count=400, held=120):
    rng = np.random.default_rng(7)
    train = {
        "user_ids": rng.integers(1, num_users + 1, count),
        "item_ids": (num_items * rng.beta(1, 3, count)).astype(int) + 1,
        "ratings": rng.integers(0, 11, count).astype(np.float64),
    }
    users, items = rng.integers(0, num_users + 1, held), (num_items * rng.beta(1, 2, held)).astype(int)
    targets = rng.integers(0, 11, held).astype(np.float64)
    predictions = targets + rng.normal(0, 2, held)
    table = rng.integers(0, 12, (num_users, num_items)).astype(np.float64)  # many ties
    arguments = {"user_ids": users, "item_ids": items, "train": train, "num_users": num_users, "num_items": num_items}
    return targets, predictions, {**arguments, "scores": lambda asked: table[asked - 1]}, table


def brute_force_ranking(arguments, table, k=10):
    train, hits, gains, shown = arguments["train"], [], [], set()
    seen = {}
    for user, item in zip(train["user_ids"], train["item_ids"], strict=True):
        seen.setdefault(user, set()).add(item)
    for user in range(1, arguments["num_users"] + 1):
        pairs = zip(arguments["user_ids"], arguments["item_ids"], strict=True)
        relevant = {i for u, i in pairs if u == user and i > 0 and i not in seen.get(user, ())}
        if not relevant:
            continue
        candidates = [i for i in range(1, arguments["num_items"] + 1) if i not in seen.get(user, ())]
        order = sorted(candidates, key=lambda i: (-table[user - 1, i - 1], i))
        hits.append(bool(relevant & set(order[:k])))
        shown.update(order[:k])
        # scikit-learn's NDCG of the same order, computed from scores without ties.
        truth, score = [[i in relevant for i in order]], [list(range(len(order), 0, -1))]
        gains.append(metrics.ndcg_score(truth, score, k=k))
    return len(hits), np.mean(hits), np.mean(gains), len(shown) / arguments["num_items"]


@pytest.mark.parametrize("at_once", [1, 7 * 60, 10**9])
def test_ranking_metrics_equal_brute_force(at_once, monkeypatch):
    monkeypatch.setattr(ranking, "CELLS_AT_ONCE", at_once)
    targets, predictions, arguments, table = report_example()
    report = ranking_report(targets, predictions, **arguments)
    users, hits, gain, coverage = brute_force_ranking(arguments, table)
    assert report["num_users"] == users > 15
    found = [report[name] for name in ("hit_rate", "ndcg", "coverage")]
    np.testing.assert_allclose(found, [hits, gain, coverage], rtol=1e-12)
    counts = np.bincount(arguments["train"]["item_ids"], minlength=61)[1:]
    popular = report["baseline"]["most_popular"]
    _, hits, gain, coverage = brute_force_ranking(arguments, np.tile(counts, (25, 1)))
    found = [popular[name] for name in ("hit_rate", "ndcg", "coverage")]
    np.testing.assert_allclose(found, [hits, gain, coverage], rtol=1e-12)
    curve = report["hit_rate_by_k"]
    assert curve["k"] == list(range(1, 51)) and curve["model"][9] == report["hit_rate"]
    for k in (1, 5, 50):
        assert curve["model"][k - 1] == pytest.approx(brute_force_ranking(arguments, table, k)[1])


def test_rating_metrics_equal_scikit_learn_and_dense_biases():
    targets, predictions, arguments, _ = report_example()
    train = arguments["train"]
    report = ranking_report(targets, predictions, **arguments, rating_range=(0, 10), bias_damping=3.0)
    np.testing.assert_allclose(report["rmse"], metrics.root_mean_squared_error(targets, predictions), rtol=1e-12)
    np.testing.assert_allclose(report["mae"], metrics.mean_absolute_error(targets, predictions), rtol=1e-12)
    mean = train["ratings"].mean()
    constant = metrics.root_mean_squared_error(targets, np.full(len(targets), mean))
    np.testing.assert_allclose(report["baseline"]["global_mean"]["rmse"], constant, rtol=1e-12)
    solved = dense_biases(train["user_ids"], train["item_ids"], train["ratings"], 25, 60, 3.0)
    fitted = fit_biases(train["user_ids"], train["item_ids"], train["ratings"], (25, 60), 3.0)
    for bias, dense in zip(fitted, solved, strict=True):
        assert bias[0] == 0
        np.testing.assert_allclose(bias[1:], dense, atol=1e-7)
    expected = (mean + fitted[0][arguments["user_ids"]] + fitted[1][arguments["item_ids"]]).clip(0, 10)
    rmse = metrics.root_mean_squared_error(targets, expected)
    np.testing.assert_allclose(report["baseline"]["biases"]["rmse"], rmse, rtol=1e-12)
    assert report["unknown_users"] == np.sum(arguments["user_ids"] == 0) > 0
    assert report["unknown_items"] == np.sum(arguments["item_ids"] == 0) > 0
    assert sum(report["errors"]["model"]) == sum(report["errors"]["biases"]) == report["num_examples"] == len(targets)
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_report_biases_equal_the_closed_form():
    """Compares two implementations: one alternating, one with LSQR."""
    users, items, ratings = random_ratings()
    model = build(30, 20, 2, bias_regularization=4.0, num_ratings=len(ratings))
    closed_form(model, {"user_ids": users, "item_ids": items}, {"rating": ratings})
    fitted = fit_biases(users, items, ratings.astype(np.float64), (30, 20), 4.0)
    np.testing.assert_allclose(np.asarray(model.get_layer("user_bias").table)[:, 0], fitted[0][1:], atol=1e-5)
    np.testing.assert_allclose(np.asarray(model.get_layer("item_bias").table)[:, 0], fitted[1][1:], atol=1e-5)


def test_report_without_known_users_has_no_ranking_metrics():
    targets, predictions, arguments, _ = report_example()
    report = ranking_report(targets, predictions, **{**arguments, "user_ids": np.zeros(120, int)})
    assert report["num_users"] == 0 and report["hit_rate"] is None
    assert "hit rate" not in summary(report) and "0 users ranked over 60 items" in summary(report)


def test_a_report_without_ratings_has_no_errors_of_them():
    targets, predictions, arguments, _ = report_example()
    whole, found = (ranking_report(targets, predictions, **arguments, rated=rated) for rated in (True, False))
    assert {*whole} - {*found} == {"rmse", "mae", "errors"} and {*found["baseline"]} == {"most_popular"}
    assert all(found[name] == whole[name] for name in ("hit_rate", "ndcg", "coverage", "hit_rate_by_k"))
    assert "RMSE" not in summary(found) and {*found["intervals"]} == {"hit_rate", "ndcg"}


def test_summary_shows_its_baselines():
    targets, predictions, arguments, _ = report_example()
    report = ranking_report(targets, predictions, **arguments)
    lines = summary(report).splitlines()
    biases, popular = report["baseline"]["biases"], report["baseline"]["most_popular"]
    ends = {name: display.interval_text(report["intervals"][name]) for name in ("rmse", "hit_rate")}
    assert lines[3].startswith(
        f"RMSE         {report['rmse']:.4f} {ends['rmse']}  (user and item biases {biases['rmse']:.4f}, global mean"
    )
    assert lines[0] == (
        f"hit rate@10  {report['hit_rate']:.4f} {ends['hit_rate']}  (most popular {popular['hit_rate']:.4f})"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"predictions": np.zeros(3)}, r"predictions have shape \(3,\), targets \(120,\)"),
        ({"predictions": np.full(120, np.nan)}, r"expected finite numbers of the same shape. Look for the first epoch"),
        ({"targets": np.full(120, np.inf)}, r"The held-out ratings hold inf. Remove ratings"),
        (
            {"user_ids": np.full(120, 26)},
            r"user_ids run from 26 to 26 \(int64\); expected whole numbers from 0 to 25",
        ),
        ({"item_ids": np.zeros(120)}, r"held-out item_ids .*float64"),
        ({"user_ids": np.zeros(3, int)}, r"held-out ratings have user_ids \(3,\)"),
        ({"scores": lambda asked: np.zeros((len(asked), 3))}, r"have shape \(\d+, 3\); expected finite .*from 1"),
        ({"train": {"user_ids": [], "item_ids": [], "ratings": []}}, r"training ratings have user_ids \(0,\)"),
    ],
)
def test_invalid_arguments_are_rejected(changes, message):
    targets, predictions, arguments, _ = report_example()
    everything = {"targets": targets, "predictions": predictions, **arguments, **changes}
    with pytest.raises(zoo.UsageError, match=message):
        ranking_report(**everything)


def test_plots_are_written(tmp_path):
    targets, predictions, arguments, _ = report_example()
    report = json.loads(json.dumps(ranking_report(targets, predictions, **arguments)))
    for name, draw in (("errors", ranking_plots.plot_rating_errors), ("hits", ranking_plots.plot_hit_rate)):
        file = tmp_path / "new" / f"{name}.png"
        draw(report, file)
        image = matplotlib.image.imread(file)
        assert image.shape[0] > 300 and image.std() > 0.01
        with pytest.raises(ValueError, match=r"ends in \.png"):
            draw(report, tmp_path / "plot.svg")
    nobody = ranking_report(targets, predictions, **{**arguments, "user_ids": np.zeros(120, int)})
    ranking_plots.plot_hit_rate(nobody, tmp_path / "nobody.png")
