"""Verification: an artifact computes what was trained, shown in a process that has nothing of ours."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from zoo.export import layout

from zoo import storage
from zoo.errors import UsageError

TOLERANCE = 1e-5
"""Largest difference, relative to the larger of 1 and the value, between the live model and TensorFlow on the artifact."""

_EDGE_TYPES = ("float32", "int32", "int64", "string")
_REFUSED_OPS = ("PyFunc", "PyFuncStateless", "EagerPyFunc", "ReadFile", "WriteFile")


@dataclasses.dataclass(frozen=True)
class Check:
    """One line of a verdict: what was checked, whether it held, the largest difference where numbers were compared."""

    name: str
    passed: bool
    difference: float | None = None
    detail: str = ""


@dataclasses.dataclass(frozen=True)
class Verification:
    """The verdict on an artifact.

    Attributes:
        path: the version folder.
        checks: what was checked.
        runtime: versions of what it was checked with.
    """

    path: Path
    checks: tuple[Check, ...]
    runtime: dict[str, str]

    @property
    def passed(self) -> bool:
        """Whether every check held."""
        return all(check.passed for check in self.checks)

    @property
    def failures(self) -> str:
        """The checks that did not hold, in one line."""
        return "; ".join(f"{c.name}: {_outcome(c)}" for c in self.checks if not c.passed)

    def to_dict(self) -> dict[str, Any]:
        """Returns the contents of verification.json."""
        return {
            "passed": self.passed,
            "tolerance": TOLERANCE,
            "runtime": self.runtime,
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "checks": [dataclasses.asdict(check) for check in self.checks],
        }

    @classmethod
    def read(cls, directory: Path) -> Verification:
        """Reads the verdict that was reached when the artifact was written, without checking anything again."""
        content = storage.read_json(directory / layout.EXTRA / "verification.json")
        return cls(directory, tuple(Check(**check) for check in content["checks"]), content["runtime"])

    def table(self) -> str:
        """Returns the verdict as a table for a terminal."""
        width = max(len(check.name) for check in self.checks)
        lines = [f"{'ok' if c.passed else 'FAILED':<7}{c.name:<{width}}  {_outcome(c)}" for c in self.checks]
        verdict = "verified" if self.passed else "NOT VERIFIED"
        versions = ", ".join(f"{name} {version}" for name, version in self.runtime.items())
        return "\n".join([*lines, f"{self.path}: {verdict} ({versions})"])


def _outcome(check: Check) -> str:
    shown = [] if check.difference is None else [f"largest difference {check.difference:.2g}"]
    return ", ".join([*shown, *([check.detail] if check.detail else [])])


def verify(path: str | Path) -> Verification:
    """Checks a published artifact against its own proof; nothing in it is changed.

    Its files are compared with SHA256SUMS. Then a clean process, in which neither Keras nor this package can be imported,
    loads it and replays its golden examples through every signature at two batch sizes.

    Args:
        path: a version folder, the folder above it (then the newest version counts), or a run.

    Returns:
        The verdict; `passed` says whether all of it held.

    Raises:
        UsageError: there is no SavedModel, or it carries no golden examples.

    Example:
        >>> print(zoo.export.verify("exports/digits").table())
    """
    return check(layout.find(path), sums=True)


def check(directory: Path, *, sums: bool) -> Verification:
    """Verifies a version folder; `sums=False` while it is being written and its sums are still to come."""
    if not (directory / layout.EXTRA / "golden.npz").is_file():
        raise UsageError(
            f"{directory} carries no {layout.EXTRA}/golden.npz, so there is nothing to compare with. "
            "`zoo export` writes SavedModels that carry it."
        )
    checks = [_check_sums(directory)] if sums else []
    replayed = _replay(directory)
    if "error" in replayed:
        checks.append(Check("loads in a clean process", False, detail=replayed["error"]))
        return Verification(directory, tuple(checks), {"python": sys.version.split()[0]})
    leaked = replayed["leaked"]
    detail = f"imported {', '.join(leaked[:3])}" if leaked else "neither keras nor zoo can be imported there"
    checks.append(Check("clean process", not leaked, detail=detail))
    checks += _check_signatures(replayed["signatures"])
    if "accuracy" in replayed:
        artifact, live = replayed["accuracy"]["artifact"], replayed["accuracy"]["live"]
        detail = f"artifact {artifact:.4f}, live model {live:.4f}"
        checks.append(Check("accuracy on the golden examples", artifact == live, detail=detail))
    checks += _check_contract(directory)
    return Verification(
        directory, tuple(checks), {"tensorflow": replayed["tensorflow"], "python": sys.version.split()[0]}
    )


def _check_sums(directory: Path) -> Check:
    if not (directory / layout.EXTRA / layout.SUMS).is_file():
        return Check(layout.SUMS, False, detail="missing")
    wrong = layout.check_sums(directory)
    return Check(
        layout.SUMS, not wrong, detail="; ".join(wrong[:3]) or f"{len(layout.files(directory))} files unchanged"
    )


def _check_signatures(signatures: dict[str, Any]) -> list[Check]:
    checks = []
    for name, seen in sorted(signatures.items(), key=lambda item: item[0] != "serving_default"):
        if "error" in seen:
            checks.append(Check(name, False, detail=seen["error"]))
            continue
        for batch, rows in seen["batches"].items():
            for row in rows:
                title = f"{name} {row['output']}, batch {batch}"
                checks.append(
                    Check(title, row["passed"], row["difference"] if not row["detail"] else None, row["detail"])
                )
        checks.append(Check(f"{name}, empty batch", seen["empty"]["passed"], detail=seen["empty"]["detail"]))
    return checks


def _replay(directory: Path) -> dict[str, Any]:
    """Runs replay.py in a process of its own; returns what it printed, or {"error": ...}."""
    script = Path(__file__).with_name("replay.py")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TF_FORCE_")}
    environment |= {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONSAFEPATH": "1"}
    command = [sys.executable, str(script), str(directory.resolve()), str(TOLERANCE)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace", check=False)
    answer = [line for line in done.stdout.splitlines() if line.startswith("REPLAY ")]
    if done.returncode or not answer:
        last = [line for line in done.stderr.splitlines() if line.strip()][-1:] or ["no message"]
        return {"error": f"exit status {done.returncode}: {last[0].strip()[:300]}"}
    result: dict[str, Any] = json.loads(answer[0].removeprefix("REPLAY "))
    return result


def _check_contract(directory: Path) -> list[Check]:
    """Checks the graph itself: types and batch dimension of every signature, and the ops it uses."""
    from tensorflow.core.protobuf import saved_model_pb2
    from tensorflow.python.framework import dtypes

    proto = saved_model_pb2.SavedModel()
    proto.ParseFromString((directory / "saved_model.pb").read_bytes())
    graph = proto.meta_graphs[0]
    wrong = []
    for name, signature in graph.signature_def.items():
        if name == "__saved_model_init_op":
            continue
        for kind, tensors in (("input", signature.inputs), ("output", signature.outputs)):
            for key, info in tensors.items():
                dtype = dtypes.as_dtype(info.dtype).name
                if dtype not in _EDGE_TYPES:
                    wrong.append(f"{kind} {key} of {name} is {dtype}, expected one of {', '.join(_EDGE_TYPES)}")
                if not info.tensor_shape.unknown_rank and (
                    not info.tensor_shape.dim or info.tensor_shape.dim[0].size != -1
                ):
                    wrong.append(f"{kind} {key} of {name} has a fixed batch")
    if "serving_default" not in graph.signature_def:
        wrong.append("there is no serving_default")
    signatures = Check(
        "signature contract", not wrong, detail="; ".join(wrong[:3]) or "named, dynamic batch, plain types"
    )
    ops = {node.op for node in graph.graph_def.node}
    ops |= {node.op for function in graph.graph_def.library.function for node in function.node_def}
    refused = sorted(ops & set(_REFUSED_OPS))
    detail = f"uses {', '.join(refused)}" if refused else f"{len(ops)} kinds, all of TensorFlow's core"
    return [signatures, Check("ops", not refused, detail=detail)]
