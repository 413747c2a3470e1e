"""The forms of an export: ways to write the same trained model into a SavedModel.

A form defines how the config and weights of the model change, how its layers are prepared for tracing, which ops the graph
must not contain, and how much its outputs may differ from the trained model's. A new form is one `Form` object, passed to
`zoo.export.save`.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from zoo.errors import UsageError, one_line
from zoo.export.graph import batch_norm_fusion
from zoo.export.standalone import checks

if TYPE_CHECKING:
    from zoo.datasets.interface import Interface

ROUNDING = checks.ROUNDING
"""Allowed difference of float32 sums that are computed in another order, relative to the larger of 1 and the output's
largest value."""


@dataclasses.dataclass(frozen=True)
class Content:
    """Config and weights of a model as a form writes them.

    Attributes:
        config: the config of the copy.
        weights: the weights of the copy, in its order.
        changed: names of layers with another config or other variables than in the trained model, as after fusion; their
            whole state is in `weights`. Layers that only have other values are not named.
        detail: how the weights were changed, as a phrase after "identical to the trained model's", such as `with batch
            norm fused`; "" for no change.
        model: the model to trace itself, without a copy; None for a copy.
    """

    config: Mapping[str, Any]
    weights: Sequence[np.ndarray[Any, Any]]
    changed: frozenset[str] = frozenset()
    detail: str = ""
    model: keras.Model | None = None

    def is_like(self, other: Content) -> bool:
        """Whether the same files would be written from another content of the model."""
        return (self.detail, self.model is None) == (other.detail, other.model is None)


def as_trained(model: keras.Model, kept: Collection[str | None]) -> Content:
    """Returns config and weights without changes."""
    return Content(model.get_config(), model.get_weights())


def with_batch_norm_fused(model: keras.Model, kept: Collection[str | None]) -> Content:
    """Returns config and weights with batch normalization fused into preceding layers where this is numerically safe."""
    pairs = batch_norm_fusion.plan(model, kept)
    if not pairs:
        return as_trained(model, kept)
    config, weights = batch_norm_fusion.config(model, pairs), batch_norm_fusion.weights(model, pairs)
    return Content(config, weights, frozenset({*pairs, *pairs.values()}), "with batch norm fused")


def without_copy(model: keras.Model, kept: Collection[str | None]) -> Content:
    """Returns the model itself.

    Raises:
        UsageError: its variables belong to several devices.
    """
    if any(isinstance(variable.value, tf.distribute.DistributedValues) for variable in model.variables):
        raise UsageError(
            f"Model {model.name!r} was made in a distribution strategy and cannot be copied for one device. Give its classes "
            "get_config(), or make it outside the strategy's scope and load its weights."
        )
    return Content({}, model.get_weights(), model=model)


@dataclasses.dataclass(frozen=True)
class Form:
    """One way to write a trained model.

    Layers with several implementations have the method `pack_weights`, which returns their weights in the layout of a
    faster op or nothing, and the attributes `form` and `packed`, which are set while a function is traced.

    Attributes:
        name: its name in zoo.json.
        tolerance: largest difference from the trained model's outputs, relative to the larger of 1 and the output's
            largest value; above 0 and below 1.
        reason: why its outputs differ, as a phrase.
        write: returns config and weights, given the model and the names of layers whose own outputs are needed.
        layer_form: value of `form` for such layers.
        packed: whether such layers use packed weights.
        excluded_ops: ops that the graph must not contain.

    Example:
        >>> halved = Form("bfloat16", 0.02, "weights have 8 bits", write=round_to_bfloat16)
        >>> zoo.export.save(model, "exports/small", interface=interface, forms=[halved])
        PosixPath('exports/small/1')
    """

    name: str
    tolerance: float
    reason: str
    write: Callable[[keras.Model, Collection[str | None]], Content] = as_trained
    layer_form: str = "shared"
    packed: bool = True
    excluded_ops: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if not 0 < self.tolerance < 1:
            raise UsageError(
                f"The form {self.name!r} has the tolerance {self.tolerance}; expected more than 0 and less than 1. Pass "
                f"{ROUNDING} for a form that differs by rounding alone."
            )

    def content(self, model: keras.Model, interface: Interface) -> Content:
        """Returns the config and weights to write for a model.

        Raises:
            UsageError: the model has no config, such as a subclassed model.
        """
        spec = interface.spec
        with rebuilding(model):
            return self.write(model, {spec.features_layer, *spec.side_outputs})

    @contextlib.contextmanager
    def prepared(self, layers: Sequence[Any], packed: Sequence[Sequence[tf.Variable]]) -> Iterator[None]:
        """Sets layers to this form while a function is traced, and restores them afterwards.

        Args:
            layers: the layers with several implementations.
            packed: the packed weights of each layer; empty for a layer without any.
        """
        before = [(layer, layer.form, getattr(layer, "packed", None)) for layer in layers]
        try:
            for layer, weights in zip(layers, packed, strict=True):
                layer.form, layer.packed = self.layer_form, (tuple(weights) or None) if self.packed else None
            yield
        finally:
            for layer, form, held in before:
                layer.form, layer.packed = form, held

    def check_ops(self, function: Any, signature: str) -> None:
        """Raises `UsageError` if a traced function contains an op that this form excludes."""
        if not self.excluded_ops:
            return
        graph = function.graph.as_graph_def()
        nodes = (node for part in (graph.node, *(f.node_def for f in graph.library.function)) for node in part)
        if held := sorted({node.op for node in nodes} & self.excluded_ops):
            raise UsageError(
                f"Signature {signature} contains {', '.join(held)}, which the form {self.name!r} excludes. Change the layer "
                f"that uses the op, so that it avoids the op when its `form` is {self.layer_form!r}."
            )

    def is_like(self, other: Form) -> bool:
        """Whether layers compute in the same way in this form and in another."""
        return (self.layer_form, self.packed) == (other.layer_form, other.packed)

    def describe(self, content: Content) -> dict[str, Any]:
        """Returns the entry in zoo.json about the form of a model."""
        return {"name": self.name, "weights": content.detail, "tolerance": self.tolerance, "reason": self.reason}


class CannotRebuild(UsageError):
    """A model cannot be made again from its config."""


@contextlib.contextmanager
def rebuilding(model: keras.Model) -> Iterator[None]:
    """Converts exceptions while a model is rebuilt from its config into `CannotRebuild`."""
    try:
        yield
    except CannotRebuild:
        raise
    except UsageError as error:
        raise CannotRebuild(str(error)) from error
    except Exception as error:  # layers of the user may raise anything
        raise CannotRebuild(
            f"Model {model.name!r} cannot be rebuilt from its config ({one_line(error, 200)}). Pass a Functional Keras "
            "model whose layers have get_config()."
        ) from error


_ORDER_OF_SUMS = "float32 sums are computed in another order"

SERVED = Form("served", ROUNDING, _ORDER_OF_SUMS, write=with_batch_norm_fused)
"""The fastest form in TensorFlow: batch norm is fused; recurrent layers use fused ops, and two loops for many rows."""

UNFUSED = Form("unfused", ROUNDING, _ORDER_OF_SUMS)
"""`SERVED` without fused batch norm, for models in which fusing would change the rounding by too much."""

PORTABLE = Form(
    "portable", ROUNDING, _ORDER_OF_SUMS, layer_form="portable", packed=False, excluded_ops=frozenset({"BlockLSTM"})
)
"""Only ops that other runtimes can convert. If it differs from the main form, `predict` is traced in it a second time, as
`predict_portable`."""

FORMS = (SERVED, UNFUSED)
"""The forms that an export tries, in order, until one passes its verification."""


MOST_ROUNDING = 1e-3
"""Largest effect of rounding on a trained model's own outputs that an export accepts."""


