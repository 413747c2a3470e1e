"""Losses of a compiled model, in the form in which the loop needs them.

`Model.fit` needs one number from a loss. The loop needs one number for every element, so that batches of any size, several
devices and padding (weight 0) give exact means.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
from keras import ops

from zoo.errors import UsageError, did_you_mean
from zoo.metrics import CrossEntropy, SquaredError

_KINDS = {
    keras.losses.sparse_categorical_crossentropy: "sparse",
    keras.losses.categorical_crossentropy: "one_hot",
    keras.losses.categorical_focal_crossentropy: "one_hot",
    keras.losses.categorical_hinge: "one_hot",
    keras.losses.kl_divergence: "one_hot",
    keras.losses.binary_crossentropy: "binary",
    keras.losses.binary_focal_crossentropy: "binary",
    keras.losses.cosine_similarity: "vectors",
    **dict.fromkeys(
        (
            keras.losses.mean_squared_error,
            keras.losses.mean_absolute_error,
            keras.losses.mean_absolute_percentage_error,
            keras.losses.mean_squared_logarithmic_error,
            keras.losses.huber,
            keras.losses.log_cosh,
            keras.losses.poisson,
            keras.losses.hinge,
            keras.losses.squared_hinge,
        ),
        "numbers",
    ),
}
_SMOOTHED = (keras.losses.sparse_categorical_crossentropy, keras.losses.categorical_crossentropy)
_PROBABILITIES = (*_SMOOTHED, keras.losses.binary_crossentropy, keras.losses.binary_focal_crossentropy)


@dataclasses.dataclass(frozen=True)
class CompiledLoss:
    """A loss, and what it asks of targets.

    Attributes:
        loss: a Keras loss, or a function of (target, output).
        name: how messages call it.
        kind: sparse (class numbers), one_hot, binary (0 to 1), numbers (the mean over the last axis), vectors (one number
            for all of the last axis), example (one for all axes but the first), or own, of which nothing is known.
        function: Keras's function behind the loss, None where there is none.
    """

    loss: Any
    name: str
    kind: str
    function: Callable[..., Any] | None = None

    def option(self, name: str, default: Any = None) -> Any:
        """Returns an argument of the loss, such as from_logits."""
        return getattr(self.loss, name, default)

    @property
    def takes_probabilities(self) -> bool:
        """Whether outputs below 0 make no sense."""
        return self.function in _PROBABILITIES and not self.option("from_logits", False)

    def per_element(
        self, elementwise: bool = False, label_smoothing: float = 0.0, whole_batch: bool = False
    ) -> PerElement:
        """Returns the loss as the loop calls it.

        Raises:
            UsageError: label_smoothing with a loss that has none, or has its own already.
        """
        if label_smoothing and self.function not in _SMOOTHED:
            raise UsageError(
                f"label_smoothing={label_smoothing} goes with sparse or categorical cross-entropy; the loss is "
                f"{self.name}. Leave label_smoothing out."
            )
        if label_smoothing and self.option("label_smoothing", 0.0):
            raise UsageError(
                f"label_smoothing={label_smoothing} was passed, and the loss has label_smoothing="
                f"{self.option('label_smoothing')} already. Leave one of them out."
            )
        return PerElement(self.loss, elementwise, label_smoothing, whole_batch=whole_batch)

    def describe(self) -> dict[str, Any]:
        """Returns the loss's name and arguments in the types that YAML and JSON know."""
        config: dict[str, Any] = {}
        if isinstance(self.loss, keras.losses.Loss):
            # A loss of the user's may leave its configuration incomplete.
            config = {
                k: v for k, v in vars(self.loss).items() if k[0] != "_" and isinstance(v, (bool, int, float, str))
            }
            config |= {k: v for k, v in self.loss.get_config().items() if k != "fn"}
        reduction = getattr(self.loss, "reduction", None)
        config = {k: v for k, v in config.items() if k not in ("name", "reduction")}
        if reduction == "mean_with_sample_weight":
            config["reduction"] = reduction
        return {"name": without_number(self.name), **plain(config)}


def aligned(targets: Any, outputs: Any, elementwise: bool = False) -> tuple[Any, Any]:
    """Returns targets and outputs with the axes that Keras's losses and metrics expect.

    Targets (batch,) with outputs (batch, 1) would broadcast to (batch, batch), and of two tensors (batch,) the mean over
    the last axis is one number for the whole batch: an axis of size 1 is added where it is missing.

    Args:
        targets: (batch, ...).
        outputs: (batch, ...).
        elementwise: adds the axis to equal shapes of any rank, so that a mean over the last axis leaves every element.
    """
    targets, outputs = ops.convert_to_tensor(targets), ops.convert_to_tensor(outputs)
    rank, other = len(targets.shape), len(outputs.shape)
    if rank == other - 1 and outputs.shape[-1] == 1:
        return ops.expand_dims(targets, -1), outputs
    if rank == other + 1 and targets.shape[-1] == 1:
        outputs, rank = ops.expand_dims(outputs, -1), other
        return targets, outputs
    if rank == other and (rank == 1 or elementwise):
        return ops.expand_dims(targets, -1), ops.expand_dims(outputs, -1)
    return targets, outputs


