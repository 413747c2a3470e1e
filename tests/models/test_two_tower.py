"""The two-tower recommender compared with NumPy."""

from __future__ import annotations

import doctest
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

import two_tower_reference as reference
import zoo
from zoo.item_neighbors import Interactions
from zoo.layers import towers as layers
from zoo.models import two_tower
from zoo.models.two_tower import build_two_tower_model as build

SIZES = {"num_users": 5, "num_items": 6, "num_periods": 2, "embedding_dim": 4, "history_length": 3}
FEATURES = {"user_categories": (3,), "item_numbers": 2, "item_categories": (4, 2), "hidden_units": (7,)}


def filled(seed=0, **arguments) -> keras.Model:
    """Builds a model with random values in all weights; item 6 and user 5 are not in the training split."""
    model = build(**{**SIZES, **FEATURES, **arguments})
    towers, rng = model.get_layer("log_probability"), np.random.default_rng(seed)
    for weight in model.weights:
        weight.assign(rng.normal(size=weight.shape) if "int" not in weight.dtype else weight)
    for tower in (towers.users, towers.items, towers.past):
        tower.trained.assign([1.0] * (tower.count - 1) + [0.0])
        sizes = tower.category_sizes
        if sizes:
            tower.categories.assign(rng.integers(0, sizes, (tower.count, len(sizes))))
    return model


USERS = np.array([1, 0, 5, 3], np.int32)
ITEMS = np.array([2, 1, 5, 6], np.int32)
HISTORY = np.array([[3, 1, 4, 5], [0, 0, 0, 0], [6, 2, 0, 0], [5, 0, 0, 0]], np.int32)
PERIODS = np.array([0, 1, 2, 0], np.int32)


def test_probabilities_equal_numpy():
    model = filled()
    towers = model.get_layer("log_probability")
    found = model([USERS, ITEMS, HISTORY, PERIODS]).numpy()
    rows = zip(USERS, ITEMS, HISTORY.tolist(), PERIODS, strict=True)
    expected = [reference.log_probability(towers, *row) for row in rows]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    trained = filled(id_dropout=0.0)([USERS, ITEMS, HISTORY, PERIODS], training=True).numpy()
    np.testing.assert_allclose(trained, found, rtol=1e-5, err_msg="without dropout, training computes the same")


def test_sampled_probabilities_approach_those_over_all_items():
    """An importance sample of the sum over the other items; without a correction, popular items would count too often."""
    keras.utils.set_random_seed(0)
    empty = np.zeros_like(HISTORY)
    some = {"id_dropout": 0.0, "num_periods": 2}
    model, sampled = filled(**some), filled(**some, sampled_items=40_000)
    for weight, other in zip(model.weights, [w for w in sampled.weights if "seed" not in w.path], strict=True):
        other.assign(weight * 0.3 if weight.trainable else weight)
        weight.assign(other)
    items = np.array([2, 1, 5, 3], np.int32)
    exact = model([USERS, items, empty, PERIODS]).numpy()
    drawn = sampled([USERS, items, empty, PERIODS], training=True).numpy()
    np.testing.assert_allclose(drawn, exact, atol=0.06)
    np.testing.assert_allclose(sampled([USERS, items, empty, PERIODS]).numpy(), exact, rtol=1e-5)


def test_rankings_leave_out_the_history_and_equal_the_products_of_vectors():
    model = filled()
    towers = model.get_layer("log_probability")
    seen = np.array([[5, 4, 1, 3], [0, 0, 0, 0], [2, 6, 0, 0], [0, 5, 0, 0]], np.int32)  # oldest first
    inputs, extras = {"user_ids": tf.constant(USERS)}, {"seen_items": tf.constant(seen)}
    table = two_tower.make_scores(model)(inputs, extras)["score"].numpy()
    latest = [[item for item in row[::-1] if item] for row in seen.tolist()]
    expected = [reference.scores(towers, user, row) for user, row in zip(USERS, latest, strict=True)]
    np.testing.assert_allclose(table, expected, rtol=1e-4, atol=1e-4)
    best = two_tower.make_top_k(model)(inputs, extras)
    for found, row, held in zip(best["item_ids"].numpy(), table, seen, strict=True):
        order = [int(i) + 1 for i in np.argsort(-row, kind="stable") if i + 1 not in held]
        assert found.tolist() == order + [0] * (10 - len(order))
    nobody = {"user_ids": tf.constant([5])}, {"seen_items": tf.zeros([1, 0], tf.int32)}
    alone = two_tower.make_scores(model)(*nobody)["score"].numpy()
    np.testing.assert_allclose(alone[0], reference.scores(towers, 5, []), rtol=1e-4, atol=1e-4)
    users = two_tower.make_user_vectors(model)(inputs, extras)["vector"].numpy()
    numbers = tf.range(1, 7)
    features = {f"item_{name}": value for name, value in towers.items.features(numbers).items()}
    items = two_tower.make_item_vectors(model)({"item_ids": numbers}, features)["vector"].numpy()
    np.testing.assert_allclose(users @ items.T, table, rtol=1e-4, atol=1e-4)


