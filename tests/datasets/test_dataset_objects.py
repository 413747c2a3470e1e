"""Data sets of other libraries: `tf.data`, Keras, PyTorch, and rows as Hugging Face has them."""

from __future__ import annotations

from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import torch
from PIL import Image

import zoo
from untrained_runs import untrained
from zoo.datasets.sources import collecting

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (60, 8, 8, 1)).astype(np.uint8)
LABELS = np.arange(60) % 3
TEXTS = [f"sentence number {i} {'good' if i % 2 else 'bad'}" for i in range(60)]
SERIES = RANDOM.normal(size=(60, 5, 2)).astype(np.float32)
RAGGED = [RANDOM.normal(size=(3 + i % 4, 2)).astype(np.float32) for i in range(60)]
NUMBERS = RANDOM.normal(size=(60, 4)).astype(np.float32)
WORDS = [["turn", f"it{i}", "off"][: 2 + i % 2] for i in range(60)]
TAGS = [["verb", "noun", "part"][: 2 + i % 2] for i in range(60)]


def slices(*arrays):
    return tf.data.Dataset.from_tensor_slices(arrays[0] if len(arrays) == 1 else arrays)


def ragged(x, y):
    return tf.data.Dataset.from_tensor_slices((tf.ragged.constant(x), tf.ragged.constant(y)))


def varying(x, y):
    """Single examples of several lengths, which can be padded."""
    spec = [tf.TensorSpec((None, *np.shape(part[0])[1:]), np.asarray(part[0]).dtype) for part in (x, y)]
    return tf.data.Dataset.from_generator(lambda: zip(x, y, strict=True), output_signature=tuple(spec))


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y, size=16):
        super().__init__()
        self.x, self.y, self.size = x, y, size

    def __len__(self):
        return -(-len(self.x) // self.size)

    def __getitem__(self, index):
        part = slice(index * self.size, (index + 1) * self.size)
        return self.x[part], self.y[part]


class Rows:
    """Rows with named columns, as a data set of Hugging Face `datasets` has them."""

    def __init__(self, columns, names=None, lists=False):
        self.columns_, self.column_names = columns, [*columns]
        feature = SimpleNamespace(names=names) if names else SimpleNamespace()
        self.features = {name: SimpleNamespace(feature=feature) if lists else feature for name in columns}

    def __len__(self):
        return len(next(iter(self.columns_.values())))

    def __getitem__(self, row):
        return {name: values[row] for name, values in self.columns_.items()}

    def __iter__(self):
        return (self[row] for row in range(len(self)))


def torch_loader(x, y, **options):
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.tensor(x), torch.tensor(y)), **options)


def columns_of(data):
    return {split: list(part.dataset().as_numpy_iterator()) for split, part in data.splits.items()}


def assert_equal(data, expected):
    """Asserts that two data sets are equal: task, classes, and every example."""
    assert data.task == expected.task and data.class_names == expected.class_names
    assert data.features == expected.features and data.source == expected.source
    for split, part in expected.splits.items():
        assert data.splits[split].sha256 == part.sha256, split


IMAGE = (IMAGES, LABELS)
PICTURES = [Image.fromarray(image[..., 0]) for image in IMAGES]