@keras.saving.register_keras_serializable("zoo")
class PerElement(keras.losses.Loss):
    """A loss without reduction: (batch,), or (batch, steps) for targets that have steps.

    Args:
        loss: a Keras loss, or a function of (target, output).
        elementwise: whether every number of a target counts on its own; see `aligned`.
        label_smoothing: the part of the probability that is spread evenly over all classes; cross-entropy only.
        name: of the loss.
        whole_batch: whether the loss is one number for a batch, as that of overlapping areas: it is each example's.

    Attributes:
        weighted_mean: whether the mean divides by the sum of the weights instead of the number of real elements.

    Source of label smoothing: Szegedy et al., Rethinking the Inception architecture for computer vision, CVPR 2016.

    Example:
        >>> loss = PerElement(keras.losses.MeanSquaredError())
        >>> loss([1.0, 2.0], [[1.0], [4.0]]).numpy().tolist()
        [0.0, 4.0]
    """

    def __init__(
        self,
        loss: Any,
        elementwise: bool = False,
        label_smoothing: float = 0.0,
        name: str | None = None,
        whole_batch: bool = False,
    ) -> None:
        dtype = loss.dtype if isinstance(loss, keras.losses.Loss) else None
        super().__init__(name=name or name_of(loss), reduction=None, dtype=dtype)
        self.loss, self.elementwise, self.label_smoothing = loss, elementwise, label_smoothing
        self.whole_batch = whole_batch
        self.weighted_mean = getattr(loss, "reduction", None) == "mean_with_sample_weight"

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns the losses."""
        sparse = _kind(self.loss)[0] == "sparse"
        if sparse and len(y_true.shape) == len(y_pred.shape) and y_true.shape[-1] == 1:
            y_true = ops.squeeze(y_true, -1)
        if self.label_smoothing or (sparse and len(y_true.shape) == len(y_pred.shape)):
            return self._cross_entropy(y_true, y_pred)
        targets, outputs = (y_true, y_pred) if sparse else aligned(y_true, y_pred, self.elementwise)
        # Not the loss itself, which would reduce; nor a copy of it, which Keras makes from an incomplete configuration.
        function = self.loss.call if isinstance(self.loss, keras.losses.Loss) else self.loss
        losses = ops.convert_to_tensor(function(targets, outputs))
        if self.whole_batch:
            return ops.broadcast_to(ops.mean(losses), (ops.shape(outputs)[0],))
        added = len(losses.shape) == len(targets.shape) > 1 and losses.shape[-1] == 1
        return ops.squeeze(losses, -1) if added else losses  # a function that takes no mean over the last axis

    def class_numbers(self, targets: Any) -> Any:
        """Returns the number of each example's class, as Keras's class weights read it from a row or a probability."""
        kind = _kind(self.loss)[0]
        if kind == "one_hot":
            return ops.argmax(targets, axis=-1)
        if kind == "binary":
            return ops.cast(ops.round(ops.squeeze(targets, -1) if len(targets.shape) > 1 else targets), "int32")
        return targets

    def _cross_entropy(self, targets: Any, outputs: Any) -> Any:
        """With smoothed labels, and of shares of classes, which mixing examples makes of class numbers."""
        loss = CrossEntropy(getattr(self.loss, "from_logits", False), self.label_smoothing)
        losses = loss.call(targets, outputs)
        ignored = getattr(self.loss, "ignore_class", None)
        if ignored is None or len(targets.shape) == len(outputs.shape):
            return losses
        return ops.where(ops.equal(targets, ignored), ops.zeros_like(losses), losses)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            "loss": keras.saving.serialize_keras_object(self.loss),
            "elementwise": self.elementwise,
            "label_smoothing": self.label_smoothing,
            "name": self.name,
            "whole_batch": self.whole_batch,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> PerElement:
        """Makes the loss from what `get_config` gave."""
        return cls(**{**config, "loss": keras.losses.get(config["loss"])})


def resolve_loss(identifier: Any, target_shape: tuple[int, ...], output_shape: tuple[int, ...]) -> CompiledLoss:
    """Returns what `Model.compile(loss=...)` of a model with one output means.

    Args:
        identifier: a name, a function, a class, a Loss, or a list or dict with one of them.
        target_shape: of some examples.
        output_shape: of their outputs.

    Raises:
        UsageError: no loss of that name, or several losses.
    """
    identifier = only(identifier, "loss")
    if isinstance(identifier, PerElement):
        identifier = identifier.loss
    if str(identifier).lower() in ("crossentropy", "ce"):
        choice = kind_by_shapes(target_shape, output_shape)
        identifier = {"binary": "binary", "sparse": "sparse_categorical", "one_hot": "categorical"}[choice]
        identifier += "_crossentropy"
    try:
        loss = keras.losses.get(identifier)
    except ValueError as error:
        known = [function.__name__ for function in _KINDS]
        raise UsageError(f"Unknown loss {identifier!r}. {did_you_mean(str(identifier), known)}") from error
    kind, function = _kind(loss)
    return CompiledLoss(loss, name_of(loss), kind, function)


def check_reduction(loss: Any) -> None:
    """Raises UsageError for a loss that adds up, or that is left without reduction, instead of taking the mean.

    Of the latter `fit` reports the mean, and follows the gradient of the sum.
    """
    if isinstance(loss, keras.losses.Loss) and loss.reduction in ("sum", "none", None) and not _is_per_element(loss):
        raise UsageError(
            f"The loss {loss.name} has reduction={loss.reduction!r}; here the loss of a step is the mean over its real "
            "examples. Leave reduction out, and pass a higher learning rate if you need one."
        )


def _is_per_element(loss: keras.losses.Loss) -> bool:
    """Whether a loss has no reduction because the loop takes the mean, as those of this package."""
    return isinstance(loss, (PerElement, SquaredError, CrossEntropy))


def only(value: Any, what: str) -> Any:
    """Returns the one entry of a list or dict, or the value itself.

    Raises:
        UsageError: several entries.
    """
    if not isinstance(value, (list, tuple, Mapping)) or _is_config(value):
        return value
    entries = list(value.values()) if isinstance(value, Mapping) else list(value)
    if len(entries) != 1:
        raise UsageError(f"The model is compiled with {len(entries)} entries in {what}; expected one. Pass one.")
    return only(entries[0], what)


def _is_config(value: Any) -> bool:
    return isinstance(value, Mapping) and "class_name" in value


def _kind(loss: Any) -> tuple[str, Callable[..., Any] | None]:
    """Returns what is known of a loss: its kind, and Keras's function behind it."""
    function = loss
    if isinstance(loss, keras.losses.Loss):
        if isinstance(loss, SquaredError):
            return "example", None
        if isinstance(loss, CrossEntropy):
            return "sparse", keras.losses.sparse_categorical_crossentropy
        keras_own = type(loss).call is keras.losses.MeanSquaredError.call  # what every loss of Keras inherits
        function = getattr(loss, "fn", None) if keras_own else None
        if getattr(loss, "_fn_kwargs", {}).get("axis", -1) != -1:
            function = None
    kind = _KINDS.get(function) if callable(function) and getattr(function, "__hash__", None) else None
    return (kind, function) if kind else ("own", None)


