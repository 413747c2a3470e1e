"""Dates and times as text to seconds, in the graph and for files, by the same patterns."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from zoo.tables.cells import MISSING_NUMBERS

_CLOCK = r"(?:(?:[Tt]|\s+)(\d{1,2}):(\d{2})(?::(\d{2})(?:[.,]\d+)?)?)?\s*(?:[Zz]|([+-]\d{2}):?(\d{2}))?"
_ORDERS = {
    "ymd": (r"(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})", (1, 2, 3)),
    "dmy": (r"(\d{1,2})[-/.](\d{1,2})[-/.](\d{4})", (3, 2, 1)),
    "mdy": (r"(\d{1,2})[-/.](\d{1,2})[-/.](\d{4})", (3, 1, 2)),
}
"""The pattern of the date by the order of year, month and day, and the places of these three."""

EXAMPLES = {"ymd": "2024-01-31 13:00", "dmy": "31.01.2024 13:00", "mdy": "01/31/2024 13:00"}
"""A time in each order, for messages."""

DAY = 86_400.0
_FIRST, _LAST = -62_135_596_800.0, 253_402_300_799.0
"""Seconds of the first and of the last moment of the years 1 to 9999."""


def _pattern(order: str) -> str:
    return rf"^\s*{_ORDERS[order][0]}{_CLOCK}\s*$"


def order_of(cells: Sequence[str]) -> str | None:
    """Returns the order of year, month and day that all cells have; None if they are no dates, or fit several orders.

    Example:
        >>> order_of(["31.01.2024", "1.2.2024 13:00"])
        'dmy'
    """
    fitting = [order for order in _ORDERS if all(_is_date(cell, order) for cell in cells)]
    dotted = all(re.match(r"\s*\d+\.\d+\.", cell) for cell in cells)  # 01.02.2024 begins with the day everywhere
    if fitting == ["dmy", "mdy"]:
        return "dmy" if dotted else None
    return fitting[0] if fitting else None


def is_ambiguous(cells: Sequence[str]) -> bool:
    """Returns whether all cells are dates that may begin with the day or with the month, such as 01/02/2024."""
    return order_of(cells) is None and all(_is_date(cell, "dmy") and _is_date(cell, "mdy") for cell in cells)


def is_date(cell: str) -> bool:
    """Returns whether a cell is a date in any order."""
    return any(_is_date(cell, order) for order in _ORDERS)


def _is_date(cell: str, order: str) -> bool:
    found = re.match(_pattern(order), cell, re.ASCII)
    if not found:
        return False
    year, month, day = (int(found[place]) for place in _ORDERS[order][1])
    hour, minute, second, zone, zone_minute = (int(found[place] or 0) for place in (4, 5, 6, 7, 8))
    real = 1 <= month <= 12 and 1 <= day <= _days_in(year, month) and year >= 1
    real = real and hour < 24 and minute < 60 and second < 60 and abs(zone) < 24 and zone_minute < 60
    west = (found[7] or "").startswith("-")
    clock = hour * 3600 + minute * 60 + second - zone * 3600 - (-zone_minute if west else zone_minute) * 60
    first, last = (
        (year, month, day) == (1, 1, 1),
        (year, month, day) == (9999, 12, 31),
    )  # in UTC, an offset may leave them
    return real and not (first and clock < 0) and not (last and clock >= DAY)


def _days_in(year: int, month: int) -> int:
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return 29 if month == 2 and leap else (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)[month - 1]


def seconds(cells: Sequence[str], order: str) -> np.ndarray:
    """Returns seconds since 1970 in UTC, float64; NaN for empty cells. Parts of a second are dropped.

    Example:
        >>> seconds(["1970-01-02", ""], "ymd").tolist()
        [86400.0, nan]
    """
    with tf.device("CPU"):
        values, _ = parsed(tf.constant([cell.encode() for cell in cells], tf.string, [len(cells)]), order)
    return np.asarray(values)


def parsed(texts: tf.Tensor, order: str) -> tuple[tf.Tensor, tf.Tensor]:
    """Reads times in the graph.

    Args:
        texts: string (batch,); blank, or a word such as NA, for a missing time.
        order: as `order_of` returns it. Times that begin with the year are read in any case.

    Returns:
        Seconds since 1970 in UTC, float64 (batch,), NaN where missing; and whether each text is missing or a date, bool.
    """
    missing = is_missing(texts)
    valid, rewritten = tf.zeros_like(missing), tf.fill(tf.shape(texts), EXAMPLES["ymd"])
    for form in dict.fromkeys(("ymd", order)):  # a year in front is a year in any data, as DataFrames write their times
        pattern, (year, month, day) = _pattern(form), _ORDERS[form][1]
        fits = tf.strings.regex_full_match(texts, pattern)
        valid, rewritten = valid | fits, tf.where(fits, texts, rewritten)
        rewritten = tf.strings.regex_replace(rewritten, pattern, rf"0\{year}|0\{month}|0\{day}|0\4|0\5|0\6|\7#0|0\8")
    # "+02#0" is an offset in hours, "#0" is none: the mark keeps the sign before the digits.
    rewritten = tf.strings.regex_replace(rewritten, r"([+-]\d\d)#0", r"\1")
    rewritten = tf.strings.regex_replace(rewritten, "#", "")
    parts = tf.strings.to_number(tf.strings.split(rewritten, "|").to_tensor("0", shape=[None, 8]), tf.float64)
    west = tf.strings.regex_full_match(rewritten, r".*\|-.*")
    years, months, days, hours, minutes, secs, zone, zone_minutes = tf.unstack(parts, axis=1)
    clock = hours * 3600 + minutes * 60 + secs
    offset = zone * 3600 + tf.where(west, -zone_minutes, zone_minutes) * 60
    real = (months >= 1) & (months <= 12) & (days >= 1) & (days <= _month_length(years, months)) & (years >= 1)
    real &= (hours < 24) & (minutes < 60) & (secs < 60) & (tf.abs(zone) < 24) & (zone_minutes < 60)
    found = days_since_1970(years, months, days) * DAY + clock - offset
    fine = valid & real & (found >= _FIRST) & (found <= _LAST)
    return tf.where(fine, found, np.float64("nan")), fine | missing


def is_missing(texts: tf.Tensor) -> tf.Tensor:
    """Returns where texts stand for a missing value, as in files: blank, or a word such as NA; bool of the same shape.

    Example:
        >>> is_missing(tf.constant(["", "N/A", "0"])).numpy().tolist()
        [True, True, False]
    """
    words = tf.strings.lower(tf.strings.strip(texts))
    return tf.reduce_any(words[..., tf.newaxis] == tf.constant(MISSING_NUMBERS), axis=-1)


def _month_length(years: tf.Tensor, months: tf.Tensor) -> tf.Tensor:
    starts = days_since_1970(years, months, tf.ones_like(months))
    last = months >= 12
    return (
        days_since_1970(
            tf.where(last, years + 1, years), tf.where(last, tf.ones_like(months), months + 1), tf.ones_like(months)
        )
        - starts
    )


def days_since_1970(years: tf.Tensor, months: tf.Tensor, days: tf.Tensor) -> tf.Tensor:
    """Returns the days from 1970-01-01 to dates of the Gregorian calendar, float64 as the arguments.

    A year is counted from March, so that the leap day is its last: then months of 30.6 days on average begin on the right
    day when rounded down.

    Example:
        >>> float(days_since_1970(*tf.constant([1970.0, 1.0, 2.0], tf.float64)))
        1.0
    """
    early = months <= 2
    years = tf.where(early, years - 1, years)
    months = tf.where(early, months + 9, months - 3)
    before = 365 * years + tf.floor(years / 4) - tf.floor(years / 100) + tf.floor(years / 400)
    return before + tf.floor((153 * months + 2) / 5) + days - 1 - 719_468
