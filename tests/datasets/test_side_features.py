"""Interactions with features of users and items: files, histories, requests for new items."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf

import zoo
from zoo.datasets.preprocessing.columns.lists import Lists, is_list
from zoo.datasets.preprocessing.side_features import SideFeaturePreprocessor
from zoo.tasks import get_task

ROWS = [("u1", "a", 1), ("u1", "b", 2), ("u1", "c", 3), ("u2", "b", 1), ("u2", "d", 2), ("u3", "a", 5), ("u3", "d", 9)]
ITEMS = """item_id,title,genres,year,colour
a,Alien,Horror|Drama,1979,red
b,Brazil,Comedy,1985,blue
c,Cube,Horror,1997,red
d,Dune,Drama,,blue
new,Nope,Horror | Comedy,2022,green
x,Xala,Comedy|Drama,1975,red
"""
USERS = "user_id,age,member\nu1,20,yes\nu2,40,no\nu4,30,yes\n"


def files(folder, rows=ROWS, items=ITEMS, users=USERS, header="user_id,item_id,time,split"):
    lines = [",".join(map(str, (*row, "train"))) for row in rows]
    lines += [f"u1,{item},{20 + n},{split}" for n, (item, split) in enumerate([("d", "validation"), ("new", "test")])]
    (folder / "clicks.csv").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    (folder / "items.csv").write_text(items, encoding="utf-8")
    (folder / "users.csv").write_text(users, encoding="utf-8")
    return {"name": f"csv:{folder / 'clicks.csv'}", "items": "items.csv", "users": "users.csv"}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return zoo.datasets.load(**files(tmp_path_factory.mktemp("side"))).prepare("two_tower", history_length=4)


def test_features_have_the_kinds_of_tables_and_new_ids_are_known(prepared):
    about = prepared.data.about
    assert about["items"]["kinds"] == {"genres": "list", "year": "number", "colour": "category"}
    assert about["users"]["kinds"] == {"age": "number", "member": "yes_no"}
    preprocessor = prepared.preprocessor
    assert preprocessor.item_ids == ("a", "b", "c", "d", "new", "x") and preprocessor.user_ids == (
        "u1",
        "u2",
        "u3",
        "u4",
    )
    assert preprocessor.titles[4] == "Nope"
    sizes = {"num_users": 4, "num_items": 6, "item_numbers": 3 + 2, "item_categories": (4,), "user_categories": ()}
    assert {name: prepared.arguments[name] for name in sizes} == sizes
    encoded = preprocessor.items_table.encoded()
    genres = preprocessor.items_table.groups[1].vocabularies[0]
    assert genres == ("Comedy", "Drama", "Horror")
    places = [2, 3, 4]  # after the year and the mark of its missing values
    np.testing.assert_array_equal(encoded["numbers"][[0, 4]][:, places], [[0, 1, 1], [1, 0, 1]])
    assert encoded["numbers"][3, 1] == 1, "the year of Dune is missing"
    assert list(preprocessor.requests) == [
        *("user_id", "item_id", "history", "user_age", "user_member", "item_genres", "item_year", "item_colour")
    ]


def test_a_training_example_sees_only_the_items_chosen_before(prepared):
    inputs, targets, weights = next(iter(prepared.batches("train", 100)))
    ids = prepared.preprocessor.item_ids
    rows = zip(inputs["user_ids"].numpy(), inputs["item_ids"].numpy(), inputs["history"].numpy(), strict=True)
    found = {(int(user), ids[item - 1]): [ids[i - 1] for i in row if i] for user, item, row in rows}
    assert found == {
        **{(1, "a"): [], (1, "b"): ["a"], (1, "c"): ["b", "a"], (2, "b"): []},
        **{(2, "d"): ["b"], (3, "a"): [], (3, "d"): ["a"]},
    }
    assert inputs["history"].shape == (7, 4) and (targets["item"] == inputs["item_ids"]).numpy().all()
    assert weights["item"].numpy().all() and (inputs["periods"] > 0).numpy().all()
    (later,) = [part for part, *_ in prepared.batches("validation", 9)]
    assert later["history"].numpy().tolist() == [[3, 2, 1, 0]] and later["periods"].numpy().tolist() == [0]
    assert next(iter(prepared.batches("test", 9)))[2]["item"].numpy().tolist() == [0], (
        "new is not in the training split"
    )


def test_without_times_a_training_example_sees_all_other_items(tmp_path):
    rows = [(user, item) for user, item, _ in ROWS]
    lines = [f"{user},{item},train" for user, item in rows] + ["u2,a,validation", "u2,c,test"]
    (tmp_path / "clicks.csv").write_text("\n".join(["user_id,item_id,split", *lines]) + "\n")
    prepared = zoo.datasets.load(f"csv:{tmp_path / 'clicks.csv'}").prepare("two_tower", history_length=2)
    inputs = next(iter(prepared.batches("train", 100)))[0]
    ids = prepared.preprocessor.item_ids
    for user, item, row in zip(*(inputs[name].numpy() for name in ("user_ids", "item_ids", "history")), strict=True):
        others = {other for who, other in rows if who == f"u{user}"} - {ids[item - 1]}
        found = {ids[i - 1] for i in row if i}
        assert found <= others and len(found) == min(2, len(others))
    assert not inputs["periods"].numpy().any() and prepared.arguments["num_periods"] == 0
    assert list(prepared.preprocessor.requests) == ["user_id", "item_id", "history"]


@pytest.mark.parametrize("form", ["memory", "files", "json"])
def test_requests_with_features_of_new_users_and_items(prepared, form, tmp_path):
    preprocessor = prepared.preprocessor
    if form == "files":
        preprocessor = preprocessor.for_export(tmp_path)[0]
        assert {"item_categories.txt", "item_lists.txt"} <= {path.name for path in tmp_path.iterdir()}
    if form == "json":
        preprocessor = SideFeaturePreprocessor(**json.loads(json.dumps(preprocessor.config())))
        assert preprocessor == prepared.preprocessor
    item = {"item_genres": ["Drama|Horror"], "item_year": [1979.0], "item_colour": ["red"]}
    item = {name: tf.constant(value) for name, value in item.items()}
    inputs, extras = preprocessor.serve({"item_id": tf.constant(["unheard of"]), **item})
    assert inputs["item_ids"].numpy().tolist() == [0]
    encoded = preprocessor.items_table.encoded()
    np.testing.assert_allclose(extras["item_numbers"].numpy(), encoded["numbers"][:1], rtol=1e-6)
    np.testing.assert_array_equal(extras["item_categories"].numpy(), encoded["categories"][:1])
    user = {"user_age": tf.constant([20.0]), "user_member": tf.constant(["yes"])}
    inputs, extras = preprocessor.serve({"history": tf.constant([["a", "?"]]), **user})
    assert inputs["user_ids"].numpy().tolist() == [0] and extras["seen_items"].numpy().tolist() == [[1, 0]]
    np.testing.assert_allclose(extras["user_numbers"], preprocessor.users.encoded()["numbers"][:1], rtol=1e-6)
    (example,) = prepared.data.splits["test"].dataset().as_numpy_iterator()
    requests = preprocessor.to_requests([example])
    assert requests["item_genres"].tolist() == [b"Horror | Comedy"] and requests["item_year"].tolist() == [2022.0]


def test_signatures_follow_the_features(prepared, tmp_path):
    task = prepared.task
    known = prepared.preprocessor.requests
    assert task.signatures["user_features"].takes(known) == ("history", "user_age", "user_member")
    assert task.signatures["item_vectors"].takes(known) == ("item_id", "item_genres", "item_year", "item_colour")
    assert "rating" not in task.signatures and task.score is None
    assert (
        "item_vectors"
        not in get_task("recommendation")
        .for_targets(zoo.datasets.load("tastes").prepare("matrix_factorization").preprocessor)
        .signatures
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"items": ITEMS.replace("item_id", "id")},
            "has no column 'item_id', the item_id of .*Rename the column of ids",
        ),
        ({"items": ITEMS + "a,Again,Drama,1990,red\n"}, "has two rows for 'a' in item_id. Remove one of them"),
        ({"users": "user_id,age\n,3\nu2,4\n"}, "some of them without user_id; expected an id .* Correct the file"),
        ({"users": USERS.replace("40", "1e400")}, "age"),
    ],
)
def test_messages_name_the_fault_of_a_file(changes, message, tmp_path):
    with pytest.raises(zoo.UsageError, match=message):
        zoo.datasets.load(**files(tmp_path, **changes))


def test_other_tasks_take_no_items(tmp_path):
    (tmp_path / "mails.csv").write_text("text,label\nhello,a\nbye,b\n")
    with pytest.raises(zoo.UsageError, match=r"is for text_classification and takes no items\. Leave it out"):
        zoo.datasets.load(f"csv:{tmp_path / 'mails.csv'}", items="items.csv")


def test_lists_become_marks():
    assert is_list(["a|b", "b", "a", "b|a"]) and not is_list(["a", "b"]) and not is_list(["1|2", "3|4"])
    columns = Lists.fit(["g"], ["g"], np.array([[b"a|b"], [b" b "], [b"c"], [b"a|a"], [b""]], object), {})
    assert columns.vocabularies == (("a", "b"),), "c stands in one cell only"
    raw = tf.constant([["b|a"], ["a|a"], ["c"], [""], ["b|?"]])
    assert columns.numbers(raw).numpy().tolist() == [[1, 1], [1, 0], [0, 0], [0, 0], [0, 1]]
