"""A small BERT and its folder."""

from __future__ import annotations

import shutil

import keras
import pytest

import zoo
from small_bert import SMALL
from zoo.checkpoints.bert_folder import save_folder


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
