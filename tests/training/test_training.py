"""The training loop compared with NumPy and with other devices, and its behaviour under kill -9."""

from __future__ import annotations

import dataclasses
import math
import os
import shutil
import subprocess

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from zoo.config import read_yaml
from zoo.training.optimizers import FusedAdamW, make_optimizer
from zoo.training.run_directory import _CONFIG_HEAD
from zoo.training.schedules import WarmupSchedule

TIMES = ("seconds", "examples_per_second")


@pytest.fixture(scope="module")
def digits():
    return zoo.datasets.load("digits")


@pytest.fixture(scope="module")
def prepared(digits):
    return digits.prepare("mlp", hidden_units=[8], input_shape=[8, 8, 1])


def quick(**options):
    """Returns a config of three equal batches: a last batch of another size is traced too."""
    return zoo.TrainConfig(**{"epochs": 2, "batch_size": 431, **options})


@pytest.fixture(scope="module")
def finished(prepared, tmp_path_factory):
    """A finished run of two epochs and its weights; tests only read it."""
    folder, model = tmp_path_factory.mktemp("finished") / "run", build(prepared)
    result = zoo.train(model, prepared, quick(), run_directory=folder, verbose=0)
    assert result.run_directory == folder and prepared.num_examples("train") % 431 == 0
    return folder, model.get_weights()


@pytest.fixture
def run(finished, tmp_path):
    """A copy of the finished run."""
    return shutil.copytree(finished[0], tmp_path / "run")


def build(prepared, seed=0):
    keras.utils.set_random_seed(seed)
    with zoo.strategy("one_device").scope():
        return prepared.build()


def without_times(rows):
    return [{k: v for k, v in row.items() if k not in TIMES} for row in rows]


def softmax_regression(weights, bias, batches, learning_rate, clip_norm=None):
    """Runs gradient descent on the mean cross-entropy in NumPy; returns the weights and the mean training loss."""
    total = count = 0.0
    for x, y in batches:
        x = x.reshape(len(x), -1).astype(np.float64)
        scores = x @ weights + bias
        scores -= scores.max(1, keepdims=True)
        p = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
        total -= np.log(p[np.arange(len(y)), y]).sum()
        count += len(y)
        error = (p - np.eye(p.shape[1])[y]) / len(y)
        gradients = [x.T @ error, error.sum(0)]
        if clip_norm is not None:
            norm = math.sqrt(sum((g**2).sum() for g in gradients))
            gradients = [g * clip_norm / max(norm, clip_norm) for g in gradients]
        weights = weights - learning_rate * gradients[0]
        bias = bias - learning_rate * gradients[1]
    return weights, bias, total / count


@pytest.mark.parametrize("clip_norm", [pytest.param(None, marks=pytest.mark.slow), 0.1])
def test_an_epoch_equals_numpy(digits, clip_norm):
    prepared = digits.prepare("mlp", hidden_units=[], input_shape=[8, 8, 1])
    model = build(prepared)
    weights, bias = (w.astype(np.float64) for w in model.get_weights())
    batches = list(prepared.keras_batches("train", 50, seed=3, epoch=0).as_numpy_iterator())
    assert len(batches[-1][1]) not in (0, 50), "the last batch must be a smaller one"
    weights, bias, loss = softmax_regression(weights, bias, batches, 0.5, clip_norm)
    config = zoo.TrainConfig(
        epochs=1, batch_size=50, optimizer="sgd", learning_rate=0.5, clip_norm=clip_norm, seed=3, steps_per_call=7
    )
    result = zoo.train(model, prepared, config, verbose=0)
    np.testing.assert_allclose(model.get_weights()[0], weights, atol=1e-5)
    np.testing.assert_allclose(model.get_weights()[1], bias, atol=1e-5)
    assert result.history[0]["loss"] == pytest.approx(loss, abs=1e-5)


def test_validation_metrics_equal_numpy(prepared):
    model = build(prepared)
    row = zoo.train(model, prepared, quick(epochs=1), verbose=0).history[0]
    outputs, targets = [], []
    for x, y in prepared.keras_batches("validation", 1000):
        outputs.append(model(x).numpy().astype(np.float64))
        targets.append(y.numpy())
    probabilities, labels = np.concatenate(outputs), np.concatenate(targets)
    assert row["val_accuracy"] == pytest.approx((probabilities.argmax(1) == labels).mean(), abs=1e-6)
    assert row["val_loss"] == pytest.approx(-np.log(probabilities[np.arange(len(labels)), labels]).mean(), abs=1e-5)


