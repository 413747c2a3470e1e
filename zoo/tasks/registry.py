"""The registry of tasks. A file in this folder or a module of the user calls `register_task`."""

from __future__ import annotations

import sys

from zoo.registries import Registry
from zoo.tasks.contract import Task

TASKS: Registry[Task] = Registry("task", "zoo.tasks")


def register_task(task: Task) -> Task:
    """Registers a task under its name, and returns it.

    Raises:
        ValueError: another module has registered the name, or no signature is named serving_default.

    Example:
        >>> zoo.register_task(Task(name="localization", targets=("label", "box"), ...))
    """
    if "serving_default" not in task.signatures:
        raise ValueError(
            f"Task {task.name!r} has the signatures {list(task.signatures)}; expected one named serving_default. Add it."
        )
    TASKS.add(task.name, task, sys._getframe(1).f_globals.get("__name__", "__main__"))
    return task


def list_tasks() -> list[str]:
    """Returns the names of the registered tasks, sorted.

    Example:
        >>> "tagging" in list_tasks()
        True
    """
    return TASKS.names()


def get_task(name: str) -> Task:
    """Returns a task by its name.

    Raises:
        UsageError: the task is unknown; the message suggests the nearest.

    Example:
        >>> get_task("image_classification").targets
        ('label',)
    """
    return TASKS.get(name)
