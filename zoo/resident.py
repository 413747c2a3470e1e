"""A split in memory, which data sets pass to the training loop."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


@dataclasses.dataclass(frozen=True)
class Resident:
    """A split in memory, from which a compiled loop gathers its batches.

    Attributes:
        columns: inputs, targets and weights: dicts of tensors with a row per example.
        order: returns the numbers of the examples in the order of an epoch, int64 (examples,), from seed, epoch, batch
            size and whether batches hold sequences of similar length.
        finish: makes a batch from gathered rows by removing padding that all rows share; traceable.
    """

    columns: tuple[Any, ...]
    order: Callable[[int, int, int, bool], np.ndarray]
    finish: Callable[..., tuple[Any, ...]]
