"""Adaptations: one that is defined in this file trains, is checkpointed and is closed like the built-in ones."""

from __future__ import annotations

import dataclasses
import os
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from zoo.training.adaptations import contract
from zoo.training.adaptations.collection import Adaptations, adapted
from zoo.training.adaptations.contract import Adaptation, register_adaptation
from zoo.training.loop.signals import Interrupted


@dataclasses.dataclass(frozen=True)
class Config(zoo.TrainConfig):
    largest_weight: float | None = None


class Clipping(Adaptation):
    """Clips every weight to a range after each step, trains at half the rate, and counts the steps."""

    fields = ("largest_weight",)
    closed = 0
    counted: tuple[int, ...] = ()

    def apply(self):
        self.model.get_layer("hidden_2").trainable = False

    def build(self, weights):
        self.steps = [keras.Variable(0, trainable=False, dtype="int32", name="steps") for _ in weights]
        return [[steps] for steps in self.steps]

    def rate(self, weight):
        return 0.5

    def after_step(self, weight, number, own, step):
        limit = self.config.largest_weight
        weight.assign(tf.clip_by_value(weight, -limit, limit))
        own[0].assign_add(1 + 0 * tf.cast(step, tf.int32))

    def close(self):
        self.model.get_layer("hidden_2").trainable = True
        Clipping.closed += 1
        Clipping.counted = tuple(int(steps.numpy()) for steps in self.steps)


@pytest.fixture
def clipping(monkeypatch):
    Adaptations(keras.Sequential(), zoo.TrainConfig())  # find the built-in adaptations first
    monkeypatch.setattr(contract, "_REGISTERED", dict(contract._REGISTERED))
    monkeypatch.setattr(Clipping, "closed", 0)
    return register_adaptation(Clipping)


def weights_after(prepared, config, **options):
    model = prepared.build(seed=0)
    zoo.train(model, prepared, config, verbose=0, **options)
    return model, [v.numpy() for v in model.weights]


def test_custom_adaptation_trains_resumes_and_closes(clipping, tmp_path):
    prepared = zoo.datasets.load("digits").prepare("mlp", hidden_units=[5, 4], input_shape=[8, 8, 1])
    initial = prepared.build(seed=0).get_weights()
    plain = {
        "epochs": 2,
        "batch_size": 431,
        "deterministic": True,
        "ema_momentum": 0.5,
        "freeze": ["probabilities/bias"],
    }
    config = Config(**plain, largest_weight=0.125)
    _, free = weights_after(prepared, Config(**plain))
    assert clipping.closed == 0 and max(np.abs(w).max() for w in free) > 0.125
    model, whole = weights_after(prepared, config)
    assert clipping.closed == 1 and clipping.counted == (6,) * 3  # two frozen by `apply`, one by `freeze`
    moved = [(one != two).any() for one, two in zip(initial, whole, strict=True)]
    assert moved == [True, True, False, False, True, False] and all(v.trainable for v in model.weights)
    assert np.abs(whole[0]).max() == 0.125 and np.abs(whole[4]).max() <= 0.125

    class Leave(keras.callbacks.Callback):
        def on_test_begin(self, logs=None):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted):
        weights_after(prepared, config, run_directory=tmp_path, callbacks=[Leave()])
    assert clipping.closed == 2 and clipping.counted == (3,) * 3
    _, resumed = weights_after(prepared, config, run_directory=tmp_path)
    assert clipping.counted == (6,) * 3  # the checkpoint contains the adaptation's own variables
    assert [w.tobytes() for w in resumed] == [w.tobytes() for w in whole]


def test_adaptation_rate_equals_a_lower_learning_rate(clipping):
    prepared = zoo.datasets.load("digits").prepare("mlp", hidden_units=[5, 4], input_shape=[8, 8, 1])
    plain = {"epochs": 1, "batch_size": 431, "optimizer": "sgd", "deterministic": True}
    _, half = weights_after(prepared, Config(**plain, learning_rate=0.25, largest_weight=100.0))
    _, same = weights_after(prepared, Config(**plain, learning_rate=0.125, freeze=["hidden_2"]))
    assert [w.tobytes() for w in half] == [w.tobytes() for w in same]


def test_adaptations_are_closed_once_in_reverse_order(clipping, monkeypatch):
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(4, name="hidden_2"), keras.layers.Dense(2, name="last")]
    )
    monkeypatch.setattr(Clipping, "order", -2)
    closed = []
    for kind in contract.registered():
        monkeypatch.setattr(kind, "close", lambda self: closed.append(type(self).__name__))
    with adapted(
        model, Config(largest_weight=1.0, freeze=["hidden_2/bias"], lora_rank=1, layer_decay=0.5)
    ) as adaptations:
        adaptations.close()
    assert closed == ["Lora", "LayerDecay", "Freeze", "Clipping"]


def test_duplicate_adaptation_names_are_rejected(clipping):
    other = type("Clipping", (Adaptation,), {"fields": (), "__module__": "elsewhere"})
    with pytest.raises(
        ValueError, match=r"Adaptation 'Clipping' is registered twice: by .* and by elsewhere. Rename one"
    ):
        register_adaptation(other)
    assert register_adaptation(clipping) is clipping
