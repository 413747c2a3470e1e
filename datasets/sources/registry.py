"""The registry of data sources: functions that read data sets, by the name that is passed to `zoo.datasets.load`."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from zoo.registries import Registry

if TYPE_CHECKING:
    from zoo.datasets.data import Data

SOURCES: Registry[Callable[..., Data]] = Registry("data source", "zoo.datasets.sources")
ReadT = TypeVar("ReadT", bound="Callable[..., Data]")
_COMMON = ("name", "path", "memory_limit")


def register_source(name: str) -> Callable[[ReadT], ReadT]:
    """Registers a function that returns a `zoo.datasets.Data` for a data set, or for the user's own files.

    The function may have these parameters: `name`, the name that `load` was called with; `memory_limit`, see `load`; and
    `path`, an absolute `pathlib.Path`. A source with the parameter `path` is used as `NAME:PATH`, any other as `NAME`. All
    other parameters are options of `load`, and `--data.OPTION` on the command line. Their defaults apply if left out.

    Raises:
        ValueError: another module has registered the name, or the name is empty or has a colon.

    Example:
        >>> @zoo.datasets.register_source("scans")
        ... def read_scans(name: str, path: Path, memory_limit: int, contrast: float = 1.0) -> Data:
        ...     ...
        >>> zoo.datasets.load("scans:folder", contrast=2.0)
    """
    if not name or ":" in name:
        raise ValueError(f"The name of a data source is {name!r}; expected a name without a colon. Rename it.")
    module = sys._getframe(1).f_globals.get("__name__", "__main__")

    def register(read: ReadT) -> ReadT:
        SOURCES.add(name, read, module)
        return read

    return register


def options_of(read: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """Returns the parameters of a source that are options of `load`."""
    parameters = inspect.signature(read).parameters
    return {name: parameter for name, parameter in parameters.items() if name not in _COMMON}


def common_arguments(read: Callable[..., Any], **values: Any) -> dict[str, Any]:
    """Returns the common arguments that this source takes."""
    parameters = inspect.signature(read).parameters
    return {name: value for name, value in values.items() if name in parameters}


def takes_path(read: Callable[..., Any]) -> bool:
    """Returns whether a source is used as NAME:PATH."""
    return "path" in inspect.signature(read).parameters
