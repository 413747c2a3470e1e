"""Data sets, preprocessors and batches against what they were made from; nothing here reaches the network."""

from __future__ import annotations

import dataclasses
import gzip
import importlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import requests
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image
from sklearn.datasets import load_digits

import zoo
from zoo import registry
from zoo.datasets.interface import Interface
from zoo.datasets.preprocessing.base import get_preprocessor
from zoo.datasets.preprocessing.images import ImagePreprocessor
from zoo.datasets.raw import Feature

SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def digits():
    return zoo.datasets.load("digits")


def columns(dataset: tf.data.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """All of a batched data set as one array each."""
    inputs, targets = zip(*dataset.as_numpy_iterator(), strict=True)
    return np.concatenate(inputs), np.concatenate(targets)


def multiset(images: np.ndarray, labels: np.ndarray) -> Counter:
    return Counter((image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True))


def raw(dataset: tf.data.Dataset) -> tuple[list[np.ndarray], np.ndarray]:
    examples = list(dataset.as_numpy_iterator())
    return [e["image"] for e in examples], np.array([e["label"] for e in examples])


# --- The embedded digits ---------------------------------------------------------------------------------------------


def test_digits_are_all_there_once(digits):
    source = load_digits()
    parts = [raw(getattr(digits, name)) for name in SPLITS]
    assert [len(labels) for _, labels in parts] == [1293, 144, 360]
    assert [digits.splits[name].num_examples for name in SPLITS] == [1293, 144, 360]
    images = np.concatenate([np.stack(images) for images, _ in parts])
    labels = np.concatenate([labels for _, labels in parts])
    # Level 16 is white; scikit-learn holds the levels as float64.
    expected = np.floor(source.images * 255 / 16 + 0.5).astype(np.uint8)[..., np.newaxis]
    assert multiset(images, labels) == multiset(expected, source.target)
    assert (images.min(), images.max()) == (0, 255)


def test_digits_splits_share_no_example(digits):
    held = [set(multiset(np.stack(images), labels)) for images, labels in (raw(getattr(digits, n)) for n in SPLITS)]
    twins = Counter((i.tobytes(), t) for i, t in zip(load_digits().images, load_digits().target, strict=True))
    assert max(twins.values()) == 1, "no digit is in the source twice, so sets can be compared"
    assert not held[0] & held[1]
    assert not held[0] & held[2]
    assert not held[1] & held[2]


@pytest.mark.parametrize("split", SPLITS)
def test_every_digit_is_in_every_split(digits, split):
    labels = raw(getattr(digits, split))[1]
    counts = np.bincount(labels, minlength=10)
    assert counts.min() >= 0.9 * len(labels) / 10


def test_digits_are_the_same_every_time(digits):
    again = zoo.datasets.load("digits")
    for split in SPLITS:
        (images, labels), (others, same) = raw(getattr(digits, split)), raw(getattr(again, split))
        np.testing.assert_array_equal(np.stack(images), np.stack(others))
        np.testing.assert_array_equal(labels, same)


def test_digits_say_what_they_are(digits):
    assert digits.class_names == tuple("0123456789")
    assert digits.task == "image_classification"
    assert digits.features == {"image": Feature((8, 8, 1), "uint8"), "label": Feature((), "int64")}
    assert digits.licence == "CC BY 4.0"
    assert "UCI" in digits.source
    assert digits.train.element_spec["image"] == tf.TensorSpec((8, 8, 1), tf.uint8)


def test_digits_take_no_manual_dir(tmp_path):
    with pytest.raises(zoo.UsageError, match=r"'digits' is embedded and takes no manual_dir. Leave it out."):
        zoo.datasets.load("digits", manual_dir=str(tmp_path))


# --- Preprocessing ---------------------------------------------------------------------------------------------------


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def scaled(images: np.ndarray) -> np.ndarray:
    return images.astype(np.float32) * np.float32(1 / 255)


def smooth(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.uint8(127 + 60 * np.sin(x / 5) + 60 * np.cos(y / 7))[np.newaxis, ..., np.newaxis]


def test_the_right_size_is_only_scaled():
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    out = ImagePreprocessor(16, 16, 1)(levels).numpy()
    np.testing.assert_allclose(out, levels / 255, rtol=2e-7)
    assert (out.min(), out.max()) == (0, 1)
    images = noise(3, 6, 5, 1)
    np.testing.assert_array_equal(ImagePreprocessor(6, 5, 1)(images), scaled(images))


@pytest.mark.parametrize("alpha", [0, 1], ids=["opaque", "alpha"])
def test_colour_to_grey(alpha):
    images = noise(4, 6, 5, 3 + alpha)
    grey = ImagePreprocessor(6, 5, 1)(images).numpy()
    np.testing.assert_allclose(grey[..., 0], images[..., :3] @ np.array([0.299, 0.587, 0.114]) / 255, atol=1e-6)
    pillow = np.stack([np.asarray(Image.fromarray(i[..., :3]).convert("L")) for i in images])
    np.testing.assert_allclose(grey[..., 0] * 255, pillow, atol=0.51, err_msg="Pillow rounds to whole levels")


@pytest.mark.parametrize("alpha", [0, 1], ids=["opaque", "alpha"])
def test_grey_to_colour_and_grey(alpha):
    images = noise(4, 6, 5, 1 + alpha)
    expected = scaled(images[..., :1])
    np.testing.assert_array_equal(ImagePreprocessor(6, 5, 3)(images), np.repeat(expected, 3, axis=-1))
    np.testing.assert_array_equal(ImagePreprocessor(6, 5, 1)(images), expected)


def test_colour_stays_colour():
    images = noise(2, 4, 4, 4)
    np.testing.assert_array_equal(ImagePreprocessor(4, 4, 3)(images), scaled(images[..., :3]))


@pytest.mark.parametrize("size", [(1, 1), (5, 9), (28, 28), (41, 30)])
@pytest.mark.parametrize("level", [0, 1, 200, 255])
def test_a_constant_image_stays_constant(size, level):
    out = ImagePreprocessor(*size, 1)(np.full((1, 17, 12, 1), level, np.uint8)).numpy()
    np.testing.assert_allclose(out, level / 255, atol=1e-6)


@pytest.mark.parametrize("make", [smooth, lambda h, w: noise(1, h, w, 1)], ids=["smooth", "noise"])
@pytest.mark.parametrize("size", [(8, 8), (28, 28), (13, 40), (7, 64), (100, 90)])
def test_resizing_is_pillows(make, size):
    """Pillow's bilinear filter widens when it makes an image smaller: the same antialiasing, on float32 pixels."""
    image = make(64, 48)
    ours = ImagePreprocessor(*size, 1)(image).numpy()[0, ..., 0] * 255
    pillow = Image.fromarray(image[0, ..., 0].astype(np.float32)).resize(size[::-1], Image.Resampling.BILINEAR)
    np.testing.assert_allclose(ours, np.asarray(pillow), atol=0.01)


def test_making_smaller_is_antialiased():
    """Stripes one pixel wide become grey; picking every eighth pixel would give black or white."""
    stripes = np.zeros((1, 64, 64, 1), np.uint8)
    stripes[:, :, ::2] = 255
    out = ImagePreprocessor(8, 8, 1)(stripes).numpy()
    np.testing.assert_allclose(out[:, :, 1:-1], 0.5, atol=0.05)


def test_a_batch_is_answered_as_its_images_alone():
    for channels in (1, 3):
        preprocessor = ImagePreprocessor(10, 12, channels)
        images = noise(5, 23, 17, 3)
        alone = np.concatenate([preprocessor(image[np.newaxis]) for image in images])
        np.testing.assert_array_equal(preprocessor(images), alone)


def test_sizes_and_channels_that_only_the_graph_knows():
    preprocessor = ImagePreprocessor(9, 9, 1)
    traced = tf.function(preprocessor, input_signature=[tf.TensorSpec([None, None, None, None], tf.uint8)])
    for shape in [(2, 9, 9, 1), (1, 20, 5, 3), (3, 9, 9, 4), (1, 4, 4, 2)]:
        np.testing.assert_array_equal(traced(noise(*shape)), preprocessor(noise(*shape)))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.zeros((2, 8, 8, 1), np.float32), "An image batch is float32 of shape (2, 8, 8, 1); expected uint8 (batch,"),
        (np.zeros((8, 8, 1), np.uint8), "An image batch is uint8 of shape (8, 8, 1); expected uint8 (batch, height, w"),
        (np.zeros((2, 8, 8), np.int64), "An image batch is int64 of shape (2, 8, 8); expected uint8"),
    ],
)
def test_what_is_no_batch_of_images(wrong, message):
    with pytest.raises(zoo.UsageError) as caught:
        ImagePreprocessor(8, 8, 1)(wrong)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("channels", [1, 3])
