"""A process that computes chunks: it loads the SavedModel with one thread, and ends when the parent does.

The parent writes pickled messages to standard input and reads the replies from standard output; see `processes.py`.
"""

from __future__ import annotations

import os
import pickle
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from zoo.errors import UsageError, one_line

THREADS = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "OMP_NUM_THREADS": "1"}
"""The environment of a worker: several processes use the cores better than several threads, and the order of additions,
and so the last bit of the answers, does not depend on the machine's number of cores."""


def send(stream: IO[bytes], message: Any) -> None:
    """Writes a message."""
    content = pickle.dumps(message, protocol=5)
    stream.write(struct.pack("<Q", len(content)))
    stream.write(content)
    stream.flush()


def receive(stream: IO[bytes]) -> Any:
    """Reads a message.

    Raises:
        EOFError: the other process has ended.
    """
    head = stream.read(8)
    content = stream.read(struct.unpack("<Q", head)[0]) if len(head) == 8 else b""
    if len(head) < 8 or len(content) < struct.unpack("<Q", head)[0]:
        raise EOFError("the other process has ended")
    return pickle.loads(content)


def main() -> None:
    """Answers messages until standard input ends: first the settings, then one chunk after the other."""
    given, replies = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints must not disturb the replies
    try:
        settings = receive(given)
    except EOFError:
        return
    sys.modules.setdefault("keras", None)  # type: ignore[arg-type]  # TensorFlow would import it, and works without it
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        from zoo.export.bulk.predictor import share_devices

        share_devices()
        worker = Worker(settings)
        send(replies, ("ready", worker.predictor.served, worker.predictor.batch_size))
        while True:
            chunk = receive(given)
            send(replies, ("done", worker.computed(chunk)))
    except EOFError:
        return
    except UsageError as error:
        send(replies, ("rejected", str(error)))
    except MemoryError:
        send(replies, ("rejected", "There is too little memory. Pass a smaller --batch_size, or fewer --workers."))
    except Exception as error:  # noqa: BLE001, the parent names the chunk
        send(replies, ("failed", f"{type(error).__name__}: {one_line(error)}"))


class Worker:
    """The predictor of this process, and the folder that it writes to."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        import pandas  # noqa: F401, the first chunk must not wait for it
        import pyarrow.csv  # noqa: F401

        from zoo.export.bulk.predictor import Predictor

        for plugin in settings["plugins"]:
            from zoo.plugins import load_plugin

            load_plugin(plugin, allow_changes=True)
        self.predictor = Predictor(settings["path"], settings["signature"], settings["batch_size"])
        self.output = Path(settings["output"])

    def computed(self, chunk: Any) -> dict[str, Any]:
        """Computes a chunk and writes its part; returns the record."""
        from zoo.export.bulk import answers, parts

        found = self.predictor.answer(chunk)
        content = answers.format_of(self.output).encode(found.table)
        return parts.write(parts.folder_of(self.output), chunk, content, found)


if __name__ == "__main__":
    main()
