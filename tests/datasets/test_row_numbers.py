"""Splits that are read by row number: the same batches as in memory, from any step, in shares, with nothing else read."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import zoo
from dataset_arrays import noise
from zoo.datasets.raw import Access, Split
from zoo.datasets.shares import Share, cut
from zoo.datasets.shuffling import permuted


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of images of several sizes: 40 of two classes for training, 8 for each other split."""
    folder = tmp_path_factory.mktemp("photos")
    for role, count in (("train", 40), ("validation", 8), ("test", 8)):
        for number in range(count):
            file = folder / role / ("cat", "dog")[number % 2] / f"{number:02d}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            pixels = noise(10 + number % 3, 14 + number % 5, 3, seed=number + len(role) * 100)
            Image.fromarray(pixels).save(file, quality=95)
    return folder


def numbered(data):
    """Returns a data set whose splits are too large for memory."""
    return dataclasses.replace(data, memory_limit=0)


def arrays(batches):
    return [tf.nest.map_structure(np.asarray, batch) for batch in batches]


def assert_same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        tf.nest.map_structure(np.testing.assert_array_equal, one, other)


CASES = {
    "images": ("photos", "cnn", {"input_shape": [12, 12, 3]}),
    "digits": ("digits", "cnn", {}),
    "texts": ("commands", "embedding_lstm", {}),
    "rows": ("wine", "mlp", {}),
    "series": ("digit_rows", "lstm", {}),
    "windows": ("seasons", "nlinear", {}),
    "tags": ("tagged_commands", "rnn", {}),
    "joined texts": ("spoken_sums", "gpt", {"num_layers": 1}),
}


@pytest.mark.parametrize("case", CASES)
def test_batches_by_row_number_are_those_in_memory(case, photos):
    name, model, arguments = CASES[case]
    data = zoo.datasets.load(f"images:{photos}" if name == "photos" else name)
    held, read = (each.prepare(model, **arguments) for each in (data, numbered(data)))
    assert not held._splits.is_streamed("train") and read._splits.is_streamed("train")
    for position in ({"seed": 3, "epoch": 1}, {"seed": 3, "epoch": 1, "start": 2}, {}):
        expected, found = (arrays(itertools.islice(each.batches("train", 16, **position), 6)) for each in (held, read))
        assert_same(found, expected)


def counted(split, seen):
    """Returns a split that adds the number of every example that is read to a list."""

    def fetch(number):
        def note(value):
            seen.append(int(value))
            return value

        marked = tf.ensure_shape(tf.numpy_function(note, [number], tf.int64), [])
        return split.access.fetch(marked)

    return dataclasses.replace(split, access=dataclasses.replace(split.access, fetch=fetch))


@pytest.fixture
def counting(photos):
    """Prepared images, and the numbers of the training examples that were read."""
    data, seen = numbered(zoo.datasets.load(f"images:{photos}")), []
    train = counted(data.splits["train"], seen)
    prepared = dataclasses.replace(data, splits={**data.splits, "train": train}).prepare("cnn", input_shape=[12, 12, 3])
    seen.clear()
    return prepared, seen


@pytest.mark.parametrize("start", [0, 1, 5, 9])
def test_a_resumed_epoch_reads_nothing_that_it_has_seen(counting, start):
    prepared, seen = counting
    order = permuted(40, 7, 2)
    rest = arrays(prepared.batches("train", 4, seed=7, epoch=2, start=start))
    assert sorted(seen) == sorted(order[start * 4 :].tolist()), "each remaining example once, and no other"
    whole = arrays(prepared.batches("train", 4, seed=7, epoch=2))
    assert_same(rest, whole[start:])


@pytest.mark.parametrize(("workers", "size"), [(2, 8), (3, 7), (4, 16)])
def test_workers_read_disjoint_rows_of_the_same_batches(counting, workers, size):
    prepared, seen = counting
    order = {"seed": 7, "epoch": 2, "start": 1}
    whole = arrays(prepared.batches("train", size, **order))
    shares, numbers = [], []
    for index in range(workers):
        seen.clear()
        shares.append(arrays(prepared.share("train", size, (index, workers, workers), **order)))
        numbers.append(Counter(seen))
    total = sum(numbers, Counter())
    assert sorted(total.elements()) == sorted(permuted(40, 7, 2)[size:].tolist()), "every row is read by one worker"
    for batch, *parts in zip(whole, *shares, strict=True):
        joined = tf.nest.map_structure(lambda *columns: np.concatenate(columns), *(part[0] for part in parts))
        tf.nest.map_structure(np.testing.assert_array_equal, joined, batch)
        assert all(int(size_) == len(batch[0]["image"]) for _, (_, _, size_) in parts)


