"""Parts of what objects show: metrics as text; tables, pictures and curves as HTML, with all text escaped.

Colours are the notebook's own, so that dark and light themes are both readable.
"""

from __future__ import annotations

import base64
import html
import io
import math
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import printable

if TYPE_CHECKING:
    import numpy as np

_LONGEST = 160
"""Characters of a text."""
_POINTS = 300
_CHANNELS = 8
_COLOURS = 256
_WIDE, _TALL = 280, 380
"""Height of a wide plot, and of one that is about as high as wide, in pixels."""
_MOST_BYTES = 220_000
"""Of the pictures of an object."""


def shortened(value: Any) -> str:
    """Returns an argument as text; of a long list only the number of its entries.

    Example:
        >>> shortened([64, 64]), shortened([[0.125] * 40] * 3)
        ('[64, 64]', '[3 entries]')
    """
    text = str(value)
    return f"[{len(value):,} entries]" if isinstance(value, (list, tuple)) and len(text) > _LONG else text


_LONG = 80


def escaped(text: Any) -> str:
    """Returns text for HTML, at most 160 characters of it.

    Example:
        >>> escaped("<b>")
        '&lt;b&gt;'
    """
    text = str(text)
    return html.escape(printable(text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."))


def escaped_lines(text: str) -> str:
    """Returns text with line breaks for HTML; every line is cut like `escaped` cuts text."""
    return "\n".join(map(escaped, text.splitlines()))


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, raw: bool = False) -> str:
    """Returns a table in HTML; cells are escaped unless they are `raw`."""
    names = "".join(f"<th style='text-align:left'>{escaped(cell)}</th>" for cell in head)
    top = f"<tr>{names}</tr>" if names else ""
    lines = (
        "".join(f"<td style='text-align:left'>{cell if raw else escaped(cell)}</td>" for cell in row) for row in rows
    )
    return f"<table>{top}{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def number_text(value: float, form: str = ".4f") -> str:
    """Returns a metric as text: in the form, from 1,000 on as a whole number, below 0.001 with three digits.

    Example:
        >>> number_text(0.8512), number_text(41.268, ".4g"), number_text(231063.91)
        ('0.8512', '41.27', '231,064')
    """
    if 0 < abs(value) < 1e-3:
        return f"{value:.3g}"
    return f"{value:,.0f}" if 1_000 <= abs(value) < _LONGEST_NUMBER else f"{value:{form}}"


_LONGEST_NUMBER = 1e15


def short_number(value: float) -> str:
    """Returns a number with four digits, from 1,000 on as a whole number.

    Example:
        >>> short_number(41.2685), short_number(6620.16)
        ('41.27', '6,620')
    """
    return number_text(value, ".4g")


def interval_text(interval: Sequence[float] | None) -> str:
    """Returns an interval as text, with as many decimals as its width justifies; empty without an interval.

    Example:
        >>> interval_text([0.8417, 0.8718]), interval_text([36.1, 47.9]), interval_text(None)
        ('(0.84 to 0.87)', '(36 to 48)', '')
    """
    if interval is None:
        return ""
    low, high = interval
    half, fewest = (high - low) / 2, 2 if max(abs(low), abs(high)) < 10 else 0
    decimals = min(max(-math.floor(math.log10(half)), fewest), 9) if half > 0 else 4
    return f"({low:,.{decimals}f} to {high:,.{decimals}f})"


def metric_rows(headline: Iterable[Mapping[str, Any]]) -> list[tuple[str, str, list[tuple[float, str]]]]:
    """Returns the headline of a report, one row per metric.

    Args:
        headline: the figures as dicts, see `zoo.evaluation.Figure`.

    Returns:
        The metric; its value with its interval, empty without a value; and the value and the name of every baseline.

    Example:
        >>> metric_rows([{"metric": "accuracy", "value": 0.75, "baseline": "always 1", "baseline_value": 0.5}])
        [('accuracy', '0.7500', [(0.5, 'always 1')])]
    """
    rows: list[tuple[str, str, list[tuple[float, str]]]] = []
    for figure in headline:
        beside = [] if figure["baseline_value"] is None else [(figure["baseline_value"], figure["baseline"])]
        if rows and beside and rows[-1][0] == figure["metric"]:
            rows[-1][2].extend(beside)
            continue
        value = "" if figure["value"] is None else number_text(figure["value"])
        value += f" {interval_text(figure.get('interval'))}"
        rows.append((figure["metric"], value.rstrip(), beside))
    return rows


def stacked(parts: Iterable[str]) -> str:
    """Returns parts in HTML, one below the other."""
    return "".join(f"<div style='margin:6px 0'>{part}</div>" for part in parts if part)


def picture(png: bytes, height: int | None = None) -> str:
    """Returns an image in HTML.

    Args:
        png: a PNG file's bytes. A large image is stored with at most twice the height and with 256 colours.
        height: in pixels; None for that of a plot. Smaller images are enlarged without smoothing.
    """
    from PIL import Image

    image: Image.Image = Image.open(io.BytesIO(png))
    height = height or (_WIDE if image.width > 1.3 * image.height else _TALL)
    width = max(1, round(image.width * height / image.height))
    style = "max-width:100%;margin:0 6px 6px 0" + (";image-rendering:pixelated" if image.height < height else "")
    if image.height > height:
        image.thumbnail((max(1, 2 * width), 2 * height))
        image = image.convert("RGB").quantize(_COLOURS)
        smaller = io.BytesIO()
        image.save(smaller, "PNG", optimize=True)
        png = min(png, smaller.getvalue(), key=len)
    return f"<img src='data:image/png;base64,{base64.b64encode(png).decode()}' width='{width}' style='{style}'>"


def plots(files: Iterable[bytes]) -> str:
    """Returns plots in HTML, PNG files as bytes, as many as fit into an object's share of a notebook."""
    shown, left = [], _MOST_BYTES
    for image in map(picture, files):
        if len(image) <= left:
            shown.append(image)
            left -= len(image)
    return "".join(shown)


def drawn(draw: Callable[[Path], None]) -> Iterable[bytes]:
    """Yields the PNG file that a function draws; nothing if it cannot draw."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "plot.png"
        try:
            draw(file)
            png = file.read_bytes()
        except Exception:  # noqa: BLE001, the other parts of an object are shown without this plot
            return
    yield png


def curve(channels: np.ndarray) -> str:
    """Returns series as lines in SVG, each from its lowest to its highest value.

    Args:
        channels: floats of shape (channels, steps). A value that is not finite is a gap.
    """
    width, height = 220, 60
    apart = max(1, math.ceil(channels.shape[1] / _POINTS))
    lines = []
    for number, channel in enumerate(channels[:_CHANNELS, ::apart].tolist()):
        finite = [value for value in channel if math.isfinite(value)]
        low, high = min(finite, default=0.0), max(finite, default=0.0)
        scale = (height - 4) / (high - low) if high > low else 0.0
        across = width / max(1, len(channel) - 1)
        points = " ".join(
            f"{place * across:.1f},{height - 2 - (value - low) * scale:.1f}"
            for place, value in enumerate(channel)
            if math.isfinite(value)
        )
        colour = f"hsl({(210 + number * 67) % 360},65%,50%)"
        lines.append(f"<polyline points='{points}' fill='none' stroke='{colour}' stroke-width='1.5'/>")
    return f"<svg width='{width}' height='{height}'>{''.join(lines)}</svg>"
