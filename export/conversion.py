"""Conversion: writes one signature of a SavedModel as a file for another runtime, and compares it before publishing."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from zoo import storage
from zoo.errors import UsageError, did_you_mean, one_line, printable
from zoo.export import artifact_paths, foreign, publishing, scratch, verification
from zoo.export.inspection import operations
from zoo.export.inspection.description import known_facts
from zoo.export.runtimes import comparison, runtimes
from zoo.export.verdict import Verification


def formats() -> dict[str, str]:
    """Returns the name of the runtime for each format.

    Example:
        >>> formats()["onnx"]
        'onnxruntime'
    """
    return {runtime.format: name for name, runtime in runtimes().items() if runtime.format}


def convert(
    path: str | Path,
    to: str,
    *,
    signature: str | None = None,
    sequence_length: int | None = None,
    output: str | Path | None = None,
) -> Path:
    """Converts one signature of a SavedModel to a file for another runtime, and publishes it if the outputs agree.

    The runtime loads the file in another process and computes the artifact's golden examples, or generated inputs if
    there are none. Inputs and outputs keep the signature's names; numbers stay float32.

    Args:
        path: a version folder, its parent folder (the newest version is converted), or a run directory.
        to: `onnx`, `openvino`, `litert`; or `savedmodel`, for other converters that read only `serving_default`.
        signature: name of the signature; by default the one that zoo.json names for conversion, else `serving_default`.
        sequence_length: size for every unknown dimension except the batch.
        output: folder for the converted model, which gets a new version; by default NAME-onnx next to NAME.

    Returns:
        The version folder, with model.onnx, or model.xml and model.bin, or model.tflite, or saved_model.pb and
        variables/; labels.txt if the artifact has it; README.md, verification.json and SHA256SUMS.

    Raises:
        UsageError: the model cannot be converted (the message gives the reason and what to try), or the outputs differ.
            Nothing is published.

    Example:
        >>> zoo.export.convert("exports/digits", "onnx")
        PosixPath('exports/digits-onnx/1')
    """
    if to not in formats():
        raise UsageError(f"Unknown format {to!r}. {did_you_mean(to, formats())}")
    if sequence_length is not None and sequence_length < 1:
        raise UsageError(f"sequence_length is {sequence_length}; expected at least 1. Try --sequence-length 50.")
    directory = artifact_paths.find(path)
    if storage.is_pattern(directory):
        raise UsageError(
            f"{directory.absolute()} contains one of * ? [ \\, which converters interpret as a pattern. Pass a path without "
            "it, such as that of a copy or of a link to the folder."
        )
    if changed := artifact_paths.changes(directory):
        raise UsageError(
            f"{directory} is not converted, because it has changed since its export: {'; '.join(changed[:3])}. "
            f"Pass an unchanged copy; `zoo verify {directory}` checks all of it."
        )
    base = Path(output) if output is not None else _beside(directory, to)
    publishing.check_folder(base)
    lacks = comparison.missing(formats()[to])
    if lacks:
        raise UsageError(f"Cannot convert to {to} on this machine: {lacks}. Install it, or try {_others(to)}.")
    name, question, proof = _question(directory, signature, sequence_length)
    _check_types(directory, name)
    try:
        with publishing.hidden_folder(base) as folder, scratch.folder() as temporary:
            converted, verdict = _convert(directory, to, name, question, sequence_length, folder, temporary)
            verdict = dataclasses.replace(verdict, proof=proof)
            _complete(directory, to, name, converted, verdict, folder)
            publishing.flush(folder)
            return publishing.publish(folder, base)
    except (OSError, tf.errors.OpError) as error:
        raise UsageError(
            f"Cannot write to {base}: {one_line(error)}. Nothing was published. Free disk space or pass another --output."
        ) from error


def summary(saved: Path) -> str:
    """Returns the table of checks that were made when a converted model was written."""
    return Verification.of(saved, saved / "verification.json").table()


def _beside(directory: Path, to: str) -> Path:
    """Returns NAME-onnx for NAME/1, and for a SavedModel directly in a folder NAME."""
    named = directory.absolute()
    named = named.parent if artifact_paths.is_version(named.name) else named
    return named.with_name(f"{named.name}-{to}")


def _question(directory: Path, signature: str | None, length: int | None) -> tuple[str, comparison.Question, bool]:
    """Returns the signature's name; its inputs and expected outputs; and whether these outputs are the trained model's.
    Otherwise TensorFlow computed them from the SavedModel."""
    graph = operations.read(directory)
    ops = operations.check(graph, ours=False)
    if not ops.passed:
        raise UsageError(
            f"{directory} is not converted, because it has dangerous ops: {ops.detail}. "
            f"`zoo describe {directory}` lists all of them."
        )
    names = [name for name in graph.signature_def if name != operations.INIT]
    if signature is not None and signature not in names:
        raise UsageError(f"{directory} has no signature {signature!r}. {did_you_mean(signature, names)}")
    portable = _portable(directory)
    if portable is not None and (directory / artifact_paths.EXTRA / "golden.npz").is_file():
        name = signature or portable
        _check_types(directory, name)  # before loading anything
        question = verification.questions(directory).get(name)
        if question is not None:
            if length is None or not _is_open(directory, name):
                return name, question, True
            return name, _fitted(directory, name, question, length), False
    elif signature is not None:
        _check_types(directory, signature)
    seen, questions = foreign.probe(directory, length=length)
    if "error" in seen:
        raise UsageError(f"{directory} cannot be loaded: {seen['error']}. Run `zoo verify {directory}` for details.")
    name = signature or foreign.portable_signature(questions)
    _check_types(directory, name)
    if name not in questions:
        raise UsageError(
            f"Signature {name!r} of {directory} cannot be compared: it gives the same outputs in two batch sizes for none "
            f"of the generated inputs. Run `zoo verify {directory}` for details, or pass another --signature."
        )
    return name, questions[name], False


def _is_open(directory: Path, name: str) -> bool:
    """Whether a dimension after the batch is unknown."""
    infos = operations.read(directory).signature_def[name].inputs.values()
    return any(dim.size == -1 for info in infos for dim in info.tensor_shape.dim[1:])


def _check_types(directory: Path, name: str) -> None:
    """Raises `UsageError` for a signature with strings, which no converter supports."""
    from tensorflow.python.framework import dtypes

    signatures = operations.read(directory).signature_def
    numeric = []
    for other, held in signatures.items():
        infos = {**held.inputs, **held.outputs}
        texts = [key for key, info in infos.items() if info.dtype == dtypes.string.as_datatype_enum]
        if other == name and texts:
            strings = ", ".join(texts)
        elif other != operations.INIT and not texts:
            numeric.append(other)
    if name in numeric:
        return
    if name not in signatures:
        raise UsageError(f"{directory} has no signature {name!r}. Pass one of {', '.join(numeric)} as --signature.")
    portable = _portable(directory)
    best = portable if portable in numeric else next(iter(numeric), "")
    why = f"cannot be converted, because it has strings as inputs or outputs ({strings}), whose ops only TensorFlow has"
    if not best:
        raise UsageError(f"Signature {name!r} {why}. Pass another SavedModel, with a numeric signature.")
    raise UsageError(f"Signature {name!r} {why}. Pass --signature {best}.")


def _fitted(directory: Path, name: str, question: comparison.Question, length: int) -> comparison.Question:
    """Returns the golden inputs with a fixed length, cut or extended by repeating the last step, and TensorFlow's
    outputs for them."""
    infos = operations.read(directory).signature_def[name].inputs
    inputs = {}
    for key, value in question.inputs.items():
        for axis, dim in list(enumerate(infos[key].tensor_shape.dim))[1:]:
            if dim.size == -1:
                value = value.take(np.minimum(np.arange(length), value.shape[axis] - 1), axis=axis)
        inputs[key] = value
    with scratch.folder() as folder:
        request = {"model": None, "signature": name, "file": str(directory.absolute()), "sizes": (64,)}
        answered = comparison.ask("tensorflow", request, inputs, folder)
    if "answers" not in answered:
        why = answered.get("error") or answered.get("cannot")
        raise UsageError(f"Signature {name!r} rejects a length of {length}: {why}. Pass another --sequence-length.")
    return comparison.Question({k: v[:64] for k, v in inputs.items()}, answered["answers"][64])


def _convert(
    directory: Path,
    to: str,
    name: str,
    question: comparison.Question,
    length: int | None,
    folder: Path,
    temporary: Path,
) -> tuple[dict[str, Any], Verification]:
    """Writes the model's file; returns the fixed sizes, and the verdict of another process than the converter's."""
    reader, refusals = formats()[to], []
    runtime = runtimes()[reader]
    file = folder / runtime.file
    model = directory.absolute()
    if runtime.one_signature:
        model = comparison.single_signature(directory, name, temporary / "model")
    for batch, steps in comparison.plans(runtime, length):
        request = {"signature": name, "file": str(file), "batch": batch, "length": steps, "sizes": question.sizes}
        converted = comparison.ask(reader, request | {"model": str(model)}, {}, temporary)
        if "version" in converted and "cannot" not in converted:
            answered = comparison.ask(reader, request | {"model": None}, question.inputs, temporary)
            answered = comparison.by_signature(name, answered)
            outcome = comparison.judged(reader, directory, {name: question}, answered, promised=True)
            if outcome.state == "agrees":
                versions = {reader: converted["version"], "tensorflow": tf.__version__}
                return converted, Verification(folder, outcome.checks, versions, {reader: outcome.state})
            why = answered.get("cannot") or answered.get("error") or outcome.checks[0].detail
            refusals.append(f"the converted file {'does not run' if 'answers' not in answered else 'is wrong'}: {why}")
        else:
            refusals.append(converted.get("cannot") or converted["error"])
    fixed, portable = "", _portable(directory)
    if portable not in (None, name):
        fixed = f"--signature {portable}, or "
    elif length is None and _is_open(directory, name):
        usual = next((v.shape[1] for v in question.inputs.values() if v.ndim > 1), 50)
        fixed = f"--sequence-length {usual}, or "
    raise UsageError(
        f"Signature {name!r} cannot be converted to {to}, because {refusals[0]}. Try {fixed}{_others(to)}."
    )


def _portable(directory: Path) -> str | None:
    """Returns the signature that zoo.json names for conversion; None if there is no readable zoo.json.

    A third-party zoo.json may have any content, so the name is only used if such a signature exists.
    """
    try:
        facts = storage.read_json(directory / artifact_paths.EXTRA / "zoo.json")
    except (OSError, ValueError):
        return None
    name = facts.get("portable_signature", "predict") if isinstance(facts, dict) else None
    return name if isinstance(name, str) and name in operations.read(directory).signature_def else None


def _others(to: str) -> str:
    return " or ".join(f"--to {other}" for other in formats() if other != to)


def _complete(
    directory: Path, to: str, name: str, converted: Mapping[str, Any], verdict: Verification, folder: Path
) -> None:
    """Writes the other files of a converted model, SHA256SUMS last."""
    for file in _companions(directory):
        if not (folder / file.name).exists():  # a third-party asset may have the name of the converted file
            shutil.copy(file, folder / file.name)
    source = {**_origin(directory), "signature": name}
    content = {"source": source, "compared_with": _compared_with(converted, verdict), **verdict.to_dict()}
    storage.write_json(folder / "verification.json", content)
    storage.write_text(folder / "README.md", _readme(directory, to, name, converted, verdict))
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    sums = [f"{storage.sha256(file)}  {file.relative_to(folder).as_posix()}\n" for file in files]
    storage.write_text(folder / artifact_paths.SUMS, "".join(sums))


def _origin(directory: Path) -> dict[str, Any]:
    """Returns what identifies a SavedModel: its version, hashes of its graph and of all its files, and the run's id."""
    name, sums = directory.absolute().name, directory / artifact_paths.EXTRA / artifact_paths.SUMS
    return {
        "folder": "/".join(directory.absolute().parts[-2:]),
        "version": int(name) if artifact_paths.is_version(name) else None,
        "sha256": storage.sha256(directory / "saved_model.pb"),
        "sha256sums_sha256": storage.sha256(sums) if sums.is_file() else None,
        "run_id": (known_facts(directory).get("lineage") or {}).get("run_id"),
    }


