"""Decisions and checks before the first step: quantiles, class weights, XLA, a closed form, augmentation."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from zoo.config import TrainConfig
from zoo.errors import UsageError, did_you_mean
from zoo.registry import describe_build, get_spec, list_models
from zoo.tasks import get_task, list_tasks
from zoo.training.augmentation import MIXING, check_augmentation
from zoo.training.protocols import TrainingData

_ROUNDING = 1e-5
"""Resizing a white image can give 1.0000005."""


def closed_form_of(
    model: keras.Model, option: str = "closed_form", levels: Sequence[float] = (), overlap: int = 1
) -> Callable[..., None]:
    """Returns the function that solves for a model's weights at once, which an option needs.

    Args:
        model: the model.
        option: the name of the option, for messages.
        levels: the levels of the quantiles that the model predicts.
        overlap: the number of neighbouring training examples that may share elements of their targets.

    Raises:
        UsageError: the model has none, or none for quantiles.
    """
    build = describe_build(model)
    spec = get_spec(build["name"]) if build else None
    solve = spec.closed_form if spec else None
    if solve is not None and "overlap" in inspect.signature(solve).parameters:
        solve = functools.partial(solve, overlap=overlap)
    if solve is not None and levels:
        if not (spec and spec.solves_quantiles):
            raise UsageError(
                f"quantiles={list(levels)} are not part of what {option} solves for model {model.name!r}. "
                f"Leave {option} or quantiles out."
            )
        return functools.partial(solve, levels=tuple(levels))
    if solve is None:
        able = [name for name in list_models(variants=False) if get_spec(name).closed_form]
        raise UsageError(
            f"Model {model.name!r} has no closed form; only {', '.join(able)} can be solved. Leave {option} out."
        )
    return solve


def with_quantiles(config: TrainConfig, data: TrainingData) -> TrainConfig:
    """Returns the config with the quantiles that the data was prepared for.

    Raises:
        UsageError: it has others.
    """
    known = list(data.objective.quantiles)
    if config.quantiles not in ([], known):
        prepared = f"was prepared for quantiles={known}" if known else "was not prepared for quantiles"
        raise UsageError(
            f"The config has quantiles={config.quantiles}, but the data {prepared}. Pass what data.prepare(MODEL, "
            f"quantiles={config.quantiles}) returns, or leave quantiles out of the config."
        )
    return dataclasses.replace(config, quantiles=known)


def class_factors(config: TrainConfig, data: TrainingData) -> list[float] | None:
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
        held = "several labels at once" if data.objective.labels is not None else "no classes"
        raise UsageError(f"class_weights is {wanted!r}, but this data has {held}. Leave class_weights out.")
    if wanted == "balanced":
        present = counts > 0
        return [float(f) for f in np.where(present, counts.sum() / (present.sum() * np.maximum(counts, 1)), 0.0)]
    assert isinstance(wanted, Mapping)
    names = list(data.class_names)
    for name in wanted:
        if name not in names:
            raise UsageError(f"class_weights has the class {name!r}. {did_you_mean(name, names)}")
    return [float(wanted.get(name, 1.0)) for name in names]


def check_abstention(config: TrainConfig, data: TrainingData) -> None:
    """Raises UsageError where no probability for answers can be chosen: for another task, or without validation examples."""
    if config.abstain is None:
        return
    task = getattr(data, "task", None)
    if task is None or task.abstain is None:
        able = [name for name in list_tasks() if get_task(name).abstain is not None]
        held = f"this data is for {task.name}" if task is not None else "these arrays have no task"
        raise UsageError(
            f"abstain={config.abstain} needs one label per example, as in {', '.join(able)}; {held}. Leave abstain out, or "
            "pass what data.prepare(MODEL) returns for such data."
        )
    if not data.num_examples("validation"):
        raise UsageError(
            f"abstain={config.abstain} is chosen on the validation split, and this data has none. Leave abstain out, or pass "
            "a validation split."
        )


_XLA_PAYS = 2000
"""From this number of steps on, XLA saves more time than the second or two of its compilation."""


def is_compiled(model: keras.Model, config: TrainConfig, total_steps: int) -> bool:
    """Returns whether XLA compiles the step: where the config says so, or where it pays. It pays in long runs on a CPU, of
    models that are known to be faster with it."""
    if config.jit_compile != "auto":
        return bool(config.jit_compile)
    build = describe_build(model)
    alone = model.distribute_strategy.num_replicas_in_sync == 1 and config.accumulation_steps == 1
    on_cpu = not tf.config.list_physical_devices("GPU")
    gains = build is not None and get_spec(build["name"]).jit_compile
    # Of one shape: XLA compiles again for every length of a text or series, which takes longer than it saves.
    fixed = all(size is not None for tensor in getattr(model, "inputs", None) or () for size in tensor.shape[1:])
    return bool(gains and alone and on_cpu and fixed and total_steps >= _XLA_PAYS)


def takes_rows(model: keras.Model, config: TrainConfig) -> bool:
    """Returns whether the compiled loop may take its batches from memory itself: on one CPU, of batches that are neither
    changed nor divided before."""
    strategy = model.distribute_strategy
    alone = strategy.num_replicas_in_sync == 1 and not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
    whole = not config.augmentation and config.accumulation_steps == 1 and not config.closed_form
    return alone and whole and not tf.config.list_physical_devices("GPU")


def check_images(config: TrainConfig, data: TrainingData) -> None:
    """Raises UsageError where training images cannot be changed as asked: shape, range, or targets that cannot be mixed."""
    if not config.augmentation:
        return
    batches = data.batches("train", config.batch_size)
    check_augmentation(config.augmentation, batches.element_spec)
    (images,) = next(iter(batches))[0].values()
    least, most = float(tf.reduce_min(images)), float(tf.reduce_max(images))
    if not -_ROUNDING <= least <= most <= 1 + _ROUNDING:
        raise UsageError(
            f"augmentation takes images from 0 to 1; these reach from {least:.9g} to {most:.9g}. Pass them divided by "
            "255, say."
        )
    mixing = [name for name in config.augmentation if name in MIXING]
    if mixing and (data.objective.classes is None or len(data.class_names) < 2):
        raise UsageError(
            f"augmentation {mixing[0]!r} mixes class numbers; this model has none, or one output only. Leave {mixing[0]!r} "
            "out, or build a model with an output per class."
        )
