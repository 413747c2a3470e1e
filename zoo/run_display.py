"""How the results of runs show themselves: lines in a terminal; metrics, plots and files in a notebook."""

from __future__ import annotations

from typing import Any

_MOST_METRICS = 3


def as_text(result: Any) -> str:
    """Returns the run in a few lines: headline metrics, where its files are, and whether its SavedModel was verified."""
    from zoo.evaluation.display import headline_lines

    count = len(result.history)
    lines = [f"Run in {result.run_directory}, {count} epoch{'s' * (count != 1)}", *headline_lines(result.report)]
    return "\n".join(lines + [f"SavedModel: {path}, {verdict}" for path, verdict in _saved(result)])


def as_html(result: Any) -> str:
    """Returns the run for a notebook: headline metrics with baselines, plots, and where its files are."""
    from zoo import display
    from zoo.evaluation.display import headline_table

    title = display.escaped(as_text(result).splitlines()[0])
    plots = result.plots
    files = [["run", str(result.run_directory)]]
    files += [["report", str(result.run_directory / "evaluation.json")]] if result.report else []
    files += [["plots", str(result.run_directory / "plots")]] if plots else []
    files += [["SavedModel", f"{path} ({verdict})"] for path, verdict in _saved(result)]
    pictures = [plots[name].read_bytes() for name in sorted(plots, key="history".__ne__)]  # the learning curve first
    return display.stacked(
        [f"<b>{title}</b>", headline_table(result.report), display.plots(pictures), display.table(["", "where"], files)]
    )


def _saved(result: Any) -> list[tuple[str, str]]:
    """Returns the SavedModel and its verdict, if there is one."""
    if result.saved_model is None or result.verification is None:
        return []
    return [(str(result.saved_model), "verified" if result.verification.passed else "NOT VERIFIED")]


def runs_as_text(result: Any) -> str:
    """Returns a cross-validation in at most five lines: mean and standard deviation of its first metrics, each with those
    of its baselines."""
    shown: dict[str, list[str]] = {}
    for name, found in result.summary.items():
        value = f"{found['mean']:.4f} +- {found['deviation']:.4f}"
        metric = next((known for known in shown if name.startswith(f"{known}, ")), None)
        if metric is None:
            shown[name] = [f"{name}: {value}"]
        else:
            shown[metric].append(f"{value} {name.removeprefix(f'{metric}, ')}")
    lines = [
        value + (f" (baseline {', '.join(baselines)})" if baselines else "") for value, *baselines in shown.values()
    ]
    more = [f"... {len(lines) - _MOST_METRICS} more"] if len(lines) > _MOST_METRICS else []
    return "\n".join([_runs_title(result), *lines[:_MOST_METRICS], *more])


def runs_as_html(result: Any) -> str:
    """Returns a cross-validation for a notebook: a table of the metrics of every run, and their mean and deviation."""
    from zoo import display

    head = ["metric", "mean", "standard deviation", *(name.replace("-", " ") for name in result.runs)]
    rows = [
        [
            name,
            *(
                f"{value:.4f}"
                for value in (found["mean"], found["deviation"], *(run[name] for run in result.runs.values()))
            ),
        ]
        for name, found in result.summary.items()
    ]
    return display.stacked([f"<b>{display.escaped(_runs_title(result))}</b>", display.table(head, rows)])


def _runs_title(result: Any) -> str:
    verdict = "" if result.passed else ", NOT ALL VERIFIED"
    return f"{result.title} in {result.directory}{verdict}, mean and standard deviation"
