"""The effect of every training option on the results, compared with NumPy."""

from __future__ import annotations

import math
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
import zoo.metrics
from numpy_layers import softmax
from zoo.training.adaptations.collection import Adaptations
from zoo.training.loop.callback_state import get_states, set_states
from zoo.training.loop.selection import Selection, directions
from zoo.training.mixed_precision import plain_model, policy_of, resolve
from zoo.training.optimizers import FusedAdam, FusedAdamW, Update, is_decayed


@pytest.fixture(scope="module")
def prepared():
    return zoo.datasets.load("digits").prepare("mlp", hidden_units=[], input_shape=[8, 8, 1])


def build(prepared, seed=0, precision="float32"):
    keras.utils.set_random_seed(seed)
    with zoo.strategy("one_device").scope(), zoo.precision(precision):
        return prepared.build()


class Reference:
    """Softmax regression in NumPy, float64, with all options of a config."""

    def __init__(self, model, prepared, config):
        self.weights = [w.astype(np.float64) for w in model.get_weights()]
        self.slots = [[np.zeros_like(w), np.zeros_like(w)] for w in self.weights]
        self.average = [w.copy() for w in self.weights]
        self.config, self.step = config, 0
        self.total = math.ceil(prepared.num_examples("train") / config.batch_size) * config.epochs
        counts = prepared.target_counts("train")
        wanted = config.class_weights
        self.factors = np.ones(10)
        if wanted == "balanced":
            self.factors = counts.sum() / (10 * counts)
        elif wanted:
            self.factors = np.array([wanted.get(name, 1.0) for name in prepared.class_names])

    def shares(self, y):
        smoothing = self.config.label_smoothing
        return np.eye(10)[y] * (1 - smoothing) + smoothing / 10

    def loss(self, weights, x, y, factors):
        p = softmax(x.reshape(len(x), -1) @ weights[0] + weights[1])
        return -(self.shares(y) * np.log(p)).sum(1) * factors[y], p

    def rate(self):
        c = self.config
        if self.step < c.warmup_steps:
            return c.learning_rate * (self.step + 1) / c.warmup_steps
        progress = (self.step - c.warmup_steps) / max(1, self.total - c.warmup_steps)
        after = {"constant": 1.0, "linear": 1 - progress, "cosine": (1 + math.cos(math.pi * progress)) / 2}
        return c.learning_rate * after[c.schedule]

    def train_on(self, x, y):
        c, rate = self.config, self.rate()
        losses, p = self.loss(self.weights, x, y, self.factors)
        error = (p - self.shares(y)) * self.factors[y][:, None] / len(y)
        gradients = [x.reshape(len(x), -1).T @ error, error.sum(0)]
        if c.clip_norm is not None:
            norm = math.sqrt(sum((g**2).sum() for g in gradients))
            gradients = [g * c.clip_norm / max(norm, c.clip_norm) for g in gradients]
        for i, g in enumerate(gradients):
            decay = (c.weight_decay or 0.0) if i == 0 else 0.0  # biases are never decayed
            self.weights[i] = self.weights[i] * (1 - rate * decay)
            if c.optimizer == "sgd":
                self.weights[i] = self.weights[i] - rate * g
                continue
            m, v = self.slots[i]
            m[...] = 0.9 * m + 0.1 * g
            v[...] = 0.999 * v + 0.001 * g**2
            t = self.step + 1
            step = rate * math.sqrt(1 - 0.999**t) / (1 - 0.9**t)
            self.weights[i] = self.weights[i] - step * m / (np.sqrt(v) + 1e-7)
        momentum = 0.0 if self.step == 0 else c.ema_momentum
        if c.ema_momentum is not None:
            self.average = [momentum * a + (1 - momentum) * w for a, w in zip(self.average, self.weights, strict=True)]
        self.step += 1
        return losses

    def run(self, prepared):
        rows = []
        for epoch in range(self.config.epochs):
            batches = prepared.keras_batches("train", self.config.batch_size, seed=self.config.seed, epoch=epoch)
            losses = [self.train_on(x.astype(np.float64), y) for x, y in batches.as_numpy_iterator()]
            final = self.average if self.config.ema_momentum is not None else self.weights
            (x, y), *_ = prepared.keras_batches("validation", 1000).as_numpy_iterator()
            value, _ = self.loss(final, x, y, np.ones(10))
            rows.append({"loss": np.concatenate(losses).mean(), "val_loss": value.mean()})
        return final, rows


