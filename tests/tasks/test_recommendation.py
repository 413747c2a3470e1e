"""Recommendation against references written out here: brute-force rankings, a dense SVD, a dense least-squares solution."""

from __future__ import annotations

import doctest
import json
import types

import keras
import matplotlib.image
import numpy as np
import pytest
import tensorflow as tf
from sklearn import metrics

import zoo
from zoo.datasets.preprocessing import interactions
from zoo.datasets.preprocessing.interactions import InteractionPreprocessor
from zoo.evaluation import ranking, ranking_plots
from zoo.evaluation.ranking import fit_biases, ranking_report, summary
from zoo.layers.recommendation import KnownEmbedding, Rating
from zoo.models import matrix_factorization
from zoo.models.matrix_factorization import build_matrix_factorization_model as build
from zoo.models.matrix_factorization import closed_form, make_top_k

# --- The model -------------------------------------------------------------------------------------------------------


def filled(num_users: int, num_items: int, seed: int = 0, **arguments) -> keras.Model:
    """A model with random weights everywhere; biases and mean start at constants, which would hide an error."""
    model = build(num_users=num_users, num_items=num_items, **{"embedding_dim": 4, **arguments})
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        weight.assign(rng.normal(size=weight.shape))
    return model


def numpy_scores(model: keras.Model, users) -> np.ndarray:
    """Unclipped ratings (users, items), pair by pair."""
    tables = {
        n: np.asarray(model.get_layer(n).table) for n in ("user_bias", "item_bias", "user_factors", "item_factors")
    }
    scores = np.full((len(users), len(tables["item_bias"])), float(model.get_layer("rating").mean))
    for row, user in enumerate(users):
        for item in range(scores.shape[1]):
            scores[row, item] += tables["item_bias"][item, 0]
            if user:
                scores[row, item] += tables["user_bias"][user - 1, 0]
                scores[row, item] += tables["user_factors"][user - 1] @ tables["item_factors"][item]
    return scores


def test_ratings_equal_numpy_and_unknown_ones_add_nothing():
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
def test_parameters_follow_the_formula(users, items, dim):
    assert build(num_users=users, num_items=items, embedding_dim=dim).count_params() == (users + items) * (dim + 1) + 1


def test_names_and_shapes():
    model = build(num_users=3, num_items=2)
    assert [(t.name, t.shape, t.dtype) for t in model.inputs] == [
        ("user_ids", (None,), "int32"),
        ("item_ids", (None,), "int32"),
    ]
    assert model.output_names == ["rating"] and model.output_shape == (None,)


def test_answers_are_clipped_and_training_is_not():
    model = filled(4, 4, rating_range=(0, 1))
    ids = np.arange(1, 5, dtype=np.int32)
    expected = numpy_scores(model, ids)[np.arange(4), np.arange(4)]
    assert expected.min() < 0 or expected.max() > 1
    np.testing.assert_allclose(model([ids, ids], training=True).numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(model([ids, ids], training=False).numpy(), expected.clip(0, 1), atol=1e-5)


def test_the_penalty_is_in_ratings():
    model = filled(5, 6, bias_regularization=3.0, factor_regularization=7.0, num_ratings=50)
    tables = {layer.name: np.asarray(layer.table) for layer in model.layers if isinstance(layer, KnownEmbedding)}
    squares = {name: float((table**2).sum()) for name, table in tables.items()}
    expected = 3 / 50 * (squares["user_bias"] + squares["item_bias"])
    expected += 7 / 50 * (squares["user_factors"] + squares["item_factors"])
    np.testing.assert_allclose(float(sum(model.losses)), expected, rtol=1e-5)
    assert not build(num_users=2, num_items=2, bias_regularization=0, factor_regularization=0).losses


def test_keras_file_gives_the_same_model(tmp_path):
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
def test_wrong_arguments_are_answered_with_their_name(arguments, message):
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


def test_gradient_descent_comes_near_the_noise():
    """Low-rank ratings with noise of 0.1: biases alone leave an error of more than 1."""
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


def dense_biases(users, items, ratings, num_users, num_items, damping):
    """The normal equations, solved densely."""
    design = np.zeros((len(ratings), num_users + num_items))
    for row, (user, item) in enumerate(zip(users, items, strict=True)):
        if user:
            design[row, user - 1] = 1
        if item:
            design[row, num_users + item - 1] = 1
    normal = design.T @ design + damping * np.eye(design.shape[1])
    return np.split(np.linalg.solve(normal, design.T @ (ratings - ratings.mean())), [num_users])


def random_ratings(num_users=30, num_items=20, count=300, unknown=True):
    rng = np.random.default_rng(5)
    users = rng.integers(0 if unknown else 1, num_users + 1, count).astype(np.int32)
    items = rng.integers(0 if unknown else 1, num_items + 1, count).astype(np.int32)
    return users, items, rng.integers(1, 11, count).astype(np.float32)


@pytest.mark.parametrize("dim", [1, 5, 20, 33])
def test_closed_form_equals_a_dense_svd(dim):
    """Rating by rating, with unknown users and items, pairs rated twice, and more factors than there are items."""
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
    np.testing.assert_allclose(norms[:20], values[:dim], atol=1e-4)  # the largest first, its square root on either side
    assert not norms[20:].any()


def test_closed_form_is_the_same_again():
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
        ([], "Pass three arrays of one length"),
        ([1.0], "do not fit"),
        ([1.0, np.nan], "A rating is nan; expected numbers"),
    ],
)
def test_closed_form_refuses_what_it_cannot_use(ratings, message):
    ids = np.array([1, 2], np.int32)
    with pytest.raises(zoo.UsageError, match=message):
        closed_form(build(3, 3), {"user_ids": ids, "item_ids": ids}, {"rating": np.array(ratings)})


