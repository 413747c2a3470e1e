"""Requests of tables give the inputs that training had, bit for bit; records, named inputs and files alike."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import zoo
from mixed_tables import NAMES, mixed_table, write_table
from zoo.datasets.interface import Interface
from zoo.datasets.preprocessing.base import get_preprocessor

KEYS = {"label": {"label": "target"}, "value": {"value": "target"}, "labels": {"labels": ["target", "other"]}}


def loaded(folder, seed=0, key="label", rows=60, **options):
    table = mixed_table(rows, seed)
    if key == "value":
        table["target"] = [f"{n:.3g}" for n in np.random.default_rng(seed).normal(1e4, 10, rows)]
    if key == "labels":
        table["target"], table["other"] = (["yes", "no"] * rows)[:rows], (["1", "0", "0"] * rows)[:rows]
    return zoo.datasets.load(write_table(folder / "mixed.csv", table), columns=KEYS[key], **options)


def everything(data):
    """Returns all raw examples in one batch, and as a list of dicts."""
    whole = data.train.concatenate(data.validation).concatenate(data.test)
    return next(iter(whole.batch(10_000))), list(whole.as_numpy_iterator())


def same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].dtype == other[name].dtype
        np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.parametrize(
    ("seed", "key", "options"),
    [
        (0, "label", {}),
        (1, "value", {"scaling": "quantile", "min_count": 5}),
        pytest.param(
            *(2, "labels", {"clip": True, "kinds": {"examples": "category", "2nd": "category"}}), marks=pytest.mark.slow
        ),
        pytest.param(3, "label", {"leave_out": ["class", "年龄", "self"]}, marks=pytest.mark.slow),
        (4, "value", {"leave_out": [*NAMES["number"], *NAMES["yes_no"], *NAMES["time"]]}),
    ],
)
def test_served_inputs_equal_those_of_training(seed, key, options, tmp_path):
    data = loaded(tmp_path, seed, key, **options)
    prepared = data.prepare("mlp")
    preprocessor = prepared.preprocessor
    batch, examples = everything(data)
    trained = data.train.concatenate(data.validation).concatenate(data.test).batch(10_000).map(preprocessor.encode)
    inputs, targets, weights = next(iter(trained))
    requests = preprocessor.to_requests(examples)
    named = {name: tf.constant(values) for name, values in requests.items() if name != "examples"}
    serve = tf.function(lambda **requests: preprocessor.serve(requests)[0], autograph=False)
    for served in (serve(**named), serve(examples=tf.constant(requests["examples"])), preprocessor.serve(named)[0]):
        same(served, inputs)
    same(preprocessor.encode(batch)[0], inputs)
    assert weights == {} and targets.keys() == {*prepared.task.targets}
    assert {request.name for request in preprocessor.requests.values()} == {*requests}
    if "numbers" in inputs:
        assert np.isfinite(inputs["numbers"]).all() and inputs["numbers"].shape[1] == preprocessor.count


def record(**features):
    """Returns a serialized `tf.Example` of values by key: int, float, str or bytes."""
    kinds = {
        int: lambda v: tf.train.Feature(int64_list=tf.train.Int64List(value=[v])),
        float: lambda v: tf.train.Feature(float_list=tf.train.FloatList(value=[v])),
        bytes: lambda v: tf.train.Feature(bytes_list=tf.train.BytesList(value=[v])),
    }
    held = {key: kinds[type(value)](value) for key, value in features.items()}
    return tf.train.Example(features=tf.train.Features(feature=held)).SerializeToString()


@pytest.fixture(scope="module")
def preprocessor(tmp_path_factory):
    return loaded(tmp_path_factory.mktemp("mixed")).prepare("mlp").preprocessor


def blank(preprocessor, count=1, **given):
    """Returns requests in which all values are missing, except those given."""
    found = {}
    for request in preprocessor.requests.values():
        values = given.get(request.name, [b"" if request.dtype == "string" else np.nan] * count)
        found[request.name] = tf.constant(values, request.dtype, [len(values)])
    return {name: values for name, values in found.items() if name != "examples"}


def test_records_hold_whole_numbers_as_integers_and_may_lack_keys(preprocessor):
    features = {"hours per week": 38.5, "examples": 2, "class": "größer".encode(), "joined on": b"03.02.2001"}
    features |= {"from": b"yes", "another": b"ignored", "target": b"few", "hours_per_week": 12345}
    named = {"hours_per_week_1": [38.5], "examples_": [2.0], "class_": ["größer"], "joined_on": ["03.02.2001"]}
    named |= {"from_": ["yes"], "hours_per_week": [12345.0]}
    same(
        preprocessor.serve({"examples": tf.constant([record(**features)])})[0],
        preprocessor.serve(blank(preprocessor, **named))[0],
    )
    renamed = {"hours_per_week_1" if key == "hours per week" else key: value for key, value in features.items()}
    same(
        preprocessor.serve({"examples": tf.constant([record(**renamed)])})[0],
        preprocessor.serve(blank(preprocessor, **named))[0],
    )
    for nothing in (record(), record(another=b"unknown")):
        with pytest.raises(
            tf.errors.InvalidArgumentError, match=r"examples, row 1: no value of any column. Send a tf.Example"
        ):
            preprocessor.serve({"examples": tf.constant([record(**features), nothing])})
    for features, key in (({"examples": 2.5}, "examples"), ({"class": 3}, "class"), ({"from": 1}, "from")):
        with pytest.raises(tf.errors.InvalidArgumentError, match=f"(?s)[Kk]ey: {key}.*[Dd]ata types don't match"):
            preprocessor.serve({"examples": tf.constant([record(**features)])})


def test_words_for_missing_values_are_the_same_in_files_and_requests(preprocessor):
    words = {name: ["NA"] for name in ("from_", "joined_on", "last_seen")}
    same(preprocessor.serve(blank(preprocessor, **words))[0], preprocessor.serve(blank(preprocessor))[0])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"hours_per_week_1": [np.inf]},
            "hours_per_week_1 is infinite. Send a finite number, or NaN where it is missing.",
        ),
        ({"hours_per_week": [-np.inf]}, "hours_per_week is infinite"),
        ({"from_": ["perhaps"]}, "from_ is neither yes nor no"),
        ({"from_": [b"\xff\xfe"]}, "from_ is neither yes nor no"),
        (
            {"joined_on": ["13.13.2001"]},
            "joined_on is no date of the data's form. Send .*31.01.2024 13:00.* or an empty",
        ),
        ({"joined_on": ["31.02.2001"]}, "joined_on is no date"),
        ({"last_seen": ["x" * 280_000]}, "last_seen is no date"),
        ({"last_seen": [b"2001-02-03\xff"]}, "last_seen is no date"),
    ],
)
def test_requests_that_cannot_be_read_are_rejected_with_the_name_of_the_input(wrong, message, preprocessor):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        preprocessor.serve(blank(preprocessor, **wrong))


def test_long_and_invalid_texts_are_unknown_categories(preprocessor):
    for text in (b"x" * 280_000, b"\xff\x00\xfe", "\u202e".encode(), b"x" * 299):
        inputs = preprocessor.serve(blank(preprocessor, **{"class_": [text]}))[0]
        assert inputs["categories"].numpy()[0, 0] == 0


def test_broken_records_and_unequal_batches_are_rejected(preprocessor):
    good = record(examples=2)
    for broken in (good[:-2], b"\xff" * 40, b"not a record"):
        # TensorFlow quotes the record, and Python cannot always decode the message.
        with pytest.raises((tf.errors.InvalidArgumentError, UnicodeDecodeError), match=r"parse example|can't decode"):
            preprocessor.serve({"examples": tf.constant([good, broken])})
    requests = blank(preprocessor, 3)
    for name in requests:
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"Shapes of all inputs must match|numbers of rows"):
            preprocessor.serve({**requests, name: requests[name][:1]})


def test_many_rows_at_once(preprocessor):
    inputs = preprocessor.serve(blank(preprocessor, 100_000))[0]
    assert inputs["numbers"].shape[0] == inputs["categories"].shape[0] == 100_000
    assert not preprocessor.serve(blank(preprocessor, 0))[0]["numbers"].shape[0]


def test_a_preprocessor_survives_its_interface(tmp_path):
    data = loaded(tmp_path, 5, "value", scaling="quantile", min_count=2)
    prepared = data.prepare("mlp")
    prepared.interface.save(tmp_path / "interface")
    restored = Interface.load(tmp_path / "interface").preprocessor
    assert restored == prepared.preprocessor == get_preprocessor("table")(**prepared.preprocessor.config())
    batch = next(iter(data.test.batch(100)))
    same(restored.encode(batch)[0], prepared.preprocessor.encode(batch)[0])


def test_exported_categories_equal_those_in_memory(tmp_path, preprocessor):
    served, resources = preprocessor.for_export(tmp_path)
    requests = blank(preprocessor, 4, **{"class_": ["größer", "never", "", 'say "hi"'], "self_": ["u", "NA", "", "w"]})
    assert resources
    same(served.serve(requests)[0], preprocessor.serve(requests)[0])
    lines = (tmp_path / "categories.txt").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 + sum(size - 1 for size in preprocessor.category_sizes)


def test_generated_rows_are_valid_and_from_the_range_of_the_data(preprocessor):
    generated = preprocessor.generated(np.random.default_rng(0), 50)
    named = {name: tf.constant(values) for name, values in generated.items() if name != "examples"}
    same(preprocessor.serve(named)[0], preprocessor.serve({"examples": tf.constant(generated["examples"])})[0])
    hours = np.asarray(generated["hours_per_week_1"])
    numbers = preprocessor.groups[0]
    assert numbers.lows[0] <= hours.min() < hours.max() <= numbers.highs[0]
