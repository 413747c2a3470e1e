"""Layer-wise learning-rate decay: the deeper a layer, the smaller its learning rate."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from typing import Any

import keras

from zoo.errors import UsageError
from zoo.registry import describe_build, get_spec
from zoo.training.adaptations.contract import Adaptation, register_adaptation


def depths(model: keras.Model) -> dict[str, int]:
    """Returns the depth of every layer with weights: how many such layers lie between it and an output, on the longest path.

    The last layer has depth 0. A layer that has vectors only, such as a normalization, has the depth of the layer below it.
    A composite layer counts once. A layer that is called twice has the depth of its first call.

    Raises:
        UsageError: the model is subclassed, so that the order of its layers is unknown.

    Example:
        >>> depths(zoo.build_transformer_model(vocab_size=10, num_classes=3))
        {'probabilities': 0, 'block_2': 1, 'block_1': 2, 'embedding': 3}
    """
    graph: Any = getattr(model, "_functional", None) or model
    if not hasattr(graph, "_nodes_by_depth"):
        raise UsageError(
            f"Model {model.name!r} is subclassed: the order of its layers is unknown. Build it as a Functional model, or "
            "leave layer_decay and lora_rank out."
        )
    at_node: dict[int, int] = {}
    found: dict[str, int] = {}
    for depth in sorted(graph._nodes_by_depth):  # from the outputs down: the readers of a node come before it
        for node in graph._nodes_by_depth[depth]:
            layer, above = node.operation, at_node.get(id(node), 0)
            weights = list(getattr(layer, "weights", ()))
            if weights:
                found[layer.name] = max(found.get(layer.name, 0), above)
            below = above + any(len(w.shape) > 1 for w in weights)
            for parent in node.parent_nodes:
                at_node[id(parent)] = max(at_node.get(id(parent), 0), below)
    return found


def groups(model: keras.Model) -> dict[str, int]:
    """Returns the group of every layer with weights, 0 for the last layer: the depths without gaps.

    Layers that the model's spec counts as one group have the smallest of their depths.

    Example:
        >>> groups(zoo.build_transformer_model(vocab_size=10, num_classes=3))["embedding"]
        3
    """
    found = depths(model)
    build = describe_build(model)
    counted_as_one: Sequence[Sequence[str]] = get_spec(build["name"]).levels if build else ()
    for patterns in counted_as_one:
        members = [name for name in found if any(fnmatch.fnmatchcase(name, p) for p in patterns)]
        found |= dict.fromkeys(members, min((found[name] for name in members), default=0))
    ranks = {depth: rank for rank, depth in enumerate(sorted(set(found.values())))}
    return {name: ranks[depth] for name, depth in found.items()}


@register_adaptation
class LayerDecay(Adaptation):
    """Multiplies the learning rate of a layer by `layer_decay` to the power of its group.

    Source: Howard and Ruder, Universal language model fine-tuning for text classification, ACL 2018, section 3.2; in this
    form Clark et al., ELECTRA, ICLR 2020, appendix B.
    """

    fields = ("layer_decay",)

    def apply(self) -> None:
        """Computes the factors.

        Raises:
            UsageError: the model is subclassed.
        """
        self._groups = groups(self.model)

    def build(self, weights: Sequence[keras.Variable]) -> Sequence[Sequence[keras.Variable]]:
        """Looks up the layer of each weight."""
        layers = {layer.name: layer for layer in self.model.layers}
        self._factors = {
            id(v): self.config.layer_decay**group
            for name, group in self._groups.items()
            for v in layers[name].variables
        }
        return super().build(weights)

    def rate(self, weight: keras.Variable) -> float:
        """Returns the factor of the learning rate of a weight."""
        return self._factors[id(weight)]
