"""Replays golden answers through a SavedModel, in a process where neither Keras nor this package can be imported.

Run as a script by `zoo.export.verification`, by path, so that importing it imports nothing else. Prints one JSON object.
It stands alone on purpose: what it shows holds for a stranger who has nothing but TensorFlow and the artifact.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import sys
from typing import Any

BLOCKED = ("keras", "tf_keras", "zoo", "datasets", "export")


def unpack(golden: Any) -> dict[str, Any]:
    """Returns the arrays of a packed file, strings as objects."""
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


def die_with_parent() -> None:
    """Has the kernel end this process when the one that started it dies, however it dies: Linux alone knows that."""
    import ctypes
    import os
    import signal

    try:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    except (OSError, AttributeError):
        return
    parent = os.environ.get("ZOO_PARENT")
    if parent and os.getppid() != int(parent):  # it died before
        os._exit(1)


def store(file: str, arrays: dict[str, Any]) -> None:
    """Writes arrays of any name and type to a file that `restore` reads: names as they came, strings as objects, and types
    that NumPy itself does not know by their name."""
    import numpy as np

    about: list[Any] = []
    held: dict[str, Any] = {}
    for i, (name, value) in enumerate(arrays.items()):
        array = np.asarray(value)
        kind = "text" if array.dtype == object else array.dtype.name
        about.append([name, kind, list(array.shape)])
        texts = array.ravel().tolist() if kind == "text" else []
        data = b"".join(texts) if kind == "text" else np.ascontiguousarray(array).tobytes()
        held[f"data_{i}"] = np.frombuffer(data, np.uint8)
        held[f"ends_{i}"] = np.cumsum([0, *map(len, texts)])
    np.savez(file, about=np.frombuffer(json.dumps(about).encode(), np.uint8), **held)


def restore(file: str) -> dict[str, Any]:
    """The inverse of `store`."""
    import numpy as np

    arrays = {}
    with np.load(file, allow_pickle=False) as held:
        for i, (name, kind, shape) in enumerate(json.loads(held["about"].tobytes())):
            data = held[f"data_{i}"]
            if kind == "text":
                texts = np.empty(len(held[f"ends_{i}"]) - 1, object)
                texts[:] = [data[a:b].tobytes() for a, b in itertools.pairwise(held[f"ends_{i}"])]
                arrays[name] = texts.reshape(shape)
                continue
            try:
                dtype = np.dtype(kind)
            except TypeError:  # such as bfloat16, which comes with TensorFlow
                import ml_dtypes

                dtype = np.dtype(getattr(ml_dtypes, kind))
            # Of a bytearray, as some runtimes take only what they may write to.
            arrays[name] = np.frombuffer(bytearray(data.tobytes()), dtype).reshape(shape)
    return arrays


def right(answers: dict[str, Any], targets: Any, labels: list[bytes], tolerance: float) -> dict[str, list[int]]:
    """Returns, by output, how many examples are answered rightly, of how many, and how many of them are close calls:
    labels first, then probabilities of all labels."""
    import numpy as np

    found: dict[str, list[int]] = {}
    if targets is None or not labels or targets.dtype.kind not in "iu":
        return found
    for name, value in sorted(answers.items(), key=lambda item: item[1].dtype != object):
        want, close = targets[: len(value)] if value.ndim else targets, 0
        known = np.array(labels, object)[np.clip(want, 0, len(labels) - 1)]
        if value.dtype == object and want.ndim == 1 <= value.ndim:  # one label, or several to an example
            met = (value.reshape(len(value), -1) == known[:, None]).any(axis=1)
        elif value.dtype == object and value.shape == want.shape:  # a label for every step; padding has none
            met = (value == known)[value != b""]
        elif value.dtype.kind == "f" and want.ndim == 1 and value.shape == (len(want), len(labels)) and len(labels) > 1:
            met = value.argmax(axis=1) == want
            best = np.sort(value, axis=1)[:, -2:]
            close = int(np.sum(best[:, 1] - best[:, 0] <= 2 * tolerance))
        else:
            continue
        found[name] = [int(met.sum()), int(met.size), close]
    return found


def complete(golden: dict[str, Any], portable: str) -> dict[str, Any]:
    """Adds what golden.npz does not hold twice: requests of serving_default that other signatures answer too, and what
    another form of `predict` is asked and answers."""
    given = _part(golden, "serving_default/in/")
    names = {key.split("/")[0] for key in golden if "/out/" in key}
    alone = {name for name in names if not _part(golden, f"{name}/in/")}
    full = golden | {f"{name}/in/{key}": value for name in alone for key, value in given.items()}
    return full | {portable + k.removeprefix("predict"): v for k, v in full.items() if k.startswith("predict/")}


def compare(
    expected: dict[str, Any], got: dict[str, Any], labels: list[bytes], tolerance: float, known: Any = None
) -> list[dict[str, Any]]:
    """Returns a row per output: the largest difference of numbers and the one allowed, the number of differing strings.

    Several labels of an example are compared by `known`, its probabilities of all labels, where there are any.
    """
    import numpy as np

    rows = []
    for name in sorted({*expected, *got}):
        row: dict[str, Any] = {
            "output": name,
            "passed": False,
            "difference": None,
            "detail": "",
            "allowed": None,
            "ties": 0,
        }
        rows.append(row)
        if name not in got or name not in expected:
            row["detail"] = "missing in the answer" if name not in got else "golden.npz holds nothing for it"
            continue
        want, have = expected[name], got[name]
        if have.shape != want.shape or have.dtype != want.dtype:
            shown = [f"{a.dtype.name} {list(a.shape)}" for a in (have, want)]
            row["detail"] = f"{shown[0]}, expected {shown[1]}"
        elif want.dtype == object:
            wrong = np.flatnonzero((have != want).ravel())
            beside = [v for v in got.values() if v.dtype != object and v.shape == (*have.shape, len(labels))]
            ties = _ties(want.ravel()[wrong], have.ravel()[wrong], wrong, beside, labels, tolerance)
            if not beside and want.ndim == 2 and known is not None:
                ties = _swaps(want, have, known, labels, tolerance)
            row["passed"], row["ties"] = len(wrong) == ties, int(ties)
            row["detail"] = f"{len(wrong)} of {want.size} differ" + (f", {ties} of them ties" if ties else "")
        elif not (np.all(np.isfinite(want)) and np.all(np.isfinite(have))):
            row["detail"] = "holds values that are not finite"
        else:
            wide = np.complex128 if want.dtype.kind == "c" else np.float64
            want, have = want.astype(wide), have.astype(wide)
            gap = np.abs(have - want)
            # Relative to the largest value: rounding follows the size of what was added up, not of what came out.
            row["allowed"] = tolerance * max(1.0, float(np.max(np.abs(want), initial=0.0)))
            row["passed"] = bool(np.all(gap <= row["allowed"]))
            row["difference"] = float(np.max(gap, initial=0.0))
    return rows


def widened(parts: list[Any], dynamic: bool) -> list[Any]:
    """Fills answers for every step, whose number is dynamic, up to the longest, as padding is answered: with 0 or ""."""
    import numpy as np

    if not dynamic or len({part.ndim for part in parts}) > 1:
        return parts
    longest = max(part.shape[1] for part in parts)
    gaps = [[(0, 0), (0, longest - p.shape[1]), *[(0, 0)] * (p.ndim - 2)] for p in parts]
    filler = b"" if parts[0].dtype == object else 0
    return [np.pad(p, gap, constant_values=filler) for p, gap in zip(parts, gaps, strict=True)]


def _ties(want: Any, have: Any, where: Any, beside: list[Any], labels: list[bytes], tolerance: float) -> int:
    """Counts differing labels that are excused: the answer names its own most probable class, and the expected one is as
    probable within the tolerance."""
    import numpy as np

    if not beside or not labels or not len(where):
        return 0
    rows = beside[0].reshape(-1, len(labels))
    count = 0
    for wanted, given, row in zip(want, have, rows[where], strict=True):
        near = {label for label, p in zip(labels, row, strict=True) if row.max() - p <= 2 * tolerance}
        count += given == labels[np.argmax(row)] and wanted in near
    return count


def _swaps(want: Any, have: Any, known: Any, labels: list[bytes], tolerance: float) -> int:
    """Counts differing labels that are excused: as probable, within the tolerance, as the one expected in their place."""
    import numpy as np

    place = {label: i for i, label in enumerate(labels)}
    wrong = [(row, place[want[row, i]], place.get(have[row, i])) for row, i in np.argwhere(want != have)]
    return sum(b is not None and bool(abs(known[row, a] - known[row, b]) <= 2 * tolerance) for row, a, b in wrong)


def _answer(function: Any, inputs: dict[str, Any], start: int, stop: int, rows: int) -> dict[str, Any]:
    import numpy as np
    import tensorflow as tf

    chosen = start + np.arange(max(rows, stop - start)) % (stop - start)
    part = {k: tf.constant(v[chosen].tolist() if v.dtype == object else v[chosen]) for k, v in inputs.items()}
    return {name: value.numpy()[: stop - start] for name, value in function(**part).items()}


def _replay(function: Any, inputs: dict[str, Any], batch: int, count: int, fill: bool) -> dict[str, Any]:
    import numpy as np

    filled = batch if fill else 0
    parts = [_answer(function, inputs, i, min(i + batch, count), filled) for i in range(0, count, batch)]
    dynamic = _dynamic(function)
    return {name: np.concatenate(widened([part[name] for part in parts], name in dynamic)) for name in parts[0]}


def _dynamic(function: Any) -> set[str]:
    """The outputs that have as many columns as there are steps."""
    shapes = {name: tensor.shape for name, tensor in function.structured_outputs.items()}
    return {name for name, shape in shapes.items() if len(shape) > 1 and shape[1] is None}


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
        return {"passed": clear, "detail": "refused with a sentence" if clear else str(error)}
    sizes = {int(value.shape[0]) for value in answer.values()}
    return {"passed": sizes == {0}, "detail": f"answered {sorted(sizes)} rows"}


def _replay_signature(
    function: Any,
    golden: dict[str, Any],
    name: str,
    labels: list[bytes],
    targets: Any,
    tolerance: float,
    fill: bool,
) -> Any:
    """Replays all examples in batches of 64, and some of them three at a time.

    Args:
        targets: the numbers of the labels that are right, None for none.
        fill: whether smaller batches are filled up with examples once more, because many rows are computed another way.
    """
    inputs, expected = _part(golden, f"{name}/in/"), _part(golden, f"{name}/out/")
    if not inputs or not expected:
        return {"error": "golden.npz holds nothing for it"}
    count = len(next(iter(inputs.values())))
    known = golden.get("serving_default/out/probabilities")
    known = known if known is not None and known.ndim == 2 and known.shape[1] == len(labels) else None
    batches, accuracy = {}, None
    for batch, some in ((64 if fill else min(count, 64), count), (3, min(count, 16))):
        got, want = _replay(function, inputs, batch, some, fill), {k: v[:some] for k, v in expected.items()}
        for key in _dynamic(function) & got.keys() & want.keys():
            want[key], got[key] = widened([want[key], got[key]], True)
        batches[str(batch)] = rows = compare(want, got, labels, tolerance, known)
        accuracy = accuracy or _accuracy(got, want, rows, targets, labels, tolerance)
    return {"batches": batches, "empty": _empty_batch(function, inputs), "accuracy": accuracy}


def _accuracy(got: Any, want: Any, rows: Any, targets: Any, labels: list[bytes], tolerance: float) -> Any:
    """Compares how many examples the artifact and the live model answer rightly, by the first output that tells it."""
    live = right(want, targets, labels, tolerance)
    for row in rows:
        if row["output"] in live and row["passed"] and next(iter(live)) == row["output"]:
            mine, of, close = right(got, targets, labels, tolerance)[row["output"]]
            same = abs(mine - live[row["output"]][0]) <= max(close, row["ties"])
            return {"passed": same, "detail": f"{mine} of {of} right, live model {live[row['output']][0]}"}
    return None


def _part(golden: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {key[len(prefix) :]: value for key, value in golden.items() if key.startswith(prefix)}


def _weights(loaded: Any) -> dict[str, Any]:
    """Returns the SHA-256 over all weights in order, by the same rule as the exporter over the live model's; something else
    where those that a fused op holds in its own order are not made of them."""
    import numpy as np

    digest, weights = hashlib.sha256(), [variable.numpy() for variable in loaded.model_weights]
    for weight in weights:
        digest.update(str((weight.dtype, weight.shape)).encode())
        digest.update(np.ascontiguousarray(weight).tobytes())
    wrong = [
        f"{have.shape} of a fused op are not made of the others"
        for expected, used in zip(
            getattr(loaded, "pack_weights", list)(), getattr(loaded, "packed_weights", []), strict=True
        )
        for want, have in zip(expected, used, strict=True)
        if not np.array_equal(want.numpy(), have.numpy())
    ]
    return {"sha256": "".join(wrong) or digest.hexdigest(), "count": len(weights)}


def _answer_sample(function: Any, file: str, fill: bool) -> None:
    """Answers the requests in a file that `store` wrote, in batches of 64, and puts the answers into their place."""
    inputs = restore(file)
    store(file, _replay(function, inputs, 64, len(next(iter(inputs.values()))), fill))


def main(directory: str, sample: dict[str, str]) -> dict[str, Any]:
    """Replays every signature of the artifact and returns what was seen.

    Args:
        directory: the version folder.
        sample: files with further requests by signature, in whose place the answers go.
    """
    import os

    import numpy as np
    import tensorflow as tf

    loaded = tf.saved_model.load(directory)
    extra = os.path.join(directory, "assets.extra")
    with np.load(os.path.join(extra, "golden.npz")) as file:
        golden = unpack(file)
    with open(os.path.join(extra, "zoo.json"), encoding="utf-8") as file:
        facts = json.load(file)
    tolerance = facts["form"]["tolerance"]
    if not 0 < tolerance < 1:
        return {"error": f"zoo.json allows a difference of {tolerance}, with which nothing is compared"}
    labels = [name.encode() for name in facts["class_names"]]
    portable = facts.get("portable_signature", "predict")
    golden, targets = complete(golden, portable), golden.get(f"targets/{facts.get('classes')}")
    recurrent = portable != "predict"
    signatures: dict[str, Any] = {}
    for name in sorted({*loaded.signatures, *(key.split("/")[0] for key in golden if "/out/" in key)}):
        if name not in loaded.signatures:
            signatures[name] = {"error": "missing in the SavedModel"}
            continue
        try:
            signatures[name] = _replay_signature(
                loaded.signatures[name], golden, name, labels, targets, tolerance, recurrent
            )
        except Exception as error:  # whatever it is, it is the verdict on this signature
            signatures[name] = {"error": f"{type(error).__name__}: {error}"}
    for name, file in sample.items():
        if "error" not in signatures.get(name, {"error": ""}):
            _answer_sample(loaded.signatures[name], file, recurrent)
    python = sys.version.split()[0]
    return {"tensorflow": tf.__version__, "python": python, "signatures": signatures, "weights": _weights(loaded)}


if __name__ == "__main__":
    die_with_parent()
    for module in BLOCKED:
        # None makes every import of it fail. `import tensorflow` tries Keras itself and goes on without, so that a look
        # at sys.modules after the import would prove nothing.
        sys.modules[module] = None  # type: ignore[assignment]
    try:
        outcome = main(sys.argv[1], json.loads(sys.argv[2]) if len(sys.argv) > 2 else {})
    except Exception as error:  # likewise: an artifact that cannot be loaded or read
        outcome = {"error": f"{type(error).__name__}: {error}"}
    leaked = sorted(m for m, held in sys.modules.items() if m.split(".")[0] in BLOCKED and held is not None)
    print("REPLAY " + json.dumps({**outcome, "leaked": leaked}), flush=True)
