"""Predictions for files of any size: every format, rejected rows, interruptions."""

from __future__ import annotations

import gzip
import json
import re

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from PIL import Image

import bulk_models
import zoo
from zoo.errors import UsageError
from zoo.export.bulk import parts
from zoo.export.bulk.run import predict_files


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return bulk_models.written(tmp_path_factory.mktemp("models"), "table", "text", "image", "series", "repeated")


def people(count):
    return pd.DataFrame({"Age": [n / 2 for n in range(count)], "Town": [f"T{n % 7}, x" for n in range(count)], "id": 7})


def predicted(model, files, output, **options):
    """Returns the answers as a DataFrame and the rejected rows, computed in this process."""
    found = predict_files(model, files, output, workers=0, **options)
    read = {
        ".csv": lambda: pd.read_csv(output),
        ".parquet": lambda: pd.read_parquet(output),
        ".jsonl": lambda: pd.read_json(output, lines=True),
    }[output.suffix]
    side = parts.rejected_file(output)
    faults = [json.loads(line) for line in side.read_text().splitlines()] if found.rejected else []
    assert side.exists() == bool(found.rejected) and not parts.folder_of(output).exists()
    return read(), faults


def write(frame, file):
    """Writes a table in the format of the file's name."""
    name = file.name
    if name.endswith(".jsonl"):
        frame.to_json(file, orient="records", lines=True)
    elif name.endswith(".parquet"):
        frame.to_parquet(file, row_group_size=100)
    elif name.endswith(".tfrecord"):
        with tf.io.TFRecordWriter(str(file)) as writer:
            for age, town, _ in frame.itertuples(index=False):
                features = {
                    "Age": tf.train.Feature(float_list=tf.train.FloatList(value=[age])),
                    "Town": tf.train.Feature(bytes_list=tf.train.BytesList(value=[town.encode()])),
                }
                writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())
    else:
        frame.to_csv(file, index=False)
    return file


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.parquet", "a.jsonl", "a.tfrecord"])
@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_each_format_gives_every_row_in_order(models, tmp_path, name, suffix):
    frame = people(300)
    answers, faults = predicted(
        models["table"], write(frame, tmp_path / name), tmp_path / f"out{suffix}", batch_size=64
    )
    assert list(answers.columns) == ["input", "row", "name", "shares", "twice"] and not faults
    assert answers["row"].tolist() == list(range(1, 301)) and set(answers["input"]) == {str(tmp_path / name)}
    np.testing.assert_allclose(answers["twice"], 2 * frame["Age"])
    assert answers["name"].tolist() == [f"{town}-{town}" for town in frame["Town"]]
    shares = [json.loads(value) if isinstance(value, str) else value for value in answers["shares"]]
    np.testing.assert_allclose(np.stack(shares)[:, 1], (1 - frame["Age"]) / 4)


def test_rejected_rows_go_to_a_file_with_the_reason(models, tmp_path):
    frame = people(200).astype({"Age": object})
    frame.loc[70, "Age"], frame.loc[131, "Town"] = "old", "nowhere"
    file = write(frame, tmp_path / "a.csv")
    lines = file.read_text().splitlines()
    lines[100] += ",one,two"
    file.write_text("\n".join(lines))
    answers, faults = predicted(models["table"], file, tmp_path / "out.csv", batch_size=64)
    assert [fault["row"] for fault in faults] == [71, 100, 132]
    assert "Age is 'old'; expected a number" in faults[0]["reason"]
    assert "has 5 cells; the header has 3" in faults[1]["reason"]
    assert "Town is 'nowhere', which is no place. Send a town." in faults[2]["reason"]
    assert answers["row"].tolist() == [row for row in range(1, 201) if row not in (71, 100, 132)]
    np.testing.assert_allclose(answers["twice"], [row - 1 for row in answers["row"]])


