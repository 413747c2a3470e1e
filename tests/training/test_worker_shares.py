"""Workers that read only their own rows of each batch train the same run as one device with the data in memory."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from zoo.scripts.launch_local import free_ports
from zoo.training.detection.contract import Cluster

RUN = """
import os, sys
from zoo.scripts.console import import_tensorflow
import_tensorflow()
import dataclasses
import keras, numpy as np, tensorflow as tf
import zoo
from zoo.datasets.raw import Access

name, out, limit = sys.argv[1], sys.argv[2], int(sys.argv[3])
keras.config.set_floatx("float64")
keras.config.set_dtype_policy("float64")
strategy = zoo.strategy(name)
data = zoo.datasets.load("digits", memory_limit=limit)
seen = {"train": [], "validation": []}

def counted(split, role):
    def fetch(number):
        def note(value):
            seen[role].append(int(value))
            return value
        return split.access.fetch(tf.ensure_shape(tf.numpy_function(note, [number], tf.int64), []))
    return dataclasses.replace(split, access=Access(fetch, split.access.decode))

if limit == 0:
    data = dataclasses.replace(data, splits={**data.splits, **{r: counted(data.splits[r], r) for r in seen}})
prepared = data.prepare("cnn", filters=[4, 6], dense_units=8, dropout=0.3, input_shape=[12, 12, 1])
for part in seen.values():
    part.clear()
with strategy.scope():
    model = prepared.build(seed=0)
config = zoo.TrainConfig(epochs=2, batch_size=130, augmentation=["flip", "crop"], learning_rate=0.01, keep_best=0)

class Begin(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        seen["train"].clear()  # what is read before the training, and in the epoch before

result = zoo.train(model, prepared, config, callbacks=[Begin()], verbose=0)
np.savez(out, train=seen["train"], *result.model.get_weights())
"""


def run(tmp_path, strategy, limit):
    """Returns the weights of each worker's model, and the numbers of the training examples that it has read."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
    started, outs = [], []
    for index in range(2 if strategy == "multi_worker" else 1):
        variables = {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
        if strategy == "multi_worker":
            variables["TF_CONFIG"] = Cluster(tuple(addresses), index).to_tf_config()
        outs.append(tmp_path / f"{strategy}-{limit}-{index}.npz")
        command = [sys.executable, "-P", "-c", textwrap.dedent(RUN), strategy, str(outs[-1]), str(limit)]
        options = {"env": {**os.environ, **variables}, "cwd": tmp_path, "stdout": subprocess.PIPE}
        started.append(subprocess.Popen(command, stderr=subprocess.STDOUT, text=True, **options))
    for process in started:
        text, _ = process.communicate(timeout=500)
        assert process.returncode == 0, text[-3000:]
    found = []
    for out in outs:
        with np.load(out) as file:
            found.append(([file[name] for name in file.files if name != "train"], file["train"]))
    return found


@pytest.mark.slow
def test_two_workers_read_their_rows_and_train_the_run_of_one_device(tmp_path):
    ((expected, _),) = run(tmp_path, "one_device", 2 << 30)
    ((alone, read),) = run(tmp_path, "one_device", 0)
    assert sorted(read) == list(range(1293))
    for one, other in zip(alone, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-12)
    (weights, first), (_, second) = run(tmp_path, "multi_worker", 0)
    for one, other in zip(weights, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-9)
    assert len(first) == len(second) - 1 == 646
    assert sorted([*first, *second]) == list(range(1293)), "each row of the epoch is read by one worker"
