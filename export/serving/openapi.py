"""The OpenAPI description of a server, from the signatures of its models."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from zoo._version import __version__
from zoo.export.serving.protocols.open_inference import datatype_of
from zoo.export.serving.protocols.raw_bodies import media_of
from zoo.export.serving.protocols.streams import streamed
from zoo.export.serving.repository import Repository
from zoo.export.serving.values import Input
from zoo.export.serving.version import SignatureInfo, Version

_ERROR = {"$ref": "#/components/schemas/Error"}
_STATUS = {
    "400": "An invalid request.",
    "403": "Sent by the page of another site, or for another host.",
    "404": "No such model or version.",
    "408": "The body was too slow.",
    "413": "The body is too large.",
    "415": "Another type of content was expected.",
    "429": "Too many requests wait.",
    "500": "The server failed.",
    "503": "Not enough memory, or the version was removed.",
    "504": "The answer took too long.",
}


def description(repository: Repository) -> dict[str, Any]:
    """Returns an OpenAPI 3.1 document."""
    paths: dict[str, Any] = {
        "/v2/health/live": {"get": _operation("Whether the server runs.")},
        "/v2/health/ready": {"get": _operation("Whether all models are served.")},
        "/metrics": {"get": _operation("Figures for Prometheus.", media="text/plain")},
    }
    for name, model in repository.models.items():
        version = model.version()
        paths[f"/v1/models/{name}"] = {"get": _operation("State of the versions.")}
        paths[f"/v1/models/{name}/metadata"] = {"get": _operation("Signatures, as in TensorFlow Serving.")}
        paths[f"/v1/models/{name}:predict"] = {
            "post": _operation("Predict, as in TensorFlow Serving's REST API.", body=_json(_v1_schema(version)))
        }
        if streamed(version):
            sent = _operation("Generate texts, sent part by part.", body=_json(_STREAM), media="text/event-stream")
            paths[f"/v1/models/{name}:stream"] = {"post": sent}
        paths[f"/v2/models/{name}"] = {"get": _operation("Inputs and outputs.")}
        paths[f"/v2/models/{name}/ready"] = {"get": _operation("Whether the model is served.")}
        paths[f"/v2/models/{name}/infer"] = {
            "post": _operation("Predict, in the Open Inference Protocol.", body=_json(_v2_schema(version)))
        }
        if media := media_of(version.signatures[version.default]):
            raw = {"content": {kind: {"schema": {}} for kind in media}, "required": True}
            paths[f"/predict/{name}"] = {"post": _operation("Predict for a raw body.", body=raw, media="text/plain")}
    error = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}, "example": {}}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "savedmodel-zoo", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": {"Error": error},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _operation(summary: str, *, body: Any = None, media: str = "application/json") -> dict[str, Any]:
    codes = _STATUS if body else {code: _STATUS[code] for code in ("403", "404", "413", "500")}
    responses: dict[str, Any] = {
        code: {"description": text, "content": {"application/json": {"schema": _ERROR}}} for code, text in codes.items()
    }
    unauthorized = {
        "description": "The token is missing or wrong.",
        "content": {"application/json": {"schema": _ERROR}},
    }
    ok = {"description": "The answer.", "content": {media: {"schema": {}}}}
    operation: dict[str, Any] = {"summary": summary, "responses": {"200": ok, "401": unauthorized, **responses}}
    if body:
        operation["requestBody"] = body
    return operation


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _v1_schema(version: Version) -> dict[str, Any]:
    return {
        "oneOf": [_signature_schema(name, info, name == version.default) for name, info in version.signatures.items()]
    }


def _signature_schema(name: str, info: SignatureInfo, is_default: bool) -> dict[str, Any]:
    row: dict[str, Any] = {
        "type": "object",
        "properties": {
            key: _value_schema(value, info.entry.get("inputs", {}).get(key, {})) for key, value in info.inputs.items()
        },
        "required": info.needed,
        "additionalProperties": False,
    }
    if len(info.needed) == 1:
        row = {"anyOf": [row["properties"][info.needed[0]], row]}
    return {
        "title": name,
        "type": "object",
        "properties": {
            "signature_name": {"const": name},
            "instances": {"type": "array", "minItems": 1, "items": row},
        },
        "required": ["instances"] if is_default else ["signature_name", "instances"],
        "additionalProperties": False,
    }


def _value_schema(given: Input, entry: Any) -> dict[str, Any]:
    """Returns the schema of one example's value."""
    if given.spec.dtype == tf.string:
        encoded = {"type": "string", "contentEncoding": "base64"}
        schema: dict[str, Any] = (
            {"type": "object", "properties": {"b64": encoded}, "required": ["b64"], "additionalProperties": False}
            if given.is_bytes
            else {"type": "string"}
        )
    else:
        schema = {"type": ["number", "null"] if given.spec.dtype.is_floating else "integer"}  # null is a missing value
    for size in reversed(given.spec.shape.as_list()[1:] if given.spec.shape.rank else []):
        schema = {"type": "array", "items": schema}
        if size is not None:
            schema |= {"minItems": size, "maxItems": size}
    return schema | ({"description": entry["description"]} if entry.get("description") else {})


_STREAM = {
    "type": "object",
    "required": ["instances"],
    "properties": {"signature_name": {"type": "string"}, "instances": {"type": "array", "minItems": 1}},
}


def _v2_schema(version: Version) -> dict[str, Any]:
    return {"oneOf": [_v2_signature(name, info, name == version.default) for name, info in version.signatures.items()]}


def _v2_signature(name: str, info: SignatureInfo, is_default: bool) -> dict[str, Any]:
    named = {"type": "object", "properties": {"signature_name": {"const": name}}, "required": ["signature_name"]}
    return {
        "title": name,
        "type": "object",
        "required": ["inputs", *([] if is_default else ["parameters"])],
        "properties": {
            "id": {"type": "string"},
            "parameters": named,
            "inputs": {
                "type": "array",
                "minItems": len(info.needed),
                "maxItems": len(info.inputs),
                "items": {"oneOf": [_tensor_schema(key, value) for key, value in info.inputs.items()]},
            },
        },
    }


def _tensor_schema(name: str, given: Input) -> dict[str, Any]:
    shape: dict[str, Any] = {"type": "array", "items": {"type": "integer", "minimum": 0}}
    if given.spec.shape.rank is not None:
        sizes = [{"type": "integer", "minimum": 0} if n is None else {"const": n} for n in given.spec.shape.as_list()]
        shape = {"type": "array", "prefixItems": sizes, "minItems": len(sizes), "maxItems": len(sizes)}
    return {
        "type": "object",
        "required": ["name", "shape", "datatype", "data"],
        "properties": {
            "name": {"const": name},
            "shape": shape,
            "datatype": {"const": datatype_of(given.spec.dtype)},
            "data": {"type": "array"},
        },
    }
