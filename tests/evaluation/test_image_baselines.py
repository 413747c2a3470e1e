"""The baselines of images, compared with scikit-learn on the same pixels."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

import zoo
from zoo.evaluation.baselines import chosen_baselines, read_columns
from zoo.pixels import as_row

LINEAR, SVM = "logistic regression on pixels", "SVM on pixels"


@pytest.fixture(scope="module")
def digits():
    return zoo.datasets.load("digits")


def rows_of(split):
    found = list(split.dataset().as_numpy_iterator())
    return np.float64([row["image"].ravel() for row in found]), np.array([row["label"] for row in found])


def columns(data):
    return (read_columns(data.splits[name], None, as_row) for name in ("train", "test"))


def test_classifiers_of_pixels_equal_scikit_learn(digits):
    (x, y), (others, want) = rows_of(digits.splits["train"]), rows_of(digits.splits["test"])
    theirs = {
        LINEAR: make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1_000)),
        SVM: make_pipeline(StandardScaler(with_std=False), SVC(C=10)),
    }
    for name, model in theirs.items():
        found = chosen_baselines(name)[name].predict(*columns(digits), digits)["probabilities"]
        np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
        accuracy = accuracy_score(want, model.fit(x, y).predict(others))
        assert abs((found.argmax(axis=1) == want).mean() - accuracy) < 0.003 and accuracy > 0.93


def test_two_classes_have_the_order_of_the_labels():
    images = np.zeros((60, 4, 4, 1), np.uint8)
    images[::3] = 250
    data = zoo.datasets.from_arrays(
        images + np.arange(60, dtype=np.uint8).reshape(-1, 1, 1, 1) % 5, np.arange(60) % 3 == 0
    )
    train, test = columns(data)
    for name in (LINEAR, SVM):
        found = chosen_baselines(name)[name].predict(train, test, data)["probabilities"]
        assert (found.argmax(axis=1) == test["label"]).all()


def test_large_images_are_reduced_to_the_means_of_their_pixels():
    image = np.random.default_rng(0).integers(0, 256, (56, 84, 3)).astype(np.uint8)
    small = as_row({"image": image_tensor(image), "label": 1})
    want = image.reshape(28, 2, 28, 3, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(small["image"].numpy().reshape(28, 28, 3), want, atol=0.51)
    assert small["image"].dtype == "uint8" and small["label"] == 1
    grey = tf.data.Dataset.from_generator(  # grey and coloured images of several sizes
        lambda: iter([image, image[:20, :30, :1]]), output_signature=tf.TensorSpec((None, None, None), tf.uint8)
    )
    coloured, one = (row["image"].numpy() for row in grey.map(lambda image: as_row({"image": image})))
    assert len(coloured) == len(one) == 28 * 28 * 3 and np.ptp(one.reshape(-1, 3), axis=1).max() == 0
    same = as_row({"image": image_tensor(image[:8, :8])})
    np.testing.assert_array_equal(same["image"].numpy(), image[:8, :8].ravel())


def image_tensor(image):
    return tf.constant(image)


def test_values_and_labels_of_images_have_baselines():
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (300, 6, 6, 1)).astype(np.uint8)
    light = images.mean(axis=(1, 2, 3))
    values = zoo.datasets.from_arrays(images, light[:, None].astype(np.float32), task="image_regression")
    train, test = columns(values)
    found = chosen_baselines("ridge regression on pixels")["ridge regression on pixels"].predict(train, test, values)
    np.testing.assert_allclose(found["values"], test["value"].reshape(-1, 1), rtol=0.02)

    flags = np.stack([images[:, 0, 0, 0] > 127, images[:, 5, 5, 0] > 127], axis=1).astype(np.float32)
    several = zoo.datasets.from_arrays(images, flags, class_names=["first", "last"], task="image_multilabel")
    train, test = columns(several)
    found = chosen_baselines(LINEAR)[LINEAR].predict(train, test, several)
    assert ((found["probabilities"] > 0.5) == test["labels"]).mean() > 0.85 and len(found["thresholds"]) == 2
    assert not chosen_baselines(SVM)[SVM].applies(several)
