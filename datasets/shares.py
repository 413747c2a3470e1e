"""A worker's share of each batch: which examples of an epoch it reads."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Share:
    """One of several shares of each batch, by rows: the first rows belong to the first share, and so on.

    Attributes:
        index: number of the share.
        count: number of shares.
        least: a batch with fewer rows repeats its first row up to this number; what is added has no weight. At
            least the number of shares, so that none is empty.
    """

    index: int = 0
    count: int = 1
    least: int = 1


@dataclasses.dataclass(frozen=True)
class Part:
    """The rows of a share in batches of one size.

    Attributes:
        numbers: the examples' numbers in the split, int64 (batches, rows).
        places: their places in the batch, int32 (rows,); added rows have that of the first.
        real: 1 for rows of the batch, 0 for those that were added, float32 (rows,).
        size: rows of the whole batch, with those that were added.
    """

    numbers: np.ndarray
    places: np.ndarray
    real: np.ndarray
    size: int


def cut(order: np.ndarray, batch_size: int, share: Share) -> list[Part]:
    """Returns a share of the batches of an order: the full batches, then the last one, if it is smaller.

    Args:
        order: numbers of examples, int64 (examples,).
        batch_size: rows of a batch.
        share: which share.

    Example:
        >>> [part.numbers.tolist() for part in cut(np.arange(10), 4, Share(1, 2))]
        [[[2, 3], [6, 7]], [[9]]]
    """
    full = len(order) // batch_size
    groups = [order[: full * batch_size].reshape(full, batch_size), order[np.newaxis, full * batch_size :]]
    return [_part(group, share) for group in groups if group.size]


def _part(batches: np.ndarray, share: Share) -> Part:
    rows = batches.shape[1]
    size = max(rows, share.least)
    places = np.arange(size)
    places[rows:] = 0
    first, last = (size * (share.index + i) // share.count for i in (0, 1))
    places = places[first:last]
    real = np.arange(first, last) < rows
    return Part(batches[:, places], places.astype(np.int32), real.astype(np.float32), size)
