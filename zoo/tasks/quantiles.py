"""Quantiles of predicted values: their columns in a model's output, their names, and a task's objective with them.

A model of V values and Q quantiles has one output of V x (1 + Q) columns: the values, then for every value its quantiles.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.errors import UsageError
from zoo.scores import FurtherScore, Sums
from zoo.tasks.contract import Measure, Task, Term

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

Levels = tuple[float, ...]
SHIFTS = "quantile_shifts"
"""The key of the shifts in what a task decided after the training: a list for each value, with a number for each level."""


def quantile_name(value: str, level: float) -> str:
    """Returns the name of the output for a quantile of a value.

    Example:
        >>> quantile_name("price", 0.1), quantile_name("price", 0.025)
        ('price_q10', 'price_q2_5')
    """
    return f"{value}_q{percent(level).replace('.', '_')}"


def percent(level: float) -> str:
    """Returns a level, from 0 to 1, in percent.

    Example:
        >>> percent(0.1), percent(0.025), percent(0.29)
        ('10', '2.5', '29')
    """
    return format((Decimal(repr(level)) * 100).normalize(), "f")


def split_columns(output: tf.Tensor, levels: Levels) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the values, (batch, values), and their quantiles, (batch, values, levels), of a model's output.

    The quantiles are sorted, because a model may predict a lower value for a higher level.

    Raises:
        UsageError: the output has another number of columns.

    Example:
        >>> split_columns(tf.constant([[5.0, 4.0, 3.0]]), (0.1, 0.9))[1].numpy().tolist()
        [[[3.0, 4.0]]]
    """
    import tensorflow as tf

    columns = output.shape[-1]
    if output.shape.rank != 2 or columns is None or columns % (1 + len(levels)):
        raise UsageError(
            f"The output has the shape {tuple(output.shape)}; expected (batch, values x {1 + len(levels)}), a value and "
            f"{len(levels)} quantiles each. Build the model with data.prepare(...).build()."
        )
    count = columns // (1 + len(levels))
    rest = tf.reshape(output[:, count:], [-1, count, len(levels)])
    return output[:, :count], tf.sort(rest, axis=-1)


def pinball(true: Any, quantiles: Any, levels: Sequence[float]) -> Any:
    """Returns the pinball loss of every example and level, (n, levels).

    Args:
        true: the actual values, (n,).
        quantiles: (n, levels).
        levels: between 0 and 1.

    Example:
        >>> pinball(np.array([2.0]), np.array([[1.0, 3.0]]), [0.1, 0.9]).round(3).tolist()
        [[0.1, 0.1]]
    """
    gap = true[:, np.newaxis] - quantiles
    return np.maximum(np.multiply(levels, gap), (np.array(levels) - 1) * gap)


def widest(levels: Sequence[float]) -> tuple[int, int] | None:
    """Returns the places of the levels of the widest symmetric interval, such as 0.1 and 0.9; None without one.

    Example:
        >>> widest([0.05, 0.1, 0.5, 0.9])
        (1, 3)
    """
    for low, level in enumerate(levels):
        for high in range(len(levels) - 1, low, -1):
            if abs(level + levels[high] - 1) < 1e-9:
                return low, high
    return None


def quantile_scores(levels: Levels) -> tuple[FurtherScore, ...]:
    """Returns the scores of quantiles for comparisons of two models: the mean pinball loss over values and levels; and, for
    the widest symmetric interval, the share of the values inside and the mean width.

    Of several values, whose units differ, the loss and the width are divided by the standard deviation of the value.
    """

    def columns(answers: Mapping[str, Any], targets: Any, names: Sequence[str]) -> tuple[Any, Any, Any]:
        true = np.asarray(targets, np.float64).reshape(len(targets), -1)
        held = []
        for level in levels:
            ending = quantile_name("", level)
            keys = [f"{name}{ending}" for name in names if f"{name}{ending}" in answers]
            keys = keys or [key for key in answers if key.endswith(ending)]
            parts = [np.asarray(answers[key], np.float64).reshape(len(true), -1) for key in keys]
            held.append(np.concatenate(parts, axis=1))
        scale = np.maximum(true.std(axis=0), np.finfo(np.float32).tiny) if len(names) > 1 else 1.0
        return true, np.stack(held, axis=-1), scale

    def losses(answers: Mapping[str, Any], targets: Any, names: Sequence[str]) -> Sums:
        true, found, scale = columns(answers, targets, names)
        each = pinball(true.ravel(), found.reshape(-1, len(levels)), levels).mean(axis=1).reshape(true.shape) / scale
        return each.sum(axis=1), np.full(len(true), float(true.shape[1]))

    def inside(answers: Mapping[str, Any], targets: Any, names: Sequence[str]) -> Sums:
        true, found, _ = columns(answers, targets, names)
        low, high = (found[..., end] for end in ends or (0, 0))
        return ((low <= true) & (true <= high)).sum(axis=1).astype(float), np.full(len(true), float(true.shape[1]))

    def widths(answers: Mapping[str, Any], targets: Any, names: Sequence[str]) -> Sums:
        true, found, scale = columns(answers, targets, names)
        low, high = (found[..., end] for end in ends or (0, 0))
        return ((high - low) / scale).sum(axis=1), np.full(len(true), float(true.shape[1]))

    ends = widest(levels)
    of_interval = (FurtherScore("coverage", inside, higher_is_better=True), FurtherScore("interval_width", widths))
    return FurtherScore("pinball", losses), *(of_interval if ends else ())


