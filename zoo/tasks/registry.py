"""The registry of tasks: a file in this folder, or a module of a user's own, that calls `register_task`."""

from __future__ import annotations

import functools
import importlib
import pkgutil
import sys

from zoo.errors import UsageError, did_you_mean
from zoo.tasks.contract import Task

_TASKS: dict[str, tuple[str, Task]] = {}


def register_task(task: Task) -> Task:
    """Registers a task under its name, and returns it.

    Raises:
        ValueError: another module has registered the name, or no signature is called serving_default.

    Example:
        >>> zoo.register_task(Task(name="localization", targets=("label", "box"), ...))
    """
    module = sys._getframe(1).f_globals.get("__name__", "__main__")
    first = _TASKS.get(task.name, (module, task))[0]
    if first != module:  # the same module again is a reload, or a notebook's cell run twice
        raise ValueError(f"Task {task.name!r} is registered twice: by {first} and by {module}. Rename one of them.")
    if "serving_default" not in task.signatures:
        raise ValueError(
            f"Task {task.name!r} has the signatures {list(task.signatures)}; expected one called serving_default. Add it."
        )
    _TASKS[task.name] = module, task
    return task


@functools.cache
def _scan() -> None:
    """Imports every module of this folder, which registers what they hold."""
    package = importlib.import_module("zoo.tasks")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"zoo.tasks.{module.name}")


def list_tasks() -> list[str]:
    """Returns the names of the registered tasks, sorted.

    Example:
        >>> "tagging" in list_tasks()
        True
    """
    _scan()
    return sorted(_TASKS)


def get_task(name: str) -> Task:
    """Returns a task by its name.

    Raises:
        UsageError: no such task; the message offers the nearest.

    Example:
        >>> get_task("image_classification").targets
        ('label',)
    """
    _scan()
    if name not in _TASKS:
        raise UsageError(f"Unknown task {name!r}. {did_you_mean(name, _TASKS)}")
    return _TASKS[name][1]
