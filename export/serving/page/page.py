"""Puts the page together: the frame, the renderers of all kinds, and what the artifacts say of themselves.

A kind of request or of answer (`zoo.tasks.REQUEST_KINDS`, `ANSWER_KINDS`) has one file in `requests/` or `answers/`, found by
its name. A kind without a file is shown as text or numbers.
"""

from __future__ import annotations

import functools
import html
import json
import secrets
from pathlib import Path

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from zoo.export.serving.page.described import described
from zoo.export.serving.repository import Repository
from zoo.export.serving.settings import Settings

_FOLDER = Path(__file__).parent


def routes(repository: Repository, settings: Settings) -> list[Route]:
    """Returns the route of the page."""

    async def shown(request: Request) -> Response:
        nonce = secrets.token_urlsafe(16)
        policy = (
            f"default-src 'none'; style-src 'unsafe-inline'; script-src 'nonce-{nonce}'; img-src data: blob:; "
            "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        headers = {
            "Content-Security-Policy": policy,
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
        }
        return HTMLResponse(page(repository, nonce), headers=headers)

    return [Route("/", shown)]


def page(repository: Repository, nonce: str) -> str:
    """Returns the page as one HTML file that needs no other file.

    Args:
        repository: the models; each is shown with its newest version.
        nonce: allows the page's own script to run.
    """
    models = {name: described(model.version()) for name, model in repository.models.items()}
    # `<` would end the script, and the two line separators are line breaks in JavaScript.
    data = json.dumps(models, ensure_ascii=True, allow_nan=False).replace("<", "\\u003c")
    return _filled(_frame(), MODELS=data, NONCE=nonce, TITLE=html.escape(", ".join(models)))


def _filled(text: str, **values: str) -> str:
    """Returns a text with @NAME@ replaced once each, from the left, so that no value is searched for marks."""
    parts = []
    for name in sorted(values, key=lambda name: text.index(f"@{name}@")):
        before, _, text = text.partition(f"@{name}@")
        parts += [before, values[name]]
    return "".join([*parts, text])


@functools.cache
def _frame() -> str:
    """Returns the page without data."""
    kinds = [file for folder in ("requests", "answers") for file in sorted((_FOLDER / folder).glob("*.js"))]
    scripts = [file.read_text(encoding="utf-8") for file in (_FOLDER / "parts.js", *kinds, _FOLDER / "page.js")]
    frame = (_FOLDER / "page.html").read_text(encoding="utf-8")
    return _filled(frame, STYLE=(_FOLDER / "page.css").read_text(encoding="utf-8"), SCRIPTS="\n".join(scripts))
