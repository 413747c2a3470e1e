"""The classes of this package under the names by which Keras reads them from a `.keras` file.

Keras finds a class in a file only after the module that registers it was imported, and `import zoo` imports neither Keras nor
layers. So a stand-in is registered for each class as soon as Keras is imported; it imports the class when a file needs it.
"""

from __future__ import annotations

import functools
import importlib
import importlib.abc
import importlib.util
import re
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

_REGISTERED = re.compile(r'^@keras\.saving\.register_keras_serializable\("zoo"\)\nclass (\w+)', re.MULTILINE)


def install() -> None:
    """Registers the stand-ins, now or when Keras is imported."""
    if sys.modules.get("keras") is not None:
        _register()
    else:
        sys.meta_path.insert(0, _AfterKeras())


@functools.cache
def registered_classes() -> dict[str, str]:
    """Returns the module of each class that this package registers with Keras, by class name.

    Example:
        >>> registered_classes()["FusedAdam"]
        'zoo.training.optimizers'
    """
    root = Path(__file__).parent
    found: dict[str, str] = {}
    for file in sorted(root.rglob("*.py")):
        module = ".".join(("zoo", *file.relative_to(root).with_suffix("").parts)).removesuffix(".__init__")
        found |= dict.fromkeys(_REGISTERED.findall(file.read_text(encoding="utf-8")), module)
    return found


def _register() -> None:
    import keras

    known = keras.saving.get_custom_objects()
    for name, module in registered_classes().items():
        known.setdefault(f"zoo>{name}", _stand_in(module, name))


def _stand_in(module: str, name: str) -> type:
    def from_config(config: Any) -> Any:
        return getattr(importlib.import_module(module), name).from_config(config)

    return type(name, (), {"from_config": staticmethod(from_config), "__module__": module})


class _AfterKeras(importlib.abc.MetaPathFinder):
    """Registers the stand-ins at the end of the import of Keras, which others may have looked for before."""

    _searching = False

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Returns Keras's spec with a loader that registers; None for every other module."""
        if fullname != "keras" or self._searching:
            return None
        self._searching = True
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._searching = False
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def load_and_register(module: Any) -> None:
                load(module)
                sys.meta_path.remove(self)
                _register()

            spec.loader.exec_module = load_and_register  # type: ignore[method-assign]
        return spec