def test_run_directory_contains_the_run(finished):
    run, _ = finished
    names = {"config.yaml", "history.csv", "model.keras", "tensorboard", "checkpoints", "plots", "interface"}
    assert names <= {p.name for p in run.iterdir()}
    settings = read_yaml(run / "config.yaml")
    assert settings["model"]["name"] == "mlp" and settings["model"]["hidden_units"] == [8]
    assert zoo.TrainConfig.from_dict(settings["config"]) == quick()
    header, *rows = (run / "history.csv").read_text().splitlines()
    assert header.split(",")[:5] == ["epoch", "loss", "accuracy", "val_loss", "val_accuracy"] and len(rows) == 2
    assert (run / "plots" / "history.png").read_bytes().startswith(b"\x89PNG")
    scalars = [
        e for f in (run / "tensorboard" / "validation").iterdir() for e in tf.compat.v1.train.summary_iterator(str(f))
    ]
    assert {v.tag for e in scalars for v in e.summary.value} == {"loss", "accuracy"}
    assert len(list((run / "checkpoints").iterdir())) == 2


def test_a_finished_run_is_not_trained_again(prepared, finished, run, capsys):
    second = build(prepared, seed=1)
    result = zoo.train(second, prepared, quick(), run_directory=run)
    assert "training is done, after 2 epochs" in capsys.readouterr().out
    assert len(result.history) == 2 and result.resumed_at == (2, 0)
    for a, b in zip(finished[1], second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_more_epochs_resume_a_finished_run(prepared, run):
    whole, model = build(prepared), build(prepared)
    zoo.train(whole, prepared, quick(epochs=3), verbose=0)
    result = zoo.train(model, prepared, quick(epochs=3), run_directory=run, verbose=0)
    assert result.resumed_at == (2, 0) and len(result.history) == 3
    for a, b in zip(whole.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rate": 0.5}, r"config\.learning_rate=0\.001; this one has 0\.5.*--overwrite"),
        ({"epochs": 1}, r"config\.epochs=2; this one has 1"),
        ({"epochs": 3, "schedule": "cosine"}, r"config\.epochs=2; this one has 3"),
    ],
)
def test_other_settings_are_rejected_without_changes(prepared, run, change, message):
    before = (run / "config.yaml").read_text(), (run / "history.csv").read_text()
    with pytest.raises(zoo.UsageError, match=message):
        zoo.train(build(prepared), prepared, quick(**change), run_directory=run, verbose=0)
    assert before == ((run / "config.yaml").read_text(), (run / "history.csv").read_text())


def test_rejected_settings_create_no_files(prepared, tmp_path):
    with pytest.raises(zoo.UsageError, match="Unknown optimizer"):
        config = zoo.TrainConfig(optimizer="adan")
        zoo.train(build(prepared), prepared, config, run_directory=tmp_path / "run", verbose=0)
    assert list(tmp_path.iterdir()) == []


def test_settings_can_change_before_the_first_checkpoint(prepared, tmp_path):
    (tmp_path / "config.yaml").write_text(
        f"{_CONFIG_HEAD}model: {{name: cnn}}\ndata: {{name: digits}}\nconfig: {{epochs: 7}}\n"
    )
    result = zoo.train(build(prepared), prepared, quick(epochs=1), run_directory=tmp_path, verbose=0)
    assert len(result.history) == 1 and read_yaml(tmp_path / "config.yaml")["model"]["name"] == "mlp"


def test_overwrite_starts_a_new_run(prepared, run):
    config = quick(epochs=1, learning_rate=0.01)
    result = zoo.train(build(prepared), prepared, config, run_directory=run, verbose=0, overwrite=True)
    assert result.resumed_at is None and len(result.history) == 1


def test_a_folder_without_a_run_is_rejected(prepared, tmp_path):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "to-grandmother.txt").write_text("dear")
    config = zoo.TrainConfig(epochs=1)
    for overwrite in (False, True):
        with pytest.raises(zoo.UsageError, match=r"letters exists and is not a run.*nothing was changed"):
            zoo.train(
                build(prepared), prepared, config, run_directory=tmp_path / "letters", overwrite=overwrite, verbose=0
            )
    assert [p.name for p in (tmp_path / "letters").iterdir()] == ["to-grandmother.txt"]
    with pytest.raises(zoo.UsageError, match=r"is not a folder"):
        zoo.train(
            build(prepared), prepared, config, run_directory=tmp_path / "letters" / "to-grandmother.txt", verbose=0
        )


