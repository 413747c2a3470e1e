"""What `load` and `prepare` return: the same objects for every task."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from zoo import checkpoints, registry, tasks
from zoo.datasets.arguments import complete_arguments
from zoo.datasets.batches import joined, present, rectangular
from zoo.datasets.fingerprint import Fingerprint, content_hash
from zoo.datasets.interface import Examples, Interface, Sample, described
from zoo.datasets.preprocessing.base import PREPROCESSORS
from zoo.datasets.sampling import draw_sample
from zoo.datasets.shuffling import redrawn, shuffled
from zoo.errors import UsageError, did_you_mean
from zoo.resident import Resident

if TYPE_CHECKING:
    import keras

    from zoo.datasets.preprocessing.base import Preprocessor

SPLITS = ("train", "validation", "test")
Batch = tuple[Any, ...]
"""Model inputs, targets, and weights where there are any."""

_MISSING: dict[tf.DType, Any] = {tf.string: b"", tf.float32: float("nan"), tf.int64: 0}
"""What raw examples of unequal length are filled up with, by dtype: no token, no value, and 0, which weights leave out."""


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
        task: the task it is for.
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
    task: str
    splits: Mapping[str, Split]
    features: Mapping[str, Feature]
    class_names: tuple[str, ...]
    licence: str
    source: str
    memory_limit: int = 2 << 30
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)

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
            UsageError: unknown model or argument, a model that does not serve this data's task, or an argument that
                contradicts the data.

        Example:
            >>> prepared = zoo.datasets.load("digits").prepare("cnn", filters=(32, 64, 64))
            >>> prepared.arguments["input_shape"], prepared.arguments["num_classes"]
            ((28, 28, 1), 10)
        """
        spec = registry.get_spec(model)
        registry.check_arguments(spec, arguments)
        chosen = arguments
        arguments = {n: p.default for n, p in spec.parameters.items() if p.default is not p.empty} | arguments
        if self.task not in spec.tasks:
            raise UsageError(
                f"Model {model!r} serves {', '.join(spec.tasks)}; data set {self.name!r} is for {self.task}. "
                f"Choose a model for it: {', '.join(registry.list_models(task=self.task))}."
            )
        task = tasks.get_task(self.task)
        decided: dict[str, Any] = {k: v for k, v in task.arguments.items() if k in spec.parameters}
        if task.needs_class_names:
            decided["num_classes"] = len(self.class_names)
        kind = spec.preprocessing.get("preprocessor", task.preprocessor)
        checkpoint = checkpoints.chosen(spec, arguments)
        from_checkpoint = checkpoint.arguments(self.class_names) if checkpoint else {}
        needs = {**spec.preprocessing, "checkpoint": checkpoint}
        arguments |= decided
        preprocessor, fixed = PREPROCESSORS[kind].for_model(self, needs, arguments)
        complete, requested = complete_arguments(spec, chosen, arguments, fixed, {*decided}, self.name, from_checkpoint)
        return Prepared(
            data=self,
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
            data=self,
            model=interface.build["name"],
            task=tasks.get_task(self.task),
            preprocessor=interface.preprocessor,
            requested=dict(requested),
            arguments=dict(interface.build["arguments"]),
        )
        old, now = interface.fingerprint, prepared.fingerprint
        return dataclasses.replace(prepared, changed=old.split_changes(now))


