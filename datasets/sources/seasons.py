"""The seasons that a series to forecast may have."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from zoo.datasets.sources.windows import best_lag
from zoo.errors import UsageError

_PERIODS: dict[int, tuple[int, ...]] = {
    **{60: (60, 1_440), 600: (144, 1_008), 900: (96, 672), 1_800: (48, 336), 3_600: (24, 168)},
    **{86_400: (7, 365), 604_800: (52,), 2_629_746: (12,), 7_889_238: (4,)},
}
"""Steps of an hour, a day, a week or a year by the seconds of a step, from a minute to a quarter."""
_TRAINING = 0.7


def lags(
    season: int | None, series: Sequence[np.ndarray], window: int, horizon: int, step: float | None
) -> dict[str, int]:
    """Returns the naive forecasts of series, names and lags in steps: the last value, and the seasons that they may have.

    Args:
        season: the only season, 0 for none; None for the best one of the training split and those that the times suggest.
        series: the quantity of every series, float32 (steps,), NaN for missing values.
        window: steps of history.
        horizon: steps to forecast.
        step: seconds of a step; None if the data has no times.

    Raises:
        UsageError: the season is longer than the window.

    Example:
        >>> lags(None, [np.tile(np.float32([1, 5, 2, 8]), 60)], 170, 3, 3_600.0)
        {'the last value': 1, '4 steps before': 4, '24 steps before': 24, '168 steps before': 168}
    """
    if season is not None and season > window:
        raise UsageError(f"season is {season}; expected at most window={window}. Pass a larger window.")
    if season is not None:
        found = [season]
    else:
        usual = [periods for size, periods in _PERIODS.items() if step and 0.9 * size < step < 1.1 * size]
        found = [best_lag(_joined(series, window + horizon + 1), window, horizon)]
        found += [period for periods in usual for period in periods if period <= window]
    return {"the last value": 1, **{f"{each:,} steps before": each for each in sorted({*found}) if each > 1}}


def _joined(series: Sequence[np.ndarray], gap: int) -> np.ndarray:
    """Returns the training parts of series as one, with a gap of missing values before each, so that none is compared with
    another. Several series are divided by their deviations, as large numbers would decide alone."""
    parts = [each[: int(_TRAINING * len(each))] for each in series]
    if len(parts) == 1:
        return parts[0]
    scales = [np.nanstd(part) if not np.isnan(part).all() else 1.0 for part in parts]
    missing = np.full(gap, np.nan, np.float32)
    return np.concatenate(
        [piece for part, scale in zip(parts, scales, strict=True) for piece in (missing, part / (scale or 1.0))]
    )
