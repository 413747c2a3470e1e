"""Several machines: the wait for all of them, and the values that they exchange.

TensorFlow waits an hour for a missing worker and cannot be interrupted. So the workers first look for each other here, with
plain sockets, and name the address that does not respond.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.errors import UsageError
from zoo.training.detection.contract import Cluster

if TYPE_CHECKING:
    import tensorflow as tf


def meet(cluster: Cluster, timeout: float = 300.0) -> None:
    """Returns once every worker of the cluster is there.

    Each one listens at its own address until it has heard from all the others, and calls on each of them until it is
    answered. The port is free again afterwards, for TensorFlow.

    Args:
        cluster: all workers, and this one.
        timeout: seconds to wait.

    Raises:
        UsageError: a worker that does not respond or belongs to another cluster, or an address of this worker
            that it cannot listen at.
    """
    deadline = time.monotonic() + timeout
    mine = cluster.addresses[cluster.index]
    family = socket.AF_INET6 if mine.count(":") > 1 else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("", int(mine.rpartition(":")[2])))
            listener.listen(len(cluster.addresses))
        except OSError as error:
            raise UsageError(
                f"Worker {cluster.index} cannot listen at {mine}: {error.strerror}. Stop what uses the port, or pass "
                "another one to every worker."
            ) from error
        listener.settimeout(0.2)
        _Meeting(cluster, listener, deadline, timeout).hold()


class _Meeting:
    """One worker's part: a thread that listens, and calls to all others."""

    def __init__(self, cluster: Cluster, listener: socket.socket, deadline: float, timeout: float) -> None:
        self.cluster, self.listener, self.deadline, self.timeout = cluster, listener, deadline, timeout
        self.others = {i for i in range(len(cluster.addresses)) if i != cluster.index}
        self.heard: set[int] = set()
        self.reached: set[int] = set()
        self.stranger: str | None = None
        self.over = False
        known = cluster.names or cluster.addresses  # machines may resolve the names to different addresses
        self.word = hashlib.sha256(",".join(known).encode()).hexdigest()[:16]

    def hold(self) -> None:
        thread = threading.Thread(target=self._listen, daemon=True)
        thread.start()
        try:
            while self.reached != self.others or self.heard != self.others:
                for other in sorted(self.others - self.reached):
                    self._call(other)
                if self.stranger is not None:
                    raise UsageError(
                        f"The worker at {self.stranger} belongs to another cluster, or has this worker's index "
                        f"{self.cluster.index}. Start every worker with the same --cluster and its own --task-index."
                    )
                if time.monotonic() > self.deadline:
                    missing = [self.cluster.addresses[i] for i in sorted(self.others - (self.reached & self.heard))]
                    raise UsageError(
                        f"No answer from {', '.join(missing)} within {self.timeout:g} seconds. Start every worker with "
                        "the same --cluster and its own --task-index, and open the port between the machines."
                    )
                time.sleep(0.05)
        finally:
            self.over = True
            thread.join()

    def _listen(self) -> None:
        while not self.over:
            with contextlib.suppress(OSError):
                connection, _ = self.listener.accept()
                with connection:
                    connection.settimeout(2)
                    word, _, index = connection.recv(64).decode("ascii", "replace").partition(" ")
                    if word == self.word and index.isdigit() and int(index) in self.others:
                        connection.sendall(b"welcome")
                        connection.recv(1)  # the caller closes first: this port stays free of waiting states
                        self.heard.add(int(index))
                    else:
                        connection.sendall(b"stranger")

    def _call(self, other: int) -> None:
        host, _, port = self.cluster.addresses[other].rpartition(":")
        with contextlib.suppress(OSError), socket.create_connection((host.strip("[]"), int(port)), 2) as connection:
            connection.settimeout(2)
            connection.sendall(f"{self.word} {self.cluster.index}".encode())
            answer = connection.recv(16)
            if answer == b"welcome":
                self.reached.add(other)
            elif answer == b"stranger":
                self.stranger = self.cluster.addresses[other]


