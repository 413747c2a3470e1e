"""Measure the HTTP server under load: `zoo benchmark server runs/commands --clients 1 8 32 --seconds 60`."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import csv
import dataclasses
import importlib.util
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from zoo.errors import UsageError, did_you_mean
from zoo.scripts.console import Parser, run_command

_DESCRIPTION = """Measure requests per second, latency, errors and memory of the HTTP server, next to a plain FastAPI handler
and MLServer over the same SavedModel.

Each client sends one example at a time over a connection that is kept open. The examples are the golden examples of the
signature, and the answers of all servers are compared before anything is measured. Servers take turns in each round, so that
other load on the machine affects all of them equally. `in process` is the same call in a loop without a server.
"""
CONTENDERS = {
    "zoo": "zoo serve",
    "fastapi": "plain FastAPI handler",
    "mlserver": "MLServer, see scripts/serve_mlserver.md",
}
_EXAMPLES = 32
_READY = 120.0
_RUNTIME = Path(__file__).parent.parent / "mlserver_runtime"


@dataclasses.dataclass(frozen=True)
class Row:
    """The figures of a server for a number of clients: requests per second, and milliseconds."""

    contender: str
    clients: int
    requests_per_second: float
    p50: float
    p99: float
    errors: int
    megabytes: float


@dataclasses.dataclass
class Contender:
    """A server that runs."""

    process: subprocess.Popen[bytes]
    port: int
    path: str
    bodies: list[bytes]
    answer: Callable[[Any], Any]

    @property
    def megabytes(self) -> float:
        """The most memory that the process had, in MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        return int(status.partition("VmHWM:")[2].split()[0]) / 1000


def rows_of(path: Path, signature: str) -> list[dict[str, Any]]:
    """Returns golden inputs of a signature as JSON values by name; bytes as {"b64": ...}."""
    from zoo.export import zoo_json
    from zoo.export.standalone import arrays
    from zoo.tasks import REQUEST_KINDS

    facts = zoo_json.signatures(zoo_json.read(path))
    golden = arrays.load(path / "assets.extra" / "golden.npz")
    inputs, _ = arrays.examples(golden, facts, signature)
    if not inputs:
        raise UsageError(f"{path} has no golden examples for {signature}. Choose another signature or SavedModel.")
    kinds = {name: REQUEST_KINDS.get(facts[signature]["inputs"][name]["kind"]) for name in inputs}

    def value(name: str, part: Any) -> Any:
        if kinds[name].is_bytes:
            return {"b64": base64.b64encode(part).decode()}
        return part.decode() if isinstance(part, bytes) else part.tolist()

    count = min(_EXAMPLES, *(len(values) for values in inputs.values()))
    return [{name: value(name, values[row]) for name, values in inputs.items()} for row in range(count)]


def v1_body(row: dict[str, Any], signature: str) -> bytes:
    """Returns a request of TensorFlow Serving's REST API."""
    instance = row if len(row) > 1 else next(iter(row.values()))
    return json.dumps({"signature_name": signature, "instances": [instance]}).encode()


def v2_body(row: dict[str, Any], signature: str) -> bytes:
    """Returns a request of the Open Inference Protocol for one example with texts, files or float32 numbers."""
    tensors = []
    for name, value in row.items():
        is_text = isinstance(value, (str, dict))
        shape, flat = [1], [value["b64"] if isinstance(value, dict) else value]
        while not is_text and isinstance(flat[0], list):
            shape.append(len(flat[0]))
            flat = [part for parts in flat for part in parts]
        kind = "BYTES" if is_text else "FP32"
        tensors.append({"name": name, "shape": shape, "datatype": kind, "data": flat})
    return json.dumps({"inputs": tensors, "parameters": {"signature_name": signature}}).encode()


def _v1_answer(content: Any) -> Any:
    (prediction,) = content["predictions"]
    return prediction


def _v2_answer(content: Any) -> Any:
    found = {}
    for output in content["outputs"]:
        value = output["data"]
        for size in reversed(output["shape"][1:]):
            value = [value[at : at + size] for at in range(0, len(value), size)]
        found[output["name"]] = value[0]
    return found if len(found) > 1 else next(iter(found.values()))


