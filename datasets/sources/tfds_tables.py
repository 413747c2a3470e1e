"""Tables of TensorFlow Datasets: builders whose examples are numbers, classes and words of one row."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.datasets.sources.labels import SPLIT_NAMES
from zoo.datasets.sources.names import TESTED, check_options
from zoo.errors import UsageError
from zoo.tables.frames import as_texts

if TYPE_CHECKING:
    from zoo.datasets.data import Data

_MOST_ELEMENTS = 1_000
"""A vector of more elements is no list of columns."""


def target_of(builder: Any) -> str | None:
    """Returns the column that a builder's table is about: its supervised target, or its only class label. None if its
    examples are no rows of a table, or it names no target."""
    import tensorflow_datasets as tfds

    leaves = dict(_leaves(builder.info.features))
    if not all(_is_cell(feature) for feature in leaves.values()):
        return None
    supervised = builder.info.supervised_keys
    if supervised and isinstance(supervised[-1], str) and supervised[-1] in leaves:
        return supervised[-1]
    classes = [name for name, feature in leaves.items() if type(feature) is tfds.features.ClassLabel]
    return classes[0] if len(classes) == 1 and len(leaves) > 1 else None


def _leaves(features: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the features by their names; nested ones have names such as `features/age`."""
    import tensorflow_datasets as tfds

    for name, feature in features.items() if isinstance(features, tfds.features.FeaturesDict) else ():
        if isinstance(feature, tfds.features.FeaturesDict):
            yield from _leaves(feature, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", feature


def _is_cell(feature: Any) -> bool:
    import tensorflow_datasets as tfds

    if type(feature) not in (tfds.features.Tensor, tfds.features.Scalar, tfds.features.ClassLabel, tfds.features.Text):
        return False
    shape = feature.shape
    return shape == () or (len(shape) == 1 and shape[0] is not None and shape[0] <= _MOST_ELEMENTS)


def load_table(
    builder: Any, target: str, name: str, memory_limit: int, places: Mapping[str, Any], options: Mapping[str, Any]
) -> Data:
    """Returns the table of a prepared builder. The splits are those of the builder; a missing one is cut from train.

    Args:
        builder: the builder. One of this package may have `table_options`, which apply where `options` has no value.
        target: see `target_of`. A class, a word or yes and no is a label; a number is a value.
        name: the name that `load` was called with.
        memory_limit: see `zoo.datasets.load`.
        places: the arguments that say where its files are.
        options: the options of tables of features, and `columns`.

    Raises:
        UsageError: it has no split named train, or as for a CSV file.
    """
    import pandas as pd

    from zoo.datasets.sources.table_rows import OPTIONS
    from zoo.datasets.sources.tables import read_table

    check_options(name, options, ["columns", *OPTIONS])
    roles = {split: SPLIT_NAMES[split] for split in builder.info.splits if split in SPLIT_NAMES}
    if "train" not in roles.values():
        held = ", ".join(builder.info.splits) or "none"
        raise UsageError(f"Data set {name!r} has the splits {held}; expected one named train. Choose another data set.")
    parts = {split: _frame(builder, split) for split in roles}
    if len(parts) > 1:
        parts = {split: part.assign(split=roles[split]) for split, part in parts.items()}
    frame = pd.concat(list(parts.values()), ignore_index=True)
    numeric = pd.api.types.is_numeric_dtype(frame[target]) and not pd.api.types.is_bool_dtype(frame[target])
    columns = options.get("columns") or {"value" if numeric else "label": target}
    info = builder.info
    data = read_table(
        as_texts(frame, name),
        Path(name),
        name,
        f"{info.homepage} (TensorFlow Datasets {info.full_name})",
        memory_limit,
        columns,
        {},
        options={k: v for k, v in {**getattr(builder, "table_options", {}), **options}.items() if k != "columns"},
    )
    licence = str(info.redistribution_info.license or "") or TESTED.get(name, data.licence)
    return dataclasses.replace(data, licence=licence, arguments={**places, **options})


def _frame(builder: Any, split: str) -> Any:
    """Returns a split as a DataFrame: a column per feature, or per element of a vector; classes by their names."""
    import pandas as pd
    import tensorflow_datasets as tfds

    read = tfds.ReadConfig(try_autocache=False, interleave_cycle_length=1)
    dataset = builder.as_dataset(split=split, shuffle_files=False, read_config=read)
    batches = list(dataset.batch(4096).as_numpy_iterator())
    columns: dict[str, Any] = {}
    for name, feature in _leaves(builder.info.features):
        parts = []
        for batch in batches:
            for key in name.split("/"):
                batch = batch[key]
            parts.append(batch)
        values = np.concatenate(parts)
        if type(feature) is tfds.features.ClassLabel:
            known = np.array([*feature.names, ""], object)  # -1 is no class
            columns[name] = pd.Categorical(known[np.where(values < 0, len(known) - 1, values)])
        elif values.ndim == 2:
            columns |= {f"{name}_{place}": values[:, place] for place in range(values.shape[1])}
        else:
            columns[name] = values
    return pd.DataFrame(columns)
