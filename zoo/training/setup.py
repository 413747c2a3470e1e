"""What a run needs to know before its first step: class weights, XLA, a closed form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from zoo.config import TrainConfig
from zoo.errors import UsageError, did_you_mean
from zoo.registry import describe_build, get_spec, list_models


def closed_form_of(model: keras.Model) -> Callable[..., None]:
    """Returns the function that solves for a model's weights at once.

    Raises:
        UsageError: the model has none.
    """
    build = describe_build(model)
    solve = get_spec(build["name"]).closed_form if build else None
    if solve is None:
        able = [name for name in list_models() if get_spec(name).closed_form]
        raise UsageError(
            f"Model {model.name!r} has no closed form; only {', '.join(able)} can be solved. Leave closed_form out."
        )
    return solve


def class_factors(config: TrainConfig, data: Any) -> list[float] | None:
    """Returns the factor of each class's loss, None for equal ones.

    Balanced ones are examples / (classes x examples of the class), so that every class weighs the same in all.

    Raises:
        UsageError: no classes, or none of that name.
    """
    wanted = config.class_weights
    if wanted is None:
        return None
    counts = data.target_counts("train")
    if counts is None:
        raise UsageError(f"class_weights is {wanted!r}, but this data has no classes. Leave class_weights out.")
    if wanted == "balanced":
        present = counts > 0
        return [float(f) for f in np.where(present, counts.sum() / (present.sum() * np.maximum(counts, 1)), 0.0)]
    assert isinstance(wanted, Mapping)
    names = list(data.class_names)
    for name in wanted:
        if name not in names:
            raise UsageError(f"class_weights has the class {name!r}. {did_you_mean(name, names)}")
    return [float(wanted.get(name, 1.0)) for name in names]


_XLA_PAYS = 2000
"""Steps from which on the second or two that XLA compiles for are won back."""


def is_compiled(model: keras.Model, config: TrainConfig, total_steps: int) -> bool:
    """Returns whether XLA compiles the step: where it was asked for, or where it pays, which is in long enough runs, on a
    CPU, of a model that is known to gain by it."""
    if config.jit_compile != "auto":
        return bool(config.jit_compile)
    build = describe_build(model)
    alone = model.distribute_strategy.num_replicas_in_sync == 1 and config.accumulation_steps == 1
    on_cpu = not tf.config.list_physical_devices("GPU")
    gains = build is not None and get_spec(build["name"]).jit_compile
    # Of one shape: XLA compiles anew for every length of a text or series, which takes longer than it saves.
    fixed = all(size is not None for tensor in model.inputs or () for size in tensor.shape[1:])
    return bool(gains and alone and on_cpu and fixed and total_steps >= _XLA_PAYS)
