"""Text from raw sentences to labels: the tokenizer against Python, the layers against NumPy, and the SavedModel."""

from __future__ import annotations

import collections
import json
import unicodedata

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from numpy_layers import numpy_encoder_block, numpy_positions
from zoo import tasks
from zoo.config import read_yaml
from zoo.datasets.preprocessing.text import TextPreprocessor
from zoo.datasets.preprocessing.tokenizers import words
from zoo.layers import sequences
from zoo.layers.attention import TransformerBlock

TEXT_MODELS = zoo.list_models(task="text_classification", variants=False)

AWKWARD = [
    "It's 5 o'clock!",
    "",
    "   \t\n ",
    "Äpfel, ÖL und STRASSE",
    "no\u00a0break\u2003em\u3000wide\u200bzero",
    "😀😀 smile 👩‍👩‍👧",
    "价格是 $5.00 吗？",
    "control\x00\x07characters",
    "a-b_c/d\\e",
    "x" * 10_000,
    "word " * 10_000,
]


def full_width(character: str) -> str:
    return unicodedata.normalize("NFKC", character) if "\uff01" <= character <= "\uff5e" else character


def python_words(text: str) -> list[str]:
    """Applies the same rules with Python's own Unicode tables."""
    text = unicodedata.normalize("NFC", "".join(full_width(c) for c in text))
    separated = "".join(
        f" {c} " if unicodedata.category(c)[0] in "PS" else " " if unicodedata.category(c)[0] in "ZC" else c
        for c in "".join(c.lower() if len(c.lower()) == 1 else c for c in text)
    )
    return separated.split()


@pytest.mark.parametrize("text", AWKWARD)
def test_words_equal_those_of_python(text):
    (found,) = words(tf.constant([text])).to_list()
    assert [w.decode() for w in found] == python_words(text)


def test_words_of_the_embedded_texts_equal_those_of_python():
    for example in zoo.datasets.load("commands").train.as_numpy_iterator():
        text = example["text"].decode()
        assert [w.decode() for w in words(tf.constant([text])).to_list()[0]] == python_words(text)


def test_ids_follow_the_vocabulary():
    preprocess = TextPreprocessor(("hello", "!", "world"), max_length=4)
    ids = preprocess(tf.constant(["Hello, world!", "", "hello " * 9, "!", b"\xff\xfe"])).numpy()
    assert ids.tolist() == [[2, 1, 4, 3], [1, 0, 0, 0], [2, 2, 2, 2], [3, 0, 0, 0], [1, 1, 0, 0]]
    assert ids.dtype == np.int32


def test_invalid_text_batches_are_rejected():
    with pytest.raises(zoo.UsageError, match=r"A text batch is int32 of shape \(1,\); expected string \(batch,\)"):
        TextPreprocessor((), 4)(tf.constant([3]))
    with pytest.raises(zoo.UsageError, match=r"expected string \(batch,\). Pass a list"):
        TextPreprocessor((), 4)(tf.constant("alone"))


def test_vocabulary_lists_training_words_by_frequency():
    data = zoo.datasets.load("commands")
    prepared = data.prepare("embedding_lstm")
    counts = collections.Counter(w for e in data.train.as_numpy_iterator() for w in python_words(e["text"].decode()))
    expected = sorted((w for w, n in counts.items() if n >= 2), key=lambda w: (-counts[w], w.encode()))
    assert list(prepared.preprocessor.vocabulary) == expected
    assert prepared.arguments["vocab_size"] == len(expected) + 2
    few = data.prepare("embedding_lstm", vocab_size=10)
    assert few.preprocessor.vocabulary == tuple(expected[:8]) and few.arguments["vocab_size"] == 10
    with pytest.raises(zoo.UsageError, match=r"vocab_size is 1; expected a whole number of at least 3"):
        data.prepare("embedding_lstm", vocab_size=1)


def test_batches_are_trimmed_to_their_longest_text():
    prepared = zoo.datasets.load("commands").prepare("embedding_lstm")
    for ids, _ in prepared.keras_batches("train", 16, seed=0):
        lengths = np.count_nonzero(ids.numpy(), axis=1)
        assert ids.shape[1] == lengths.max() and lengths.min() >= 1


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name == "bert")) for name in TEXT_MODELS]
)
def test_padding_does_not_change_the_output(name):
    keras.utils.set_random_seed(0)
    prepared = zoo.datasets.load("commands").prepare(name)
    model = prepared.build()
    texts = ["switch on the lamp", "no", "why does the garage next to the stairs never work?", ""]

    def answer(given):
        (found,) = tasks.call_model(model, prepared.preprocessor.serve({"text": tf.constant(given)})[0]).values()
        return found.numpy()

    together = answer(texts)
    for text, row in zip(texts, together, strict=True):
        np.testing.assert_allclose(answer([text])[0], row, atol=1e-6)


