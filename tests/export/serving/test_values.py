"""JSON values of requests as arrays."""

from __future__ import annotations

import functools
import tracemalloc

import pytest
import tensorflow as tf

from zoo.export.serving import values
from zoo.export.serving.refusals import Refused

NESTED = functools.reduce(lambda inner, _: [inner], range(70), "a")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([[["a"] * 300, *["a"] * 299], *["a"] * 299], "text has lists of different lengths"),
        (NESTED, "text is nested 70 times. Send a text"),
    ],
)
def test_lists_of_unlike_depth_take_no_memory(value, message):
    given = values.Input(tf.TensorSpec([None], tf.string), False, "text")
    tracemalloc.start()
    try:
        with pytest.raises(Refused, match=message):
            values._strings(value, "text", given)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("value", [[False, 0, 1], [[1.5, 2.0], [1.0, True]]])
def test_booleans_among_numbers_are_rejected(value):
    given = values.Input(tf.TensorSpec([None] * (1 + isinstance(value[0], list)), tf.float32), False, "number")
    with pytest.raises(Refused, match=r"x is .*; expected .*float32.* Send JSON numbers"):
        values.array(value, "x", given, batch=True)
