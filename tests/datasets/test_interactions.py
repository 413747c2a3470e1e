"""Conversion between user and item ids and their numbers, in training and in a SavedModel."""

from __future__ import annotations

import json
import types

import numpy as np
import pytest
import tensorflow as tf

import zoo
from recommendation_models import filled
from recommendation_reference import numpy_scores
from zoo.datasets.preprocessing.interactions import InteractionPreprocessor
from zoo.models.matrix_factorization import make_top_k

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


def test_ids_titles_and_seen_items_come_from_the_training_split():
    preprocessor, arguments = InteractionPreprocessor.for_model(some_data(), {}, DEFAULTS)
    assert preprocessor.user_ids == ("ann", "bob", "u" * 10_000, "Żółw 🐢")
    assert preprocessor.item_ids == ("a1", "b2", "价格")
    assert preprocessor.titles == ("Alien (1979)", "", "été 2046")
    assert preprocessor.seen_items == (1, 1, 2, 1, 3), "an item that was rated twice is there once"
    expected = {"num_users": 4, "num_items": 3, "num_ratings": 6, "rating_range": (0.0, 10.0)}
    assert {k: arguments[k] for k in expected} == expected
    assert arguments["rating_mean"] == pytest.approx(40 / 6)
    _, own = InteractionPreprocessor.for_model(some_data(), {}, {**DEFAULTS, "rating_mean": 5.0})
    assert "rating_mean" not in own, "what the user says stays"
    assert InteractionPreprocessor.for_model(some_data(), {}, {})[1] == {"num_users": 4, "num_items": 3}
    assert preprocessor.input_shapes == {"user_ids": (), "item_ids": ()}
    assert list(preprocessor.requests) == ["user_id", "item_id", "history"]


def test_interactions_without_ratings_count_as_one():
    clicks = some_data().train.map(lambda e: {"user_id": e["user_id"], "item_id": e["item_id"]})
    data = types.SimpleNamespace(name="made-up", train=clicks, about={})
    preprocessor, arguments = InteractionPreprocessor.for_model(data, {}, DEFAULTS)
    assert not preprocessor.rated and prepared().rated and arguments["rating_mean"] == 1.0
    _, targets, _ = preprocessor.encode(next(iter(clicks.batch(6))))
    assert targets["rating"].numpy().tolist() == [1.0] * 6
    with pytest.raises(
        zoo.UsageError, match=r"has item_id, user_id; the model was trained on ratings too. Pass data with"
    ):
        prepared().encode(next(iter(clicks.batch(6))))
    assert InteractionPreprocessor(**json.loads(json.dumps(preprocessor.config()))) == preprocessor


def test_seen_items_follow_the_latest_times():
    times = tf.data.Dataset.from_tensor_slices(tf.constant([30, 0, 20, 0, 10, 0], tf.int64))
    timed = tf.data.Dataset.zip(some_data().train, times).map(lambda e, t: {**e, "time": t})
    data = types.SimpleNamespace(name="made-up", train=timed, about={})
    preprocessor = InteractionPreprocessor.for_model(data, {}, DEFAULTS)[0]
    assert preprocessor.seen(tf.constant([2, 0, 1])).numpy().tolist() == [[1, 2], [0, 0], [1, 0]], (
        "bob: a1 at 20, b2 at 30"
    )


def test_training_batches_map_unknown_ids_to_zero():
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
def test_requests_return_known_ids_and_reject_unknown_items(form, tmp_path):
    preprocessor = prepared() if form == "memory" else prepared().for_export(tmp_path)[0]
    assert preprocessor == prepared()
    inputs, extras = preprocessor.serve({"user_id": tf.constant(["bob", "Żółw 🐢", "nobody", "u" * 10_000])})
    assert inputs["user_ids"].numpy().tolist() == [2, 4, 0, 3]
    assert extras["seen_items"].numpy().tolist() == [[1, 2], [3, 0], [0, 0], [1, 0]]
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