def test_requests_are_served_as_training_saw_them(channels):
    preprocessor = ImagePreprocessor(12, 11, channels)
    images = [noise(h, w, c, seed=h) for h, w, c in [(12, 11, 1), (30, 9, 3), (5, 40, 1), (12, 11, 3), (8, 8, 4)]]
    requests_ = preprocessor.to_requests([{"image": image} for image in images])
    assert list(requests_) == list(preprocessor.requests) == ["image_bytes"]
    served = preprocessor.serve({k: tf.constant(v.tolist()) for k, v in requests_.items()})[0]["image"]
    trained = np.concatenate([preprocessor(image[np.newaxis]) for image in images])
    np.testing.assert_array_equal(served, trained)
    specs = {name: request.spec for name, request in preprocessor.requests.items()}
    graph = tf.function(lambda r: preprocessor.serve(r)[0]["image"]).get_concrete_function(specs)
    np.testing.assert_array_equal(graph(tf.constant(requests_["image_bytes"].tolist())), trained)
    assert served.shape == (5, 12, 11, channels)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "JPEG"])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P"])
def test_image_files_of_many_kinds_are_served(kind, mode, tmp_path):
    if (kind, mode) in [("JPEG", "RGBA"), ("JPEG", "P")]:
        pytest.skip("JPEG has neither transparency nor palettes")
    picture = Image.fromarray(np.dstack([smooth(20, 30)[0]] * 3)).convert(mode)
    picture.save(tmp_path / "picture", format=kind)
    content = tf.constant([(tmp_path / "picture").read_bytes()] * 2)
    preprocessor = ImagePreprocessor(20, 30, 1)
    if (kind, mode) == ("BMP", "P"):  # decode_image would answer with the palette's numbers, without a word
        with pytest.raises(
            tf.errors.InvalidArgumentError, match=r"BMP file with a palette of colours cannot be read. Send"
        ):
            preprocessor.serve({"image_bytes": content})
        return
    served = preprocessor.serve({"image_bytes": content})[0]["image"].numpy()
    assert served.shape == (2, 20, 30, 1)
    expected = np.asarray(picture.convert("RGB")).astype(float) @ [0.299, 0.587, 0.114] / 255
    # Only JPEG and GIF's palette of 256 colours lose anything.
    np.testing.assert_allclose(served[0, ..., 0], expected, atol=0.05 if kind in ("JPEG", "GIF") else 1e-6)


