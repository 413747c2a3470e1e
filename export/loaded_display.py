"""How a notebook shows a loaded SavedModel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zoo import display


def as_html(model: Any, functions: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """Returns the inputs and outputs of the signatures of a `LoadedModel` as a table."""
    rows = []
    for name, function in functions.items():
        kinds = model.kinds(name)
        parts = {"input": function.structured_input_signature[1], "output": function.structured_outputs}
        for part, specs in parts.items():
            described = facts.get(name, {}).get(f"{part}s", {})
            for key, spec in sorted(specs.items()):
                kind = kinds[key] if part == "input" else ""
                text = described.get(key, {}).get("description", "")
                rows.append([name, part, key, kind, f"{spec.dtype.name} {spec.shape}", text])
    title = f"<b>{display.escaped(repr(model).splitlines()[0])}</b>"
    return display.stacked([title, display.table(["signature", "", "name", "kind", "type", ""], rows)])
