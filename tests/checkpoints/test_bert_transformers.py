"""BERT compared with transformers in PyTorch: every hidden state, the loss, every gradient, and all folder formats.

PyTorch runs in a separate process: this Python if it has torch and transformers, otherwise ZOO_TORCH_PYTHON.
`pytest -s -k parity_table` prints the differences.
"""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from selection import slow
from torch_process import Torch, torch_process
from zoo import checkpoints
from zoo.checkpoints import bert_config, bert_folder, tensor_files, wordpiece_files
from zoo.checkpoints.bert_folder import save_folder
from zoo.datasets.preprocessing.tagging_wordpiece import TaggingWordPiecePreprocessor

# --- The PyTorch process ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def torch():
    yield from torch_process()


TINY = {
    "vocab_size": 300,
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 512,
    "num_labels": 2,
}
ODD = {
    "vocab_size": 61,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "max_position_embeddings": 37,
    "type_vocab_size": 3,
    "layer_norm_eps": 1e-5,
    "initializer_range": 0.3,
}
NAMED = {"id2label": {"0": "no", "1": "yes", "2": "why", "3": "who", "4": "when"}}
CASES = {
    "tiny": TINY,
    "odd, gelu": {**ODD, **NAMED},
    "odd, relu": {**ODD, "num_labels": 5, "hidden_act": "relu", "num_hidden_layers": 2},
    "odd, gelu_new": {**ODD, "num_labels": 5, "hidden_act": "gelu_new", "num_hidden_layers": 1},
    "odd, gelu_pytorch_tanh": {**ODD, "num_labels": 5, "hidden_act": "gelu_pytorch_tanh", "num_hidden_layers": 1},
}
BASE = {"vocab_size": 30_522, "num_labels": 2}


def write_batch(file: Path, config: dict, rows: int = 5, tokens: int = 21) -> dict[str, np.ndarray]:
    """Writes token ids of rows of unequal length, types and labels; the padding contains values other than 0."""
    rng = np.random.default_rng(3)
    lengths = np.linspace(tokens, 2, rows).astype(int)
    mask = (np.arange(tokens) < lengths[:, None]).astype(np.int32)
    ids = rng.integers(1, config["vocab_size"], (rows, tokens)).astype(np.int32)
    ids[:, -3:] *= mask[:, -3:]
    batch = {
        "token_ids": ids,
        "token_type_ids": np.sort(rng.integers(0, config.get("type_vocab_size", 2), (rows, tokens)), 1).astype(
            np.int32
        ),
        "padding_mask": mask,
        "labels": rng.integers(0, len(config.get("id2label", ())) or config["num_labels"], rows).astype(np.int32),
    }
    np.savez(file, **batch)
    return batch


def inputs_of(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: value for name, value in batch.items() if name != "labels"}


class Case:
    """A folder with random weights, and PyTorch's results for it."""

    def __init__(self, torch: Torch, place: Path, config: dict, **sizes) -> None:
        place.mkdir()
        self.folder = place / "model"
        self.batch = write_batch(place / "batch.npz", config, **sizes)
        torch("make", folder=self.folder, config=config)
        self.labels = torch("compute", folder=self.folder, batch=place / "batch.npz", output=place / "told.npz")[
            "labels"
        ]
        self.told = dict(np.load(place / "told.npz"))


class Cases(dict):
    """The cases by name, made when they are asked for."""

    def __init__(self, torch: Torch, place: Path) -> None:
        super().__init__()
        self.torch, self.place = torch, place

    def __missing__(self, name: str) -> Case:
        self[name] = Case(self.torch, self.place / name, CASES[name])
        return self[name]


@pytest.fixture(scope="module")
def made(torch, tmp_path_factory):
    return Cases(torch, tmp_path_factory.mktemp("bert"))


