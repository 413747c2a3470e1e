"""OpenVINO, ONNX Runtime, LiteRT and TensorFlow's C API: one file each, whose `RUNTIME` converts and runs models."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Mapping
from pathlib import Path

from zoo.export.standalone.runtime import Runtime


@functools.cache
def runtimes() -> Mapping[str, Runtime]:
    """Returns the runtimes by file name, sorted.

    Example:
        >>> runtimes()["onnxruntime"].title
        'ONNX Runtime'
    """
    modules = [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
    found = {module.__name__.rpartition(".")[2]: getattr(module, "RUNTIME", None) for module in modules}
    return {name: runtime for name, runtime in found.items() if isinstance(runtime, Runtime)}


def source(name: str) -> Path:
    """Returns the file of a runtime, which another process loads by its path."""
    return Path(__file__).with_name(f"{name}.py")
