"""Data sets of TensorFlow Datasets, with builders that generate their own images."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

import zoo
from dataset_arrays import SPLITS, columns, multiset, noise, raw
from zoo.datasets.raw import Feature


def drawing(split: str, index: int, shape: tuple[int, int, int]) -> np.ndarray:
    """Returns noise whose first two pixels encode the split and the index of the example."""
    image = noise(*shape, seed=index)
    image[0, 0] = {"train": 1, "validation": 2, "test": 3}[split]
    image[0, 1] = index
    return image


class Drawings(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Base class of the builders below."""

    VERSION = tfds.core.Version("1.0.0")
    shape: ClassVar = (9, 7, 1)
    counts: ClassVar = {"train": 40, "test": 20}

    def features(self) -> dict:
        return {
            "image": tfds.features.Image(shape=self.shape),
            "label": tfds.features.ClassLabel(names=["ant", "bee", "cat"]),
        }

    def example(self, split: str, index: int) -> dict:
        shape = tuple(n or 8 + index % 5 for n in self.shape)
        return {"image": drawing(split, index, shape), "label": index % 3}

    def _info(self):
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(self.features()))

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in self.counts}

    def _generate_examples(self, split):
        for index in range(self.counts[split]):
            yield index, self.example(split, index)


class DrawnFixed(Drawings):
    """Images of one size."""


class DrawnVarying(Drawings):
    """Images of many sizes."""

    shape = (None, None, 1)


class DrawnColour(Drawings):
    """Colour images, with feature names that some sources use."""

    shape = (9, 7, 3)

    def features(self):
        both = super().features()
        return {"picture": both["image"], "kind": both["label"], "file": tfds.features.Text()}

    def example(self, split, index):
        both = super().example(split, index)
        return {"picture": both["image"], "kind": both["label"], "file": f"{index}.png"}


class DrawnTrainOnly(Drawings):
    """A source without test and validation splits."""

    counts: ClassVar = {"train": 100}


class DrawnWithValidation(Drawings):
    """A source that has only a validation split besides training."""

    counts: ClassVar = {"train": 50, "validation": 15}


class DrawnThree(Drawings):
    """A source with all three splits."""

    counts: ClassVar = {"train": 30, "validation": 12, "test": 9}


class DrawnTestOnly(Drawings):
    """A source without a training split."""

    counts: ClassVar = {"test": 9}


class DrawnTooFew(Drawings):
    """A source with three examples: a tenth of them is none."""

    counts: ClassVar = {"train": 3}


class DrawnTwice(Drawings):
    """A source with two images per example."""

    def features(self):
        return {**super().features(), "mask": tfds.features.Image(shape=(9, 7, 1))}


class DrawnNameless(Drawings):
    """A source without labels."""

    def features(self):
        return {"image": super().features()["image"]}


class DrawnDeep(Drawings):
    """Images with 16 bits per pixel."""

    def features(self):
        return {**super().features(), "image": tfds.features.Image(shape=(9, 7, 1), dtype=np.uint16)}


class DrawnUnlabelledTest(Drawings):
    """A source that does not publish the labels of its test split."""

    def example(self, split, index):
        return {**super().example(split, index), "label": -1 if split == "test" else index % 3}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("tfds"))


def marks(images: list[np.ndarray]) -> list[tuple[int, int]]:
    return [(int(image[0, 0, 0]), int(image[0, 1, 0])) for image in images]


@pytest.mark.parametrize(
    ("name", "shape"),
    [("drawn_fixed", (9, 7, 1)), ("drawn_varying", (None, None, 1)), ("drawn_colour", (9, 7, 3))],
)
def test_tfds_examples_equal_those_of_the_builder(data_dir, name, shape):
    data = zoo.datasets.load(name, data_dir=data_dir)
    assert data.features["image"] == Feature(shape, "uint8")
    assert data.class_names == ("ant", "bee", "cat")
    assert data.licence == "not stated by the source"
    assert data.source.endswith(f"{name}/1.0.0)")
    assert data.arguments == {"data_dir": data_dir}
    images, labels = raw(data.test)
    assert sorted(marks(images)) == [(3, i) for i in range(20)]
    for image, label in zip(images, labels, strict=True):
        index = int(image[0, 1, 0])
        np.testing.assert_array_equal(image, drawing("test", index, image.shape))
        assert label == index % 3
    again = zoo.datasets.load(name, data_dir=data_dir)
    assert marks(raw(again.train)[0]) == marks(raw(data.train)[0]), "the order is fixed"


@pytest.mark.parametrize(
    ("name", "memory_limit"),
    [
        pytest.param("drawn_fixed", 1 << 20, id="drawn_fixed-memory"),
        pytest.param("drawn_fixed", 0, id="drawn_fixed-stream", marks=pytest.mark.slow),
        pytest.param("drawn_varying", 1 << 20, id="drawn_varying-memory", marks=pytest.mark.slow),
        pytest.param("drawn_varying", 0, id="drawn_varying-stream"),
        pytest.param("drawn_colour", 1 << 20, id="drawn_colour-memory"),
        pytest.param("drawn_colour", 0, id="drawn_colour-stream"),
    ],
)
def test_tfds_batches_contain_the_preprocessed_examples(data_dir, name, memory_limit):
    data = zoo.datasets.load(name, data_dir=data_dir, memory_limit=memory_limit)
    prepared = data.prepare("cnn", filters=[2], input_shape=[12, 10, 1])
    images, labels = raw(data.train)
    expected = np.concatenate([prepared.preprocessor(image[np.newaxis]) for image in images])
    inputs, targets = columns(prepared.keras_batches("train", 7))
    np.testing.assert_array_equal(inputs, expected)
    np.testing.assert_array_equal(targets, labels)
    shuffled, classes = columns(prepared.keras_batches("train", 7, seed=0))
    assert multiset(shuffled, classes) == multiset(expected, labels)
    tail = columns(prepared.keras_batches("train", 7, seed=0, start=3))
    np.testing.assert_array_equal(tail[0], shuffled[21:])
    assert prepared.build()(inputs).shape == (36, 3)


