"""The metadata of an artifact, which zoo.json holds: model, data, signatures, figures, and where they come from."""

from __future__ import annotations

import dataclasses
import math
import platform
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from zoo import copies, lineage, registry, tasks
from zoo._version import __version__
from zoo.export.graph import request_checks
from zoo.export.graph.signatures import PORTABLE
from zoo.export.standalone import arrays

if TYPE_CHECKING:
    from zoo.datasets.interface import Interface


def of_artifact(
    model: keras.Model, interface: Interface, signatures: Mapping[str, Any], report: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns the contents of zoo.json, without what the form of the export adds.

    Args:
        model: the trained model, with its record of `zoo.lineage` if it comes from a run.
        interface: the interface of its data.
        signatures: the traced functions by name.
        report: the result of `zoo.evaluate`; may be empty.
    """
    data = {"sha256": interface.fingerprint.sha256, "splits": registry.plain(interface.splits)}
    return {
        "format": 2,
        "model": registry.without_initial_arguments(interface.build),
        "parameters": model.count_params(),
        "plugins": {plugin.name: plugin.sha256 for plugin in interface.plugins},
        "task": interface.task,
        "classes": interface.definition.classes,
        "decided": interface.definition.recorded(copies.decided(model)),
        "class_names": list(interface.class_names),
        "types": "plain" if getattr(interface.preprocessor, "row_numbers", True) else "as in Keras",
        # A path would tell whoever gets the artifact about the machine.
        "data": {k: lineage.without_folders({k: v})[k] if isinstance(v, str) else v for k, v in interface.data.items()},
        "examples": {name: split["examples"] for name, split in interface.splits.items() if "examples" in split},
        "training": registry.plain(interface.training),
        "pretrained": dict(interface.pretrained),
        "data_sha256": interface.fingerprint.sha256,
        "preprocessor": {"kind": interface.preprocessor.kind, **interface.preprocessor.config()},
        "limits": [
            *interface.preprocessor.limits,
            *request_checks.limits(interface.preprocessor, signatures["predict"]),
        ],
        "portable_signature": PORTABLE if PORTABLE in signatures else "predict",
        "signatures": {name: _describe(name, function, interface) for name, function in signatures.items()},
        "metrics": {
            k: lineage.without_folders(v) if k == "data" else v
            for k, v in report.items()
            if isinstance(v, (int, str)) or _is_finite(v)
        },
        "baseline": report.get("baseline"),
        "headline": report.get("headline", []),
        "lineage": {**lineage.of(model), "data": data if interface.splits else None},
        "weights_sha256": arrays.digest(model.get_weights()),
        "written_by": {
            "savedmodel-zoo": __version__,
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "python": platform.python_version(),
        },
    }


def _is_finite(value: Any) -> bool:
    return isinstance(value, float) and math.isfinite(value)


def _describe(name: str, function: Any, interface: Interface) -> dict[str, Any]:
    """Returns a signature's entry in zoo.json: types, shapes, the kind of each input, and how its output is printed."""
    requests = interface.preprocessor.requests
    signature = interface.definition.signatures.get(name)
    of_model = name in ("predict", PORTABLE)  # they take tensors of the model, not requests
    texts = signature.described(interface.preprocessor) if signature else {}
    shown = signature.shown if signature else tasks.Shown()
    if signature and not shown.outputs:
        shown = dataclasses.replace(shown, outputs=tuple(signature.named(interface.preprocessor)))

    def spec(tensor: Any, **more: Any) -> dict[str, Any]:
        return {"dtype": tensor.dtype.name, "shape": tensor.shape.as_list(), **{k: v for k, v in more.items() if v}}

    described: Mapping[str, str] = getattr(interface.preprocessor, "described_inputs", {})

    def input_spec(key: str, tensor: Any) -> dict[str, Any]:
        raw = None if of_model else requests.get(key)  # model inputs may have the name of a request
        if raw and not (signature and signature.continues):
            known = spec(tensor, kind=raw.kind, description=raw.description, columns=dict(raw.columns))
            return known if raw.default is None else {**known, "default": raw.default}
        single = next(iter(described.values()), "") if len(described) == len(inputs) == 1 else ""  # of any name
        kind = "text" if tensor.dtype == tf.string else "number"
        return spec(tensor, kind=kind, description=described.get(key, single) if of_model else texts.get(key))

    inputs, outputs = function.structured_input_signature[1], function.structured_outputs
    if of_model:
        texts = getattr(getattr(interface.preprocessor, "targets", None), "described_outputs", {})
    return {
        "inputs": {key: input_spec(key, tensor) for key, tensor in inputs.items()},
        "outputs": {key: spec(tensor, description=texts.get(key)) for key, tensor in outputs.items()},
        "shown": dataclasses.asdict(shown),
        "golden": {"inputs": "inputs" if of_model else "requests", "answers": "predict" if of_model else name},
        **(signature.in_turn if signature else {}),
        **({"generates": True} if signature and signature.generates else {}),
    }
