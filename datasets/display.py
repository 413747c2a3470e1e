"""How a data set shows itself: lines in a terminal, and a table with examples in a notebook."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from zoo.datasets.raw import SPLITS
from zoo.errors import printable

if TYPE_CHECKING:
    from zoo.datasets.raw import RawData

_MOST_SHOWN = 10
_EXAMPLES = 6
_MOST_CLASSES = 20
_LONGEST = 160
_PIXELS = 96
"""Height of a picture."""


def as_text(data: RawData) -> str:
    """Returns the data set in at most five lines.

    Example:
        >>> print(as_text(zoo.datasets.load("digits")).splitlines()[0])
        digits (image_classification): image uint8 (8, 8, 1), label int64 ()
    """
    features = ", ".join(f"{key} {held.dtype} {held.shape}" for key, held in data.features.items())
    return f"{data.name} ({', '.join(data.tasks)}): {features}\n{describe_splits(data)}"


def describe_splits(data: RawData) -> str:
    """Returns lines with the sizes of the splits and the classes, with their numbers of examples if these are known.

    Example:
        >>> print(describe_splits(zoo.datasets.load("images:photos")))
        Examples: 48 train, 6 validation, 6 test.
        2 classes: 'cat' (24, 3, 3), 'dog' (24, 3, 3).
    """
    sizes = ", ".join(f"{data.splits[role].num_examples:,} {role}" for role in SPLITS if role in data.splits)
    lines = [f"Examples: {sizes}."]
    if data.class_names:
        counts = data.about.get("class_counts")
        shown = [
            repr(printable(label))
            + (f" ({', '.join(f'{counts[role][number]:,}' for role in SPLITS)})" if counts else "")
            for number, label in enumerate(data.class_names[:_MOST_SHOWN])
        ]
        more = ", ..." if len(data.class_names) > _MOST_SHOWN else ""
        lines.append(f"{len(data.class_names)} classes: {', '.join(shown)}{more}.")
    if naive := data.about.get("naive"):
        lines.append(f"Forecasts are compared with {' and '.join(naive)}.")
    return "\n".join(lines)


def as_html(data: RawData) -> str:
    """Returns the data set for a notebook: its splits, classes with counts, and a few training examples."""
    counts = data.about.get("class_counts")
    splits = [[name, f"{split.num_examples:,}"] for name, split in data.splits.items()]
    parts = [f"<b>{_escaped(data.name)}</b> ({', '.join(data.tasks)})", table(["split", "examples"], splits)]
    if data.class_names:
        names = data.class_names[:_MOST_CLASSES]
        head = ["class", *(counts or ())]
        rows = [[name, *(f"{c[place]:,}" for c in (counts or {}).values())] for place, name in enumerate(names)]
        if len(data.class_names) > len(names):
            rows.append([f"... {len(data.class_names) - len(names)} more", *[""] * len(counts or ())])
        parts.append(table(head, rows))
    examples = list(data.train.take(_EXAMPLES).as_numpy_iterator())
    if examples:
        rows = [[_shown(key, example[key], data) for key in example] for example in examples]
        parts.append(table(list(examples[0]), rows, raw=True))
    return "".join(f"<div style='margin:4px 0'>{part}</div>" for part in parts)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, raw: bool = False) -> str:
    """Returns a table in HTML; cells are escaped unless they are `raw`."""
    top = "".join(f"<th style='text-align:left'>{_escaped(cell)}</th>" for cell in head)
    lines = (
        "".join(f"<td style='text-align:left'>{cell if raw else _escaped(cell)}</td>" for cell in row) for row in rows
    )
    return f"<table><tr>{top}</tr>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def picture(png: bytes, height: int | None = None) -> str:
    """Returns an image of a PNG file's bytes in HTML."""
    size = f" height='{height}' style='image-rendering:pixelated'" if height else ""
    return f"<img src='data:image/png;base64,{base64.b64encode(png).decode()}'{size}>"


def _escaped(text: Any) -> str:
    return html.escape(printable(str(text)))


def _shown(key: str, value: Any, data: RawData) -> str:
    """Returns the value of an example in HTML: a picture, a curve, a class name or text."""
    value = np.asarray(value)
    if value.dtype == np.uint8 and value.ndim == 3:
        return picture(tf.io.encode_png(value).numpy(), _PIXELS)
    if value.dtype.kind == "f" and value.ndim and len(value) > 1:
        return _curve(value.reshape(len(value), -1).T)
    if data.class_names and value.dtype.kind in "iu" and key in ("label", "tags"):
        return _escaped(" ".join(data.class_names[number] for number in value.ravel()))
    words = [
        part.decode("utf-8", "replace") if isinstance(part, bytes) else f"{part:.6g}" for part in value.ravel()[:64]
    ]
    text = " ".join(words)
    return _escaped(text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ...")


def _curve(channels: np.ndarray) -> str:
    """Returns series as lines in SVG; NaN is a gap."""
    width, height = 220, 60
    low, high = np.nanmin(channels), np.nanmax(channels)
    scale = (height - 4) / (high - low) if high > low else 0.0
    lines = []
    for number, channel in enumerate(channels[:8]):
        places = np.flatnonzero(~np.isnan(channel))
        points = " ".join(
            f"{place * width / max(1, len(channel) - 1):.1f},{height - 2 - (channel[place] - low) * scale:.1f}"
            for place in places
        )
        colour = f"hsl({number * 67 % 360},60%,40%)"
        lines.append(f"<polyline points='{points}' fill='none' stroke='{colour}' stroke-width='1.2'/>")
    return f"<svg width='{width}' height='{height}'>{''.join(lines)}</svg>"