def decided_shifts(true: Any, quantiles: Any, levels: Levels) -> list[list[float]]:
    """Returns what is added to the quantiles of each value and level, so that the right share of values is below them.

    A network that has learned its training examples too well predicts intervals that are too narrow. The shift of a level p
    is the p-quantile of value minus prediction over examples that it was not trained on. Source: Romano, Patterson and
    Candes, Conformalized quantile regression, NeurIPS 2019, equation 8, with both ends apart. A level that so few examples
    do not determine is not shifted.

    Args:
        true: the values, (examples, values).
        quantiles: the predicted quantiles, (examples, values, levels), in the same scale.
        levels: the levels.

    Example:
        >>> decided_shifts([[1.0], [2.0], [3.0]], [[[1.0]], [[1.0]], [[1.0]]], (0.5,))
        [[1.0]]
    """
    gaps = np.asarray(true, np.float64)[..., np.newaxis] - np.asarray(quantiles, np.float64)
    most = len(gaps) + 1
    return [
        [
            float(np.quantile(column, level, method="weibull")) if min(level, 1 - level) * most >= 1 else 0.0
            for column, level in zip(of_value.T, levels, strict=True)
        ]
        for of_value in gaps.transpose(1, 0, 2)
    ]


def calibrated(quantiles: tf.Tensor, decided: Mapping[str, Any]) -> tf.Tensor:
    """Returns quantiles with the shifts that the task decided after the training, sorted again; unchanged without any.

    Args:
        quantiles: (batch, values, levels), in the scale of the model's output.
        decided: what the task decided.
    """
    import tensorflow as tf

    if SHIFTS not in decided:
        return quantiles
    return tf.sort(quantiles + tf.constant(decided[SHIFTS], quantiles.dtype), axis=-1)


def with_quantiles(task: Task, levels: Levels, power: int = 2) -> Task:
    """Returns a task of values for the prediction of their quantiles, too.

    The loss of an example is its squared or absolute error, plus the mean pinball loss over the levels. The metrics and the
    score are those of the values; comparisons of two models also have `quantile_scores`. The prediction has `values`,
    (batch, values), and `quantiles`, (batch, values, levels). The shifts of the quantiles are decided on the validation
    split, see `decided_shifts`.

    Args:
        task: a task with one target of numbers, (batch, values), and models with one output.
        levels: the levels, ascending, between 0 and 1.
        power: 2 for the squared error of the values, 1 for their absolute error.

    Example:
        >>> with_quantiles(get_task("tabular_regression"), (0.1, 0.9)).objective.quantiles
        (0.1, 0.9)
    """

    def loss(output: str, label_smoothing: float = 0.0) -> keras.losses.Loss:
        from zoo.metrics import QuantileLoss

        term.loss(output, label_smoothing)  # which rejects label smoothing
        return QuantileLoss(levels, power, reduction=None)

    def measured(part: Measure) -> Measure:
        def metrics(output: str) -> list[keras.metrics.Metric]:
            from zoo.metrics import FirstColumns

            return [FirstColumns(metric) for metric in part.create(output)]

        return dataclasses.replace(part, metrics=metrics, by_output=True)

    def prediction(outputs: Mapping[str, Any]) -> dict[str, Any]:
        (output,) = outputs.values()
        values, quantiles = split_columns(output, levels)
        return {"values": values, "quantiles": quantiles}

    def decide(targets: Mapping[str, Any], predictions: Mapping[str, Any]) -> dict[str, Any]:
        return {SHIFTS: decided_shifts(targets[term.target], predictions["quantiles"], levels)}

    (term,) = task.objective.loss
    objective = dataclasses.replace(
        task.objective,
        loss=(Term(term.target, term.outputs, loss, term.weight),),
        metrics=tuple(map(measured, task.objective.metrics)),
        quantiles=levels,
    )
    score = task.score and dataclasses.replace(task.score, further=(*task.score.further, *quantile_scores(levels)))
    return dataclasses.replace(task, objective=objective, prediction=prediction, decide=decide, score=score)