# --- The best items ------------------------------------------------------------------------------------------------


def brute_force_top_k(scores, seen, popularity, users, k=10):
    lists = []
    for row, user in enumerate(users):
        by = scores[row] if user else popularity
        left = [i for i in range(len(by)) if i + 1 not in seen[row]]
        best = sorted(left, key=lambda i: (-by[i], i))[:k]
        lists.append([(i + 1, scores[row, i]) for i in best] + [(0, 0.0)] * (k - len(best)))
    return lists


@pytest.mark.parametrize("num_items", [1, 7, 10, 40])
def test_top_k_equals_brute_force(num_items):
    rng = np.random.default_rng(num_items)
    model = filled(9, num_items, rating_range=(-2, 2))
    users = np.array([3, 0, 9, 1, 0], np.int32)
    seen = [sorted(rng.choice(num_items, rng.integers(0, num_items + 1), replace=False) + 1) for _ in users]
    padded = np.zeros((5, num_items + 1), np.int32)
    for row, numbers in zip(padded, seen, strict=True):
        row[: len(numbers)] = numbers
    popularity = rng.integers(0, 4, num_items).astype(np.int32)  # with ties
    found = tf.function(make_top_k(model))({"user_ids": users}, {"seen_items": padded, "popularity": popularity})
    scores = numpy_scores(model, users)
    expected = brute_force_top_k(scores, seen, popularity, users)
    assert found["item_ids"].shape == found["score"].shape == (5, 10)
    assert (found["item_ids"].dtype, found["score"].dtype) == (tf.int32, tf.float32)
    assert found["item_ids"].numpy().tolist() == [[int(i) for i, _ in row] for row in expected]
    np.testing.assert_allclose(found["score"], np.clip([[s for _, s in row] for row in expected], -2, 2), atol=1e-5)


def test_a_score_is_the_rating():
    model = filled(4, 30, rating_range=(-1, 1))
    users = np.array([0, 1, 4], np.int32)
    extras = {"seen_items": np.zeros((3, 0), np.int32), "popularity": np.arange(30)}
    found = make_top_k(model)({"user_ids": users}, extras)
    items = found["item_ids"].numpy()
    assert items[0].tolist() == list(range(30, 20, -1)), "an unknown user gets what is popular"
    ratings = model([np.repeat(users, 10), items.ravel()], training=False).numpy()
    np.testing.assert_allclose(found["score"].numpy().ravel(), ratings, atol=1e-5)


# --- Ids to numbers --------------------------------------------------------------------------------------------------

RATINGS = [
    ("bob", "b2", 4.0),
    ("ann", "a1", 8.0),
    ("bob", "a1", 6.0),
    ("Żółw 🐢", "价格", 10.0),
    ("bob", "b2", 5.0),
    ("u" * 10_000, "a1", 7.0),
]
TITLES = {"a1": "Alien\n(1979)", "价格": "\u00e9t\u00e9\t\r\n2046"}
HOSTILE = [b"", b" ", b"\xff\xfe", "\u202e".encode(), b"x" * 10_000, b"bob\n", b"bob\x00", b"BOB", b"[UNK]", b"0", b"1"]


