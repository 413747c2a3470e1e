"""The registry of baselines."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.errors import UsageError
from zoo.registries import Registry

if TYPE_CHECKING:
    import tensorflow as tf

    from zoo.datasets.raw import RawData, Split

Columns = Mapping[str, np.ndarray]
"""Raw examples as arrays by feature, one row per example. Features whose shape varies are arrays of objects."""


Reduce = Callable[[Mapping[str, "tf.Tensor"]], Mapping[str, "tf.Tensor"]]


@dataclasses.dataclass(frozen=True)
class Baseline:
    """A simple method that is fitted to raw examples of the training split.

    Attributes:
        applies: whether it fits to a data set; it sees the task, the features and the metadata, and reads no example.
        predict: fits the method to (training examples, evaluated examples, data set) and returns its predictions for the
            evaluated examples. They are those of the task: `probabilities`, (n, classes), with several labels at once also
            their `thresholds`, or `values`, (n, targets), in their own units. What the method chooses, it chooses on
            training and validation examples. It must be deterministic, so seed random numbers.
        quantiles: fits it to (training examples, evaluated examples, data set, levels) and returns the quantiles of values
            for these levels, (n, targets, levels), in their own units; None for a method without quantiles.
        most_rows: maximum number of training examples, which bounds the time. More examples are sampled with a fixed seed. A
            clock would make the result depend on the machine.
        most_labels: maximum product of training examples and classes, because most methods fit a model to every class; None
            for ten times `most_rows`.
        reduce: function from an example, tensors by feature, to what the method reads of it. It is applied while examples
            are read, so that large images need not be held in memory. It must keep the targets.
    """

    applies: Callable[[RawData], bool]
    predict: Callable[[Columns, Columns, RawData], Mapping[str, Any]]
    most_rows: int = 100_000
    most_labels: int | None = None
    quantiles: Callable[[Columns, Columns, RawData, Sequence[float]], np.ndarray] | None = None
    reduce: Reduce | None = None


BASELINES: Registry[Baseline] = Registry("baseline", "zoo.evaluation.baselines")


def register_baseline(name: str, baseline: Baseline) -> Baseline:
    """Registers a baseline under the name that reports print, and returns it.

    Raises:
        ValueError: another module has registered the name.

    Example:
        >>> def middle(train, examples, data):
        ...     return {"values": np.tile(np.median(train["value"], axis=0), (len(examples["value"]), 1))}
        >>> register_baseline("median", Baseline(lambda data: "value" in data.features, middle))
    """
    BASELINES.add(name, baseline, sys._getframe(1).f_globals.get("__name__", "__main__"))
    return baseline


def chosen_baselines(wanted: str | Sequence[str]) -> dict[str, Baseline]:
    """Returns baselines by name.

    Args:
        wanted: "all", "none", a name, or several names.

    Raises:
        UsageError: a name is unknown; the message suggests the nearest.

    Example:
        >>> list(chosen_baselines("logistic regression"))
        ['logistic regression']
    """
    if isinstance(wanted, str):
        wanted = {"all": BASELINES.names(), "none": []}.get(wanted, [wanted])
    if not isinstance(wanted, (list, tuple)) or not all(isinstance(name, str) for name in wanted):
        raise UsageError(f"baselines is {wanted!r}; expected names. Pass 'all', 'none' or a list of names.")
    return {name: BASELINES.get(name) for name in wanted}


def read_columns(split: Split, most_rows: int | None = None, reduce: Reduce | None = None) -> dict[str, np.ndarray]:
    """Returns raw examples as arrays by feature, in their order.

    Args:
        split: the raw split.
        most_rows: more examples are sampled with a fixed seed; None for all.
        reduce: function of each example, see `Baseline`.
    """
    count = split.num_examples
    keep = np.ones(count, bool)
    if most_rows is not None and count > most_rows:
        keep[:] = False
        keep[np.random.default_rng(0).choice(count, most_rows, replace=False)] = True
    dataset = split.dataset() if reduce is None else split.dataset().map(reduce)
    if all(spec.shape.is_fully_defined() for spec in dataset.element_spec.values()):
        parts, start = [], 0
        for batch in dataset.batch(1_024).as_numpy_iterator():
            size = len(next(iter(batch.values())))
            parts.append({name: values[keep[start : start + size]] for name, values in batch.items()})
            start += size
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    examples = [example for example, kept in zip(dataset.as_numpy_iterator(), keep, strict=True) if kept]
    columns = {}
    for name, spec in dataset.element_spec.items():
        values = [example[name] for example in examples]
        columns[name] = np.empty(len(values), object)
        for row, value in enumerate(values):  # one by one, because NumPy would join arrays of equal shape
            columns[name][row] = value
        if spec.shape.is_fully_defined() and spec.dtype != "string":
            columns[name] = np.stack(values)
    return columns


def probabilities(model: Any, rows: Any, num_classes: int) -> dict[str, np.ndarray]:
    """Returns a classifier's probabilities with a column for every class, also for those that it has not seen."""
    found = np.zeros((len(rows), num_classes))
    found[:, model.classes_] = model.predict_proba(rows)
    return {"probabilities": found}
