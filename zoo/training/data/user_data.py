"""Plain arrays and `tf.data` datasets as training data, for registered models and for a user's own."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from zoo.errors import UsageError, did_you_mean, one_line
from zoo.registry import describe_build, get_spec
from zoo.resident import Resident
from zoo.tasks import Task, get_task, output_name
from zoo.training.data import user_checks as checks
from zoo.training.data.user_losses import (
    Objective,
    PerElementMetric,
    aligned,
    compile_arguments,
    make_metric,
    only,
    plain,
    resolve_loss,
    without_number,
)
from zoo.training.data.user_splits import Arrays, Inputs, Stream, make_split, shown

_PROBED = 2  # rows that run through the model once, to learn its output


def wrap(model: keras.Model, data: Any, validation: Any = None) -> UserData:
    """Returns arrays or datasets as the training loop takes them.

    Loss, metrics and optimizer are those that the model is compiled with; of a registered model that is not compiled, its
    task's. An example's weight multiplies its loss; the mean is taken over what has a weight other than 0, which thereby
    marks what is not real, such as padding. Keras's own masks and `ignore_class` count as weight 0. As in Keras, `metrics`
    know no weights but 0, and `weighted_metrics` take them as they are.

    A dataset is taken in its own order. A run that is killed goes on with exactly the batches that it had not seen only
    where the dataset yields the same order every time, such as with `shuffle(..., reshuffle_each_iteration=False)`.

    Args:
        model: a Keras model with one output: Functional, Sequential, or a subclassed one that has been called.
        data: (x, y), (x, y, sample_weight), or a finite `tf.data.Dataset` of such, batched or not. x is an array
            (examples, ...), or a dict of them by the names of the model's inputs. Targets are what the loss expects: class
            numbers (examples,) or (examples, steps), else the output's shape. Weights are (examples,), or one for each
            target or step. Whatever `numpy.asarray` turns into numbers will do, pandas included.
        validation: the same, measured after every epoch.

    Raises:
        UsageError: what cannot be trained on as it came; the message says what to pass.

    Example:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])
        >>> model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
        >>> data = wrap(model, (np.zeros((10, 4)), np.zeros(10, int)))
        >>> data.num_examples("train"), data.target_counts("train").tolist()
        (10, [10, 0, 0])
    """
    checks.check_model(model)
    inputs = Inputs(model)
    splits = {"train": make_split(data, inputs)}
    if validation is not None:
        splits["validation"] = make_split(validation, inputs, "validation ")
    return UserData(model, inputs, splits)


class UserData:
    """A user's own data in the form of `zoo.training.loop.loop.TrainingData`; `wrap` makes it.

    Attributes:
        task: loss and metrics, under the name custom.
        optimizer: what the model is compiled with; None for one that is not.
        interface: None, as nothing is known of raw inputs.
    """

    interface = None

    def __init__(self, model: keras.Model, inputs: Inputs, splits: Mapping[str, Arrays | Stream]) -> None:
        self.optimizer: keras.optimizers.Optimizer | None = model.optimizer if model.compiled else None
        if isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer):
            self.optimizer = self.optimizer.inner_optimizer  # where float16 needs a scaled loss, the loop scales it
        self._inputs, self._splits = inputs, splits
        targets, output = splits["train"].first()[1][:_PROBED], self._probe(model, "train")
        self._objective = _objective(model, targets, output)
        self._classes = int(output.shape[-1]) if self._objective.kind == "sparse" else 0
        self._elementwise = any(self._weighs_elements(split, output) for split in splits.values())
        self._mask = _mask_model(model)
        self._rank = 1
        for name in sorted(splits, reverse=True):  # the training split last: its rank stays
            self._check(name, self._probe(model, name))
        self._metrics = _metrics(model, *aligned(targets, output, self._elementwise))
        self.task = Task(
            name="custom",
            target="",
            preprocessor="",
            report="",
            signatures={},
            loss=self._loss,
            metrics=self._fresh_metrics,
            prediction=lambda outputs: next(iter(outputs.values())),
            monitor=("val_loss", "min"),
            needs_class_names=False,
        )
        self._try_metrics(targets, output)
        self._described = _describe_model(model, self._objective, [name for *_, name in self._metrics])

    def _probe(self, model: keras.Model, name: str) -> tf.Tensor:
        """The model's answer to a split's first rows."""
        split = self._splits[name]
        rows = tf.nest.map_structure(lambda column: tf.convert_to_tensor(column[:_PROBED]), split.first()[0])
        self._inputs.check(
            {key: tuple(row.shape[1:]) for key, row in rows.items()} if self._inputs.shapes else {}, split.x
        )
        try:
            output = model(self._inputs.joined(rows), training=False)
        except (ValueError, TypeError, AttributeError, tf.errors.OpError) as error:
            raise UsageError(f"The model does not take {split.x}: {one_line(error, 200)} Check its shape.") from error
        if not isinstance(output, tf.Tensor):
            raise UsageError(
                f"The model answers a {type(output).__name__} of {len(tf.nest.flatten(output))}; training takes one tensor. "
                "Build a keras.Model(model.inputs, model.outputs[0]), or let call return one tensor."
            )
        return output

    def _weighs_elements(self, split: Arrays | Stream, output: tf.Tensor) -> bool:
        """Whether every number of a target has its own weight, which the loss's mean over the last axis would mix."""
        _, targets, weights = split.first()
        if weights is None or self._objective.kind not in ("numbers", "binary") or output.shape[-1] == 1:
            return False
        return weights.shape == targets.shape and 1 < targets.ndim == output.shape.rank

    def _check(self, name: str, output: tf.Tensor) -> None:
        """Refuses targets and weights of a split that its loss cannot judge."""
        split = self._splits[name]
        _, targets, weights = split.first()
        trained_on = self._splits["train"].first()[1].shape[1:]
        if len(targets.shape[1:]) != len(trained_on):
            raise UsageError(
                f"{split.y} is {shown(('examples', *targets.shape[1:]))}, y is {shown(('examples', *trained_on))}. "
                "Pass targets of the same shape for both."
            )
        checks.check_shapes(self._objective, targets.shape[1:], tuple(output.shape[1:]), split.y)
        loss = self._objective.per_element(self._elementwise)
        self._rank = checks.loss_rank(self._objective, loss, targets[: len(output)], output, split.y)
        where = split.y.replace("y", "sample_weight")
        if weights is not None:
            checks.check_weights(weights, targets.shape[1 : self._rank], where)
        elif self._rank > 1 and self._mask is None and getattr(output, "_keras_mask", None) is not None:
            raise UsageError(f"The model masks steps; {where} is missing. Pass weights, 0 where a step is padding.")
        checks.check_values(self._objective, targets, weights, self._classes, split.y)

    def _loss(self, model: keras.Model, label_smoothing: float = 0.0) -> keras.losses.Loss:
        return self._objective.per_element(self._elementwise, label_smoothing)

    def _fresh_metrics(self) -> list[keras.metrics.Metric]:
        return [PerElementMetric(make(), weighted, self._elementwise, name) for make, weighted, name in self._metrics]

    def _try_metrics(self, targets: np.ndarray, output: tf.Tensor) -> None:
        """Raises for a metric that cannot judge such targets, or whose value is not one number."""
        for metric in self._fresh_metrics():
            try:
                metric.update_state(np.zeros_like(targets), output, np.ones(targets.shape[: self._rank]))
                size = len(tf.nest.flatten(metric.result())) * int(np.size(tf.nest.flatten(metric.result())[0]))
            except (ValueError, TypeError, tf.errors.OpError) as error:
                raise UsageError(
                    f"Metric {metric.name!r} does not take targets {shown(('examples', *targets.shape[1:]))} with outputs "
                    f"{shown(('examples', *output.shape[1:]))}: {one_line(error, 150)} Choose a metric for such targets."
                ) from error
            if size != 1:
                raise UsageError(
                    f"Metric {metric.name!r} gives {size} numbers; expected one. Choose one with an average."
                )

    def describe(self) -> dict[str, Any]:
        """Returns the `model` and `data` sections of a run's config.yaml: facts that are equal where a run is resumed.

        Arrays are known by a hash of their contents, datasets by what an element is and how many there are.
        """
        facts = {
            f"{name}_{key}": value for name, split in self._splits.items() for key, value in split.describe().items()
        }
        return {"model": self._described, "data": {"name": "custom", **facts}}

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
        """Returns batches (inputs, targets[, weights]), the last one smaller where the size does not divide.

        Of arrays the order is a function of (seed, epoch) alone; a dataset keeps its own. Where a target has several
        losses, as with steps, there are always weights, of the losses' shape.

        Args:
            split: train or validation.
            batch_size: examples per batch.
            seed: shuffles arrays with this seed; None keeps their order.
            epoch: which pass this is.
            start: number of batches to leave out at the beginning.
            group_by_length: refused: nothing is padded here.

        Raises:
            UsageError: unknown split, or group_by_length.
        """
        if group_by_length:
            _refuse_groups()
        found, finish = self._split(split), self._finish(split)
        batches = found.batches(batch_size, seed, epoch, start)
        return batches.map(finish, num_parallel_calls=2, deterministic=True).prefetch(8)

    def some_inputs(self) -> Any:
        """Returns the inputs of a few training examples: of arrays evenly spaced ones, of a dataset its first ones."""
        columns = self._splits["train"].first()[0]
        count = len(next(iter(columns.values())))
        chosen = np.unique(np.linspace(0, count - 1, num=min(count, 64)).astype(int))
        return self._inputs.joined({name: tf.convert_to_tensor(column[chosen]) for name, column in columns.items()})

    def resident(self, split: str) -> Resident | None:
        """Returns arrays as they are in memory; None for a dataset."""
        found = self._split(split)
        if not isinstance(found, Arrays):
            return None

        def order(seed: int, epoch: int, batch_size: int, group_by_length: bool) -> np.ndarray:
            if group_by_length:
                _refuse_groups()
            return found.order(seed, epoch)

        return Resident(found.columns(), order, self._finish(split))

    def _finish(self, split: str) -> Callable[..., tuple[Any, ...]]:
        y = self._split(split).y
        return self._finisher(f"{y} has a label that is no whole number from 0 to {self._classes - 1}.")

    def _finisher(self, message: str) -> Callable[..., tuple[Any, ...]]:
        """Makes the function that turns columns, targets and weights into what the loop takes."""
        classes, rank, ignored = self._classes, self._rank, self._objective.option("ignore_class")
        joined, floatx = self._inputs.joined, keras.config.floatx()
        mask = self._mask if rank > 1 else None

        @tf.autograph.experimental.do_not_convert
        def finish(columns: dict[str, tf.Tensor], targets: tf.Tensor, *given: tf.Tensor) -> tuple[Any, ...]:
            inputs, shape = joined(columns), tf.shape(targets)[:rank]
            weights = tf.ones(shape, floatx)
            if given:
                each = tf.cast(given[0], floatx)
                if each.shape.rank == 1 or each.shape[1:] == [1]:  # one for each example
                    each = tf.broadcast_to(tf.reshape(each, [-1] + [1] * (rank - 1)), shape)
                weights *= tf.reshape(each, shape)
            if ignored is not None:
                labels = tf.reshape(targets, shape)
                weights *= tf.cast(labels != tf.cast(ignored, labels.dtype), floatx)
            if mask is not None:
                weights *= tf.cast(mask(inputs), floatx)
            if not targets.dtype.is_floating:  # a bool, or an integer in which not even the number of classes may fit
                targets = tf.cast(targets, tf.int64)
            # What is not real may be NaN or -1, and 0 times the loss of that would still be NaN.
            real = tf.reshape(weights != 0, tf.concat([shape, [1] * (targets.shape.rank - rank)], 0))
            targets = tf.where(real, targets, tf.zeros_like(targets))
            if classes:
                # A GPU's cross-entropy answers a wrong label with NaN, which looks like a learning rate that is too high.
                whole = tf.cast(targets, tf.int32)
                known = (whole >= 0) & (whole < classes) & (tf.cast(whole, targets.dtype) == targets)
                with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(known), [message])]):
                    targets = tf.reshape(whole, shape)  # (batch, 1) becomes (batch,)
            needed = given or rank > 1 or ignored is not None
            return (inputs, targets, weights) if needed else (inputs, targets)

        return finish

    @property
    def class_names(self) -> tuple[str, ...]:
        """The class numbers as text, 0 first; empty where targets are no class numbers."""
        return tuple(map(str, range(self._classes)))

    def target_counts(self, split: str) -> np.ndarray | None:
        """Returns how often each class is a target, int64 (classes,), where targets are class numbers (examples,).

        What has weight 0 is not counted. None for other targets.
        """
        if not self._classes or self._rank != 1:
            return None
        counts = np.zeros(self._classes, np.int64)
        ignored = self._objective.option("ignore_class")
        for targets, weights in self._split(split).labels():
            labels = targets.reshape(len(targets))
            real = np.ones(len(labels), bool) if weights is None else weights.reshape(-1) != 0
            real &= True if ignored is None else labels != ignored
            counts += np.bincount(labels[real].astype(np.int64), minlength=self._classes)
        return counts