def test_positions_equal_the_formula():
    inputs = np.random.default_rng(0).normal(size=(2, 7, 6)).astype(np.float32)
    outputs = sequences.PositionalEncoding(max_length=9)(inputs).numpy()
    np.testing.assert_allclose(outputs, inputs + numpy_positions(7, 6), atol=1e-6)
    with pytest.raises(zoo.UsageError, match=r"10 steps is longer than max_length=9"):
        sequences.PositionalEncoding(max_length=9)(np.zeros((1, 10, 6), np.float32))


def test_encoder_block_equals_numpy():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 5, 8))
    mask = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 0, 0, 0, 0]], bool)
    block = TransformerBlock(num_heads=2, feed_forward_dim=11, kernels="per_head")
    block.build(x.shape)
    for weight in block.weights:
        weight.assign(rng.normal(size=weight.shape))
    outputs = block(x.astype(np.float32), mask=tf.constant(mask), training=False).numpy()
    np.testing.assert_allclose(outputs[mask], numpy_encoder_block(x, mask, block)[mask], atol=1e-4)
    with pytest.raises(zoo.UsageError, match=r"channels=9 is not divisible by num_heads=2"):
        TransformerBlock(2, 3).build((None, None, 9))
    with pytest.raises(zoo.UsageError, match=r"embedding_dim=9 is not divisible by num_heads=2"):
        zoo.build_transformer_model(vocab_size=10, num_classes=3, embedding_dim=9, num_heads=2)


def test_masked_mean_equals_numpy():
    x = np.random.default_rng(0).normal(size=(2, 4, 3)).astype(np.float32)
    mask = np.array([[1, 1, 1, 0], [0, 0, 0, 0]], bool)
    outputs = sequences.MaskedMean()(x, mask=tf.constant(mask)).numpy()
    np.testing.assert_allclose(outputs, [x[0, :3].mean(0), np.zeros(3)], atol=1e-6)
    np.testing.assert_allclose(sequences.MaskedMean()(x).numpy(), x.mean(1), atol=1e-6)


def test_transformer_parameter_count_equals_the_formula():
    vocab, dim, inner, blocks, classes = 50, 12, 20, 3, 4
    model = zoo.build_transformer_model(
        vocab_size=vocab, num_classes=classes, embedding_dim=dim, num_heads=3, feed_forward_dim=inner, num_layers=blocks
    )
    block = 4 * (dim * dim + dim) + (dim * inner + inner) + (inner * dim + dim) + 4 * dim
    assert model.count_params() == vocab * dim + blocks * block + dim * classes + classes


# test_tasks.py covers every model from raw texts to a SavedModel; this section examines one model in detail.
# BERT has tests of its own, and takes an hour at its full size.
EACH = [pytest.param(name, marks=pytest.mark.slow) for name in TEXT_MODELS if name != "bert"]


@pytest.fixture(scope="module", params=EACH)
def run(request, tmp_path_factory):
    small = {"embedding_lstm": {"embedding_dim": 16, "lstm_units": 16}, "transformer": {"embedding_dim": 16}}
    arguments = small.get(request.param, {})
    config = zoo.TrainConfig(epochs=12, learning_rate=0.01, batch_size=32)
    directory = tmp_path_factory.mktemp("text") / "run"
    return zoo.run(
        request.param, "commands", model_arguments=arguments, config=config, run_directory=directory, verbose=0
    )