def test_a_request_of_no_image_is_an_error():
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"row 0: this is no PNG, JPEG, BMP or GIF file. Send"):
        ImagePreprocessor(8, 8, 1).serve({"image_bytes": tf.constant([b"no image"])})


@pytest.mark.parametrize("preprocessor", [ImagePreprocessor(9, 8, 3)], ids=lambda p: p.kind)
def test_a_preprocessor_is_made_anew_from_its_config(preprocessor):
    again = get_preprocessor(preprocessor.kind)(**preprocessor.config())
    assert again == preprocessor
    assert again.input_shapes == {"image": (9, 8, 3)}


# --- prepare ---------------------------------------------------------------------------------------------------------


def test_small_images_get_the_size_that_the_model_asks_for(digits):
    prepared = digits.prepare("cnn")
    assert prepared.arguments["input_shape"] == (28, 28, 1)
    assert prepared.arguments["num_classes"] == 10
    assert prepared.arguments["filters"] == (32, 64, 128), "defaults are written down too"
    assert prepared.preprocessor.input_shapes == {"image": (28, 28, 1)}
    assert prepared.build().input_shape == (None, 28, 28, 1)


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ((64, 50, 3), (64, 50, 3)),
        ((28, 28, 1), (28, 28, 1)),
        ((27, 90, 1), (28, 28, 1)),
        ((None, None, 3), (28, 28, 3)),
        ((64, None, 1), (28, 28, 1)),
        ((64, 64, 4), (64, 64, 3)),
        ((64, 64, 2), (64, 64, 1)),
        ((64, 64, None), (64, 64, 3)),
    ],
)
def test_the_model_input_that_follows_from_the_data(digits, own, expected):
    data = dataclasses.replace(digits, features={**digits.features, "image": Feature(own, "uint8")})
    assert data.prepare("mlp").arguments["input_shape"] == expected


def test_a_given_input_shape_counts(digits):
    prepared = digits.prepare("mlp", input_shape=[10, 6, 3], hidden_units=[4])
    assert prepared.arguments["input_shape"] == (10, 6, 3)
    inputs, targets = next(iter(prepared.keras_batches("train", 7)))
    assert (inputs.shape, inputs.dtype, targets.dtype) == ((7, 10, 6, 3), tf.float32, tf.int64)
    assert prepared.build()(inputs).shape == (7, 10)


