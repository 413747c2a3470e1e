"""Runs on arrays: to a SavedModel that takes files, equal to runs on files, and the same after a kill."""

from __future__ import annotations

import signal
import struct

import keras
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import zoo

pytestmark = pytest.mark.slow

CONFIG = zoo.TrainConfig(epochs=2, batch_size=64, strategy="one_device", deterministic=True)
SMALL = {"filters": (4, 6), "dense_units": 8, "input_shape": (8, 8, 1)}


@pytest.fixture(scope="module")
def digits():
    """300 digits and their labels, uint8."""
    held = load_digits()
    return (held.images[:300] * 255 / 16).astype(np.uint8), held.target[:300].astype(np.uint8)


def write_idx(file, values):
    """Writes bytes in the format of the files of MNIST."""
    header = struct.pack(">BBBB", 0, 0, 8, values.ndim) + struct.pack(f">{values.ndim}I", *values.shape)
    file.write_bytes(header + values.tobytes())


def read_idx(file):
    content = file.read_bytes()
    shape = struct.unpack_from(f">{content[3]}I", content, 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * content[3]).reshape(shape)


def test_arrays_of_idx_files_become_a_saved_model_of_png_files(digits, tmp_path):
    for name, values in zip(("images", "labels"), digits, strict=True):
        write_idx(tmp_path / f"{name}.idx", values)
    x, y = (read_idx(tmp_path / f"{name}.idx") for name in ("images", "labels"))
    assert not x.flags.writeable, "as NumPy reads a file"
    config = zoo.TrainConfig(epochs=20, learning_rate=0.01)
    result = zoo.run("mlp", (x, y), config=config, run_directory=tmp_path / "run", verbose=0)
    files = [tmp_path / f"{number}.png" for number in range(60)]
    for file, image in zip(files, x, strict=False):
        Image.fromarray(image).save(file)
    served = zoo.load(result.saved_model)
    from_files, from_arrays = served.predict(files), served.predict(list(x[:60]))
    assert [answer["class_name"] for answer in from_files] == [answer["class_name"] for answer in from_arrays]
    right = np.mean([answer["class_name"] == str(label) for answer, label in zip(from_files, y, strict=False)])
    assert right > 0.8, "most of these are training examples"


def test_a_run_on_arrays_equals_the_run_on_a_folder_of_png_files(digits, tmp_path):
    x, y = digits
    order = np.argsort(y, kind="stable")  # the order of the folder's files
    parts = {split: order[start::10] for split, start in (("validation", 0), ("test", 1))}
    parts["train"] = np.array([i for i in order if i not in {*parts["validation"], *parts["test"]}])
    for split, rows in parts.items():
        for place, row in enumerate(rows):
            file = tmp_path / "photos" / split / str(y[row]) / f"{place:03}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(x[row]).save(file)
    train, validation, test = ((x[parts[split]], y[parts[split]]) for split in ("train", "validation", "test"))
    settings = {"config": CONFIG, "model_arguments": SMALL, "verbose": 0, "export": False}
    ours = zoo.run("cnn", train, validation=validation, test=test, run_directory=tmp_path / "arrays", **settings)
    theirs = zoo.run("cnn", f"images:{tmp_path}/photos", run_directory=tmp_path / "files", **settings)
    for one, other in zip(ours.model.get_weights(), theirs.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert ours.report["confusion_matrix"] == theirs.report["confusion_matrix"]


SCRIPT = """
import os, signal, sys
from pathlib import Path
import keras
import numpy as np
from sklearn.datasets import load_digits
import zoo

class Kill(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == (1, 50) and sys.argv[2] == "kill":
            print("killed", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)

held = load_digits()
x, y = (held.images * 255 / 16).astype(np.uint8), held.target
config = zoo.TrainConfig(epochs=3, batch_size=16, checkpoint_steps=20, strategy="one_device", deterministic=True)
options = {"model_arguments": {"filters": (4, 6), "dense_units": 8, "input_shape": (8, 8, 1), "dropout": 0.3}}
zoo.run("cnn", (x, y), config=config, callbacks=[Kill()], run_directory=sys.argv[1], export=False, verbose=2, **options)
"""


def test_a_run_on_arrays_that_was_killed_resumes_to_the_same_weights(run_python, tmp_path):
    """Kills the process in its second epoch; the same call then ends with the bits of an undisturbed run."""
    done = run_python(SCRIPT, tmp_path / "run", "kill", check=False, kind="zoo")
    assert done.returncode == -signal.SIGKILL and done.stdout.endswith("killed\n"), done.stderr[-2000:]
    assert not (tmp_path / "run" / "model.keras").exists()
    found = {}
    for name in ("run", "whole"):
        done = run_python(SCRIPT, tmp_path / name, "", kind="zoo")
        assert ("resuming in epoch 2 of 3, step " in done.stdout) == (name == "run"), done.stdout[-2000:]
        model = keras.saving.load_model(tmp_path / name / "model.keras", compile=False)
        found[name] = [weights.tobytes() for weights in model.get_weights()]
    assert found["run"] == found["whole"]
