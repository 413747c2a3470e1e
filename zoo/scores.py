"""Scores of outputs for raw requests: the same metric as in the report, for any number of examples."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from zoo.errors import UsageError

Sums: TypeAlias = tuple[np.ndarray, np.ndarray]
ExampleSums: TypeAlias = Callable[[Mapping[str, Any], Any, Sequence[str]], Sums]


@dataclasses.dataclass(frozen=True)
class FurtherScore:
    """Another metric of the same outputs, for comparisons of two models.

    Attributes:
        figure: name of the metric, such as `log_loss`.
        sums: as in `Score`.
        higher_is_better: False for an error.
        root: whether the metric is the square root of the quotient, as the root mean squared error is.
    """

    figure: str
    sums: ExampleSums
    higher_is_better: bool = False
    root: bool = False


@dataclasses.dataclass(frozen=True)
class Score:
    """The score of outputs for raw requests: the same metric that the report has for the whole split.

    Attributes:
        figure: name of the metric, as in the report, such as `accuracy`.
        target: name of the target.
        sums: computes two arrays (examples,) from the outputs by name, the target and the names of the classes or values:
            the sum of the metric over the elements of each example, and the number of these elements. The score is the
            quotient of the sums of both arrays.
        signature: name of the signature that is scored.
        higher_is_better: False for an error.
        trained: name of the metric in training, if it has another one there; "" for `figure`.
        further: other metrics, for comparisons of two models. The first one orders the examples on which they differ.
    """

    figure: str
    target: str
    sums: ExampleSums
    signature: str = "serving_default"
    higher_is_better: bool = True
    trained: str = ""
    further: tuple[FurtherScore, ...] = ()


_SUM_TOLERANCE = 1e-3
THRESHOLD = 0.5
"""The probability from which on an example has a label, if none was chosen."""


def check_probabilities(outputs: Mapping[str, Any], *, independent: bool = False) -> None:
    """Checks that the output named `probabilities` holds probabilities, and that one named `logits` does not.

    Args:
        outputs: a model's outputs by name, NumPy arrays. The last axis is the classes. A single unit, as after a sigmoid,
            must be from 0 to 1, and its sum is not checked.
        independent: whether an example may have several labels, so that no sum is checked.

    Raises:
        UsageError: a probability is outside of 0 to 1, or a sum is not 1; or all logits are from 0 to 1 with sums of 1.
    """
    logits = np.asarray(outputs.get("logits", np.zeros((1, 1))), np.float64)
    if (
        not independent
        and logits.shape[-1] > 1
        and logits.min() >= 0
        and (np.abs(logits.sum(-1) - 1) < _SUM_TOLERANCE).all()
    ):
        raise UsageError(
            "The layer 'logits' has values from 0 to 1 with sums of 1, so they are probabilities already, and another "
            "softmax would follow. Name the layer 'probabilities', or remove its softmax, and train the model again."
        )
    values = np.asarray(outputs.get("probabilities", np.ones((1, 1))), np.float64)
    sums = values.sum(-1) if values.shape[-1] > 1 and not independent else np.ones(1)
    low, high = float(values.min()), float(values.max())
    wrong = np.abs(sums - 1) > _SUM_TOLERANCE
    if low < -_SUM_TOLERANCE or high > 1 + _SUM_TOLERANCE or wrong.any():
        first = float(sums[wrong][0]) if wrong.any() else float(sums.flat[0])
        sums_of, activation = ("", "sigmoid") if independent else (" with sums of 1", "softmax")
        came = "" if independent else f" with sums such as {first:.3g}"
        raise UsageError(
            f"The layer 'probabilities' has values from {low:.3g} to {high:.3g}{came}; expected 0 to 1{sums_of}. Name the "
            f"layer 'logits', or give it activation={activation!r}."
        )


def best_thresholds(targets: Any, probabilities: Any) -> list[float]:
    """Returns for each label the threshold with the best F1 score: an example has the label from this probability on.

    A threshold lies halfway between the probabilities of two examples; of equally good ones the highest is taken. A label
    that no example has keeps 0.5.

    Args:
        targets: 0 or 1, (examples, labels).
        probabilities: (examples, labels).

    Example:
        >>> best_thresholds([[1], [0], [1]], [[0.75], [0.5], [0.25]])
        [0.125]
    """
    true, found = np.asarray(targets, np.float64), np.asarray(probabilities, np.float32)
    return [_best_threshold(true[:, label], found[:, label]) for label in range(true.shape[1])]


def _best_threshold(true: np.ndarray, found: np.ndarray) -> float:
    if not true.sum():
        return THRESHOLD
    order = np.argsort(-found, kind="stable")
    values, right = found[order], np.cumsum(true[order])
    below = np.append(values[1:], np.float32(0))
    f1 = np.where(values > below, 2 * right / (np.arange(1, len(true) + 1) + true.sum()), -1.0)
    best = int(np.argmax(f1))
    if f1[best] < 0:  # all probabilities are 0
        return THRESHOLD
    middle = (values[best] + below[best]) / np.float32(2)
    return float(middle if middle > below[best] else values[best])


def right_label_sets(answers: Mapping[str, Any], targets: Any, class_names: Sequence[str]) -> Sums:
    """Counts for the F1 score over all labels: twice the right ones of each example, and all true and all predicted ones."""
    numbers = {name.encode(): number for number, name in enumerate(class_names)}
    found = np.zeros(targets.shape, bool)
    for row, names in enumerate(answers["labels"]):
        found[row, [numbers[name] for name in names if name]] = True
    true = np.asarray(targets) > 0
    return 2.0 * (true & found).sum(1), (true.sum(1) + found.sum(1)).astype(float)


def right_labels(answers: Mapping[str, Any], targets: Any, class_names: Sequence[str]) -> Sums:
    """Counts the examples with the right `class_name`; of those without an answer, with the right most probable label."""
    names = np.array([name.encode() for name in class_names], object)
    found = answers["class_name"]
    if "answered" in answers:
        found = np.where(answers["answered"], found, names[answers["probabilities"].argmax(axis=-1)])
    return (found == names[targets]).astype(float), np.ones(len(targets))


def right_tags(answers: Mapping[str, Any], targets: Any, class_names: Sequence[str]) -> Sums:
    """Counts the right tags of every sentence, at the places whose target is not -1. Targets after the last word are those
    of words that the served tokenizer does not find, which count as wrong."""
    names = np.array([name.encode() for name in class_names], object)
    tags, real = np.full(targets.shape, b"", object), targets >= 0
    width = min(tags.shape[1], answers["tags"].shape[1])
    tags[:, :width] = answers["tags"][:, :width]
    return np.sum(real & (tags == names[np.maximum(targets, 0)]), axis=1).astype(float), real.sum(1).astype(float)


def word_spans(words: Sequence[bytes]) -> list[tuple[int, int]]:
    """Returns where each word begins and ends in the words' text without spaces and control characters. Words of two
    tokenizations of a text are the same if their spans are equal.

    Example:
        >>> word_spans([b"do", b"n't"])
        [(0, 2), (2, 5)]
    """
    letters = (word.decode("utf-8", "replace") for word in words)
    lengths = (sum(unicodedata.category(letter)[0] not in "ZC" for letter in word) for word in letters)
    return [*itertools.pairwise(itertools.accumulate(lengths, initial=0))]


def log_losses(answers: Mapping[str, Any], targets: Any, class_names: Sequence[str]) -> Sums:
    """Returns the negative natural logarithm of the true class's probability for each example, clipped at 1e-7."""
    found = np.asarray(answers["probabilities"], np.float64)[np.arange(len(targets)), targets]
    return -np.log(np.maximum(found, _LEAST_PROBABILITY)), np.ones(len(targets))


