"""What the page needs to know of a model: its signatures, labels, ranges of columns and golden examples."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from zoo import display
from zoo.export.serving.protocols.raw_bodies import media_of
from zoo.export.serving.protocols.streams import streamed
from zoo.export.serving.values import Input
from zoo.export.serving.version import SignatureInfo, Version

_MOST_EXAMPLES = 12
_MOST_BYTES = 400_000
"""Of the golden examples of a signature, in the page."""
_MOST_CHOICES = 200
_MOST_METRICS = 3


def described(version: Version) -> dict[str, Any]:
    """Returns a model for the page, as JSON values.

    Example:
        >>> described(version)["signatures"]["serving_default"]["inputs"]["text"]["kind"]
        'text'
    """
    facts = version.facts
    hints = column_hints(facts)
    return {
        "about": _about(version),
        "version": version.number,
        "labels": version.labels,
        "golden": facts.get("golden", "real test examples"),
        "first": version.default,
        "streams": streamed(version),
        "signatures": {
            name: _signature(info, facts, hints)
            for name, info in version.signatures.items()
            if not info.entry.get("state")  # they are for programs
        },
    }


def _about(version: Version) -> str:
    """Returns one line: the task, the data and the headline metrics."""
    facts = version.facts
    if not facts:
        return f"Version {version.number}, a SavedModel without metadata of savedmodel-zoo."
    data = facts.get("data") or {}
    purpose = (facts.get("task") or "Keras model").replace("_", " ")
    parts = [f"Version {version.number}: {purpose}" + (f", trained on {data['name']}" if "name" in data else "")]
    for name, value, beside in display.metric_rows(facts.get("headline", []))[:_MOST_METRICS]:
        base = f" (baseline {display.number_text(beside[0][0])})" if beside else ""
        parts.append(f"{name} {value}{base}")
    return "; ".join(parts) + "."


def column_hints(facts: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Returns the training range, or the known values, of every column of a table, by input.

    Args:
        facts: the contents of zoo.json, which may be of unknown origin.

    Example:
        >>> group = {"inputs": ["age"], "lows": [16.0], "highs": [89.0]}
        >>> column_hints({"preprocessor": {"groups": [group]}})
        {'age': {'low': 16.0, 'high': 89.0}}
    """
    found: dict[str, dict[str, Any]] = {}
    preprocessor = facts.get("preprocessor")
    groups = preprocessor.get("groups") if isinstance(preprocessor, Mapping) else None
    for group in groups if isinstance(groups, list) else []:
        inputs = group.get("inputs", [])
        for key, name in (("lows", "low"), ("highs", "high"), ("vocabularies", "choices")):
            values = group.get(key, [])
            if len(values) == len(inputs):
                for column, value in zip(inputs, values, strict=True):
                    found.setdefault(column, {})[name] = value[:_MOST_CHOICES] if isinstance(value, list) else value
    return found


def _signature(info: SignatureInfo, facts: Mapping[str, Any], hints: Mapping[str, Any]) -> dict[str, Any]:
    entries = info.entry.get("inputs", {})
    order = (facts.get("preprocessor") or {}).get("order", [])
    names = {name: entries.get(name, {}).get("columns", {}).get("column", name) for name in info.inputs}
    place = {column: number for number, column in enumerate(order)}
    ordered = sorted(
        info.inputs,
        key=lambda name: (place.get(names[name], len(place)), list(entries).index(name) if name in entries else 0),
    )
    return {
        "inputs": {name: _input(name, info.inputs[name], entries.get(name, {}), hints) for name in ordered},
        "outputs": {name: {"dtype": spec.dtype.name, "shape": _sizes(spec)} for name, spec in info.outputs.items()},
        "shown": info.entry.get("shown") or {"kind": "values", "outputs": []},
        "media": list(media_of(info)),
        "examples": _examples(info, ordered),
    }


def _sizes(spec: Any) -> list[int | None]:
    return spec.shape.as_list() if spec.shape.rank is not None else []


def _input(name: str, given: Input, entry: Mapping[str, Any], hints: Mapping[str, Any]) -> dict[str, Any]:
    columns = entry.get("columns", {})
    column = columns.get("column", name)
    found = {
        "kind": given.kind,
        "dtype": given.spec.dtype.name,
        "shape": _sizes(given.spec),
        "description": entry.get("description", ""),
        "columns": list(columns.get("series", [])),
        **hints.get(name, {}),
    }
    return found | ({"column": str(column)} if column != name else {})


def _examples(info: SignatureInfo, ordered: list[str]) -> list[dict[str, Any]]:
    """Returns golden examples as JSON values, different ones, as many as fit."""
    if not info.golden or set(info.golden) != set(info.inputs):
        return []
    found: list[dict[str, Any]] = []
    size = 0
    for row in range(len(next(iter(info.golden.values())))):
        example = {name: _value(info.golden[name][row], info.inputs[name]) for name in ordered}
        if example in found:
            continue
        size += len(str(example))
        if size > _MOST_BYTES or len(found) == _MOST_EXAMPLES:
            break
        found.append(example)
    return found


def _value(value: Any, given: Input) -> Any:
    if given.is_bytes:
        return {"b64": base64.b64encode(value).decode()}
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return _finite(np.asarray(value).tolist())


def _finite(value: Any) -> Any:
    """Returns numbers for JSON; those that are not finite are missing values."""
    if isinstance(value, list):
        return [_finite(part) for part in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return None if isinstance(value, float) and not math.isfinite(value) else value