def differences(case: Case) -> dict[str, float]:
    """Returns the largest absolute difference of each kind; the gradients must have the same names on both sides."""
    model = checkpoints.build("bert", case.folder, dropout=0.0, attention_dropout=0.0, classifier_activation=None)
    states = [layer.output for layer in model.layers if layer.name == "embeddings" or layer.name.startswith("block_")]
    inner = keras.Model(model.inputs, [*states, model.get_layer("pooled").output, model.output])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    @tf.function
    def everything(inputs, labels):
        with tf.GradientTape() as tape:
            *found, pooled, logits = inner(inputs, training=True)  # uses the hand-written gradient of attention
            value = loss(labels, logits)
        variables = [v.value for v in model.trainable_variables]
        return found, pooled, logits, value, [tf.convert_to_tensor(g) for g in tape.gradient(value, variables)]

    hidden, pooled, logits, value, gradients = everything(inputs_of(case.batch), case.batch["labels"])
    by_variable = {v.path: g.numpy() for v, g in zip(model.trainable_variables, gradients, strict=True)}
    told = case.told
    places = bert_folder.model_places(model)
    assert {f"gradient/{p.name}" for p in places} == {name for name in told if name.startswith("gradient/")}
    assert len(hidden) == sum(name.startswith("hidden/") for name in told)
    assert len({bert_folder._variable(model, p).path for p in places}) == len(by_variable)
    ours = {p.name: p.cut(by_variable[bert_folder._variable(model, p).path]) for p in places}
    theirs = {p.name: told[f"gradient/{p.name}"] for p in places}
    largest = max(np.abs(gradient).max() for gradient in theirs.values())

    def off(ours, theirs) -> float:
        assert ours.shape == theirs.shape
        return float(np.abs(np.asarray(ours, np.float64) - theirs).max())

    return {
        "hidden states": max(off(state, told[f"hidden/{i}"]) for i, state in enumerate(hidden)),
        "pooled": off(pooled, told["pooled"]),
        "logits": off(logits, told["logits"]),
        "loss": off(value, told["loss"]),
        "gradients": max(off(ours[name], theirs[name]) for name in theirs),
        # Relative to each tensor's largest gradient if it exceeds rounding: the key's bias has a gradient of zero.
        "gradients, relative": max(
            off(ours[name], theirs[name]) / size
            for name in theirs
            if (size := np.abs(theirs[name]).max()) > 1e-4 * largest
        ),
    }


# Larger differences mean another formula; the table lists the measured differences.
REACHED = {
    "hidden states": 2e-5,
    "pooled": 1e-5,
    "logits": 1e-5,
    "loss": 1e-5,
    "gradients": 2e-5,
    "gradients, relative": 2e-5,
}


# The odd sizes include those of `tiny`; two names mean one activation.
@pytest.mark.parametrize("name", [slow(name) if name in ("tiny", "odd, gelu_pytorch_tanh") else name for name in CASES])
def test_every_state_and_gradient_equals_transformers(made, name):
    for what, off in differences(made[name]).items():
        assert off < REACHED[what], f"{what} are off by {off:.1e}"


@pytest.mark.slow
def test_base_equals_transformers_and_prints_the_parity_table(torch, made, tmp_path):
    """`pytest -s` prints the table."""
    cases = {**{name: made[name] for name in CASES}, "base": Case(torch, tmp_path / "base", BASE, rows=3, tokens=40)}
    found = {name: differences(case) for name, case in cases.items()}
    print("\n| largest difference | " + " | ".join(REACHED) + " |\n|---|" + "---|" * len(REACHED))
    for name, row in found.items():
        print(f"| {name} | " + " | ".join(f"{value:.1e}" for value in row.values()) + " |")
    assert max(max(row.values()) for row in found.values()) < 1e-4


def logits_of(model: keras.Model, batch: dict[str, np.ndarray]) -> np.ndarray:
    return np.asarray(model(inputs_of(batch), training=False))


# --- Folder formats ---------------------------------------------------------------------------------------------------

FORMS = {
    "float16": 3e-3,
    "bfloat16": 3e-2,
    "shards": 1e-6,
    "pickle": 1e-6,
    "old pickle": 1e-6,
    "bfloat16 pickle": 3e-2,
    "strided pickle": 1e-6,
    "old names": 1e-6,
    "shards of pickles": 1e-6,
}


