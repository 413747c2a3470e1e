"""Where tables come from and how they are split: DataFrames, Parquet, gzip, several files; times, groups and folds."""

from __future__ import annotations

import datetime
import gzip
import re

import numpy as np
import pandas as pd
import pytest

import zoo
from zoo.datasets.sources.folds import take_fold
from zoo.tables.frames import as_texts

ROWS = 60


def frame_of(rows=ROWS, seed=0):
    """Returns a DataFrame with a column of every dtype that pandas users have, and a label."""
    rng = np.random.default_rng(seed)
    start = pd.Timestamp("2020-02-28 10:00")
    stamps = start + pd.to_timedelta(rng.integers(0, 10**7, rows), unit="s")
    return pd.DataFrame(
        {
            "float64": rng.normal(size=rows),
            "float32": rng.normal(size=rows).astype(np.float32),
            "int64": rng.integers(0, 2**40, rows),
            "Int16": pd.array([None, *rng.integers(0, 99, rows - 1)], "Int16"),
            "Float64": pd.array([None, *rng.normal(size=rows - 1)], "Float64"),
            "bool": rng.random(rows) < 0.5,
            "boolean": pd.array([None, *(rng.random(rows - 1) < 0.5)], "boolean"),
            "categorical": pd.Categorical.from_codes(rng.integers(0, 3, rows), [10, 20, 30]),
            "datetime": stamps,
            "zoned": stamps.tz_localize("Europe/Berlin"),
            "date": [stamp.date() for stamp in stamps],
            "period": stamps.to_period("M"),
            "timedelta": stamps - start,
            "words": np.array(["u", "v", "w"], object)[rng.integers(0, 3, rows)],
            "y": np.where(rng.random(rows) < 0.5, "few", "many"),
        }
    )


KINDS = {
    **dict.fromkeys(["float64", "float32", "int64", "Int16", "Float64", "timedelta"], "number"),
    **dict.fromkeys(["bool", "boolean"], "yes_no"),
    **dict.fromkeys(["datetime", "zoned", "date", "period"], "time"),
    **dict.fromkeys(["categorical", "words"], "category"),
}


def rows_of(data):
    """Returns all examples, sorted by the column float64."""
    parts = [part.dataset().as_numpy_iterator() for part in data.splits.values()]
    return sorted((example for part in parts for example in part), key=lambda example: float(example["float64"]))


def test_frames_keep_their_dtypes_and_exact_values():
    frame = frame_of()
    data = zoo.datasets.from_frame(frame, {"label": "y"}, keep=["zoned"])
    assert data.about["table"] == {name: KINDS[name] for name in frame.columns if name in KINDS}
    ordered = frame.assign(key=frame["float64"].astype(np.float32)).sort_values("key")
    for example, (_, row) in zip(rows_of(data), ordered.iterrows(), strict=True):
        for name in ("float64", "float32", "int64", "Int16", "Float64"):
            expected = np.float32(np.nan if pd.isna(row[name]) else row[name])
            np.testing.assert_array_equal(example[name], expected)
        for name in ("datetime", "zoned"):
            assert example[name] == row[name].timestamp()
        assert example["date"] == row["date"].toordinal() * 86400 - datetime.date(1970, 1, 1).toordinal() * 86400
        assert example["timedelta"] == np.float32(row["timedelta"].total_seconds())
        assert example["categorical"] == str(row["categorical"]).encode() and example["bool"] == row["bool"]


def test_cells_of_frames_have_their_values_to_the_last_bit():
    rng = np.random.default_rng(0)
    values = rng.standard_normal(500) * 10.0 ** rng.integers(-30, 30, 500)
    frame = pd.DataFrame({"a": values, "b": values.astype(np.float32), "c": rng.integers(-(2**62), 2**62, 500)})
    texts = as_texts(frame)
    assert [float(cell) for cell in texts["a"]] == values.tolist()
    assert [np.float32(cell) for cell in texts["b"]] == values.astype(np.float32).tolist()
    assert [int(cell) for cell in texts["c"]] == frame["c"].tolist()
    held = pd.DataFrame({"a": [None, pd.NA, pd.NaT, np.nan, "x"], "b": [b"\xc3\xa4", 1, 2.0, True, ""]})
    assert as_texts(held).to_numpy().tolist() == [["", "ä"], ["", "1"], ["", "2"], ["", "True"], ["x", ""]]
    for wrong, message in (([[1, 2]], "a is \\[1, 2\\]; expected one value per cell"), ([b"\xff"], "not UTF-8")):
        with pytest.raises(zoo.UsageError, match=message):
            as_texts(pd.DataFrame({"a": wrong}))


