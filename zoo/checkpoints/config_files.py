"""Reads the settings of Hugging Face's folders: config.json, and the numbers in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from zoo import storage
from zoo.errors import UsageError, one_line

_LARGEST = 64 << 20
"""Maximum bytes of a file of settings."""


def read(folder: Any) -> tuple[Path, dict[str, Any]]:
    """Returns the path and the content of a folder's config.json.

    Raises:
        UsageError: the folder has none, or it is no JSON object.

    Example:
        >>> read("vit-base-patch16-224")[1]["model_type"]
        'vit'
    """
    file = Path(folder) / "config.json" if isinstance(folder, (str, Path)) else Path("config.json")
    if not isinstance(folder, (str, Path)) or not file.is_file():
        raise UsageError(
            f"There is no {file}. Pass a folder with config.json and weights, which save_pretrained wrote, or hf:ORG/NAME "
            "to download one."
        )
    return file, read_json(file)


def read_json(file: Path) -> dict[str, Any]:
    """Returns the settings in a JSON file.

    Raises:
        UsageError: it is no JSON object.
    """
    try:
        content = json.loads(storage.read_bytes(file, _LARGEST))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{file} is not JSON ({one_line(error, 100)}). Replace it with a complete file.") from error
    if not isinstance(content, dict):
        raise UsageError(f"{file} holds {type(content).__name__}; expected settings by name. Replace it.")
    return content


def is_type(folder: Any, model_type: str) -> bool:
    """Whether a folder's config.json is for a kind of model. It never raises."""
    try:
        return read(folder)[1].get("model_type") == model_type
    except (UsageError, OSError):
        return False


def size(file: Path, key: str, value: Any) -> int:
    """Returns a setting that is a whole number of at least 1.

    Raises:
        UsageError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UsageError(f"{file} has {key}={value!r}; expected a whole number of at least 1. Correct it.")
    return value


def fraction(file: Path, key: str, value: Any) -> float:
    """Returns a setting that is a number of at least 0 and less than 1.

    Raises:
        UsageError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
        raise UsageError(f"{file} has {key}={value!r}; expected a number of at least 0 and less than 1. Correct it.")
    return value
