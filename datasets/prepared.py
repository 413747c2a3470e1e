"""The class that `prepare` returns: a data set as inputs, targets and weights of one model."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from zoo import display, registry, tasks
from zoo import recommended as recommendations
from zoo.config import TrainConfig, as_config
from zoo.datasets.batches import plain
from zoo.datasets.display import as_html, as_text
from zoo.datasets.fingerprint import Fingerprint
from zoo.datasets.interface import Interface, described, needed_plugins
from zoo.datasets.preprocessing.base import Choices, Tensors
from zoo.datasets.sampling import describe_training, draw_sample, pick_examples
from zoo.datasets.split_reader import SplitReader
from zoo.errors import UsageError
from zoo.predictions import predict_split

if TYPE_CHECKING:
    import keras

    from zoo.checkpoints.word_vectors import WordVectors
    from zoo.datasets.preprocessing.base import Preprocessor
    from zoo.datasets.raw import RawData
    from zoo.resident import Resident

_BATCH = 256


@dataclasses.dataclass(repr=False)
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
        other: a name for the files of a report, if the data is not that of the model's run.
        recommended: those of the requested arguments that the model recommends for the data, and the user left open.
        start: the run whose weights the training begins with, as config.yaml records it; None for initial weights.
        pretrained: name, source, licence and SHA-256 of the published weights that the model was made from, as config.yaml
            records them; empty for a local path or random weights, except for word vectors.
        word_vectors: the vectors that the embedding of the words begins with; None for random ones.
        golden: the requests that the run's SavedModel publishes, as config.yaml records them; None for test examples.
    """

    data: RawData
    model: str
    task: tasks.Task
    preprocessor: Preprocessor
    requested: dict[str, Any]
    arguments: dict[str, Any]
    changed: Mapping[str, str] = dataclasses.field(default_factory=dict)
    other: str = ""
    recommended: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    start: Mapping[str, Any] | None = None
    golden: Any = None
    pretrained: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    word_vectors: WordVectors | None = None

    def __post_init__(self) -> None:
        self.task = self.task.for_targets(self.preprocessor)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {shape}" for name, shape in self.preprocessor.input_shapes.items())
        return f"{as_text(self.data)}\nPrepared for {self.model} by {self.preprocessor.kind}: {shapes}"

    def _repr_html_(self) -> str:
        shapes = [[name, str(shape)] for name, shape in self.preprocessor.input_shapes.items()]
        return as_html(self.data) + display.table([f"input of {self.model}", "shape"], shapes)

    @property
    def objective(self) -> tasks.Objective:
        """The losses and metrics of the training."""
        return self.task.objective

    @property
    def whole_batches(self) -> tuple[str, ...]:
        """What compares the examples of a batch with each other, so that a batch must not be divided; usually nothing."""
        return (f"the loss of {self.task.name}",) if self.objective.paired is not None else ()

    @property
    def overlap(self) -> int:
        """The number of neighbouring training examples that may share elements of their targets."""
        return self.data.splits["train"].overlap

    def is_built(self, model: keras.Model) -> bool:
        """Returns whether a model is one that `build` made."""
        return registry.is_built_as(model, self.model, self.arguments)

    def build(self, *, seed: int | None = None) -> keras.Model:
        """Builds the model, with the weights that its family computes from the data. Call it inside the strategy's
        scope.

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
        if not hasattr(model, "output_names"):
            raise UsageError(
                f"The builder of {self.model!r} returned a {type(model).__name__}; expected a Functional Keras model, whose "
                "inputs and outputs have names. Return keras.Model(inputs, outputs)."
            )
        self.check_fits(model)
        if (adapt := registry.get_spec(self.model).adapt) is not None:
            adapt(model, self)
        return model

    def check_fits(self, model: keras.Model) -> None:
        """Raises UsageError if the model does not fit the preprocessor's outputs or the task's targets, before training
        starts."""
        if not hasattr(model, "output_names"):
            raise UsageError(
                f"The model {model.name!r} is a {type(model).__name__}; expected a Functional Keras model, whose inputs and "
                "outputs have names. Pass keras.Model(model.inputs, model.outputs)."
            )
        takes = {tensor.name: tf.TensorShape(tensor.shape[1:]) for tensor in model.inputs}
        given = {name: tf.TensorShape(shape) for name, shape in self.preprocessor.input_shapes.items()}
        if len(takes) == len(given) == 1:
            given = dict(zip(takes, given.values(), strict=True))
        if {*takes} != {*given} or not all(takes[name].is_compatible_with(given[name]) for name in takes):
            shown = [{name: shape.as_list() for name, shape in shapes.items()} for shapes in (takes, given)]
            lacking = ", ".join(repr(name) for name in given if name not in takes)
            advice = (
                f"Give its builder inputs of these names, {lacking} too: keras.Input(shape, name=NAME)"
                if len(given) > 1 and lacking
                else "Build it with these, or give its builder an argument input_shape, which the data then decides"
            )
            raise UsageError(
                f"Model {self.model!r} has the inputs {shown[0]}; data set {self.data.name!r} gives {shown[1]}. {advice}."
            )
        self.objective.check_outputs(model)
        classes, names = self.objective.num_classes(model), len(self.class_names)
        if classes is not None and classes != names:
            raise UsageError(
                f"Model {self.model!r} has {classes} classes; data set {self.data.name!r} has {names}. Give its builder an "
                "argument num_classes, which the data decides."
            )
        if self.objective.quantiles:
            targets: Any = getattr(self.preprocessor, "targets")  # noqa: B009
            columns, needed = model.outputs[0].shape[-1], targets.arguments["num_classes"]
            if columns != needed:
                raise UsageError(
                    f"Model {self.model!r} has {columns} outputs; data set {self.data.name!r} needs {needed}, for values and "
                    f"their quantiles {list(self.objective.quantiles)}. Give its builder an argument num_classes, which the "
                    "data decides, or leave quantiles out."
                )

    def describe(self) -> dict[str, Any]:
        """Returns the `model` and `data` sections of a run's config.yaml, and `plugins`, `start_from`, `pretrained` and
        `golden` if it has any.

        Arguments from the data are left out, so that the file can be used with another data set.
        """
        source = {"data source": self.data.name.partition(":")[0]}
        plugins = needed_plugins(self.model, self.task.name, self.preprocessor, **source)
        facts = {plugin.name: {"source": plugin.source, "sha256": plugin.sha256} for plugin in plugins}
        return {
            **({"plugins": facts} if facts else {}),
            **({"start_from": dict(self.start)} if self.start else {}),
            **({"pretrained": registry.plain(self.pretrained)} if self.pretrained else {}),
            **({"golden": self.golden} if self.golden is not None else {}),
            "model": {"name": self.model, **registry.plain(self.requested)},
            "data": {
                "name": self.data.name,
                **registry.plain(dict(self.data.arguments)),
                "memory_limit": self.data.memory_limit,  # it affects the order of the examples
            },
        }

    def num_examples(self, split: str) -> int:
        """Returns how many examples a split has."""
        return self._splits.split(split).num_examples

    @functools.cached_property
    def _splits(self) -> SplitReader:
        return SplitReader(self.data, self.task, self.preprocessor)

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

        Each part is a dict of tensors by name. Weights have the names of their targets. A split in memory and one that is
        read by row number have the same batches.
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
        return self._splits.batches(split, batch_size, seed, epoch, start, group_by_length)

    def share(
        self,
        split: str,
        batch_size: int,
        share: Sequence[int],
        *,
        seed: int | None = None,
        epoch: int = 0,
        start: int = 0,
    ) -> tf.data.Dataset | None:
        """Returns only some rows of each of the batches that `batches` returns, and reads no other example.

        Args:
            split: train, validation or test.
            batch_size: examples per whole batch.
            share: number of the share, number of shares, and least rows of a batch, see `zoo.datasets.shares.Share`.
            seed: as in `batches`, like `epoch` and `start`.

        Returns:
            ((inputs, targets, weights), (places, real, size)), see `zoo.datasets.shares.Part`. None for a split in memory,
            and where a row depends on the other rows of its batch, as padding does.
        """
        return self._splits.share(split, batch_size, seed, epoch, start, share)

    def fault(self, split: str, batch_size: int, *, seed: int | None = None, epoch: int = 0, start: int = 0) -> str:
        """Returns which example from batch `start` on has a file that is missing or has changed, and why; empty if
        there is none. It reads the files again, of at most 200 batches."""
        return self._splits.fault(split, batch_size, seed, epoch, start)

    def resident(self, split: str) -> Resident | None:
        """Returns a split as it is held in memory; None if it is read as a stream or drawn again in every epoch."""
        return self._splits.resident(split)

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

    def complete(self, config: TrainConfig | Mapping[str, Any] | None = None) -> TrainConfig:
        """Returns training options with what the model recommends for the data, for those that were not passed, and with
        the quantiles of the data.

        Args:
            config: the options that were chosen, as `TrainConfig` or as a dict of its fields.

        Example:
            >>> zoo.datasets.load("iris").prepare("mlp").complete({"epochs": 5}).batch_size
            32
        """
        facts = getattr(self.preprocessor, "choices", Choices()).facts
        situation = registry.Situation(self.task.name, self.num_examples("train"), self.arguments, facts)
        spec = registry.get_spec(self.model)
        recommended = recommendations.options_of(spec, situation)
        unsolved = self.objective.quantiles and not spec.solves_quantiles
        if self.start or unsolved:  # weights of a run are trained further
            recommended.pop("closed_form", None)
        if unsolved:
            recommended.pop("head_first", None)
        recommended = {**recommended, "quantiles": list(self.objective.quantiles)}
        return as_config(config).completed(recommended, validation=self.num_examples("validation") > 0)

    def some_inputs(self) -> Tensors:
        """Returns the model inputs of the first 64 training examples."""
        inputs: Tensors = next(iter(self.batches("train", 64)))[0]
        return inputs

    def training_inputs(self) -> Iterator[dict[str, np.ndarray]]:
        """Yields the model inputs of all training examples in batches, dicts of arrays, for `ModelSpec.adapt`."""
        for inputs, _, _ in self.batches("train", 1_024).as_numpy_iterator():
            yield inputs

    def target_counts(self, split: str) -> np.ndarray | None:
        """Returns the number of examples of each class in a split, int64 (num_classes,); None for tasks without classes."""
        key = self.task.classes
        if key is None:
            return None
        found = self._splits.split(split).dataset().map(lambda e: e[key])
        if found.element_spec.shape.is_fully_defined():
            found = found.batch(1_024)  # which is read a hundred times as fast
        targets = np.concatenate([part.ravel() for part in found.as_numpy_iterator()])
        return np.bincount(targets[targets >= 0], minlength=len(self.data.class_names))

    def decide(self, model: keras.Model, abstain: float | None = None) -> dict[str, Any]:
        """Returns what the outputs of a trained model need besides its weights, such as thresholds chosen on the validation
        split; empty if the task decides nothing.

        Args:
            model: the trained model.
            abstain: the least share of right answers, see `TrainConfig.abstain`; None for a model that always answers.
        """
        decide, choose = self.task.decide, self.task.abstain if abstain is not None else None
        if (decide is None and choose is None) or not self.num_examples("validation"):
            return {}
        targets, predictions, weights = predict_split(model, self, "validation", _BATCH)
        found = decide(targets, predictions) if decide is not None else {}
        return {**found, **choose(targets, predictions, weights, abstain)} if choose and abstain else found

    @property
    def class_names(self) -> tuple[str, ...]:
        """The labels in the order of their numbers, empty for tasks without labels."""
        return self.data.class_names

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of the class names, the preprocessor and the content of the splits."""
        splits = {k: {"examples": v.num_examples, "sha256": v.sha256} for k, v in self.data.splits.items()}
        return Fingerprint(self.data.class_names, described(self.preprocessor), splits)

    @functools.cached_property
    def interface(self) -> Interface:
        """What an artifact needs in addition to the model: task, preprocessor, labels, and examples of the test split."""
        examples = pick_examples(self._splits)
        return Interface(
            task=self.task.name,
            build={"name": self.model, "arguments": registry.plain(self.arguments)},
            class_names=self.data.class_names,
            preprocessor=self.preprocessor,
            data={
                **{"name": self.data.name, "licence": self.data.licence, "source": self.data.source},
                **{name: registry.plain(given) for name, given in self.data.arguments.items() if name == "columns"},
                **{name: given for name, given in self.data.about.items() if name == "format" and given},
            },
            splits=self.fingerprint.splits,
            examples=examples,
            statistics=describe_training(self._splits),
            sample=draw_sample(self._splits, examples) if self.task.score is not None else None,
            pretrained=registry.plain(self.pretrained),
        )
