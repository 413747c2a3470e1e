"""Random tables with columns of all kinds, missing values and names that are no identifiers."""

from __future__ import annotations

import csv
import datetime

import numpy as np

NAMES = {
    "number": ("hours per week", "hours_per_week", "2nd", "examples"),
    "category": ("class", "年龄", "self"),
    "yes_no": ("from",),
    "time": ("joined on", "last/seen"),
}
"""Columns by kind. `hours per week` and `hours_per_week` are equal when cleaned."""

WORDS = ("red", "blue", "größer", "a,b", 'say "hi"', "x" * 300)


def mixed_table(rows=60, seed=0, gaps=0.1):
    """Returns columns of texts by name: all kinds, each with missing values; `target` depends on `hours per week`."""
    rng = np.random.default_rng(seed)
    start = datetime.datetime(1999, 12, 25)

    def dates(form):
        seconds = rng.integers(0, 3 * 10**8, rows)
        return [(start + datetime.timedelta(seconds=int(s))).strftime(form) for s in seconds]

    hours = rng.normal(40, 9, rows).round(2)
    table = {
        "hours per week": [f"{hour}" for hour in hours],
        "hours_per_week": [f"{n}" for n in rng.integers(-3, 2**24, rows)],
        "2nd": [f"{n:.9g}" for n in rng.lognormal(0, 5, rows)],
        "examples": [f"{n}" for n in rng.integers(0, 3, rows)],
        "class": [WORDS[n] for n in rng.integers(0, len(WORDS), rows)],
        "年龄": [("young", "old")[n] for n in rng.integers(0, 2, rows)],
        "self": [("u", "v", "NA")[n] for n in rng.integers(0, 3, rows)],
        "from": [("yes", "no")[n] for n in rng.integers(0, 2, rows)],
        "joined on": dates("%d.%m.%Y"),
        "last/seen": dates("%Y-%m-%d %H:%M:%S"),
    }
    for column in table.values():
        for row in np.flatnonzero(rng.random(rows) < gaps):
            column[row] = ""
    noisy = hours + rng.normal(0, 5, rows)
    return {**table, "target": [("few", "many")[int(hour > 40)] for hour in noisy]}


def write_table(file, table, separator=","):
    """Writes columns as a CSV file and returns the name of its data set."""
    with open(file, "w", newline="", encoding="utf-8") as opened:
        writer = csv.writer(opened, delimiter=separator)
        writer.writerow(table)
        writer.writerows(zip(*table.values(), strict=True))
    return f"csv:{file}"