@pytest.mark.parametrize(("rows", "least"), [(5, 8), (11, 4), (3, 6)])
def test_batches_with_too_few_rows_repeat_the_first_without_weight(rows, least):
    order = np.arange(100, 100 + rows)
    parts = [cut(order, 8, Share(index, 2, least)) for index in (0, 1)]
    for one, other in zip(*parts, strict=True):
        numbers, real = np.concatenate([one.numbers, other.numbers], 1), np.concatenate([one.real, other.real])
        assert numbers.shape[1] == one.size == max(least, int(real.sum()))
        assert (numbers[:, real == 0] == numbers[:, :1]).all()
    assert sum(int(one.real.sum() + other.real.sum()) for one, other in zip(*parts, strict=True)) == rows


def test_every_epoch_is_another_permutation():
    orders = [permuted(1_000, 5, epoch) for epoch in range(3)]
    assert all(sorted(order) == list(range(1_000)) for order in orders)
    assert len({order.tobytes() for order in orders}) == 3
    assert permuted(1_000, 5, 1).tobytes() == orders[1].tobytes()
    # Of a perfect shuffle, the expected distance of a row from its place is a third of all rows.
    distance = np.mean([np.abs(order - np.arange(1_000)).mean() for order in orders])
    assert 300 < distance < 366, "a buffer would move rows less"


def test_a_source_without_numbers_is_still_shuffled_in_a_buffer(photos):
    data = numbered(zoo.datasets.load(f"images:{photos}"))
    plain = {name: Split(split.dataset, split.num_examples) for name, split in data.splits.items()}
    prepared = dataclasses.replace(data, splits=plain).prepare("cnn", input_shape=[12, 12, 3])
    one, other = (arrays(prepared.batches("train", 40, seed=7, epoch=epoch)) for epoch in (0, 1))
    assert not np.array_equal(one[0][0]["image"], other[0][0]["image"])
    for batch in (one, other):
        assert np.bincount(batch[0][1]["label"]).tolist() == [20, 20]
    assert prepared.share("train", 8, (0, 2, 1), seed=7) is None


def test_picked_mapped_and_joined_splits_keep_their_numbers():
    split = zoo.datasets.load("digits").splits["train"]
    picked = split.pick(np.array([3, 8, 21]))
    changed = picked.map(lambda example: {**example, "label": example["label"] + 1})
    whole = zoo.datasets.raw.joined([changed, split])
    labels = np.array(list(split.column("label").as_numpy_iterator()))
    expected = [*(labels[[3, 8, 21]] + 1), *labels]
    assert [e["label"] for e in whole.dataset().as_numpy_iterator()] == expected
    numbers = tf.data.Dataset.from_tensor_slices(np.array([4, 2, 0, 1000], np.int64))
    found = [e["label"] for e in whole.access.at(numbers).as_numpy_iterator()]
    assert found == [expected[number] for number in (4, 2, 0, 1000)]


# --- Files that are not there any more -------------------------------------------------------------------------------


def train(data, folder):
    prepared = data.prepare("cnn", filters=[2], dense_units=None, input_shape=[12, 12, 3])
    config = zoo.TrainConfig(epochs=1, batch_size=4, augmentation=["flip", "crop"])
    return zoo.train(prepared.build(seed=0), prepared, config, run_directory=folder, verbose=0)


@pytest.mark.parametrize("limit", [0, 2 << 30])
@pytest.mark.parametrize("fault", ["deleted", "cut", "other"])
def test_messages_name_the_file_that_has_changed(photos, tmp_path, fault, limit):
    copy = tmp_path / "photos"
    for file in photos.rglob("*.jpg"):
        target = copy / file.relative_to(photos)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    data = dataclasses.replace(zoo.datasets.load(f"images:{copy}"), memory_limit=limit)
    file = copy / "train" / "dog" / "11.jpg"
    if fault == "deleted":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-60] if fault == "cut" else b"a page, not an image")
    expected = {
        "deleted": r"dog/11.jpg cannot be read any more: No such file or directory. Put the file back as it was",
        "cut": r"dog/11.jpg has changed since the data was read: .+\. Put the file back as it was",
        "other": r"dog/11.jpg has changed since the data was read: this is not a PNG.* Put the file back as it was",
    }[fault]
    with pytest.raises(zoo.UsageError, match=rf"^Example \d+ of the train split cannot be used: .*{expected}"):
        train(data, None)


def test_an_access_without_files_has_no_fault():
    prepared = numbered(zoo.datasets.load("digits")).prepare("cnn")
    assert prepared.fault("train", 32, seed=0) == ""
    assert isinstance(prepared.data.splits["train"].access, Access)
