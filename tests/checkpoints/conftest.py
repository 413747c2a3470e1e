"""A small BERT and its folder, and a second format of published weights."""

from __future__ import annotations

import dataclasses
import shutil

import keras
import pytest

import zoo
from electra_format import ELECTRA
from small_bert import SMALL
from zoo import checkpoints, registry
from zoo.checkpoints import contract
from zoo.checkpoints.bert_folder import save_folder
from zoo.datasets.preprocessing.vocabularies import train_pieces


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A model and its folder; tests must not change them."""
    keras.utils.set_random_seed(2)
    model = zoo.build("bert", vocab_size=20, num_classes=3, **SMALL)
    return model, save_folder(model, tmp_path_factory.mktemp("small") / "model", labels=["x", "y", "z"])


@pytest.fixture
def folder(small, tmp_path):
    """A copy of that model's folder that a test can damage."""
    return shutil.copytree(small[1], tmp_path / "model")


@pytest.fixture
def two_formats(monkeypatch):
    """Adds a second format to BERT's specs; removes it after the test."""
    checkpoints.get_format("bert_folder")
    monkeypatch.setattr(contract.FORMATS, "entries", dict(contract.FORMATS.entries))
    checkpoints.register_format(ELECTRA)
    spec = zoo.get_spec("bert")
    changed = dataclasses.replace(spec, checkpoints=(*spec.checkpoints, "electra_folder"))
    entry = dataclasses.replace(registry.MODELS.entries["bert"], value=changed)
    monkeypatch.setitem(registry.MODELS.entries, "bert", entry)


@pytest.fixture(scope="module")
def pieces():
    data = zoo.datasets.load("commands")
    return train_pieces([example["text"].decode() for example in data.train.as_numpy_iterator()], 200)