def _readme(directory: Path, to: str, name: str, converted: Mapping[str, Any], verdict: Verification) -> str:
    """Returns the README.md of a converted model."""
    signature = operations.read(directory).signature_def[name]
    runtime, length, batch = runtimes()[formats()[to]], converted["length"], converted["batch"]
    sides, examples = [], []
    for title, infos in (("input", signature.inputs), ("output", signature.outputs)):
        for key, info in sorted(infos.items()):
            dtype, dims = operations.type_name(info), [dim.size for dim in info.tensor_shape.dim]
            shape = [
                str(batch or "batch") if i == 0 else str(length or "any") if d == -1 else str(d)
                for i, d in enumerate(dims)
            ]
            sides.append(f"| {title} | `{printable(key)}` | {dtype} | {', '.join(shape)} |")
            if title == "input":
                sizes = tuple(1 if i == 0 else (length or 8) if d == -1 else d for i, d in enumerate(dims))
                examples.append(f"{key!r}: np.zeros({sizes}, {_numpy_type(dtype)})")
    request = [line.format(inputs=", ".join(examples)) for line in runtime.sample]
    request = (["import ml_dtypes"] if any("ml_dtypes." in line for line in request) else []) + request
    fixed = [f"the {what} is fixed to {size}" for what, size in (("batch", batch), ("length", length)) if size]
    line = verdict.checks[0]
    lines = [
        f"# {_title(directory)} for {runtime.title}",
        "",
        f"`{runtime.file}` is the signature `{name}` of a SavedModel" + (f"; {' and '.join(fixed)}." if fixed else "."),
        *([f"It was made from version {version}."] if (version := _origin(directory)["version"]) is not None else []),
        *(["Line n of `labels.txt`, counted from 0, is the label of class n."] if _has_labels(directory) else []),
        *(["`zoo.json` describes how to make the inputs from raw data."] if known_facts(directory) else []),
        "",
        "| | name | type | shape |",
        "|---|---|---|---|",
        *sides,
        "",
        "```python",
        *request,
        "```",
        "",
        f"Before this folder was published, {runtime.title} {converted['version']} loaded the file in a separate process. "
        f"Its outputs were compared with {_compared_with(converted, verdict)}. The largest difference was "
        f"{line.difference:.2g} (`verification.json`). `sha256sum --check SHA256SUMS` shows whether a file has changed "
        "since.",
    ]
    return "\n".join(lines) + "\n"


