"""The devices that a run was trained on, which may change while it is trained."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

COLUMNS = ("replicas", "workers")
"""Columns of history.csv, which a run has whose devices changed."""


@dataclasses.dataclass(frozen=True)
class Devices:
    """A number of devices, and the position from which on a run was trained on them.

    Attributes:
        epoch: number of epochs that were done.
        step: number of steps of the epoch that were done.
        replicas: number of devices, over all workers.
        workers: number of processes.
        compiled: whether XLA compiled the steps.
    """

    epoch: int
    step: int
    replicas: int
    workers: int
    compiled: bool = False

    def __str__(self) -> str:
        many = "1 replica" if self.replicas == 1 else f"{self.replicas} replicas"
        return many if self.workers == 1 else f"{many} in {self.workers} workers"


class DeviceRecord:
    """The devices of a run, one after the other.

    Args:
        replicas: number of devices now.
        workers: number of processes now.
        compiled: whether XLA compiles the steps now.
    """

    def __init__(self, replicas: int, workers: int, compiled: bool) -> None:
        self._now = Devices(0, 0, replicas, workers, compiled)
        self._all, self._moved = [self._now], False

    def restore(self, state: Sequence[Mapping[str, Any]], epoch: int, step: int) -> None:
        """Takes over the record of a checkpoint, and adds the devices that the run has from this position on."""
        known = [Devices(**part) for part in state]
        if not known:  # a checkpoint of an earlier version
            return
        now = dataclasses.replace(self._now, epoch=epoch, step=step)
        same = dataclasses.replace(known[-1], epoch=epoch, step=step) == now
        self._all, self._moved = known if same else [*known, now], not same

    def state(self) -> list[dict[str, Any]]:
        """Returns the record as JSON knows it."""
        return [dataclasses.asdict(part) for part in self._all]

    @property
    def changed(self) -> bool:
        """Whether the run has had several numbers of devices."""
        return len({(part.replicas, part.workers) for part in self._all}) > 1

    @property
    def draws_changed(self) -> bool:
        """Whether XLA compiled only a part of the run: it draws other random numbers than TensorFlow's kernels."""
        return len({part.compiled for part in self._all}) > 1

    def describe_change(self) -> str:
        """Returns a sentence if the devices are others than before the run was resumed, else nothing."""
        if not self._moved or str(self._all[-2]) == str(self._all[-1]):
            return ""
        before, now = self._all[-2:]
        return f" The devices changed from {before} to {now}; batches, their order and random draws stay the same."

    def with_columns(self, rows: Sequence[Mapping[str, float]]) -> list[dict[str, float]]:
        """Returns the rows of a history, each with the devices at the end of its epoch if they have changed."""
        if not self.changed:
            return [dict(row) for row in rows]
        return [{**row, **self._columns(int(row["epoch"]))} for row in rows]

    def _columns(self, epoch: int) -> dict[str, float]:
        last = [part for part in self._all if part.epoch < epoch][-1]
        return {"replicas": last.replicas, "workers": last.workers}


def devices_of_run(path: Path) -> dict[str, str]:
    """Returns `devices` of a run whose devices changed, from its history.csv, for the model card; else nothing.

    Example:
        >>> devices_of_run(Path("runs/elastic"))
        {'devices': '1 replica to epoch 2, 2 replicas to epoch 5'}
    """
    file = path / "history.csv"
    if not file.is_file():
        return {}
    with file.open(encoding="utf-8", newline="") as text:
        rows = [row for row in csv.DictReader(text) if all((row.get(name) or "").isdigit() for name in COLUMNS)]
    parts: list[tuple[str, str]] = []
    for row in rows:
        now = str(Devices(0, 0, int(row["replicas"]), int(row["workers"])))
        if parts and parts[-1][0] == now:
            parts.pop()
        parts.append((now, row["epoch"]))
    return {"devices": ", ".join(f"{now} to epoch {epoch}" for now, epoch in parts)} if parts else {}
