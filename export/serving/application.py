"""The server as an ASGI application."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from starlette.exceptions import HTTPException
from starlette.routing import Router

from zoo.export.serving.guard import Guard, Receive, Scope, Send, write_event
from zoo.export.serving.metrics import Metrics
from zoo.export.serving.page import page
from zoo.export.serving.protocols import open_inference, operations, raw_bodies, streams, tensorflow_serving
from zoo.export.serving.refusals import Refused
from zoo.export.serving.repository import Repository
from zoo.export.serving.settings import Settings


def application(
    repository: Repository, settings: Settings, metrics: Metrics, event: Callable[..., None] = write_event
) -> Guard:
    """Returns the ASGI application that answers all protocols.

    Args:
        repository: the models.
        settings: token and limits.
        metrics: what the repository counts in, too.
        event: writes the log.
    """

    @contextlib.asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        watching = asyncio.create_task(repository.watch())
        yield
        watching.cancel()
        repository.close()

    async def answered(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await router({**scope, "app": router}, receive, send)  # with `app`, the router raises its errors
        except HTTPException as error:
            if error.status_code != 405:
                raise Refused(error.status_code, f"{error.detail}. Open /openapi.json for all addresses.") from error
            raise Refused(
                405,
                f"{scope['method']} is not possible at {scope['path'][:100]!r}. Send {_other(scope['method'])}.",
                headers=dict(error.headers or {}),
            ) from error

    async def unknown(scope: Scope, receive: Receive, send: Send) -> None:
        raise Refused(
            404, f"There is nothing at {scope['path'][:100]!r}. Open / for the page, /openapi.json for all addresses."
        )

    router = Router(
        routes=[
            *streams.routes(repository, settings),  # before the protocol that has other methods at these addresses
            *tensorflow_serving.routes(repository, settings),
            *page.routes(repository, settings),
            *operations.routes(repository, metrics),
            *open_inference.routes(repository, settings),
            *raw_bodies.routes(repository, settings),
        ],
        redirect_slashes=False,
        default=unknown,
        lifespan=lifespan,
    )
    return Guard(answered, settings, metrics, event)


def _other(method: str) -> str:
    return "a GET request" if method == "POST" else "a POST request"