def test_a_new_item_has_the_vector_of_its_features():
    model = filled()
    towers = model.get_layer("log_probability")
    vectors = two_tower.make_item_vectors(model)
    features = {"item_numbers": tf.constant([[0.5, -1.0]]), "item_categories": tf.constant([[3, 1]])}
    new = vectors({"item_ids": tf.constant([0])}, features)["vector"].numpy()[0]
    np.testing.assert_allclose(new[:-1], reference.tower(towers.items, 0, [0.5, -1.0], [3, 1]), rtol=1e-4, atol=1e-5)
    unrated = vectors({"item_ids": tf.constant([6])}, features)["vector"].numpy()[0]
    np.testing.assert_allclose(unrated[:-1], new[:-1], err_msg="an item without interactions has no vector of its own")
    assert new[-1] == pytest.approx(float(towers.power) * float(np.min(towers.popularity[0])))


def test_popularity_counts_the_interactions_before_each_period():
    users, items, times = [1, 2, 3, 1, 2], [1, 1, 2, 2, 3], [0.0, 10.0, 20.0, 30.0, 40.0]
    train = Interactions(users, items, times, 3, 4)
    found = np.exp(two_tower.popularities(train, [0.0, 20.0, 35.0], half_life=0.25))

    def expected(end, stop):
        weight = dict.fromkeys(range(1, 5), 0.0)
        count = dict(weight)
        for item, time in zip(items, times, strict=True):
            if time < stop:
                weight[item] += 0.5 ** ((end - time) / 10)
                count[item] += 1
        sums = max(sum(weight.values()), 1e-30), max(sum(count.values()), 1e-30)
        return [0.9 * weight[i] / sums[0] + 0.09 * count[i] / sums[1] + 0.01 / 4 for i in range(1, 5)]

    rows = [expected(40, math.inf), expected(0, 0), expected(20, 20), expected(35, 35)]
    np.testing.assert_allclose(found, rows, rtol=1e-4)
    plain = two_tower.popularities(Interactions(users, items, None, 3, 4), [], half_life=math.inf)
    np.testing.assert_allclose(np.exp(plain), [[0.99 * 2 / 5 + 0.0025] * 2 + [0.99 / 5 + 0.0025, 0.0025]], rtol=1e-4)


def test_keras_file_restores_the_same_model(tmp_path):
    model = filled()
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    arrays = [USERS, ITEMS, HISTORY, PERIODS]
    np.testing.assert_array_equal(model(arrays).numpy(), again(arrays).numpy())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_users": 0}, "num_users is 0; expected a whole number"),
        ({"hidden_units": (0,)}, "hidden_units"),
        ({"item_numbers": -1}, "item_numbers is -1; expected a whole number"),
        ({"user_categories": 3}, "user_categories is 3; expected whole numbers"),
        ({"history_length": 0}, "history_length is 0; expected"),
        ({"id_dropout": 1.0}, "id_dropout is 1.0; expected a fraction"),
        ({"sampled_items": -1}, "sampled_items is -1; expected a whole number of at least 0. Pass 4096"),
    ],
)
def test_messages_name_the_invalid_argument(arguments, message):
    with pytest.raises(zoo.UsageError, match=message):
        build(**{**SIZES, **arguments})


def test_many_items_are_sampled_by_default():
    assert build(num_users=2, num_items=20_001).get_layer("log_probability").sampled == 4_096
    assert build(num_users=2, num_items=20_000).get_layer("log_probability").sampled == 0


@pytest.mark.parametrize("module", [two_tower, layers])
def test_examples_run(module):
    names = {"zoo": zoo, "tf": tf, "np": np, **vars(module)}
    assert doctest.testmod(module, extraglobs=names, optionflags=doctest.ELLIPSIS).failed == 0
