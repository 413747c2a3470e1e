"""Keeps the log lines of TensorFlow's start out of the output of this package.

A program's own import of TensorFlow is left as it is, and so are all settings of Python's logging.
"""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.util
import logging
import os
import re
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from typing import Any

_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
_WITHOUT_STACK = ("zoo.quiet", "zoo.keras_names")  # they are on the stack whoever imports


def _start(levels: bytes) -> re.Pattern[bytes]:
    """Matches the lines of TensorFlow's start of some levels, such as b"IW"."""
    return re.compile(
        rb"(WARNING: All log messages before absl::InitializeLog|To enable the following instructions: "
        rb"|[%b]\d{4} [\d:.]+ +\d+ \S+\.cc:\d+\] |\d{4}-\d\d-\d\d [\d:.]+: [%b] \S+\.cc:\d+\] )" % (levels, levels)
    )


def install() -> None:
    """Makes the import of TensorFlow quiet where code of this package is the first to need it."""
    if sys.modules.get("tensorflow") is None:
        sys.meta_path.insert(0, _QuietStart())


class _QuietStart(importlib.abc.MetaPathFinder):
    """Finds TensorFlow with a loader that drops the log lines of its start."""

    _searching = False

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Returns the spec of TensorFlow if this package imports it; None for every other import."""
        if fullname != "tensorflow" or self._searching or not _is_for_zoo() or os.environ.get(_LEVEL) == "0":
            return None
        self._searching = True
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._searching = False
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def load_quietly(module: Any) -> None:
                sys.meta_path.remove(self)
                has_gpu = os.path.exists("/dev/nvidiactl")  # there, warnings may say why it cannot be used
                with _without_start_lines(b"I" if has_gpu else b"IWE"), _level("1" if has_gpu else "2"):
                    load(module)
                    if not has_gpu:
                        module.config.list_physical_devices()  # logs that there is none

            spec.loader.exec_module = load_quietly  # type: ignore[method-assign]
        return spec


def _is_for_zoo() -> bool:
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name.startswith("zoo.") and name not in _WITHOUT_STACK:
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


@contextlib.contextmanager
def _level(lowest: str) -> Iterator[None]:
    """Sets the lowest level of TensorFlow's C++ log lines, unless the user has set one. TensorFlow reads it once."""
    if _LEVEL in os.environ:
        yield
        return
    os.environ[_LEVEL] = lowest
    try:
        yield
    finally:
        del os.environ[_LEVEL]


@contextlib.contextmanager
def _without_start_lines(levels: bytes) -> Iterator[None]:
    """Drops the log lines of these levels that C++ code writes to standard error before its settings take effect.

    Everything else that is written there meanwhile follows at the end. `TF_CPP_MIN_LOG_LEVEL=0` shows all lines at once.
    """
    import tempfile

    try:
        kept = os.dup(2)
    except OSError:  # a process without standard error
        yield
        return
    with tempfile.TemporaryFile() as written:
        os.dup2(written.fileno(), 2)
        dropped = re.compile(rb"(?!)")  # nothing, where the import fails
        try:
            yield
            dropped = _start(levels)
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            written.seek(0)
            for line in written:
                if not dropped.match(line):
                    os.write(2, line)


@contextlib.contextmanager
def without_message(start: str) -> Iterator[None]:
    """Drops the messages of TensorFlow's Python logger that begin with `start`; all others are logged.

    Example:
        >>> with without_message("Assets written to"):
        ...     tf.saved_model.save(module, "saved")
    """

    def other(record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith(start)

    logger = logging.getLogger("tensorflow")
    logger.addFilter(other)
    try:
        yield
    finally:
        logger.removeFilter(other)