EVERYTHING = {
    "optimizer": "adamw",
    "learning_rate": 0.01,
    "weight_decay": 0.1,
    "clip_norm": 0.5,
    "schedule": "cosine",
    "warmup_steps": 7,
    "ema_momentum": 0.95,
    "label_smoothing": 0.1,
    "class_weights": {"3": 2.5, "7": 0.25},
    "accumulation_steps": 3,
}


@pytest.mark.parametrize(
    "options",
    [
        EVERYTHING,
        {"optimizer": "adam", "learning_rate": 0.01, "ema_momentum": 0.9},
        {
            **{"optimizer": "sgd", "learning_rate": 0.5, "weight_decay": 0.1, "schedule": "linear"},
            "class_weights": "balanced",
        },
        *(
            pytest.param({"optimizer": "sgd", "learning_rate": 0.5, **option}, marks=pytest.mark.slow)
            for option in (
                {"accumulation_steps": 4},
                {"weight_decay": 0.1, "schedule": "linear"},
                {"label_smoothing": 0.2},
                {"class_weights": "balanced"},
            )
        ),
    ],
    ids=[
        *("everything", "adam-average", "decay-and-balanced"),
        *("accumulation", "weight-decay", "smoothing", "balanced"),
    ],
)
def test_options_equal_numpy(prepared, options):
    # Parts of unequal size matter for accumulation only.
    size = 50 if "accumulation_steps" in options else 431
    config = zoo.TrainConfig(epochs=2, batch_size=size, jit_compile=False, **options)
    model = build(prepared)
    weights, rows = Reference(model, prepared, config).run(prepared)
    result = zoo.train(model, prepared, config, verbose=0)
    for one, two in zip(result.model.get_weights(), weights, strict=True):
        np.testing.assert_allclose(one, two, atol=2e-5)
    for row, expected in zip(result.history, rows, strict=True):
        assert row["loss"] == pytest.approx(expected["loss"], abs=2e-5)
        assert row["val_loss"] == pytest.approx(expected["val_loss"], abs=2e-5)


def test_accumulation_accepts_fewer_rows_than_parts(prepared):
    """The last batch of 1,293 examples has 3; divided into four parts, no example may count twice."""
    weights = []
    for parts in (1, 4):
        model = build(prepared)
        config = zoo.TrainConfig(
            epochs=1, batch_size=43, optimizer="sgd", learning_rate=0.5, accumulation_steps=parts, jit_compile=False
        )
        assert prepared.num_examples("train") % 43 in (1, 2, 3)
        zoo.train(model, prepared, config, verbose=0)
        weights.append(model.get_weights())
    for one, two in zip(*weights, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-5)


def test_fused_adam_equals_the_formula_and_keras():
    """In float64. Keras rounds Adam's betas to float32, so its distance to the formula is a little larger."""
    generator = np.random.default_rng(0)
    start, gradients = generator.normal(size=(7, 5)), generator.normal(size=(20, 7, 5))
    ends = []
    kinds = (FusedAdam, keras.optimizers.Adam)
    for optimizer in (*(kind(0.125) for kind in kinds), *(kind(0.125, amsgrad=True) for kind in kinds)):
        variable = keras.Variable(start, dtype="float64")
        optimizer.build([variable])
        for gradient in gradients:
            optimizer.apply([tf.constant(gradient)], [variable])
        ends.append(variable.numpy())
    weights, m, v = start, np.zeros_like(start), np.zeros_like(start)
    for t, g in enumerate(gradients, start=1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        weights = weights - 0.125 * math.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m / (np.sqrt(v) + 1e-7)
    np.testing.assert_allclose(ends[0], weights, rtol=0, atol=1e-12)
    np.testing.assert_allclose(ends[1], weights, rtol=0, atol=1e-4)
    np.testing.assert_array_equal(ends[2], ends[3])
    assert FusedAdamW().weight_decay == 0.004


def test_biases_and_norms_are_not_decayed():
    inputs = keras.Input((4, 3), dtype="int32")
    x = keras.layers.Embedding(5, 6)(inputs)
    x = keras.layers.Conv2D(2, 2)(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.LayerNormalization()(x)
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(x)))
    decayed = [v.name for v in model.trainable_variables if is_decayed(v)]
    assert decayed == ["embeddings", "kernel", "kernel"]


def make_update(scaled, **options):
    variable, config = keras.Variable([[1.0, 2.0]]), zoo.TrainConfig(**options)
    adaptations = Adaptations(keras.Sequential(), config)
    return variable, adaptations, Update(keras.optimizers.Adam(0.1), [variable], config, adaptations, scaled=scaled)


