"""LoRA: it results in a plain model, resumes exactly, and gives the same result on two replicas."""

from __future__ import annotations

import json
import os
import signal

import keras
import numpy as np
import pytest

import zoo
from named_weights import arrays
from zoo import pipeline
from zoo.config import read_yaml
from zoo.training.loop.signals import Interrupted

TIMES = ("seconds", "examples_per_second")
TINY = {"embedding_dim": 4, "num_heads": 2, "feed_forward_dim": 5, "num_layers": 2, "dropout": 0.0}


@pytest.fixture(scope="module")
def images():
    return zoo.datasets.load("digits").prepare("mlp", hidden_units=[6], input_shape=[8, 8, 1])


@pytest.mark.parametrize("precision", ["float32", pytest.param("mixed_bfloat16", marks=pytest.mark.slow)])
def test_lora_results_in_a_plain_model(tmp_path, precision):
    texts = zoo.datasets.load("commands").prepare("transformer", **{**TINY, "num_layers": 1})
    keras.utils.set_random_seed(0)
    with zoo.precision(precision):
        model = texts.build()
    before = arrays(model)
    batch = next(iter(texts.keras_batches("test", 50)))[0]
    seen = []

    class Look(keras.callbacks.Callback):
        def on_train_end(self, logs=None):
            seen.append(self.model.predict(batch, verbose=0))  # traced while LoRA's matrices exist
            seen.append([v.name for v in self.model.trainable_variables])

    config = zoo.TrainConfig(
        **{"epochs": 2, "batch_size": 240, "learning_rate": 0.02},
        **{"lora_rank": 2, "freeze": ["block_1/outer"], "precision": precision},
    )
    result = zoo.train(model, texts, config, callbacks=[Look()], run_directory=tmp_path, verbose=0)
    answers, trained = seen
    assert trained.count("lora_kernel_a") == trained.count("lora_kernel_b") == 5 and len(trained) == 12
    after = arrays(result.model)
    kernels = {name for name in before if name.startswith("block") and name.endswith("/kernel")} - {
        "block_1/outer/kernel"
    }
    changed = {name for name in before if before[name].tobytes() != after[name].tobytes()}
    assert changed == {*kernels, "probabilities/kernel", "probabilities/bias"} and len(kernels) == 5
    for name in kernels:  # the requested rank, along the last axis
        difference = (after[name] - before[name]).reshape(-1, after[name].shape[-1])
        assert np.linalg.matrix_rank(difference, tol=1e-5) <= 2
    limit = 1e-6 if precision == "float32" else 0.02
    np.testing.assert_allclose(result.model(batch), answers, rtol=0, atol=limit)
    np.testing.assert_allclose(model.predict(batch, verbose=0), answers, rtol=0, atol=limit)
    loaded = pipeline.load_model(tmp_path / "model.keras")
    assert [v.name for v in loaded.weights] == [v.name for v in texts.build(seed=0).weights]
    np.testing.assert_array_equal(loaded(batch), result.model(batch))
    assert "lora" not in json.dumps(loaded.get_config(), default=str).replace('"lora_rank": null', "")
    assert read_yaml(tmp_path / "config.yaml")["config"]["lora_rank"] == 2


@pytest.mark.slow
def test_lora_resumes_exactly(images, tmp_path):
    """A signal arrives in the first validation. The checkpoint replaces the initial weights of the new process."""

    class Leave(keras.callbacks.Callback):
        def on_test_begin(self, logs=None):
            os.kill(os.getpid(), signal.SIGTERM)

    config = zoo.TrainConfig(
        **{"epochs": 2, "batch_size": 431, "deterministic": True},
        **{"lora_rank": 2, "ema_momentum": 0.9, "keep_best": 1, "layer_decay": 0.5},
    )
    whole = zoo.train(images.build(seed=0), images, config, verbose=0)
    with pytest.raises(Interrupted):
        zoo.train(images.build(seed=0), images, config, run_directory=tmp_path, callbacks=[Leave()], verbose=0)
    for _ in range(2):  # in the second call, training is already finished
        model = images.build(seed=1)
        result = zoo.train(model, images, config, run_directory=tmp_path, verbose=0)
        rows = [[{k: v for k, v in row.items() if k not in TIMES} for row in run.history] for run in (whole, result)]
        assert rows[0] == rows[1]
        for one, two in zip(whole.model.get_weights(), result.model.get_weights(), strict=True):
            assert one.tobytes() == two.tobytes()


