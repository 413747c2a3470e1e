"""The inputs of a signature for one item of a prediction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zoo.errors import UsageError
from zoo.export.prediction_items import Input, shown, value_of
from zoo.export.signature_columns import needed_inputs
from zoo.tables.formats import TableFormat


def request_of(
    item: Any,
    signature: str,
    inputs: Mapping[str, Input],
    entries: Mapping[str, Mapping[str, Any]],
    defaults: Mapping[str, Any],
    format: TableFormat,
) -> dict[str, Any]:
    """Returns the values of a signature's inputs for one item.

    Args:
        item: the value of the only input, or a dict by input; texts of several inputs may be separated by tabs.
        signature: its name.
        inputs: its inputs by name.
        entries: the inputs in zoo.json.
        defaults: the values of inputs that the item may leave out.
        format: how a CSV file is written.

    Raises:
        UsageError: a name is missing or unknown, or a value has another type.
    """
    needed = needed_inputs(inputs, defaults)
    if isinstance(item, Mapping) and (len(inputs) > 1 or set(item) == set(inputs)):
        item = {**defaults, **_by_input(item, entries)}
        if set(item) != set(inputs):
            received = ", ".join(str(name) for name in item if name not in defaults)
            raise UsageError(f"{signature} takes {', '.join(inputs)}; received {received}. Pass these names.")
        return {
            name: value_of(item[name], name, value, signature, entries.get(name, {}), format)
            for name, value in inputs.items()
        }
    if len(needed) == 1:
        (name,) = needed
        value = value_of(item, name, needed[name], signature, entries.get(name, {}), format)
        return {**{key: defaults[key] for key in inputs if key in defaults}, name: value}
    names = " and ".join(needed)
    if not isinstance(item, str) or not {"text", "id"}.issuperset(value.kind for value in needed.values()):
        raise UsageError(
            f"{signature} takes {names}; received {shown(item)}. Pass a dict with these names: of arrays with one "
            "row per example, or a list of such dicts, one per example."
        )
    texts = item.split("\t")
    if len(texts) != len(needed):
        raise UsageError(
            f"Cannot predict for {item!r}: {signature} takes {names}. Pass {len(needed)} values separated "
            "by a tab: $'a\\tb' in a shell; in Python, a dict with these names."
        )
    found = {name: text.encode("utf-8", "surrogateescape") for name, text in zip(needed, texts, strict=True)}
    return {**{name: value for name, value in defaults.items() if name in inputs}, **found}


def _by_input(item: Mapping[str, Any], entries: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Returns an item by the names of inputs; it may have the names of the data's columns instead."""
    if set(item) == set(entries):  # a column may have the name that is another column's input
        return dict(item)
    columns = {entry.get("columns", {}).get("column"): name for name, entry in entries.items()}
    return {columns.get(name, name): value for name, value in item.items()}
