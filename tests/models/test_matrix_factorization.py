"""Matrix factorization compared with NumPy, a dense SVD and brute-force rankings."""

from __future__ import annotations

import doctest

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from recommendation_models import filled, random_ratings
from recommendation_reference import dense_biases, numpy_ranking, numpy_scores
from zoo import item_neighbors
from zoo.datasets.preprocessing import interactions
from zoo.datasets.preprocessing.interactions import InteractionPreprocessor
from zoo.evaluation import ranking
from zoo.evaluation.ranking import fit_biases, ranking_report, summary
from zoo.item_neighbors import Interactions, recent_popularity
from zoo.layers.recommendation import KnownEmbedding, Rating, SimilarItems
from zoo.models import matrix_factorization
from zoo.models.matrix_factorization import build_matrix_factorization_model as build
from zoo.models.matrix_factorization import closed_form, make_scores, make_top_k

# --- The model -------------------------------------------------------------------------------------------------------


def test_ratings_equal_numpy_and_unknown_ids_contribute_nothing():
    model = filled(5, 6)
    expected = numpy_scores(model, range(6))
    users, items = np.meshgrid(np.arange(6, dtype=np.int32), np.arange(1, 7, dtype=np.int32), indexing="ij")
    found = model([users.ravel(), items.ravel()], training=False).numpy()
    assert found.shape == (36,) and found.dtype == np.float32
    np.testing.assert_allclose(found, expected.ravel(), atol=1e-5)
    zeros = np.zeros(1, np.int32)
    mean, bias = float(model.get_layer("rating").mean), np.asarray(model.get_layer("user_bias").table)[:, 0]
    np.testing.assert_allclose(model([zeros, zeros]).numpy(), [mean], atol=1e-6)
    np.testing.assert_allclose(model([zeros + 3, zeros]).numpy(), [mean + bias[2]], atol=1e-6)


@pytest.mark.parametrize(("users", "items", "dim"), [(3, 2, 1), (100, 40, 50), (1, 1, 7)])
def test_parameter_counts_equal_the_formula(users, items, dim):
    rating, similar = (users + items) * (dim + 1) + 1, items * (2 * min(items, 100) + 1) + 2
    assert build(num_users=users, num_items=items, embedding_dim=dim).count_params() == rating + similar


def test_names_and_shapes_are_as_documented():
    model = build(num_users=3, num_items=2)
    assert [(t.name, t.shape, t.dtype) for t in model.inputs] == [
        ("user_ids", (None,), "int32"),
        ("item_ids", (None,), "int32"),
    ]
    assert model.output_names == ["rating"] and model.output_shape == (None,)


def test_ratings_are_clipped_only_in_inference():
    model = filled(4, 4, rating_range=(0, 1))
    ids = np.arange(1, 5, dtype=np.int32)
    expected = numpy_scores(model, ids)[np.arange(4), np.arange(4)]
    assert expected.min() < 0 or expected.max() > 1
    np.testing.assert_allclose(model([ids, ids], training=True).numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(model([ids, ids], training=False).numpy(), expected.clip(0, 1), atol=1e-5)


def test_the_penalty_is_divided_by_the_number_of_ratings():
    model = filled(5, 6, bias_regularization=3.0, factor_regularization=7.0, num_ratings=50)
    tables = {layer.name: np.asarray(layer.table) for layer in model.layers if isinstance(layer, KnownEmbedding)}
    squares = {name: float((table**2).sum()) for name, table in tables.items()}
    expected = 3 / 50 * (squares["user_bias"] + squares["item_bias"])
    expected += 7 / 50 * (squares["user_factors"] + squares["item_factors"])
    np.testing.assert_allclose(float(sum(model.losses)), expected, rtol=1e-5)
    assert not build(num_users=2, num_items=2, bias_regularization=0, factor_regularization=0).losses


def test_keras_file_restores_the_same_model(tmp_path):
    model = filled(5, 6, rating_range=(0.5, 1), rating_mean=0.7)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    ids = np.array([0, 1, 5], np.int32)
    np.testing.assert_array_equal(model([ids, ids]).numpy(), again([ids, ids]).numpy())
    assert again.get_layer("rating").get_config()["rating_range"] == (0.5, 1)
    assert len(again.losses) == len(model.losses) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_users": 0}, "num_users is 0; expected a whole number"),
        ({"num_items": 2.5}, "num_items is 2.5; expected"),
        ({"embedding_dim": None}, "embedding_dim is None; expected"),
        ({"num_ratings": 0}, "num_ratings is 0; expected"),
        ({"bias_regularization": -1}, "bias_regularization is -1; expected a number of at least 0"),
        ({"factor_regularization": float("nan")}, "factor_regularization is nan; expected"),
        ({"rating_mean": "high"}, "rating_mean is 'high'; expected a number"),
        ({"rating_range": (5, 1)}, r"rating_range is \(5, 1\); expected \[lowest, highest\]. Pass rating_range="),
        ({"rating_range": 10}, "rating_range is 10; expected"),
    ],
)
def test_messages_name_the_invalid_argument(arguments, message):
    with pytest.raises(zoo.UsageError, match=message):
        build(**{"num_users": 3, "num_items": 3, **arguments})