def test_infinite_gradients_skip_the_step_and_halve_the_loss_scale():
    variable, adaptations, update = make_update(True, ema_momentum=0.9, weight_decay=0.1)
    apply = tf.function(lambda g: update.apply([g], [variable]))
    apply(tf.constant([[0.1, 0.1]]))
    before = [v.numpy() for v in [variable, *adaptations.evaluated, *update.optimizer._momentums]]
    assert float(update.scale()) == 2.0**15
    apply(tf.constant([[np.inf, 0.1]]))
    after = [v.numpy() for v in [variable, *adaptations.evaluated, *update.optimizer._momentums]]
    for one, two in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, two)
    assert float(update.scale()) == 2.0**14
    apply(tf.constant([[0.1, 0.1]]))
    assert (variable.numpy() != before[0]).all()
    update._scale[1].assign(1999)
    apply(tf.constant([[0.1, 0.1]]))
    assert float(update.scale()) == 2.0**15 and int(update._scale[1].numpy()) == 0


def test_closing_an_update_restores_the_optimizer():
    optimizer = keras.optimizers.AdamW(weight_decay=0.3)
    variable, config = keras.Variable([[1.0]]), zoo.TrainConfig(ema_momentum=0.9)
    update = Update(optimizer, [variable], config, Adaptations(keras.Sequential(), config))
    assert "_distributed_tf_update_step" in vars(optimizer)
    update.close()
    assert optimizer.weight_decay == 0.3 and "_distributed_tf_update_step" not in vars(optimizer)
    assert len(optimizer.variables) == 4  # iterations, learning rate, two slots


@pytest.mark.parametrize("precision", [pytest.param("mixed_bfloat16", marks=pytest.mark.slow), "mixed_float16"])
def test_mixed_precision_trains_and_ends_in_float32(precision):
    prepared = zoo.datasets.load("digits").prepare("mlp", hidden_units=[16], input_shape=[8, 8, 1])
    model = build(prepared, precision=precision)
    assert policy_of(model) == precision and policy_of(build(prepared)) == "float32"
    options = {"epochs": 3, "learning_rate": 0.01}
    config = zoo.TrainConfig(**options, precision=precision)
    result = zoo.train(model, prepared, config, verbose=0)
    single = zoo.train(build(prepared), prepared, zoo.TrainConfig(**options), verbose=0)
    assert result.history[-1]["val_loss"] == pytest.approx(single.history[-1]["val_loss"], abs=0.05)
    assert result.model is not model and policy_of(result.model) == "float32"
    assert zoo.registry.describe_build(result.model) == zoo.registry.describe_build(model)
    x, _ = next(iter(prepared.keras_batches("test", 50)))
    np.testing.assert_allclose(result.model(x), model(x), atol=0.02)
    assert plain_model(single.model) is single.model
    with pytest.raises(zoo.UsageError, match=r"computes in float32, the config says precision='mixed_.*zoo.precision"):
        zoo.train(build(prepared), prepared, config, verbose=0)


def test_auto_precision_depends_on_the_device(monkeypatch):
    def gpu(capability):
        monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["a card"])
        details = {"compute_capability": capability}
        monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda card: details)

    for capability, policy in {(9, 0): "mixed_bfloat16", (7, 5): "mixed_float16", (6, 1): "float32"}.items():
        gpu(capability)
        assert resolve("auto") == policy
    assert resolve("mixed_float16") == "mixed_float16"
    with pytest.raises(zoo.UsageError, match=r"precision is 'bfloat'. Did you mean"):
        resolve("bfloat")


