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
        from_zero: whether the rise begins with a rate of 0, so that it is complete on the step after the rise. With it the
            linear kind is Hugging Face's `get_linear_schedule_with_warmup`, and the others are its namesakes, too.

    Example:
        >>> float(WarmupSchedule(0.1, "linear", 0, 10)(5))
        0.05
    """

    def __init__(
        self, learning_rate: float, kind: str, warmup_steps: int, total_steps: int, from_zero: bool = False
    ) -> None:
        self.learning_rate = learning_rate
        self.kind = kind
        self.warmup_steps = warmup_steps
        self.total_steps = total_steps
        self.from_zero = from_zero

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
            # If step 0 is to move already, (step + 1) / warmup reaches the full rate on the last step of the rise.
            done = step if self.from_zero else step + 1.0
            factor = ops.where(step < self.warmup_steps, done / self.warmup_steps, factor)
        return self.learning_rate * factor

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            "learning_rate": self.learning_rate,
            "kind": self.kind,
            "warmup_steps": self.warmup_steps,
            "total_steps": self.total_steps,
            "from_zero": self.from_zero,
        }


def make_learning_rate(config: TrainConfig, total_steps: int) -> float | WarmupSchedule:
    """Returns the learning rate of a config: a number, or a schedule over all steps.

    Raises:
        UsageError: the warm-up is longer than the run.
    """
    warmup_steps = config.warmup_steps or math.ceil(config.warmup_fraction * total_steps)
    if config.warmup_fraction and total_steps == 1:
        warmup_steps = 0  # a part of one step is none
    if config.schedule == "constant" and not warmup_steps:
        return float(config.learning_rate)  # Keras takes no whole numbers
    if warmup_steps >= total_steps:
        warmup = (
            f"warmup_fraction={config.warmup_fraction}" if config.warmup_fraction else f"warmup_steps={warmup_steps}"
        )
        if total_steps < 2:
            raise UsageError(
                f"{warmup} covers all of this run, which has one step. Leave the warm-up out, or pass more epochs or a "
                "smaller batch_size."
            )
        less = 0.1 if config.warmup_fraction else max(1, total_steps // 10)
        raise UsageError(f"{warmup} covers all {total_steps} steps of this run. Pass less, such as {less}.")
    rate = float(config.learning_rate)
    return WarmupSchedule(rate, config.schedule, warmup_steps, total_steps, config.warmup_from_zero)
