"""Weights of Hugging Face repositories by name: `hf:ORG/NAME[@REVISION]` becomes a folder of the hub's cache.

The cache, the token, mirrors and proxies are those of `huggingface_hub`, which is imported when a name is first used. What
is complete in the cache is read without a request, and a commit never changes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fnmatch
import os
import re
import shutil
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from zoo._version import __version__
from zoo.checkpoints import curated
from zoo.checkpoints.contract import CheckpointFormat, Published, Repository
from zoo.checkpoints.hub_cache import CARD, CONFIG, Snapshot, cache_folder, cached_commit, record_commit
from zoo.errors import UsageError, did_you_mean, one_line, printable

PREFIX = "hf:"
_NAME = re.compile(
    r"hf:(?P<repository>[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9_][\w.-]{0,95})(@(?P<revision>[\w.-]+(/[\w.-]+)*))?", re.ASCII
)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_TRUE = ("1", "ON", "YES", "TRUE")


@dataclasses.dataclass(frozen=True)
class Name:
    """The name of a repository's files at a revision: a branch, a tag or a commit."""

    repository: str
    revision: str

    def __str__(self) -> str:
        return f"{PREFIX}{self.repository}@{self.revision}"

    @property
    def commit(self) -> str | None:
        """The revision if it is a whole commit, which never changes; otherwise None."""
        return self.revision if _COMMIT.fullmatch(self.revision) else None


def is_name(text: Any) -> bool:
    """Whether a value of the argument `weights` is a name of this module, and not a path."""
    return isinstance(text, (str, Path)) and str(text).startswith(PREFIX)


def parse(text: str | Path) -> Name:
    """Returns the parts of a name.

    Raises:
        UsageError: it has another form; the message suggests the nearest known name.

    Example:
        >>> parse("hf:google-bert/bert-base-uncased")
        Name(repository='google-bert/bert-base-uncased', revision='main')
    """
    found = _NAME.fullmatch(str(text))
    if found is None or {".", ".."} & {*(found["revision"] or "").split("/")} or "--" in found["repository"]:
        raise UsageError(
            f"{str(text)!r:.120} is not the name of a repository; expected hf:ORG/NAME or hf:ORG/NAME@REVISION. "
            f"{did_you_mean(str(text), curated.names(), listing='zoo list --pretrained')}"
        )
    return Name(found["repository"], found["revision"] or "main")


def is_offline() -> bool:
    """Whether the environment forbids requests. The library reads its variables only once, when it is imported."""
    from huggingface_hub import constants

    asked = (os.environ.get(name, "").upper() in _TRUE for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))
    return any(asked) or constants.is_offline_mode()


def fetch(text: str | Path, formats: Sequence[CheckpointFormat], *, verbose: int = 1) -> Published:
    """Returns the local folder of a name, after downloading what is missing.

    A name with a commit whose files are complete in the cache makes no request. A branch or tag makes one, to learn its
    commit. Without a network, the commit that was last downloaded is used.

    Args:
        text: the name.
        formats: the formats that may read it.
        verbose: 1 prints size, licence and place before a download, and a progress bar; 2 leaves out the bar, 0 both.

    Raises:
        UsageError: the name is not valid, the repository or revision is missing, gated or of another architecture, the hub
            cannot be reached and the cache is not complete, the disk is too small or cannot be written, or a file is damaged.

    Example:
        >>> fetch("hf:google/bert_uncased_L-2_H-128_A-2", [checkpoints.get_format("bert_folder")]).licence
        'apache-2.0'
    """
    name = parse(text)
    if name.commit and (found := _from_cache(name, name.commit, formats)):
        return found
    if is_offline():
        return _offline(name, formats, "HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set")
    with _explained(name):
        try:
            commit = _resolve(name)
        except UsageError:
            raise
        except Exception as error:
            if not _is_unreachable(error):
                raise
            found = _offline(name, formats, f"{_endpoint()} cannot be reached ({one_line(error, 100)})")
            if verbose:
                print(f"{_endpoint()} cannot be reached; {found.name} is used from the cache.", flush=True)
            return found
        return _from_cache(name, commit, formats) or _download(Snapshot(name.repository, commit), formats, verbose)


# --- The cache --------------------------------------------------------------------------------------------------------


