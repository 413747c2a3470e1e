"""Temporary folders. Those of killed processes are removed by the next process."""

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

_FULL = 1 << 20  # bytes; a disk with less free space counts as full


class TemporaryFilesError(UsageError):
    """Temporary files cannot be written, so that nothing was found out about a SavedModel."""


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """Yields a new temporary folder and removes it at the end, together with folders of killed processes.

    Raises:
        TemporaryFilesError: the disk for temporary files is full or cannot be written.
    """
    base = Path(tempfile.gettempdir(), f"savedmodel-zoo-{os.getuid()}")
    try:
        with contextlib.suppress(FileExistsError):
            base.mkdir(mode=0o700)
        found = base.lstat()
        # The temporary directory is shared: a folder of this name may belong to another user.
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
        with contextlib.suppress(OSError):  # another process uses it
            base.rmdir()
        raise full_disk(error) from error


def full_disk(error: BaseException) -> TemporaryFilesError:
    """Returns the error for temporary files that cannot be written."""
    return TemporaryFilesError(
        f"Temporary files cannot be written to {tempfile.gettempdir()}: {one_line(error)}. Free disk space there, or set "
        "TMPDIR to another folder."
    )
