"""The precision of a model, and the float32 model that a run returns."""

from __future__ import annotations

import contextlib
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from zoo import copies
from zoo.errors import UsageError, did_you_mean

NAMES = ("float32", "mixed_bfloat16", "mixed_float16", "auto")


def resolve(name: str) -> str:
    """Returns the Keras dtype policy of a precision's name; auto looks at the device.

    Auto takes bfloat16 on a CPU with matrix units for it (AMX) and on a GPU of compute capability 8 or more, float16
    on one of 7, and float32 elsewhere.

    Raises:
        UsageError: no such precision.

    Example:
        >>> resolve("mixed_bfloat16")
        'mixed_bfloat16'
    """
    if name not in NAMES:
        raise UsageError(f"precision is {name!r}. {did_you_mean(name, NAMES)}")
    if name != "auto":
        return name
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        capability = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability", (0, 0))[0]
        return "mixed_bfloat16" if capability >= 8 else "mixed_float16" if capability >= 7 else "float32"
    cpu = Path("/proc/cpuinfo")
    flags = cpu.read_text(encoding="utf-8") if cpu.is_file() else ""
    return "mixed_bfloat16" if re.search(r"\bamx_bf16\b", flags) else "float32"


@contextlib.contextmanager
def precision(name: str) -> Iterator[str]:
    """Builds models in a precision: layers made in the block compute in it.

    Raises:
        UsageError: no such precision.

    Example:
        >>> with zoo.strategy("auto").scope(), precision("mixed_bfloat16"):
        ...     model = zoo.build_cnn_model(input_shape=(28, 28, 1), num_classes=10)
    """
    policy = resolve(name)
    before = keras.config.dtype_policy()
    if policy != "float32":  # else whatever the user has set, such as float64
        keras.config.set_dtype_policy(policy)
    try:
        yield policy
    finally:
        keras.config.set_dtype_policy(before)


def policy_of(model: keras.Model) -> str:
    """Returns the mixed policy that a model was built under, else the name of its layers' type, such as float32."""
    names = {layer.dtype_policy.name for layer in model._flatten_layers()}
    return next((n for n in sorted(names) if n.startswith("mixed_")), model.dtype_policy.name)


def check_precision(model: keras.Model, name: str) -> None:
    """Raises UsageError where a config asks for another precision than the model was built under."""
    wanted, has = resolve(name), policy_of(model)
    if wanted.startswith("mixed_") and has != wanted:
        raise UsageError(
            f"The model computes in {has}, the config says precision={name!r}. Build it in "
            f"`with zoo.precision({name!r}):`."
        )


def plain_model(model: keras.Model) -> keras.Model:
    """Returns a model of the same weights that computes in float32 on one device; the model itself where it does so.

    This model is evaluated and exported: a serving process needs no half-precision kernels, and its outputs do not depend
    on the batch of a request.
    """
    alone = model.distribute_strategy.num_replicas_in_sync == 1 and not isinstance(
        model.distribute_strategy, tf.distribute.MultiWorkerMirroredStrategy
    )
    if alone and not policy_of(model).startswith("mixed_"):
        return model
    if not hasattr(model, "inputs") or not model.inputs:
        raise UsageError(
            f"Model {model.name!r} is subclassed: no float32 copy for one device can be made of it. Build it as a Functional "
            "model, or train it on one device in float32."
        )
    # Layer by layer, so that a user's own classes need no registration; outside of the strategy's scope, so that the
    # variables are plain ones.
    copy = keras.models.clone_model(model, clone_function=_plain_layer, recursive=True)
    return copies.carry(model, copy)


def check_plain(model: keras.Model, copy: keras.Model, inputs: Any) -> None:
    """Compares what `plain_model` returned with the model that was trained, on real inputs.

    In half precision no tolerance separates rounding from lost state. So a second copy in the same precision must return the
    same outputs up to rounding, and the float32 copy must predict the same classes.

    Args:
        model: the model that is trained.
        copy: what `plain_model` made of it.
        inputs: a batch of model inputs.

    Raises:
        UsageError: the copy lacks what the model has learned or was given.
    """
    if copy is model:
        return
    if not policy_of(model).startswith("mixed_"):
        copies.check_copy(model, copy, inputs)
        return
    drawn = random.getstate()  # initializers of the copy draw seeds, which later models must not miss
    try:
        like = keras.models.clone_model(model, clone_function=_same_layer, recursive=True)
    finally:
        random.setstate(drawn)
    copies.check_copy(model, copies.carry(model, like), inputs, tolerance=1e-3)
    copies.check_agreement(model, copy, inputs)


def _same_layer(layer: keras.layers.Layer) -> keras.layers.Layer:
    return type(layer).from_config(layer.get_config())


def _plain_layer(layer: keras.layers.Layer) -> keras.layers.Layer:
    return type(layer).from_config(_in_float32(layer.get_config()))


def _in_float32(config: Any) -> Any:
    """The configuration with every mixed policy replaced."""
    if isinstance(config, dict):
        if config.get("class_name") == "DTypePolicy" and str(config["config"]["name"]).startswith("mixed_"):
            return {**config, "config": {**config["config"], "name": "float32"}}
        return {key: _in_float32(value) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return type(config)(_in_float32(value) for value in config)
    return "float32" if isinstance(config, str) and config in ("mixed_bfloat16", "mixed_float16") else config
