"""Replays golden examples through a SavedModel, in a process where neither Keras nor this package can be imported.

`zoo.export.verification` runs this file as a script by its path. It prints one JSON object. It imports nothing of this
package, so its result holds for every user who has only TensorFlow and the artifact.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING or __package__:
    from . import arrays, compare, process
else:  # run by its path, with this folder first on sys.path
    import arrays
    import compare
    import process


class _InTurn:
    """A signature that is called after the one that it continues; its inputs are those of the first one."""

    def __init__(self, first: Any, following: Any, state: list[str]) -> None:
        self._first, self._following, self._state = first, following, state
        self._takes = list(following.structured_input_signature[1])
        self.structured_outputs: dict[str, Any] = {}
        self.structured_input_signature = first.structured_input_signature

    def __call__(self, **inputs: Any) -> dict[str, Any]:
        calls = (lambda given: self._first(**given), lambda given: self._following(**given))
        return arrays.in_turn(*calls, inputs, self._takes, self._state)


class _WithoutState:
    """A signature without the outputs that only another one reads."""

    def __init__(self, function: Any, state: list[str]) -> None:
        self._function, self._state = function, {*state}
        kept = function.structured_outputs.items()
        self.structured_outputs = {name: spec for name, spec in kept if name not in self._state}

    def __call__(self, **inputs: Any) -> dict[str, Any]:
        return {name: value for name, value in self._function(**inputs).items() if name not in self._state}


def _function(loaded: Any, described: dict[str, Any], name: str) -> Any:
    """Returns a signature as it is replayed."""
    entry, function = described.get(name, {}), loaded.signatures[name]
    if entry.get("continues"):
        return _InTurn(loaded.signatures[entry["continues"]], function, entry["state"])
    return _WithoutState(function, entry["state"]) if entry.get("state") else function


def _answer(function: Any, inputs: dict[str, Any], start: int, stop: int, rows: int) -> dict[str, Any]:
    import tensorflow as tf

    chosen = start + np.arange(max(rows, stop - start)) % (stop - start)
    part = {k: tf.constant(v[chosen].tolist() if v.dtype == object else v[chosen]) for k, v in inputs.items()}
    return {name: np.asarray(value)[: stop - start] for name, value in function(**part).items()}


def _replay(function: Any, inputs: dict[str, Any], batch: int, count: int, fill: bool) -> dict[str, Any]:
    filled = batch if fill else 0
    parts = [_answer(function, inputs, i, min(i + batch, count), filled) for i in range(0, count, batch)]
    dynamic = _dynamic(function)
    return {
        name: (arrays.joined if name in dynamic else np.concatenate)([part[name] for part in parts])
        for name in parts[0]
    }


def _dynamic(function: Any) -> set[str]:
    """Returns the outputs whose second dimension is the number of steps."""
    shapes = {name: tensor.shape for name, tensor in function.structured_outputs.items()}
    return {name for name, shape in shapes.items() if len(shape) > 1 and shape[1] is None}


def _empty_batch(function: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    import tensorflow as tf

    empty = {k: tf.zeros([0, *v.shape[1:]], tf.string if v.dtype == object else v.dtype) for k, v in inputs.items()}
    try:
        answer = function(**empty)
    except tf.errors.InvalidArgumentError as error:
        clear = "empty batch" in str(error)
        return {"passed": clear, "detail": "rejected with a message" if clear else str(error)}
    sizes = {int(value.shape[0]) for value in answer.values()}
    return {"passed": sizes == {0}, "detail": f"returned {sorted(sizes)} rows"}


def _replay_signature(
    function: Any,
    inputs: dict[str, Any],
    expected: dict[str, Any],
    known: Any,
    labels: list[bytes],
    targets: Any,
    tolerance: float,
    fill: bool,
    decided: Any = None,
) -> Any:
    """Replays all examples in batches of 64, and some of them in batches of 3.

    Args:
        function: the signature.
        inputs: golden inputs by name.
        expected: golden outputs by name.
        known: probabilities of all labels, or None.
        labels: the labels in the order of the class numbers.
        targets: the correct class numbers, or None.
        tolerance: the tolerance of the artifact's form.
        fill: whether to fill smaller batches by repeating examples, because large batches are computed in another way.
        decided: what the task decided after the training, such as the thresholds of labels; or None.
    """
    if not inputs or not expected:
        return {"error": "golden.npz has no data for it"}
    count = len(next(iter(inputs.values())))
    batches, accuracy = {}, None
    for batch, some in ((64 if fill else min(count, 64), count), (3, min(count, 16))):
        got, want = _replay(function, inputs, batch, some, fill), {k: v[:some] for k, v in expected.items()}
        for key in _dynamic(function) & got.keys() & want.keys():
            want[key], got[key] = arrays.padded([want[key], got[key]])
        batches[str(batch)] = rows = compare.compare(want, got, labels, tolerance, known, decided)
        accuracy = accuracy or _accuracy(got, want, rows, targets, labels, tolerance)
    return {"batches": batches, "empty": _empty_batch(function, inputs), "accuracy": accuracy}


def _accuracy(got: Any, want: Any, rows: Any, targets: Any, labels: list[bytes], tolerance: float) -> Any:
    """Compares the number of correct examples of the artifact and the trained model, by the first suitable output."""
    live = compare.right(want, targets, labels, tolerance)
    for row in rows:
        if row["output"] in live and row["passed"] and next(iter(live)) == row["output"]:
            mine, of, close = compare.right(got, targets, labels, tolerance)[row["output"]]
            same = abs(mine - live[row["output"]][0]) <= max(close, row["ties"])
            return {"passed": same, "detail": f"{mine} of {of} correct, trained model {live[row['output']][0]}"}
    return None


def _weights(loaded: Any) -> dict[str, Any]:
    """Returns the SHA-256 of all weights in order, computed as the exporter does for the trained model. If the packed
    weights of a fused op do not equal the packed model weights, an error message replaces the hash."""
    weights = [variable.numpy() for variable in loaded.model_weights]
    wrong = [
        f"packed weights {have.shape} of a fused op differ from the model weights"
        for expected, used in zip(
            getattr(loaded, "pack_weights", list)(), getattr(loaded, "packed_weights", []), strict=True
        )
        for want, have in zip(expected, used, strict=True)
        if not np.array_equal(want.numpy(), have.numpy())
    ]
    return {"sha256": "".join(wrong) or arrays.digest(weights), "count": len(weights)}


def _answer_sample(function: Any, file: str, fill: bool) -> None:
    """Computes the outputs for the requests in a file of `arrays.save`, in batches of 64, and writes them to the file."""
    inputs = arrays.load(file)
    arrays.save(file, _replay(function, inputs, 64, len(next(iter(inputs.values()))), fill))


def main(directory: str, sample: dict[str, str]) -> dict[str, Any]:
    """Replays every signature of the artifact and returns the results.

    Args:
        directory: the version folder.
        sample: files with further requests by signature; the outputs replace the requests in the files.
    """
    import tensorflow as tf

    loaded = tf.saved_model.load(directory)
    extra = os.path.join(directory, "assets.extra")
    with open(os.path.join(extra, "zoo.json"), encoding="utf-8") as file:
        facts = json.load(file)
    tolerance = facts["form"]["tolerance"]
    if not 0 < tolerance < 1:
        return {"error": f"the tolerance in zoo.json is {tolerance}; expected more than 0 and less than 1"}
    labels = [name.encode() for name in facts["class_names"]]
    golden, described = arrays.load(os.path.join(extra, "golden.npz")), facts["signatures"]
    targets, known = golden.get(f"targets/{facts.get('classes')}"), golden.get("answers/serving_default/probabilities")
    known = known if known is not None and known.ndim == 2 and known.shape[1] == len(labels) else None
    # An artifact with a portable signature computes large batches in another way than small ones.
    fill = facts["portable_signature"] != "predict"
    answered = {key.split("/")[1] for key in golden if key.startswith("answers/")}
    signatures: dict[str, Any] = {}
    for name in sorted({*loaded.signatures, *described, *answered}):
        if name not in loaded.signatures:
            signatures[name] = {"error": "missing in the SavedModel"}
            continue
        try:
            signatures[name] = _replay_signature(
                _function(loaded, described, name),
                *arrays.replayed(golden, described, name),
                known,
                labels,
                targets,
                tolerance,
                fill,
                facts.get("decided"),
            )
        except Exception as error:  # any exception is the verdict on this signature
            signatures[name] = {"error": f"{type(error).__name__}: {error}"}
    for name, requests in sample.items():
        if "error" not in signatures.get(name, {"error": ""}):
            _answer_sample(loaded.signatures[name], requests, fill)
    python = sys.version.split()[0]
    return {"tensorflow": tf.__version__, "python": python, "signatures": signatures, "weights": _weights(loaded)}


if __name__ == "__main__":
    words = sys.argv[1:]
    process.run("REPLAY ", lambda: main(words[0], json.loads(words[1]) if len(words) > 1 else {}))
