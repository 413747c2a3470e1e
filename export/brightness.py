"""Whether images that were passed as arrays have the scale of the images that a model was trained on."""

from __future__ import annotations

import functools
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from zoo.export import artifact_paths
from zoo.export.standalone import arrays
from zoo.export.zoo_json import MADE_UP
from zoo.pixels import is_dark, note_on_scale

_STACK = 6
"""Calls from the warning up to the user's call of `predict`."""


def checking(path: Path, zoo_json: Mapping[str, Any]) -> Callable[[str, float, bool], None]:
    """Returns a function of an input's name, the brightest pixel and whether pixels are floats, which warns of a scale that
    is not that of the training; see `difference`."""

    def check(name: str, top: float, is_float: bool) -> None:
        if said := difference(path, zoo_json, name, top, is_float=is_float):
            warnings.warn(said, stacklevel=_STACK)

    return check


def difference(path: Path, zoo_json: Mapping[str, Any], name: str, top: float, *, is_float: bool) -> str:
    """Returns a sentence if images are nearly black and the golden examples of a SavedModel are not, or the other way round;
    else "".

    Args:
        path: the version folder.
        zoo_json: its zoo.json.
        name: the input that takes image files.
        top: the brightest pixel of the images, from 0 to 255, or of floats also from 0 to 1.
        is_float: whether pixels are floats.
    """
    if not top:
        return ""  # a black image
    known = _brightest(path, name) if zoo_json.get("golden") not in (None, MADE_UP) else None
    if note := note_on_scale(top, "image", is_float=is_float):
        return "" if known is not None and is_dark(known) else f"{name}: {note}, for each image."
    if known is None or not is_dark(known):
        return ""
    came = f"{top:g} of {1 if is_float and top <= 1 else 255}"
    return (
        f"{name}: the brightest pixel is {came}; that of the images which the model was trained on is {known:g} of 255. Pass "
        "images on the scale of the training."
    )


@functools.lru_cache(maxsize=16)
def _brightest(path: Path, name: str) -> float | None:
    """Returns the brightest pixel of the golden examples, of 255, or of the first ones up to one that is not dark; None
    without images."""
    try:
        files = arrays.load(path / artifact_paths.EXTRA / "golden.npz").get(f"requests/{name}")
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):  # `zoo verify` reports it
        return None
    brightest = None
    for content in () if files is None else files:
        try:
            top = float(np.max(tf.io.decode_image(content, expand_animations=False).numpy()))
        except tf.errors.OpError:
            continue
        brightest = max(top, brightest or 0.0)
        if not is_dark(brightest):
            break
    return brightest
