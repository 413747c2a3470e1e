"""The command line of a training of a few seconds, whose bits are the same in every run."""

from __future__ import annotations

import shlex

_WORDS = "train --model mlp --data digits --model.hidden_units [8] --no-export --baselines none --quiet"


def small_training(batch_size: int) -> list[str]:
    """Returns the words of `zoo train`, to which a test adds epochs and a run directory."""
    return shlex.split(f"{_WORDS} --config.deterministic true --config.batch_size {batch_size}")
