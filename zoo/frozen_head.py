"""The last layer of a model with a frozen body, solved at once instead of trained: logistic regression or ridge regression.

A family gets it with `closed_form=solve_head` in `@register_model`. It suits published weights and few examples.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zoo.errors import UsageError

if TYPE_CHECKING:
    import keras
    import numpy as np

_BATCH = 64
_STRENGTH = 100.0
"""Inverse strength of the L2 penalty for features whose mean square length is 1; chosen on validation splits."""
_ALPHAS = (-4, 6, 31)
"""Penalties of the ridge regression as powers of ten: first, last and number."""
_CLASS_ALPHAS = (-7, 2, 28)
"""Penalties of the ridge regression of classes as powers of ten of the number of features: first, last and number."""
_SHARES = (0.0, 0.1, 1.0)
"""Weights of further groups of features; the first has the weight 1."""
_MOST_COMPARED = 1_000
"""Examples that decide the weights of groups."""
_POWERS = (-2.0, 5.0)
"""Range of the natural logarithm of the factor that turns a regression of classes into logits."""
_CONSTANT = 1e-6
"""A smaller standard deviation is that of a constant feature."""
_NEVER = -30.0
"""Logit of a class without training examples."""
_MOST_STEPS = 500


def solve_head(model: keras.Model, inputs: Mapping[str, np.ndarray], targets: Mapping[str, np.ndarray]) -> None:
    """Sets the weights of a model's last layer from the features of all training examples, which are computed once. All other
    weights stay as they are.

    One label per example: multinomial logistic regression with an L2 penalty. Several labels: one logistic regression for
    each. Values: ridge regression, whose penalty has the smallest leave-one-out error. The result is the same in every run.

    Args:
        model: ends with a dense layer, such as those of `blocks.classifier`; that layer's weights are set.
        inputs: model inputs by name, with a row per example. With an input `padding_mask`, texts of similar length are
            computed together.
        targets: the only target: int (n,) class numbers, 0 or 1 of shape (n, labels), or float (n, values).

    Raises:
        UsageError: the model does not end with a dense layer, or all examples have the same label.

    Example:
        >>> model = zoo.checkpoints.build("bert", "all-MiniLM-L6-v2", num_classes=2)
        >>> solve_head(model, preprocessor(["good", "bad"]), {"label": np.array([1, 0])})
    """
    import numpy as np

    last = _last_layer(model)
    (target,) = targets.values()
    features = _features(model, last, inputs).astype(np.float64)
    center = features.mean(axis=0)
    features -= center
    scale = float(np.sqrt((features**2).sum(axis=1).mean())) or 1.0
    features /= scale
    if last.name == "values":
        kernel, bias = _ridge(features, np.asarray(target, np.float64))
    elif target.ndim == 2:
        kernel, bias = _one_for_each(features, np.asarray(target) > 0)
    else:
        kernel, bias = _logistic(features, np.asarray(target), last.units)
    kernel = kernel / scale
    last.kernel.assign(kernel)
    last.bias.assign(bias - center @ kernel)


def solve_ridge_head(
    model: keras.Model,
    inputs: Mapping[str, np.ndarray],
    targets: Mapping[str, np.ndarray],
    *,
    groups: Sequence[int] = (),
) -> None:
    """Sets the weights of a classifier's last layer by ridge regression of the classes on standardised features. All other
    weights stay as they are.

    It suits very many features. The penalty, and the weights of groups of features, have the smallest squared
    error of predictions of every training example by the others (leave-one-out, which needs no further fit); the factor that
    turns the regression into logits has the smallest log loss.

    Args:
        model: ends with a dense layer; that layer's weights are set.
        inputs: model inputs by name, with a row per example.
        targets: the only target: int (n,) class numbers.
        groups: sizes of groups of features, if there are several kinds, so that the largest group does not drown the others.

    Raises:
        UsageError: the model does not end with a dense layer, or all examples have the same label.

    Example:
        >>> model = zoo.build_rocket_model(input_shape=(None, 1), num_classes=2, length=50)
        >>> solve_ridge_head(model, {"series": np.random.normal(size=(8, 50, 1))}, {"label": np.arange(8) % 2})
    """
    import numpy as np

    last = _last_layer(model)
    (labels,) = targets.values()
    known = np.unique(labels)
    if len(known) < 2:
        raise UsageError(
            "All training examples have the same label, so nothing can be solved. Pass examples of several."
        )
    features = _features(model, last, inputs)
    center, scale = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64)
    scale = np.where(scale > _CONSTANT, scale, np.inf)  # a constant feature has no weight
    features = ((features - center) / scale).astype(np.float32)
    classes = np.eye(last.units)[np.asarray(labels)]
    factors = _group_factors(features, classes, np.asarray(labels), groups or [features.shape[1]])
    features *= factors
    _, kernel, factor = _ridge_of_classes(features, classes, np.asarray(labels))
    kernel *= factors[:, np.newaxis]
    kernel = factor * kernel / scale[:, np.newaxis]
    bias = factor * classes.mean(axis=0) - center @ kernel
    bias[np.setdiff1d(np.arange(last.units), known)] = _NEVER
    last.kernel.assign(kernel)
    last.bias.assign(bias)


def _group_factors(features: np.ndarray, classes: np.ndarray, labels: np.ndarray, groups: Sequence[int]) -> np.ndarray:
    """Returns factors of standardised features, float32 (features,), that make all groups equally large, times the weights
    with the smallest leave-one-out error."""
    import numpy as np

    rows = np.unique(np.linspace(0, len(features) - 1, min(len(features), _MOST_COMPARED)).astype(int))
    some, places = features[rows], np.repeat(np.arange(len(groups)), groups)
    sizes = np.maximum([np.square(some[:, places == i]).sum() / len(some) for i in range(len(groups))], _CONSTANT)
    best, chosen = np.inf, np.ones(len(groups))
    for weights in itertools.product([1.0], *[_SHARES] * (len(groups) - 1)):
        tried = np.sqrt(np.array(weights) / sizes * features.shape[1])
        error = _ridge_of_classes((some * tried[places]).astype(np.float32), classes[rows], labels[rows])[0]
        if error < best:
            best, chosen = error, tried
    return chosen[places].astype(np.float32)


def _ridge_of_classes(features: np.ndarray, classes: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray, float]:
    """Returns the leave-one-out error of a ridge regression, its weights, (features, classes), and the factor of the
    logits."""
    import numpy as np
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    (count, size), mean = features.shape, classes.mean(axis=0)
    classes = classes - mean
    wide = size >= count
    square = (features @ features.T if wide else features.T @ features).astype(np.float64)
    values, vectors = np.linalg.eigh(square)
    values = np.maximum(values, 0.0)
    rows = vectors
    if not wide:
        rows = features @ (vectors / np.sqrt(np.where(values > _CONSTANT * values.max(), values, np.inf)))
    projected = rows.T @ classes

    def held_out(alpha: float) -> np.ndarray:
        """Returns the prediction for every example by the others."""
        shrunk = values / (values + alpha)
        left = np.maximum(1 - 1 / count - (rows**2) @ shrunk, 1e-9)
        return classes - (classes - rows @ (shrunk[:, np.newaxis] * projected)) / left[:, np.newaxis]

    alphas = np.logspace(*_CLASS_ALPHAS) * size
    errors = [float(np.square(held_out(alpha) - classes).mean()) for alpha in alphas]
    alpha = alphas[int(np.argmin(errors))]
    scores = mean + held_out(alpha)

    def loss(power: float) -> float:
        # One example in all counts for every class alike, so that the factor of separable classes stays finite.
        logs = log_softmax(np.exp(power) * scores, axis=1)
        return -float(logs[np.arange(count), labels].mean() + logs.mean() / count)

    factor = float(np.exp(minimize_scalar(loss, bounds=_POWERS, method="bounded").x))
    if wide:
        weights = features.T @ (vectors @ (projected / (values + alpha)[:, np.newaxis]))
    else:
        weights = vectors @ ((np.sqrt(values) / (values + alpha))[:, np.newaxis] * projected)
    return min(errors), weights, factor


def _last_layer(model: keras.Model) -> Any:
    """Returns the dense layer that a model ends with.

    Raises:
        UsageError: it ends with another.
    """
    import keras

    last = model.layers[-1]
    if not isinstance(last, keras.layers.Dense) or len(model.outputs) != 1 or not last.use_bias:
        raise UsageError(
            f"Model {model.name!r} ends with the layer {last.name!r}; expected a dense layer with a bias, which is solved. "
            "Leave closed_form out."
        )
    return last


def _features(model: keras.Model, last: Any, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns the inputs of the last layer for all examples, (examples, features)."""
    import keras
    import numpy as np

    from zoo.kernels import traced
    from zoo.tasks import model_input

    body = keras.Model(model.inputs, last.input)
    forward = traced(lambda batch: body(model_input(body, batch), training=False), autograph=False)
    mask = inputs.get("padding_mask")
    count = len(next(iter(inputs.values())))
    lengths = np.zeros(count, int) if mask is None else np.asarray(mask).sum(axis=1)
    order, parts = np.argsort(lengths, kind="stable"), []
    for start in range(0, count, _BATCH):
        rows = order[start : start + _BATCH]
        longest = None if mask is None else int(lengths[rows[-1]])
        batch = {
            name: np.asarray(part)[rows] if longest is None else part[rows, :longest] for name, part in inputs.items()
        }
        parts.append(np.asarray(forward(batch)))
    found = np.concatenate(parts)
    features = np.empty_like(found)
    features[order] = found
    return features


