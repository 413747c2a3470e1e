"""What `load` returns: the same object for every task."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from zoo import checkpoints, registry, tasks
from zoo.datasets.arguments import complete_arguments
from zoo.datasets.fingerprint import content_hash
from zoo.datasets.interface import Interface
from zoo.datasets.prepared import Prepared
from zoo.datasets.preprocessing.base import get_preprocessor
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
class Data:
    """A loaded data set.

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

    def for_task(self, task: str) -> Data:
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

    def prepare(self, model: str, /, **arguments: Any) -> Prepared:
        """Makes the preprocessor for a model, fits it on the training split, and fixes the builder's arguments.

        Args:
            model: a registered model's name.
            **arguments: arguments of its builder; what the data decides (classes, input shape) is filled in.

        Returns:
            Batches for training and evaluation, and the interface that the exporter takes.

        Raises:
            UsageError: unknown model or argument, a model that serves none of this data's tasks, or several of them, or an
                argument that contradicts the data.

        Example:
            >>> prepared = zoo.datasets.load("digits").prepare("cnn", filters=(32, 64, 64))
            >>> prepared.arguments["input_shape"], prepared.arguments["num_classes"]
            ((28, 28, 1), 10)
        """
        spec = registry.get_spec(model)
        registry.check_arguments(spec, arguments)
        chosen = arguments
        arguments = {n: p.default for n, p in spec.parameters.items() if p.default is not p.empty} | arguments
        shared = tuple(task for task in self.tasks if task in spec.tasks)
        if not shared:
            able = sorted({name for task in self.tasks for name in registry.list_models(task=task)})
            raise UsageError(
                f"Model {model!r} serves {', '.join(spec.tasks)}; data set {self.name!r} is for {', '.join(self.tasks)}. "
                f"Choose a model for it: {', '.join(able)}."
            )
        data = dataclasses.replace(self, tasks=shared)
        task = tasks.get_task(data.task)
        decided: dict[str, Any] = {k: v for k, v in task.arguments.items() if k in spec.parameters}
        if task.classes is not None:
            decided["num_classes"] = len(self.class_names)
        kind = get_preprocessor(spec.preprocessing.get("preprocessor", task.preprocessor))
        checkpoint = checkpoints.chosen(spec, arguments)
        from_checkpoint = checkpoint.arguments(self.class_names) if checkpoint else {}
        needs = {**spec.preprocessing, "checkpoint": checkpoint}
        arguments |= decided
        preprocessor, fixed = kind.for_model(data, needs, arguments)
        complete, requested = complete_arguments(spec, chosen, arguments, fixed, {*decided}, self.name, from_checkpoint)
        return Prepared(
            data=data,
            model=model,
            task=task,
            preprocessor=preprocessor,
            requested=requested,
            arguments=complete,
        )

    def prepared_as(self, interface: Interface, requested: Mapping[str, Any]) -> Prepared:
        """Makes this data ready as it was for a run, with that run's preprocessor: nothing is fitted, and no checkpoint read.

        Args:
            interface: the run's.
            requested: the builder's arguments that were chosen for it.
        """
        prepared = Prepared(
            data=self.for_task(interface.task),
            model=interface.build["name"],
            task=tasks.get_task(interface.task),
            preprocessor=interface.preprocessor,
            requested=dict(requested),
            arguments=dict(interface.build["arguments"]),
        )
        old, now = interface.fingerprint, prepared.fingerprint
        return dataclasses.replace(prepared, changed=old.split_changes(now))
