"""Versions of a SavedModel in an object store, which has no rename: saved_model.pb is written last, and completes one."""

from __future__ import annotations

import contextlib
import uuid
from pathlib import Path

from zoo.errors import UsageError
from zoo.remote.paths import is_page, masked, url_of
from zoo.remote.store import Store

_LAST = "saved_model.pb"
_CLAIM = ".writing"


def check_versions(url: str) -> str:
    """Checks early that versions can be written to a remote folder; returns its name for messages.

    Raises:
        UsageError: it is of the web, does not exist, cannot be written, or holds other files.
    """
    store = _store(url)
    others = [name for name in store.folders() if not name.isdigit() and not name.startswith(".")]
    if others:
        raise UsageError(
            f"{store.name} contains {', '.join(others[:3])}, which are not versions of a SavedModel. Pass a new folder, "
            "or one with versions 1, 2, ... Nothing was changed."
        )
    probe = f".test-{uuid.uuid4().hex[:12]}"
    store.write(probe, b"This file tests the right to write, and can be deleted.\n")
    store.delete([probe])
    return store.name


def published_version(version: Path, url: str) -> str:
    """Copies a verified version to the next number in a remote folder; returns its URL without secrets.

    All files are copied, and their sizes compared, before saved_model.pb, without which no program finds a SavedModel. If a
    copy fails, what has arrived is removed.

    Raises:
        UsageError: the store cannot be written; nothing was published.
    """
    store = _store(url)
    files = sorted(file.relative_to(version).as_posix() for file in version.rglob("*") if file.is_file())
    token = uuid.uuid4().hex.encode()
    number = max((int(name) for name in store.folders() if name.isdigit()), default=0) + 1
    while not store.write(f"{number}/{_CLAIM}", token, new=True):
        number += 1  # of another export at the same time
    done: list[str] = []
    try:
        for name in [*(name for name in files if name != _LAST), _LAST]:
            done.append(name)
            store.put(version / name, f"{number}/{name}")
    except BaseException as error:
        with contextlib.suppress(Exception):  # the connection may be gone; without saved_model.pb nothing is found
            store.delete([f"{number}/{name}" for name in (*reversed(done), _CLAIM)])
        if isinstance(error, UsageError):
            raise UsageError(f"{error} Nothing was published; the next try takes another number.") from None
        raise
    with contextlib.suppress(UsageError):
        store.delete([f"{number}/{_CLAIM}"])
    return f"{store.name}/{number}"


def _store(url: str) -> Store:
    if is_page(url := url_of(url)):
        raise UsageError(f"{masked(url)} can only be read. Pass a folder of an object store, or a local one.")
    return Store(url)
