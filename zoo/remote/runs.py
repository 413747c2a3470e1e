"""Runs in an object store: a local working copy, whose complete checkpoints are copied to the store.

The store is the truth. A new start fetches its newest complete checkpoint, and what it has besides; what a broken connection
has kept from the store is computed again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from zoo import lease, storage
from zoo.errors import UsageError
from zoo.remote import copies
from zoo.remote.paths import is_page, is_remote, masked, url_of
from zoo.remote.store import Entry, Store

MANIFEST = ".remote.json"
_OWN = (".lock", MANIFEST)
_CHECKPOINT = re.compile(r"checkpoints/((?:step|best)-[0-9]+)/")
_MARKERS = ("state.json", "saved_model.pb")
"""Files that complete their folder, and are copied last."""
_TEMPORARY = re.compile(r"(^|/)\.(writing-|replaced-|.*-[0-9a-f]{12}(\.[^./]*)?$)")
_copies: dict[Path, _Copy] = {}
_lock = threading.Lock()


@contextlib.contextmanager
def working_copy(path: str | os.PathLike[str] | None, *, index: int = 0, writes: bool = True) -> Iterator[Path | None]:
    """Yields the local folder of a run: the path itself, or the working copy of a remote one.

    Args:
        path: the run directory; None yields None.
        index: the number of this worker. Those after 0 fetch the settings alone, as they write nothing.
        writes: whether the run will be written; a reader needs no lease.

    Raises:
        UsageError: the store cannot be read or written, another process trains the run, or the folder holds other files.
    """
    if not is_remote(path):
        yield None if path is None else Path(path)
        return
    assert path is not None, "None is no remote path"
    copy = _Copy(url_of(path), index if writes else -1)
    try:
        copy.open()
        yield copy.path
    finally:
        copy.close()


def publish(path: Path, *, final: bool = False) -> None:
    """Copies what is new in a working copy to its store; nothing for any other folder.

    A failure in the middle of a run is printed, and the next checkpoint tries again.

    Args:
        path: the local folder of the run.
        final: whether nothing follows, so that a failure is an error.

    Raises:
        UsageError: with `final`, the store cannot be written; or another process has taken the run over.
    """
    with _lock:
        copy = _copies.get(path)
    if copy is None:
        return
    copy.lease.check()
    try:
        copy.lease.check(look=True)  # so that a process that slept does not write over the run of another
        copy.upload()
    except UsageError as error:
        copy.lease.check()
        if final:
            raise UsageError(f"{error} The run in {copy.store.name} ends with an earlier checkpoint.") from None
        print(f"{error} Training goes on; the next checkpoint tries again.", flush=True)


class _Copy:
    """A working copy and its store."""

    def __init__(self, url: str, index: int) -> None:
        if is_page(url):
            raise UsageError(
                f"{masked(url)} can only be read. Pass a run_directory of an object store, or a local one."
            )
        self.store, self._index = Store(url), index
        name = storage.file_name(self.store.name)[-60:].lstrip("-.")
        digest = hashlib.sha256(self.store.name.encode()).hexdigest()[:12]
        role = "" if index == 0 else f"-worker-{index}" if index > 0 else f"-read-{os.getpid()}"
        self.path = copies.folder() / "runs" / f"{name}-{digest}{role}"
        self.lease = lease.Lease(_StoreBoard(self.store), self.store.name, lease.has_ended)
        self._known: dict[str, list[object]] = {}

    def open(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        copies.remember(self.path, self.store.url)
        if self._index == 0:
            self.lease.acquire()
        self._download()
        if self._index == 0:
            with _lock:
                _copies[self.path] = self

    def close(self) -> None:
        with _lock:
            if _copies.get(self.path) is self:
                del _copies[self.path]
        self.lease.release()
        if self._index:
            storage.remove_tree(self.path)

    def _download(self) -> None:
        """Makes the working copy equal to the run in the store, with its newest complete checkpoint alone."""
        remote = self.store.files()
        found = {name: entry for name, entry in remote.items() if _is_of_run(name)}
        if found and "config.yaml" not in found:
            raise UsageError(
                f"{self.store.name} is not a run: it holds {', '.join(sorted(found)[:3])}, but no config.yaml of a run. Pass "
                "another run_directory; nothing was changed."
            )
        wanted = self._wanted(found)
        manifest = self._manifest()
        for file in self._local():
            if file not in wanted or manifest.get(file) != [*_facts(wanted[file]), *self._stamp(file)]:
                (self.path / file).unlink()
        for name in sorted(wanted, key=lambda name: name.endswith(_MARKERS)):
            target = self.path / name
            if not target.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                self.store.get(name, target)
        # Also the checkpoints that were not fetched are the run's own, and are deleted when they are old.
        self._known = {name: _facts(entry) for name, entry in found.items()}
        for name in wanted:
            self._known[name] = [*_facts(wanted[name]), *self._stamp(name)]
        self._write_manifest()
        for folder in sorted((p for p in self.path.rglob("*") if p.is_dir()), reverse=True):
            with contextlib.suppress(OSError):  # not empty
                folder.rmdir()

    def _wanted(self, found: Mapping[str, Entry]) -> dict[str, Entry]:
        """Returns the files to fetch; a checkpoint without state.json was being written when its process died."""
        complete = {m[1] for name in found if name.endswith("/state.json") and (m := _CHECKPOINT.match(name))}
        steps = sorted(name for name in complete if name.startswith("step-"))
        kept = {*steps[-1:], *(name for name in complete if name.startswith("best-"))}
        wanted = {n: e for n, e in found.items() if (m := _CHECKPOINT.match(n)) is None or m[1] in kept}
        if self._index > 0:
            small = ("config.yaml", ".settings.json", "lineage.json")
            wanted = {n: e for n, e in wanted.items() if n in small or n.endswith("/state.json")}
        return wanted

    def upload(self) -> None:
        """Copies new and changed files: those that complete a folder last, then deletes what the run has deleted."""
        local = set(self._local())
        gone = [name for name in self._known if name not in local]
        # First what is no longer true of the run, such as the report on the model before.
        self._forget([name for name in gone if not _CHECKPOINT.match(name)])
        for name in sorted(local, key=lambda name: (name.endswith(_MARKERS), name != "config.yaml", name)):
            stamp = self._stamp(name)
            if self._known.get(name, [])[2:] != stamp:
                self._known[name] = [*_facts(self.store.put(self.path / name, name)), *stamp]
        old = [name for name in gone if _CHECKPOINT.match(name)]
        self._forget(sorted(old, key=lambda name: (not name.endswith(_MARKERS), name)))
        self._write_manifest()

    def _forget(self, names: list[str]) -> None:
        self.store.delete(names)
        for name in names:
            del self._known[name]

    def _local(self) -> list[str]:
        files = (file for file in self.path.rglob("*") if file.is_file() and not file.is_symlink())
        names = (file.relative_to(self.path).as_posix() for file in files)
        return sorted(filter(_is_of_run, names))

    def _stamp(self, name: str) -> list[object]:
        facts = (self.path / name).stat()
        return [facts.st_size, facts.st_mtime_ns]

    def _manifest(self) -> dict[str, list[object]]:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            return dict(storage.read_json(self.path / MANIFEST))
        return {}

    def _write_manifest(self) -> None:
        storage.write_text(self.path / MANIFEST, json.dumps(self._known))


@dataclasses.dataclass(frozen=True)
class _StoreBoard:
    """A lease in an object store."""

    store: Store

    def read(self) -> tuple[str, float] | None:
        """See `lease.Board`."""
        found = self.store.read(lease.NAME)
        return None if found is None else (found[0].decode("utf-8", "replace"), found[1])

    def create(self, text: str) -> bool:
        """See `lease.Board`."""
        return self.store.write(lease.NAME, text.encode(), new=True)

    def renew(self, text: str) -> None:
        """See `lease.Board`."""
        self.store.write(lease.NAME, text.encode())

    def remove(self, text: str) -> None:
        """See `lease.Board`."""
        if (found := self.read()) is not None and found[0] == text:
            self.store.delete([lease.NAME])

    def now(self) -> float:
        """See `lease.Board`. A store tells the time only of what was written."""
        name = f"{lease.NAME}-{os.getpid()}"
        self.store.write(name, b"now")
        found = self.store.read(name)
        self.store.delete([name])
        return found[1] if found else 0.0


def _is_of_run(name: str) -> bool:
    return name not in _OWN and not name.startswith(lease.NAME) and not _TEMPORARY.search(name)


def _facts(entry: Entry) -> list[object]:
    return [entry.size, entry.version]
