"""The processes that compute chunks. One that is killed is replaced, and its chunk computed again."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any

from zoo.errors import UsageError
from zoo.export.bulk.chunks import Chunk, Served
from zoo.export.bulk.worker import THREADS, receive, send

_MOST_KILLS = 3
"""A chunk with which so many processes end is not tried again."""

Done = Callable[[Chunk, dict[str, Any]], None]


class _ClosedError(Exception):
    """The processes were ended while a chunk was computed."""


def _passed_on(message: str) -> UsageError:
    """Returns the error of another process."""
    return UsageError(message)


class Processes:
    """Processes that compute chunks.

    Args:
        count: their number.
        settings: see `worker.py`.
        done: called with each chunk and its record, from several threads.

    Raises:
        UsageError: the SavedModel cannot be loaded.
    """

    def __init__(self, count: int, settings: Mapping[str, Any], done: Done) -> None:
        self._settings, self._done = dict(settings), done
        self._waiting: queue.Queue[Chunk | None] = queue.Queue(maxsize=count)
        self._error: BaseException | None = None
        self._closing = threading.Event()
        self._running: set[subprocess.Popen[bytes]] = set()
        started = [self._start() for _ in range(count)]
        try:
            ready = [self._ready(process) for process in started]  # they load at the same time
        except BaseException:
            self.close()
            raise
        self._threads = [threading.Thread(target=self._run, args=(process,), daemon=True) for process in ready]
        for thread in self._threads:
            thread.start()

    served: Served
    batch_size: int

    def submit(self, chunk: Chunk) -> None:
        """Adds a chunk; waits while all processes have enough to do.

        Raises:
            UsageError: a chunk could not be computed.
        """
        while True:
            self._check()
            with contextlib.suppress(queue.Full):
                self._waiting.put(chunk, timeout=0.2)
                return

    def finish(self) -> None:
        """Waits until all chunks are computed.

        Raises:
            UsageError: a chunk could not be computed.
        """
        for _ in self._threads:
            self.submit_end()
        for thread in self._threads:
            while thread.is_alive():
                thread.join(0.2)
                self._check()
        self._check()

    def submit_end(self) -> None:
        """Tells one process that nothing follows."""
        while True:
            self._check()
            with contextlib.suppress(queue.Full):
                self._waiting.put(None, timeout=0.2)
                return

    def close(self) -> None:
        """Ends all processes."""
        self._closing.set()
        for process in list(self._running):
            process.kill()
            process.wait()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _start(self) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-P", "-m", "zoo.export.bulk.worker"]
        process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **THREADS},
            start_new_session=True,  # Ctrl-C in a terminal reaches the parent alone, which ends them
        )
        self._running.add(process)
        assert process.stdin is not None
        with contextlib.suppress(OSError):
            send(process.stdin, self._settings)
        return process

    def _ready(self, process: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
        """Waits until a process has loaded the SavedModel; returns it, or the one that replaces it if it is killed."""
        for _ in range(_MOST_KILLS):
            assert process.stdout is not None
            try:
                kind, *content = receive(process.stdout)
            except EOFError:
                status = _status(process)
                self._running.discard(process)
                if self._closing.is_set():
                    break
                process = self._start()
                continue
            if kind != "ready":
                raise _passed_on(content[0])
            self.served, self.batch_size = content
            return process
        raise UsageError(
            f"{_MOST_KILLS} processes ended ({status}) while they loaded the SavedModel. Pass fewer --workers, or run `zoo "
            f"verify {self._settings['path']}` to find the cause."
        )

    def _run(self, process: subprocess.Popen[bytes]) -> None:
        try:
            while (chunk := self._next()) is not None:
                process = self._computed(process, chunk)
        except _ClosedError:
            return
        except OSError as error:
            self._error = self._error or UsageError(
                f"Cannot write the answers: {error}. Free disk space, and call again."
            )
        except BaseException as error:  # noqa: BLE001, raised in the main thread, which must not wait forever
            if not self._closing.is_set():
                self._error = self._error or error
        finally:
            self._running.discard(process)
            process.kill()
            process.wait()

    def _next(self) -> Chunk | None:
        """Waits for a chunk; returns None after the last one, and after `close`."""
        while not self._closing.is_set():
            with contextlib.suppress(queue.Empty):
                return self._waiting.get(timeout=0.2)
        return None

    def _computed(self, process: subprocess.Popen[bytes], chunk: Chunk) -> subprocess.Popen[bytes]:
        """Computes a chunk; returns the process for the next one."""
        for _ in range(_MOST_KILLS):
            assert process.stdin is not None and process.stdout is not None
            try:
                send(process.stdin, chunk)
                kind, content = receive(process.stdout)
            except (EOFError, OSError):
                if self._closing.is_set():
                    raise _ClosedError from None
                status = _status(process)
                self._running.discard(process)
                process = self._ready(self._start())
                continue
            if kind == "done":
                self._done(chunk, content)
                return process
            where = f"{chunk.source} from row {chunk.first:,} on: " if chunk.first and kind == "failed" else ""
            raise _passed_on(f"{where}{content}")
        raise UsageError(
            f"{_MOST_KILLS} processes ended ({status}) with {chunk.source} from row {chunk.first:,} on. Pass a smaller "
            "--batch_size, or fewer --workers, if memory is short; the same command goes on."
        )


class InThisProcess:
    """Computes chunks in this process, with its threads; the methods are those of `Processes`."""

    def __init__(self, settings: Mapping[str, Any], done: Done) -> None:
        from zoo.export.bulk.worker import Worker

        self._worker, self._done = Worker(settings), done
        self.served, self.batch_size = self._worker.predictor.served, self._worker.predictor.batch_size

    def submit(self, chunk: Chunk) -> None:
        """Computes a chunk."""
        self._done(chunk, self._worker.computed(chunk))

    def finish(self) -> None:
        """Does nothing: all chunks are computed."""

    def close(self) -> None:
        """Does nothing."""


def _status(process: subprocess.Popen[bytes]) -> str:
    code = process.wait()
    return f"by {signal.Signals(-code).name}" if code < 0 else f"with status {code}"
