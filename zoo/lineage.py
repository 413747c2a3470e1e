"""Lineage: which command, settings, data and code a model comes from. A run keeps it, and the exporter writes it to zoo.json.

Nothing in it names a machine, a user or a folder, and nothing depends on the time: equal runs have equal lineages.
"""

from __future__ import annotations

import contextlib
import contextvars
import hashlib
import json
import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo import storage
from zoo.errors import UsageError

RECORD = "_zoo_lineage"
"""Name of the record on a model; see `zoo.copies.record`."""
FILE = "lineage.json"
_SECTIONS = ("model", "data", "config")
_NOT_OF_THE_MODEL = {
    **{"run_directory": 1, "cluster": 1, "task_index": 1, "cluster_timeout": 1},
    **{"overwrite": 0, "quiet": 0, "json": 0, "mlflow": 0},
}
"""Options that say where and how a command runs, not what it makes, with the number of their values."""
_MOST_LICENCE = 200
_typed: contextvars.ContextVar[tuple[str, ...] | None] = contextvars.ContextVar("typed", default=None)


@contextlib.contextmanager
def typed(words: Sequence[str]) -> Iterator[None]:
    """Declares the words of the command that the block runs."""
    token = _typed.set(tuple(words))
    try:
        yield
    finally:
        _typed.reset(token)


def started(settings: Mapping[str, Any], data_sha256: str | None) -> dict[str, Any]:
    """Returns the lineage of a run that starts now.

    Args:
        settings: the sections of its config.yaml.
        data_sha256: the hash of its prepared data, None for data without one.

    Returns:
        `run_id`, a hash of the settings and the data; `command`, None if Python code started it; `settings`; `code`, see
        `code_of`; and `parent`, run id and hash of the weights of the run that it started from, None without one.

    Example:
        >>> started({"config": {"seed": 0}}, None)["settings"]
        {'config': {'seed': 0}}
    """
    kept = {name: without_folders(settings[name]) for name in _SECTIONS if name in settings}
    parent: dict[str, Any] | None = None
    if start := settings.get("start_from"):
        parent = {"run_id": read(start["run"]).get("run_id"), "weights_sha256": start["sha256"]}
    content = json.dumps([kept, parent, data_sha256], sort_keys=True, default=str)
    return {
        "run_id": hashlib.sha256(content.encode()).hexdigest()[:16],
        "command": command(),
        "settings": kept,
        "code": code_of(Path.cwd()),
        "parent": parent,
    }


def of(model: Any) -> dict[str, Any]:
    """Returns the lineage that is recorded on a model; for a model without a run, what is known of the export itself."""
    recorded = getattr(model, RECORD, None)
    return dict(recorded) if recorded else {"command": command(), "code": code_of(Path.cwd())}


def record_licence(model: Any, licence: str | None, run_directory: Path | None = None) -> None:
    """Records the licence of a model on it, and in the folder of its run; nothing for None.

    Raises:
        UsageError: it is not a short text of one line.
    """
    if (checked := check_licence(licence)) is None:
        return
    found = {**of(model), "licence": checked}
    object.__setattr__(model, RECORD, found)  # as `zoo.copies.record`, which stands above
    if run_directory is not None:
        write(run_directory, found)


def read(run_directory: str | Path) -> dict[str, Any]:
    """Returns the lineage that a run has kept; empty for a run of an earlier version, or a damaged file."""
    try:
        return dict(storage.read_json(Path(run_directory) / FILE))
    except (OSError, ValueError, TypeError):
        return {}


def write(run_directory: Path, found: Mapping[str, Any]) -> None:
    """Writes the lineage into a run's folder."""
    storage.write_json(run_directory / FILE, found)


def check_licence(licence: Any) -> str | None:
    """Returns the licence of a model, stripped; None for none.

    Raises:
        UsageError: it is not a short text of one line.
    """
    if licence is None:
        return None
    if not isinstance(licence, str) or not licence.strip() or "\n" in licence or len(licence) > _MOST_LICENCE:
        raise UsageError(f"The licence of the model is {licence!r:.60}. Pass a short text, such as Apache-2.0.")
    return licence.strip()


