"""Fifty fine-tuning steps compared with PyTorch and Hugging Face."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import zoo
from zoo import checkpoints
from zoo.checkpoints import byte_pair_files
from zoo.datasets.batches import plain
from zoo.training.data.user_data import wrap


@pytest.fixture(scope="module")
def images():
    return zoo.datasets.load("digits").prepare("mlp", hidden_units=[6], input_shape=[8, 8, 1])


def torch_python():
    """Returns a Python that has torch and transformers. It runs as a process without TensorFlow."""
    if all(importlib.util.find_spec(name) for name in ("torch", "transformers")):
        return sys.executable
    return os.environ.get("ZOO_TORCH_PYTHON")


needs_torch = pytest.mark.skipif(
    torch_python() is None,
    reason="torch and transformers are not installed here; type export ZOO_TORCH_PYTHON=PYTHON, of a place that has both",
)


class Losses(keras.callbacks.Callback):
    """Records the loss of every step of an epoch, computed from the running mean over all elements; `elements` has the
    number of each step, 1 if they are equal."""

    def __init__(self, elements=None):
        super().__init__()
        self._elements = elements

    def on_train_begin(self, logs=None):
        self.steps, self._sum, self._count = [], 0.0, 0.0

    def on_train_batch_end(self, batch, logs=None):
        count = self._elements[batch] if self._elements else 1.0
        self._count += count
        total = self._count * logs["loss"]
        self.steps.append((total - self._sum) / count)
        self._sum = total


OPTIONS = {"learning_rate": 0.05, "warmup_steps": 5, "weight_decay": 0.1, "adam_epsilon": 1e-8, "clip_norm": 0.3}


def run_reference(kind, folder, *words, options, **arrays):
    """Trains the same in PyTorch, in another process; returns the file with its losses and weights."""
    np.savez(folder / "in.npz", **arrays, options=json.dumps(options))
    script = Path(__file__).parents[1] / "references" / "trainer_reference.py"
    command = [torch_python(), str(script), kind, str(folder / "in.npz"), str(folder / "out.npz"), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder / "out.npz"


def losses_of(model, data, size, options, elements=None):
    """Trains one epoch and returns the loss of every step."""
    losses = Losses(elements)
    fixed = {"epochs": 1, "optimizer": "adamw", "schedule": "linear", "warmup_from_zero": True, "steps_per_call": 1}
    config = zoo.TrainConfig(batch_size=size, **fixed, **options)
    zoo.train(model, data, config, callbacks=[losses], verbose=0)
    return losses.steps


@pytest.mark.slow
@needs_torch
def test_fifty_steps_equal_pytorch(images, tmp_path):
    """AdamW, linear warm-up and decay, clipping, equal batches. Compares every loss and the final weights."""
    model, size = images.build(seed=0), 25
    x, y = next(images.keras_batches("train", 50 * size).as_numpy_iterator())
    ordered = wrap(model, (x, y), None).batches("train", size, seed=0).map(plain)
    batches = list(ordered.as_numpy_iterator())
    names = ("kernel_0", "bias_0", "kernel_1", "bias_1")
    weights = dict(zip(names, model.get_weights(), strict=True))
    inputs = np.stack([x.reshape(size, -1) for x, _ in batches])
    labels = np.stack([y for _, y in batches]).astype(np.int64)
    expected = run_reference("mlp", tmp_path, options=OPTIONS, inputs=inputs, labels=labels, **weights)
    losses = losses_of(model, (x, y), size, OPTIONS)
    with np.load(expected) as torch:
        assert len(torch["losses"]) == 50 and torch["losses"][-5:].mean() < torch["losses"][:5].mean() - 0.5
        furthest = np.abs(torch["losses"] - losses).max()
        apart = max(np.abs(torch[n] - w).max() for n, w in zip(names, model.get_weights(), strict=True))
    print(f"losses {furthest:.1e} apart, weights {apart:.1e}")
    assert furthest < 1e-4 and apart < 1e-4


def skip_without_trainer():
    found = "import importlib.util, sys; sys.exit(importlib.util.find_spec('accelerate') is None)"
    if subprocess.run([torch_python(), "-c", found], check=False).returncode:
        pytest.skip("Hugging Face's Trainer needs accelerate; type pip install accelerate where torch is")


TINY_BERT = """
import sys, torch, transformers
torch.manual_seed(0)
sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
config = transformers.BertConfig(vocab_size=100, max_position_embeddings=32, num_labels=3, **sizes)
transformers.BertForSequenceClassification(config).save_pretrained(sys.argv[1])
"""


@needs_torch
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bert", "bert_loop"])
def test_fifty_steps_of_bert_equal_hugging_face(tmp_path, kind):
    """`bert` uses transformers' Trainer, which requires the package accelerate; `bert_loop` is a hand-written loop."""
    if kind == "bert":
        skip_without_trainer()
    subprocess.run([torch_python(), "-c", TINY_BERT, str(tmp_path / "bert")], capture_output=True, check=True)
    generator, size, tokens = np.random.default_rng(0), 16, 12
    lengths = generator.integers(4, tokens + 1, 50 * size)[:, np.newaxis]
    mask = (np.arange(tokens) < lengths).astype("int32")
    ids = generator.integers(5, 100, mask.shape).astype("int32") * mask
    types = (np.arange(tokens) >= lengths // 2).astype("int32") * mask
    inputs, labels = {"token_ids": ids, "token_type_ids": types, "padding_mask": mask}, ids.sum(axis=1) % 3
    model = checkpoints.build("bert", tmp_path / "bert", dropout=0.0, attention_dropout=0.0)
    ordered = wrap(model, (inputs, labels), None).batches("train", size, seed=0).map(plain)
    ordered = list(ordered.as_numpy_iterator())
    columns = {name: np.stack([batch[0][name] for batch in ordered]) for name in inputs}
    options = {**OPTIONS, "learning_rate": 1e-3, "clip_norm": 1.0, "weight_decay": 0.01}
    target = np.stack([batch[1] for batch in ordered])
    expected = run_reference(kind, tmp_path, tmp_path / "bert", options=options, **columns, labels=target)
    losses = losses_of(model, (inputs, labels), size, options)
    with np.load(expected) as torch:
        furthest = np.abs(torch["losses"] - losses).max()
    print(f"losses of {len(losses)} steps {furthest:.1e} apart")
    assert len(losses) == 50 and furthest < 1e-4


TINY_GPT = """
import sys, torch, transformers
torch.manual_seed(0)
config = transformers.GPT2Config(vocab_size=257, n_positions=17, n_embd=32, n_layer=2, n_head=2)
transformers.GPT2LMHeadModel(config).save_pretrained(sys.argv[1])
"""


@needs_torch
@pytest.mark.slow
def test_fifty_steps_of_gpt_equal_hugging_face(tmp_path):
    """The windows of a real training run, which begin at places of their own, in transformers' Trainer."""
    skip_without_trainer()
    folder = tmp_path / "gpt"
    subprocess.run([torch_python(), "-c", TINY_GPT, str(folder)], capture_output=True, check=True)
    byte_pair_files.write(folder, ())
    # Hugging Face shifts the targets itself, so its rows have one token more.
    chosen = {"weights": str(folder), "max_length": 16, "dropout": 0.0, "attention_dropout": 0.0}
    prepared = zoo.datasets.load("spoken_sums").prepare("gpt", **chosen)
    size = prepared.num_examples("train") // 50
    seed = zoo.TrainConfig().seed
    batches = list(prepared.batches("train", size, seed=seed, epoch=0).as_numpy_iterator())
    ids, labels = [], []
    for inputs, targets, weights in batches:
        ids.append(np.concatenate([inputs["token_ids"], targets["next"][:, -1:]], axis=1))
        wanted = np.where(weights["next"] > 0, targets["next"], -100)  # Hugging Face's number for no target
        # The first token is no target; the Trainer divides by the number of all labels but -100.
        labels.append(np.concatenate([np.full((len(wanted), 1), -100), wanted], axis=1))
    rows = {"input_ids": np.concatenate(ids), "labels": np.concatenate(labels)}
    options = {**OPTIONS, "learning_rate": 1e-3, "clip_norm": 1.0, "weight_decay": 0.01}
    expected = run_reference("gpt", tmp_path, folder, options=options, size=size, **rows)
    elements = [float(weights["next"].sum()) for _, _, weights in batches]
    losses = losses_of(prepared.build(), prepared, size, options, elements)
    with np.load(expected) as torch:
        first, last = torch["losses"][0], torch["losses"][-1]
        assert len(losses) == len(torch["losses"]) >= 50 and last < first - 0.5
        furthest = np.abs(torch["losses"] - losses)[:50].max()  # the last batch is too small to be told from the mean
    print(f"losses of {len(losses)} steps {furthest:.1e} apart, {first:.3f} to {last:.3f}")
    assert furthest < 1e-3
