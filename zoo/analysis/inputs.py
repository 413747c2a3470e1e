"""Raw examples as words: their inputs, and their correct answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.errors import printable

if TYPE_CHECKING:
    from zoo.datasets.prepared import Prepared

_LETTERS = 160
_NUMBERS = 8


def is_picture(value: Any) -> bool:
    """Returns whether a value of an example is an image, uint8 (height, width, channels)."""
    return isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim == 3 and value.size > 0


def is_curve(value: Any) -> bool:
    """Returns whether a value of an example is a series, floats (steps, channels)."""
    return isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.ndim == 2 and len(value) > 1


def plain_inputs(example: Mapping[str, Any], prepared: Prepared) -> dict[str, Any]:
    """Returns the inputs of an example, without its targets, as JSON values: texts, numbers, lists. An image is its size."""
    kinds = prepared.data.about.get("table", {})
    return {
        name: _plain(value, kinds.get(name, "")) for name, value in example.items() if name not in prepared.task.targets
    }


def _plain(value: Any, kind: str) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    value = np.asarray(value)
    if is_picture(value):
        return f"image {value.shape[1]}x{value.shape[0]}"
    if kind == "time":
        return None if np.isnan(value) else str(value.astype("datetime64[s]")).replace("T", " ")
    if value.dtype == object:
        return [_plain(part, "") for part in value.tolist()]
    if value.ndim == 0 and value.dtype.kind == "f":
        return float(f"{float(value):.7g}") if np.isfinite(value) else None
    if value.dtype.kind == "f":
        return [_plain(part, "") for part in value]
    return value.tolist()


def in_words(inputs: Mapping[str, Any]) -> str:
    """Returns the inputs of an example in one line: a text alone, or the columns by name."""
    if len(inputs) == 1:
        return _short(next(iter(inputs.values())))
    return ", ".join(f"{printable(name)} {_short(value)}" for name, value in inputs.items())


def _short(value: Any) -> str:
    if value is None or value == "":
        return "(missing)"
    if isinstance(value, list):
        flat = np.ravel(np.array(value, object))
        more = f", ... {len(flat):,} values" if len(flat) > _NUMBERS else ""
        return f"[{', '.join(_short(part) for part in flat[:_NUMBERS])}{more}]"
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return printable(text if len(text) <= _LETTERS else f"{text[: _LETTERS - 4]} ...")


def correct_answer(targets: Mapping[str, np.ndarray], row: int, prepared: Prepared) -> Any:
    """Returns the targets of an example as JSON values: the name of its class, its labels, its values or its text."""
    found: dict[str, Any] = {}
    names = prepared.class_names
    for key in prepared.task.targets:
        if key not in targets:
            continue
        value = targets[key][row]
        if key == prepared.task.objective.labels:
            found[key] = [names[number] for number in np.flatnonzero(value)]
        elif key == prepared.task.classes and names and np.ndim(value) == 0:
            found[key] = names[int(value)]
        elif key == prepared.task.classes and names:
            found[key] = [names[int(number)] for number in value if number >= 0]
        else:
            found[key] = _plain(value, "")
    return next(iter(found.values())) if len(found) == 1 else found
