"""Python programs in processes of their own that need not import TensorFlow again.

A new interpreter spends three to five seconds on `import tensorflow`, and the suite starts more than a hundred. So one
process per kind imports it, does nothing else, and is copied (`os.fork`) for each program. A copy has its own memory,
environment, folder and standard streams; it knows nothing of the test process.

There are two kinds: "tensorflow", in which nobody has imported Keras or this package, and "zoo", which has both.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import traceback
import types
from pathlib import Path
from typing import Any

INTERPRETER_VARIABLES = ("PYTHONPATH", "PYTHONHASHSEED", "PYTHONOPTIMIZE", "LD_PRELOAD")
_INITIAL_ENVIRONMENT = dict(os.environ)  # of the servers
_servers: dict[str, _Server] = {}


def run(command: list[Any], kind: str = "zoo", **settings: Any) -> subprocess.CompletedProcess[str]:
    """Does what `subprocess.run(command, **settings)` does; `command` is a Python program with text as output.

    Options of the interpreter other than -P, environment variables that it reads when it starts, and a machine with a GPU
    need a new interpreter, and get one.
    """
    words = [str(word) for word in command]
    environment = dict(settings.get("env") or os.environ)
    if not _possible(words, environment, settings):
        return subprocess.run(command, **settings)
    if kind not in _servers or _servers[kind].ended:
        _servers[kind] = _Server(kind)
    done = _servers[kind].run(
        words, environment, os.fspath(settings.get("cwd") or os.getcwd()), settings.get("timeout")
    )
    if settings.get("check"):
        done.check_returncode()
    return done


def _possible(words: list[str], environment: dict[str, str], settings: dict[str, Any]) -> bool:
    known = {"env", "cwd", "capture_output", "text", "errors", "check", "timeout"}
    options = words[1:2] if words[1:2] != ["-P"] else words[2:3]
    plain = words[0] == sys.executable and (options[0] in ("-c", "-m") or not options[0].startswith("-"))
    same = all(environment.get(name) == _INITIAL_ENVIRONMENT.get(name) for name in INTERPRETER_VARIABLES)
    gpu = os.path.exists("/dev/nvidia0") and environment.get("CUDA_VISIBLE_DEVICES") != "-1"
    return plain and same and not gpu and settings.keys() <= known and settings.keys() >= {"capture_output", "text"}


class _Server:
    """The process that is copied. It serves one program at a time."""

    def __init__(self, kind: str) -> None:
        self._socket, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        words = [sys.executable, "-P", __file__, kind, str(other.fileno())]
        environment = {**_INITIAL_ENVIRONMENT, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
        self._process = subprocess.Popen(words, pass_fds=[other.fileno()], env=environment, stderr=subprocess.DEVNULL)
        other.close()
        atexit.register(self._end)

    def _receive(self) -> int:
        answer = self._socket.recv(100)
        if not answer:
            raise RuntimeError(f"The process that is copied ended. Find the cause with `python -P {__file__} KIND 0`.")
        return int(answer)

    def _end(self) -> None:
        self._socket.close()
        self._process.wait()

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def run(
        self, words: list[str], environment: dict[str, str], folder: str, timeout: float | None
    ) -> subprocess.CompletedProcess[str]:
        if "ZOO_PARENT" in environment:  # the program checks that its parent lives
            environment["ZOO_PARENT"] = str(self._process.pid)
        pipes = [os.pipe(), os.pipe()]
        with open(os.devnull) as empty:
            request = json.dumps({"words": words[1:], "environment": environment, "folder": folder}).encode()
            socket.send_fds(self._socket, [request], [empty.fileno(), pipes[0][1], pipes[1][1]])
        pid = self._receive()
        for _, write in pipes:
            os.close(write)
        texts: list[bytes] = [b"", b""]

        def read(place: int) -> None:
            with os.fdopen(pipes[place][0], "rb") as file:
                texts[place] = file.read()

        readers = [threading.Thread(target=read, args=[place]) for place in (0, 1)]
        for reader in readers:
            reader.start()
        self._socket.settimeout(timeout)
        try:
            status = os.waitstatus_to_exitcode(self._receive())
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            self._socket.settimeout(None)
            self._receive()
            raise subprocess.TimeoutExpired(words, timeout or 0) from None
        finally:
            for reader in readers:
                reader.join()
        self._socket.settimeout(None)
        out, err = (text.decode(errors="replace") for text in texts)
        return subprocess.CompletedProcess(words, status, out, err)


# --- In the server ----------------------------------------------------------------------------------------------------


def _serve(connection: socket.socket) -> None:
    while True:
        message, descriptors, *_ = socket.recv_fds(connection, 1 << 20, 3)
        if not message:
            return
        pid = os.fork()
        if pid == 0:
            connection.close()
            _become(json.loads(message), descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        connection.send(str(pid).encode())
        connection.send(str(os.waitpid(pid, 0)[1]).encode())


def _become(request: dict[str, Any], descriptors: list[int]) -> None:
    """Runs the program as the interpreter would, and ends this process."""
    for place, descriptor in enumerate(descriptors):
        os.dup2(descriptor, place)
        os.close(descriptor)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", closefd=False, errors="backslashreplace")
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    words = request["words"]
    safe = words[0] == "-P" or "PYTHONSAFEPATH" in os.environ
    words = words[words[0] == "-P" :]
    status = 1
    try:
        _execute(words, safe)
        status = 0
    except SystemExit as exit:
        status = exit.code if isinstance(exit.code, int) else int(exit.code is not None)
        if isinstance(exit.code, str):
            print(exit.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        threading._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _execute(words: list[str], safe: bool) -> None:
    if words[0] == "-m":
        sys.argv, place = ["-m", *words[2:]], os.getcwd()
        sys.path[:0] = [] if safe else [place]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    elif words[0] == "-c":
        sys.argv = ["-c", *words[2:]]
        sys.path[:0] = [] if safe else [""]
        main = types.ModuleType("__main__")
        sys.modules["__main__"] = main
        exec(compile(words[1], "<string>", "exec"), vars(main))
    else:
        sys.argv = words
        sys.path[:0] = [] if safe else [str(Path(words[0]).resolve().parent)]
        runpy.run_path(words[0], run_name="__main__")


if __name__ == "__main__":
    import gc

    if sys.argv[1] == "zoo":
        from zoo.scripts.console import import_tensorflow

        import_tensorflow()
        # What most commands import later. Nothing is computed here, because a copy has no threads of this process.
        for name in (
            *("matplotlib.backends.backend_agg", "sklearn.datasets", "sklearn.metrics", "sklearn.model_selection"),
            *("zoo.datasets.sources.builders", "zoo.datasets.sources.loading", "zoo.evaluation"),
            *("zoo.export.artifact", "zoo.pipeline", "zoo.scripts.train", "zoo.training.trainer"),
        ):
            importlib.import_module(name)
    else:
        gc.disable()
        hidden = ("keras", "tf_keras")  # `import tensorflow` imports Keras if it can, and works without it
        sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
        import tensorflow  # noqa: F401

        for name in hidden:
            del sys.modules[name]
        gc.enable()
    gc.collect()
    gc.freeze()
    _serve(socket.socket(fileno=int(sys.argv[2])))