def low_rank_ratings(rank=2, num_users=60, num_items=40, share=0.5, noise=0.1):
    rng = np.random.default_rng(0)
    full = 7 + rng.normal(0, 0.5, (num_users, 1)) + rng.normal(0, 0.5, num_items)
    full = full + rng.normal(size=(num_users, rank)) @ rng.normal(size=(rank, num_items))
    rated = np.argwhere(rng.uniform(size=full.shape) < share)
    ratings = full[rated[:, 0], rated[:, 1]] + rng.normal(0, noise, len(rated))
    held = rng.uniform(size=len(rated)) < 0.15
    users, items = (rated.T + 1).astype(np.int32)
    return (users[~held], items[~held], ratings[~held]), (users[held], items[held], ratings[held])


def test_gradient_descent_approaches_the_noise_level():
    """Low-rank ratings with noise of 0.1: a model with only biases has an error of more than 1."""
    keras.utils.set_random_seed(0)
    (users, items, ratings), (test_users, test_items, test_ratings) = low_rank_ratings()
    weak = {"bias_regularization": 0.01, "factor_regularization": 0.01}
    model = build(60, 40, 2, **weak, num_ratings=len(ratings), rating_mean=float(ratings.mean()))
    optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.05, 800))
    optimizer.build(model.trainable_variables)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            errors = tf.cast(ratings, tf.float32) - model([users, items], training=True)
            loss = tf.reduce_mean(errors**2) + tf.add_n(model.losses)
        variables = model.trainable_variables
        optimizer.apply([tf.convert_to_tensor(g) for g in tape.gradient(loss, [v.value for v in variables])], variables)

    for _ in range(800):
        step()
    error = model([test_users, test_items], training=False).numpy() - test_ratings
    report = ranking_report(
        test_ratings,
        test_ratings + error,
        user_ids=test_users,
        item_ids=test_items,
        train={"user_ids": users, "item_ids": items, "ratings": ratings},
        scores=lambda asked: numpy_scores(model, asked),
        num_users=60,
        num_items=40,
    )
    assert report["rmse"] < 0.2 < 1.0 < report["baseline"]["biases"]["rmse"]


# --- The closed form ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [1, 5, 20, 33])
def test_closed_form_equals_a_dense_svd(dim):
    """Compares every rating, with unknown users and items, pairs rated twice, and more factors than items."""
    users, items, ratings = random_ratings()
    model = build(30, 20, dim, bias_regularization=2.0, num_ratings=len(ratings))
    closed_form(model, {"user_ids": users, "item_ids": items}, {"rating": ratings})
    user_bias, item_bias = dense_biases(users, items, ratings.astype(np.float64), 30, 20, 2.0)
    np.testing.assert_allclose(np.asarray(model.get_layer("user_bias").table)[:, 0], user_bias, atol=1e-5)
    np.testing.assert_allclose(np.asarray(model.get_layer("item_bias").table)[:, 0], item_bias, atol=1e-5)
    np.testing.assert_allclose(float(model.get_layer("rating").mean), ratings.mean(), rtol=1e-6)
    sums, counts = np.zeros((30, 20)), np.zeros((30, 20))
    for user, item, rating in zip(users, items, ratings.astype(np.float64), strict=True):
        if user and item:
            sums[user - 1, item - 1] += rating - ratings.mean() - user_bias[user - 1] - item_bias[item - 1]
            counts[user - 1, item - 1] += 1
    assert counts.max() > 1
    left, values, right = np.linalg.svd(sums / np.maximum(counts, 1), full_matrices=False)
    expected = left[:, :dim] * values[:dim] @ right[:dim]
    factors = [np.asarray(model.get_layer(name).table) for name in ("user_factors", "item_factors")]
    np.testing.assert_allclose(factors[0] @ factors[1].T, expected, atol=1e-4)
    norms = np.square(np.linalg.norm(factors[1], axis=0))
    np.testing.assert_allclose(norms[:20], values[:dim], atol=1e-4)  # sorted by size; each side has the square root
    assert not norms[20:].any()


def test_closed_form_is_reproducible():
    users, items, ratings = random_ratings()
    models = [build(30, 20, 6) for _ in range(2)]
    for model in models:
        closed_form(model, {"user_ids": users, "item_ids": items}, {"rating": ratings})
    for first, second in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)
    table = np.asarray(models[0].get_layer("item_factors").table)
    assert (table[np.abs(table).argmax(axis=0), np.arange(6)] > 0).all()


