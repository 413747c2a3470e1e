"""A run that moves to other devices ends like one that stays: batches, order and random draws do not depend on them."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from zoo.scripts.launch_local import free_ports
from zoo.training.detection.contract import Cluster
from zoo.training.devices import DeviceRecord, devices_of_run

STAGE = """
import json, os, signal, sys
from zoo.scripts.console import import_tensorflow
import_tensorflow()
import keras, numpy as np
import zoo

floatx, directory, strategy, replicas, epoch, step = sys.argv[1:]
keras.config.set_floatx(floatx)
keras.config.set_dtype_policy(floatx)

class Stop(keras.callbacks.Callback):
    epoch = 0
    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
    def on_train_batch_end(self, batch, logs=None):
        here = self.epoch == int(epoch) and batch >= int(step)
        if here and os.environ.get("ZOO_TEST_CHIEF", "0") == "0":
            os.kill(os.getpid(), signal.SIGTERM)

config = zoo.TrainConfig(
    epochs=5, batch_size=130, checkpoint_steps=4, steps_per_call=3, seed=5, ema_momentum=0.9, clip_norm=0.3,
    augmentation=["flip", "crop"], learning_rate=0.01, strategy=strategy, replicas=int(replicas) or None,
)
arguments = {"filters": [4, 6], "dense_units": 8, "dropout": 0.3, "input_shape": [12, 12, 1]}
try:
    result = zoo.run("cnn", "digits", config=config, model_arguments=arguments, run_directory=directory, export=False,
                     baselines="none", callbacks=[Stop()], verbose=1 if strategy == "mirrored" else 0)
except KeyboardInterrupt as error:
    print("LEFT", error)
    sys.exit(error.status)
print("DONE", json.dumps(result.history))
"""


def stage(run_python, floatx, directory, strategy="one_device", replicas=0, stop=(-1, 0)):
    arguments = (floatx, directory, strategy, replicas, *stop)
    done = run_python(STAGE, *arguments, kind="zoo", check=False, CUDA_VISIBLE_DEVICES="-1")
    assert done.returncode == (143 if stop[0] >= 0 else 0), done.stderr[-3000:]
    return done.stdout


def two_workers(floatx, directory, stop):
    addresses = tuple(f"127.0.0.1:{port}" for port in free_ports(2))
    started = []
    for index in range(2):
        settings = {"TF_CONFIG": Cluster(addresses, index).to_tf_config(), "ZOO_TEST_CHIEF": str(index)}
        words = [sys.executable, "-c", textwrap.dedent(STAGE), floatx, directory, "auto", "0", *map(str, stop)]
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", **settings}
        started.append(
            subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        )
    texts = [process.communicate(timeout=300)[0] for process in started]
    assert [process.returncode for process in started] == [128 + signal.SIGTERM] * 2, texts
    return texts


def weights(directory):
    import keras

    return keras.saving.load_model(directory / "model.keras", compile=False).get_weights()


def history(text):
    rows = json.loads(text.split("DONE ", 1)[1].splitlines()[0])
    return [{k: v for k, v in row.items() if k not in ("seconds", "examples_per_second")} for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize(("floatx", "bound"), [("float64", 1e-9), ("float32", 1e-5)])
def test_a_run_moves_from_one_device_to_replicas_and_workers_and_back(run_python, tmp_path, floatx, bound):
    """1 device, 2 replicas, 4 replicas, 2 workers, 1 device; with dropout, augmentation, EMA, clipping and AdamW."""
    expected = history(stage(run_python, floatx, tmp_path / "whole"))
    run = tmp_path / "run"
    stage(run_python, floatx, run, stop=(0, 3))
    moved = stage(run_python, floatx, run, "mirrored", 2, stop=(1, 2))
    assert "The devices changed from 1 replica to 2 replicas" in moved
    stage(run_python, floatx, run, "mirrored", 4, stop=(2, 5))
    chief, other = two_workers(floatx, str(run), stop=(3, 3))
    assert "LEFT Training was interrupted; the same command resumes from epoch" in chief
    assert "LEFT Training was interrupted; worker 0 has saved the run, and this is worker 1 of 2" in other
    found = history(stage(run_python, floatx, run))
    assert len(found) == len(expected) == 5
    apart = max(float(np.abs(a - b).max()) for a, b in zip(weights(run), weights(tmp_path / "whole"), strict=True))
    figures = max(abs(a[k] - b[k]) for a, b in zip(found, expected, strict=True) for k in b)
    print(f"{floatx}: weights {apart:.1e} apart, history {figures:.1e}")
    assert apart <= bound and figures <= bound
    with (run / "history.csv").open() as file:
        recorded = [(row["replicas"], row["workers"]) for row in csv.DictReader(file)]
    assert recorded == [("2", "1"), ("4", "1"), ("2", "2"), ("1", "1"), ("1", "1")]
    expected = "2 replicas to epoch 1, 4 replicas to epoch 2, 2 replicas in 2 workers to epoch 3, 1 replica to epoch 5"
    assert devices_of_run(run) == {"devices": expected}


MASKS = """
import sys
import keras, numpy as np, tensorflow as tf
import zoo
from zoo.training.loop.draws import rows_of_batch
from zoo.training.loop.step import replicated

