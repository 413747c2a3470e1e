"""Data sets from folders of images and of texts."""

from __future__ import annotations

import os
import re

from PIL import Image

import zoo
from source_examples import message, picture, rows, sizes, words
from zoo.datasets.raw import Feature


def test_images_are_read_from_class_folders(tmp_path, capsys):
    for i in range(60):
        picture(
            tmp_path / "Bilder" / ("ü b", "a")[i % 2] / f"{i:02} ß.{('png', 'BMP', 'gif')[i % 3]}", 4 * i, mode="RGB"
        )
    (tmp_path / "Bilder" / "a" / "notes.doc").write_text("no image")
    (tmp_path / "Bilder" / "a" / ".DS_Store").write_text("hidden")
    (tmp_path / "Bilder" / ".git").mkdir()
    picture(tmp_path / "Bilder" / "stray.png", 1)
    data = zoo.datasets.load(f"images:{tmp_path}/Bilder")
    assert data.task == "image_classification"
    assert data.class_names == ("a", "ü b")
    assert data.features == {"image": Feature((4, 5, 3), "uint8"), "label": Feature((), "int64")}
    assert sizes(data) == [48, 6, 6]
    levels = {int(e["image"][0, 0, 0]): data.class_names[e["label"]] for e in rows(data)}
    assert levels == {4 * i: ("ü b", "a")[i % 2] for i in range(60)}
    assert data.about["left_out"] == {
        "files that are not .png, .jpg, .jpeg, .bmp, .gif": 1,
        "files outside the class folders": 1,
    }
    assert "Left out of images:" in capsys.readouterr().out
    prepared = data.prepare("cnn", filters=(2,))
    assert prepared.build()(next(iter(prepared.keras_batches("train", 8)))[0]).shape == (8, 2)


def test_images_of_many_sizes_are_read_from_split_folders(tmp_path, monkeypatch):
    for role, count in (("train", 20), ("val", 6), ("Test", 8)):
        for i in range(count):
            path = tmp_path / "p" / role / ("cat", "dog")[i % 2] / f"{i}.png"
            picture(path, 10 * i, size=(5 + i % 3, 4), mode=("L", "RGB")[i % 2])
    monkeypatch.chdir(tmp_path)
    data = zoo.datasets.load("images:p")
    assert sizes(data) == [20, 6, 8]
    assert data.arguments == {"manual_dir": str(tmp_path)}
    assert data.features["image"].shape == (4, None, None)
    found = sorted(e["image"].shape for e in rows(data, "test"))
    assert found == sorted((4, 5 + i % 3, (1, 3)[i % 2]) for i in range(8))
    assert data.prepare("mlp").arguments["input_shape"][2] == 3
    assert data.about["duplicates"] > 0, "the same pictures are in several splits, and that is said"


def test_messages_name_unreadable_images(tmp_path, capsys):
    for i in range(20):
        picture(tmp_path / ("a", "b")[i % 2] / f"{i}.png", i)
    broken = tmp_path / "b" / "99.png"
    broken.write_bytes(picture(tmp_path / "x" / "x.png", 3).read_bytes()[:60])
    (tmp_path / "a" / "98.png").write_bytes(b"")
    (tmp_path / "a" / "97.jpg").write_text("<html>not found</html>")
    Image.new("P", (4, 4)).save(tmp_path / "b" / "p.bmp")
    os.mkfifo(tmp_path / "a" / "pipe.png")
    said = message(f"images:{tmp_path}")
    assert said.startswith(
        f"4 of 25 images of {tmp_path} cannot be read: a/97.jpg (this is not a PNG, JPEG, BMP or GIF file); a/98.png "
        "(this is not a PNG, JPEG, BMP or GIF file); b/99.png (Invalid PNG data, size 60"
    )
    assert said.endswith(
        "; b/p.bmp (a BMP file with a colour palette cannot be read). Convert or remove them, or pass "
        "--data.skip_broken true, which leaves them out."
    )
    data = zoo.datasets.load(f"images:{tmp_path}", skip_broken=True)
    assert sum(sizes(data)) == 21
    assert data.arguments == {"skip_broken": True}
    printed, logged = capsys.readouterr()
    assert "retracing" not in logged
    assert "4 images that cannot be read: a/97.jpg (this is not a" in printed
    assert "1 links without a target, pipes and devices" in printed


def test_invalid_folders_are_rejected(tmp_path):
    assert message(f"images:{tmp_path}/none").startswith(f"{tmp_path}/none is not a folder. ")
    assert message(f"images:{tmp_path}") == (
        f"{tmp_path} holds no image files. Put them there as {tmp_path}/CLASS/FILE.png."
    )
    picture(tmp_path / "one" / "1.png", 1)
    assert message(f"images:{tmp_path}") == (
        f"{tmp_path} has only one class, 'one'; expected two or more. Choose another column or folder."
    )
    assert message(f"text:{tmp_path}").startswith(f"{tmp_path} holds no text files. Put them")
    assert message(f"images:{tmp_path}", columns={"a": "b"}).endswith("takes no columns. Leave it out.")


def test_texts_are_read_from_class_folders(tmp_path):
    for i in range(40):
        path = tmp_path / ("neg", "pos")[i % 2] / f"ü{i}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(("\ufeff" if i == 3 else "").encode() + f"Text\r\n“{i}”, 😀\n".encode())
    (tmp_path / "neg" / "empty.txt").write_text(" \n")
    data = zoo.datasets.load(f"text:{tmp_path}")
    assert data.class_names == ("neg", "pos")
    assert sizes(data) == [32, 4, 4]
    assert {re.search(r"“(\d+)”", words(e))[1]: int(e["label"]) for e in rows(data)} == {
        str(i): i % 2 for i in range(40)
    }
    assert not any(words(e).startswith("\ufeff") for e in rows(data))
    assert data.about["left_out"] == {"empty files": 1}
    (tmp_path / "pos" / "latin.txt").write_bytes("é".encode("latin-1"))
    assert message(f"text:{tmp_path}") == f"{tmp_path}/pos/latin.txt is not UTF-8 at byte 0. Convert it to UTF-8."
