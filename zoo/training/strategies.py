"""Which devices share a training step."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from zoo.config import TrainConfig
from zoo.errors import UsageError, did_you_mean, one_line
from zoo.training.cluster import meet
from zoo.training.detection.contract import Cluster
from zoo.training.detection.find import find_cluster
from zoo.training.detection.slurm import gpus_of_task, without_srun

NAMES = ("auto", "one_device", "mirrored", "multi_worker", "tpu")


def strategy(
    name: str = "auto",
    *,
    replicas: int | None = None,
    cluster: str | Sequence[str] | None = None,
    task_index: int | None = None,
    cluster_timeout: float = 300.0,
    gpu_memory_limit: int | None = None,
) -> tf.distribute.Strategy:
    """Returns a `tf.distribute.Strategy`; build the model in its scope, and `zoo.train` uses it.

    Call it before any other TensorFlow operation: devices cannot be divided later, nor workers joined. A GPU's memory is
    taken as it is needed, not all at once.

    Args:
        name: `one_device` (the first GPU of this task, else the CPU), `mirrored` (every GPU, or the CPU divided into
            `replicas` logical devices on a machine without), `multi_worker` (every GPU, else the CPU, of each process of
            a cluster), `tpu` (constructed as TensorFlow documents it, never tested), or `auto`: multi_worker where there
            is a cluster of several workers, mirrored where there are several GPUs, one_device otherwise.
        replicas: number of devices for `mirrored`, None for every GPU.
        cluster: host:port of every worker, in the same order on all of them; None finds them in TF_CONFIG or in the
            variables of Slurm or Kubernetes, which `one_device` ignores.
        task_index: the number of this worker; worker 0 is the chief, which prints and writes.
        cluster_timeout: seconds to wait for the other workers.
        gpu_memory_limit: most memory of each GPU that is used, in MiB; None sets no limit.

    Raises:
        UsageError: unknown name, more replicas than GPUs, TensorFlow has divided its devices otherwise already, or a
            worker that does not answer.

    Example:
        >>> with zoo.strategy("one_device").scope():
        ...     model = zoo.build_mlp_model(input_shape=(28, 28, 1), num_classes=10)
    """
    if not os.environ.get("TF_CONFIG", "unset").strip():
        del os.environ["TF_CONFIG"]  # TensorFlow would read it as JSON
    if name not in NAMES:
        raise UsageError(f"Unknown strategy {name!r}. {did_you_mean(name, NAMES)}")
    if replicas is not None and name != "mirrored":
        raise UsageError(
            f"replicas={replicas} goes with 'mirrored'; received {name!r}. Pass 'mirrored', or no replicas."
        )
    # One device never asks: TF_CONFIG may stand in the environment for another program.
    found = find_cluster(cluster, task_index) if name != "one_device" or cluster is not None else None
    if name not in ("auto", "multi_worker") and (cluster is not None or task_index is not None):
        raise UsageError(f"A cluster goes with 'multi_worker'; received {name!r}. Pass 'multi_worker', or no cluster.")
    if name == "multi_worker" and found is None:
        raise UsageError(
            "multi_worker needs to know the workers. Pass --cluster one:2222,two:2222 --task-index 0, set TF_CONFIG, or "
            "start the command with srun."
        )
    if name in ("mirrored", "tpu") and found is not None and len(found.addresses) > 1:
        raise UsageError(
            f"{found.describe()}. With {name!r} each would train its own model. Pass 'auto' to train one together, "
            "or 'one_device' for one each."
        )
    gpus = _own_gpus(found)
    _prepare_gpus(gpus, gpu_memory_limit)
    made = _make(name, found, gpus, replicas, cluster_timeout)
    said = found.describe() if found is not None else without_srun(os.environ) if name == "auto" else None
    made._zoo_cluster = getattr(made, "_zoo_cluster", None) or said
    return made


def _make(
    name: str, found: Cluster | None, gpus: Sequence[Any], replicas: int | None, cluster_timeout: float
) -> tf.distribute.Strategy:
    if name == "tpu":
        return _tpu()
    if found is not None and (name == "multi_worker" or len(found.addresses) > 1):
        return _multi_worker(found, cluster_timeout)
    if name == "auto":
        name = "mirrored" if len(gpus) > 1 else "one_device"
    if name == "one_device":
        return tf.distribute.OneDeviceStrategy("/gpu:0" if gpus else "/cpu:0")
    if gpus:
        have = len(tf.config.list_logical_devices("GPU"))  # a card may have been divided
        count = replicas or have
        if count > have:
            raise UsageError(f"replicas={count}, but this machine has {have} GPUs. Pass at most {have}.")
        return _mirrored(tuple(f"/gpu:{i}" for i in range(count)))
    return _mirrored(tuple(_divide_cpu(replicas or 1)))


def describe_cluster(strategy: tf.distribute.Strategy) -> str:
    """Returns a line that says which workers `zoo.strategy` has found, and where; empty if it found none."""
    return getattr(strategy, "_zoo_cluster", None) or ""


def _own_gpus(found: Cluster | None) -> list[Any]:
    """Returns the GPUs of this process, and hides those that belong to other tasks of the machine."""
    gpus = list(tf.config.list_physical_devices("GPU"))
    own = [gpus[i] for i in (gpus_of_task(os.environ, len(gpus)) if found is None else found.own_gpus(len(gpus)))]
    if len(own) < len(gpus):
        try:
            tf.config.set_visible_devices(own, "GPU")
        except RuntimeError as error:  # already in use
            raise UsageError(
                f"This task's share of the GPUs, {len(own)} of {len(gpus)}, comes too late: TensorFlow uses them already. "
                "Call zoo.strategy before any other TensorFlow operation."
            ) from error
    return own


def _prepare_gpus(gpus: Sequence[Any], memory_limit: int | None) -> None:
    if memory_limit is not None and (
        isinstance(memory_limit, bool) or not isinstance(memory_limit, int) or memory_limit < 1
    ):
        raise UsageError(f"gpu_memory_limit is {memory_limit!r}; expected MiB. Pass gpu_memory_limit=8192, say.")
    if memory_limit is not None and not gpus:
        raise UsageError(f"gpu_memory_limit={memory_limit}, but TensorFlow sees no GPU. Leave it out.")
    for gpu in gpus:
        try:
            if memory_limit is None:
                if not tf.config.get_logical_device_configuration(gpu):  # divided cards have limits, and cannot grow
                    tf.config.experimental.set_memory_growth(gpu, True)
            else:
                limit = tf.config.LogicalDeviceConfiguration(memory_limit=memory_limit)
                tf.config.set_logical_device_configuration(gpu, [limit])
        except RuntimeError as error:  # already in use
            if memory_limit is not None:
                raise UsageError(
                    f"gpu_memory_limit={memory_limit} comes too late: TensorFlow uses the GPU already. Call zoo.strategy "
                    "before any other TensorFlow operation."
                ) from error


# A process has one strategy of these two: a second MirroredStrategy with batch normalisation over its replicas aborts,
# and workers can be joined only once.


@functools.cache
def _mirrored(devices: tuple[str, ...]) -> tf.distribute.Strategy:
    return tf.distribute.MirroredStrategy(list(devices))


@functools.cache
def _multi_worker(cluster: Cluster, timeout: float) -> tf.distribute.Strategy:
    meet(cluster, timeout)
    os.environ["TF_CONFIG"] = cluster.to_tf_config()  # where TensorFlow looks for it
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:
        raise UsageError(
            f"The workers cannot be joined any more: {one_line(error, 120)} Call zoo.strategy('multi_worker') before any "
            "other TensorFlow operation."
        ) from error


def _tpu() -> tf.distribute.Strategy:
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu="")
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        return tf.distribute.TPUStrategy(resolver)
    except (ValueError, RuntimeError, tf.errors.OpError) as error:
        raise UsageError(f"No TPU was found: {one_line(error, 120)} Pass another strategy.") from error


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
    kinds = {
        "one_device": replicas == 1 and not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy),
        "mirrored": isinstance(strategy, tf.distribute.MirroredStrategy),
        "multi_worker": isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy),
        "tpu": isinstance(strategy, tf.distribute.TPUStrategy),
    }
    if not kinds.get(config.strategy, True):
        raise UsageError(
            f"The model was built under {type(strategy).__name__} with {replicas} replica(s), the config says "
            f"strategy={config.strategy!r}. Build it in `with zoo.strategy({config.strategy!r}).scope():`."
        )
    if config.replicas is not None and config.replicas != replicas:
        raise UsageError(
            f"The model was built under {replicas} replica(s), the config says replicas={config.replicas}. "
            f"Build it in `with zoo.strategy('mirrored', replicas={config.replicas}).scope():`."
        )
    if config.batch_size < replicas * config.accumulation_steps:
        parts = f" x {config.accumulation_steps} accumulation steps" if config.accumulation_steps > 1 else ""
        raise UsageError(
            f"batch_size={config.batch_size} is smaller than the {replicas} replicas{parts}: a device would get nothing. "
            f"Pass at least {replicas * config.accumulation_steps}."
        )
    if config.jit_compile is True and replicas > 1:
        raise UsageError(f"jit_compile works on one device; the model was built under {replicas}. Leave it out.")
