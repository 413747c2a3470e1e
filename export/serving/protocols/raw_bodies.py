"""Raw bodies: `curl --data-binary @seven.png -H 'Content-Type: image/png' .../predict/NAME`, answered for a person.

Which types an input takes stands on its kind of request; see `zoo.tasks.RequestKind.media`.
"""

from __future__ import annotations

import asyncio
import contextlib
import fnmatch
import os
import tempfile
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from zoo.errors import UsageError
from zoo.export.loading import as_text
from zoo.export.serving import values
from zoo.export.serving.protocols.exchange import Asked, json_response
from zoo.export.serving.refusals import Refused
from zoo.export.serving.repository import Repository
from zoo.export.serving.settings import Settings
from zoo.export.serving.version import SignatureInfo
from zoo.tasks import REQUEST_KINDS

_TABLE = "text/csv"


def routes(repository: Repository, settings: Settings) -> list[Route]:
    """Returns the routes of this protocol."""

    async def predict(request: Request) -> Response:
        if "model" not in request.path_params:
            if len(repository.models) > 1:
                raise Refused(
                    404, f"There are several models. Send /predict/NAME: {', '.join(repository.models):.300}."
                )
            request.path_params["model"] = next(iter(repository.models))
        return await _predict(Asked.of(repository, request, "raw"))

    places = ("/predict", "/predict/{model}", "/predict/{model}/versions/{version}", "/predict/{model}/labels/{label}")
    return [Route(place, predict, methods=["POST"]) for place in places]


async def _predict(asked: Asked) -> Response:
    query = asked.request.query_params
    signature, info = asked.signature(query.get("signature"))
    if not query.get("top", "1").isdecimal() or int(query.get("top", "1")) < 1:
        raise Refused(400, f"top is {query['top']!r:.20}; expected a number of labels. Send top=3.")
    body = await asked.request.body()
    rows, notes = await asyncio.to_thread(_read, asked, signature, info, body)
    if not rows:
        raise Refused(400, "The body holds no example. Send at least one.")
    if not info.is_batched:
        raise Refused(400, f"The outputs of {signature} are not one per example. Send JSON to /v1/models.")
    answers = await asked.answer_rows(signature, rows)
    if "application/json" in asked.request.headers.get("accept", ""):
        plain = [{name: values.plain(value, name) for name, value in answer.items()} for answer in answers]
        return json_response({"answers": plain, **({"notes": notes} if notes else {})}, missing=False)
    top = int(query.get("top", "1"))
    lines = [
        asked.version.model.describe({k: as_text(v) for k, v in answer.items()}, signature, top) for answer in answers
    ]
    return PlainTextResponse("".join(f"{line}\n" for line in [*lines, *notes]))


_NOTING = threading.Lock()
"""Python records warnings for the whole process, so one body is read at a time: a client gets its own notes alone."""


def media_of(info: SignatureInfo) -> tuple[str, ...]:
    """Returns the types of bodies that a signature takes; empty if it takes only JSON."""
    kinds = {info.inputs[name].kind for name in info.needed}
    if len(info.needed) == 1 or REQUEST_KINDS.get(next(iter(kinds))).read_rows is not None:
        return REQUEST_KINDS.get(kinds.pop()).media if len(kinds) == 1 else ()
    are_texts = all(set(REQUEST_KINDS.get(kind).media) & {"text/plain"} for kind in kinds)
    return ("text/plain",) if are_texts else ()


def _read(asked: Asked, signature: str, info: SignatureInfo, body: bytes) -> tuple[list[dict[str, Any]], list[str]]:
    """Returns the rows that a body holds, and notes for the client, such as unknown categories."""
    given = asked.request.headers.get("content-type", "").partition(";")[0].strip().lower()
    takes = media_of(info)
    if not takes:
        raise Refused(
            415, f"{signature} takes {', '.join(info.inputs):.300}. Send JSON to /v1/models/{asked.model.name}:predict."
        )
    if not any(fnmatch.fnmatchcase(given, pattern) for pattern in takes):
        came = f"has the type {given!r:.60}" if given else "has no type"
        one = takes[0].replace("*", "png")
        raise Refused(
            415, f"The body {came}; {signature} takes {', '.join(takes)}. Send the header Content-Type: {one}."
        )
    model = asked.version.model
    path = ""
    with _NOTING, warnings.catch_warnings(record=True) as caught, contextlib.ExitStack() as stack:
        warnings.simplefilter("always", UserWarning)
        try:
            if given == _TABLE:
                path = stack.enter_context(_as_file(body))
                is_table = model.has_rows(signature) or model.items_of_path(path, signature) is not None
                _, requests = model.requests(path if is_table else [path], signature)
            else:
                is_bytes = all(info.inputs[name].is_bytes for name in info.needed)
                _, requests = model.requests([body if is_bytes else _text(body)], signature)
        except UsageError as error:
            raise Refused(400, str(error).replace(path, "the body") if path else str(error)) from error
    rows = [{name: _value(request[name], value) for name, value in info.inputs.items()} for request in requests]
    return rows, [str(warning.message) for warning in caught if warning.category is UserWarning]


@contextlib.contextmanager
def _as_file(body: bytes) -> Iterator[str]:
    """Yields the path of a file in memory with the body, for the readers of tables."""
    memory = "/dev/shm"
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        path = os.path.join(folder, "body.csv")
        with open(path, "wb") as file:
            file.write(body)
        yield path


def _value(value: Any, given: values.Input) -> Any:
    if isinstance(value, bytes):
        return value
    if isinstance(value, list) and value and isinstance(value[0], bytes):  # a single channel
        return np.array(value, object)
    return np.asarray(value, given.spec.dtype.as_numpy_dtype)


def _text(body: bytes) -> str:
    try:
        return body.decode("utf-8-sig").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise Refused(400, f"The body is not UTF-8 at byte {error.start}. Convert it to UTF-8.") from error
