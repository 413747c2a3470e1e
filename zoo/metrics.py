"""Losses and metrics that Keras lacks or computes incorrectly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from zoo.errors import UsageError


def _difference(y_true: Any, y_pred: Any) -> Any:
    """Returns the difference of targets and outputs of one shape; broadcasting would compare each with all others."""
    y_true, y_pred = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
    shapes = tuple(y_true.shape), tuple(y_pred.shape)
    same_rank = len(shapes[0]) == len(shapes[1])
    if not same_rank or any(one != two for one, two in zip(*shapes, strict=True) if None not in (one, two)):
        raise UsageError(
            f"The targets have the shape {shapes[0]}, the outputs {shapes[1]}; expected the same shape. Return targets of "
            "shape (batch, n) for an output of n numbers, also for n = 1."
        )
    return y_true - y_pred


def _per_example(values: Any) -> Any:
    """The mean over all axes except the first: (batch,). Keras always uses the last axis, even if it is the batch."""
    axes = tuple(range(1, len(values.shape)))
    return ops.mean(values, axis=axes) if axes else values


@keras.saving.register_keras_serializable("zoo")
class CrossEntropy(keras.losses.Loss):
    """Cross-entropy of class numbers (batch,) or (batch, steps), or of shares of classes, which have an additional axis.

    Keras has one loss for each, and smooths labels only in the second. Source of the smoothing: Szegedy et al., Rethinking
    the inception architecture, CVPR 2016, section 7.

    Args:
        from_logits: whether outputs are logits, not probabilities.
        label_smoothing: share of every label that is spread over all classes.

    Example:
        >>> CrossEntropy(reduction=None)([1], [[0.5, 0.5]]).numpy().round(3).tolist()
        [0.693]
    """

    def __init__(
        self, from_logits: bool = False, label_smoothing: float = 0.0, name: str = "cross_entropy", **kwargs: Any
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.from_logits, self.label_smoothing = from_logits, label_smoothing

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns one value per label."""
        numbers = len(y_true.shape) < len(y_pred.shape)
        if numbers and not self.label_smoothing:
            return ops.sparse_categorical_crossentropy(y_true, y_pred, from_logits=self.from_logits)
        classes = y_pred.shape[-1]
        shares = ops.one_hot(ops.cast(y_true, "int32"), classes, dtype=y_pred.dtype) if numbers else y_true
        shares = (1 - self.label_smoothing) * shares + self.label_smoothing / classes
        return ops.categorical_crossentropy(shares, y_pred, from_logits=self.from_logits)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        own = {"from_logits": self.from_logits, "label_smoothing": self.label_smoothing}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable("zoo")