def _refuse_groups() -> None:
    raise UsageError(
        "group_by_length goes with data that is padded batch by batch; arrays and datasets are taken as they come. "
        "Leave group_by_length out."
    )


def _mask_model(model: keras.Model) -> keras.Model | None:
    """A model from the inputs to the mask of the output, where Keras knows of one beforehand."""
    outputs = getattr(model, "outputs", None)
    mask = getattr(outputs[0], "_keras_mask", None) if outputs else None
    return None if mask is None else keras.Model(model.inputs, mask)


def _objective(model: keras.Model, targets: np.ndarray, output: tf.Tensor) -> Objective:
    """The compiled loss, or that of a registered model's first task whose output the model has."""
    config = compile_arguments(model) or {}
    if config.get("loss") is not None:
        factor = only(config.get("loss_weights"), "loss_weights")
        if factor not in (None, 1):
            raise UsageError(
                f"The model is compiled with loss_weights={factor}; one loss needs none. Leave loss_weights out, and change "
                "the learning rate if you want longer steps."
            )
        return resolve_loss(config["loss"], targets.shape, tuple(output.shape))
    task = _registered_task(model, output)
    if task is None:
        raise UsageError(
            f"The model {model.name!r} has no loss. Call model.compile(optimizer=..., loss=..., metrics=[...]) first."
        )
    return resolve_loss(task.loss(model, 0.0), targets.shape, tuple(output.shape))


