"""Masked language modelling: the masked tokens, the model compared with transformers, corpora, and served outputs."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import math
import os
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from zoo import tasks
from zoo.checkpoints import bert_config, bert_folder
from zoo.checkpoints.wordpiece_files import read_vocabulary
from zoo.datasets.preprocessing.masking import MaskedTextPreprocessor
from zoo.evaluation.language import masked_language_report
from zoo.hashes import scrambled
from zoo.scripts import cli

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = tuple(f"w{i}" for i in range(95))
BLANK, CLS = SPECIAL.index("[MASK]"), SPECIAL.index("[CLS]")


@pytest.fixture(scope="module")
def preprocessor():
    return MaskedTextPreprocessor((*SPECIAL, *WORDS), 64)


def some_texts(count, least=0, most=60, seed=0):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(least, most + 1, count)
    return tf.constant([" ".join(rng.choice(WORDS, n)) for n in lengths], tf.string)


def arrays(batch):
    inputs, targets, weights = batch
    found = {k: v.numpy() for k, v in inputs.items()}
    return {**found, "targets": targets["pieces"].numpy(), "weights": weights["pieces"].numpy()}


# --- Masked tokens ----------------------------------------------------------------------------------------------------


def test_masking_follows_the_rates_of_the_paper(preprocessor):
    texts = some_texts(3000)
    true = preprocessor(texts)
    words = true["padding_mask"].numpy().sum(1) - 2
    found = arrays(preprocessor.encode({"text": texts}))
    real = found["weights"] > 0
    expected = [max(1, round(0.15 * n)) if n else 0 for n in words.tolist()]  # Python also rounds halves to even
    assert real.sum(1).tolist() == expected
    rows, places = np.nonzero(real)[0], found["positions"][real]
    assert len(set(zip(rows.tolist(), places.tolist(), strict=True))) == len(rows), "a piece is asked for twice"
    ids = true["token_ids"].numpy()
    np.testing.assert_array_equal(found["targets"][real], ids[rows, places])
    assert found["targets"][real].min() >= len(SPECIAL), "a special token is asked for"
    untouched = np.ones(ids.shape, bool)
    untouched[rows, places] = False
    np.testing.assert_array_equal(found["token_ids"][untouched], ids[untouched])
    shown = found["token_ids"][rows, places]
    n, kept, other = len(shown), shown == ids[rows, places], (shown != BLANK) & (shown != ids[rows, places])
    assert n > 10_000
    for share, expected_share in (((shown == BLANK).mean(), 0.8), (other.mean(), 0.1 * 94 / 95), (kept.mean(), 0.105)):
        assert abs(share - expected_share) < 4 * math.sqrt(0.25 / n), (share, expected_share)
    counts = np.bincount(shown[other], minlength=100)
    assert not counts[: len(SPECIAL)].any() and counts[len(SPECIAL) :].all(), "other pieces are any but special ones"
    # All positions of a text are equally likely.
    long = words == 60
    hits = np.bincount(found["positions"][long][real[long]], minlength=62)[1:61]
    assert abs(hits - hits.mean()).max() < 5 * math.sqrt(hits.mean())
    assert (found["positions"][~real] == 0).all() and (found["targets"][~real] == CLS).all()


def test_masks_depend_only_on_the_text(preprocessor):
    texts = some_texts(40, least=1, most=30)
    together = arrays(preprocessor.encode({"text": texts}))
    again = arrays(preprocessor.encode({"text": texts[::-1]}))
    for name, value in together.items():
        np.testing.assert_array_equal(value, again[name][::-1], err_msg=name)
    for row in range(5):
        alone = arrays(preprocessor.encode({"text": texts[row : row + 1]}))
        width, blanks = alone["token_ids"].shape[1], alone["positions"].shape[1]
        np.testing.assert_array_equal(together["token_ids"][row, :width], alone["token_ids"][0])
        np.testing.assert_array_equal(together["positions"][row, :blanks], alone["positions"][0])


def test_texts_without_known_words_have_no_masks(preprocessor):
    found = arrays(preprocessor.encode({"text": tf.constant(["", "  ", "unheard [MASK] [SEP]"])}))
    assert not found["weights"].any() and found["positions"].tolist() == [[0], [0], [0]]
    inputs = {name: found[name] for name in ("token_ids", "token_type_ids", "padding_mask", "positions")}
    model = zoo.build("bert_mlm", **{**zoo.get_spec("bert_mlm").tiny, "vocab_size": 100})
    assert np.isfinite(model(inputs)).all()


def test_scrambled_numbers_are_statistically_random():
    numbers = scrambled(tf.cast(tf.range(2**16), tf.uint32)).numpy()
    assert len(set(numbers.tolist())) == 2**16
    bits = (numbers[:, np.newaxis] >> np.arange(32, dtype=np.uint32)) & 1
    assert np.abs(bits.mean(0) - 0.5).max() < 5 * 0.5 / 2**8
    assert np.abs(np.corrcoef(bits.T) - np.eye(32)).max() < 5 / 2**8


def test_a_vocabulary_without_mask_token_is_rejected():
    with pytest.raises(zoo.UsageError, match=r"The vocabulary has no \[MASK\] token\. Pass the"):
        MaskedTextPreprocessor((*SPECIAL[:4], "a"), 8)
    with pytest.raises(zoo.UsageError, match=r"has special tokens only\. Pass one with subword tokens"):
        MaskedTextPreprocessor(SPECIAL, 8)


# --- Epochs -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prepared():
    return zoo.datasets.load("command_lines").prepare("bert_mlm")


def epoch(prepared, seed=1, number=0, start=0, **options):
    return [arrays(b) for b in prepared.batches("train", 50, seed=seed, epoch=number, start=start, **options)]


def same(one, other):
    return len(one) == len(other) and all(
        a[k].shape == b[k].shape and (a[k] == b[k]).all() for a, b in zip(one, other, strict=True) for k in a
    )


@pytest.mark.slow  # as below, and streams resume as those of other preprocessors
def test_streamed_epochs_have_new_masks_and_resume_reproducibly(prepared):
    streamed = dataclasses.replace(prepared, data=dataclasses.replace(prepared.data, memory_limit=1))
    first = epoch(streamed)
    assert same(first[4:], epoch(streamed, start=4)) and not same(first, epoch(streamed, number=1))


def test_every_epoch_has_new_masks_and_resumes_reproducibly(prepared):
    first, second = epoch(prepared), epoch(prepared, number=1)
    assert same(first[4:], epoch(prepared, start=4)) and not same(first, second)
    assert not same(first, epoch(prepared, seed=2))
    asked = {}  # maps each text to all tokens masked in it
    for number in (first, second):
        for batch in number:
            inputs = {k: tf.constant(batch[k]) for k in ("token_ids", "token_type_ids", "padding_mask", "positions")}
            texts = prepared.preprocessor.restore(inputs, {"pieces": tf.constant(batch["targets"])})[
                "token_ids"
            ].numpy()
            for text, places in zip(texts, batch["positions"], strict=True):
                asked.setdefault(tuple(text[text != 0].tolist()), []).append(places[0])
    assert len(asked) == 720 and all(len(found) == 2 for found in asked.values())
    assert np.mean([len(set(found)) > 1 for found in asked.values()]) > 0.7


def test_training_rows_are_not_resident_on_the_device(prepared):
    assert prepared.resident("train") is None and prepared.resident("validation") is not None
    plain = zoo.datasets.load("commands").prepare("bert_tiny", vocab_size=100)
    assert plain.resident("train") is not None


def test_evaluation_always_uses_the_same_masks(prepared):
    one, other = ([arrays(b) for b in prepared.batches("validation", size)] for size in (100, 7))
    flat = [{k: v[i] for k, v in b.items()} for b in other for i in range(len(b["targets"]))]
    for row, small in enumerate(flat):
        for key in ("positions", "targets", "weights", "token_ids"):
            width = len(small[key])
            np.testing.assert_array_equal(one[0][key][row, :width], small[key])


@pytest.mark.slow
def test_a_killed_run_resumes_bit_for_bit(prepared, tmp_path):
    """Trains two epochs at once, and two epochs with an interruption within the second."""

    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if self.model.stop_after == (self.epoch, batch):
                raise KeyboardInterrupt

        def on_epoch_begin(self, epoch, logs=None):
            self.epoch = epoch

    config = zoo.TrainConfig(epochs=2, batch_size=50, checkpoint_steps=2, steps_per_call=1)
    whole = prepared.build(seed=0)
    zoo.train(whole, prepared, config, run_directory=tmp_path / "whole", verbose=0)
    killed = prepared.build(seed=0)
    killed.stop_after = (1, 6)
    with pytest.raises(KeyboardInterrupt):
        zoo.train(killed, prepared, config, run_directory=tmp_path / "killed", verbose=0, callbacks=[Stop()])
    again = prepared.build(seed=5)
    result = zoo.train(again, prepared, config, run_directory=tmp_path / "killed", verbose=0)
    assert result.resumed_at is not None and result.resumed_at[0] == 1
    for a, b in zip(whole.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


# --- Loss and report --------------------------------------------------------------------------------------------------


def test_loss_equals_numpy(prepared):
    model = prepared.build(seed=0)
    inputs, targets, weights = next(iter(prepared.keras_batches("validation", 30)))
    probabilities = model(inputs).numpy().astype(np.float64)
    rows, places = np.nonzero(weights.numpy())
    expected = -np.log(probabilities[rows, places, targets.numpy()[rows, places]]).mean()
    (term,) = tasks.get_task("masked_language_modelling").objective.loss
    losses = term.loss("probabilities", 0.0)(targets, model(inputs)) * weights
    assert float(tf.reduce_sum(losses) / tf.reduce_sum(weights)) == pytest.approx(expected, rel=1e-5)
    report = zoo.evaluate(model, prepared, split="validation", batch_size=30)
    everything = [(model(i).numpy(), t.numpy(), w.numpy() > 0) for i, t, w in prepared.keras_batches("validation", 30)]
    chances = np.concatenate([np.take_along_axis(p, t[..., None], -1)[..., 0][w] for p, t, w in everything])
    right = np.concatenate([(p.argmax(-1) == t)[w] for p, t, w in everything])
    assert report["loss"] == pytest.approx(-np.log(chances).mean(), rel=1e-5)
    assert report["perplexity"] == pytest.approx(math.exp(report["loss"]))
    assert report["accuracy"] == pytest.approx(right.mean()) and report["num_pieces"] == len(right)
    counts = np.zeros(len(prepared.preprocessor.vocabulary), int)
    texts = [example["text"] for example in prepared.data.train.as_numpy_iterator()]
    ids = prepared.preprocessor(tf.constant(texts))["token_ids"].numpy()
    counts += np.bincount(ids[ids >= len(SPECIAL)], minlength=len(counts))
    asked = np.concatenate([t[w] for _, t, w in everything])
    shares = (counts + 1) / (counts.sum() + len(counts))
    assert report["baseline"]["loss"] == pytest.approx(-np.log(shares[asked]).mean(), rel=1e-9)
    assert report["baseline"]["accuracy"] == pytest.approx((asked == counts.argmax()).mean())
    assert "masks (by frequency: perplexity" in zoo.evaluation.summarize(report)
    (metric,) = tasks.get_task("masked_language_modelling").objective.metrics[0].metrics()
    for size in (7, 30):  # batches with different numbers of masks
        metric.reset_state()
        for inputs, targets, weights in prepared.keras_batches("validation", size):
            metric.update_state(targets, model(inputs), sample_weight=weights)
        assert float(metric.result()) == pytest.approx(right.mean(), rel=1e-5)


def test_empty_and_unequal_arrays_are_rejected():
    none = np.zeros(0)
    with pytest.raises(zoo.UsageError, match=r"no token that can be masked\. Pass texts with words"):
        masked_language_report(none, none, none, train_counts=np.ones(3))
    with pytest.raises(zoo.UsageError, match=r"1 targets, 0 probabilities and 0 predictions; .* Pass arrays"):
        masked_language_report(np.zeros(1, int), none, none, train_counts=np.ones(3))


# --- Lines and corpora ------------------------------------------------------------------------------------------------


def test_lines_are_texts_and_split_by_their_content(tmp_path):
    lines = [f"line number {i}" for i in range(500)]
    file = tmp_path / "corpus.txt"
    file.write_text("\n".join(["", "  ", *lines, "line number 3\r", ""]), encoding="utf-8-sig")
    data = zoo.datasets.load("lines:corpus.txt", manual_dir=str(tmp_path))
    assert data.task == "masked_language_modelling" and data.class_names == () and set(data.features) == {"text"}
    held = {r: [e["text"].decode() for e in s.dataset().as_numpy_iterator()] for r, s in data.splits.items()}
    assert sorted(text for part in held.values() for text in part) == sorted([*lines, "line number 3"])
    assert {role: len(set(part)) for role, part in held.items()} == {"train": 490, "validation": 5, "test": 5}
    assert data.about == {"left_out": {"empty lines": 2}, "duplicates": 1}
    file.write_text("\n".join(reversed(lines)))
    again = zoo.datasets.load(f"lines:{file}")
    assert {e["text"] for e in again.test.as_numpy_iterator()} == {text.encode() for text in held["test"]}
    file.write_bytes(b"a\xff\n")
    for name, message in (
        (f"lines:{file}", r"is not UTF-8 at byte 1\. Convert it"),
        (f"lines:{tmp_path / 'corpas.txt'}", r"is not a file\. Did you mean 'corpus.txt'\? Pass a UTF-8 text file"),
        ("lines:", r"has no path\. Pass lines:PATH"),
    ):
        with pytest.raises(zoo.UsageError, match=message):
            zoo.datasets.load(name)


def test_corpus_writes_each_training_text_once(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["corpus", "--data", "commands", "--data", "number_words", "--data", "command_lines", "--path", "c.txt"]
    assert cli.main(words) == 0
    said = capsys.readouterr().out
    assert "commands: 720 texts, 720 of them new" in said and "command_lines: 720 texts, 0 of them new" in said
    lines = (tmp_path / "c.txt").read_text().splitlines()
    first = [e["text"].decode() for e in zoo.datasets.load("commands").train.as_numpy_iterator()]
    second = [" ".join(e["text"].decode().split()) for e in zoo.datasets.load("number_words").train.as_numpy_iterator()]
    assert lines == [*first, *second] and f"c.txt: {len(lines):,} lines" in said
    assert cli.main(words) == 2
    assert "c.txt already exists and is not overwritten. Remove it" in capsys.readouterr().err
    assert cli.main(["corpus", "--data", "digits", "--path", "d.txt"]) == 2
    assert "'digits' holds image, label, but no text. Choose another data set." in capsys.readouterr().err
    assert cli.main(["corpus", "--path", "d.txt"]) == 2
    assert "zoo corpus needs data sets and a file. Pass --data NAME" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["c.txt"]


def test_tagged_sentences_without_text_are_joined_tokens(monkeypatch):
    from zoo.scripts import corpus

    loaded = zoo.datasets.load("tagged_commands")
    features = {name: feature for name, feature in loaded.features.items() if name != "text"}
    monkeypatch.setattr(zoo.datasets, "load", lambda name, **places: dataclasses.replace(loaded, features=features))
    first = next(loaded.train.as_numpy_iterator())
    assert next(corpus.training_texts("tagged_commands", None, None)) == b" ".join(first["tokens"]).decode()


# --- From a run to a folder, then to another run ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Trains a run that partly learns the grammar of the commands."""
    sizes = {"hidden_size": 32, "num_layers": 1, "intermediate_size": 64}
    return zoo.run(
        "bert_mlm",
        "command_lines",
        config=zoo.TrainConfig(epochs=16, batch_size=36, learning_rate=5e-3, schedule="linear", warmup_steps=20),
        model_arguments=sizes,
        run_directory=tmp_path_factory.mktemp("mlm") / "run",
        verbose=0,
    )


