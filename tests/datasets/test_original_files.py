"""Missing, damaged and downloaded original files; no test uses the network."""

from __future__ import annotations

import gzip
import importlib
import os
import time
from pathlib import Path

import numpy as np
import pytest
import requests
import tensorflow_datasets as tfds

import zoo
from dataset_arrays import SPLITS, multiset, raw

MNIST = [f"{part}-{what}-ubyte.gz" for part in ("t10k", "train") for what in ("images-idx3", "labels-idx1")]
HOME = "https://storage.googleapis.com/cvdf-datasets/mnist/"


def test_missing_original_files_are_reported_immediately(tmp_path):
    """The user waits for no retries."""
    (tmp_path / "original").mkdir()
    started = time.perf_counter()
    with pytest.raises(zoo.UsageError) as caught:
        zoo.datasets.load("mnist", manual_dir=str(tmp_path / "original"), data_dir=str(tmp_path / "data"))
    assert time.perf_counter() - started < 20
    files = "; ".join(f"{file} (from {HOME}{file})" for file in MNIST)
    assert str(caught.value) == (
        f"manual_dir {tmp_path / 'original'} lacks original files of 'mnist': {files}. Put them there with these "
        "names, or leave manual_dir out to download them."
    )


def test_only_missing_files_are_listed(tmp_path, monkeypatch):
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


def test_a_damaged_original_file_is_reported(tmp_path):
    for file in MNIST:
        (tmp_path / file).write_bytes(gzip.compress(b"something else"))
    with pytest.raises(zoo.UsageError) as caught:
        zoo.datasets.load("mnist", manual_dir=str(tmp_path), data_dir=str(tmp_path / "data"))
    message = str(caught.value)
    assert message.startswith(f"An original file of 'mnist' is damaged or has another version: Artifact {HOME}")
    assert f"{tmp_path}/" in message
    assert "has wrong checksum: * Expected: UrlInfo(size=" in message
    assert message.endswith(". Replace it with the published file.")
    assert "\n" not in message


def test_manual_dir_must_be_a_folder(tmp_path):
    (tmp_path / "file").touch()
    for wrong in (tmp_path / "file", tmp_path / "none"):
        with pytest.raises(
            zoo.UsageError, match=f"^manual_dir {wrong} is not a folder. Pass the folder that holds the o"
        ):
            zoo.datasets.load("mnist", manual_dir=str(wrong), data_dir=str(tmp_path))


@pytest.fixture
def no_network(monkeypatch):
    """Simulates a machine without network; returns the requested addresses."""
    asked = []

    def head(url, **_):
        asked.append(url)
        raise requests.ConnectionError("unreachable")

    monkeypatch.setattr(requests, "head", head)
    return asked


def test_a_missing_network_is_reported_immediately(tmp_path, no_network):
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


def test_only_files_of_this_data_set_are_requested(tmp_path, no_network):
    with pytest.raises(zoo.UsageError, match=r"FOLDER: cifar-10-binary.tar.gz \(from https:[^;]*\)\.$"):
        zoo.datasets.load("cifar10", data_dir=str(tmp_path))


@pytest.mark.parametrize("error", ["OSError", "DownloadError", "ExtractError"])
def test_a_failed_download_is_reported(tmp_path, monkeypatch, error):
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


def test_data_sets_with_manual_downloads_require_manual_dir(tmp_path):
    with pytest.raises(zoo.UsageError) as caught:
        zoo.datasets.load("imagenet2012", data_dir=str(tmp_path))
    assert str(caught.value).startswith(
        "Data set 'imagenet2012' needs files that you must download yourself: Manual dir"
    )
    assert "ILSVRC2012_img_train.tar" in str(caught.value)
    assert str(caught.value).endswith("Pass their folder with --data.manual_dir FOLDER.")


KILLED = '''
"""A builder whose process is killed in the middle when it is told to."""
import os
import signal
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
            if index == 25 and "KILLED" in os.environ:
                os.kill(os.getpid(), signal.SIGKILL)
            yield index, {"image": np.full((4, 4, 1), index, np.uint8), "label": index % 2}
'''


def test_an_interrupted_preparation_starts_again(run_python, tmp_path, monkeypatch):
    (tmp_path / "drawn_slowly.py").write_text(KILLED)
    source = """
        import sys
        sys.path.insert(0, sys.argv[1])
        import drawn_slowly, zoo
        zoo.datasets.load("drawn_slowly", data_dir=sys.argv[2])
    """
    done = run_python(source, tmp_path, tmp_path / "data", check=False, kind="zoo", KILLED="yes")
    assert done.returncode == -9, done.stderr[-3000:]
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
def test_data_sets_with_equal_file_names_are_kept_separate(tmp_path, no_network):
    """TFDS names extracted files after their archives: in a shared folder, both data sets would read the same pixels."""
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
