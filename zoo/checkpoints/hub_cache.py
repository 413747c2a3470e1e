"""The cache of the Hugging Face Hub: where a repository's files are, and whether they are intact. No request is made."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from zoo import storage
from zoo.checkpoints.contract import CheckpointFormat
from zoo.errors import UsageError, one_line, printable

CONFIG, CARD = "config.json", "README.md"
_LARGEST = 64 << 20
"""Maximum bytes of config.json and of the card."""
_LONGEST_LICENCE = 60


def cache_folder() -> Path:
    """Returns the folder of the hub's cache, from the environment variables of `huggingface_hub`.

    They are read at every call. The library itself reads them once, when it is imported.
    """
    home = os.environ.get("HF_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    folder = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or os.path.join(home, "hub")
    return Path(os.path.expandvars(folder)).expanduser().absolute()


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """The local files of a repository at one commit.

    Attributes:
        repository: ORG/NAME.
        commit: 40 hexadecimal digits.
    """

    repository: str
    commit: str

    @property
    def name(self) -> str:
        """The name that always means these files."""
        return f"hf:{self.repository}@{self.commit}"

    @property
    def folder(self) -> Path:
        """The folder of the files."""
        return repository_folder(self.repository) / "snapshots" / self.commit

    def listing(self) -> dict[str, int] | None:
        """Returns the repository's files with their sizes, as an earlier download has recorded them; None if none has."""
        from huggingface_hub import get_cached_repo_tree
        from huggingface_hub.errors import CachedRepoTreeNotFoundError

        try:
            found = get_cached_repo_tree(self.repository, revision=self.commit, cache_dir=cache_folder())
        except CachedRepoTreeNotFoundError:
            return None
        return {file.path: file.size for file in found}

    def local_files(self) -> list[str]:
        """Returns the names of the local files."""
        files = (file for file in self.folder.rglob("*") if file.is_file())
        return sorted(file.relative_to(self.folder).as_posix() for file in files)

    def missing(self, names: Sequence[str]) -> list[str]:
        """Returns those of the names that are not local files."""
        return [name for name in names if not (self.folder / name).is_file()]

    def choose(self, formats: Sequence[CheckpointFormat]) -> CheckpointFormat:
        """Returns the first format that reads the model of config.json.

        Raises:
            UsageError: config.json is missing or damaged, or no format reads its architecture; the message lists those that
                can be read.
        """
        config = _read_config(self.folder / CONFIG)
        kind = config.get("model_type")
        for each in formats:
            fits = each.repository and (kind is None or kind in each.repository.types)
            if fits and each.recognises(self.folder):
                return each
        types = sorted({kind for each in formats if each.repository for kind in each.repository.types})
        architectures = config.get("architectures")
        found = f"architectures={architectures!r}" if kind is None or kind in types else f"the model_type {kind!r}"
        raise UsageError(
            f"hf:{self.repository} has {printable(found)[:120]}; this package reads {', '.join(types)}, so its weights were "
            "not downloaded. Choose another repository; `zoo list --pretrained` prints some."
        )

    def licence(self) -> str:
        """Returns the licence in the head of the repository's README.md; "unknown" if there is none."""
        try:
            text = storage.read_bytes(self.folder / CARD, _LARGEST).decode("utf-8", "replace")
            head = re.match(r"\ufeff?\s*---\r?\n(.*?)\r?\n---", text, re.DOTALL)
            content = yaml.safe_load(head[1]) if head else None
        except (OSError, UsageError, yaml.YAMLError, RecursionError):
            return "unknown"
        facts = content if isinstance(content, dict) else {}
        found = facts.get("license")
        if found == "other":
            found = facts.get("license_name") or found
        names = [name for name in (found if isinstance(found, list) else [found]) if isinstance(name, str)]
        return printable(", ".join(names))[:_LONGEST_LICENCE] or "unknown"

    def sha256(self, name: str) -> str:
        """Returns the SHA-256 of a file, after comparing its content with the hash under which the hub knows it.

        Raises:
            UsageError: the content is another. The file is removed, so that the next download gets it again.
        """
        file = self.folder / name
        facts = file.stat()
        known = Path(os.readlink(file)).name if file.is_symlink() else ""
        found, git = _hashes(file, facts.st_size, facts.st_mtime_ns, re.fullmatch(r"[0-9a-f]{40}", known) is not None)
        if re.fullmatch(r"[0-9a-f]{64}|[0-9a-f]{40}", known) and known not in (found, git):
            blob = file.parent / os.readlink(file)
            for each in (file, blob):
                each.unlink(missing_ok=True)
            raise UsageError(
                f"{name} of {self.name} is damaged: its hash is {(git or found)[:12]}, expected {known[:12]}. It was "
                "removed; start the same command again to download it."
            )
        return found


def repository_folder(repository: str) -> Path:
    """Returns the folder of all commits of a repository."""
    return cache_folder() / f"models--{repository.replace('/', '--')}"


def cached_commit(repository: str, revision: str) -> str | None:
    """Returns the commit of a branch or tag when it was last downloaded; None if it never was."""
    file = repository_folder(repository) / "refs" / revision
    try:
        found = file.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
    return found if re.fullmatch(r"[0-9a-f]{40}", found) else None


def record_commit(repository: str, revision: str, commit: str) -> None:
    """Records the commit of a branch or tag for use without a network; a cache that cannot be written stays as it is."""
    file = repository_folder(repository) / "refs" / revision
    if cached_commit(repository, revision) == commit:
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        storage.write_text(file, commit)
    except OSError:
        return


@functools.lru_cache(maxsize=256)
def _hashes(file: Path, size: int, changed: int, git: bool) -> tuple[str, str]:
    """Returns the SHA-256 of a file, and its hash in git if `git` is true, else "". Size and time of change are the key."""
    found = storage.sha256(file)
    if not git:
        return found, ""
    content = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
    with file.open("rb") as opened:
        while part := opened.read(1 << 20):
            content.update(part)
    return found, content.hexdigest()


def _read_config(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(storage.read_bytes(file, _LARGEST))
    except OSError as error:
        raise UsageError(
            f"{file} is missing, so this is not a repository of a model. Choose another; `zoo list --pretrained` prints some."
        ) from error
    except UsageError:
        raise
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{file} is not JSON ({one_line(error, 100)}). Choose another repository.") from error
    if not isinstance(content, dict):
        raise UsageError(
            f"{file} holds {type(content).__name__}; expected settings by name. Choose another repository."
        )
    return content
