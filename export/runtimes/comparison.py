"""Compares other runtimes with TensorFlow in Python: OpenVINO, ONNX Runtime, LiteRT, and a C program on TensorFlow's C API.

Each one converts and runs in a separate process, because converters may crash, abort or hang. The outputs are always
compared, because a conversion without errors proves nothing.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoo import storage
from zoo.errors import UsageError, did_you_mean, one_line
from zoo.export import scratch
from zoo.export.inspection import operations
from zoo.export.runtimes import runtimes, source
from zoo.export.standalone import arrays, convert_worker, tensorflow_runtime
from zoo.export.standalone import compare as comparing
from zoo.export.standalone.runtime import Runtime
from zoo.export.verdict import Check

TIME_LIMIT = 900.0
"""Time limit of a conversion in seconds."""

BATCHES = (64, 3)


@dataclasses.dataclass(frozen=True)
class Question:
    """Inputs of a signature and the expected outputs.

    Attributes:
        inputs: arrays by name, strings as objects.
        outputs: expected arrays by name, strings as objects.
        sizes: batch sizes; empty for one call with all rows.
        targets: the correct class numbers, if known.
        tolerance: the allowed difference between the SavedModel itself and these outputs.
        decided: what the task decided after the training, such as the thresholds of labels.
    """

    inputs: Mapping[str, np.ndarray]
    outputs: Mapping[str, np.ndarray]
    sizes: tuple[int, ...] = BATCHES
    targets: np.ndarray | None = None
    tolerance: float = 0.0
    decided: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The result of a runtime: check lines, a state (`agrees`, `differs`, `cannot be converted` or `not installed`), and
    the runtime's version."""

    checks: tuple[Check, ...]
    state: str
    version: str = ""


