"""Runs that train, evaluate, export and verify a model in one call, and functions on finished runs."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import environment, model_archive, plugins, registry, storage
from zoo.config import TrainConfig
from zoo.errors import UsageError

if TYPE_CHECKING:
    import keras

    from zoo.datasets.interface import Interface
    from zoo.datasets.prepared import Prepared
    from zoo.export.verification import Verification
    from zoo.training.cluster import Workers


@dataclasses.dataclass(frozen=True)
class RunResult:
    """The result of a run.

    Attributes:
        run_directory: the folder with all files of the run.
        history: a dict per epoch.
        report: the evaluation on the test split.
        saved_model: the version folder of the verified SavedModel, None without export.
        verification: the result of its verification, None without export.
        request: placeholder for the input of `zoo predict`, such as FILE or "a text".
    """

    run_directory: Path
    history: list[dict[str, float]]
    report: dict[str, Any]
    saved_model: Path | None
    verification: Verification | None
    request: str = ""


def run(
    model: str,
    data: str,
    *,
    config: TrainConfig | None = None,
    model_arguments: Mapping[str, Any] | None = None,
    data_arguments: Mapping[str, Any] | None = None,
    run_directory: str | Path | None = None,
    export: bool = True,
    overwrite: bool = False,
    verbose: int = 1,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    **devices: Any,
) -> RunResult:
    """Trains, evaluates, exports and verifies. The same call resumes a run that was killed.

    With several workers, each worker makes this call. Only worker 0 evaluates, exports and writes files.

    Args:
        model: a registered model's name.
        data: a data set's name.
        config: the training options.
        model_arguments: arguments of the model's builder.
        data_arguments: arguments of `zoo.datasets.load`.
        run_directory: folder of the run; None for runs/DATA-MODEL.
        export: whether to write and verify a SavedModel in RUN_DIRECTORY/saved_model.
        overwrite: whether to delete an earlier run in the directory.
        verbose: 1 for progress bar and reports, 2 for a line per epoch, 0 for no output.
        callbacks: Keras callbacks for training.
        **devices: further arguments of `zoo.strategy`: cluster, task_index, cluster_timeout, gpu_memory_limit.

    Raises:
        UsageError: an argument is invalid or cannot be used; the message says what to type next.

    Example:
        >>> result = zoo.run("cnn", "digits", config=zoo.TrainConfig(epochs=15))
        >>> result.report["accuracy"], result.saved_model
        (0.98..., PosixPath('runs/digits-cnn/saved_model/1'))
    """
    config = config or TrainConfig()
    registry.check_arguments(registry.get_spec(model), model_arguments or {})
    directory = Path(run_directory) if run_directory else default_directory(model, data)
    environment.check(directory)

    import keras
    import tensorflow as tf

    from zoo import evaluation, training
    from zoo.datasets.interface import Interface
    from zoo.datasets.unknown_tokens import describe_unknown
    from zoo.export import publishing
    from zoo.training.cluster import Workers
    from zoo.training.run_directory import in_use

    if export:
        publishing.check_folder(directory / "saved_model")
    strategy = training.strategy(config.strategy, replicas=config.replicas, **devices)
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    workers = Workers(strategy)
    verbose = verbose if workers.chief else 0
    prepared = _prepare(model, data, model_arguments or {}, data_arguments or {}, workers)
    keras.utils.set_random_seed(config.seed)
    with strategy.scope(), training.precision(config.precision):
        network = prepared.build()
    if verbose:
        many = f", {strategy.num_replicas_in_sync} replicas" if strategy.num_replicas_in_sync > 1 else ""
        where = f"{data}{many}, run directory {directory}{describe_unknown(prepared)}"
        print(f"{model}: {network.count_params():,} parameters on {where}", flush=True)
    trained = training.train(
        network, prepared, config, run_directory=directory, overwrite=overwrite, verbose=verbose, callbacks=callbacks
    )
    if not workers.chief:
        return RunResult(directory, trained.history, {}, None, None)
    network = trained.model
    with in_use(directory):
        report = evaluation.evaluate_run(network, prepared, directory, verbose)
        saved = verification = None
        if export:
            saved, verification = _export(network, Interface.load(directory / "interface"), directory, report, verbose)
    request = prepared.preprocessor.requests[prepared.task.signatures["serving_default"].requests[0]]
    return RunResult(directory, trained.history, report, saved, verification, request.typed)


def _prepare(
    model: str, data: str, model_arguments: Mapping[str, Any], data_arguments: Mapping[str, Any], workers: Workers
) -> Prepared:
    """Loads and prepares the data, on the chief first, because the workers of a machine may share the data folder."""
    from zoo import datasets, evaluation

    if not workers.chief:
        workers.wait()
    prepared = datasets.load(data, **data_arguments).prepare(model, **model_arguments)
    evaluation.get_report(prepared.task.report)  # an unknown name is an error before training
    if workers.chief:
        workers.wait()
    return prepared


def default_directory(model: str, data: str) -> Path:
    """Returns the default folder of a run: runs/DATA-MODEL, with characters that every file system supports.

    Example:
        >>> default_directory("cnn", "images:/photos/cats and dogs")
        PosixPath('runs/images-photos-cats-and-dogs-cnn')
    """
    return Path("runs") / f"{re.sub(r'[^0-9A-Za-z_.]+', '-', data).strip('-')}-{model}"


@dataclasses.dataclass(frozen=True)
class CrossValidation:
    """The result of `cross_validate`.

    Attributes:
        directory: the folder with a run for each fold, and cross_validation.json with the metrics.
        folds: the metrics of each fold by name, including those of the baselines.
        passed: whether every fold's SavedModel was verified; True without export.
    """

    directory: Path
    folds: tuple[Mapping[str, float], ...]
    passed: bool

    @property
    def summary(self) -> dict[str, dict[str, float]]:
        """Mean and standard deviation over the folds of every metric that all folds have."""
        shared = [name for name in (self.folds or [{}])[0] if all(name in fold for fold in self.folds)]
        values = {name: [fold[name] for fold in self.folds] for name in shared}
        return {k: {"mean": statistics.fmean(v), "deviation": statistics.pstdev(v)} for k, v in values.items()}

    def table(self) -> str:
        """Returns the summary as a table for a terminal."""
        width = max(map(len, self.summary))
        lines = [f"{k:<{width}}  {v['mean']:10.4f}  +- {v['deviation']:.4f}" for k, v in self.summary.items()]
        return "\n".join([f"{len(self.folds)} folds, mean and standard deviation", *lines])


def cross_validate(model: str, data: str, *, folds: int = 5, **arguments: Any) -> CrossValidation:
    """Trains a model once for every fold. Each example is in the test split of one fold.

    Args:
        model: a registered model's name.
        data: a data set's name.
        folds: number of folds, at least 2.
        **arguments: as in `run`; every fold is a run in `RUN_DIRECTORY/fold-K`.

    Raises:
        UsageError: as in `run`, and for data that is split by time.

    Example:
        >>> zoo.pipeline.cross_validate("lstm", "digit_rows", folds=5).summary["accuracy"]["mean"]
    """
    from zoo import evaluation

    if isinstance(folds, bool) or not isinstance(folds, int) or folds < 2:
        raise UsageError(f"folds is {folds!r}; expected a whole number of at least 2. Pass folds=5, say.")
    first = default_directory(model, data)
    directory = Path(arguments.pop("run_directory", None) or first.with_name(f"{first.name}-folds"))
    load = dict(arguments.pop("data_arguments", None) or {})
    results = [
        run(
            model,
            data,
            data_arguments={**load, "folds": folds, "fold": fold},
            run_directory=directory / f"fold-{fold}",
            **arguments,
        )
        for fold in range(folds)
    ]
    if not results[0].report:  # this is a worker, and the chief does the rest
        return CrossValidation(directory, (), True)
    figures = tuple(evaluation.figures(result.report) for result in results)
    passed = all(result.verification is None or result.verification.passed for result in results)
    done = CrossValidation(directory, figures, passed)
    content = {"folds": [dict(fold) for fold in done.folds], "summary": done.summary, "verified": passed}
    storage.write_json(directory / "cross_validation.json", content)
    return done


def _export(
    network: keras.Model, interface: Interface, directory: Path, report: Mapping[str, Any], verbose: int
) -> tuple[Path, Verification]:
    """Exports into the run and verifies. An existing version with the same weights is verified again instead."""
    from zoo import evaluation
    from zoo.export import artifact, artifact_paths
    from zoo.export.extras.card import model_card
    from zoo.export.verification import Verification, verify

    report = {} if "failure" in report else report
    base = directory / "saved_model"
    numbers = artifact_paths.versions(base)
    newest = base / str(numbers[-1] if numbers else 1)
    facts_file = newest / artifact_paths.EXTRA / "zoo.json"
    facts = storage.read_json(facts_file) if facts_file.is_file() else {}
    expected = {"weights_sha256": artifact.weights_hash(network), "data_sha256": interface.fingerprint.sha256}
    if any(facts.get(name) != value for name, value in expected.items()):
        figures = evaluation.plot_files(report, directory)
        newest = artifact.save(network, interface, base, report=report, figures=figures)
        place = newest.relative_to(directory).as_posix()
        storage.write_text(directory / "README.md", model_card(newest, report, place=place))
        verification = Verification.read(newest)  # `save` has just verified it
    else:
        verification = verify(newest, runtimes=())
    if verbose:
        print(verification.table(), flush=True)
    return newest, verification


def open_run(run_directory: str | Path) -> tuple[keras.Model, Prepared, dict[str, Any]]:
    """Opens a finished run: its trained model, its data prepared in the same way, and its settings.

    Raises:
        UsageError: the folder is not a run, its training has not finished, its parts belong to different data, or the
            classes or the training split of the data have changed.

    Example:
        >>> model, prepared, settings = open_run("runs/digits-cnn")
    """
    from zoo import datasets

    model_file, settings, interface = _finished(run_directory)
    arguments = {key: value for key, value in settings["model"].items() if key != "name"}
    prepared = datasets.load_of_run(settings["data"], run_directory).prepared_as(interface, arguments)
    if prepared.class_names != interface.class_names or "train" in prepared.changed:
        changes = "; ".join(interface.fingerprint.changes(prepared.fingerprint))
        raise UsageError(
            f"The run in {run_directory} was trained on other data: {changes}. Metrics would be meaningless: classes may "
            "have other numbers, and training examples may be in the test split. Put the old data back. Only a separate "
            "test split (a column named split, or folders train and test) may change."
        )
    return load_model(model_file), prepared, settings


def export_run(run_directory: str | Path, path: str | Path, runtimes: str | Sequence[str] = ()) -> Path:
    """Exports a finished run to another folder. It needs neither the data set nor a network.

    Raises:
        UsageError: as in `open_run` and `zoo.export.save`.
    """
    from zoo import evaluation
    from zoo.export import artifact

    model_file, _, interface = _finished(run_directory)
    report_file = Path(run_directory) / "evaluation.json"
    report = evaluation.read_report(report_file) if report_file.exists() else None
    figures = evaluation.plot_files(report, run_directory) if report else {}
    return artifact.save(load_model(model_file), interface, path, report=report, figures=figures, runtimes=runtimes)


def export_checkpoint(
    folder: str | Path,
    path: str | Path,
    data: str,
    runtimes: str | Sequence[str] = (),
    labels: Sequence[str] | None = None,
    **data_arguments: Any,
) -> Path:
    """Exports a published classifier without training.

    Args:
        folder: the checkpoint, in a format of `zoo.checkpoints`.
        path: folder of the model: PATH/1, then PATH/2.
        data: a data set with the checkpoint's classes. The SavedModel is evaluated on its test split.
        runtimes: as in `zoo.export.save`.
        labels: the data's class names in the order of the checkpoint's classes; None for the names in the checkpoint.
        **data_arguments: arguments of `zoo.datasets.load`.

    Raises:
        UsageError: the checkpoint cannot be read, has no classifier or no class names, or the data has other classes.

    Example:
        >>> zoo.pipeline.export_checkpoint("my-intents", "exports/intents", "clinc_oos")
    """
    from zoo import checkpoints, datasets, evaluation
    from zoo.export import artifact

    source = datasets.load(data, **data_arguments)
    name = checkpoints.family_of(folder, source.task)
    classifier = checkpoints.find(name, folder).classifier()
    train = f"zoo train --model {name} --model.weights {folder} --data {data}"
    if classifier is None:
        raise UsageError(f"{folder} has no single-label classifier. Call {train} to train one.")
    found = classifier.labels if labels is None else tuple(labels)
    names = ", ".join(source.class_names[:5])
    if found is None:
        raise UsageError(
            f"{folder} has no class names; data set {data!r} has {names}. Pass labels={names} in the checkpoint's order."
        )
    if sorted(found) != sorted(source.class_names):
        raise UsageError(
            f"{folder} has the classes {', '.join(found[:5])}; data set {data!r} has {names}. If they mean the same, pass "
            f"labels={names} in the checkpoint's order; otherwise call {train}."
        )
    prepared = source.prepare(name, weights=str(folder), load_classifier=True)
    model = prepared.build()
    if prepared.arguments["labels"] is None:  # the checkpoint has other class names
        checkpoints.reorder_classes(model, found, source.class_names)
    report = evaluation.evaluate(model, prepared)
    return artifact.save(model, prepared.interface, path, report=report, runtimes=runtimes)


def save_huggingface(run_directory: str | Path, folder: str | Path) -> Path:
    """Writes a finished run as a folder for `transformers`. It needs neither the data set nor a network.

    Raises:
        UsageError: the run has not finished, the model has no such format, or the folder is not empty.

    Example:
        >>> save_huggingface("runs/corpus-bert_mlm", "my-bert")
        PosixPath('my-bert')
    """
    from zoo import checkpoints

    model_file, _, interface = _finished(run_directory)
    save = checkpoints.writer(interface.build["name"])
    return save(load_model(model_file), folder, interface.preprocessor.config(), interface.class_names or None)


def load_model(file: Path) -> keras.Model:
    """Loads a model that a run or `model.save` wrote, by `model_archive.load`, with this package's layers."""
    import zoo.layers
    from zoo.training.run_directory import RESTORE_MODEL

    for module in pkgutil.walk_packages(zoo.layers.__path__, "zoo.layers."):
        importlib.import_module(module.name)
    return model_archive.load(file, RESTORE_MODEL)


def _finished(run_directory: str | Path) -> tuple[Path, dict[str, Any], Interface]:
    """Returns a run's model.keras, its settings, and its interface, which belongs to that model's data."""
    from zoo.datasets.interface import Interface
    from zoo.training.run_directory import is_run, read_settings, trained_on

    directory = Path(run_directory)
    if not is_run(directory):
        raise UsageError(
            f"{directory} is not a run: it has no config.yaml of a run. Pass a folder that `zoo train` made."
        )
    if not (directory / "model.keras").is_file():
        raise UsageError(
            f"The run in {directory} has not finished training. `zoo train --config {directory / 'config.yaml'} "
            f"--run_directory {directory}` resumes it."
        )
    settings = read_settings(directory)
    plugins.check_recorded(settings.get("plugins"), f"The run in {directory}")
    interface = Interface.load(directory / "interface")
    if trained_on(directory / "model.keras") != interface.fingerprint.sha256:
        raise UsageError(
            f"{directory / 'interface'} belongs to other data than {directory / 'model.keras'}: their words and classes may "
            "have other numbers. Put the original files back, or train the model again with --overwrite."
        )
    return directory / "model.keras", settings, interface
