"""The ways to print outputs that come with this package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.tasks.abstention import UNKNOWN
from zoo.tasks.kinds import register_answer_kind

if TYPE_CHECKING:
    from zoo.tasks.contract import Shown


def _labels(answer: Mapping[str, Any], shown: Shown, labels: Sequence[str], top: int) -> str:
    probabilities = answer[shown.outputs[0]]
    best = probabilities.argsort()[::-1][:top]
    listed = ", ".join(f"{labels[i]} {probabilities[i]:.{shown.digits}f}" for i in best)
    return listed if answer.get("answered", True) else f"{UNKNOWN}; most probable: {listed}"


def _several_labels(answer: Mapping[str, Any], shown: Shown, labels: Sequence[str], top: int) -> str:
    """The labels of an example, the most probable first; without any, the most probable ones of all."""
    chosen, probabilities = ({*answer[shown.outputs[0]]} - {""}, answer[shown.outputs[1]])
    order = [labels[i] for i in probabilities.argsort()[::-1]]
    found = dict(zip(labels, probabilities, strict=True))

    def listed(names: Sequence[str]) -> str:
        return ", ".join(f"{name} {found[name]:.{shown.digits}f}" for name in names)

    return listed([name for name in order if name in chosen]) or f"no label; most probable: {listed(order[:top])}"


def _pairs(answer: Mapping[str, Any], shown: Shown, labels: Sequence[str], top: int) -> str:
    first, second = (answer[name] for name in shown.outputs)
    return " ".join(f"{a}/{b}" for a, b in zip(first, second, strict=True) if b)


def _entities(answer: Mapping[str, Any], shown: Shown, labels: Sequence[str], top: int) -> str:
    """The entities of a text; for tags that mark none, each word with its tag."""
    if "entities" not in answer:
        return _pairs(answer, shown, labels, top)
    names = ("entities", "entity_types", "entity_probabilities", "entity_starts", "entity_ends")
    found = [row for row in zip(*(answer[name] for name in names), strict=True) if row[-1] > 0]
    return "; ".join(f"{text} {kind} {p:.{shown.digits}f} ({a} to {b})" for text, kind, p, a, b in found) or "no entity"


def _rows(answer: Mapping[str, Any], shown: Shown, labels: Sequence[str], top: int) -> str:
    lines = []
    for *texts, number in zip(*(answer[name] for name in shown.outputs), strict=True):
        if text := next(filter(None, texts), ""):
            lines.append(f"{text} {number:.{shown.digits}f}")
    return "; ".join(lines)


def _text(answer: Mapping[str, Any], shown: Shown, labels: Sequence[str], top: int) -> str:
    return " ".join(str(answer[name]) for name in shown.outputs)


def _values(answer: Mapping[str, Any], shown: Shown, labels: Sequence[str], top: int) -> str:
    return ", ".join(f"{name} {_plain(answer[name])}" for name in shown.outputs or answer)


def _plain(value: Any) -> str:
    array = np.atleast_1d(value)
    return " ".join(_number(float(v)) if isinstance(v, (float, np.floating)) else str(v) for v in array.ravel())


def _number(value: float) -> str:
    return f"{value:,.0f}" if 1_000 <= abs(value) < 1e15 else f"{value:.4g}"


for _name, _format in {
    "entities": _entities,
    "forecast": _values,
    "labels": _labels,
    "pairs": _pairs,
    "rows": _rows,
    "several_labels": _several_labels,
    "text": _text,
    "values": _values,
}.items():
    register_answer_kind(_name, _format)
