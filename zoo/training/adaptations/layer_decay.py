"""How far a layer is from the top of a model, and the learning rates that fall from level to level."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from typing import Any

import keras

from zoo.errors import UsageError
from zoo.registry import describe_build, get_spec


def heights(model: keras.Model) -> dict[str, int]:
    """Returns of every layer with weights how many such layers lie above it, on the longest way to an output.

    The last layer has 0. A layer that has vectors only, such as a normalisation, has the height of what is below it. A
    layer that is made of others counts once, whatever is in it; one that is called twice lies where it is called first.

    Raises:
        UsageError: the model is subclassed, so that its layers have no known order.

    Example:
        >>> heights(zoo.build_transformer_model(vocab_size=10, num_classes=3))
        {'probabilities': 0, 'block_2': 1, 'block_1': 2, 'embedding': 3}
    """
    graph: Any = getattr(model, "_functional", None) or model
    if not hasattr(graph, "_nodes_by_depth"):
        raise UsageError(
            f"Model {model.name!r} is subclassed: which of its layers is above which is not known. Build it as a Functional "
            "model, or leave layer_decay and lora_rank out."
        )
    at_node: dict[int, int] = {}
    found: dict[str, int] = {}
    for depth in sorted(graph._nodes_by_depth):  # from the outputs down: whoever reads a node comes before it
        for node in graph._nodes_by_depth[depth]:
            layer, height = node.operation, at_node.get(id(node), 0)
            weights = list(getattr(layer, "weights", ()))
            if weights:
                found[layer.name] = max(found.get(layer.name, 0), height)
            below = height + any(len(w.shape) > 1 for w in weights)
            for parent in node.parent_nodes:
                at_node[id(parent)] = max(at_node.get(id(parent), 0), below)
    return found


def levels(model: keras.Model) -> dict[str, int]:
    """Returns the level of every layer with weights, 0 for the top one: heights without gaps, where the layers that the
    model's spec counts as one have the height of the highest of them.

    Example:
        >>> levels(zoo.build_transformer_model(vocab_size=10, num_classes=3))["embedding"]
        3
    """
    found = heights(model)
    build = describe_build(model)
    groups: Sequence[Sequence[str]] = get_spec(build["name"]).levels if build else ()
    for patterns in groups:
        members = [name for name in found if any(fnmatch.fnmatchcase(name, p) for p in patterns)]
        found |= dict.fromkeys(members, min((found[name] for name in members), default=0))
    ranks = {height: rank for rank, height in enumerate(sorted(set(found.values())))}
    return {name: ranks[height] for name, height in found.items()}


def learning_rates(model: keras.Model, decay: float) -> list[float] | None:
    """Returns the factor of the learning rate of each trainable variable: decay to the power of its level. None for equal
    ones.

    Source: Howard and Ruder, Universal language model fine-tuning for text classification, ACL 2018, section 3.2; in this
    form Clark et al., ELECTRA, ICLR 2020, appendix B.

    Args:
        model: a Functional or Sequential model.
        decay: the factor from a level to the one below it.

    Raises:
        UsageError: the model is subclassed.
    """
    if decay == 1.0:
        return None
    layers = {layer.name: layer for layer in model.layers}
    factors = {id(v): decay**level for name, level in levels(model).items() for v in layers[name].variables}
    return [factors[id(v)] for v in model.trainable_variables]
