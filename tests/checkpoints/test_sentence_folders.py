"""Folders of sentence-transformers and of DistilBERT: equal to transformers, and every part that is not read is rejected."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from selection import slow
from torch_process import torch_process
from zoo import checkpoints
from zoo.checkpoints import sentence_modules, wordpiece_files
from zoo.datasets.preprocessing.sentences import SentencePreprocessor
from zoo.published_export import export_published

SIZES = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 40, "max_position_embeddings": 40}
POOLING, LENGTH = "1_Pooling/config.json", "sentence_bert_config.json"
SETTINGS = "config_sentence_transformers.json"
TEXTS = ["turn the radio on", "lamp", "Is the DOOR upstairs open, or not?", "", "the " * 60]


@pytest.fixture(scope="module")
def torch():
    yield from torch_process()


def write_modules(folder: Path, pooling: str = "mean_tokens", kinds=("Transformer", "Pooling", "Normalize"), length=30):
    paths = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}
    entries = [
        {
            "idx": i,
            "name": str(i),
            "path": paths.get(kind, f"{i}_{kind}"),
            "type": f"sentence_transformers.models.{kind}",
        }
        for i, kind in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(entries))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    modes = dict.fromkeys(("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens"), False) | {pooling: True}
    settings = {"word_embedding_dimension": 24, **{f"pooling_mode_{name}": is_on for name, is_on in modes.items()}}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(settings))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": length, "do_lower_case": False}))


@pytest.fixture(scope="module")
def plain(torch, pieces, tmp_path_factory):
    """A folder of BERT with random weights and a vocabulary, without modules.json."""
    folder = tmp_path_factory.mktemp("sentences") / "encoder"
    torch("make", folder=folder, config={"vocab_size": len(pieces), "hidden_size": 24, **SIZES}, sort="BertModel")
    wordpiece_files.write_pieces(pieces, folder / "vocab.txt")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer", "do_lower_case": true}')
    return folder


@pytest.fixture
def folder(plain, tmp_path):
    """A copy with modules that a test can change."""
    copied = shutil.copytree(plain, tmp_path / "encoder")
    write_modules(copied)
    return copied


def vectors_of(folder, texts) -> np.ndarray:
    """The vectors that this package computes."""
    checkpoint = checkpoints.find("sentence_bert", folder)
    preprocessor = SentencePreprocessor.without_data({"checkpoint": checkpoint}, checkpoint.arguments())[0]
    model = checkpoints.build("sentence_bert", folder)
    parts = [model(preprocessor(tf.constant(texts[i : i + 64]))).numpy() for i in range(0, len(texts), 64)]
    return np.concatenate(parts)


@pytest.mark.parametrize(
    ("mode", "name", "normalized"),
    [("mean_tokens", "mean", True), slow("cls_token", "first", False), slow("max_tokens", "max", True)],
)
def test_vectors_equal_transformers(torch, folder, tmp_path, mode, name, normalized):
    write_modules(folder, mode, ("Transformer", "Pooling", *(["Normalize"] if normalized else [])))
    ours = vectors_of(folder, TEXTS)
    torch("sentences", folder=folder, texts=TEXTS, output=tmp_path / "told.npz", max_length=30)
    theirs = np.load(tmp_path / "told.npz")[name]
    theirs = theirs / np.linalg.norm(theirs, axis=1, keepdims=True) if normalized else theirs
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_a_folder_without_modules_is_read_with_the_mean(torch, plain, tmp_path):
    torch("sentences", folder=plain, texts=TEXTS, output=tmp_path / "told.npz", max_length=40)
    theirs = np.load(tmp_path / "told.npz")["mean"]
    np.testing.assert_allclose(
        vectors_of(plain, TEXTS), theirs / np.linalg.norm(theirs, axis=1, keepdims=True), atol=1e-5
    )


def test_a_classifier_reads_the_pooling_of_the_folder(folder, plain, recwarn):
    arguments = checkpoints.find("bert", folder).arguments()
    assert (arguments["pooling"], arguments["max_length"]) == ("mean", 40)
    assert "pooling" not in checkpoints.find("bert", plain).arguments()
    model = checkpoints.build("bert", folder, num_classes=2)
    assert "mean_pooled" in {layer.name for layer in model.layers} and not recwarn.list
    with pytest.raises(
        zoo.UsageError, match=r"^Model 'bert' has another pooler than BERT, so transformers has no class"
    ):
        checkpoints.writer("bert")(model, folder / "new", checkpoints.find("bert", folder).preprocessing(), None)


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        (
            ("Transformer", "Pooling", "Dense"),
            r"modules\.json has the module 'Dense'; expected Transformer, Pooling, Normalize",
        ),
        (
            ("Pooling", "Transformer"),
            r"has the modules Pooling, Transformer; expected Transformer, Pooling and perhaps",
        ),
        ((), r"has the modules none; expected"),
    ],
)
def test_other_modules_are_rejected(folder, kinds, message):
    write_modules(folder, kinds=kinds)
    with pytest.raises(zoo.UsageError, match=message):
        checkpoints.build("sentence_bert", folder)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (POOLING, {"pooling_mode_mean_sqrt_len_tokens": True}, r"has the pooling mean_sqrt_len_tokens; expected"),
        (POOLING, {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, r"mean_tokens and cls_token"),
        (POOLING, None, r"1_Pooling/config\.json is missing\. Pass a complete folder"),
        (LENGTH, {"do_lower_case": True}, r"has do_lower_case true: texts are changed before the tokenizer"),
        (LENGTH, {"max_seq_length": "256"}, r"has max_seq_length='256'; expected a whole number of at least 3"),
        (SETTINGS, {"default_prompt_name": "query"}, r"has default_prompt_name 'query', a prompt before"),
        ("modules.json", {"a": 1}, r"modules\.json holds no list of modules with type and path"),
        (
            "modules.json",
            [{"type": "models.Transformer", "path": "../other"}, {"type": "models.Pooling", "path": "1"}],
            r"has the path '\.\./other'; expected a folder inside",
        ),
        (
            "config.json",
            {"model_type": "roberta"},
            r"is for 'roberta'; expected BERT or DistilBERT\. Pass the folder of",
        ),
        ("config.json", {"model_type": "xlm-roberta"}, r"is for 'xlm-roberta'; expected BERT, DistilBERT or RoBERTa"),
        ("config.json", {"model_type": "mpnet"}, r"is for 'mpnet'; expected BERT, DistilBERT or RoBERTa"),
    ],
)
def test_damaged_folders_and_other_architectures_are_rejected(folder, tmp_path, file, content, message):
    (folder / file).unlink(missing_ok=True)
    if content is not None:
        (folder / file).write_text(json.dumps(content))
    with pytest.raises(zoo.UsageError, match=message):
        export_published(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_weights_that_are_cut_short_are_rejected(folder, tmp_path):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(zoo.UsageError, match=r"model\.safetensors"):
        export_published(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_that_cannot_be_reproduced_is_rejected(folder, tmp_path):
    settings = {"tokenizer_class": "BertTokenizer", "never_split": ["lamp"]}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(zoo.UsageError, match=r"has the added token 'lamp'; expected only"):
        export_published(folder, tmp_path / "out")


def test_a_folder_without_modules_is_not_exported_without_training(plain, tmp_path):
    with pytest.raises(
        zoo.UsageError,
        match=r"has no classifier, and is no folder of sentence-transformers \(with modules\.json\)\. Pass",
    ):
        export_published(plain, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_arguments_that_an_encoder_cannot_use_are_rejected(folder, tmp_path):
    for given, message in (
        ({"labels": ["a", "b"]}, r"is a text encoder, which has no classes\. Leave the labels out\.$"),
        ({"golden": "test"}, r"^golden is 'test', but there is no data set\. Pass requests, or golden='generated'\.$"),
        ({"golden": ["a"], "examples": ["b"]}, r"^There are both examples and golden requests\. Pass one of them\.$"),
    ):
        with pytest.raises(zoo.UsageError, match=message):
            export_published(folder, tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()


# --- DistilBERT -------------------------------------------------------------------------------------------------------


def test_distilbert_equals_transformers(torch, tmp_path):
    """Hidden states, logits, loss and gradients, with pairs of texts and padding."""
    rng, folder = np.random.default_rng(0), tmp_path / "distilbert"
    mask = (np.arange(11) < np.array([[11], [7], [3]])).astype(np.int32)
    batch = {
        "token_ids": rng.integers(1, 50, (3, 11)).astype(np.int32),
        "token_type_ids": np.sort(rng.integers(0, 2, (3, 11)), axis=1).astype(np.int32),
        "padding_mask": mask,
    }
    labels = np.array([3, 0, 2])
    np.savez(tmp_path / "batch.npz", **batch, labels=labels)
    job = {"folder": folder, "vocab_size": 50, "batch": tmp_path / "batch.npz", "output": tmp_path / "told.npz"}
    torch("distilbert_classifier", **job)
    theirs = np.load(tmp_path / "told.npz")
    model = checkpoints.build(
        "bert", folder, classifier_activation=None, dropout=0.0, attention_dropout=0.0, classifier_dropout=0.0
    )
    hidden = keras.Model(model.inputs, [model.get_layer(f"block_{i}").output for i in (1, 2)])
    with tf.GradientTape() as tape:
        logits = model(batch, training=True)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
    pooler, words = model.get_layer("pooled"), model.get_layer("embeddings").words
    gradients = tape.gradient(loss, [pooler.kernel.value, words.embeddings.value])
    np.testing.assert_allclose(logits, theirs["logits"], atol=2e-5)
    np.testing.assert_allclose(loss, theirs["loss"], rtol=1e-5)
    for ours, number in zip(hidden(batch), (1, 2), strict=True):
        np.testing.assert_allclose(ours.numpy()[mask > 0], theirs[f"hidden/{number}"][mask > 0], atol=2e-5)
    np.testing.assert_allclose(gradients[0], theirs["gradient/pre_classifier.weight"].T, atol=2e-5)
    words_told = theirs["gradient/distilbert.embeddings.word_embeddings.weight"]
    np.testing.assert_allclose(tf.convert_to_tensor(gradients[1]), words_told, atol=2e-5)


def test_a_distilbert_needs_its_own_activation_of_the_pooler(torch, tmp_path):
    batch = {"token_ids": np.ones((1, 3), np.int32), "token_type_ids": np.zeros((1, 3), np.int32)}
    np.savez(tmp_path / "batch.npz", **batch, padding_mask=np.ones((1, 3), np.int32), labels=np.array([1]))
    job = {"batch": tmp_path / "batch.npz", "output": tmp_path / "told.npz"}
    torch("distilbert_classifier", folder=tmp_path / "distilbert", vocab_size=50, **job)
    with pytest.raises(
        zoo.UsageError, match=r"pooler_activation is 'tanh'; the checkpoint .* has 'relu'\. Pass pooler_act"
    ):
        checkpoints.build("bert", tmp_path / "distilbert", pooler_activation="tanh")


# --- A published encoder ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_published_encoder_equals_transformers_on_real_sentences(torch, tmp_path):
    """ZOO_SENTENCE_ENCODER is a folder such as all-MiniLM-L6-v2, and ZOO_FRA_ENG the original fra-eng.zip."""
    folder, archive = os.environ.get("ZOO_SENTENCE_ENCODER"), os.environ.get("ZOO_FRA_ENG")
    if not folder or not archive:
        pytest.skip("set ZOO_SENTENCE_ENCODER to a folder of sentence-transformers and ZOO_FRA_ENG to fra-eng.zip")
    lines = zipfile.ZipFile(archive).read("fra.txt").decode().split("\n")
    texts = [part for line in lines[::200] if "\t" in line for part in line.split("\t")[:2]][:1000]
    assert len(texts) == 1000
    modules = sentence_modules.read_modules(folder)
    torch("sentences", folder=folder, texts=texts, output=tmp_path / "told.npz", max_length=modules.max_length)
    theirs = np.load(tmp_path / "told.npz")[modules.pooling]
    theirs = theirs / np.linalg.norm(theirs, axis=1, keepdims=True) if modules.normalize else theirs
    largest = np.abs(vectors_of(folder, texts) - theirs).max()
    print(f"\n{len(texts):,} sentences, largest difference {largest:.1e}")
    assert largest < 1e-5
