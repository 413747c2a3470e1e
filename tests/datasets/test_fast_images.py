"""Resizing, mirroring and shifting give the bits of TensorFlow's and Keras's own functions."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from dataset_arrays import noise
from zoo.datasets.preprocessing.resizing import resized
from zoo.training.augmentation import augment, augment_share
from zoo.training.image_draws import Draws, mix_seed, moved


def test_resized_images_have_the_bits_of_tensorflow():
    generator = np.random.default_rng(0)
    sizes = [(2, 375, 500, 3, 224, 224), (1, 1, 9, 4, 5, 1)]
    sizes += [
        (*generator.integers(1, 4, 1), *generator.integers(1, 70, 2), 3, *generator.integers(1, 70, 2))
        for _ in range(20)
    ]
    for number, size in enumerate(sizes):
        *shape, height, width = (int(n) for n in size)
        images = tf.constant(noise(*shape, seed=number))
        for raw in (images, tf.cast(images, tf.float32)):
            expected = tf.image.resize(raw, (height, width), antialias=True)
            np.testing.assert_array_equal(resized(raw, height, width), expected)


@pytest.mark.parametrize("shape", [(8, 12, 17, 3), (5, 2, 2, 1), (4, 1, 3, 1), (6, 64, 40, 3)])
def test_moved_images_have_the_pixels_of_keras(shape):
    count, height, width, _ = shape
    images = tf.constant(np.random.default_rng(0).random(shape), tf.float32)
    key = tf.constant([3, 9])
    fixed = {"seed": 0, "dtype": "float32", "data_format": "channels_last"}
    flips = keras.layers.RandomFlip("horizontal", **fixed)
    most = [min(max(1, round(size / 8)), size - 1) for size in (width, height)]
    shifts = keras.layers.RandomTranslation(
        (most[1] + 0.5) / height, (most[0] + 0.5) / width, fill_mode="constant", interpolation="nearest", **fixed
    )

    def mirrored(images):
        how = flips.get_random_transformation(images, seed=Draws(mix_seed(key, 0)))
        return flips.transform_images(images, how)

    def shifted(images):
        how = shifts.get_random_transformation(images, seed=Draws(mix_seed(key, 1)))
        limit = tf.constant(most, tf.float32)
        pixels = tf.clip_by_value(tf.round(how["translations"]), -limit, limit)
        return shifts.transform_images(images, {**how, "translations": pixels})

    def ours(*names):
        keys = {"flip": 0, "crop": 1}
        return moved(images, (height, width), {name: Draws(mix_seed(key, keys[name]), count) for name in names})

    np.testing.assert_array_equal(ours("flip"), mirrored(images))
    np.testing.assert_array_equal(ours("crop"), shifted(images))
    np.testing.assert_array_equal(ours("flip", "crop"), shifted(mirrored(images)))
    np.testing.assert_array_equal(ours("crop", "flip"), mirrored(shifted(images)))


def test_shares_of_batches_are_augmented_as_in_the_whole_batch():
    images = np.random.default_rng(0).random((9, 16, 16, 3)).astype("float32")
    labels = np.arange(9)
    position = {"seed": 5, "epoch": 2, "start": 3}
    batch = {"image": images}, {"label": labels}, {}
    whole = augment(tf.data.Dataset.from_tensors(batch), ["flip", "crop"], num_classes=9, **position)
    (expected, _, _) = next(whole.as_numpy_iterator())
    places = np.array([4, 5, 8], np.int32)
    share = ({"image": images[places]}, {"label": labels[places]}, {}), (places, np.ones(3, np.float32), np.int32(9))
    rows = augment_share(tf.data.Dataset.from_tensors(share), ["flip", "crop"], **position)
    ((inputs, targets, _), _) = next(rows.as_numpy_iterator())
    np.testing.assert_array_equal(inputs["image"], expected["image"][places])
    np.testing.assert_array_equal(targets["label"], places)
