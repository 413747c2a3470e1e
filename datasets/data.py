"""What `load` and `prepare` return: the same objects for every task."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from zoo import registry, tasks
from zoo.datasets.interface import Examples, Interface
from zoo.datasets.preprocessors import PREPROCESSORS
from zoo.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    import keras

    from zoo.datasets.preprocessors import Preprocessor

SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class Feature:
    """One key of the examples: its shape (None where it varies) and dtype."""

    shape: tuple[int | None, ...]
    dtype: str


@dataclasses.dataclass(frozen=True)
class Split:
    """A raw split: `dataset()` gives a `tf.data.Dataset` of example dicts in a fixed order."""

    dataset: Callable[[], tf.data.Dataset]
    num_examples: int


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
        decided: dict[str, Any] = {"num_classes": len(self.class_names)} if task.needs_class_names else {}
        for name in spec.data_arguments:
            if name in chosen and chosen[name] != decided.get(name):
                raise UsageError(
                    f"{name}={chosen[name]!r} contradicts data set {self.name!r}, which has {decided.get(name)}. "
                    f"Leave {name} out."
                )
        make = PREPROCESSORS[task.preprocessor].for_model

        def train() -> tf.data.Dataset:
            return self.train.map(lambda example: example[task.feature])

        preprocessor, fixed = make(self.features[task.feature], spec.preprocessing, arguments, train)
        return Prepared(
            data=self,
            model=model,
            task=task,
            preprocessor=preprocessor,
            requested={k: v for k, v in arguments.items() if k not in spec.data_arguments},
            arguments={**arguments, **decided, **fixed},
        )


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
    """

    data: Data
    model: str
    task: tasks.Task
    preprocessor: Preprocessor
    requested: dict[str, Any]
    arguments: dict[str, Any]
    _cache: dict[str, tuple[tf.Tensor, tf.Tensor]] = dataclasses.field(default_factory=dict, repr=False)
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
        self, split: str, batch_size: int, *, seed: int | None = None, epoch: int = 0, start: int = 0
    ) -> tf.data.Dataset:
        """Returns a split as batches (model input, target), the last one smaller where it does not divide.

        The order is a function of (seed, epoch) alone, so a run that was killed goes on at batch `start` with exactly
        the batches that it had not seen.

        Args:
            split: train, validation or test.
            batch_size: examples per batch.
            seed: shuffles with this seed; None keeps the split's own order.
            epoch: which pass this is; every epoch has an order of its own.
            start: number of batches to leave out at the beginning.
        """
        raw = self._split(split)
        if self._bytes_per_example() * raw.num_examples > self.data.memory_limit:
            return self._stream(split, batch_size, seed, epoch, start)
        inputs, targets = self._tensors(split)
        order = np.arange(raw.num_examples)
        if seed is not None:
            order = np.random.default_rng([seed, epoch]).permutation(raw.num_examples)
        positions = tf.data.Dataset.from_tensor_slices(order[start * batch_size :]).batch(batch_size)

        def gather(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return self.preprocessor.trim(tf.gather(inputs, index)), tf.gather(targets, index)

        return positions.map(gather, num_parallel_calls=2, deterministic=True).prefetch(8)

    def _stream(self, split: str, batch_size: int, seed: int | None, epoch: int, start: int) -> tf.data.Dataset:
        dataset = self._split(split).dataset()
        if seed is not None:
            # One number from (seed, epoch): tf.data's own reshuffling cannot start in the middle of a run.
            state = int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])
            # Whole images wait in the buffer, so large ones get a smaller one.
            buffer = min(10_000, max(1_000, self.data.memory_limit // self._bytes_per_example()))
            dataset = dataset.shuffle(buffer, seed=state, reshuffle_each_iteration=False)
        dataset = dataset.skip(start * batch_size)
        classes = len(self.data.class_names)
        message = f"Split {split!r} of data set {self.data.name!r} has a label outside 0 to {classes - 1}."

        def checked(inputs: tf.Tensor, targets: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            # A GPU's cross-entropy answers such a label with NaN, which looks like a learning rate that is too high.
            known = tf.reduce_all((targets >= 0) & (targets < classes))
            with tf.control_dependencies([tf.debugging.Assert(known, [message])]):
                return inputs, tf.identity(targets)

        batches = self._preprocessed(dataset, batch_size)
        if self.task.needs_class_names:
            batches = batches.map(checked)
        return batches.prefetch(tf.data.AUTOTUNE)

    def _preprocessed(self, dataset: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
        """Batches of (model input, target) from raw examples."""
        key, target = self.task.feature, self.task.target

        def one(example: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
            return self.preprocessor(example[key][tf.newaxis])[0], example[target]

        def many(examples: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
            return self.preprocessor(examples[key]), examples[target]

        if None in self.data.features[key].shape:
            return dataset.map(one, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).batch(batch_size)
        return dataset.batch(batch_size).map(many, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)

    def _bytes_per_example(self) -> int:
        return 4 * int(np.prod(self.preprocessor.output_shape))

    def _tensors(self, split: str) -> tuple[tf.Tensor, tf.Tensor]:
        """The whole split as model inputs and targets, made once and kept: an epoch then costs no preprocessing."""
        if split not in self._cache:
            parts = list(self._preprocessed(self._split(split).dataset(), 256))
            if not parts:
                raise UsageError(
                    f"Split {split!r} of data set {self.data.name!r} is empty. Choose another split or data set."
                )
            with tf.device("CPU"):
                inputs = tf.concat([self._padded(inputs) for inputs, _ in parts], axis=0)
                targets = tf.concat([targets for _, targets in parts], axis=0)
            self._check_targets(split, targets.numpy())
            self._cache[split] = inputs, targets
        return self._cache[split]

    def _padded(self, inputs: tf.Tensor) -> tf.Tensor:
        """A batch of inputs padded with zeros to the longest that there can be; inputs of a fixed shape as they are."""
        longest = self.preprocessor.output_shape
        missing = [[0, most - size] for most, size in zip(longest, inputs.shape[1:], strict=True)]
        return tf.pad(inputs, [[0, 0], *missing]) if any(gap for _, gap in missing) else inputs

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
        batches = self._split(split).dataset().map(lambda example: example[key]).batch(4096)
        targets = np.concatenate([batch.ravel() for batch in batches.as_numpy_iterator()])
        return np.bincount(targets, minlength=len(self.data.class_names))

    @property
    def interface(self) -> Interface:
        """What an artifact needs beside the model: task, preprocessor, labels, and examples from the test split."""
        if self._interface is None:
            self._interface = Interface(
                task=self.task.name,
                build={"name": self.model, "arguments": registry.plain(self.arguments)},
                class_names=self.data.class_names,
                preprocessor=self.preprocessor,
                data={"name": self.data.name, "licence": self.data.licence, "source": self.data.source},
                examples=self._pick_examples(),
            )
        return self._interface

    def _pick_examples(self, count: int = 64, scan: int = 10_000) -> Examples:
        """At least `count` test examples, the first of every class before the second of any."""
        key, target = self.task.feature, self.task.target
        dataset = self._split("test").dataset().take(scan)
        targets = np.array(list(dataset.map(lambda e: e[target]).as_numpy_iterator()))
        self._check_targets("test", targets)
        if self.task.needs_class_names:
            seen: dict[int, int] = {}
            rank = []
            for t in targets.tolist():
                rank.append(seen.get(t, 0))
                seen[t] = rank[-1] + 1
            order = np.lexsort((np.arange(len(targets)), np.array(rank)))
            chosen = np.sort(order[: max(count, len(self.data.class_names))])
        else:
            chosen = np.arange(min(count, len(targets)))
        wanted = set(chosen.tolist())
        raw = [e[key] for i, e in enumerate(dataset.as_numpy_iterator()) if i in wanted]
        return Examples(requests=self.preprocessor.to_requests(raw), targets=targets[chosen])
