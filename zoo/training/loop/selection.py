"""Which epoch was best, and when to stop."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import keras

from zoo.config import TrainConfig
from zoo.errors import UsageError, did_you_mean
from zoo.training.figures import figures


class Selection:
    """Compares epochs by a metric.

    Args:
        config: the metric's name, the patience, the least change, and how many epochs are kept.
        default: the task's own metric and its direction.
        known: the names that an epoch's figures will have, with the better direction: max, min, or None where it is unknown.

    Attributes:
        best: the kept epochs, (epoch, value), the best one first.
        monitor: the metric.
        direction: its better direction, max or min.
        waited: epochs since the last improvement.

    Raises:
        UsageError: the metric is none of the figures, or its direction is unknown.
    """

    def __init__(self, config: TrainConfig, default: tuple[str, str], known: Mapping[str, str | None]) -> None:
        self.monitor = config.monitor or default[0]
        self.direction = default[1]
        self._config = config
        self._sign = 1.0
        if self.active:
            if self.monitor not in known:
                raise UsageError(
                    f"monitor is {self.monitor!r}, which no epoch of this run has. {did_you_mean(self.monitor, known)}"
                )
            direction = default[1] if self.monitor == default[0] else known[self.monitor]
            if direction is None:
                raise UsageError(
                    f"monitor is {self.monitor!r}; its better direction is unknown. Choose the loss, or one of Keras's "
                    "metrics."
                )
            self.direction, self._sign = direction, 1.0 if direction == "max" else -1.0
        self.best: list[tuple[int, float]] = []
        self.waited = 0
        self._reference: float | None = None

    @property
    def active(self) -> bool:
        """Whether the config asks for a selection."""
        return bool(self._config.keep_best or self._config.patience)

    def add(self, epoch: int, logs: Mapping[str, float]) -> bool:
        """Takes the figures of an epoch, counted from 1; returns whether its weights are among those to keep."""
        if not self.active:
            return False
        value = float(logs[self.monitor])
        # Compared with the last improvement, not with the last best: many small gains are one large one.
        gain = math.inf if self._reference is None else self._sign * (value - self._reference)
        if gain > self._config.min_delta:
            self.waited, self._reference = 0, value
        else:
            self.waited += 1
        ranked = sorted([*self.best, (epoch, value)], key=lambda pair: (-self._sign * pair[1], pair[0]))
        self.best = ranked[: max(1, self._config.keep_best)]
        return bool(self._config.keep_best) and any(kept == epoch for kept, _ in self.best)

    @property
    def exhausted(self) -> bool:
        """Whether the patience is at its end."""
        return self._config.patience is not None and self.waited >= self._config.patience

    @property
    def chosen(self) -> int | None:
        """The epoch whose weights the run ends in, None for the last one's."""
        return self.best[0][0] if self._config.keep_best and self.best else None

    def state(self) -> dict[str, Any]:
        """Returns what a checkpoint keeps."""
        return {"best": [list(pair) for pair in self.best], "waited": self.waited, "reference": self._reference}

    def restore(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        self.best = [(int(epoch), float(value)) for epoch, value in state["best"]]
        self.waited, self._reference = int(state["waited"]), state["reference"]


def directions(metrics: Iterable[keras.metrics.Metric], *, validation: bool) -> dict[str, str | None]:
    """Returns the names of an epoch's figures, with the direction in which each is better, as far as its metric says.

    Args:
        metrics: the mean loss first.
        validation: whether there is a validation split.
    """
    ways = {"up": "max", "down": "min"}
    first, *others = metrics
    known: dict[str, str | None] = {first.name: "min"}
    for metric in others:
        known |= dict.fromkeys(figures(metric), ways.get(getattr(metric, "_direction", None) or ""))
    return known | ({f"val_{name}": way for name, way in known.items()} if validation else {})