@pytest.mark.parametrize("form", ["memory", "files"])
def test_a_history_of_the_client_is_that_of_a_known_user(form, tmp_path):
    preprocessor = prepared() if form == "memory" else prepared().for_export(tmp_path)[0]
    model = filled(4, 3)
    history = tf.constant([["a1", "b2", ""], ["no such item", "价格", ""], ["", "", ""]])
    inputs, extras = preprocessor.serve({"history": history})
    assert inputs["user_ids"].numpy().tolist() == [0, 0, 0]
    assert extras["seen_items"].numpy().tolist() == [[1, 2, 0], [0, 3, 0], [0, 0, 0]]
    own, known = (
        make_top_k(model)(*preprocessor.serve(request))
        for request in ({"history": history}, {"user_id": tf.constant(["bob", "Żółw 🐢", "nobody"])})
    )
    assert own["item_ids"].numpy().tolist() == known["item_ids"].numpy().tolist()
    np.testing.assert_allclose(own["score"], known["score"], rtol=1e-6)
    with pytest.raises(zoo.UsageError, match=r"expected string \(batch, n\). Pass a list of strings for each user"):
        preprocessor.serve({"history": tf.constant(["a1"])})


def test_ids_that_are_not_strings_are_rejected():
    with pytest.raises(zoo.UsageError, match=r"user_id is int32 of shape \(1,\); expected string \(batch,\)"):
        prepared().serve({"user_id": tf.constant([3])})


def test_config_survives_json():
    preprocessor = prepared()
    assert InteractionPreprocessor(**json.loads(json.dumps(preprocessor.config()))) == preprocessor


@pytest.mark.parametrize(
    ("ratings", "message"),
    [
        ([], r"training split of 'made-up' holds no ratings"),
        ([("", "a", 1.0)], r"holds the user_id b''; expected UTF-8 text that is not blank"),
        ([("a", "line\nbreak", 1.0)], r"holds the item_id b'line\\nbreak'"),
        ([("  ", "a", 1.0)], r"holds the user_id b'  '"),
        ([("a\x00", "b", 1.0)], r"holds the user_id b'a\\x00'"),
        ([(b"\xff", "b", 1.0)], r"holds the user_id b'\\xff'"),
        (
            [("a", "b", 1.0), ("a", "c", 1.0)],
            r"has one user, b'a'; expected at least two.* Pass interactions of more users",
        ),
        (
            [("a", "b", 1.0), ("c", "b", 1.0)],
            r"has one item, b'b'; expected at least two.* Pass interactions of more items",
        ),
        ([("a", "b", float("nan"))], r"Rating 0 of 'made-up' is nan. Remove ratings"),
    ],
)
def test_training_data_that_files_cannot_store_is_rejected(ratings, message):
    with pytest.raises(zoo.UsageError, match=message):
        InteractionPreprocessor.for_model(some_data(ratings), {}, DEFAULTS)


def test_examples_are_converted_to_requests():
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


def test_the_savedmodel_recommends_without_this_package(tmp_path, run_python):
    """Saves the files with the SavedModel, moves it, and loads it in a process without this package."""
    model = filled(4, 3, rating_range=(0, 10))
    model.get_layer("rating").mean.assign(5.0)
    model.get_layer("similar_items").popularity.assign([3, 1, 1])
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
        "rating": tf.function(rating).get_concrete_function(user_id=specs["user_id"], item_id=specs["item_id"]),
    }
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures=signatures)
    for file in (tmp_path / "assets").iterdir():
        file.unlink()  # the SavedModel contains all files that it needs
    moved = (tmp_path / "saved").rename(tmp_path / "moved")
    assert sorted(file.name for file in (moved / "assets").iterdir()) == ["items.txt", "titles.txt", "users.txt"]
    found = json.loads(run_python(STRANGER, moved, kind="tensorflow").stdout.splitlines()[-1])

    assert found["item_id"][1] == found["item_id"][2] == ["a1", "b2", "价格"] + [""] * 7, "the most popular first"
    assert found["title"][1] == ["Alien (1979)", "", "été 2046"] + [""] * 7
    assert "a1" not in found["item_id"][0] and sorted(found["item_id"][0])[-2:] == ["b2", "价格"], (
        "seen items are left out"
    )
    ratings = numpy_scores(model, [1, 0, 0, 3]).clip(0, 10)
    np.testing.assert_allclose(found["rating"], ratings[:, 1], atol=1e-5)
    np.testing.assert_allclose(found["score"][1], [3, 1, 1, *[0] * 7])
    assert "item_id <no such film> is not one of the 3 known items. Send an id of items.txt." in found["message"]
