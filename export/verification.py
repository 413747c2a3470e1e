"""Verification: an artifact computes what was trained, shown in a process that has nothing of ours."""

from __future__ import annotations

import itertools
import json
import sys
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zoo import storage
from zoo.errors import UsageError, one_line
from zoo.export import artifact_paths, foreign, scratch
from zoo.export.accuracy import Measured
from zoo.export.graph import forms
from zoo.export.inspection import operations
from zoo.export.runtimes import comparison
from zoo.export.runtimes import runtimes as known_runtimes
from zoo.export.standalone import arrays, replay
from zoo.export.verdict import Check, Verification

__all__ = ["Check", "Verification", "check", "verify"]

_BROKEN = (zipfile.BadZipFile, zlib.error)
_EDGE_TYPES = ("float32", "int32", "int64", "string")


def verify(
    path: str | Path, *, runtimes: str | Sequence[str] = "installed", python: str | Path | None = None
) -> Verification:
    """Checks a published artifact against its own proof; nothing in it is changed.

    Its files are compared with SHA256SUMS. Then a clean process, in which neither Keras nor this package can be imported,
    loads it and replays its golden examples through every signature at two batch sizes; the weights that it loaded and
    the labels are compared with zoo.json. Other runtimes answer the same examples: OpenVINO, ONNX Runtime and LiteRT
    through the signature that zoo.json names for conversion, a C program through all of them.

    Of a SavedModel that carries no proof, what can be checked is: that it loads, that every signature answers generated
    inputs alike in two batch sizes, and that other runtimes answer them as TensorFlow does.

    Args:
        path: a version folder, the folder above it (then the newest version counts), or a run.
        runtimes: "installed" for all that this machine has; or names of `openvino`, `onnxruntime`, `litert`, `c_api`; ()
            for TensorFlow alone. One that answers otherwise fails. One that cannot convert the model is reported, and fails
            if it was promised: named, or agreeing in the artifact's verification.json. One that is not installed fails if
            it was named; if it is promised by verification.json, a line says that nothing was compared here.
        python: another Python, whose TensorFlow replays the examples instead of this one's.

    Returns:
        The verdict; `passed` says whether all of it held.

    Raises:
        UsageError: there is no SavedModel, part of its proof is missing, or a runtime's name is unknown.

    Example:
        >>> print(zoo.export.verify("exports/digits", runtimes=["openvino"]).table())
    """
    directory = artifact_paths.find(path)
    proof = [
        name for name in ("golden.npz", "zoo.json", "verification.json", artifact_paths.SUMS) if _extra(directory, name)
    ]
    if proof:
        return check(directory, sums=True, runtimes=runtimes, python=python)
    return foreign.check(directory, _contract(operations.read(directory)), runtimes, python)


def check(
    directory: Path,
    *,
    sums: bool,
    runtimes: str | Sequence[str] = (),
    python: str | Path | None = None,
    measured: Measured | None = None,
) -> Verification:
    """Verifies a version folder; `sums=False` while it is being written and its sums are still to come, and `measured` for
    what the live model answers to raw test examples."""
    promised, named = _runtimes_of(directory, runtimes)
    for name in ("golden.npz", "zoo.json"):
        if not _extra(directory, name):
            raise UsageError(
                f"{directory} carries no {artifact_paths.EXTRA}/{name}, so there is nothing to compare with. "
                "`zoo export` writes SavedModels that carry it."
            )
    checks = [_check_sums(directory)] if sums else []
    versions = {"python": sys.version.split()[0]}
    try:
        graph = operations.read(directory)
        contract, ops = _check_contract(graph), operations.check(graph)
    except Exception as error:  # noqa: BLE001, whatever bytes that are no graph any more raise
        checks.append(Check("saved_model.pb", False, detail=one_line(error)))
        return Verification(directory, tuple(checks), versions)
    if not ops.passed:  # what could do harm is not run, not even in a process of its own
        return Verification(directory, (*checks, contract, ops), versions)
    with scratch.folder() as temporary:
        sample = measured.write(temporary) if measured else {}
        replayed = _replay(directory, python, sample)
        figures = [measured.compare(sample)] if measured and "error" not in replayed else []
    if "error" in replayed:
        checks.append(Check("replay in a clean process", False, detail=replayed["error"]))
        return Verification(directory, (*checks, contract, ops), versions)
    leaked = replayed["leaked"]
    detail = f"imported {', '.join(leaked[:3])}" if leaked else "neither keras nor zoo can be imported there"
    checks.append(Check("clean process", not leaked, detail=detail))
    checks += _check_signatures(replayed["signatures"])
    checks += figures
    checks += _check_facts(directory, replayed["weights"])
    checks += [contract, ops]
    versions = {"tensorflow": replayed["tensorflow"], "python": replayed["python"]}
    states: dict[str, str] = {}
    if promised:
        try:
            answered, states, found = _check_runtimes(directory, promised, named)
        except (UsageError, ValueError, KeyError, TypeError, AttributeError) as error:  # golden.npz or zoo.json are odd
            answered, found = [Check("other runtimes", False, detail=one_line(error))], {}
        checks, versions = checks + answered, versions | found
    return Verification(directory, tuple(checks), versions, states)