@dataclasses.dataclass
class Prepared:
    """Data made ready for one model: what the trainer, the evaluator and the exporter are handed.

    Attributes:
        data: the loaded data set.
        model: the registered model's name.
        task: the task's meaning.
        preprocessor: fitted on the training split; the same object is baked into the SavedModel.
        requested: the builder's arguments that were chosen, or left at their defaults.
        arguments: the builder's arguments, complete with what the data decides.
        changed: the splits that are not those of the run that this was prepared for, and how they differ.
    """

    data: Data
    model: str
    task: tasks.Task
    preprocessor: Preprocessor
    requested: dict[str, Any]
    arguments: dict[str, Any]
    changed: Mapping[str, str] = dataclasses.field(default_factory=dict)
    _cache: dict[str, Batch] = dataclasses.field(default_factory=dict, repr=False)
    _interface: Interface | None = dataclasses.field(default=None, repr=False)

    def build(self, *, seed: int | None = None) -> keras.Model:
        """Builds the model; call it inside the strategy's scope.

        Args:
            seed: seeds Python, NumPy and Keras first, and with them the initial weights and dropout.

        Example:
            >>> with zoo.strategy("one_device").scope():
            ...     model = zoo.datasets.load("digits").prepare("mlp").build()
        """
        import keras

        if seed is not None:
            keras.utils.set_random_seed(seed)
        return registry.build(self.model, **self.arguments)

    def describe(self) -> dict[str, Any]:
        """Returns the `model` and `data` sections of a run's config.yaml.

        What the data decided is left out: another data set, given beside that file, decides anew.
        """
        return {
            "model": {"name": self.model, **registry.plain(self.requested)},
            "data": {
                "name": self.data.name,
                **registry.plain(dict(self.data.arguments)),
                "memory_limit": self.data.memory_limit,  # it decides the order of the examples
            },
        }

    def num_examples(self, split: str) -> int:
        """Returns how many examples a split has."""
        return self._split(split).num_examples

    def _split(self, name: str) -> Split:
        if name not in self.data.splits:
            raise UsageError(
                f"Data set {self.data.name!r} has no split {name!r}. {did_you_mean(name, self.data.splits)}"
            )
        return self.data.splits[name]

    def batches(
        self,
        split: str,
        batch_size: int,
        *,
        seed: int | None = None,
        epoch: int = 0,
        start: int = 0,
        group_by_length: bool = False,
    ) -> tf.data.Dataset:
        """Returns a split as batches (model input, target[, weights]), the last one smaller where it does not divide.

        The order is a function of (seed, epoch) alone, so a run that was killed goes on at batch `start` with exactly
        the batches that it had not seen.

        Args:
            split: train, validation or test.
            batch_size: examples per batch.
            seed: shuffles with this seed; None keeps the split's own order.
            epoch: which pass this is; every epoch has an order of its own.
            start: number of batches to leave out at the beginning.
            group_by_length: shuffles so that a batch holds sequences of like length, which costs less padding.

        Raises:
            UsageError: unknown split, a split without examples or with labels that are none, or grouping of what is not
                held in memory.
        """
        raw = self._split(split)
        if self._is_streamed(split):
            if group_by_length:
                raise UsageError(
                    f"group_by_length needs the {split} split in memory; it takes more than memory_limit="
                    f"{self.data.memory_limit}. Raise --data.memory_limit, or leave group_by_length out."
                )
            return self._drawn(self._stream(split, batch_size, seed, epoch, start), split, seed, epoch, start)
        rows = self._tensors(split)
        order = np.arange(raw.num_examples)
        if seed is not None:
            order = shuffled(rows, seed, epoch, batch_size, group_by_length)
        positions = tf.data.Dataset.from_tensor_slices(order[start * batch_size :]).batch(batch_size)

        def gather(index: tf.Tensor) -> Batch:
            return self._trimmed(*tf.nest.map_structure(lambda column: tf.gather(column, index), rows))

        batches = positions.map(gather, num_parallel_calls=2, deterministic=True)
        return self._drawn(batches, split, seed, epoch, start).prefetch(8)

    def some_inputs(self) -> Any:
        """Returns the model inputs of the first 64 training examples."""
        return next(iter(self.batches("train", 64)))[0]

    def _drawn(self, batches: Any, split: str, seed: int | None, epoch: int, start: int) -> tf.data.Dataset:
        """Training batches as the preprocessor draws them anew, where it does."""
        redraw = getattr(self.preprocessor, "redraw", None)
        if redraw is None or seed is None or split != "train":
            return batches
        return redrawn(batches, redraw, seed, epoch, start)

    def _trimmed(self, inputs: Any, targets: tf.Tensor, weights: tf.Tensor | None = None) -> Batch:
        """A batch from rows that are padded to the longest of the split."""
        return present(self.preprocessor.trim(inputs, targets, weights))

    def resident(self, split: str) -> Resident | None:
        """Returns a split as it is held in memory, None where it is read as a stream, or redrawn."""
        if self._is_streamed(split) or (split == "train" and hasattr(self.preprocessor, "redraw")):
            return None
        rows = self._tensors(split)
        return Resident(rows, functools.partial(shuffled, rows), self._trimmed)

    def _is_streamed(self, split: str) -> bool:
        return self._bytes_per_example() * self.num_examples(split) > self.data.memory_limit

    def _stream(self, split: str, batch_size: int, seed: int | None, epoch: int, start: int) -> tf.data.Dataset:
        dataset = self._split(split).dataset()
        if seed is not None:
            # One number from (seed, epoch): tf.data's own reshuffling cannot start in the middle of a run.
            state = int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])
            # Whole images wait in the buffer, of large ones fewer.
            buffer = min(10_000, max(1_000, self.data.memory_limit // self._bytes_per_example()))
            dataset = dataset.shuffle(buffer, seed=state, reshuffle_each_iteration=False)
        dataset = dataset.skip(start * batch_size)
        classes = len(self.data.class_names)
        message = f"Split {split!r} of data set {self.data.name!r} has a label outside 0 to {classes - 1}."

        def checked(inputs: Any, targets: tf.Tensor, *weights: tf.Tensor) -> Batch:
            # A GPU's cross-entropy answers such a label with NaN, which looks like a learning rate that is too high.
            known = tf.reduce_all((targets >= 0) & (targets < classes))
            with tf.control_dependencies([tf.debugging.Assert(known, [message])]):
                return (inputs, tf.identity(targets), *weights)

        batches = self._preprocessed(dataset, batch_size)
        batches = batches.map(checked) if self.task.needs_class_names else batches
        return batches.prefetch(tf.data.AUTOTUNE)

    def _preprocessed(self, dataset: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
        """Batches of (model input, target[, weights]) from raw examples."""

        def encode(examples: dict[str, tf.Tensor]) -> Batch:
            return present(self.preprocessor.encode(examples))

        def one(example: dict[str, tf.Tensor]) -> Batch:
            row = encode({key: value[tf.newaxis] for key, value in example.items()})
            return tf.nest.map_structure(lambda column: column[0], row)

        spec = dataset.element_spec
        varying = [part for part in spec.values() if None in part.shape]
        if any(part.dtype == tf.uint8 for part in varying):  # images of several sizes make no batch
            return dataset.map(one, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).batch(batch_size)
        if varying:
            filler = {key: tf.constant(_MISSING[part.dtype], part.dtype) for key, part in spec.items()}
            dataset = dataset.padded_batch(batch_size, padding_values=filler)
        else:
            dataset = dataset.batch(batch_size)
        return dataset.map(encode, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)

    def _bytes_per_example(self) -> int:
        shape = self.preprocessor.output_shape
        parts = shape.values() if isinstance(shape, dict) else [shape]
        return sum(4 * math.prod(size or 1 for size in part) for part in parts)

    def _tensors(self, split: str) -> Batch:
        """The whole split as model inputs and targets, made once and kept: an epoch then costs no preprocessing."""
        if split not in self._cache:
            if not self.num_examples(split):
                raise UsageError(
                    f"Split {split!r} of data set {self.data.name!r} is empty. Choose another split or data set."
                )
            rows = self._collect(self._split(split).dataset())
            self._check_targets(split, rows[1].numpy())
            self._cache[split] = rows
        return self._cache[split]

    def _collect(self, dataset: tf.data.Dataset) -> Batch:
        """All of a dataset as one batch."""
        parts = list(self._preprocessed(dataset, 256))
        with tf.device("CPU"):
            inputs = tf.nest.map_structure(
                lambda *columns: joined(columns, self.preprocessor.padding), *(part[0] for part in parts)
            )
            return (inputs, *(joined(columns, 0) for columns in zip(*(part[1:] for part in parts), strict=True)))

    def _check_targets(self, split: str, targets: np.ndarray) -> None:
        if not self.task.needs_class_names:
            return
        classes = len(self.data.class_names)
        wrong = np.flatnonzero((targets.ravel() < 0) | (targets.ravel() >= classes))
        if wrong.size:
            raise UsageError(
                f"Split {split!r} of data set {self.data.name!r} has the label {targets.ravel()[wrong[0]]} at example "
                f"{wrong[0]}; expected 0 to {classes - 1}. Choose a data set whose splits are all labelled."
            )

    def target_counts(self, split: str) -> np.ndarray | None:
        """Returns how often each class occurs in a split, int64 (num_classes,); None for tasks without classes."""
        if not self.task.needs_class_names:
            return None
        key = self.task.target
        targets = np.concatenate(
            [e.ravel() for e in self._split(split).dataset().map(lambda e: e[key]).as_numpy_iterator()]
        )
        return np.bincount(targets, minlength=len(self.data.class_names))

    @property
    def class_names(self) -> tuple[str, ...]:
        """The labels in the order of their numbers, empty where the task has none."""
        return self.data.class_names

    @property
    def fingerprint(self) -> Fingerprint:
        """What a run is tied to: class names, preprocessor and the content of the splits."""
        splits = {k: {"examples": v.num_examples, "sha256": v.sha256} for k, v in self.data.splits.items()}
        return Fingerprint(self.data.class_names, described(self.preprocessor), splits)

    @property
    def interface(self) -> Interface:
        """What an artifact needs beside the model: task, preprocessor, labels, and examples from the test split."""
        if self._interface is None:
            examples = self._pick_examples()
            self._interface = Interface(
                task=self.task.name,
                build={"name": self.model, "arguments": registry.plain(self.arguments)},
                class_names=self.data.class_names,
                preprocessor=self.preprocessor,
                data={"name": self.data.name, "licence": self.data.licence, "source": self.data.source},
                splits=self.fingerprint.splits,
                examples=examples,
                sample=self._draw_sample(examples) if self.task.score is not None else None,
            )
        return self._interface

    def _draw_sample(self, known: Examples, scan: int = 10_000) -> Sample | None:
        """Test examples for the figures that an export compares; of a split that is read as a stream, from its beginning."""
        split = self._split("test")
        whole = not self._is_streamed("test") or split.num_examples <= scan
        dataset, count = split.dataset(), split.num_examples
        if not whole:
            dataset, count = dataset.take(scan), scan
        accepts = getattr(self.preprocessor, "accepts", lambda example: True)
        return draw_sample(dataset, count, whole, self.preprocessor, self.task.target, accepts, known)

    def _pick_examples(self, count: int = 64, scan: int = 10_000) -> Examples:
        """At least `count` test examples, the first of every class before the second of any."""
        key = self.task.target
        # A request may be refused that training takes, such as one for the rating of an unknown item.
        accepts = getattr(self.preprocessor, "accepts", lambda example: True)
        dataset = self._split("test").dataset().take(scan)
        targets = list(dataset.map(lambda e: e[key]).as_numpy_iterator())
        answered = [i for i, example in enumerate(dataset.as_numpy_iterator()) if accepts(example)]
        if self.task.needs_class_names and np.ndim(targets[0]) == 0:
            self._check_targets("test", np.array(targets))
            seen: dict[int, int] = {}
            rank = []
            for t in targets:
                rank.append(seen.get(int(t), 0))
                seen[int(t)] = rank[-1] + 1
            order = np.lexsort((np.arange(len(targets)), np.array(rank)))
            chosen = np.sort(order[: max(count, len(self.data.class_names))])
        else:
            chosen = np.array(answered[:count], np.int64)
        if not len(chosen):
            raise UsageError(
                f"No test example of data set {self.data.name!r} can be sent as a request: training has seen none of what "
                "they hold. Choose another split of the data."
            )
        numbers = tf.constant(chosen)
        raw = dataset.enumerate().filter(lambda i, _: tf.reduce_any(i == numbers)).map(lambda _, example: example)
        requests = self.preprocessor.to_requests(list(raw.as_numpy_iterator()))
        inputs, *_ = self._collect(raw)
        arrays = {k: v.numpy() for k, v in (inputs if isinstance(inputs, dict) else {"input": inputs}).items()}
        return Examples(requests, rectangular([targets[i] for i in chosen]), arrays)