def test_parquet_equals_the_frame_and_gzip_equals_csv(tmp_path):
    frame = frame_of().drop(columns=["period"])
    frame["categorical"] = frame["categorical"].astype(str).astype("category")  # Parquet makes categories of texts only
    frame.to_parquet(tmp_path / "t.parquet")
    right = rows_of(zoo.datasets.from_frame(frame, {"label": "y"}))
    for kind in ("parquet", "csv"):
        data = zoo.datasets.load(f"{kind}:{tmp_path}/t.parquet", columns={"label": "y"})
        assert data.about["table"] == {name: KINDS[name] for name in frame.columns if name in KINDS}
        np.testing.assert_equal(rows_of(data), right)
    plain = frame[["float64", "words", "y"]].to_csv(index=False).encode()
    (tmp_path / "t.csv").write_bytes(plain)
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(plain[:500]) + gzip.compress(plain[500:]))
    one, other = (zoo.datasets.load(f"csv:{tmp_path}/{name}", columns={"label": "y"}) for name in ("t.csv", "t.csv.gz"))
    np.testing.assert_equal(rows_of(one), rows_of(other))
    with pytest.raises(zoo.UsageError, match=r"t\.parquet is Parquet, whose columns have names. Leave header=False"):
        zoo.datasets.load(f"parquet:{tmp_path}/t.parquet", columns={"label": "y"}, header=False)
    for name, content in (("t.parquet", b"PAR1 and nothing"), ("t.csv.gz", gzip.compress(plain)[:-9])):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(zoo.UsageError, match=r"cannot be read as Parquet|is damaged: "):
            zoo.datasets.load(f"csv:{tmp_path}/{name}", columns={"label": "y"})


def test_several_files_are_one_table_or_splits(tmp_path):
    frame = frame_of()[["float64", "words", "y"]]
    for part in range(3):
        columns = ["words", "y", "float64"] if part else ["float64", "words", "y"]
        frame[part * 20 : part * 20 + 20][columns].to_csv(tmp_path / f"part-{part}.csv", index=False)
    data = zoo.datasets.load(f"csv:{tmp_path}/part-*.csv", columns={"label": "y"})
    np.testing.assert_equal(rows_of(data), rows_of(zoo.datasets.from_frame(frame, {"label": "y"})))
    options = {"columns": {"label": "y"}, "validation": "part-1.csv", "test": "part-2.csv"}
    data = zoo.datasets.load(f"csv:{tmp_path}/part-0.csv", **options)
    assert {role: part.num_examples for role, part in data.splits.items()} == {
        "train": 20,
        "validation": 20,
        "test": 20,
    }
    frame.rename(columns={"words": "others"}).to_csv(tmp_path / "part-9.csv", index=False)
    with pytest.raises(
        zoo.UsageError, match=r"part-9.csv has the columns float64, others, y; expected those of .*part-0"
    ):
        zoo.datasets.load(f"csv:{tmp_path}/part-*.csv", columns={"label": "y"})
    with pytest.raises(zoo.UsageError, match=r"No file matches .*none-\*.csv"):
        zoo.datasets.load(f"csv:{tmp_path}/none-*.csv", columns={"label": "y"})


def grouped(rows=90):
    """Returns a DataFrame with a time with ties, and a customer with several rows."""
    rng = np.random.default_rng(5)
    return pd.DataFrame(
        {
            "float64": rng.normal(size=rows),
            "customer": [f"c{n}{' ' * int(rng.integers(2))}" for n in rng.integers(0, 20, rows)],
            "day": 1_700_000_000 + rng.integers(0, 20, rows) * 86_400,
            "y": np.where(rng.random(rows) < 0.5, "few", "many"),
        }
    )


