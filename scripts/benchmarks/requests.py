"""Measure what the most expensive requests of a size cost: `zoo benchmark requests exports/commands`."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zoo.errors import UsageError, one_line
from zoo.scripts.console import Parser, import_tensorflow, run_command

_PAGE = 4096  # bytes of a page in /proc/self/statm
_UNITS = {
    "words": "turn 7on ",
    "hyphens": "a-",
    "addresses": "a@",
    "links": "http://",
    "masks": "[MASK]",
    "one word": "x",
}


def command(argv: list[str]) -> int:
    """Sends requests of about a megabyte to `serving_default` and prints the seconds and the memory of each."""
    parser = Parser(
        "benchmark requests",
        "Measure the seconds and the memory that requests made to be expensive take. Each is sent once.",
    )
    parser.add_argument("path", help="A version folder, its parent folder, or a run directory.")
    parser.add_argument("--megabytes", type=float, default=1.0, help="Size of a request.")
    options = parser.parse(argv)
    if not 0 < options.megabytes <= 64:
        raise UsageError(f"--megabytes is {options.megabytes}; expected more than 0, at most 64. Try --megabytes 1.")
    import_tensorflow()
    from zoo.export import load

    model = load(options.path)
    (name, *others), kinds = model.inputs(), model.kinds()
    if others or kinds[name] not in ("text", "file"):
        raise UsageError(f"{options.path} takes {kinds}; expected one text or file. Pass a model of texts or images.")
    size = int(options.megabytes * 2**20)
    requests = _texts(size) if kinds[name] == "text" else _images(size)
    model({name: [b"a text" if kinds[name] == "text" else _png(8)]})  # the first call compiles
    print(f"{'request':<28}{'seconds':>9}{'MB':>8}")
    for title, values in requests:
        with _Cost() as cost:
            try:
                model({name: values})
                said = ""
            except UsageError as error:
                said = f"  rejected: {one_line(error, 100)}"
        print(f"{title:<28}{cost.seconds:>9.2f}{cost.megabytes:>8.0f}{said}", flush=True)
    return 0


_ACCEPTED_PIXELS = 2**27
"""About as many as a request may have in all."""


class _Cost:
    """Measures the time of a block, and the largest growth of this process's memory while it runs."""

    def __enter__(self) -> _Cost:
        self.seconds, self._ended = 0.0, threading.Event()
        self._before = self._peak = _memory()
        self._thread, self._start = threading.Thread(target=self._watch), time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.seconds = time.monotonic() - self._start
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.002):
            self._peak = max(self._peak, _memory())

    @property
    def megabytes(self) -> float:
        return (self._peak - self._before) / 1e6


def _memory() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * _PAGE


def _texts(size: int) -> list[tuple[str, list[bytes]]]:
    found = []
    for count in (1, 30, 300, 3000):
        for title, unit in _UNITS.items():
            text = unit.encode() * max(1, size // count // len(unit))
            found.append((f"{count} of {title}", [text] * count))
    return found


def _images(size: int) -> list[tuple[str, list[bytes]]]:
    found = []
    for title, side, content in _contents():
        count = max(1, size // len(content))
        few = min(count, 8192, _ACCEPTED_PIXELS // side**2)
        found += [(f"{some:,} {title}", [content] * some) for some in sorted({count, few})]
    return found


def _contents() -> Iterator[tuple[str, int, bytes]]:
    for title, side in (("tiny images", 1), ("small images", 64), ("large images", 2000), ("largest images", 5792)):
        yield title, side, _png(side)


def _png(side: int) -> bytes:
    """Returns a black image: of all files of a size, it has the most pixels."""
    import tensorflow as tf

    content: bytes = tf.io.encode_png(tf.zeros([side, side, 3], tf.uint8), compression=9).numpy()
    return content


if __name__ == "__main__":
    sys.exit(run_command(command))
