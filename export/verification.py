"""Verification: compares an artifact with the trained model, in a process that cannot import this package."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zoo import storage
from zoo.errors import UsageError, one_line
from zoo.export import artifact_paths, foreign, scratch
from zoo.export.accuracy import Measured
from zoo.export.golden_questions import questions
from zoo.export.inspection import operations
from zoo.export.runtimes import comparison
from zoo.export.runtimes import runtimes as known_runtimes
from zoo.export.standalone import checks as standalone
from zoo.export.standalone import replay
from zoo.export.verdict import Check, Verification

__all__ = ["Check", "Verification", "check", "verify"]

_EDGE_TYPES = ("float32", "int32", "int64", "string", "bool")
_TYPES_OF_KERAS = (
    *_EDGE_TYPES,
    *("bool", "float64", "int8", "int16", "uint8", "uint16", "float16", "bfloat16"),
)
"""Types of a Keras model that is served as it is, which zoo.json says."""


def verify(
    path: str | Path, *, runtimes: str | Sequence[str] = "installed", python: str | Path | None = None
) -> Verification:
    """Checks a published artifact against its golden examples, without changing it.

    The files are compared with SHA256SUMS. Then a clean process, in which neither Keras nor this package can be imported,
    loads the SavedModel and replays the golden examples through every signature in two batch sizes. The loaded weights
    and the labels are compared with zoo.json. Other runtimes compute the same examples: OpenVINO, ONNX Runtime and LiteRT
    through the signature that zoo.json names for conversion, a C program through all signatures.

    A SavedModel without golden examples gets these checks: it loads, every signature gives the same outputs for generated
    inputs in two batch sizes, and other runtimes give the same outputs as TensorFlow.

    Args:
        path: a version folder, its parent folder (the newest version is checked), or a run directory.
        runtimes: "installed" for all installed runtimes; or names of `openvino`, `onnxruntime`, `litert`, `c_api`; () for
            TensorFlow alone. A runtime with other outputs fails. A runtime that cannot convert the model is reported; it
            fails if it was named here or agrees in the artifact's verification.json. A runtime that is not installed
            fails if it was named here; if it only agrees in verification.json, a line reports that nothing was compared.
        python: another Python interpreter, whose TensorFlow replays the examples.

    Returns:
        The verdict; `passed` tells whether all checks passed.

    Raises:
        UsageError: there is no SavedModel, part of its golden examples or metadata is missing, or a runtime's name is
            unknown.

    Example:
        >>> print(zoo.export.verify("exports/digits", runtimes=["openvino"]).table())
    """
    directory = artifact_paths.find(path)
    proof = [
        name for name in ("golden.npz", "zoo.json", "verification.json", artifact_paths.SUMS) if _extra(directory, name)
    ]
    with storage.without_pattern(directory) as plain:
        if proof:
            verdict = check(plain, sums=True, runtimes=runtimes, python=python)
        else:
            verdict = foreign.check(plain, _contract(operations.read(plain)), runtimes, python)
    return dataclasses.replace(verdict, path=directory)


def check(
    directory: Path,
    *,
    sums: bool,
    runtimes: str | Sequence[str] = (),
    python: str | Path | None = None,
    measured: Measured | None = None,
) -> Verification:
    """Verifies a version folder.

    Args:
        directory: the version folder.
        sums: whether to check SHA256SUMS; False while the artifact is being written.
        runtimes: as for `verify`.
        python: as for `verify`.
        measured: the trained model's figure on raw test examples, to compare the artifact with.
    """
    promised, named = _runtimes_of(directory, runtimes)
    checks = [_check_of(standalone.of_sums(str(directory)))] if sums else []
    versions = {"python": sys.version.split()[0]}
    lost = [f"{artifact_paths.EXTRA}/{name}" for name in ("golden.npz", "zoo.json") if not _extra(directory, name)]
    if lost:
        detail = "missing, so there is nothing to compare the outputs with; `zoo export` writes this file"
        return Verification(directory, (*checks, *(Check(name, False, detail=detail) for name in lost)), versions)
    try:
        graph = operations.read(directory)
        contract, ops = _check_contract(graph, _types(directory)), operations.check(graph)
    except Exception as error:  # noqa: BLE001, damaged bytes may raise any exception
        checks.append(Check("saved_model.pb", False, detail=one_line(error)))
        return Verification(directory, tuple(checks), versions)
    if not ops.passed:  # a dangerous model is not run, not even in a separate process
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
    checks += [_check_of(row) for row in standalone.of_signatures(replayed["signatures"])]
    checks += figures
    checks += [_check_of(row) for row in standalone.of_facts(str(directory), replayed["weights"])]
    checks += [contract, ops]
    versions = {"tensorflow": replayed["tensorflow"], "python": replayed["python"]}
    states: dict[str, str] = {}
    if promised:
        try:
            answered, states, found = _check_runtimes(directory, promised, named)
        except scratch.TemporaryFilesError:
            raise
        except (UsageError, ValueError, KeyError, TypeError, AttributeError) as error:  # invalid golden.npz or zoo.json
            answered, found = [Check("other runtimes", False, detail=one_line(error))], {}
        checks, versions = checks + answered, versions | found
    return Verification(directory, tuple(checks), versions, states)


def _extra(directory: Path, name: str) -> bool:
    return (directory / artifact_paths.EXTRA / name).is_file()


def _runtimes_of(directory: Path, asked: str | Sequence[str]) -> tuple[dict[str, bool], bool]:
    """Returns the runtimes to check, each with whether it must agree (it was named, or agrees in verification.json); and
    whether the runtimes were named."""
    names, explicit = comparison.chosen(asked)
    file, recorded = directory / artifact_paths.EXTRA / "verification.json", {}
    if names and file.is_file():
        try:
            recorded = dict(storage.read_json(file).get("runtimes") or {})
        except (OSError, ValueError, TypeError, AttributeError):  # a changed file: SHA256SUMS reports it
            recorded = {}
    return {name: explicit or recorded.get(name) == "agrees" for name in names}, explicit


def _check_runtimes(
    directory: Path, promised: dict[str, bool], named: bool
) -> tuple[list[Check], dict[str, str], dict[str, str]]:
    """Runs the golden examples in every runtime; returns check lines, and the state and version of each runtime."""
    facts = storage.read_json(directory / artifact_paths.EXTRA / "zoo.json")
    labels = [name.encode() for name in facts["class_names"]]
    portable = facts.get("portable_signature", "predict")
    asked = questions(directory)
    outcomes = {}
    for name, is_promised in promised.items():
        lacks = None if named else comparison.missing(name)
        if is_promised and lacks:  # it agreed on another machine; here nothing can be compared, which is not a failure
            detail = f"agreed at the export, but is not installed here, so nothing was compared ({lacks})"
            check = Check(known_runtimes()[name].title, None, detail=detail)
            outcomes[name] = comparison.Outcome((check,), "not installed")
        else:
            outcomes[name] = comparison.compare(name, directory, asked, portable, labels, is_promised)
    checks = [check for outcome in outcomes.values() for check in outcome.checks]
    versions = {name: outcome.version for name, outcome in outcomes.items() if outcome.version}
    return checks, {name: outcome.state for name, outcome in outcomes.items()}, versions


def _check_of(row: standalone.Row) -> Check:
    return Check(**{**row, "detail": row["detail"] and one_line(RuntimeError(row["detail"]))})


def _replay(directory: Path, python: str | Path | None, sample: dict[str, str]) -> dict[str, Any]:
    """Runs replay.py in a separate process; returns the object that it prints, or {"error": ...}."""
    script = Path(replay.__file__)
    return comparison.run_script(script, [str(directory.absolute()), json.dumps(sample)], "REPLAY ", python)


def _types(directory: Path) -> Sequence[str]:
    """Returns the types that the inputs and outputs of an artifact may have."""
    try:
        facts = storage.read_json(directory / artifact_paths.EXTRA / "zoo.json")
        return _TYPES_OF_KERAS if facts.get("types") == "as in Keras" else _EDGE_TYPES
    except (OSError, ValueError, AttributeError):  # the replay reports it
        return _EDGE_TYPES


def _check_contract(graph: Any, types: Sequence[str] = _EDGE_TYPES) -> Check:
    """Checks the types and the batch dimension of every signature."""
    wrong = _contract(graph, ("serving_default", "predict"), types)
    return Check("signature contract", not wrong, detail="; ".join(wrong[:3]) or "named, dynamic batch, plain types")


def _contract(
    graph: Any, needed: Sequence[str] = ("serving_default",), types: Sequence[str] = _EDGE_TYPES
) -> list[str]:
    """Returns one message for every violation of the signature contract."""
    wrong = []
    for name, signature in graph.signature_def.items():
        if name == operations.INIT:
            continue
        for kind, tensors in (("input", signature.inputs), ("output", signature.outputs)):
            for key, info in tensors.items():
                dtype = operations.type_name(info)
                if dtype not in types:
                    wrong.append(f"{kind} {key} of {name} is {dtype}, expected one of {', '.join(types)}")
                if not info.tensor_shape.unknown_rank and (
                    not info.tensor_shape.dim or info.tensor_shape.dim[0].size != -1
                ):
                    wrong.append(f"{kind} {key} of {name} has a fixed batch")
    wrong += [f"there is no {name}" for name in needed if name not in graph.signature_def]
    return wrong
