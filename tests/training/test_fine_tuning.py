"""Training a part of a model, with learning rates by group: settings, schedules, and steps compared with NumPy."""

from __future__ import annotations

import itertools
import math
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from named_weights import arrays
from zoo import pipeline
from zoo.training.adaptations.collection import adapted
from zoo.training.adaptations.layer_decay import depths, groups
from zoo.training.adaptations.parts import named_parts
from zoo.training.optimizers import FusedAdam
from zoo.training.schedules import make_learning_rate

TINY = {"embedding_dim": 4, "num_heads": 2, "feed_forward_dim": 5, "num_layers": 2, "dropout": 0.0}


@pytest.fixture(scope="module")
def images():
    return zoo.datasets.load("digits").prepare("mlp", hidden_units=[6], input_shape=[8, 8, 1])


@pytest.fixture(scope="module")
def texts():
    return zoo.datasets.load("commands").prepare("transformer", **TINY)


# --- The settings ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"warmup_fraction": 1.0},
            r"^warmup_fraction is 1.0; expected at least 0 and less than 1. Pass warmup_fraction=0.1",
        ),
        ({"warmup_fraction": None}, r"^warmup_fraction is None; expected at least 0"),
        (
            {"warmup_fraction": 0.1, "warmup_steps": 5},
            r"^warmup_steps=5 and warmup_fraction=0.1 both set the length.*Leave one of",
        ),
        (
            {"warmup_from_zero": True},
            r"^warmup_from_zero=true has no effect without a warm-up. Pass warmup_fraction=0.1",
        ),
        ({"warmup_from_zero": 1}, r"^warmup_from_zero is 1; expected a boolean"),
        ({"adam_beta_2": 1}, r"^adam_beta_2 is 1; expected at least 0 and less than 1. Pass adam_beta_2=0.98, say.$"),
        ({"adam_epsilon": 0}, r"^adam_epsilon is 0; expected a number above 0"),
        (
            {"adam_epsilon": 1e-8, "optimizer": "sgd"},
            r"^adam_epsilon=1e-08 requires optimizer='adam' or 'adamw'.*Leave",
        ),
        (
            {"layer_decay": 0},
            r"^layer_decay is 0; expected a number above 0 and at most 1. Pass layer_decay=0.95, say.$",
        ),
        ({"layer_decay": None}, r"^layer_decay is None; expected a number above 0 and at most 1"),
        (
            {"freeze": "embedding"},
            r"^freeze is 'embedding'; expected a list of names or patterns. Pass freeze=\['block_",
        ),
        ({"freeze": [3]}, r"^freeze has 3; expected a layer's name or a pattern. Pass 'block_\*', say.$"),
        ({"lora_rank": 0}, r"^lora_rank is 0; expected a whole number of at least 1. Pass lora_rank=1, say.$"),
        ({"lora_layers": ["a"]}, r"^lora_layers=\['a'\] has no effect without lora_rank. Pass lora_rank=8, say.$"),
        ({"closed_form": True, "lora_rank": 2}, r"^lora_rank=2 has no effect with closed_form=true"),
    ],
)
def test_invalid_settings_are_rejected(options, message):
    with pytest.raises(zoo.UsageError, match=message):
        zoo.TrainConfig(**options)


@pytest.mark.parametrize(("options", "warmup"), [({"warmup_steps": 4}, 4), ({"warmup_fraction": 0.07}, 8)])
def test_from_zero_equals_the_schedule_of_hugging_face(options, warmup):
    """Step t of N counts from 0: t / warmup, then (N - t) / (N - warmup). Fractions round up, in binary arithmetic."""
    config = zoo.TrainConfig(schedule="linear", learning_rate=0.5, warmup_from_zero=True, **options)
    schedule = make_learning_rate(config, 100)
    assert keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(schedule)).from_zero
    expected = [t / warmup if t < warmup else (100 - t) / (100 - warmup) for t in range(101)]
    np.testing.assert_allclose([float(schedule(t)) for t in range(101)], 0.5 * np.array(expected), atol=1e-7)
    early = make_learning_rate(zoo.TrainConfig(schedule="linear", learning_rate=0.5, **options), 100)
    np.testing.assert_allclose(
        [float(early(t)) for t in range(warmup)], [float(schedule(t + 1)) for t in range(warmup)]
    )