def _from_cache(
    name: Name, commit: str, formats: Sequence[CheckpointFormat], *, listed: bool = True
) -> Published | None:
    """Returns the files of a commit if all of them are in the cache; None if one is missing.

    Args:
        name: the name.
        commit: its commit.
        formats: the formats that may read it.
        listed: whether the list of the repository's files must be known. Otherwise another program has downloaded them,
            and the weights that are there are used.
    """
    snapshot = Snapshot(name.repository, commit)
    if not (snapshot.folder / CONFIG).is_file():
        return None
    names = snapshot.listing()
    if names is None and listed:
        return None
    chosen = snapshot.choose(formats)
    wanted = chosen.repository or Repository((), (), ())
    files, weights = _select(wanted, names if names is not None else snapshot.local_files())
    if not weights or snapshot.missing([*files, *weights]):
        return None
    return _published(snapshot, files, weights)


def _offline(name: Name, formats: Sequence[CheckpointFormat], reason: str) -> Published:
    commit = name.commit or cached_commit(name.repository, name.revision)
    found = _from_cache(name, commit, formats, listed=False) if commit else None
    if found is None:
        raise UsageError(
            f"{name} is not complete in {cache_folder()}, and {reason}. Call `zoo fetch {name}` on a machine with a network, "
            "copy the folder that it prints, and pass the copy as weights."
        )
    return found


def _published(snapshot: Snapshot, files: Sequence[str], weights: Sequence[str]) -> Published:
    for file in files:
        snapshot.sha256(file)
    hashes = {file: snapshot.sha256(file) for file in weights}
    return Published(snapshot.name, snapshot.folder, snapshot.name, snapshot.licence(), hashes)


def _select(repository: Repository, names: Collection[str]) -> tuple[list[str], list[str]]:
    """Returns the names of the small files and of the weights that a format needs of a repository's files."""
    files = [n for n in names if any(_matches(n, pattern) for pattern in (CONFIG, CARD, *repository.files))]
    for group in repository.weights:
        if any(_matches(n, group[0]) for n in names):
            return files, [n for n in names if any(_matches(n, pattern) for pattern in group)]
    return files, []


def _matches(name: str, pattern: str) -> bool:
    return name.count("/") == pattern.count("/") and fnmatch.fnmatchcase(name, pattern)


# --- The hub ----------------------------------------------------------------------------------------------------------


def _endpoint() -> str:
    from huggingface_hub import constants

    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or constants.ENDPOINT


def _settings() -> dict[str, Any]:
    return {"endpoint": _endpoint(), "library_name": "savedmodel-zoo", "library_version": __version__}


def _resolve(name: Name) -> str:
    """Returns the commit of a revision. For a commit, it shows without repeated trials whether the hub has it."""
    from huggingface_hub import HfApi, constants

    seconds = constants.HF_HUB_ETAG_TIMEOUT  # the library waits for ever without it
    commit = HfApi(**_settings()).model_info(name.repository, revision=name.revision, timeout=seconds).sha
    if commit is None or not _COMMIT.fullmatch(commit):
        raise UsageError(
            f"{_endpoint()} does not name the commit of {name}. Pass the commit: hf:{name.repository}@COMMIT."
        )
    if name.commit is None:
        record_commit(name.repository, name.revision, commit)
    return commit


def _download(snapshot: Snapshot, formats: Sequence[CheckpointFormat], verbose: int) -> Published:
    """Downloads what is missing: first what says whether the format can be read, the weights last."""
    from huggingface_hub import HfApi, hf_hub_download, snapshot_download
    from huggingface_hub.hf_api import RepoFile

    where: dict[str, Any] = {"revision": snapshot.commit, "cache_dir": cache_folder(), **_settings()}
    silent = _bar(shown=False)
    snapshot_download(snapshot.repository, allow_patterns=[CONFIG, CARD], tqdm_class=silent, **where)
    chosen = snapshot.choose(formats)
    chosen.read_arguments(snapshot.folder)
    sizes = snapshot.listing()
    if sizes is None:  # a cache that cannot be written
        tree = HfApi(**_settings()).list_repo_tree(snapshot.repository, revision=snapshot.commit, recursive=True)
        sizes = {file.path: file.size for file in tree if isinstance(file, RepoFile)}
    files, weights = _select(chosen.repository or Repository((), (), ()), sizes)
    if not weights:
        others = ", ".join(
            sorted(n for n in sizes if re.search(r"\.(h5|msgpack|onnx|bin|safetensors|gguf|ot)$", n))[:5]
        )
        raise UsageError(
            f"{snapshot.name} has no weights of {chosen.title} (it has {printable(others) or 'none at all'}). Choose another "
            "repository; `zoo list --pretrained` prints some."
        )
    missing = snapshot.missing([*files, *weights])
    size = sum(sizes[file] or 0 for file in missing)
    if missing:
        _check_room(snapshot, size)
        if verbose:
            print(
                f"Downloads {snapshot.name}: {_megabytes(size)}, licence {snapshot.licence()}, into {cache_folder()}.",
                flush=True,
            )
    if missing_files := [file for file in missing if file not in weights]:
        snapshot_download(snapshot.repository, allow_patterns=missing_files, tqdm_class=silent, **where)
    for file in weights:
        if file in missing:
            bar = _bar(shown=verbose == 1)
            hf_hub_download(snapshot.repository, file, tqdm_class=bar, **where)
    return _published(snapshot, files, weights)


