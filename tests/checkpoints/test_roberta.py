"""RoBERTa folders against transformers: tokens, hidden states, logits, loss and gradients."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
import transformers

import zoo
from zoo import checkpoints
from zoo.checkpoints import bert_folder, byte_pair_files, roberta
from zoo.datasets.preprocessing.byte_level_text import ByteLevelPreprocessor
from zoo.datasets.preprocessing.byte_pair_learning import learn_byte_pairs

WORDS = {
    b" the": 9,
    b" then": 5,
    b" there": 4,
    b"the": 3,
    b" other": 3,
    "é".encode(): 2,
    "中文".encode(): 3,
    b"aaaa": 4,
}
POOL = [
    "a",
    "b",
    " ",
    "1",
    "\n",
    "é",
    "中",
    "😀",
    "  ",
    "'s",
    "the",
    " the",
    "there",
    "aaa",
    "\u00a0",
    "\u3000",
    "\x00",
]
SPECIALS = [*roberta.SPECIALS, "<|endoftext|>", "<", "mask>"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A classifier of random weights, whose tokens have numbers in an order of their own."""
    path = tmp_path_factory.mktemp("roberta")
    merges = byte_pair_files.as_merges(learn_byte_pairs(WORDS, 40))
    byte_pair_files.write(path, merges)
    tokens = [t for t in json.loads((path / "vocab.json").read_text()) if t != byte_pair_files.END_OF_TEXT]
    order = np.random.default_rng(5).permutation(len(tokens))
    names = ["<s>", "<pad>", "</s>", "<unk>", *(tokens[i] for i in order), "<mask>"]
    (path / "vocab.json").write_text(json.dumps({name: number for number, name in enumerate(names)}))
    (path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "RobertaTokenizer"}))
    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40}
    config = transformers.RobertaConfig(
        vocab_size=len(names), max_position_embeddings=26, type_vocab_size=1, layer_norm_eps=1e-5, num_labels=3, **sizes
    )
    model = transformers.RobertaForSequenceClassification(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    model.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def tokenizer(folder):
    return transformers.AutoTokenizer.from_pretrained(folder)


def texts(count, seed):
    random = np.random.default_rng(seed)
    pool = [*POOL * 3, *SPECIALS]
    return ["".join(random.choice(pool, random.integers(0, 14))) for _ in range(count)]


@pytest.mark.parametrize("has_pairs", [False, True])
def test_tokens_of_fuzzed_texts_equal_those_of_transformers(folder, tokenizer, has_pairs, tmp_path):
    if has_pairs:  # of tokenizer.json, with a mask that takes the white space before it, as in the published folders
        mask = transformers.AddedToken("<mask>", lstrip=True, normalized=False, special=True)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, mask_token=mask)
        tokenizer.save_pretrained(tmp_path)
        (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
        folder = tmp_path
        assert len(tokenizer("a <mask>")["input_ids"]) == 4 and (folder / "tokenizer.json").is_file()
    given = [texts(1500, seed) for seed in range(1 + has_pairs)]
    ours = ByteLevelPreprocessor(**checkpoints.find("bert", folder).preprocessing(), max_length=24, has_pairs=has_pairs)
    rebuilt = ByteLevelPreprocessor(**json.loads(json.dumps(ours.config())))
    found = rebuilt(*map(tf.constant, given))
    expected = tokenizer(*given, truncation="longest_first", max_length=24, padding=True, return_tensors="np")
    np.testing.assert_array_equal(found["token_ids"], expected["input_ids"])
    np.testing.assert_array_equal(found["padding_mask"], expected["attention_mask"])
    assert not found["token_type_ids"].numpy().any() and (found["padding_mask"].numpy().sum(axis=1) == 24).any()


@pytest.mark.parametrize("name", ["RobertaTokenizer", "PreTrainedTokenizerFast", None])
@pytest.mark.parametrize("configured", [True, False, None])
@pytest.mark.parametrize("written", [True, False])
def test_a_space_begins_texts_where_transformers_adds_one(folder, tokenizer, name, configured, written, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    content["pre_tokenizer"]["add_prefix_space"] = written
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    settings = {"tokenizer_class": name, "add_prefix_space": configured}
    settings = {key: value for key, value in settings.items() if value is not None}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    is_added = theirs("the")["input_ids"] == theirs(" the")["input_ids"]
    assert roberta.read_tokens(tmp_path).add_prefix_space == is_added


def test_states_loss_and_gradients_equal_those_of_transformers(folder, tokenizer):
    plain = [text.replace("<pad>", "") for text in texts(6, 7)]
    batch = tokenizer(plain, truncation=True, max_length=24, padding=True, return_tensors="pt")
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(folder, attn_implementation="eager").eval()
    told = theirs(**batch, labels=labels, output_hidden_states=True)
    told.loss.backward()

    model = checkpoints.build("bert", folder, dropout=0.0, attention_dropout=0.0, classifier_activation=None)
    assert model.count_params() == theirs.num_parameters() - 2 * 24, "two rows of positions are never read"
    states = [layer.output for layer in model.layers if layer.name == "embeddings" or layer.name.startswith("block_")]
    inner = keras.Model(model.inputs, [*states, model.output])
    ids, mask = (batch[name].numpy().astype("int32") for name in ("input_ids", "attention_mask"))
    with tf.GradientTape() as tape:
        *hidden, logits = inner({"token_ids": ids, "token_type_ids": np.zeros_like(ids), "padding_mask": mask})
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(labels.numpy(), logits)
    gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
    real = mask.astype(bool)
    assert len(hidden) == len(told.hidden_states)
    for ours, state in zip(hidden, told.hidden_states, strict=True):
        np.testing.assert_allclose(ours.numpy()[real], state.detach().numpy()[real], atol=5e-5)
    np.testing.assert_allclose(logits, told.logits.detach().numpy(), atol=5e-5)
    np.testing.assert_allclose(loss, told.loss.item(), atol=1e-5)

    by_path = {
        v.path: tf.convert_to_tensor(g).numpy() for v, g in zip(model.trainable_variables, gradients, strict=True)
    }
    named = {name: parameter.grad.numpy() for name, parameter in theirs.named_parameters()}
    wanted = roberta.as_bert_tensors(named, folder)
    places = bert_folder.model_places(model)
    assert {place.name for place in places} == set(wanted)
    for place in places:
        ours = place.cut(by_path[bert_folder._variable(model, place).path])
        np.testing.assert_allclose(ours, wanted[place.name], atol=5e-5, err_msg=place.name)


@pytest.mark.slow
def test_a_folder_is_fine_tuned_exported_and_verified(folder, tmp_path):
    result = zoo.run(
        "bert",
        "commands",
        model_arguments={"weights": str(folder)},
        config={"epochs": 1},
        run_directory=tmp_path / "run",
    )
    found = zoo.load(tmp_path / "run").predict(["turn the <mask> on", "naïve"])
    assert {row["class_name"] for row in found} <= {*zoo.datasets.load("commands").class_names}
    assert "verified" in str(result)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: (path / "merges.txt").unlink(), r"has neither tokenizer\.json nor vocab\.json with merges\.txt"),
        (
            lambda path: (path / "vocab.json").write_text('{"<s>": 0}'),
            r"has no number for the token '!'; expected every",
        ),
        (
            lambda path: (path / "merges.txt").write_text("a\n"),
            r"merges\.txt: pair 1 is 'a'; expected two parts\.|pair 1 is",
        ),
    ],
)
def test_damaged_tokenizers_are_rejected(folder, tmp_path, change, message):
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    change(tmp_path)
    with pytest.raises(zoo.UsageError, match=message):
        zoo.datasets.load("commands").prepare("bert", weights=str(tmp_path))


def test_a_folder_is_not_used_to_tag_words(folder):
    with pytest.raises(
        zoo.UsageError, match=r"cannot be used for tagging, only for text_classification, text_multilabel"
    ):
        zoo.datasets.load("tagged_commands").prepare("bert", weights=str(folder))
