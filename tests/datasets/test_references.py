"""What a forecast is the difference from, chosen on the validation split."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from zoo.datasets.preprocessing import references
from zoo.datasets.sources import seasons
from zoo.datasets.sources.windows import window_splits

NOISE = np.random.default_rng(0).normal(size=1_200)
STEPS = np.arange(1_200)


def chosen(values: np.ndarray, seasons: list[int], given: int | None = None) -> tuple[references.Reference, str]:
    splits = window_splits("some", values[:, np.newaxis].astype(np.float32), 30, 6)
    return references.choose(SimpleNamespace(splits=splits), seasons, given)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (5 + NOISE, (0, False)),  # noise around a mean
        (NOISE.cumsum(), (1, True)),  # a random walk
        (0.05 * STEPS**1.2 + 0.1 * NOISE.cumsum(), (1, True)),  # a trend that leaves the range of the training split
    ],
)
def test_no_season_is_chosen_where_the_data_has_none(values, expected):
    reference, note = chosen(values, [12])
    assert reference == expected, note


def test_a_season_is_chosen_where_the_validation_split_shows_it():
    """There are too few windows to learn a linear map of a long pattern, whose level rises."""
    pattern = 10 * np.random.default_rng(1).normal(size=28)[STEPS % 28]
    values = (pattern + 0.1 * STEPS + 0.1 * NOISE)[:180]
    reference, note = chosen(values, [28])
    assert reference.season == 28 and note.startswith("Forecasts are differences from 28 steps before"), note


def test_the_user_decides():
    assert chosen(5 + NOISE, [12], given=24)[0].season == 24
    assert chosen(NOISE.cumsum(), [12], given=0)[0] == (1, True)
    assert chosen(5 + NOISE, [12], given=1)[0] == (1, True)
    assert str(references.Reference(1_000, True)) == "1,000 steps before, relative inputs"


def test_missing_values_do_not_stop_the_choice():
    values = NOISE.cumsum()
    values[5:1_100:37] = np.nan
    assert chosen(values, [12])[0] == (1, True)


@pytest.mark.parametrize(
    ("step", "window", "expected"),
    [
        (3_600.0, 200, [1, 24, 168]),
        (3_600.0, 100, [1, 24]),
        (86_400.0, 60, [1, 7]),
        (2_629_800.0, 24, [1, 12]),
        (50.0, 200, [1]),
        (None, 200, [1]),
    ],
)
def test_the_times_of_a_series_suggest_its_seasons(step, window, expected):
    walk = NOISE.cumsum().astype(np.float32)
    assert [*seasons.lags(None, [walk], window, 6, step).values()] == expected
    assert [*seasons.lags(0, [walk], window, 6, step).values()] == [1]
