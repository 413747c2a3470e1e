"""Registries of names, and the plugins that add to them.

A registry records which plugin added a name: a file or module that was loaded as a plugin, or a module of the user that
called a `register_...` function. Runs and artifacts record the plugins that they need.
"""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import importlib
import importlib.machinery
import importlib.util
import pkgutil
import sys
import sysconfig
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

from zoo.errors import UsageError, did_you_mean, one_line

T = TypeVar("T")
ENTRY_POINTS = "zoo.plugins"
"""The group of entry points of installed plugins: `NAME = package.module`."""


@dataclasses.dataclass
class Plugin:
    """Code outside this package that registers names.

    Attributes:
        name: the name of the module; for a file, its name without `.py`.
        source: the file or the module's name from which it can be loaded again.
        sha256: hash of the file, or of the file and the others of its folder or package that it imports. None for a script
            or notebook that registers names itself.
        adds: the names that it has registered, by kind, such as {"model": ["my_model"]}.
        named: whether the user named it. False for an installed plugin and for a module that the user imported.
        allow_changes: whether it may open runs that were made with different content.
    """

    name: str
    source: str
    sha256: str | None
    adds: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    named: bool = False
    allow_changes: bool = False


@dataclasses.dataclass(frozen=True)
class Entry(Generic[T]):
    """A registered value, the module that registered it, and the plugin of this module; None for this package."""

    value: T
    module: str
    plugin: str | None


class Registry(Generic[T]):
    """Names of one kind, registered by modules of this package and by plugins.

    Args:
        kind: the kind of the names, such as "model", for messages.
        *modules: this package's modules that register names, and packages whose modules are all imported.

    Example:
        >>> TASKS = Registry("task", "zoo.tasks")
        >>> TASKS.add("tagging", Task(...), __name__)
    """

    def __init__(self, kind: str, *modules: str) -> None:
        self.kind, self.modules = kind, modules
        self.entries: dict[str, Entry[T]] = {}
        self._scanned = False
        _REGISTRIES[kind] = self

    def add(self, name: str, value: T, module: str) -> None:
        """Registers a name.

        Raises:
            ValueError: another module has registered it.
        """
        own = _is_ours(module)
        if not own:
            self._scan()  # a plugin must not reuse the names of this package
        first = self.entries[name].module if name in self.entries else module
        if first != module:  # the same module may register again: a reload, or a cell that runs twice
            raise ValueError(
                f"{self.kind.capitalize()} {name!r} is registered twice: by {first} and by {module}. Rename one of them."
            )
        plugin = None if own else _plugin_of(module)
        self.entries[name] = Entry(value, module, plugin.name if plugin else None)
        if plugin is not None and name not in (names := plugin.adds.setdefault(self.kind, [])):
            names.append(name)

    def names(self) -> list[str]:
        """Returns all names, sorted."""
        self._scan()
        load_installed()
        return sorted(self.entries)

    def values(self) -> list[T]:
        """Returns the registered values, in the order of the names."""
        return [self.entries[name].value for name in self.names()]

    def get(self, name: str, *, listing: str | None = None) -> T:
        """Returns the value of a name.

        Args:
            name: the name.
            listing: a command that prints all names.

        Raises:
            UsageError: the name is unknown; the message suggests the nearest.
        """
        known = self.names()
        if not isinstance(name, str):
            raise UsageError(
                f"The {self.kind} is a {type(name).__name__}; expected its name. Pass one of {', '.join(known[:3])}, say."
            )
        if name not in self.entries:
            raise UsageError(f"Unknown {self.kind} {name!r}. {did_you_mean(name, known, listing=listing)}")
        return self.entries[name].value

    def added(self) -> dict[str, T]:
        """Returns the values from plugins, by name, without importing this package's own modules."""
        load_installed()
        return {name: entry.value for name, entry in sorted(self.entries.items()) if entry.plugin is not None}

    def _scan(self) -> None:
        """Imports this package's own modules, which register their names."""
        if self._scanned:
            return
        self._scanned = True
        for name in self.modules:
            module = importlib.import_module(name)
            for part in pkgutil.iter_modules(getattr(module, "__path__", ())):
                importlib.import_module(f"{name}.{part.name}")


