"""Versions of a folder: written hidden, on disk before they are seen, visible in one rename."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path

from zoo import storage
from zoo.errors import UsageError
from zoo.export import artifact_paths

_WRITING = ".writing-"


def check_folder(base: Path) -> None:
    """Raises `UsageError` where no versions can be exported to: before a training whose result would have no place."""
    if re.search(r"[*?\[\\]", str(base.absolute())):
        raise UsageError(
            f"{base.absolute()} has one of * ? [ \\ in it, which TensorFlow takes for a pattern when it loads. "
            "Pass another folder to export to."
        )
    if not base.exists():
        return
    if not base.is_dir():
        raise UsageError(f"{base} exists and is not a folder. Pass another folder to export to.")
    others = [p.name for p in base.iterdir() if not artifact_paths.is_version(p.name) and not p.name.startswith(".")]
    if others:
        raise UsageError(
            f"{base} exists and holds {', '.join(sorted(others)[:3])}, no versions of a SavedModel. Pass a new folder, "
            "or one with versions 1, 2, ...; nothing was changed."
        )


@contextlib.contextmanager
def hidden_folder(base: Path) -> Iterator[Path]:
    """Gives a new folder in `base` that is locked while this process lives; it is removed if it is still there at the end.

    A folder without a lock is what an export that was killed left behind: it is removed too. The lock, not a process
    number, tells: numbers mean nothing to another container or host that writes into the same folder.
    """
    is_new = not base.exists()
    name = uuid.uuid4().hex[:12]
    unlocked, folder = base / f".{name}", base / f"{_WRITING}{name}"
    lock = None
    try:
        unlocked.mkdir(parents=True)
        with contextlib.suppress(OSError):  # a disk that knows no locks: then nobody's leftovers are removed
            lock = _lock(unlocked)
        unlocked.rename(folder)  # it gets the name that others look for only when it is locked
        for other in base.glob(f"{_WRITING}*"):
            with contextlib.suppress(OSError):  # in use, or gone meanwhile
                os.close(_lock(other))
                storage.remove_tree(other)
        yield folder
    finally:
        storage.remove_tree(unlocked)
        storage.remove_tree(folder)
        if lock is not None:
            os.close(lock)
        if is_new:
            with contextlib.suppress(OSError):  # not empty: something was published
                base.rmdir()


def _lock(folder: Path) -> int:
    """Locks a folder until the returned file descriptor is closed or this process ends, however it ends."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def flush(folder: Path) -> None:
    """Waits until every file is on the disk: full disks speak up here at the latest, not after the rename."""
    for file in (path for path in folder.rglob("*") if path.is_file()):
        with file.open("rb") as written:
            os.fsync(written.fileno())


def publish(temporary: Path, base: Path) -> Path:
    """Makes a folder of `hidden_folder` visible and returns where it is.

    Renames to the next version; where another export took the number meanwhile, to the one after it."""
    # Above every version there is, of whatever kind: a converted model has no saved_model.pb.
    number = max((int(path.name) for path in base.iterdir() if artifact_paths.is_version(path.name)), default=0) + 1
    while True:
        target = base / str(number)
        try:
            os.rename(temporary, target)
        except OSError:
            if not target.exists():
                raise
            number += 1
        else:
            return target
