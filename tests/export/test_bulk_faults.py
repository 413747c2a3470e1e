"""Predictions for files: rows keep their numbers, and faults of files, names and callers are told."""

from __future__ import annotations

import gzip
import json
import os

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

import bulk_models
import zoo
from bulk_models import table_model, text_model
from zoo.errors import UsageError
from zoo.export import artifact_paths
from zoo.export.bulk import frames, parts
from zoo.export.bulk.formats import csv_files
from zoo.export.bulk.processes import Processes
from zoo.export.bulk.run import predict_files, predict_rows
from zoo.export.prediction_files import not_whole


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return bulk_models.written(tmp_path_factory.mktemp("models"), "table", "text", "image", "series", "prompt")


def answered(model, files, **options):
    """Returns the answers and the rejected rows, computed in this process."""
    frames = list(predict_rows(model, files, **options))
    return pd.concat(frames), [fault for frame in frames for fault in frame.attrs["rejected"]]


def file_of(folder, name, content):
    (folder / name).write_bytes(content)
    return folder / name


def test_rows_of_empty_cells_keep_their_number(models, tmp_path):
    file = file_of(tmp_path, "a.tsv", b"Age\tTown\n1\tA\n\t\n\n3\tC\n")
    answers, _ = answered(models["table"], file)
    assert answers["row"].tolist() == [1, 2, 3] and answers["name"].tolist() == ["A-A", "-", "C-C"]


def test_empty_lines_at_the_end_of_a_column_are_no_rows(models, tmp_path):
    file = file_of(tmp_path, "a.csv", b"text\none\n\nthree\n\n\r\n")
    answers, _ = answered(models["text"], file)
    assert answers["row"].tolist() == [1, 2, 3] and answers["letters"].tolist() == [3, 0, 5]


def test_line_breaks_that_end_the_header_alone(models, tmp_path):
    file = file_of(tmp_path, "a.csv", b"Age,Town\r1,A\n2,B\n")
    with pytest.raises(UsageError, match=r"header of .*a.csv ends with the line break of old Macs.* Convert all"):
        answered(models["table"], file)


@pytest.mark.parametrize("content", [b"Age,Town\r1,A\r2,B\r", "Age,Town\n1,A\n".encode("utf-16")])
def test_files_that_must_be_held_in_memory_have_a_limit(models, tmp_path, monkeypatch, content):
    monkeypatch.setattr(csv_files, "_MOST_WHOLE", 10)
    options = {"encoding": "utf-16"} if content.startswith(b"\xff") else {}
    with pytest.raises(UsageError, match=r"has more than .* GiB, and is UTF-16.* Convert it to UTF-8"):
        answered(models["table"], file_of(tmp_path, "a.csv", content), **options)


def test_the_output_is_no_input(models, tmp_path):
    file = file_of(tmp_path, "a.csv", b"Age,Town\n1,A\n")
    (tmp_path / "link.csv").symlink_to(file)
    (tmp_path / "x.csv.rejected.jsonl").write_text('{"Age": 1, "Town": "A"}\n')
    for output, given in (("a.csv", file), ("link.csv", file), ("a.csv", tmp_path), ("x.csv", tmp_path)):
        with pytest.raises(UsageError, match=r"is also an input, .*, and would replace it\. Pass another --output"):
            predict_files(models["table"], given, tmp_path / output, workers=0)
    assert file.read_bytes() == b"Age,Town\n1,A\n"


def test_outputs_of_unlike_format_have_their_own_rejected_rows(models, tmp_path):
    file = file_of(tmp_path, "a.jsonl", b'{"Age": 1, "Town": "A"}\n{\n')
    found = [predict_files(models["table"], file, tmp_path / f"out.{end}", workers=0) for end in ("csv", "parquet")]
    assert [one.rejected_file.name for one in found] == ["out.csv.rejected.jsonl", "out.parquet.rejected.jsonl"]


def test_a_series_that_cannot_be_read_is_rejected(models, tmp_path):
    files = [file_of(tmp_path, "a.csv", b"load\n1\n2\n"), file_of(tmp_path, "b.csv", b"load\n1\nx\n")]
    answers, faults = answered(models["series"], files)
    assert answers["sum"].tolist() == [3] and [fault["input"] for fault in faults] == [str(files[1])]
    assert "load is 'x'; expected a number" in faults[0]["reason"]


