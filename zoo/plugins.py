"""Plugins: models, tasks, preprocessors, reports and data sources from files and packages of the user's own.

Code is imported only where the user names it, or has installed a package that offers it. A run records the plugins that it
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

__all__ = ["Plugin", "check_recorded", "list_plugins", "load_function", "load_plugin"]


def load_plugin(source: str | Path, *, allow_changes: bool = False) -> Plugin:
    """Imports code that registers models, tasks, preprocessors, reports or data sources.

    A second call for the same file changes nothing. A module that registers names and that your program imports itself
    needs no such call.

    Args:
        source: a Python file, a module by its name such as `mypackage.zoo_plugin`, or one of both with a function, such as
            `my_net.py:build_my_model`: any function that returns a Functional Keras model is then a model, of that name
            without `build_` and `_model`.
        allow_changes: whether to evaluate and export runs that were made when the plugin had another content.

    Returns:
        Its name, its hash, and the names that it has added, by kind.

    Raises:
        UsageError: no such file, module or function, or an error while it was imported.

    Example:
        >>> zoo.load_plugin("ink_boxes.py").adds
        {'model': ['ink_boxes'], 'task': ['ink_boxes'], ...}
        >>> zoo.run("ink_boxes", "ink:digits")
    """
    place, _, function = str(source).partition(":")
    plugin = import_plugin(place)
    plugin.named, plugin.source = True, str(source)
    plugin.allow_changes |= allow_changes
    if function:
        _register_function(plugin, function)
    return plugin


def load_function(source: str) -> str:
    """Loads `FILE.py:function`, and returns the name of the model that it builds.

    Raises:
        UsageError: as `load_plugin`.
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
    """Checks that the plugins that a run was made with are loaded, with the content that they had.

    Args:
        recorded: the run's section `plugins`: source and sha256 by name.
        what: the run, for messages, such as "The run in runs/digits".

    Raises:
        UsageError: one is not loaded, or has changed and may not.
    """
    loaded = {plugin.name: plugin for plugin in list_plugins()}
    for name, facts in (recorded if isinstance(recorded, Mapping) else {}).items():
        source, sha256 = str(facts.get("source") or name), facts.get("sha256")
        file = source.partition(":")[0].rpartition("/")[2] + "".join(source.partition(":")[1:])
        if name == "__main__":
            raise UsageError(
                f"{what} was made with names that a notebook or an interactive session had registered. Put that code into "
                "a file, and train again with --plugin FILE.py."
            )
        if name not in loaded:
            raise UsageError(
                f"{what} was made with the plugin {name!r} (sha256 {sha256}), which is not loaded: code is imported only "
                f"where you name it. Add --plugin {file}, or call zoo.load_plugin({file!r}) first."
            )
        now = loaded[name]
        if sha256 is None or now.sha256 is None or now.sha256 == sha256:
            continue
        changed = f"{what} was made with another content of the plugin {name!r} (sha256 {sha256}, now {now.sha256})"
        if not now.allow_changes:
            raise UsageError(
                f"{changed}: what it computes may differ from what was trained. Put the old file back, or add "
                "--allow-changed-plugins (allow_changes=True in Python) if the change does not matter."
            )
        print(f"zoo: {changed}, which was allowed.", file=sys.stderr, flush=True)
