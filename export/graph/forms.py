"""The forms of an export: ways to write the same trained model into a SavedModel.

A form says how config and weights of the model change, how its layers are prepared to be traced, which ops it must not
hold, and how far its outputs may be from the trained model's. A new form is one `Form`; `zoo.export.save` takes it.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from zoo import registry
from zoo.errors import UsageError, one_line
from zoo.export.graph import batch_norm_fusion

if TYPE_CHECKING:
    from zoo.datasets.interface import Interface

ROUNDING = 1e-5
"""What float32 sums may differ by when they are added up in another order, relative to the larger of 1 and the output's
largest value."""


@dataclasses.dataclass(frozen=True)
class Content:
    """Config and weights of a model as a form writes them.

    Attributes:
        config: what the copy is made from.
        weights: its weights, in its order.
        changed: names of layers that are not what they were; all of their state is in `weights`.
        detail: what was done to the weights, as it follows "the live model's": `with batch norm fused`; "" for nothing.
    """

    config: Mapping[str, Any]
    weights: Sequence[np.ndarray[Any, Any]]
    changed: frozenset[str] = frozenset()
    detail: str = ""


def as_trained(model: keras.Model, kept: Collection[str | None]) -> Content:
    """Returns config and weights as they are."""
    return Content(model.get_config(), model.get_weights())


def with_batch_norm_fused(model: keras.Model, kept: Collection[str | None]) -> Content:
    """Returns config and weights with batch normalization fused into the layers before it, as far as that is safe."""
    pairs = batch_norm_fusion.plan(model, kept)
    if not pairs:
        return as_trained(model, kept)
    config, weights = batch_norm_fusion.config(model, pairs), batch_norm_fusion.weights(model, pairs)
    return Content(config, weights, frozenset({*pairs, *pairs.values()}), "with batch norm fused")


@dataclasses.dataclass(frozen=True)
class Form:
    """One way to write a trained model.

    Layers that can be computed in several ways have the method `pack_weights`, which returns their weights in the layout
    of a faster op or nothing, and the attributes `form` and `packed`, which are set while a function is traced.

    Attributes:
        name: what zoo.json calls it.
        tolerance: largest difference from the trained model's outputs, relative to the larger of 1 and the output's
            largest value; above 0 and below 1.
        reason: why its outputs differ at all, in a phrase.
        write: config and weights, from the model and the names of layers whose own outputs are wanted.
        layer_form: `form` of such layers.
        packed: whether such layers have their weights packed.
        excluded_ops: ops that its graph must not hold.

    Example:
        >>> halved = Form("bfloat16", 0.02, "weights have 8 bits", write=round_to_bfloat16)
        >>> zoo.export.save(model, interface, "exports/small", forms=[halved])
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
        """Returns what is written of a model.

        Raises:
            UsageError: the model has no config, as a subclassed one.
        """
        spec = registry.get_spec(interface.build["name"])
        with rebuilding(model):
            return self.write(model, {spec.features_layer, *spec.side_outputs})

    @contextlib.contextmanager
    def prepared(self, layers: Sequence[Any], packed: Sequence[Sequence[tf.Variable]]) -> Iterator[None]:
        """Has layers compute in this form what is traced inside of it; afterwards they are as before.

        Args:
            layers: those that have several forms.
            packed: the packed weights of each, none where it packs nothing.
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
        """Raises `UsageError` where a traced function holds an op that this form must not."""
        if not self.excluded_ops:
            return
        graph = function.graph.as_graph_def()
        nodes = (node for part in (graph.node, *(f.node_def for f in graph.library.function)) for node in part)
        if held := sorted({node.op for node in nodes} & self.excluded_ops):
            raise UsageError(
                f"Signature {signature} holds {', '.join(held)}, which the form {self.name!r} must not. Leave the op out of "
                "the layer that makes it where its `form` is this one's."
            )

    def is_like(self, other: Form) -> bool:
        """Whether this form has layers compute as another does."""
        return (self.layer_form, self.packed) == (other.layer_form, other.packed)

    def describe(self, content: Content) -> dict[str, Any]:
        """Returns what zoo.json says of the form in which a model was written."""
        return {"name": self.name, "weights": content.detail, "tolerance": self.tolerance, "reason": self.reason}


@contextlib.contextmanager
def rebuilding(model: keras.Model) -> Iterator[None]:
    """Turns what goes wrong while a model is made again from its config into a `UsageError` that says so."""
    try:
        yield
    except UsageError:
        raise
    except (TypeError, ValueError, NotImplementedError) as error:
        raise UsageError(
            f"Model {model.name!r} cannot be rebuilt from its config ({one_line(error, 200)}). Pass a Functional Keras "
            "model whose layers have get_config()."
        ) from error


_ORDER_OF_SUMS = "float32 sums are added up in another order"

SERVED = Form("served", ROUNDING, _ORDER_OF_SUMS, write=with_batch_norm_fused)
"""What TensorFlow answers fastest: batch norm fused, recurrent layers in fused ops and in two loops for many rows."""

UNFUSED = Form("unfused", ROUNDING, _ORDER_OF_SUMS)
"""`SERVED` with batch norm as it was trained, for models whose rounding fusing would change by too much."""

PORTABLE = Form(
    "portable", ROUNDING, _ORDER_OF_SUMS, layer_form="portable", packed=False, excluded_ops=frozenset({"BlockLSTM"})
)
"""Ops that other runtimes convert. `predict` is traced in it once more, as `predict_portable`, where that makes a
difference."""

FORMS = (SERVED, UNFUSED)
"""The forms that an export tries, in order, until one passes its verification."""
