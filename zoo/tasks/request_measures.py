"""What is measured of raw requests, for statistics that show whether later requests resemble the training data.

Each function takes the values of one input and returns columns by name: a number for each value, NaN where it is missing,
or a text, "" where it is missing. A column named `value` is the values themselves.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

Columns = dict[str, list[Any]]
_MOST_CHANNELS = 16


def of_value(values: Sequence[Any]) -> Columns:
    """Returns the values: numbers, or categories.

    Example:
        >>> of_value([b" Ulm", b""])
        {'value': ['Ulm', '']}
    """
    return {"value": [_text(v).strip() if isinstance(v, (bytes, str)) else float(v) for v in values]}


def of_text(values: Sequence[Any]) -> Columns:
    """Returns the number of characters and of words between white space.

    Example:
        >>> of_text([b"turn it on"])
        {'characters': [10.0], 'words': [3.0]}
    """
    texts = [_text(value) for value in values]
    return {
        "characters": [float(len(text)) for text in texts],
        "words": [float(len(text.split())) for text in texts],
    }


def of_image(values: Sequence[Any]) -> Columns:
    """Returns width, height (pixels) and mean brightness (0 to 1) of image files; NaN for other files."""
    found: Columns = {"width": [], "height": [], "brightness": []}
    for value in values:
        for name, number in zip(found, _image(bytes(value)), strict=True):
            found[name].append(number)
    return found


def of_series(values: Sequence[Any]) -> Columns:
    """Returns the number of steps, the share of missing numbers in them, and mean and deviation of each channel.

    Example:
        >>> of_series([np.array([[1.0], [3.0], [np.nan]])])
        {'steps': [2.0], 'missing': [0.0], 'mean of channel 1': [2.0], 'deviation of channel 1': [1.0]}
    """
    found: Columns = {"steps": [], "missing": []}
    for value in values:
        numbers = np.asarray(value, np.float64)
        numbers = numbers.reshape(len(numbers), -1)
        known = np.flatnonzero(np.isfinite(numbers).any(axis=1))
        numbers = numbers[: known[-1] + 1] if len(known) else numbers[:0]  # NaN at the end is padding
        found["steps"].append(float(len(numbers)))
        found["missing"].append(float(np.isnan(numbers).mean()) if numbers.size else math.nan)
        for channel, column in enumerate(numbers.T[:_MOST_CHANNELS], start=1):
            held = column[np.isfinite(column)]
            for name, number in (("mean", np.mean), ("deviation", np.std)):
                known_number = float(number(held)) if len(held) else math.nan
                found.setdefault(f"{name} of channel {channel}", []).append(known_number)
    return found


def of_numbers(values: Sequence[Any]) -> Columns:
    """Returns mean and deviation of the numbers of each value; a single number is returned itself."""
    arrays = [np.asarray(value, np.float64).ravel() for value in values]
    if all(array.size == 1 for array in arrays):
        return {"value": [float(array[0]) for array in arrays]}
    measures = (("mean", np.mean), ("deviation", np.std))
    return {name: [float(number(array)) if array.size else math.nan for array in arrays] for name, number in measures}


def of_ids(values: Sequence[Any]) -> Columns:
    """Returns how many ids each list has; empty ones are padding."""
    return {"count": [float(sum(bool(part) for part in np.ravel(value))) for value in values]}


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _image(content: bytes) -> tuple[float, float, float]:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content)) as image:
            width, height = image.size
            return float(width), float(height), float(np.asarray(image.convert("L"), np.float64).mean() / 255)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # no image
        return math.nan, math.nan, math.nan