@pytest.mark.parametrize(
    "dataset, arrays",
    [
        (slices(*IMAGE), IMAGE),
        (slices(*IMAGE).batch(16), IMAGE),
        (slices(*IMAGE).batch(20, drop_remainder=True).prefetch(1), IMAGE),
        (slices(IMAGES, np.eye(3, dtype=np.float32)[LABELS]).batch(8), IMAGE),
        (slices(IMAGES, np.eye(3)[LABELS]), IMAGE),
        (slices({"image": IMAGES, "label": LABELS, "number": np.arange(60)}).batch(7), IMAGE),
        (slices({"image": IMAGES, "label": LABELS}), IMAGE),
        (slices(*IMAGE).filter(lambda x, y: True).batch(16), IMAGE),
        (Batches(*IMAGE), IMAGE),
        (torch_loader(IMAGES, LABELS, batch_size=16), IMAGE),
        (torch_loader(np.float32(IMAGES / 255).transpose(0, 3, 1, 2), LABELS, batch_size=16), IMAGE),
        (torch.utils.data.TensorDataset(torch.tensor(IMAGES), torch.tensor(LABELS)), IMAGE),
        (lambda: iter([(IMAGES[:30], LABELS[:30]), (IMAGES[30:], LABELS[30:])]), IMAGE),
        (((x, y) for x, y in zip(IMAGES, LABELS, strict=True)), IMAGE),
        (Rows({"image": PICTURES, "label": LABELS.tolist()}), IMAGE),
        (Rows({"image": PICTURES, "label": LABELS.tolist()}, ["2", "1", "0"]), (IMAGES, np.array(["2", "1", "0"])[LABELS])),
        (slices(TEXTS, LABELS), (TEXTS, LABELS)),
        (slices(TEXTS, LABELS.astype(str)).batch(20), (TEXTS, LABELS.astype(str))),
        (slices(TEXTS), (TEXTS, None)),
        (slices(TEXTS).batch(20), (TEXTS, None)),
        (torch.utils.data.DataLoader([*zip(TEXTS, LABELS.tolist(), strict=True)], batch_size=20), (TEXTS, LABELS)),
        (Rows({"text": TEXTS, "label": LABELS.tolist(), "id": TEXTS}), (TEXTS, LABELS)),
        (ragged(WORDS, TAGS), (WORDS, TAGS)),
        (varying(WORDS, TAGS), (WORDS, TAGS)),
        (ragged(WORDS, TAGS).ragged_batch(8), (WORDS, TAGS)),
        (Rows({"tokens": WORDS, "tags": [[0, 1, 2][: len(tags)] for tags in TAGS]}, TAGS[1], True), (WORDS, TAGS)),
        (slices(SERIES, NUMBERS).batch(30), (SERIES, NUMBERS)),
        (slices(SERIES, NUMBERS), (SERIES, NUMBERS)),
        (slices(SERIES[..., 0], NUMBERS[:, 0]).batch(32), (SERIES[..., 0], NUMBERS[:, 0])),
        (slices(SERIES[..., 0], RAGGED[0][:, 0].repeat(20)), (SERIES[..., 0], RAGGED[0][:, 0].repeat(20))),
        (Rows({"series": [r.tolist() for r in RAGGED], "label": LABELS.tolist()}), (RAGGED, LABELS)),
        (lambda: zip(RAGGED, LABELS, strict=True), (RAGGED, LABELS)),
    ],
)  # fmt: skip
def test_data_sets_give_what_their_arrays_give(dataset, arrays):
    names = (
        ["2", "1", "0"] if isinstance(dataset, Rows) and getattr(dataset.features.get("label"), "names", None) else None
    )
    # Rows of numbers with a number each are a window and its next value, or a table.
    task = "forecasting" if getattr(arrays[0], "ndim", 0) == 2 else None
    assert_equal(zoo.datasets.load(dataset, task=task), zoo.datasets.load(arrays, class_names=names, task=task))


def test_splits_columns_and_names_are_those_that_are_given():
    halves = slices(IMAGES[:40], LABELS[:40]), slices(IMAGES[40:], LABELS[40:]).batch(9)
    expected = zoo.datasets.from_arrays(
        IMAGES[:40], LABELS[:40], test=(IMAGES[40:], LABELS[40:]), class_names=["a", "b", "c"]
    )
    names = {"class_names": ["a", "b", "c"]}
    assert_equal(zoo.datasets.from_dataset(halves[0], test=halves[1], **names), expected)
    assert_equal(zoo.datasets.load({"train": halves[0], "test": halves[1]}, **names), expected)
    assert_equal(zoo.datasets.load(halves[0], test=(IMAGES[40:], LABELS[40:]), **names), expected)
    assert_equal(zoo.datasets.load((IMAGES[:40], LABELS[:40]), test=halves[1], **names), expected)
    rows = Rows({"img": PICTURES, "fine": LABELS.tolist(), "label": ["x"] * 60})
    assert_equal(
        zoo.datasets.from_dataset(rows, columns={"image": "img", "label": "fine"}), zoo.datasets.load((IMAGES, LABELS))
    )
    pairs = Rows({"text": TEXTS, "translation": [text.upper() for text in TEXTS]})
    assert zoo.datasets.from_dataset(pairs).task == "translation", "its columns say so"
    both = Rows({"text": TEXTS, "label": LABELS.tolist()})
    assert zoo.datasets.load(both, model="bert_mlm").task == "masked_language_modelling"
    assert zoo.datasets.load(both, model="embedding_lstm").task == "text_classification"


def test_a_data_set_that_shuffles_itself_is_sorted(capsys):
    shuffled = slices(*IMAGE).shuffle(60).batch(16)
    loaders = shuffled, torch_loader(*IMAGE, batch_size=8, shuffle=True)
    first, *others = (zoo.datasets.load(loader) for loader in (*loaders, *loaders))
    assert "the dataset changes its order: its examples are sorted by content" in capsys.readouterr().out
    for other in others:
        assert_equal(other, first)
    pairs = {(e["image"].tobytes(), int(e["label"])) for part in columns_of(first).values() for e in part}
    assert pairs == {(x.tobytes(), y) for x, y in zip(*IMAGE, strict=True)}