class ContrastiveLoss(keras.losses.Loss):
    """Contrastive loss with in-batch negatives: the cross-entropy of finding a text of the same label among all others.

    Labels (batch,), vectors (batch, dim). The scores of a text are its cosines with all other texts of the batch, multiplied
    by `scale`. Its loss is the mean, over the texts with its label, of the negative logarithm of their softmax. A text whose
    label no other text has is left out, and the others are weighted so that the mean over the batch is the mean over them.
    With one pair of each label this is the multiple negatives ranking loss in both directions.

    Sources: Khosla et al., Supervised contrastive learning, NeurIPS 2020, equation 2; Henderson et al., Efficient natural
    language response suggestion for Smart Reply, 2017, arXiv:1705.00652.

    Args:
        scale: factor of the cosines, the inverse of a temperature.

    Example:
        >>> vectors = [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]
        >>> ContrastiveLoss(reduction=None)([0, 0, 1, 1], vectors).numpy().round(6).tolist()
        [0.0, 0.0, 0.0, 0.0]
    """

    def __init__(self, scale: float = 20.0, name: str = "contrastive", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.scale = scale

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns one value per text."""
        vectors = ops.normalize(y_pred, axis=-1, epsilon=1e-12)
        itself = ops.eye(ops.shape(vectors)[0], dtype="bool")
        scores = self.scale * ops.matmul(vectors, ops.transpose(vectors))
        chances = ops.log_softmax(ops.where(itself, -1e9, scores), axis=-1)
        alike = ops.logical_and(ops.equal(y_true[:, None], y_true[None, :]), ops.logical_not(itself))
        count = ops.sum(ops.cast(alike, scores.dtype), axis=-1)
        losses = -ops.sum(ops.where(alike, chances, 0.0), axis=-1) / ops.maximum(count, 1.0)
        real = ops.sum(ops.cast(count > 0, scores.dtype))
        return losses * ops.cast(ops.shape(vectors)[0], scores.dtype) / ops.maximum(real, 1.0)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "scale": self.scale}


@keras.saving.register_keras_serializable("zoo")
class NegativeLogLikelihood(keras.losses.Loss):
    """The negative of an output that is already the logarithm of the target's probability, (batch,). Targets are not read."""

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns one value per example."""
        return -y_pred


@keras.saving.register_keras_serializable("zoo")
class SquaredError(keras.losses.Loss):
    """Mean squared error of every example, (batch,), for targets (batch,) or (batch, numbers).

    Keras's loss returns a single number for targets (batch,), which cannot be weighted or counted.

    Raises:
        UsageError: targets and outputs have different shapes.

    Example:
        >>> SquaredError(reduction=None)([1.0, 2.0], [1.0, 4.0]).numpy().tolist()
        [0.0, 4.0]
    """

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns the errors."""
        return _per_example(ops.square(_difference(y_true, y_pred)))


@keras.saving.register_keras_serializable("zoo")
class AbsoluteLoss(keras.losses.Loss):
    """Mean absolute error of every example, (batch,), for targets (batch,) or (batch, numbers).

    Raises:
        UsageError: targets and outputs have different shapes.

    Example:
        >>> AbsoluteLoss(reduction=None)([1.0, 2.0], [1.0, 4.0]).numpy().tolist()
        [0.0, 2.0]
    """

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns the errors."""
        return _per_example(ops.abs(_difference(y_true, y_pred)))


@keras.saving.register_keras_serializable("zoo")
class QuantileLoss(keras.losses.Loss):
    """Squared or absolute error of values plus the pinball loss of their quantiles, for every example, (batch,).

    Targets are (batch, values). Outputs are (batch, values x (1 + levels)): first the values, then for every value its
    quantiles. The loss of an example is the mean over the values of |v - y|^power + the mean over the levels p of
    max(p (y - q), (p - 1) (y - q)). Source: Koenker and Bassett, Regression quantiles, Econometrica 46, 1978.

    Args:
        levels: the levels of the quantiles, between 0 and 1.
        power: 2 for the squared error of the values, 1 for their absolute error.

    Raises:
        UsageError: the outputs have another number of columns.

    Example:
        >>> QuantileLoss([0.1, 0.9], reduction=None)([[2.0]], [[2.0, 1.0, 1.0]]).numpy().round(3).tolist()
        [0.5]
    """

    def __init__(self, levels: Sequence[float], power: int = 2, name: str = "quantile_loss", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.levels, self.power = [float(level) for level in levels], power

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns the losses."""
        values, count = y_true.shape[-1], len(self.levels)
        if len(y_true.shape) != 2 or len(y_pred.shape) != 2 or y_pred.shape[-1] != values * (1 + count):
            raise UsageError(
                f"The targets have the shape {tuple(y_true.shape)}, the outputs {tuple(y_pred.shape)}; expected (batch, n) "
                f"and (batch, {1 + count} n), for n values with {count} quantiles each. Build the model with "
                "data.prepare(...).build()."
            )
        below = ops.expand_dims(y_true, -1) - ops.reshape(y_pred[:, values:], (-1, values, count))
        levels = ops.convert_to_tensor(self.levels, dtype=y_pred.dtype)
        pinball = ops.maximum(levels * below, (levels - 1) * below)
        error = y_true - y_pred[:, :values]
        return _per_example(ops.square(error) if self.power == 2 else ops.abs(error)) + _per_example(pinball)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "levels": self.levels, "power": self.power}


