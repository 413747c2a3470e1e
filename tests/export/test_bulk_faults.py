"""Predictions for files: rows keep their numbers, and faults of files, names and callers are told."""

from __future__ import annotations

import gzip
import json
import os

import pandas as pd
import pytest

from bulk_models import image_model, repeated_model, series_model, table_model, text_model
from zoo.errors import UsageError
from zoo.export.bulk import parts
from zoo.export.bulk.formats import csv_files
from zoo.export.bulk.processes import Processes
from zoo.export.bulk.run import predict_files, predict_rows


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    base = tmp_path_factory.mktemp("models")
    makers = {
        "table": table_model,
        "text": text_model,
        "image": image_model,
        "series": series_model,
        "repeated": repeated_model,
    }
    return {name: make(base / name / "1") for name, make in makers.items()}


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
