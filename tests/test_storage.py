"""Atomic file writes, and string arrays stored without pickle."""

from __future__ import annotations

import hashlib
import io
import math
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zoo
from zoo import storage
from zoo.errors import UsageError
from zoo.export.standalone import arrays


def permissions(path):
    return path.stat().st_mode & 0o777


@pytest.fixture
def umask():
    """Returns the process's umask. It can only be read by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def through_a_file(content, path):
    arrays.save(path, content, compress=True)
    return arrays.load(path)


# ---------------------------------------------------------------- files


def test_a_file_is_replaced_in_one_step(tmp_path):
    path = tmp_path / "history.csv"
    path.write_text("old")
    with storage.replacing(path) as temporary:
        assert temporary.parent == path.parent  # a rename must stay within one file system
        assert temporary.suffix == ".csv"  # some writers choose the format by the suffix
        assert temporary.name.startswith(".")
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_while_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="half way"), storage.replacing(path) as temporary:
        temporary.write_text("ne")
        raise RuntimeError("half way")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_files_have_default_permissions(tmp_path, umask):
    storage.write_text(tmp_path / "a.txt", "a")
    assert permissions(tmp_path / "a.txt") == 0o666 & ~umask
    before = os.umask(0o027)
    try:
        storage.write_json(tmp_path / "b.json", {})
    finally:
        os.umask(before)
    assert permissions(tmp_path / "b.json") == 0o640


def test_concurrent_writers_write_whole_files(tmp_path):
    path = tmp_path / "state.json"
    contents = [{"writer": n, "filling": "x" * 10_000} for n in range(8)]
    threads = [threading.Thread(target=storage.write_json, args=(path, content)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert storage.read_json(path) in contents
    assert list(tmp_path.iterdir()) == [path]


def test_missing_folder_raises_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        storage.write_text(tmp_path / "missing" / "a.txt", "a")


def test_text_and_json_are_utf_8_and_finite(tmp_path):
    storage.write_json(tmp_path / "a.json", {"name": "漢字", "value": 0.1, "none": None})
    assert "漢字" in (tmp_path / "a.json").read_text(encoding="utf-8")
    assert storage.read_json(tmp_path / "a.json") == {"name": "漢字", "value": 0.1, "none": None}
    with pytest.raises(ValueError, match="not JSON compliant"):
        storage.write_json(tmp_path / "a.json", {"loss": math.nan})
    assert storage.read_json(tmp_path / "a.json")["value"] == 0.1
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_sha256_equals_hashlib(tmp_path):
    file = tmp_path / "file"
    content = bytes(range(256)) * 5000
    file.write_bytes(content)
    assert storage.sha256(file) == hashlib.sha256(content).hexdigest()
    file.write_bytes(b"")
    assert storage.sha256(file) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_remove_tree_removes_existing_and_ignores_missing_folders(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").touch()
    storage.remove_tree(tmp_path / "a")
    storage.remove_tree(tmp_path / "a")  # removing a missing folder does nothing
    assert not (tmp_path / "a").exists()


# ---------------------------------------------------------------- strings


@given(st.lists(st.binary(max_size=20)))
def test_strings_survive_a_round_trip(strings):
    values = np.empty(len(strings), object)
    values[:] = strings
    file = io.BytesIO()
    arrays.save(file, {"texts": values})
    file.seek(0)
    assert arrays.load(file)["texts"].tolist() == strings


def test_numpy_reads_the_file_without_this_package(tmp_path):
    arrays.save(tmp_path / "x.npz", {"requests/text": [b"a\0", b"bc"], "inputs/x": np.arange(3)})
    with np.load(tmp_path / "x.npz", allow_pickle=False) as held:
        assert held["inputs/x"].tolist() == [0, 1, 2]
        assert held["requests/text.bytes"].tobytes() == b"a\0bc" and held["requests/text.offsets"].tolist() == [0, 2, 4]


def test_arrays_survive_a_round_trip_through_a_file(tmp_path):
    strings = np.empty((2, 2), object)
    strings[:] = [[b"a\0\0", b""], [b"\0", b"\xff\xfe"]]
    content = {
        "image_bytes": strings,
        "values": np.arange(6, dtype=np.float32).reshape(2, 3),
        "empty": np.empty((0, 3), np.int64),
        "no strings": np.empty(0, object),
        "scalar": np.array(3),
    }
    read = through_a_file(content, tmp_path / "arrays.npz")
    assert read.keys() == content.keys()
    for name, array in content.items():
        assert read[name].shape == array.shape
        assert read[name].dtype == array.dtype
        assert read[name].tolist() == array.tolist()


def test_trailing_zero_bytes_survive_in_plain_lists_and_scalars_too(tmp_path):
    # np.asarray gives these NumPy's string type, which drops trailing zeros: TensorFlow returns scalars as plain bytes.
    read = through_a_file({"list": [b"a\0", b"b"], "scalar": b"c\0\0", "text": ["é\0"]}, tmp_path / "arrays.npz")
    assert read["list"].tolist() == [b"a\0", b"b"]
    assert (read["scalar"].shape, read["scalar"].item()) == ((), b"c\0\0")
    assert read["text"].tolist() == ["é\0".encode()]


def test_unsupported_objects_are_rejected(tmp_path):
    with pytest.raises(TypeError, match=r"'sizes' holds None; expected bytes or str"):
        arrays.save(tmp_path / "x.npz", {"sizes": np.array(["a", None], object)})


def test_file_of_a_single_array_is_rejected(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(3))
    with pytest.raises(ValueError, match="It holds one array without a name"):
        arrays.load(tmp_path / "x.npy")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("images:/photos/cats and dogs", "images-photos-cats-and-dogs"),  # as before other scripts were kept
        ("csv:a/b (2).csv", "csv-a-b-2-.csv"),
        ("csv:новости_2.csv", "csv-новости_2.csv"),
        ("images:照片", "images-照片"),
        ("csv:हिन्दी ไทยน้ำ.csv", "csv-हिन्दी-ไทยน้ำ.csv"),  # their vowels are marks
        ("csv:Ha\u0308user – neu.csv", "csv-Häuser-neu.csv"),
    ],
)
def test_file_names_keep_letters_of_all_scripts(text, name):
    assert storage.file_name(text) == name


def test_file_names_of_different_texts_differ():
    texts = [
        "csv:🍎.csv",
        "csv:🍐.csv",
        "csv:" + "语" * 100 + "一.csv",
        "csv:" + "语" * 100 + "二.csv",
        "csv:\udcff",
        "csv:\udcfe",
    ]
    names = [storage.file_name(text) for text in texts]
    assert len(set(names)) == len(texts) and max(len(name.encode()) for name in names) <= 200


REMOTE = "is a path of {}://; expected one of this machine. Pass a local path"


@pytest.mark.parametrize(
    ("path", "scheme"),
    [
        ("gs://bucket/run", "gs"),
        (Path("gs://bucket/run"), "gs"),
        ("s3://key:secret@bucket/run", "s3"),
        ("csv:az://box/file.csv", "az"),
        ("images:hf://datasets/x", "hf"),
    ],
)
def test_remote_paths_are_rejected_without_their_keys(path, scheme):
    with pytest.raises(UsageError, match=f"^run_directory {REMOTE.format(scheme)}") as error:
        storage.check_local(path, "run_directory")
    assert "bucket" not in str(error.value) and "secret" not in str(error.value)


@pytest.mark.parametrize(
    "path", ["runs/gs", "images:photos", "hf:google-bert/bert-base-cased", "csv:s3/file.csv", "a://b"]
)
def test_local_paths_and_names_are_not_remote(path):
    storage.check_local(path, "run_directory")


def test_a_search_is_kept_on_this_machine_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(zoo.UsageError, match=REMOTE.format("gs")):
        zoo.cross_validate("mlp", "digits", run_directory="gs://bucket/x")
    with pytest.raises(zoo.UsageError, match=REMOTE.format("s3")):
        zoo.tune("mlp", "digits", run_directory="s3://bucket/x")
    assert not list(tmp_path.iterdir())
