"""Learning-rate schedules with warm-up."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from zoo.config import TrainConfig
from zoo.errors import UsageError


@keras.saving.register_keras_serializable("zoo")
class WarmupSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """Linear rise from zero over the first steps, then constant, linear or cosine decay to zero at the last step.

    Source of the cosine form: Loshchilov and Hutter, SGDR, ICLR 2017 (one cycle, no restart).

    Args:
        learning_rate: the highest learning rate.
        kind: constant, linear or cosine.
        warmup_steps: steps of the rise.
        total_steps: all steps of the run, the rise included.

    Example:
        >>> float(WarmupSchedule(0.1, "linear", 0, 10)(5))
        0.05
    """

    def __init__(self, learning_rate: float, kind: str, warmup_steps: int, total_steps: int) -> None:
        self.learning_rate = learning_rate
        self.kind = kind
        self.warmup_steps = warmup_steps
        self.total_steps = total_steps

    def __call__(self, step: Any) -> Any:
        """Returns the learning rate of a step, counted from 0, as a float32 scalar."""
        step = ops.cast(step, "float32")
        progress = (step - self.warmup_steps) / max(1, self.total_steps - self.warmup_steps)
        progress = ops.clip(progress, 0.0, 1.0)
        if self.kind == "constant":
            factor = ops.ones_like(progress)
        elif self.kind == "linear":
            factor = 1.0 - progress
        else:
            factor = 0.5 * (1.0 + ops.cos(math.pi * progress))
        if self.warmup_steps:
            # Step 0 already moves: (step + 1) / warmup reaches the full rate on the last step of the rise.
            factor = ops.where(step < self.warmup_steps, (step + 1.0) / self.warmup_steps, factor)
        return self.learning_rate * factor

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            "learning_rate": self.learning_rate,
            "kind": self.kind,
            "warmup_steps": self.warmup_steps,
            "total_steps": self.total_steps,
        }


def make_learning_rate(config: TrainConfig, total_steps: int) -> float | WarmupSchedule:
    """Returns the learning rate of a config: a number, or a schedule over all steps.

    Raises:
        UsageError: the warm-up is longer than the run.
    """
    if config.schedule == "constant" and not config.warmup_steps:
        return float(config.learning_rate)  # Keras takes no whole numbers
    if config.warmup_steps >= total_steps:
        raise UsageError(
            f"warmup_steps={config.warmup_steps} leaves nothing of the {total_steps} steps of this run. "
            f"Pass fewer, such as {max(1, total_steps // 10)}."
        )
    return WarmupSchedule(float(config.learning_rate), config.schedule, config.warmup_steps, total_steps)
