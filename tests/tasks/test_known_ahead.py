"""What is known in advance of the steps to forecast: columns and the calendar, from a CSV file to the served forecast."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

import zoo
from source_examples import rows
from zoo.datasets.preprocessing.known_ahead import KnownAhead
from zoo.datasets.preprocessing.series import SeriesPreprocessor
from zoo.evaluation.baselines.contract import read_columns
from zoo.evaluation.baselines.series import _ridge
from zoo.export import live
from zoo.models.nlinear import solve
from zoo.tables.calendars import calendar, circles
from zoo.tasks.series_files import read_series

NAN = float("nan")
COLUMNS = {"forecast": "sold", "series": ["sold", "price"], "time": "at", "known": ["promo"], "calendar": ["weekday"]}


def frame(days: int = 400) -> pd.DataFrame:
    """Sales that rise by 30 on days with a promotion and by 10 on Sundays, both unforeseeable from the sales alone."""
    rng = np.random.default_rng(0)
    at = pd.date_range("2023-01-02", periods=days)
    promo = (rng.uniform(size=days) < 0.3).astype(int)
    sold = 50 + 30 * promo + 10 * (at.dayofweek == 6) + rng.normal(size=days)
    return pd.DataFrame({"at": at.strftime("%d.%m.%Y"), "price": rng.normal(5, 1, days), "promo": promo, "sold": sold})


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("sales") / "sales.csv"
    frame().to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def data(file):
    return zoo.datasets.load(f"csv:{file}", columns=COLUMNS, window=14, horizon=3)


def test_parts_of_times_equal_pandas():
    times = pd.date_range("2023-12-30 21:15", periods=300, freq="7h")
    found = calendar("a.csv", pd.Series(times.astype(str), name="at"), ["hour", "weekday", "month"])
    expected = np.stack([times.hour + times.minute / 60, times.dayofweek, times.month], axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_examples_have_what_is_known_of_their_forecast(data):
    whole = frame()
    for example in rows(data, "test")[:5]:
        start = int(np.flatnonzero(np.isclose(whole.sold, example["forecast"][0], rtol=0, atol=5e-6))[0])
        np.testing.assert_allclose(example["series"], whole[["sold", "price", "promo"]][start - 14 : start], rtol=1e-6)
        weekday = (start + np.arange(3)) % 7  # the first day is a Monday
        np.testing.assert_allclose(example["known"], np.stack([whole.promo[start : start + 3], weekday], axis=1))


def test_inputs_are_standardised_columns_and_circles():
    known = np.float32([[[7, 6], [NAN, NAN]]])
    found = KnownAhead(2, (5.0,), (2.0,), ("hour",)).encode(known).numpy()
    expected = np.concatenate([[[[1.0], [0.0]]], circles(known[..., 1:], ["hour"], 3)], axis=-1)
    np.testing.assert_allclose(found, np.nan_to_num(expected), atol=1e-6)


def test_requests_and_examples_give_the_same_inputs(data):
    preprocess = data.prepare("nlinear").preprocessor
    assert preprocess.input_shapes["known"] == (3, 1 + 6)
    examples = rows(data, "test")[:4]
    batch = {name: np.stack([example[name] for example in examples]) for name in ("series", "known", "forecast")}
    inputs, targets, _ = preprocess.encode(batch)
    requests = preprocess.to_requests(examples)
    assert requests["series"].shape == (4, 17, 4) and np.isnan(requests["series"][:, 14:, :2]).all()
    padded = np.pad(requests["series"], ((0, 0), (0, 2), (0, 0)), constant_values=NAN)  # in a batch with longer ones
    served, extras = preprocess.serve({"series": padded})
    np.testing.assert_allclose(served["known"], inputs["known"], atol=1e-6)
    np.testing.assert_allclose(served["series"][:, :14], inputs["series"], atol=1e-6)
    assert extras["lengths"].numpy().tolist() == [14] * 4
    np.testing.assert_allclose(preprocess.unscale(targets["forecast"], extras), batch["forecast"], rtol=1e-5)
    assert SeriesPreprocessor(**preprocess.config()) == preprocess
    assert (
        "with promo, weekday and NaN for the rest; weekday is from 0, Monday"
        in preprocess.requests["series"].description
    )


def test_requests_without_the_rows_ahead_are_rejected(data):
    preprocess = data.prepare("nlinear").preprocessor
    request = preprocess.to_requests(rows(data, "test")[:1])["series"]
    for wrong in (request[:, :14], request[:, 14:], np.where(np.isnan(request), 0, request)):
        with pytest.raises(tf.errors.InvalidArgumentError, match="series lacks the 3 rows of the steps to forecast"):
            preprocess.serve({"series": wrong.astype(np.float32)})


@pytest.mark.parametrize("change", ["one row too many", "no value today", "no value in the last row"])
def test_requests_whose_history_does_not_end_before_the_rows_ahead_are_rejected(data, change):
    preprocess = data.prepare("nlinear").preprocessor
    request = preprocess.to_requests(rows(data, "test")[:2])["series"]
    if change == "one row too many":
        request = np.concatenate([request, request[:, -1:]], axis=1)
    elif change == "no value today":
        request[1, 13, 0] = NAN
    else:
        request[0, -1] = NAN
    hint = "lacks the 3 rows of .*; the last row must" if "last" in change else "exactly 3 rows; the last row must"
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"{hint} have a value"):
        preprocess.serve({"series": request})


def test_examples_that_cannot_be_sent_as_requests_are_left_out(tmp_path):
    whole = frame(120)
    whole["promo"] = whole["promo"].astype(float)
    whole.loc[50, "promo"] = np.nan
    whole.loc[110, "sold"] = np.nan
    whole.to_csv(tmp_path / "a.csv", index=False)
    columns = {**COLUMNS, "calendar": False}
    data = zoo.datasets.load(f"csv:{tmp_path}/a.csv", columns=columns, window=14, horizon=3)
    preprocess = data.prepare("nlinear").preprocessor
    for role in ("train", "test"):
        examples = rows(data, role)
        assert not any(
            np.isnan(example["known"][-1]).all() or np.isnan(example["series"][-1, 0]) for example in examples
        )
        inputs, extras = preprocess.serve(preprocess.to_requests(examples))
        known = np.stack([example["known"] for example in examples])
        np.testing.assert_allclose(inputs["known"], preprocess.ahead.encode(known), atol=1e-6)
        assert set(extras["lengths"].numpy().tolist()) == {14}


def test_the_solved_forecast_knows_promotions_and_weekdays(data, file, tmp_path):
    prepared = data.prepare("nlinear")
    model = prepared.build(seed=0)
    assert [tensor.name for tensor in model.inputs] == ["series", "known"]
    inputs, targets, _ = next(iter(prepared.batches("train", 1_000)))
    solve(model, {name: part.numpy() for name, part in inputs.items()}, {"forecast": targets["forecast"].numpy()})
    report = zoo.evaluate(model, prepared, baselines="none")
    assert report["mae"] < 1.5, "the noise alone has 0.8; without what is known it would be 13"
    # The same from a file: the history, and three rows ahead without sales and prices.
    whole = frame().iloc[:103].copy()
    whole.loc[100:, ["sold", "price"]] = np.nan
    whole.loc[100:, "promo"] = [1, 0, 1]
    whole.to_csv(tmp_path / "next.csv", index=False)
    request = prepared.preprocessor.requests["series"]
    series = read_series(tmp_path / "next.csv", request.columns)
    np.testing.assert_array_equal(series[100:, 2:], [[1, 2], [0, 3], [1, 4]])
    answer = live.signatures(model, prepared.interface)["serving_default"]({"series": tf.constant(series[None])})
    np.testing.assert_allclose(answer["forecast"][0], [80, 50, 80], atol=5)


def test_the_ridge_baseline_knows_the_same(data):
    train, test = (read_columns(data.splits[role]) for role in ("train", "test"))
    found = _ridge(train, test, data)["values"]
    assert np.abs(found - np.stack([*test["forecast"]])).mean() < 2


def test_the_ridge_baseline_takes_the_mean_for_a_missing_value(data):
    train, test = (dict(read_columns(data.splits[role])) for role in ("train", "test"))
    values = np.stack([*train["known"]])
    test["known"] = np.stack([*test["known"]])
    answers = []
    for value in (NAN, values[..., 0].mean()):
        test["known"][..., 0] = value
        answers.append(_ridge(train, test, data)["values"])
    np.testing.assert_allclose(*answers, rtol=1e-5)


def test_lstm_takes_what_is_known():
    model = zoo.build_lstm_model((None, 2), 3, units=(4,), return_sequences=False, known_shape=(3, 5))
    assert [tensor.shape for tensor in model.inputs] == [(None, None, 2), (None, 3, 5)]
    assert model.count_params() == 4 * (2 + 4 + 1) * 4 + (4 + 15) * 3 + 3
    with pytest.raises(
        zoo.UsageError, match=r"known_shape needs one output for the whole series\. Pass return_sequences"
    ):
        zoo.build_lstm_model((None, 2), 3, known_shape=(3, 5))
    with pytest.raises(zoo.UsageError, match=r"known_shape is 3; expected \(horizon, features\). Pass known_shape="):
        zoo.build_nlinear_model((None, 2), 3, 8, known_shape=3)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"known": ["sold"]}, r"sold is to be forecast and is not known in advance\. Leave it out of known"),
        ({"calendar": ["day"]}, r"calendar has 'day'; expected hour, weekday, month\. Pass calendar="),
        (
            {"calendar": True, "time": None},
            r"calendar=\['hour', 'weekday', 'month'\] needs the column of the time\. Pass it",
        ),
        (
            {"calendar": True, "time": "price"},
            r"has numbers in price, such as .*; a calendar needs dates\. Convert them",
        ),
    ],
)
def test_invalid_columns_are_rejected(file, columns, message):
    chosen = {key: value for key, value in {**COLUMNS, **columns}.items() if value is not None}
    with pytest.raises(zoo.UsageError, match=message):
        zoo.datasets.load(f"csv:{file}", columns=chosen, window=14, horizon=3)


def test_a_file_without_the_time_is_rejected(tmp_path):
    (tmp_path / "a.csv").write_text("sold,promo\n1,0\n,1\n")
    columns = {"series": ["sold", "promo"], "time": "at", "calendar": ["weekday"]}
    with pytest.raises(zoo.UsageError, match=r"has no column 'at', from which weekday are taken\. Add it, or columns"):
        read_series(tmp_path / "a.csv", columns)
    (tmp_path / "a.csv").write_text("sold,promo,weekday\n1,0,6\n,1,0\n")
    np.testing.assert_array_equal(read_series(tmp_path / "a.csv", columns), [[1, 0, 6], [NAN, 1, 0]])


def test_the_calendar_is_taken_from_the_time_whatever_other_columns_are_named(tmp_path):
    (tmp_path / "a.csv").write_text("at,sold,weekday\n2024-01-01,1,7\n2024-01-02,,1\n")  # Sunday is 1 here
    columns = {"series": ["sold"], "time": "at", "calendar": ["weekday"]}
    np.testing.assert_array_equal(read_series(tmp_path / "a.csv", columns), [[1, 0], [NAN, 1]])
    columns["series"] = ["sold", "weekday"]
    np.testing.assert_array_equal(read_series(tmp_path / "a.csv", columns), [[1, 7, 0], [NAN, 1, 1]])