def _registered_task(model: keras.Model, output: tf.Tensor) -> Task | None:
    build = describe_build(model)
    for name in get_spec(build["name"]).tasks if build else ():
        task = get_task(name)
        try:
            task.prediction({output_name(model): output})
        except KeyError:  # it asks for an output that this model has not
            continue
        return task
    return None


def _metrics(
    model: keras.Model, targets: tf.Tensor, output: tf.Tensor
) -> list[tuple[Callable[[], keras.metrics.Metric], bool, str]]:
    """Makers of the metrics, whether weights count, and names that are there once."""
    config, shapes = compile_arguments(model) or {}, (tuple(targets.shape), tuple(output.shape))
    found: list[tuple[Any, bool]] = []
    for key in ("metrics", "weighted_metrics"):
        entries = config.get(key)
        entries = list(entries.values()) if isinstance(entries, Mapping) else [entries]
        found += [(entry, key != "metrics") for entry in keras.tree.flatten(entries) if entry is not None]
    task = _registered_task(model, output) if config.get("loss") is None and not found else None
    found += [(metric, True) for metric in (task.metrics() if task else [])]
    makers: list[tuple[Callable[[], keras.metrics.Metric], bool, str]] = []
    names = ["loss"]
    for entry, weighted in found:
        weighted = entry.weighted if isinstance(entry, PerElementMetric) else weighted
        name = base = make_metric(entry, *shapes).name
        if name in names:
            name = base = f"weighted_{name}" if weighted else name
        while name in names:
            name = f"{base}_{sum(n.startswith(base) for n in names)}"
        names.append(name)
        makers.append((functools.partial(make_metric, entry, *shapes), weighted, name))
    return makers


