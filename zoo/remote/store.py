"""A folder of an object store or the web, through fsspec, with errors in a sentence."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import posixpath
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, TypeVar

from zoo.errors import UsageError, one_line
from zoo.remote.paths import is_page, masked, url_of

_ATTEMPTS = (1.0, 4.0)
"""Seconds to wait before the second and the third attempt."""
_VERSION = ("ETag", "etag", "generation", "md5Hash", "content_md5", "Content-MD5", "blob_id", "oid", "xet_hash")
_TIMES = ("LastModified", "last_modified", "Last-Modified", "mtime", "updated", "modified", "created")
ResultT = TypeVar("ResultT")


@dataclasses.dataclass(frozen=True)
class Entry:
    """A file of a store.

    Attributes:
        size: bytes, None if the store does not say.
        version: changes with the content; empty if the store says nothing.
    """

    size: int | None
    version: str


class Store:
    """A folder, or a single file of the web.

    Credentials are fsspec's own business: environment variables, files and metadata of the cloud.

    Args:
        url: such as s3://bucket/folder.

    Raises:
        UsageError: the package for this kind of path is not installed, or cannot be used.
    """

    def __init__(self, url: str) -> None:
        self.url = url_of(url)
        self.name = masked(self.url).rstrip("/")
        self._system, self._root = _connect(self.url, self.name)

    def files(self, under: str = "") -> dict[str, Entry]:
        """Returns the files in a folder of the store by their names relative to the store; empty if there is none.

        Raises:
            UsageError: it cannot be listed.
        """
        top = self._path(under)
        with self._explained("read"):
            found = self._retried(lambda: self._find(top))
        entries = {}
        for path, facts in found.items():
            name = self._relative(path)
            if facts.get("type", "file") == "file" and name and not name.endswith("/"):
                entries[_checked(name, self.name)] = _entry(facts)
        return entries

    def _find(self, top: str) -> dict[str, Any]:
        self._system.invalidate_cache()
        try:
            found: dict[str, Any] = self._system.find(top, detail=True)
        except FileNotFoundError:
            return {}
        return found

    def folders(self) -> list[str]:
        """Returns the names of the folders and files directly in the store; empty if there is none."""

        def listed() -> list[str]:
            self._system.invalidate_cache()
            try:
                return [posixpath.basename(path.rstrip("/")) for path in self._system.ls(self._root, detail=False)]
            except FileNotFoundError:
                return []

        with self._explained("read"):
            return sorted({name for name in self._retried(listed) if name})

    def matching(self, pattern: str) -> list[str]:
        """Returns the names of the files that match a pattern such as part-*.csv."""

        def globbed() -> list[str]:
            self._system.invalidate_cache()
            return list(self._system.glob(self._path(pattern)))

        with self._explained("read"):
            return sorted(self._relative(path) for path in self._retried(globbed))

    def entry(self, name: str) -> Entry | None:
        """Returns size and version of a file; None if there is none."""

        def looked() -> dict[str, Any] | None:
            try:
                facts: dict[str, Any] = self._system.info(self._path(name))
            except FileNotFoundError:
                return None
            return facts if facts.get("type", "file") == "file" else None

        with self._explained("read"):
            facts = self._retried(looked)
        return None if facts is None else _entry(facts)

    def read(self, name: str) -> tuple[bytes, float] | None:
        """Returns the content of a small file and when it was written, by the store's clock; None if there is none."""

        def get() -> tuple[bytes, float] | None:
            try:
                facts = self._system.info(self._path(name))
                return bytes(self._system.cat_file(self._path(name))), _time(facts)
            except FileNotFoundError:
                return None

        with self._explained("read"):
            return self._retried(get)

    def get(self, name: str, target: Path) -> None:
        """Copies a file of the store to a local path whose folder exists."""

        def copy() -> None:
            self._system.get_file(self._path(name), str(target))
            expected = self._system.info(self._path(name)).get("size")
            if expected is not None and target.stat().st_size != expected:
                raise OSError(f"{target.stat().st_size:,} of {expected:,} bytes came")

        with self._explained("read"):
            self._retried(copy)

    def put(self, source: Path, name: str) -> Entry:
        """Copies a local file into the store, and compares the sizes."""

        def copy() -> Entry:
            self._system.put_file(str(source), self._path(name))
            entry = _entry(self._system.info(self._path(name)))
            if entry.size is not None and entry.size != source.stat().st_size:
                raise OSError(f"{entry.size:,} of {source.stat().st_size:,} bytes arrived")
            return entry

        with self._explained("write"):
            return self._retried(copy)

    def write(self, name: str, content: bytes, *, new: bool = False) -> bool:
        """Writes a small file; with `new` only where there is none. Returns whether it was written."""
        path = self._path(name)

        def write() -> bool:
            if not new:
                self._system.pipe_file(path, content)
                return True
            try:
                if self._system.exists(path):
                    return False
                self._system.pipe_file(path, content, mode="create")
            except (FileExistsError, NotImplementedError, TypeError) as error:
                if isinstance(error, FileExistsError):
                    return False
                self._system.pipe_file(path, content)  # a store that cannot decide who is first
            self._system.invalidate_cache()
            return bytes(self._system.cat_file(path)) == content

        with self._explained("write"):
            return self._retried(write)

    def delete(self, names: Collection[str]) -> None:
        """Deletes files, one after the other; missing ones are no error."""
        with self._explained("write"):
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    self._retried(lambda name=name: self._system.rm_file(self._path(name)))  # type: ignore[misc]

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}" if name else self._root

    def _relative(self, path: str) -> str:
        root = self._system._strip_protocol(self._root).rstrip("/")
        return str(self._system._strip_protocol(path)).removeprefix(root).lstrip("/")

    def _retried(self, action: Callable[[], ResultT]) -> ResultT:
        """Returns what an action returns, which is tried again after a connection was lost."""
        for seconds in _ATTEMPTS:
            try:
                return action()
            except (FileNotFoundError, PermissionError, UsageError, NotImplementedError, ImportError):
                raise
            except Exception as error:
                if any(word in type(error).__name__ for word in ("Credential", "Auth")):
                    raise
                time.sleep(seconds)
        return action()

    @contextlib.contextmanager
    def _explained(self, doing: str) -> Iterator[None]:
        """Turns every error of fsspec and of the libraries below it into a UsageError without secrets."""
        try:
            yield
        except UsageError:
            raise
        except Exception as error:  # noqa: BLE001, as above
            reason = masked(one_line(error, 300)).rstrip(".")
            if isinstance(error, FileNotFoundError):
                hint = "Create the bucket, or correct the path."
            elif isinstance(error, PermissionError) or "Credential" in type(error).__name__:
                hint = f"Pass credentials that may {doing} there, in the way of fsspec's package, or another path."
            else:
                hint = "Start the same command again when the connection works, or pass another path."
            # Not `from error`: its text may hold a key.
            raise UsageError(f"Cannot {doing} {self.name}: {reason}. {hint}") from None


