"""Raw data: splits of examples as the source gives them, and their metadata."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np
import tensorflow as tf

from zoo.datasets.cache import Cache
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
class Access:
    """Random access to the examples of a split, each by its number in the split.

    Attributes:
        fetch: traceable, from a number, int64 (), to what is stored of the example: a dict of tensors, such as the bytes of
            an image file.
        decode: traceable, from that to the example; None if the stored dict is the example.
        fault: returns why the example of a number can no longer be read, or else an empty string. None if that cannot
            happen.
        costly: whether `fetch` reads from a disk or network, and `decode` computes for long, so that a cache is useful.
    """

    fetch: Callable[[tf.Tensor], dict[str, tf.Tensor]]
    decode: Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]] | None = None
    fault: Callable[[int], str] | None = None
    costly: bool = False

    def read(self, number: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the example of a number, int64 (). It is traceable."""
        stored = self.fetch(number)
        return stored if self.decode is None else self.decode(stored)

    def at(self, numbers: tf.data.Dataset) -> tf.data.Dataset:
        """Returns the examples of a dataset of numbers, in its order."""
        read = tf.autograph.experimental.do_not_convert(self.read)
        return numbers.map(read, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)

    def renumbered(self, numbers: np.ndarray) -> Access:
        """Returns access to some of the examples: example i of the new access has the number `numbers[i]` here."""
        with tf.device("CPU"):
            kept = tf.constant(numbers, tf.int64)
        fault = self.fault
        return Access(
            lambda number: self.fetch(kept[number]),
            self.decode,
            None if fault is None else lambda number: fault(int(numbers[number])),
            self.costly,
        )

    def mapped(self, change: Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]]) -> Access:
        """Returns access to changed examples."""
        decode = self.decode
        return Access(
            self.fetch, change if decode is None else lambda stored: change(decode(stored)), self.fault, self.costly
        )


@dataclasses.dataclass(frozen=True)
class Split:
    """A raw split: `dataset()` returns a `tf.data.Dataset` of example dicts in a fixed order.

    If examples are costly to read, `content()` returns data that determines them, such as the bytes of image files. With
    `access`, a split that does not fit into memory is shuffled as a whole, and a run resumes without reading what it has
    seen. `overlap` is the number of neighbouring examples that may share elements of their targets, as windows of a series
    do.
    """

    dataset: Callable[[], tf.data.Dataset]
    num_examples: int
    content: Callable[[], tf.data.Dataset] | None = None
    access: Access | None = None
    overlap: int = 1

    def pick(self, numbers: np.ndarray) -> Split:
        """Returns the split of some of the examples. With `access`, no other example is read.

        Args:
            numbers: their numbers in this split, increasing.

        Example:
            >>> zoo.datasets.load("digits").splits["train"].pick(np.array([3, 8])).num_examples
            2
        """
        wanted = np.isin(np.arange(int(max(numbers, default=-1)) + 1), numbers)
        with tf.device("CPU"):
            mask = tf.constant(wanted)

        def chosen(source: tf.data.Dataset) -> tf.data.Dataset:
            first = source.take(len(wanted))  # nothing behind the last example is read
            return first.enumerate().filter(lambda place, _: mask[place]).map(lambda _, example: example)

        content = self.content or self.dataset
        access = None if self.access is None else self.access.renumbered(np.asarray(numbers, np.int64))
        return Split(
            (lambda: chosen(self.dataset()))
            if access is None
            else lambda: access.at(tf.data.Dataset.range(len(numbers))),
            len(numbers),
            lambda: chosen(content()),
            access,
            self.overlap,
        )

    def map(
        self,
        change: Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]],
        content: Callable[[], tf.data.Dataset] | None = None,
    ) -> Split:
        """Returns the split of changed examples.

        Args:
            change: traceable, from an example to another one.
            content: of the new split; None if the changed examples determine it.
        """
        access = None if self.access is None else self.access.mapped(change)
        return Split(lambda: self.dataset().map(change), self.num_examples, content, access, self.overlap)

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


def joined(splits: Sequence[Split]) -> Split:
    """Returns the examples of several splits, one split after the other.

    Example:
        >>> joined([data.splits["train"], data.splits["validation"]]).num_examples
        1437
    """

    def whole(part: Callable[[Split], tf.data.Dataset]) -> tf.data.Dataset:
        first, *others = map(part, splits)
        for other in others:
            first = first.concatenate(other)
        return first

    return Split(
        lambda: whole(lambda split: split.dataset()),
        sum(split.num_examples for split in splits),
        lambda: whole(lambda split: (split.content or split.dataset)()),
        _joined_access(splits),
    )


def _joined_access(splits: Sequence[Split]) -> Access | None:
    found = [split.access for split in splits if split.access is not None]
    if len(found) < len(splits):
        return None
    ends = np.cumsum([split.num_examples for split in splits])
    starts = ends - [split.num_examples for split in splits]

    def read(number: tf.Tensor) -> dict[str, tf.Tensor]:
        which = tf.searchsorted(tf.constant(ends, tf.int64), number[tf.newaxis], side="right")[0]
        parts = zip(found, starts.tolist(), strict=True)
        return tf.switch_case(which, [lambda a=access, s=start: a.read(number - s) for access, start in parts])

    def fault(number: int) -> str:
        which = int(np.searchsorted(ends, number, side="right"))
        look = found[which].fault
        return look(number - int(starts[which])) if look else ""

    return Access(read, fault=fault, costly=any(access.costly for access in found))


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
        memory_limit: bytes that a split's model inputs may take in memory. A larger split is read example by example.
        about: further metadata that a task needs, such as the titles of items.
        out_of_scope: examples that belong to none of the classes, by the split with whose report they are scored. Nothing is
            fitted to them and nothing is chosen with them. Their label is 0, which nobody reads.
        cache: what is kept of the examples, and where; None to read and decode them in every epoch.
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
    cache: Cache | None = None

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
