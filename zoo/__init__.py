"""savedmodel-zoo: from raw data to a verified SavedModel that takes raw input and returns labels.

    >>> import zoo
    >>> result = zoo.run("cnn", "digits", run_directory="runs/digits-cnn")

`import zoo` is fast: TensorFlow and Keras are imported by the first call that needs them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from zoo import keras_names
from zoo._version import __version__
from zoo.config import TrainConfig
from zoo.errors import UsageError
from zoo.plugins import list_plugins, load_plugin
from zoo.registry import ModelSpec, build, get_spec, list_models, register_model
from zoo.tasks import register_task

if TYPE_CHECKING:
    from zoo import datasets, export, pipeline
    from zoo.evaluation import evaluate
    from zoo.pipeline import cross_validate, run
    from zoo.training import precision, strategy, train

__all__ = [
    "ModelSpec",
    "TrainConfig",
    "UsageError",
    "__version__",
    "build",
    "cross_validate",
    "datasets",
    "evaluate",
    "export",
    "get_spec",
    "list_models",
    "list_plugins",
    "load_plugin",
    "pipeline",
    "precision",
    "register_model",
    "register_task",
    "run",
    "strategy",
    "train",
]

keras_names.install()

_PACKAGES = {
    *("checkpoints", "datasets", "evaluation", "export", "layers"),
    *("metrics", "pipeline", "scores", "tasks", "training"),
}
_LAZY = {
    "cross_validate": "zoo.pipeline",
    "evaluate": "zoo.evaluation",
    "precision": "zoo.training",
    "run": "zoo.pipeline",
    "strategy": "zoo.training",
    "train": "zoo.training",
}


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return importlib.import_module(f"zoo.{name}")
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    if name.startswith("build_") and name.endswith("_model"):
        try:
            return get_spec(name.removeprefix("build_").removesuffix("_model")).builder
        except UsageError as error:
            raise AttributeError(str(error)) from None
    raise AttributeError(f"module 'zoo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *(f"build_{name}_model" for name in list_models())])
