"""The Open Inference Protocol, version 2: `/v2/models/NAME[/versions/N]/infer`, metadata and health."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import tensorflow as tf
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from zoo._version import __version__
from zoo.errors import did_you_mean
from zoo.export.serving import values
from zoo.export.serving.protocols.exchange import Asked, check_names, completed, json_response
from zoo.export.serving.refusals import Refused
from zoo.export.serving.repository import Repository
from zoo.export.serving.settings import Settings
from zoo.export.serving.version import SignatureInfo

_DATATYPES = {"float16": "FP16", "bfloat16": "BF16", "float32": "FP32", "float64": "FP64", "string": "BYTES"}
_MOST_VALUES = 64
"""Values of an example in an error message."""


def routes(repository: Repository, settings: Settings) -> list[Route]:
    """Returns the routes of this protocol."""

    async def infer(request: Request) -> Response:
        asked = Asked.of(repository, request, "v2")
        try:
            return await _infer(asked)
        except Refused as refused:
            if refused.status == 400 and refused.example is None:
                refused.example = _example(asked, request.scope["zoo"].get("signature"))
            raise

    async def metadata(request: Request) -> Response:
        return json_response(_metadata(Asked.of(repository, request, "v2")))

    async def ready(request: Request) -> Response:
        asked = Asked.of(repository, request, "v2")
        return json_response({"name": asked.model.name, "ready": True})

    async def server(request: Request) -> Response:
        return json_response({"name": "savedmodel-zoo", "version": __version__, "extensions": []})

    async def live(request: Request) -> Response:
        return json_response({"live": True})

    async def server_ready(request: Request) -> Response:
        return json_response({"ready": True})

    found = [Route("/v2", server), Route("/v2/health/live", live), Route("/v2/health/ready", server_ready)]
    for place in ("", "/versions/{version}"):
        base = f"/v2/models/{{model}}{place}"
        found += [
            Route(f"{base}/infer", infer, methods=["POST"]),
            Route(f"{base}/ready", ready),
            Route(base, metadata),
        ]
    return found


def datatype_of(dtype: tf.DType) -> str:
    """Returns the name of a type in this protocol.

    Example:
        >>> datatype_of(tf.float32)
        'FP32'
    """
    return _DATATYPES.get(dtype.name, dtype.name.upper())


async def _infer(asked: Asked) -> Response:
    content = await asked.json()
    parameters = content.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise Refused(400, f"parameters is a {type(parameters).__name__}. Send an object.")
    signature, info = asked.signature(parameters.get("signature_name"))
    given = content.get("inputs")
    if not isinstance(given, list) or not all(
        isinstance(part, dict) and isinstance(part.get("name"), str) for part in given
    ):
        raise Refused(400, "inputs is no list of tensors. Send a list of objects with name, shape, datatype and data.")
    names = [part["name"] for part in given]
    if len(set(names)) < len(names):
        raise Refused(400, f"inputs has {max(names, key=names.count):.60} twice. Send each name once.")
    check_names(names, info, signature, "inputs")
    arrays = {part["name"]: _tensor(part, info.inputs[part["name"]]) for part in given}
    counts = {len(value) for value in arrays.values() if value.ndim}
    if len(counts) > 1:
        raise Refused(400, f"The inputs have {sorted(counts)} rows. Send as many of each.")
    wanted = _wanted(content.get("outputs"), info)
    outputs = await asked.answer(signature, completed(arrays, info))
    answer = {
        "model_name": asked.model.name,
        "model_version": str(asked.version.number),
        "outputs": [_output(name, outputs[name], info) for name in wanted],
    }
    if "id" in content:
        answer["id"] = str(content["id"])
    return json_response(answer, missing=False)


def _wanted(given: Any, info: SignatureInfo) -> list[str]:
    """Returns the outputs that a request asks for; by default all."""
    if not given:
        return list(info.outputs)
    if not isinstance(given, list) or not all(isinstance(part, dict) and "name" in part for part in given):
        raise Refused(400, "outputs is no list of names. Send a list of objects with a name, or leave it out.")
    names = [str(part["name"]) for part in given]
    for name in names:
        if name not in info.outputs:
            raise Refused(400, f"There is no output {name!r:.60}. {did_you_mean(name, info.outputs)}")
    return names


def _tensor(given: dict[str, Any], wanted: values.Input) -> np.ndarray:
    name, datatype = given["name"], datatype_of(wanted.spec.dtype)
    if given.get("datatype") != datatype:
        raise Refused(400, f"{name} is {given.get('datatype')!r:.20}; expected {datatype}. Send it in this datatype.")
    shape, data = given.get("shape"), given.get("data")
    if not isinstance(shape, list) or not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in shape):
        raise Refused(400, f"The shape of {name} is {shape!r:.60}. Send a list of whole numbers, such as [1].")
    if not isinstance(data, list):
        raise Refused(400, f"{name} has no data. Send a list, such as [1.0].")
    flat = _flat(data)
    if len(flat) != np.prod(shape, dtype=object):
        raise Refused(
            400, f"{name} has {len(flat)} values; its shape {shape} has {np.prod(shape, dtype=object)}. Send all."
        )
    if datatype == "BYTES":
        found = np.empty(len(flat), object)
        kind = (given.get("parameters") or {}).get("content_type")
        found[:] = [_bytes(value, name, wanted, kind) for value in flat]
    else:
        found = values.array(flat, name, wanted._replace(spec=tf.TensorSpec([None], wanted.spec.dtype)), batch=True)
    if not wanted.spec.shape.is_compatible_with(shape):
        expected = [-1 if size is None else size for size in wanted.spec.shape.as_list()]
        raise Refused(400, f"{name} has the shape {shape}; expected {expected}, -1 for any. Send that shape.")
    return found.reshape(shape)


def _flat(data: list[Any]) -> list[Any]:
    """Returns values without nested lists, which the protocol allows."""
    if not any(isinstance(value, list) for value in data):
        return data
    return [part for value in data for part in (_flat(value) if isinstance(value, list) else [value])]


def _bytes(value: Any, name: str, wanted: values.Input, content_type: Any) -> bytes:
    """Returns a text as UTF-8; from base64 if the input takes files, or if its `content_type` is `base64`."""
    if not isinstance(value, str):
        raise Refused(400, f"{name} has {value!r:.40}; expected strings. Send strings.")
    if content_type == "base64" or (wanted.is_bytes and content_type is None):
        return values.decoded(value, name)
    return value.encode("utf-8", "surrogatepass")


def _output(name: str, value: np.ndarray, info: SignatureInfo) -> dict[str, Any]:
    spec = info.outputs[name]
    if spec.dtype == tf.string:
        plain = values.plain(value.reshape(-1), name)
        data = [part["b64"] if isinstance(part, dict) else part for part in plain]
        kind = "base64" if name.endswith("_bytes") else "str"
        return {
            "name": name,
            "shape": list(value.shape),
            "datatype": "BYTES",
            "parameters": {"content_type": kind},
            "data": data,
        }
    return {"name": name, "shape": list(value.shape), "datatype": datatype_of(spec.dtype), "data": value.reshape(-1)}


def _metadata(asked: Asked) -> dict[str, Any]:
    _, info = asked.version.signature(asked.request.query_params.get("signature_name"))
    return {
        "name": asked.model.name,
        "versions": [str(number) for number in sorted(asked.model.versions)],
        "platform": "tensorflow_savedmodel",
        "inputs": [_described(name, value.spec) for name, value in info.inputs.items()],
        "outputs": [_described(name, spec) for name, spec in info.outputs.items()],
        "parameters": {"signatures": list(asked.version.signatures)},
    }


def _described(name: str, spec: tf.TensorSpec) -> dict[str, Any]:
    sizes = spec.shape.as_list() if spec.shape.rank is not None else [-1]
    return {
        "name": name,
        "datatype": datatype_of(spec.dtype),
        "shape": [-1 if size is None else size for size in sizes],
    }


def _example(asked: Asked, signature: str | None) -> dict[str, Any] | None:
    """Returns a body that works, of the first golden example; None if it is long."""
    name = signature or asked.version.default
    info = asked.version.signatures[name]
    inputs = []
    for key, value in info.golden.items():
        first = value[:1]
        if first.size > _MOST_VALUES:
            return None
        data: Any = first.reshape(-1)
        if first.dtype == object:
            encode = base64.b64encode if info.inputs[key].is_bytes else bytes
            data = [encode(part).decode("utf-8", "replace") for part in data]
        datatype = datatype_of(info.inputs[key].spec.dtype)
        inputs.append({"name": key, "shape": list(first.shape), "datatype": datatype, "data": data})
    return {"parameters": {"signature_name": name}, "inputs": inputs} if inputs else None