def test_augmentation_changes_only_training_and_is_reproducible(tmp_path):
    prepared = zoo.datasets.load("digits").prepare("mlp", hidden_units=[4], input_shape=[8, 8, 1])
    config = zoo.TrainConfig(epochs=2, augmentation=["crop", "flip", "mixup"], deterministic=True, batch_size=431)
    first = zoo.train(build(prepared), prepared, config, verbose=0)
    plain = zoo.train(build(prepared), prepared, zoo.TrainConfig(epochs=2, batch_size=431), verbose=0)
    assert first.history[0]["loss"] != pytest.approx(plain.history[0]["loss"], abs=1e-3)
    again = zoo.train(build(prepared), prepared, config, verbose=0)
    for one, two in zip(first.model.get_weights(), again.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    texts = zoo.datasets.load("commands").prepare("embedding_lstm", embedding_dim=4, lstm_units=3)
    with pytest.raises(zoo.UsageError, match=r"augmentation is for images.*leave augmentation out"):
        zoo.train(build(texts), texts, zoo.TrainConfig(augmentation=["flip"]), verbose=0)


KNOWN = {"loss": "min", "val_loss": "min", "val_accuracy": "max", "val_own": None}


def selection_of(**options):
    return Selection(zoo.TrainConfig(**options), ("val_loss", "min"), KNOWN)


def logs_of(*values, name="val_loss"):
    return [{name: value, "loss": 0.0} for value in values]


def test_selection_keeps_the_best_and_stops():
    selection = selection_of(patience=2, keep_best=2)
    kept = [selection.add(i, logs) for i, logs in enumerate(logs_of(3.0, 1.0, 2.0, 2.5), start=1)]
    assert kept == [True, True, True, False] and selection.best == [(2, 1.0), (3, 2.0)]
    assert selection.exhausted and selection.chosen == 2
    again = selection_of(patience=2, keep_best=2)
    again.restore(selection.state())
    assert again.state() == selection.state() and again.exhausted
    up = selection_of(patience=1, keep_best=1, monitor="val_accuracy")
    assert [up.add(i, logs) for i, logs in enumerate(logs_of(0.1, 0.3, 0.2, name="val_accuracy"))] == [
        True,
        True,
        False,
    ]
    assert selection_of().add(1, {}) is False


def test_small_gains_add_up_to_an_improvement():
    small = selection_of(patience=3, min_delta=0.5)
    for i, logs in enumerate(logs_of(3.0, 2.8, 2.6, 2.4, 2.2)):
        small.add(i, logs)
    assert not small.exhausted and small.chosen is None and small.waited == 1


@pytest.mark.parametrize(
    ("monitor", "message"),
    [
        ("val_acuracy", r"monitor is 'val_acuracy', which no epoch of this run has. Did you mean 'val_accuracy'"),
        ("val_own", r"monitor is 'val_own'; its better direction is unknown. Choose the loss"),
    ],
)
def test_unusable_monitored_metrics_are_rejected(monitor, message):
    with pytest.raises(zoo.UsageError, match=message):
        selection_of(patience=1, monitor=monitor)


@pytest.mark.parametrize("shape", [(3,), (3, 2)])
def test_errors_of_numbers_reject_targets_of_another_shape(shape):
    """Broadcasting (3,) and (3, 1) would compare every example with every other one."""
    targets, outputs = np.zeros(shape, np.float32), np.zeros((3, 1), np.float32)
    message = r"targets have the shape \(3.*, the outputs \(3, 1\); expected the same shape.*Return targets"
    with pytest.raises(zoo.UsageError, match=message):
        zoo.metrics.SquaredError(reduction=None)(targets, outputs)
    with pytest.raises(zoo.UsageError, match=message):
        zoo.metrics.AbsoluteError().update_state(targets, outputs)
    assert zoo.metrics.SquaredError(reduction=None)(outputs, outputs + 2).numpy().tolist() == [4.0, 4.0, 4.0]


def test_metrics_define_whether_higher_is_better():
    metrics = [
        keras.metrics.Mean(name="loss"),
        keras.metrics.MeanAbsolutePercentageError(name="mape"),
        keras.metrics.AUC(name="auc"),
        zoo.metrics.AbsoluteError(name="mae"),
        zoo.metrics.LastStepAccuracy(name="accuracy"),
        keras.metrics.Mean(name="own"),
    ]
    ways = {"loss": "min", "mape": "min", "auc": "max", "mae": "min", "accuracy": "max", "own": None}
    assert directions(metrics, validation=False) == ways
    assert directions(metrics, validation=True)["val_mape"] == "min"


def test_a_run_stops_early_and_keeps_its_best_weights(prepared, tmp_path):
    config = zoo.TrainConfig(epochs=12, learning_rate=0.5, patience=2, keep_best=2, batch_size=128, monitor="val_loss")
    result = zoo.train(build(prepared), prepared, config, run_directory=tmp_path / "run", verbose=0)
    values = [row["val_loss"] for row in result.history]
    best = int(np.argmin(values))
    assert len(values) == best + 3 < 12, "the learning rate must be one that gets worse again"
    (x, y), *_ = prepared.keras_batches("validation", 1000).as_numpy_iterator()
    p = result.model.predict(x, verbose=0)
    assert -np.log(p[np.arange(len(y)), y]).mean() == pytest.approx(values[best], abs=1e-4)
    folders = sorted(f.name for f in (tmp_path / "run" / "checkpoints").glob("best-*"))
    assert len(folders) == 2 and f"best-{best + 1:06d}" in folders
    saved = keras.saving.load_model(tmp_path / "run" / "model.keras", compile=False)
    again = zoo.train(build(prepared, 1), prepared, config, run_directory=tmp_path / "run", verbose=0)
    for one, two, three in zip(saved.get_weights(), again.model.get_weights(), result.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(two, three)


def test_callback_states_are_restored():
    class Counter(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.seen = {"epochs": [1], "table": np.zeros(2)}

        def get_state(self):
            return self.seen

        def set_state(self, state):
            self.seen = state

    stop = keras.callbacks.EarlyStopping(patience=3)
    stop.wait, stop.best, stop.best_weights = 2, np.float32(0.5), [np.arange(4.0)]
    counter = Counter()
    counter.seen = {"epochs": [1, 2], "table": np.arange(3), "worst": math.inf}
    states = get_states([stop, counter, keras.callbacks.Callback()])
    others = [keras.callbacks.EarlyStopping(patience=3), Counter(), keras.callbacks.Callback()]
    set_states(others, states)
    assert others[0].wait == 2 and others[0].best == 0.5
    np.testing.assert_array_equal(others[0].best_weights[0], np.arange(4.0))
    assert others[1].seen["epochs"] == [1, 2] and others[1].seen["worst"] == math.inf
    np.testing.assert_array_equal(others[1].seen["table"], np.arange(3))
    unlike = [Counter()]
    set_states(unlike, states)
    assert unlike[0].seen["epochs"] == [1]


def test_out_of_memory_is_reported_with_a_fix():
    inputs = keras.Input((1,))
    x = keras.layers.GlobalAveragePooling1D()(keras.layers.RepeatVector(1_000_000)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(1)(x))
    model.compile(optimizer="sgd", loss="mse")
    x = np.zeros((1_000_000, 1), np.float32)  # times a million units: four terabytes
    with pytest.raises(zoo.UsageError, match=r"Out of memory with batch_size=1000000.*Pass accumulation_steps=2"):
        zoo.train(model, (x, x), zoo.TrainConfig(epochs=1, batch_size=1_000_000), verbose=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_weights": {"eleven": 2.0}}, r"class_weights has the class 'eleven'\. "),
        ({"batch_size": 2, "accumulation_steps": 3}, r"batch_size=2 cannot be divided into accumulation_steps=3 parts"),
        (
            {"jit_compile": True, "accumulation_steps": 2},
            r"jit_compile=true cannot be combined with accumulation_steps=2",
        ),
        ({"min_delta": 0.1}, r"min_delta=0.1 has no effect without patience"),
        ({"closed_form": True, "ema_momentum": 0.9}, r"ema_momentum=0.9 has no effect with closed_form=true"),
        ({"augmentation": ["mixup", "mixup"]}, r"augmentation names 'mixup' twice; expected it once. Remove one"),
        ({"augmentation": ["flop"]}, r"Unknown augmentation 'flop'\. Did you mean 'flip'"),
        ({"augmentation": ["mixup", "flip"]}, r"augmentation has 'flip' after 'mixup' or 'cutmix'.*Put 'flip' before"),
        ({"class_weights": "equal"}, r"class_weights is 'equal'\. Pass 'balanced'"),
        (
            {"class_weights": {"3": -1}},
            r"class_weights has '3': -1; expected a class's name and a number of at least 0",
        ),
        ({"ema_momentum": 1.0}, r"ema_momentum is 1\.0; expected at least 0 and less than 1"),
        ({"label_smoothing": 1}, r"label_smoothing is 1; expected at least 0 and less than 1"),
        ({"weight_decay": -0.1}, r"weight_decay is -0\.1; expected a number of at least 0"),
        ({"precision": "half"}, r"precision is 'half'\. "),
        ({"jit_compile": "yes"}, r"jit_compile is 'yes'\. Pass true, false or auto"),
        ({"strategy": "one_devise"}, r"strategy is 'one_devise'\. Did you mean 'one_device'"),
    ],
)
def test_contradictory_options_are_rejected(prepared, options, message):
    with pytest.raises(zoo.UsageError, match=message):
        zoo.train(
            types.SimpleNamespace(), prepared, zoo.TrainConfig(**options)
        ) if "class_weights" not in options else (
            zoo.train(build(prepared), prepared, zoo.TrainConfig(**options), verbose=0)
        )


def test_label_smoothing_of_regression_targets_is_rejected():
    prepared = zoo.datasets.load("seasons").prepare("lstm", units=[3])
    for options, message in (
        ({"label_smoothing": 0.1}, r"label_smoothing=0.1 requires classes"),
        ({"class_weights": "balanced"}, r"class_weights is 'balanced', but this data has no classes"),
    ):
        with pytest.raises(zoo.UsageError, match=message):
            zoo.train(build(prepared), prepared, zoo.TrainConfig(**options), verbose=0)
