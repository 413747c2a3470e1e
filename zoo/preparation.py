"""What happens before training: devices, data, the model, and the weights that it begins with."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from zoo import datasets, recommended, registry, remote, starting_point, storage
from zoo.errors import UsageError

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from zoo.config import TrainConfig
    from zoo.datasets.data import Data
    from zoo.datasets.prepared import Prepared
    from zoo.starting_point import Selected, Start, StartFrom
    from zoo.training.cluster import Workers

ResultT = TypeVar("ResultT")


@dataclasses.dataclass(frozen=True)
class Preparation:
    """A run before its first step.

    Attributes:
        strategy: the devices.
        workers: the workers, of which only the chief prints and writes.
        prepared: the data.
        network: the model, built under the strategy.
        weights: the weights of another run that it begins with, None for initial weights or a run that resumes.
        given: the options that were passed.
        config: these, with what the model recommends for the data.
    """

    strategy: tf.distribute.Strategy
    workers: Workers
    prepared: Prepared
    network: keras.Model
    weights: Selected | None
    given: TrainConfig
    config: TrainConfig

    def describe(self, directory: Path) -> str:
        """Returns lines with the size of the model, the data, the devices and the first weights."""
        from zoo.datasets.description import describe_data

        replicas = self.strategy.num_replicas_in_sync
        many = f", {replicas} replicas" if replicas > 1 else ""
        size = f"{self.prepared.model}: {self.network.count_params():,} parameters"
        title = f"{size} on {self.prepared.data.name}{many}, run directory {remote.shown(directory)}"
        start = f"\n{self.weights}" if self.weights else ""
        arguments, examples = registry.plain(self.prepared.recommended), self.prepared.num_examples("train")
        taken = recommended.describe(examples, arguments, self.given, self.config)
        text = f"{title}\n{describe_data(self.prepared)}{start}" + (f"\n{taken}" if taken else "")
        return f"{self.cluster}\n{text}" if self.cluster else text

    @property
    def cluster(self) -> str:
        """A line about the workers, empty for a single process."""
        from zoo.training.strategies import describe_cluster

        return describe_cluster(self.strategy)


def prepare_run(
    model: str,
    data: Any,
    directory: Path,
    config: TrainConfig,
    *,
    model_arguments: Mapping[str, Any],
    data_arguments: Mapping[str, Any],
    start_from: StartFrom | None,
    overwrite: bool,
    devices: Mapping[str, Any],
    verbose: int = 1,
) -> Preparation:
    """Prepares the devices, the data and the model of a run. It writes nothing into the run directory.

    Raises:
        UsageError: as in `zoo.run`.
    """
    import keras
    import tensorflow as tf

    from zoo import training
    from zoo.training.cluster import Workers

    strategy = training.strategy(config.strategy, replicas=config.replicas, **devices)
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    workers = Workers(strategy)
    start = starting_point.find(start_from, model, config, directory, overwrite=overwrite)
    verbose = verbose if workers.chief else 0
    fetch = functools.partial(_fetch_weights, model, model_arguments, directory, overwrite, verbose)
    prepared = _prepare(model, data, config, fetch, data_arguments, workers, start)
    weights = start.select(prepared) if start else None
    keras.utils.set_random_seed(config.seed)
    with strategy.scope(), training.precision(config.precision):
        network = prepared.build()
        if weights:
            weights.assign(network)
    return Preparation(strategy, workers, prepared, network, weights, config, prepared.complete(config))


def _prepare(
    model: str,
    data: Any,
    config: TrainConfig,
    fetch: Callable[[], tuple[dict[str, Any], dict[str, Any]]],
    data_arguments: Mapping[str, Any],
    workers: Workers,
    start: Start | None,
) -> Prepared:
    """Downloads weights, and loads and prepares the data."""
    from zoo import evaluation

    def load() -> Prepared:
        model_arguments, pretrained = fetch()
        loaded = datasets.load(data, model=model, **data_arguments)
        quantiles = config.quantiles if "quantiles" in config.given else None
        prepared = (
            start.prepare(loaded, model, model_arguments, quantiles)
            if start
            else loaded.prepare(model, quantiles=quantiles, **model_arguments)
        )
        if pretrained:  # with the name that the user typed
            prepared = dataclasses.replace(prepared, pretrained=pretrained)
        evaluation.get_report(prepared.task.report)  # an unknown name is an error before training
        return prepared

    return _chief_first(workers, load)


def _fetch_weights(
    model: str, arguments: Mapping[str, Any], directory: Path, overwrite: bool, verbose: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the builder's arguments with the weights of a name pinned, and the section `pretrained` of config.yaml. A run
    that has begun takes the weights that it has recorded."""
    from zoo import checkpoints
    from zoo.training.run_directory import has_begun, read_settings

    recorded = {} if overwrite or not has_begun(directory) else read_settings(directory).get("pretrained") or {}
    return checkpoints.pinned(registry.get_spec(model), arguments, recorded, verbose=verbose)


