"""Addresses for operators: figures for Prometheus, and the description of the interface."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from zoo.export.serving import openapi
from zoo.export.serving.metrics import Metrics
from zoo.export.serving.protocols.exchange import json_response
from zoo.export.serving.repository import Repository


def routes(repository: Repository, metrics: Metrics) -> list[Route]:
    """Returns these routes."""

    async def figures(request: Request) -> Response:
        return Response(metrics.text(), media_type=metrics.content_type)

    async def described(request: Request) -> Response:
        return json_response(openapi.description(repository), missing=False)

    async def models(request: Request) -> Response:
        return json_response({name: sorted(model.versions) for name, model in repository.models.items()}, missing=False)

    async def card(request: Request) -> Response:
        file = repository.model(request.path_params["model"]).version().path / "README.md"
        text = (
            file.read_text(encoding="utf-8", errors="replace") if file.is_file() else "This model has no model card.\n"
        )
        return PlainTextResponse(text, media_type="text/markdown")

    return [
        Route("/metrics", figures),
        Route("/openapi.json", described),
        Route("/v1/models", models),
        Route("/card/{model}", card),
    ]
