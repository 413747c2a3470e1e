"""Export: SavedModels from raw input to labels, verified against the trained model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.export.artifact import save
    from zoo.export.bulk.run import predict_files, predict_rows
    from zoo.export.conversion import convert
    from zoo.export.inspection.description import describe
    from zoo.export.loading import load
    from zoo.export.verification import verify

__all__ = ["convert", "describe", "load", "predict_files", "predict_rows", "save", "verify"]

_HOMES = {
    "save": "artifact",
    "load": "loading",
    "verify": "verification",
    "convert": "conversion",
    "describe": "inspection.description",
    "predict_files": "bulk.run",
    "predict_rows": "bulk.run",
}


def __getattr__(name: str) -> Any:
    import importlib

    if name in _HOMES:
        return getattr(importlib.import_module(f"zoo.export.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'zoo.export' has no attribute {name!r}")
