"""The versions that MLServer has loaded. It imports `runtime.py` again for every version, and this file once."""

from __future__ import annotations

from typing import Any

LOADED: dict[tuple[str, str], Any] = {}
"""The models by name and version."""
