"""Start several workers of a training on this machine: `zoo launch-local 2 -- train --model cnn --data digits`."""

from __future__ import annotations

import contextlib
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

_HELP = """usage: zoo launch-local N -- train --model NAME --data NAME [options]

Start N workers of `zoo train` on this machine, which train together over the loopback interface. It is how several
machines train, tried out on one; the processor's cores, and GPUs where there are enough, are divided among the workers.

Worker 0 prints as usual; the lines of the others begin with [worker 1], [worker 2], ... Where one fails the others have
half a minute to notice. The exit status is that of the first worker that failed, 128 + n where signal n ended it.
"""
_TRAINING = ("train",)
_OWN = ("--cluster", "--task-index", "--task_index")


def command(argv: list[str]) -> int:
    """Parses, starts the workers, waits for them; returns the exit status."""
    if argv[:1] in (["-h"], ["--help"]):
        print(_HELP, end="")
        return 0
    count, words = _parse(argv)
    environments = [worker_environment(i, count, os.environ) for i in range(count)]
    return run_workers(worker_commands(words, free_ports(count)), environments)


def worker_commands(words: Sequence[str], ports: Sequence[int]) -> list[list[str]]:
    """Returns the command line of every worker.

    Args:
        words: of the command that trains, such as `train --model cnn --data digits`.
        ports: of the loopback interface, one for each worker.
    """
    workers = ",".join(f"127.0.0.1:{port}" for port in ports)
    said = any(re.match(r"--config\.strategy(=|$)", word) for word in words)
    strategy = [] if said else ["--config.strategy", "multi_worker"]
    # -P: of a folder named `datasets` in the current directory nobody may take modules.
    zoo = [sys.executable, "-P", "-m", "zoo.scripts.cli", *words, *strategy, "--cluster", workers]
    return [[*zoo, "--task-index", str(index)] for index in range(len(ports))]


def _parse(argv: Sequence[str]) -> tuple[int, list[str]]:
    """Returns the number of workers and the words of their command."""
    example = "Pass `zoo launch-local 2 -- train --model cnn --data digits`, say."
    before, after = list(argv), None
    if "--" in argv:
        before, after = list(argv[: argv.index("--")]), list(argv[argv.index("--") + 1 :])
    if len(before) != 1 or not re.fullmatch(r"[0-9]+", before[0]) or int(before[0]) < 1:
        came = " ".join(before) or "nothing"
        raise UsageError(f"The number of workers is {came}; expected one whole number of at least 1. {example}")
    if not after:
        raise UsageError(f"No command came after --; expected one that trains. {example}")
    if after[0] not in _TRAINING:
        raise UsageError(f"`zoo {after[0]}` does not train; workers share the steps of a training. {example}")
    for word in after:
        if word.split("=", 1)[0] in _OWN:
            raise UsageError(
                f"{word} came after --; launch-local itself tells the workers of each other. Leave it out."
            )
    return int(before[0]), after


def free_ports(count: int) -> list[int]:
    """Returns as many ports of the loopback interface that nobody listens on."""
    with contextlib.ExitStack() as stack:
        # All at once: a port that was given back could be given again.
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def worker_environment(index: int, count: int, environment: Mapping[str, str]) -> dict[str, str]:
    """Returns a worker's environment: its share of the cores and GPUs; what the user has set stays.

    Args:
        index: the worker.
        count: number of workers.
        environment: the launcher's own.
    """
    mine = {k: v for k, v in environment.items() if k != "TF_CONFIG"}  # which would name another cluster
    every = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cores = max(1, every // count)
    mine.setdefault("OMP_NUM_THREADS", str(cores))
    mine.setdefault("TF_NUM_INTRAOP_THREADS", str(cores))
    # Two at least: an op that waits for the other workers holds a thread.
    mine.setdefault("TF_NUM_INTEROP_THREADS", str(max(2, cores)))
    gpus = _gpus(environment)
    if gpus:
        share = len(gpus) // count
        # Two workers cannot reduce over one GPU: where there are too few all of them use the processor.
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
    """Runs the commands side by side until all have ended.

    The first one has the terminal. The lines of the others get a prefix. SIGINT, SIGTERM and SIGHUP are passed on to all,
    once each. When one fails, the others have time to notice it themselves, and to save what they have.

    Args:
        commands: a command line for each worker.
        environments: the environment of each, None for this process's own.
        patience: seconds after a failure until the others are sent SIGTERM; SIGKILL follows ten seconds later.

    Returns:
        0, or the exit status of the first that failed, 128 + n where signal n ended it.
    """
    arrived: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        arrived.append(number)  # passed on by the loop below, when every worker has been started

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
            pump.join(timeout=5)  # not for ever: a worker's own child may have kept the pipe
        return status
    finally:
        for worker in workers:
            if worker.poll() is None:
                worker.kill()
        for number, handler in before.items():
            signal.signal(number, handler)


def _start(index: int, words: Sequence[str], environment: Mapping[str, str] | None) -> subprocess.Popen[bytes]:
    # A process group of its own: Ctrl-C in a terminal reaches this process alone, so that no worker gets it twice.
    output = None if index == 0 else subprocess.PIPE
    return subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, process_group=0
    )


def _wait(workers: Sequence[subprocess.Popen[bytes]], arrived: list[int], patience: float) -> int:
    """Waits for all workers, passes signals on; returns the exit status."""
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
                left = f"{len(others)} {'others have' if len(others) > 1 else 'other has'} {patience:g} s to notice"
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
    """Starts threads that print what a worker says, each line behind its name."""
    for source, target in ((worker.stdout, sys.stdout), (worker.stderr, sys.stderr)):
        if source is not None:
            thread = threading.Thread(target=_pump, args=(index, source, target), daemon=True)
            thread.start()
            yield thread


def _pump(index: int, source: IO[bytes], target: IO[str]) -> None:
    # In a terminal the cursor may stand behind worker 0's progress bar, which draws itself anew.
    start = "\r\x1b[K" if target.isatty() else ""
    for line in source:
        text = line.decode(errors="replace").rstrip("\r\n")
        with (
            _printing,
            contextlib.suppress(OSError, ValueError),
        ):  # whoever listened has gone: read on, or the worker waits
            target.write(f"{start}[worker {index}] {text}\n")  # in one piece: worker 0 writes to the same place
            target.flush()


if __name__ == "__main__":
    sys.exit(run_command(command))
