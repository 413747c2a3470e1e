"""Examples that belong to none of the classes of a data set: never trained on, scored in the report."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from zoo.datasets.data import Data
from zoo.datasets.raw import OF_SPLITS, Split, joined
from zoo.datasets.sources.splitting import is_undivided
from zoo.errors import UsageError, did_you_mean
from zoo.tasks import get_task

_KEY = "label"


def unlabelled(split: Split) -> Split:
    """Returns a split whose label is 0, for examples that have none of the classes."""
    return split.map(lambda example: {**example, _KEY: tf.zeros_like(example[_KEY])})


def without_class(data: Data, label: str) -> Data:
    """Returns a data set in which the examples of one class are out of scope.

    Those of the training split are scored with the test split: nothing is trained on them.

    Args:
        data: a data set with one label per example.
        label: the name of the class.

    Raises:
        UsageError: the data has no such class, no classes, or fewer than two others; or all examples of a split have it.

    Example:
        >>> data = without_class(zoo.datasets.load("digits"), "7")
        >>> len(data.class_names), data.out_of_scope["test"].num_examples > 0
        (9, True)
    """
    if any(get_task(task).abstain is None for task in data.tasks):
        raise UsageError(
            f"out_of_scope={label!r} needs data with one label per example; data set {data.name!r} is for "
            f"{', '.join(data.tasks)}. Leave out_of_scope out."
        )
    if is_undivided() and label not in data.class_names:
        return data  # other examples for a finished run, none of which is out of scope
    if label not in data.class_names:
        raise UsageError(
            f"Data set {data.name!r} has no label {label!r} for out_of_scope. {did_you_mean(label, data.class_names)}"
        )
    if data.out_of_scope:
        raise UsageError(f"Data set {data.name!r} has out-of-scope examples of its own. Leave out_of_scope out.")
    if len(data.class_names) < 3 and not is_undivided():
        raise UsageError(
            f"Data set {data.name!r} has the labels {', '.join(data.class_names)}; without {label!r}, one is left, and a "
            "classifier needs two. Leave out_of_scope out."
        )
    number = data.class_names.index(label)
    labels = {name: np.fromiter(part.column(_KEY).as_numpy_iterator(), np.int64) for name, part in data.splits.items()}
    for name, held in labels.items():
        if (held == number).all() and not is_undivided():
            raise UsageError(
                f"All {len(held):,} examples of the split {name} of data set {data.name!r} have the label {label!r}. Pass "
                "other splits, or leave out_of_scope out."
            )

    def inside(example: dict[str, Any]) -> dict[str, Any]:
        held = example[_KEY]
        return {**example, _KEY: held - tf.cast(held > number, held.dtype)}

    kept = {name: _chosen(part, labels[name] != number, inside) for name, part in data.splits.items()}
    found = {
        name: unlabelled(_chosen(part, labels[name] == number, dict))
        for name, part in data.splits.items()
        if (labels[name] == number).any()
    }
    if (unused := found.pop("train", None)) is not None:
        found["test"] = joined([found["test"], unused]) if "test" in found else unused
    return dataclasses.replace(
        data,
        splits=kept,
        class_names=tuple(name for name in data.class_names if name != label),
        arguments={**data.arguments, "out_of_scope": label},
        about=_about(data, np.concatenate([held != number for held in labels.values()])),
        out_of_scope=found,
    )


def _about(data: Data, kept: np.ndarray) -> dict[str, Any]:
    """Returns the metadata without the counts of classes, and with the groups of the examples that are kept, in order."""
    about = {key: value for key, value in data.about.items() if key == "groups" or key not in OF_SPLITS}
    if "groups" in about:
        about["groups"] = [group for group, keep in zip(about["groups"], kept, strict=True) if keep]
    return about


def _chosen(split: Split, wanted: np.ndarray, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Split:
    """Returns the examples of a split that are wanted, in their order, each changed."""

    def changed(example: dict[str, Any]) -> dict[str, Any]:
        return change(example) if _KEY in example else example

    picked = split.pick(np.flatnonzero(wanted))
    if split.content is None or picked.content is None:
        return picked.map(changed)
    content = picked.content
    return picked.map(changed, lambda: content().map(changed))
