"""What a user's model is compiled with, output by output, and what the loop makes of targets and weights."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from zoo.errors import UsageError, did_you_mean, one_line
from zoo.registry import describe_build, get_spec
from zoo.tasks import Measure, Objective, Term, get_task, model_input, output_names
from zoo.training.data import user_checks as checks
from zoo.training.data.user_identity import code_digest
from zoo.training.data.user_losses import (
    CompiledLoss,
    aligned,
    check_reduction,
    compile_arguments,
    only,
    plain,
    resolve_loss,
    without_number,
)
from zoo.training.data.user_metrics import PerElementMetric, make_metric
from zoo.training.data.user_splits import Arrays, Stream
from zoo.training.data.user_structure import format_shape
from zoo.training.figures import figures

COUNTED = "examples"
"""The target of a model whose layers alone add to the loss: it only counts the examples."""


class Compiled:
    """Losses, their weights and metrics as they came, by output.

    Attributes:
        losses: outputs with a loss, in the model's order.
        factors: the weight of each loss.
        metrics: of each output, entries with whether weights count.
        names: outputs that are compared with a target.
        by_task: whether the model is compiled without a loss, so that the losses are the task's.

    Args:
        model: the model.
        objective: what an uncompiled loss is taken from; None for the task of a registered model.

    Raises:
        UsageError: a name or a number of entries that the outputs do not have.
    """

    def __init__(self, model: keras.Model, objective: Objective | None = None) -> None:
        self.outputs = output_names(model)
        config = compile_arguments(model) or {}
        self.losses = {
            k: v for k, v in self._by_output(config.get("loss"), "loss", alike=True).items() if v is not None
        }
        for loss in self.losses.values():
            check_reduction(loss)
        factors = self._by_output(config.get("loss_weights"), "loss_weights")
        self.factors = {name: float(1.0 if factors.get(name) is None else factors[name]) for name in self.losses}
        self.metrics: dict[str, list[tuple[Any, bool]]] = {name: [] for name in self.outputs}
        for key in ("metrics", "weighted_metrics"):
            for name, entries in self._metrics_by_output(config.get(key), key).items():
                entries = [entry for entry in keras.tree.flatten([entries]) if entry is not None]
                self.metrics[name] += [(entry, key != "metrics") for entry in entries]
        objective = None if self.losses else objective or registered_objective(model)
        self.by_task = objective is not None
        if objective is not None:
            self._take(objective, model)
        self.names = [name for name in self.outputs if name in self.losses or self.metrics[name]]

    def _take(self, objective: Objective, model: keras.Model) -> None:
        """Takes what a task says, where the model is not compiled with a loss."""
        for term in objective.loss:
            name = term.output_of(self.outputs, model.name)
            self.losses[name], self.factors[name] = term.loss(name, 0.0), term.weight
        if not any(self.metrics.values()):
            for measure in objective.metrics:
                name = measure.output_of(self.outputs, model.name)
                self.metrics[name] += [(metric, True) for metric in measure.create(name)]

    def _by_output(self, value: Any, what: str, alike: bool = False) -> dict[str, Any]:
        """Returns what belongs to each output; `alike` gives one entry to all of them."""
        if value is None:
            return {}
        if len(self.outputs) == 1:
            return {self.outputs[0]: only(value, what)}
        if isinstance(value, Mapping) and "class_name" not in value:
            for name in value:
                if name not in self.outputs:
                    raise UsageError(
                        f"The model is compiled with {what} for {name!r}; it has no such output. "
                        f"{did_you_mean(str(name), self.outputs)}"
                    )
            return {name: value[name] for name in self.outputs if name in value}
        if isinstance(value, (list, tuple)) and len(value) == len(self.outputs):
            return dict(zip(self.outputs, value, strict=True))
        if alike and not isinstance(value, (list, tuple)):
            return dict.fromkeys(self.outputs, value)
        raise UsageError(
            f"The model is compiled with {what}={value!r}; it has the outputs {', '.join(self.outputs)}. "
            "Pass a dict with these names."
        )

    def _metrics_by_output(self, value: Any, what: str) -> dict[str, Any]:
        if value is None or len(self.outputs) > 1:
            return self._by_output(value or None, what)
        return {self.outputs[0]: list(value.values()) if isinstance(value, Mapping) else value}


def registered_objective(model: keras.Model) -> Objective | None:
    """Returns the objective of the first task of a registered model whose outputs the model has; None for a model of the
    user's own."""
    build = describe_build(model)
    for name in get_spec(build["name"]).tasks if build else ():
        objective = get_task(name).objective
        try:
            objective.check_outputs(model)
        except UsageError:  # it asks for an output that this model has not
            continue
        return objective
    return None


