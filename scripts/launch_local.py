"""Start several workers of a training on this machine: `zoo launch local 2 -- train --model cnn --data digits`."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import IO

from zoo.errors import UsageError
from zoo.scripts.console import run_command

_HELP = """usage: zoo launch local N -- train --model NAME --data NAME [options]

Start N workers of `zoo train` on this machine. They train together over the loopback interface, as workers on several
machines do. The CPU cores are divided among the workers, and so are the GPUs if there is at least one per worker.

Worker 0 prints as usual. Lines of the others begin with [worker 1], [worker 2], ... If a worker fails, the others have
30 seconds to stop. The exit status is that of the first failed worker, or 128 + n if signal n ended it.
"""
TRAINING = ("train",)
OWN = ("--cluster", "--task-index", "--task_index")


def command(argv: list[str]) -> int:
    """Starts the workers, waits for them and returns the exit status."""
    if argv[:1] in (["-h"], ["--help"]):
        print(_HELP, end="")
        return 0
    count, words = _parse(argv)
    environments = [worker_environment(i, count, os.environ) for i in range(count)]
    return run_workers(worker_commands(words, free_ports(count)), environments)


def worker_commands(words: Sequence[str], ports: Sequence[int]) -> list[list[str]]:
    """Returns the command line of every worker.

    Args:
        words: the training command, such as `train --model cnn --data digits`.
        ports: one port of the loopback interface for each worker.
    """
    workers = ",".join(f"127.0.0.1:{port}" for port in ports)
    given = any(re.match(r"--config\.strategy(=|$)", word) for word in words)
    strategy = [] if given else ["--config.strategy", "multi_worker"]
    # -P: modules must not be imported from a folder `datasets` in the current directory.
    zoo = [sys.executable, "-P", "-m", "zoo.scripts.cli", *words, *strategy, "--cluster", workers]
    return [[*zoo, "--task-index", str(index)] for index in range(len(ports))]


def _parse(argv: Sequence[str]) -> tuple[int, list[str]]:
    """Returns the number of workers and their command."""
    example = "Try `zoo launch local 2 -- train --model cnn --data digits`."
    before, after = list(argv), None
    if "--" in argv:
        before, after = list(argv[: argv.index("--")]), list(argv[argv.index("--") + 1 :])
    if len(before) != 1 or not re.fullmatch(r"[0-9]+", before[0]) or int(before[0]) < 1:
        came = " ".join(before) or "nothing"
        raise UsageError(f"The number of workers is {came}; expected one whole number of at least 1. {example}")
    if not after:
        raise UsageError(f"No command follows --; expected `train` and its options. {example}")
    if after[0] not in TRAINING:
        raise UsageError(f"`zoo {after[0]}` does not train; zoo launch local only starts training. {example}")
    for word in after:
        if word.split("=", 1)[0] in OWN:
            raise UsageError(
                f"{word} is not allowed after --, because zoo launch local passes it to every worker. Leave it out."
            )
    return int(before[0]), after


def free_ports(count: int) -> list[int]:
    """Returns `count` free ports of the loopback interface."""
    with contextlib.ExitStack() as stack:
        # All are open at the same time; a closed port could be returned twice.
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def worker_environment(index: int, count: int, environment: Mapping[str, str]) -> dict[str, str]:
    """Returns a worker's environment with its share of the cores and GPUs; the user's settings are kept.

    Args:
        index: index of the worker.
        count: number of workers.
        environment: the environment of the launcher.
    """
    mine = {k: v for k, v in environment.items() if k != "TF_CONFIG"}  # it would describe another cluster
    every = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cores = max(1, every // count)
    mine.setdefault("OMP_NUM_THREADS", str(cores))
    mine.setdefault("TF_NUM_INTRAOP_THREADS", str(cores))
    # At least two: an op that waits for the other workers occupies a thread.
    mine.setdefault("TF_NUM_INTEROP_THREADS", str(max(2, cores)))
    gpus = _gpus(environment)
    if gpus:
        share = len(gpus) // count
        # Two workers cannot share a GPU in a reduction. With too few GPUs, all workers use the CPU.
        mine["CUDA_VISIBLE_DEVICES"] = ",".join(gpus[index * share : (index + 1) * share]) or "-1"
    return mine


def _gpus(environment: Mapping[str, str]) -> list[str]:
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1")]
    return sorted((p.name.removeprefix("nvidia") for p in Path("/dev").glob("nvidia[0-9]*")), key=int)


def run_workers(
    commands: Sequence[Sequence[str]],
    environments: Sequence[Mapping[str, str]] | None = None,
    *,
    patience: float = 30.0,
) -> int:
    """Runs the commands in parallel until all have ended.

    The first command keeps the terminal. The output lines of the others get a prefix. SIGINT, SIGTERM and SIGHUP are
    forwarded to every worker once. If a worker fails, the others have time to stop and to save a checkpoint.

    Args:
        commands: a command line for each worker.
        environments: the environment of each worker; None for that of this process.
        patience: seconds between a failure and SIGTERM to the others; SIGKILL follows ten seconds later.

    Returns:
        0, or the exit status of the first failed worker: 128 + n if signal n ended it.
    """
    arrived: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        arrived.append(number)  # `_wait` forwards it after every worker has been started

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    workers: list[subprocess.Popen[bytes]] = []
    pumps: list[threading.Thread] = []
    try:
        for index, words in enumerate(commands):
            environment = environments[index] if environments else None
            workers.append(_start(index, words, environment))
            pumps += _pumps(index, workers[-1])
        status = _wait(workers, arrived, patience)
        for pump in pumps:
            pump.join(timeout=5)  # a child of a worker may still hold the pipe
        return status
    finally:
        for worker in workers:
            if worker.poll() is None:
                worker.kill()
        for number, handler in before.items():
            signal.signal(number, handler)


def _start(index: int, words: Sequence[str], environment: Mapping[str, str] | None) -> subprocess.Popen[bytes]:
    # A new process group: Ctrl-C in a terminal reaches this process only, so no worker gets it twice.
    output = None if index == 0 else subprocess.PIPE
    return subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env=environment,
        process_group=0,
        preexec_fn=_stop_with_parent,
    )


_LIBC = ctypes.CDLL(None)


def _stop_with_parent() -> None:
    """Has the kernel send SIGTERM to this process when its parent is killed, so that no worker trains on; only on Linux."""
    if hasattr(_LIBC, "prctl"):
        _LIBC.prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def _wait(workers: Sequence[subprocess.Popen[bytes]], arrived: list[int], patience: float) -> int:
    """Waits for all workers and forwards signals; returns the exit status."""
    status, failed_at = 0, 0.0
    remedies = [(signal.SIGTERM, patience), (signal.SIGKILL, patience + 10)]
    while any(worker.poll() is None for worker in workers):
        while arrived:
            _send(workers, arrived.pop(0))
        if not status and (failure := _first_failure(workers)) is not None:
            index, status = failure
            failed_at = time.monotonic()
            others = [i for i, worker in enumerate(workers) if worker.poll() is None]
            if others:
                left = (
                    f"{len(others)} other {'workers have' if len(others) > 1 else 'worker has'} {patience:g} s to stop"
                )
                print(f"zoo: worker {index} ended with status {status}; {left}.", file=sys.stderr, flush=True)
        if status and remedies and time.monotonic() - failed_at > remedies[0][1]:
            _send(workers, remedies.pop(0)[0])
        time.sleep(0.05)
    return status or (_first_failure(workers) or (0, 0))[1]


def _first_failure(workers: Sequence[subprocess.Popen[bytes]]) -> tuple[int, int] | None:
    for index, worker in enumerate(workers):
        code = worker.poll()
        if code:
            return index, code if code > 0 else 128 - code
    return None


def _send(workers: Sequence[subprocess.Popen[bytes]], number: int) -> None:
    for worker in workers:
        if worker.poll() is None:
            worker.send_signal(number)


_printing = threading.Lock()


def _pumps(index: int, worker: subprocess.Popen[bytes]) -> Iterator[threading.Thread]:
    """Starts threads that print a worker's output, each line after the worker's name."""
    for source, target in ((worker.stdout, sys.stdout), (worker.stderr, sys.stderr)):
        if source is not None:
            thread = threading.Thread(target=_pump, args=(index, source, target), daemon=True)
            thread.start()
            yield thread


def _pump(index: int, source: IO[bytes], target: IO[str]) -> None:
    # In a terminal, the cursor may be after worker 0's progress bar. The bar is drawn again.
    start = "\r\x1b[K" if target.isatty() else ""
    for line in source:
        text = line.decode(errors="replace").rstrip("\r\n")
        with (
            _printing,
            contextlib.suppress(OSError, ValueError),
        ):  # the output is closed: keep reading, or the worker blocks
            target.write(f"{start}[worker {index}] {text}\n")  # one call: worker 0 writes to the same terminal
            target.flush()


if __name__ == "__main__":
    sys.exit(run_command(command))
