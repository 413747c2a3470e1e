"""Data sets as arrays, and images of random noise."""

from __future__ import annotations

from collections import Counter

import numpy as np
import tensorflow as tf

from source_examples import examples

SPLITS = ("train", "validation", "test")


def columns(dataset: tf.data.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Returns a batched data set as two arrays."""
    inputs, targets = zip(*dataset.as_numpy_iterator(), strict=True)
    return np.concatenate(inputs), np.concatenate(targets)


def multiset(images: np.ndarray, labels: np.ndarray) -> Counter:
    return Counter((image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True))


def raw(dataset: tf.data.Dataset) -> tuple[list[np.ndarray], np.ndarray]:
    held = examples(dataset)
    return [e["image"] for e in held], np.array([e["label"] for e in held])


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def scaled(images: np.ndarray) -> np.ndarray:
    return images.astype(np.float32) * np.float32(1 / 255)
