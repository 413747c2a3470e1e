"""Inputs of a signature that have default values, which clients of this package may leave out."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from zoo.export import zoo_json


def needed(names: Collection[str], entries: Mapping[str, Any]) -> list[str]:
    """Returns the inputs without a default value.

    Args:
        names: the signature's inputs.
        entries: their entries in zoo.json; empty for a third-party SavedModel.

    Example:
        >>> needed(["text", "seed"], {"text": {}, "seed": {"default": 0}})
        ['text']
    """
    return [name for name in names if "default" not in entries.get(name, {})]


def completed(item: Any, names: Collection[str], entries: Mapping[str, Any]) -> Any:
    """Returns an example by input name, with the default values of inputs that it lacks. The value of the only needed input
    may be passed alone. Without default values, and for anything else, returns it unchanged.

    Example:
        >>> completed("hi", ["text", "seed"], {"text": {}, "seed": {"default": 0}})
        {'seed': 0, 'text': 'hi'}
    """
    without = needed(names, entries)
    if len(without) == len(names):
        return item
    if not isinstance(item, Mapping) and len(without) == 1:
        item = {without[0]: item}
    defaults = {name: entries[name]["default"] for name in names if name not in without}
    return {**defaults, **item} if isinstance(item, Mapping) else item


def needed_by(model: Any, signature: str) -> list[str]:
    """Returns the inputs of a signature of a `LoadedModel` without a default value, sorted."""
    entry = zoo_json.signatures(zoo_json.read(model.path)).get(signature, {})
    return needed(model.inputs(signature), entry.get("inputs", {}))
