"""Cross-validation with k folds: every example is in the test split once. It is for small data sets."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from zoo.datasets.data import Data
from zoo.datasets.raw import OF_SPLITS, SPLITS, joined
from zoo.datasets.sources.labels import rarest
from zoo.datasets.sources.splitting import deal, digest
from zoo.errors import UsageError
from zoo.tasks import get_task


def take_fold(data: Data, folds: int, fold: int) -> Data:
    """Joins the splits of a data set, divides all examples into folds, and makes one fold the test split.

    Equal inputs, or groups if the data has them, stay together, and classes are spread evenly. The SHA-256 of the inputs or
    groups decides the rest, so the same data always gives the same folds. Fold number `fold` is the test split. A tenth of
    the other examples is the validation split.

    Args:
        data: a loaded data set.
        folds: number of folds, at least 2.
        fold: number of the fold that is the test split, from 0.

    Returns:
        A data set with other splits, and `folds` and `fold` among its arguments.

    Raises:
        UsageError: a number is out of range, the task splits its data by time, or there are too few examples.

    Example:
        >>> take_fold(zoo.datasets.load("digits"), folds=5, fold=0).splits["test"].num_examples
        360
    """
    if isinstance(folds, bool) or not isinstance(folds, int) or folds < 2:
        raise UsageError(f"folds is {folds!r}; expected a whole number of at least 2. Pass folds=5, say.")
    if isinstance(fold, bool) or not isinstance(fold, int) or not 0 <= fold < folds:
        raise UsageError(f"fold is {fold!r}; expected 0 to {folds - 1}. Pass fold=0 for the first.")
    if "split_by_time" in data.about or any(get_task(name).follows_time for name in data.tasks):
        raise UsageError(
            f"Data set {data.name!r} is split by time: with folds, training would see values from after the test. "
            "Leave folds and fold out."
        )
    digests, labels = _contents(data)
    numbers = deal(digests, labels, folds)
    parts = np.zeros(len(numbers), np.int64)
    rest = np.flatnonzero(numbers != fold)
    inner = deal([digests[i] for i in rest], None if labels is None else [labels[i] for i in rest], 10)
    parts[rest[inner == 0]] = 1
    parts[numbers == fold] = 2
    sizes = {role: int((parts == number).sum()) for number, role in enumerate(SPLITS)}
    if not all(sizes.values()):
        raise UsageError(f"Data set {data.name!r} gives {sizes} with folds={folds}. Pass fewer folds.")
    whole = joined([data.splits[role] for role in SPLITS])
    return dataclasses.replace(
        data,
        splits={role: whole.pick(np.flatnonzero(parts == number)) for number, role in enumerate(SPLITS)},
        arguments={**data.arguments, "folds": folds, "fold": fold},
        about={key: value for key, value in data.about.items() if key not in OF_SPLITS},
    )


def _contents(data: Data) -> tuple[list[bytes], list[int] | None]:
    targets = {target for name in data.tasks for target in get_task(name).targets}
    several = {get_task(name).objective.labels for name in data.tasks} & {*data.features}
    classes = {get_task(name).classes for name in data.tasks} & {*data.features}  # all examples have them, or none
    digests: list[bytes] = []
    labels: list[int] = []
    flags: list[np.ndarray] = []
    for example in joined([data.splits[role] for role in SPLITS]).dataset().as_numpy_iterator():
        parts = (value for key, value in sorted(example.items()) if key not in targets)
        digests.append(digest(*(part for value in parts for part in _bytes(value))))
        labels += [int(example[key]) for key in classes if np.ndim(example[key]) == 0]
        flags += [example[key] for key in several]
    digests = data.about.get("groups", digests)
    return digests, (rarest(np.stack(flags)).tolist() if flags else labels) or None


def _bytes(value: Any) -> list[bytes]:
    if isinstance(value, bytes):
        return [value]
    if value.dtype == object:
        return [repr(value.tolist()).encode()]
    return [repr(value.shape).encode(), value.tobytes()]