def _check_room(snapshot: Snapshot, size: int) -> None:
    """Raises UsageError if the disk of the cache has too little room."""
    place = cache_folder()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if size > free:
        raise UsageError(
            f"{snapshot.name} needs {_megabytes(size)}; the disk of {cache_folder()} has {_megabytes(free)} left, so nothing "
            "was downloaded. Make room, or set HF_HOME to a folder on a larger disk."
        )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def _bar(*, shown: bool) -> Any:
    """Returns the class of the library's progress bars, or of bars that are not shown."""
    from huggingface_hub.utils import tqdm

    class Silent(tqdm):
        """A progress bar that is not shown."""

        def __init__(self, *args: Any, **settings: Any) -> None:
            super().__init__(*args, **{**settings, "disable": True})

    return tqdm if shown else Silent


# --- Errors -----------------------------------------------------------------------------------------------------------


def _is_unreachable(error: Exception) -> bool:
    """Whether there was no answer, or that of a server which is out of order."""
    from huggingface_hub import errors

    if isinstance(error, errors.HfHubHTTPError):
        return error.response.status_code >= 500
    return isinstance(error, (errors.HTTPError, errors.OfflineModeIsEnabled))


@contextlib.contextmanager
def _explained(name: Name) -> Iterator[None]:
    """Turns the errors of the library into one sentence."""
    from huggingface_hub import errors

    here = f"{_endpoint()}/{name.repository}"
    try:
        yield
    except UsageError:
        raise
    except errors.GatedRepoError as error:
        raise UsageError(
            f"hf:{name.repository} is gated: its owner gives access to users who accept its conditions ({_answer(error)}). "
            f"Accept them at {here}, then set HF_TOKEN to a token of yours or call `hf auth login`."
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise UsageError(
            f"{_endpoint()} has no repository {name.repository}, or it is private ({_answer(error)}). Correct the name, or "
            f"set HF_TOKEN for a private one. "
            f"{did_you_mean(f'{PREFIX}{name.repository}', curated.names(), listing='zoo list --pretrained')}"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise UsageError(
            f"{here} has no revision {name.revision!r} ({_answer(error)}). Pass hf:{name.repository}@REVISION with a "
            "branch, a tag or a commit of it."
        ) from error
    except errors.HFValidationError as error:
        raise UsageError(f"{name} is not a valid name ({one_line(error, 160).rstrip('.')}). Correct it.") from error
    except errors.HfHubHTTPError as error:
        raise UsageError(
            f"{here} answers with an error ({_answer(error)}). Try again later, or pass a local folder as weights."
        ) from error
    except (errors.HTTPError, errors.LocalEntryNotFoundError) as error:
        raise UsageError(
            f"The download of {name} from {_endpoint()} failed ({one_line(error, 120)}). Check the network and start the "
            "same command again, or pass a local folder as weights."
        ) from error
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.ENOTDIR, errno.EDQUOT):
            raise UsageError(
                f"The cache {cache_folder()} cannot be written: {error.strerror}. Set HF_HOME to a folder that you may "
                "write, on a disk with room."
            ) from error
        raise UsageError(
            f"The download of {name} failed ({one_line(error, 160)}). Start the same command again."
        ) from error
    except (errors.XetDownloadError, RuntimeError) as error:  # the other way of the library to download
        raise UsageError(
            f"The download of {name} failed ({one_line(error, 160)}). Start the same command again, with "
            "HF_HUB_DISABLE_XET=1 if it fails again."
        ) from error
    except (ValueError, KeyError) as error:
        raise UsageError(
            f"{_endpoint()} does not answer as a Hugging Face Hub does ({one_line(error, 120)}). Check HF_ENDPOINT, or pass "
            "a local folder as weights."
        ) from error


def _answer(error: Any) -> str:
    """Returns what the hub has answered, in short."""
    said = printable(one_line(ValueError(error.server_message), 120)).rstrip(".") if error.server_message else ""
    return f"status {error.response.status_code}" + (f": {said}" if said else "")