def some_data(ratings=RATINGS, **about):
    def dataset():
        users, items, values = zip(*ratings, strict=True) if ratings else ((), (), ())
        return tf.data.Dataset.from_tensor_slices(
            {
                "user_id": tf.constant(users, tf.string, shape=[len(users)]),
                "item_id": tf.constant(items, tf.string, shape=[len(items)]),
                "rating": tf.constant(values, tf.float32, shape=[len(values)]),
            }
        )

    return types.SimpleNamespace(
        name="made-up", train=dataset(), about={"titles": TITLES, "rating_range": [0, 10], **about}
    )


DEFAULTS = {"num_ratings": None, "rating_mean": None, "rating_range": None}


def prepared() -> InteractionPreprocessor:
    return InteractionPreprocessor.for_model(some_data(), {}, DEFAULTS)[0]


def test_numbers_titles_and_seen_items_come_from_train():
    preprocessor, arguments = InteractionPreprocessor.for_model(some_data(), {}, DEFAULTS)
    assert preprocessor.user_ids == ("ann", "bob", "u" * 10_000, "Żółw 🐢")
    assert preprocessor.item_ids == ("a1", "b2", "价格")
    assert preprocessor.titles == ("Alien (1979)", "", "été 2046")
    assert preprocessor.popularity.tolist() == [3, 1, 1], "users, not ratings: one rated an item twice"
    expected = {"num_users": 4, "num_items": 3, "num_ratings": 6, "rating_range": (0.0, 10.0)}
    assert {k: arguments[k] for k in expected} == expected
    assert arguments["rating_mean"] == pytest.approx(40 / 6)
    _, own = InteractionPreprocessor.for_model(some_data(), {}, {**DEFAULTS, "rating_mean": 5.0})
    assert "rating_mean" not in own, "what the user says stays"
    assert InteractionPreprocessor.for_model(some_data(), {}, {})[1] == {"num_users": 4, "num_items": 3}
    assert preprocessor.input_shapes == {"user_ids": (), "item_ids": ()}
    assert list(preprocessor.requests) == ["user_id", "item_id"]


def test_training_batches():
    preprocessor = prepared()
    examples = {
        "user_id": tf.constant(["ann", "new"]),
        "item_id": tf.constant(["new", "价格"]),
        "rating": tf.constant([3.0, 4.0]),
    }
    dataset = tf.data.Dataset.from_tensors(examples).map(lambda e: preprocessor.encode(e)[:2])
    inputs, targets = next(iter(dataset))
    assert inputs["user_ids"].numpy().tolist() == [1, 0] and inputs["item_ids"].numpy().tolist() == [0, 3]
    assert targets["rating"].numpy().tolist() == [3.0, 4.0] and inputs["user_ids"].dtype == tf.int32
    assert preprocessor.encode(examples)[2] == {}
    assert preprocessor.trim(inputs, targets, {}) == (inputs, targets, {})


@pytest.mark.parametrize("form", ["memory", "files"])
def test_requests(form, tmp_path):
    preprocessor = prepared() if form == "memory" else prepared().for_export(tmp_path)[0]
    assert preprocessor == prepared()
    inputs, extras = preprocessor.serve({"user_id": tf.constant(["bob", "Żółw 🐢", "nobody", "u" * 10_000])})
    assert inputs["user_ids"].numpy().tolist() == [2, 4, 0, 3]
    assert extras["seen_items"].numpy().tolist() == [[1, 2], [3, 0], [0, 0], [1, 0]]
    assert extras["popularity"].numpy().tolist() == [3, 1, 1]
    inputs, extras = preprocessor.serve({"user_id": tf.constant(HOSTILE)})
    assert not inputs["user_ids"].numpy().any() and extras["seen_items"].shape == (len(HOSTILE), 0)
    inputs, extras = preprocessor.serve({"user_id": tf.constant(["ann", "?"]), "item_id": tf.constant(["价格", "a1"])})
    assert inputs["user_ids"].numpy().tolist() == [1, 0] and inputs["item_ids"].numpy().tolist() == [3, 1]
    assert extras == {}
    ids, titles = preprocessor.items(tf.constant([[1, 0], [3, 2]]))
    assert ids.numpy().tolist() == [[b"a1", b""], ["价格".encode(), b"b2"]]
    assert titles.numpy().tolist() == [[b"Alien (1979)", b""], ["été 2046".encode(), b""]]
    for item in HOSTILE:
        with pytest.raises(
            tf.errors.InvalidArgumentError, match=r"is not one of the 3 known items. Send an id of items.txt"
        ):
            preprocessor.serve({"user_id": tf.constant(["ann", "ann"]), "item_id": tf.constant([b"a1", item])})