def _describe_model(model: keras.Model, objective: Objective, metrics: list[str]) -> dict[str, Any]:
    """What the model is and what it is compiled with, without anything that two processes might number differently."""
    build = describe_build(model)
    if build:
        facts: dict[str, Any] = {"name": build["name"], **build["arguments"]}
    else:
        shapes = [[*v.shape] for v in model.weights]
        text = json.dumps([_numbered(_config(model)), shapes], sort_keys=True)
        facts = {"name": without_number(model.name), "sha256": hashlib.sha256(text.encode()).hexdigest()}
    optimizer = None
    if model.compiled:
        optimizer = plain(model.optimizer.get_config())
        optimizer["name"] = without_number(optimizer["name"])
    names = [without_number(name) for name in metrics]
    return {**facts, "compiled": {"loss": objective.describe(), "metrics": names, "optimizer": optimizer}}


def _config(model: keras.Model) -> Any:
    try:
        return plain(model.get_config())
    except (NotImplementedError, TypeError, ValueError):  # a subclassed model need not have one
        return type(model).__name__


def _numbered(config: Any) -> Any:
    """The configuration with every layer's name replaced by its position: automatic names go on counting in a process."""
    names: dict[str, str] = {}

    def collect(part: Any) -> None:
        if isinstance(part, dict):
            if isinstance(part.get("name"), str):
                names.setdefault(part["name"], f"#{len(names)}")
            part = list(part.values())
        for inner in part if isinstance(part, list) else ():
            collect(inner)

    def replace(part: Any) -> Any:
        if isinstance(part, dict):
            return {names.get(k, k): replace(v) for k, v in part.items()}
        if isinstance(part, list):
            return [replace(inner) for inner in part]
        return names.get(part, part) if isinstance(part, str) else part

    collect(config)
    return replace(config)
