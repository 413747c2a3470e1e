"""The file of a search, search.json: what is searched, and every trial with its values after each epoch."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo import storage
from zoo.errors import UsageError

FILE = "search.json"
RUNNING, COMPLETE, PRUNED, FAILED = "running", "complete", "pruned", "failed"
_SCHEMA = {
    "searched": dict,
    "metric": None,
    "trials": [{"number": int, "state": str, "drawn": dict, "values": [float]}],
}


@dataclasses.dataclass
class Trial:
    """A trial of a search; its run is in the folder `trial-NUMBER`.

    Attributes:
        number: counted from 0, which is the trial with the settings that were given, nothing varied.
        drawn: what was drawn for every dimension, by its full name; empty for trial 0.
        state: running, complete, pruned or failed.
        values: the metric after every epoch that was trained.
        value: the metric of the epoch that the run ended in; None until it is complete.
        epoch: this epoch, counted from 1.
        reason: why it failed.
        seconds: time that its training took, interruptions excluded.
    """

    number: int
    drawn: dict[str, Any]
    state: str = RUNNING
    values: list[float] = dataclasses.field(default_factory=list)
    value: float | None = None
    epoch: int | None = None
    reason: str = ""
    seconds: float = 0.0

    @property
    def name(self) -> str:
        """The name of its folder."""
        return f"trial-{self.number:03d}"


class Records:
    """The trials of a search, read from its folder and written after every change.

    Args:
        directory: the folder of the search.
        searched: what decides the search: model, data, options, space and seed, as JSON values.

    Raises:
        UsageError: the folder holds another search, something else, or its file is damaged.
    """

    def __init__(self, directory: Path, searched: Mapping[str, Any]) -> None:
        self.directory, self.searched = directory, dict(searched)
        self.metric: tuple[str, str] | None = None
        self.trials: list[Trial] = []
        file = directory / FILE
        if file.is_file():
            held = storage.read_record(file, _SCHEMA, "Put back a copy of it, or pass another run_directory.")
            self._check(held["searched"])
            self.metric = tuple(held["metric"]) if held["metric"] else None
            self.trials = [Trial(**facts) for facts in held["trials"]]
        elif directory.exists() and any(directory.iterdir()):
            raise UsageError(
                f"{directory} exists and is not a search: it holds files, but no {FILE}. Pass another run_directory; nothing "
                "was changed."
            )

    def _check(self, held: Mapping[str, Any]) -> None:
        for name in dict.fromkeys([*held, *self.searched]):
            old, new = held.get(name), self.searched.get(name)
            if old != new:
                raise UsageError(
                    f"{self.directory} holds a search with {name} {old!r:.200}; received {new!r:.200}. Pass the same "
                    "again to go on with it, or another run_directory for a new search."
                )

    def write(self) -> None:
        """Writes the file."""
        content = {
            "searched": self.searched,
            "metric": list(self.metric) if self.metric else None,
            "trials": [dataclasses.asdict(trial) for trial in self.trials],
        }
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            storage.write_json(self.directory / FILE, content)
        except OSError as error:
            raise UsageError(
                f"Cannot write {self.directory / FILE}: {error.strerror}. Make room, or pass another folder."
            ) from error

    @property
    def finished(self) -> list[Trial]:
        """The trials that are not running."""
        return [trial for trial in self.trials if trial.state != RUNNING]

    def best(self) -> Trial | None:
        """Returns the best complete trial, the earliest of equal ones; None before the first."""
        return best_of(self.trials, self.metric[1]) if self.metric else None


def best_of(trials: Sequence[Trial], direction: str) -> Trial | None:
    """Returns the best complete trial; `direction` is max or min."""
    sign = 1.0 if direction == "max" else -1.0
    complete = [trial for trial in trials if trial.state == COMPLETE and trial.value is not None]
    return max(complete, key=lambda trial: (sign * float(trial.value or 0.0), -trial.number), default=None)


class Clock:
    """Adds the time of a block to a trial."""

    def __init__(self, trial: Trial) -> None:
        self._trial, self._begun = trial, time.monotonic()

    def stop(self) -> None:
        """Adds the time since the last call."""
        now = time.monotonic()
        self._trial.seconds, self._begun = round(self._trial.seconds + now - self._begun, 3), now
