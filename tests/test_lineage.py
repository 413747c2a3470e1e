"""Lineage: what a run and its artifact record of their origin, and that nothing of the machine leaks into the artifact."""

import json
import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_iris

from zoo import lineage, lookup
from zoo.errors import UsageError
from zoo.scripts import cli


def _commit(folder):
    def git(*words):
        names = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        return subprocess.run(["git", "-C", folder, *names, *words], capture_output=True, text=True, check=True).stdout

    git("init", "-q")
    (folder / "code.py").write_text("1\n")
    git("add", "code.py")
    git("commit", "-q", "-m", "one")
    return git("rev-parse", "HEAD").strip()


def test_the_commit_and_changes_of_tracked_files_are_recorded(tmp_path):
    assert lineage.code_of(tmp_path) is None
    commit = _commit(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "new.txt").write_text("untracked")
    assert lineage.code_of(tmp_path / "runs") == {"commit": commit, "dirty": False}
    (tmp_path / "code.py").write_text("2\n")
    assert lineage.code_of(tmp_path) == {"commit": commit, "dirty": True}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("csv:/srv/ann/people.csv", "csv:people.csv"),
        ("--data.test=../ann/test.csv", "--data.test=test.csv"),
        ("~/ann/photos", "photos"),
        ("/srv/ann/net.py:build", "net.py:build"),
        ('["/srv/ann/a b.txt", "./x/b.txt"]', '["a b.txt", "b.txt"]'),
        ("hf:google-bert/bert-base-cased", "hf:google-bert/bert-base-cased"),
        ('{"label": "km/h", "value": "a / b"}', '{"label": "km/h", "value": "a / b"}'),
        ("either/or", "either/or"),
        ("csv:private/ann/people.csv", "csv:people.csv"),
        ("images:private/photos", "images:photos"),
        ("private/ann smith/a b.csv", "a b.csv"),
        ("--data.test=private/ann", "--data.test=private/ann"),
        ("private/ann/photos", "photos"),
        ("ann/net.py:build", "net.py:build"),
        ('["ann/x.csv", "b/y.csv"]', '["x.csv", "y.csv"]'),
        ('{"test": "ann/photos", "unit": "km/h"}', '{"test": "photos", "unit": "km/h"}'),
        ("~ann/x/y.csv", "y.csv"),
        ("file:///home/ann/x.csv", "file:x.csv"),
        ("csv:file://host/home/ann/x.csv", "csv:file:x.csv"),
        ("https://user:secret@host/x.csv?token=a/b", "https://host/x.csv"),
        ("csv:https://us@er:secret@host/x.csv", "csv:https://host/x.csv"),
        ("folder:/srv/ann/photos/", "folder:photos"),
        ("images:ann/photos/", "images:photos"),
        ("%d/%m/%Y", "%d/%m/%Y"),
        ("glue/sst2:1.0.0", "glue/sst2:1.0.0"),
        ("", ""),
        ("/", "/"),
    ],
)
def test_paths_are_reduced_to_names_and_other_texts_are_kept(text, expected):
    assert lineage.without_folders(text) == expected
    assert lineage.without_folders({"a": [text]}) == {"a": [expected]}


def test_relative_paths_are_reduced_wherever_the_command_runs(tmp_path, monkeypatch):
    (tmp_path / "ann").mkdir()
    (tmp_path / "ann" / "x").touch()
    value = {"name": "csv:ann/x", "test": "ann/x", "unit": "ann/x"}
    found = lineage.without_folders(value)
    monkeypatch.chdir(tmp_path)
    assert lineage.without_folders(value) == found == {"name": "csv:x", "test": "x", "unit": "ann/x"}


def test_the_home_folder_is_reduced(monkeypatch):
    monkeypatch.setenv("HOME", "/srv/ann")
    assert lineage.without_folders("images:/srv/ann") == "images:~"


def test_a_command_names_no_folder_of_its_paths():
    words = ["zoo", "export", "ann/digits", "b/exports", "--unit", "km/h", "--data.test", "ann/t", "--start-from=ann/a"]
    with lineage.typed([*words, "--note", "either/or"]):
        found = lineage.command()
    assert found == "zoo export digits exports --unit km/h --data.test t --start-from=a --note either/or"


def test_a_command_leaves_out_where_and_how_it_ran():
    words = [
        "zoo",
        "train",
        "--data",
        "/d/a b.csv",
        "--run_directory",
        "/r/x",
        "--cluster=host:1",
        "--quiet",
        "--n",
        "1",
    ]
    with lineage.typed(words):
        assert lineage.command() == "zoo train --data 'a b.csv' --n 1"
    assert lineage.command() is None


@pytest.mark.parametrize("licence", ["", "two\nlines", 3, "x" * 201])
def test_invalid_licences_are_rejected(licence):
    with pytest.raises(UsageError, match=r"The licence of the model is .* Pass a short text, such as Apache-2\.0"):
        lineage.check_licence(licence)


def _train(folder, run, *more):
    words = [
        "train",
        "--model",
        "mlp",
        "--data",
        f"csv:{folder / 'flowers.csv'}",
        "--data.columns",
        '{"label": "kind"}',
    ]
    words += ["--config.epochs", "1", "--config.deterministic", "true", "--run_directory", str(folder / run)]
    words += ["--quiet", "--baselines", "none", *more]  # in a process of its own, as TensorFlow numbers functions
    subprocess.run([sys.executable, "-m", "zoo.scripts.cli", *words], check=True, capture_output=True, cwd=folder)
    return folder / run / "saved_model" / "1"


