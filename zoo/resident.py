"""A split in memory, as data sets hand it to the training loop."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


@dataclasses.dataclass(frozen=True)
class Resident:
    """A split in memory, of which a compiled loop takes its batches itself.

    Attributes:
        columns: inputs, targets and weights: dicts of tensors with a row per example.
        order: the numbers of the examples in the order of an epoch, int64 (examples,), from seed, epoch, batch size and
            whether a batch holds sequences of like length.
        finish: makes a batch of what the rows give, without what is padding in all of them; traceable.
    """

    columns: tuple[Any, ...]
    order: Callable[[int, int, int, bool], np.ndarray]
    finish: Callable[..., tuple[Any, ...]]