def test_the_savedmodel_fills_in_masks(run):
    assert run.verification.passed, run.verification.table()
    assert run.report["accuracy"] > 2 * run.report["baseline"]["accuracy"], run.report
    assert run.report["perplexity"] < run.report["baseline"]["perplexity"] / 2
    loaded = tf.saved_model.load(str(run.saved_model))
    serve = loaded.signatures["serving_default"]
    found = {
        k: v.numpy() for k, v in serve(text=tf.constant(["Turn [MASK] lamp on!", "", "is it [MASK] [MASK]?"])).items()
    }
    assert found["pieces"][0].tolist()[:2] == [b"turn", b"the"], found["pieces"]
    assert 0.5 < found["probability"][0, 1] < 1 and found["probability"][0, [0, 2, 3]].tolist() == [1, 1, 1]
    assert found["text"][0].startswith(b"turn the lamp on") and found["text"][1] == b""
    assert found["probability"][1].tolist() == [0] * found["probability"].shape[1]
    assert ((found["probability"][2] > 0) & (found["probability"][2] < 1)).sum() == 2
    features = loaded.signatures["features"](text=tf.constant(["turn it on"]))
    assert set(features) == {"mean_pooled"} and features["mean_pooled"].shape == (1, 32)


def test_served_outputs_equal_those_of_the_model(run):
    """Computes the expected outputs from `predict`."""
    loaded = tf.saved_model.load(str(run.saved_model))
    _, prepared, _ = zoo.pipeline.open_run(run.run_directory)
    text = "please [MASK] the radio [MASK] of my office"
    ids = prepared.preprocessor([text])
    at = np.flatnonzero(ids["token_ids"].numpy()[0] == BLANK)
    assert len(at) == 2
    scores = loaded.signatures["predict"](**ids, positions=tf.constant(at[np.newaxis], tf.int32))
    probabilities = next(iter(scores.values())).numpy()[0]
    answer = loaded.signatures["serving_default"](text=tf.constant([text]))
    pieces = [prepared.preprocessor.vocabulary[i] for i in probabilities.argmax(-1)]
    assert answer["pieces"].numpy()[0, at - 1].astype(str).tolist() == pieces
    np.testing.assert_allclose(answer["probability"].numpy()[0, at - 1], probabilities.max(-1), atol=1e-6)