def test_warm_up_as_long_as_the_run_is_rejected():
    with pytest.raises(zoo.UsageError, match=r"warmup_fraction=0.9 covers all 3 steps.*Pass less, such as 0.1"):
        make_learning_rate(zoo.TrainConfig(warmup_fraction=0.9), 3)
    with pytest.raises(zoo.UsageError, match=r"warmup_steps=30 covers all 20 steps.*Pass less, such as 2"):
        make_learning_rate(zoo.TrainConfig(warmup_steps=30), 20)
    with pytest.raises(zoo.UsageError, match=r"of this run, which has one step\. Leave the warm-up out, or pass more"):
        make_learning_rate(zoo.TrainConfig(warmup_steps=1), 1)
    assert make_learning_rate(zoo.TrainConfig(warmup_fraction=0.1), 1) == 0.001, "a part of one step is none"
    for options in ({"warmup_fraction": 0.1}, {"warmup_steps": 1}):  # the values that messages suggest for longer runs
        assert make_learning_rate(zoo.TrainConfig(**options), 2).warmup_steps == 1


def test_corrected_epsilon_is_serialized_and_excludes_amsgrad():
    assert FusedAdam.from_config(FusedAdam(corrected_epsilon=True).get_config()).corrected_epsilon
    with pytest.raises(ValueError, match=r"does not go with amsgrad. Leave one of them out"):
        FusedAdam(corrected_epsilon=True, amsgrad=True)


# --- Rates, against NumPy --------------------------------------------------------------------------------------------


