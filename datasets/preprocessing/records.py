"""Rows of a table as serialized `tf.Example` records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from zoo.datasets.preprocessing.base import object_array
from zoo.datasets.preprocessing.columns import Columns, Numbers

_NO_NUMBER = np.iinfo(np.int64).min


def parsed(records: tf.Tensor, groups: Sequence[Columns]) -> dict[str, tf.Tensor]:
    """Reads `tf.Example` records: whole numbers as int64, other numbers as float, all else as bytes.

    Args:
        records: string (batch,).
        groups: the columns. A key is the name of a column, or of its input.

    Returns:
        The inputs of the columns, (batch,) each.

    Raises:
        InvalidArgumentError: at run time: no record, a value of another type, or a record without a value of any column.
    """
    features: dict[str, Any] = {}
    columns = {key: name for group in groups for key, name in zip(group.inputs, group.names, strict=True)}
    for group in groups:
        for place, key in enumerate(group.inputs):
            whole = isinstance(group, Numbers) and place in group.whole
            of_numbers = (tf.int64, _NO_NUMBER) if whole else (tf.float32, float("nan"))
            feature = tf.io.FixedLenFeature((), *(of_numbers if isinstance(group, Numbers) else (tf.string, "")))
            features[columns[key]] = feature
            if key not in columns.values():  # clients may use the name of the input as well
                features[key] = feature
    found = {name: _plain(values) for name, values in tf.io.parse_example(records, features).items()}
    lacking = {
        name: (values == "") if values.dtype == tf.string else tf.math.is_nan(values) for name, values in found.items()
    }
    empty = tf.reduce_all(tf.stack(list(lacking.values())), axis=0)
    row = tf.strings.as_string(tf.concat([tf.where(empty)[:, 0], [0]], axis=0)[0])
    shown = ", ".join(list(columns.values())[:_MOST_SHOWN]) + ", ..." * (len(columns) > _MOST_SHOWN)
    message = tf.strings.join(
        ["examples, row ", row, f": no value of any column. Send a tf.Example with the keys {shown}."]
    )
    with tf.control_dependencies([tf.debugging.Assert(~tf.reduce_any(empty), [message])]):
        return {
            key: tf.where(lacking[name], found[key], found[name]) if key in found else tf.identity(found[name])
            for key, name in columns.items()
        }


def serialized(requests: Mapping[str, Any], groups: Sequence[Columns]) -> np.ndarray:
    """Returns one input per column as serialized `tf.Example` records, without the missing values."""
    whole = {group.names[place] for group in groups if isinstance(group, Numbers) for place in group.whole}
    keys = {key: name for group in groups for key, name in zip(group.inputs, group.names, strict=True)}

    def feature(name: str, value: Any) -> tf.train.Feature | None:
        if isinstance(value, bytes):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value])) if value else None
        if np.isnan(value):
            return None
        if name in whole:
            return tf.train.Feature(int64_list=tf.train.Int64List(value=[int(value)]))
        return tf.train.Feature(float_list=tf.train.FloatList(value=[float(value)]))

    records = []
    for row in zip(*requests.values(), strict=True):
        features = {keys[key]: feature(keys[key], value) for key, value in zip(requests, row, strict=True)}
        held = {name: value for name, value in features.items() if value is not None}
        records.append(tf.train.Example(features=tf.train.Features(feature=held)).SerializeToString(deterministic=True))
    return object_array(records)


def _plain(values: tf.Tensor) -> tf.Tensor:
    """Turns whole numbers into float32, with NaN for missing ones."""
    if values.dtype != tf.int64:
        return values
    return tf.where(values == _NO_NUMBER, float("nan"), tf.cast(values, tf.float32))


_MOST_SHOWN = 8


def keys(groups: Sequence[Columns]) -> str:
    """Returns the keys of a record by type, as text."""
    whole = [name for g in groups if isinstance(g, Numbers) for i, name in enumerate(g.names) if i in g.whole]
    floats = [name for g in groups if isinstance(g, Numbers) for i, name in enumerate(g.names) if i not in g.whole]
    others = [name for group in groups if not isinstance(group, Numbers) for name in group.names]
    types = {"int64": whole, "float": floats, "bytes": others}
    return "; ".join(f"{kind}: {', '.join(names)}" for kind, names in types.items() if names)
