"""Batches of the user's own: loaders, `PyDataset`, functions, endless datasets, compared with `fit`."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import scipy.sparse
import tensorflow as tf

import zoo
from selection import slow
from user_models import numbers

layers = keras.layers
X, Y = numbers(30, 4), np.arange(30) % 3
DATASET = tf.data.Dataset.from_tensor_slices((X, Y)).batch(8)
CONFIG = zoo.TrainConfig(epochs=2)


class Numbered(keras.utils.PyDataset):
    def __init__(self):
        super().__init__()
        self.passes = 0

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return X[8 * index : 8 * index + 8], Y[8 * index : 8 * index + 8]

    def on_epoch_end(self):
        self.passes += 1


class Tensor:
    """What a loader of another library yields: no array, but it becomes one."""

    def __init__(self, values):
        self.values = values

    def detach(self):
        return self

    cpu = detach

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.values, dtype)


class Loader:
    """Like a `DataLoader` of PyTorch: lists of tensors, as often as it is asked."""

    def __iter__(self):
        return iter([[Tensor(x), Tensor(y)] for x, y in DATASET.as_numpy_iterator()])


def endless():
    while True:
        yield from DATASET.as_numpy_iterator()


def model():
    """Without an input layer, as `fit` takes it too."""
    keras.utils.set_random_seed(0)
    built = keras.Sequential([layers.Dense(3, activation="softmax")])
    built.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    return built


@pytest.fixture(scope="module")
def reference():
    """The weights after two epochs of `fit`, of all batches and of three each."""
    fitted = model(), model()
    for one in fitted:
        one.run_eagerly = True  # the same numbers without a trace
    fitted[0].fit(DATASET, epochs=2, verbose=0)
    fitted[1].fit(DATASET.repeat(), epochs=2, steps_per_epoch=3, verbose=0)
    return [one.get_weights()[0] for one in fitted]


@pytest.mark.parametrize(
    "data",
    [slow(DATASET), Numbered(), Loader(), DATASET.as_numpy_iterator],
    ids=["dataset", "PyDataset", "loader", "function"],
)
def test_batches_are_taken_as_they_come(data, reference):
    trained = model()
    result = zoo.train(trained, data, CONFIG, validation=Loader(), verbose=0)
    np.testing.assert_allclose(trained.get_weights()[0], reference[0], rtol=1e-6)
    assert "val_loss" in result.history[-1]


@pytest.mark.parametrize("data", [slow(DATASET.repeat()), endless, DATASET], ids=["dataset", "function", "finite"])
def test_steps_per_epoch_go_on_where_the_last_epoch_ended(data, reference):
    trained = model()
    zoo.train(trained, data, CONFIG, steps_per_epoch=3, verbose=0)
    np.testing.assert_allclose(trained.get_weights()[0], reference[1], rtol=1e-6)


def test_a_run_on_endless_data_resumes(tmp_path, reference):
    for epochs in (1, 2):
        trained = model()
        config, run = zoo.TrainConfig(epochs=epochs), tmp_path / "run"
        zoo.train(trained, DATASET.repeat(), config, steps_per_epoch=3, run_directory=run, verbose=0)
    np.testing.assert_allclose(trained.get_weights()[0], reference[1], rtol=1e-6)


def test_a_chosen_batch_size_divides_the_batches_again(capsys):
    zoo.train(model(), DATASET, zoo.TrainConfig(epochs=1, batch_size=5), verbose=2)
    assert "The dataset's batches of 8 are divided again, to batch_size=5." in capsys.readouterr().out


def test_a_pydataset_is_told_the_end_of_each_pass():
    data = Numbered()
    zoo.train(model(), data, CONFIG, verbose=0)
    assert data.passes >= 2


def test_sparse_matrices_are_arrays(reference):
    found = []
    for x in (X, scipy.sparse.csr_matrix(X)):
        trained = model()
        zoo.train(trained, (x, Y), zoo.TrainConfig(epochs=1), verbose=0)
        found.append(trained.get_weights()[0])
    np.testing.assert_array_equal(*found)


def test_batches_of_several_sizes_and_misplaced_steps_are_rejected():
    def growing():
        yield X[:8], Y[:8]
        yield X[:8, :3], Y[:8]

    built = model()
    built(X)
    with pytest.raises(zoo.UsageError, match=r"examples of several sizes, \(4,\) and \(3,\). Make them one size"):
        zoo.train(built, growing, CONFIG, verbose=0)
    with pytest.raises(zoo.UsageError, match=r"steps_per_epoch=3 goes with a dataset of batches; .* Leave"):
        zoo.train(model(), (X, Y), CONFIG, steps_per_epoch=3)
    with pytest.raises(zoo.UsageError, match=r"steps_per_epoch=3 counts batches, .* Pass dataset.batch\(n\)"):
        zoo.train(built, DATASET.unbatch(), CONFIG, steps_per_epoch=3)