def name_of(loss: Any) -> str:
    """Returns the name of a loss or a metric."""
    return str(getattr(loss, "name", None) or getattr(loss, "__name__", type(loss).__name__))


def kind_by_shapes(target_shape: tuple[int, ...], output_shape: tuple[int, ...]) -> str:
    """Returns which kind Keras chooses for "accuracy" and "crossentropy"."""
    if output_shape[-1] == 1:
        return "binary"
    sparse = len(target_shape) < len(output_shape) or (target_shape[-1] == 1 and output_shape[-1] > 1)
    return "sparse" if sparse else "one_hot"


def compile_arguments(model: keras.Model) -> dict[str, Any] | None:
    """Returns what `Model.compile` was called with, None for a model that is not compiled."""
    if not model.compiled:
        return None
    if not hasattr(model, "_compile_config"):
        raise RuntimeError(f"Keras {keras.__version__} keeps what compile got in another place; install keras 3.15.")
    return dict(model._compile_config.config)


@contextlib.contextmanager
def keep_compiled(model: keras.Model) -> Iterator[None]:
    """Gives a model back as compiled as it came, whatever happens to it in the block.

    The loop compiles a model for Keras's callbacks, with losses without reduction: `Model.evaluate` and `Model.fit` would
    take those for the user's own, and so would the next call of `zoo.train`.

    Example:
        >>> with keep_compiled(model):
        ...     model.compile(optimizer, PerElement(keras.losses.MeanSquaredError()))
    """
    arguments = compile_arguments(model)
    try:
        yield
    finally:
        if arguments is not None:
            model.compile(**arguments)
        elif model.compiled:
            model.compiled, model.loss, model.optimizer = False, None, None
            model._compile_loss = model._compile_metrics = model._loss_tracker = None


@contextlib.contextmanager
def as_saved(model: keras.Model) -> Iterator[None]:
    """Lets a model that the block compiles be saved as its owner compiled it, or not compiled at all.

    A file that a callback or the run writes then loads in plain Keras, without the loop's losses and metrics.
    """
    before = getattr(model, "_compile_config", None) if model.compiled else None
    yield
    if before is None:
        del model._compile_config
    else:
        model._compile_config = before


def without_number(name: str) -> str:
    """Returns a name without the number that Keras adds where a name is there twice in a process."""
    return re.sub(r"_\d+$", "", name)


def plain(value: Any) -> Any:
    """Returns a Keras configuration in the types that YAML and JSON know; of what they do not know, the type's name."""
    return json.loads(json.dumps(value, default=lambda other: type(other).__name__, allow_nan=True))