def test_palettes_and_bits_of_pictures_are_colours():
    palette = [Image.fromarray(image[..., 0]).convert("RGB").quantize(16) for image in IMAGES]
    data = zoo.datasets.load(Rows({"image": palette, "label": LABELS.tolist()}))
    shown = {np.asarray(picture.convert("RGB")).tobytes() for picture in palette}
    assert {e["image"].tobytes() for part in columns_of(data).values() for e in part} == shown
    bits = [Image.fromarray(image[..., 0] > 99) for image in IMAGES]
    data = zoo.datasets.load(Rows({"image": bits, "label": LABELS.tolist()}))
    assert {*np.unique([e["image"] for part in columns_of(data).values() for e in part])} == {0, 255}


def test_words_and_one_hot_rows_of_equal_length_need_to_be_told_from_batches():
    equal = slices([["turn", f"it{i}"] for i in range(60)], [["verb", "part"]] * 60)
    with pytest.raises(zoo.UsageError, match=r"they may be batches of 2 examples.*Pass batched=True or batched=False"):
        zoo.datasets.load(equal)
    assert zoo.datasets.load(equal, batched=False).task == "tagging"
    assert zoo.datasets.load(equal, batched=True).task == "text_classification"
    square = slices(SERIES[:, :3, 0], np.eye(3)[LABELS])
    with pytest.raises(zoo.UsageError, match=r"Pass task='series_classification' or task='tabular_classification'"):
        zoo.datasets.load(square, batched=False)
    data = zoo.datasets.load(square, batched=False, task="series_classification")
    assert data.task == "series_classification", "a series of three steps"
    square = slices(SERIES[:, :3], np.eye(3)[LABELS])
    with pytest.raises(zoo.UsageError, match=r"Pass batched=True or batched=False"):
        zoo.datasets.load(square, task="series_classification")


FLAGS = (RANDOM.random((60, 8)) > 0.6).astype(np.float32)
SCORES = RANDOM.normal(size=(60, 8)).astype(np.float32)


@pytest.mark.parametrize("targets, task", [(FLAGS, "image_multilabel"), (SCORES, "image_regression")])
def test_as_many_targets_as_rows_of_pixels_need_to_be_told_from_batches(targets, task):
    for images in (IMAGES, IMAGES[..., 0]):
        single = slices(images, targets)
        with pytest.raises(
            zoo.UsageError, match=r"they may be batches of 8 examples.*Pass batched=True or batched=False"
        ):
            zoo.datasets.load(single)
        data = zoo.datasets.load(single, batched=False, task=task)
        assert_equal(data, zoo.datasets.load((images, targets), task=task))
        assert_equal(zoo.datasets.load(single.batch(7), task=task), data)


def test_lists_of_class_numbers_are_several_labels_at_once():
    names = [f"mood {number}" for number in range(8)]
    lists = Rows({"text": TEXTS, "labels": [np.flatnonzero(row).tolist() for row in FLAGS]}, names, lists=True)
    rows = Rows({"text": TEXTS, "labels": FLAGS.astype(int).tolist()}, names, lists=True)
    expected = zoo.datasets.load((TEXTS, FLAGS), class_names=names)
    assert expected.task == "text_multilabel"
    assert_equal(zoo.datasets.load(lists), expected)
    assert_equal(zoo.datasets.load(rows), expected)
    with pytest.raises(zoo.UsageError, match=r"label 8; its classes have the numbers 0 to 7. Leave these examples out"):
        zoo.datasets.load(Rows({"text": TEXTS, "labels": [[0, 8]] * 60}, names, lists=True))


def endless():
    while True:
        yield IMAGES, LABELS


class Endless(Batches):
    num_batches = None


