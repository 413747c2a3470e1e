"""Formats of published weights: all formats that specs name exist; a new format requires one file and one name."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from zoo import checkpoints, pipeline, registry
from zoo.checkpoints import bert_folder, contract, tensor_files, wordpiece_files
from zoo.datasets.preprocessing.vocabularies import train_pieces

# --- Content of the specs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", zoo.list_models())
def test_a_spec_names_formats_and_arguments_that_exist(name):
    spec = zoo.get_spec(name)
    assert {*spec.initial_arguments} <= {*spec.parameters}
    assert bool(spec.checkpoints) == ("weights" in spec.parameters) == ("weights" in spec.initial_arguments)
    for checkpoint in spec.checkpoints:
        assert checkpoints.get_format(checkpoint).name == checkpoint


def test_unknown_formats_and_unsupported_models_are_rejected():
    with pytest.raises(
        zoo.UsageError, match=r"^Unknown checkpoint format 'bert_folders'\. Did you mean 'bert_folder'\?"
    ):
        checkpoints.get_format("bert_folders")
    specs = [zoo.get_spec(name) for name in zoo.list_models(variants=False)]
    takers = rf"Choose one that does: {', '.join(spec.name for spec in specs if spec.checkpoints)}\.$"
    other = next(spec.name for spec in specs if not spec.checkpoints)
    with pytest.raises(zoo.UsageError, match=rf"^Model '{other}' does not support published weights\. {takers}"):
        checkpoints.find(other, f"{other}.h5")
    with pytest.raises(zoo.UsageError, match=rf"^No model for tagging supports published weights\. {takers}"):
        checkpoints.family_of("a-folder", "tagging")
    with pytest.raises(
        zoo.UsageError, match=r"^Model 'vgg16' has no published format that can be written\. Choose one"
    ):
        checkpoints.writer("vgg16")


def test_families_are_detected_from_a_path(tmp_path):
    (tmp_path / "model.h5").touch()
    assert checkpoints.families(tmp_path / "model.h5") == ["mobilenet_v2", "resnet50", "vgg16"]
    assert checkpoints.families(tmp_path) == checkpoints.families(tmp_path / "nothing") == []
    for content, expected in (
        ('{"model_type": "bert"}', ["bert", "bert_mlm"]),
        ("{}", ["bert", "bert_mlm"]),  # the first BERT folders have no model_type
        ('{"model_type": "gpt2"}', []),
        ('{"architectures": ["GPT2Model"]}', []),
        ('{"architectures": 1}', []),
        ("[]", []),
        ("{", []),
    ):
        (tmp_path / "config.json").write_text(content)
        assert checkpoints.families(tmp_path) == expected, content
    (tmp_path / "config.json").write_text("{}")
    assert checkpoints.families(tmp_path, "text_classification") == ["bert"]


def test_a_model_is_built_from_a_keras_file(tmp_path):
    sizes = {"input_shape": (32, 32, 1), "num_classes": 3, "alpha": 0.1}
    source = zoo.build("mobilenet_v2", **sizes)
    source.save_weights(tmp_path / "model.weights.h5")
    same = checkpoints.build("mobilenet_v2", tmp_path / "model.weights.h5", **sizes)
    for one, two in zip(source.get_weights(), same.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    keras.utils.set_random_seed(1)
    other = zoo.build("mobilenet_v2", **sizes)
    last = other.layers[-1].get_weights()
    checkpoints.find("mobilenet_v2", str(tmp_path / "model.weights.h5")).load(other, classifier=False)
    np.testing.assert_array_equal(other.layers[-1].get_weights()[0], last[0])
    np.testing.assert_array_equal(other.get_layer("Conv1").get_weights()[0], source.get_layer("Conv1").get_weights()[0])


def test_records_omit_the_source_of_initial_weights():
    build = {"name": "bert_tiny", "arguments": {"num_layers": 2, "weights": "a", "labels": ["b"], "vocabulary": "c"}}
    assert registry.without_initial_arguments(build) == {"name": "bert_tiny", "arguments": {"num_layers": 2}}
    unknown = {"name": "a_plugin_that_is_not_loaded", "arguments": {"weights": 3}}
    assert registry.without_initial_arguments(unknown) == unknown


# --- A second format: everything it requires --------------------------------------------------------------------------

_RENAMED = {
    r"^(distilbert\.)?": "bert.",
    r"\.transformer\.layer\.": ".encoder.layer.",
    r"attention\.q_lin": "attention.self.query",
    r"attention\.k_lin": "attention.self.key",
    r"attention\.v_lin": "attention.self.value",
    r"attention\.out_lin": "attention.output.dense",
    r"sa_layer_norm": "attention.output.LayerNorm",
    r"ffn\.lin1": "intermediate.dense",
    r"ffn\.lin2": "output.dense",
    r"output_layer_norm": "output.LayerNorm",
}


def _config(folder) -> dict:
    return json.loads((Path(folder) / "config.json").read_text())


def _is_distilbert(folder) -> bool:
    return (Path(folder) / "config.json").is_file() and _config(folder).get("model_type") == "distilbert"


def _arguments(folder) -> dict:
    names = {
        "vocab_size": "vocab_size",
        "dim": "hidden_size",
        "n_layers": "num_layers",
        "n_heads": "num_heads",
        "hidden_dim": "intermediate_size",
        "max_position_embeddings": "max_length",
        "dropout": "dropout",
        "attention_dropout": "attention_dropout",
        "activation": "activation",
    }
    config = _config(folder)
    return {ours: config[theirs] for theirs, ours in names.items()} | {
        "type_vocab_size": 1,
        "layer_norm_epsilon": 1e-12,
    }


def _load(model, folder, classifier) -> None:
    """Loads the encoder. DistilBERT has no token types and another pooler."""
    tensors, file = tensor_files.read_tensors(folder)
    renamed = {}
    for name, array in tensors.items():
        for theirs, ours in _RENAMED.items():
            name = re.sub(theirs, ours, name)
        renamed[name] = array
    types = np.zeros((1, model.get_layer("embeddings").hidden_size), np.float32)
    renamed["bert.embeddings.token_type_embeddings.weight"] = types
    bert_folder.set_weights(model, renamed, file, load_classifier=classifier)


def _preprocessing(folder) -> dict:
    found = wordpiece_files.read_vocabulary(folder)
    return {"vocabulary": found.pieces, **dataclasses.asdict(found.rules)}


DISTILBERT = checkpoints.CheckpointFormat(
    name="distilbert_folder",
    title="a Hugging Face folder of DistilBERT",
    recognises=_is_distilbert,
    load=_load,
    read_arguments=_arguments,
    exact=("vocab_size", "hidden_size", "num_layers", "num_heads", "intermediate_size"),
    at_most=("max_length",),
    read_preprocessing=_preprocessing,
)

# --- Results of the second format -------------------------------------------------------------------------------------

REFERENCE = """
import json, sys
import numpy as np, torch, transformers
folder, vocab_size, ids = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
torch.manual_seed(0)
sizes = {"dim": 24, "n_layers": 3, "n_heads": 3, "hidden_dim": 40, "max_position_embeddings": 37}
model = transformers.DistilBertModel(transformers.DistilBertConfig(vocab_size=vocab_size, **sizes)).eval()
with torch.no_grad():
    for parameter in model.parameters():
        parameter += 0.3 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    mask = torch.tensor([[int(i > 0) for i in row] for row in ids])
    told = model(input_ids=torch.tensor(ids), attention_mask=mask).last_hidden_state