@pytest.mark.parametrize("wrong", [[28, 28], 28, [28, 28, 2], [0, 28, 1], [28.0, 28, 1], "28x28"])
def test_an_input_shape_that_is_none(digits, wrong):
    with pytest.raises(zoo.UsageError) as caught:
        digits.prepare("mlp", input_shape=wrong)
    assert str(caught.value) == (
        f"input_shape is {wrong!r}; expected [height, width, channels] with 1 or 3 channels. "
        "Pass input_shape=[28, 28, 1], say, or leave it out."
    )


def test_the_data_decides_the_classes(digits):
    message = r"^num_classes=12 contradicts data set 'digits', which asks for 10. Leave num_classes out.$"
    with pytest.raises(zoo.UsageError, match=message):
        digits.prepare("cnn", num_classes=12)
    assert digits.prepare("cnn", num_classes=10).arguments["num_classes"] == 10


def test_unknown_arguments_and_models(digits):
    with pytest.raises(zoo.UsageError, match=r"^Model 'cnn' has no argument 'filter'. Did you mean 'filters'"):
        digits.prepare("cnn", filter=[3])
    with pytest.raises(zoo.UsageError, match=r"^Unknown model 'cn'. Did you mean 'cnn'"):
        digits.prepare("cn")


def test_a_model_of_another_task(digits, monkeypatch):
    zoo.list_models()
    monkeypatch.setattr(registry.MODELS, "entries", dict(registry.MODELS.entries))

    @zoo.register_model(tasks=("tagging", "forecasting"), reference="none")
    def build_tagger_model(num_classes):
        """Tags."""

    with pytest.raises(zoo.UsageError) as caught:
        digits.prepare("tagger")
    assert str(caught.value) == (
        "Model 'tagger' serves tagging, forecasting; data set 'digits' is for image_classification. "
        f"Choose a model for it: {', '.join(zoo.list_models(task='image_classification'))}."
    )


def test_a_run_can_be_repeated_from_its_description(digits):
    prepared = dataclasses.replace(digits, memory_limit=0).prepare("mlp", hidden_units=(3, 4))
    described = prepared.describe()
    assert described["model"] == {
        "name": "mlp",
        "hidden_units": [3, 4],
        "activation": "relu",
        "dropout": 0.0,
        "classifier_activation": "softmax",
    }
    # What the data decided, input_shape, is left out: another data set decides anew.
    # A stream is shuffled in another order: the limit belongs to what decides a run's numbers.
    assert described["data"] == {"name": "digits", "memory_limit": 0}
    source, model = dict(described["data"]), dict(described["model"])
    again = zoo.datasets.load(source.pop("name"), **source).prepare(model.pop("name"), **model)
    assert again.describe() == described


# --- Batches ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["memory", "stream"])
def prepared(request, digits):
    data = digits if request.param == "memory" else dataclasses.replace(digits, memory_limit=0)
    return data.prepare("mlp", input_shape=[8, 8, 1], hidden_units=[4])


def test_both_paths_are_taken(digits, monkeypatch):
    """Else the tests below would prove one of them twice."""
    streams = []
    made = type(digits.prepare("mlp"))
    original = made._stream
    monkeypatch.setattr(made, "_stream", lambda self, *a: streams.append(self.data.memory_limit) or original(self, *a))
    size = 4 * 8 * 8 * 144
    for limit in (size, size - 1):
        data = dataclasses.replace(digits, memory_limit=limit)
        data.prepare("mlp", input_shape=[8, 8, 1]).keras_batches("validation", 10)
    assert streams == [size - 1]


def test_without_a_seed_the_order_is_the_splits_own(prepared, digits):
    images, labels = raw(digits.validation)
    inputs, targets = columns(prepared.keras_batches("validation", 50))
    np.testing.assert_array_equal(inputs, scaled(np.stack(images)))
    np.testing.assert_array_equal(targets, labels)
    np.testing.assert_array_equal(columns(prepared.keras_batches("validation", 50, epoch=3))[1], labels)


def test_the_last_batch_is_smaller(prepared):
    assert [len(targets) for _, targets in prepared.keras_batches("train", 500, seed=1)] == [500, 500, 293]
    assert [len(targets) for _, targets in prepared.keras_batches("validation", 1000)] == [144]
    assert [len(targets) for _, targets in prepared.keras_batches("test", 36)] == [36] * 10


@pytest.mark.parametrize("seed", [None, 0, 7])
def test_every_example_is_there_once(prepared, digits, seed):
    images, labels = raw(digits.train)
    inputs, targets = columns(prepared.keras_batches("train", 100, seed=seed, epoch=2))
    levels = np.round(inputs * 255).astype(np.uint8)
    assert multiset(levels, targets) == multiset(np.stack(images), labels)


