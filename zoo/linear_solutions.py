"""Linear models of sparse features, solved at once: logistic regression and ridge regression, whose penalty is chosen on a
tenth of the training examples that is held out for it."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.errors import UsageError

if TYPE_CHECKING:
    import scipy.sparse

_STRENGTHS = (3.0, 10.0, 30.0)
"""Inverse strengths of the L2 penalty of logistic regression, ascending, for rows with Euclidean lengths of about 1. On the
validation splits, goemotions was most accurate with 3; the loss was smallest with 10 for chinese_reviews, and with 30 for
clinc_oos and sms_spam."""
_ALPHAS = (0.1, 0.3, 1.0, 3.0, 10.0)
"""Penalties of ridge regression."""
_TOLERANCE = 0.1
"""Of the dual problem, the default of LIBLINEAR. A tenth of it took several times as long on clinc_oos."""
_MOST_HELD, _FEWEST = 2_000, 50
_NEVER = -30.0
"""Logit of a class without training examples."""


def solve_sparse(
    features: scipy.sparse.csr_matrix, target: np.ndarray, outputs: int, is_value: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the weights, float64 (features, outputs), and the biases, float64 (outputs,), of a linear model.

    One label per example: a logistic regression for each class against all others, whose logits belong to a softmax. It is
    solved much faster than a multinomial one, and was more accurate on the validation split of clinc_oos. Two classes have
    one. Several labels: one logistic regression for each. Values: ridge regression; missing values (NaN) are left out.

    Args:
        features: a row per example.
        target: int (n,) class numbers, 0 or 1 of shape (n, labels), or float (n, values).
        outputs: number of classes, labels or values.
        is_value: whether the targets are values.

    Raises:
        UsageError: all examples have the same label.

    Example:
        >>> features = scipy.sparse.csr_matrix(np.eye(4))
        >>> kernel, bias = solve_sparse(features, np.array([0, 1, 0, 1]), 2, False)
        >>> kernel.shape, bias.shape
        ((4, 2), (2,))
    """
    target = np.asarray(target)
    if is_value:
        columns = target.reshape(len(target), -1).astype(np.float64)
        solved = [_ridge(features, column) for column in columns.T]
        return np.stack([kernel for kernel, _ in solved], axis=1), np.array([bias for _, bias in solved])
    if target.ndim == 1 and len(np.unique(target)) < 2:
        raise UsageError(
            "All training examples have the same label, so nothing can be solved. Pass examples of several."
        )
    held = _held_out(len(target))
    strength = _STRENGTHS[1] if held is None else _best_strength(features, target, outputs, held)
    return _logistic(features, target, outputs, strength)


def _held_out(count: int) -> np.ndarray | None:
    """Which examples choose the penalty, bool (count,): a tenth, at most 2,000; None if that would be too few."""
    number = min(count // 10, _MOST_HELD)
    if number < _FEWEST:
        return None
    held = np.zeros(count, bool)
    held[np.random.default_rng(0).permutation(count)[:number]] = True
    return held


def _best_strength(features: Any, target: np.ndarray, outputs: int, held: np.ndarray) -> float:
    """Returns the strength with the smallest loss on the held-out examples, up to the first that is worse.

    Their accuracy takes few values, and its choice was worse on the validation split of chinese_reviews.
    """
    if target.ndim == 1 and len(np.unique(target[~held])) < 2:
        return _STRENGTHS[1]

    def loss(strength: float) -> float:
        kernel, bias = _logistic(features[~held], target[~held], outputs, strength)
        logits, known = features[held] @ kernel + bias, target[held]
        if known.ndim == 2:
            return float(np.logaddexp(0, np.where(known > 0, -logits, logits)).mean())
        return float((np.logaddexp.reduce(logits, axis=1) - logits[np.arange(len(known)), known]).mean())

    best, least = _STRENGTHS[0], np.inf
    for strength in _STRENGTHS:  # the weaker the penalty, the longer the solution takes
        if (found := loss(strength)) >= least:
            break
        best, least = strength, found
    return best


def _logistic(features: Any, target: np.ndarray, outputs: int, strength: float) -> tuple[np.ndarray, np.ndarray]:
    kernel, bias = np.zeros((features.shape[1], outputs)), np.full(outputs, _NEVER)
    if target.ndim == 2:
        for number, column in enumerate(target.T > 0):
            kernel[:, number], bias[number] = _one(features, column, strength)
        return kernel, bias
    known = np.unique(target)
    if len(known) == 2:  # one logit, of the second class against the first
        weights, offset = _one(features, target == known[1], strength)
        kernel[:, known], bias[known] = np.stack([-weights, weights], axis=1) / 2, np.array([-offset, offset]) / 2
        return kernel, bias
    for number in known:
        kernel[:, number], bias[number] = _one(features, target == number, strength)
    return kernel, bias


def _one(features: Any, positive: np.ndarray, strength: float) -> tuple[np.ndarray, float]:
    """Logistic regression of yes or no. On sparse features, the dual problem is solved in few passes."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    if positive.all() or not positive.any():
        return np.zeros(features.shape[1]), -_NEVER if positive.all() else _NEVER
    solver = LogisticRegression(C=strength, solver="liblinear", dual=True, tol=_TOLERANCE, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # after 100 passes, the solution is as good as it will be
        solved = solver.fit(features, positive)
    return solved.coef_[0], float(solved.intercept_[0])


def _ridge(features: Any, values: np.ndarray) -> tuple[np.ndarray, float]:
    """Ridge regression of one value, with the penalty of the smallest squared error on the held-out examples."""
    from sklearn.linear_model import Ridge

    known = np.isfinite(values)
    features, values = features[known], values[known]
    if not len(values):
        return np.zeros(features.shape[1]), 0.0
    alpha, held = 1.0, _held_out(len(values))
    if held is not None:

        def error(alpha: float) -> float:
            model = Ridge(alpha, solver="lsqr").fit(features[~held], values[~held])
            return float(np.square(model.predict(features[held]) - values[held]).mean())

        alpha = min(_ALPHAS, key=error)
    solved = Ridge(alpha, solver="lsqr").fit(features, values)
    return solved.coef_, float(solved.intercept_)