class Reference:
    """An MLP with one hidden layer in NumPy, float64, with AdamW as in PyTorch and a learning rate per weight."""

    def __init__(self, model, config, total, levels_of_weights, frozen):
        self.weights = [w.astype(np.float64) for w in model.get_weights()]
        self.slots = [[np.zeros_like(w), np.zeros_like(w)] for w in self.weights]
        self.config, self.total, self.step = config, total, 0
        self.factors = [0.0 if i in frozen else config.layer_decay**level for i, level in enumerate(levels_of_weights)]

    def rate(self):
        warmup = math.ceil(self.config.warmup_fraction * self.total)
        if self.step < warmup:
            return self.config.learning_rate * self.step / warmup
        return self.config.learning_rate * (self.total - self.step) / (self.total - warmup)

    def train_on(self, x, y):
        c, (w_0, b_0, w_1, b_1) = self.config, self.weights
        x = x.reshape(len(x), -1)
        hidden = np.maximum(x @ w_0 + b_0, 0)
        scores = hidden @ w_1 + b_1
        p = np.exp(scores - scores.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        error = (p - np.eye(10)[y]) / len(y)
        back = (error @ w_1.T) * (hidden > 0)
        gradients = [x.T @ back, back.sum(0), hidden.T @ error, error.sum(0)]
        trained = [i for i, factor in enumerate(self.factors) if factor]
        norm = math.sqrt(sum((gradients[i] ** 2).sum() for i in trained))
        t = self.step + 1
        for i in trained:
            g, rate = gradients[i] * c.clip_norm / max(norm, c.clip_norm), self.rate() * self.factors[i]
            m, v = self.slots[i]
            m[...] = c.adam_beta_1 * m + (1 - c.adam_beta_1) * g
            v[...] = c.adam_beta_2 * v + (1 - c.adam_beta_2) * g**2
            root = np.sqrt(v / (1 - c.adam_beta_2**t)) + c.adam_epsilon
            decay = c.weight_decay if g.ndim > 1 else 0.0
            self.weights[i] = self.weights[i] * (1 - rate * decay) - rate * m / (1 - c.adam_beta_1**t) / root
        self.step += 1


@pytest.mark.parametrize(
    "freeze",
    [pytest.param([], marks=pytest.mark.slow), ["hidden_1/kernel", "probabilities/b*"]],
    ids=["all", "frozen"],
)
def test_rates_equal_numpy(images, freeze):
    config = zoo.TrainConfig(
        epochs=4,
        batch_size=431,
        optimizer="adamw",
        learning_rate=0.02,
        schedule="linear",
        warmup_fraction=0.2,
        warmup_from_zero=True,
        weight_decay=0.3,
        adam_beta_1=0.8,
        adam_beta_2=0.95,
        adam_epsilon=1e-3,  # large enough that its position in the formula matters
        clip_norm=0.5,
        layer_decay=0.25,
        freeze=freeze,
        jit_compile=False,
    )
    model = images.build(seed=0)
    steps = math.ceil(images.num_examples("train") / 431)
    reference = Reference(model, config, 4 * steps, [1, 1, 0, 0], {0, 3} if freeze else set())
    for epoch in range(4):
        for x, y in images.keras_batches("train", 431, seed=0, epoch=epoch).as_numpy_iterator():
            reference.train_on(x.astype(np.float64), y)
    zoo.train(model, images, config, verbose=0)
    for one, two in zip(model.get_weights(), reference.weights, strict=True):
        np.testing.assert_allclose(one, two, atol=2e-5)


# --- Groups ----------------------------------------------------------------------------------------------------------


def test_groups_follow_the_layers_of_registered_models(monkeypatch):
    names = ("transformer", "cnn", "seq2seq_rnn")
    made = {name: zoo.build(name, **zoo.get_spec(name).tiny) for name in names}
    assert groups(made["transformer"]) == {"probabilities": 0, "block_2": 1, "block_1": 2, "embedding": 3}
    assert groups(made["cnn"]) == {"probabilities": 0, "dense": 1, "conv_2": 2, "conv_1": 3}
    top = groups(made["seq2seq_rnn"])
    assert top["combined"] == 0 and top["source_embedding"] == max(top.values())
    spec = zoo.get_spec("transformer")
    monkeypatch.setitem(vars(spec), "levels", (("block_2", "prob*"),))
    assert groups(made["transformer"]) == {"probabilities": 0, "block_2": 0, "block_1": 1, "embedding": 2}


def test_norms_belong_to_the_group_of_the_layer_below():
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(2, 3, name="first")(inputs)
    x = keras.layers.BatchNormalization(name="norm")(x)
    aside = keras.layers.Conv2D(2, 1, name="aside")(x)
    x = keras.layers.Add()([aside, keras.layers.Conv2D(2, 1, name="second")(x)])
    x = keras.layers.Dense(2, name="top")(keras.layers.Flatten()(x))
    model = keras.Model(inputs, x)
    assert depths(model) == {"top": 0, "aside": 1, "second": 1, "norm": 2, "first": 2}
    assert depths(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="one")])) == {"one": 0}

    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(2)

        def call(self, inputs):
            return self.dense(inputs)

    own = Own()
    own(np.zeros((1, 2)))
    with pytest.raises(
        zoo.UsageError, match=r"is subclassed: the order of its layers.*Functional model, or leave layer_decay"
    ):
        groups(own)


# --- Frozen layers ---------------------------------------------------------------------------------------------------


def test_weight_names_do_not_depend_on_previous_models(texts):
    one, two = (list(named_parts(texts.build(seed=0))) for _ in range(2))
    assert one == two
    assert {"embedding/embeddings", "block_1/inner/kernel", "block_2/attention/query/bias", "probabilities"} <= set(one)
    decoder = named_parts(zoo.build("seq2seq_transformer", **zoo.get_spec("seq2seq_transformer").tiny))
    assert {"decoder_1/self_attention/query/kernel", "decoder_1/norm_2/gamma"} <= set(decoder)


@pytest.mark.parametrize("precision", [pytest.param("float32", marks=pytest.mark.slow), "mixed_bfloat16"])
def test_frozen_weights_are_bit_identical(precision):
    prepared = zoo.datasets.load("digits").prepare("cnn", filters=[3, 4], dense_units=5, input_shape=[8, 8, 1])
    keras.utils.set_random_seed(0)
    with zoo.precision(precision):
        model = prepared.build()
    before, slots = arrays(model), []

    class Look(keras.callbacks.Callback):
        def on_train_end(self, logs=None):
            slots.extend(tuple(v.shape) for v in self.model.optimizer.variables[2:])

    config = zoo.TrainConfig(
        epochs=2,
        batch_size=431,
        optimizer="adamw",
        ema_momentum=0.5,
        schedule="constant",  # a schedule needs no variable, so that the slots would begin elsewhere
        freeze=["conv_*", "dense/bias"],
        precision=precision,
    )
    result = zoo.train(model, prepared, config, callbacks=[Look()], verbose=0)
    after = arrays(result.model)
    changed = {name for name in before if before[name].tobytes() != after[name].tobytes()}
    assert changed == {"dense/kernel", "probabilities/kernel", "probabilities/bias"}
    assert sorted(slots) == sorted(2 * [before[name].shape for name in changed])
    assert all(v.trainable for v in (*model.weights, *result.model.weights))
    assert all(layer.trainable for layer in result.model._flatten_layers())