def test_concurrent_training_is_rejected(prepared, tmp_path):
    class Intruder(keras.callbacks.Callback):
        message = ""

        def on_epoch_end(self, epoch, logs=None):
            with pytest.raises(zoo.UsageError, match=rf"in use by another trainer \(process {os.getpid()}\)") as caught:
                zoo.train(
                    build(prepared), prepared, zoo.TrainConfig(epochs=1), run_directory=tmp_path / "run", verbose=0
                )
            self.message = str(caught.value)

    intruder = Intruder()
    config = quick(epochs=1)
    zoo.train(build(prepared), prepared, config, run_directory=tmp_path / "run", callbacks=[intruder], verbose=0)
    assert "another run_directory" in intruder.message


def test_a_damaged_checkpoint_is_reported_and_replaced(prepared, finished, run, capsys):
    newest = max((run / "checkpoints").glob("step-*"))
    data = newest / "variables.data-00000-of-00001"
    data.write_bytes(bytes(b ^ 255 for b in data.read_bytes()))
    model = build(prepared)
    result = zoo.train(model, prepared, quick(), run_directory=run, verbose=0)
    assert f"{newest} is damaged" in capsys.readouterr().out and result.resumed_at == (1, 0)
    for a, b in zip(finished[1], model.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    result = zoo.train(build(prepared), prepared, quick(), run_directory=run, verbose=0)
    assert "is damaged" not in capsys.readouterr().out and result.resumed_at == (2, 0)
    newest.rename(newest.with_name(f".replaced-{newest.name}"))  # the state after a kill between two renames
    result = zoo.train(build(prepared), prepared, quick(), run_directory=run, verbose=0)
    assert result.resumed_at == (2, 0)


def test_a_run_whose_checkpoints_are_all_damaged_is_rejected(prepared, run):
    for checkpoint in (run / "checkpoints").iterdir():
        (checkpoint / "state.json").write_text("{")
    with pytest.raises(zoo.UsageError, match=r"Every checkpoint in .* is damaged.*--overwrite"):
        zoo.train(build(prepared), prepared, quick(), run_directory=run, verbose=0)


def test_a_checkpoint_of_another_model_is_rejected(digits, run):
    other = digits.prepare("mlp", hidden_units=[9], input_shape=[8, 8, 1])
    (run / ".settings.json").unlink()
    text = (run / "config.yaml").read_text().replace("[8]", "[9]")
    (run / "config.yaml").write_text(text)
    with pytest.raises(zoo.UsageError, match=r"belongs to another model"):
        zoo.train(build(other), other, quick(), run_directory=run, verbose=0)


def test_a_nonfinite_loss_stops_the_run(prepared, tmp_path):
    config = zoo.TrainConfig(epochs=5, optimizer="sgd", learning_rate=1e30)
    with pytest.raises(zoo.UsageError, match=r"The loss is (nan|inf) at step \d+ of epoch \d.*learning_rate"):
        zoo.train(build(prepared), prepared, config, run_directory=tmp_path / "run", verbose=0)


def test_keras_callbacks_receive_the_same_events_as_in_fit(prepared, tmp_path):
    class Recorder(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.seen = []

        def on_train_begin(self, logs=None):
            self.seen.append("train begin")

        def on_epoch_begin(self, epoch, logs=None):
            self.seen.append(f"epoch {epoch} begin")

        def on_train_batch_end(self, batch, logs=None):
            assert set(logs) == {"loss", "accuracy"}
            self.seen.append(batch)

        def on_test_end(self, logs=None):
            assert set(logs) == {"loss", "accuracy"}
            self.seen.append("test end")

        def on_epoch_end(self, epoch, logs=None):
            assert set(logs) == {"loss", "accuracy", "val_loss", "val_accuracy"}
            self.seen.append(f"epoch {epoch} end")

        def on_train_end(self, logs=None):
            self.seen.append("train end")

    recorder, best = Recorder(), tmp_path / "best.keras"
    model = build(prepared)
    callbacks = [recorder, keras.callbacks.ModelCheckpoint(best, monitor="val_accuracy", save_best_only=True)]
    zoo.train(model, prepared, zoo.TrainConfig(epochs=1, steps_per_call=9), callbacks=callbacks, verbose=0)
    batches = [*range(21)]
    assert recorder.seen == ["train begin", "epoch 0 begin", *batches, "test end", "epoch 0 end", "train end"]
    saved = keras.saving.load_model(best, compile=False)
    np.testing.assert_array_equal(saved.get_weights()[0], model.get_weights()[0])


def test_a_run_ended_by_early_stopping_keeps_its_best_weights_and_does_not_resume(prepared, tmp_path):
    weights = []
    for _ in range(2):
        stop = keras.callbacks.EarlyStopping("val_loss", min_delta=100.0, patience=2, restore_best_weights=True)
        model = build(prepared)
        config = quick(epochs=6, learning_rate=0.5)
        result = zoo.train(model, prepared, config, run_directory=tmp_path, callbacks=[stop], verbose=0)
        assert len(result.history) == 3
        weights.append([w.tobytes() for w in model.get_weights()])
    assert weights[0] == weights[1]
    once = build(prepared)  # the first epoch is the best one, as no later one is better by 100
    zoo.train(once, prepared, quick(epochs=1, learning_rate=0.5), verbose=0)
    assert [w.tobytes() for w in once.get_weights()] == weights[0]


def test_a_callback_may_change_the_learning_rate(prepared, tmp_path):
    rates = [0.01, 0.005, 0.002]
    scheduler = keras.callbacks.LearningRateScheduler(lambda epoch: rates[epoch])
    result = zoo.train(build(prepared), prepared, quick(epochs=3), callbacks=[scheduler], verbose=0)
    assert [row["learning_rate"] for row in result.history] == pytest.approx(rates)


def test_progress_is_printed_while_training(prepared, capsys):
    zoo.train(build(prepared), prepared, quick(), verbose=1)
    shown = capsys.readouterr().out
    assert "Epoch 2/2" in shown and "3/3" in shown and "val_accuracy" in shown


def test_streaming_gives_the_same_metrics_as_memory(digits, prepared):
    """memory_limit=0 streams the batches: sizes and order differ, but the examples and metrics are the same."""
    stream = dataclasses.replace(digits, memory_limit=0).prepare("mlp", hidden_units=[8], input_shape=[8, 8, 1])
    rows = []
    for data, size in ((prepared, 431), (stream, 500)):
        config = quick(epochs=1, batch_size=size, optimizer="sgd", learning_rate=1e-12)
        rows.append(zoo.train(build(data), data, config, verbose=0))
    one, two = (result.history[0] for result in rows)
    assert without_times([one])[0] == pytest.approx(without_times([two])[0], abs=1e-5)


@pytest.mark.parametrize("kind", ["constant", "linear", "cosine"])
def test_schedules_equal_their_formulas(kind):
    warmup, total, peak = 4, 20, 0.3
    schedule = WarmupSchedule(peak, kind, warmup, total)
    for step in range(total + 3):
        progress = min(1.0, (step - warmup) / (total - warmup))
        after = {"constant": 1.0, "linear": 1 - progress, "cosine": (1 + math.cos(math.pi * progress)) / 2}[kind]
        expected = peak * ((step + 1) / warmup if step < warmup else after)
        assert float(schedule(step)) == pytest.approx(expected, abs=1e-7)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))
    assert float(again(7)) == float(schedule(7))


