"""Checks of a user's model, targets and weights before training."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from zoo.errors import UsageError, one_line
from zoo.training.data.user_losses import CompiledLoss, PerElement
from zoo.training.data.user_structure import format_shape

Shape = tuple[int | None, ...]

_LOSS = "give model.compile the loss"
_REPLACED = {
    **dict.fromkeys(("train_step", "test_step", "compute_loss"), _LOSS),
    "compute_metrics": "give model.compile the metrics, or update metrics of the model in call",
}
"""Methods of a Keras model that the loop replaces, and what to do instead."""


def check_model(model: Any) -> None:
    """Raises `UsageError` for a model that the loop cannot train as its owner expects."""
    if not isinstance(model, keras.Model):
        raise UsageError(f"The model is a {type(model).__name__}; expected a Keras model. Pass a keras.Model.")
    kind = type(model).__name__
    if not model.built:
        raise UsageError(
            f"The {kind} {model.name!r} has no weights yet: its input's shape is unknown. Call model(x[:1]) once, or begin a "
            "Sequential with keras.Input."
        )
    structure = getattr(model, "_outputs_struct", None)
    parts = (
        structure.values() if isinstance(structure, dict) else structure if isinstance(structure, (list, tuple)) else ()
    )
    if any(isinstance(part, (dict, list, tuple)) for part in parts):
        raise UsageError(
            f"The outputs of model {model.name!r} are nested; training takes a flat dict or list of tensors. Build a "
            "keras.Model(model.inputs, {...}) with a name for each."
        )
    for name, cure in _REPLACED.items():
        if getattr(type(model), name) is not getattr(keras.Model, name):
            raise UsageError(
                f"{kind} has a {name} of its own, which would not run here. Remove it and {cure}, or call model.fit."
            )


def check_shapes(objective: CompiledLoss, targets: Shape, outputs: Shape, where: str) -> None:
    """Raises `UsageError` where targets would be broadcast, or are of another kind than the loss takes.

    Args:
        objective: the loss.
        targets: shape, without the axis of examples.
        outputs: shape, likewise.
        where: how messages call the targets.
    """
    facts = f"{where} is {format_shape(('examples', *targets))}; the loss {objective.name} with outputs "
    facts += format_shape(("examples", *outputs))
    if objective.kind == "own":
        return
    if objective.kind == "sparse":
        if targets in (outputs[:-1], (*outputs[:-1], 1)):
            return
        cure = f"Pass class numbers of shape {format_shape(('examples', *outputs[:-1]))}."
        if targets == outputs:
            cure = "Compile with categorical_crossentropy, or pass y.argmax(axis=-1)."
        raise UsageError(f"{facts} takes one class number for each output. {cure}")
    if targets == outputs or (*targets, 1) == outputs or targets == (*outputs, 1):
        return
    cure = f"Pass targets of shape {format_shape(('examples', *outputs))}."
    if objective.kind == "one_hot" and targets == outputs[:-1]:
        cure = "Compile with sparse_categorical_crossentropy, or pass keras.utils.to_categorical(y)."
    raise UsageError(f"{facts} takes targets of the outputs' shape. {cure}")


def loss_rank(objective: CompiledLoss, loss: PerElement, targets: np.ndarray, output: tf.Tensor, where: str) -> int:
    """Returns how many axes the losses of a batch have; 0 for a loss that gives no number for each example, but for all.

    Args:
        objective: the loss.
        loss: as it is called.
        targets: of the same rows as the output.
        output: the model's output for some rows.
        where: how messages call the targets.

    Raises:
        UsageError: a loss of probabilities with other outputs, or one that does not take the targets.
    """
    name, least = objective.name, float(tf.reduce_min(output))
    if objective.takes_probabilities and least < 0:
        raise UsageError(
            f"The loss {name} takes probabilities; the model returns {least:.3g}. Pass from_logits=True to the loss, or let "
            "the model end in softmax or sigmoid."
        )
    shapes = (
        f"{format_shape(('examples', *targets.shape[1:]))} with outputs {format_shape(('examples', *output.shape[1:]))}"
    )
    try:  # zeros: values are checked elsewhere, and the shape is all that counts here
        shape = tuple(loss(np.zeros_like(targets), output).shape)
        first = tuple(loss(np.zeros_like(targets[:1]), output[:1]).shape)
    except (ValueError, TypeError, tf.errors.OpError) as error:
        raise UsageError(
            f"The loss {name} does not take {where} {shapes}: {one_line(error, 150)} Choose a loss for such targets."
        ) from error
    if shape[:1] != (len(targets),) or first[:1] != (1,):
        return 0
    if shape[1:] != targets.shape[1 : len(shape)]:
        raise UsageError(
            f"The loss {name} gives {format_shape(('examples', *shape[1:]))} for {where} {shapes}. Make it give "
            "one number for each example, or for each step of the targets."
        )
    return len(shape)


def check_weights(weights: np.ndarray, each: Shape, where: str) -> None:
    """Raises `UsageError` for weights that are invalid, or do not fit the losses.

    Args:
        weights: (examples, ...).
        each: shape of an example's losses.
        where: how messages call the weights.
    """
    if weights.shape[1:] not in ((), (1,), each, (*each, 1)):
        wanted = " or ".join(dict.fromkeys(format_shape(("examples", *shape)) for shape in ((), each)))
        raise UsageError(
            f"{where} is {format_shape(('examples', *weights.shape[1:]))}; the losses are "
            f"{format_shape(('examples', *each))}. Pass weights of shape {wanted}."
        )
    wrong = np.argwhere(~(np.isfinite(weights) & (weights >= 0)))
    if wrong.size:
        at = tuple(wrong[0])
        raise UsageError(f"{where} is {weights[at]} at example {at[0]}. Pass finite numbers of at least 0.")


def check_values(
    objective: CompiledLoss, targets: np.ndarray, weights: np.ndarray | None, classes: int, where: str
) -> None:
    """Raises `UsageError` for the first invalid target; targets with weight 0 may be anything.

    Args:
        objective: the loss.
        targets: (examples, ...).
        weights: what fits them, None for none.
        classes: number of classes of a sparse loss.
        where: how messages call the targets.
    """
    real = np.ones(targets.shape, bool)
    if weights is not None:
        real &= unsqueezed(weights != 0, targets.ndim)
    if (ignored := objective.option("ignore_class")) is not None:
        real &= targets != ignored
    good, expected = np.isfinite(targets), "finite numbers"
    if objective.kind == "sparse":
        good &= (targets >= 0) & (targets < classes) & (np.where(good, targets, 0) % 1 == 0)
        expected = f"whole numbers from 0 to {classes - 1}, as the model has {classes} classes"
    elif objective.kind == "binary":
        good &= (targets >= 0) & (targets <= 1)
        expected = "numbers from 0 to 1"
    wrong = np.argwhere(real & ~good)
    if wrong.size:
        at = tuple(wrong[0])
        raise UsageError(
            f"{where} is {targets[at]} at example {at[0]}; expected {expected}. "
            "Correct it, or pass sample_weight with 0 there."
        )


def unsqueezed(array: np.ndarray, rank: int) -> np.ndarray:
    """Returns the array with axes of size 1 at its end added, or taken away, up to a rank."""
    shape = array.shape[:rank] + (1,) * (rank - array.ndim)
    return array.reshape(shape)