def _bytes(version):
    return {file.relative_to(version).as_posix(): file.read_bytes() for file in version.rglob("*") if file.is_file()}


@pytest.mark.slow
def test_equal_runs_write_equal_bytes_with_their_lineage_and_without_folders(tmp_path, monkeypatch, capsys):
    home = tmp_path / "ann-of-the-test"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home)
    commit = _commit(home)
    iris = load_iris(as_frame=True)
    frame = iris.data.assign(kind=[iris.target_names[i] for i in iris.target])
    frame.to_csv(home / "flowers.csv", index=False)
    one, two = (_bytes(_train(home, run, "--licence", "CC-BY-4.0")) for run in ("runs/a", "runs/b"))
    assert one.keys() == two.keys()
    assert not [name for name in one if one[name] != two[name]]
    for name, content in one.items():
        host = socket.gethostname().encode()  # a short one may be anywhere in binary files
        for leaked in (b"ann-of-the-test", str(tmp_path).encode(), *([host] if len(host) > 5 else [])):
            assert leaked not in content, (name, leaked)

    found = json.loads(one["assets.extra/zoo.json"])["lineage"]
    assert found["command"] == (
        """zoo train --model mlp --data csv:flowers.csv --data.columns '{"label": "kind"}' --config.epochs 1 """
        "--config.deterministic true --baselines none --licence CC-BY-4.0"
    )
    assert found["code"] == {"commit": commit, "dirty": False}
    assert (found["licence"], found["parent"], found["settings"]["config"]["seed"]) == ("CC-BY-4.0", None, 0)
    assert sum(split["examples"] for split in found["data"]["splits"].values()) == 150
    assert found["data"]["sha256"] == json.loads((home / "runs/a/interface/interface.json").read_text())["data_sha256"]
    card = one["README.md"].decode()
    assert f"- Commit of the code: `{commit}`\n" in card
    assert "- Licence of the model: CC-BY-4.0\n" in card

    # A run that starts from it names it as its parent; an export keeps the licence of the run.
    _train(home, "runs/c", "--start-from", str(home / "runs/a"), "--config.closed_form", "false")
    assert cli.main(["export", str(home / "runs/a"), str(home / "exports")]) == 0
    capsys.readouterr()
    child = json.loads((home / "runs/c/saved_model/1/assets.extra/zoo.json").read_text())["lineage"]
    assert child["parent"]["run_id"] == found["run_id"] != child["run_id"]
    assert re.fullmatch("[0-9a-f]{64}", child["parent"]["weights_sha256"])
    assert json.loads((home / "exports/1/assets.extra/zoo.json").read_text())["lineage"] == found


def _saved(folder, words):
    folder.mkdir()
    (folder / "words.txt").write_text("".join(f"{word}\n" for word in words))
    module = tf.Module()
    module.numbers = lookup.numbers_of_lines(folder / "words.txt", -1)
    module.words = lookup.lines_by_number(folder / "words.txt", "")
    module.pairs = lookup.in_memory(tf.constant(words), tf.range(len(words)) * 10, -1)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def call(texts):
        return {
            "number": module.numbers.lookup(texts),
            "word": module.words.lookup(module.numbers.lookup(texts)),
            "pair": module.pairs.lookup(texts),
        }

    tf.saved_model.save(module, str(folder / "saved"), signatures=call)
    return folder / "saved"


def test_artifacts_with_other_vocabularies_stay_independent_in_one_process(tmp_path):
    lists = {"a": ["one", "two"], "b": ["two", "one"], "c": ["one", "two"], "d": ["onet", "wo"]}
    loaded = {name: tf.saved_model.load(str(_saved(tmp_path / name, words))) for name, words in lists.items()}
    for name, words in lists.items():
        texts = [*words, "other"]
        found = loaded[name].signatures["serving_default"](texts=tf.constant(texts))
        assert found["number"].numpy().tolist() == [0, 1, -1], name
        assert found["word"].numpy().tolist() == [words[0].encode(), words[1].encode(), b""], name
        assert found["pair"].numpy().tolist() == [0, 10, -1], name
    graphs = {name: (tmp_path / name / "saved" / "saved_model.pb").read_bytes() for name in lists}
    names = {
        key: set(re.findall(rb"(?:lines|number|pairs)[a-z_]*_[0-9a-f]{64}", graph)) for key, graph in graphs.items()
    }
    assert [len(found) for found in names.values()] == [3, 3, 3, 3]
    assert names["a"] == names["c"]
    assert not names["a"] & names["b"]


def test_tables_of_numbers_and_texts_have_names_of_their_content():
    def name(keys, values):
        return lookup._Pairs(tf.constant(keys), tf.constant(values))._shared_name

    assert name(["ab", "c"], [1, 2]) != name(["a", "bc"], [1, 2])
    assert name([1, 2], [1, 2]) != name(np.array([1, 2], np.int64), [1, 2])
    assert name([1, 2], ["x", "y"]) == name([1, 2], ["x", "y"])


def test_no_lineage_is_read_from_a_folder_without_one(tmp_path):
    assert lineage.read(tmp_path) == {}
    Path(tmp_path, lineage.FILE).write_text("{")
    assert lineage.read(tmp_path) == {}
