"""Files of untrusted SavedModels: links are not followed, and declared sizes are checked before anything is unpacked."""

from __future__ import annotations

import io
import os
import shutil
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import zoo
from zoo.errors import UsageError
from zoo.export import artifact_paths
from zoo.export.standalone import arrays


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A SavedModel with labels, and a file outside of it."""
    folder = tmp_path_factory.mktemp("foreign")
    (folder / "secret.txt").write_text("a secret\n")
    module = tf.Module()

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None, 2], tf.float32, "x")])
    def double(x):
        return {"y": 2 * x}

    tf.saved_model.save(module, str(folder / "model"), signatures={"serving_default": double})
    (folder / "model" / "assets" / "labels.txt").write_text("a\nb\n")
    return folder / "model"


@pytest.fixture
def copy(saved, tmp_path):
    return Path(shutil.copytree(saved, tmp_path / "model", symlinks=True))


def everywhere(path, message):
    """Every function that reads a SavedModel rejects it in the same sentence."""
    for read in (
        zoo.export.describe,
        zoo.export.load,
        zoo.export.verify,
        lambda path: zoo.export.convert(path, "onnx"),
    ):
        with pytest.raises(UsageError, match=message):
            read(path)


@pytest.mark.parametrize("place", ["assets/labels.txt", "assets/more.txt", "assets", "variables", "README.md"])
def test_links_out_of_a_savedmodel_are_not_followed(saved, copy, place):
    target = saved.parent / "secret.txt" if "." in place else saved / place
    shutil.rmtree(copy / place, ignore_errors=True)
    (copy / place).unlink(missing_ok=True)
    (copy / place).symlink_to(os.path.relpath(target, (copy / place).parent))
    everywhere(copy, r"is a link to \.\..*, which is no file of this SavedModel. Links .* are not followed; pass one")


def test_links_within_a_savedmodel_are_accepted(copy):
    (copy / "..data").mkdir()
    (copy / "assets" / "labels.txt").rename(copy / "..data" / "labels.txt")
    (copy / "assets" / "labels.txt").symlink_to("../..data/labels.txt")
    assert zoo.export.describe(copy).facts["labels"] == ["a", "b"]
    (copy / "assets" / "broken.txt").symlink_to("nothing")
    with pytest.raises(UsageError, match=r"broken.txt is a link to nothing, which is no file of this SavedModel"):
        zoo.export.describe(copy)


def test_only_regular_files_of_limited_size_are_read(copy, monkeypatch):
    os.mkfifo(copy / "assets" / "pipe")
    everywhere(copy, r"pipe is a device, a pipe or a socket. Pass a SavedModel of regular files")
    (copy / "assets" / "pipe").unlink()
    (copy / "assets.extra").mkdir()
    for name in ("SHA256SUMS", "zoo.json", "golden.npz"):
        with (copy / "assets.extra" / name).open("wb") as file:
            file.truncate(5 << 30)  # sparse, so it takes no space
        everywhere(copy, rf"{name} has 5,368,709,120 bytes; expected at most [0-9,]+. Pass an intact SavedModel")
        (copy / "assets.extra" / name).unlink()
    monkeypatch.setattr(artifact_paths, "MOST_FILES", 4)
    everywhere(copy, r"has more than 4 files. Pass the folder of one SavedModel")


# --- NPZ files --------------------------------------------------------------------------------------------------------


def npy(shape, data=b""):
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return head.getvalue() + data


def archive(members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as written:
        for name, content in members.items():
            written.writestr(f"{name}.npy", content)
    return file


def with_size(file, size):
    """Changes the unpacked size that the list of members declares for the first member."""
    content = bytearray(file.getvalue())
    content[(place := content.index(b"PK\1\2")) + 24 : place + 28] = struct.pack("<I", size)
    return io.BytesIO(bytes(content))


def strings(*offsets):
    file = io.BytesIO()
    arrays.save(file, {"a": [b"text"]})
    held = dict(np.load(io.BytesIO(file.getvalue())))
    held["a.offsets"], held["a.shape"] = np.array(offsets), np.array([len(offsets) - 1])
    np.savez(file := io.BytesIO(), **held)
    return file


HOSTILE = {
    "a petabyte in the header": (
        lambda: archive({"a": npy((10**15,))}),
        r"has another size than its header \[10{15}\]",
    ),
    "a shape below zero": (lambda: archive({"a": npy((-1, -4), bytes(16))}), "has another size than its header"),
    "more data than its shape": (lambda: archive({"a": npy((1,), bytes(8))}), "has another size than its header"),
    "many members": (
        lambda: archive(dict.fromkeys(map(str, range(101)), npy((0,)))),
        "It has 101 arrays, more than 100",
    ),
    "a long list of members": (
        lambda: archive({f"{i}{'a' * 60_000}": b"" for i in range(80)}),
        "Its list of members has more than 4,194,304 bytes",
    ),
    "gigabytes after unpacking": (
        lambda: with_size(archive({"a": npy((1,), bytes(4)), "b": npy((0,))}), 2**32 - 1),
        "Its arrays have more than 4,294,967,296 bytes after unpacking",
    ),
    "strings that overlap": (lambda: strings(0, 4, 0, 4, 0, 4), "The strings of 'a' overlap"),
    "a pickle": (lambda: io.BytesIO(b"\x80\x04N."), "It is not an NPZ file"),
    "one array": (lambda: io.BytesIO(npy((1,), bytes(4))), "It holds one array without a name"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_array_files_are_rejected_before_they_are_unpacked(kind, monkeypatch):
    make, message = HOSTILE[kind]
    monkeypatch.setattr(arrays, "MOST_MEMBERS", 100)
    with pytest.raises(ValueError, match=message):
        arrays.load(make())