def test_every_file_format_gives_the_same_weights(torch, made, tmp_path):
    case = made["odd, gelu"]
    whole, _ = tensor_files.read_tensors(case.folder)
    for form, off in FORMS.items():
        folder = tmp_path / form
        files = torch("convert", folder=case.folder, to=folder, form=form)["files"]
        assert any("safetensors" in file for file in files) == (form in ("float16", "bfloat16", "shards"))
        assert any("index" in file for file in files) == form.startswith("shards")
        arrays, file = tensor_files.read_tensors(folder)
        assert file.name in files
        found = {bert_folder._modern(name, arrays): a for name, a in arrays.items() if "position_ids" not in name}
        assert set(found) == set(whole)
        for name, array in found.items():
            assert array.dtype == np.float32
            np.testing.assert_allclose(array, whole[name], atol=off, err_msg=f"{form}: {name}")
            assert form not in ("float16", "bfloat16") or (array != whole[name]).any() or not array.std(), name
    model = checkpoints.build("bert", tmp_path / "strided pickle", classifier_activation=None)
    np.testing.assert_allclose(logits_of(model, case.batch), case.told["logits"], atol=1e-5)


@pytest.mark.parametrize("sort", ["BertModel", "BertForPreTraining", "BertForMaskedLM", "BertForTokenClassification"])
def test_an_encoder_is_loaded_under_another_head(torch, tmp_path, sort):
    """Without a pooler (masked words, tokens), the new pooler has random weights, and a warning reports it."""
    config = {**ODD, "num_labels": 4}
    write_batch(tmp_path / "batch.npz", config)
    names = torch("make", folder=tmp_path / "model", config=config, sort=sort)["names"]
    torch("body", folder=tmp_path / "model", batch=tmp_path / "batch.npz", output=tmp_path / "told.npz")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model = checkpoints.build("bert", tmp_path / "model", num_classes=4, tags_words=False)
    said = [str(w.message) for w in said if "model.safetensors" in str(w.message)]
    assert any("pooler.dense.weight" in text for text in said) == (not any("pooler" in name for name in names))
    for head in ("cls.predictions.bias", "classifier.weight"):
        assert any(head in text.split("not in the file")[0] for text in said) == (head in names)
    assert bool(said) == (sort != "BertModel")
    batch = inputs_of(dict(np.load(tmp_path / "batch.npz")))
    last = keras.Model(model.inputs, model.get_layer("first_token").input)(batch, training=False)
    np.testing.assert_allclose(last, np.load(tmp_path / "told.npz")["last"], atol=2e-5)
    if sort != "BertForTokenClassification":
        with pytest.raises(zoo.UsageError, match=r"has no classifier\. Pass num_classes for a new one"):
            checkpoints.build("bert", tmp_path / "model")


TAGS = ("B-LOC", "B-PER", "I-LOC", "I-PER", "O")
PIECES = (
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "ange",
    "##la",
    "visit",
    "##ed",
    "paris",
    ".",
    "'",
    "s",
    "new",
    "york",
)
SENTENCES = [["Angela", "visited", "Paris", "."], ["Angela's", "New", "York"], ["unknown"], ["Paris"] * 50]


def test_a_tagger_computes_what_transformers_does_and_is_written_back(torch, tmp_path):
    """The first subword token of every word has the word's tag; the classes are in the order of the data."""
    config = {**ODD, "vocab_size": len(PIECES), "id2label": dict(enumerate(TAGS))}
    torch("make", folder=tmp_path / "model", config=config, sort="BertForTokenClassification")
    wordpiece_files.write_pieces(PIECES, tmp_path / "model" / "vocab.txt")
    told = torch("tag", folder=tmp_path / "model", sentences=SENTENCES, output=tmp_path / "told.npz")
    preprocessor = TaggingWordPiecePreprocessor(PIECES, max_length=37)
    longest = max(map(len, SENTENCES))
    tokens = tf.constant([words + [""] * (longest - len(words)) for words in SENTENCES])
    inputs, _, weights = preprocessor.encode({"tokens": tokens, "tags": tf.zeros(tokens.shape, tf.int64)})
    assert [row[row > 0].tolist() for row in inputs["word_positions"].numpy()] == told["firsts"]
    assert weights["tags"].numpy().sum(axis=1).tolist() == [4, 3, 1, 35], "the words beyond max_length have no weight"
    model = checkpoints.build("bert", tmp_path / "model")
    ours, theirs = model.predict(inputs, verbose=0), np.load(tmp_path / "told.npz")
    for row, firsts in enumerate(told["firsts"]):
        np.testing.assert_allclose(ours[row, : len(firsts)], theirs[str(row)], atol=1e-5)

    head = bert_config.read_classifier(tmp_path / "model")
    assert head.labels == TAGS and head.builder == {"tags_words": True} and not head.several
    save_folder(model, tmp_path / "again", vocabulary=PIECES, labels=TAGS)
    told_again = torch("tag", folder=tmp_path / "again", sentences=SENTENCES, output=tmp_path / "again.npz")
    assert told_again == told
    np.testing.assert_allclose(np.load(tmp_path / "again.npz")["0"], theirs["0"], atol=1e-6)
    with pytest.raises(
        zoo.UsageError, match=r"token_classification: one tag per word; expected one label per text. Pass a"
    ):
        zoo.build("bert", num_classes=5, weights=str(tmp_path / "model"), load_classifier=True, **sizes_of(tmp_path))


