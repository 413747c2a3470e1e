"""Requests that the server does not answer, with their HTTP status."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Refused(Exception):
    """A request that cannot be answered.

    Attributes:
        status: the HTTP status.
        message: one line: what was received, what was expected, and what to send.
        headers: further headers of the response.
        example: the body of a request that works, if there is one.
        row: the number of the invalid row of a batch, from 1; None if it is not known or the only one.

    Example:
        >>> raise Refused(404, "There is no model 'digit'. Did you mean 'digits'?")
        Traceback (most recent call last):
        zoo.export.serving.refusals.Refused: There is no model 'digit'. Did you mean 'digits'?
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        headers: Mapping[str, str] | None = None,
        example: Any = None,
        row: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, dict(headers or {})
        self.example, self.row = example, row

    def body(self) -> dict[str, Any]:
        """Returns the JSON body of the response; `error` is what TensorFlow Serving and the v2 protocol call it."""
        return {"error": self.message} | ({"example": self.example} if self.example is not None else {})
