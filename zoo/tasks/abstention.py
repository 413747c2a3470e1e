"""Answers that a classifier gives only where they are right often enough: the choice of the probability, and the outputs.

The probability is chosen on the validation split after the training. The SavedModel contains it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf

ANSWERS = "answers"
"""The key of the result of `decided_answers` in what a task decided after the training."""
UNKNOWN = "unknown"
"""The label of an example without an answer."""


def last_steps(values: Any, weights: Any) -> Any:
    """Returns the values of the last step of every example, (examples, ...), from those of all steps.

    Args:
        values: (examples, steps, ...).
        weights: (examples, steps), 0 on padding.

    Example:
        >>> last_steps(np.array([[1, 2, 0], [3, 4, 5]]), np.array([[1, 1, 0], [1, 1, 1]])).tolist()
        [2, 5]
    """
    last = weights.shape[1] - 1 - np.argmax(weights[:, ::-1] > 0, axis=1)
    return values[np.arange(len(last)), last]


def least_answers(accuracy: float) -> int:
    """Returns how many answers are needed to tell an accuracy from a higher one: one wrong answer may be expected in them.

    Example:
        >>> least_answers(0.95), least_answers(0.99)
        (20, 100)
    """
    return math.ceil(1 / (1 - accuracy) - 1e-9)


def decided_answers(targets: Any, probabilities: Any, accuracy: float) -> dict[str, Any]:
    """Returns the least probability of the best class from which on the answers are right often enough.

    A probability is chosen only if at least `least_answers` reach it. Source of the rule "answer if the probability of the
    best class is high": El-Yaniv and Wiener, On the foundations of noise-free selective classification, JMLR 11, 2010;
    Geifman and El-Yaniv, Selective classification for deep neural networks, NeurIPS 2017.

    Args:
        targets: class numbers, (examples,) or (examples, 1).
        probabilities: (examples, classes).
        accuracy: the least share of right answers, above 0 and below 1.

    Returns:
        `accuracy`, the wanted one; `examples`, their number; `threshold`, halfway between the probabilities of two
        examples, or that of the last example if all are answered; `coverage`, the share of the examples that are answered;
        and `reached`, the share of these that are right. Without such a probability, `threshold` is None, and `coverage`
        and `reached` are those of the probability with the most accurate answers.

    Example:
        >>> decided_answers([0, 1, 1], [[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]], 0.6)["threshold"]
        0.699999988079071
    """
    found = np.asarray(probabilities, np.float32)
    best, right = found.max(axis=-1), found.argmax(axis=-1) == np.asarray(targets).reshape(-1)
    order = np.argsort(-best, kind="stable")
    values, counts = best[order], np.arange(1, len(best) + 1)
    shares = np.cumsum(right[order]) / counts
    below = np.append(values[1:], np.float32(-1))
    least = least_answers(accuracy)
    possible = (values > below) & (counts >= min(least, len(best)))  # equal probabilities are answered together
    enough = np.flatnonzero(possible & (shares >= accuracy) & (counts >= least))
    chosen = int(enough[-1]) if len(enough) else int(np.argmax(np.where(possible, shares, -1.0)))
    threshold = None
    if len(enough):
        middle = (values[chosen] + below[chosen]) / np.float32(2)
        is_last = chosen == len(best) - 1
        threshold = float(values[chosen] if is_last or middle <= below[chosen] else middle)
    return {
        "accuracy": float(accuracy),
        "examples": len(best),
        "threshold": threshold,
        "coverage": float(counts[chosen] / len(best)),
        "reached": float(shares[chosen]),
    }


def decide_answers(
    targets: Mapping[str, Any], predictions: Mapping[str, Any], weights: Mapping[str, Any], accuracy: float
) -> dict[str, Any]:
    """Returns what `decided_answers` decides for a task with one target `label`; of models with an output at every step,
    the last one is the answer."""
    labels, probabilities = targets["label"], predictions["probabilities"]
    if probabilities.ndim == 3:
        labels, probabilities = (last_steps(part, weights["label"]) for part in (labels, probabilities))
    return {ANSWERS: decided_answers(labels, probabilities, accuracy)}


def threshold_of(decided: Mapping[str, Any]) -> float | None:
    """Returns the probability from which on a model answers; None if it always answers."""
    threshold: float | None = decided.get(ANSWERS, {}).get("threshold")
    return threshold


def is_answered(probabilities: tf.Tensor, decided: Mapping[str, Any]) -> tf.Tensor | None:
    """Returns whether each example is answered, bool (batch,), from its probabilities, (batch, classes); None if the model
    always answers."""
    import tensorflow as tf

    threshold = threshold_of(decided)
    if threshold is None:
        return None
    return tf.reduce_max(probabilities, axis=-1) >= tf.constant(threshold, probabilities.dtype)
