"""Mirrored images are used for training only if the validation images keep their classes."""

from __future__ import annotations

import dataclasses

import numpy as np

import zoo
from zoo.datasets.preprocessing.mirroring import compare_mirrored


def bars(shift, count=480):
    """Images with a bright bar: of class 0 at the left or above the center, of class 1 at the right or below it."""
    random = np.random.default_rng(0)
    x, y = random.integers(0, 60, (count, 12, 12, 1)).astype(np.uint8), random.integers(0, 2, count)
    for image, label in zip(x, y, strict=True):
        (image if shift == "down" else image.swapaxes(0, 1))[3 + 5 * label] += 150
    return x, y


def test_mirrored_images_that_keep_their_classes_are_used():
    x, y = bars("down")
    prepared = zoo.datasets.load((x, y)).prepare("resnet_small")
    assert prepared.complete().augmentation == ["flip", "crop"]
    (note,) = prepared.preprocessor.choices.notes
    assert note == (
        "An SVM on pixels has accuracy 1.0000 on mirrored validation images, 1.0000 on the others: mirrored images may be "
        "used for training"
    ), "SVC of scikit-learn cannot miss bars"
    assert prepared.complete({"augmentation": []}).augmentation == []


def test_mirrored_images_of_other_classes_are_not_used():
    prepared = zoo.datasets.load(bars("right")).prepare("resnet_small")
    assert prepared.complete().augmentation == ["crop"]
    assert prepared.preprocessor.choices.notes[0].endswith(
        "1.0000 on the others: mirrored images are not used for training"
    )
    found = compare_mirrored(zoo.datasets.load("digits"))
    assert found is not None and found.accuracy > 0.9 and found.mirrored < 0.5 and not found.keeps


def test_nothing_is_concluded_from_few_images_or_from_noise():
    x, y = bars("down", 60)
    data = zoo.datasets.load((x, y))
    assert data.splits["validation"].num_examples < 30 and compare_mirrored(data) is None
    assert data.prepare("resnet_small").complete().augmentation == ["crop"]
    noise = np.random.default_rng(1).integers(0, 256, (400, 6, 6, 1)).astype(np.uint8)
    found = compare_mirrored(zoo.datasets.load((noise, np.arange(400) % 2)))
    assert found is not None and not found.keeps, "the method recognises nothing"


def test_many_images_are_not_augmented():
    data = zoo.datasets.load(bars("down"))
    split = data.splits["train"]
    many = dataclasses.replace(data, splits={**data.splits, "train": dataclasses.replace(split, num_examples=10_000)})
    prepared = many.prepare("resnet_small")
    assert prepared.preprocessor.choices.facts == {} and prepared.complete().augmentation == []
