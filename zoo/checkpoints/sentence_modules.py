"""Reads what a folder of sentence-transformers adds to its Transformer: modules.json, the pooling, the maximum length."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from zoo import storage
from zoo.errors import UsageError, one_line

MODULES, LENGTH, SETTINGS = "modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"
PATTERNS = (MODULES, LENGTH, SETTINGS, "[0-9]*_*/config.json")
"""The files of this module, as patterns of names. Folders of modules are named 1_Pooling, 2_Normalize and so on; those of
other runtimes, such as onnx, have a config.json too."""
_LARGEST = 1 << 20
"""Maximum bytes of a file."""
_MODES = {
    "mean_tokens": "mean",
    "mean": "mean",
    "cls_token": "first",
    "cls": "first",
    "max_tokens": "max",
    "max": "max",
}
"""Our names of pooling by those of the format."""
_KNOWN = ("Transformer", "Pooling", "Normalize")


@dataclasses.dataclass(frozen=True)
class Modules:
    """The modules of a folder: a Transformer, a pooling, and perhaps a normalisation.

    Attributes:
        body: the folder of the Transformer.
        pooling: how the vectors of the tokens become one: mean, first or max.
        normalize: whether the vector is divided by its length.
        max_length: maximum number of tokens; None if the folder does not say.
    """

    body: Path
    pooling: str
    normalize: bool
    max_length: int | None


def has_modules(folder: str | Path) -> bool:
    """Whether a folder has the modules of sentence-transformers. Their content is not checked.

    Example:
        >>> has_modules("all-MiniLM-L6-v2")
        True
    """
    return (Path(folder) / MODULES).is_file()


def read_modules(folder: str | Path) -> Modules | None:
    """Reads modules.json and the files that it names; returns None for a folder without modules.json.

    Raises:
        UsageError: a file is missing or damaged, a module is none of Transformer, Pooling and Normalize, the pooling is none
            of mean, first token and maximum, or texts get a prompt or are changed before the tokenizer.

    Example:
        >>> read_modules("all-MiniLM-L6-v2").pooling
        'mean'
    """
    folder = Path(folder)
    file = folder / MODULES
    if not file.is_file():
        return None
    entries = _read(file)
    if not isinstance(entries, list) or not all(
        isinstance(part, dict) and isinstance(part.get("type"), str) and isinstance(part.get("path"), str)
        for part in entries
    ):
        raise UsageError(f"{file} holds no list of modules with type and path. Replace it with a complete file.")
    kinds = [part["type"].rpartition(".")[2] for part in entries]
    if other := [kind for kind in kinds if kind not in _KNOWN]:
        raise UsageError(
            f"{file} has the module {other[0]!r}; expected {', '.join(_KNOWN)}. Choose a sentence encoder without it."
        )
    if kinds not in ([*_KNOWN], [*_KNOWN[:2]]):
        raise UsageError(
            f"{file} has the modules {', '.join(kinds) or 'none'}; expected {', '.join(_KNOWN[:2])} and perhaps "
            f"{_KNOWN[2]}, in this order. Choose another sentence encoder."
        )
    paths = [_inside(folder, part["path"], file) for part in entries]
    settings = _settings(folder / SETTINGS)
    if settings.get("default_prompt_name") is not None:
        raise UsageError(
            f"{folder / SETTINGS} has default_prompt_name {settings['default_prompt_name']!r}, a prompt before every text, "
            "which is not supported. Choose a sentence encoder without one."
        )
    length = next((_settings(part / LENGTH) for part in (folder, paths[0]) if (part / LENGTH).is_file()), {})
    if length.get("do_lower_case"):
        raise UsageError(
            f"{LENGTH} of {folder} has do_lower_case true: texts are changed before the tokenizer. If the tokenizer "
            "lower-cases texts itself, put false there."
        )
    return Modules(paths[0], _pooling(paths[1] / "config.json"), len(kinds) == 3, _length(length, folder / LENGTH))


def pooling_of(folder: str | Path) -> dict[str, str]:
    """Returns {"pooling": ...} for a folder of sentence-transformers, and {} for any other: its token vectors were trained
    for this pooling, so it suits a classifier too.

    Example:
        >>> pooling_of("bert-base-uncased")
        {}
    """
    found = read_modules(folder)
    return {} if found is None else {"pooling": found.pooling}


def _read(file: Path) -> Any:
    try:
        return json.loads(storage.read_bytes(file, _LARGEST))
    except UsageError:
        raise
    except FileNotFoundError as error:
        raise UsageError(f"{file} is missing. Pass a complete folder of sentence-transformers.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{file} is not JSON ({one_line(error, 100)}). Replace it with a complete file.") from error


def _settings(file: Path) -> Mapping[str, Any]:
    content = _read(file) if file.is_file() else {}
    if not isinstance(content, dict):
        raise UsageError(
            f"{file} holds a {type(content).__name__}; expected settings by name. Replace it with a complete file."
        )
    return content


def _inside(folder: Path, path: str, file: Path) -> Path:
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts:
        raise UsageError(f"{file} has the path {path!r}; expected a folder inside {folder}. Correct it.")
    return folder / parts


def _pooling(file: Path) -> str:
    settings = _settings(file) if file.is_file() else _read(file)
    prefix = "pooling_mode_"
    modes = [key.removeprefix(prefix) for key, value in settings.items() if key.startswith(prefix) and value is True]
    named = settings.get("pooling_mode")
    modes += [named] if isinstance(named, str) else []
    if len(modes) != 1 or modes[0] not in _MODES:
        raise UsageError(
            f"{file} has the pooling {' and '.join(modes) or 'none'}; expected one of mean_tokens, cls_token and max_tokens. "
            "Choose another sentence encoder."
        )
    return _MODES[modes[0]]


def _length(settings: Mapping[str, Any], file: Path) -> int | None:
    found = settings.get("max_seq_length")
    if found is not None and (isinstance(found, bool) or not isinstance(found, int) or found < 3):
        raise UsageError(
            f"{file} has max_seq_length={found!r}; expected a whole number of at least 3, or null. Correct it."
        )
    return found
