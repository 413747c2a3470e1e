"""Arguments that `zoo.run` does not take, and where they belong."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from zoo import datasets, registry
from zoo.config import TrainConfig
from zoo.datasets.sources.names import SYNONYMS
from zoo.errors import UsageError, did_you_mean

_LONG = 40
DEVICES = ("cluster", "task_index", "cluster_timeout", "gpu_memory_limit")


def check_data(model: Any, data: Any) -> None:
    """Raises UsageError if no data was given, or was given in the place of the model's name."""
    if data is None:
        first = "" if model is None or isinstance(model, str) else " Its first argument is the name of a model."
        raise UsageError(
            f"zoo.run needs data.{first} Pass zoo.run('cnn', (x, y)), say, or zoo.run(data=(x, y)) for the default model."
        )
    check_model(model)


def check_model(model: Any) -> None:
    """Raises UsageError for a model that is no name, such as a Keras model."""
    if model is not None and not isinstance(model, str):
        raise UsageError(
            f"The model is a {type(model).__name__}; expected the name of a registered model, such as 'cnn'. To train a "
            "model of your own, call zoo.train(model, data, run_directory=...); to export it, "
            "zoo.export.save(model, path, examples=x)."
        )


def check_devices(devices: Mapping[str, Any], model: str | None, known: Iterable[str]) -> None:
    """Raises UsageError for an argument that `run` does not take; it says where a known one belongs.

    Args:
        devices: further arguments of `run`, which may be those of `zoo.strategy` alone.
        model: the model's name; None where the data decides.
        known: the names of the other arguments of `run`.
    """
    for name, value in devices.items():
        if name in DEVICES:
            continue
        if name in {field.name for field in dataclasses.fields(TrainConfig)}:
            hint = f"It is an option of the training: pass config=zoo.TrainConfig({name}={_shown(value)})."
        elif model is not None and name in registry.get_spec(model).parameters:
            hint = f"It is an argument of the model: pass model_arguments={{{name!r}: {_shown(value)}}}."
        elif name in _data_options():
            hint = f"It is an argument of the data: pass data_arguments={{{name!r}: {_shown(value)}}}."
        elif name == "validation_data":
            hint = "Pass validation=(x, y)."
        elif name in ("x", "y"):
            hint = "Pass data=(x, y)."
        elif name in SYNONYMS:
            option, example = SYNONYMS[name]
            hint = f"Pass data_arguments={{{option!r}: {example}}}."
        else:
            hint = did_you_mean(name, {*known, *DEVICES} - {"devices"})
        raise UsageError(f"zoo.run takes no argument {name!r}. {hint}")


def _data_options() -> set[str]:
    """Returns the arguments of `zoo.datasets.load`, with those for data from memory."""
    functions = (datasets.load, datasets.from_arrays, datasets.from_frame, datasets.from_dataset)
    return {name for function in functions for name in inspect.signature(function).parameters} - {"x", "y"}


def _shown(value: Any) -> str:
    """Returns a value as Python code, or `...` in the brackets of a long one.

    Example:
        >>> _shown(["cat", "dog"]), _shown([0.125] * 40)
        ("['cat', 'dog']", '[...]')
    """
    text = repr(value)
    if len(text) <= _LONG and "\n" not in text:
        return text
    brackets: dict[type, str] = {list: "[...]", tuple: "(...)", dict: "{...}", set: "{...}"}
    return brackets.get(type(value), "...")
