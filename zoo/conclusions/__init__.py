"""The lines that end a run: what was exported, how it compares, and the one option most likely to help."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.conclusions.advice import advise
from zoo.conclusions.exported import describe_exported
from zoo.conclusions.facts import Facts
from zoo.conclusions.gathering import gather
from zoo.option_words import in_words

if TYPE_CHECKING:
    from zoo.config import TrainConfig
    from zoo.datasets.prepared import Prepared
    from zoo.training.protocols import TrainResult

__all__ = ["Facts", "advise", "conclude", "describe_exported", "gather", "lines", "of_run"]

_TITLES = {"exported": "Exported:", "compared": "Compared:", "advice": "Try next:"}


def conclude(facts: Facts, compared: str) -> dict[str, str]:
    """Returns the conclusions of a run by name; those with nothing to say are left out.

    Args:
        facts: its figures.
        compared: how the model compares with the best baseline, see `zoo.evaluation.comparison.standing`.

    Example:
        >>> conclude(Facts(history=[{"epoch": 1}], epochs=1, exported=1), "")
        {'exported': 'epoch 1 of 1, the last one'}
    """
    found = {"exported": describe_exported(facts), "compared": compared, "advice": advise(facts)}
    return {name: text for name, text in found.items() if text}


def of_run(
    trained: TrainResult,
    prepared: Prepared,
    config: TrainConfig,
    report: dict[str, Any],
    directory: Path,
    *,
    export: bool = True,
) -> str:
    """Returns the lines that end a run, and adds its conclusions to its report.

    Args:
        trained: the result of the training.
        prepared: the data.
        config: the options, complete.
        report: the report on the test split, or {"failure": REASON}.
        directory: the run's folder.
        export: whether the run writes a SavedModel.
    """
    from zoo import evaluation

    found = conclude(gather(trained, prepared, config), evaluation.standing(report))
    if "failure" not in report:
        report["conclusions"] = found
        evaluation.record(report, directory)
    return lines(found, export=export)


def lines(conclusions: Mapping[str, str], *, export: bool = True) -> str:
    """Returns the conclusions as lines, with options in the words of the caller: of the command line, or of Python.

    Example:
        >>> lines({"exported": "epoch 1 of 1, the last one"})
        'Exported:   epoch 1 of 1, the last one'
    """
    titles = _TITLES if export else {**_TITLES, "exported": "Model:"}
    return "\n".join(
        f"{title:<12}{in_words(conclusions[name])}" for name, title in titles.items() if name in conclusions
    )