def choose_model(
    data: Any, config: TrainConfig, data_arguments: Mapping[str, Any], devices: Mapping[str, Any], verbose: int
) -> tuple[str, Data]:
    """Returns the default model of the data's task, and the loaded data.

    Args:
        data: as in `zoo.run`, like `config` and `data_arguments`.
        devices: arguments of `zoo.strategy`.
        verbose: 0 to print nothing.

    Raises:
        UsageError: the data cannot be loaded, serves several tasks, or its task has no default model.
    """
    from zoo import tasks, training
    from zoo.training.cluster import Workers

    # The devices come first: they cannot be divided once an operation has run.
    workers = Workers(training.strategy(config.strategy, replicas=config.replicas, **devices))
    loaded = _chief_first(workers, lambda: datasets.load(data, **data_arguments))
    model = tasks.get_task(loaded.task).default_model
    if model is None:
        able = ", ".join(registry.list_models(task=loaded.task))
        raise UsageError(f"The task {loaded.task} has no default model. Pass --model with one of {able}.")
    if verbose and workers.chief:
        print(f"No model was named: {model} is the default of {loaded.task}", flush=True)
    return model, loaded


def _chief_first(workers: Workers, load: Callable[[], ResultT]) -> ResultT:
    """Returns what a function loads, which runs on the chief first, because the workers of a machine may share folders."""
    if not workers.chief:
        workers.wait()
    result = load()
    if workers.chief:
        workers.wait()
    return result


def opened(
    run_directory: str | Path | None, config: TrainConfig, devices: Mapping[str, Any]
) -> contextlib.AbstractContextManager[Path | None]:
    """Returns a context with the local folder of a run, which is a working copy of a remote one; None without a folder.

    Raises:
        UsageError: as in `remote.working_copy`; or, as in `zoo.strategy`, for launchers that disagree.
    """
    from zoo.training.detection.find import find_cluster

    addresses, index = devices.get("cluster"), devices.get("task_index")
    alone = not remote.is_remote(run_directory) or (config.strategy == "one_device" and addresses is None)
    # Before the workers are joined: worker 0 alone writes the run.
    found = None if alone else find_cluster(addresses, index)
    return remote.working_copy(run_directory, index=0 if found is None else found.index)


def default_directory(model: str, data: Any) -> Path:
    """Returns the default folder of a run: runs/DATA-MODEL, see `storage.file_name`.

    Raises:
        UsageError: the data comes from memory and so has no name.

    Example:
        >>> default_directory("cnn", "images:/photos/cats and dogs")
        PosixPath('runs/images-photos-cats-and-dogs-cnn')
    """
    name = data if isinstance(data, str) else getattr(data, "name", None)
    if not isinstance(name, str):
        raise UsageError("Data from memory has no name. Pass run_directory='runs/NAME', the folder of the run.")
    return Path("runs") / f"{storage.file_name(remote.masked(name))}-{model}"


def golden_of(directory: Path, golden: Any, overwrite: bool = False) -> Any:
    """Returns the golden examples of a run: those that were passed, else those that it has recorded."""
    from zoo.training.run_directory import is_run, read_settings

    if golden is not None or overwrite or not is_run(directory):
        return golden
    return read_settings(directory).get("golden")


def record_golden(prepared: Prepared, golden: Any, export: bool) -> None:
    """Checks golden examples before the training, and records them.

    Raises:
        UsageError: as in `zoo.export.save`.
    """
    from zoo.export.raw_requests import recorded, requests_to_publish

    if export:
        requests_to_publish(prepared.interface, golden)
    prepared.golden = recorded(prepared.preprocessor, golden)
