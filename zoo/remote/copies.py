"""Local copies of remote files, kept for as long as the files stay the same."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from zoo import storage
from zoo.errors import UsageError
from zoo.remote.paths import is_page, is_remote, masked, url_of
from zoo.remote.store import Entry, Store

_known: dict[str, str] = {}
"""URL without secrets by the folder or file of its local copy, for messages of this process."""


def folder() -> Path:
    """Returns the folder of all local copies: ZOO_CACHE, else savedmodel-zoo in the user's cache. It may be deleted."""
    base = os.environ.get("ZOO_CACHE") or os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "savedmodel-zoo")
    return Path(base).expanduser().absolute()


def remember(path: Path, url: str) -> None:
    """Lets `shown` name a URL in place of its local copy."""
    _known[str(path)] = masked(url_of(url)).rstrip("/")


def shown(path: str | os.PathLike[str]) -> str:
    """Returns a path for messages: the remote path that a local copy stands for, else the path itself."""
    text = os.fspath(path)
    for place in (Path(text), *Path(text).parents):
        if (url := _known.get(str(place))) is not None:
            return url + text.removeprefix(str(place))
    return masked(url_of(text))


def fetched(path: str | os.PathLike[str], siblings: Sequence[str] = ()) -> Path:
    """Returns a local copy of a remote file or folder; a local path unchanged.

    A name with * or ? stands for all files that match, and remains in the result. The copy is made once, and again when the
    files have changed.

    Args:
        path: such as s3://bucket/people.csv.
        siblings: names of further files in the folder of the file.

    Raises:
        UsageError: it is not there or cannot be read, or the local disk is full.

    Example:
        >>> fetched("s3://bucket/people.csv")
        PosixPath('~/.cache/savedmodel-zoo/files/1f0c.../people.csv')
    """
    if not is_remote(path):
        return Path(path)
    url = url_of(path).rstrip("/")
    if is_page(url):
        return _fetched_page(url)
    parent, _, name = url.rpartition("/")
    if parent.endswith(":/") or not name:  # a bucket alone
        parent, name = url, ""
    if set("*?") & set(name):
        store = Store(parent)
        names = store.matching(name)
        if not names:
            raise UsageError(f"No file matches {masked(url)}. Correct the name.")
        return _copied(store, [*names, *siblings]) / name
    if name and (entry := Store(parent).entry(name)) is not None:
        place = _copied(Store(parent), [name, *siblings], {name: entry}) / name
        remember(place, url)
        return place
    store = Store(url)
    files = store.files()
    if not files:
        raise UsageError(f"{store.name} does not exist, or is empty. Correct the path.")
    place = _copied(store, list(files), files)
    remember(place, url)
    return place


def fetched_model(path: str | os.PathLike[str]) -> Path:
    """Returns a local copy of a remote SavedModel: of a version folder, of the newest complete version in a folder, or of
    that in the folder `saved_model` of a run. A version is complete if it has saved_model.pb, which is written last."""
    if not is_remote(path):
        return Path(path)
    store = Store(url_of(path))
    for base in ("", "saved_model"):
        top = Store(f"{store.url.rstrip('/')}/{base}") if base else store
        if not base and top.entry("saved_model.pb") is not None:
            return fetched(path)
        for number in sorted((int(n) for n in top.folders() if n.isdigit() and str(int(n)) == n), reverse=True):
            if top.entry(f"{number}/saved_model.pb") is not None:
                return fetched(f"{top.url.rstrip('/')}/{number}")
    raise UsageError(
        f"{store.name} holds no complete SavedModel. Pass a folder with saved_model.pb, one with versions 1, 2, ..., or a "
        "run."
    )


def _fetched_page(url: str) -> Path:
    store = Store(url)
    name = store.name.rpartition("/")[2] or "page"
    if (entry := store.entry("")) is None:
        raise UsageError(f"{store.name} does not exist. Correct the address; of the web, single files can be read.")
    place = _copied(store, [name], {name: entry}, of={name: ""}) / name
    remember(place, url)
    return place


def _copied(
    store: Store, names: Sequence[str], known: Mapping[str, Entry] | None = None, of: Mapping[str, str] | None = None
) -> Path:
    """Returns a folder with copies of files of a store; `of` gives the names in the store where they differ."""
    found = dict(known or {})
    for name in names:
        if name not in found:
            entry = store.entry((of or {}).get(name, name))
            if entry is None:
                raise UsageError(f"{store.name}/{name} does not exist. Correct the name.")
            found[name] = entry
    entries = [[name, found[name].size, found[name].version] for name in sorted(names)]
    key = _key([store.name, entries]) if all(found[name].version for name in names) else ""
    base = folder() / "files"
    if key and (base / key).is_dir():
        return base / key
    temporary = base / f".writing-{uuid.uuid4().hex[:12]}"
    try:
        for name in names:
            target = temporary / name
            target.parent.mkdir(parents=True, exist_ok=True)
            store.get((of or {}).get(name, name), target)
        key = key or _key([store.name, [[name, storage.sha256(temporary / name)] for name in sorted(names)]])
        try:
            os.rename(temporary, base / key)
        except OSError:
            if not (base / key).is_dir():  # another process was faster
                raise
    except OSError as error:
        raise UsageError(
            f"Cannot keep a copy of {store.name} in {base}: {error.strerror or error}. Make room, or set ZOO_CACHE to "
            "another folder."
        ) from None
    finally:
        storage.remove_tree(temporary)
    return base / key


def _key(facts: object) -> str:
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]
