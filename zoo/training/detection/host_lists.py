"""Slurm's lists of host names, such as `gpu[001-003,7],login2`."""

from __future__ import annotations

import itertools
import re

from zoo.errors import UsageError

_MOST = 100_000
_PART = re.compile(r"[^\s,\[\]]+|\[[^\[\]]*\]")
_RANGE = re.compile(r"([0-9]+)(?:-([0-9]+))?")


def expand_hosts(text: str) -> list[str]:
    """Returns the host names of a list as Slurm writes it, in its order.

    A number keeps the width of the first number of its range. The second of two brackets counts faster.

    Raises:
        UsageError: the list cannot be read.

    Example:
        >>> expand_hosts("gpu[08-10,7],rack[1-2]-node[1-2],login")
        ['gpu08', 'gpu09', 'gpu10', 'gpu7', 'rack1-node1', 'rack1-node2', 'rack2-node1', 'rack2-node2', 'login']
    """
    hosts = []
    for name in _names(text):
        parts = _PART.findall(name)
        # Of three brackets Slurm counts the second slowest, in some versions: a number would belong to the wrong host.
        if not parts or "".join(parts) != name or name.count("[") > 2:
            raise _unreadable(text, name)
        hosts += ["".join(choice) for choice in itertools.product(*(_choices(part, text) for part in parts))]
        if len(hosts) > _MOST:
            raise _unreadable(text, name)
    return hosts


def expand_counts(text: str) -> list[int]:
    """Returns the number of tasks on each host from Slurm's short form.

    Raises:
        UsageError: the counts cannot be read.

    Example:
        >>> expand_counts("2(x3),1")
        [2, 2, 2, 1]
    """
    counts: list[int] = []
    for part in text.split(","):
        found = re.fullmatch(r"([0-9]+)(?:\(x([0-9]+)\))?", part.strip())
        if found is None:
            raise _unreadable(text, part)
        counts += [int(found[1])] * min(int(found[2] or 1), _MOST)
    return counts


def _names(text: str) -> list[str]:
    """Splits at the commas outside of brackets."""
    return [name.strip() for name in re.split(r",(?![^\[]*\])", text.strip())]


def _choices(part: str, text: str) -> list[str]:
    if not part.startswith("["):
        return [part]
    choices = []
    for piece in part[1:-1].split(","):
        found = _RANGE.fullmatch(piece.strip())
        if found is None:
            raise _unreadable(text, part)
        first, last = int(found[1]), int(found[2] or found[1])
        if not first <= last < first + _MOST:
            raise _unreadable(text, piece)
        choices += [f"{number:0{len(found[1])}d}" for number in range(first, last + 1)]
    return choices


def _unreadable(text: str, part: str) -> UsageError:
    return UsageError(
        f"The list of Slurm {text!r} cannot be read at {part!r}; expected names such as gpu[001-003,7],login2. Pass "
        "--cluster and --task-index instead."
    )
