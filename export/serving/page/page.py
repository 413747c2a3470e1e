"""Puts the page together: the frame, the renderers of all kinds, and what the artifacts say of themselves."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from zoo.export.serving.repository import Repository
from zoo.export.serving.settings import Settings


def routes(repository: Repository, settings: Settings) -> list[Route]:
    """Returns the route of the page."""

    async def shown(request: Request) -> Response:
        return HTMLResponse("<!doctype html><title>zoo</title>")

    return [Route("/", shown)]