def test_frozen_normalization_keeps_its_statistics():
    x = np.random.default_rng(0).normal(3, 2, (64, 4)).astype("float32")
    inputs = keras.Input((4,))
    h = keras.layers.BatchNormalization(name="norm")(keras.layers.Dense(3, name="dense")(inputs))
    model = keras.Model(inputs, keras.layers.Dense(1, name="top")(h))
    model.compile(optimizer="sgd", loss="mse")
    before = arrays(model)
    zoo.train(model, (x, x[:, :1]), zoo.TrainConfig(epochs=1, freeze=["norm"]), verbose=0)
    after = arrays(model)
    assert {n for n in before if (before[n] != after[n]).any()} == {
        "dense/kernel",
        "dense/bias",
        "top/kernel",
        "top/bias",
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"freeze": ["blok_1"]}, r"^freeze has 'blok_1', which matches nothing here. Did you mean 'block_1'"),
        (
            {"freeze": ["xyz"]},
            r"^freeze has 'xyz', which matches nothing here. Valid: block_1, block_2, embedding, prob",
        ),
        (
            {"freeze": ["*"]},
            r"^freeze=\['\*'\] leaves nothing of model 'transformer' to train. Leave some layers out of it.$",
        ),
        (
            {"lora_rank": 2, "freeze": ["block_*"]},
            r"every layer that LoRA would adapt is frozen. Leave some of them out of freeze.$",
        ),
        (
            {"lora_rank": 2, "lora_layers": ["*norm"]},
            r"^lora_layers has '\*norm', in which Keras has no layer.*block_1/inner",
        ),
        (
            {"lora_rank": 2, "lora_layers": ["inner"]},
            r"^lora_layers has 'inner', which matches nothing here. Did you mean",
        ),
    ],
)
def test_patterns_without_a_match_are_rejected(texts, options, message):
    model = texts.build(seed=0)
    with pytest.raises(zoo.UsageError, match=message):
        zoo.train(model, texts, zoo.TrainConfig(**options), verbose=0)
    assert all(v.trainable for v in model.weights) and not [v for v in model.variables if "lora" in v.name]


def test_lora_without_hidden_dense_layers_requires_lora_layers():
    model = zoo.build("embedding_lstm", **zoo.get_spec("embedding_lstm").tiny)
    message = r"this model has none. Name others in lora_layers, embedding, probabilities"
    with pytest.raises(zoo.UsageError, match=message), adapted(model, zoo.TrainConfig(lora_rank=2)):
        pass
    before = arrays(model)
    with adapted(model, zoo.TrainConfig(lora_rank=2, lora_layers=["embedding"])):
        model.get_layer("embedding").lora_embeddings_b.assign(np.ones((2, before["embedding/embeddings"].shape[1])))
    assert (arrays(model)["embedding/embeddings"] != before["embedding/embeddings"]).all()


