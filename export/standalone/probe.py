"""Asks a SavedModel of unknown origin generated inputs, in a process where neither Keras nor this package can be imported.

Run as a script by `zoo.export.foreign`, by path. Prints one JSON object; the answers go to a file.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from typing import Any


def _beside(name: str) -> Any:
    """Loads a script that lies beside this one: no folder of ours is on the path here."""
    spec = importlib.util.spec_from_file_location(name, os.path.join(os.path.dirname(__file__), f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _ask(function: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    import numpy as np
    import tensorflow as tf

    tensors = {k: tf.constant(v.tolist() if v.dtype == object else v) for k, v in inputs.items()}
    # One string alone would become NumPy's own type of strings, which drops zeros at its end.
    return {
        name: np.array(value.numpy(), object if value.dtype == tf.string else None)
        for name, value in function(**tensors).items()
    }


def _alike(
    whole: dict[str, Any], part: dict[str, Any], rows: int, tolerance: float, replay: Any
) -> list[dict[str, Any]]:
    """Compares the first rows of a batch with the same rows asked alone."""
    import numpy as np

    found = []
    for name in sorted(whole):
        want, got = whole[name], part[name]
        if want.ndim == 0 or got.ndim == 0 or len(got) != rows or len(want) == rows:
            detail = f"{want.dtype.name} {list(want.shape)}, not one answer for each row"
            found.append({"output": name, "passed": None, "difference": None, "detail": detail})
            continue
        want = want[:rows]
        if want.ndim > 1 and got.ndim == want.ndim:
            want, got = replay.widened([want, got], True)
        numbers = want.dtype != object and want.dtype.kind in "fc"
        if numbers and want.shape == got.shape and not np.all(np.isfinite(want)):
            detail = "answers values that are not finite"
            found.append({"output": name, "passed": None, "difference": None, "detail": detail})
            continue
        (row,) = replay.compare({name: want}, {name: got}, [], tolerance)
        found.append(row)
    return found


def _probe(
    function: Any, candidates: list[dict[str, Any]], fixed: bool, tolerance: float, replay: Any
) -> tuple[dict[str, Any], Any]:
    """Returns what was seen of a signature, and its answers to the first candidate that it accepts."""
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
        except Exception as error:  # it says that it takes any batch, and takes some
            return seen | {"whole": f"{type(error).__name__}: {error}"}, whole
        seen["rows"] = _alike(whole, part, 2, tolerance, replay)
        try:
            empty = _ask(function, {k: v[:0] for k, v in inputs.items()} if not _texts(inputs) else _empty(inputs))
            seen["empty"] = f"answered {sorted({len(v) if v.ndim else 1 for v in empty.values()})} rows"
        except Exception as error:
            seen["empty"] = f"refused: {error}"
        return seen, whole
    return {"refused": refusals[0]}, {}


def _texts(inputs: dict[str, Any]) -> bool:
    return any(value.dtype == object for value in inputs.values())


def _empty(inputs: dict[str, Any]) -> dict[str, Any]:
    """Returns inputs without rows; an empty list of strings would become an empty list of numbers."""
    import numpy as np

    return {k: np.zeros((0, *v.shape[1:]), "S1" if v.dtype == object else v.dtype) for k, v in inputs.items()}


def main(request: dict[str, Any]) -> dict[str, Any]:
    """Loads the SavedModel and asks every signature."""
    import tensorflow as tf

    replay = _beside("replay")
    loaded = tf.saved_model.load(request["model"])
    inputs = replay.restore(request["inputs"])
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
        seen[name], answers = _probe(loaded.signatures[name], candidates, fixed, request["tolerance"], replay)
        written |= {f"{i}/{key}": value for key, value in answers.items()}
    replay.store(request["answers"], written)
    return {"tensorflow": tf.__version__, "python": sys.version.split()[0], "signatures": seen}


if __name__ == "__main__":
    _beside("replay").die_with_parent()
    for module in ("keras", "tf_keras", "zoo", "datasets", "export"):
        sys.modules[module] = None  # type: ignore[assignment]
    try:
        with open(sys.argv[1], encoding="utf-8") as asked:
            outcome = main(json.load(asked))
    except Exception as error:  # an artifact that cannot be loaded or read
        outcome = {"error": f"{type(error).__name__}: {error}"}
    print("PROBE " + json.dumps(outcome), flush=True)