def test_ids_that_are_no_strings_are_refused():
    with pytest.raises(zoo.UsageError, match=r"user_id is int32 of shape \(1,\); expected string \(batch,\)"):
        prepared().serve({"user_id": tf.constant([3])})


def test_config_makes_an_equal_one_by_way_of_json():
    preprocessor = prepared()
    assert InteractionPreprocessor(**json.loads(json.dumps(preprocessor.config()))) == preprocessor


@pytest.mark.parametrize(
    ("ratings", "message"),
    [
        ([], r"training split of 'made-up' holds no ratings"),
        ([("", "a", 1.0)], r"holds the user_id b''; expected UTF-8 text, not blank"),
        ([("a", "line\nbreak", 1.0)], r"holds the item_id b'line\\nbreak'"),
        ([("  ", "a", 1.0)], r"holds the user_id b'  '"),
        ([("a\x00", "b", 1.0)], r"holds the user_id b'a\\x00'"),
        ([(b"\xff", "b", 1.0)], r"holds the user_id b'\\xff'"),
        ([("a", "b", float("nan"))], r"Rating 0 of 'made-up' is nan. Remove ratings"),
    ],
)
def test_training_data_that_no_file_can_hold_is_refused(ratings, message):
    with pytest.raises(zoo.UsageError, match=message):
        InteractionPreprocessor.for_model(some_data(ratings), {}, DEFAULTS)


def test_examples_as_a_client_sends_them():
    preprocessor = prepared()
    examples = list(some_data().train.as_numpy_iterator())
    requests = preprocessor.to_requests(examples)
    assert requests["user_id"].tolist()[0] == b"bob" and requests["item_id"].dtype == object
    assert preprocessor.accepts(examples[0]) and not preprocessor.accepts({**examples[0], "item_id": b"new"})


STRANGER = """
import json, sys
for name in ("keras", "zoo"):
    sys.modules[name] = None
import tensorflow as tf
served = tf.saved_model.load(sys.argv[1])
users = ["ann", "nobody", "", "u" * 10_000]
best = served.signatures["serving_default"](user_id=tf.constant(users))
rating = served.signatures["rating"](user_id=tf.constant(users), item_id=tf.constant(["b2"] * 4))
try:
    served.signatures["rating"](user_id=tf.constant(["ann"]), item_id=tf.constant(["no such film"]))
except tf.errors.InvalidArgumentError as error:
    message = str(error)
print(json.dumps({
    "item_id": [[i.decode() for i in row] for row in best["item_id"].numpy()],
    "title": [[i.decode() for i in row] for row in best["title"].numpy()],
    "score": best["score"].numpy().tolist(),
    "rating": rating["rating"].numpy().tolist(),
    "message": message,
}))
"""


def test_a_stranger_gets_items_and_ratings(tmp_path, run_python):
    """Saved with its files, moved, loaded in a process without this package."""
    model = filled(4, 3, rating_range=(0, 10))
    model.get_layer("rating").mean.assign(5.0)
    (tmp_path / "assets").mkdir()
    preprocessor, resources = prepared().for_export(tmp_path / "assets")
    top_k = make_top_k(model)
    module = tf.Module()
    module.weights, module.resources = [w.value for w in model.weights], resources

    def best(user_id):
        answer = top_k(*preprocessor.serve({"user_id": user_id}))
        ids, titles = preprocessor.items(answer["item_ids"])
        return {"item_id": ids, "title": titles, "score": answer["score"]}

    def rating(user_id, item_id):
        inputs, _ = preprocessor.serve({"user_id": user_id, "item_id": item_id})
        return {"rating": model([inputs["user_ids"], inputs["item_ids"]], training=False)}

    specs = {name: request.spec for name, request in preprocessor.requests.items()}
    signatures = {
        "serving_default": tf.function(best).get_concrete_function(user_id=specs["user_id"]),
        "rating": tf.function(rating).get_concrete_function(**specs),
    }
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures=signatures)
    for file in (tmp_path / "assets").iterdir():
        file.unlink()  # what the SavedModel needs travels with it
    moved = (tmp_path / "saved").rename(tmp_path / "moved")
    assert sorted(file.name for file in (moved / "assets").iterdir()) == ["items.txt", "titles.txt", "users.txt"]
    found = json.loads(run_python(STRANGER, moved).stdout.splitlines()[-1])

    assert found["item_id"][1] == found["item_id"][2] == ["a1", "b2", "价格"] + [""] * 7, "the most popular first"
    assert found["title"][1] == ["Alien (1979)", "", "été 2046"] + [""] * 7
    assert "a1" not in found["item_id"][0] and sorted(found["item_id"][0])[-2:] == ["b2", "价格"], (
        "seen items are left out"
    )
    scores = numpy_scores(model, [1, 0, 0, 3]).clip(0, 10)
    np.testing.assert_allclose(found["rating"], scores[:, 1], atol=1e-5)
    np.testing.assert_allclose(found["score"][1], [*scores[1], *[0] * 7], atol=1e-5)
    assert "item_id <no such film> is not one of the 3 known items. Send an id of items.txt." in found["message"]


