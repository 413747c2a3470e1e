"""Plugins: models, tasks, preprocessors, reports and data sources from the user's files and packages.

Code is imported only if the user names it or has installed a package with an entry point. A run records the plugins that it
needs, and never imports them itself.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo import registry
from zoo.errors import UsageError, did_you_mean, one_line
from zoo.registries import Plugin, import_plugin, list_plugins
from zoo.tasks import list_tasks

__all__ = ["Plugin", "check_recorded", "list_plugins", "load_function", "load_plugin"]


def load_plugin(source: str | Path, *, allow_changes: bool = False) -> Plugin:
    """Imports code that registers models, tasks, preprocessors, reports or data sources.

    A second call for the same file has no effect. A module that your program imports itself needs no such call.

    Args:
        source: a Python file or the name of a module such as `mypackage.zoo_plugin`. With a function, such as
            `my_net.py:build_my_model`, any function that returns a Functional Keras model becomes a model. Its name is that
            of the function without `build_` and `_model`.
        allow_changes: whether to evaluate and export runs that were made with a different content of the plugin.

    Returns:
        The plugin: its name, its hash, and the names that it has added, by kind.

    Raises:
        UsageError: the file, module or function does not exist, or its import failed.

    Example:
        >>> zoo.load_plugin("ink_boxes.py").adds
        {'model': ['ink_boxes'], 'task': ['ink_boxes'], ...}
        >>> zoo.run("ink_boxes", "ink:digits")
    """
    place, _, function = str(source).partition(":")
    plugin = import_plugin(place)
    plugin.named, plugin.source = True, str(source)
    plugin.allow_changes |= allow_changes
    _check_tasks(plugin)
    if function:
        _register_function(plugin, function)
    return plugin


def _check_tasks(plugin: Plugin) -> None:
    """Raises UsageError for a model whose task does not exist, once the plugin's own tasks are registered."""
    for name in plugin.adds.get("model", ()):
        for task in registry.get_spec(name).tasks:
            if task not in list_tasks():
                raise UsageError(
                    f"Plugin {plugin.name!r} registers the model {name!r} for the task {task!r}, which does not exist. "
                    f"{did_you_mean(task, list_tasks())}"
                )


def load_function(source: str) -> str:
    """Loads `FILE.py:function`, and returns the name of the model that it builds.

    Raises:
        UsageError: as in `load_plugin`.
    """
    return _register_function(load_plugin(source), source.partition(":")[2])


def _register_function(plugin: Plugin, name: str) -> str:
    module = sys.modules[plugin.name]
    function = getattr(module, name, None)
    if not inspect.isfunction(function):
        known = [n for n, value in vars(module).items() if inspect.isfunction(value) and not n.startswith("_")]
        raise UsageError(f"Plugin {plugin.name!r} has no function {name!r}. {did_you_mean(name, known)}")
    try:
        return registry.register_function(function, plugin.source)
    except ValueError as error:
        raise UsageError(f"Plugin {plugin.name!r}: {one_line(error)} Rename the function.") from error


def check_recorded(recorded: Any, what: str) -> None:
    """Checks that the plugins of a run are loaded and have the same content as in training.

    Args:
        recorded: the run's section `plugins`: source and sha256 by name.
        what: the run, for messages, such as "The run in runs/digits".

    Raises:
        UsageError: a plugin is not loaded, or has changed and changes are not allowed.
    """
    loaded = {plugin.name: plugin for plugin in list_plugins()}
    for name, facts in (recorded if isinstance(recorded, Mapping) else {}).items():
        source, sha256 = str(facts.get("source") or name), facts.get("sha256")
        file = source.partition(":")[0].rpartition("/")[2] + "".join(source.partition(":")[1:])
        if name == "__main__":
            raise UsageError(
                f"{what} was made with names that were registered in a notebook or an interactive session. Put that code "
                "into a file, and train again with --plugin FILE.py."
            )
        if name not in loaded:
            raise UsageError(
                f"{what} was made with the plugin {name!r} (sha256 {sha256}), which is not loaded: code is imported only "
                f"if you name it. Add --plugin {file}, or call zoo.load_plugin({file!r}) first."
            )
        now = loaded[name]
        if sha256 is None or now.sha256 is None or now.sha256 == sha256:
            continue
        changed = f"{what} was made with different content of the plugin {name!r} (sha256 {sha256}, now {now.sha256})"
        if not now.allow_changes:
            raise UsageError(
                f"{changed}: it may compute something else than in training. Put the old file back, or add "
                "--allow-changed-plugins (allow_changes=True in Python) if the change does not matter."
            )
        print(f"zoo: {changed}. You allowed this.", file=sys.stderr, flush=True)