class Workers:
    """Exchanges values between the processes of a run; a single process gets its own values.

    Every worker must make the same calls in the same order.

    Args:
        strategy: the strategy of the run.
    """

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        self._strategy = strategy
        resolver = getattr(strategy, "cluster_resolver", None)
        workers = resolver.cluster_spec().as_dict().get("worker", []) if resolver else []
        self.count = max(1, len(workers))
        self.index = int(getattr(resolver, "task_id", 0) or 0) if self.count > 1 else 0
        self._sums: dict[tuple[tf.DType, int], Any] = {}

    @property
    def chief(self) -> bool:
        """Whether this is the process that prints and writes."""
        return self.index == 0

    def sum(self, values: np.ndarray) -> np.ndarray:
        """Returns the sum over all workers of equally shaped numbers."""
        import tensorflow as tf

        if self.count == 1:
            return np.asarray(values)
        tensor = tf.constant(values)
        kind = tensor.dtype, tensor.shape.rank
        if kind not in self._sums:  # one trace for each: TensorFlow warns of a function that is traced again and again

            @tf.function(input_signature=[tf.TensorSpec([None] * kind[1], kind[0])], autograph=False)
            def over_all(value: tf.Tensor) -> tf.Tensor:
                def replica(value: tf.Tensor) -> tf.Tensor:
                    context = tf.distribute.get_replica_context()
                    first = tf.equal(context.replica_id_in_sync_group % local, 0)  # one replica speaks for a worker
                    return context.all_reduce("SUM", tf.where(first, value, tf.zeros_like(value)))

                return self._strategy.experimental_local_results(self._strategy.run(replica, args=(value,)))[0]

            local = self._strategy.num_replicas_in_sync // self.count
            self._sums[kind] = over_all
        total: np.ndarray = self._sums[kind](tensor).numpy()
        return total

    def from_chief(self, values: np.ndarray) -> np.ndarray:
        """Returns the chief's numbers on every worker; the others pass any of the same shape and dtype."""
        wide = values.astype(np.int64) if values.dtype.kind in "ub" else values  # what can be summed over workers
        return self.sum(wide if self.chief else np.zeros_like(wide)).astype(values.dtype)

    def number_from_chief(self, number: int) -> int:
        """Returns the chief's whole number on every worker."""
        return int(self.from_chief(np.array([number], np.int64))[0])

    def text_from_chief(self, text: str) -> str:
        """Returns the chief's text on every worker."""
        if self.count == 1:
            return text
        content = np.frombuffer(text.encode(), np.uint8).astype(np.int32)
        size = self.number_from_chief(content.size)
        padded = content if self.chief else np.zeros(size, np.int32)
        return self.from_chief(padded).astype(np.uint8).tobytes().decode()

    def wait(self) -> None:
        """Returns once every worker is here."""
        self.sum(np.zeros(1, np.int64))

    def wait_at_most(self, seconds: float) -> bool:
        """Returns whether every worker came here in time; False where one is lost, or does something else.

        The process must end after False: its next exchange with the others could meet this one.
        """
        came: list[bool] = []

        def wait() -> None:
            with contextlib.suppress(Exception):  # a worker is dead: TensorFlow raises several kinds of errors
                self.wait()
                came.append(True)

        if self.count == 1:
            return True
        thread = threading.Thread(target=wait, daemon=True)  # TensorFlow cannot be interrupted
        thread.start()
        thread.join(seconds)
        return bool(came)


def agree(workers: Workers, facts: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises UsageError on every worker if the settings or data of one differ from the chief's.

    They would compute nonsense, or wait for each other forever. Paths of files may differ.

    Args:
        workers: all of them make this call.
        facts: by section and name, as JSON knows them.
    """
    mine = {
        f"{section}.{name}": json.dumps(value, sort_keys=True, default=str)
        for section, values in facts.items()
        for name, value in values.items()
        if not name.endswith("_dir")
    }
    chief = json.loads(workers.text_from_chief(json.dumps(mine)))
    wrong = sorted(name for name in {*mine, *chief} if mine.get(name) != chief.get(name))
    differing = np.zeros(workers.count, np.int64)
    differing[workers.index] = bool(wrong)
    differing = workers.sum(differing)
    if differing.any():
        which = ", ".join(str(i) for i in np.flatnonzero(differing))
        what = f": {wrong[0]} is {mine.get(wrong[0])}, the chief has {chief.get(wrong[0])}" if wrong else ""
        raise UsageError(
            f"Worker {which} has other settings or data than the chief{what}. Start every worker with the same command and "
            "the same data; each takes its part of every batch."
        )
