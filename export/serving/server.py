"""Runs the server: the port, the signals, slow clients."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from zoo.errors import UsageError
from zoo.export.serving.application import application
from zoo.export.serving.guard import write_event
from zoo.export.serving.metrics import Metrics
from zoo.export.serving.repository import Repository
from zoo.export.serving.settings import Settings

_BACKLOG = 1024
_IDLE = 75
"""Seconds until an idle connection is closed; more than the minute of most proxies, which would race with it."""


class _ImpatientProtocol(HttpToolsProtocol):
    """Closes a connection whose client does not complete the head of a request in time; uvicorn would wait forever."""

    wait: float = 30.0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start()

    def data_received(self, data: bytes) -> None:
        is_idle = self._timer is None and (self.cycle is None or self.cycle.response_complete)
        if is_idle:  # the head of a further request begins
            self._start()
        super().data_received(data)

    def on_headers_complete(self) -> None:
        self._stop()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        super().connection_lost(exc)

    def _start(self) -> None:
        self._timer = self.loop.call_later(self.wait, self._close)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _close(self) -> None:
        self._timer = None
        if not self.transport.is_closing() and (self.cycle is None or self.cycle.response_complete):
            self.transport.close()


class _Server(uvicorn.Server):
    """Ends normally at SIGTERM and SIGINT; uvicorn's would send itself the signal again."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def bound(settings: Settings) -> socket.socket:
    """Returns a socket on the port, before any model is loaded.

    Raises:
        UsageError: the port is in use, or the address is not this machine's.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        found = socket.socket(family, socket.SOCK_STREAM)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(_BACKLOG)  # so that a second server fails now
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UsageError(
                f"Port {settings.port} of {settings.host} is in use. Pass another one, such as --port {settings.port + 1}, "
                "or stop the other server."
            ) from error
        raise UsageError(
            f"The server cannot listen on {settings.host} port {settings.port}: {error.strerror}. Pass another --host or "
            "--port."
        ) from error
    return found


def made(
    repository: Repository, settings: Settings, metrics: Metrics, event: Callable[..., None] = write_event
) -> uvicorn.Server:
    """Returns a server; `run(sockets=[...])` runs it in any thread. In the main thread, signals end it."""
    impatient = type("Protocol", (_ImpatientProtocol,), {"wait": settings.timeout})
    config = uvicorn.Config(
        application(repository, settings, metrics, event),
        http=impatient,
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        backlog=_BACKLOG,
        timeout_keep_alive=_IDLE,
        timeout_graceful_shutdown=max(1, round(settings.drain)),
    )
    return _Server(config)


def serve(paths: Mapping[str, str | Path], settings: Settings) -> None:
    """Serves models until SIGTERM or SIGINT; requests in progress are answered first.

    Args:
        paths: the path of each model by its name: a run, a folder of versions, or one version.
        settings: the settings.

    Raises:
        UsageError: the port is in use, or a model cannot be served.

    Example:
        >>> serve({"digits": "exports/digits"}, Settings(port=8502))
    """
    started = time.perf_counter()
    listening = bound(settings)
    with listening:
        metrics = Metrics()
        repository = Repository(paths, settings, metrics, write_event)
        port = listening.getsockname()[1]
        server = made(repository, settings, metrics)
        write_event("ready", port=port, seconds=round(time.perf_counter() - started, 2))
        sys.stderr.write(f"zoo: serving {', '.join(paths)} at {dataclasses.replace(settings, port=port).origin}\n")
        server.run(sockets=[listening])
        write_event("stopped")