def sizes_of(path):
    found = bert_config.read_config(path / "model")
    return {name: found[name] for name in found if name != "classifier_dropout"}


def test_a_folder_of_a_tagger_brings_its_tags_to_data_with_the_same_tags(torch, tmp_path):
    config = {**ODD, "vocab_size": len(PIECES), "id2label": dict(enumerate(reversed(TAGS)))}
    torch("make", folder=tmp_path / "model", config=config, sort="BertForTokenClassification")
    wordpiece_files.write_pieces(PIECES, tmp_path / "model" / "vocab.txt")
    words = [[f"Paris{number}", "visited", "New", "York", "Angela"] for number in range(40)]
    tags = [["B-LOC", "O", "B-LOC", "I-LOC", "B-PER"] if number % 2 else ["I-PER"] * 5 for number in range(40)]
    prepared = zoo.datasets.load((words, tags)).prepare("bert", weights=str(tmp_path / "model"))
    assert prepared.arguments["load_classifier"] and prepared.arguments["labels"] == list(TAGS)
    assert prepared.arguments["tags_words"] and prepared.preprocessor.kind == "tagging_wordpiece"
    ours, theirs = prepared.build(), checkpoints.build("bert", tmp_path / "model")
    inputs = prepared.some_inputs()
    np.testing.assert_allclose(ours(inputs), np.asarray(theirs(inputs))[..., ::-1], atol=1e-6)


def test_transformers_loads_saved_folders(torch, tmp_path):
    keras.utils.set_random_seed(1)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "world", "##s", "!"]
    sizes = {"hidden_size": 12, "num_heads": 3, "num_layers": 2, "intermediate_size": 20, "max_length": 30}
    model = zoo.build("bert", vocab_size=9, num_classes=3, activation="gelu_tanh", classifier_activation=None, **sizes)
    for weight in model.weights:
        weight.assign_add(np.random.default_rng(5).normal(size=weight.shape) * 0.3)
    labels = ["a", "b", "é"]
    folder = save_folder(
        model, tmp_path / "new" / "ours", vocabulary=words, labels=labels, tokenizer={"do_lower_case": False}
    )
    assert sorted(os.listdir(folder)) == ["config.json", "model.safetensors", "tokenizer_config.json", "vocab.txt"]
    assert os.listdir(tmp_path / "new") == ["ours"]
    batch = write_batch(tmp_path / "batch.npz", {"vocab_size": 9, "num_labels": 3})
    told = torch("compute", folder=folder, batch=tmp_path / "batch.npz", output=tmp_path / "told.npz")
    assert told["labels"] == labels and bert_config.read_classifier(folder).labels == tuple(labels)
    theirs = np.load(tmp_path / "told.npz")["logits"]
    np.testing.assert_allclose(logits_of(model, batch), theirs, atol=1e-5)
    again = checkpoints.build("bert", folder, classifier_activation=None)
    for ours, read in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(ours, read)
    answer = torch("tokenize", folder=folder, texts=["hello worlds!", "Hello"])
    assert answer == {"ids": [[2, 5, 6, 7, 8, 3], [2, 1, 3]], "longest": 30}


