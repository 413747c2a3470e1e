"""Replays golden answers through a SavedModel, in a process where neither Keras nor this package can be imported.

Run as a script by `zoo.export.verification`, by path, so that importing it imports nothing else. Prints one JSON object.
It stands alone on purpose: what it shows holds for a stranger who has nothing but TensorFlow and the artifact.
"""

from __future__ import annotations

import itertools
import json
import sys
from typing import Any

BLOCKED = ("keras", "tf_keras", "zoo", "datasets", "export")


def _unpack(golden: Any) -> dict[str, Any]:
    import numpy as np

    arrays: dict[str, Any] = {}
    for key in golden.files:
        if key.endswith(".bytes"):
            name = key[: -len(".bytes")]
            data, offsets = golden[key], golden[name + ".offsets"]
            strings = [data[a:b].tobytes() for a, b in itertools.pairwise(offsets)]
            array = np.empty(len(strings), object)
            array[:] = strings
            arrays[name] = array.reshape(golden[name + ".shape"])
        elif not key.endswith((".offsets", ".shape")):
            arrays[key] = golden[key]
    return arrays


def _compare(expected: dict[str, Any], got: dict[str, Any], tolerance: float) -> list[dict[str, Any]]:
    """Returns a row per output: the largest difference of numbers, the number of differing strings."""
    import numpy as np

    rows = []
    for name, want in expected.items():
        if name not in got:
            rows.append({"output": name, "passed": False, "difference": None, "detail": "missing in the answer"})
            continue
        have = got[name]
        if have.shape != want.shape:
            detail = f"shape {list(have.shape)}, expected {list(want.shape)}"
            rows.append({"output": name, "passed": False, "difference": None, "detail": detail})
        elif want.dtype.kind in "OS":
            wrong = np.flatnonzero((have != want).ravel())
            ties = _ties(expected, got, wrong, tolerance)
            detail = f"{len(wrong)} of {want.size} differ" + (f", {ties} of them ties" if ties else "")
            rows.append(
                {"output": name, "passed": len(wrong) == ties, "difference": float(len(wrong)), "detail": detail}
            )
        else:
            gap = np.abs(have.astype(np.float64) - want.astype(np.float64))
            allowed = tolerance * np.maximum(1.0, np.abs(want.astype(np.float64)))
            passed = bool(np.all(gap <= allowed))  # NaN compares false, so it fails
            worst = float(np.max(gap)) if gap.size else 0.0
            finite = bool(np.isfinite(worst))
            rows.append({"output": name, "passed": passed, "difference": worst if finite else None, "detail": ""})
    return rows


def _ties(expected: dict[str, Any], got: dict[str, Any], wrong: Any, tolerance: float) -> int:
    """Counts differing labels whose two probabilities are equal within the tolerance."""
    import numpy as np

    if "probabilities" not in expected or not len(wrong):
        return 0
    classes = expected["probabilities"].shape[-1]
    want = expected["probabilities"].reshape(-1, classes)[wrong]
    have = got["probabilities"].reshape(-1, classes)[wrong]
    chosen = np.take_along_axis(have, want.argmax(-1)[:, None], -1)[:, 0]
    return int(np.sum(have.max(-1) - chosen <= 2 * tolerance))


def _answer(function: Any, inputs: dict[str, Any], start: int, stop: int) -> dict[str, Any]:
    import tensorflow as tf

    part = {k: tf.constant(v[start:stop].tolist() if v.dtype == object else v[start:stop]) for k, v in inputs.items()}
    return {name: value.numpy() for name, value in function(**part).items()}


def _replay(function: Any, inputs: dict[str, Any], batch: int, count: int) -> dict[str, Any]:
    import numpy as np

    parts = [_answer(function, inputs, i, min(i + batch, count)) for i in range(0, count, batch)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _empty_batch(function: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    import tensorflow as tf

    empty = {
        k: tf.zeros([0], tf.string) if v.dtype == object else tf.zeros([0, *v.shape[1:]], v.dtype)
        for k, v in inputs.items()
    }
    try:
        answer = function(**empty)
    except tf.errors.InvalidArgumentError as error:
        clear = "empty batch" in str(error)
        return {"passed": clear, "detail": "refused with a sentence" if clear else str(error).splitlines()[0][:200]}
    sizes = {int(value.shape[0]) for value in answer.values()}
    return {"passed": sizes == {0}, "detail": f"answered {sorted(sizes)} rows"}


def main(directory: str, tolerance: float) -> dict[str, Any]:
    """Replays every signature of the artifact and returns what was seen."""
    import os

    import numpy as np
    import tensorflow as tf

    loaded = tf.saved_model.load(directory)
    with np.load(os.path.join(directory, "assets.extra", "golden.npz")) as file:
        golden = _unpack(file)
    result: dict[str, Any] = {"tensorflow": tf.__version__, "signatures": {}, "extra": {}}
    for name, function in loaded.signatures.items():
        inputs = {k.split("/in/")[1]: v for k, v in golden.items() if k.startswith(f"{name}/in/")}
        expected = {k.split("/out/")[1]: v for k, v in golden.items() if k.startswith(f"{name}/out/")}
        if not inputs or not expected:
            result["signatures"][name] = {"error": "golden.npz holds nothing for it"}
            continue
        count = len(next(iter(inputs.values())))
        runs = {}
        for batch in (count, 3):
            some = count if batch == count else min(count, 16)
            got = _replay(function, inputs, batch, some)
            runs[str(batch)] = _compare({k: v[:some] for k, v in expected.items()}, got, tolerance)
        result["signatures"][name] = {"batches": runs, "empty": _empty_batch(function, inputs), "examples": count}
        if name == "serving_default" and "probabilities" in expected and golden["targets"].ndim == 1:
            right = _replay(function, inputs, count, count)["probabilities"].argmax(-1) == golden["targets"]
            live = expected["probabilities"].argmax(-1) == golden["targets"]
            result["accuracy"] = {"artifact": float(right.mean()), "live": float(live.mean())}
    return result


if __name__ == "__main__":
    for module in BLOCKED:
        # None makes every import of it fail. `import tensorflow` tries Keras itself and goes on without, so that a look
        # at sys.modules after the import would prove nothing.
        sys.modules[module] = None  # type: ignore[assignment]
    outcome = main(sys.argv[1], float(sys.argv[2]))
    leaked = sorted(m for m, held in sys.modules.items() if m.split(".")[0] in BLOCKED and held is not None)
    print("REPLAY " + json.dumps({**outcome, "leaked": leaked}), flush=True)
