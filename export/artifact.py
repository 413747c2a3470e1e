"""Writing an artifact: complete, verified, then visible in one rename."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf
from zoo.export import layout
from zoo.export.card import model_card
from zoo.export.signatures import ServedModel, heads, model_input
from zoo.export.verification import Verification, check

from zoo import storage, tasks
from zoo._version import __version__
from zoo.errors import UsageError, one_line

if TYPE_CHECKING:
    from zoo.datasets.interface import Interface

_WRITING = ".writing-"


def save(
    model: keras.Model, interface: Interface, path: str | Path, *, report: Mapping[str, Any] | None = None
) -> Path:
    """Writes the next version of a SavedModel, verifies it, and only then makes it visible.

    Args:
        model: the trained Functional model.
        interface: what `data.prepare(...)` made: preprocessor, labels, golden examples.
        path: folder of the model; the SavedModel goes to its next version, `PATH/1` in a new folder.
        report: what `zoo.evaluate` returned, for the model card and zoo.json.

    Returns:
        The version folder, such as `PATH/1`.

    Raises:
        UsageError: the folder holds something else, cannot be written, the disk is full, the model cannot be exported,
            or what was written does not compute what the model computes. Nothing is left behind.

    Example:
        >>> zoo.export.save(model, prepared.interface, "exports/digits")
        PosixPath('exports/digits/1')
    """
    base = Path(path)
    _refuse_other_folder(base)
    try:
        base.mkdir(parents=True, exist_ok=True)
        _remove_stale(base)
        temporary = base / f"{_WRITING}{os.getpid()}"
        storage.remove_tree(temporary)
        try:
            temporary.mkdir()
            _write(temporary, model, interface, report or {})
            verification = check(temporary, sums=False)
            if not verification.passed:
                raise UsageError(
                    f"The SavedModel was not published, it failed its verification: {verification.failures}."
                )
            _seal(temporary, verification)
            return _publish(temporary, base)
        finally:
            storage.remove_tree(temporary)
    except (OSError, tf.errors.OpError) as error:
        raise UsageError(
            f"Cannot write a SavedModel to {base}: {one_line(error)}. Nothing was published; make room or pass another "
            "folder, and try again."
        ) from error


def weights_hash(model: keras.Model) -> str:
    """Returns the SHA-256 over all weights in order: equal for equal weights, whatever file they came from."""
    digest = hashlib.sha256()
    for weight in model.get_weights():
        digest.update(str((weight.dtype, weight.shape)).encode())
        digest.update(np.ascontiguousarray(weight).tobytes())
    return digest.hexdigest()


def _refuse_other_folder(base: Path) -> None:
    if not base.exists():
        return
    if not base.is_dir():
        raise UsageError(f"{base} exists and is not a folder. Pass another folder to export to.")
    others = [p.name for p in base.iterdir() if not p.name.isdecimal() and not p.name.startswith(".")]
    if others:
        raise UsageError(
            f"{base} exists and holds {', '.join(sorted(others)[:3])}, no versions of a SavedModel. Pass a new folder, "
            "or one with versions 1, 2, ...; nothing was changed."
        )


def _remove_stale(base: Path) -> None:
    """Removes what an export that was killed left behind; a folder of a living process stays."""
    for folder in base.glob(f"{_WRITING}*"):
        owner = folder.name.removeprefix(_WRITING)
        if not (owner.isdecimal() and Path(f"/proc/{owner}").exists()):
            storage.remove_tree(folder)


def _write(directory: Path, model: keras.Model, interface: Interface, report: Mapping[str, Any]) -> None:
    labels = _labels_file(directory, interface)
    served = ServedModel(model, interface, labels)
    signatures = served.signatures()
    # Without custom gradients: nobody trains a served function, and their ops are dead weight in every loader.
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(served, str(directory), signatures=signatures, options=options)
    if labels is not None:
        shutil.rmtree(labels.parent)
    extra = directory / layout.EXTRA
    extra.mkdir(exist_ok=True)
    np.savez_compressed(extra / "golden.npz", **storage.pack_arrays(_golden(model, interface)))  # type: ignore[arg-type]
    facts = _facts(model, interface, signatures, report)
    storage.write_json(extra / "zoo.json", facts)
    storage.write_text(directory / "README.md", model_card(facts, report))


def _labels_file(directory: Path, interface: Interface) -> Path | None:
    """Writes labels.txt where saving finds it and copies it into assets/."""
    if not interface.class_names:
        return None
    for name in interface.class_names:
        if not name or "\n" in name or "\r" in name:
            raise UsageError(f"The class name {name!r} is empty or has a line break; labels.txt holds one name a line.")
    folder = directory / "labels"
    folder.mkdir()
    file = folder / "labels.txt"
    file.write_text("".join(f"{name}\n" for name in interface.class_names), encoding="utf-8")
    return file


def _golden(model: keras.Model, interface: Interface) -> dict[str, np.ndarray]:
    """The examples and the live model's answers: SIGNATURE/in/NAME and SIGNATURE/out/NAME.

    Made by the model itself, not by its copy in the artifact, and with the labels taken from the list, not from the
    lookup table: an error in copying, tracing or labelling shows as a difference.
    """
    task = tasks.get_task(interface.task)
    requests = dict(interface.examples.requests)
    inputs = interface.preprocessor.serve({k: tf.constant(v.tolist()) for k, v in requests.items()})
    live = heads(model, interface)
    names = np.array([name.encode() for name in interface.class_names], object)

    def label(numbers: tf.Tensor) -> tf.Tensor:
        return tf.constant(names[numbers.numpy()].tolist())

    answers = {"predict": live["predict"](inputs)}
    answers["serving_default"] = task.answer(tasks.Served(outputs=answers["predict"], label=label))
    if "features" in live:
        answers["features"] = live["features"](inputs)
    golden: dict[str, np.ndarray] = {"targets": interface.examples.targets}
    for signature, outputs in answers.items():
        given = {model_input(model).name: inputs.numpy()} if signature == "predict" else requests
        golden.update({f"{signature}/in/{name}": value for name, value in given.items()})
        golden.update({f"{signature}/out/{name}": value.numpy() for name, value in outputs.items()})
    return golden


def _facts(
    model: keras.Model, interface: Interface, signatures: Mapping[str, Any], report: Mapping[str, Any]
) -> dict[str, Any]:
    """The contents of zoo.json."""
    return {
        "format": 1,
        "model": dict(interface.build),
        "parameters": model.count_params(),
        "task": interface.task,
        "class_names": list(interface.class_names),
        "data": dict(interface.data),
        "preprocessor": {"kind": interface.preprocessor.kind, **interface.preprocessor.config()},
        "signatures": {name: _describe(function) for name, function in signatures.items()},
        "metrics": {k: v for k, v in report.items() if isinstance(v, (int, float, str))},
        "baseline": report.get("baseline"),
        "weights_sha256": weights_hash(model),
        "written_by": {
            "savedmodel-zoo": __version__,
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "python": platform.python_version(),
        },
    }


def _describe(function: Any) -> dict[str, dict[str, Any]]:
    def spec(tensor: Any) -> dict[str, Any]:
        return {"dtype": tensor.dtype.name, "shape": tensor.shape.as_list()}

    inputs = function.structured_input_signature[1]
    return {
        "inputs": {name: spec(tensor) for name, tensor in inputs.items()},
        "outputs": {name: spec(tensor) for name, tensor in function.structured_outputs.items()},
    }


def _seal(directory: Path, verification: Verification) -> None:
    storage.write_json(directory / layout.EXTRA / "verification.json", verification.to_dict())
    layout.write_sums(directory)


def _publish(temporary: Path, base: Path) -> Path:
    """Renames to the next version; where another export took the number meanwhile, to the one after it."""
    number = max(layout.versions(base), default=0) + 1
    while True:
        target = base / str(number)
        try:
            os.rename(temporary, target)
        except OSError:
            if not target.exists():
                raise
            number += 1
        else:
            return target
