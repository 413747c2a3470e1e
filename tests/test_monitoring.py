"""Statistics of training inputs, and the distance of later requests from them."""

import base64
import io
import json
import math
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.datasets import load_diabetes

import zoo
from zoo import monitoring
from zoo.datasets import statistics
from zoo.errors import UsageError
from zoo.scripts import cli
from zoo.tasks import REQUEST_KINDS


def _summary(values):
    return statistics.summarize({("x", "value"): values})["x"]["value"]


def _changes(before, now, limits=statistics.LIMITS):
    known = statistics.summarize({("x", "value"): before})
    return {change.measure: change for change in statistics.changes(known, {("x", "value"): now}, limits)}


def test_the_index_of_numbers_equals_its_formula_on_deciles():
    generator = np.random.default_rng(0)
    before, now = generator.normal(size=4_000), generator.normal(0.8, 1.2, 3_000)
    edges = np.quantile(before, np.arange(0.1, 0.95, 0.1))
    p, q = (np.histogram(x, [-np.inf, *edges, np.inf])[0] + 0.5 for x in (before, now))
    p, q = p / p.sum(), q / q.sum()
    expected = sum((b - a) * math.log(b / a) for a, b in zip(p, q, strict=True))
    change = _changes(before.tolist(), now.tolist())["value"]
    assert change.distance == pytest.approx(expected, rel=1e-6)
    assert change.moved and expected > 0.2
    same = _changes(before.tolist(), generator.normal(size=3_000).tolist())["value"]
    assert not same.moved and same.distance < same.by_chance < 0.05


def test_equal_data_rarely_moves_even_with_few_requests():
    generator = np.random.default_rng(1)
    before = generator.gamma(2.0, size=1_000).tolist()
    moved = [_changes(before, generator.gamma(2.0, size=40).tolist())["value"].moved for _ in range(200)]
    assert np.mean(moved) < 0.02  # most distances are above 0.2, as 40 requests are few


def test_a_frequent_value_has_a_bin_of_its_own():
    before = [0.0] * 900 + [float(number) for number in range(1, 101)]
    summary = _summary(before)
    assert sum(summary["counts"]) == 1_000 and summary["counts"][:2] == [0, 900]
    assert _changes(before, [-1.0] * 500 + [0.0] * 500)["value"].moved
    assert _changes([5.0] * 500, [4.0] * 500)["value"].moved
    assert _changes([5.0] * 500, [6.0] * 500)["value"].moved


def test_categories_and_missing_values_are_compared():
    before = ["a"] * 600 + ["b"] * 380 + ["", "rare"] * 10
    summary = _summary(before)
    assert summary["counts"] == {"a": 600, "b": 380, "rare": 10} and summary["missing"] == 0.01
    found = _changes(before, ["a"] * 300 + ["b"] * 190 + ["new"] * 400 + [""] * 110)
    assert found["value"].moved and found["value"].detail == "all others 0.0% -> 44.9%"
    missing = found["value missing"]
    assert missing.moved and missing.distance == pytest.approx(0.1) and missing.kind == statistics.DIFFERENCE
    assert not any(change.moved for change in _changes(before, before[::2]).values())


def test_a_text_of_one_example_is_not_in_the_statistics():
    summary = _summary(["a"] * 5 + ["name of one person"])
    assert summary["counts"] == {"a": 5} and summary["other"] == 1


def _png(value, size=(6, 4)):
    file = io.BytesIO()
    Image.new("L", size, value).save(file, "PNG")
    return file.getvalue()


def test_every_kind_of_request_is_measured():
    def measure(kind, values):
        return REQUEST_KINDS.get(kind).measure(values)

    assert measure("file", [_png(51)]) == {"width": [6.0], "height": [4.0], "brightness": [pytest.approx(0.2)]}
    assert math.isnan(measure("file", [b"no image"])["width"][0])
    assert measure("text", ["größer als".encode()]) == {"characters": [10.0], "words": [2.0]}
    series = np.array([[1.0, 8.0], [np.nan, 8.0], [3.0, 8.0], [np.nan, np.nan]])
    found = measure("series", [series])
    assert found["steps"] == [3.0] and found["missing"] == [pytest.approx(1 / 6)]
    assert found["mean of channel 1"] == [2.0] and found["deviation of channel 2"] == [0.0]
    assert measure("value", [b" x ", b""]) == {"value": ["x", ""]}
    assert measure("value", [np.float32(2.5)]) == {"value": [2.5]}
    assert measure("ids", [np.array([b"a", b"b", b""], object)]) == {"count": [2.0]}
    assert measure("number", [np.array([1.0, 3.0])]) == {"mean": [2.0], "deviation": [1.0]}
    assert REQUEST_KINDS.get("record").measure is None