def test_half_a_character_is_rejected(models, tmp_path):
    file = file_of(tmp_path, "a.jsonl", b'"\\ud83d"\n"\\ud83d\\ude00"\n"\xed\xa0\xbd"\n"ok"')
    answers, faults = answered(models["text"], file)
    assert answers["row"].tolist() == [2, 4] and answers["letters"].tolist() == [1, 2]
    assert [fault["row"] for fault in faults] == [1, 3] and r"has \ud83d, which is half of" in faults[0]["reason"]


def test_names_of_files_that_are_not_utf8(models, tmp_path):
    name = os.fsdecode(b"caf\xe9")
    file = file_of(tmp_path, f"{name}.jsonl", b'{"Age": 1, "Town": "A"}\n{\n')
    found = predict_files(models["table"], file, tmp_path / "out.jsonl", workers=0)
    assert json.loads((tmp_path / "out.jsonl").read_text())["input"] == str(tmp_path / "caf\ufffd.jsonl")
    assert "caf\ufffd" in found.rejected_file.read_text()
    file_of(tmp_path, f"{name}.txt", b"hello")
    answers, _ = answered(models["text"], tmp_path / f"{name}.txt")
    assert answers["input"].tolist() == [str(tmp_path / "caf\ufffd.txt")]


def test_gzip_is_known_by_its_first_bytes(models, tmp_path):
    file = file_of(tmp_path, "a.JSONL.GZ", gzip.compress(b'{"Age": 1, "Town": "A"}\n'))
    assert answered(models["table"], file)[0]["twice"].tolist() == [2]


def test_what_the_bytes_depend_on_is_compared(models, tmp_path):
    file = file_of(tmp_path, "a.csv", b"Age,Town\n" + b"1,A\n" * 5_000)

    def stop(progress):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        predict_files(models["table"], file, tmp_path / "out.csv", workers=0, progress=stop)
    manifest = json.loads((parts.folder_of(tmp_path / "out.csv") / "manifest.json").read_text())
    assert manifest["libraries"]["tensorflow"] and manifest["one_process"] is True


def test_errors_of_the_caller_end_all_threads_and_keep_their_type(monkeypatch):
    class Process:
        stdin = stdout = None

        def kill(self):
            pass

        wait = kill

    def done(chunk, record):
        raise KeyError("mine")

    monkeypatch.setattr(Processes, "_start", lambda self: Process())
    monkeypatch.setattr(Processes, "_ready", lambda self, process: process)
    monkeypatch.setattr(Processes, "_computed", lambda self, process, chunk: self._done(chunk, {}))
    processes = Processes(2, {}, done)
    with pytest.raises(KeyError, match="mine"):
        for _ in range(9):
            processes.submit("chunk")
        processes.finish()
    processes.close()
    for thread in processes._threads:
        thread.join(5)
        assert not thread.is_alive()


def decimals(models, folder, lines):
    return answered(models["table"], file_of(folder, "a.csv", ("Age;Town\n" + "\n".join(lines)).encode()))


def test_the_first_rows_decide_for_a_small_last_chunk(models, tmp_path):
    answers, _ = decimals(models, tmp_path, ["0,5;A"] * 4096 + ["1,234;B"])
    assert answers["twice"].tolist()[-1] == pytest.approx(2.468)


def test_commas_after_the_first_rows_are_evidence_against_points_before(models, tmp_path):
    lines = ["1.234;A"] * 4096 + ["0,5;B"]
    message = (
        r"Age has decimal commas, such as 0,5, and other rows have 1\.234, whose points may separate.* Pass --decimal"
    )
    with pytest.raises(UsageError, match=message):
        decimals(models, tmp_path, lines)
    with pytest.raises(UsageError, match=message):
        predict_files(models["table"], tmp_path / "a.csv", tmp_path / "out.csv", workers=0)
    assert not parts.folder_of(tmp_path / "out.csv").exists()
    answers, _ = decimals(models, tmp_path, ["7;A"] * 4096 + ["0,5;B"])
    assert answers["twice"].tolist()[-2:] == [14, 1]


def test_numbers_of_json_and_parquet_have_points(models, tmp_path):
    trained_on_commas = table_model(tmp_path / "commas" / "1")
    facts = trained_on_commas / "assets.extra" / "zoo.json"
    facts.write_text(json.dumps({**json.loads(facts.read_text()), "data": {"format": {"decimal_commas": True}}}))
    artifact_paths.write_sums(trained_on_commas)
    file = file_of(tmp_path, "a.jsonl", b'{"Age": 1.234, "Town": "A"}\n{"Age": null, "Town": "A"}\n')
    answers, faults = answered(trained_on_commas, file)
    assert not faults and answers["twice"].tolist()[0] == pytest.approx(2.468)
    frame = pd.DataFrame({"Age": [1.176, 2.345, 3.456, 999.0], "Town": "A"})
    frame.to_parquet(tmp_path / "a.parquet")
    for model in (trained_on_commas, models["table"]):
        answers, _ = answered(model, tmp_path / "a.parquet")
        assert answers["twice"].tolist() == pytest.approx((2 * frame["Age"]).tolist())


