"""What a SavedModel costs: time per request, and size on disk."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from zoo.analysis.sides import Side

_CALLS = 50
_SECONDS = 5.0
_BATCH = 64


def size_on_disk(folder: Path) -> int:
    """Returns the bytes of all files in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def latencies(
    sides: Sequence[Side], requests: Sequence[Mapping[str, np.ndarray]], signature: str
) -> list[dict[str, float]]:
    """Measures calls of a signature in this process, without a server. The models take turns, so that other processes of the
    machine slow all of them alike.

    Args:
        sides: the models.
        requests: up to 64 raw requests for each of them.
        signature: name of the signature.

    Returns:
        For each model `one`, the median time of one request in milliseconds, and `batch`, that of a request in a batch of all
        of them.
    """
    count = len(next(iter(requests[0].values())))
    given = [[{k: v[:size] for k, v in part.items()} for size in (1, min(count, _BATCH))] for part in requests]
    sizes = (1, min(count, _BATCH))
    found: list[list[list[float]]] = [[[], []] for _ in sides]
    for kind, size in enumerate(sizes):
        begun = time.monotonic()
        for turn in range(_CALLS + 1):
            for side, parts, times in zip(sides, given, found, strict=True):
                start = time.perf_counter()
                side.answer(parts[kind], signature)
                if turn:  # the first call may trace
                    times[kind].append((time.perf_counter() - start) * 1_000 / size)
            if turn > 2 and time.monotonic() - begun > _SECONDS:
                break
    return [{"one": float(np.median(one)), "batch": float(np.median(batch))} for one, batch in found]


def costs(sides: Sequence[Side], requests: Sequence[Mapping[str, Any]], signature: str) -> list[dict[str, Any]]:
    """Returns for each model `parameters`; `bytes` of its SavedModel, None without one; and `milliseconds` of requests."""
    measured = latencies(sides, requests, signature)
    return [
        {
            "parameters": side.parameters,
            "bytes": None if side.saved_model is None else size_on_disk(side.saved_model),
            "milliseconds": times,
        }
        for side, times in zip(sides, measured, strict=True)
    ]
