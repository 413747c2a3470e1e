"""CSV files of series: one row per series, and several series to forecast."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import zoo
from zoo.datasets.sources.windows import window_splits
from zoo.tasks.series_files import read_series, read_several


def message(*args, **kwargs):
    with pytest.raises(zoo.UsageError) as caught:
        zoo.datasets.load(*args, **kwargs)
    return str(caught.value)


def examples(data):
    return [example for split in data.splits.values() for example in split.dataset().as_numpy_iterator()]


def series_of(data):
    """Returns the series of all splits with their class names."""
    return {
        (data.class_names[each["label"]], tuple(np.nan_to_num(each["series"][:, 0], nan=-99).round(3).tolist()))
        for each in examples(data)
    }


@pytest.fixture(scope="module")
def rows():
    """Rows of a label and nine values, the last of some empty, and what they mean."""
    values = np.arange(40 * 9).reshape(40, 9) / 8
    cells = [[f"{value:g}" for value in row] for row in values]
    for row in range(0, 40, 3):
        cells[row][7:] = ["", ""]
        cells[row][2] = "NaN"
    kinds = ["rise" if row % 2 else "fall" for row in range(40)]
    expected = {
        (kind, tuple(-99.0 if cell == "NaN" else round(float(cell), 3) for cell in row if cell))
        for kind, row in zip(kinds, cells, strict=True)
    }
    return kinds, cells, expected


STEPS = [f"t{step}" for step in range(9)]


@pytest.mark.parametrize(
    ("header", "columns"),
    [
        (STEPS, {"label": "kind"}),  # names that count up
        ([f"w{step}" for step in range(9)], {"label": "kind", "steps": "w*"}),
        (list("abcdefghi"), {"label": "kind", "steps": list("abcdefghi")}),
        (list("abcdefghi"), {"label": "kind", "steps": "*"}),
    ],
)
def test_each_row_is_a_series(tmp_path, rows, header, columns):
    kinds, cells, expected = rows
    frame = pd.DataFrame(cells, columns=header)
    frame.insert(3, "kind", kinds)
    frame.to_csv(tmp_path / "a.csv", index=False)
    data = zoo.datasets.load(f"csv:{tmp_path / 'a.csv'}", columns=columns)
    assert data.task == "series_classification"
    assert series_of(data) == expected
    assert data.about["request_columns"] == {"steps": header, "label": "kind"}


def test_files_of_the_ucr_archive_need_no_options(tmp_path, rows):
    kinds, cells, expected = rows
    lines = ["\t".join(["-1" if kind == "fall" else "1", *row]) for kind, row in zip(kinds, cells, strict=True)]
    (tmp_path / "a_TRAIN.tsv").write_text("\n".join(lines[:30]) + "\n")
    (tmp_path / "a_TEST.tsv").write_text("\n".join(lines[30:]) + "\n")
    data = zoo.datasets.load(f"csv:{tmp_path / 'a_TRAIN.tsv'}", test="a_TEST.tsv")
    assert data.class_names == ("-1", "1")
    names = {"-1": "fall", "1": "rise"}
    assert {(names[label], values) for label, values in series_of(data)} == expected
    assert data.splits["test"].num_examples == 10
    again = zoo.datasets.load(data.name, **data.arguments)
    assert series_of(again) == series_of(data)
    (tmp_path / "a_TRAIN.tsv").rename(tmp_path / "a.csv")  # may be a table of features
    assert "fit no task" in message(f"csv:{tmp_path / 'a.csv'}", header=False)
    columns = {"label": 0, "steps": "*"}
    data = zoo.datasets.load(f"csv:{tmp_path / 'a.csv'}", header=False, columns=columns, test="a_TEST.tsv")
    assert series_of(data) == series_of(again)


def test_parquet_files_and_steps_in_another_order(tmp_path, rows):
    kinds, _, _ = rows
    frame = pd.DataFrame(np.arange(40 * 12.0).reshape(40, 12), columns=[f"t{step}" for step in range(12)])
    frame = frame[sorted(frame.columns)].assign(label=kinds)  # t0, t1, t10, t11, t2
    frame.to_parquet(tmp_path / "a.parquet")
    data = zoo.datasets.load(f"parquet:{tmp_path / 'a.parquet'}")
    assert data.task == "series_classification"
    assert all((np.diff(each["series"][:, 0]) == 1).all() for each in examples(data))


@pytest.mark.parametrize(
    "header", [[f"pixel{n}" for n in range(9)], [f"feature_{n}" for n in range(9)], [f"t{2 * n}" for n in range(9)]]
)
def test_other_tables_stay_tables(tmp_path, rows, header):
    kinds, cells, _ = rows
    pd.DataFrame(cells, columns=header).assign(kind=kinds).to_csv(tmp_path / "a.csv", index=False)
    data = zoo.datasets.load(f"csv:{tmp_path / 'a.csv'}", columns={"label": "kind"})
    assert data.task == "tabular_classification"


def test_invalid_files_of_series_are_rejected(tmp_path, rows):
    kinds, cells, _ = rows
    path = tmp_path / "a.csv"
    frame = pd.DataFrame(cells, columns=STEPS).assign(kind=kinds)
    frame.to_csv(path, index=False)
    name = f"csv:{path}"
    assert "has no column 'kinds'. Did you mean 'kind'?" in message(name, columns={"label": "kinds", "steps": "t*"})
    assert "columns has the keys steps; series_classification needs label, steps" in message(
        name, columns={"steps": "t*"}
    )
    assert "has no column that matches steps='w*'; its columns are t0, t1" in message(
        name, columns={"label": "kind", "steps": "w*"}
    )
    frame.loc[4, "t1"] = "high"
    frame.to_csv(path, index=False)
    assert "row 5: t1 is 'high'; expected a number" in message(name, columns={"label": "kind", "steps": "t*"})
    frame.loc[:, STEPS] = ""
    frame.to_csv(path, index=False)
    assert "has no complete row: {'rows without a value': 40}" in message(
        name, columns={"label": "kind", "steps": "t*"}
    )


def test_requests_have_a_series_in_each_row(tmp_path):
    columns, path = {"steps": ["t0", "t1", "t2"], "label": "kind"}, tmp_path / "a.csv"
    path.write_text("kind,t2,t1,t0,note\na,3,2,1,x\nb,,,5,y\nc,3,NA,4,z\n")
    found, unused = read_several(path, columns)
    assert unused == ["note"]
    assert [name for name, _ in found] == [f"{path} row {row}" for row in (1, 2, 3)]
    for (_, value), expected in zip(found, ([1, 2, 3], [5], [4, np.nan, 3]), strict=True):
        np.testing.assert_array_equal(value[:, 0], np.float32(expected))
    path.write_text("1,2,3\n4,5,\n")  # without a header
    np.testing.assert_array_equal(read_several(path, columns)[0][1][1], [[4], [5]])
    path.write_text("7,1,2,3\n8,4,5,6\n")  # the label first
    np.testing.assert_array_equal(read_several(path, columns)[0][1][1], [[4], [5], [6]])
    path.write_text("1\n2\n3\n4\n")  # a row per step
    assert read_several(path, columns) is None
    np.testing.assert_array_equal(read_series(path, columns), [[1], [2], [3], [4]])
    for content, expected in {
        "t0,t1\n1,2\n": "has 0 columns named 't2'; expected t0 to t2 once each",
        "1,2\n3,4\n": "has 2 columns and no header; expected 3, or 4 with the label first",
        "t0,t1,t2\n1,2,3\n,,\n": "row 2 has no number in t0 to t2. Leave the row out",
    }.items():
        path.write_text(content)
        with pytest.raises(zoo.UsageError, match=expected):
            read_several(path, columns)


def shops(steps=(60, 80), seed=0):
    generator = np.random.default_rng(seed)
    parts = [
        pd.DataFrame(
            {
                "day": pd.date_range("2024-01-01", periods=count).strftime("%Y-%m-%d"),
                "shop": shop,
                "sold": (1_000 * place + np.arange(count)).astype(float),
            }
        )
        for place, (shop, count) in enumerate(zip("abcdef", steps, strict=False))
    ]
    return pd.concat(parts).sample(frac=1, random_state=int(generator.integers(9)))


COLUMNS = {"forecast": "sold", "sequence": "shop", "time": "day"}


def test_windows_do_not_cross_series(tmp_path):
    shops().to_csv(tmp_path / "a.csv", index=False)
    data = zoo.datasets.load(f"csv:{tmp_path / 'a.csv'}", columns=COLUMNS, window=5, horizon=3)
    assert data.about["steps_of_series"] == {"shop 'a'": 60, "shop 'b'": 80}
    found = {}
    for role, split in data.splits.items():
        for each in split.dataset().as_numpy_iterator():
            window = np.concatenate([each["series"][:, 0], each["forecast"]])
            assert (np.diff(window) == 1).all(), "steps of one series, in the order of time"
            shop, step = divmod(int(each["forecast"][0]), 1_000)
            found.setdefault((role, shop), []).append(step)
    for shop, count in enumerate((60, 80)):
        first, second = int(0.7 * count), int(0.8 * count)
        assert sorted(found["train", shop]) == list(range(5, first - 2))
        assert sorted(found["validation", shop]) == list(range(first, second - 2))
        assert sorted(found["test", shop]) == list(range(second, count - 2))


def test_one_series_is_cut_as_before():
    values = np.random.default_rng(0).normal(size=(90, 2)).astype(np.float32)
    alone, named = (window_splits("s", values, 7, 3, parts=parts) for parts in (None, {"a": 90}))
    for role in alone:
        for x, y in zip(alone[role].dataset(), named[role].dataset(), strict=True):
            np.testing.assert_array_equal(x["series"], y["series"])


def test_invalid_series_to_forecast_are_named(tmp_path):
    path = tmp_path / "a.csv"
    name, sizes = f"csv:{path}", {"window": 20, "horizon": 3}
    shops((120, 12, 90)).to_csv(path, index=False)
    assert (
        "has 12 steps of shop 'b', too few for window=20 and horizon=3: it gives {'train': 0, 'validation': 0, 'test': 0} "
        "examples. Pass a smaller window or horizon, or leave out the rows of shop 'b'."
    ) in message(name, columns=COLUMNS, **sizes)
    shops((12,)).to_csv(path, index=False)
    assert "has 12 steps, too few for window=20" in message(name, columns={"forecast": "sold", "time": "day"}, **sizes)
    both = shops((90, 90))
    both.to_csv(path, index=False)
    hint = 'Leave one row per time; if the file has several series, add "sequence": "COLUMN" to the columns.'
    assert hint in message(name, columns={"forecast": "sold", "time": "day"}, **sizes)
    pd.concat([both, both[:1]]).to_csv(path, index=False)
    assert f"row 181: the time occurs twice for shop {both['shop'].iloc[0]!r}" in message(
        name, columns=COLUMNS, **sizes
    )
    both.assign(sold=both["sold"].where(both["shop"] != "b")).to_csv(path, index=False)
    assert "has no number in sold for shop 'b'. Leave its rows out." in message(name, columns=COLUMNS, **sizes)


def test_requests_may_have_several_series(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("shop,sold\na,1\nb,5\na,2\nb,6\n")
    columns = {"series": ["sold"], "sequence": "shop"}
    found, _ = read_several(path, columns)
    assert [(name.rpartition("/")[2], value[:, 0].tolist()) for name, value in found] == [
        ("a.csv shop a", [1, 2]),
        ("a.csv shop b", [5, 6]),
    ]
    path.write_text("shop,sold\na,1\na,2\n")
    assert read_several(path, columns) is None


@pytest.mark.parametrize("sizes", [{"a": 90}, {"a": 90, "b": 90, "c": 90}, {"a": 60, "b": 200, "c": 90}])
def test_windows_that_are_farther_apart_than_the_overlap_share_no_step(sizes):
    """Steps count up through all series, so that equal numbers are equal steps."""
    horizon = 5
    values = np.arange(sum(sizes.values()), dtype=np.float32)[:, np.newaxis]
    train = window_splits("made", values, 4, horizon, parts=sizes if len(sizes) > 1 else None)["train"]
    steps = [{*example["forecast"].tolist()} for example in train.dataset().as_numpy_iterator()]
    for place in range(len(steps) - train.overlap):
        later = steps[place + train.overlap :]
        assert not any(steps[place] & other for other in later)
    shared = [any(steps[i] & steps[i + gap] for i in range(len(steps) - gap)) for gap in range(1, train.overlap)]
    assert not any(shared[horizon - 1 :]) if len(sizes) == 1 else any(shared[horizon:])