def _connect(url: str, name: str) -> tuple[Any, str]:
    import fsspec

    scheme = url.partition("://")[0]
    try:
        system, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
    except ImportError as error:
        raise UsageError(
            f"{scheme}:// needs a package that is not installed: {one_line(error, 120).rstrip('.')}. Install the extra: "
            "pip install 'savedmodel-zoo[remote]', or pass a local path."
        ) from error
    except Exception as error:  # noqa: BLE001, of libraries that fsspec alone knows
        raise UsageError(
            f"{name} cannot be used: {masked(one_line(error, 200)).rstrip('.')}. Correct it, or pass a local path."
        ) from None
    return system, url if is_page(url) else str(root)


def _checked(name: str, where: str) -> str:
    if name.startswith("/") or any(part in ("", ".", "..") for part in name.split("/")) or "\\" in name or "\0" in name:
        raise UsageError(f"{where} has a file named {masked(name)!r:.80}, which no folder can hold. Rename it.")
    return name


def _entry(facts: dict[str, Any]) -> Entry:
    known = {name: str(facts[name]) for name in (*_VERSION, *_TIMES) if facts.get(name) is not None}
    exact = {name: value for name, value in known.items() if name in _VERSION}
    size = facts.get("size")
    return Entry(None if size is None else int(size), json.dumps(exact or known, sort_keys=True) if known else "")


def _time(facts: dict[str, Any]) -> float:
    """Returns when a file was written, in seconds."""
    import email.utils
    from datetime import UTC, datetime

    for name in _TIMES:
        value = facts.get(name)
        if isinstance(value, (int, float)):
            return float(value)
        if isinstance(value, str):
            try:
                value = datetime.fromisoformat(value.replace("Z", "+00:00"))
            except ValueError:
                with contextlib.suppress(ValueError, TypeError):
                    value = email.utils.parsedate_to_datetime(str(value))
        if isinstance(value, datetime):
            return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    return 0.0
