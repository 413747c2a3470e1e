"""Checks of requests inside the graph: rejects invalid shapes and numbers with a clear message."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import tensorflow as tf

MOST_ROWS = 1 << 13
"""Most examples in a request of texts or ids. A megabyte holds 300,000 short ones, whose outputs take gigabytes and many
seconds. Numbers take as many bytes in the request as in the model, so they are not limited."""
MOST_STEPS = 1 << 12
"""Most row numbers, such as token ids, in an example, unless the preprocessor itself makes longer ones. Attention takes time
and memory for every pair of them."""
FEWEST_ROWS = 1 << 10
"""So many examples are never too many."""


def few_rows(inputs: Mapping[str, tf.Tensor], most: Any) -> dict[str, tf.Tensor]:
    """Returns model inputs, after checking in the graph that they have at most `most` rows or `FEWEST_ROWS`.

    Example:
        >>> few_rows({"x": tf.zeros([3, 2])}, 32)["x"].shape
        TensorShape([3, 2])
    """
    rows = tf.shape(next(iter(inputs.values())))[0]
    many = (
        f"the request has more examples of this length than fit in its time and memory; send fewer at once, {FEWEST_ROWS:,} "
        "are always accepted"
    )
    with tf.control_dependencies([tf.debugging.Assert(rows <= tf.maximum(FEWEST_ROWS, most), [many])]):
        return {name: tf.identity(value) for name, value in inputs.items()}


def checked(
    request: Mapping[str, tf.Tensor],
    row_numbers: bool = True,
    most_steps: int = MOST_STEPS,
    with_defaults: Collection[str] = (),
) -> dict[str, tf.Tensor]:
    """Returns the inputs of a signature after checking their shapes and values in the graph.

    Runtimes compare types with the signature, but not always shapes. Some kernels report an empty batch as an error about
    primitives, and a sequence without steps as an error about empty lists. Embeddings silently read -1 as the last row.

    Args:
        request: the inputs by name, with the shapes of the signature, batch first.
        row_numbers: whether the request belongs to a preprocessor of this package: integers are row numbers of tables, so
            none is below 0, and the number of texts is limited. False for the inputs of a Keras model as it is.
        most_steps: most row numbers in an example.
        with_defaults: names of inputs that a request may leave out. A single row of them, such as the default, is that of
            every example.

    Raises:
        InvalidArgumentError: at run time: another rank or dimension, an empty batch, more than `MOST_ROWS` rows, no steps or
            too many, inputs with different numbers of rows, or an integer below 0.

    Example:
        >>> checked({"token_ids": tf.constant([[2, 3, 0]])})["token_ids"].shape
        TensorShape([1, 3])
    """
    values = {name: tf.ensure_shape(value, value.shape) for name, value in request.items()}
    first = next((name for name in values if name not in with_defaults), next(iter(values)))
    values = {n: _each_row(v, tf.shape(values[first])[0]) if n in with_defaults else v for n, v in values.items()}
    rows = {name: tf.shape(value)[0] for name, value in values.items()}
    checks = [tf.debugging.Assert(rows[first] > 0, [f"{first} is an empty batch; expected at least one example"])]
    if row_numbers and any(value.dtype == tf.string for value in values.values()):
        many = f"{first} has too many examples; expected at most {MOST_ROWS:,} in a request. Send fewer at once"
        checks.append(tf.debugging.Assert(rows[first] <= MOST_ROWS, [many]))
    for name, value in values.items():
        if name != first:
            unequal = f"{first} and {name} have different numbers of rows; expected as many of each"
            checks.append(tf.debugging.Assert(tf.equal(rows[name], rows[first]), [unequal]))
        if None in value.shape[1:]:
            none = f"{name} has no steps; expected at least one"
            checks.append(tf.debugging.Assert(tf.reduce_all(tf.shape(value)[1:] > 0), [none]))
        if row_numbers and value.dtype.is_integer:
            if value.shape.rank > 1 and value.shape[1] is None:
                long = f"{name} has too many steps; expected at most {most_steps:,}. Send shorter examples"
                checks.append(tf.debugging.Assert(tf.shape(value)[1] <= most_steps, [long]))
            negative = f"{name} holds a number below 0; expected row numbers, which count from 0"
            checks.append(tf.debugging.Assert(tf.reduce_all(value >= 0), [negative]))
    with tf.control_dependencies(checks):
        return {name: tf.identity(value) for name, value in values.items()}


def _each_row(value: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """Returns a single row `rows` times; several rows as they are."""
    times = tf.where(tf.equal(tf.shape(value)[0], 1), rows, 1)
    return tf.ensure_shape(tf.tile(value, [times, *[1] * (value.shape.rank - 1)]), value.shape)


def limits(preprocessor: Any, predict: Any) -> list[str]:
    """Returns how large a request may be, as sentences for the model card.

    Args:
        preprocessor: the run's preprocessor.
        predict: the traced signature `predict`.
    """
    if not getattr(preprocessor, "row_numbers", True):
        return []
    texts = any(request.dtype == "string" for request in preprocessor.requests.values())
    first = (
        [f"A request of more than {MOST_ROWS:,} examples is rejected, except for numbers to `predict`."]
        if texts
        else []
    )
    specs = predict.structured_input_signature[1].values()
    steps = any(spec.dtype.is_integer and spec.shape.rank > 1 and spec.shape[1] is None for spec in specs)
    return [
        *first,
        *[
            f"`predict` rejects examples of more than {MOST_STEPS:,} steps or token ids, unless the data has longer ones."
        ]
        * steps,
        f"A request of more than {FEWEST_ROWS:,} long examples may be rejected if the model is large: send fewer at once.",
    ]