np.savez(folder + "/told.npz", last=told.numpy())
"""


@pytest.fixture
def two_formats(monkeypatch):
    """Adds a second format to BERT's specs; removes it after the test."""
    checkpoints.get_format("bert_folder")
    monkeypatch.setattr(contract.FORMATS, "entries", dict(contract.FORMATS.entries))
    checkpoints.register_format(DISTILBERT)
    spec = zoo.get_spec("bert")
    changed = dataclasses.replace(spec, checkpoints=(*spec.checkpoints, "distilbert_folder"))
    entry = dataclasses.replace(registry.MODELS.entries["bert"], value=changed)
    monkeypatch.setitem(registry.MODELS.entries, "bert", entry)


@pytest.fixture(scope="module")
def pieces():
    data = zoo.datasets.load("commands")
    return train_pieces([example["text"].decode() for example in data.train.as_numpy_iterator()], 200)


def test_a_second_format_requires_one_file_and_a_name_on_the_spec(two_formats, pieces, tmp_path):
    """Loads sizes, vocabulary and weights of a DistilBERT folder; the features equal the vectors of `transformers`."""
    if not all(importlib.util.find_spec(name) for name in ("torch", "transformers")):
        pytest.skip("needs torch and transformers: pip install -e '.[test]'")
    texts = ["turn the radio on", "lamp"]
    folder = tmp_path / "distilbert"
    folder.mkdir()
    wordpiece_files.write_pieces(pieces, folder / "vocab.txt")
    probe = zoo.datasets.load("commands").prepare("bert", vocabulary=str(folder / "vocab.txt")).preprocessor
    ids = probe(tf.constant(texts))["token_ids"].numpy()
    command = [sys.executable, "-c", REFERENCE, str(folder), str(len(pieces)), json.dumps(ids.tolist())]
    subprocess.run(command, env={**os.environ, "HF_HUB_OFFLINE": "1"}, check=True, capture_output=True)

    assert checkpoints.families(folder) == ["bert"]
    prepared = zoo.datasets.load("commands").prepare("bert", weights=str(folder), max_length=20)
    assert prepared.preprocessor.vocabulary == pieces and prepared.arguments["max_length"] == 20
    assert (prepared.arguments["hidden_size"], prepared.arguments["num_layers"]) == (24, 3)
    with pytest.warns(UserWarning, match="random: bert.pooler.dense.bias, bert.pooler.dense.weight"):
        model = prepared.build(seed=0)
    last = keras.Model(model.inputs, model.get_layer("block_3").output)(prepared.preprocessor(tf.constant(texts)))
    real = ids > 0
    assert len(np.unique(real.sum(axis=1))) == 2, "one row is padded"
    np.testing.assert_allclose(last.numpy()[real], np.load(folder / "told.npz")["last"][real], atol=2e-5)
    with pytest.raises(zoo.UsageError, match=r"hidden_size is 256; the checkpoint .* has 24\. Pass hidden_size=24\.$"):
        zoo.datasets.load("commands").prepare("bert", weights=str(folder), hidden_size=256).build()


