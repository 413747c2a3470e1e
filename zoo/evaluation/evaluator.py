"""Evaluates a model on a split with the report of its task, and saves the report."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import storage
from zoo.errors import UsageError, one_line
from zoo.evaluation import comparison
from zoo.evaluation.baselines import chosen_baselines
from zoo.evaluation.display import EvaluationReport
from zoo.evaluation.reports import Figure, Report, get_report
from zoo.tasks import get_task

if TYPE_CHECKING:
    import keras

    from zoo.datasets.prepared import Prepared


def evaluate(
    model: keras.Model,
    data: Prepared,
    split: str = "test",
    *,
    batch_size: int = 256,
    directory: str | Path | None = None,
    baselines: str | Sequence[str] = "all",
) -> EvaluationReport:
    """Evaluates a model on a split of its prepared data, and compares it with baselines.

    Args:
        model: a model that takes the prepared data's batches.
        data: the result of `data.prepare(...)`.
        split: train, validation or test.
        batch_size: examples per forward pass; it does not affect the metrics.
        directory: folder for evaluation.json and plots/*.png (evaluation-SPLIT.json for a split other than test), usually
            the run directory; None writes nothing. If the split has changed since the run, the files are
            evaluation-changed.json and plots/*-changed.png; for other data than the run's, evaluation-DATA.json and
            plots/*-DATA.png.
        baselines: "all" fits all baselines of `zoo.evaluation.baselines` that apply to the training split; "none" fits
            none; or names. The most frequent class or the mean is part of every report.

    Returns:
        The report, a dict of plain numbers, lists and strings. A notebook shows it with its plots. Its content depends on
        the task, see the reports in `zoo.evaluation`: `classification`, `multilabel`, `values`, `tagging`, `regression`,
        `translation`, `ranking`. `intervals` holds 95 % bootstrap intervals, `baselines` the metrics of the baselines, and
        `comparison` a sentence on who is better. `also_in_train` is the number of examples that are also training examples,
        if there are any and the examples could be compared.

    Raises:
        UsageError: the split or a baseline is unknown, the split is empty, or the directory is not writable.

    Example:
        >>> report = zoo.evaluate(model, prepared, split="test")
        >>> report["accuracy"], report["baseline"]["accuracy"]
        (0.9888..., 0.1027...)
    """
    if not data.num_examples(split):
        raise UsageError(f"Split {split!r} of data set {data.data.name!r} is empty. Choose another split.")
    chosen = chosen_baselines(baselines)
    kind = get_report(data.task.report)
    report = {
        "task": data.task.name,
        "data": data.data.name,
        "split": split,
        **kind.compute(model, data, split, batch_size),
    }
    report |= comparison.compare(kind, data, split, chosen)
    changed = data.changed.get(split)
    if changed:
        report["changed_data"] = changed
    if data.other:
        report["other_data"] = data.other
    elif repeated := data.data.about.get("also_in_train", {}).get(split):
        report["also_in_train"] = repeated
    figures = comparison.completed(kind.headline(report), report)
    report["headline"] = [dataclasses.asdict(figure) for figure in figures]
    if verdict := comparison.verdict(figures, report):
        report["comparison"] = verdict
    report = EvaluationReport(_finite(report))
    if directory is not None:
        directory = Path(directory)
        try:
            (directory / "plots").mkdir(parents=True, exist_ok=True)
            suffix = _suffix(report)
            storage.write_json(report_file(report, directory), report)
            for name, draw in kind.plots.items():
                _draw(draw, report, directory / "plots" / f"{name}{suffix}.png")
        except OSError as error:
            raise UsageError(
                f"Cannot write the report to {directory}: {one_line(error)}. Pass another folder."
            ) from error
    return report


def _finite(value: Any) -> Any:
    """Returns a report with None in place of NaN and infinity, which JSON does not have."""
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _draw(draw: Callable[[Report, Path], None], report: Report, file: Path) -> None:
    """Draws a plot. One that cannot be drawn is named, and the others are drawn."""
    try:
        draw(report, file)
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001, nothing that was computed may be lost because of a plot
        print(f"The plot {file} could not be drawn: {type(error).__name__}: {one_line(error)}", flush=True)


def evaluate_run(
    model: keras.Model, data: Prepared, directory: Path, verbose: int, baselines: str | Sequence[str] = "all"
) -> Report:
    """Evaluates the model of a run on the test split, and prints the summary. A report or summary that fails is named, and
    nothing else of the run is lost: the report is then {"failure": REASON}."""
    done = ""
    try:
        report = evaluate(model, data, directory=directory, baselines=baselines)
        done = f" of {directory / 'evaluation.json'}"
        if verbose:
            print(summarize(report), flush=True)
    except UsageError:
        raise
    except Exception as error:  # noqa: BLE001, such as a fault in a plugin's report
        failure = f"The {'summary' if done else 'report'} {data.task.report!r}{done} failed: {type(error).__name__}: "
        failure += one_line(error)
        print(f"{failure}. The run goes on without it; `zoo evaluate {directory}` repeats it.", flush=True)
        return report if done else {"failure": failure}
    return report


_FORM = {"task": str, "data": str, "split": str, "headline": list}


def read_report(file: Path) -> EvaluationReport:
    """Reads an evaluation.json.

    Raises:
        UsageError: the file is damaged.
    """
    restore = f"Delete it, and run `zoo evaluate {file.parent}` to write it again."
    report = EvaluationReport(storage.read_record(file, _FORM, restore))
    try:
        summarize(report)
    except UsageError:
        raise
    except Exception as error:  # the reports of tasks and plugins differ in form
        raise UsageError(f"{file} is damaged: {type(error).__name__}: {one_line(error, 120)}. {restore}") from error
    return report


def plot_files(report: Mapping[str, Any], directory: str | Path, *, revealing: bool = True) -> dict[str, Path]:
    """Returns the plots of a run by name, for its model card: its curves, and the plots of this report.

    `revealing` includes those that show examples of the data.
    """
    plots = Path(directory) / "plots"
    if "split" not in report:
        return {}
    suffix = _suffix(report)
    kind = get_report(get_task(report["task"]).report)
    drawn = {name: plots / f"{name}{suffix}.png" for name in kind.plots if revealing or name not in kind.revealing}
    return {name: file for name, file in {"curves": plots / "history.png", **drawn}.items() if file.is_file()}


def summarize(report: Report) -> str:
    """Returns a report as a few lines for a terminal."""
    text = get_report(get_task(report["task"]).report).summary(report)
    compared = [report["comparison"]] if "comparison" in report else []
    count = report.get("also_in_train", 0)
    seen = [f"{count:,} {report['split']} examples are also in train"] if count else []
    text = "\n".join([text, *compared, *seen, *comparison.notes(report)])
    if "changed_data" not in report:
        return text
    return (
        f"The data has changed since the run: {report['changed_data']}. The run's report is unchanged; this one is in "
        f"evaluation{_suffix(report)}.json.\n{text}"
    )


def record(report: Report, directory: str | Path) -> None:
    """Writes a report again that `evaluate` wrote and a run has added to.

    Raises:
        UsageError: the directory is not writable.
    """
    try:
        storage.write_json(report_file(report, directory), report)
    except OSError as error:
        raise UsageError(f"Cannot write the report to {directory}: {one_line(error)}. Pass another folder.") from error


def standing(report: Report) -> str:
    """Returns a sentence on the first metric of a report and the best of its baselines; empty without one."""
    return "" if "failure" in report else comparison.standing(headline(report), report)


def report_file(report: Mapping[str, Any], directory: str | Path) -> Path:
    """Returns the file in which `evaluate` writes a report."""
    return Path(directory) / f"evaluation{_suffix(report)}.json"


def _suffix(report: Mapping[str, Any]) -> str:
    """The suffix of the file names of a report; empty for the run's own test split."""
    split = f"-{report['other_data']}" if "other_data" in report else ""
    split += "" if report["split"] == "test" else f"-{report['split']}"
    return f"{split}-changed" if "changed_data" in report else split


def headline(report: Report) -> list[Figure]:
    """Returns the metrics of a report for a table of results, each next to its baseline."""
    if "failure" in report:
        raise UsageError(f"{report['failure']}. Correct the report, and evaluate the run again.")
    return comparison.completed(get_report(get_task(report["task"]).report).headline(report), report)


def figures(report: Report) -> dict[str, Any]:
    """Returns the headline as plain numbers by name. The name of a baseline's value is "METRIC, BASELINE"."""
    found = {}
    for figure in headline(report):
        found[figure.metric] = figure.value
        if figure.baseline_value is not None:
            found[f"{figure.metric}, {figure.baseline}"] = figure.baseline_value
    return found
