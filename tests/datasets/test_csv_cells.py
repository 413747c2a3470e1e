"""Numbers and times in the cells of CSV files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from zoo.errors import UsageError
from zoo.tables import cells as csv_cells


def cells(*values):
    return pd.Series(values, name="x")


def test_points_between_thousands_are_not_read_as_decimal_points():
    values = "1.176", "1.370", "2.001", "999"
    with pytest.raises(
        UsageError, match=r"x has \S+ and \S+, so its points seem to separate thousands. Remove these points"
    ):
        csv_cells.numbers(Path("a.csv"), cells(*values))


@pytest.mark.parametrize(
    "values",
    [
        ("1.176", "1.370", "2.001"),
        ("1.176", "1.37", "2.001", "999"),
        ("0.125", "0.250", "0.001", "1"),
        ("1.5", "", "NA"),
    ],
)
def test_decimals_are_read(values):
    found = csv_cells.numbers(Path("a.csv"), cells(*values))
    assert np.array_equal(found, [float(v) if v[:1].isdigit() else np.nan for v in values], equal_nan=True)


def test_a_decimal_comma_is_named():
    with pytest.raises(UsageError, match=r"a.csv row 2: x is '1576,5'; expected a number with a decimal point"):
        csv_cells.numbers(Path("a.csv"), cells("1", "1576,5"))
    with pytest.raises(UsageError, match=r"row 1: x is '12.345.678'; expected a number without points for thousands"):
        csv_cells.numbers(Path("a.csv"), cells("12.345.678", "5"))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (("10.02.2021", "01.03.2021"), ["2021-02-10", "2021-03-01"]),
        (("10/02/2021", "13/02/2021"), ["2021-02-10", "2021-02-13"]),
        (("02/10/2021", "02/13/2021"), ["2021-02-10", "2021-02-13"]),
        (("2021-02-10", "2021-02-11 12:00"), None),
        (("2021-02-10", "2021-02-11"), ["2021-02-10", "2021-02-11"]),
    ],
)
def test_dates_are_read_as_their_writers_mean_them(values, expected):
    if expected is None:
        with pytest.raises(
            UsageError, match=r"row 2: x is '2021-02-11 12:00', which cannot be read as a time of the same form"
        ):
            csv_cells.times(Path("a.csv"), cells(*values))
        return
    wanted = [int(np.datetime64(date, "s").astype(np.int64)) for date in expected]
    assert csv_cells.times(Path("a.csv"), cells(*values)).tolist() == wanted


def test_dates_that_may_begin_with_day_or_month_are_rejected():
    with pytest.raises(UsageError, match=r"in x, 01/02/2021 may begin with the day or with the month"):
        csv_cells.times(Path("a.csv"), cells("01/02/2021", "01/03/2021"))


def test_parts_of_seconds_and_days_are_kept():
    seconds = csv_cells.times(Path("a.csv"), cells("0.00", "0.02"))
    assert seconds.tolist() == [0.0, 0.02]
    moments = csv_cells.times(Path("a.csv"), cells("2024-01-01 00:00:00.000", "2024-01-01 00:00:00.010"))
    assert np.diff(moments).tolist() == [10_000_000]
