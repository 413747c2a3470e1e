"""Formats of published weights: all formats that specs name exist; a new format requires one file and one name."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import zoo
from electra_format import ELECTRA
from zoo import checkpoints, pipeline, registry
from zoo.checkpoints import bert_folder, wordpiece_files

# --- Content of the specs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", zoo.list_models())
def test_a_spec_names_formats_and_arguments_that_exist(name):
    spec = zoo.get_spec(name)
    assert {*spec.initial_arguments} <= {*spec.parameters}
    assert bool(spec.checkpoints) == ("weights" in spec.parameters) == ("weights" in spec.initial_arguments)
    for checkpoint in spec.checkpoints:
        assert checkpoints.get_format(checkpoint).name == checkpoint


def test_unknown_formats_and_unsupported_models_are_rejected():
    with pytest.raises(zoo.UsageError, match=r"^Unknown checkpoint format 'bert_folders'\. Did you mean 'bert_folder'"):
        checkpoints.get_format("bert_folders")
    specs = [zoo.get_spec(name) for name in zoo.list_models(variants=False)]
    takers = rf"Choose one that does: {', '.join(spec.name for spec in specs if spec.checkpoints)}\.$"
    other = next(spec.name for spec in specs if not spec.checkpoints)
    with pytest.raises(zoo.UsageError, match=rf"^Model '{other}' does not support published weights\. {takers}"):
        checkpoints.find(other, f"{other}.h5")
    with pytest.raises(zoo.UsageError, match=rf"^No model for forecasting supports published weights\. {takers}"):
        checkpoints.family_of("a-folder", "forecasting")
    with pytest.raises(
        zoo.UsageError, match=r"^Model 'vgg16' has no published format that can be written\. Choose one"
    ):
        checkpoints.writer("vgg16")


BERTS = ["bert", "bert_mlm", "sentence_bert"]


def test_families_are_detected_from_a_path(tmp_path):
    (tmp_path / "model.h5").touch()
    assert checkpoints.families(tmp_path / "model.h5") == ["keras_application", "mobilenet_v2", "resnet50", "vgg16"]
    assert checkpoints.families(tmp_path) == checkpoints.families(tmp_path / "nothing") == []
    for content, expected in (
        ('{"model_type": "bert"}', BERTS),
        ('{"model_type": "distilbert"}', BERTS),
        ("{}", BERTS),  # the first BERT folders have no model_type
        ('{"model_type": "gptj"}', []),
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
    expected, other = source.get_layer("Conv1").get_weights()[0], source
    other.set_weights([w + 1 for w in source.get_weights()])
    last = other.layers[-1].get_weights()[0]
    checkpoints.find("mobilenet_v2", str(tmp_path / "model.weights.h5")).load(other, classifier=False)
    np.testing.assert_array_equal(other.layers[-1].get_weights()[0], last)
    np.testing.assert_array_equal(other.get_layer("Conv1").get_weights()[0], expected)


def test_records_omit_the_source_of_initial_weights():
    build = {"name": "bert_tiny", "arguments": {"num_layers": 2, "weights": "a", "labels": ["b"], "vocabulary": "c"}}
    assert registry.without_initial_arguments(build) == {"name": "bert_tiny", "arguments": {"num_layers": 2}}
    unknown = {"name": "a_plugin_that_is_not_loaded", "arguments": {"weights": 3}}
    assert registry.without_initial_arguments(unknown) == unknown


# --- A second format --------------------------------------------------------------------------------------------------


def test_the_path_selects_between_two_formats(two_formats, pieces, tmp_path):
    sizes = {"hidden_size": 8, "num_layers": 1, "num_heads": 2, "intermediate_size": 8, "max_length": 16}
    model = zoo.build("bert", vocab_size=len(pieces), num_classes=2, **sizes)
    folder = bert_folder.save_folder(model, tmp_path / "bert", vocabulary=pieces, labels=["a", "b"])
    assert checkpoints.find("bert", folder).format.name == "bert_folder"
    again = checkpoints.build("bert", folder)
    for one, two in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    titles = r"Pass a Hugging Face folder of BERT, DistilBERT or RoBERTa or a Hugging Face folder of ELECTRA\.$"
    with pytest.raises(zoo.UsageError, match=rf"^'nowhere' is not a checkpoint that 'bert' supports\. {titles}"):
        zoo.datasets.load("commands").prepare("bert", weights="nowhere")
    with pytest.raises(
        zoo.UsageError, match=rf"is not a checkpoint that a model for text_classification supports\. {titles}"
    ):
        pipeline.export_checkpoint(tmp_path, tmp_path / "out", "commands")


def test_a_format_without_a_vocabulary_requires_the_argument(two_formats, pieces, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "electra"}')
    bare = dataclasses.replace(ELECTRA, read_arguments=lambda path: {}, read_preprocessing=lambda path: {})
    checkpoints.register_format(bare)
    prepare = zoo.datasets.load("commands").prepare
    with pytest.raises(zoo.UsageError, match=r"has no vocabulary\. Pass its vocab\.txt as vocabulary\.$"):
        prepare("bert", weights=str(tmp_path))
    wordpiece_files.write_pieces(pieces, tmp_path / "words.txt")
    prepared = prepare("bert", weights=str(tmp_path), vocabulary=str(tmp_path / "words.txt"))
    assert prepared.arguments["vocab_size"] == len(pieces)


def test_duplicate_format_names_are_rejected(two_formats):
    assert checkpoints.register_format(ELECTRA) is ELECTRA, "the same again, as a notebook's cell that runs twice"
    with pytest.raises(ValueError, match=r"'bert_folder' is registered twice: by zoo\.checkpoints\.bert_folder and by"):
        checkpoints.register_format(dataclasses.replace(ELECTRA, name="bert_folder"))
