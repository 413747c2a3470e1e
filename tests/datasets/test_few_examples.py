"""`examples_per_class`: a few examples of each class for training and validation."""

from __future__ import annotations

import numpy as np
import pytest

import zoo


def labels(data, split: str) -> np.ndarray:
    return np.fromiter(data.splits[split].column("label").as_numpy_iterator(), np.int64)


def test_training_and_validation_keep_some_of_each_class():
    whole, few = zoo.datasets.load("digits"), zoo.datasets.load("digits", examples_per_class=5)
    assert (
        few.splits["train"].num_examples == 50 and few.splits["test"].num_examples == whole.splits["test"].num_examples
    )
    for split in ("train", "validation"):
        assert np.bincount(labels(few, split)).tolist() == [5] * 10
    images = [
        {example["image"].tobytes() for example in d.splits["train"].dataset().as_numpy_iterator()}
        for d in (few, whole)
    ]
    assert images[0] < images[1]
    assert few.arguments["examples_per_class"] == 5, "config.yaml records it"


def test_the_same_examples_are_drawn_again():
    first, second = (zoo.datasets.load("digits", examples_per_class=3) for _ in range(2))
    for a, b in zip(*(d.splits["train"].dataset().as_numpy_iterator() for d in (first, second)), strict=True):
        np.testing.assert_array_equal(a["image"], b["image"])


def test_invalid_numbers_and_data_without_classes_are_rejected():
    with pytest.raises(
        zoo.UsageError, match=r"^examples_per_class is 0; expected a whole number of at least 1\. Pass 20"
    ):
        zoo.datasets.load("digits", examples_per_class=0)
    with pytest.raises(
        zoo.UsageError, match=r"needs data with one label per example; .* Leave examples_per_class out\.$"
    ):
        zoo.datasets.load("diabetes", examples_per_class=5)