def test_tfds_images_of_varying_sizes_are_resized(data_dir):
    prepared = zoo.datasets.load("drawn_varying", data_dir=data_dir).prepare("mlp")
    assert prepared.arguments["input_shape"] == (28, 28, 1)
    requests_ = prepared.interface.examples.requests
    served = prepared.preprocessor.serve({k: tf.constant(v.tolist()) for k, v in requests_.items()})[0]["image"]
    assert served.shape == (20, 28, 28, 1), "all there are, where there are fewer than 64"


@pytest.mark.parametrize(
    ("name", "sizes", "origins"),
    [
        ("drawn_fixed", (36, 4, 20), (1, 1, 3)),
        ("drawn_train_only", (80, 10, 10), (1, 1, 1)),
        ("drawn_with_validation", (45, 5, 15), (1, 1, 2)),
        ("drawn_three", (30, 12, 9), (1, 2, 3)),
    ],
)
def test_tfds_splits_are_derived_from_the_source(data_dir, name, sizes, origins):
    """The source's last held-out split becomes the test split. Missing splits come from train. Splits are disjoint."""
    data = zoo.datasets.load(name, data_dir=data_dir)
    found = [marks(raw(getattr(data, split))[0]) for split in SPLITS]
    assert tuple(len(part) for part in found) == sizes
    assert tuple(data.splits[split].num_examples for split in SPLITS) == sizes
    assert tuple({origin for origin, _ in part} for part in found) == tuple({origin} for origin in origins)
    together = [mark for part in found for mark in part]
    assert len(together) == len(set(together))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "drawn_twice",
            r"holds image: Image, label: ClassLabel, mask: Image; expected exactly one uint8 Image or one Text, and one",
        ),
        (
            "drawn_nameless",
            r"holds image: Image; expected exactly one .* ClassLabel. Known to work: adult, baskets, bccd_cells, bike_",
        ),
        ("drawn_deep", r"holds image: Image, label: ClassLabel; expected exactly one uint8 Image or"),
        ("drawn_test_only", r"has the splits test; expected one named train. Choose another data set.$"),
        (
            "drawn_too_few",
            r"is too small to split: {'train': 2, .*'validation': [01], 'test': [01]}. Choose one with more",
        ),
    ],
)
def test_tfds_data_without_a_matching_task_is_rejected(data_dir, name, message):
    with pytest.raises(zoo.UsageError, match=f"^Data set '{name}' {message}"):
        zoo.datasets.load(name, data_dir=data_dir)


def test_tfds_unpublished_labels_are_rejected(data_dir):
    message = (
        r"^Split 'test' of data set 'drawn_unlabelled_test' has the label -1 at example 0; expected 0 to 2. Choose"
    )
    prepared = zoo.datasets.load("drawn_unlabelled_test", data_dir=data_dir).prepare("mlp")
    assert columns(prepared.keras_batches("train", 50))[1].min() == 0
    with pytest.raises(zoo.UsageError, match=message):
        prepared.keras_batches("test", 5)
    with pytest.raises(zoo.UsageError, match=message):
        _ = prepared.interface  # the trainer reads it before the first step, not after the last
    stream = zoo.datasets.load("drawn_unlabelled_test", data_dir=data_dir, memory_limit=0).prepare("mlp")
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"drawn_unlabelled_test.* has a label outside 0 to 2"):
        list(stream.keras_batches("test", 5))


def test_tfds_unknown_names_are_rejected():
    for name, nearest in {
        "fashion_mnst": "fashion_mnist",
        "MNIST:9.9.9": "mnist",
        "Fashion MNIST": "fashion_mnist",
    }.items():
        with pytest.raises(zoo.UsageError, match=f"^Unknown data set '{name}'. Did you mean '{nearest}'"):
            zoo.datasets.load(name)
    with pytest.raises(zoo.UsageError, match=r"^Unknown data set ''. `tensorflow_datasets.list_builders\(\)` prints"):
        zoo.datasets.load("")
    with pytest.raises(zoo.UsageError, match=r"^Cannot open data set 'mnist:9.9.9': .*only: 3.* Try 'mnist' alone.$"):
        zoo.datasets.load("mnist:9.9.9")
    with pytest.raises(zoo.UsageError, match=r"^Unknown data set 'digit'. Did you mean 'digits'"):
        zoo.datasets.load("digit")


def test_paths_without_a_source_are_offered_with_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "table").write_text("text,label\n")
    for name, offered in {
        "mails.csv": "csv:mails.csv",
        "x/corpus.TXT": "lines:x/corpus.TXT",
        "table": "csv:table",
        "folder:photos": "images:photos or text:photos",
        "folder:elsewhere/photos": "images:elsewhere/photos or text:elsewhere/photos",
        f"{tmp_path}/photos": f"images:{tmp_path}/photos or text:{tmp_path}/photos",
    }.items():
        with pytest.raises(zoo.UsageError) as caught:
            zoo.datasets.load(name)
        assert str(caught.value) == f"Unknown data set {name!r}. Did you mean {offered}?"


def test_an_unwritable_data_dir_is_rejected(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        zoo.UsageError, match=r"^Cannot prepare 'drawn_fixed' in .*file: .*Not a directory.*pass another --d"
    ):
        zoo.datasets.load("drawn_fixed", data_dir=str(tmp_path / "file"))