def _extra(directory: Path, name: str) -> bool:
    return (directory / artifact_paths.EXTRA / name).is_file()


def _runtimes_of(directory: Path, asked: str | Sequence[str]) -> tuple[dict[str, bool], bool]:
    """Returns which runtimes to ask, and of each whether it is promised: named, or recorded as agreeing; and whether they
    were named."""
    names, explicit = comparison.chosen(asked)
    file, recorded = directory / artifact_paths.EXTRA / "verification.json", {}
    if names and file.is_file():
        try:
            recorded = dict(storage.read_json(file).get("runtimes") or {})
        except (OSError, ValueError, TypeError, AttributeError):  # a changed byte: SHA256SUMS says it
            recorded = {}
    return {name: explicit or recorded.get(name) == "agrees" for name in names}, explicit


def _check_runtimes(
    directory: Path, promised: dict[str, bool], named: bool
) -> tuple[list[Check], dict[str, str], dict[str, str]]:
    """Asks every runtime for the golden answers; returns lines, what came of each, and versions."""
    facts = storage.read_json(directory / artifact_paths.EXTRA / "zoo.json")
    labels = [name.encode() for name in facts["class_names"]]
    portable = facts.get("portable_signature", "predict")
    asked = questions(directory)
    outcomes = {}
    for name, is_promised in promised.items():
        lacks = None if named else comparison.missing(name)
        if is_promised and lacks:  # another machine than the one that promised: nothing is known, and nothing failed
            detail = f"promised, but not installed here: nothing was compared ({lacks})"
            check = Check(known_runtimes()[name].title, None, detail=detail)
            outcomes[name] = comparison.Outcome((check,), "not installed")
        else:
            outcomes[name] = comparison.compare(name, directory, asked, portable, labels, is_promised)
    checks = [check for outcome in outcomes.values() for check in outcome.checks]
    versions = {name: outcome.version for name, outcome in outcomes.items() if outcome.version}
    return checks, {name: outcome.state for name, outcome in outcomes.items()}, versions


def questions(directory: Path) -> dict[str, comparison.Question]:
    """Returns the golden examples and answers of an artifact by signature.

    Raises:
        UsageError: golden.npz cannot be read.
    """
    file = directory / artifact_paths.EXTRA / "golden.npz"
    found: dict[str, comparison.Question] = {}
    try:
        golden, facts = arrays.load(file), storage.read_json(directory / artifact_paths.EXTRA / "zoo.json")
        targets, tolerance = golden.get(f"targets/{facts.get('classes')}"), float(facts["form"]["tolerance"])
        for name in sorted(facts["signatures"]):
            inputs, outputs = arrays.examples(golden, facts["signatures"], name)
            if inputs and outputs:
                found[name] = comparison.Question(inputs, outputs, targets=targets, tolerance=tolerance)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, EOFError, *_BROKEN) as error:
        raise UsageError(
            f"{file} cannot be read as zoo.json describes it: {one_line(error)}. `zoo verify {directory}` says more."
        ) from error
    return found


