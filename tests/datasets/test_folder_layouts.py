"""How folders are told to be classes or splits, and which classes and splits are rejected."""

from __future__ import annotations

import os

import pytest

import zoo
from source_examples import message, sizes, write
from zoo.datasets.description import describe_splits
from zoo.datasets.sources.labels import split_role


def fill(folder, *, tops, classes=("neg", "pos"), count=10, **more):
    """Writes texts FOLDER/TOP/CLASS/N.txt, and `more` folders of `count` texts each."""
    places = [f"{top}/{name}".strip("/") for top in tops for name in classes]
    for place in [*places, *more.values()]:
        (folder / place).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            (folder / place / f"{i}.txt").write_text(f"{place} words {i}")
    return f"text:{folder}"


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("training_set", "train"),
        ("TestSet", "test"),
        ("seg_train", "train"),
        ("Validation Images", "validation"),
        ("val", "validation"),
        ("trains", None),
        ("set", None),
        ("train_old", None),
        ("contest", None),
    ],
)
def test_folder_names_of_splits(name, role):
    assert split_role(name) == role


@pytest.mark.parametrize("tops", [("training_set", "test_set"), ("Train", "valid", "testing"), ("train_images",)])
def test_split_folders_are_no_classes(tmp_path, tops):
    name = fill(tmp_path, tops=tops, more="__MACOSX/train/neg")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "list.csv").write_text("file,label\n")
    for i in range(3):  # as in the archive of IMDb
        (tmp_path / tops[0] / f"urls_{i}.txt").write_text("a list")
    data = zoo.datasets.load(name)
    assert data.class_names == ("neg", "pos")
    assert sum(sizes(data)) == 20 * len(tops)
    assert data.about["left_out"] == {
        "files that are not .txt": 1,
        "folders without text files": 1,
        "files outside the class folders": 3,
    }


def test_ambiguous_folders_are_rejected(tmp_path):
    def said(name, **options):
        return message(fill(tmp_path / name, **options)).replace(str(tmp_path / name), "F")

    extra = said("extra", tops=("train", "test"), more="extra/neg")
    assert extra.startswith("F has the splits test, train and also extra, which is no split with class folders. Rename")
    lacking = said("lacking", tops=("val", "test"))
    assert lacking.startswith("F has the splits test, val; expected one named train. Rename one of them: F/train/CLASS")
    flat = said("flat", tops=(), a="train", b="test")
    assert flat.startswith("F has the splits test, train, whose text files are in no class folder. Put them there as")
    deep = said("deep", tops=("seg_train/seg_train", "seg_test/seg_test"))
    assert deep.startswith("F has a split within a split, seg_test/seg_test. Expected F/train/CLASS/FILE")
    years = said("years", tops=("2023", "2024"))
    assert years.startswith("Each of 2023, 2024 in F holds the folders neg, pos. Pass one of them; if they are splits,")
    assert said("archive", tops=("letters",)).startswith(
        "F has only one folder with text files, letters. Pass F/letters"
    )


def test_a_class_may_be_called_train(tmp_path):
    data = zoo.datasets.load(fill(tmp_path, tops=("",), classes=("bus", "car", "train"), more="bus/old"))
    assert data.class_names == ("bus", "car", "train")
    assert sizes(data) == [32, 4, 4]


def test_links_to_folders_are_followed(tmp_path):
    fill(tmp_path / "elsewhere", tops=("",), classes=("more",))
    name = fill(tmp_path / "texts", tops=("",))
    (tmp_path / "texts" / "pos" / "linked").symlink_to(tmp_path / "elsewhere" / "more")
    (tmp_path / "texts" / "pos" / "linked" / "loop").symlink_to(tmp_path / "texts" / "pos")
    (tmp_path / "texts" / "neg" / "dead.txt").symlink_to(tmp_path / "nothing")
    data = zoo.datasets.load(name)
    assert sum(sizes(data)) == 30
    assert data.about["class_counts"]["train"] == [8, 16]
    assert data.about["left_out"] == {"links without a target, pipes and devices": 1}


