"""Tables that this package adds to TensorFlow Datasets, compared with their files."""

from __future__ import annotations

import csv
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import zoo
from source_examples import SPLITS, message, rows, sizes

ADULT = (
    *(
        "age",
        "workclass",
        "fnlwgt",
        "education",
        "education-num",
        "marital-status",
        "occupation",
        "relationship",
        "race",
    ),
    *("sex", "capital-gain", "capital-loss", "hours-per-week", "native-country"),
)


def adults(count, mark):
    """Returns lines as in the source: cells after a comma and a space, and in the test file a full stop after the label."""
    jobs, homes = ("Private", "?", "State-gov"), ("United-States", "Cuba", "?")
    return [
        f"{20 + n}, {jobs[n % 3]}, {1000 + 7 * n}, HS-grad, 9, Never-married, Sales, Own-child, White, Male, "
        f"{n * n % 41}, 0, 40, {homes[n % 3]}, {('<=50K', '>50K')[n % 2]}{mark}"
        for n in range(count)
    ]


@pytest.mark.parametrize("names", [("adult.data", "adult.test"), ("adult-train.csv", "adult-test.csv")])
def test_adults_of_both_files_are_rows_with_missing_values(names, tmp_path):
    train, test = (tmp_path / name for name in names)
    train.write_text("\n".join([*adults(60, ""), "", ""]))
    remark = "|1x3 Cross validator\n" if names[1] == "adult.test" else ""
    test.write_text(remark + "\n".join(adults(12, ".")))
    data = zoo.datasets.load(
        "adult", data_dir=str(tmp_path / "data"), manual_dir=str(tmp_path), keep=["fnlwgt", "race"]
    )
    assert data.task == "tabular_classification" and data.class_names == ("<=50K", ">50K")
    assert sizes(data) == [54, 6, 12] and data.licence == "CC BY 4.0"
    assert data.about["table_columns"]["workclass"]["missing"] == 24
    assert data.arguments["keep"] == ["fnlwgt", "race"]
    found = sorted(rows(data, "test"), key=lambda row: row["age"])
    assert [row["label"] for row in found] == [0, 1] * 6
    assert [row["native-country"] for row in found[:3]] == [b"United-States", b"Cuba", b""]
    assert [row["fnlwgt"] for row in found[:3]] == [1000, 1007, 1014]


def test_hours_are_split_by_day_and_lack_the_parts_of_the_target(tmp_path):
    header = "instant,dteday,season,yr,mnth,hr,holiday,weekday,workingday,weathersit,temp,atemp,hum,windspeed,"
    header += "casual,registered,cnt"
    lines = [
        f"{24 * d + h + 1},2011-01-{d + 1:02},1,0,1,{h},0,{d % 7},{int(d % 7 > 1)},{1 + h % 3},0.{h + 10},"
        f"0.{d + 10},0.5,0.{h},{h},{d * 7 % 11},{h + d * 7 % 11}"
        for d in range(20)
        for h in range(24)
    ]
    (tmp_path / "hour.csv").write_text("\n".join([header, *lines]))
    data = zoo.datasets.load("bike_sharing_hours", data_dir=str(tmp_path / "data"), manual_dir=str(tmp_path))
    assert data.task == "tabular_regression" and data.about["value_names"] == ["cnt"]
    assert sizes(data) == [16 * 24, 2 * 24, 2 * 24]
    assert "instant" not in data.features and "casual" not in data.about["table_columns"]
    days = [{row["dteday"] for row in rows(data, split)} for split in SPLITS]
    assert max(days[0]) < min(days[1]) and max(days[1]) < min(days[2])
    assert [row["hr"] for row in rows(data, "test")] == [*range(24)] * 2, "in the order of the file"
    again = zoo.datasets.load("bike_sharing_hours", **data.arguments)
    assert again.splits["test"].sha256 == data.splits["test"].sha256
    with pytest.raises(
        zoo.UsageError, match="is split by time: with folds, training would see values from after the test"
    ):
        zoo.datasets.load("bike_sharing_hours", **data.arguments, folds=2, fold=0)