def test_closed_form_of_equal_ratings_has_no_factors():
    users, items, _ = random_ratings(unknown=False)
    model = build(30, 20, 6)
    closed_form(model, {"user_ids": users, "item_ids": items}, {"rating": np.full(300, 4.0)})
    np.testing.assert_allclose(model([users, items]).numpy(), 4.0, atol=1e-6)
    assert not np.asarray(model.get_layer("user_factors").table).any()


def test_closed_form_finds_a_low_rank_matrix():
    rng = np.random.default_rng(1)
    full = rng.normal(size=(30, 3)) @ rng.normal(size=(3, 20))
    users, items = (np.indices(full.shape).reshape(2, -1) + 1).astype(np.int32)
    model = build(30, 20, 8, bias_regularization=0)
    closed_form(model, {"user_ids": users, "item_ids": items}, {"rating": full.ravel()})
    np.testing.assert_allclose(model([users, items]).numpy(), full.ravel(), atol=1e-4)


@pytest.mark.parametrize(
    ("ratings", "message"),
    [
        ([], "Pass three arrays of the same length"),
        ([1.0], "do not fit"),
        ([1.0, np.nan], "A rating is nan; expected numbers"),
    ],
)
def test_closed_form_rejects_invalid_ratings(ratings, message):
    ids = np.array([1, 2], np.int32)
    with pytest.raises(zoo.UsageError, match=message):
        closed_form(build(3, 3), {"user_ids": ids, "item_ids": ids}, {"rating": np.array(ratings)})


# --- The best items ------------------------------------------------------------------------------------------------


def brute_force_top_k(scores, seen, k=10):
    lists = []
    for row, history in enumerate(seen):
        left = [i for i in range(scores.shape[1]) if i + 1 not in history]
        best = sorted(left, key=lambda i: (-scores[row, i], i))[:k]
        lists.append([(i + 1, scores[row, i]) for i in best] + [(0, 0.0)] * (k - len(best)))
    return lists


@pytest.mark.parametrize("num_items", [1, 7, 10, 40])
def test_top_k_equals_brute_force(num_items):
    rng = np.random.default_rng(num_items)
    model = filled(9, num_items, neighbors=5)
    seen = [rng.permutation(num_items)[: rng.integers(0, num_items + 1)] + 1 for _ in range(4)] + [np.zeros(0, int)]
    padded = np.zeros((5, num_items + 1), np.int32)
    for row, numbers in zip(padded, seen, strict=True):
        row[: len(numbers)] = numbers
    users = np.array([3, 0, 9, 1, 0], np.int32)
    found = tf.function(make_top_k(model))({"user_ids": users}, {"seen_items": padded})
    expected = brute_force_top_k(numpy_ranking(model, seen), seen)
    assert found["item_ids"].shape == found["score"].shape == (5, 10)
    assert (found["item_ids"].dtype, found["score"].dtype) == (tf.int32, tf.float32)
    assert found["item_ids"].numpy().tolist() == [[int(i) for i, _ in row] for row in expected]
    np.testing.assert_allclose(found["score"], [[s for _, s in row] for row in expected], rtol=1e-5)


def test_scores_of_long_histories_count_the_latest_items(monkeypatch):
    monkeypatch.setattr("zoo.item_neighbors.LONGEST", 3)
    model = filled(4, 30, neighbors=4)
    histories = [[7, 3, 9, 1, 30], [5], [2, 4, 6, 8]]
    padded = np.zeros((3, 6), np.int32)
    for row, numbers in zip(padded, histories, strict=True):
        row[: len(numbers)] = numbers
    found = make_scores(model)({"user_ids": np.zeros(3, np.int32)}, {"seen_items": padded})["score"]
    np.testing.assert_allclose(found, numpy_ranking(model, [history[-3:] for history in histories]), rtol=1e-5)


# --- Docstrings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "thing"),
    [
        (ranking, ranking_report),
        (ranking, fit_biases),
        (ranking, summary),
        (interactions, InteractionPreprocessor),
        (matrix_factorization, make_scores),
        (matrix_factorization, make_top_k),
        (item_neighbors, Interactions),
        (item_neighbors, recent_popularity),
        (matrix_factorization, closed_form),
    ],
    ids=lambda part: getattr(part, "__name__", None),
)
def test_docstring_examples_run(module, thing):
    names = {**vars(module), "zoo": zoo, "np": np, "tf": tf}
    test = doctest.DocTestParser().get_doctest(thing.__doc__, names, thing.__name__, None, None)
    lines: list[str] = []
    assert not doctest.DocTestRunner().run(test, out=lines.append).failed, "".join(lines)


def test_docstring_examples_of_the_layers_run():
    for layer in (KnownEmbedding, Rating, SimilarItems):
        names = {layer.__name__: layer, "np": np}
        test = doctest.DocTestParser().get_doctest(layer.__doc__, names, layer.__name__, None, None)
        assert not doctest.DocTestRunner().run(test).failed