def test_raw_texts_become_a_verified_savedmodel(run):
    """A perfect score is possible on this grammar; a quarter would be correct by chance."""
    assert run.report["accuracy"] > 0.95 > 0.5 > run.report["baseline"]["accuracy"]
    assert run.verification.passed
    signatures = json.loads((run.saved_model / "assets.extra" / "zoo.json").read_text())["signatures"]
    text = {"dtype": "string", "shape": [None], "kind": "text", "description": "UTF-8"}
    assert signatures["serving_default"]["inputs"] == {"text": text}
    numbers = {"dtype": "int32", "shape": [None, None], "kind": "number"}
    numbers["description"] = "line numbers of `assets/vocabulary.txt`, from 0; 0 is padding, 1 an unknown word"
    assert signatures["predict"]["inputs"] == {"token_ids": numbers}
    lines = (run.saved_model / "assets" / "vocabulary.txt").read_text(encoding="utf-8").splitlines()
    assert lines[:2] == ["[PAD]", "[UNK]"] and len(lines) == len(set(lines)) > 40
    card = (run.run_directory / "README.md").read_text()
    assert 'print(ask("serving_default", text=tf.constant(["' in card
    assert (
        "](saved_model/1/assets.extra/confusion_matrix.png)" in card
        and "](saved_model/1/assets.extra/curves.png)" in card
    )


STRANGER = """
import sys
for name in ("keras", "zoo"):
    sys.modules[name] = None
import json
import tensorflow as tf
served = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
texts = [t.encode("utf-8", "surrogateescape") for t in json.loads(sys.argv[2])]
together = served(text=tf.constant(texts))
for i, text in enumerate(texts):
    alone = served(text=tf.constant([text]))
    assert float(tf.reduce_max(tf.abs(alone["probabilities"][0] - together["probabilities"][i]))) < 1e-6
print(json.dumps([name.decode() for name in together["class_name"].numpy()]))
"""


def test_the_savedmodel_labels_any_text_without_this_package(run, run_python):
    texts = ["TURN the oven ON", "is the oven on?", *AWKWARD[:9], "\udcff\udcfe not UTF-8"]
    answers = json.loads(
        run_python(STRANGER, run.saved_model, json.dumps(texts), kind="tensorflow").stdout.splitlines()[-1]
    )
    assert answers[:2] == ["switch on", "ask"] and len(answers) == len(texts)


@pytest.mark.slow
def test_a_run_is_evaluated_and_exported_in_another_process(run, run_python, tmp_path):
    again = """
    import sys
    from zoo.scripts import cli
    assert cli.main(["evaluate", sys.argv[1], "--split", "validation"]) == 0
    assert cli.main(["export", sys.argv[1], sys.argv[2]]) == 0
    """
    shown = run_python(again, run.run_directory, tmp_path / "exports", kind="zoo").stdout
    assert "measured on        100 examples" in shown and "verified" in shown


def test_recorded_settings_omit_values_that_the_data_determines(run, tmp_path):
    settings = read_yaml(run.run_directory / "config.yaml")["model"]
    assert settings.get("vocab_size") is None and "num_classes" not in settings


def test_predict_labels_texts(run):
    served = zoo.export.load(run.run_directory)
    answers = served.predict(["switch off the fan", "switch on the fan"])
    assert [a["class_name"] for a in answers] == ["switch off", "switch on"]


def test_sms_spam_is_read_from_its_original_file(tmp_path):
    """The file has the original format: each message occurs once as a line, and no text is in two splits."""
    original = tmp_path / "original"
    original.mkdir()
    lines = [f"{'spam' if i % 3 == 0 else 'ham'}\tmessage number {i // 2} \u00e9" for i in range(400)]
    (original / "SMSSpamCollection").write_text("\n".join(lines) + "\n", encoding="utf-8")
    data = zoo.datasets.load("sms_spam", data_dir=str(tmp_path / "data"), manual_dir=str(original))
    assert data.class_names == ("ham", "spam") and data.task == "text_classification"
    splits = {name: list(getattr(data, name).as_numpy_iterator()) for name in ("train", "validation", "test")}
    texts = {name: {e["text"] for e in examples} for name, examples in splits.items()}
    assert not texts["train"] & texts["test"] and not texts["train"] & texts["validation"]
    found = sorted((data.class_names[e["label"]], e["text"].decode()) for part in splits.values() for e in part)
    assert found == sorted(tuple(line.split("\t")) for line in lines)
    assert len(splits["train"]) > 280 and min(map(len, splits.values())) > 15


def test_message_names_the_missing_file_of_sms_spam(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "other.txt").write_text("")
    with pytest.raises(zoo.UsageError, match=r"must download yourself: .*SMSSpamCollection.*--data.manual_dir FOLDER"):
        zoo.datasets.load("sms_spam", data_dir=str(tmp_path / "data"), manual_dir=str(tmp_path / "empty"))
    with pytest.raises(zoo.UsageError, match=r"SMSSpamCollection.*--data.manual_dir FOLDER"):
        zoo.datasets.load("sms_spam", data_dir=str(tmp_path / "data"))