def command() -> str | None:
    """Returns the command that runs, without folders and without options that do not change its result; None if Python code
    called the package.

    Example:
        >>> with typed(["zoo", "train", "--data", "csv:/srv/ann/people.csv", "--quiet"]):
        ...     command()
        'zoo train --data csv:people.csv'
    """
    words = _typed.get()
    if words is None:
        return None
    kept: list[str] = []
    skipped, is_path = 0, True  # words before the first option are paths, apart from the command's
    for word in words:
        name, equals, _ = word.removeprefix("--").replace("-", "_").partition("=")
        if skipped:
            skipped -= 1
        elif word.startswith("--") and name in _NOT_OF_THE_MODEL:
            skipped, is_path = 0 if equals else _NOT_OF_THE_MODEL[name], False
        elif word.startswith("--"):
            is_path = name.rpartition(".")[2] in _PATHS
            kept.append(_shortened(word, is_path))
            is_path = is_path and not equals
        else:
            kept.append(_shortened(word, is_path))
            is_path = is_path and not any(part.startswith("--") for part in kept)
    return shlex.join(kept)


def code_of(folder: Path) -> dict[str, Any] | None:
    """Returns the commit of the Git repository that a folder is in, and whether tracked files differ from it; None outside
    a repository, without a commit, or without Git.

    Example:
        >>> code_of(Path("my-project"))
        {'commit': '3b18e512dba79e4c8300dd08aeb37f8e728b8dad', 'dirty': False}
    """
    commit = _git(folder, "rev-parse", "--verify", "HEAD")
    if commit is None:
        return None
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no", "--ignore-submodules")
    return {"commit": commit.strip(), "dirty": None if changed is None else bool(changed.strip())}


def _git(folder: Path, *words: str) -> str | None:
    # core.fsmonitor may name a program of the repository, which must not run.
    start = ["git", "--no-optional-locks", "-c", "core.fsmonitor=false", "-C", str(folder)]
    try:
        done = subprocess.run([*start, *words], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return None
    return done.stdout if done.returncode == 0 else None


_PART = r"[^/\"'\[\]{}]"
_BEFORE = r"(?<![^\s\"'=:,(\[{])"
_FOLDERS = re.compile(rf"{_BEFORE}(?:(?:~[\w.-]*|\.\.?)/(?:{_PART}+/)*|/(?:{_PART}+/)+)(?={_PART})")
_FILE_URL = re.compile(r"file://[^/\s\"']*(?=/)")
_SECRETS = re.compile(r"(?<![\w+.-])([a-z][\w+.-]*://)(?:[^/\s\"'?#]*@)?([^\s\"'?#]*)(?:[?#][^\s\"']*)?", re.IGNORECASE)
_RELATIVE = re.compile(r"(--[\w.+-]+=)?(?:([a-z]\w*):)?([^\s/].*/.*)", re.DOTALL)
_FILE = re.compile(r".*/[^/]*\.[A-Za-z]\w{0,9}(:\w+)?/?", re.DOTALL)
_HUBS = ("hf", "huggingface")
"""Sources whose names have a slash, such as hf:google-bert/bert-base-cased."""
_PATHS = ("validation", "test", "start_from")
"""Options whose value may be a path without the name of a source."""


def without_folders(value: Any) -> Any:
    """Returns JSON values with every path reduced to the name of its file or folder. A home folder becomes `~`. User name,
    password and query are left out of the address of a web page.

    A relative path is known by its form, as the files may be elsewhere by now: it has the name of a source, an extension, or
    at least two folders; or it is the value of an option that takes paths.

    Example:
        >>> without_folders({"name": "csv:/srv/ann/people.csv", "columns": {"label": "km/h"}})
        {'name': 'csv:people.csv', 'columns': {'label': 'km/h'}}
    """
    if isinstance(value, Mapping):
        return {
            key: _shortened(part, True) if isinstance(part, str) and key in _PATHS else without_folders(part)
            for key, part in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [without_folders(part) for part in value]
    if isinstance(value, Path):
        return _shortened(str(value), True)
    return _shortened(value, False) if isinstance(value, str) else value


def _shortened(text: str, is_path: bool) -> str:
    """Returns a text without folders; `is_path` says that it is a path even if it does not look like one."""
    text = _SECRETS.sub(r"\1\2", _FILE_URL.sub("file:", text))
    text = _FOLDERS.sub("", re.sub(rf"{_BEFORE}{re.escape(str(Path.home()))}(?=[/\s\"',]|$)", "~", text))
    if text.startswith(("[", "{")):
        try:
            content = json.loads(text)
        except (ValueError, RecursionError):
            return text
        return text if (found := without_folders(content)) == content else json.dumps(found, ensure_ascii=False)
    match = _RELATIVE.fullmatch(text)
    if match is None or "://" in text or match[2] in _HUBS:
        return text
    option, source, path = match[1] or "", match[2], match[3]
    parts = path.rstrip("/").split("/")
    is_long = len(parts) > 2 and not re.search(r"[\s%]", path) and all(map(str.strip, parts))
    if is_path or source or is_long or _FILE.fullmatch(path):
        return option + (f"{source}:" if source else "") + parts[-1]
    return text
