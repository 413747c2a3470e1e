"""Options in messages, in the words of whoever reads them: on the command line, in `zoo.run`, or in `zoo.datasets.load`."""

from __future__ import annotations

import contextlib
import contextvars
import json
import re
import shlex
from collections.abc import Iterator
from typing import Any

COMMAND, RUN, LOAD = "command", "run", "load"
_ARGUMENTS = {"config": "config", "model": "model_arguments", "data": "data_arguments"}
_OPTION = re.compile(r"--(config|model|data)\.(\w+) ('[^']*'|\S+?)(?=:?(?:\s|$))")
_MODEL = re.compile(r"--model (\w+) (?=--)")
_SEVERAL = re.compile(rf"{_OPTION.pattern}(?: {_OPTION.pattern})*")

_reader = contextvars.ContextVar("reader", default=LOAD)


@contextlib.contextmanager
def read_by(reader: str) -> Iterator[None]:
    """Names options in the words of a reader in the block: COMMAND, RUN or LOAD. What the command line calls stays in its
    words.

    Example:
        >>> with read_by(RUN):
        ...     option("data", "header", False)
        'data_arguments={'header': False}'
    """
    token = _reader.set(reader if _reader.get() != COMMAND else COMMAND)
    try:
        yield
    finally:
        _reader.reset(token)


def by_command() -> bool:
    """Returns whether the reader is on the command line."""
    return _reader.get() == COMMAND


def option(section: str, name: str, value: Any) -> str:
    """Returns an option as the reader types it.

    Args:
        section: config, model or data.
        name: its name.
        value: a JSON value.
    """
    if by_command():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        return f"--{section}.{name} {shlex.quote(text)}"
    if section == "data" and _reader.get() == LOAD:
        return f"{name}={value!r}"
    return f"{_ARGUMENTS[section]}={{{name!r}: {value!r}}}"


def in_words(text: str) -> str:
    """Returns a text with its options of the command line in the words of the reader of `zoo.run`.

    Example:
        >>> in_words("--config.epochs 24: val_loss was still best")
        "config={'epochs': 24}: val_loss was still best"
    """
    if by_command():
        return text
    return _SEVERAL.sub(lambda found: _as_arguments(found[0]), _MODEL.sub(r"model='\1', ", text))


def _as_arguments(options: str) -> str:
    found: dict[str, dict[str, Any]] = {}
    for section, name, value in _OPTION.findall(options):
        plain = value.strip("'")
        try:
            held = json.loads(plain)
        except ValueError:
            held = plain
        found.setdefault(_ARGUMENTS[section], {})[name] = held
    return ", ".join(f"{argument}={values!r}" for argument, values in found.items())