def column_of(data, column, frame):
    """Returns the values of a column of the frame in every split."""
    known = dict(zip(frame["float64"].astype(np.float32), frame[column], strict=True))
    return {
        role: [known[example["float64"]] for example in part.dataset().as_numpy_iterator()]
        for role, part in data.splits.items()
    }


def test_rows_are_split_by_time_with_ties_together():
    frame = grouped()
    for times in (frame["day"], frame["day"] * 1000, pd.to_datetime(frame["day"], unit="s")):
        data = zoo.datasets.from_frame(frame.assign(day=times), {"label": "y"}, time="day", leave_out=["customer"])
        found = column_of(data, "day", frame)
        assert max(found["train"]) < min(found["validation"]) <= max(found["validation"]) < min(found["test"])
        assert 60 <= len(found["train"]) <= 78
    with pytest.raises(
        zoo.UsageError, match="split by time: with folds, training would see values from after the test"
    ):
        take_fold(data, 3, 0)
    for wrong in (frame["day"].where(frame.index != 3), frame["customer"]):
        with pytest.raises(zoo.UsageError, match="day is no column of times, or has missing ones"):
            zoo.datasets.from_frame(frame.assign(day=wrong), {"label": "y"}, time="day", leave_out=["customer"])


def test_groups_stay_in_one_split_and_in_one_fold():
    frame = grouped()
    data = zoo.datasets.from_frame(frame, {"label": "y"}, group="customer", leave_out=["day"])
    assert "customer" not in data.features
    folds = [take_fold(data, 4, fold) for fold in range(4)]
    for one in (data, *folds):
        found = {role: {c.strip() for c in customers} for role, customers in column_of(one, "customer", frame).items()}
        assert not found["train"] & found["validation"] and not (found["train"] | found["validation"]) & found["test"]
    tested = [customer.strip() for fold in folds for customer in column_of(fold, "customer", frame)["test"]]
    assert len(tested) == len(frame)
    for other in ({"time": "day"}, {}):
        held = frame if other else frame.assign(split=["train", "test", "train"] * 30)
        with pytest.raises(zoo.UsageError, match=r"split the rows in different ways. Pass one of them"):
            zoo.datasets.from_frame(held, {"label": "y"}, group="customer", **other)


def test_rows_are_otherwise_split_with_equal_shares_of_the_classes():
    frame = frame_of(200)[["float64", "words"]].assign(y=["rare"] * 10 + ["usual"] * 190)
    counts = zoo.datasets.from_frame(frame, {"label": "y"}).about["class_counts"]
    assert counts == {"train": [8, 152], "validation": [1, 19], "test": [1, 19]}


def test_frames_show_their_columns(capsys):
    data = zoo.datasets.load(frame_of(), columns={"label": "y"}, leave_out=["words"])
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "Columns of arrays:" and "  Int16: number, 1 missing, such as " in said[4]
    assert said[-1] == "  words: left out, not used: as you chose"
    assert repr(data).splitlines()[0] == "arrays (tabular_classification): 13 columns, label int64 ()"
    html = re.sub(r"<[^>]+>", "|", data._repr_html_())
    assert "|Int16||number||1 missing||such as " in html and re.search(r"\|2020-0\d-\d\d 00:00:00\|", html)


def test_tables_of_few_categories_are_split_and_do_not_depend_on_the_order(tmp_path):
    rng = np.random.default_rng(0)
    rows = [
        f"{rng.choice(['1st', '2nd', '3rd'])},{rng.choice(['male', 'female'])},{rng.choice(['no', 'yes'])}"
        for _ in range(300)
    ]

    def counts(lines):
        (tmp_path / "titanic.csv").write_text("\n".join(["class,sex,survived", *lines]) + "\n")
        data = zoo.datasets.load(f"csv:{tmp_path}/titanic.csv", columns={"label": "survived"})
        kinds = {name: sorted(map(str, split.dataset().as_numpy_iterator())) for name, split in data.splits.items()}
        return {name: len(rows) for name, rows in kinds.items()}, kinds

    sizes, kinds = counts(rows)
    assert sum(sizes.values()) == 300 and 20 <= min(sizes.values()) <= 40 and sizes["train"] > 220
    assert counts(rows[::-1])[1] == kinds