def test_a_run_is_written_as_a_folder_that_initializes_a_classifier(run, tmp_path, capsys):
    folder = tmp_path / "folder"
    assert cli.main(["huggingface", str(run.run_directory), str(folder)]) == 0
    assert f"zoo train --model bert --model.weights {folder} --data NAME" in capsys.readouterr().out
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["BertForMaskedLM"] and "id2label" not in config
    _, masked, _ = zoo.pipeline.open_run(run.run_directory)
    assert read_vocabulary(folder).pieces == masked.preprocessor.vocabulary
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        prepared = zoo.datasets.load("commands").prepare("bert", weights=str(folder))
        classifier = prepared.build(seed=0)
    told = " ".join(str(warning.message) for warning in said)
    assert "not used: cls.predictions.bias" in told and "random: bert.pooler.dense.bias" in told
    assert prepared.preprocessor.vocabulary == masked.preprocessor.vocabulary
    trained = zoo.pipeline.load_model(run.run_directory / "model.keras")
    for name in ("embeddings", "block_1"):
        for a, b in zip(trained.get_layer(name).get_weights(), classifier.get_layer(name).get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
    again = zoo.datasets.load("command_lines").prepare("bert_mlm", weights=str(folder)).build(seed=3)
    for a, b in zip(trained.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert cli.main(["huggingface", str(run.run_directory), str(folder)]) == 2
    assert "already exists and is not overwritten" in capsys.readouterr().err


@pytest.mark.slow
def test_models_without_a_published_format_are_rejected(tmp_path, capsys):
    zoo.run("mlp", "digits", config=zoo.TrainConfig(epochs=1), run_directory=tmp_path / "run", export=False, verbose=0)
    assert cli.main(["huggingface", str(tmp_path / "run"), str(tmp_path / "folder")]) == 2
    assert (
        "'mlp' has no published format that can be written. Choose one that does: bert, bert_mlm, or a named"
        in capsys.readouterr().err
    )


def test_a_damaged_head_is_reported(tmp_path):
    from safetensors.numpy import load_file, save_file

    model = zoo.build("bert_mlm", **zoo.get_spec("bert_mlm").tiny)
    folder = bert_folder.save_folder(model, tmp_path / "folder")
    file = folder / "model.safetensors"
    whole = load_file(file)
    words = whole["bert.embeddings.word_embeddings.weight"]
    other = zoo.build("bert_mlm", **zoo.get_spec("bert_mlm").tiny)

    def load(tensors):
        save_file(tensors, file)
        bert_folder.load_weights(other, folder, load_classifier=False)

    load({**whole, "cls.predictions.decoder.weight": words.copy()})
    np.testing.assert_array_equal(other.get_layer("embeddings").words.embeddings, words)
    with pytest.raises(
        zoo.UsageError, match=r"cls.predictions.decoder.weight differs from bert.embeddings.word_emb.* tied"
    ):
        load({**whole, "cls.predictions.decoder.weight": words + 1})
    with pytest.raises(zoo.UsageError, match=r"cls.predictions.bias is missing"):
        load({name: value for name, value in whole.items() if name != "cls.predictions.bias"})
    with pytest.warns(UserWarning, match=r"not in the file, so random: cls.predictions.bias"):
        load({name: value for name, value in whole.items() if not name.startswith("cls.")})
    with pytest.raises(zoo.UsageError, match=r"There are 2 labels; a masked language model has none\. Leave labels"):
        bert_folder.save_folder(model, tmp_path / "other", labels=["a", "b"])


# --- Comparison with transformers -------------------------------------------------------------------------------------

REFERENCE = """
import os, sys
os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "USE_TF": "0"}
import numpy as np, torch, transformers
folder, batch, output, make = sys.argv[1:]
torch.manual_seed(0)
if make:
    names = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    sizes = dict(zip(names, eval(make)))
    model = transformers.BertForMaskedLM(transformers.BertConfig(**sizes, max_position_embeddings=64))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter) if parameter.ndim == 1 else 0.0
    model.save_pretrained(folder)
model = transformers.AutoModelForMaskedLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
given = {k: torch.from_numpy(v.astype(np.int64)) for k, v in np.load(batch).items()}
labels = given.pop("labels")
told = model(**given, labels=labels)
told.loss.backward()
gradients = {f"gradient/{n}": p.grad for n, p in model.named_parameters()}
np.savez(output, **{n: v.detach().numpy() for n, v in {"logits": told.logits, "loss": told.loss, **gradients}.items()})
"""


@pytest.fixture(scope="module")
def torch_python():
    if all(importlib.util.find_spec(name) for name in ("torch", "transformers")):
        return sys.executable
    if not (python := os.environ.get("ZOO_TORCH_PYTHON")):
        pytest.skip("needs torch and transformers, or ZOO_TORCH_PYTHON, a Python with them")
    return python


def reference(python, place, folder, batch, make=""):
    np.savez(place / "batch.npz", **batch)
    words = [python, "-c", REFERENCE, str(folder), str(place / "batch.npz"), str(place / "told.npz"), make]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(np.load(place / "told.npz"))


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [(211, 24, 3, 3, 40), (8000, 128, 2, 2, 512)])
def test_logits_loss_and_gradients_equal_transformers(torch_python, tmp_path, sizes):
    rng = np.random.default_rng(0)
    mask = (np.arange(13) < np.array([[13], [7], [4]])).astype(np.int32)
    ids = rng.integers(1, sizes[0], mask.shape) * mask
    labels = np.where((rng.random(mask.shape) < 0.4) & (mask == 1), rng.integers(1, sizes[0], mask.shape), -100)
    batch = {"input_ids": ids, "token_type_ids": ids % 2, "attention_mask": mask, "labels": labels}
    folder = tmp_path / "theirs"
    told = reference(torch_python, tmp_path, folder, batch, make=str(sizes))
    arguments = {**bert_config.read_config(folder), "dropout": 0.0, "attention_dropout": 0.0, "weights": str(folder)}
    arguments.pop("classifier_dropout")
    model = zoo.build("bert_mlm", **arguments, classifier_activation=None)
    everywhere = np.tile(np.arange(13, dtype=np.int32), (3, 1))
    inputs = {"token_ids": ids, "token_type_ids": ids % 2, "padding_mask": mask, "positions": everywhere}
    (term,) = tasks.get_task("masked_language_modelling").objective.loss
    loss = term.loss(tasks.output_names(model)[0], 0.0)

    @tf.function
    def everything():
        with tf.GradientTape() as tape:
            logits = model({k: tf.constant(v, tf.int32) for k, v in inputs.items()}, training=True)
            losses = loss(tf.constant(np.maximum(labels, 0), tf.int32), logits)
            value = tf.reduce_sum(losses * (labels >= 0)) / (labels >= 0).sum()
        variables = [v.value for v in model.trainable_variables]
        return logits, value, [tf.convert_to_tensor(g) for g in tape.gradient(value, variables)]

    logits, value, gradients = everything()
    assert np.abs(logits - told["logits"]).max() < 2e-5
    assert abs(float(value) - told["loss"]) < 1e-5
    by_path = {v.path: g.numpy() for v, g in zip(model.trainable_variables, gradients, strict=True)}
    places = bert_folder.model_places(model)
    assert {f"gradient/{p.name}" for p in places} == {n for n in told if n.startswith("gradient/")}
    for place in places:
        found = place.cut(by_path[bert_folder._variable(model, place).path])
        assert np.abs(found - told[f"gradient/{place.name}"]).max() < 2e-5, place.name
    # In the other direction: transformers reads the files written here.
    written = bert_folder.save_folder(model, tmp_path / "ours")
    again = reference(torch_python, tmp_path, written, batch)
    np.testing.assert_array_equal(again["logits"], told["logits"])


def test_parameter_counts_equal_the_formula():
    vocab, h, inner, layers = 8000, 128, 512, 2
    block = 4 * (h * h + h) + h * inner + inner + inner * h + h + 4 * h
    head = h * h + h + 2 * h + vocab  # the token embedding table exists only once
    assert zoo.get_spec("bert_mlm").golden[0][1] == (vocab + 512 + 2 + 2) * h + layers * block + head
