"""Losses, metrics and callbacks of `Model.compile` and `Model.fit`: the same numbers as Keras, or a sentence."""

from __future__ import annotations

import warnings

import keras
import numpy as np
import pytest

import zoo
from selection import slow
from user_models import numbers, small

layers, losses = keras.layers, keras.losses
X, Y = numbers(32, 4), np.arange(32) % 3
ONE_HOT, WEIGHTS = np.eye(3, dtype="float32")[Y], np.random.default_rng(1).random(32).astype("float32")
Sparse = losses.SparseCategoricalCrossentropy


def compiled(loss, seed=0, **arguments):
    keras.utils.set_random_seed(seed)
    return small(loss=loss, optimizer=keras.optimizers.SGD(0.3), **arguments)


def compared(make, data, epochs=2, names=("loss",), **options):
    """Trains one model with `zoo.train` and one with `fit`, in batches of everything; compares figures and weights."""
    ours, theirs = make(), make()
    theirs.run_eagerly = True  # the same numbers without a trace
    config = zoo.TrainConfig(epochs=epochs, batch_size=32, **options)
    history = zoo.train(ours, data, config, validation=data, verbose=0).history
    x, y, *weights = data
    reference = theirs.fit(
        *(x, y, 32, epochs),
        sample_weight=weights[0] if weights else None,
        validation_data=data,
        verbose=0,
        shuffle=False,
    ).history
    for name in names:
        np.testing.assert_allclose([row[name] for row in history], reference[name], rtol=1e-5)
    for one, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    return history


# --- Reductions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [slow(1), 2])
def test_the_mean_with_sample_weight_divides_by_the_sum_of_the_weights(parts):
    loss = Sparse(reduction="mean_with_sample_weight")
    compared(
        lambda: compiled(loss),
        (X, Y, WEIGHTS),
        names=("loss", "val_loss"),
        epochs=1 + (parts == 1),
        accumulation_steps=parts,
    )


@pytest.mark.parametrize("reduction", [None, "none", "sum"])
def test_a_loss_that_takes_no_mean_is_rejected(reduction):
    with pytest.raises(zoo.UsageError, match=f"reduction={reduction!r}; .* Leave reduction out"):
        zoo.train(compiled(Sparse(reduction=reduction)), (X, Y), verbose=0)


# --- Gradients -------------------------------------------------------------------------------------------------------


class Watched(keras.Model):
    """A model with a layer that its output does not depend on, and with a metric and a loss of its own in `call`."""

    def __init__(self):
        super().__init__(name="watched")
        self.used, self.unused = layers.Dense(3, activation="softmax"), layers.Dense(2, name="unused")
        self.squares = keras.metrics.Mean(name="squares")

    def call(self, x):
        self.unused(x)
        y = self.used(x)
        self.squares.update_state(keras.ops.mean(keras.ops.square(y)))
        self.add_loss(keras.ops.square(y[:, 0]))  # one for each example, which Keras adds up
        return y


def watched():
    keras.utils.set_random_seed(0)
    model = Watched()
    model(X)
    model.compile(keras.optimizers.SGD(0.03), "sparse_categorical_crossentropy")
    return model


def test_weights_without_gradient_are_named_and_metrics_of_layers_are_kept():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        compared(watched, (X, Y), names=("loss", "val_loss", "squares", "val_squares"))
    messages = [str(entry.message) for entry in caught if "stay as they are" in str(entry.message)]
    expected = "No gradient reaches 2 of 4 trainable weights, which stay as they are: watched/unused/kernel"
    assert len(messages) == 1 and messages[0].startswith(expected)


def test_training_that_changes_nothing_is_an_error():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.ops.round(layers.Dense(3, activation="softmax", name="cut")(inputs)))
    model.compile("sgd", "mse")
    with pytest.raises(zoo.UsageError, match=r"No gradient reaches any of the 2 trainable weights \(cut/kernel"):
        zoo.train(model, (X, ONE_HOT), verbose=0)
    frozen = compiled("mse")
    frozen.trainable = False
    with pytest.raises(zoo.UsageError, match=r"no trainable weights. Set layer.trainable = True"):
        zoo.train(frozen, (X, ONE_HOT), verbose=0)


def test_own_metrics_that_would_not_run_are_rejected():
    class Own(keras.Model):
        def compute_metrics(self, x, y, y_pred, sample_weight=None):
            return {}

    inputs = keras.Input((4,))
    model = Own(inputs, layers.Dense(3, activation="softmax")(inputs))
    model.compile("sgd", "mse")
    with pytest.raises(zoo.UsageError, match=r"compute_metrics of its own, .* or update metrics of the model in call"):
        zoo.train(model, (X, ONE_HOT), verbose=0)