_REGISTRIES: dict[str, Registry[Any]] = {}
_PLUGINS: dict[str, Plugin] = {}
_LOADING: list[Plugin] = []
_installed_loaded = False


def list_plugins() -> list[Plugin]:
    """Returns the loaded plugins, including installed ones, in the order of their names.

    Example:
        >>> [plugin.name for plugin in list_plugins()]
        []
    """
    load_installed()
    return [_PLUGINS[name] for name in sorted(_PLUGINS)]


def plugins_of(names: Mapping[str, str]) -> list[Plugin]:
    """Returns the plugins that registered some names, and the plugins that the user named and that register no name.

    Args:
        names: a name by its kind, such as {"model": "my_model", "task": "tagging"}.
    """
    found = {
        registry.entries[name].plugin
        for kind, name in names.items()
        if (registry := _REGISTRIES.get(kind)) is not None and name in registry.entries
    }
    found |= {plugin.name for plugin in _PLUGINS.values() if plugin.named and not plugin.adds}
    return [_PLUGINS[name] for name in sorted(name for name in found if name is not None)]


def import_plugin(source: str) -> Plugin:
    """Imports a plugin from a file or by the name of a module, unless it is already imported.

    Raises:
        UsageError: the plugin does not exist, has the name of another module, or its import failed. After a failure, its
            names are removed.
    """
    if not source.endswith(".py") and "/" not in source:
        return _import(source, None, source)
    path = Path(source).expanduser().resolve()
    if not path.is_file() or path.suffix != ".py":
        others = [p.name for p in path.parent.glob("*.py")] if path.parent.is_dir() else []
        near = f" {did_you_mean(path.name, others)}" if others else ""
        raise UsageError(
            f"Plugin {source} is not a Python file.{near} Pass a file that ends in .py, or a module's name."
        )
    return _import(path.stem, path, source)


def load_installed() -> None:
    """Loads the plugins of installed packages once. A plugin that cannot be imported is skipped with a printed note."""
    global _installed_loaded
    if _installed_loaded:
        return
    _installed_loaded = True
    import importlib.metadata

    for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        try:
            _import(point.module, None, point.module)
        except UsageError as error:
            package = point.dist.name if point.dist else "an unknown package"
            print(f"zoo: {error} It is installed by {package} and was skipped.", file=sys.stderr, flush=True)


def _import(name: str, path: Path | None, source: str) -> Plugin:
    module = sys.modules.get(name)
    if module is None:
        return _execute(name, path, source)
    held = getattr(module, "__file__", None)
    if path is not None and (held is None or Path(held).resolve() != path):
        raise _clash(path, name, held)
    return _PLUGINS.setdefault(name, _described(name, source))


def _execute(name: str, path: Path | None, source: str) -> Plugin:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):  # its package is missing, or the name is invalid
        spec = None
    if path is not None:
        if spec is not None and (spec.origin is None or Path(spec.origin).resolve() != path):
            raise _clash(path, name, spec.origin)
        spec = importlib.util.spec_from_file_location(name, path, loader=_SourceLoader(name, str(path)))
        if str(path.parent) not in sys.path:
            sys.path.append(str(path.parent))  # at the end, so that its files hide no installed module
    if spec is None or spec.loader is None:
        hint = f" Did you mean {name}.py?" if Path(f"{name}.py").is_file() else ""
        raise UsageError(f"Python finds no module {name!r} for a plugin.{hint} Pass a file, or install its package.")
    plugin = Plugin(name, source, _source_hash(name, Path(spec.origin)) if spec.has_location and spec.origin else None)
    kept = dict(_PLUGINS)
    _PLUGINS[name] = plugin
    _LOADING.append(plugin)
    try:
        if path is None:
            importlib.import_module(name)
        else:
            module = importlib.util.module_from_spec(spec)
            sys.modules[name] = module
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        sys.modules.pop(name, None)
        _PLUGINS.clear()
        _PLUGINS.update(kept)
        for registry in _REGISTRIES.values():
            registry.entries = {n: e for n, e in registry.entries.items() if e.plugin != name}
        place = _place(error, spec.origin)
        raise UsageError(
            f"Plugin {source} cannot be imported: {type(error).__name__}: {one_line(error)}{place}. Fix it."
        ) from error
    finally:
        _LOADING.pop()
    if spec.has_location and spec.origin:
        _register_layers({part for part, _ in _own_files(name, Path(spec.origin).resolve())})
    return plugin