# --- The report --------------------------------------------------------------------------------------------------------


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
    table = rng.integers(0, 12, (num_users, num_items)).astype(np.float64)  # with many ties
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
        # scikit-learn's own NDCG of the same order, told by scores without ties.
        truth, score = [[i in relevant for i in order]], [list(range(len(order), 0, -1))]
        gains.append(metrics.ndcg_score(truth, score, k=k))
    return len(hits), np.mean(hits), np.mean(gains), len(shown) / arguments["num_items"]


@pytest.mark.parametrize("at_once", [1, 7 * 60, 10**9])
def test_ranking_figures_equal_brute_force(at_once, monkeypatch):
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


def test_rating_figures_equal_scikit_learns_and_dense_biases():
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


def test_the_reports_biases_are_the_closed_forms():
    """Two implementations, one alternating, one by LSQR."""
    users, items, ratings = random_ratings()
    model = build(30, 20, 2, bias_regularization=4.0, num_ratings=len(ratings))
    closed_form(model, {"user_ids": users, "item_ids": items}, {"rating": ratings})
    fitted = fit_biases(users, items, ratings.astype(np.float64), (30, 20), 4.0)
    np.testing.assert_allclose(np.asarray(model.get_layer("user_bias").table)[:, 0], fitted[0][1:], atol=1e-5)
    np.testing.assert_allclose(np.asarray(model.get_layer("item_bias").table)[:, 0], fitted[1][1:], atol=1e-5)


def test_nobody_to_rank():
    targets, predictions, arguments, _ = report_example()
    report = ranking_report(targets, predictions, **{**arguments, "user_ids": np.zeros(120, int)})
    assert report["num_users"] == 0 and report["hit_rate"] is None
    assert "hit rate" not in summary(report) and "0 users ranked over 60 items" in summary(report)


def test_summary_stands_beside_its_baselines():
    targets, predictions, arguments, _ = report_example()
    report = ranking_report(targets, predictions, **arguments)
    lines = summary(report).splitlines()
    biases, popular = report["baseline"]["biases"], report["baseline"]["most_popular"]
    assert lines[0].startswith(
        f"RMSE         {report['rmse']:.4f}  (user and item biases {biases['rmse']:.4f}, global mean"
    )
    assert lines[2] == f"hit rate@10  {report['hit_rate']:.4f}  (most popular {popular['hit_rate']:.4f})"


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
        ({"scores": lambda asked: np.zeros((len(asked), 3))}, r"have shape \(\d+, 3\); expected finite .*from 1 on"),
        ({"train": {"user_ids": [], "item_ids": [], "ratings": []}}, r"training ratings have user_ids \(0,\)"),
    ],
)
def test_what_cannot_be_measured_is_refused(changes, message):
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


@pytest.mark.parametrize(
    ("module", "thing"),
    [
        (ranking, ranking_report),
        (ranking, fit_biases),
        (ranking, summary),
        (interactions, InteractionPreprocessor),
        (matrix_factorization, make_top_k),
        (matrix_factorization, closed_form),
    ],
    ids=lambda part: getattr(part, "__name__", None),
)
def test_examples_in_docstrings_run(module, thing):
    names = {**vars(module), "zoo": zoo, "np": np, "tf": tf}
    test = doctest.DocTestParser().get_doctest(thing.__doc__, names, thing.__name__, None, None)
    lines: list[str] = []
    assert not doctest.DocTestRunner().run(test, out=lines.append).failed, "".join(lines)


def test_layers_in_their_docstrings():
    for layer in (KnownEmbedding, Rating):
        names = {"KnownEmbedding": KnownEmbedding, "Rating": Rating, "np": np}
        test = doctest.DocTestParser().get_doctest(layer.__doc__, names, layer.__name__, None, None)
        assert not doctest.DocTestRunner().run(test).failed