def test_the_path_selects_between_two_formats(two_formats, pieces, tmp_path):
    sizes = {"hidden_size": 8, "num_layers": 1, "num_heads": 2, "intermediate_size": 8, "max_length": 16}
    model = zoo.build("bert", vocab_size=len(pieces), num_classes=2, **sizes)
    folder = bert_folder.save_folder(model, tmp_path / "bert", vocabulary=pieces, labels=["a", "b"])
    assert checkpoints.find("bert", folder).format.name == "bert_folder"
    again = checkpoints.build("bert", folder)
    for one, two in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    titles = r"Pass a Hugging Face folder of BERT or a Hugging Face folder of DistilBERT\.$"
    with pytest.raises(zoo.UsageError, match=rf"^'nowhere' is not a checkpoint that 'bert' supports\. {titles}"):
        zoo.datasets.load("commands").prepare("bert", weights="nowhere")
    with pytest.raises(
        zoo.UsageError, match=rf"is not a checkpoint that a model for text_classification supports\. {titles}"
    ):
        pipeline.export_checkpoint(tmp_path, tmp_path / "out", "commands")


def test_a_format_without_a_vocabulary_requires_the_argument(two_formats, pieces, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "distilbert"}')
    bare = dataclasses.replace(DISTILBERT, read_arguments=lambda path: {}, read_preprocessing=lambda path: {})
    checkpoints.register_format(bare)
    prepare = zoo.datasets.load("commands").prepare
    with pytest.raises(zoo.UsageError, match=r"has no vocabulary\. Pass its vocab\.txt as vocabulary\.$"):
        prepare("bert", weights=str(tmp_path))
    wordpiece_files.write_pieces(pieces, tmp_path / "words.txt")
    prepared = prepare("bert", weights=str(tmp_path), vocabulary=str(tmp_path / "words.txt"))
    assert prepared.arguments["vocab_size"] == len(pieces)


def test_duplicate_format_names_are_rejected(two_formats):
    assert checkpoints.register_format(DISTILBERT) is DISTILBERT, "the same again, as a notebook's cell that runs twice"
    with pytest.raises(ValueError, match=r"'bert_folder' is registered twice: by zoo\.checkpoints\.bert_folder and by"):
        checkpoints.register_format(dataclasses.replace(DISTILBERT, name="bert_folder"))
