"""What stands before the protocols: token, limits of size, time and number, one line of the log per request."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import sys
import time
from collections.abc import Awaitable, Callable, MutableMapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

from zoo.errors import one_line
from zoo.export.serving import values
from zoo.export.serving.metrics import Metrics
from zoo.export.serving.refusals import Refused
from zoo.export.serving.settings import Settings, is_loopback

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN = ("/v2/health/live", "/v2/health/ready")
"""Addresses that need no token, for probes."""
_BODIES = 8
"""The bodies in memory have at most this many times the largest size of one."""
_LONGEST_PATH = 200
_ALONE = 0.05
"""Seconds after a request of another connection until a client is the only one."""


def write_event(event: str, **fields: Any) -> None:
    """Writes a line of the log to standard output, as JSON. It never has the contents of a request."""
    line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **fields}
    with contextlib.suppress(OSError, ValueError):  # a full disk or a closed pipe fails no request
        sys.stdout.write(_dumps(line) + "\n")
        sys.stdout.flush()


_dumps = json.JSONEncoder(default=str, check_circular=False).encode


class Guard:
    """An ASGI application around another one.

    Args:
        application: answers the requests that are let through. Their body is complete.
        settings: token and limits.
        metrics: counts the requests.
        event: writes the log, see `write_event`.
    """

    def __init__(
        self, application: Application, settings: Settings, metrics: Metrics, event: Callable[..., None]
    ) -> None:
        self._application, self._settings, self._metrics, self._event = application, settings, metrics, event
        self._held = 0  # bytes of bodies
        self._open = 0  # requests in progress
        self._client: Any = None
        self._others = 0.0  # when the last request of another client came

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, with an error if the application does not."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        started, status, held = time.perf_counter(), 0, 0
        details: dict[str, Any] = {}
        scope["zoo"] = details  # the protocols add the model, the signature, ...
        if scope["client"] != self._client:
            self._client, self._others = scope["client"], started
        scope["zoo.alone"] = not self._open and started - self._others > _ALONE
        self._open += 1

        async def watched(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            self._admit(scope)
            body, held = await self._body(scope, receive)
            async with asyncio.timeout(self._settings.timeout) as scope["limit"]:  # a stream extends it
                await self._application(scope, _replayed(body, receive), watched)
        except Exception as error:  # noqa: BLE001, every request gets an answer
            refused = _refusal(error, self._settings)
            if refused.status == 500:
                self._event("error", error=f"{type(error).__name__}: {one_line(error)}")
            if not status:
                await _respond(watched, refused)
        finally:
            self._held -= held
            self._open -= 1
            seconds = time.perf_counter() - started
            names = [str(details.get(key, "")) for key in ("model", "signature", "protocol")]
            self._metrics.request(names[0], names[1], names[2], status, seconds)
            self._event(
                "request",
                method=scope["method"],
                path=scope["path"][:_LONGEST_PATH],
                status=status,
                milliseconds=round(1000 * seconds, 3),
                bytes=held,
                **details,
            )

    def _admit(self, scope: Scope) -> None:
        """Raises `Refused` for a request without the token, and for one that another web site sends from a browser."""
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        host, origin = headers.get(b"host", ""), headers.get(b"origin", "")
        if origin and origin.partition("://")[2] != host:
            raise Refused(
                403,
                f"The page of {origin:.100} may not use this server. Open the server's own page (a proxy must pass Host on).",
            )
        if not self._settings.token:
            name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
            if is_loopback(self._settings.host) and host and not is_loopback(name):
                raise Refused(
                    403,
                    f"The host {host:.100} is not this machine. Send requests to {self._settings.origin}, or start the "
                    "server with a token.",
                )
            return
        if scope["path"] in OPEN:
            return
        given = headers.get(b"authorization", "").removeprefix("Bearer ").strip()
        if not given and scope["method"] == "GET":  # for the page: a browser sends no header of its own
            given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if not hmac.compare_digest(given.encode(), self._settings.token.encode()):
            raise Refused(
                401,
                "The token is missing or wrong. Send the header Authorization: Bearer TOKEN; for the page, add ?token=TOKEN.",
                headers={"WWW-Authenticate": "Bearer"},
            )

    async def _body(self, scope: Scope, receive: Receive) -> tuple[bytes, int]:
        """Returns the whole body with the bytes that it takes of the memory for bodies."""
        headers = dict(scope["headers"])
        most = self._settings.max_body
        if headers.get(b"content-encoding", b"identity") != b"identity":
            raise Refused(415, "The body is compressed. Send it without Content-Encoding.")
        declared = headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > most:
            raise _too_large(most)
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._settings.timeout):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Refused(400, "The connection was closed before the body was complete. Send it again.")
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    self._held += len(parts[-1])
                    if size > most:
                        raise _too_large(most)
                    if self._held > _BODIES * most:
                        raise Refused(
                            429,
                            "Other requests take all memory for bodies. Send the request again in a second.",
                            headers={"Retry-After": "1"},
                        )
                    if not message.get("more_body"):
                        return b"".join(parts), size
        except TimeoutError as error:
            self._held -= size
            raise Refused(
                408,
                f"The body was not complete after {self._settings.timeout:g} s. Send it faster, or in smaller requests.",
                headers={"Connection": "close"},
            ) from error
        except BaseException:
            self._held -= size
            raise


def _too_large(most: int) -> Refused:
    return Refused(
        413,
        f"The body has more than {most:,} bytes. Send fewer examples in a request, or start the server with a larger "
        "--max-body.",
        headers={"Connection": "close"},
    )


def _refusal(error: Exception, settings: Settings) -> Refused:
    if isinstance(error, Refused):
        return error
    if isinstance(error, TimeoutError):
        return Refused(
            504, f"The answer took more than {settings.timeout:g} s. Send fewer examples, or ask again when less waits."
        )
    return Refused(
        500, "The server failed; its log has the cause. Send the request again, or report the line of the log."
    )


def _replayed(body: bytes, receive: Receive) -> Receive:
    sent = False

    async def replay() -> MutableMapping[str, Any]:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


async def _respond(send: Send, refused: Refused) -> None:
    body = values.dumps(refused.body(), missing=False)
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **refused.headers}
    encoded = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    with contextlib.suppress(OSError, RuntimeError):  # the client is gone
        await send({"type": "http.response.start", "status": refused.status, "headers": encoded})
        await send({"type": "http.response.body", "body": body})
