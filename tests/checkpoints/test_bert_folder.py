"""Reading, writing and rejecting BERT folders, without PyTorch."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
import pytest

import zoo
from small_bert import SMALL
from zoo import checkpoints
from zoo.checkpoints import bert_config, bert_folder, tensor_files
from zoo.checkpoints.bert_folder import save_folder


def spoil(folder: Path, **changes) -> None:
    config = json.loads((folder / "config.json").read_text()) | changes
    config = {key: value for key, value in config.items() if value != "leave out"}
    (folder / "config.json").write_text(json.dumps(config))


def spoil_tensors(folder: Path, change) -> None:
    from safetensors.numpy import save_file

    tensors, file = tensor_files.read_tensors(folder)
    change(tensors)
    save_file(tensors, file)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model_type": "xlm-roberta"},
            r"is for 'xlm-roberta'; expected BERT, DistilBERT or RoBERTa\. Pass the folder of one\.$",
        ),
        ({"architectures": ["RobertaModel"]}, r"is for 'RobertaModel'; expected BERT"),
        ({"is_decoder": True}, r"has is_decoder=True; expected False\. Pass the folder of a BERT encoder\.$"),
        ({"add_cross_attention": True}, r"has add_cross_attention=True; expected False"),
        ({"position_embedding_type": "relative_key"}, r"position_embedding_type='relative_key'; expected 'absolute'"),
        ({"pruned_heads": {"0": [1]}}, r"has pruned_heads; expected plain float weights"),
        ({"quantization_config": {"bits": 8}}, r"has quantization_config; expected plain float weights"),
        ({"hidden_act": "gelu_nwe"}, r"has hidden_act='gelu_nwe', which is not supported. Did you mean 'gelu_new'"),
        ({"hidden_size": "leave out"}, r"has hidden_size=None; expected a whole number of at least 1"),
        ({"num_hidden_layers": 0}, r"has num_hidden_layers=0; expected a whole number of at least 1"),
        (
            {"hidden_act": ["gelu"]},
            r"config.json has hidden_act=\['gelu'\], which is not supported\. Did you mean 'gelu'",
        ),
        ({"hidden_act": {"name": "gelu"}}, r"config.json has hidden_act={'name': 'gelu'}, which is not supported"),
        (
            {"architectures": 3},
            r"config.json has architectures=3; expected a list of names\. Correct it\.$",
        ),
        ({"architectures": "BertModel"}, r"config.json has architectures='BertModel'; expected a list of names"),
        ({"architectures": [3]}, r"config.json has architectures=\[3\]; expected a list of names"),
        (
            {"layer_norm_eps": 0},
            r"config.json has layer_norm_eps=0; expected a number above 0 and less than 1\. Correct",
        ),
        ({"layer_norm_eps": "1e-12"}, r"config.json has layer_norm_eps='1e-12'; expected a number above 0"),
        ({"layer_norm_eps": None}, r"config.json has layer_norm_eps=None; expected a number above 0"),
        ({"layer_norm_eps": float("nan")}, r"config.json has layer_norm_eps=nan; expected a number above 0"),
        (
            {"hidden_dropout_prob": None},
            r"config.json has hidden_dropout_prob=None; expected a number of at least 0 and",
        ),
        (
            {"attention_probs_dropout_prob": 1.0},
            r"config.json has attention_probs_dropout_prob=1.0; expected a number of",
        ),
        ({"classifier_dropout": -0.1}, r"config.json has classifier_dropout=-0.1; expected a number of at least 0"),
        ({"hidden_dropout_prob": True}, r"config.json has hidden_dropout_prob=True; expected a number of at least 0"),
        ({"id2label": {}}, r"id2label is {}; expected names by number from 0"),
        ({"id2label": ["x"]}, r"id2label is \['x'\]; expected names by number from 0"),
        (
            {"id2label": {"0": "x", "1": "x", "2": "y"}},
            r"id2label has 3 names of which 2 differ; expected a different name for",
        ),
        (
            {"id2label": None, "num_labels": "3"},
            r"config.json has num_labels='3'; expected a whole number of at least 1",
        ),
        (
            {"problem_type": "multi_label"},
            r"has problem_type='multi_label', which is unknown\. Did you mean 'multi_label_cl",
        ),
        ({"problem_type": ["regression"]}, r"has problem_type=\['regression'\], which is unknown"),
        ({"id2label": {"1": "x"}}, r"id2label is {'1': 'x'}; expected names by number from 0"),
        ({"num_attention_heads": 3}, r"hidden_size=8 is not divisible by num_heads=3\. Pass a multiple of 3\.$"),
        (
            {"intermediate_size": 11},
            r"does not fit: bert.encoder.layer.0.intermediate.dense.weight is \(10, 8\), expected",
        ),
    ],
)
def test_unsupported_configurations_are_rejected(folder, changes, message):
    spoil(folder, **changes)
    with pytest.raises(zoo.UsageError, match=message):
        checkpoints.build("bert", folder)


def test_classifiers_of_every_kind_are_recognized(folder):
    single, multi = "single_label_classification", "multi_label_classification"
    xyz = ("x", "y", "z")
    names = {"0": "score"}
    for changes, expected in (
        ({}, bert_config.Head(3, xyz, single)),
        ({"problem_type": single}, bert_config.Head(3, xyz, single)),
        ({"problem_type": multi}, bert_config.Head(3, xyz, multi)),
        ({"problem_type": "regression"}, bert_config.Head(3, xyz, "regression")),
        ({"problem_type": None, "id2label": names}, bert_config.Head(1, ("score",), "regression")),
        ({"problem_type": multi}, bert_config.Head(1, ("score",), multi)),
        ({"problem_type": None, "id2label": None}, bert_config.Head(2, None, single)),
        ({"num_labels": 5}, bert_config.Head(5, None, single)),
        ({"num_labels": 1}, bert_config.Head(1, None, "regression")),
        ({"architectures": ["BertForTokenClassification"]}, bert_config.Head(1, None, "token_classification")),
        ({"id2label": {"0": "x", "1": "y"}}, bert_config.Head(2, ("x", "y"), "token_classification")),
        ({"architectures": ["BertModel"]}, None),
        ({"architectures": None}, None),
    ):
        spoil(folder, **changes)
        assert bert_config.head_of(folder) == expected
        has_labels = expected is not None and expected.kind != "regression"
        assert bert_config.read_classifier(folder) == (expected if has_labels else None)
        assert expected is None or expected.several == (expected.kind == multi)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"architectures": ["BertModel"]},
            r"has no text classifier\. Pass a folder with one, or leave load_classifier out",
        ),
        (
            {"problem_type": "multi_label_classification"},
            r"classifier has the kind multi_label_classification: several labels per text; "
            r"expected one label per text\. Pass a",
        ),
        (
            {"id2label": {"0": "score"}},
            r"classifier has the kind regression: numbers instead of labels; expected one",
        ),
        (
            {"id2label": None},
            r"classifier has 2 labels; num_classes is 3\. Pass num_classes=2, or leave load_classifier out",
        ),
    ],
)
def test_a_classifier_of_another_kind_is_rejected(small, folder, changes, message):
    spoil(folder, **changes)
    with pytest.raises(zoo.UsageError, match=message):
        bert_config.check_classifier(folder, 3)
    model = keras.models.clone_model(small[0])
    before = model.get_weights()
    with pytest.raises(zoo.UsageError, match=message):
        bert_folder.load_weights(model, folder, load_classifier=True)
    for one, two in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    assert bert_config.check_classifier(small[1]) == bert_config.check_classifier(small[1], 3)


def test_missing_settings_of_early_folders_have_defaults(folder):
    spoil(folder, **dict.fromkeys(("model_type", "layer_norm_eps", "hidden_act", "hidden_dropout_prob"), "leave out"))
    found = bert_config.read_config(folder)
    assert found["activation"] == "gelu" and found["layer_norm_epsilon"] == 1e-12 and found["dropout"] == 0.1
    spoil(folder, id2label="leave out")
    assert bert_config.read_classifier(folder).labels is None


def test_invalid_folders_are_rejected(tmp_path, folder):
    with pytest.raises(
        zoo.UsageError, match=r"^There is no folder 'bert-base-uncased'\. Pass a folder .* or hf:ORG/NAME to download"
    ):
        checkpoints.build("bert", "bert-base-uncased")
    with pytest.raises(zoo.UsageError, match=r"holds no config.json. Pass a folder that save_pretrained wrote"):
        checkpoints.build("bert", tmp_path)
    (folder / "model.safetensors").unlink()
    with pytest.raises(zoo.UsageError, match=r"holds no weights; expected model.safetensors or pytorch_model.bin"):
        checkpoints.build("bert", folder)
    (folder / "config.json").write_text("[]")
    with pytest.raises(zoo.UsageError, match=r"config.json holds list; expected settings by name"):
        checkpoints.build("bert", folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(zoo.UsageError, match=r"config.json is not JSON"):
        checkpoints.build("bert", folder)


QUERY = "bert.encoder.layer.0.attention.self.query.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t.pop(QUERY),
            rf"{QUERY} is missing\. Pass a folder that fits its config.json\.$",
        ),
        (lambda t: t.update(extra=t[QUERY]), r"extra is not part of BERT"),
        (lambda t: t.update({QUERY: t[QUERY][:, :7].copy()}), rf"{QUERY} is \(8, 7\), expected \(8, 8\)"),
        (lambda t: t.pop("bert.pooler.dense.bias"), r"bert.pooler.dense.bias is missing"),
        (lambda t: t.pop("classifier.bias"), r"classifier.bias is missing"),
        (
            lambda t: [t.pop(name) for name in list(t) if "layer.0" in name],
            r"query.weight is missing; .*query.bias is missing; .*key.weight is missing and 13 more\.",
        ),
        (
            lambda t: t.update({QUERY: t[QUERY].astype(np.int64)}),
            rf"{QUERY} is of type int64, expected floating-point numbers\. Pass a folder",
        ),
        (lambda t: t.update({QUERY: t[QUERY] > 0}), rf"{QUERY} is of type bool, expected floating-point numbers"),
        (
            lambda t: t[QUERY].__setitem__((0, slice(2)), (np.nan, -np.inf)),
            rf"{QUERY} has 2 of 64 values that are NaN or beyond float32's range\. Pass a folder",
        ),
        (
            lambda t: t.update({QUERY: np.full((8, 8), 1e300)}),
            rf"{QUERY} has 64 of 64 values that are NaN or beyond float32's range",
        ),
    ],
)
def test_messages_name_unsuitable_tensors(folder, change, message):
    spoil_tensors(folder, change)
    with pytest.raises(zoo.UsageError, match=message):
        checkpoints.build("bert", folder)


def test_an_incomplete_pooler_is_rejected_but_a_missing_one_is_random(folder):
    spoil_tensors(folder, lambda t: t.pop("bert.pooler.dense.bias"))
    with pytest.raises(zoo.UsageError, match=r"bert.pooler.dense.bias is missing"):
        checkpoints.build("bert", folder, num_classes=2)
    spoil_tensors(folder, lambda t: t.pop("bert.pooler.dense.weight"))
    with pytest.warns(
        UserWarning, match=r"not used: classifier.bias, .*so random: bert.pooler.dense.bias, bert.pooler"
    ):
        checkpoints.build("bert", folder, num_classes=2)


def test_the_classifier_is_loaded_if_its_size_matches(small):
    model, folder = small
    same = checkpoints.build("bert", folder)
    np.testing.assert_array_equal(same.get_layer("probabilities").kernel, model.get_layer("probabilities").kernel)
    with pytest.warns(UserWarning, match=r"model.safetensors: not used: classifier.bias, classifier.weight\.$"):
        other = checkpoints.build("bert", folder, num_classes=5, dropout=0.3)
    assert other.get_layer("probabilities").kernel.shape == (8, 5)
    assert other.get_layer("block_1").dropout == 0.3
    np.testing.assert_array_equal(other.get_layer("pooled").kernel, model.get_layer("pooled").kernel)


def test_arguments_that_contradict_the_folder_are_rejected(small):
    sizes = {"vocab_size": 20, "num_classes": 3, **SMALL}
    with pytest.raises(zoo.UsageError, match=r"^hidden_size is 16; the checkpoint .* has 8\. Pass hidden_size=8\.$"):
        zoo.build("bert", **{**sizes, "hidden_size": 16, "weights": str(small[1])})
    with pytest.raises(zoo.UsageError, match=r"classifier has 3 labels; num_classes is 4\. Pass num_classes=3, or"):
        zoo.build("bert", **{**sizes, "num_classes": 4, "weights": str(small[1]), "load_classifier": True})
    with pytest.raises(zoo.UsageError, match=r"load_classifier requires weights, which are not given"):
        zoo.build("bert", **sizes, load_classifier=True)
    with pytest.raises(
        zoo.UsageError, match=r"^max_length is 13; the checkpoint .* has 12\. Pass max_length=12, or less"
    ):
        zoo.build("bert", **{**sizes, "max_length": 13, "weights": str(small[1])})


def test_fewer_positions_use_the_first_ones(small):
    model, folder = small
    shorter = checkpoints.build("bert", folder, max_length=7)
    positions = shorter.get_layer("embeddings").positions.embeddings
    np.testing.assert_array_equal(positions, model.get_layer("embeddings").positions.embeddings[:7])
    ids = np.arange(1, 8, dtype=np.int32)[np.newaxis]
    np.testing.assert_array_equal(
        model([ids, ids % 2, ids], training=False), shorter([ids, ids % 2, ids], training=False)
    )
    eight = np.ones((1, 8), np.int32)
    with pytest.raises(zoo.UsageError, match=r"A sequence of 8 tokens is longer than max_length=7"):
        shorter([eight, eight, eight])


def test_unsupported_models_cannot_be_saved(small, tmp_path):
    model, folder = small
    before = (folder / "config.json").read_bytes()
    many = [str(i) for i in range(20)]
    with pytest.raises(zoo.UsageError, match=r"already exists and is not overwritten\. Remove it, or choose another"):
        save_folder(model, folder)
    with pytest.raises(zoo.UsageError, match=r"The vocabulary has 2 tokens; the model has 20\. Pass all of them"):
        save_folder(model, tmp_path / "a", vocabulary=["x", "y"])
    with pytest.raises(zoo.UsageError, match=r"There are 2 labels; the model has 3 classes\. Pass one for each"):
        save_folder(model, tmp_path / "a", labels=["x", "y"])
    with pytest.raises(zoo.UsageError, match=r"Model 'mlp' is not a BERT model\. Pass a model from zoo.build"):
        save_folder(zoo.build("mlp", input_shape=(2, 2, 1), num_classes=2), tmp_path / "a")
    with pytest.raises(TypeError):
        save_folder(model, tmp_path / "a", vocabulary=many, tokenizer={"x": object()})  # fails during writing
    with pytest.raises(zoo.UsageError, match=r"The label 'x' occurs 2 times\. Pass a different name for each class"):
        save_folder(model, tmp_path / "a", labels=["x", "y", "x"])
    for wrong, message in (
        (many[0], r"The vocabulary has '0' 2 times; expected every token once\. Remove the duplicates"),
        ("a\nb", r"The vocabulary has 'a\\nb'; expected tokens without a line break\. Leave it out"),
        ("a\r", r"The vocabulary has 'a\\r'; expected tokens without a line break"),
    ):
        with pytest.raises(zoo.UsageError, match=message):
            save_folder(model, tmp_path / "a", vocabulary=[*many[:-1], wrong])
    assert list(tmp_path.iterdir()) == [], "something was half-written"
    assert (folder / "config.json").read_bytes() == before


def test_low_rank_weights_are_merged_when_saved(small, tmp_path):
    model = keras.models.clone_model(small[0])
    model.set_weights(small[0].get_weights())
    model.get_layer("block_1").query_key_value.enable_lora(2)
    model.get_layer("block_1").query_key_value.lora_kernel_b.assign(np.ones((2, 24)))
    ids = np.arange(1, 8, dtype=np.int32)[np.newaxis]
    expected = np.asarray(model([ids, ids % 2, ids], training=False))
    assert (expected != np.asarray(small[0]([ids, ids % 2, ids], training=False))).any()
    again = checkpoints.build("bert", save_folder(model, tmp_path / "adapted"))
    np.testing.assert_allclose(again([ids, ids % 2, ids], training=False), expected, atol=1e-6)
