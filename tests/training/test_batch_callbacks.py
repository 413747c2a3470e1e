"""Callbacks with a hook for every batch, compared with `Model.fit`."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from zoo.training.loop.call_length import needs_every_batch

X = np.random.default_rng(0).normal(size=(80, 4)).astype("float32")
Y = (X[:, 0] > 0).astype("int64")


class Batches(keras.callbacks.Callback):
    """Records the batches; may stop within an epoch, or set the learning rate of every step."""

    def __init__(self, stop_at=None, rate=None):
        super().__init__()
        self.seen, self.stop_at, self.rate = [], stop_at, rate

    def on_train_batch_begin(self, batch, logs=None):
        if self.rate:
            self.model.optimizer.learning_rate = self.rate / (1 + len(self.seen))

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(batch)
        if batch == self.stop_at:
            self.model.stop_training = True


def compiled(**options):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, activation="softmax")])
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy", **options)
    return model


def trained(callbacks, epochs=2, model=None):
    return zoo.train(
        model or compiled(),
        unshuffled(),
        zoo.TrainConfig(epochs=epochs, batch_size=8),
        callbacks=callbacks,
        verbose=0,
    )


def unshuffled():
    """A data set is not shuffled, unlike arrays, so its batches are those of `fit`."""
    return tf.data.Dataset.from_tensor_slices((X, Y))


def test_every_batch_is_seen_and_may_set_the_learning_rate():
    ours, theirs = Batches(rate=0.5), Batches(rate=0.5)
    model = compiled()
    trained([ours], model=model)
    reference = compiled(run_eagerly=True)
    reference.fit(unshuffled().batch(8), epochs=2, callbacks=[theirs], verbose=0)
    assert ours.seen == theirs.seen == [*range(10)] * 2
    for ours_weight, weight in zip(model.get_weights(), reference.get_weights(), strict=True):
        np.testing.assert_allclose(ours_weight, weight, rtol=1e-5, atol=1e-6)


def test_training_stops_at_the_very_batch():
    ours, theirs = Batches(stop_at=3), Batches(stop_at=3)
    trained([ours])
    compiled(run_eagerly=True).fit(unshuffled().batch(8), epochs=2, callbacks=[theirs], verbose=0)
    assert ours.seen == theirs.seen == [0, 1, 2, 3]


def test_checkpoints_are_saved_every_few_batches(tmp_path):
    folders = [tmp_path / "ours", tmp_path / "fit"]
    callbacks = [
        keras.callbacks.ModelCheckpoint(str(folder / "{epoch}-{batch}.keras"), save_freq=4) for folder in folders
    ]
    trained([callbacks[0]])
    compiled(run_eagerly=True).fit(unshuffled().batch(8), epochs=2, callbacks=[callbacks[1]], verbose=0)
    names = [sorted(file.name for file in folder.iterdir()) for folder in folders]
    assert names[0] == names[1] and len(names[0]) == 5


@pytest.mark.parametrize(
    ("callback", "needs"),
    [
        (Batches(), True),
        (keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: None), True),
        (keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: None), False),
        (keras.callbacks.ModelCheckpoint("x.keras"), False),
        (keras.callbacks.TensorBoard("logs"), False),
        (keras.callbacks.TensorBoard("logs", update_freq=2), True),
        (keras.callbacks.TerminateOnNaN(), False),
        (keras.callbacks.EarlyStopping(), False),
        (keras.callbacks.CSVLogger("x.csv"), False),
    ],
)
def test_only_hooks_of_every_batch_shorten_the_calls(callback, needs):
    assert needs_every_batch(callback) == needs


def test_the_slower_calls_are_announced(capsys):
    zoo.train(compiled(), (X, Y), zoo.TrainConfig(epochs=1, batch_size=8), callbacks=[Batches()], verbose=2)
    assert "Batches is called at every batch, so a compiled call has one step" in capsys.readouterr().out


def test_one_callback_needs_no_list_and_a_class_is_rejected():
    ours = Batches()
    trained(ours, epochs=1)
    assert ours.seen == [*range(10)]
    with pytest.raises(zoo.UsageError, match=r"callbacks has <class '.*EarlyStopping'>; expected objects"):
        trained([keras.callbacks.EarlyStopping])
