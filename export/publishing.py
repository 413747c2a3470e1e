"""Publishes versions: writes them to a hidden folder, flushes them to disk, and renames the folder."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import signal
import tempfile
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zoo import remote, storage
from zoo.errors import UsageError
from zoo.export import artifact_paths

_WRITING = ".writing-"


class Destination:
    """The folder for the versions of a SavedModel. Those of a remote one are written and verified in a local folder first.

    Attributes:
        base: the local folder.
        name: the folder for messages.

    Args:
        path: what the caller passed.

    Raises:
        UsageError: it is no path, such as an interface without its name; or no versions can be written there.
    """

    def __init__(self, path: Any) -> None:
        self._url = None
        if remote.is_remote(path):
            self._url, self.name = path, remote.check_versions(path)
            self._temporary = tempfile.TemporaryDirectory()  # removed with this object
            self.base = Path(self._temporary.name)
            return
        self.base = _folder_of(path)
        self.name = str(self.base)
        check_folder(self.base)

    def deliver(self, version: Path) -> Path:
        """Copies a verified version to a remote folder, and returns its path there; returns a local version unchanged."""
        return version if self._url is None else Path(remote.published_version(version, self._url))


def _folder_of(path: Any) -> Path:
    if not isinstance(path, (str, os.PathLike)):
        raise UsageError(
            f"The folder for the SavedModel is a {type(path).__name__}; expected a path. Call "
            "zoo.export.save(model, PATH, interface=...)."
        )
    return Path(path)


def check_folder(base: Path) -> None:
    """Raises `UsageError` if no versions can be written to a folder. Called before training, to fail early."""
    if storage.is_pattern(base):
        raise UsageError(
            f"{base.absolute()} contains one of * ? [ \\, which TensorFlow interprets as a pattern when it loads the "
            "model. Pass another folder for the export."
        )
    if not base.exists():
        return
    if not base.is_dir():
        raise UsageError(f"{base} exists and is not a folder. Pass another folder for the export.")
    others = [p.name for p in base.iterdir() if not artifact_paths.is_version(p.name) and not p.name.startswith(".")]
    if others:
        raise UsageError(
            f"{base} exists and contains {', '.join(sorted(others)[:3])}, which are not versions of a SavedModel. Pass a "
            "new folder, or one with versions 1, 2, ... Nothing was changed."
        )


@contextlib.contextmanager
def _unwinding() -> Iterator[None]:
    """Lets SIGTERM raise `SystemExit` in the block, where it would end the process without removing hidden folders."""

    def leave(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    mine = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if mine:
        signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        if mine:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextlib.contextmanager
def hidden_folder(base: Path) -> Iterator[Path]:
    """Yields a new folder in `base`, locked while this process lives, and removes it at the end if it still exists.

    It also removes unlocked folders, which killed exports have left behind. A lock is used instead of a process id,
    because ids mean nothing to another container or host that writes into the same folder.
    """
    is_new = not base.exists()
    name = uuid.uuid4().hex[:12]
    unlocked, folder = base / f".{name}", base / f"{_WRITING}{name}"
    lock = None
    try:
        unlocked.mkdir(parents=True)
        with contextlib.suppress(OSError):  # a file system without locks; leftovers are then never removed
            lock = _lock(unlocked)
        unlocked.rename(folder)  # only a locked folder gets the name that other exports look for
        for other in base.glob(f"{_WRITING}*"):
            with contextlib.suppress(OSError):  # in use, or already removed
                os.close(_lock(other))
                storage.remove_tree(other)
        with _unwinding():
            yield folder
    finally:
        storage.remove_tree(unlocked)
        storage.remove_tree(folder)
        if lock is not None:
            os.close(lock)
        if is_new:
            with contextlib.suppress(OSError):  # not empty: a version was published
                base.rmdir()


def _lock(folder: Path) -> int:
    """Locks a folder until the returned file descriptor is closed or this process ends."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def flush(folder: Path) -> None:
    """Waits until every file is on disk, so that a full disk raises an error before the rename."""
    for file in (path for path in folder.rglob("*") if path.is_file()):
        with file.open("rb") as written:
            os.fsync(written.fileno())


def fix_fingerprint(folder: Path) -> None:
    """Replaces the random id in fingerprint.pb by a hash of the other files, so that equal SavedModels are equal byte by
    byte."""
    from tensorflow.core.protobuf import fingerprint_pb2

    file = folder / "fingerprint.pb"
    if not file.is_file():  # an option of TensorFlow
        return
    fingerprint = fingerprint_pb2.FingerprintDef.FromString(file.read_bytes())
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != file)
    content = [[path.relative_to(folder).as_posix(), storage.sha256(path)] for path in files]
    fingerprint.uuid = str(uuid.UUID(bytes=hashlib.sha256(repr(content).encode()).digest()[:16]).int)
    file.write_bytes(fingerprint.SerializeToString(deterministic=True))


def publish(temporary: Path, base: Path) -> Path:
    """Renames a folder of `hidden_folder` to the next version and returns its path.

    If another export has taken the number in the meantime, the following number is used."""
    # Counts versions of every kind: a converted model has no saved_model.pb.
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