def test_the_order_is_a_function_of_seed_and_epoch(prepared):
    def order(**how: int) -> np.ndarray:
        return columns(prepared.keras_batches("train", 64, **how))[0]

    first = order(seed=3, epoch=5)
    np.testing.assert_array_equal(first, order(seed=3, epoch=5))
    dataset = prepared.keras_batches("train", 64, seed=3, epoch=5)
    np.testing.assert_array_equal(columns(dataset)[0], columns(dataset)[0], "read twice, one data set gives one order")
    for other in (order(seed=3, epoch=6), order(seed=4, epoch=5), order(seed=5, epoch=3), order(epoch=5)):
        assert (first != other).any(axis=(1, 2, 3)).mean() > 0.9


def test_the_batch_size_does_not_change_the_order(prepared):
    whole = columns(prepared.keras_batches("train", 64, seed=3))[0]
    np.testing.assert_array_equal(whole, columns(prepared.keras_batches("train", 100, seed=3))[0])


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("start", [0, 1, 20, 21])
def test_a_later_start_gives_the_tail(prepared, seed, start):
    """1,293 examples in batches of 64 are 21; a run killed after `start` of them must see exactly the others."""
    whole = list(prepared.keras_batches("train", 64, seed=seed, epoch=1).as_numpy_iterator())
    tail = list(prepared.keras_batches("train", 64, seed=seed, epoch=1, start=start).as_numpy_iterator())
    assert len(tail) == len(whole) - start
    for (inputs, targets), (others, same) in zip(whole[start:], tail, strict=True):
        np.testing.assert_array_equal(inputs, others)
        np.testing.assert_array_equal(targets, same)


def test_target_counts(prepared, digits):
    counts = prepared.target_counts("train")
    assert counts.dtype == np.int64
    np.testing.assert_array_equal(counts, np.bincount(raw(digits.train)[1]))


def test_target_counts_of_a_class_that_is_not_there(digits):
    data = dataclasses.replace(digits, class_names=(*digits.class_names, "ten"))
    assert data.prepare("mlp").target_counts("validation").tolist()[10:] == [0]


def test_number_of_examples(prepared):
    assert [prepared.num_examples(name) for name in SPLITS] == [1293, 144, 360]


@pytest.mark.parametrize("ask", ["batches", "num_examples", "target_counts"])
def test_an_unknown_split(prepared, ask):
    with pytest.raises(zoo.UsageError, match=r"^Data set 'digits' has no split 'valid'. Did you mean 'validation'\?$"):
        getattr(prepared, ask)("valid", *((8,) if ask == "batches" else ()))


# --- Interface -------------------------------------------------------------------------------------------------------


def test_examples_come_from_the_test_split_and_every_class(digits):
    prepared = digits.prepare("mlp", input_shape=[8, 8, 1])
    examples = prepared.interface.examples
    contents = examples.requests["image_bytes"].tolist()
    assert len(contents) == len(examples.targets["label"]) == 64
    assert Counter(examples.targets["label"].tolist()).keys() == set(range(10))
    assert min(Counter(examples.targets["label"].tolist()).values()) >= 6, "the classes share the examples evenly"
    images = np.stack([tf.io.decode_png(content).numpy() for content in contents])
    test = multiset(*(np.stack(c) if isinstance(c, list) else c for c in raw(digits.test)))
    assert not multiset(images, examples.targets["label"]) - test
    assert prepared.interface is prepared.interface, "made once"


def test_an_interface_comes_back_from_its_folder(digits, tmp_path):
    interface = digits.prepare("cnn", filters=(3,)).interface
    interface.save(tmp_path / "new" / "folder")
    again = Interface.load(tmp_path / "new" / "folder")
    for field in ("task", "build", "class_names", "preprocessor", "data"):
        assert getattr(again, field) == getattr(interface, field), field
    assert again.build["arguments"]["filters"] == [3]
    assert again.data == {"name": "digits", "licence": digits.licence, "source": digits.source}
    assert again.examples.requests.keys() == interface.examples.requests.keys()
    for name, values in interface.examples.requests.items():
        assert again.examples.requests[name].tolist() == values.tolist()
    np.testing.assert_array_equal(again.examples.targets["label"], interface.examples.targets["label"])


def test_a_folder_without_an_interface(tmp_path):
    with pytest.raises(
        zoo.UsageError, match=r"holds no interface.json. Pass the folder `interface` of a run that `zoo"
    ):
        Interface.load(tmp_path)


