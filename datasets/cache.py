"""What is kept of the examples of a data set, so that an epoch need not read or decode them again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from zoo.errors import UsageError, did_you_mean

KINDS = ("memory", "disk")


class Cache(NamedTuple):
    """What is kept, and where.

    Attributes:
        kind: `memory` for the bytes of files and records, `disk` for decoded model inputs.
        folder: where `disk` keeps them.
    """

    kind: str
    folder: Path


def as_cache(kind: str | None, folder: str | None) -> Cache | None:
    """Returns the options `cache` and `cache_dir` as a cache; None without one.

    Raises:
        UsageError: the kind is unknown, or there is a folder for what keeps nothing on a disk.

    Example:
        >>> as_cache("disk", "/scratch").folder
        PosixPath('/scratch')
    """
    if kind is None and folder is None:
        return None
    if kind is None:
        raise UsageError(
            f"cache_dir is {folder!r} without a cache. Pass --data.cache disk too, or leave cache_dir out."
        )
    if kind not in KINDS:
        raise UsageError(f"cache is {kind!r}; expected memory or disk. {did_you_mean(kind, KINDS)}")
    if folder is not None and kind != "disk":
        raise UsageError(f"cache_dir is {folder!r} with cache={kind!r}, which writes no file. Leave cache_dir out.")
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Cache(kind, Path(folder or os.path.join(home, "savedmodel-zoo")).expanduser())
