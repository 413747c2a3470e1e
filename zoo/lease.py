"""A lease: which process works in a place that several machines share, with a sign of life.

A lock of the operating system may be local to a machine, as with flock on some NFS mounts, and an object store has none. The
holder of a lease therefore renews a small file. Ages are differences of times that the file system or store itself has
written, so the machines' clocks may differ.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from zoo.errors import UsageError, printable

NAME = ".lease"
BEAT = 15.0
"""Seconds between two signs of life."""
EXPIRES = 60.0
"""Seconds without a sign of life after which a holder counts as dead."""
_POLL = 1.0


class Board(Protocol):
    """Where a lease is kept."""

    def read(self) -> tuple[str, float] | None:
        """Returns the text of the lease and the time of its last sign of life; None without a lease."""

    def create(self, text: str) -> bool:
        """Writes a lease where there is none; returns whether there was none."""

    def renew(self, text: str) -> None:
        """Gives a sign of life."""

    def remove(self, text: str) -> None:
        """Removes the lease if it still has this text."""

    def now(self) -> float:
        """Returns the time by the clock that also dates the lease."""


class FolderBoard:
    """A file in a folder, which may be on a file system that several machines share.

    Args:
        folder: an existing folder.
    """

    def __init__(self, folder: Path) -> None:
        self._file, self._folder = folder / NAME, folder

    def read(self) -> tuple[str, float] | None:
        """See `Board`."""
        try:
            with self._file.open(encoding="utf-8", errors="replace") as file:
                return file.read(4096), os.fstat(file.fileno()).st_mtime
        except FileNotFoundError:
            return None

    def create(self, text: str) -> bool:
        """See `Board`. A link appears with its content, and only if there is no file of that name, also on NFS."""
        temporary = self._temporary(text)
        try:
            os.link(temporary, self._file)
        except FileExistsError:
            return False
        except OSError:  # a file system without links
            try:
                with self._file.open("x", encoding="utf-8") as file:
                    file.write(text)
            except FileExistsError:
                return False
        finally:
            temporary.unlink(missing_ok=True)
        return True

    def renew(self, text: str) -> None:
        """See `Board`. Without times, the server of the file system takes its own."""
        os.utime(self._file)

    def remove(self, text: str) -> None:
        """See `Board`. Of several processes, one renames the file."""
        aside = self._file.with_name(f"{NAME}-{uuid.uuid4().hex[:12]}")
        with contextlib.suppress(FileNotFoundError):
            os.rename(self._file, aside)
            if (
                aside.read_text(encoding="utf-8", errors="replace") != text
            ):  # a new holder was faster: it keeps its lease
                with contextlib.suppress(OSError):
                    os.link(aside, self._file)
            aside.unlink()

    def now(self) -> float:
        """See `Board`."""
        temporary = self._temporary("")
        try:
            return temporary.stat().st_mtime
        finally:
            temporary.unlink(missing_ok=True)

    def _temporary(self, text: str) -> Path:
        file = self._file.with_name(f"{NAME}-{uuid.uuid4().hex[:12]}")
        file.write_text(text, encoding="utf-8")
        return file


class Lease:
    """The right to work in a place, until `release`.

    Args:
        board: where it is kept.
        place: the place, in messages.
        is_over: whether a holder, see `holder`, is known to have ended; the time decides otherwise.

    Example:
        >>> lease = Lease(FolderBoard(Path("runs/digits")), "runs/digits")
        >>> lease.acquire()
        >>> lease.release()
    """

    def __init__(
        self, board: Board, place: str, is_over: Callable[[Mapping[str, Any]], bool] = lambda holder: False
    ) -> None:
        self._board, self._place, self._is_over = board, place, is_over
        self._text = json.dumps({**holder(), "token": uuid.uuid4().hex})
        self._ended, self._lost = threading.Event(), ""
        self._thread: threading.Thread | None = None

    def acquire(self) -> None:
        """Takes the lease, and renews it from now on. Waits up to a minute for a holder that may have died.

        Raises:
            UsageError: another process holds it, and is alive.
        """
        while not self._board.create(self._text):
            self._remove_if_over()
        self._thread = threading.Thread(target=self._renew, daemon=True)
        self._thread.start()

    def _remove_if_over(self) -> None:
        found = self._board.read()
        if found is None:
            return
        text, modified = found
        facts = _facts(text)
        age = max(0.0, self._board.now() - modified)
        if self._is_over(facts) or age >= EXPIRES:
            self._board.remove(text)
            return
        who = f"process {facts.get('pid', '?')} on {printable(str(facts.get('host', 'another machine')))[:80]}"
        print(
            f"{self._place} has a lease of {who}, {age:.0f} s old; waiting {EXPIRES - age:.0f} s for its next sign of life.",
            flush=True,
        )
        until = time.monotonic() + EXPIRES - age
        while time.monotonic() < until:
            time.sleep(_POLL)
            if (now := self._board.read()) is None or now[0] != text:
                return
            if now[1] != modified:
                raise UsageError(
                    f"{self._place} is in use by another trainer ({who}), which gave a sign of life. Wait for it, or pass "
                    "another run_directory."
                )
        self._board.remove(text)

    def _renew(self) -> None:
        while not self._ended.wait(BEAT):
            with contextlib.suppress(Exception):  # out of reach: the next beat tries again, and `check` looks
                if not self._is_mine():
                    return
                self._board.renew(self._text)

    def _is_mine(self) -> bool:
        found = self._board.read()
        if found is None or found[0] != self._text:
            facts = _facts(found[0]) if found else {}
            self._lost = f"process {facts.get('pid', '?')} on {printable(str(facts.get('host', '?')))[:80]}"
        return not self._lost

    def check(self, *, look: bool = False) -> None:
        """Raises UsageError if another process has taken over, because this one gave no sign of life for too long.

        Args:
            look: whether to read the lease now; otherwise the last sign of life decides.
        """
        if look and not self._lost:
            self._is_mine()
        if self._lost:
            raise UsageError(
                f"{self._place} was taken over by {self._lost}, because this process gave no sign of life for "
                f"{EXPIRES:.0f} s. Leave the run to it, or pass another run_directory."
            )

    def release(self) -> None:
        """Gives the lease back."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(5)
            with contextlib.suppress(Exception):
                self._board.remove(self._text)


def holder() -> dict[str, Any]:
    """Returns what tells this process from others: host, machine (its boot), namespace of processes, pid, start."""
    return {
        "host": socket.gethostname(),
        "machine": machine(),
        "namespace": _link("/proc/self/ns/pid"),
        "pid": os.getpid(),
        "started": _started(os.getpid()),
    }


def machine() -> str:
    """Returns an id of the running operating system; the host name where there is none."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return socket.gethostname()


def has_ended(facts: Mapping[str, Any]) -> bool:
    """Returns whether a holder was a process that this one could see, and is gone."""
    mine = holder()
    if any(facts.get(name) != mine[name] for name in ("machine", "namespace")) or not mine["namespace"]:
        return False
    return _started(facts.get("pid")) != facts.get("started")


def _facts(text: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _started(pid: Any) -> str:
    """Returns when a process started, in ticks since the boot; empty if there is none."""
    try:
        return (
            Path(f"/proc/{int(pid)}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[19]
        )
    except (OSError, ValueError, TypeError, IndexError):
        return ""


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
