"""A task's objective, made for a model: sums of losses, numbers of real elements, and metrics, of named tensors."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from zoo.errors import UsageError
from zoo.metrics import TotalLoss
from zoo.tasks import Objective, output_names

Tensors = Mapping[str, tf.Tensor]
_ANY_RANK = 99
"""The rank of an output that is not known before the first call; such a model has no members."""


@contextlib.contextmanager
def members_apart(model: keras.Model) -> Iterator[None]:
    """Makes calls in training return the output of each member of an ensemble, with the members as axis 1.

    A layer takes part by an attribute `members_apart`. The loss is then the mean of the members' losses, whatever it is, and
    weights apply to all of them.
    """
    layers = [layer for layer in model._flatten_layers() if hasattr(layer, "members_apart")]
    for layer in layers:
        layer.members_apart = True
    try:
        yield
    finally:
        for layer in layers:
            layer.members_apart = False


@dataclasses.dataclass(frozen=True)
class LossTerm:
    """A term of the loss: `loss` without reduction, between a target and an output, times `weight`.

    `rank` is that of the model's output. An output with another axis is that of each member of an ensemble.
    """

    target: str
    output: str
    loss: keras.losses.Loss
    weight: float
    rank: int

    def count(self, targets: Tensors, weights: Tensors, dtype: tf.DType) -> tf.Tensor:
        """Returns how many elements are real, a scalar: what has a weight other than 0, or every example. It is the sum of
        the weights if the loss asks for their mean."""
        if self.target in weights and getattr(self.loss, "weighted_mean", False):
            return tf.cast(tf.reduce_sum(weights[self.target]), dtype)
        if self.target in weights:
            return tf.cast(tf.math.count_nonzero(weights[self.target]), dtype)
        return tf.cast(tf.shape(targets[self.target])[0], dtype)

    def sum(
        self, targets: Tensors, outputs: Tensors, weights: Tensors, factors: Sequence[float] | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the sum of weighted losses, and the number of real elements.

        Args:
            targets: by name.
            outputs: by name.
            weights: by the targets' names, where there are any.
            factors: of the loss of each class, None for equal ones.

        Raises:
            UsageError: a loss with several elements for each example, whose target has no weights.
        """
        target = targets[self.target]
        losses = self._losses(target, outputs[self.output])
        count = self.count(targets, weights, losses.dtype)
        if self.target in weights:
            losses *= tf.cast(weights[self.target], losses.dtype)
        elif losses.shape.rank != 1:
            raise UsageError(
                f"The loss {self.loss.name} gives {losses.shape} for the target {self.target!r}, which has no weights; "
                "expected one number per example. Pass weights of that shape, 0 where an element is padding."
            )
        if factors is not None:
            number_of = getattr(self.loss, "class_numbers", None)
            losses *= _factors_of(target if number_of is None else number_of(target), factors, losses.dtype)
        return tf.reduce_sum(losses), count

    def _losses(self, target: tf.Tensor, output: tf.Tensor) -> tf.Tensor:
        """Returns the loss of every element; of an ensemble, the mean of the members' losses."""
        losses: tf.Tensor
        if output.shape.rank <= self.rank:
            losses = self.loss(target, output)
            return losses
        members = output.shape[1]
        rows = tf.reshape(output, [-1, *output.shape[2:]])
        losses = self.loss(tf.repeat(target, members, axis=0), rows)
        return tf.reduce_mean(tf.reshape(losses, [-1, members, *losses.shape[1:]]), axis=1)


def _factors_of(targets: tf.Tensor, factors: Sequence[float], dtype: tf.DType) -> tf.Tensor:
    each = tf.constant(factors, dtype)
    if targets.dtype.is_floating:  # shares of every class
        return tf.linalg.matvec(tf.cast(targets, dtype), each)
    return tf.gather(each, targets)