# --- Metrics ---------------------------------------------------------------------------------------------------------


def test_a_metric_with_a_value_per_class_has_a_column_per_class():
    metrics = ["f1_score", keras.metrics.F1Score(average="macro", name="macro")]
    history = compared(
        lambda: compiled("categorical_crossentropy", metrics=metrics), (X, ONE_HOT), names=("loss", "macro")
    )
    per_class = [history[-1][f"f1_score_{i}"] for i in range(3)]
    assert np.mean(per_class) == pytest.approx(history[-1]["macro"], rel=1e-5)
    assert history[-1]["val_f1_score_2"] >= 0
    config = zoo.TrainConfig(epochs=1, keep_best=1, monitor="val_f1_score_1")
    model = compiled("categorical_crossentropy", metrics=metrics)
    zoo.train(model, (X, ONE_HOT), config, validation=(X, ONE_HOT), verbose=0)


def test_a_metric_of_one_class_is_one_number():
    metric = keras.metrics.F1Score(threshold=0.5)
    compared(
        lambda: compiled("binary_crossentropy", units=1, activation="sigmoid", metrics=[metric]),
        (X, (Y > 0)[:, None].astype("float32")),
        epochs=1,
    )


# --- Callbacks -------------------------------------------------------------------------------------------------------


class Killed(keras.callbacks.Callback):
    """Ends the process, as it seems, within an epoch."""

    def __init__(self, epoch=None):
        super().__init__()
        self.epoch, self.begun = epoch, []

    def on_epoch_begin(self, epoch, logs=None):
        self.begun.append(epoch)

    def on_train_batch_end(self, batch, logs=None):
        if self.begun[-1] == self.epoch and batch == 1:
            raise KeyboardInterrupt


@pytest.mark.parametrize("directory", [False, True])
def test_backup_and_restore_resumes_with_its_epoch(tmp_path, directory):
    config = zoo.TrainConfig(epochs=3, batch_size=8, checkpoint_steps=1)

    def trained(name, killed):
        model, backup = compiled("sparse_categorical_crossentropy"), keras.callbacks.BackupAndRestore(tmp_path / name)
        run = tmp_path / f"run-{name}" if directory else None
        history = zoo.train(model, (X, Y), config, run_directory=run, callbacks=[backup, killed], verbose=0).history
        return model.get_weights(), history

    with pytest.raises(KeyboardInterrupt):
        trained("killed", Killed(2))
    killed = Killed()
    resumed, history = trained("killed", killed)
    assert killed.begun == [2] and [row["epoch"] for row in history] == ([1, 2, 3] if directory else [3])
    weights, _ = trained("whole", Killed())
    for one, other in zip(resumed, weights, strict=True):
        np.testing.assert_array_equal(one, other)


