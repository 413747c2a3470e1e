"""Attention with a custom gradient, compared with NumPy and with TensorFlow's gradient of the plain formula."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from zoo.layers import dot_product

BATCH, HEADS, STEPS, KEYS, DIM = 3, 2, 5, 7, 4
rng = np.random.default_rng(0)
QUERIES, KEY, VALUES = (rng.normal(size=(BATCH, HEADS, n, DIM)) for n in (STEPS, KEYS, KEYS))
PADDED = (np.arange(KEYS) < np.array([[7], [3], [1]]))[:, None, None]
CAUSAL = np.tril(np.ones((STEPS, KEYS), bool), 2)[None, None]
every_mask = pytest.mark.parametrize(
    "mask", [None, PADDED, CAUSAL, PADDED & CAUSAL], ids=["all", "padded", "causal", "both"]
)


def plain(q, k, v, mask):
    scores = tf.matmul(q, k, transpose_b=True) / DIM**0.5
    if mask is not None:
        scores = tf.where(mask, scores, tf.constant(-np.inf, scores.dtype))
    return tf.matmul(tf.nn.softmax(scores), v)


@every_mask
@pytest.mark.parametrize("training", [False, True])
def test_values_and_gradients_equal_the_plain_formula(mask, training):
    results = []
    for function in (lambda *a: dot_product.attend(*a, training), plain):
        sources = [tf.constant(a) for a in (QUERIES, KEY, VALUES)]
        with tf.GradientTape() as tape:
            tape.watch(sources)
            read = function(*sources, None if mask is None else tf.constant(mask))
            total = tf.reduce_sum(tf.sin(3 * read) * read)
        results.append([read, *tape.gradient(total, sources)])
    for found, expected in zip(*results, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_masked_values_have_no_effect():
    read = dot_product.attend(QUERIES, KEY, VALUES, tf.constant(PADDED))
    changed = np.where(PADDED[:, :, 0, :, None], VALUES, 1e30)
    np.testing.assert_array_equal(dot_product.attend(QUERIES, KEY, changed, tf.constant(PADDED)), read)
    np.testing.assert_allclose(read[2], np.broadcast_to(VALUES[2, :, :1], read[2].shape))  # only one key is readable


def test_a_fully_masked_query_attends_uniformly():
    nothing = tf.zeros((BATCH, 1, 1, KEYS), tf.bool)
    read = dot_product.attend(*(tf.cast(a, tf.float32) for a in (QUERIES, KEY, VALUES)), nothing, True)
    np.testing.assert_allclose(read, np.broadcast_to(VALUES.mean(2, keepdims=True), read.shape), atol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_close(dtype):
    read = dot_product.attend(*(tf.cast(a, dtype) for a in (QUERIES, KEY, VALUES)), tf.constant(PADDED), True)
    assert read.dtype == dtype
    np.testing.assert_allclose(tf.cast(read, tf.float64), plain(QUERIES, KEY, VALUES, PADDED), atol=0.05)


def test_second_gradients_raise_in_training():
    q = tf.constant(QUERIES)
    with tf.GradientTape() as outer:
        outer.watch(q)
        with tf.GradientTape() as inner:
            inner.watch(q)
            total = tf.reduce_sum(dot_product.attend(q, KEY, VALUES, None, True) ** 2)
        slope = tf.reduce_sum(inner.gradient(total, q) ** 2)
    with pytest.raises(NotImplementedError, match=r"Call it with training=False\.$"):
        outer.gradient(slope, q)
