"""Which devices share a training step."""

from __future__ import annotations

import contextlib

import keras
import tensorflow as tf

from zoo.config import TrainConfig
from zoo.errors import UsageError, did_you_mean

NAMES = ("auto", "one_device", "mirrored")


def strategy(name: str = "auto", *, replicas: int | None = None) -> tf.distribute.Strategy:
    """Returns a `tf.distribute.Strategy`; build the model in its scope, and `zoo.train` uses it.

    Call it before any other TensorFlow operation: devices cannot be divided later.

    Args:
        name: `one_device` (the first GPU, else the CPU), `mirrored` (every GPU, or the CPU divided into `replicas`
            logical devices on a machine without), or `auto`: mirrored where there are several GPUs.
        replicas: number of devices for `mirrored`, None for every GPU.

    Raises:
        UsageError: unknown name, more replicas than GPUs, or TensorFlow has divided its devices otherwise already.

    Example:
        >>> with zoo.strategy("one_device").scope():
        ...     model = zoo.build_mlp_model(input_shape=(28, 28, 1), num_classes=10)
    """
    if name not in NAMES:
        raise UsageError(f"Unknown strategy {name!r}. {did_you_mean(name, NAMES)}")
    if replicas is not None and name != "mirrored":
        raise UsageError(
            f"replicas={replicas} goes with 'mirrored'; received {name!r}. Pass 'mirrored', or no replicas."
        )
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        with contextlib.suppress(RuntimeError):  # already in use: growth can no longer be chosen
            tf.config.experimental.set_memory_growth(gpu, True)
    if name == "auto":
        name = "mirrored" if len(gpus) > 1 else "one_device"
    if name == "one_device":
        return tf.distribute.OneDeviceStrategy("/gpu:0" if gpus else "/cpu:0")
    if gpus:
        count = replicas or len(gpus)
        if count > len(gpus):
            raise UsageError(f"replicas={count}, but this machine has {len(gpus)} GPUs. Pass at most {len(gpus)}.")
        return tf.distribute.MirroredStrategy([f"/gpu:{i}" for i in range(count)])
    return tf.distribute.MirroredStrategy(_divide_cpu(replicas or 1))


def _divide_cpu(count: int) -> list[str]:
    """Returns `count` logical CPU devices, for trying out distribution where there is no GPU."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    try:
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
    except RuntimeError:
        have = len(tf.config.list_logical_devices("CPU"))
        if have < count:
            raise UsageError(
                f"replicas={count}, but TensorFlow already runs with {have} CPU device(s). Call zoo.strategy('mirrored', "
                f"replicas={count}) before any other TensorFlow operation."
            ) from None
    return [f"/cpu:{i}" for i in range(count)]


def check_strategy(model: keras.Model, config: TrainConfig) -> None:
    """Raises `UsageError` where a config contradicts the strategy that the model was built under."""
    strategy = model.distribute_strategy
    replicas = strategy.num_replicas_in_sync
    mirrored = isinstance(strategy, tf.distribute.MirroredStrategy)
    if (config.strategy == "mirrored" and not mirrored) or (config.strategy == "one_device" and replicas > 1):
        raise UsageError(
            f"The model was built under {type(strategy).__name__} with {replicas} replica(s), the config says "
            f"strategy={config.strategy!r}. Build it in `with zoo.strategy({config.strategy!r}).scope():`."
        )
    if config.replicas is not None and config.replicas != replicas:
        raise UsageError(
            f"The model was built under {replicas} replica(s), the config says replicas={config.replicas}. "
            f"Build it in `with zoo.strategy('mirrored', replicas={config.replicas}).scope():`."
        )
    if config.batch_size < replicas:
        raise UsageError(
            f"batch_size={config.batch_size} is smaller than the {replicas} replicas. Pass at least {replicas}."
        )
    if config.jit_compile and replicas > 1:
        raise UsageError(f"jit_compile works on one device; the model was built under {replicas}. Leave it out.")