def _compared_with(converted: Mapping[str, Any], verdict: Verification) -> str:
    """Returns a phrase for the outputs that a converted model was compared with."""
    if verdict.proof:
        return "the trained model's outputs for the golden examples of the SavedModel"
    return "TensorFlow's outputs of the SavedModel for generated inputs, which does not prove equality with a trained model"


def _numpy_type(dtype: str) -> str:
    """Returns a type as Python code; types that NumPy lacks are in ml_dtypes, which TensorFlow installs."""
    return f"np.{np.dtype(dtype).type.__name__}" if dtype in np.sctypeDict else f"ml_dtypes.{dtype}"


def _companions(directory: Path) -> list[Path]:
    """Returns the files of a SavedModel that explain its inputs and outputs: labels, vocabularies, zoo.json."""
    files = [*sorted((directory / "assets").glob("*")), directory / artifact_paths.EXTRA / "zoo.json"]
    return [file for file in files if file.is_file() and not file.is_symlink()]


def _title(directory: Path) -> str:
    """Returns the names of the model and its data, or of the folder if they are unknown."""
    facts = known_facts(directory)
    if "model" in facts and isinstance(facts.get("data", {}).get("name"), str):
        return printable(f"{facts['model']['name']} of {facts['data']['name']}")
    return "/".join(directory.absolute().parts[-2:])


def _has_labels(directory: Path) -> bool:
    return (directory / "assets" / "labels.txt").is_file()
