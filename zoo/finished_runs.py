"""Finished runs: the trained model, the settings and the interface in a run directory."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import lineage, model_archive, plugins, remote
from zoo.config import not_defaults
from zoo.errors import UsageError

if TYPE_CHECKING:
    import keras

    from zoo.datasets.interface import Interface
    from zoo.datasets.prepared import Prepared


def load_model(file: Path) -> keras.Model:
    """Loads a model that a run or `model.save` wrote, by `model_archive.load`, with what its task decided and its lineage."""
    from zoo import copies
    from zoo.training.run_directory import RESTORE_MODEL, decided

    model = model_archive.load(file, RESTORE_MODEL)
    if found := decided(file):
        copies.record_decided(model, found)
    if found := lineage.read(file.parent):
        copies.record(model, lineage.RECORD, found)
    return model


def finished(run_directory: str | Path) -> tuple[Path, dict[str, Any], Interface]:
    """Returns a run's model.keras, its settings, and its interface, which belongs to that model's data.

    Raises:
        UsageError: the folder is not a run, its training has not finished, or its parts belong to different data.
    """
    from zoo.datasets.interface import Interface
    from zoo.training.run_directory import is_run, read_settings, trained_on

    directory = remote.fetched(run_directory)
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
    if not (directory / "interface" / "interface.json").is_file() and "sha256" in settings["model"]:
        raise UsageError(
            f"The run in {directory} is of a model of your own, without raw data and a preprocessor. Call "
            "zoo.export.save(result.model, FOLDER, examples=x) to export it, or zoo.evaluate(result.model, (x, y)); "
            f"keras.saving.load_model({str(directory / 'model.keras')!r}) loads it."
        )
    plugins.check_recorded(settings.get("plugins"), f"The run in {directory}")
    interface = Interface.load(directory / "interface")
    if trained_on(directory / "model.keras") != interface.fingerprint.sha256:
        raise UsageError(
            f"{directory / 'interface'} belongs to other data than {directory / 'model.keras'}: their words and classes may "
            "have other numbers. Put the original files back, or train the model again with overwrite=True (--overwrite)."
        )
    interface = dataclasses.replace(interface, training=training_options(settings.get("config", {}), directory))
    return directory / "model.keras", settings, interface


def training_options(config: Mapping[str, Any], directory: Path) -> dict[str, Any]:
    """Returns what the model card says of a run's training: options that are no defaults, and devices if they changed.

    Args:
        config: the section `config` of its settings.
        directory: the run directory.
    """
    from zoo.training.devices import devices_of_run

    return {**not_defaults(config), **devices_of_run(directory)}


def open_run(
    run_directory: str | Path, data: Any = None, **data_arguments: Any
) -> tuple[keras.Model, Prepared, dict[str, Any]]:
    """Opens a finished run: its trained model, its data prepared in the same way, and its settings.

    Args:
        run_directory: the run's folder.
        data: for a run on data from memory, the same arrays or DataFrame; None loads the data by its name.
        **data_arguments: the arguments that came with this data, such as `test=(x_test, y_test)`.

    Raises:
        UsageError: the folder is not a run, its training has not finished, its parts belong to different data, or the
            classes or the training split of the data have changed.

    Example:
        >>> model, prepared, settings = open_run("runs/digits-cnn")
        >>> model, prepared, settings = open_run("runs/arrays", data=(x, y))
    """
    from zoo import datasets

    model_file, settings, interface = finished(run_directory)
    if data is None and data_arguments:
        raise UsageError(f"{next(iter(data_arguments))} came without data. Pass data, or leave it out.")
    arguments = {key: value for key, value in settings["model"].items() if key != "name"}
    if data is None:
        loaded = datasets.load_of_run(settings["data"], run_directory)
    else:
        recorded = {key: value for key, value in settings["data"].items() if key != "name"}
        loaded = datasets.load(data, model=settings["model"]["name"], **{**recorded, **data_arguments})
    prepared = loaded.prepared_as(interface, arguments)
    if prepared.class_names != interface.class_names or "train" in prepared.changed:
        changes = "; ".join(interface.fingerprint.changes(prepared.fingerprint))
        raise UsageError(
            f"The run in {run_directory} was trained on other data: {changes}. Metrics would be meaningless: classes may "
            "have other numbers, and training examples may be in the test split. Put the old data back. Only a separate "
            "test split (a column named split, or folders train and test) may change."
        )
    return load_model(model_file), prepared, settings


def end_run(callbacks: Any, result: Any) -> Any:
    """Calls `on_run_end` of the callbacks that have it with the result of a run; returns the result."""
    for callback in callbacks if isinstance(callbacks, (list, tuple)) else [callbacks]:
        if (hook := getattr(callback, "on_run_end", None)) is not None:
            hook(result)
    return result