@keras.saving.register_keras_serializable("zoo")
class FirstColumns(keras.metrics.Metric):
    """A metric of the first columns of an output, as many as the targets have: of values without their quantiles.

    Args:
        metric: the metric, whose name and direction it has.

    Example:
        >>> metric = FirstColumns(AbsoluteError())
        >>> metric.update_state([[1.0], [2.0]], [[1.0, 0.5], [4.0, 9.0]])
        >>> float(metric.result())
        1.0
    """

    def __init__(self, metric: keras.metrics.Metric, name: str | None = None, dtype: Any = None) -> None:
        super().__init__(name=name or metric.name, dtype=dtype)
        self.metric = metric
        if hasattr(metric, "_direction"):
            self._direction = metric._direction

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Adds a batch."""
        y_true = ops.convert_to_tensor(y_true)
        values = ops.convert_to_tensor(y_pred)[:, : y_true.shape[-1]]
        return self.metric.update_state(y_true, values, sample_weight=sample_weight)

    def result(self) -> Any:
        """Returns the result of the metric."""
        return self.metric.result()

    def reset_state(self) -> None:
        """Resets the metric."""
        self.metric.reset_state()

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {"metric": keras.saving.serialize_keras_object(self.metric), "name": self.name, "dtype": self.dtype}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> FirstColumns:
        """Returns the metric with these arguments."""
        return cls(**{**config, "metric": keras.saving.deserialize_keras_object(config["metric"])})


@keras.saving.register_keras_serializable("zoo")
class AbsoluteError(keras.metrics.Mean):
    """Mean absolute error of targets (batch,) or (batch, numbers), with weights (batch,).

    Example:
        >>> metric = AbsoluteError()
        >>> metric.update_state([1.0, 2.0], [1.0, 4.0], sample_weight=[1, 0])
        >>> float(metric.result())
        0.0
    """

    def __init__(self, name: str = "mean_absolute_error", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)
        self._direction = "down"  # Keras's callbacks also read this

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Adds a batch."""
        errors = ops.abs(_difference(ops.cast(y_true, self.dtype), ops.cast(y_pred, self.dtype)))
        return super().update_state(_per_example(errors), sample_weight=sample_weight)


@keras.saving.register_keras_serializable("zoo")
class ElementAccuracy(keras.metrics.SparseCategoricalAccuracy):
    """Accuracy over all elements of targets (batch, steps), with weights of the same shape.

    Keras's metric averages over the steps of each example first. Then an element of a batch with few steps (including
    padding) has more weight than an element of a batch with many.

    Example:
        >>> metric = ElementAccuracy()
        >>> metric.update_state([[1]], [[[0.1, 0.9]]], sample_weight=[[1.0]])
        >>> metric.update_state([[1, 1, 0]], [[[0.9, 0.1]] * 3], sample_weight=[[1.0, 1.0, 0.0]])
        >>> round(float(metric.result()), 4)
        0.3333
    """

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Adds a batch."""
        outputs = tf.convert_to_tensor(y_pred)
        weights = None if sample_weight is None else ops.reshape(sample_weight, (-1,))
        flat = ops.reshape(outputs, (-1, outputs.shape[-1]))
        return super().update_state(ops.reshape(y_true, (-1,)), flat, sample_weight=weights)


@keras.saving.register_keras_serializable("zoo")
class LastStepAccuracy(keras.metrics.SparseCategoricalAccuracy):
    """Accuracy after the last real step for a model with an output at every step; plain accuracy otherwise.

    Targets are (batch, steps), with outputs (batch, steps, classes) and weights (batch, steps), 0 on padding at the end; or
    targets are (batch,), with outputs (batch, classes).

    Example:
        >>> metric = LastStepAccuracy()
        >>> metric.update_state([[1, 1]], [[[0.9, 0.1], [0.2, 0.8]]])
        >>> float(metric.result())
        1.0
    """

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Adds a batch."""
        outputs, targets = tf.convert_to_tensor(y_pred), tf.convert_to_tensor(y_true)
        if outputs.shape.rank == 3:
            weights = tf.ones_like(targets, outputs.dtype) if sample_weight is None else sample_weight
            weights = tf.convert_to_tensor(weights)
            steps = tf.range(1, tf.shape(weights)[1] + 1)
            last = tf.reduce_max(tf.where(weights > 0, steps, 1), axis=1) - 1
            outputs, targets, sample_weight = (
                tf.gather(part, last, axis=1, batch_dims=1) for part in (outputs, targets, weights)
            )
        return super().update_state(targets, outputs, sample_weight=sample_weight)