LOG_LOSS = FurtherScore("log_loss", log_losses)
_LEAST_PROBABILITY = 1e-7


def distances(output: str, power: int = 1) -> ExampleSums:
    """Returns the function that sums the absolute differences between an output and the targets, or a power of them."""

    def sums(answers: Mapping[str, Any], targets: Any, class_names: Sequence[str]) -> Sums:
        answered = np.asarray(answers[output], np.float64).reshape(len(targets), -1)
        gaps = np.abs(answered - np.asarray(targets, np.float64).reshape(len(targets), -1)) ** power
        return gaps.sum(1), np.full(len(gaps), float(gaps.shape[1]))

    return sums


def value_distances(answers: Mapping[str, Any], targets: Any, names: Sequence[str], power: int = 1) -> Sums:
    """Sums the absolute errors of the values of each example, or a power of them. Of several values, whose units differ, each
    error is divided by the standard deviation of the value.

    `answers` has an output for each of the `names`, and `targets` a column, (examples, values).
    """
    true = np.asarray(targets, np.float64)
    gaps = np.abs(np.stack([np.asarray(answers[name], np.float64) for name in names], axis=1) - true)
    if len(names) > 1:
        gaps = gaps / np.maximum(true.std(axis=0), np.finfo(np.float32).tiny)
    gaps = gaps**power
    return gaps.sum(1), np.full(len(gaps), float(len(names)))


def root_mean_square(sums: ExampleSums) -> FurtherScore:
    """Returns the root mean squared error, from the function that sums the squares of the errors."""
    return FurtherScore("rmse", sums, root=True)


VALUE_RMSE = root_mean_square(functools.partial(value_distances, power=2))