# --- The command -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_command_fine_tunes_exports_and_is_reproducible(tmp_path):
    """Two replicas in mixed precision; the SavedModel is verified, and its frozen weights are bit-identical."""
    small = {**TINY, "num_layers": 1}
    words = ["train", "--model", "transformer", "--data", "commands", "--quiet"]
    words += [f"--model.{name}={value}" for name, value in small.items()]
    for option in ("epochs=1", "lora_rank=2", "lora_layers=[block_*]", "freeze=[block_1/inner]", "layer_decay=0.5"):
        words.append(f"--config.{option}")
    for option in ("warmup_fraction=0.2", "adam_epsilon=1e-8", "precision=mixed_bfloat16", "group_by_length=true"):
        words.append(f"--config.{option}")
    words += ["--config.strategy=mirrored", "--config.replicas=2", "--config.deterministic=true"]
    again = ["train", "--config", str(tmp_path / "one" / "config.yaml"), "--quiet"]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
    for name, line in (("one", words), ("two", again)):
        line = [sys.executable, "-P", "-m", "zoo.scripts.cli", *line, "--run_directory", str(tmp_path / name)]
        done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
        assert "parameters are trained (freeze matches 1 layers or weights; LoRA in 5 layers)." in done.stdout
    files = [tmp_path / name / "model.keras" for name in ("one", "two")]
    for one, two in zip(*(pipeline.load_model(file).get_weights() for file in files), strict=True):
        assert one.tobytes() == two.tobytes()
    prepared = zoo.datasets.load("commands").prepare("transformer", **small)
    with zoo.precision("mixed_bfloat16"):
        before = arrays(prepared.build(seed=0))
    after = arrays(pipeline.load_model(files[0]))
    kept = {name for name in before if before[name].tobytes() == after[name].tobytes()}
    assert {
        n for n in before if n.startswith(("embedding", "block_1/inner")) or n.endswith(("bias", "gamma"))
    } - kept == {"probabilities/bias"}
    saved = tf.train.load_checkpoint(str(tmp_path / "one" / "saved_model" / "1" / "variables" / "variables"))
    names = list(saved.get_variable_to_shape_map())
    assert not [name for name in names if "lora" in name]
    held = {saved.get_tensor(name).tobytes() for name in names if saved.get_variable_to_dtype_map()[name] == tf.float32}
    assert {value.tobytes() for value in after.values()} <= held


# --- Inputs by name --------------------------------------------------------------------------------------------------


class Named:
    """A preprocessor with BERT's inputs: ids, types and a mask, from one that returns only ids."""

    kind, padding = "text", 0

    def __init__(self, inner):
        self._inner = inner

    @property
    def input_shapes(self):
        return dict.fromkeys(("token_ids", "token_type_ids", "padding_mask"), self._inner.input_shapes["token_ids"])

    def encode(self, examples):
        inputs, targets, weights = self._inner.encode(examples)
        mask = tf.cast(inputs["token_ids"] != 0, tf.int32)
        types = mask * tf.cast(targets["label"][:, tf.newaxis] % 2, tf.int32)  # 1 in every token of some examples
        return {**inputs, "token_type_ids": types, "padding_mask": mask}, targets, weights

    def trim(self, inputs, targets, weights):
        used = tf.reduce_max(tf.reduce_sum(inputs["padding_mask"], axis=1))
        return {name: part[:, :used] for name, part in inputs.items()}, targets, weights


def test_group_by_length_works_with_named_inputs():
    prepared = zoo.datasets.load("commands").prepare("transformer", **TINY)
    prepared.preprocessor = Named(prepared.preprocessor)
    batches = list(prepared.keras_batches("train", 16, seed=0, group_by_length=True).as_numpy_iterator())
    lengths = [inputs["padding_mask"].sum(axis=1) for inputs, _ in batches]
    full = sorted(((n.min(), n.max()) for n in lengths if len(n) == 16), key=sum)
    assert len(full) > 5 and all(one[1] <= two[0] for one, two in itertools.pairwise(full))
    for (inputs, _), n in zip(batches, lengths, strict=True):
        assert {part.shape for part in inputs.values()} == {(len(n), n.max())}
    inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in prepared.preprocessor.input_shapes}
    words = keras.layers.Embedding(prepared.arguments["vocab_size"], 8, name="words")(inputs["token_ids"])
    types = keras.layers.Embedding(2, 8, name="types")(inputs["token_type_ids"])
    weights = keras.ops.cast(inputs["padding_mask"], "float32")
    pooled = keras.ops.einsum("btd,bt->bd", words + types, weights)
    answers = keras.layers.Dense(prepared.arguments["num_classes"], activation="softmax", name="probabilities")(pooled)
    model = keras.Model(inputs, answers)
    config = zoo.TrainConfig(epochs=3, batch_size=16, learning_rate=0.01, group_by_length=True, freeze=["types"])
    history = zoo.train(model, prepared, config, verbose=0).history
    assert history[-1]["val_loss"] < 0.8 * history[0]["val_loss"]
