"""ViT: equal to transformers, exported as it is, and errors for folders that do not fit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from torch_process import run_reference
from zoo import checkpoints
from zoo.published_export import export_published

CONFIG = {
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 20,
    "image_size": 16,
}
CONFIG |= {"patch_size": 8, "id2label": {0: "cat", 1: "dog", 2: "owl"}, "layer_norm_eps": 1e-6}


def images(batch: int = 3) -> np.ndarray:
    return np.random.default_rng(0).uniform(size=(batch, 16, 16, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> tuple[Path, dict[str, np.ndarray]]:
    """A folder that transformers wrote, and the outputs of its model."""
    folder = tmp_path_factory.mktemp("vit")
    np.save(folder / "images.npy", images())
    job = {"images": folder / "images.npy", "folder": folder / "vit", "answers": folder / "answers.npz"}
    run_reference("vit_reference", {**job, "config": CONFIG}, folder, "transformers")
    with np.load(folder / "answers.npz") as held:
        return folder / "vit", dict(held)


@pytest.fixture
def changed(written, tmp_path):
    """Returns a function that copies the folder with other settings in one of its files."""

    def change(name: str, **settings) -> Path:
        folder = Path(shutil.copytree(written[0], tmp_path / "changed"))
        file = folder / name
        file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))
        return folder

    return change


def build(folder: Path, **changes) -> keras.Model:
    return checkpoints.build("vit", folder, **changes)


def test_hidden_states_and_logits_equal_transformers(written):
    folder, expected = written
    model = build(folder, classifier_activation=None)
    names = ["embeddings_dropout", "block_1", "block_2"]
    inner = keras.Model(model.input, [*(model.get_layer(name).output for name in names), model.output])
    *states, logits = inner(images())
    assert expected["logits"].std(axis=0).max() > 0.1, "the outputs for different images differ"
    for i, state in enumerate(states):
        np.testing.assert_allclose(state, expected[f"state_{i}"], atol=1e-5, err_msg=names[i])
    np.testing.assert_allclose(logits, expected["logits"], atol=1e-5)


def test_settings_and_labels_come_from_the_folder(written):
    folder, _ = written
    found = checkpoints.find("vit", folder)
    assert found.arguments()["input_shape"] == (16, 16, 3) and found.arguments()["scaling"] == "tf"
    assert found.classifier().labels == ("cat", "dog", "owl")
    assert checkpoints.families(folder) == ["vit"]


def test_a_folder_is_exported_as_it_is(written, tmp_path):
    folder, expected = written
    saved = export_published(folder, tmp_path / "vit")
    served = tf.saved_model.load(str(saved)).signatures["predict"]
    found = served(image=tf.constant(images()))["probabilities"]
    np.testing.assert_allclose(found, tf.nn.softmax(expected["logits"]), atol=1e-5)
    assert (saved / "assets" / "labels.txt").read_text() == "cat\ndog\nowl\n"


def test_other_image_sizes_and_patches_are_rejected(written):
    folder, _ = written
    message = (
        r"^An image is 24x16; the weights of .* are for 16x16, because they have a vector for every patch\. "
        r"Pass input_shape=\[16, 16, 3\]\.$"
    )
    with pytest.raises(zoo.UsageError, match=message):
        build(folder, input_shape=(24, 16, 3))
    with pytest.raises(
        zoo.UsageError, match=r"^An image of 30x32 is not divided into whole patches of 16x16\. Pass an"
    ):
        zoo.build("vit_tiny", input_shape=(30, 32, 3), num_classes=2)
    with pytest.raises(zoo.UsageError, match=r"^hidden_size is 24; the checkpoint .* has 12\. Pass hidden_size=12\.$"):
        build(folder, hidden_size=24)


def test_unsupported_folders_are_rejected(changed):
    folder = changed("config.json", model_type="deit")
    with pytest.raises(zoo.UsageError, match=r"config.json is for 'deit'; expected ViT \(ViTModel or ViTForImage"):
        build(folder, num_classes=3)
    assert checkpoints.families(folder) == []


def test_unsupported_scalings_are_rejected(changed):
    with pytest.raises(
        zoo.UsageError, match=r"preprocessor_config.json has image_mean=\[0\.1, .*; expected 0\.5 and 0\.5"
    ):
        build(changed("preprocessor_config.json", image_mean=[0.1, 0.5, 0.5]), num_classes=3)


def test_missing_and_damaged_weights_are_rejected(changed):
    folder = changed("config.json", num_hidden_layers=3)
    with pytest.raises(
        zoo.UsageError,
        match=r"does not fit: vit.encoder.layer.2.attention.attention.query.weight is missing; .* more\. Pass",
    ):
        build(folder)
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(zoo.UsageError, match=r"model.safetensors is damaged or not a safetensors file"):
        build(folder)
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(
        zoo.UsageError, match=r"holds no preprocessor_config.json, which says how images are scaled\. Put"
    ):
        build(folder)


def test_a_data_set_takes_sizes_and_image_size_from_the_folder(written):
    folder, _ = written
    prepared = zoo.datasets.load("digits").prepare("vit", weights=str(folder))
    assert prepared.arguments["input_shape"] == (16, 16, 3)
    assert (prepared.arguments["hidden_size"], prepared.arguments["load_classifier"]) == (12, False)
    assert prepared.build().output_shape == (None, 10)
