"""The kernels of MiniRocket, in NumPy: for the layer of the model family and for the baseline of reports.

Source: Dempster, Schmidt and Webb, MiniRocket: a very fast (almost) deterministic transform for time series classification,
KDD 2021. Their implementation needs a compiler at run time (numba), which is larger than this package's other dependencies
together; this one needs NumPy alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

KERNELS = np.array([[2.0 if i in three else -1.0 for i in range(9)] for three in itertools.combinations(range(9), 3)])
"""All 84 kernels of length 9 with six weights -1 and three weights 2, float64 (84, 9). Their sum is 0."""
WIDTH = KERNELS.shape[1]
_MOST_DILATIONS = 32
_MOST_CHANNELS = 9
_GOLDEN = (5**0.5 + 1) / 2
_EXAMPLES = 256
"""Examples whose outputs give the thresholds."""


def dilations(length: int, num_features: int) -> list[tuple[int, int]]:
    """Returns the dilations for series of a length, each with the number of thresholds of a kernel.

    A kernel covers at most the whole series. Their total is `num_features // 84`, at least 1.

    Example:
        >>> dilations(45, 1_000)
        [(1, 4), (2, 3), (3, 2), (4, 1), (5, 1)]
    """
    total = max(1, num_features // len(KERNELS))
    most = min(total, _MOST_DILATIONS)
    exponent = np.log2(max(1.0, (length - 1) / (WIDTH - 1)))
    found, counts = np.unique(np.logspace(0, exponent, most, base=2).astype(int), return_counts=True)
    counts = (counts * (total / most)).astype(int)
    for i in range(total - int(counts.sum())):
        counts[i % len(counts)] += 1
    return [(int(size), int(count)) for size, count in zip(found, counts, strict=True)]


def chosen_channels(channels: int, generator: np.random.Generator) -> np.ndarray:
    """Returns the channels that each kernel adds up, float32 (channels, 84) of 0 and 1: up to nine of them at random.

    Example:
        >>> chosen_channels(1, np.random.default_rng(0)).sum()
        84.0
    """
    found = np.zeros((channels, len(KERNELS)), np.float32)
    for column in found.T:
        count = int(2 ** generator.uniform(0, np.log2(min(channels, _MOST_CHANNELS) + 1)))
        column[generator.choice(channels, count, replace=False)] = 1
    return found


def weights(chosen: np.ndarray) -> np.ndarray:
    """Returns the kernels with their channels as one matrix, float32 (9 x channels, 84).

    Args:
        chosen: the channels of each kernel, (channels, 84).
    """
    whole = KERNELS.T[:, np.newaxis] * chosen[np.newaxis]
    return whole.reshape(-1, len(KERNELS)).astype(np.float32)


def outputs(series: np.ndarray, dilation: int, matrix: np.ndarray) -> np.ndarray:
    """Returns the convolutions of series with all kernels, with zeros beyond both ends.

    Args:
        series: float32 (batch, steps, channels), without NaN.
        dilation: steps between the weights of a kernel.
        matrix: what `weights` returns.

    Returns:
        float32 (batch, steps, 84).
    """
    steps, reach = series.shape[1], (WIDTH - 1) // 2 * dilation
    padded = np.pad(series, ((0, 0), (reach, reach), (0, 0)))
    shifted = [padded[:, i * dilation : i * dilation + steps] for i in range(WIDTH)]
    return np.concatenate(shifted, axis=-1) @ matrix


def quantiles(total: int) -> np.ndarray:
    """Returns `total` numbers between 0 and 1 that are spread evenly however many are used."""
    return (np.arange(1, total + 1) * _GOLDEN) % 1


def is_padded(place: int) -> np.ndarray:
    """Returns which kernels also use the steps whose window reaches beyond an end, bool (84,): every other kernel.

    Args:
        place: number of the dilation, from 0.
    """
    return (np.arange(len(KERNELS)) + place) % 2 == 0


def thresholds(
    series: list[np.ndarray],
    plan: list[tuple[int, int]],
    matrices: list[np.ndarray],
    generator: np.random.Generator,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields for every dilation the thresholds of the kernels, float32 (84, thresholds), and the standard deviation of each
    kernel's outputs, (84,).

    The thresholds of a kernel are quantiles of its outputs for one example.

    Args:
        series: training examples, float32 (steps, channels) each, without NaN.
        plan: what `dilations` returns.
        matrices: the weights of each dilation.
        generator: draws the examples.
    """
    places = quantiles(sum(count for _, count in plan))
    start = 0
    drawn = [series[i] for i in generator.choice(len(series), min(len(series), _EXAMPLES), replace=False)]
    for number, ((dilation, count), matrix) in enumerate(zip(plan, matrices, strict=True)):
        found, deviations = np.zeros((len(KERNELS), count)), np.zeros(len(KERNELS))
        examples = generator.integers(0, len(drawn), len(KERNELS))
        for example in np.unique(examples):
            whole = outputs(drawn[example][np.newaxis], dilation, matrix)[0]
            for kernel in np.flatnonzero(examples == example):
                used = valid(whole, dilation) if not is_padded(number)[kernel] else whole
                found[kernel] = np.quantile(used[:, kernel], places[start : start + count])
                deviations[kernel] = used[:, kernel].std()
        start += count
        yield found.astype(np.float32), deviations.astype(np.float32)


def valid(whole: np.ndarray, dilation: int) -> np.ndarray:
    """Returns the outputs, (steps, ...), whose window lies within the series; all outputs of a series that is too short."""
    reach = (WIDTH - 1) // 2 * dilation
    return whole[reach : len(whole) - reach] if len(whole) > 2 * reach else whole


def filled(series: np.ndarray) -> np.ndarray:
    """Returns a series (steps, channels) with the previous value where one is missing (NaN), the next one at the beginning,
    and 0 in a channel without a value. Steps at the end without any value are removed.

    Example:
        >>> filled(np.float32([[1.0], [np.nan], [2.0], [np.nan]])).ravel().tolist()
        [1.0, 1.0, 2.0]
    """
    known = ~np.isnan(series)
    steps = np.flatnonzero(known.any(axis=1))
    series, known = series[: steps[-1] + 1 if len(steps) else 1], known[: steps[-1] + 1 if len(steps) else 1]
    last = np.maximum.accumulate(np.where(known, np.arange(len(series))[:, np.newaxis], -1), axis=0)
    first = known.argmax(axis=0)
    return np.nan_to_num(np.take_along_axis(series, np.where(last >= 0, last, first), axis=0)).astype(np.float32)


def features(
    series: list[np.ndarray], plan: list[tuple[int, int]], matrices: list[np.ndarray], bounds: list[np.ndarray]
) -> np.ndarray:
    """Returns the share of each kernel's outputs above each threshold, float32 (examples, features).

    Args:
        series: float32 (steps, channels) each, without NaN.
        plan: what `dilations` returns.
        matrices: the weights of each dilation.
        bounds: the thresholds of each dilation, (84, thresholds).
    """
    rows = np.empty((len(series), sum(len(KERNELS) * count for _, count in plan)), np.float32)
    for row, each in zip(rows, series, strict=True):
        start = 0
        for number, ((dilation, count), matrix) in enumerate(zip(plan, matrices, strict=True)):
            whole = outputs(each[np.newaxis], dilation, matrix)[0]
            inner, padded = valid(whole, dilation), is_padded(number)
            for i in range(count):
                shares = np.where(
                    padded, (whole > bounds[number][:, i]).mean(0), (inner > bounds[number][:, i]).mean(0)
                )
                row[start : start + len(KERNELS)] = shares
                start += len(KERNELS)
    return rows