class ModelObjective:
    """An objective with losses and metrics of its own; make it in the strategy's scope.

    Attributes:
        terms: the terms of the loss.
        metrics: the mean loss first, then the mean of each term where there are several, then the objective's own.
        classes: the target of class numbers, None for none.
        weighted: the target to whose classes class weights apply, None for none.

    Args:
        objective: the task's.
        model: whose outputs it compares.
        label_smoothing: share of every label that is spread over all classes.

    Raises:
        UsageError: the model lacks an output, or label smoothing goes with none of the losses.
    """

    def __init__(self, objective: Objective, model: keras.Model, label_smoothing: float = 0.0) -> None:
        names = self._names = output_names(model)
        shapes = [
            tensor.shape for tensor in getattr(model, "outputs", None) or []
        ]  # a model of its owner's may have none
        self._ranks = dict(zip(names, map(len, shapes), strict=True)) if shapes else dict.fromkeys(names, _ANY_RANK)
        self.classes, self.weighted = objective.classes, objective.weighted or objective.classes
        self.terms = []
        for part in objective.loss:
            output = part.output_of(names, model.name)
            smoothing = label_smoothing if self.classes in (None, part.target) else 0.0
            self.terms.append(
                LossTerm(part.target, output, part.loss(output, smoothing), part.weight, self._ranks[output])
            )
        self._measured = [
            (part.target, part.output_of(names, model.name), metric)
            for part in objective.metrics
            for metric in part.create(part.output_of(names, model.name))
        ]
        self._total = TotalLoss([term.weight for term in self.terms])
        several = self.terms if len(self.terms) > 1 else []
        self._means = [keras.metrics.Mean(name=f"{term.output}_loss") for term in several]
        for mean in self._means:
            mean._direction = "down"

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """All metrics, in the order of the columns of history.csv."""
        return [self._total, *self._means, *(metric for *_, metric in self._measured)]

    def update_metrics(
        self,
        targets: Tensors,
        outputs: Tensors,
        weights: Tensors,
        sums: Sequence[tuple[tf.Tensor, tf.Tensor]],
        penalty: tf.Tensor,
        mixed: bool = False,
    ) -> None:
        """Adds a batch, or a part of one.

        Args:
            targets: by name.
            outputs: by name.
            weights: by the targets' names.
            sums: of each term, what `LossTerm.sum` gave.
            penalty: what layers add to the loss, such as regularization.
            mixed: whether the target of classes holds shares of all classes, as mixing images makes them.
        """
        outputs = {
            name: tf.reduce_mean(part, axis=1) if part.shape.rank > self._ranks[name] else part
            for name, part in outputs.items()
        }
        self._total.update_state(sums, penalty)
        for mean, (total, count) in zip(self._means, sums, strict=False):
            mean.update_state(tf.math.divide_no_nan(total, count), sample_weight=count)
        for name, output, metric in self._measured:
            target = tf.argmax(targets[name], axis=-1) if mixed and name == self.classes else targets[name]
            metric.update_state(target, outputs[output], sample_weight=weights.get(name))

    def build_metrics(self, targets: Tensors, outputs: Tensors) -> None:
        """Makes the variables of the metrics."""
        for name, output, metric in self._measured:
            metric.update_state(targets[name], outputs[output])

    def compile_arguments(self, objective: Objective) -> dict[str, Any]:
        """Returns `loss` and `metrics` for `Model.compile`, the metrics fresh ones: Keras's callbacks look there which way
        a metric is better."""
        losses = {term.output: term.loss for term in self.terms}
        fresh = (
            metric for part in objective.metrics for metric in part.create(part.output_of(self._names, "the model"))
        )
        metrics: dict[str, list[keras.metrics.Metric]] = {name: [] for name in self._names}
        for (_, output, _), metric in zip(self._measured, fresh, strict=True):
            metrics[output].append(metric)
        if len(self._names) == 1:
            return {"loss": losses.get(self._names[0]), "metrics": metrics[self._names[0]]}
        return {"loss": losses, "metrics": metrics}

    def compiled_pair(self, targets: Tensors, outputs: Tensors) -> tuple[Any, Any]:
        """Returns targets and outputs in the structure that a model compiled with `compile_arguments` compares."""
        compared = {output: targets[name] for name, output, _ in self._measured}
        compared = {term.output: targets[term.target] for term in self.terms} | compared
        if len(self._names) == 1:
            return compared[self._names[0]], outputs[self._names[0]]
        return {name: compared.get(name) for name in self._names}, {name: outputs[name] for name in self._names}
