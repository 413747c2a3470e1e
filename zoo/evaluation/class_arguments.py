"""The arguments of reports on classes, checked: targets, probabilities, weights and class names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zoo.errors import UsageError

SUM_TOLERANCE = 1e-3


def checked_elements(
    targets: NDArray[Any], probabilities: NDArray[Any], weights: ArrayLike | None
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Checks and flattens the elements with a weight: targets `(m,)`, probabilities `(m, num_classes)`, weights `(m,)`.

    Raises:
        UsageError: as in `classification_report`.

    Example:
        >>> checked_elements(np.array([0, 1]), np.array([[0.9, 0.1], [0.2, 0.8]]), [0, 1])[0]
        array([1])
    """
    if targets.size == 0 and probabilities.size == 0:
        raise UsageError("Nothing to evaluate: targets and probabilities are empty. Check that the split has examples.")
    if targets.ndim == 0 or probabilities.ndim < 2 or probabilities.shape[:-1] != targets.shape:
        if targets.shape == probabilities.shape and targets.ndim > 1:
            hint = "One-hot targets become class numbers with targets.argmax(axis=-1)."
        else:
            hint = "Pass one class number per row of probabilities."
        raise UsageError(
            f"targets of shape {targets.shape} and probabilities of shape {probabilities.shape} do not fit: expected "
            f"targets (n,) with probabilities (n, num_classes), or (n, steps) with (n, steps, num_classes). {hint}"
        )
    if probabilities.shape[-1] < 2:
        raise UsageError(
            f"probabilities have shape {probabilities.shape}, expected at least 2 columns, one per class. "
            "Pass numpy.concatenate([1 - p, p], axis=-1) for a single sigmoid output p."
        )
    if not np.issubdtype(targets.dtype, np.integer):
        raise UsageError(
            f"targets have dtype {targets.dtype}, expected integers: column numbers of probabilities. "
            "Map names with class_names.index, or convert whole numbers with targets.astype('int64')."
        )
    weight = np.ones(targets.shape) if weights is None else np.asarray(weights, dtype=np.float64)
    if weight.shape != targets.shape:
        raise UsageError(
            f"weights have shape {weight.shape}, expected the shape of targets, {targets.shape}. Pass one weight for "
            "each element, 0 where it is padding."
        )
    bad = ~(np.isfinite(weight) & (weight >= 0)).ravel()
    if bad.any():
        first = int(bad.argmax())
        raise UsageError(
            f"weights hold {weight.ravel()[first]} at index {_index(first, weight.shape)}, expected finite numbers "
            "that are not negative. Pass 0 for padding, 1 for real elements."
        )
    real = np.flatnonzero(weight)
    if real.size == 0:
        raise UsageError(
            f"Nothing to evaluate: all {weight.size} weights are 0. Weight 0 marks padding; "
            "give real elements weight 1."
        )
    return (
        _checked_targets(targets, real, probabilities.shape[-1]),
        _checked_probabilities(probabilities, real),
        weight.ravel()[real],
    )


def _checked_targets(targets: NDArray[Any], real: NDArray[np.intp], num_classes: int) -> NDArray[np.int64]:
    true = targets.ravel()[real]
    bad = (true < 0) | (true >= num_classes)
    if bad.any():
        first = int(bad.argmax())
        raise UsageError(
            f"targets hold {true[first]} at index {_index(real[first], targets.shape)}, expected 0 to "
            f"{num_classes - 1}, as probabilities have {num_classes} columns ({int(bad.sum())} target(s) are outside). "
            "If it marks padding, give it weight 0; otherwise the model was built for other classes."
        )
    return true.astype(np.int64)


def _checked_probabilities(probabilities: NDArray[Any], real: NDArray[np.intp]) -> NDArray[np.float64]:
    num_classes = probabilities.shape[-1]
    probable = probabilities.reshape(-1, num_classes)[real].astype(np.float64)
    bad = ~np.isfinite(probable)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        first = int(real[row]) * num_classes + int(column)
        raise UsageError(
            f"probabilities hold {probable[row, column]} at index {_index(first, probabilities.shape)}, expected "
            "finite numbers. The model diverged or its input has such values: look for the first epoch whose loss is not "
            "finite."
        )
    sums = probable.sum(axis=1)
    no_distribution = (abs(sums - 1) > SUM_TOLERANCE) | (probable.min(axis=1) < -SUM_TOLERANCE)
    if no_distribution.any():
        row = int(no_distribution.argmax())
        raise UsageError(
            f"probabilities at index {_index(real[row], probabilities.shape[:-1])} sum to {sums[row]:.4g} with "
            f"smallest value {probable[row].min():.4g}, expected non-negative values that sum to 1 (tolerance "
            f"{SUM_TOLERANCE}). These look like logits: apply a softmax, or build the model with "
            "classifier_activation='softmax'."
        )
    return probable.clip(0.0, 1.0)


def checked_names(class_names: Sequence[str], num_classes: int) -> list[str]:
    """Returns class names as a list of different strings, one per column.

    Raises:
        UsageError: as in `classification_report`.

    Example:
        >>> checked_names(("cat", "dog"), 2)
        ['cat', 'dog']
    """
    if isinstance(class_names, str) or not all(isinstance(name, str) for name in class_names):
        raise UsageError(
            f"class_names is {class_names!r}, expected a list of strings, one per class. "
            "Convert numbers with [str(name) for name in class_names], bytes with name.decode()."
        )
    names = [str(name) for name in class_names]  # converts NumPy's strings
    if len(names) != num_classes:
        raise UsageError(
            f"class_names has {len(names)} names, but probabilities have {num_classes} columns: expected one name per "
            "column. Pass the names of the data set that the model was built for."
        )
    seen: dict[str, int] = {}
    for index, name in enumerate(names):
        if name in seen:
            raise UsageError(
                f"class_names holds {name!r} twice, at {seen[name]} and {index}: expected different names, so that "
                "the report can distinguish the classes. Rename one of them."
            )
        seen[name] = index
    return names


def _index(flat: int | np.intp, shape: tuple[int, ...]) -> str:
    """The index of element number `flat` of an array of this shape: '7', or '(2, 5)'."""
    index = [int(i) for i in np.unravel_index(int(flat), shape)]
    return str(index[0]) if len(index) == 1 else str(tuple(index))