def test_lora_keeps_the_compiled_optimizer():
    """The user's optimizer trains all weights before and after LoRA, and never receives LoRA's variables."""
    x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(6, name="body"), keras.layers.Dense(1, name="top")])
    model.compile(optimizer=keras.optimizers.Adam(0.1), loss="mse")
    optimizer = model.optimizer
    zoo.train(model, (x, x[:, :1]), zoo.TrainConfig(epochs=1), verbose=0)
    before, count = arrays(model), len(optimizer.variables)
    zoo.train(model, (x, x[:, 1:2]), zoo.TrainConfig(epochs=2, lora_rank=3), verbose=0)
    after = arrays(model)
    assert {n for n in before if (before[n] != after[n]).any()} == {"body/kernel", "top/kernel", "top/bias"}
    assert model.optimizer is optimizer and len(optimizer.variables) == count
    zoo.train(model, (x, x[:, :1]), zoo.TrainConfig(epochs=1), verbose=0)
    assert (arrays(model)["body/bias"] != after["body/bias"]).any()


def test_the_matrices_of_a_float64_model_are_float64():
    seen = []

    class Types(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            seen.append({v.name: v.dtype for v in self.model.trainable_variables})

    x = np.random.default_rng(0).normal(size=(8, 4))
    inputs = keras.Input((4,), dtype="float64")
    body = keras.layers.Dense(6, dtype="float64", name="body")
    model = keras.Model(inputs, keras.layers.Dense(1, dtype="float64")(body(inputs)))
    model.compile("sgd", "mse")
    zoo.train(model, (x, x[:, :1]), zoo.TrainConfig(epochs=1, lora_rank=2), callbacks=[Types()], verbose=0)
    assert {*seen[0].values()} == {"float64"} and "lora_kernel_a" in seen[0]
    assert "add_weight" not in vars(body) and body.kernel.dtype == "float64"


REPLICAS = """
import json, sys
import keras, numpy as np
import zoo

with zoo.strategy("mirrored", replicas=2).scope():
    prepared = zoo.datasets.load("digits").prepare("mlp", hidden_units=[7, 6], input_shape=[8, 8, 1])
    model = prepared.build(seed=0)
result = zoo.train(model, prepared, zoo.TrainConfig(**json.loads(sys.argv[1])), verbose=0)
np.savez(sys.argv[2], *result.model.get_weights(), loss=result.history[-1]["val_loss"])
"""


@pytest.mark.slow
def test_two_replicas_give_the_same_result(tmp_path, run_python):
    """LoRA, frozen layers and rates by group. LoRA's matrices are float32, so the tolerance is 1e-5."""
    config = {
        "epochs": 1,
        "batch_size": 101,
        "optimizer": "sgd",
        "learning_rate": 0.3,
        "clip_norm": 0.5,
        "layer_decay": 0.5,
    }
    config |= {"lora_rank": 2, "freeze": ["probabilities/bias"], "ema_momentum": 0.5, "warmup_fraction": 0.3}
    run_python(REPLICAS, json.dumps(config), tmp_path / "two.npz", kind="zoo", CUDA_VISIBLE_DEVICES="-1")
    prepared = zoo.datasets.load("digits").prepare("mlp", hidden_units=[7, 6], input_shape=[8, 8, 1])
    result = zoo.train(prepared.build(seed=0), prepared, zoo.TrainConfig(**config), verbose=0)
    with np.load(tmp_path / "two.npz") as two:
        assert result.history[-1]["val_loss"] == pytest.approx(float(two["loss"]), abs=1e-5)
        for i, weight in enumerate(result.model.get_weights()):
            np.testing.assert_allclose(weight, two[f"arr_{i}"], rtol=0, atol=1e-5)
