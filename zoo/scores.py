"""How answers to raw requests are judged: the figure that a report has, of as many examples as one likes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from zoo.errors import UsageError

Sums: TypeAlias = tuple[np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Score:
    """How answers to raw requests are judged, by the same figure that the report has of the whole split.

    Attributes:
        figure: its name, in the report too, such as `accuracy`.
        target: the name of what is right.
        sums: from the answers by name, the target and the class names: for every example the sum of its elements' figures,
            and how many elements there are, both (examples,). The figure is the quotient of their sums.
        signature: which signature answers.
        higher_is_better: False for an error.
    """

    figure: str
    target: str
    sums: Callable[[Mapping[str, Any], Any, Sequence[str]], Sums]
    signature: str = "serving_default"
    higher_is_better: bool = True


_SUM_TOLERANCE = 1e-3


def check_probabilities(outputs: Mapping[str, Any]) -> None:
    """Refuses answers of a layer that is called `probabilities` and are none.

    Args:
        outputs: a model's outputs by name, NumPy arrays; the last axis is that of the classes. A single unit, as before a
            sigmoid, has values from 0 to 1 and no sum.

    Raises:
        UsageError: values outside of 0 to 1, or sums other than 1.
    """
    values = np.asarray(outputs.get("probabilities", np.ones((1, 1))), np.float64)
    sums = values.sum(-1) if values.shape[-1] > 1 else np.ones(1)
    low, high = float(values.min()), float(values.max())
    wrong = np.abs(sums - 1) > _SUM_TOLERANCE
    if low < -_SUM_TOLERANCE or high > 1 + _SUM_TOLERANCE or wrong.any():
        first = float(sums[wrong][0]) if wrong.any() else float(sums.flat[0])
        raise UsageError(
            f"The layer 'probabilities' answers values from {low:.3g} to {high:.3g} with sums such as {first:.3g}; expected "
            "0 to 1 with sums of 1. Call it 'logits', or give it activation='softmax'."
        )


def right_labels(answers: Mapping[str, Any], targets: Any, class_names: Sequence[str]) -> Sums:
    """Counts the examples whose `class_name` is right."""
    names = np.array([name.encode() for name in class_names], object)
    return (answers["class_name"] == names[targets]).astype(float), np.ones(len(targets))


def right_tags(answers: Mapping[str, Any], targets: Any, class_names: Sequence[str]) -> Sums:
    """Counts the right tags of every sentence; one that is served in other words than it is tagged by counts nowhere."""
    names = np.array([name.encode() for name in class_names], object)
    right, count = np.zeros(len(targets)), np.zeros(len(targets))
    for row, (tags, wanted) in enumerate(zip(answers["tags"], targets, strict=True)):
        given, known = tags[tags != b""], names[wanted[wanted >= 0]]
        if len(given) == len(known):
            right[row], count[row] = np.sum(given == known), len(known)
    return right, count


def distances(output: str) -> Callable[[Mapping[str, Any], Any, Sequence[str]], Sums]:
    """Makes the function that adds up how far an output's numbers are from the targets."""

    def sums(answers: Mapping[str, Any], targets: Any, class_names: Sequence[str]) -> Sums:
        answered = np.asarray(answers[output], np.float64).reshape(len(targets), -1)
        gaps = np.abs(answered - np.asarray(targets, np.float64).reshape(len(targets), -1))
        return gaps.sum(1), np.full(len(gaps), float(gaps.shape[1]))

    return sums
