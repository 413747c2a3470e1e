"""Settings of a run that is there, compared with those of a call that would resume it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from zoo.config import TrainConfig
from zoo.errors import UsageError

_NO_NUMBERS = (
    *("steps_per_call", "checkpoint_steps", "keep_checkpoints", "histograms", "time_limit"),
    *("strategy", "replicas"),
)
"""Settings that change no number of a run, or only its rounding: it may move to other devices."""


def reject_other_settings(
    path: Path, existing: Mapping[str, Any], wanted: Mapping[str, Any], same_data: bool, untyped: Collection[str] = ()
) -> None:
    """Raises for the first setting in which a run that is there differs; more epochs at a constant rate are welcome, and
    so is the same data under another name.

    Args:
        path: the run's folder.
        existing: its settings.
        wanted: the settings of this call.
        same_data: whether the data is the run's, whatever its name.
        untyped: settings that nobody passed, as SECTION.NAME: defaults, and what the model recommends.

    Raises:
        UsageError: a setting differs; the message says which one, and what to type.
    """
    hashes = [{k: v["sha256"] for k, v in (part.get("plugins") or {}).items()} for part in (existing, wanted)]
    for plugin in {**hashes[0], **hashes[1]}:
        old, new = (known.get(plugin, "absent") for known in hashes)
        if old != new and None not in (old, new):
            raise UsageError(
                f"{path} holds a run with the plugin {plugin!r} of sha256 {old}; now it is {new}. Put the old file back to "
                "go on, or pass another run_directory, or overwrite=True (--overwrite) to start anew."
            )
    _reject_other_start(path, existing.get("start_from") or {}, wanted.get("start_from") or {})
    for section in ("model", "data", "config"):
        defaults = (
            TrainConfig().to_dict() if section == "config" else {}
        )  # a run of an earlier version has fewer fields
        old, new = {**defaults, **(existing.get(section) or {})}, dict(wanted[section])
        for key in sorted({*old, *new}):
            # Where files lie changes no number.
            place = section == "data" and (key.endswith("_dir") or (key == "name" and same_data))
            if old.get(key) == new.get(key) or place or (section == "config" and key in _NO_NUMBERS):
                continue
            longer = section == "config" and key == "epochs" and new[key] > old.get(key, 0)
            # A warm-up that is a fraction of the run is another one in a longer run.
            if longer and new.get("schedule") == "constant" and not new.get("warmup_fraction"):
                continue
            where, before, now = _first_difference(f"{section}.{key}", old.get(key), new.get(key))
            differs = f"with {where}={before!r}; this one has {now!r}"
            if where.endswith("sha256"):
                part = where.removesuffix("sha256").strip("_.").replace("data.", "")
                differs = f"that was trained on other data: its examples of {part} differ"
                if section == "model":
                    differs = "of another model: its layers, shapes or code differ"
            is_own = "sha256" in new or "sha256" in (existing.get("model") or {})
            if f"{section}.{key}" in untyped:
                raise UsageError(
                    f"{path} holds a run with {where}={before!r}; this one has {now!r}, because {key} was not passed. What "
                    f"is taken then may differ between versions. Pass {key}={old.get(key)!r} (--{section}.{key} "
                    f"{_on_command_line(old.get(key))}) to resume, another run_directory, or overwrite=True (--overwrite) to "
                    "start again."
                )
            weights = "" if is_own else f", with start_from={str(path)!r} to begin with the weights of that run"
            raise UsageError(
                f"{path} holds a run {differs}. Pass another run_directory{weights}; the same settings to resume; or "
                "overwrite=True (--overwrite) to start again."
            )


def _reject_other_start(path: Path, existing: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raises if a run began with other weights. Where their run lies changes no number."""
    if existing.get("sha256") != wanted.get("sha256"):
        before, now = (
            f"the weights of {part['run']} (sha256 {str(part['sha256'])[:12]})" if part else "initial weights"
            for part in (existing, wanted)
        )
        raise UsageError(
            f"{path} holds a run that began with {before}; this one begins with {now}. Pass the same --start-from to resume, "
            "another run_directory, or overwrite=True (--overwrite) to start again."
        )


def _first_difference(name: str, old: Any, new: Any) -> tuple[str, Any, Any]:
    """Returns the name and the two values of the first setting in which two values differ, which may be dicts of dicts."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}, key=str):
            if old.get(key) != new.get(key):
                return _first_difference(f"{name}.{key}", old.get(key), new.get(key))
    return name, old, new


def _on_command_line(value: Any) -> str:
    """Returns a setting as it is typed on a command line."""
    text = value if isinstance(value, str) else json.dumps(value)
    return shlex.quote(text)