def test_optimizers_are_created_by_name():
    assert isinstance(make_optimizer(zoo.TrainConfig(optimizer="AdamW"), 10), FusedAdamW)
    with pytest.raises(zoo.UsageError, match=r"Unknown optimizer 'adan'. Did you mean 'adam'"):
        make_optimizer(zoo.TrainConfig(optimizer="adan"), 10)
    with pytest.raises(zoo.UsageError, match=r"warmup_steps=10 covers all 10 steps.*such as 1"):
        make_optimizer(zoo.TrainConfig(warmup_steps=10), 10)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"strategy": "mirrored"},
            r"built under OneDeviceStrategy with 1 replica\(s\), the config says strategy='mirrored'",
        ),
        ({"strategy": "mirrored", "replicas": 2}, r"the config says strategy='mirrored'"),
    ],
)
def test_a_config_that_contradicts_the_strategy_is_rejected(prepared, config, message):
    with pytest.raises(zoo.UsageError, match=message):
        zoo.train(build(prepared), prepared, zoo.TrainConfig(**config), verbose=0)


def test_unknown_and_late_strategies_are_rejected(run_python):
    with pytest.raises(zoo.UsageError, match=r"Unknown strategy 'miror'. Did you mean 'mirrored'"):
        zoo.strategy("miror")
    late = """
    import tensorflow as tf, zoo
    tf.constant(1) + 1
    try:
        zoo.strategy("mirrored", replicas=2)
    except zoo.UsageError as error:
        print(error)
    """
    assert "before any other TensorFlow operation" in run_python(late, kind="zoo", CUDA_VISIBLE_DEVICES="-1").stdout


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 3 MB; requires permission to mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if (
        not shutil.which("mount")
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", disk], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("mounting a small tmpfs is not allowed here")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def test_a_full_disk_is_reported_and_the_run_can_resume(digits, small_disk):
    prepared = digits.prepare(
        "mlp", hidden_units=[300], input_shape=[8, 8, 1]
    )  # about 0.3 MB per checkpoint with Adam's slots
    config = quick(epochs=3, keep_checkpoints=1)
    whole = build(prepared)
    zoo.train(whole, prepared, config, verbose=0)
    ballast = small_disk / "ballast"

    class Fill(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
                ballast.write_bytes(b"\0" * (free - 100_000))

    with pytest.raises(zoo.UsageError, match=r"Cannot write .*The previous checkpoint is intact; make room"):
        zoo.train(build(prepared), prepared, config, run_directory=small_disk / "run", callbacks=[Fill()], verbose=0)
    assert len(list((small_disk / "run" / "checkpoints").iterdir())) == 1
    ballast.unlink()
    model = build(prepared)
    result = zoo.train(model, prepared, config, run_directory=small_disk / "run", verbose=0)
    assert result.resumed_at == (1, 0)
    for a, b in zip(whole.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_a_label_outside_the_classes_is_reported(digits):
    stream = dataclasses.replace(digits, memory_limit=0, class_names=digits.class_names[:9])
    prepared = stream.prepare("mlp", hidden_units=[8], input_shape=[8, 8, 1])
    with pytest.raises(
        zoo.UsageError, match=r"A batch was rejected: .*has a label outside 0 to 8\. Check the data set"
    ):
        zoo.train(build(prepared), prepared, zoo.TrainConfig(epochs=1), verbose=0)


def test_gradients_of_repeated_ids_are_summed():
    """Compares Adam on an embedding with a hand computation: gradients of equal ids are summed before squaring."""
    data = zoo.datasets.load("commands")
    prepared = data.prepare("attention", embedding_dim=4, filters=3, dense_units=4, dropout=0.0, word_dropout=0.0)
    model = build(prepared)
    before = model.get_layer("embedding").get_weights()[0].astype(np.float64)
    ids, targets = next(iter(prepared.keras_batches("train", 720, seed=0)))
    with tf.GradientTape() as tape:
        value = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(targets, model(ids, training=True)))
    sparse = tape.gradient(value, model.get_layer("embedding").embeddings.value)
    gradient = np.zeros_like(before)
    np.add.at(gradient, sparse.indices.numpy(), sparse.values.numpy())
    config = zoo.TrainConfig(epochs=1, batch_size=720, learning_rate=0.1, steps_per_call=1)
    zoo.train(model, prepared, config, verbose=0)
    expected = before - 0.1 * gradient / (np.abs(gradient) + 1e-7 / np.sqrt(0.001))  # Adam's bias-corrected first step
    changed = np.abs(gradient) > 1e-4
    assert changed.sum() > 50
    np.testing.assert_allclose(model.get_layer("embedding").get_weights()[0][changed], expected[changed], atol=1e-5)


def test_a_folder_with_a_foreign_config_is_rejected(prepared, tmp_path):
    (tmp_path / "config.yaml").write_text("database: postgres\n")
    (tmp_path / "thesis.txt").write_text("four years")
    for overwrite in (False, True):
        with pytest.raises(zoo.UsageError, match=r"is not a run: it holds files, but no config.yaml of a run"):
            config = zoo.TrainConfig(epochs=1)
            zoo.train(build(prepared), prepared, config, run_directory=tmp_path, overwrite=overwrite, verbose=0)
    assert (tmp_path / "thesis.txt").read_text() == "four years"
    assert (tmp_path / "config.yaml").read_text() == "database: postgres\n"


def test_a_finished_run_without_checkpoints_is_not_replaced(prepared, run):
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(zoo.UsageError, match=r"config\.learning_rate=0\.001; this one has 0\.5"):
        zoo.train(build(prepared), prepared, quick(learning_rate=0.5), run_directory=run, verbose=0)


def test_weights_that_overflow_stop_the_run(prepared, tmp_path):
    config = zoo.TrainConfig(epochs=2, optimizer="sgd", learning_rate=1e38, batch_size=2000)
    with pytest.raises(zoo.UsageError, match=r"The \w+ is (nan|inf) at step 1 of epoch 1"):
        zoo.train(build(prepared), prepared, config, run_directory=tmp_path, verbose=0)
    assert not list(tmp_path.glob("checkpoints/step-*"))


def test_editing_the_config_file_does_not_bypass_the_check(prepared, run):
    file = run / "config.yaml"
    text = file.read_text()
    file.write_text(text.replace("learning_rate: 0.001", "learning_rate: 0.5"))
    assert file.read_text() != text
    with pytest.raises(zoo.UsageError, match=r"config\.learning_rate=0\.001; this one has 0\.5"):
        zoo.train(build(prepared), prepared, quick(learning_rate=0.5), run_directory=run, verbose=0)
