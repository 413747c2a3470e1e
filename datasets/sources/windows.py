"""Windows over long series: a history, and the next steps to forecast."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from zoo.datasets.raw import Access, Split
from zoo.datasets.sources.in_memory import positive
from zoo.datasets.sources.splitting import is_undivided
from zoo.errors import UsageError


def window_splits(
    name: str,
    values: np.ndarray,
    window: int,
    horizon: int,
    *,
    bounds: tuple[int, int] | None = None,
    parts: Mapping[str, int] | None = None,
    known: np.ndarray | None = None,
) -> dict[str, Split]:
    """Cuts long series into examples: `series` with `window` steps, and `forecast` with the next `horizon` steps.

    The timeline is split, not the windows. Training examples lie wholly before the first bound. Validation forecasts lie
    between the bounds, and test forecasts after the second. Their histories may start before the bounds. Every step starts
    a window. Windows with a missing value (NaN) in the forecast, or without any value in the last step, are left out.
    With `known`, so are those without channel 0 in the last step of the history, or without any known value in the last step.

    Args:
        name: name of the data set, for messages.
        values: float32 (steps, channels); channel 0 is the one to forecast.
        window: steps of history.
        horizon: steps to forecast.
        bounds: first steps of the validation and test forecasts; by default at 70 % and 80 % of the timeline.
        parts: the steps of each series by its name, if `values` has several, one after the other. Each has a timeline of its
            own, and no window has steps of two.
        known: what is known in advance of every step, float32 (steps, channels). Examples then also have `known`, its
            `horizon` steps to forecast.

    Raises:
        UsageError: window or horizon is not a whole number, or a series is too short for them.
    """
    positive("window", window, 168)
    positive("horizon", horizon, 24)
    found: dict[str, list[np.ndarray]] = {}
    begin = 0
    for key, steps in (parts or {"": len(values)}).items():
        first, second = bounds or (int(0.7 * steps), int(0.8 * steps))
        bounds_of = {"train": (0, first), "validation": (first, second), "test": (second, steps)}
        if is_undivided():
            bounds_of = {"test": (0, steps)}
        starts_of = {
            role: _usable(values, begin + np.arange(max(start, window), stop - horizon + 1), horizon, known)
            for role, (start, stop) in bounds_of.items()
        }
        sizes = {role: len(starts) for role, starts in starts_of.items()}
        if not all(sizes.values()):
            hint = f", or leave out the rows of {key}" if key else ""
            raise UsageError(
                f"Data set {name!r} has {steps} steps{f' of {key}' if key else ''}, too few for window={window} and "
                f"horizon={horizon}: it gives {sizes} examples. Pass a smaller window or horizon{hint}."
            )
        for role, starts in starts_of.items():
            found.setdefault(role, []).append(starts)
        begin += steps
    with tf.device("CPU"):
        held = {"values": tf.constant(values, tf.float32)}
        if known is not None:
            held["known"] = tf.constant(known, tf.float32)
    return {
        role: dataclasses.replace(
            _split_of(held, _merged(starts) if role == "train" else np.concatenate(starts), window, horizon),
            overlap=_overlap(starts, horizon) if role == "train" else horizon,
        )
        for role, starts in found.items()
    }


def _usable(values: np.ndarray, starts: np.ndarray, horizon: int, known: np.ndarray | None) -> np.ndarray:
    """Returns the first steps of forecasts without a missing value, after a step with a value."""
    bad = np.cumsum(np.concatenate([[0], np.isnan(values[:, 0])]))
    starts = starts[bad[starts + horizon] == bad[starts]]
    # If the last steps of a history had no value, it would look like a shorter one with an earlier forecast.
    if known is None:
        return starts[~np.isnan(values[starts - 1]).all(axis=1)]
    # A request has both in one series: its end, and the end of the history, must be found in it.
    is_whole = ~np.isnan(values[starts - 1, 0]) & ~np.isnan(known[starts + horizon - 1]).all(axis=1)
    return starts[is_whole]


def _split_of(held: Mapping[str, tf.Tensor], starts: np.ndarray, window: int, horizon: int) -> Split:
    """Returns the windows whose forecasts begin at `starts`."""
    channels = held["values"].shape[1]

    @tf.autograph.experimental.do_not_convert
    def example(start: tf.Tensor) -> dict[str, tf.Tensor]:
        found = {
            "series": tf.ensure_shape(held["values"][start - window : start], [window, channels]),
            "forecast": tf.ensure_shape(held["values"][start : start + horizon, 0], [horizon]),
        }
        if "known" in held:
            ahead = held["known"][start : start + horizon]
            found["known"] = tf.ensure_shape(ahead, [horizon, held["known"].shape[1]])
        return found

    def dataset() -> tf.data.Dataset:
        numbers = tf.data.Dataset.from_tensor_slices(starts.astype(np.int64))
        return numbers.map(example, num_parallel_calls=2, deterministic=True)

    with tf.device("CPU"):
        places = tf.constant(starts, tf.int64)

    def content() -> tf.data.Dataset:  # each step once, not once for every window
        first, last = starts.min() - window, starts.max() + horizon
        steps = {"steps": held["values"][first:last], "starts": starts, "window": [window, horizon]}
        return tf.data.Dataset.from_tensors(
            {**steps, **({"known": held["known"][first:last]} if "known" in held else {})}
        )

    return Split(dataset, len(starts), content, Access(lambda number: example(places[number])))


def _merged(starts: list[np.ndarray]) -> np.ndarray:
    """Returns the windows of several series in the order of time, so that the last ones are the latest of each series."""
    places = np.concatenate([np.linspace(0, 1, len(part)) for part in starts])
    return np.concatenate(starts)[np.argsort(places, kind="stable")]


def _overlap(starts: list[np.ndarray], horizon: int) -> int:
    """Returns how many windows of `_merged` lie between two windows of one series that share no step of their forecasts, at
    most: the shortest series passes its horizon last."""
    shares = [min(1.0, horizon / max(1, len(part) - 1)) for part in starts]
    return int(np.ceil(max(shares) * sum(map(len, starts)))) + len(starts) if len(starts) > 1 else horizon


def useful_lags(lags: Mapping[str, int], window: int, horizon: int) -> dict[str, int]:
    """Returns the naive forecasts (name and lag in steps) whose lag fits both the window and the horizon."""
    fitting = {name: lag for name, lag in lags.items() if horizon <= lag <= window}
    return fitting or ({"the steps before": horizon} if horizon <= window else {})


def best_lag(values: np.ndarray, window: int, horizon: int) -> int:
    """Returns the lag, from 1 to `window` steps, whose naive forecasts of `horizon` steps have the smallest error.

    A naive forecast repeats the last `lag` values. Of lags within 5 % of the best, the shortest is returned that is better
    than both its neighbours, so that noise does not decide.

    Args:
        values: float32 (steps,), NaN for missing ones. Only the last 20,000 are used.
        window: largest lag.
        horizon: steps to forecast.

    Example:
        >>> best_lag(np.tile(np.float32([1, 5, 2, 8]), 20), 12, 3)
        4
    """
    values = values[-20_000:].astype(np.float64)
    longest = min(window, len(values) // 2)
    gaps = np.full(longest + horizon + 1, np.nan)  # mean absolute difference of values that are this many steps apart
    for lag in range(1, min(len(gaps), len(values))):
        differences = np.abs(values[lag:] - values[:-lag])
        if not np.isnan(differences).all():
            gaps[lag] = np.nanmean(differences)
    ahead = np.arange(1, horizon + 1)
    found = [gaps[-(-ahead // lag) * lag].mean() for lag in range(1, longest + 1)]
    errors = np.nan_to_num([np.inf, *found, np.inf], nan=np.inf)
    lowest = (errors[1:-1] <= errors[:-2]) & (errors[1:-1] <= errors[2:])
    lowest[:1] = True
    near = np.flatnonzero(lowest & (errors[1:-1] <= 1.05 * errors.min()))
    return int(near[0]) + 1 if len(near) else 1
