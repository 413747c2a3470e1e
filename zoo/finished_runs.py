"""Finished runs: the trained model, the settings and the interface in a run directory."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import model_archive, plugins
from zoo.config import not_defaults
from zoo.errors import UsageError

if TYPE_CHECKING:
    import keras

    from zoo.datasets.interface import Interface


def load_model(file: Path) -> keras.Model:
    """Loads a model that a run or `model.save` wrote, by `model_archive.load`, with what its task decided."""
    from zoo import copies
    from zoo.training.run_directory import RESTORE_MODEL, decided

    model = model_archive.load(file, RESTORE_MODEL)
    if found := decided(file):
        copies.record_decided(model, found)
    return model


def finished(run_directory: str | Path) -> tuple[Path, dict[str, Any], Interface]:
    """Returns a run's model.keras, its settings, and its interface, which belongs to that model's data.

    Raises:
        UsageError: the folder is not a run, its training has not finished, or its parts belong to different data.
    """
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
    interface = dataclasses.replace(interface, training=not_defaults(settings.get("config", {})))
    return directory / "model.keras", settings, interface