def test_class_names_that_look_alike(tmp_path):
    composed, apart = "gr\u00fcn", "gru\u0308n"
    name = fill(tmp_path / "texts", tops=(), a=f"train/{composed}", b="train/rot", c=f"test/{apart}", d="test/rot")
    assert zoo.datasets.load(name).class_names == (composed, "rot")
    rows = [f"text {i},{(composed, apart, 'rot')[i % 3]}" for i in range(60)]
    assert zoo.datasets.load(write(tmp_path / "a.csv", "\n".join(["text,label", *rows]))).class_names == (
        composed,
        "rot",
    )
    other = write(tmp_path / "b.csv", "\n".join(["text,label", *rows]).replace("rot", "gr\u00fcn\u200e"))
    assert message(other).endswith(
        "column label has the classes 'gr\\xfcn' and 'gr\\xfcn\\u200e', which look alike. Give them one name, or names "
        "that differ visibly."
    )


def test_names_that_are_not_utf8(tmp_path):
    for i in range(20):
        place = os.path.join(os.fsencode(tmp_path), b"texts", (b"b\xe9", b"c")[i % 2])
        os.makedirs(place, exist_ok=True)
        with open(os.path.join(place, b"%d.txt" % i), "w") as file:
            file.write(f"words {i}")
    assert message(f"text:{tmp_path}/texts").endswith("has the class 'b\\udce9', which is not UTF-8. Rename it.")
    assert message(f"text:{tmp_path}/b\udce9").endswith("b\\udce9' is not UTF-8. Rename its files or folders.")


def rows(**counts):
    """Returns a CSV file with this many texts of each LABEL_SPLIT."""
    cells = [(label, split, i) for key, n in counts.items() for label, split in [key.split("_")] for i in range(n)]
    return "\n".join(["text,label,split", *(f"{label} {split} {i},{label},{split}" for label, split, i in cells)])


def test_splits_that_lack_a_class_are_rejected(tmp_path):
    unseen = write(tmp_path / "a.csv", rows(neg_train=9, pos_train=9, neg_test=3, pos_test=3, new_test=2))
    assert message(unseen).endswith(
        "has no training example of the class 'new': {'train': 0, 'validation': 0, 'test': 2}. Move some of its examples to "
        "train, or remove the class."
    )
    without = write(tmp_path / "b.csv", rows(neg_train=20, pos_train=20, unsup_train=40, neg_test=6, pos_test=6))
    assert "has 36 training examples of the class 'unsup' and none in test, where about 6 are expected." in message(
        without
    )
    rare = zoo.datasets.load(write(tmp_path / "c.csv", rows(a_train=20, b_train=20, c_train=3, a_test=5, b_test=5)))
    assert rare.class_names == ("a", "b", "c"), "three examples may be absent from a small test split by chance"
    assert describe_splits(rare) == (
        "Examples: 38 train, 5 validation, 10 test.\n3 classes: 'a' (18, 2, 5), 'b' (18, 2, 5), 'c' (2, 1, 0)."
    )


def test_numbers_are_no_classes(tmp_path):
    rows = [f'text {i},"{i % 60},{i % 9}"' for i in range(400)]
    assert "different numbers, '0,0' for example, which would be as many classes. Choose another column" in message(
        write(tmp_path / "a.csv", "\n".join(["text,label", *rows]))
    )
    stars = [f"text {i},{i % 10 / 2}" for i in range(100)]
    assert len(zoo.datasets.load(write(tmp_path / "b.csv", "\n".join(["text,label", *stars]))).class_names) == 10


def test_equal_texts_are_too_few_to_split(tmp_path):
    rows = [f"the same,{'ab'[i % 2]}" for i in range(100)]
    assert "99 of its 100 examples are equal to others, which stay together." in message(
        write(tmp_path / "a.csv", "\n".join(["text,label", *rows]))
    )
