"""Caches of files and of decoded examples, and records of TensorFlow Datasets that are read by number."""

from __future__ import annotations

import dataclasses
import itertools
import shutil
import subprocess

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

import zoo
from dataset_arrays import noise
from zoo.datasets import cached_columns
from zoo.datasets.sources.record_files import Part, RecordFiles, record_starts


class Spots(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Images of several sizes in three shards of the training split."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        image = tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg")
        features = {"image": image, "label": tfds.features.ClassLabel(names=["no", "yes"])}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(40), "test": self._generate_examples(12)}

    def _generate_examples(self, count):
        for number in range(count):
            yield number, {"image": noise(9 + number % 4, 11, 3, seed=number + count), "label": number % 2}


@pytest.fixture(scope="module", params=["tfrecord", "array_record"])
def spots(request, tmp_path_factory):
    """The folder of prepared data."""
    folder = tmp_path_factory.mktemp(request.param)
    config = tfds.download.DownloadConfig(num_shards=3)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            tfds, "builder", lambda name, data_dir=None, **_: Spots(data_dir=folder, file_format=request.param)
        )
        Spots(data_dir=folder, file_format=request.param).download_and_prepare(download_config=config)
        yield zoo.datasets.load("spots", data_dir=str(folder))


def arrays(batches, count=4):
    return [tf.nest.map_structure(np.asarray, batch) for batch in itertools.islice(batches, count)]


def assert_same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        tf.nest.map_structure(np.testing.assert_array_equal, one, other)


def test_records_by_number_are_those_in_their_order(spots):
    split = spots.splits["train"]
    whole = list(split.dataset().as_numpy_iterator())
    numbers = np.random.default_rng(0).permutation(split.num_examples)
    found = list(split.access.at(tf.data.Dataset.from_tensor_slices(numbers)).as_numpy_iterator())
    for number, example in zip(numbers, found, strict=True):
        np.testing.assert_array_equal(example["image"], whole[number]["image"])
        assert example["label"] == whole[number]["label"]
    held, read = (each.prepare("cnn") for each in (spots, dataclasses.replace(spots, memory_limit=0)))
    for position in ({"seed": 3, "epoch": 1, "start": 1}, {}):
        assert_same(arrays(read.batches("train", 8, **position)), arrays(held.batches("train", 8, **position)))


def test_a_damaged_record_is_named(tmp_path):
    file = tmp_path / "rows.tfrecord"
    with tf.io.TFRecordWriter(str(file)) as writer:
        for number in range(5):
            writer.write(bytes([number]) * (10 + number))
    assert record_starts(str(file)).tolist() == [0, 26, 53, 81, 110]
    files = RecordFiles([Part(str(file), 1, 3), Part(str(file), 0, 1)])
    assert len(files) == 4
    assert [files.read(number)[0] for number in range(4)] == [1, 2, 3, 0]
    content = bytearray(file.read_bytes())
    content[53 + 12] ^= 1
    file.write_bytes(content)
    files = RecordFiles([Part(str(file), 1, 3)])
    assert files.fault(0) == files.fault(2) == ""
    assert f"Record 2 of {file} cannot be read: corrupted record at " in files.fault(1)
    file.unlink()
    assert "cannot be read" in RecordFiles([Part(str(file), 1, 3)]).fault(0)


# --- Caches ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def photos(tmp_path):
    from PIL import Image

    for role, number in itertools.product(("train", "validation", "test"), range(12)):
        file = tmp_path / "photos" / role / ("cat", "dog")[number % 2] / f"{number:02d}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise(10 + number % 3, 14, 3, seed=number + 20 * len(role))).save(file)
    return tmp_path / "photos"


def prepare(photos, **options):
    return zoo.datasets.load(f"images:{photos}", **options).prepare("cnn", input_shape=[12, 12, 3])


