"""JSON values of requests as arrays."""

from __future__ import annotations

import functools
import tracemalloc

import numpy as np
import pytest
import tensorflow as tf

from zoo.export.serving import values
from zoo.export.serving.protocols.exchange import completed
from zoo.export.serving.refusals import Refused
from zoo.export.serving.version import SignatureInfo

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


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_defaults_have_a_row_for_each_example(rows):
    specs = {
        "text": tf.TensorSpec([None], tf.string),
        "stop": tf.TensorSpec([None, None], tf.string),
        "seed": tf.TensorSpec([None], tf.int64),
    }
    inputs = {name: values.Input(spec, False, "text") for name, spec in specs.items()}
    info = SignatureInfo(inputs, {}, True, True, {}, {}, {}, {"stop": [""], "seed": 7})
    found = completed({"text": np.full(rows, "a", object)}, info)
    assert found["stop"].tolist() == [[""]] * rows and found["stop"].shape == (rows, 1)
    assert found["seed"].tolist() == [7] * rows and found["seed"].dtype == np.int64
