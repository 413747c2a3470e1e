"""Texts that are sent while they are generated, as server-sent events: `/v1/models/NAME[/versions/N|/labels/L]:stream`.

It needs an artifact with a signature that continues another one. The server calls both in turn, and between the calls
answers other requests.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from zoo.export.serving import values
from zoo.export.serving.protocols.exchange import Asked, check_names
from zoo.export.serving.refusals import Refused
from zoo.export.serving.repository import Repository
from zoo.export.serving.settings import Settings
from zoo.export.serving.version import SignatureInfo, Version

_KEYS = {"signature_name", "instances"}
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def routes(repository: Repository, settings: Settings) -> list[Route]:
    """Returns the routes of this protocol."""

    async def stream(request: Request) -> Response:
        asked = Asked.of(repository, request, "stream")
        first, following = _signatures(asked)
        inputs = await _inputs(asked, first)
        outputs = await asked.answer(first, inputs)
        events = _events(asked, following, outputs, settings.timeout)
        return StreamingResponse(events, media_type="text/event-stream", headers=_HEADERS)

    places = ("", "/versions/{version}", "/labels/{label}")
    return [Route(f"/v1/models/{{model}}{place}:stream", stream, methods=["POST"]) for place in places]


def streamed(version: Version) -> list[str]:
    """Returns the names of the signatures whose texts can be streamed."""
    return [name for info in version.signatures.values() for name in info.entry.get("parts_of", ())]


def _signatures(asked: Asked) -> tuple[str, str]:
    """Returns the signature that begins a text, and the one that continues it."""
    for name, info in asked.version.signatures.items():
        if first := info.entry.get("continues"):
            asked.signature(first)
            return first, name
    raise Refused(
        400, f"{asked.model.name} generates no text token by token. Send the request to {asked.model.name}:predict."
    )


async def _inputs(asked: Asked, first: str) -> dict[str, np.ndarray]:
    """Returns the batch that a body holds. Inputs that it lacks have their default values."""
    content = await asked.json()
    if unknown := [key for key in content if key not in _KEYS]:
        raise Refused(400, f"The body has {unknown[0]!r:.60}; expected signature_name, instances. Send these.")
    can = list(dict.fromkeys(streamed(asked.version)))
    if (name := content.get("signature_name") or can[0]) not in can:
        raise Refused(400, f"{name!r:.60} cannot be streamed. Send one of {', '.join(can)}.")
    given = content.get("instances")
    if not isinstance(given, list) or not given:
        came = "is empty" if given == [] else f"is a {type(given).__name__}"
        raise Refused(400, f"instances {came}; expected a list of examples. Send at least one.")
    info = asked.version.signatures[first]
    rows = [_row(value, number, first, info) for number, value in enumerate(given, start=1)]
    return {name: _stacked([row[name] for row in rows]) for name in info.inputs}


def _row(value: Any, number: int, signature: str, info: SignatureInfo) -> dict[str, np.ndarray]:
    if not isinstance(value, dict) and len(info.needed) == 1:
        value = {info.needed[0]: value}
    if not isinstance(value, dict):
        raise Refused(400, f"Instance {number} is a {type(value).__name__}; {signature} takes several. Send an object.")
    value = {**info.defaults, **value}
    check_names(value, info, signature, f"Instance {number}")
    try:
        return {name: values.array(value[name], name, given, batch=False) for name, given in info.inputs.items()}
    except Refused as refused:
        raise Refused(refused.status, f"Instance {number}: {refused.message}") from refused


def _stacked(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the values of all rows as a batch; shorter lists of texts end with empty ones."""
    if parts[0].ndim == 0:
        return np.stack(parts)
    longest = max(len(part) for part in parts)
    found = np.full((len(parts), longest), b"", object)
    for row, part in enumerate(parts):
        found[row, : len(part)] = part
    return found


async def _events(
    asked: Asked, following: str, outputs: Mapping[str, np.ndarray], seconds: float
) -> AsyncIterator[bytes]:
    """Yields an event for every part of a text. Rows whose text has ended are not computed further."""
    takes = asked.version.signatures[following].inputs
    rows = np.arange(len(outputs["is_last"]))
    while True:
        for event in _parts(rows, outputs):
            yield event
        goes_on = ~outputs["is_last"]
        if not goes_on.any():
            return
        rows = rows[goes_on]
        state = {name: outputs[name][goes_on] for name in takes}
        asked.request.scope["limit"].reschedule(asyncio.get_running_loop().time() + seconds)
        try:
            outputs = await asked.model.answer(asked.version, following, state, pinned=True)
        except Refused as refused:
            yield b"event: error\ndata: " + values.dumps(refused.body(), missing=False) + b"\n\n"
            return


def _parts(rows: np.ndarray, outputs: Mapping[str, np.ndarray]) -> list[bytes]:
    found = []
    for place, row in enumerate(rows.tolist()):
        ends = bool(outputs["is_last"][place])
        text = outputs["text"][place].decode("utf-8", "replace")
        if not text and not ends:
            continue
        content: dict[str, Any] = {"row": row, "text": text, "is_last": ends}
        if ends:
            content["log_probability"] = float(outputs["log_probability"][place])
        found.append(b"data: " + values.dumps(content, missing=False) + b"\n\n")
    return found