def test_districts_keep_missing_numbers_and_the_printed_columns_say_so(tmp_path, capsys):
    header = "longitude,latitude,housing_median_age,total_rooms,total_bedrooms,population,households,median_income,"
    header += "median_house_value,ocean_proximity"
    lines = [
        f"-{118 + n / 10:.2f},{34 + n % 7 / 10},{n % 50}.0,{90 + n}.0,{'' if n % 10 == 3 else f'{n}.0'},{n * n % 97}.0,"
        f"{n + 5}.0,{2 + n % 11 / 10},{1e5 + 7919 * n % 10007},{('INLAND', '<1H OCEAN')[n % 2]}"
        for n in range(60)
    ]
    (tmp_path / "housing.csv").write_text("\n".join([header, *lines]))
    data = zoo.datasets.load("california_housing", data_dir=str(tmp_path / "data"), manual_dir=str(tmp_path))
    assert "total_bedrooms: number, 6 missing" in capsys.readouterr().out
    assert data.task == "tabular_regression" and sizes(data) == [48, 6, 6]
    assert sum(np.isnan(row["total_bedrooms"]) for row in rows(data)) == 6
    assert "no licence" in data.licence and data.about["value_names"] == ["median_house_value"]


@pytest.mark.parametrize("name", ["adult", "bike_sharing_hours", "california_housing"])
def test_missing_files_of_tables_are_named(name, tmp_path):
    files = {
        "adult": "adult.data and adult.test",
        "bike_sharing_hours": "hour.csv",
        "california_housing": "housing.csv",
    }
    found = message(name, data_dir=str(tmp_path / "data"), manual_dir=str(tmp_path))
    assert f"needs files that you must download yourself: {files[name]}, from https://" in found
    assert name in zoo.datasets.list_datasets()
    for file in ("adult.data", "adult.test", "hour.csv", "housing.csv"):
        (tmp_path / file).write_text("a,b,c\n1,2,3\n")
    found = message(name, data_dir=str(tmp_path / "data"), manual_dir=str(tmp_path))
    assert "has other content than the published one" in found and found.endswith("Replace it with the published file.")


# --- The original files ----------------------------------------------------------------------------------------------

MANUAL_DIR = Path(os.environ.get("ZOO_MANUAL_DIR") or "/nowhere")


def original(folder, name, tmp_path_factory):
    if not (MANUAL_DIR / folder).is_dir():
        pytest.skip(f"ZOO_MANUAL_DIR names no folder with the original files in {folder}/")
    data_dir = os.environ.get("ZOO_DATA_DIR") or str(tmp_path_factory.mktemp("prepared"))
    return zoo.datasets.load(name, data_dir=data_dir, manual_dir=str(MANUAL_DIR / folder))


def cells(example, names):
    return tuple(v.decode() if isinstance(v, bytes) else float(v) for v in (example[name] for name in names))


@pytest.mark.slow
def test_adults_equal_those_in_the_files(tmp_path_factory):
    data = original("adult", "adult", tmp_path_factory)
    assert sizes(data) == [29304, 3257, 16281] and [*data.features] == [*ADULT, "label"]
    shown = [[(*cells(e, ADULT), data.class_names[e["label"]]) for e in rows(data, split)] for split in SPLITS]
    for file, held in (("adult-train.csv", shown[0] + shown[1]), ("adult-test.csv", shown[2])):
        with (MANUAL_DIR / "adult" / file).open() as lines:
            read = [line for line in csv.reader(lines, skipinitialspace=True) if line]
        numbers = {name for name in ADULT if read[0][ADULT.index(name)].isdigit()}
        expected = Counter(
            (
                *(float(c) if n in numbers else c.replace("?", "") for n, c in zip(ADULT, row, strict=False)),
                row[-1].rstrip("."),
            )
            for row in read
        )
        assert Counter(held) == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "name", "file", "target", "unused"),
    [
        ("bike_sharing", "bike_sharing_hours", "hour.csv", "cnt", {"instant", "casual", "registered", "dteday"}),
        ("california_housing", "california_housing", "housing.csv", "median_house_value", set()),
    ],
)
def test_numbers_equal_those_in_the_file(folder, name, file, target, unused, tmp_path_factory):
    data = original(folder, name, tmp_path_factory)
    with (MANUAL_DIR / folder / file).open() as lines:
        read = list(csv.DictReader(lines))
    used = [column for column in read[0] if column not in {*unused, target}]
    assert {*data.features} - {"dteday", "value"} == {*used}

    def plain(cell):
        try:
            return f"{np.float32('nan' if cell == '' else cell):.6g}"
        except ValueError:
            return cell

    expected = Counter(tuple(plain(row[column]) for column in [*used, target]) for row in read)
    found = Counter(tuple(plain(v) for v in (*cells(e, used), float(np.ravel(e["value"])[0]))) for e in rows(data))
    assert found == expected
