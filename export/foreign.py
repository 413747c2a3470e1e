"""Checks of SavedModels without golden examples, whose correct outputs are not known."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoo import storage
from zoo.errors import one_line
from zoo.export import scratch
from zoo.export.graph import forms
from zoo.export.inspection import operations
from zoo.export.runtimes import comparison
from zoo.export.standalone import arrays as array_files
from zoo.export.standalone import probe as probe_script
from zoo.export.verdict import Check, Verification

ROWS = 4
_LARGEST = 50_000_000  # numbers in one generated input
# Tried in order until a signature accepts one: the size of unknown dimensions, the exclusive upper limit of integers, and
# the content of strings. Small tables reject large ids, deep networks small images, and image decoders texts.
_CANDIDATES = ((8, 10, "text"), (8, 2, "text"), (8, 10, "image"), (32, 10, "text"), (64, 2, "text"), (224, 2, "text"))
_TEXTS = (b"a text of five words", b"", b"7", "größer, 10 %".encode())


def check(
    directory: Path, breaches: Sequence[str], asked: str | Sequence[str], python: str | Path | None = None
) -> Verification:
    """Checks a SavedModel without golden examples.

    Args:
        directory: the version folder.
        breaches: differences from the signature contract of this project's artifacts, reported as notes.
        asked: the runtimes, as for `zoo.export.verify`.
        python: another Python interpreter, whose TensorFlow is used.

    Returns:
        The verdict, whose `proof` is False.
    """
    names, explicit = comparison.chosen(asked)
    graph = operations.read(directory)
    notes = [Check("note", None, detail=sentence) for sentence in breaches]
    ops, versions = operations.check(graph, ours=False), {"python": sys.version.split()[0]}
    notes += [Check("note", None, detail=str(finding)) for finding in operations.scan(graph).unportable[:3]]
    if not ops.passed:  # a dangerous model is not run, not even in a separate process
        return Verification(directory, (ops, *notes), versions, proof=False)
    seen, questions = probe(directory, python)
    if "error" in seen:
        loading = Check("loads in a clean process", False, detail=seen["error"])
        return Verification(directory, (loading, ops, *notes), versions, proof=False)
    checks = [Check("loads in a clean process", True, detail="neither keras nor zoo can be imported there")]
    for name, found in seen["signatures"].items():
        checks += _lines(name, found)
    if not seen["signatures"]:
        checks.append(Check("signatures", False, detail="there is none to call; save the model with signatures="))
    versions = {"tensorflow": seen["tensorflow"], "python": seen["python"]}
    portable = portable_signature(questions)
    states: dict[str, str] = {}
    for runtime in names:
        outcome = comparison.compare(runtime, directory, questions, portable, [], explicit)
        checks += outcome.checks
        states[runtime] = outcome.state
        versions |= {runtime: outcome.version} if outcome.version else {}
    return Verification(directory, (*checks, ops, *notes), versions, states, proof=False)


def portable_signature(questions: Mapping[str, comparison.Question]) -> str:
    """Returns the signature to compare in other runtimes: `serving_default` if it has no strings, else the first such."""
    numeric = [
        name
        for name, question in questions.items()
        if question.inputs and all(v.dtype != object for v in [*question.inputs.values(), *question.outputs.values()])
    ]
    return "serving_default" if "serving_default" in numeric or not numeric else numeric[0]


def probe(
    directory: Path, python: str | Path | None = None, length: int | None = None
) -> tuple[dict[str, Any], dict[str, comparison.Question]]:
    """Calls every signature with generated inputs, in TensorFlow, in a separate process.

    Args:
        directory: the SavedModel.
        python: another Python interpreter than this one.
        length: the size of unknown dimensions, instead of trying several.

    Returns:
        The results by signature; and the inputs with their outputs, for the signatures that returned outputs.
    """
    found = {k: v for k, v in operations.read(directory).signature_def.items() if k != operations.INIT}
    signatures = {name: signature for name, signature in found.items() if operations.is_plain(signature)}
    fixed = {name: _fixed_batch(signature) for name, signature in signatures.items()}
    tried = _CANDIDATES if length is None else [(length, high, holds) for _, high, holds in _CANDIDATES[:3]]
    generated = {
        name: [_inputs(signature, fixed[name] or ROWS, *candidate) for candidate in tried]
        for name, signature in signatures.items()
    }
    with scratch.folder() as folder:
        inputs, answers, order = (Path(folder, name) for name in ("inputs.npz", "answers.npz", "request.json"))
        arrays = {
            f"{i}/{j}/{key}": value
            for i, candidates in enumerate(generated.values())
            for j, candidate in enumerate(candidates)
            for key, value in candidate.items()
        }
        array_files.save(inputs, arrays)
        request = {
            "model": str(directory.absolute()),
            "inputs": str(inputs),
            "answers": str(answers),
            "signatures": {name: bool(batch) for name, batch in fixed.items()},
            "tolerance": forms.ROUNDING,
            "candidates": {name: len(candidates) for name, candidates in generated.items()},
        }
        storage.write_json(order, request)
        seen = comparison.run_script(Path(probe_script.__file__), [str(order)], "PROBE ", python, folder)
        if "error" in seen:
            return seen, {}
        answered = array_files.load(answers)
    odd = "has a sparse or ragged tensor or an unknown type as input or output; no inputs can be generated"
    seen["signatures"] |= {name: {"unasked": odd} for name in found.keys() - signatures.keys()}
    questions = {}
    for i, (name, answer) in enumerate(seen["signatures"].items()):
        if "candidate" in answer and all(row["passed"] for row in answer["rows"]):
            outputs = {k.split("/", 1)[1]: v for k, v in answered.items() if k.startswith(f"{i}/")}
            sizes = () if fixed[name] or "whole" in answer else comparison.BATCHES
            questions[name] = comparison.Question(generated[name][answer["candidate"]], outputs, sizes)
    return seen, {name: question for name, question in questions.items() if question.inputs and question.outputs}


def _fixed_batch(signature: Any) -> int | None:
    """Returns the batch size of a signature with a fixed batch, 1 if an input has no batch, None for any size."""
    first = [info.tensor_shape.dim[:1] for info in signature.inputs.values() if not info.tensor_shape.unknown_rank]
    sizes = [dims[0].size if dims else 1 for dims in first]
    known = [size for size in sizes if size != -1]
    return max(known[0], 1) if known else None


def _inputs(signature: Any, rows: int, size: int, high: int, holds: str) -> dict[str, np.ndarray]:
    """Generates inputs from the types and shapes of a signature, always the same."""
    random = np.random.default_rng(0)
    return {key: _generated(random, signature.inputs[key], rows, size, high, holds) for key in sorted(signature.inputs)}


def _generated(random: Any, info: Any, rows: int, size: int, high: int, holds: str) -> np.ndarray:
    from tensorflow.python.framework import dtypes

    shape = [rows, size] if info.tensor_shape.unknown_rank else [d.size for d in info.tensor_shape.dim]
    shape = [(rows if i == 0 else size) if d == -1 else d for i, d in enumerate(shape)]
    if np.prod(shape, dtype=float) > _LARGEST:
        shape = [min(d, 1) for d in shape]  # the signature rejects it, which is reported
    dtype = dtypes.as_dtype(info.dtype)
    if dtype == dtypes.string:
        texts = np.empty(int(np.prod(shape)), object)
        texts[:] = [_TEXTS[i % len(_TEXTS)] if holds == "text" else _image(random) for i in range(texts.size)]
        return texts.reshape(shape)
    if dtype.is_integer:
        return np.asarray(random.integers(0, high, shape)).astype(dtype.as_numpy_dtype)
    if dtype.is_bool:
        return np.asarray(random.random(shape)) < 0.5
    return np.asarray(random.normal(size=shape)).astype(dtype.as_numpy_dtype)


def _image(random: Any) -> bytes:
    import tensorflow as tf

    encoded: bytes = tf.io.encode_png(random.integers(0, 256, (16, 16, 3)).astype(np.uint8)).numpy()
    return encoded


def _lines(name: str, found: Mapping[str, Any]) -> list[Check]:
    """Returns the lines of one signature."""
    if "unasked" in found:
        return [Check(name, None, detail=found["unasked"])]
    if not found.get("outputs", True):
        return [Check(name, None, detail="has no output, so there is nothing to compare")]
    if "refused" in found:
        message = one_line(RuntimeError(found["refused"]), 200)
        return [Check(name, None, detail=f"rejected every generated input; the first error: {message}")]
    shapes = ", ".join(f"{key} {shape}" for key, shape in found["shapes"].items())
    lines = [
        Check(
            f"{name} {row['output']}, batch {ROWS} and 2",
            row["passed"],
            row["difference"],
            row["detail"],
            row.get("allowed"),
        )
        for row in found["rows"]
    ]
    if "whole" in found:
        message = one_line(RuntimeError(found["whole"]), 200)
        lines = [Check(f"{name}, batch 2", None, detail=f"accepts {ROWS} rows and rejects 2: {message}")]
    elif not lines:
        lines = [Check(name, True, detail=f"accepts {shapes or 'no input'}; has no other batch size")]
    if "empty" in found:
        lines.append(Check(f"{name}, empty batch", None, detail=one_line(RuntimeError(found["empty"]), 200)))
    return lines