strategy = zoo.strategy("mirrored", replicas=2)

class Pairs(keras.layers.Layer):  # draws for something else than rows
    def __init__(self):
        super().__init__(name="pairs")
        self.seed_generator = keras.random.SeedGenerator(3)
    def call(self, x):
        return x + keras.ops.cast(keras.random.randint((1,), 0, 1, seed=self.seed_generator), x.dtype)

for floatx in ("float32", "float64"):
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(floatx)
    with strategy.scope():
        inputs = keras.Input((7, 3))
        h = keras.layers.Dropout(0.5, seed=1)(inputs)
        h = keras.layers.GaussianNoise(0.5, seed=2)(h)
        h = keras.layers.SpatialDropout1D(0.3, seed=3)(h)
        h = keras.layers.Dropout(0.5, noise_shape=(1, 7, 3), seed=4)(h)
        h = keras.layers.AlphaDropout(0.2, seed=5)(h)
        h = keras.layers.MultiHeadAttention(2, 2, dropout=0.4, seed=6)(h, h)
        h = Pairs()(keras.layers.GRU(3, dropout=0.3, recurrent_dropout=0.2, seed=7)(h))
        model = keras.Model(inputs, h)
    x = np.random.default_rng(0).normal(size=(11, 7, 3)).astype(floatx)
    states = [(layer.seed_generator.state, layer.seed_generator.state.numpy())
              for layer in model._flatten_layers() if hasattr(layer, "seed_generator")]
    signature = [tf.TensorSpec([None, 7, 3], floatx)]
    whole = tf.function(lambda rows: model(rows, training=True), input_signature=signature)(x).numpy()
    for state, value in states:
        state.assign(value)
    with replicated(model) as draws:
        @tf.function(input_signature=signature)
        def parts(rows):
            def replica():
                number = tf.distribute.get_replica_context().replica_id_in_sync_group
                first, last = 11 * number // 2, 11 * (number + 1) // 2
                with rows_of_batch(first, last - first, number):
                    return model(rows[first:last], training=True)
            return strategy.experimental_local_results(strategy.run(replica))
        found = np.concatenate([part.numpy() for part in parts(x)])
        print("APART", floatx, float(np.abs(found - whole).max()), float(np.abs(whole).max()), draws.unplaced)
"""


def test_replicas_draw_the_numbers_of_their_rows(run_python):
    """Compares with Keras's own draws on one device, for layers that draw per element, per step, and once for all rows."""
    out = run_python(MASKS, kind="zoo", CUDA_VISIBLE_DEVICES="-1").stdout
    lines = [line.split(maxsplit=4) for line in out.splitlines() if line.startswith("APART")]
    assert len(lines) == 2
    for (_, floatx, apart, largest, unplaced), bound in zip(lines, (1e-5, 1e-13), strict=True):
        assert float(apart) <= bound < float(largest), floatx
        assert unplaced == "['pairs']"


def test_parts_of_flat_tokens_draw_different_numbers():
    """A first axis that counts tokens has no place in the whole batch; one of rows x heads has."""
    import tensorflow as tf

    from zoo.training.loop.draws import _draw, rows_of_batch

    def drawn(length, first, rows, part):
        with rows_of_batch(tf.constant(first), tf.constant(rows), part):
            return _draw(tf.raw_ops.StatelessRandomUniformV2, (length, 3), "float32", 7).numpy()

    one, two, three = (drawn(13, first, 4, part) for part, first in enumerate((0, 4, 8)))
    assert len({*map(float, one.ravel()), *map(float, two.ravel()), *map(float, three.ravel())}) > 3 * 13 * 3 - 5
    whole = drawn(16, 0, 8, 0)
    assert (drawn(8, 0, 4, 0) == whole[:8]).all() and (drawn(8, 4, 4, 1) == whole[8:]).all()


def test_devices_are_recorded_only_if_they_change():
    rows = [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.4}, {"epoch": 3, "loss": 0.3}]
    first = DeviceRecord(1, 1, compiled=False)
    assert first.with_columns(rows) == rows and first.describe_change() == ""
    second = DeviceRecord(4, 2, compiled=False)
    second.restore(first.state(), epoch=1, step=3)
    assert second.describe_change().startswith(" The devices changed from 1 replica to 4 replicas in 2 workers;")
    assert [(row["replicas"], row["workers"]) for row in second.with_columns(rows)] == [(1, 1), (4, 2), (4, 2)]
    third = DeviceRecord(4, 2, compiled=False)
    third.restore(second.state(), epoch=2, step=0)
    assert third.describe_change() == "" and third.state() == second.state() and third.changed
