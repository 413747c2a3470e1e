"""The class that `prepare` returns: a data set as inputs, targets and weights of one model."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from zoo import registry, tasks
from zoo.datasets.batches import joined, plain, rectangular
from zoo.datasets.fingerprint import Fingerprint
from zoo.datasets.interface import Examples, Interface, Sample, described, needed_plugins
from zoo.datasets.preprocessing.base import Batch, Tensors
from zoo.datasets.sampling import draw_sample
from zoo.datasets.shuffling import redrawn, shuffled
from zoo.errors import UsageError, did_you_mean
from zoo.resident import Resident

if TYPE_CHECKING:
    import keras

    from zoo.datasets.preprocessing.base import Preprocessor
    from zoo.datasets.raw import RawData, Split

_MISSING: dict[tf.DType, Any] = {tf.string: b"", tf.float32: float("nan"), tf.int64: 0}
"""Padding of raw examples of unequal length, by dtype: no token, no value, and 0, which gets the weight 0."""


@dataclasses.dataclass
class Prepared:
    """Data prepared for one model. The trainer, the evaluator and the exporter take it.

    Attributes:
        data: the loaded data set.
        model: the registered model's name.
        task: the task.
        preprocessor: fitted on the training split; the same object becomes part of the SavedModel.
        requested: the builder's arguments that were chosen, or left at their defaults.
        arguments: all arguments of the builder, including those from the data.
        changed: the splits that differ from those of the run that the data was prepared for, and how.
    """

    data: RawData
    model: str
    task: tasks.Task
    preprocessor: Preprocessor
    requested: dict[str, Any]
    arguments: dict[str, Any]
    changed: Mapping[str, str] = dataclasses.field(default_factory=dict)
    _cache: dict[str, Batch] = dataclasses.field(default_factory=dict, repr=False)
    _interface: Interface | None = dataclasses.field(default=None, repr=False)

    @property
    def objective(self) -> tasks.Objective:
        """The losses and metrics of the training."""
        return self.task.objective

    def build(self, *, seed: int | None = None) -> keras.Model:
        """Builds the model. Call it inside the strategy's scope.

        Args:
            seed: seed for Python, NumPy and Keras, and so for the initial weights and dropout.

        Example:
            >>> with zoo.strategy("one_device").scope():
            ...     model = zoo.datasets.load("digits").prepare("mlp").build()
        """
        import keras

        if seed is not None:
            keras.utils.set_random_seed(seed)
        model = registry.build(self.model, **self.arguments)
        self._check_fits(model)
        return model

    def _check_fits(self, model: keras.Model) -> None:
        """Raises UsageError if the model does not fit the preprocessor's outputs or the task's targets, before training
        starts."""
        if not hasattr(model, "output_names"):
            raise UsageError(
                f"The builder of {self.model!r} returned a {type(model).__name__}; expected a Functional Keras model, whose "
                "inputs and outputs have names. Return keras.Model(inputs, outputs)."
            )
        takes = {tensor.name: tf.TensorShape(tensor.shape[1:]) for tensor in model.inputs}
        given = {name: tf.TensorShape(shape) for name, shape in self.preprocessor.input_shapes.items()}
        if len(takes) == len(given) == 1:
            given = dict(zip(takes, given.values(), strict=True))
        if {*takes} != {*given} or not all(takes[name].is_compatible_with(given[name]) for name in takes):
            shown = [{name: shape.as_list() for name, shape in shapes.items()} for shapes in (takes, given)]
            raise UsageError(
                f"Model {self.model!r} has the inputs {shown[0]}; data set {self.data.name!r} gives {shown[1]}. Build it "
                "with these, or give its builder an argument input_shape, which the data then decides."
            )
        self.objective.check_outputs(model)
        classes, names = self.objective.num_classes(model), len(self.class_names)
        if classes is not None and classes != names:
            raise UsageError(
                f"Model {self.model!r} has {classes} classes; data set {self.data.name!r} has {names}. Give its builder an "
                "argument num_classes, which the data decides."
            )

    def describe(self) -> dict[str, Any]:
        """Returns the `model` and `data` sections of a run's config.yaml, and `plugins` if it needs any.

        Arguments from the data are left out, so that the file can be used with another data set.
        """
        source = {"data source": self.data.name.partition(":")[0]}
        plugins = needed_plugins(self.model, self.task.name, self.preprocessor, **source)
        facts = {plugin.name: {"source": plugin.source, "sha256": plugin.sha256} for plugin in plugins}
        return {
            **({"plugins": facts} if facts else {}),
            "model": {"name": self.model, **registry.plain(self.requested)},
            "data": {
                "name": self.data.name,
                **registry.plain(dict(self.data.arguments)),
                "memory_limit": self.data.memory_limit,  # it affects the order of the examples
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
        """Returns a split as batches (inputs, targets, weights). The last batch may be smaller.

        Each part is a dict of tensors by name. Weights have the names of their targets.
        The order depends only on (seed, epoch), so a killed run resumes at batch `start` with exactly the batches that
        it had not seen.

        Args:
            split: train, validation or test.
            batch_size: examples per batch.
            seed: shuffles with this seed; None keeps the order of the split.
            epoch: number of the epoch; every epoch has its own order.
            start: number of batches to skip at the beginning.
            group_by_length: whether batches hold sequences of similar length, which reduces padding.

        Raises:
            UsageError: the split is unknown, is empty or has invalid labels, or `group_by_length` is set for a split that
                is not held in memory.
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

        @tf.autograph.experimental.do_not_convert
        def gather(index: tf.Tensor) -> Batch:
            return self.preprocessor.trim(*tf.nest.map_structure(lambda column: tf.gather(column, index), rows))

        batches = positions.map(gather, num_parallel_calls=2, deterministic=True)
        return self._drawn(batches, split, seed, epoch, start).prefetch(8)

    def keras_batches(self, split: str, batch_size: int, **order: Any) -> tf.data.Dataset:
        """Returns the same batches in the form of `keras.Model.fit`: (x, y) or (x, y, sample_weight). Single tensors are not
        in a dict.

        Args:
            split: train, validation or test.
            batch_size: examples per batch.
            **order: as in `batches`.

        Example:
            >>> model.compile("adam", "sparse_categorical_crossentropy")
            >>> model.fit(prepared.keras_batches("train", 64, seed=0))
        """
        return self.batches(split, batch_size, **order).map(plain)

    def some_inputs(self) -> Tensors:
        """Returns the model inputs of the first 64 training examples."""
        inputs: Tensors = next(iter(self.batches("train", 64)))[0]
        return inputs

    def _drawn(self, batches: Any, split: str, seed: int | None, epoch: int, start: int) -> tf.data.Dataset:
        """Training batches, drawn again in every epoch if the preprocessor can do that."""
        redraw = getattr(self.preprocessor, "redraw", None)
        if redraw is None or seed is None or split != "train":
            return batches
        return redrawn(batches, redraw, seed, epoch, start)

    def resident(self, split: str) -> Resident | None:
        """Returns a split as it is held in memory; None if it is read as a stream or drawn again in every epoch."""
        if self._is_streamed(split) or (split == "train" and hasattr(self.preprocessor, "redraw")):
            return None
        rows = self._tensors(split)
        return Resident(rows, functools.partial(shuffled, rows), self.preprocessor.trim)

    def _is_streamed(self, split: str) -> bool:
        return self._bytes_per_example() * self.num_examples(split) > self.data.memory_limit

    def _stream(self, split: str, batch_size: int, seed: int | None, epoch: int, start: int) -> tf.data.Dataset:
        dataset = self._split(split).dataset()
        if seed is not None:
            # One number from (seed, epoch): tf.data's own reshuffling cannot start in the middle of a run.
            state = int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])
            # The buffer holds whole images. It holds fewer of them if they are large.
            buffer = min(10_000, max(1_000, self.data.memory_limit // self._bytes_per_example()))
            dataset = dataset.shuffle(buffer, seed=state, reshuffle_each_iteration=False)
        dataset = dataset.skip(start * batch_size)
        classes, key = len(self.data.class_names), str(self.task.classes)
        message = f"Split {split!r} of data set {self.data.name!r} has a label outside 0 to {classes - 1}."

        @tf.autograph.experimental.do_not_convert
        def checked(inputs: Tensors, targets: Tensors, weights: Tensors) -> Batch:
            # On a GPU, the cross-entropy of such a label is NaN, which looks like a learning rate that is too high.
            labels = targets[key]
            known = tf.reduce_all((labels >= 0) & (labels < classes))
            with tf.control_dependencies([tf.debugging.Assert(known, [message])]):
                return inputs, {**targets, key: tf.identity(labels)}, weights

        batches = self._preprocessed(dataset, batch_size)
        batches = batches.map(checked) if self.task.classes is not None else batches
        return batches.prefetch(tf.data.AUTOTUNE)

    def _preprocessed(self, dataset: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
        """Batches of (inputs, targets, weights) from raw examples."""
        encode = tf.autograph.experimental.do_not_convert(self.preprocessor.encode)

        @tf.autograph.experimental.do_not_convert
        def one(example: dict[str, tf.Tensor]) -> Batch:
            row = encode({key: value[tf.newaxis] for key, value in example.items()})
            return tf.nest.map_structure(lambda column: column[0], row)

        spec = dataset.element_spec
        varying = [part for part in spec.values() if None in part.shape]
        if any(part.dtype == tf.uint8 for part in varying):  # images of several sizes cannot be batched
            return dataset.map(one, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).batch(batch_size)
        if varying:
            filler = {key: tf.constant(_MISSING[part.dtype], part.dtype) for key, part in spec.items()}
            dataset = dataset.padded_batch(batch_size, padding_values=filler)
        else:
            dataset = dataset.batch(batch_size)
        return dataset.map(encode, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)

    def _bytes_per_example(self) -> int:
        shapes = self.preprocessor.input_shapes.values()
        return sum(4 * math.prod(size or 1 for size in shape) for shape in shapes)

    def _tensors(self, split: str) -> Batch:
        """The whole split as inputs, targets and weights. It is preprocessed once and cached for all epochs."""
        if split not in self._cache:
            if not self.num_examples(split):
                raise UsageError(
                    f"Split {split!r} of data set {self.data.name!r} is empty. Choose another split or data set."
                )
            rows = self._collect(self._split(split).dataset())
            if self.task.classes is not None:
                self._check_classes(split, rows[1][self.task.classes].numpy())
            self._cache[split] = rows
        return self._cache[split]

    def _collect(self, dataset: tf.data.Dataset) -> Batch:
        """All of a dataset as one batch."""
        parts = list(self._preprocessed(dataset, 256))
        with tf.device("CPU"):
            inputs, targets, weights = (
                tf.nest.map_structure(lambda *columns, filler=filler: joined(columns, filler), *columns)
                for columns, filler in zip(zip(*parts, strict=True), (self.preprocessor.padding, 0, 0), strict=True)
            )
            return inputs, targets, weights

    def _check_classes(self, split: str, targets: np.ndarray) -> None:
        classes = len(self.data.class_names)
        wrong = np.flatnonzero((targets.ravel() < 0) | (targets.ravel() >= classes))
        if wrong.size:
            raise UsageError(
                f"Split {split!r} of data set {self.data.name!r} has the label {targets.ravel()[wrong[0]]} at example "
                f"{wrong[0]}; expected 0 to {classes - 1}. Choose a data set whose splits are all labelled."
            )

    def target_counts(self, split: str) -> np.ndarray | None:
        """Returns the number of examples of each class in a split, int64 (num_classes,); None for tasks without classes."""
        key = self.task.classes
        if key is None:
            return None
        targets = np.concatenate(
            [e.ravel() for e in self._split(split).dataset().map(lambda e: e[key]).as_numpy_iterator()]
        )
        return np.bincount(targets, minlength=len(self.data.class_names))

    @property
    def class_names(self) -> tuple[str, ...]:
        """The labels in the order of their numbers, empty for tasks without labels."""
        return self.data.class_names

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of the class names, the preprocessor and the content of the splits."""
        splits = {k: {"examples": v.num_examples, "sha256": v.sha256} for k, v in self.data.splits.items()}
        return Fingerprint(self.data.class_names, described(self.preprocessor), splits)

    @property
    def interface(self) -> Interface:
        """What an artifact needs in addition to the model: task, preprocessor, labels, and examples of the test split."""
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
        """Test examples for the scores that an export compares. A streamed split is sampled from its beginning only."""
        split = self._split("test")
        whole = not self._is_streamed("test") or split.num_examples <= scan
        dataset, count = split.dataset(), split.num_examples
        if not whole:
            dataset, count = dataset.take(scan), scan
        accepts = getattr(self.preprocessor, "accepts", lambda example: True)
        return draw_sample(dataset, count, whole, self.preprocessor, self.task.targets, accepts, known)

    def _pick_examples(self, count: int = 64, scan: int = 10_000) -> Examples:
        """At least `count` test examples, the first of every class before the second of any."""
        # Some examples are valid in training but not as requests, such as a rating of an unknown item.
        accepts = getattr(self.preprocessor, "accepts", lambda example: True)
        dataset = self._split("test").dataset().take(scan)
        names, key = self.task.targets, self.task.classes
        targets = list(dataset.map(lambda e: {name: e[name] for name in names}).as_numpy_iterator()) if names else []
        if key is not None and np.ndim(targets[0][key]) == 0:
            chosen = self._spread(np.array([target[key] for target in targets]), count)
        else:
            answered = [i for i, example in enumerate(dataset.as_numpy_iterator()) if accepts(example)]
            chosen = np.array(answered[:count], np.int64)
        if not len(chosen):
            raise UsageError(
                f"No test example of data set {self.data.name!r} can be sent as a request: their values do not occur in "
                "the training split. Choose another way to split the data."
            )
        numbers = tf.constant(chosen)
        raw = dataset.enumerate().filter(lambda i, _: tf.reduce_any(i == numbers)).map(lambda _, example: example)
        requests = self.preprocessor.to_requests(list(raw.as_numpy_iterator()))
        inputs, *_ = self._collect(raw)
        arrays = {name: rectangular([targets[i][name] for i in chosen]) for name in names}
        return Examples(requests, arrays, {name: value.numpy() for name, value in inputs.items()})

    def _spread(self, labels: np.ndarray, count: int) -> np.ndarray:
        """Returns the numbers of at least `count` examples, the first of every class before the second of any."""
        self._check_classes("test", labels)
        seen: dict[int, int] = {}
        rank = []
        for label in labels.tolist():
            rank.append(seen.get(label, 0))
            seen[label] = rank[-1] + 1
        order = np.lexsort((np.arange(len(labels)), np.array(rank)))
        return np.sort(order[: max(count, len(self.data.class_names))])