def _logistic(features: np.ndarray, labels: np.ndarray, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    known = np.unique(labels)
    if len(known) < 2:
        raise UsageError(
            "All training examples have the same label, so nothing can be solved. Pass examples of several."
        )
    solved = LogisticRegression(C=_STRENGTH, max_iter=_MOST_STEPS).fit(features, labels)
    kernel, bias = solved.coef_.T, solved.intercept_
    if len(known) == 2:  # one logit, of the second class against the first
        kernel, bias = np.concatenate([-kernel, kernel], axis=1) / 2, np.concatenate([-bias, bias]) / 2
    whole, biases = np.zeros((features.shape[1], num_classes)), np.full(num_classes, _NEVER)
    whole[:, known], biases[known] = kernel, bias
    return whole, biases


def _one_for_each(features: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    kernel, bias = np.zeros((features.shape[1], labels.shape[1])), np.zeros(labels.shape[1])
    for number, column in enumerate(labels.T):
        if column.all() or not column.any():
            bias[number] = -_NEVER if column.all() else _NEVER
            continue
        solved = LogisticRegression(C=_STRENGTH, max_iter=_MOST_STEPS).fit(features, column)
        kernel[:, number], bias[number] = solved.coef_[0], solved.intercept_[0]
    return kernel, bias


def _ridge(features: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    import numpy as np
    from sklearn.linear_model import RidgeCV

    solved = RidgeCV(alphas=np.logspace(*_ALPHAS), alpha_per_target=values.shape[1] > 1).fit(features, values)
    return solved.coef_.reshape(values.shape[1], -1).T, np.atleast_1d(solved.intercept_)
