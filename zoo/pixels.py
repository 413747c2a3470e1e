"""Pixels of arrays, on the scale of image files: what training and predictions both make of floats and integers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from zoo.errors import UsageError

if TYPE_CHECKING:
    import tensorflow as tf

_SIDE = 28
"""Height and width to which images are reduced at most for methods whose cost grows with the number of pixels."""
_DARK = 127
"""Images whose brightest pixel is at most this, of 255, may have another scale."""


def as_uint8(values: np.ndarray, what: str, brightest: float | None = None) -> tuple[np.ndarray, str]:
    """Returns pixels as uint8 from 0 to 255, and a note for the user, or "".

    Floats are from 0 to 1 if no pixel is above 1, otherwise from 0 to 255. Integers are from 0 to 255. Booleans are black and
    white.

    Args:
        values: numbers of any shape.
        what: names them in messages.
        brightest: the largest of all pixels that belong together; by default of these.

    Raises:
        UsageError: a pixel is below 0, above 255, NaN or infinite.

    Example:
        >>> as_uint8(np.array([0.0, 0.5, 1.0]), "x")[0].tolist()
        [0, 128, 255]
    """
    if values.dtype == bool:
        return np.where(values, np.uint8(255), np.uint8(0)), ""
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    if not (low >= 0 and high <= 255):
        raise UsageError(
            f"{what} has values from {low:g} to {high:g}; expected pixels from 0 to 255, or from 0 to 1. The model gets "
            "them from 0 to 1 in any case: pass the images as they were before they were scaled."
        )
    top = high if brightest is None else brightest
    is_float = values.dtype.kind == "f"
    note = note_on_scale(top, what.split()[0], is_float=is_float)
    if not is_float:
        return values.astype(np.uint8, copy=False), note
    scaled = values * 255.0 if top <= 1 else values
    whole = np.rint(scaled)
    gap = float(np.abs(scaled - whole).max()) if values.size else 0.0
    unit = "from 0 to 1" if top <= 1 else "from 0 to 255"
    rounded = f"pixels {unit} are rounded to 256 levels, as in image files" if gap > 1e-3 else ""
    return whole.astype(np.uint8), "; ".join(filter(None, (note, rounded)))


def note_on_scale(top: float, name: str, *, is_float: bool) -> str:
    """Returns a note on images that are nearly black, perhaps because their pixels have another scale; else "".

    Args:
        top: the brightest pixel.
        name: what to multiply, in the note.
        is_float: whether the pixels are floats, which are from 0 to 1 if none is above 1.

    Example:
        >>> note_on_scale(1, "x", is_float=False)
        'pixels are 0 and 1 of 255, which is black; pass x * 255 if 1 is white'
    """
    if 1 < top <= _DARK:
        return (
            f"the brightest pixel is {top:g} of 255, so the images are nearly black: the model gets pixels / 255. If "
            f"{top:g} is white, pass {name} * (255 / {top:g})"
        )
    return f"pixels are 0 and 1 of 255, which is black; pass {name} * 255 if 1 is white" * (top == 1 and not is_float)


def is_dark(top: float) -> bool:
    """Returns whether images are nearly black, from their brightest pixel of 255."""
    return top <= _DARK


def as_row(example: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Returns an example with its `image`, (height, width, channels), as a row of pixels, of at most 28x28.

    Example:
        >>> as_row({"image": tf.zeros((64, 64, 3), tf.uint8)})["image"].shape
        TensorShape([2352])
    """
    import tensorflow as tf

    image = example["image"]
    if image.shape[-1] is None:  # grey images among coloured ones
        image = tf.repeat(image, 3 // tf.minimum(tf.shape(image)[-1], 3), axis=-1)[..., :3]
        image = tf.ensure_shape(image, [*image.shape[:2], 3])
    sides = [_SIDE if side is None else min(side, _SIDE) for side in image.shape[:2]]
    if sides != image.shape[:2].as_list():
        means = tf.image.resize(image, sides, method="area")
        image = tf.cast(tf.round(means) if image.dtype.is_integer else means, image.dtype)
    return {**example, "image": tf.reshape(image, [-1])}