def test_lines_of_requests_are_read_with_their_bytes(tmp_path):
    file = tmp_path / "requests.jsonl"
    content = base64.b64encode(b"\x00png").decode()
    bodies = ['"a text"', '{"text": "b"}', json.dumps({"instances": [{"b64": content}, "c"]}), "", "[1, 2]"]
    file.write_text("\n".join(bodies))
    assert monitoring._lines(file) == ["a text", {"text": "b"}, b"\x00png", "c", [1, 2]]
    texts = ["next\u2028line", "next\u0085line", "page\u000cbreak"]
    file.write_text("\r\n".join(json.dumps(text, ensure_ascii=False) for text in texts), encoding="utf-8")
    assert monitoring._lines(file) == texts
    file.write_text('"a"\n{"text": ')
    with pytest.raises(UsageError, match=re.escape("requests.jsonl line 2 is not JSON")):
        monitoring._lines(file)
    file.write_text('\ufeff"a"\n', encoding="utf-8")
    assert monitoring._lines(file) == ["a"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "requests.jsonl has no requests. Pass a file with at least one."),
        ('{"instances": []}\n', "requests.jsonl has no requests. Pass a file with at least one."),
        (
            '{"b64": "%%"}',
            "requests.jsonl line 1 has a b64 that is not base64: Only base64 data is allowed. Correct it",
        ),
        (None, "requests.jsonl: No such file or directory. Pass a file of JSON lines"),
    ],
)
def test_files_without_valid_requests_are_rejected(content, message, tmp_path):
    file = tmp_path / "requests.jsonl"
    if content is not None:
        file.write_text(content)
    with pytest.raises(UsageError, match=re.escape(message)):
        monitoring._lines(file)


def test_a_saved_model_without_statistics_is_rejected(tmp_path):
    (tmp_path / "saved_model.pb").touch()
    with pytest.raises(UsageError, match=r"has no statistics of its training inputs.*Train it again"):
        zoo.monitor(tmp_path, ["a"])
    with pytest.raises(UsageError, match=r"The limit of the population stability index is 0.*Pass 0.2, say"):
        zoo.monitor(tmp_path, ["a"], index_limit=0)


@pytest.mark.slow
def test_patients_of_other_ages_are_found_and_named(tmp_path, capsys):
    data = load_diabetes(as_frame=True, scaled=False)
    frame = data.frame.sample(frac=1, random_state=0)
    young = frame[frame["age"] <= frame["age"].median()]
    old = frame[frame["age"] > frame["age"].median()]
    young[:150].to_csv(tmp_path / "train.csv", index=False)
    young[150:].drop(columns="target").to_csv(tmp_path / "same.csv", index=False)
    old.drop(columns="target").to_csv(tmp_path / "old.csv", index=False)
    old.drop(columns="target").to_json(tmp_path / "old.jsonl", orient="records", lines=True)
    run = str(tmp_path / "run")
    words = [
        "train",
        "--model",
        "mlp",
        "--data",
        f"csv:{tmp_path / 'train.csv'}",
        "--data.columns",
        '{"value": "target"}',
    ]
    words += ["--config.epochs", "1", "--run_directory", run, "--quiet", "--baselines", "none"]
    assert cli.main(words) == 0
    capsys.readouterr()

    known = json.loads((tmp_path / "run/saved_model/1/assets.extra/statistics.json").read_text())
    rows = pd.read_csv(tmp_path / "train.csv")
    assert set(known["inputs"]) == set(data.feature_names)
    assert rows["age"].min() <= known["inputs"]["age"]["value"]["quantiles"]["0.5"] <= rows["age"].max()

    assert cli.main(["monitor", run, str(tmp_path / "same.csv"), "--require", "moved<=0"]) == 0
    assert "no measure moved" in capsys.readouterr().out
    assert cli.main(["monitor", run, str(tmp_path / "old.csv"), "--require", "moved<=0", "--json"]) == 3
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert (found["changes"][0]["input"], found["changes"][0]["moved"]) == ("age", True)
    assert found["largest_index"] == found["changes"][0]["distance"] > 2
    assert "required is <= 0" in err
    lines = zoo.monitor(run, tmp_path / "old.jsonl").to_dict()
    assert lines["changes"] == found["changes"]

    file = tmp_path / "run/saved_model/1/assets.extra/statistics.json"
    file.write_text(json.dumps({**known, "inputs": {"age": {"value": {"count": "many"}}}}))
    with pytest.raises(UsageError, match=r"The statistics of .* do not fit the requests"):
        zoo.monitor(run, tmp_path / "old.csv")


@pytest.mark.slow
def test_unknown_words_and_longer_texts_are_found(tmp_path, capsys):
    run = tmp_path / "run"
    words = [
        "train",
        "--model",
        "embedding_lstm",
        "--data",
        "commands",
        "--config.epochs",
        "1",
        "--run_directory",
        str(run),
    ]
    assert cli.main([*words, "--quiet", "--baselines", "none"]) == 0
    capsys.readouterr()
    strange = ["kindly illuminate every chamber of this mansion forthwith my good fellow"] * 60
    found = {(change.input, change.measure): change for change in zoo.monitor(run, strange).changes}
    assert found["text", "unknown"].moved and found["text", "unknown"].distance > 0.3
    assert found["text", "words"].moved
    known = json.loads((run / "saved_model/1/assets.extra/golden.npz").with_name("statistics.json").read_text())
    assert known["inputs"]["text"]["unknown"]["mean"] < 0.1
