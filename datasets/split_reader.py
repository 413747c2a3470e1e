"""Reads the splits of a data set as batches of one model: from memory, or by row number if a split is too large."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from zoo.datasets.batches import joined
from zoo.datasets.encoding import Encoder
from zoo.datasets.numbered_rows import NumberedRows, numbered_rows
from zoo.datasets.preprocessing.base import Batch, Tensors
from zoo.datasets.shares import Share
from zoo.datasets.shuffling import permuted, redrawn, shuffled
from zoo.errors import UsageError, did_you_mean
from zoo.kernels import traced
from zoo.predictions import readable
from zoo.resident import Resident

if TYPE_CHECKING:
    from zoo import tasks
    from zoo.datasets.preprocessing.base import Preprocessor
    from zoo.datasets.raw import RawData, Split

_PREFETCHED = 4  # batches that are ready before they are needed
_EXAMINED = 200  # batches in which an example that cannot be read is looked for


def _arranged(data: RawData, preprocessor: Preprocessor) -> RawData:
    """Returns the data with the examples that the preprocessor makes of those of each split."""
    arrange = getattr(preprocessor, "arrange", None)
    if arrange is None:
        return data
    return dataclasses.replace(data, splits={name: arrange(split) for name, split in data.splits.items()})


class SplitReader:
    """Reads the splits of a data set, preprocessed for one model.

    Args:
        data: the data set.
        task: the task.
        preprocessor: turns raw examples into inputs, targets and weights.
    """

    def __init__(self, data: RawData, task: tasks.Task, preprocessor: Preprocessor) -> None:
        self.data, self.task, self.preprocessor = _arranged(data, preprocessor), task, preprocessor
        self._cache: dict[str, Batch] = {}
        self._gathers: dict[str, Any] = {}
        redraw = getattr(preprocessor, "redraw", None)
        # Traced once; a dataset is made for every split and every epoch, and would trace its functions again.
        self._redraw = None if redraw is None else traced(redraw, autograph=False)
        self._encoder = Encoder(preprocessor)
        self._numbered: dict[str, NumberedRows | None] = {}

    def split(self, name: str) -> Split:
        """Returns a split of raw examples.

        Raises:
            UsageError: the split is unknown.
        """
        if name not in self.data.splits:
            raise UsageError(
                f"Data set {self.data.name!r} has no split {name!r}. {did_you_mean(name, self.data.splits)}"
            )
        return self.data.splits[name]

    def batches(
        self, split: str, batch_size: int, seed: int | None, epoch: int, start: int, group_by_length: bool
    ) -> tf.data.Dataset:
        """Returns a split as batches, as `Prepared.batches` describes."""
        raw = self.split(split)
        paired = self.task.objective.paired
        if self.is_streamed(split):
            if paired is not None and seed is not None:
                raise UsageError(
                    f"The task {self.task.name} puts equal examples next to each other, so it needs the {split} split in "
                    f"memory; it takes more than memory_limit={self.data.memory_limit}. Pass a larger memory_limit."
                )
            if group_by_length:
                raise UsageError(
                    f"group_by_length needs the {split} split in memory; it takes more than memory_limit="
                    f"{self.data.memory_limit}. Raise --data.memory_limit, or leave group_by_length out."
                )
            return self._drawn(self._stream(split, batch_size, seed, epoch, start), split, seed, epoch, start)
        rows = self._tensors(split)
        order = np.arange(raw.num_examples)
        if seed is not None:
            order = shuffled(rows, seed, epoch, batch_size, group_by_length, paired)
        positions = tf.data.Dataset.from_tensor_slices(order[start * batch_size :]).batch(batch_size)

        batches = positions.map(self._gather(split), num_parallel_calls=2, deterministic=True)
        return self._drawn(batches, split, seed, epoch, start).prefetch(8)

    def _gather(self, split: str) -> Any:
        """Returns a function from row numbers to a batch of a split in memory."""
        if split not in self._gathers:
            rows = self._tensors(split)

            def gather(index: tf.Tensor) -> Batch:
                return self.preprocessor.trim(*tf.nest.map_structure(lambda column: tf.gather(column, index), rows))

            signature = [tf.TensorSpec([None], tf.int64)]
            self._gathers[split] = tf.function(gather, input_signature=signature, autograph=False)
        return self._gathers[split]

    def resident(self, split: str) -> Resident | None:
        """Returns a split as it is held in memory; None if it is read as a stream or drawn again in every epoch."""
        if self.is_streamed(split) or (split == "train" and hasattr(self.preprocessor, "redraw")):
            return None
        rows = self._tensors(split)
        order = functools.partial(shuffled, rows, paired=self.task.objective.paired)
        return Resident(rows, order, self.preprocessor.trim)

    def _drawn(self, batches: Any, split: str, seed: int | None, epoch: int, start: int) -> tf.data.Dataset:
        """Training batches, drawn again in every epoch if the preprocessor can do that."""
        if self._redraw is None or seed is None or split != "train":
            return batches
        return redrawn(batches, self._redraw, seed, epoch, start)

    def is_streamed(self, split: str) -> bool:
        """Whether a split is too large to be held in memory."""
        return self._bytes_per_example() * self.split(split).num_examples > self.data.memory_limit

    def _stream(self, split: str, batch_size: int, seed: int | None, epoch: int, start: int) -> tf.data.Dataset:
        rows = self._rows(split)
        if rows is not None and (rows.is_cached or seed is not None or start):
            numbers = self._order(split, seed, epoch)[start * batch_size :]
            return self._checked(split, rows.batches(numbers, batch_size)).prefetch(_PREFETCHED)
        dataset = self.split(split).dataset()
        if seed is not None:  # a source without access to its examples by number
            # One number from (seed, epoch): tf.data's own reshuffling cannot start in the middle of a run.
            state = int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])
            # The buffer holds whole images. It holds fewer of them if they are large.
            buffer = min(10_000, max(1_000, self.data.memory_limit // self._bytes_per_example()))
            dataset = dataset.shuffle(buffer, seed=state, reshuffle_each_iteration=False)
        batches = self._encoder.batches(dataset.skip(start * batch_size), batch_size)
        return self._checked(split, batches).prefetch(_PREFETCHED)

    def share(
        self, split: str, batch_size: int, seed: int | None, epoch: int, start: int, share: Sequence[int]
    ) -> tf.data.Dataset | None:
        """Returns a worker's rows of each batch, as `Prepared.share` describes; None if it must read whole batches."""
        if not self.is_streamed(split) or (split == "train" and self._redraw is not None):
            return None
        rows = self._rows(split)
        if rows is None or not rows.have_one_shape:
            return None
        numbers = self._order(split, seed, epoch)[start * batch_size :]
        return rows.share(numbers, batch_size, Share(*share), functools.partial(self._checked, split)).prefetch(
            _PREFETCHED
        )

    def _order(self, split: str, seed: int | None, epoch: int) -> np.ndarray:
        count = self.split(split).num_examples
        return np.arange(count) if seed is None else permuted(count, seed, epoch)

    def fault(self, split: str, batch_size: int, seed: int | None, epoch: int, start: int) -> str:
        """Returns which example from a batch on can no longer be read, and why; empty if all can."""
        access = self.split(split).access
        if access is None or access.fault is None:
            return ""
        first = start * batch_size
        for number in self._order(split, seed, epoch)[first : first + _EXAMINED * batch_size].tolist():
            if fault := access.fault(number):
                return f"Example {number} of the {split} split cannot be used: {fault}"
        return ""

    def _rows(self, split: str) -> NumberedRows | None:
        """Returns the rows of a split by their numbers; None if its source reads them only one after the other."""
        if split not in self._numbered:
            self._numbered[split] = numbered_rows(
                self.split(split), split, self._encoder, self.preprocessor, self.data.cache
            )
        return self._numbered[split]

    def _checked(self, split: str, batches: tf.data.Dataset) -> tf.data.Dataset:
        """Rejects labels that the data set does not have."""
        classes, key = len(self.data.class_names), str(self.task.classes)
        message = f"Split {split!r} of data set {self.data.name!r} has a label outside 0 to {classes - 1}."

        @tf.autograph.experimental.do_not_convert
        def checked(inputs: Tensors, targets: Tensors, weights: Tensors) -> Batch:
            # On a GPU, the cross-entropy of such a label is NaN, which looks like a learning rate that is too high.
            labels = targets[key]
            known = tf.reduce_all((labels >= 0) & (labels < classes))
            with tf.control_dependencies([tf.debugging.Assert(known, [message])]):
                return inputs, {**targets, key: tf.identity(labels)}, weights

        return batches.map(checked) if self.task.classes is not None else batches

    def _bytes_per_example(self) -> int:
        shapes = self.preprocessor.input_shapes.values()
        return sum(4 * math.prod(size or 1 for size in shape) for shape in shapes)

    def _tensors(self, split: str) -> Batch:
        """The whole split as inputs, targets and weights. It is preprocessed once and cached for all epochs."""
        if split not in self._cache:
            if not self.split(split).num_examples:
                raise UsageError(
                    f"Split {split!r} of data set {self.data.name!r} is empty. Choose another split or data set."
                )
            rows = self._read_all(split)
            if self.task.classes is not None:
                self.check_classes(split, rows[1][self.task.classes].numpy())
            self._cache[split] = rows
        return self._cache[split]

    def _read_all(self, split: str) -> Batch:
        rows = self._rows(split) if self.data.cache is not None and self.data.cache.kind == "disk" else None
        if rows is not None and rows.columns is not None:
            return rows.columns.all()
        with readable(lambda: self.fault(split, self.split(split).num_examples, None, 0, 0)):
            return self.collect(self.split(split).dataset())

    def collect(self, dataset: tf.data.Dataset) -> Batch:
        """All of a dataset as one batch."""
        parts = list(self._encoder.batches(dataset, 256))
        with tf.device("CPU"):
            inputs, targets, weights = (
                tf.nest.map_structure(lambda *columns, filler=filler: joined(columns, filler), *columns)
                for columns, filler in zip(zip(*parts, strict=True), (self.preprocessor.padding, 0, 0), strict=True)
            )
            return inputs, targets, weights

    def check_classes(self, split: str, targets: np.ndarray) -> None:
        """Raises UsageError for a class number that the data set does not have."""
        classes = len(self.data.class_names)
        wrong = np.flatnonzero((targets.ravel() < 0) | (targets.ravel() >= classes))
        if wrong.size:
            raise UsageError(
                f"Split {split!r} of data set {self.data.name!r} has the label {targets.ravel()[wrong[0]]} at example "
                f"{wrong[0]}; expected 0 to {classes - 1}. Choose a data set whose splits are all labelled."
            )
