"""Raw data: splits of examples as the source gives them, and their metadata."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, Self

import numpy as np
import tensorflow as tf

from zoo.datasets.fingerprint import content_hash
from zoo.errors import UsageError, did_you_mean
from zoo.tasks import get_task, list_tasks

SPLITS = ("train", "validation", "test")
OF_SPLITS = ("class_counts", "groups", "also_in_train")
"""Metadata that holds for the splits of a data set, and not for others made of the same examples."""


@dataclasses.dataclass(frozen=True)
class Feature:
    """Shape (None for a dimension that varies) and dtype of one key of the examples."""

    shape: tuple[int | None, ...]
    dtype: str


@dataclasses.dataclass(frozen=True)
class Split:
    """A raw split: `dataset()` returns a `tf.data.Dataset` of example dicts in a fixed order.

    If examples are costly to read, `content()` returns data that determines them, such as the bytes of image files, and
    `chosen(places)` the examples at some places, int64 in ascending order, without reading the others. `overlap` is the
    number of neighbouring examples that may share elements of their targets, as windows of a series do.
    """

    dataset: Callable[[], tf.data.Dataset]
    num_examples: int
    content: Callable[[], tf.data.Dataset] | None = None
    overlap: int = 1
    chosen: Callable[[np.ndarray], tf.data.Dataset] | None = None

    def at(self, places: np.ndarray) -> tf.data.Dataset:
        """Returns the examples at some places, in their order, without reading the others if that is possible.

        Args:
            places: numbers of examples from 0 on, in ascending order, each once.

        Example:
            >>> zoo.datasets.load("images:photos").splits["train"].at(np.array([3, 700]))  # decodes two images
        """
        if self.chosen is not None:
            return self.chosen(places)
        with tf.device("CPU"):
            wanted = tf.constant(np.isin(np.arange(int(places.max(initial=-1)) + 1), places))
        first = self.dataset().take(len(wanted))  # nothing behind the last place is read
        return first.enumerate().filter(lambda i, _: wanted[i]).map(lambda _, example: example)

    def column(self, key: str) -> tf.data.Dataset:
        """Returns one key of all examples, in their order, without reading what is costly if that is possible.

        Example:
            >>> counts = zoo.datasets.load("csv:photos.csv").splits["train"].column("label")  # decodes no image
        """
        source = (self.content or self.dataset)()
        if key not in source.element_spec:
            source = self.dataset()
        return source.map(lambda example: example[key])

    @functools.cached_property
    def sha256(self) -> str:
        """The hash of the examples in their order. The first access reads the split once."""
        return content_hash((self.content or self.dataset)())


@dataclasses.dataclass(frozen=True)
class RawData:
    """A loaded data set, before it is prepared for a model.

    Attributes:
        name: the name that `load` was called with.
        arguments: the other arguments of `load`, which are needed to repeat a run.
        tasks: the tasks that the data set serves.
        splits: raw splits by name: train, validation, test.
        features: the features of an example, by key.
        class_names: the labels in the order of their numbers, empty for tasks without labels.
        licence: terms of the data, as its source states them.
        source: where the data comes from.
        memory_limit: bytes that a split's model inputs may take in memory. A larger split is read as a stream, which is
            shuffled in another order.
        about: further metadata that a task needs, such as the titles of items.
        out_of_scope: examples that belong to none of the classes, by the split with whose report they are scored. Nothing is
            fitted to them and nothing is chosen with them. Their label is 0, which nobody reads.
    """

    name: str
    arguments: Mapping[str, Any]
    tasks: tuple[str, ...]
    splits: Mapping[str, Split]
    features: Mapping[str, Feature]
    class_names: tuple[str, ...]
    licence: str
    source: str
    memory_limit: int = 2 << 30
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    out_of_scope: Mapping[str, Split] = dataclasses.field(default_factory=dict)

    @property
    def served(self) -> tuple[str, ...]:
        """The tasks that the data set serves: its own, then others that can be trained on their data."""
        others = (name for name in list_tasks() if {*get_task(name).data_of} & {*self.tasks} and name not in self.tasks)
        return (*self.tasks, *others)

    @property
    def task(self) -> str:
        """The task, if there is only one.

        Raises:
            UsageError: the data set serves several tasks.
        """
        if len(self.tasks) != 1:
            raise UsageError(
                f"Data set {self.name!r} serves {' and '.join(self.tasks)}. Choose one: pass task={self.tasks[0]!r}, say, "
                "to load (--data.task on the command line)."
            )
        return self.tasks[0]

    def for_task(self, task: str) -> Self:
        """Returns this data for one of its tasks.

        Raises:
            UsageError: the data set does not serve the task.
        """
        if task not in self.served:
            raise UsageError(
                f"Data set {self.name!r} does not serve the task {task!r}. {did_you_mean(task, self.served)}"
            )
        return dataclasses.replace(self, tasks=(task,))

    @property
    def train(self) -> tf.data.Dataset:
        """The raw training examples, a `tf.data.Dataset` of dicts."""
        return self.splits["train"].dataset()

    @property
    def validation(self) -> tf.data.Dataset:
        """The raw validation examples, a `tf.data.Dataset` of dicts."""
        return self.splits["validation"].dataset()

    @property
    def test(self) -> tf.data.Dataset:
        """The raw test examples, a `tf.data.Dataset` of dicts."""
        return self.splits["test"].dataset()