# --- TensorFlow Datasets, with builders that draw their own images ---------------------------------------------------


def drawing(split: str, index: int, shape: tuple[int, int, int]) -> np.ndarray:
    """Noise whose first two pixels say which split and which example it is."""
    image = noise(*shape, seed=index)
    image[0, 0] = {"train": 1, "validation": 2, "test": 3}[split]
    image[0, 1] = index
    return image


class Drawings(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Base of the builders below."""

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
    """Colour, and names of the features as some sources have them."""

    shape = (9, 7, 3)

    def features(self):
        both = super().features()
        return {"picture": both["image"], "kind": both["label"], "file": tfds.features.Text()}

    def example(self, split, index):
        both = super().example(split, index)
        return {"picture": both["image"], "kind": both["label"], "file": f"{index}.png"}


class DrawnTrainOnly(Drawings):
    """No test split, no validation split."""

    counts: ClassVar = {"train": 100}


class DrawnWithValidation(Drawings):
    """What the source calls validation is all that is held out."""

    counts: ClassVar = {"train": 50, "validation": 15}


class DrawnThree(Drawings):
    """All three."""

    counts: ClassVar = {"train": 30, "validation": 12, "test": 9}


class DrawnTestOnly(Drawings):
    """Nothing to train on."""

    counts: ClassVar = {"test": 9}


class DrawnTooFew(Drawings):
    """A tenth of three examples is none."""

    counts: ClassVar = {"train": 3}


class DrawnTwice(Drawings):
    """Two images an example."""

    def features(self):
        return {**super().features(), "mask": tfds.features.Image(shape=(9, 7, 1))}


class DrawnNameless(Drawings):
    """No label."""

    def features(self):
        return {"image": super().features()["image"]}


class DrawnDeep(Drawings):
    """Sixteen bits a pixel."""

    def features(self):
        return {**super().features(), "image": tfds.features.Image(shape=(9, 7, 1), dtype=np.uint16)}


class DrawnUnlabelledTest(Drawings):
    """A test split whose labels the source keeps to itself."""

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
def test_tfds_examples_are_what_the_builder_made(data_dir, name, shape):
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


@pytest.mark.parametrize("memory_limit", [1 << 20, 0], ids=["memory", "stream"])
@pytest.mark.parametrize("name", ["drawn_fixed", "drawn_varying", "drawn_colour"])
def test_tfds_batches_are_the_preprocessed_examples(data_dir, name, memory_limit):
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


def test_tfds_varying_sizes_get_the_models_size(data_dir):
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
def test_tfds_splits(data_dir, name, sizes, origins):
    """What the source holds out last is our test split; what is missing is cut from train, nothing is in two."""
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
            r"holds image: Image; expected exactly one .* ClassLabel. Known to work: bike_sharing, clinc_oos, command_lines",
        ),
        ("drawn_deep", r"holds image: Image, label: ClassLabel; expected exactly one uint8 Image or"),
        ("drawn_test_only", r"has the splits test; expected one called train. Choose another data set.$"),
        (
            "drawn_too_few",
            r"is too small to divide: {'train': 2, .*'validation': [01], 'test': [01]}. Choose one with more",
        ),
    ],
)
def test_tfds_data_that_no_task_fits(data_dir, name, message):
    with pytest.raises(zoo.UsageError, match=f"^Data set '{name}' {message}"):
        zoo.datasets.load(name, data_dir=data_dir)


def test_tfds_labels_that_the_source_keeps_to_itself(data_dir):
    message = (
        r"^Split 'test' of data set 'drawn_unlabelled_test' has the label -1 at example 0; expected 0 to 2. Choose"
    )
    prepared = zoo.datasets.load("drawn_unlabelled_test", data_dir=data_dir).prepare("mlp")
    assert columns(prepared.keras_batches("train", 50))[1].min() == 0
    with pytest.raises(zoo.UsageError, match=message):
        prepared.keras_batches("test", 5)
    with pytest.raises(zoo.UsageError, match=message):
        _ = prepared.interface  # the trainer asks for it before the first step, not after the last
    stream = zoo.datasets.load("drawn_unlabelled_test", data_dir=data_dir, memory_limit=0).prepare("mlp")
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"drawn_unlabelled_test.* has a label outside 0 to 2"):
        list(stream.keras_batches("test", 5))


def test_tfds_names_that_are_none():
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


# --- Original files and downloads ------------------------------------------------------------------------------------

MNIST = [f"{part}-{what}-ubyte.gz" for part in ("t10k", "train") for what in ("images-idx3", "labels-idx1")]
HOME = "https://storage.googleapis.com/cvdf-datasets/mnist/"


def test_missing_original_files_are_named_at_once(run_python, tmp_path):
    """From a process that has imported nothing yet: a user waits for TensorFlow, not for retries."""
    (tmp_path / "original").mkdir()
    started = time.perf_counter()
    done = run_python(
        """
        import sys
        import zoo
        try:
            zoo.datasets.load("mnist", manual_dir=sys.argv[1], data_dir=sys.argv[2])
        except zoo.UsageError as error:
            print("MESSAGE", error)
        """,
        tmp_path / "original",
        tmp_path / "data",
    )
    assert time.perf_counter() - started < 60
    (message,) = [line for line in done.stdout.splitlines() if line.startswith("MESSAGE")]
    files = "; ".join(f"{file} (from {HOME}{file})" for file in MNIST)
    assert message == (
        f"MESSAGE manual_dir {tmp_path / 'original'} lacks original files of 'mnist': {files}. Put them there under these "
        "names, or leave manual_dir out to download them."
    )


def test_only_the_files_that_are_missing_are_named(tmp_path, monkeypatch):
    from tensorflow_datasets.core.download import checksums

    for file in MNIST[:3]:
        (tmp_path / file).write_bytes(gzip.compress(b"any"))
    known = tfds.builder("mnist", data_dir=str(tmp_path / "data")).url_infos
    monkeypatch.setattr(
        checksums,
        "compute_url_info",
        lambda path, **_: next(i for i in known.values() if i.filename == Path(path).name),
    )
    with pytest.raises(zoo.UsageError) as caught:
        zoo.datasets.load("mnist", manual_dir=str(tmp_path), data_dir=str(tmp_path / "data"))
    assert f"lacks original files of 'mnist': {MNIST[3]} (from {HOME}{MNIST[3]}). Put" in str(caught.value)


def test_a_damaged_original_file(tmp_path):
    for file in MNIST:
        (tmp_path / file).write_bytes(gzip.compress(b"something else"))
    with pytest.raises(zoo.UsageError) as caught:
        zoo.datasets.load("mnist", manual_dir=str(tmp_path), data_dir=str(tmp_path / "data"))
    message = str(caught.value)
    assert message.startswith(f"An original file of 'mnist' is damaged or of another version: Artifact {HOME}")
    assert f"{tmp_path}/" in message
    assert "has wrong checksum: * Expected: UrlInfo(size=" in message
    assert message.endswith(". Replace it with the published one.")
    assert "\n" not in message


def test_manual_dir_is_a_folder(tmp_path):
    (tmp_path / "file").touch()
    for wrong in (tmp_path / "file", tmp_path / "none"):
        with pytest.raises(
            zoo.UsageError, match=f"^manual_dir {wrong} is not a folder. Pass the folder that holds the o"
        ):
            zoo.datasets.load("mnist", manual_dir=str(wrong), data_dir=str(tmp_path))


@pytest.fixture
def no_network(monkeypatch):
    """As on a machine without network, also where there is one; returns the addresses that were asked for."""
    asked = []

    def head(url, **_):
        asked.append(url)
        raise requests.ConnectionError("unreachable")

    monkeypatch.setattr(requests, "head", head)
    return asked


def test_no_network_is_said_at_once(tmp_path, no_network):
    started = time.perf_counter()
    with pytest.raises(zoo.UsageError) as caught:
        zoo.datasets.load("mnist", data_dir=str(tmp_path))
    assert time.perf_counter() - started < 20
    files = "; ".join(f"{file} (from {HOME}{file})" for file in MNIST)
    assert str(caught.value) == (
        f"Cannot reach {HOME}{MNIST[0]} to download 'mnist'. On a machine without network put the original files into a "
        f"folder and pass --data.manual_dir FOLDER: {files}."
    )
    assert no_network == [HOME + MNIST[0]], "one address is enough to know"


def test_only_the_files_of_this_data_set_are_asked_for(tmp_path, no_network):
    with pytest.raises(zoo.UsageError, match=r"FOLDER: cifar-10-binary.tar.gz \(from https:[^;]*\)\.$"):
        zoo.datasets.load("cifar10", data_dir=str(tmp_path))


@pytest.mark.parametrize("error", ["OSError", "DownloadError", "ExtractError"])
def test_a_download_that_breaks_off(tmp_path, monkeypatch, error):
    from tensorflow_datasets.core.download import download_manager, extractor, util

    kind = {"OSError": OSError, "DownloadError": util.DownloadError, "ExtractError": extractor.ExtractError}[error]
    asked = []

    def download(self, resource):
        asked.append(resource.url)
        raise kind("no space left on device")

    monkeypatch.setattr(requests, "head", lambda url, **_: None)
    monkeypatch.setattr(download_manager.DownloadManager, "_download", download)
    with pytest.raises(
        zoo.UsageError, match=r"^Cannot prepare 'mnist' in .*: no space left on device. Check that the f"
    ):
        zoo.datasets.load("mnist", data_dir=str(tmp_path))
    assert asked == [HOME + MNIST[0]], "what can be reached is left to TFDS"


def test_files_that_come_by_hand(tmp_path):
    with pytest.raises(zoo.UsageError) as caught:
        zoo.datasets.load("imagenet2012", data_dir=str(tmp_path))
    assert str(caught.value).startswith("Data set 'imagenet2012' needs files that are downloaded by hand: Manual dir")
    assert "ILSVRC2012_img_train.tar" in str(caught.value)
    assert str(caught.value).endswith("Pass their folder with --data.manual_dir FOLDER.")


def test_a_data_dir_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        zoo.UsageError, match=r"^Cannot prepare 'drawn_fixed' in .*file: .*Not a directory.*pass another --d"
    ):
        zoo.datasets.load("drawn_fixed", data_dir=str(tmp_path / "file"))


SLEEPER = '''
"""A builder that stops in the middle when it is told to."""
import os
import pathlib
import time
import numpy as np
import tensorflow_datasets as tfds

class DrawnSlowly(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {"image": tfds.features.Image(shape=(4, 4, 1)), "label": tfds.features.ClassLabel(names=["a", "b"])}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for index in range(50):
            if index == 25 and "STOP_AT" in os.environ:
                pathlib.Path(os.environ["STOP_AT"]).touch()
                time.sleep(600)
            yield index, {"image": np.full((4, 4, 1), index, np.uint8), "label": index % 2}
'''


def test_killed_while_preparing(tmp_path, monkeypatch):
    (tmp_path / "drawn_slowly.py").write_text(SLEEPER)
    source = f"import drawn_slowly, zoo; zoo.datasets.load('drawn_slowly', data_dir={str(tmp_path / 'data')!r})"
    marker = tmp_path / "in the middle"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "STOP_AT": str(marker)}
    process = subprocess.Popen(
        [sys.executable, "-c", source], env=environment, cwd="/", stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        deadline = time.monotonic() + 120
        while not marker.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        assert marker.exists(), process.communicate(timeout=10)[0][-3000:] if process.poll() is not None else "too slow"
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.communicate()
    assert list((tmp_path / "data").rglob("*")), "the kill came in the middle"
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.import_module("drawn_slowly")
    data = zoo.datasets.load("drawn_slowly", data_dir=str(tmp_path / "data"))
    images = [i for split in SPLITS for i in raw(getattr(data, split))[0]]
    assert sorted(int(i[0, 0, 0]) for i in images) == list(range(50))


MANUAL_DIR = os.environ.get("ZOO_MANUAL_DIR", "")


@pytest.mark.slow
@pytest.mark.skipif(
    not all((Path(MANUAL_DIR) / name / MNIST[0]).is_file() for name in ("mnist", "fashion_mnist")),
    reason="ZOO_MANUAL_DIR names no folder with the original files in mnist/ and fashion_mnist/",
)
def test_two_data_sets_with_files_of_the_same_names(tmp_path, no_network):
    """TFDS names an extracted file after its archive: in one folder, the second would get the first one's pixels."""
    tests = {}
    for name in ("mnist", "fashion_mnist"):
        folder = Path(MANUAL_DIR) / name
        data = zoo.datasets.load(name, manual_dir=str(folder), data_dir=str(tmp_path))
        assert [data.splits[split].num_examples for split in SPLITS] == [54000, 6000, 10000]
        images, labels = raw(data.test)
        with gzip.open(folder / MNIST[0]) as file:
            pixels = np.frombuffer(file.read(), np.uint8, offset=16).reshape(10000, 28, 28, 1)
        with gzip.open(folder / MNIST[1]) as file:
            classes = np.frombuffer(file.read(), np.uint8, offset=8)
        tests[name] = multiset(np.stack(images), labels)
        assert tests[name] == multiset(pixels, classes)
        assert data.prepare("mlp").arguments["input_shape"] == (28, 28, 1)
    assert not tests["mnist"].keys() & tests["fashion_mnist"].keys()
    assert not no_network
    assert zoo.datasets.load("mnist", data_dir=str(tmp_path)).licence == "CC BY-SA 3.0"