@pytest.mark.parametrize("limit", [0, 2 << 30])
@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_caches_give_the_same_batches_without_the_files(photos, tmp_path, capsys, kind, limit):
    places = {"cache_dir": str(tmp_path / "kept")} if kind == "disk" else {}
    plain = prepare(photos)
    cached = prepare(photos, cache=kind, memory_limit=limit, **places)
    position = {"seed": 4, "epoch": 3, "start": 1}
    expected = arrays(plain.batches("train", 5, **position))
    assert_same(arrays(cached.batches("train", 5, **position)), expected)
    shutil.rmtree(photos / "train")
    assert_same(arrays(cached.batches("train", 5, **position)), expected)
    assert_same(arrays(cached.batches("train", 5)), arrays(plain.batches("train", 5)))
    said = capsys.readouterr().out
    if kind == "disk":
        assert f"Writing 0.0 MB of decoded examples of the train split to {tmp_path / 'kept'}, once" in said
        assert [path.name.split("-")[0] for path in (tmp_path / "kept").iterdir()] == ["train"]
    elif limit == 0:
        assert "The files of the train split are in memory: 0.0 MB" in said


def test_a_cache_on_a_disk_is_written_once_for_each_size(photos, tmp_path, capsys):
    kept = tmp_path / "kept"
    for _ in range(2):
        arrays(prepare(photos, cache="disk", cache_dir=str(kept), memory_limit=0).batches("train", 5, seed=1))
    assert capsys.readouterr().out.count("Writing") == 1
    data = zoo.datasets.load(f"images:{photos}", cache="disk", cache_dir=str(kept), memory_limit=0)
    (batch,) = arrays(data.prepare("cnn", input_shape=[9, 9, 3]).batches("train", 12))
    assert batch[0]["image"].shape == (12, 9, 9, 3) and len(list(kept.iterdir())) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cache": "disc"}, r"^cache is 'disc'; expected memory or disk. Did you mean 'disk'\?"),
        (
            {"cache_dir": "x"},
            r"^cache_dir is 'x' without a cache. Pass --data.cache disk too, or leave cache_dir out",
        ),
        ({"cache": "memory", "cache_dir": "x"}, r"^cache_dir is 'x' with cache='memory', which writes no file. Leave"),
    ],
)
def test_invalid_caches_are_rejected(options, message):
    with pytest.raises(zoo.UsageError, match=message):
        zoo.datasets.load("digits", **options)


def test_a_folder_that_cannot_be_written_is_rejected(photos, tmp_path):
    (tmp_path / "file").write_text("")
    prepared = prepare(photos, cache="disk", cache_dir=str(tmp_path / "file"), memory_limit=0)
    message = (
        r"^The cache folder .*/file cannot be written: .+\. Pass --data.cache_dir with a folder of yours, --data.cache"
    )
    with pytest.raises(zoo.UsageError, match=message):
        prepared.batches("train", 5)


def test_a_full_folder_is_rejected_and_left_empty(photos, tmp_path, monkeypatch):
    """A file system of 64 KiB, first with a true and then with a false statement of what is free."""
    kept = tmp_path / "small"
    kept.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=65536", "tmpfs", str(kept)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small tmpfs is not allowed here")
    message = r"is full: the decoded examples of the train split need 0\.\d MB. Pass --data.cache_dir with a folder"
    large, free = {"input_shape": [64, 64, 3]}, shutil.disk_usage("/")
    try:
        data = zoo.datasets.load(f"images:{photos}", cache="disk", cache_dir=str(kept), memory_limit=0)
        for _ in range(2):
            with pytest.raises(zoo.UsageError, match=message):
                data.prepare("cnn", **large).batches("train", 5)
            assert list(kept.iterdir()) == []
            monkeypatch.setattr(cached_columns.shutil, "disk_usage", lambda _: free)
    finally:
        subprocess.run(["umount", str(kept)], check=True)


def test_texts_of_several_lengths_are_not_kept_on_a_disk(tmp_path):
    data = zoo.datasets.load("commands", cache="disk", cache_dir=str(tmp_path), memory_limit=0)
    with pytest.raises(
        zoo.UsageError, match=r"^cache='disk' needs model inputs of one size; those of the train split vary"
    ):
        data.prepare("embedding_lstm").batches("train", 5)
