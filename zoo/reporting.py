"""Reports of runs and models on any data: the run's own, another data set, or arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.errors import UsageError
from zoo.finished_runs import finished, load_model, open_run
from zoo.other_data import prepare_other
from zoo.pipeline import RunResult

if TYPE_CHECKING:
    import keras

    from zoo.datasets.prepared import Prepared
    from zoo.evaluation.reports import Report


def evaluate(
    model: keras.Model | RunResult | str | Path,
    data: Any = None,
    split: str = "test",
    *,
    batch_size: int = 256,
    directory: str | Path | None = None,
    baselines: str | Sequence[str] = "all",
    **data_arguments: Any,
) -> Report:
    """Evaluates a run or a model on a split of its own data, or on any other data.

    | model | data | report |
    |---|---|---|
    | a run: its folder, or what `zoo.run` returned | None | of a split of the run's data |
    | a run | a data set's name, arrays (x, y), a DataFrame, a loaded data set | of these raw examples |
    | a SavedModel: its folder | the same; None if it is in the folder of its run | of its own outputs |
    | a Keras model | what `data.prepare(...)` returned | of a split of this data |
    | a Keras model | what `zoo.train` takes, such as (x, y) | the loss and metrics on these model inputs |

    Args:
        model: the run or model.
        data: the data. A run's preprocessor, vocabulary and classes are used for any data; class numbers in arrays are those
            of the run.
        split: train, validation or test; or all examples of other data. Other files and arrays without splits are one
            split, test.
        batch_size: examples per forward pass; it does not affect the metrics.
        directory: folder for the files of the report, see `zoo.evaluation.evaluate`; None writes nothing. The report of
            other data is in evaluation-DATA.json, next to the run's own.
        baselines: simple methods that the report compares the model with: "all" that apply, "none", or names.
        **data_arguments: arguments of `zoo.datasets.load`. Another CSV file has the columns, window and horizon of the run's,
            unless they are given.

    Returns:
        The report as plain numbers, lists and strings, see `zoo.evaluation.evaluate`. Its baselines are from the run's
        training split, if that can be loaded.

    Raises:
        UsageError: the data has classes that the run does not know, is for another task or does not fit the model, or the
            split is unknown or empty.

    Example:
        >>> zoo.evaluate("runs/digits-cnn", (images, labels))["accuracy"]
        0.97...
        >>> zoo.evaluate("runs/mails", "csv:this_week.csv", columns={"text": "body", "label": "kind"})["accuracy"]
        >>> zoo.evaluate(model, (inputs, targets))["loss"]
    """
    from zoo import evaluation

    is_prepared = hasattr(data, "preprocessor") and hasattr(data, "task")
    if not isinstance(model, (RunResult, str, Path)):
        if data_arguments:
            raise UsageError(f"{next(iter(data_arguments))} belongs to the data of a run. Leave it out for a model.")
        if is_prepared:
            return evaluation.evaluate(
                model, data, split, batch_size=batch_size, directory=directory, baselines=baselines
            )
        return _measured(model, data, split, batch_size, directory)
    network, prepared, split = _of_run(model, data.data if is_prepared else data, split, data_arguments)
    return evaluation.evaluate(
        network, prepared, split, batch_size=batch_size, directory=directory, baselines=baselines
    )


def _of_run(
    run: RunResult | str | Path, data: Any, split: str, arguments: dict[str, Any]
) -> tuple[keras.Model, Prepared, str]:
    """Returns the model of a run, its own or other data prepared for it, and the name of the split."""
    from zoo.training.run_directory import is_run

    result = run if isinstance(run, RunResult) and run.model is not None and run.prepared is not None else None
    directory = Path(run.run_directory if isinstance(run, RunResult) else run)
    if result is None and not is_run(directory) and directory.exists():
        return _of_saved_model(directory, data, split, arguments)
    if data is None:
        if arguments:
            raise UsageError(f"{next(iter(arguments))} came without data. Pass data, or leave it out.")
        model, prepared = (result.model, result.prepared) if result and result.prepared else open_run(directory)[:2]
        return model, prepared, split
    file, settings, interface = finished(directory)
    own = result.prepared.data if result and result.prepared else None
    prepared, split = prepare_other(data, split, interface, directory, settings["data"], arguments, own)
    model = result.model if result else load_model(file)
    prepared.check_fits(model)
    return model, prepared, split


def _of_saved_model(directory: Path, data: Any, split: str, arguments: dict[str, Any]) -> tuple[Any, Prepared, str]:
    """Returns a SavedModel as a model, the data of its run or other data prepared for it, and the name of the split."""
    from zoo.analysis.answers import shared_data
    from zoo.analysis.served_network import ServedNetwork
    from zoo.analysis.sides import open_side

    side = open_side(directory)
    prepared, _, split = shared_data((side,), data, split, arguments)
    return ServedNetwork(side), prepared, split


def _measured(model: keras.Model, data: Any, split: str, batch_size: int, directory: Any) -> Report:
    """Returns loss and metrics of a model on model inputs."""
    from zoo.training.measuring import measure

    if data is None or isinstance(data, str) or hasattr(data, "splits") or hasattr(data, "iloc"):
        came = "no data" if data is None else f"{data!r:.60}" if isinstance(data, str) else f"a {type(data).__name__}"
        raise UsageError(
            f"A model came with {came}; a model alone has no preprocessor for raw examples. Pass the run in place of the "
            "model, its folder or what zoo.run returned; or pass what data.prepare(...) returned, or model inputs (x, y)."
        )
    if directory is not None or split != "test":
        name = "directory" if directory is not None else "split"
        raise UsageError(f"{name} came with model inputs, which have none. Leave {name} out, or pass a run.")
    _check_range(model, data)
    return measure(model, data, batch_size)


def _check_range(model: keras.Model, data: Any) -> None:
    """Raises UsageError if x is far outside of the inputs that the model was trained on, such as pixels up to 255."""
    inputs = (getattr(model, "_zoo_trained", None) or {}).get("inputs") or []
    x = data[0] if isinstance(data, (tuple, list)) and len(data) else None
    if (
        len(inputs) != 1
        or inputs[0] is None
        or not isinstance(x, np.ndarray)
        or x.dtype.kind not in "biuf"
        or not x.size
    ):
        return
    low, high = inputs[0]["low"], inputs[0]["high"]
    found, span = (float(x.min()), float(x.max())), max(high - low, 1e-6)
    if found[0] < low - 10 * span or found[1] > high + 10 * span:
        raise UsageError(
            f"x has values from {found[0]:g} to {found[1]:g}; the model was trained on inputs from {low:g} to {high:g}. Pass "
            "model inputs, or pass the run in place of the model, which preprocesses raw examples."
        )