def test_inputs_with_a_default_of_several_texts(models, tmp_path):
    pd.DataFrame({"message": ["a", "b"]}).to_csv(tmp_path / "a.csv", index=False)
    pd.DataFrame({"message": ["c", "d"], "stop": ["!", "?"]}).to_parquet(tmp_path / "b.parquet")
    (tmp_path / "c.jsonl").write_text('{"prompt": "e"}\n{"message": "f", "stop": ["?", "!"]}\n')
    features = {"message": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"g"]))}
    with tf.io.TFRecordWriter(str(tmp_path / "d.tfrecord")) as writer:
        writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())
    answers, faults = answered(
        models["prompt"], [tmp_path / name for name in ("a.csv", "b.parquet", "c.jsonl", "d.tfrecord")]
    )
    assert answers["text"].tolist() == ["a.", "b.", "c!", "d?", "e.", "f?!", "g."] and not faults


def test_the_column_of_the_training_counts_and_unknown_ones_are_told(models, tmp_path):
    file = file_of(tmp_path, "a.jsonl", b'{"prompt": "no", "message": "yes"}\n{"prompt": "a", "mesage": "b"}\n')
    answers, faults = answered(models["prompt"], file)
    assert answers["text"].tolist() == ["yes."]
    assert faults[0]["reason"] == "has mesage; serving_default takes prompt, stop. Rename or remove it."
    frame = pd.DataFrame({"Age": [1], "Town": ["A"], "id": [7], "town": ["B"]})
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_parquet(tmp_path / "a.parquet")
    frame.to_json(tmp_path / "b.jsonl", orient="records", lines=True)
    features = {
        "Age": tf.train.Feature(float_list=tf.train.FloatList(value=[1.0])),
        **{key: tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"A"])) for key in ("Town", "id")},
    }
    with tf.io.TFRecordWriter(str(tmp_path / "c.tfrecord")) as writer:
        writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())
    for name in ("a.csv", "a.parquet", "b.jsonl", "c.tfrecord"):
        found = predict_files(models["table"], tmp_path / name, tmp_path / "out.csv", workers=0)
        assert found.note == "The model does not use the columns id."
        assert pd.read_csv(tmp_path / "out.csv")["name"].tolist() == ["A-A"]


def test_a_file_of_texts_for_a_signature_with_defaults(models, tmp_path, capsys):
    from zoo.scripts.predict import command

    file = file_of(tmp_path, "prompts.txt", b"hello")
    table = file_of(tmp_path, "prompts.csv", b"message,stop\none,!\ntwo,?\n")
    model = zoo.load(models["prompt"])
    items = [{"prompt": "one", "stop": [b"!"]}, {"prompt": "two", "stop": [b"?"]}]
    assert [item for _, item in model.items_of_path(table)[0]] == items
    opened = zoo.load(text_model(tmp_path / "text" / "1")).items_of_path(file)
    assert (model.items_of_path(file) is None) == (opened is None)
    assert command([str(models["prompt"]), str(table)]) == 0
    assert [line.rpartition(" ")[2] for line in capsys.readouterr().out.splitlines()] == ["one!", "two?"]


def test_cells_of_integer_inputs_are_whole_numbers_of_their_type():
    column = pd.Series(["3", "1.7", "", "x", "3e10", "-5"], name="seed")
    wrong = frames.wrong_numbers("a.csv", column, "int32")
    assert sorted(wrong) == [1, 2, 3, 4]
    assert wrong[1] == "seed: 1.7 is not a whole number of int32. Correct the cell, or leave the column out."
    assert wrong[2] == "seed: the cell is empty. Correct the cell, or leave the column out."
    assert wrong[4] == "seed: 3e+10 is not a whole number of int32. Correct the cell, or leave the column out."
    assert sorted(frames.wrong_numbers("a.csv", column, "float32")) == [3]
    assert sorted(not_whole(np.array([2.0**53, 2.0**53 + 2, -1.0]), np.int64)) == [1]
