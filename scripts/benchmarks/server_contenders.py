"""The servers that `zoo benchmark server` compares: how each is started, asked, and stopped."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from zoo.errors import UsageError

CONTENDERS = {
    "zoo": "zoo serve",
    "fastapi": "plain FastAPI handler",
    "mlserver": "MLServer, see scripts/serve_mlserver.md",
}
_EXAMPLES = 32
_READY = 120.0
_BETWEEN = 0.02
_RUNTIME = Path(__file__).parent.parent / "mlserver_runtime"


@dataclasses.dataclass
class Contender:
    """A server that runs.

    Attributes:
        process: its process.
        port: its port.
        path: the address of the model.
        bodies: requests, each for one example.
        answer: makes the outputs by name of the content of a response.
        ready_seconds: time from the start of the process to the first answer.
    """

    process: subprocess.Popen[bytes]
    port: int
    path: str
    bodies: list[bytes]
    answer: Callable[[Any], Any]
    ready_seconds: float = float("nan")

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
        words = [mlserver(), "start", str(_RUNTIME)]
        url, body, answer = "/v2/models/model/infer", v2_body, _v2_answer
        with contextlib.ExitStack() as stack:
            others = [stack.enter_context(socket.socket()) for _ in range(2)]
            for opened in others:
                opened.bind(("127.0.0.1", 0))
            grpc, metrics = (str(opened.getsockname()[1]) for opened in others)
        environment |= {"MLSERVER_MODEL_NAME": "model", "MLSERVER_MODEL_URI": str(path.absolute())}
        environment |= {"MLSERVER_HTTP_PORT": str(port), "MLSERVER_GRPC_PORT": grpc, "MLSERVER_METRICS_PORT": metrics}
    begun = time.perf_counter()
    with subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            found = Contender(process, port, url, [body(row, signature) for row in rows], answer)
            _wait(found, CONTENDERS[contender])
            found.ready_seconds = time.perf_counter() - begun
            yield found
        finally:
            process.terminate()


def mlserver() -> str:
    """Returns the command of MLServer: the variable MLSERVER, or the one of the path; empty without one."""
    return os.environ.get("MLSERVER") or shutil.which("mlserver") or ""


def _wait(server: Contender, title: str) -> None:
    end = time.monotonic() + _READY
    while time.monotonic() < end and server.process.poll() is None:
        with contextlib.suppress(OSError, ValueError):
            ask(server, server.bodies[0])
            return
        time.sleep(_BETWEEN)
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
