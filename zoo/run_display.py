"""How the result of a run shows itself: lines in a terminal; figures, plots and files in a notebook."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def _figures(result: Any) -> Iterator[list[str]]:
    """Yields the headline of the report: metric, value, and its baseline."""
    for figure in result.report.get("headline", ()):
        value, base = figure["value"], figure["baseline_value"]
        beside = f"{base:.4f} {figure['baseline']}" if base is not None else ""
        yield [figure["metric"], "" if value is None else f"{value:.4f}", beside]


def as_text(result: Any) -> str:
    """Returns the run in a few lines: headline figures, where its files are, and whether its SavedModel was verified."""
    lines = [f"Run in {result.run_directory}, {len(result.history)} epochs"]
    lines += [f"{name}: {value}" + (f" (baseline {base})" if base else "") for name, value, base in _figures(result)]
    if result.saved_model is not None and result.verification is not None:
        verdict = "verified" if result.verification.passed else "NOT VERIFIED"
        lines.append(f"SavedModel: {result.saved_model}, {verdict}")
    return "\n".join(lines)


def as_html(result: Any) -> str:
    """Returns the run for a notebook: headline figures with baselines, plots, and where its files are."""
    from zoo.datasets import display

    parts = [display.table(["metric", "value", "baseline"], list(_figures(result)))]
    parts += [display.picture(file.read_bytes(), 280) for file in result.plots.values()]
    files = [["run", str(result.run_directory)]]
    if result.saved_model is not None and result.verification is not None:
        verdict = "verified" if result.verification.passed else "NOT VERIFIED"
        files.append(["SavedModel", f"{result.saved_model} ({verdict})"])
    return "".join(parts) + display.table(["", "where"], files)
