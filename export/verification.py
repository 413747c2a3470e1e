"""Verification: an artifact computes what was trained, shown in a process that has nothing of ours."""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from zoo import storage
from zoo.errors import UsageError, one_line
from zoo.export import layout

TOLERANCE = 1e-5
"""Largest difference between the live model and TensorFlow on the artifact, relative to the larger of 1 and the output's
largest value."""

_EDGE_TYPES = ("float32", "int32", "int64", "string")
_REFUSED_OPS = (
    *("PyFunc", "PyFuncStateless", "EagerPyFunc", "ReadFile", "WriteFile"),
    *("CudnnRNN", "CudnnRNNV2", "CudnnRNNV3"),  # run on no CPU
)


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
    def read(cls, path: str | Path) -> Verification:
        """Reads the verdict that was reached when the artifact was written, without checking anything again.

        Args:
            path: a version folder, the folder above it (then the newest version counts), or a run.

        Raises:
            UsageError: there is no SavedModel, or it carries no verdict.
        """
        directory = layout.find(path)
        file = directory / layout.EXTRA / "verification.json"
        if not file.is_file():
            raise UsageError(f"{directory} carries no verdict. `zoo export` writes SavedModels that carry one.")
        content = storage.read_json(file)
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
    loads it and replays its golden examples through every signature at two batch sizes; the weights that it loaded and
    the labels are compared with zoo.json.

    Args:
        path: a version folder, the folder above it (then the newest version counts), or a run.

    Returns:
        The verdict; `passed` says whether all of it held.

    Raises:
        UsageError: there is no SavedModel, or it carries no golden examples or no zoo.json.

    Example:
        >>> print(zoo.export.verify("exports/digits").table())
    """
    return check(layout.find(path), sums=True)


def check(directory: Path, *, sums: bool) -> Verification:
    """Verifies a version folder; `sums=False` while it is being written and its sums are still to come."""
    for name in ("golden.npz", "zoo.json"):
        if not (directory / layout.EXTRA / name).is_file():
            raise UsageError(
                f"{directory} carries no {layout.EXTRA}/{name}, so there is nothing to compare with. "
                "`zoo export` writes SavedModels that carry it."
            )
    checks = [_check_sums(directory)] if sums else []
    runtime = {"python": sys.version.split()[0]}
    replayed = _replay(directory)
    if "error" in replayed:
        checks.append(Check("replay in a clean process", False, detail=replayed["error"]))
        return Verification(directory, tuple(checks), runtime)
    leaked = replayed["leaked"]
    detail = f"imported {', '.join(leaked[:3])}" if leaked else "neither keras nor zoo can be imported there"
    checks.append(Check("clean process", not leaked, detail=detail))
    checks += _check_signatures(replayed["signatures"])
    checks += _check_facts(directory, replayed["weights"])
    checks += _check_contract(directory)
    return Verification(directory, tuple(checks), {"tensorflow": replayed["tensorflow"], **runtime})


def _check_facts(directory: Path, weights: dict[str, Any]) -> list[Check]:
    """Checks what zoo.json says of the model: by the examples alone, a weight or a label that none of them needs could be
    wrong unseen."""
    facts = storage.read_json(directory / layout.EXTRA / "zoo.json")
    same = weights["sha256"] == facts.get("weights_sha256")
    detail = "bit by bit the live model's" if same else "not those of the live model"
    checks = [Check("weights", same, detail=f"{weights['count']} tensors, {detail}")]
    names = facts["class_names"]
    if names:
        file = directory / "assets" / "labels.txt"
        held = file.read_text(encoding="utf-8", errors="replace").split("\n")[:-1] if file.is_file() else []
        pairs = enumerate(itertools.zip_longest(held, names), 1)
        wrong = [f"line {i} is {a!r}, expected {b!r}" for i, (a, b) in pairs if a != b]
        checks.append(Check("labels", not wrong, detail="; ".join(wrong[:3]) or f"{len(names)}, in the model's order"))
    return checks


def _check_sums(directory: Path) -> Check:
    wrong = layout.check_sums(directory)
    detail = "; ".join(wrong[:3]) or f"{len(layout.files(directory))} files unchanged"
    return Check(layout.SUMS, not wrong, detail=detail)


def _check_signatures(signatures: dict[str, Any]) -> list[Check]:
    checks = []
    for name, seen in sorted(signatures.items(), key=lambda item: item[0] != "serving_default"):
        if "error" in seen:
            checks.append(Check(name, False, detail=one_line(RuntimeError(seen["error"]), 300)))
            continue
        for batch, rows in seen["batches"].items():
            for row in rows:
                title = f"{name} {row['output']}, batch {batch}"
                checks.append(Check(title, row["passed"], row["difference"], row["detail"]))
        detail = one_line(RuntimeError(seen["empty"]["detail"]), 300)
        checks.append(Check(f"{name}, empty batch", seen["empty"]["passed"], detail=detail))
    return checks


def _replay(directory: Path) -> dict[str, Any]:
    """Runs replay.py in a process of its own; returns what it printed, or {"error": ...}."""
    script = Path(__file__).with_name("replay.py")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TF_FORCE_")}
    environment |= {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONSAFEPATH": "1"}
    command = [sys.executable, str(script), str(directory.absolute()), str(TOLERANCE)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace", check=False)
    answer = [line for line in done.stdout.splitlines() if line.startswith("REPLAY ")]
    if done.returncode or not answer:
        last = [line for line in done.stderr.splitlines() if line.strip()][-1:] or ["no message"]
        return {"error": f"exit status {done.returncode}: {last[0].strip()[:300]}"}
    result: dict[str, Any] = json.loads(answer[0].removeprefix("REPLAY "))
    if "error" in result:
        result["error"] = one_line(RuntimeError(result["error"]), 300)
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
