"""Runs that train, evaluate, export and verify a model in one call, and functions on finished runs."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import datasets, environment, lineage, option_words, registry, remote, storage
from zoo.config import TrainConfig, as_config
from zoo.errors import UsageError
from zoo.finished_runs import end_run, finished, load_model, training_options
from zoo.finished_runs import open_run as open_run
from zoo.preparation import Preparation, choose_model, default_directory, golden_of, opened, prepare_run, record_golden
from zoo.run_arguments import check_data, check_devices

if TYPE_CHECKING:
    import keras

    from zoo.datasets.prepared import Prepared
    from zoo.export.verification import Verification
    from zoo.starting_point import StartFrom


@dataclasses.dataclass(frozen=True, repr=False)
class RunResult:
    """The result of a run.

    Attributes:
        run_directory: the folder with all files of the run.
        history: a dict per epoch.
        report: the evaluation on the test split.
        saved_model: the version folder of the verified SavedModel, None without export.
        verification: the result of its verification, None without export.
        request: placeholder for the input of `zoo predict`, such as FILE or "a text".
        model: the trained model, with the weights that were evaluated and exported.
        prepared: the data, prepared for the model.
    """

    run_directory: Path
    history: list[dict[str, float]]
    report: dict[str, Any]
    saved_model: Path | None
    verification: Verification | None
    request: str = ""
    model: keras.Model = None
    prepared: Prepared | None = None

    def __repr__(self) -> str:
        from zoo import run_display

        return run_display.as_text(self)

    def _repr_html_(self) -> str:
        from zoo import run_display

        return run_display.as_html(self)

    @property
    def plots(self) -> dict[str, Path]:
        """The PNG files of the run by name, such as `history` and `confusion_matrix`."""
        return {file.stem: file for file in sorted((self.run_directory / "plots").glob("*.png"))}


def run(
    model: str | None = None,
    data: Any = None,
    *,
    validation: Any = None,
    test: Any = None,
    config: TrainConfig | Mapping[str, Any] | None = None,
    model_arguments: Mapping[str, Any] | None = None,
    data_arguments: Mapping[str, Any] | None = None,
    run_directory: str | Path | None = None,
    start_from: StartFrom | None = None,
    golden: Any = None,
    export: bool = True,
    overwrite: bool = False,
    verbose: int = 1,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    baselines: str | Sequence[str] = "all",
    licence: str | None = None,
    **devices: Any,
) -> RunResult:
    """Trains, evaluates, exports and verifies. The same call resumes a run that was killed.

    With several workers, each worker makes this call. Only worker 0 evaluates, exports and writes files.

    Args:
        model: a registered model's name; None for the default model of the data's task, which is printed.
        data: a data set's name; arrays as a pair (x, y), see `zoo.datasets.from_arrays`; a pandas DataFrame; or a data set
            of another library, see `zoo.datasets.from_dataset`.
        validation: the validation split, for data from memory: inputs and targets, or another such data set.
        test: the test split, in the same form.
        config: the training options, as `TrainConfig` or as a dict of its fields.
        model_arguments: arguments of the model's builder.
        data_arguments: arguments of `zoo.datasets.load`.
        run_directory: folder of the run, also of an object store, such as s3://bucket/run; None for runs/DATA-MODEL.
        start_from: folder of a finished run. The new run begins with its weights, vocabulary and arguments of the builder;
            the optimizer is new. Weights that belong to other classes than the data's are new, and are named.
        golden: what the SavedModel publishes as golden examples: a list of requests, a list with one .npz file of them,
            `generated` for requests that are made up, or `test` for test examples. The run records it, and None takes what
            it has recorded, else test examples.
        export: whether to write and verify a SavedModel in RUN_DIRECTORY/saved_model.
        overwrite: whether to delete an earlier run in the directory.
        verbose: 1 for progress bar and reports, 2 for a line per epoch, 0 for no output.
        callbacks: Keras callbacks for training; a method `on_run_end` of one is called with the result, after the export.
        baselines: simple methods that the report compares the model with: "all" that apply, "none", or names.
        licence: the licence of the model, such as Apache-2.0, which the run records for the model card and zoo.json.
        **devices: further arguments of `zoo.strategy`: cluster, task_index, cluster_timeout, gpu_memory_limit.

    Raises:
        UsageError: an argument is invalid or cannot be used; the message says what to type next.

    Example:
        >>> result = zoo.run("cnn", "digits", config=zoo.TrainConfig(epochs=15))
        >>> result.report["accuracy"], result.saved_model
        (0.98..., PosixPath('runs/digits-cnn/saved_model/1'))
        >>> result = zoo.run("cnn", (x_train, y_train), test=(x_test, y_test), run_directory="runs/mine")
    """
    licence, config = lineage.check_licence(licence), as_config(config)
    with opened(run_directory, config, devices) as local:
        ready, directory = begin(
            model,
            data,
            config,
            given={"validation": validation, "test": test},
            model_arguments=model_arguments,
            data_arguments=data_arguments,
            run_directory=local,
            start_from=start_from,
            golden=golden,
            export=export,
            overwrite=overwrite,
            baselines=baselines,
            devices=devices,
            verbose=verbose,
        )
        training: dict[str, Any] = {"overwrite": overwrite, "verbose": verbose, "callbacks": callbacks}
        return _run(ready, directory, training, export=export, golden=golden, baselines=baselines, licence=licence)


def _run(
    ready: Preparation,
    directory: Path,
    given: Mapping[str, Any],
    *,
    export: bool,
    golden: Any,
    baselines: str | Sequence[str],
    licence: str | None,
) -> RunResult:
    """Trains, evaluates and exports what `begin` has prepared; `given` are arguments of `zoo.train`."""
    from zoo import conclusions, evaluation, training
    from zoo.training.run_directory import in_use

    prepared, network, chief, config = ready.prepared, ready.network, ready.workers.chief, ready.config
    _say(ready.describe(directory) if chief else ready.cluster, given["verbose"])
    verbose = given["verbose"] if chief else 0
    del ready  # which holds the weights of `start_from` a second time
    trained = training.train(network, prepared, config, run_directory=directory, **{**given, "verbose": verbose})
    if not chief:
        return RunResult(directory, trained.history, {}, None, None, "", trained.model, prepared)
    with in_use(directory):
        lineage.record_licence(network := trained.model, licence, directory)
        report = evaluation.evaluate_run(network, prepared, directory, verbose, baselines)
        concluded = conclusions.of_run(trained, prepared, config, report, directory, export=export)
        saved = verification = None
        if export:
            golden = prepared.golden if golden is None else golden
            saved, verification = _export(network, config, directory, report, golden, verbose)
    _say(concluded, verbose)
    ended = (report, saved, verification, _typed(prepared), network, prepared)
    return end_run(given["callbacks"], RunResult(directory, trained.history, *ended))


def _say(text: str, verbose: int) -> None:
    if verbose:
        print(text, flush=True)


def _typed(prepared: Prepared) -> str:
    """Returns what stands for an input on the command line."""
    known = prepared.preprocessor.requests
    typed: str = known[prepared.task.signatures["serving_default"].takes(known)[0]].typed
    return typed


def begin(
    model: str | None,
    data: Any,
    config: TrainConfig,
    *,
    given: Mapping[str, Any],
    model_arguments: Mapping[str, Any] | None,
    data_arguments: Mapping[str, Any] | None,
    run_directory: str | Path | None,
    start_from: StartFrom | None,
    golden: Any,
    export: bool,
    overwrite: bool,
    baselines: str | Sequence[str],
    devices: Mapping[str, Any],
    verbose: int = 1,
) -> tuple[Preparation, Path]:
    """Checks the arguments of `run` and prepares it; returns the preparation and the folder. It writes nothing.

    Args:
        given: further splits of arrays by name; None for one that was not given.
        **others: as in `run`.

    Raises:
        UsageError: as in `run`.
    """
    splits = {name: part for name, part in given.items() if part is not None}
    loading = {**(data_arguments or {}), **splits}
    check_data(model, data)
    source = data  # whose name the folder has
    check_devices(devices, model, inspect.signature(run).parameters)
    if model is None:
        with option_words.read_by(option_words.RUN):
            model, data = choose_model(data, config, loading, devices, verbose)
        loading = {}
    registry.check_arguments(registry.get_spec(model), model_arguments or {})
    directory = Path(run_directory) if run_directory else default_directory(model, source)
    environment.check(directory)

    from zoo.evaluation.baselines import chosen_baselines
    from zoo.export import publishing

    chosen_baselines(baselines)

    if export:
        publishing.check_folder(directory / "saved_model")
    golden = golden_of(directory, golden, overwrite)
    with option_words.read_by(option_words.RUN):
        ready = prepare_run(
            model,
            data,
            directory,
            config,
            model_arguments=model_arguments or {},
            data_arguments=loading,
            start_from=start_from,
            overwrite=overwrite,
            devices=devices,
            verbose=verbose,
        )
    if golden is not None:
        record_golden(ready.prepared, golden, export)
    return ready, directory


def _export(
    network: keras.Model, config: TrainConfig, directory: Path, report: Mapping[str, Any], golden: Any, verbose: int
) -> tuple[Path, Verification]:
    """Exports into the run and verifies. An existing version with the same content is verified again instead."""
    from zoo import evaluation
    from zoo.datasets.interface import Interface
    from zoo.export import artifact, artifact_paths, raw_requests
    from zoo.export.extras.card import model_card
    from zoo.export.verification import Verification, verify

    interface = Interface.load(directory / "interface")
    interface = dataclasses.replace(interface, training=training_options(config.to_dict(), directory))
    report = {} if "failure" in report else report
    base = directory / "saved_model"
    numbers = artifact_paths.versions(base)
    newest = base / str(numbers[-1] if numbers else 1)
    facts_file = newest / artifact_paths.EXTRA / "zoo.json"
    facts = storage.read_json(facts_file) if facts_file.is_file() else {}
    expected = {"weights_sha256": artifact.weights_hash(network), "data_sha256": interface.fingerprint.sha256}
    other = any(facts.get(name) != value for name, value in expected.items())
    other = other or (facts.get("lineage") or {}).get("licence") != lineage.of(network).get("licence")
    if other or not raw_requests.publishes(newest, interface, golden):
        figures = evaluation.plot_files(report, directory, revealing=raw_requests.is_test(golden))
        newest = artifact.save(
            network, base, interface=interface, golden=golden, report=report, figures=figures, verbose=verbose
        )
        place = newest.relative_to(directory).as_posix()
        storage.write_text(directory / "README.md", model_card(newest, report, place=place))
        verification = Verification.read(newest)  # `save` has just verified it
    else:
        verification = verify(newest, runtimes=())
    _say(verification.table(), verbose)
    return newest, verification


def export_run(
    run_directory: str | Path,
    path: str | Path,
    runtimes: str | Sequence[str] = (),
    *,
    golden: Any = None,
    corpus: str | None = None,
    licence: str | None = None,
) -> Path:
    """Exports a finished run to another folder. It needs neither the data set nor a network. `runtimes` and
    `licence` are as in `zoo.export.save`, the latter by default the one that the run has recorded; `golden` is as in
    `zoo.run`; `corpus` is as in `corpus_search.with_corpus`.

    Raises:
        UsageError: as in `open_run` and `zoo.export.save`.
    """
    from zoo import corpus_search, evaluation
    from zoo.export import artifact, raw_requests

    run_directory = remote.fetched(run_directory)
    model_file, _, interface = finished(run_directory)
    model = load_model(model_file)
    interface = corpus_search.searching(model, interface, corpus)
    report_file = Path(run_directory) / "evaluation.json"
    report = evaluation.read_report(report_file) if report_file.exists() else None
    golden = golden_of(Path(run_directory), golden)
    figures = evaluation.plot_files(report, run_directory, revealing=raw_requests.is_test(golden)) if report else {}
    shown: dict[str, Any] = {"golden": golden, "report": report, "figures": figures, "licence": licence}
    return artifact.save(model, path, interface=interface, runtimes=runtimes, **shown)


def export_checkpoint(
    folder: str | Path,
    path: str | Path,
    data: str,
    runtimes: str | Sequence[str] = (),
    labels: Sequence[str] | None = None,
    *,
    golden: Any = None,
    licence: str | None = None,
    **data_arguments: Any,
) -> Path:
    """Exports a published classifier without training.

    Args:
        folder: the checkpoint, in a format of `zoo.checkpoints`, or its name, such as hf:ORG/NAME.
        path: folder of the model: PATH/1, then PATH/2.
        data: a data set with the checkpoint's classes. The SavedModel is evaluated on its test split.
        runtimes: as in `zoo.export.save`.
        labels: the data's class names in the order of the checkpoint's classes; None for the names in the checkpoint.
        golden: as in `zoo.export.save`.
        licence: as in `zoo.export.save`.
        **data_arguments: arguments of `zoo.datasets.load`.

    Raises:
        UsageError: the checkpoint cannot be read, has no classifier or no class names, or the data has other classes.

    Example:
        >>> zoo.pipeline.export_checkpoint("my-intents", "exports/intents", "clinc_oos")
    """
    from zoo import checkpoints, copies, evaluation, tasks
    from zoo.export import artifact

    source = datasets.load(data, **data_arguments)
    published = checkpoints.locate(folder)
    weights = published.name if published else str(folder)
    folder = published.path if published else folder
    name = checkpoints.family_of(folder, source.task)
    classifier = checkpoints.find(name, folder).classifier()
    train = f"zoo train --model {name} --model.weights {weights} --data {data}"
    several = tasks.get_task(source.task).objective.labels is not None
    if classifier is None or classifier.several != several:
        kind = "multi-label" if several else "single-label"
        raise UsageError(f"{folder} has no {kind} classifier. Call {train} to train one.")
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
    prepared = source.prepare(name, weights=weights, load_classifier=True)
    model = prepared.build()
    if prepared.arguments["labels"] is None:  # the checkpoint has other class names
        checkpoints.reorder_classes(model, found, source.class_names)
    copies.record_decided(model, prepared.decide(model))
    report = evaluation.evaluate(model, prepared)
    shown: dict[str, Any] = {"golden": golden, "report": report, "licence": licence}
    return artifact.save(model, path, interface=prepared.interface, runtimes=runtimes, **shown)


def save_huggingface(run_directory: str | Path, folder: str | Path) -> Path:
    """Writes a finished run as a folder for `transformers`. It needs neither the data set nor a network.

    Raises:
        UsageError: the run has not finished, the model has no such format, or the folder is not empty.

    Example:
        >>> save_huggingface("runs/corpus-bert_mlm", "my-bert")
        PosixPath('my-bert')
    """
    from zoo import checkpoints

    model_file, _, interface = finished(run_directory)
    save = checkpoints.writer(interface.build["name"])
    return save(load_model(model_file), folder, interface.preprocessor.config(), interface.class_names or None)