def test_rejected_lines_of_json(models, tmp_path):
    lines = [
        '{"Age": 1, "Town": "A"}',
        "{",
        '{"Age": 2}',
        '{"Age": [3], "Town": "A"}',
        "5",
        '{"age": null, "town": "B"}',
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    answers, faults = predicted(models["table"], tmp_path / "a.jsonl", tmp_path / "out.jsonl")
    assert [fault["row"] for fault in faults] == [2, 3, 4, 5]
    reasons = (
        "is not JSON",
        "has no Town. Add it",
        r"has \[3\] as age",
        "is a JSON int; serving_default takes age, town",
    )
    for fault, reason in zip(faults, reasons, strict=True):
        assert re.search(reason, fault["reason"])
    assert answers["row"].tolist() == [1, 6] and answers["twice"].isna().tolist() == [False, True]


def test_cells_with_line_breaks_and_marks_stay_whole(models, tmp_path):
    towns = ['say "hi"', "two\nlines", "a;b", "", " c "] * 60
    frame = pd.DataFrame({"Town": towns, "Age": 1.5})
    frame.to_csv(tmp_path / "a.csv", index=False, sep=";")
    answers, _ = predicted(models["table"], tmp_path / "a.csv", tmp_path / "out.parquet", batch_size=32)
    assert answers["name"].tolist() == [f"{town.strip()}-{town.strip()}" for town in towns]
    (tmp_path / "b.csv").write_bytes(b'Town\tAge\n5" pipe\t1\nx\t2\n')  # a mark that encloses nothing is a letter
    answers, _ = predicted(models["table"], tmp_path / "b.csv", tmp_path / "out.parquet")
    assert answers["name"].tolist() == ['5" pipe-5" pipe', "x-x"]


def test_marks_that_other_readers_take_for_line_breaks(models, tmp_path):
    (tmp_path / "a.jsonl").write_bytes('{"Age": 1,\r"Town": "A\u2028B"}\r\n{"Age": 2, "Town": "C"}'.encode())
    answers, _ = predicted(models["table"], tmp_path / "a.jsonl", tmp_path / "out.csv")
    assert answers["name"].tolist() == ["A\u2028B-A\u2028B", "C-C"]
    (tmp_path / "a.csv").write_bytes("Age,Town\r\n1,A\u2028B\r\n2,C,D\r\n3,E\x0bF\r\n".encode())
    answers, faults = predicted(models["table"], tmp_path / "a.csv", tmp_path / "out.csv")
    assert answers["name"].tolist() == ["A\u2028B-A\u2028B", "E\x0bF-E\x0bF"] and [f["row"] for f in faults] == [2]
    (tmp_path / "b.csv").write_text(f'Age,Town\n1,"{"x" * 200_000}"\n')
    answers, _ = predicted(models["table"], tmp_path / "b.csv", tmp_path / "out.csv")
    assert len(answers["name"][0]) == 400_001
    (tmp_path / "c.csv").write_bytes("Age;Town\n1,5;Köln\n".encode("utf-16"))
    answers, _ = predicted(models["table"], tmp_path / "c.csv", tmp_path / "out.csv", encoding="utf-16")
    assert answers["twice"].tolist() == [3.0] and answers["name"].tolist() == ["Köln-Köln"]


def test_the_first_rows_decide_how_numbers_are_written(models, tmp_path):
    rows = ["0,5;A"] * 4_096 + ["1.234;B"] * 100  # alone, the last rows would be read as 1.234
    (tmp_path / "a.csv").write_text("Age;Town\n" + "\n".join(rows))
    with pytest.raises(UsageError, match=r"row 4097: Age is '1\.234', and Age has decimal commas, such as 0,5"):
        predict_files(models["table"], tmp_path / "a.csv", tmp_path / "out.csv", workers=0)
    found = predict_files(
        models["table"], tmp_path / "a.csv", tmp_path / "o.csv", workers=0, thousands=".", decimal=","
    )
    assert found.answered == 4_196 and pd.read_csv(tmp_path / "o.csv")["twice"].tolist()[-1] == 2468


def test_texts_with_outputs_of_any_length(models, tmp_path):
    texts = ["one", "two words", "größer als drei Wörter", ""]
    for name, text in zip("abcd", texts, strict=True):
        (tmp_path / f"{name}.txt").write_text(text, encoding="utf-8")
    (tmp_path / "z.jsonl").write_text("\n".join(json.dumps(text) for text in texts))
    answers, _ = predicted(models["text"], [tmp_path, tmp_path / "z.jsonl"], tmp_path / "out.jsonl")
    assert answers["letters"].tolist() == [len(text) for text in texts] * 2
    assert answers["words"].tolist() == [text.split() for text in texts] * 2
    assert answers["input"].tolist()[0] == str(tmp_path / "a.txt") and answers["row"].tolist() == [0] * 4 + [1, 2, 3, 4]


def test_folders_of_images(models, tmp_path):
    for number in range(5):
        Image.fromarray(np.full((4, 4), 10 * number, np.uint8)).save(tmp_path / f"{number}.png")
    (tmp_path / "2.png").write_bytes(b"no image")
    answers, faults = predicted(models["image"], tmp_path, tmp_path / "out.csv", batch_size=2)
    assert answers["mean"].tolist() == [0, 10, 30, 40]
    assert [(fault["input"], fault["row"]) for fault in faults] == [(str(tmp_path / "2.png"), 0)]


def test_series_of_unlike_length(models, tmp_path):
    series = [list(range(1, count)) for count in (5, 3, 9, 3)]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(values) for values in series))
    answers, _ = predicted(models["series"], tmp_path / "a.jsonl", tmp_path / "out.csv")
    assert answers["sum"].tolist() == [sum(values) for values in series]
    for name in "xy":
        pd.DataFrame({"load": [1.0, 2.0, 4.0]}).to_csv(tmp_path / f"{name}.csv", index=False)
    answers, _ = predicted(models["series"], [tmp_path / "x.csv", tmp_path / "y.csv"], tmp_path / "out.csv")
    assert answers["sum"].tolist() == [7, 7]


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_an_interrupted_call_goes_on_to_the_same_bytes(models, tmp_path, suffix):
    file = write(people(9_000), tmp_path / "a.csv")
    whole, output = tmp_path / f"whole{suffix}", tmp_path / f"out{suffix}"
    predict_files(models["table"], file, whole, workers=0)
    rows = []

    def stop(progress):
        rows.append(progress.rows)
        raise Interrupted

    for _ in range(2):
        with pytest.raises(Interrupted):
            predict_files(models["table"], file, output, workers=0, progress=stop)
    assert rows == [4096, 8192] and not output.exists()
    with pytest.raises(
        UsageError, match=r"beginning of other predictions: batch size was 256, and is 64 now\. Call the"
    ):
        predict_files(models["table"], file, output, workers=0, batch_size=64)
    content = file.read_bytes()
    file.write_bytes(content.replace(b"T3", b"T4", 1))
    with pytest.raises(UsageError, match=r"a.csv has changed since the predictions began\. Remove the folder"):
        predict_files(models["table"], file, output, workers=0)
    file.write_bytes(content)
    next(parts.folder_of(output).glob("*.part")).write_bytes(b"")  # as after a power failure
    found = predict_files(models["table"], file, output, workers=0)
    assert found.answered == 9_000 and output.read_bytes() == whole.read_bytes()
    assert not parts.folder_of(output).exists()


