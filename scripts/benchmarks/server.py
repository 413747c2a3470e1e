"""Measure the HTTP server under load: `zoo benchmark server runs/commands --clients 1 8 32 --seconds 60`."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import csv
import dataclasses
import importlib.util
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from zoo.errors import UsageError, did_you_mean
from zoo.scripts.benchmarks.server_contenders import CONTENDERS, Contender, check_alike, mlserver, rows_of, started
from zoo.scripts.console import Parser, import_tensorflow, run_command

_DESCRIPTION = """Measure requests per second, latency, errors, memory and the time of the start of the HTTP server, next to a
plain FastAPI handler and MLServer over the same SavedModel.

Each client sends one example at a time over a connection that is kept open. The examples are the golden examples of the
signature, and the answers of all servers are compared before anything is measured. Servers take turns in each round, so that
other load on the machine affects all of them equally. `in process` is the same call in a loop without a server. Without
paths, three untrained models are exported and measured: for tables, texts and images.
"""
IN_PROCESS = "in process"
_EXPORTED = {"mlp": "iris", "transformer": "commands", "resnet50": "digits"}
"""The data set of each model that is measured without paths; one call of the last takes several milliseconds."""
_MOST_OVERHEAD, _LEAST_SHARE, _LONG_CALL, _LATEST = 0.6, 0.9, 5.0, 5.0
"""Targets: milliseconds over the in-process call for one client; share of its calls per second for eight clients, if a call
takes at least so many milliseconds; and seconds until the server answers."""


@dataclasses.dataclass(frozen=True)
class Row:
    """The figures of a server for a model and a number of clients.

    Attributes:
        model: the name of the model.
        contender: the title of the server.
        clients: number of clients; 1 in process.
        requests_per_second: answers per second of all clients.
        p50: median latency in milliseconds.
        p99: 99th percentile in milliseconds.
        errors: number of requests without an answer of status 200.
        megabytes: most memory of the process in MB; NaN in process.
        ready_seconds: seconds from the start of the process to the first answer; NaN in process.
    """

    model: str
    contender: str
    clients: int
    requests_per_second: float
    p50: float
    p99: float
    errors: int
    megabytes: float = math.nan
    ready_seconds: float = math.nan


async def load(server: Contender, clients: int, seconds: float) -> tuple[list[float], int, float]:
    """Returns the seconds of all requests of some clients, the number of errors, and the seconds that they took."""
    taken: list[float] = []
    errors = 0
    heads = [
        f"POST {server.path} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n".encode()
        + body
        for body in server.bodies
    ]
    started_at = time.perf_counter()
    end = started_at + seconds

    async def client(number: int) -> None:
        nonlocal errors
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        place = number
        while (begin := time.perf_counter()) < end:
            writer.write(heads[place % len(heads)])
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
            taken.append(time.perf_counter() - begin)
            errors += head.split(b" ", 2)[1] != b"200"
            place += 1
        writer.close()

    results = await asyncio.gather(*(client(number) for number in range(clients)), return_exceptions=True)
    errors += sum(isinstance(result, BaseException) for result in results)
    return taken, errors, time.perf_counter() - started_at


class InProcess:
    """The same calls in this process, with one example each."""

    def __init__(self, path: Path, signature: str, rows: Sequence[dict[str, Any]]) -> None:
        from zoo.export import load as load_model

        self._model, self._signature = load_model(path), signature
        self._batches = [
            {name: [base64.b64decode(v["b64"]) if isinstance(v, dict) else v] for name, v in row.items()}
            for row in rows
        ]
        for batch in self._batches:
            self._model(batch, signature)

    def run(self, seconds: float) -> tuple[list[float], float]:
        """Returns the seconds of all calls, and those that they took together."""
        taken: list[float] = []
        begin = time.perf_counter()
        while time.perf_counter() < begin + seconds:
            once = time.perf_counter()
            self._model(self._batches[len(taken) % len(self._batches)], self._signature)
            taken.append(time.perf_counter() - once)
        return taken, time.perf_counter() - begin


def measure(
    name: str,
    path: Path,
    signature: str,
    contenders: Sequence[str],
    clients: Sequence[int],
    seconds: float,
    rounds: int,
) -> list[Row]:
    """Returns a row for the calls in process, and for each server and number of clients: medians of the rounds, and the sum
    of the errors."""
    rows = rows_of(path, signature)
    found: dict[tuple[str, int], list[Row]] = {}
    with contextlib.ExitStack() as stack:
        servers = {each: stack.enter_context(started(each, path, signature, rows)) for each in contenders}
        check_alike(servers)
        inside = InProcess(path, signature, rows)
        for _ in range(rounds):
            taken, spent = inside.run(min(10.0, seconds) / rounds)
            found.setdefault((IN_PROCESS, 1), []).append(_row(name, IN_PROCESS, 1, taken, 0, spent))
            for count in clients:
                for each, server in servers.items():
                    asyncio.run(load(server, count, min(2.0, seconds)))  # warms up the threads and connections
                    taken, errors, spent = asyncio.run(load(server, count, seconds / rounds))
                    row = _row(name, CONTENDERS[each], count, taken, errors, spent)
                    row = dataclasses.replace(row, megabytes=server.megabytes, ready_seconds=server.ready_seconds)
                    found.setdefault((each, count), []).append(row)
    return [_median(parts) for parts in found.values()]


def _row(name: str, contender: str, clients: int, taken: Sequence[float], errors: int, spent: float) -> Row:
    import numpy as np

    p50, p99 = (1000 * float(np.quantile(taken or [np.nan], q)) for q in (0.5, 0.99))
    return Row(name, contender, clients, len(taken) / spent, p50, p99, errors)


def _median(parts: Sequence[Row]) -> Row:
    names = ("requests_per_second", "p50", "p99")
    medians = {name: statistics.median(getattr(part, name) for part in parts) for name in names}
    errors, memory = sum(part.errors for part in parts), max(part.megabytes for part in parts)
    return dataclasses.replace(parts[0], **medians, errors=errors, megabytes=memory)


def table(rows: Sequence[Row]) -> str:
    """Returns the figures as a table in Markdown."""
    head = ["model", "server", "clients", "requests/s", "p50 ms", "p99 ms", "errors", "memory MB", "ready s"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in rows:
        is_server = row.contender != IN_PROCESS
        cells = [f"`{row.model}`", row.contender, str(row.clients) if is_server else ""]
        cells += [f"{row.requests_per_second:,.0f}", f"{row.p50:.2f}", f"{row.p99:.2f}"]
        cells += [str(row.errors), f"{row.megabytes:,.0f}", f"{row.ready_seconds:.1f}"] if is_server else [""] * 3
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def targets(rows: Sequence[Row]) -> list[str]:
    """Returns a line for each figure of `zoo serve` that has a target."""
    inside = {row.model: row for row in rows if row.contender == IN_PROCESS}
    found = []
    for row in rows:
        if row.contender != CONTENDERS["zoo"] or row.model not in inside:
            continue
        call = inside[row.model]
        if row.clients == 1:
            verdict = _verdict(row.ready_seconds <= _LATEST, f"at most {_LATEST:g} s")
            found.append(f"{row.model}: ready after {row.ready_seconds:.1f} s ({verdict})")
            over = row.p50 - call.p50
            verdict = _verdict(over <= _MOST_OVERHEAD, f"at most {_MOST_OVERHEAD:g} ms")
            found.append(f"{row.model}, 1 client: p50 {over:.2f} ms above {call.p50:.2f} ms in process ({verdict})")
        else:
            share = row.requests_per_second / call.requests_per_second
            verdict = "no target for such a fast call"
            if row.clients != 8:
                verdict = "no target for this number of clients"
            elif call.p50 >= _LONG_CALL:
                verdict = _verdict(share >= _LEAST_SHARE, f"at least {_LEAST_SHARE:.0%}")
            found.append(
                f"{row.model}, {row.clients} clients: {share:.0%} of the {call.requests_per_second:,.0f} calls per second in "
                f"process, {call.p50:.2f} ms each ({verdict})"
            )
    return found


def _verdict(is_met: bool, target: str) -> str:
    return f"{'reached' if is_met else 'MISSED'}: {target}"


def write(rows: Sequence[Row], file: Path) -> None:
    """Writes rows to a CSV file."""
    with file.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.writer(lines, lineterminator="\n")
        writer.writerow([field.name for field in dataclasses.fields(Row)])
        for row in rows:
            values = dataclasses.astuple(row)
            writer.writerow([f"{value:.3f}" if isinstance(value, float) else value for value in values])


def read(file: Path) -> list[Row]:
    """Returns the rows of a CSV file.

    Raises:
        UsageError: it does not exist, or has other columns.
    """
    if not file.is_file():
        raise UsageError(f"{file} does not exist. Call the benchmark with --output {file} first.")
    kinds = {"model": str, "contender": str, "clients": int, "errors": int}
    with file.open(encoding="utf-8", newline="") as lines:
        reader = csv.DictReader(lines)
        wanted = [field.name for field in dataclasses.fields(Row)]
        if list(reader.fieldnames or ()) != wanted:
            raise UsageError(f"{file} has other columns than {', '.join(wanted)}. Pass another --output.")
        return [Row(**{name: kinds.get(name, float)(value) for name, value in row.items()}) for row in reader]


def _parser() -> Parser:
    parser = Parser("benchmark server", _DESCRIPTION)
    parser.add_argument("paths", nargs="*", help="Runs, folders of versions, or version folders.")
    parser.add_argument("--signature", default="serving_default", help="The signature that is called.")
    parser.add_argument("--contenders", nargs="+", default=["zoo", "fastapi"], help=f"Of {', '.join(CONTENDERS)}.")
    parser.add_argument("--clients", nargs="+", type=int, default=[1, 8, 32], help="Numbers of clients at once.")
    parser.add_argument("--seconds", type=float, default=60.0, help="Seconds of load for each number of clients.")
    parser.add_argument(
        "--rounds", type=int, default=3, help="Turns of the servers, among which the seconds are divided."
    )
    parser.add_argument("--output", type=str | None, default=None, help="CSV file for the figures.")
    parser.add_argument("--markdown", action="store_true", help="Print the CSV file as a table. Nothing is measured.")
    return parser


def command(argv: list[str]) -> int:
    """Parses the options, measures and prints a table."""
    options = _parser().parse(argv)
    output = Path(options.output) if options.output else None
    if options.markdown:
        print(table(read(output or Path(__file__).with_name("server.csv"))))
        return 0
    for name in options.contenders:
        if name not in CONTENDERS:
            raise UsageError(f"Unknown contender {name!r}. {did_you_mean(name, CONTENDERS)}")
    if "mlserver" in options.contenders and not mlserver():
        raise UsageError("MLServer was not found. Set MLSERVER to its command, or leave it out of --contenders.")
    if "fastapi" in options.contenders and importlib.util.find_spec("fastapi") is None:
        raise UsageError("FastAPI is not installed. Run `pip install fastapi`, or leave it out of --contenders.")
    if options.rounds < 1 or options.seconds <= 0 or min(options.clients) < 1:
        raise UsageError("--rounds, --seconds and --clients must be positive. Pass numbers of at least 1.")
    import_tensorflow()
    found: list[Row] = []
    with _artifacts(options.paths) as paths:
        for name, path in paths.items():
            settings = (options.contenders, options.clients, options.seconds, options.rounds)
            found += measure(name, path, options.signature, *settings)
    print(table(found))
    print("\n".join(["", *targets(found)]))
    if output:
        write(found, output)
    return 0


@contextlib.contextmanager
def _artifacts(paths: Sequence[str]) -> Iterator[dict[str, Path]]:
    """Yields the version folders by the names of their models; without paths, those of untrained models."""
    from zoo.export import artifact_paths
    from zoo.scripts.serve import name_of

    if paths:
        yield {name_of(path): artifact_paths.find(path) for path in paths}
        return
    import zoo

    with tempfile.TemporaryDirectory() as folder:
        found = {}
        for model, data in _EXPORTED.items():
            prepared = zoo.datasets.load(data).prepare(model)
            found[model] = zoo.export.save(prepared.build(seed=0), Path(folder) / model, interface=prepared.interface)
        yield found


if __name__ == "__main__":
    sys.exit(run_command(command))
