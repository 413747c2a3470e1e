"""Batches of what waits: one thread per model version computes all requests that have arrived meanwhile together.

Nobody waits for a batch to fill. A lone request is computed at once; under load, requests gather while the previous batch
is computed. A short one of the only client does not even wait for the thread: the caller's computes it.
"""

from __future__ import annotations

import collections
import dataclasses
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np

from zoo.export.serving.refusals import Refused

Arrays = Mapping[str, np.ndarray]
Call = Callable[[str, Arrays], dict[str, np.ndarray]]


class Drained(Exception):
    """The version was replaced by a newer one; ask for the current version again."""


@dataclasses.dataclass
class Job:
    """A request that waits.

    Attributes:
        signature: the signature to call.
        inputs: arrays by input name, batch first.
        rows: number of examples.
        key: jobs with equal keys may be computed together; None for a job that is computed alone.
        future: gets the outputs by name.
    """

    signature: str
    inputs: Arrays
    rows: int
    key: Any
    future: Future[dict[str, np.ndarray]] = dataclasses.field(default_factory=Future)


class Batcher:
    """Computes requests in one thread, several together if they fit.

    Args:
        call: computes a batch; any exception rejects it.
        max_rows: largest number of rows that are joined.
        max_waiting: largest number of waiting requests.
        observe: called with the number of requests and of rows of each batch.

    Example:
        >>> batcher = Batcher(lambda signature, inputs: {"y": inputs["x"] * 2}, max_rows=64, max_waiting=10)
        >>> batcher.submit("double", {"x": np.ones((1, 3))}, rows=1, key="double").result()
        {'y': array([[2., 2., 2.]])}
    """

    def __init__(
        self, call: Call, *, max_rows: int, max_waiting: int, observe: Callable[[int, int], None] = lambda *_: None
    ) -> None:
        self._call, self._max_rows, self._max_waiting, self._observe = call, max_rows, max_waiting, observe
        self._waiting: collections.deque[Job] = collections.deque()
        self._changed = threading.Condition()
        self._computing = threading.Lock()
        self._seconds: dict[str, float] = {}  # of calls with one row, by signature
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="zoo-model", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Number of requests that wait."""
        return len(self._waiting)

    def submit(self, signature: str, inputs: Arrays, rows: int, key: Any) -> Future[dict[str, np.ndarray]]:
        """Adds a request; its future gets the outputs, or the exception of the call. A cancelled one is not computed.

        Raises:
            Refused: too many requests wait.
            Drained: the batcher was closed.
        """
        job = Job(signature, inputs, rows, key)
        with self._changed:
            if self._closed:
                raise Drained
            if len(self._waiting) >= self._max_waiting:
                raise Refused(
                    429,
                    f"{len(self._waiting)} requests wait for this model already. Send the request again in a second.",
                    headers={"Retry-After": "1"},
                )
            self._waiting.append(job)
            self._changed.notify()
        return job.future

    def answer_now(self, signature: str, inputs: Arrays) -> dict[str, np.ndarray] | None:
        """Computes a request with one row in the calling thread, if nothing waits and such calls have been short; else
        returns None. An exception of the call is raised. The caller makes sure that calls of the signature with inputs of one
        size take about the same time.

        Raises:
            Drained: the batcher was closed.
        """
        if self._seconds.get(signature, _SHORT) >= _SHORT or self._waiting or _size(inputs) > _SMALL:
            return None
        if self._closed:
            raise Drained
        if not self._computing.acquire(blocking=False):
            return None
        try:
            self._observe(1, 1)
            return self._timed(signature, inputs, 1)
        finally:
            self._computing.release()

    def _timed(self, signature: str, inputs: Arrays, rows: int) -> dict[str, np.ndarray]:
        begun = time.perf_counter()
        found = self._call(signature, inputs)
        if rows == 1:
            seconds = time.perf_counter() - begun
            self._seconds[signature] = 0.8 * self._seconds.get(signature, seconds) + 0.2 * seconds
        return found

    def close(self) -> None:
        """Accepts no further requests; those that wait are still computed."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def join(self, timeout: float | None = None) -> bool:
        """Waits until every request was computed, after `close`; returns whether that is so."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if not self._waiting:
                    return
                jobs = self._take()
            if jobs := [job for job in jobs if job.future.set_running_or_notify_cancel()]:
                self._observe(len(jobs), sum(job.rows for job in jobs))
                with self._computing:
                    self._answer(jobs)

    def _take(self) -> list[Job]:
        """Returns the oldest request with those that fit to it, and leaves the others in their order."""
        jobs, rest = [self._waiting.popleft()], []
        rows, key = jobs[0].rows, jobs[0].key
        while self._waiting and key is not None and rows < self._max_rows:
            job = self._waiting.popleft()
            if job.key == key and rows + job.rows <= self._max_rows:
                jobs.append(job)
                rows += job.rows
            else:
                rest.append(job)
        self._waiting.extendleft(reversed(rest))
        return jobs

    def _answer(self, jobs: Sequence[Job]) -> None:
        """Computes requests together. If that fails, computes each half, so that an invalid request fails alone."""
        try:
            outputs = self._timed(jobs[0].signature, _joined(jobs), sum(job.rows for job in jobs))
        except Exception as error:  # noqa: BLE001, belongs to the request, and the thread must go on
            if len(jobs) == 1:
                jobs[0].future.set_exception(error)
                return
            middle = len(jobs) // 2
            self._answer(jobs[:middle])
            self._answer(jobs[middle:])
            return
        start = 0
        for job in jobs:
            alone = len(jobs) == 1
            part = outputs if alone else {k: value[start : start + job.rows] for k, value in outputs.items()}
            job.future.set_result(part)
            start += job.rows


_SHORT = 0.002
"""Seconds; the event loop may wait for a shorter call."""
_SMALL = 4_096
"""Bytes of a request; a larger one may take much longer than the usual ones."""


def _size(inputs: Arrays) -> int:
    return sum(sum(map(len, v.flat)) if v.dtype == object else v.nbytes for v in inputs.values())


def _joined(jobs: Sequence[Job]) -> Arrays:
    if len(jobs) == 1:
        return jobs[0].inputs
    return {name: np.concatenate([job.inputs[name] for job in jobs]) for name in jobs[0].inputs}
