"""What a forecast is the difference from: the mean, the last value or the value one season earlier."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from zoo.display import short_number
from zoo.minirocket import filled

if TYPE_CHECKING:
    from zoo.datasets.raw import RawData, Split

_MOST_WINDOWS = 1_500
_MOST_STEPS = 400
"""Latest steps of the window that the linear models of the comparison read."""
_ALPHAS = np.logspace(-5, 3, 17)
_BETTER = 0.99
"""A later candidate must have at most this part of the error of an earlier one, which is simpler."""


class Reference(NamedTuple):
    """What forecasts are compared with.

    Attributes:
        season: steps from the compared value to the forecast, 1 for the last value, 0 for the mean of the training split.
        relative: whether inputs are differences from the last value too.
    """

    season: int
    relative: bool

    def __str__(self) -> str:
        names = {0: "the mean", 1: "the last value"}
        return names.get(self.season, f"{self.season:,} steps before") + (", relative inputs" if self.relative else "")


def candidates(seasons: Sequence[int], given: int | None) -> list[Reference]:
    """Returns the references that are compared, the simplest first.

    Args:
        seasons: seasons that the data may have.
        given: the only season; 0 for none, and None if it is open.

    Example:
        >>> [str(each) for each in candidates([], 0)]
        ['the mean', 'the last value, relative inputs']
    """
    plain = [Reference(0, False), Reference(1, True)]
    if given:
        return [plain[1]] if given == 1 else [Reference(given, False), Reference(given, True)]
    open_seasons = sorted({season for season in seasons if season > 1}) if given is None else []
    return plain + [Reference(season, relative) for season in open_seasons for relative in (False, True)]


def choose(data: RawData, seasons: Sequence[int], given: int | None) -> tuple[Reference, str]:
    """Returns the reference whose linear forecasts have the smallest mean absolute error on the validation split, and a line
    that says so. Without a validation split it is the longest season, or else the mean.

    Args:
        data: a data set to forecast.
        seasons: seasons that the data may have.
        given: see `candidates`.
    """
    possible = candidates(seasons, given)
    held = data.splits.get("validation")
    if held is None or not held.num_examples or len(possible) == 1:
        chosen = possible[0] if len(possible) < 3 else possible[-2]
        return chosen, f"Forecasts are differences from {chosen}"
    train, validation = _read(data.splits["train"]), _read(held)
    errors = {each: _error(train, validation, each) for each in possible}
    best = min(errors.values())
    chosen = next(each for each in possible if errors[each] * _BETTER <= best)
    others = ", ".join(f"{each} {short_number(error)}" for each, error in errors.items() if each != chosen)
    return chosen, (
        f"Forecasts are differences from {chosen}: mean absolute error of a linear model on the validation split "
        f"{short_number(errors[chosen])} ({others})"
    )


def _read(split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Returns evenly spread windows without gaps, (windows, steps, channels), and their forecasts, (windows, horizon)."""
    every = max(1, -(-split.num_examples // _MOST_WINDOWS))
    examples = list(itertools.islice(split.dataset().shard(every, 0).as_numpy_iterator(), _MOST_WINDOWS))
    steps = max(len(example["series"]) for example in examples)
    series = []
    for example in examples:
        whole = filled(np.concatenate([example["series"], np.zeros((1, example["series"].shape[1]))]))[:-1]
        series.append(np.pad(whole, ((steps - len(whole), 0), (0, 0)), mode="edge"))
    return np.stack(series), np.stack([example["forecast"] for example in examples])


def _error(train: tuple[np.ndarray, ...], validation: tuple[np.ndarray, ...], reference: Reference) -> float:
    """Returns the mean absolute error of ridge regression on the window, with the best penalty, on the validation split."""
    means, deviations = train[0].mean(axis=(0, 1)), train[0].std(axis=(0, 1))
    deviations = np.where(deviations > 0, deviations, 1.0)
    parts, steps = [], min(_MOST_STEPS, train[0].shape[1])
    for series, forecast in (train, validation):
        window = ((series - means) / deviations)[:, -steps:]
        window = np.pad(window, ((0, 0), (steps - window.shape[1], 0), (0, 0)), mode="edge")  # series of unequal length
        quantity = window[..., 0] - (window[:, -1:, 0] if reference.relative else 0.0)
        inputs = np.concatenate([quantity, window[:, -1, 1:]], axis=1)
        parts.append((inputs, forecast, _start(series[..., 0], reference, forecast.shape[1], means[0])))
    (x, y, start), (other, wanted, begin) = parts
    center, middle = x.mean(axis=0), (y - start).mean(axis=0)
    values, vectors = np.linalg.eigh((x - center).T @ (x - center))
    projected = vectors.T @ ((x - center).T @ (y - start - middle))
    errors = []
    for alpha in _ALPHAS * len(x):
        weights = vectors @ (projected / (np.maximum(values, 0) + alpha)[:, np.newaxis])
        errors.append(np.abs((other - center) @ weights + middle + begin - wanted).mean())
    return float(min(errors))


def _start(quantity: np.ndarray, reference: Reference, horizon: int, mean: float) -> np.ndarray:
    """Returns the values that forecasts are compared with, (windows, horizon)."""
    if not reference.season:
        return np.full((len(quantity), horizon), mean)
    places = quantity.shape[1] - reference.season + np.arange(horizon) % reference.season
    return np.where(places >= 0, quantity[:, np.maximum(places, 0)], mean)