def test_invalid_calls(models, tmp_path):
    file = write(people(3), tmp_path / "a.csv")
    for arguments, message in {
        (file, "out.xlsx"): r"has no known ending.* Choose \.parquet, \.csv or \.jsonl",
        (tmp_path / "b.csv", "out.csv"): r"The input .*b.csv does not exist\. Did you mean 'a.csv'",
        (file, "no/out.csv"): r"The folder of the output .* does not exist\. Create it",
    }.items():
        with pytest.raises(UsageError, match=message):
            predict_files(models["table"], arguments[0], tmp_path / arguments[1], workers=0)
    with pytest.raises(UsageError, match=r"workers is -1; expected a whole number of at least 0\. Pass"):
        predict_files(models["table"], file, tmp_path / "out.csv", workers=-1)
    people(3).rename(columns={"Age": "Alter"}).to_csv(file, index=False)
    with pytest.raises(UsageError, match=r"a.csv has no column 'Age'; its columns are Alter, Town, id\. Add or rename"):
        predict_files(models["table"], file, tmp_path / "out.csv", workers=0)
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(UsageError, match=r"a.png has no known ending for serving_default takes age, town\. Pass files"):
        predict_files(models["table"], tmp_path / "a.png", tmp_path / "out.csv", workers=0)
    (tmp_path / "a.tfrecord").write_bytes(b"x" * 40)
    with pytest.raises(UsageError, match=r"a.tfrecord is damaged, or no TFRecord file, at record 1: it ends too early"):
        predict_files(models["table"], tmp_path / "a.tfrecord", tmp_path / "out.csv", workers=0)
    file.write_text("Age,Town\nx,nowhere\ny,A\n")
    with pytest.raises(UsageError, match=r"None of the 2 rows has an answer; .*out.csv.rejected.jsonl has the reasons"):
        predict_files(models["table"], file, tmp_path / "out.csv", workers=0)


def test_frames_for_python(models, tmp_path):
    file = write(people(5_000), tmp_path / "a.csv")
    frames = list(zoo.export.predict_rows(models["table"], file))
    assert [len(frame) for frame in frames] == [4096, 904] and not frames[0].attrs["rejected"]
    np.testing.assert_allclose(pd.concat(frames)["twice"], range(5_000))


def test_a_damaged_gzip_file_is_an_error(models, tmp_path):
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"Age,Town\n" + b"1,A\n" * 50_000)[:-30])
    with pytest.raises(UsageError, match=r"a.csv.gz is damaged: .* Replace it with the original file"):
        predict_files(models["table"], tmp_path / "a.csv.gz", tmp_path / "out.csv", workers=0)


def test_inputs_with_a_default_may_be_left_out(models, tmp_path):
    model = zoo.load(models["repeated"])
    answers = model.predict(["a", {"text": "b"}, {"text": "c", "times": 3}])
    assert [answer["text"] for answer in answers] == ["aa", "bb", "ccc"]
    assert model(["a"])["text"].tolist() == model(text=["a"])["text"].tolist() == [b"aa"]
    with pytest.raises(UsageError, match=r"received times\. Pass these names"):
        model(times=[2])
    (tmp_path / "a.jsonl").write_text('"a"\n{"text": "b"}\n{"times": 3, "text": "c"}\n{"times": 3}')
    answers, faults = predicted(models["repeated"], tmp_path / "a.jsonl", tmp_path / "out.csv")
    assert answers["text"].tolist() == ["aa", "bb", "ccc"] and "has no text" in faults[0]["reason"]
    (tmp_path / "b.csv").write_text("text,times\na,1\nb,4\n")
    (tmp_path / "c.csv").write_text("text\nc\n")
    (tmp_path / "d.txt").write_text("d")
    answers, _ = predicted(
        models["repeated"], [tmp_path / name for name in ("b.csv", "c.csv", "d.txt")], tmp_path / "o.csv"
    )
    assert answers["text"].tolist() == ["a", "bbbb", "cc", "dd"]
