"""TensorFlow Serving's REST API: `/v1/models/NAME[/versions/N|/labels/L]:predict`, metadata and status."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from zoo.export.serving import values
from zoo.export.serving.protocols.exchange import Asked, check_names, completed, json_response
from zoo.export.serving.refusals import Refused
from zoo.export.serving.repository import Repository
from zoo.export.serving.settings import Settings
from zoo.export.serving.version import SignatureInfo

_KEYS = {"signature_name", "instances", "inputs"}
_MOST_EXAMPLE = 4_000
_DTYPES = {
    "string": "DT_STRING",
    "float32": "DT_FLOAT",
    "float64": "DT_DOUBLE",
    "float16": "DT_HALF",
    "bool": "DT_BOOL",
}


def routes(repository: Repository, settings: Settings) -> list[Route]:
    """Returns the routes of this protocol."""

    async def predict(request: Request) -> Response:
        asked = Asked.of(repository, request, "v1")
        if (method := request.path_params["method"]) != "predict":
            raise Refused(400, f"{method:.40} is not served, only predict. Send the request to :predict.")
        try:
            return await _predict(asked)
        except Refused as refused:
            if refused.status == 400 and refused.example is None:
                refused.example = _example(asked, request.scope["zoo"].get("signature"))
            raise

    async def status(request: Request) -> Response:
        return json_response({"model_version_status": _status(repository, request)})

    async def metadata(request: Request) -> Response:
        return json_response(_metadata(Asked.of(repository, request, "v1")))

    found = []
    for place in ("", "/versions/{version}", "/labels/{label}"):
        base = f"/v1/models/{{model}}{place}"
        found += [
            Route(f"{base}:{{method}}", predict, methods=["POST"]),
            Route(f"{base}/metadata", metadata),
            Route(base, status),
        ]
    return found


async def _predict(asked: Asked) -> Response:
    content = await asked.json()
    if unknown := [key for key in content if key not in _KEYS]:
        raise Refused(400, f"The body has {unknown[0]!r:.60}; expected signature_name, instances, inputs. Send these.")
    signature, info = asked.signature(content.get("signature_name"))
    if ("instances" in content) == ("inputs" in content):
        raise Refused(400, "The body has neither or both of instances and inputs. Send instances, a list of examples.")
    if "inputs" in content:
        return await _columns(asked, signature, info, content["inputs"])
    return await _rows(asked, signature, info, content["instances"])


async def _columns(asked: Asked, signature: str, info: SignatureInfo, given: Any) -> Response:
    """Answers the column format: a batch by input name, or that of the only input."""
    if len(info.needed) == 1 and not (isinstance(given, dict) and info.needed[0] in given):
        given = {info.needed[0]: given}
    if not isinstance(given, dict):
        raise Refused(400, f"inputs is a {type(given).__name__}; {signature} takes several. Send an object by name.")
    check_names(given, info, signature, "inputs")
    arrays = {name: values.array(value, name, info.inputs[name], batch=True) for name, value in given.items()}
    _check_rows(arrays)
    arrays = completed(arrays, info)
    outputs = await asked.answer(signature, arrays)
    plain = {name: values.plain(value, name) for name, value in outputs.items()}
    return json_response({"outputs": next(iter(plain.values())) if len(plain) == 1 else plain})


def _check_rows(arrays: Mapping[str, np.ndarray]) -> None:
    counts = {name: len(value) for name, value in arrays.items() if value.ndim}
    if len(set(counts.values())) > 1:
        shown = ", ".join(f"{count} of {name}" for name, count in counts.items())
        raise Refused(400, f"There are {shown:.300}. Send as many of each.")


async def _rows(asked: Asked, signature: str, info: SignatureInfo, given: Any) -> Response:
    """Answers the row format. Rows of unlike shape, such as series of different length, are computed apart."""
    if not isinstance(given, list) or not given:
        came = "is empty" if given == [] else f"is a {type(given).__name__}"
        raise Refused(400, f"instances {came}; expected a list of examples. Send at least one.")
    if not info.is_batched:
        raise Refused(400, f"The outputs of {signature} are not one per example. Send inputs, the column format.")
    rows = [_row(value, number, signature, info) for number, value in enumerate(given, start=1)]
    answers = await asked.answer_rows(signature, rows)
    plain = [{name: values.plain(value, name) for name, value in answer.items()} for answer in answers]
    return json_response({"predictions": [row if len(row) > 1 else next(iter(row.values())) for row in plain]})


def _row(value: Any, number: int, signature: str, info: SignatureInfo) -> dict[str, np.ndarray]:
    is_named = isinstance(value, dict) and set(value) != {"b64"}
    if len(info.needed) == 1 and not is_named:
        value, is_named = {info.needed[0]: value}, True
    if not isinstance(value, dict) or not is_named:
        names = ", ".join(info.inputs)
        raise Refused(400, f"Instance {number} is a {type(value).__name__}; {signature} takes {names}. Send an object.")
    check_names(value, info, signature, f"Instance {number}")
    try:
        value = {**info.defaults, **value}
        return {name: values.array(value[name], name, spec, batch=False) for name, spec in info.inputs.items()}
    except Refused as refused:
        raise Refused(refused.status, f"Instance {number}: {refused.message}") from refused


def _example(asked: Asked, signature: str | None) -> dict[str, Any] | None:
    """Returns a body that works, of the first golden example; None if it is long."""
    name = signature or asked.version.default
    info = asked.version.signatures[name]
    if not info.golden:
        return None
    row = {key: _json_value(value[0], info.inputs[key]) for key, value in info.golden.items()}
    body = {"signature_name": name, "instances": [row if len(row) > 1 else next(iter(row.values()))]}
    return body if len(values.dumps(body)) <= _MOST_EXAMPLE else None


def _json_value(value: Any, given: values.Input) -> Any:
    if given.is_bytes:
        return {"b64": base64.b64encode(value).decode()}
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else np.asarray(value)


def _status(repository: Repository, request: Request) -> list[dict[str, Any]]:
    names = request.path_params
    if ":" in request.url.path:
        raise Refused(405, "Predictions need a body. Send a POST request.", headers={"Allow": "POST"})
    model = repository.model(names["model"])
    request.scope["zoo"].update(protocol="v1", model=model.name)
    ready = {"error_code": "OK", "error_message": ""}
    if "version" in names or "label" in names:
        number = model.version(names.get("version"), names.get("label")).number
        return [{"version": str(number), "state": "AVAILABLE", "status": ready}]
    failed = [
        {"version": str(number), "state": "END", "status": {"error_code": "UNKNOWN", "error_message": failure.message}}
        for number, failure in model.failures.items()
    ]
    found = [{"version": str(number), "state": "AVAILABLE", "status": ready} for number in model.versions]
    return sorted([*found, *failed], key=lambda entry: -int(entry["version"]))


def _metadata(asked: Asked) -> dict[str, Any]:
    signatures = {
        name: {
            "inputs": {key: _tensor(key, value.spec) for key, value in info.inputs.items()},
            "outputs": {key: _tensor(key, spec) for key, spec in info.outputs.items()},
            "method_name": "tensorflow/serving/predict",
        }
        for name, info in asked.version.signatures.items()
    }
    return {
        "model_spec": {"name": asked.model.name, "signature_name": "", "version": str(asked.version.number)},
        "metadata": {"signature_def": {"signature_def": signatures}},
    }


def _tensor(name: str, spec: tf.TensorSpec) -> dict[str, Any]:
    sizes = spec.shape.as_list() if spec.shape.rank is not None else []
    return {
        "dtype": _DTYPES.get(spec.dtype.name, f"DT_{spec.dtype.name.upper()}"),
        "tensor_shape": {
            "dim": [{"size": str(-1 if size is None else size), "name": ""} for size in sizes],
            "unknown_rank": spec.shape.rank is None,
        },
        "name": name,
    }
