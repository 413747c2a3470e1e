"""CSV files of `zoo predict` for series models: columns are found by name."""

from __future__ import annotations

import numpy as np
import pytest

import zoo
from zoo.tasks.series_files import read_series

COLUMNS = {"series": ["sold", "price"], "time": "day", "sequence": "shop"}
EXPECTED = np.float32([[1, 10], [2, 20], [np.nan, 30]])


@pytest.mark.parametrize(
    "content",
    [
        "sold,price\n1,10\n2,20\n,30\n",
        "price,sold\n10,1\n20,2\n30,\n",
        "day;shop;price;sold\n30.01.2024;a;10;1\n31.01.2024;a;20;2\n01.02.2024;a;30;\n",
        "\ufeffprice\tsold\tnotes\n10\t1\tx\n20\t2\ty\n30\t\tz\n",
        "1,10\n2,20\n,30\n",
    ],
)
def test_columns_are_found_by_name(tmp_path, content):
    (tmp_path / "a.csv").write_text(content)
    np.testing.assert_array_equal(read_series(tmp_path / "a.csv", COLUMNS), EXPECTED)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("sold,prize\n1,2\n", r"0 columns named 'price'; expected sold, price once each. Did you mean 'prize'\?"),
        ("1,2,3\n", r"has 3 columns and no header; expected sold, price. Add a line with the names"),
        (
            "day,sold,price\n2024-01-02,1,2\n2024-01-01,1,2\n",
            r"rows are not in the order of day. Put the oldest",
        ),
        ("day,sold,price\n9,1,2\n10,1,2\n3,1,2\n", r"rows are not in the order of day. Put the oldest"),
        ("shop,sold,price\na,1,2\nb,1,2\n", r"has 2 sequences in shop; expected one. Pass a file for each of them"),
        (
            "sold,price\n1,many\n",
            r"row 1: price is 'many'; expected a number. Pass --data.missing",
        ),
    ],
)
def test_invalid_files_are_rejected(tmp_path, content, message):
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(zoo.UsageError, match=message):
        read_series(tmp_path / "a.csv", COLUMNS)


def test_special_files_are_rejected_without_reading_them(tmp_path):
    with pytest.raises(zoo.UsageError, match=r"/dev/zero is not a regular file. Pass a file"):
        read_series("/dev/zero", COLUMNS)


def test_columns_without_names_are_read_in_order(tmp_path):
    (tmp_path / "a.csv").write_text("any,header\n1,2\n")
    np.testing.assert_array_equal(read_series(tmp_path / "a.csv", {}), [[1, 2]])
