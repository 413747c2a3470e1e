"""The section of the model card on where the model comes from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zoo.export import artifact_paths


def lineage_section(lineage: Mapping[str, Any]) -> list[str]:
    """Returns where the model comes from: run, command, seed, data, code, and the run that it started from."""
    settings, data, code, parent = (lineage.get(key) or {} for key in ("settings", "data", "code", "parent"))
    seed = (settings.get("config") or {}).get("seed")
    lines = [
        ("Run", f"`{lineage.get('run_id')}`, a hash of settings and data", lineage.get("run_id")),
        ("Command", f"`{lineage.get('command')}`", lineage.get("command")),
        ("Seed", f"{seed}; all settings are in `{artifact_paths.EXTRA}/zoo.json`", seed is not None),
        ("SHA-256 of the prepared data", f"`{data.get('sha256')}`", data),
        ("Commit of the code", f"`{code.get('commit')}`" + (", with changes" if code.get("dirty") else ""), code),
        ("Started from", f"run `{parent.get('run_id')}`, weights `{parent.get('weights_sha256')}`", parent),
    ]
    found = [f"- {title}: {text}" for title, text, known in lines if known]
    return ["## Lineage", "", *found, ""] if found else []
