"""Which epoch was best, and when to stop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zoo.config import TrainConfig
from zoo.errors import UsageError, did_you_mean

_LESS_IS_BETTER = ("loss", "error", "mae", "mse", "rmse", "perplexity", "divergence")


class Selection:
    """Compares epochs by a metric.

    Args:
        config: the metric's name, the patience, the least change, and how many epochs are kept.
        default: the task's own metric and its direction.

    Attributes:
        best: the kept epochs, (epoch, value), the best one first.
        waited: epochs since the last improvement.
    """

    def __init__(self, config: TrainConfig, default: tuple[str, str]) -> None:
        self.monitor = config.monitor or default[0]
        direction = default[1] if self.monitor == default[0] else _direction(self.monitor)
        self._sign = 1.0 if direction == "max" else -1.0
        self._config = config
        self.best: list[tuple[int, float]] = []
        self.waited = 0

    @property
    def active(self) -> bool:
        """Whether anything was asked for."""
        return bool(self._config.keep_best or self._config.patience)

    def add(self, epoch: int, logs: Mapping[str, float]) -> bool:
        """Takes the figures of an epoch, counted from 1; returns whether its weights are among those to keep.

        Raises:
            UsageError: the metric is not among the figures.
        """
        if not self.active:
            return False
        if self.monitor not in logs:
            raise UsageError(f"monitor is {self.monitor!r}, which no epoch has. {did_you_mean(self.monitor, logs)}")
        value = float(logs[self.monitor])
        gain = self._sign * (value - self.best[0][1]) if self.best else float("inf")
        self.waited = 0 if gain > self._config.min_delta else self.waited + 1
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
        return {"best": [list(pair) for pair in self.best], "waited": self.waited}

    def restore(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        self.best = [(int(epoch), float(value)) for epoch, value in state["best"]]
        self.waited = int(state["waited"])


def _direction(monitor: str) -> str:
    return "min" if any(part in monitor.removeprefix("val_").split("_") for part in _LESS_IS_BETTER) else "max"