@contextlib.contextmanager
def started(contender: str, path: Path, signature: str, rows: Sequence[dict[str, Any]]) -> Iterator[Contender]:
    """Starts a server and waits until it answers.

    Raises:
        UsageError: it ends, or does not answer in time.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    python = [sys.executable, "-P", "-m"]
    url, body, answer = "/v1/models/model:predict", v1_body, _v1_answer
    if contender == "zoo":
        words = [*python, "zoo.scripts.serve", f"model={path}", "--port", str(port)]
    elif contender == "fastapi":
        words = [*python, "zoo.scripts.benchmarks.fastapi_server", str(path), str(port)]
    else:
        words = [_mlserver(), "start", str(_RUNTIME)]
        url, body, answer = "/v2/models/model/infer", v2_body, _v2_answer
        with contextlib.ExitStack() as stack:
            others = [stack.enter_context(socket.socket()) for _ in range(2)]
            for opened in others:
                opened.bind(("127.0.0.1", 0))
            grpc, metrics = (str(opened.getsockname()[1]) for opened in others)
        environment |= {"MLSERVER_MODEL_NAME": "model", "MLSERVER_MODEL_URI": str(path.absolute())}
        environment |= {"MLSERVER_HTTP_PORT": str(port), "MLSERVER_GRPC_PORT": grpc, "MLSERVER_METRICS_PORT": metrics}
    with subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            found = Contender(process, port, url, [body(row, signature) for row in rows], answer)
            _wait(found, CONTENDERS[contender])
            yield found
        finally:
            process.terminate()


def _mlserver() -> str:
    return os.environ.get("MLSERVER") or shutil.which("mlserver") or ""


def _wait(server: Contender, title: str) -> None:
    end = time.monotonic() + _READY
    while time.monotonic() < end and server.process.poll() is None:
        with contextlib.suppress(OSError, ValueError):
            ask(server, server.bodies[0])
            return
        time.sleep(0.1)
    raise UsageError(f"{title} does not answer. Leave it out with --contenders, or start it by hand to see the cause.")


def ask(server: Contender, body: bytes) -> Any:
    """Returns the outputs of one request."""
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}{server.path}", body, headers)
    with urllib.request.urlopen(request, timeout=_READY) as answer:
        return server.answer(json.load(answer))


def check_alike(servers: dict[str, Contender]) -> None:
    """Raises `UsageError` if a server gives other outputs than the first."""
    import numpy as np

    ours = next(iter(servers.values()))
    for place, body in enumerate(ours.bodies[:4]):
        want = ask(ours, body)
        for name, server in servers.items():
            came = ask(server, server.bodies[place])
            for key in want if isinstance(want, dict) else [None]:
                a, b = (part[key] if key is not None else part for part in (want, came))
                texts = isinstance(np.ravel(np.asarray(a, object))[0], str)
                same = (
                    a == b if texts else np.allclose(np.asarray(a, float), np.asarray(b, float), rtol=1e-4, atol=1e-5)
                )
                if not same:
                    raise UsageError(
                        f"{CONTENDERS[name]} gives another {key or 'output'}. Leave it out with --contenders."
                    )


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


def in_process(path: Path, signature: str, rows: Sequence[dict[str, Any]], seconds: float) -> Row:
    """Returns the figures of the same calls in this process."""
    import numpy as np

    from zoo.export import load as load_model

    model = load_model(path)
    batches = [
        {name: [base64.b64decode(v["b64"]) if isinstance(v, dict) else v] for name, v in row.items()} for row in rows
    ]
    for batch in batches:
        model(batch, signature)
    taken: list[float] = []
    begin = time.perf_counter()
    while time.perf_counter() < begin + seconds:
        once = time.perf_counter()
        model(batches[len(taken) % len(batches)], signature)
        taken.append(time.perf_counter() - once)
    p50, p99 = (1000 * float(np.quantile(taken, q)) for q in (0.5, 0.99))
    return Row("in process", 1, len(taken) / (time.perf_counter() - begin), p50, p99, 0, float("nan"))


def measure(
    path: Path, signature: str, contenders: Sequence[str], clients: Sequence[int], seconds: float, rounds: int
) -> list[Row]:
    """Returns a row for each server and number of clients: medians of the rounds, and the sum of the errors."""
    import numpy as np

    rows = rows_of(path, signature)
    found: dict[tuple[str, int], list[Row]] = {}
    with contextlib.ExitStack() as stack:
        servers = {name: stack.enter_context(started(name, path, signature, rows)) for name in contenders}
        check_alike(servers)
        for _ in range(rounds):
            for count in clients:
                for name, server in servers.items():
                    asyncio.run(load(server, count, min(2.0, seconds)))  # warms up the threads and connections
                    taken, errors, spent = asyncio.run(load(server, count, seconds / rounds))
                    p50, p99 = (1000 * float(np.quantile(taken or [np.nan], q)) for q in (0.5, 0.99))
                    row = Row(CONTENDERS[name], count, len(taken) / spent, p50, p99, errors, server.megabytes)
                    found.setdefault((name, count), []).append(row)
    return [_median(parts) for parts in found.values()]


def _median(parts: Sequence[Row]) -> Row:
    names = ("requests_per_second", "p50", "p99")
    medians = {name: statistics.median(getattr(part, name) for part in parts) for name in names}
    errors, memory = sum(part.errors for part in parts), max(part.megabytes for part in parts)
    return dataclasses.replace(parts[0], **medians, errors=errors, megabytes=memory)


def table(rows: Sequence[Row]) -> str:
    """Returns the figures as a table in Markdown."""
    head = ["server", "clients", "requests/s", "p50 ms", "p99 ms", "errors", "memory MB"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in rows:
        memory = "" if row.megabytes != row.megabytes else f"{row.megabytes:,.0f}"
        cells = [row.contender, str(row.clients), f"{row.requests_per_second:,.0f}", f"{row.p50:.2f}", f"{row.p99:.2f}"]
        lines.append(f"| {' | '.join([*cells, str(row.errors), memory])} |")
    return "\n".join(lines)


def command(argv: list[str]) -> int:
    """Parses the options, measures and prints a table."""
    parser = Parser("benchmark server", _DESCRIPTION)
    parser.add_argument("path", help="A run, a folder of versions, or a version folder.")
    parser.add_argument("--signature", default="serving_default", help="The signature that is called.")
    parser.add_argument("--contenders", nargs="+", default=["zoo", "fastapi"], help=f"Of {', '.join(CONTENDERS)}.")
    parser.add_argument("--clients", nargs="+", type=int, default=[1, 8, 32], help="Numbers of clients at once.")
    parser.add_argument("--seconds", type=float, default=60.0, help="Seconds of load for each number of clients.")
    parser.add_argument(
        "--rounds", type=int, default=3, help="Turns of the servers, among which the seconds are divided."
    )
    parser.add_argument("--output", type=str | None, default=None, help="CSV file for the figures.")
    options = parser.parse(argv)
    for name in options.contenders:
        if name not in CONTENDERS:
            raise UsageError(f"Unknown contender {name!r}. {did_you_mean(name, CONTENDERS)}")
    if "mlserver" in options.contenders and not _mlserver():
        raise UsageError("MLServer was not found. Set MLSERVER to its command, or leave it out of --contenders.")
    if "fastapi" in options.contenders and importlib.util.find_spec("fastapi") is None:
        raise UsageError("FastAPI is not installed. Run `pip install fastapi`, or leave it out of --contenders.")
    if options.rounds < 1 or options.seconds <= 0 or min(options.clients) < 1:
        raise UsageError("--rounds, --seconds and --clients must be positive. Pass numbers of at least 1.")

    from zoo.export import artifact_paths

    path = artifact_paths.find(options.path)
    served = measure(path, options.signature, options.contenders, options.clients, options.seconds, options.rounds)
    rows = [in_process(path, options.signature, rows_of(path, options.signature), min(10.0, options.seconds)), *served]
    print(table(rows))
    if options.output:
        with Path(options.output).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow([field.name for field in dataclasses.fields(Row)])
            writer.writerows(dataclasses.astuple(row) for row in rows)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(command))