@keras.saving.register_keras_serializable("zoo")
class LabelF1(keras.metrics.Metric):
    """F1 score over all labels of all examples (micro average), for thresholds of 0.5 on probabilities.

    Targets are 0 or 1, (batch, labels), with weights (batch,). Keras's `F1Score` takes no logits, and counts each label
    apart.

    Args:
        from_logits: whether outputs are logits, not probabilities.

    Example:
        >>> metric = LabelF1()
        >>> metric.update_state([[1, 1, 0]], [[0.9, 0.2, 0.1]])
        >>> round(float(metric.result()), 4)
        0.6667
    """

    def __init__(self, from_logits: bool = False, name: str = "f1", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)
        self.from_logits, self._direction = from_logits, "up"
        self.right = self.add_weight(name="right", initializer="zeros")
        self.wrong = self.add_weight(name="wrong", initializer="zeros")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch."""
        true = ops.cast(ops.cast(y_true, self.dtype) > 0.5, self.dtype)
        found = ops.cast(ops.convert_to_tensor(y_pred) > (0.0 if self.from_logits else 0.5), self.dtype)
        weights = 1.0 if sample_weight is None else ops.expand_dims(ops.cast(sample_weight, self.dtype), -1)
        self.right.assign_add(ops.sum(weights * true * found))
        self.wrong.assign_add(ops.sum(weights * ops.abs(true - found)))

    def result(self) -> Any:
        """Returns the score; 0 if no label was found or is true."""
        return ops.divide_no_nan(2 * self.right, 2 * self.right + self.wrong)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "from_logits": self.from_logits}


@keras.saving.register_keras_serializable("zoo")
class TotalLoss(keras.metrics.Metric):
    """The loss of an epoch: the sum over terms of weight x (sum of losses) / (number of elements), plus the penalties.

    Batches are weighted by their number of elements, so a smaller last batch has the right weight.

    Args:
        factors: the weight of each term.

    Example:
        >>> metric = TotalLoss([1.0, 0.5])
        >>> metric.update_state([(2.0, 4.0), (9.0, 3.0)], penalty=0.0)
        >>> float(metric.result())
        2.0
    """

    def __init__(self, factors: Sequence[float] = (1.0,), name: str = "loss", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)
        self.factors, self._direction = [float(factor) for factor in factors], "down"
        self._means = [keras.metrics.Mean(name=f"term_{i}", dtype=dtype) for i in range(len(self.factors))]

    def update_state(self, sums: Sequence[tuple[Any, Any]], penalty: Any = 0.0) -> None:
        """Adds a batch: for each term the sum of its losses and its number of elements."""
        for mean, factor, (total, count) in zip(self._means, self.factors, sums, strict=True):
            value = tf.math.divide_no_nan(total, count)
            value = value if factor == 1 else value * factor
            mean.update_state(value + (penalty if len(sums) == 1 else penalty / len(sums)), sample_weight=count)

    def result(self) -> Any:
        """Returns the sum of the terms' means."""
        first, *others = (mean.result() for mean in self._means)
        return sum(others, first)

    def reset_state(self) -> None:
        """Resets all terms."""
        for mean in self._means:
            mean.reset_state()

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {"factors": list(self.factors), "name": self.name, "dtype": self.dtype}
