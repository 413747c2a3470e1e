"""Runs a model over a split and reports what its task asks for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import storage
from zoo.errors import UsageError, one_line
from zoo.evaluation import classification, plots
from zoo.tasks import get_task, output_name

if TYPE_CHECKING:
    import keras

    from zoo.datasets.data import Prepared

Report = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class ReportKind:
    """How a kind of report is made, told in a few lines, and drawn."""

    compute: Callable[..., Report]
    summary: Callable[[Report], str]
    plots: dict[str, Callable[[Report, Path], None]]


REPORTS: dict[str, ReportKind] = {
    "classification": ReportKind(
        compute=classification.classification_report,
        summary=classification.summary,
        plots={"confusion_matrix": plots.plot_confusion_matrix, "reliability": plots.plot_reliability},
    ),
}
"""The kinds of report by the name that a task's `report` uses."""


def evaluate(
    model: keras.Model,
    data: Prepared,
    split: str = "test",
    *,
    batch_size: int = 256,
    directory: str | Path | None = None,
) -> Report:
    """Evaluates a model on a split of its prepared data.

    Args:
        model: a model that takes the prepared data's batches.
        data: what `data.prepare(...)` returned.
        split: train, validation or test.
        batch_size: examples per forward pass; it does not change the figures.
        directory: where evaluation.json and plots/*.png go (evaluation-SPLIT.json for another split than test), usually
            the run directory; None writes nothing.

    Returns:
        The report as plain numbers, lists and strings; see `zoo.evaluation.classification.classification_report`.

    Raises:
        UsageError: unknown or empty split, or a directory that cannot be written.

    Example:
        >>> report = zoo.evaluate(model, prepared, split="test")
        >>> report["accuracy"], report["baseline"]["accuracy"]
        (0.9888..., 0.1027...)
    """
    targets, predictions, weights = _predict(model, data, split, batch_size)
    kind = REPORTS[data.task.report]
    report = {
        "task": data.task.name,
        "data": data.data.name,
        "split": split,
        **kind.compute(
            targets,
            predictions,
            data.data.class_names,
            weights=weights,
            train_class_counts=data.target_counts("train"),
        ),
    }
    if directory is not None:
        directory = Path(directory)
        try:
            (directory / "plots").mkdir(parents=True, exist_ok=True)
            suffix = "" if split == "test" else f"-{split}"
            storage.write_json(directory / f"evaluation{suffix}.json", report)
            for name, draw in kind.plots.items():
                draw(report, directory / "plots" / f"{name}{suffix}.png")
        except OSError as error:
            raise UsageError(
                f"Cannot write the report to {directory}: {one_line(error)}. Pass another folder."
            ) from error
    return report


def summarize(report: Report) -> str:
    """Returns a report as a few lines for a terminal."""
    return REPORTS[get_task(report["task"]).report].summary(report)


def _predict(model: keras.Model, data: Prepared, split: str, batch_size: int) -> tuple[Any, Any, Any]:
    """Returns targets, predictions and weights (None where there are none) of a whole split as arrays."""
    import numpy as np
    import tensorflow as tf

    if not data.num_examples(split):
        raise UsageError(f"Split {split!r} of data set {data.data.name!r} is empty. Choose another split.")
    name = output_name(model)

    # Traced over a dynamic batch: Keras's own evaluation of a fixed one counts a phantom batch.
    @tf.function(reduce_retracing=True)
    def forward(inputs: Any) -> Any:
        return data.task.prediction({name: model(inputs, training=False)})

    columns: list[list[Any]] = [[], [], []]
    for inputs, targets, *weights in data.batches(split, batch_size):
        for column, part in zip(columns, (targets, forward(inputs), *weights), strict=False):
            column.append(np.asarray(part))
    targets, predictions, weights = (np.concatenate(c) if c else None for c in columns)
    return targets, predictions, weights
