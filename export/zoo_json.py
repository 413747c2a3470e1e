"""Reads zoo.json, what an artifact says of itself, which may be of unknown origin."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo import storage
from zoo.export import artifact_paths

MADE_UP = "requests that were made up"
"""The origin of golden examples that are no data of anybody, as zoo.json names it."""


def read(path: Path) -> dict[str, Any]:
    """Returns the contents of zoo.json; empty for a third-party SavedModel."""
    file = path / artifact_paths.EXTRA / "zoo.json"
    try:
        return dict(storage.read_json(file)) if file.is_file() else {}
    except (OSError, ValueError, TypeError):  # `zoo verify` reports it
        return {}


def signatures(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the entries of the signatures by name; empty if there are none."""
    try:
        return dict(facts["signatures"])
    except (KeyError, ValueError, TypeError):
        return {}