class Batches(keras.callbacks.Callback):
    """Records what it is called with, in order."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(("train", batch, bool(np.isfinite(logs["loss"]))))

    def on_test_batch_begin(self, batch, logs=None):
        self.seen.append(("test", batch))

    def on_test_batch_end(self, batch, logs=None):
        self.seen.append(("tested", batch, sorted(logs)))

    def on_train_end(self, logs=None):
        self.seen.append("end")


def test_hooks_of_validation_batches_are_called_as_in_fit():
    ours, theirs, data = Batches(), Batches(), (X, Y)
    config = zoo.TrainConfig(epochs=1, batch_size=8)
    zoo.train(compiled("sparse_categorical_crossentropy"), data, config, validation=data, callbacks=[ours], verbose=0)
    compiled("sparse_categorical_crossentropy", run_eagerly=True).fit(
        X, Y, 8, 1, 0, callbacks=[theirs], validation_data=data
    )
    assert ours.seen == theirs.seen and ("tested", 3, ["loss"]) in ours.seen


def test_callbacks_see_a_loss_that_is_not_finite_and_the_end(capsys):
    def diverging():
        model = compiled("mse", units=1, activation=None)
        model.compile(keras.optimizers.SGD(1e30), "mse")
        return model

    seen = []
    for train in (zoo.train, None):
        callbacks = [keras.callbacks.TerminateOnNaN(), Batches()]
        x, y = X * 1e10, Y.astype("float32")
        if train is None:
            diverging().fit(x, y, 32, 3, 0, callbacks=callbacks)
        else:
            with pytest.raises(zoo.UsageError, match="Try a lower learning_rate"):
                train(diverging(), (x, y), zoo.TrainConfig(epochs=3, batch_size=32), callbacks=callbacks, verbose=0)
        seen.append(callbacks[1].seen)
    assert seen[0] == seen[1] and seen[0][-2:] == [("train", 0, False), "end"]
    assert capsys.readouterr().out.count("Invalid loss, terminating training") == 2


def test_a_metric_that_is_not_finite_is_told_from_the_loss():
    def undefined(y, p):
        return keras.ops.mean(y - p, axis=-1) * np.nan

    with pytest.raises(zoo.UsageError, match=r"The undefined is nan .* The loss is finite, .* Leave 'undefined' out"):
        zoo.train(compiled("mse", metrics=[undefined]), (X, ONE_HOT), zoo.TrainConfig(epochs=1), verbose=0)


def test_keras_own_progress_bar_and_averages(capsys):
    config = zoo.TrainConfig(epochs=1, batch_size=32)
    zoo.train(compiled("mse"), (X, ONE_HOT), config, callbacks=[keras.callbacks.ProgbarLogger()], verbose=1)
    assert "1/1" in capsys.readouterr().out
    with pytest.raises(zoo.UsageError, match=r"SwapEMAWeights; .* pass TrainConfig\(ema_momentum=0.99\)"):
        zoo.train(compiled("mse"), (X, ONE_HOT), config, callbacks=[keras.callbacks.SwapEMAWeights()])


# --- Class weights, losses of a whole batch --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sparse", slow("one hot"), "sigmoid"])
def test_class_weights_equal_fit(kind):
    loss, y, model = {
        "sparse": ("sparse_categorical_crossentropy", Y, {}),
        "one hot": ("categorical_crossentropy", ONE_HOT.astype("int64"), {}),
        "sigmoid": ("binary_crossentropy", (Y > 0).astype("float32"), {"units": 1, "activation": "sigmoid"}),
    }[kind]
    factors = {0: 5.0, 1: 0.5}
    ours, theirs = compiled(loss, **model), compiled(loss, run_eagerly=True, **model)
    config = zoo.TrainConfig(epochs=1, batch_size=32, class_weights=factors)
    row = zoo.train(ours, (X, y), config, verbose=0).history[0]
    reference = theirs.fit(X, y, 32, 1, 0, class_weight={2: 1.0, **factors})
    assert row["loss"] == pytest.approx(reference.history["loss"][0], rel=1e-5)
    np.testing.assert_allclose(ours.get_weights()[0], theirs.get_weights()[0], rtol=1e-4, atol=1e-6)
    with pytest.raises(zoo.UsageError, match=r"class_weights has the class '7'"):
        zoo.train(ours, (X, y), zoo.TrainConfig(class_weights={7: 2.0}), verbose=0)


def overlap(y, p):
    return 1 - 2 * keras.ops.sum(y * p) / keras.ops.sum(y + p)


def closeness(y, p):
    return keras.ops.mean(keras.ops.abs(y - p))


@pytest.mark.parametrize("loss", [losses.Dice(), slow(losses.Tversky()), overlap])
def test_losses_and_metrics_of_a_whole_batch_equal_fit(loss):
    """The validation split has more than a batch: these figures depend on the batches."""
    ours, theirs = (compiled(loss, metrics=[closeness], run_eagerly=eager) for eager in (False, True))
    data = (np.concatenate([X, X[:8]]), np.concatenate([ONE_HOT, ONE_HOT[:8]]))
    config = zoo.TrainConfig(epochs=1, batch_size=32)
    row = zoo.train(ours, (X, ONE_HOT), config, validation=data, verbose=0).history[0]
    reference = theirs.fit(X, ONE_HOT, 32, 1, 0, validation_data=data).history
    for name in ("loss", "closeness", "val_loss", "val_closeness"):
        assert row[name] == pytest.approx(reference[name][0], rel=1e-5)
    np.testing.assert_allclose(ours.get_weights()[0], theirs.get_weights()[0], rtol=1e-4, atol=1e-6)


def test_losses_of_a_whole_batch_take_no_weights_and_no_parts():
    with pytest.raises(
        zoo.UsageError, match=r"loss overlap is one number for a whole batch, .* Leave sample_weight out"
    ):
        zoo.train(compiled(overlap), (X, ONE_HOT, WEIGHTS), verbose=0)
    with pytest.raises(zoo.UsageError, match=r"metric closeness is one number .* Leave sample_weight out"):
        zoo.train(compiled("mse", metrics=[closeness]), (X, ONE_HOT, WEIGHTS), verbose=0)
    config = zoo.TrainConfig(batch_size=4, accumulation_steps=2)
    with pytest.raises(zoo.UsageError, match=r"overlap: one number for a whole batch, .* divided into 2 parts"):
        zoo.train(compiled(overlap), (X, ONE_HOT), config, verbose=0)