@pytest.mark.slow
def test_a_second_format_requires_one_file_and_a_name_on_the_spec(torch, two_formats, pieces, tmp_path):
    """Loads sizes, vocabulary and weights of an ELECTRA folder; the features equal the vectors of `transformers`."""
    texts = ["turn the radio on", "lamp"]
    folder = tmp_path / "electra"
    folder.mkdir()
    wordpiece_files.write_pieces(pieces, folder / "vocab.txt")
    probe = zoo.datasets.load("commands").prepare("bert", vocabulary=str(folder / "vocab.txt")).preprocessor
    ids = probe(tf.constant(texts))["token_ids"].numpy()
    torch("electra", folder=folder, vocab_size=len(pieces), ids=ids.tolist())

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


# --- Several labels, and values ---------------------------------------------------------------------------------------


def write_targets(file: Path, targets: np.ndarray) -> dict[str, np.ndarray]:
    """Writes a batch whose labels are these targets, a row for each of its texts."""
    batch = write_batch(file, {**ODD, **NAMED}, rows=len(targets))
    np.savez(file, **{**batch, "labels": targets})
    return inputs_of(batch)


def test_a_folder_with_several_labels_equals_transformers(torch, tmp_path):
    several = {**ODD, **NAMED, "problem_type": "multi_label_classification"}
    flags = np.random.default_rng(0).integers(0, 2, (4, 5)).astype(np.float32)
    inputs = write_targets(tmp_path / "batch.npz", flags)
    torch("make", folder=tmp_path / "model", config=several)
    torch("compute", folder=tmp_path / "model", batch=tmp_path / "batch.npz", output=tmp_path / "told.npz")
    told = dict(np.load(tmp_path / "told.npz"))
    model = checkpoints.build("bert", tmp_path / "model")
    ours = model(inputs, training=False).numpy()
    np.testing.assert_allclose(ours, 1 / (1 + np.exp(-told["logits"])), atol=1e-5)
    (term,) = zoo.tasks.get_task("text_multilabel").objective.loss
    losses = term.loss("probabilities", 0.0)(flags, ours)
    assert losses.shape == (4,) and float(np.mean(losses)) == pytest.approx(float(told["loss"]), rel=1e-4)
    save_folder(model, tmp_path / "again", labels=list("abcde"))
    config = json.loads((tmp_path / "again" / "config.json").read_text())
    assert config["problem_type"] == "multi_label_classification"
    torch("compute", folder=tmp_path / "again", batch=tmp_path / "batch.npz", output=tmp_path / "told.npz")
    np.testing.assert_allclose(dict(np.load(tmp_path / "told.npz"))["logits"], told["logits"], atol=1e-5)


@pytest.mark.slow
def test_a_saved_regression_predicts_in_its_own_unit_in_transformers(torch, tmp_path):
    sizes = {"hidden_size": 24, "num_layers": 1, "num_heads": 3, "intermediate_size": 40, "type_vocab_size": 3}
    model = zoo.build("bert", vocab_size=61, num_classes=2, max_length=37, classifier_activation="linear", **sizes)
    inputs = write_targets(tmp_path / "batch.npz", np.zeros((3, 2), np.float32))
    config = {"vocabulary": [f"w{n}" for n in range(61)], "lower_case": True, "strip_accents": None}
    targets = {"name": "value", "value_names": ["price", "area"], "mean": [100.0, -3.0], "deviation": [20.0, 0.5]}
    save = checkpoints.writer("bert")
    save(model, tmp_path / "model", {**config, "split_chinese": True, "targets": targets}, None)
    found = json.loads((tmp_path / "model" / "config.json").read_text())
    assert (found["problem_type"], found["id2label"]) == ("regression", {"0": "price", "1": "area"})
    torch("compute", folder=tmp_path / "model", batch=tmp_path / "batch.npz", output=tmp_path / "told.npz")
    expected = model(inputs, training=False).numpy() * [20, 0.5] + [100, -3]
    np.testing.assert_allclose(dict(np.load(tmp_path / "told.npz"))["logits"], expected, rtol=1e-5, atol=1e-4)
    with pytest.raises(zoo.UsageError, match=r"predicts logarithms, which the format does not know\. Train it without"):
        save(model, tmp_path / "other", {**config, "split_chinese": True, "targets": {**targets, "log": True}}, None)
