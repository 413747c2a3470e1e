"""The progress of `zoo predict --output`: one line that changes in a terminal, a line each half minute in a log."""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import Any

_BETWEEN = 0.2
_BETWEEN_LINES = 30.0
"""Seconds between two updates, in a terminal and elsewhere."""
_WIDTH = 24


class ProgressBar:
    """Prints the progress on standard error.

    Example:
        >>> bar = ProgressBar()
        >>> predict_files("runs/income", "people.csv", "answers.csv", progress=bar.show)
    """

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._lock = threading.Lock()
        self._shown = time.monotonic()
        self._is_open = False

    def show(self, progress: Any) -> None:
        """Prints the progress, an object of `zoo.export.bulk.run.Progress`, if the last time is long enough ago."""
        with self._lock:
            now = time.monotonic()
            if now - self._shown < (_BETWEEN if self._is_terminal else _BETWEEN_LINES):
                return
            self._shown = now
            line = line_of(progress)
            sys.stderr.write(f"\r\x1b[K{line}" if self._is_terminal else f"zoo: {line}\n")
            sys.stderr.flush()
            self._is_open = self._is_terminal

    def end(self) -> None:
        """Ends the line."""
        with self._lock:
            if self._is_open:
                sys.stderr.write("\r\x1b[K")
                sys.stderr.flush()
                self._is_open = False


def line_of(progress: Any) -> str:
    """Returns the progress in a line: share, rows, rate and the time left.

    Example:
        >>> line_of(Progress(done=1, total=4, rows=4096, seconds=2.0))
        '[######------------------]  25%  4,096 rows, 2,048 a second, 0:06 left'
    """
    share = min(1.0, progress.done / progress.total)
    bar = "#" * int(share * _WIDTH)
    left = progress.seconds_left
    parts = [f"{progress.rows:,} rows", f"{progress.rate:,.0f} a second"]
    parts += [f"{progress.rejected:,} rejected"] if progress.rejected else []
    parts += [f"{_clock(left)} left"] if left is not None else []
    return f"[{bar:-<{_WIDTH}}] {share:4.0%}  {', '.join(parts)}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
