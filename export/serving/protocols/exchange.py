"""What the protocols share: the model that a request names, and its response."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from zoo.export.serving import values
from zoo.export.serving.refusals import Refused
from zoo.export.serving.repository import Model, Repository
from zoo.export.serving.version import SignatureInfo, Version

_LARGE = 256 << 10
"""Bodies of more bytes are read in a thread, so that other requests are answered meanwhile."""


@dataclasses.dataclass
class Asked:
    """What a request asks.

    Attributes:
        request: the request; its scope gets the fields of the log.
        model: the model.
        version: its version.
        pinned: whether the client named the version.
    """

    request: Request
    model: Model
    version: Version
    pinned: bool

    @classmethod
    def of(cls, repository: Repository, request: Request, protocol: str) -> Asked:
        """Returns the model and the version that the address names.

        Raises:
            Refused: there is none.
        """
        names = request.path_params
        model = repository.model(names["model"])
        version = model.version(names.get("version"), names.get("label"))
        request.scope["zoo"].update(protocol=protocol, model=model.name, version=version.number)
        return cls(request, model, version, "version" in names or "label" in names)

    def signature(self, name: str | None) -> tuple[str, SignatureInfo]:
        """Returns the signature of a name, by default `serving_default`."""
        chosen, info = self.version.signature(name)
        self.request.scope["zoo"]["signature"] = chosen
        return chosen, info

    async def json(self) -> Any:
        """Returns the JSON body, an object.

        Raises:
            Refused: it is something else.
        """
        body = await self.request.body()
        content = await asyncio.to_thread(values.parse, body) if len(body) > _LARGE else values.parse(body)
        if not isinstance(content, dict):
            raise Refused(400, f"The body is a JSON {type(content).__name__}; expected an object. Send {{...}}.")
        return content

    async def answer(
        self, signature: str, inputs: Mapping[str, np.ndarray], places: Sequence[int] | None = None
    ) -> dict[str, np.ndarray]:
        """Returns the outputs for a batch.

        Args:
            signature: the signature.
            inputs: arrays by name.
            places: the rows of the request that the batch consists of, from 0; None for all in their order.

        Raises:
            Refused: the batch is rejected; the message names the first invalid row of the request.
        """
        rows = max((len(value) for value in inputs.values() if value.ndim), default=0)
        fields = self.request.scope["zoo"]
        fields["rows"] = fields.get("rows", 0) + rows
        try:
            return await self.model.answer(
                self.version, signature, inputs, pinned=self.pinned, alone=self.request.scope.get("zoo.alone", False)
            )
        except Refused as refused:
            if refused.status != 400 or (refused.row is None and (places is None or len(places) > 1)):
                raise
            row = refused.row or 1
            number = places[row - 1] + 1 if places is not None else row
            raise Refused(refused.status, f"Row {number} of the request: {refused.message}") from refused

    async def answer_rows(self, signature: str, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Returns the outputs of each row by name. Rows of unlike shape, such as series of different length, are computed
        apart."""
        groups: dict[Any, list[int]] = {}
        for place, row in enumerate(rows):
            groups.setdefault(tuple(np.shape(value) for value in row.values()), []).append(place)
        batches = [
            {name: _stacked([rows[place][name] for place in places]) for name in rows[places[0]]}
            for places in groups.values()
        ]
        if len(batches) == 1:
            answers = [await self.answer(signature, batches[0], *(groups.values() if len(rows) > 1 else ()))]
        else:
            asked = zip(batches, groups.values(), strict=True)
            answers = await asyncio.gather(*(self.answer(signature, batch, places) for batch, places in asked))
        found: list[dict[str, Any]] = [{} for _ in rows]
        for places, outputs in zip(groups.values(), answers, strict=True):
            for at, place in enumerate(places):
                found[place] = {name: value[at] for name, value in outputs.items()}
        return found


def _stacked(parts: Sequence[Any]) -> np.ndarray:
    """Returns values with a batch dimension; bytes as objects."""
    if not isinstance(parts[0], bytes):
        return np.stack(parts)
    found = np.empty(len(parts), object)
    found[:] = parts
    return found


def check_names(given: Any, info: SignatureInfo, signature: str, where: str) -> None:
    """Checks the names of inputs.

    Raises:
        Refused: a name is missing or unknown.
    """
    missing = [name for name in info.needed if name not in given]
    if missing or not set(given) <= set(info.inputs):
        unknown = [str(name) for name in given if name not in info.inputs]
        parts = [f"lacks {', '.join(missing)}"] * bool(missing) + [f"has {', '.join(unknown):.200}"] * bool(unknown)
        raise Refused(
            400,
            f"{where} {' and '.join(parts)}; {signature} takes {', '.join(info.inputs)}. Send exactly these names.",
        )


def completed(arrays: Mapping[str, np.ndarray], info: SignatureInfo) -> dict[str, np.ndarray]:
    """Returns a batch with the inputs that the request has left out."""
    rows = max((len(value) for value in arrays.values() if value.ndim), default=1)
    lacking = {name: value for name, value in info.defaults.items() if name not in arrays}
    added = {
        name: np.full((rows, *np.shape(value)), value, info.inputs[name].spec.dtype.as_numpy_dtype)
        for name, value in lacking.items()
    }
    return {**arrays, **added}


def json_response(content: Any, *, status: int = 200, missing: bool = True) -> Response:
    """Returns a response of JSON, see `values.dumps`."""
    return Response(values.dumps(content, missing=missing), status, media_type="application/json")