@pytest.mark.parametrize(
    "dataset, options, message",
    [
        (slices(*IMAGE).repeat(), {}, r"The dataset never ends. Leave repeat\(\) out, or pass dataset.take\(n\)"),
        (Endless(*IMAGE), {}, "never ends, as its num_batches is None. Give it"),
        (endless, {}, r"more than 0.0 GiB, half of the memory of this machine. If it never ends, end it, as by dataset.take"),
        (slices(*IMAGE).take(0), {}, "The dataset is empty. Pass one with at least one"),
        (slices(IMAGES, LABELS, LABELS), {}, r"yields 3 values for each element; expected x and y. Map it to pairs \(x, y\)"),
        (tf.data.Dataset.zip(slices({"a": IMAGES, "b": IMAGES}), slices(LABELS)), {}, "yields a dict of a, b in a pair"),
        (slices({"img": IMAGES, "label": LABELS}), {}, r"has the columns img, label; expected a pair of keys, such as"),
        (slices({"img": IMAGES, "label": LABELS}), {"columns": {"image": "im"}}, r"no column 'im'; .* Did you mean 'img'"),
        (slices({"img": IMAGES}), {"columns": {"picture": "img"}}, r"columns has the key 'picture'. Valid: "),
        (slices(*IMAGE), {"columns": {"image": "img"}}, "yields no dicts. Leave them out"),
        (slices(*IMAGE), {"window": 3}, "A data set takes no window. Leave it out"),
        (Rows({"text": TEXTS, "label": [-1] * 60}, ["a", "b"]), {}, r"label -1; its classes have the numbers 0 to 1. Leave"),
        (Rows({"text": [*TEXTS[:59], None], "label": LABELS}), {}, "has None of type NoneType; expected numbers or strings"),
        (lambda: iter([(IMAGES[0], 0), (IMAGES[1, :5], 1)]), {}, r"several shapes, such as \(5, 8, 1\) .* tf.image.resize"),
        (slices(TEXTS, LABELS).map(lambda x, y: (x, [y, y])).batch(4), {"task": "tagging"}, "do not fit the task tagging"),
        (varying(WORDS, TAGS).padded_batch(60), {}, "has empty words, as padding makes them. Pass the data set before"),
        (varying(RAGGED, [row[:, 0] for row in RAGGED]).padded_batch(3), {}, "batches of several lengths"),
        ({"train": slices(*IMAGE), "extra": slices(*IMAGE)}, {}, r"train, extra; expected .* Pass dataset\['train"),
        (slices(IMAGES * 2.0, LABELS).batch(9), {}, "x has values from 0 to 510; expected pixels from 0 to 255"),
    ],
)  # fmt: skip
def test_invalid_data_sets_are_rejected(dataset, options, message, monkeypatch):
    if dataset is endless or "GiB" in message:
        monkeypatch.setattr(collecting, "_most_bytes", lambda: 1 << 20)
    with pytest.raises(zoo.UsageError, match=message):
        zoo.datasets.load(dataset, **options)


def test_a_data_set_is_held_once():
    import tracemalloc

    images = np.zeros((200, 64, 64, 3), np.uint8)
    images += np.arange(200, dtype=np.uint8)[:, None, None, None]
    start, batched = collecting.elements_of(
        lambda: iter([(images[i : i + 10], LABELS[:10]) for i in range(0, 200, 10)]), ""
    )
    tracemalloc.start()
    x, _, _ = collecting.collect(start, lambda element: element, batched, "dataset")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(x, images)
    assert peak < 1.4 * images.nbytes, "the buffer grows by a quarter, and is cut at the end"


def test_an_evaluation_takes_data_sets_with_other_class_numbers(tmp_path):
    untrained(tmp_path, (IMAGES, np.array(["a", "b", "c"])[LABELS]), "mlp", hidden_units=(4,))
    rows = Rows({"image": PICTURES[:9], "label": LABELS[:9].tolist()}, ["b", "c", "a"])
    report = zoo.evaluate(tmp_path, rows)
    expected = zoo.evaluate(tmp_path, (IMAGES[:9], np.array(["b", "c", "a"])[LABELS[:9]]))
    assert report["num_examples"] == 9 and report["confusion_matrix"] == expected["confusion_matrix"]
    assert zoo.evaluate(tmp_path, slices(IMAGES[:9], LABELS[:9]).batch(4))["num_examples"] == 9


@pytest.mark.slow
def test_runs_on_data_sets_equal_runs_on_their_arrays(tmp_path):
    data = slices(IMAGES, LABELS).batch(16)
    settings = {
        "config": zoo.TrainConfig(epochs=1, batch_size=20, strategy="one_device"),
        "export": False,
        "verbose": 0,
    }
    settings["model_arguments"] = {"hidden_units": (4,)}
    ours = zoo.run("mlp", data, test=slices(IMAGES, LABELS).batch(8), run_directory=tmp_path / "a", **settings)
    theirs = zoo.run("mlp", (IMAGES, LABELS), test=(IMAGES, LABELS), run_directory=tmp_path / "b", **settings)
    for one, other in zip(ours.model.get_weights(), theirs.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    found = zoo.cross_validate("mlp", data, folds=2, run_directory=tmp_path / "folds", **settings)
    assert len(found.runs) == 2 and (tmp_path / "folds" / "fold-1" / "model.keras").is_file()


def test_frames_and_arrays_are_no_data_sets_of_other_libraries():
    frame = pd.DataFrame({"text": TEXTS, "label": LABELS})
    assert zoo.datasets.load(frame).source.startswith("a DataFrame in memory (SHA-256 ")
    assert zoo.datasets.load((torch.tensor(IMAGES), torch.tensor(LABELS))).task == "image_classification"
