"""Weights of keras.applications by name: the same files and hashes as in Keras, and every failure as one sentence."""

from __future__ import annotations

import dataclasses
import hashlib
import socket

import keras
import numpy as np
import pytest

import zoo
from loopback_hub import COMMIT, Hub
from zoo import checkpoints, model_archive, registry
from zoo.checkpoints import PublishedFile, keras_download

CONTENT = bytes(range(256)) * 100
APPLICATIONS = {
    "resnet50": (keras.applications.ResNet50, {}),
    "vgg16": (keras.applications.VGG16, {}),
    "mobilenet_v2": (keras.applications.MobileNetV2, {"alpha": 0.35}),
}


@pytest.fixture
def served(tmp_path, monkeypatch):
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "model.h5").write_bytes(CONTENT)
    hub = Hub()
    hub.add("acme/keras", folder)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield hub
    hub.close()


def file_of(hub: Hub, md5: str | None = None) -> PublishedFile:
    return PublishedFile(f"{hub.url}/acme/keras/resolve/{COMMIT}/model.h5", "MIT", md5)


def test_a_file_is_downloaded_once(served, tmp_path, capsys):
    file = file_of(served, hashlib.md5(CONTENT).hexdigest())
    found = keras_download.fetch("imagenet", "tiny", file)
    said = capsys.readouterr().out
    assert said.startswith(
        f"Downloads imagenet weights of tiny: 0.0 MB, licence MIT, into {tmp_path / 'keras/models'}.\n"
    )
    assert found.path == tmp_path / "keras/models/model.h5" and found.path.read_bytes() == CONTENT
    assert found.record("imagenet") == {
        "name": "imagenet",
        "source": file.url,
        "licence": "MIT",
        "sha256": {"model.h5": hashlib.sha256(CONTENT).hexdigest()},
    }
    before = len(served.requests)
    assert keras_download.fetch("imagenet", "tiny", file) == found and len(served.requests) == before
    found.path.write_bytes(b"damaged")
    assert keras_download.fetch("imagenet", "tiny", file, verbose=0) == found
    assert capsys.readouterr().out == ""


def test_failed_downloads_leave_nothing(served, tmp_path, monkeypatch):
    with pytest.raises(
        zoo.UsageError, match=r"^The download of the imagenet weights of tiny failed \(.*hash.*\)\. Start the"
    ):
        keras_download.fetch("imagenet", "tiny", file_of(served, "0" * 32))
    served.faults.cut = {"model.h5"}
    with pytest.raises(
        zoo.UsageError, match=r"^The imagenet weights of tiny cannot be written|^The download of the imagenet"
    ):
        keras_download.fetch("imagenet", "tiny", file_of(served))
    assert not [*(tmp_path / "keras").rglob("*.h5")]
    missing = dataclasses.replace(file_of(served), url=f"{served.url}/acme/keras/resolve/{COMMIT}/other.h5")
    with pytest.raises(
        zoo.UsageError, match=r"cannot be downloaded from .*/other\.h5 \(HTTP Error 404.*\)\. Check the network, or"
    ):
        keras_download.fetch("imagenet", "tiny", missing)
    (tmp_path / "file").touch()
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "file"))
    with pytest.raises(
        zoo.UsageError, match=r"cannot be written into .*\. Set KERAS_HOME to a folder that you may write\.$"
    ):
        keras_download.fetch("imagenet", "tiny", file_of(served))


def test_a_complete_file_needs_no_network(served, tmp_path, monkeypatch):
    found = keras_download.fetch("imagenet", "tiny", file_of(served), verbose=0)

    def connect(*_):
        raise OSError("no network")

    monkeypatch.setattr(socket.socket, "connect", connect)
    assert keras_download.fetch("imagenet", "tiny", file_of(served)) == found
    found.path.unlink()
    with pytest.raises(
        zoo.UsageError, match=r"\(.*no network.*\)\. Check the network, or put the file into the folder models"
    ):
        keras_download.fetch("imagenet", "tiny", file_of(served))


@pytest.mark.slow
@pytest.mark.parametrize("name", APPLICATIONS)
def test_files_and_hashes_are_those_of_keras(name, monkeypatch):
    build, arguments = APPLICATIONS[name]
    asked = []

    def get_file(fname, origin, cache_subdir, file_hash=None):
        asked.append((origin, cache_subdir, file_hash))
        raise InterruptedError

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", get_file)
    with model_archive.without_values(), pytest.raises(InterruptedError):
        build(weights="imagenet", **arguments)
    file = zoo.get_spec(name).published["imagenet"](arguments)
    assert asked == [(file.url, "models", file.hash)]


@pytest.mark.slow
def test_imagenet_starts_a_model(served, tmp_path, monkeypatch):
    theirs = keras.applications.MobileNetV2(alpha=0.35, weights=None)
    theirs.save_weights(tmp_path / "served/model.weights.h5")
    served.add("acme/keras", tmp_path / "served")
    spec = zoo.get_spec("mobilenet_v2")
    url = f"{served.url}/acme/keras/resolve/{COMMIT}/model.weights.h5"
    changed = dataclasses.replace(spec, published={"imagenet": lambda arguments: PublishedFile(url, "Apache-2.0")})
    entry = dataclasses.replace(registry.MODELS.entries["mobilenet_v2"], value=changed)
    monkeypatch.setitem(registry.MODELS.entries, "mobilenet_v2", entry)
    monkeypatch.setattr(checkpoints, "_expected", {})
    prepared = zoo.datasets.load("digits").prepare("mobilenet_v2", weights="imagenet", alpha=0.35)
    model = prepared.build()
    for ours, other in zip(
        model.get_layer("Conv1").get_weights(), theirs.get_layer("Conv1").get_weights(), strict=True
    ):
        np.testing.assert_array_equal(ours, other)
    described = prepared.describe()
    assert described["model"]["weights"] == "imagenet"
    assert described["pretrained"]["source"] == url and described["pretrained"]["licence"] == "Apache-2.0"
    checkpoints.expect({**described["pretrained"], "sha256": {"model.weights.h5": "0" * 64}})
    with pytest.raises(zoo.UsageError, match="has other weights than the run recorded"):
        prepared.build()