def allowing(ways: Sequence[Form], own: float) -> tuple[Form, ...]:
    """Returns forms whose tolerance includes what rounding can do in the trained model itself.

    In very deep networks the rounding of the first layers grows from layer to layer, so that an exact copy, too, could
    differ by more than `ROUNDING` when its sums are computed in another order. Every sum is rounded many times and every
    weight here only once; therefore four times the measured change is allowed.

    Args:
        ways: the forms, none of which passed its verification.
        own: relative change of the trained model's outputs when each weight changes by its last bit.

    Returns:
        Nothing if `own` cannot be the reason, or is above `MOST_ROUNDING`: the answers of such a model mean little.
    """
    if not ROUNDING / 4 < own <= MOST_ROUNDING:
        return ()
    reason = f"changing the last bit of each weight changes the trained model's own outputs by {own:.1e}"
    return tuple(
        dataclasses.replace(way, tolerance=ROUNDING + 4 * own, reason=reason)
        for way in ways
        if way.tolerance <= ROUNDING
    )


AS_TRAINED = Form("as_trained", ROUNDING, _ORDER_OF_SUMS, write=without_copy)
"""The model itself instead of a copy, for models that cannot be made again from their config."""

_HALF_ROUNDING = 0.02


def forms_for(model: keras.Model, rebuilds: bool) -> tuple[Form, ...]:
    """Returns the forms that an export of any Keras model tries, in order.

    Args:
        model: a Functional model.
        rebuilds: whether the model is made of layers that Keras can make again from their config.
    """
    ways = (*FORMS, AS_TRAINED) if rebuilds else (AS_TRAINED,)
    half = {str(layer.compute_dtype) for layer in model._flatten_layers()} & {"float16", "bfloat16"}
    if not half:
        return ways
    reason = f"layers compute in {' and '.join(sorted(half))}, which is rounded in another order"
    return tuple(dataclasses.replace(way, tolerance=_HALF_ROUNDING, reason=reason) for way in ways)
