"""Targets of models: classes and labels unchanged, values in standard deviations of the training split and back."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf

import zoo
from zoo.datasets.preprocessing.images import ImagePreprocessor
from zoo.datasets.preprocessing.targets import Targets
from zoo.datasets.preprocessing.text import TextPreprocessor
from zoo.datasets.preprocessing.wordpiece import WordPiecePreprocessor
from zoo.datasets.sources.in_memory import features_of, split_of
from zoo.errors import UsageError
from zoo.tasks.registry import TASKS

VALUES = np.float32([[100, -3], [250, 4], [900, 0.5], [50, 2]])


@pytest.fixture(autouse=True)
def tasks():
    """Registers two tasks whose targets are labels and values."""
    base = zoo.tasks.get_task("image_classification")
    for name, target in (("of_labels", "labels"), ("of_values", "value")):
        zoo.register_task(dataclasses.replace(base, name=name, targets=(target,)))
    yield
    for name in ("of_labels", "of_values"):
        del TASKS.entries[name]


def data_of(task: str, columns: dict, **about) -> zoo.datasets.Data:
    """Returns a data set whose training split has these columns."""
    split = split_of(columns)
    return zoo.datasets.Data(
        name="mine",
        arguments={},
        tasks=(task,),
        splits={"train": split, "test": split},
        features=features_of(split),
        class_names=(),
        licence="none",
        source="none",
        about=about,
    )


@pytest.mark.parametrize("log", [False, True])
def test_values_are_standardised_and_come_back_in_their_own_unit(log):
    values = VALUES[:, :1] if log else VALUES
    targets = Targets.fit(
        data_of("of_values", {"value": values}, value_names=["price", "area"][: values.shape[1]], log_values=log)
    )
    exact = np.log1p(values.astype(np.float64)) if log else values.astype(np.float64)
    expected = (exact - exact.mean(axis=0)) / exact.std(axis=0)
    encoded = targets.encode({"value": tf.constant(values)})
    assert list(encoded) == ["value"] and encoded["value"].dtype == tf.float32
    np.testing.assert_allclose(encoded["value"], expected, atol=1e-5)
    restored = Targets(**json.loads(json.dumps(targets.config())))
    assert restored == targets
    for back in (restored.unscale(encoded["value"]).numpy(), restored.unscale(encoded["value"].numpy())):
        assert back.dtype == np.float32
        np.testing.assert_allclose(back, values, rtol=1e-5, atol=1e-5)
    assert targets.arguments == {"num_classes": values.shape[1]}


def test_values_without_names_are_numbered():
    assert Targets.fit(data_of("of_values", {"value": VALUES})).value_names == ("value 1", "value 2")


@pytest.mark.parametrize(
    ("task", "key", "column"),
    [("image_classification", "label", np.array([2, 0])), ("of_labels", "labels", np.float32([[1, 0, 1], [0, 0, 0]]))],
)
def test_classes_and_labels_pass_unchanged(task, key, column):
    targets = Targets.fit(data_of(task, {key: column}))
    (name, encoded), *others = targets.encode({key: tf.constant(column)}).items()
    assert (name, others, targets.arguments) == (key, [], {})
    assert encoded.dtype == column.dtype
    np.testing.assert_array_equal(encoded, column)
    np.testing.assert_array_equal(targets.unscale(column), column)
    assert Targets(**targets.config()) == targets


@pytest.mark.parametrize(
    "preprocessor",
    [
        ImagePreprocessor(8, 8, 1),
        TextPreprocessor(("a", "b"), 4),
        WordPiecePreprocessor(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "a"), 8),
    ],
    ids=lambda preprocessor: preprocessor.kind,
)
def test_a_preprocessor_of_classes_is_saved_as_before(preprocessor):
    assert "targets" not in preprocessor.config()
    assert type(preprocessor)(**preprocessor.config()) == preprocessor
    other = dataclasses.replace(preprocessor, targets=Targets("value", ("price",), (1.0,), (2.0,), True))
    assert type(preprocessor)(**json.loads(json.dumps(other.config()))) == other != preprocessor


@pytest.mark.parametrize(
    ("values", "about", "message"),
    [
        ([[1.0], [1.0]], {}, "price is 1 in all training examples of mine.*Choose another column"),
        ([[1.0], [-0.5]], {"log_values": True}, "mine has a price of -0.5; log_values takes none below 0. Leave"),
        ([[1.0], [np.nan]], {}, "mine has a price that is not a finite number. Correct it"),
    ],
)
def test_values_that_cannot_be_learned_are_rejected(values, about, message):
    with pytest.raises(UsageError, match=message):
        Targets.fit(data_of("of_values", {"value": np.float32(values)}, value_names=["price"], **about))
