"""Which inputs a request must have, and which columns of the training data no request needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from zoo.tables.headers import column_name

_TARGETS = ("label", "labels", "value", "tags", "translation", "split")
Value = TypeVar("Value")


def needed_inputs(inputs: Mapping[str, Value], defaults: Mapping[str, Any]) -> dict[str, Value]:
    """Returns the inputs without a default, which a request cannot leave out.

    Example:
        >>> needed_inputs({"prompt": "text", "seed": "number"}, {"seed": 0})
        {'prompt': 'text'}
    """
    return {name: value for name, value in inputs.items() if name not in defaults}


def targets_of(data: Any) -> set[str]:
    """Returns the columns of the training data that held targets or splits, as far as they are known.

    Example:
        >>> targets_of({"columns": {"text": "message", "label": "kind"}})
        {'kind'}
    """
    known = data.get("columns") if isinstance(data, Mapping) else None
    found = [known[key] for key in _TARGETS if key in known] if isinstance(known, Mapping) else []
    return {column_name(part) for held in found for part in (held if isinstance(held, (list, tuple)) else [held])}
