"""The result of a search."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.display import number_text
from zoo.tuning.records import COMPLETE, FAILED, Trial

if TYPE_CHECKING:
    from zoo.cross_validation import CrossValidation


@dataclasses.dataclass(frozen=True, repr=False)
class Tuned:
    """The result of `tune`.

    Attributes:
        directory: the folder of the search: search.json, search.png, a run for each trial, and `best` with the final runs.
        metric: the metric of the validation split that was searched for, and its direction, max or min.
        trials: the trials in order. The first one has the settings that were given.
        best: the best one.
        settings: the best settings: `config` and `model`, what the search chose of the options and of the arguments.
        final: the runs with the best settings and other seeds, with their metrics on the test split; None with no seeds.
    """

    directory: Path
    metric: tuple[str, str]
    trials: Sequence[Trial]
    best: Trial
    settings: Mapping[str, Mapping[str, Any]]
    final: CrossValidation | None

    def __repr__(self) -> str:
        return self.table()

    def to_dict(self) -> dict[str, Any]:
        """Returns everything as values that JSON holds."""
        final = None if self.final is None else {"runs": self.final.runs, "summary": self.final.summary}
        return {
            "directory": str(self.directory),
            "metric": list(self.metric),
            "trials": [dataclasses.asdict(trial) for trial in self.trials],
            "best": self.best.number,
            "settings": {section: dict(values) for section, values in self.settings.items()},
            "final": final,
        }

    def table(self) -> str:
        """Returns the trials, the best settings and the metrics of the final runs as lines for a terminal."""
        names = list(dict.fromkeys(name for trial in self.trials for name in trial.drawn))
        head = ["trial", self.metric[0], "epochs", "state", *(name.partition(".")[2] for name in names)]
        rows = [
            [
                f"{trial.number}{' *' if trial is self.best else ''}",
                "" if trial.value is None else number_text(trial.value),
                f"{len(trial.values)}",
                trial.state,
                *(shown(trial.drawn.get(name, "")) for name in names),
            ]
            for trial in self.trials
        ]
        widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in [head, *rows]
        ]
        chosen = ", ".join(
            f"{section}.{name} {value}" for section, values in self.settings.items() for name, value in values.items()
        )
        default = next((trial for trial in self.trials if not trial.drawn and trial.state == COMPLETE), None)
        value = number_text(self.best.value or 0.0)
        lines += ["", f"Best: trial {self.best.number}, {self.metric[0]} {value} on the validation split"]
        if default is not None and default is not self.best:
            lines[-1] += f"; {number_text(default.value or 0.0)} with the settings that were given"
        lines.append(f"Settings: {chosen or 'those that were given'}")
        return "\n".join([*lines, *(["", "On the test split:", self.final.table()] if self.final else [])])


def shown(value: Any) -> str:
    """Returns a value of a trial in a table, numbers with three digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def line(trial: Trial, metric: str) -> str:
    """Returns a finished trial as one line, printed while the search runs."""
    drawn = ", ".join(f"{name.partition('.')[2]} {shown(value)}" for name, value in trial.drawn.items())
    what = drawn or "the settings that were given"
    if trial.state == FAILED:
        return f"trial {trial.number} failed: {trial.reason} ({what})"
    if trial.value is None:
        last = f"{metric} {number_text(trial.values[-1])}"
        return f"trial {trial.number} pruned after epoch {len(trial.values)}: {last} ({what})"
    return f"trial {trial.number}: {metric} {number_text(trial.value)}, epoch {trial.epoch} of {len(trial.values)} ({what})"
