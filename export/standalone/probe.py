"""Calls a third-party SavedModel with generated inputs, in a process where neither Keras nor this package can be imported.

`zoo.export.foreign` runs this file as a script by its path. It prints one JSON object and writes the outputs to a file.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING or __package__:
    from . import arrays, compare, process
else:  # run by its path, with this folder first on sys.path
    import arrays
    import compare
    import process


def _ask(function: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    import tensorflow as tf

    tensors = {k: tf.constant(v.tolist() if v.dtype == object else v) for k, v in inputs.items()}
    # A scalar string would become NumPy's own string type, which drops trailing zeros.
    return {
        name: np.array(value.numpy(), object if value.dtype == tf.string else None)
        for name, value in function(**tensors).items()
    }


def _alike(whole: dict[str, Any], part: dict[str, Any], rows: int, tolerance: float) -> list[dict[str, Any]]:
    """Compares the first rows of a batch with the same rows in a smaller batch."""
    found = []
    for name in sorted(whole):
        want, got = whole[name], part[name]
        if want.ndim == 0 or got.ndim == 0 or len(got) != rows or len(want) == rows:
            detail = f"{want.dtype.name} {list(want.shape)}, not one output per row"
            found.append({"output": name, "passed": None, "difference": None, "detail": detail})
            continue
        want = want[:rows]
        want, got = arrays.padded([want, got])
        numbers = want.dtype != object and want.dtype.kind in "fc"
        if numbers and want.shape == got.shape and not np.all(np.isfinite(want)):
            detail = "has values that are not finite"
            found.append({"output": name, "passed": None, "difference": None, "detail": detail})
            continue
        (row,) = compare.compare({name: want}, {name: got}, [], tolerance)
        found.append(row)
    return found


def _probe(
    function: Any, candidates: list[dict[str, Any]], fixed: bool, tolerance: float
) -> tuple[dict[str, Any], Any]:
    """Returns the results for a signature, and its outputs for the first candidate that it accepts."""
    refusals = []
    for place, inputs in enumerate(candidates):
        try:
            whole = _ask(function, inputs)
        except Exception as error:  # another candidate may fit
            refusals.append(f"{type(error).__name__}: {error}")
            continue
        shapes = {k: list(v.shape) for k, v in inputs.items()}
        seen: dict[str, Any] = {"candidate": place, "shapes": shapes, "outputs": len(whole), "rows": []}
        if fixed or not inputs or not whole:
            return seen, whole
        try:
            part = _ask(function, {k: v[:2] for k, v in inputs.items()})
        except Exception as error:  # it declares a dynamic batch, but rejects this size
            return seen | {"whole": f"{type(error).__name__}: {error}"}, whole
        seen["rows"] = _alike(whole, part, 2, tolerance)
        try:
            empty = _ask(function, {k: v[:0] for k, v in inputs.items()} if not _texts(inputs) else _empty(inputs))
            seen["empty"] = f"returned {sorted({len(v) if v.ndim else 1 for v in empty.values()})} rows"
        except Exception as error:
            seen["empty"] = f"rejected: {error}"
        return seen, whole
    return {"refused": refusals[0]}, {}


def _texts(inputs: dict[str, Any]) -> bool:
    return any(value.dtype == object for value in inputs.values())


def _empty(inputs: dict[str, Any]) -> dict[str, Any]:
    """Returns inputs without rows; an empty list of strings would become an empty list of numbers."""
    return {k: np.zeros((0, *v.shape[1:]), "S1" if v.dtype == object else v.dtype) for k, v in inputs.items()}


def main(request: dict[str, Any]) -> dict[str, Any]:
    """Loads the SavedModel and calls every signature."""
    import tensorflow as tf

    loaded = tf.saved_model.load(request["model"])
    inputs = arrays.load(request["inputs"])
    seen: dict[str, Any] = {}
    written: dict[str, Any] = {}
    for i, (name, fixed) in enumerate(request["signatures"].items()):
        if name not in loaded.signatures:
            seen[name] = {"refused": "it cannot be called after loading"}
            continue
        count = request["candidates"][name]
        candidates: list[dict[str, Any]] = [{} for _ in range(count)]
        for key, value in inputs.items():
            at, place, argument = key.split("/", 2)
            if int(at) == i:
                candidates[int(place)][argument] = value
        seen[name], answers = _probe(loaded.signatures[name], candidates, fixed, request["tolerance"])
        written |= {f"{i}/{key}": value for key, value in answers.items()}
    arrays.save(request["answers"], written)
    return {"tensorflow": tf.__version__, "python": sys.version.split()[0], "signatures": seen}


def _asked(file: str) -> dict[str, Any]:
    with open(file, encoding="utf-8") as asked:
        return main(json.load(asked))


if __name__ == "__main__":
    process.run("PROBE ", lambda: _asked(sys.argv[1]))
