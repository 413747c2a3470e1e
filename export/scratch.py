"""Temporary folders that a killed process does not leave for ever: the next one removes them."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from zoo.errors import UsageError, one_line
from zoo.export import publishing

_FULL = 1 << 20  # bytes; a disk with less is full


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """Gives a new folder among this user's temporary files, removed at the end; those of processes that were killed too.

    Raises:
        UsageError: the disk of temporary files is full or cannot be written.
    """
    base = Path(tempfile.gettempdir(), f"savedmodel-zoo-{os.getuid()}")
    try:
        with contextlib.suppress(FileExistsError):
            base.mkdir(mode=0o700)
        found = base.lstat()
        # In a folder that everybody writes to, one of this name may be somebody else's.
        is_mine = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022
        with publishing.hidden_folder(base if is_mine else Path(tempfile.mkdtemp())) as given:
            yield given
            if not is_mine:
                shutil.rmtree(given.parent, ignore_errors=True)
    except OSError as error:
        here = isinstance(error.filename, str) and error.filename.startswith(str(base))
        full = error.errno in (errno.ENOSPC, errno.EDQUOT) and shutil.disk_usage(tempfile.gettempdir()).free < _FULL
        if not here and not full:
            raise
        raise full_disk(error) from error


def full_disk(error: BaseException) -> UsageError:
    """Returns what is said of temporary files that cannot be written."""
    return UsageError(
        f"Temporary files cannot be written to {tempfile.gettempdir()}: {one_line(error)}. Make room there, or set TMPDIR to "
        "another folder."
    )
