"""Raw data: splits of examples as their source gives them, and what is known of them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, Self

import tensorflow as tf

from zoo.datasets.fingerprint import content_hash
from zoo.errors import UsageError, did_you_mean

SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class Feature:
    """One key of the examples: its shape (None where it varies) and dtype."""

    shape: tuple[int | None, ...]
    dtype: str


@dataclasses.dataclass(frozen=True)
class Split:
    """A raw split: `dataset()` gives a `tf.data.Dataset` of example dicts in a fixed order.

    Where examples are costly to read, `content()` gives what decides them, such as image files that are not decoded.
    """

    dataset: Callable[[], tf.data.Dataset]
    num_examples: int
    content: Callable[[], tf.data.Dataset] | None = None

    @functools.cached_property
    def sha256(self) -> str:
        """The hash of its examples in their order, made in one pass when it is first asked for."""
        return content_hash((self.content or self.dataset)())


@dataclasses.dataclass(frozen=True)
class RawData:
    """A loaded data set, before it is prepared for a model.

    Attributes:
        name: the name that `load` got.
        arguments: the places that `load` was called with, so that a run can be repeated.
        tasks: the tasks that it serves.
        splits: raw splits by name: train, validation, test.
        features: what an example holds.
        class_names: the labels in the order of their numbers, empty where the task has none.
        licence: terms of the data, as its source states them.
        source: where the data comes from.
        memory_limit: bytes that a split's model inputs may take in memory; a larger split is read as a stream, which is
            shuffled in another order.
        about: further plain facts that a task needs, such as the titles of items.
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

    @property
    def task(self) -> str:
        """The only task.

        Raises:
            UsageError: there are several.
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
            UsageError: it does not serve the task.
        """
        if task not in self.tasks:
            raise UsageError(
                f"Data set {self.name!r} does not serve the task {task!r}. {did_you_mean(task, self.tasks)}"
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