def _register_layers(modules: set[str]) -> None:
    """Registers the layer classes of a plugin with Keras, which cannot load a model with unregistered layers."""
    keras = sys.modules.get("keras")
    if keras is None:
        return
    for module in sorted(modules & {*sys.modules}):
        for value in list(vars(sys.modules[module]).values()):
            layer = isinstance(value, type) and issubclass(value, keras.layers.Layer) and value.__module__ == module
            if layer and keras.saving.get_registered_object(keras.saving.get_registered_name(value)) is not value:
                keras.saving.register_keras_serializable(package=module)(value)


class _SourceLoader(importlib.machinery.SourceFileLoader):
    """Compiles a file each time: within the same second, __pycache__ may be older than the hashed file."""

    def get_code(self, fullname: str) -> Any:
        return self.source_to_code(self.get_data(self.path), self.path)


def _clash(path: Path, name: str, held: str | None) -> UsageError:
    return UsageError(f"Plugin {path} has the name of the module {name} ({held or 'built in'}). Rename the file.")


def _place(error: BaseException, file: str | None) -> str:
    """Returns the file and line of an error in a plugin's folder."""
    if isinstance(error, SyntaxError):
        return f" ({Path(error.filename or '').name}, line {error.lineno})"
    folder = Path(file or "").parent
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).parent == folder]
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] == "zoo"


def _plugin_of(module: str) -> Plugin:
    """Returns the plugin that is being loaded, or else the user's module as a plugin."""
    if _LOADING:
        return _LOADING[-1]
    if module in _PLUGINS:
        return _PLUGINS[module]
    plugin = _described(module, module)
    return _PLUGINS.setdefault(plugin.name, plugin)


def _described(module: str, source: str) -> Plugin:
    """Returns the plugin of an imported module, or of the running script or notebook."""
    held: ModuleType | None = sys.modules.get(module)
    file = getattr(held, "__file__", None)
    if module == "__main__":
        return Plugin(Path(file).stem if file else module, file or module, None)
    return Plugin(module, source, _source_hash(module, Path(file)) if file and Path(file).is_file() else None)


def _source_hash(name: str, file: Path) -> str:
    """Returns the SHA-256 of a module's file, together with all of its own files that it imports anywhere.

    Its own files are those of its top-level package or, for a plain file, those in its folder.
    """
    files = sorted({(part, path) for part, path in _own_files(name, file.resolve())})
    if len(files) == 1:
        return hashlib.sha256(files[0][1].read_bytes()).hexdigest()
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {part}\n" for part, path in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _own_files(name: str, file: Path) -> Iterator[tuple[str, Path]]:
    """Yields name and file of a module and of its own modules that it imports. They are found without running code."""
    package = file.name == "__init__.py"
    depth = name.count(".") + package
    root = file.parents[min(depth, len(file.parents) - 1)]
    installed = {Path(sysconfig.get_paths()[key]) for key in ("stdlib", "purelib", "platlib")}
    shared = root in installed or "site-packages" in root.parts
    top = name.partition(".")[0]
    waiting, seen = [(name, file)], {name}
    while waiting:
        name, path = waiting.pop()
        yield name, path
        inside = name if path.name == "__init__.py" else name.rpartition(".")[0]
        for wanted in _imports(path, inside):
            parts = wanted.split(".")
            for found in (".".join(parts[: n + 1]) for n in range(len(parts))):
                base = root.joinpath(*found.split("."))
                held = next((p for p in (base / "__init__.py", base.with_suffix(".py")) if p.is_file()), None)
                foreign = _is_ours(found) or (shared and found.partition(".")[0] != top)
                if held is not None and found not in seen and not foreign:
                    seen.add(found)
                    waiting.append((found, held))


def _imports(path: Path, package: str) -> Iterator[str]:
    """Yields the absolute names that a file imports. For `from a import b` these are a and a.b, which may be a module."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return  # its import will report the error
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" if base else alias.name for alias in node.names)
