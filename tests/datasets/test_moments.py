"""Dates as text: seconds in the graph and in files, compared with datetime and pandas."""

from __future__ import annotations

import datetime

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from zoo.datasets.preprocessing import moments

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
FORMS = {"ymd": "{:04d}-{:02d}-{:02d}", "dmy": "{2:02d}.{1:02d}.{0:04d}", "mdy": "{1:02d}/{2:02d}/{0:04d}"}
IN_GRAPH = {
    order: tf.function(lambda texts, order=order: moments.parsed(texts, order), [tf.TensorSpec([None], tf.string)])
    for order in FORMS
}


def both(texts, order):
    """Returns seconds and validity, equal in the graph and in eager mode."""
    texts = tf.constant([text.encode() for text in texts])
    eager = [part.numpy() for part in moments.parsed(texts, order)]
    graph = [part.numpy() for part in IN_GRAPH[order](texts)]
    for one, other in zip(eager, graph, strict=True):
        np.testing.assert_array_equal(one, other)
    return eager


def random_moments(count, seed):
    """Returns moments of the years 1 to 9999 in random zones, as `datetime`."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        day = datetime.date.fromordinal(int(rng.integers(2, datetime.date.max.toordinal())))
        zone = datetime.timezone(datetime.timedelta(minutes=int(rng.integers(-23 * 60 - 59, 24 * 60))))
        clock = datetime.time(*(int(rng.integers(n)) for n in (24, 60, 60)), tzinfo=zone)
        found.append(datetime.datetime.combine(day, clock))
    return found


@pytest.mark.parametrize("order", FORMS)
def test_seconds_equal_those_of_datetime_from_year_1_to_9999(order):
    right = random_moments(400, seed=len(order))
    dates = [FORMS[order].format(m.year, m.month, m.day) for m in right]
    clocks = [
        f"T{m:%H:%M:%S%z}" if place % 2 else f" {m:%H:%M:%S} {m.isoformat()[-6:]}" for place, m in enumerate(right)
    ]
    texts = [date + clock for date, clock in zip(dates, clocks, strict=True)]
    seconds, valid = both(texts, order)
    assert valid.all()
    np.testing.assert_array_equal(seconds, [(moment - EPOCH).total_seconds() for moment in right])
    assert all(moments.is_date(text) for text in texts)


def test_every_day_of_leap_years_and_centuries():
    days = pd.date_range("1899-01-01", "1901-12-31").union(pd.date_range("1999-01-01", "2004-12-31"))
    texts = [f"{day.year}-{day.month}-{day.day}" for day in days]  # without leading zeros
    seconds, valid = both(texts, "ymd")
    assert valid.all()
    np.testing.assert_array_equal(seconds, (days - pd.Timestamp(0)) // pd.Timedelta(seconds=1))


INVALID = (
    *("2023-02-29", "1900-02-29", "2024-04-31", "2024-13-01", "2024-00-10", "2024-01-00", "0000-01-01", "2024-01-32"),
    *(
        "2024-01-31 24:00",
        "2024-01-31 12:60",
        "2024-01-31 12:00:60",
        "2024-01-31 12",
        "2024-1",
        "31.01.2024",
        "20240131",
    ),
    *("2024-01-31 12:00+24:00", "2024-01-31 12:00+01:60", "0001-01-01 00:00+00:01", "9999-12-31 23:59:59-00:01"),
    *("2024-01-31x", "x2024-01-31", "2024-01-31T", "２０２４-01-31", "-2024-01-31", "2024-01-31 12:00 PM", "tomorrow"),
)


def test_what_is_no_date_is_rejected_by_the_graph_and_by_files_alike():
    seconds, valid = both(INVALID, "ymd")
    assert not valid.any() and np.isnan(seconds).all()
    assert not any(moments.order_of([text]) == "ymd" for text in INVALID)


def test_texts_at_the_limits():
    texts = ("0001-01-01", "9999-12-31 23:59:59", "1970-01-01T00:00:00Z", "1969-12-31 23:59:59.999", "2000-02-29 0:00")
    seconds, valid = both(texts, "ymd")
    assert valid.all() and all(moments.is_date(text) for text in texts)
    assert seconds.tolist() == [-62135596800.0, 253402300799.0, 0.0, -1.0, 951782400.0]
    zones = ("1970-01-01 00:00-00:30", "1970-01-01 00:00+00:30", "1970-01-01 00:00 +0530", "1970-01-01 00:00-05:30")
    assert both(zones, "ymd")[0].tolist() == [1800.0, -1800.0, -19800.0, 19800.0]


def test_missing_times_are_blank_or_words():
    texts = ("", "  ", "NA", "n/a", " NaN ", "null", "None")
    seconds, valid = both(texts, "dmy")
    assert valid.all() and np.isnan(seconds).all()
    assert not both(("-", "0", "nil"), "dmy")[1].any()


@pytest.mark.parametrize(
    ("texts", "order", "ambiguous"),
    [
        (("01/02/2024", "03/04/2024"), None, True),
        (("01/02/2024", "13/04/2024"), "dmy", False),
        (("01/02/2024", "04/13/2024"), "mdy", False),
        (("13/01/2024", "01/13/2024"), None, False),
        (("01.02.2024", "03.04.2024"), "dmy", False),
        (("01/02/2024 10:00:00.5", "03/04/2024 11:00:00.25"), None, True),
        (("01-02-2024", "2024-02-01"), None, False),
        (("2024/02/01", "2024-02-01 10:00"), "ymd", False),
        (("2024-01-31", "soon"), None, False),
    ],
)
def test_the_order_of_day_and_month_is_found_or_left_open(texts, order, ambiguous):
    assert moments.order_of(texts) == order and moments.is_ambiguous(texts) == ambiguous


def test_a_year_in_front_is_a_year_in_data_of_any_form():
    """As pandas writes the times of a DataFrame."""
    times = pd.Series(pd.to_datetime(["2024-03-04 05:06:07", "1999-12-31 00:00:00"])).astype(str)
    for order, own in {"dmy": "04.03.2024 05:06:07", "mdy": "03/04/2024 05:06:07"}.items():
        found, valid = both([*times, own, "2024-13-01", "13.13.2024"], order)
        assert valid.tolist() == [True, True, True, False, False]
        assert found[:3].tolist() == [1709528767.0, 946598400.0, 1709528767.0]
