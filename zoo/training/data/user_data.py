"""Plain arrays and `tf.data` datasets as training data, for registered models and for a user's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from zoo.config import TrainConfig
from zoo.errors import UsageError, did_you_mean, one_line
from zoo.registry import describe_build
from zoo.resident import Resident
from zoo.tasks import Objective, Term, model_input, named_outputs
from zoo.training.data import user_checks as checks
from zoo.training.data.user_identity import code_of_model, identity
from zoo.training.data.user_iterables import as_dataset, build_from, own_errors
from zoo.training.data.user_outputs import (
    COUNTED,
    Compiled,
    UserOutput,
    compiled_optimizer,
    describe_compiled,
    nothing,
)
from zoo.training.data.user_splits import Arrays, Stream, make_split
from zoo.training.data.user_structure import Inputs, Outputs

Tensors = Mapping[str, tf.Tensor]
_PROBED = 2  # rows that run through the model once, to learn its output


def wrap(model: keras.Model, data: Any, validation: Any = None, steps_per_epoch: int | None = None) -> UserData:
    """Returns arrays or datasets as the training loop takes them.

    Loss, metrics and optimizer are those that the model is compiled with; of a registered model that is not compiled, its
    task's. An example's weight multiplies its loss; the mean is taken over what has a weight other than 0, which thereby
    marks what is not real, such as padding. Keras's own masks and `ignore_class` count as weight 0. As in Keras, `metrics`
    know no weights but 0, and `weighted_metrics` take them as they are.

    A dataset is taken in its own order. A resumed run continues with exactly the batches that it had not seen only
    where the dataset yields the same order every time, such as with `shuffle(..., reshuffle_each_iteration=False)`.

    Of several outputs each has its loss, loss weight, metrics and sample weights, as in Keras: dicts by the outputs' names,
    lists in their order, or one loss for all. The loss is the sum of the outputs' means, times their loss weights.

    Args:
        model: a Keras model: Functional, Sequential, or a subclassed one with one output. One without weights is built on
            the data.
        data: (x, y), (x, y, sample_weight), or a `tf.data.Dataset` of such, batched or not; a `PyDataset`, a loader, or a
            function that returns an iterator of batches, see `as_dataset`. x is an array
            (examples, ...), or a dict of them by the names of the model's inputs. Targets are what the loss expects: class
            numbers (examples,) or (examples, steps), else the output's shape; of several outputs a dict of them by name.
            Weights are (examples,), or one for each target or step; of several outputs a dict, or (examples,) for all.
            Whatever `numpy.asarray` turns into numbers will do, pandas included. (x,) is enough for a model that is
            compiled without a loss, whose layers call `add_loss`.
        validation: the same, measured after every epoch.
        steps_per_epoch: batches of an epoch, for a dataset that never ends.

    Raises:
        UsageError: data that cannot be used as it is; the message says what to pass.

    Example:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])
        >>> model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
        >>> data = wrap(model, (np.zeros((10, 4)), np.zeros(10, int)))
        >>> data.num_examples("train"), data.target_counts("train").tolist()
        (10, [10, 0, 0])
    """
    data = as_dataset(data, "")
    build_from(model, data)
    checks.check_model(model)
    inputs, compiled = Inputs(model), Compiled(model)
    outputs = Outputs(compiled.outputs, compiled.names)
    with own_errors():
        splits = {"train": make_split(data, inputs, outputs, steps=steps_per_epoch)}
        if validation is not None:
            splits["validation"] = make_split(as_dataset(validation, "validation "), inputs, outputs, "validation ")
    return UserData(model, inputs, compiled, splits)


class UserData:
    """A user's own data in the form of `zoo.training.protocols.TrainingData`; `wrap` makes it.

    Attributes:
        objective: the compiled losses and metrics.
        optimizer: what the model is compiled with; None for one that is not.
        interface: None, as nothing is known of raw inputs.
        own: True: `zoo train` cannot repeat a run on such data.
        whole_batches: names of losses and metrics that are one number for a batch, so that its size changes them.
    """

    interface = None
    own = True

    def __init__(
        self, model: keras.Model, inputs: Inputs, compiled: Compiled, splits: Mapping[str, Arrays | Stream]
    ) -> None:
        self.optimizer = compiled_optimizer(model)
        self._inputs, self._splits = inputs, splits
        answers = {name: self._probe(model, name) for name in splits}
        if not compiled.losses and not (model.compiled and model.losses):
            raise UsageError(
                f"The model {model.name!r} has no loss. Call model.compile(optimizer=..., loss=..., metrics=[...]) first."
            )
        taken = ["loss"]
        self._outputs = [
            UserOutput(model, name, compiled, splits, {k: v[name] for k, v in answers.items()}, taken)
            for name in compiled.names
        ]
        terms = [part.term for part in self._outputs if part.term is not None]
        self._counts_examples = not terms  # only what layers add is minimised
        if self._counts_examples:
            terms = [Term(COUNTED, tuple(compiled.outputs[:1]), nothing)]
        labelled = [part for part in self._outputs if part.num_classes]
        self._labelled = labelled[0] if len(labelled) == 1 else None
        self.objective = Objective(
            loss=tuple(terms),
            metrics=tuple(part.measure for part in self._outputs),
            classes=self._labelled.name if self._labelled and self._labelled.classes else None,
            weighted=self._labelled.name if self._labelled else None,
        )
        self.whole_batches = [name for part in self._outputs for name in part.of_whole_batch]
        self._described = _describe_model(model, compiled, self._outputs)

    def _probe(self, model: keras.Model, name: str) -> dict[str, tf.Tensor]:
        """The model's outputs for a split's first rows."""
        split = self._splits[name]
        rows = tf.nest.map_structure(lambda column: tf.convert_to_tensor(column[:_PROBED]), split.first()[0])
        self._inputs.check(
            {key: tuple(row.shape[1:]) for key, row in rows.items()} if self._inputs.shapes else {}, split.x
        )
        try:
            answer = model(model_input(model, rows), training=False)
        except (ValueError, TypeError, AttributeError, tf.errors.OpError) as error:
            raise UsageError(f"The model does not take {split.x}: {one_line(error, 200)} Check its shape.") from error
        if not isinstance(answer, tf.Tensor) and not getattr(model, "outputs", None):
            raise UsageError(
                f"The model returns a {type(answer).__name__} of {len(tf.nest.flatten(answer))}, whose names Keras does not "
                "know of a subclassed model; training takes one tensor. Build a Functional keras.Model, or let call return "
                "one tensor."
            )
        return named_outputs(model, answer)

    def describe(self) -> dict[str, Any]:
        """Returns the `model` and `data` sections of a run's config.yaml: facts that are equal where a run is resumed.

        Arrays are known by a hash of their contents, datasets by what an element is and how many there are.
        """
        facts = {
            f"{name}_{key}": value for name, split in self._splits.items() for key, value in split.describe().items()
        }
        return {"model": self._described, "data": {"name": "custom", **facts}}

    @property
    def batch_size(self) -> int | None:
        """The size of the batches that the training dataset yields; None for arrays and single examples."""
        found = self._split("train")
        return found.batch_size if isinstance(found, Stream) else None

    @property
    def steps_per_epoch(self) -> int | None:
        """Batches of an epoch of a dataset that never ends; None for all of its batches."""
        found = self._split("train")
        return found.steps if isinstance(found, Stream) else None

    def num_examples(self, split: str) -> int:
        """Returns how many examples train or validation has; 0 without validation."""
        if split == "validation" and split not in self._splits:
            return 0
        return self._split(split).num_examples

    def _split(self, name: str) -> Arrays | Stream:
        if name not in self._splits:
            raise UsageError(f"There is no split {name!r}. {did_you_mean(name, self._splits)}")
        return self._splits[name]

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
        """Returns batches (inputs, targets, weights), each a dict, the last one smaller where the size does not divide.

        Of arrays the order is a function of (seed, epoch) alone; a dataset keeps its own. Targets and weights have the names
        of the model's outputs. Where a target has several losses, as with steps, there are always weights, of the losses'
        shape.

        Args:
            split: train or validation.
            batch_size: examples per batch.
            seed: shuffles arrays with this seed; None keeps their order.
            epoch: which pass this is.
            start: number of batches to leave out at the beginning.
            group_by_length: rejected: nothing is padded here.

        Raises:
            UsageError: unknown split, or group_by_length.
        """
        if group_by_length:
            _reject_groups()
        found, finish = self._split(split), self._finish(split)
        batches = found.batches(batch_size, seed, epoch, start)
        return batches.map(finish, num_parallel_calls=2, deterministic=True).prefetch(8)

    def complete(self, config: TrainConfig) -> TrainConfig:
        """Returns the options as they are: nothing is known of a model of its owner's."""
        return config

    def some_inputs(self) -> dict[str, Any]:
        """Returns the inputs of a few training examples: of arrays evenly spaced ones, of a dataset its first ones."""
        columns = self._splits["train"].first()[0]
        count = len(next(iter(columns.values())))
        chosen = np.unique(np.linspace(0, count - 1, num=min(count, 64)).astype(int))
        return {name: tf.convert_to_tensor(column[chosen]) for name, column in columns.items()}

    def resident(self, split: str) -> Resident | None:
        """Returns arrays as they are in memory; None for a dataset."""
        found = self._split(split)
        if not isinstance(found, Arrays):
            return None

        def order(seed: int, epoch: int, batch_size: int, group_by_length: bool) -> np.ndarray:
            if group_by_length:
                _reject_groups()
            return found.order(seed, epoch)

        return Resident(found.columns(), order, self._finish(split))

    def _finish(self, split: str) -> Callable[..., tuple[Any, ...]]:
        """Makes the function that turns columns, targets and weights into what the loop takes."""
        found, parts, counts_examples = self._split(split), self._outputs, self._counts_examples

        @tf.autograph.experimental.do_not_convert
        def finish(inputs: Tensors, targets: Tensors, weights: Tensors) -> tuple[Any, ...]:
            made = {
                part.name: part.finish(inputs, targets[part.name], weights.get(part.name), found.label(part.name))
                for part in parts
            }
            finished = {name: target for name, (target, _) in made.items()}
            if counts_examples:
                rows = tf.shape(next(iter(inputs.values())))[:1]
                finished[COUNTED] = tf.zeros(rows, keras.config.floatx())
            return inputs, finished, {name: weight for name, (_, weight) in made.items() if weight is not None}

        return finish

    @property
    def class_names(self) -> tuple[str, ...]:
        """The class numbers as text, 0 first; empty where no target, or more than one, holds classes."""
        return tuple(map(str, range(self._labelled.num_classes if self._labelled else 0)))

    def target_counts(self, split: str) -> np.ndarray | None:
        """Returns how often each class is a target, int64 (classes,), where an example has one class: a number, the largest
        share of a row, or a probability that is rounded.

        What has weight 0 is not counted. None for other targets.
        """
        return self._labelled.counts(self._split(split)) if self._labelled else None


def _reject_groups() -> None:
    raise UsageError(
        "group_by_length goes with data that is padded batch by batch; arrays and datasets are taken as they come. "
        "Leave group_by_length out."
    )


def _describe_model(model: keras.Model, compiled: Compiled, outputs: Sequence[UserOutput]) -> dict[str, Any]:
    """What the model is and what it is compiled with, without anything that two processes might number differently."""
    build, code = describe_build(model), code_of_model(model)
    facts: dict[str, Any] = identity(model)
    if build:
        facts = {"name": build["name"], **build["arguments"], **({"code": code} if code else {})}
    losses = {part.name: part.loss for part in outputs if part.loss is not None}
    metrics = {part.name: [name for *_, name in part.metrics] for part in outputs}
    return {**facts, "compiled": describe_compiled(model, compiled, losses, metrics)}