def compiled_optimizer(model: keras.Model) -> keras.optimizers.Optimizer | None:
    """Returns the optimizer that a model is compiled with; where float16 needs a scaled loss, the loop scales it."""
    optimizer = model.optimizer if model.compiled else None
    return optimizer.inner_optimizer if isinstance(optimizer, keras.optimizers.LossScaleOptimizer) else optimizer


def describe_compiled(
    model: keras.Model, compiled: Compiled, losses: Mapping[str, CompiledLoss], metrics: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """Returns what a model is compiled with, without anything that two processes might number differently.

    Args:
        model: the model.
        compiled: its losses and metrics.
        losses: what is known of the losses, by output.
        metrics: names of the metrics, by output.
    """
    optimizer = None
    if model.compiled:
        optimizer = plain(model.optimizer.get_config())
        optimizer["name"] = without_number(optimizer["name"])
    # Keras numbers layers across a process: outputs are identified by their positions.
    described = {}
    for name, loss in losses.items():
        factor = compiled.factors[name]
        described[str(compiled.outputs.index(name))] = loss.describe() | ({"weight": factor} if factor != 1 else {})
    code = code_digest(*(loss.loss for loss in losses.values()))
    only_loss = next(iter(described.values())) if len(compiled.outputs) == len(described) == 1 else described
    names = [without_number(name) for found in metrics.values() for name in found]
    facts = {"loss": only_loss, "metrics": names, "optimizer": optimizer}
    return facts | ({"code": code} if code else {})


class UserOutput:
    """An output that is compared with a target: its loss and metrics, and how its targets and weights are read.

    Attributes:
        name: the output's name, which is its target's too.
        loss: what is known of the compiled loss, None for an output that is measured alone.
        classes: number of classes where targets are class numbers, else 0.
        num_classes: the same, also where targets are rows of shares, or one probability of the second of two classes.
        rank: how many axes the losses of a batch have.
        of_whole_batch: names of losses and metrics that are one number for a batch, not one for each example.

    Args:
        model: the model.
        name: the output's name.
        compiled: what it is compiled with.
        splits: the data, by split.
        answers: the model's outputs for the first rows of each split.
        taken: names of metrics that other outputs have.

    Raises:
        UsageError: a loss or metric that cannot score such targets, or targets and weights that fit none.
    """

    def __init__(
        self,
        model: keras.Model,
        name: str,
        compiled: Compiled,
        splits: Mapping[str, Arrays | Stream],
        answers: Mapping[str, tf.Tensor],
        taken: list[str],
    ) -> None:
        self.name, self.factor = name, compiled.factors.get(name, 1.0)
        output = answers["train"]
        targets = splits["train"].first()[1][name][: len(output)]
        identifier, shapes = compiled.losses.get(name), (targets.shape, tuple(output.shape))
        self.loss = None if identifier is None else resolve_loss(identifier, *shapes)
        self.classes = int(output.shape[-1]) if self.loss is not None and self.loss.kind == "sparse" else 0
        self.of_whole_batch: list[str] = []
        self.num_classes = self.classes
        if self.loss is not None and self.loss.kind == "one_hot" and output.shape.rank == 2:
            self.num_classes = int(output.shape[-1])
        elif self.loss is not None and self.loss.kind == "binary" and output.shape[1:] in ([], [1]):
            self.num_classes = 2
        self._has_weights = any(name in split.first()[2] for split in splits.values())
        self._elementwise = any(self._weighs_elements(split, output) for split in splits.values())
        self._mask = _mask_model(model, name, compiled.outputs)
        self.rank = 1
        for split in sorted(splits, reverse=True):  # the training split last: its rank stays
            self._check(splits, split, answers[split])
        prefix = f"{name}_" if len(compiled.outputs) > 1 else ""
        aligned_shapes = tuple(tuple(part.shape) for part in aligned(targets, output, self._elementwise))
        self.metrics = metric_makers(compiled.metrics[name], aligned_shapes, prefix, taken)
        self._try_metrics(targets, output)

    def _weighs_elements(self, split: Arrays | Stream, output: tf.Tensor) -> bool:
        """Whether every number of a target has its own weight, which the loss's mean over the last axis would mix."""
        _, targets, weights = split.first()
        given, kind = weights.get(self.name), self.loss.kind if self.loss is not None else "own"
        if given is None or kind not in ("numbers", "binary") or output.shape[-1] == 1:
            return False
        return given.shape == targets[self.name].shape and 1 < given.ndim == output.shape.rank

    def _check(self, splits: Mapping[str, Arrays | Stream], name: str, output: tf.Tensor) -> None:
        """Rejects targets and weights of a split that its loss cannot score."""
        split = splits[name]
        _, all_targets, all_weights = split.first()
        targets, weights, y = all_targets[self.name], all_weights.get(self.name), split.label(self.name)
        trained_on = splits["train"].first()[1][self.name].shape[1:]
        if len(targets.shape[1:]) != len(trained_on):
            raise UsageError(
                f"{y} is {format_shape(('examples', *targets.shape[1:]))}, {splits['train'].label(self.name)} is "
                f"{format_shape(('examples', *trained_on))}. Pass targets of the same shape for both."
            )
        if self.loss is None:
            return
        checks.check_shapes(self.loss, targets.shape[1:], tuple(output.shape[1:]), y)
        loss = self.loss.per_element(self._elementwise)
        self.rank = checks.loss_rank(self.loss, loss, targets[: len(output)], output, y)
        where = split.label(self.name, "sample_weight")
        if self.rank == 0:
            self.rank, self.of_whole_batch = 1, [self.loss.name]
            if weights is not None:
                raise _no_weights("loss", self.loss.name)
        if weights is not None:
            checks.check_weights(weights, targets.shape[1 : self.rank], where)
        elif self.rank > 1 and self._mask is None and getattr(output, "_keras_mask", None) is not None:
            raise UsageError(f"The model masks steps; {where} is missing. Pass weights, 0 where a step is padding.")
        checks.check_values(self.loss, targets, weights, self.classes, y)

    def _try_metrics(self, targets: np.ndarray, output: tf.Tensor) -> None:
        """Raises for a metric that cannot score such targets, or whose value is no numbers."""
        ignored = self.loss is not None and self.loss.option("ignore_class") is not None
        weights = np.ones(targets.shape[: self.rank]) if self._has_weights or self.rank > 1 or ignored else None
        for metric in self.fresh_metrics():
            try:
                if metric.is_of_whole_batch(np.zeros_like(targets), output):
                    self.of_whole_batch.append(metric.name)
                    if weights is not None:
                        break
                metric.update_state(np.zeros_like(targets), output, weights)
                figures(metric)
            except (ValueError, TypeError, tf.errors.OpError) as error:
                raise UsageError(
                    f"Metric {metric.name!r} does not take targets "
                    f"{format_shape(('examples', *targets.shape[1:]))} with outputs "
                    f"{format_shape(('examples', *output.shape[1:]))}: {one_line(error, 150)} Choose a metric "
                    "for such targets."
                ) from error
        if weights is not None and self.of_whole_batch:
            raise _no_weights("metric", self.of_whole_batch[-1])

    def per_element(self, output: str, label_smoothing: float = 0.0) -> keras.losses.Loss:
        """Returns the loss without reduction."""
        assert self.loss is not None
        return self.loss.per_element(self._elementwise, label_smoothing, self.loss.name in self.of_whole_batch)

    def fresh_metrics(self) -> list[PerElementMetric]:
        """Returns the metrics, without state."""
        return [PerElementMetric(make(), weighted, self._elementwise, name) for make, weighted, name in self.metrics]

    @property
    def term(self) -> Term | None:
        """The term of the loss."""
        return None if self.loss is None else Term(self.name, (self.name,), self.per_element, self.factor)

    @property
    def measure(self) -> Measure:
        """The metrics."""
        return Measure(self.name, (self.name,), lambda: [*self.fresh_metrics()])

    def finish(
        self, inputs: Mapping[str, tf.Tensor], targets: tf.Tensor, given: tf.Tensor | None, y: str
    ) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Makes of a batch's targets and weights what the loop takes; weights are None where every example is one.

        Args:
            inputs: by name, from which a mask may follow.
            targets: (batch, ...).
            given: weights, None for none.
            y: how messages call the targets.
        """
        classes, rank, floatx = self.classes, self.rank, keras.config.floatx()
        ignored = self.loss.option("ignore_class") if self.loss is not None else None
        shape = tf.shape(targets)[:rank]
        weights = tf.ones(shape, floatx)
        if given is not None:
            each = tf.cast(given, floatx)
            if each.shape.rank == 1 or each.shape[1:] == [1]:  # one for each example
                each = tf.broadcast_to(tf.reshape(each, [-1] + [1] * (rank - 1)), shape)
            weights *= tf.reshape(each, shape)
        if ignored is not None:
            labels = tf.reshape(targets, shape)
            weights *= tf.cast(labels != tf.cast(ignored, labels.dtype), floatx)
        if self._mask is not None and rank > 1:
            weights *= tf.cast(self._mask(model_input(self._mask, inputs)), floatx)
        if not targets.dtype.is_floating:  # a bool, or an integer in which not even the number of classes may fit
            targets = tf.cast(targets, tf.int64)
        # What is not real may be NaN or -1, and 0 times the loss of that would still be NaN.
        real = tf.reshape(weights != 0, tf.concat([shape, [1] * (targets.shape.rank - rank)], 0))
        targets = tf.where(real, targets, tf.zeros_like(targets))
        if classes:
            # A GPU's cross-entropy returns NaN for a wrong label, which looks like a learning rate that is too high.
            message = f"{y} has a label that is no whole number from 0 to {classes - 1}."
            whole = tf.cast(targets, tf.int32)
            known = (whole >= 0) & (whole < classes) & (tf.cast(whole, targets.dtype) == targets)
            with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(known), [message])]):
                targets = tf.reshape(whole, shape)  # (batch, 1) becomes (batch,)
        needed = given is not None or rank > 1 or ignored is not None
        return targets, weights if needed else None

    def counts(self, split: Arrays | Stream) -> np.ndarray | None:
        """Returns how often each class is a target, int64 (classes,), without what has weight 0; None for other targets."""
        if not self.num_classes or self.rank != 1 or self.loss is None:
            return None
        counts, ignored = np.zeros(self.num_classes, np.int64), self.loss.option("ignore_class")
        for targets, weights in split.labels(self.name):
            labels = np.asarray(self.per_element(self.name).class_numbers(targets)).reshape(len(targets))
            real = np.ones(len(labels), bool) if weights is None else weights.reshape(-1) != 0
            real &= True if ignored is None else labels != ignored
            counts += np.bincount(labels[real].astype(np.int64), minlength=self.num_classes)
        return counts


def _no_weights(kind: str, name: str) -> UsageError:
    return UsageError(
        f"The {kind} {name} is one number for a whole batch, so weights cannot count examples more or less. Leave "
        f"sample_weight out, or let {name} give one number for each example: keras.ops.mean(..., axis=-1)."
    )


def _mask_model(model: keras.Model, name: str, names: Sequence[str]) -> keras.Model | None:
    """A model from the inputs to the mask of an output, where Keras knows of one beforehand."""
    outputs = getattr(model, "outputs", None)
    mask = getattr(outputs[names.index(name)], "_keras_mask", None) if outputs else None
    return None if mask is None else keras.Model(model.inputs, mask)


def metric_makers(
    entries: Sequence[tuple[Any, bool]], shapes: tuple[Any, ...], prefix: str, taken: list[str]
) -> list[tuple[Callable[[], keras.metrics.Metric], bool, str]]:
    """Returns makers of the metrics, whether weights count, and names that are there once; adds these to `taken`."""
    makers: list[tuple[Callable[[], keras.metrics.Metric], bool, str]] = []
    for entry, weighted in entries:
        weighted = entry.weighted if isinstance(entry, PerElementMetric) else weighted
        name = base = f"{prefix}{make_metric(entry, *shapes).name}"
        if name in taken:
            name = base = f"{prefix}weighted_{name.removeprefix(prefix)}" if weighted else name
        while name in taken:
            name = f"{base}_{sum(n.startswith(base) for n in taken)}"
        taken.append(name)
        makers.append((functools.partial(make_metric, entry, *shapes), weighted, name))
    return makers


def nothing(output: str, label_smoothing: float = 0.0) -> keras.losses.Loss:
    """Returns a loss of 0 for each example: what layers add is all that is minimised.

    Raises:
        UsageError: label smoothing, for which there are no labels.
    """
    if label_smoothing:
        raise UsageError(
            f"label_smoothing={label_smoothing} goes with classes; the model has no loss but what its layers add. Leave "
            "label_smoothing out."
        )
    return _Nothing(reduction=None)


@keras.saving.register_keras_serializable("zoo")
class _Nothing(keras.losses.Loss):
    def call(self, y_true: Any, y_pred: Any) -> Any:
        return keras.ops.zeros_like(y_true)