def portions(inputs: Mapping[str, np.ndarray], sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Returns a list of (batch size, number of rows); (0, 0) means all rows in one call."""
    if not sizes:
        return [(0, 0)]
    count = len(next(iter(inputs.values())))
    return [(size, min(count, 8 if size == 1 else 64 if size == max(sizes) else 16)) for size in sizes]


def chosen(names: str | Sequence[str]) -> tuple[tuple[str, ...], bool]:
    """Returns the names of runtimes, and whether they were named explicitly.

    Args:
        names: "installed", or names; an empty sequence means TensorFlow alone.

    Raises:
        UsageError: a name is unknown.
    """
    if names == "installed":
        return tuple(name for name, runtime in runtimes().items() if runtime.verifies), False
    names = (names,) if isinstance(names, str) else tuple(names)
    for name in names:
        if name not in runtimes():
            raise UsageError(f"Unknown runtime {name!r}. {did_you_mean(name, runtimes())}")
    return tuple(dict.fromkeys(names)), True


def require(asked: str | Sequence[str]) -> None:
    """Raises `UsageError` for named runtimes that are unknown or not installed, before a long computation starts."""
    names, explicit = chosen(asked)
    for name in names if explicit else ():
        if lacks := missing(name):
            raise UsageError(
                f"{runtimes()[name].title} cannot run on this machine: {lacks}. Or leave {name} out of the runtimes."
            )


def missing(name: str) -> str | None:
    """Returns a message about what a runtime lacks on this machine and how to install it, or None."""
    runtime = runtimes()[name]
    if runtime.missing is not None:
        return runtime.missing()
    absent = [module for module in runtime.modules if not _is_installed(module)]
    return f"{', '.join(absent)} not installed; run `pip install {' '.join(absent)}`" if absent else None


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:
        return False


def compare(
    name: str, directory: Path, questions: Mapping[str, Question], portable: str, labels: list[bytes], promised: bool
) -> Outcome:
    """Runs the same inputs as in TensorFlow in a runtime, in two batch sizes, and compares the outputs.

    Args:
        name: a name in `runtimes()`.
        directory: the SavedModel.
        questions: inputs and expected outputs by signature.
        portable: the signature for runtimes that convert; other runtimes run all signatures.
        labels: the labels of the artifact, for ties.
        promised: whether it is a failure if the runtime is not installed or cannot convert the model.
    """
    runtime = runtimes()[name]
    title = runtime.title
    lacks = missing(name)
    if lacks:
        return Outcome((Check(title, False if promised else None, detail=lacks),), "not installed")
    asked = questions if runtime.answer_all else {k: v for k, v in questions.items() if k == portable}
    if not asked:
        check = Check(title, False if promised else None, detail=f"there are no examples for the signature {portable}")
        return Outcome((check,), "cannot be converted")
    with scratch.folder() as folder:
        if runtime.answer_all:
            given = {k: (question.inputs, portions(question.inputs, question.sizes)) for k, question in asked.items()}
            answered = runtime.answer_all(directory, given, folder)
        else:
            answered = _converted(name, directory, portable, asked[portable], folder)
    return judged(name, directory, asked, answered, promised, labels)


def judged(
    name: str,
    directory: Path,
    asked: Mapping[str, Question],
    answered: Mapping[str, Any],
    promised: bool,
    labels: Sequence[bytes] = (),
) -> Outcome:
    """Returns the result of a runtime, given its `answered`: `cannot` or `error` with a reason, or `version` and `answers`
    by signature and batch size."""
    runtime, first = runtimes()[name], next(iter(asked))
    title = runtime.title
    if "cannot" in answered:
        why = f"cannot be converted, because {answered['cannot']}"
        return Outcome((Check(f"{title} {first}", False if promised else None, detail=why),), "cannot be converted")
    if "error" in answered:
        return Outcome((Check(f"{title} {first}", False, detail=answered["error"]),), "differs")
    dynamic, checks = _dynamic(directory), []
    # If an example has several labels, as in `top_k`, all of its probabilities are needed to find ties.
    known = asked["serving_default"].outputs.get("probabilities") if "serving_default" in asked else None
    known = known if known is not None and known.ndim == 2 and known.shape[1] == len(labels) else None
    for signature, question in asked.items():
        allowed: dict[str, Any] = {
            "tolerance": max(runtime.tolerance, question.tolerance),
            "decided": question.decided,
        }
        rows = functools.partial(comparing.compare, labels=list(labels), known=known, **allowed)
        given = answered["answers"][signature]
        checks.append(_check(f"{title} {signature}", question, given, dynamic[signature], rows, answered))
        checks += _accuracy(f"{title} {signature}, accuracy", question, given, list(labels), runtime.tolerance)
    state = "agrees" if all(check.passed for check in checks) else "differs"
    return Outcome(tuple(checks), state, answered["version"])


def _converted(name: str, directory: Path, signature: str, question: Question, folder: Path) -> dict[str, Any]:
    """Converts one signature and computes its outputs, or returns {"cannot": ...} or {"error": ...}."""
    texts = [key for key, value in [*question.inputs.items(), *question.outputs.items()] if value.dtype == object]
    if texts:
        return {
            "cannot": f"{signature} has strings as inputs or outputs ({', '.join(texts)}), which no converter supports"
        }
    request: dict[str, Any] = {"model": str(directory.absolute()), "signature": signature, "sizes": question.sizes}
    runtime = runtimes()[name]
    request["file"] = str(folder / runtime.file)
    if runtime.one_signature:  # it reads the SavedModel directly
        request |= {"model": None, "file": str(single_signature(directory, signature, folder / "model"))}
    lengths = {size for value in question.inputs.values() for size in value.shape[1:2]}
    refusals, failures = [], []
    tried = plans(runtime, None, lengths.pop() if len(lengths) == 1 else None)
    for batch, length in tried if question.sizes else tried[:1]:
        outcome = ask(name, request | {"batch": batch, "length": length}, question.inputs, folder)
        if "answers" in outcome:
            return by_signature(signature, outcome)
        if "cannot" in outcome:
            refusals.append(outcome["cannot"])
        elif runtime.fails_late and "version" in outcome:  # an unsupported model fails only now
            refusals.append(f"the converted file does not run: {outcome['error']}")
        else:
            failures.append(f"was converted and loaded, but fails when it runs: {outcome['error']}")
    return {"error": failures[0]} if failures else {"cannot": refusals[0]}


def plans(runtime: Runtime, length: int | None, usual: int | None = None) -> list[tuple[int | None, int | None]]:
    """Returns the pairs (batch, length) of fixed sizes to try, in order: first only the requested sizes, then fixed ones, if
    the runtime needs them for some models. Each attempt has its own process, because an invalid file corrupts memory."""
    if not runtime.fixed_sizes:
        return [(None, length)]
    lengths = [length] if length is not None or usual is None else [None, usual]
    return [(batch, some) for batch in (None, 1) for some in lengths]


def by_signature(signature: str, outcome: dict[str, Any]) -> dict[str, Any]:
    """Converts a result of `ask` for one signature to the form that `judged` takes."""
    return outcome | ({"answers": {signature: outcome["answers"]}} if "answers" in outcome else {})


def ask(name: str, request: Mapping[str, Any], inputs: Mapping[str, np.ndarray], folder: Path) -> dict[str, Any]:
    """Runs the worker to convert a model, compute outputs, or both; see `convert_worker.py`.

    Args:
        name: a name in `runtimes()`, or `tensorflow`.
        request: `model` (a SavedModel to convert, or None), `signature`, `file` (to write or read), and optionally the
            fixed sizes `length` and `batch`.
        inputs: arrays by name; empty for a conversion alone.
        folder: folder for temporary files.

    Returns:
        The worker's result: `version`; the sizes `batch` and `length` that the conversion fixed; `answers` by batch size.
        On failure, `cannot` with a reason, or `error` if the model had been loaded.
    """
    questions, answers, order = folder / "inputs.npz", folder / "answers.npz", folder / "request.json"
    file = Path(tensorflow_runtime.__file__) if name == "tensorflow" else source(name)
    request = {
        "runtime": str(file),
        "length": None,
        "batch": None,
        "sizes": BATCHES,
        "inputs": str(questions) if inputs else None,
        "answers": str(answers),
        **request,
    }
    if inputs:
        arrays.save(questions, inputs)
        request["portions"] = portions(inputs, [request["batch"]] if request["batch"] else request["sizes"])
    storage.write_json(order, request)
    outcome = run_script(Path(convert_worker.__file__), [str(order)], "WORKER ", folder=folder)
    if "No space left on device" in str(outcome.get("cannot") or outcome.get("error")):
        raise scratch.full_disk(OSError("No space left on device"))
    if "error" in outcome and not outcome.get("loaded", True):
        outcome = {"cannot": f"the converter stopped with {outcome['error']}"}
    if outcome.pop("answered", False):
        values = arrays.load(answers)
        outcome["answers"] = {
            size: {k.split("/", 1)[1]: v for k, v in values.items() if k.startswith(f"{size}/")}
            for size, _ in request["portions"]
        }
    return outcome


def run_script(
    script: Path, words: Sequence[str], mark: str, python: str | Path | None = None, folder: Path | None = None
) -> dict[str, Any]:
    """Runs a script of `export/standalone` by its path in a separate process, with temporary files in `folder`. Returns the
    JSON object that the script prints after `mark`, or {"error": ...} if the process fails in any way."""
    # Without PYTHONSAFEPATH, so that the script can import its neighbours. The current folder is not on its path.
    kept = {k: v for k, v in os.environ.items() if not k.startswith("TF_FORCE_") and k != "PYTHONSAFEPATH"}
    environment = kept | {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment |= {"ZOO_PARENT": str(os.getpid())} | ({"TMPDIR": str(folder)} if folder else {})
    command = [str(python or sys.executable), str(script), *words]
    try:
        done = subprocess.run(
            command,
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=TIME_LIMIT,
        )
    except subprocess.TimeoutExpired as error:
        output = error.stdout if isinstance(error.stdout, bytes) else str(error.stdout or "").encode()
        return {"error": f"no answer after {TIME_LIMIT:.0f} seconds", "loaded": b"LOADED" in output.splitlines()}
    except OSError as error:
        return {"error": f"cannot run {command[0]}: {error.strerror}"}
    answer = [line for line in done.stdout.splitlines() if line.startswith(mark)]
    if done.returncode or not answer:
        last = [line for line in done.stderr.splitlines() if line.strip()][-1:] or ["no message"]
        how = f"exit status {done.returncode}"
        if done.returncode < 0:
            how = f"ended by {signal.Signals(-done.returncode).name}"
        return {"error": f"{how}: {last[0].strip()[:300]}", "loaded": "LOADED" in done.stdout.splitlines()}
    result: dict[str, Any] = json.loads(answer[-1].removeprefix(mark))
    if "error" in result:
        result["error"] = one_line(RuntimeError(result["error"]), 300)
    return result


def single_signature(directory: Path, signature: str, target: Path) -> Path:
    """Makes a SavedModel whose `serving_default` is a signature of another SavedModel, because OpenVINO reads only
    `serving_default`. Weights and assets are linked, not copied."""
    from tensorflow.core.protobuf import saved_model_pb2

    target.mkdir()
    graph = operations.read(directory)
    kept, init = graph.signature_def[signature], graph.signature_def.get(operations.INIT)
    proto = saved_model_pb2.SavedModel(saved_model_schema_version=1)
    proto.meta_graphs.add().CopyFrom(graph)
    table = proto.meta_graphs[0].signature_def
    table.clear()
    table["serving_default"].CopyFrom(kept)
    if init is not None:
        table[operations.INIT].CopyFrom(init)
    (target / "saved_model.pb").write_bytes(proto.SerializeToString())
    for name in ("variables", "assets"):
        if (directory / name).exists():
            (target / name).symlink_to((directory / name).resolve())
    return target


def _dynamic(directory: Path) -> dict[str, set[str]]:
    """Returns, by signature, the outputs whose second dimension is the number of steps."""
    found = {}
    for name, signature in operations.read(directory).signature_def.items():
        shapes = {key: [d.size for d in info.tensor_shape.dim] for key, info in signature.outputs.items()}
        found[name] = {key for key, shape in shapes.items() if len(shape) > 1 and shape[1] == -1}
    return found


def _check(
    title: str,
    question: Question,
    answers: Mapping[int, Mapping[str, np.ndarray]],
    dynamic: set[str],
    rows: Callable[..., list[dict[str, Any]]],
    answered: Mapping[str, Any],
) -> Check:
    """Compares a runtime's outputs in every batch size with the expected outputs."""
    wrong, numbers, ties = [], [], []
    batch = answered.get("batch")
    asked = portions(question.inputs, [batch] if batch else question.sizes)
    for size, count in asked:
        by_name = answers.get(size, {})
        got = {name: by_name[name] for name in question.outputs if name in by_name}
        # The requested number of rows, not the returned one.
        want = {name: value[:count] if size else value for name, value in question.outputs.items()}
        for name in dynamic & got.keys():
            want[name], got[name] = arrays.padded([want[name], got[name]])
        for row in rows(want, got):
            numbers += [(row["difference"], row["allowed"])] if row["difference"] is not None else []
            ties += [row["detail"]] if row["ties"] else []
            if not row["passed"]:
                place = f"at batch {size}" if size else ""
                wrong.append(" ".join(["differs in", row["output"], place, row["detail"]]).strip())
    sizes = " and ".join(str(min(size, count)) for size, count in asked)
    notes = [f"batches of {sizes}" if question.sizes else "one call with all rows", *ties]
    if batch:
        notes = [f"with the batch fixed to {batch}"]
    if answered.get("length"):
        notes.append(f"with the length fixed to {answered['length']}")
    # Of several outputs, the one with the largest difference relative to the allowed one.
    difference, allowed = max(numbers, key=lambda pair: pair[0] / pair[1], default=(None, None))
    return Check(title, not wrong, difference, "; ".join(wrong[:3] or notes), allowed)


def _accuracy(
    title: str,
    question: Question,
    answers: Mapping[int, Mapping[str, np.ndarray]],
    labels: list[bytes],
    tolerance: float,
) -> list[Check]:
    """Compares the number of correct examples of a runtime and the trained model, if the targets are known."""
    got, allowed = next(iter(answers.values()), {}), max(tolerance, question.tolerance)
    live = comparing.right({k: v for k, v in question.outputs.items() if k in got}, question.targets, labels, allowed)
    if not live:
        return []
    name = next(iter(live))
    rows = len(got[name]) if got[name].ndim else 0
    want = question.outputs[name][:rows]
    (known, _, close), mine = (
        comparing.right({name: value}, question.targets, labels, allowed).get(name, [0, 0, 0])
        for value in (want, got[name])
    )
    if want.dtype == object and want.shape == got[name].shape:
        close = int(np.sum(want != got[name]))  # other differences fail in the comparison of strings
    detail = f"{mine[0]} of {mine[1]} correct, trained model {known}"
    return [Check(title, abs(mine[0] - known) <= close, detail=detail)]
