"""Names of columns in both forms of Unicode: macOS decomposes umlauts, other systems do not."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import zoo
from zoo.datasets.sources.table_kinds import reading_as
from zoo.tasks.row_files import read_rows
from zoo.tasks.series_files import read_series

COMPOSED = "Wohnfläche (m²)"
DECOMPOSED = unicodedata.normalize("NFD", COMPOSED)
FORMS = pytest.mark.parametrize("given", [COMPOSED, DECOMPOSED])


def frame_of(name):
    area = np.random.default_rng(0).uniform(30, 200, 60).round(1)
    return pd.DataFrame(
        {name: area, "Ort": ["Köln", "Bonn", "Ulm"] * 20, "Preis": area * 3000 + np.arange(60) % 7 * 9000}
    )


@FORMS
@pytest.mark.parametrize("held", [COMPOSED, DECOMPOSED])
def test_headers_and_options_meet_in_either_form(given, held, tmp_path):
    file = tmp_path / "a.csv"
    frame_of(held).to_csv(file, index=False)
    options = {"columns": {"value": "Preis"}, "kinds": {given: "number"}, "keep": [given]}
    from_file = zoo.datasets.load(f"csv:{file}", **options)
    from_frame = zoo.datasets.load(frame_of(held), **options)
    for data in (from_file, from_frame):
        assert data.about["table"] == {COMPOSED: "number", "Ort": "category"}
    value = zoo.datasets.load(f"csv:{file}", columns={"value": given}, leave_out=["Preis"])
    assert value.about["value_names"] == [COMPOSED]


@FORMS
def test_a_run_finds_its_columns_in_either_form(given):
    with reading_as({given: "number", "Ort": "category"}):
        for name in (COMPOSED, DECOMPOSED):
            assert list(zoo.datasets.load(frame_of(name), columns={"value": "Preis"}).about["table"]) == [given, "Ort"]


@FORMS
def test_requests_find_their_columns_in_either_form(given, tmp_path):
    inputs = {"area": {"dtype": "float32", "columns": {"column": given}}}
    for name in (COMPOSED, DECOMPOSED):
        frame_of(name).to_csv(tmp_path / "a.csv", index=False)
        rows = [read_rows(table, inputs)[0] for table in (frame_of(name), tmp_path / "a.csv")]
        assert rows[0] == rows[1] and len(rows[0]) == 60
        series = read_series(Path(tmp_path / "a.csv"), {"series": [given, "Preis"]})
        np.testing.assert_array_equal(series, frame_of(name)[[name, "Preis"]].to_numpy(np.float32))


def test_columns_that_differ_only_in_form_are_rejected():
    frame = pd.DataFrame([[1, 2]], columns=[COMPOSED, DECOMPOSED])
    with pytest.raises(zoo.UsageError, match=r"has two columns named 'Wohnfläche \(m²\)'. Rename one of them"):
        zoo.datasets.from_frame(frame, {"value": COMPOSED})