def _check_facts(directory: Path, weights: dict[str, Any]) -> list[Check]:
    """Checks what zoo.json says of the model: by the examples alone, a weight or a label that none of them needs could be
    wrong unseen."""
    facts = storage.read_json(directory / artifact_paths.EXTRA / "zoo.json")
    live = facts.get("weights_sha256")
    same = weights["sha256"] == facts.get("served_weights_sha256", live)
    how = f" {facts['form']['weights']}" if weights["sha256"] != live else ""
    detail = f"bit by bit the live model's{how}" if same else "not those of the live model"
    checks = [Check("weights", same, detail=f"{weights['count']} tensors, {detail}")]
    form = facts["form"]
    if form["tolerance"] > forms.ROUNDING:  # the artifact's own claim: a reader has to see it
        told = f"{form['name']} allows outputs to differ by {form['tolerance']:g}: {form['reason']}"
        checks.append(Check("form", True, detail=told))
    names = facts["class_names"]
    if names:
        file = directory / "assets" / "labels.txt"
        held = file.read_text(encoding="utf-8", errors="replace").split("\n")[:-1] if file.is_file() else []
        pairs = enumerate(itertools.zip_longest(held, names), 1)
        wrong = [f"line {i} is {a!r}, expected {b!r}" for i, (a, b) in pairs if a != b]
        checks.append(Check("labels", not wrong, detail="; ".join(wrong[:3]) or f"{len(names)}, in the model's order"))
    return checks


def _check_sums(directory: Path) -> Check:
    wrong = artifact_paths.check_sums(directory)
    detail = "; ".join(wrong[:3]) or f"{len(artifact_paths.files(directory))} files unchanged"
    return Check(artifact_paths.SUMS, not wrong, detail=detail)


def _check_signatures(signatures: dict[str, Any]) -> list[Check]:
    checks = []
    for name, seen in sorted(signatures.items(), key=lambda item: item[0] != "serving_default"):
        if "error" in seen:
            checks.append(Check(name, False, detail=one_line(RuntimeError(seen["error"]), 300)))
            continue
        for batch, rows in seen["batches"].items():
            for row in rows:
                title = f"{name} {row['output']}, batch {batch}"
                checks.append(Check(title, row["passed"], row["difference"], row["detail"], row["allowed"]))
        if seen["accuracy"]:
            checks.append(Check(f"{name}, accuracy", seen["accuracy"]["passed"], detail=seen["accuracy"]["detail"]))
        detail = one_line(RuntimeError(seen["empty"]["detail"]), 300)
        checks.append(Check(f"{name}, empty batch", seen["empty"]["passed"], detail=detail))
    return checks


def _replay(directory: Path, python: str | Path | None, sample: dict[str, str]) -> dict[str, Any]:
    """Runs replay.py in a process of its own; returns what it printed, or {"error": ...}."""
    script = Path(replay.__file__)
    return comparison.run_script(script, [str(directory.absolute()), json.dumps(sample)], "REPLAY ", python)


def _check_contract(graph: Any) -> Check:
    """Checks types and batch dimension of every signature."""
    wrong = _contract(graph, ("serving_default", "predict"))
    return Check("signature contract", not wrong, detail="; ".join(wrong[:3]) or "named, dynamic batch, plain types")


def _contract(graph: Any, needed: Sequence[str] = ("serving_default",)) -> list[str]:
    """Returns what of the signatures breaks the contract of an artifact, a sentence each."""
    wrong = []
    for name, signature in graph.signature_def.items():
        if name == operations.INIT:
            continue
        for kind, tensors in (("input", signature.inputs), ("output", signature.outputs)):
            for key, info in tensors.items():
                dtype = operations.type_name(info)
                if dtype not in _EDGE_TYPES:
                    wrong.append(f"{kind} {key} of {name} is {dtype}, expected one of {', '.join(_EDGE_TYPES)}")
                if not info.tensor_shape.unknown_rank and (
                    not info.tensor_shape.dim or info.tensor_shape.dim[0].size != -1
                ):
                    wrong.append(f"{kind} {key} of {name} has a fixed batch")
    wrong += [f"there is no {name}" for name in needed if name not in graph.signature_def]
    return wrong
