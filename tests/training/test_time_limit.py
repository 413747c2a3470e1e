"""A training with a time limit ends in a whole run, and goes on if it is given more time."""

from __future__ import annotations

import re

import pytest

import zoo
from zoo.errors import UsageError

OPTIONS = {"hidden_units": [8], "input_shape": [8, 8, 1]}


@pytest.fixture(scope="module")
def prepared():
    return zoo.datasets.load("digits").prepare("mlp", **OPTIONS)


def train(prepared, directory, limit, **options):
    with zoo.strategy("one_device").scope():
        model = prepared.build(seed=0)
    return zoo.train(model, prepared, {"time_limit": limit, **options}, run_directory=directory, verbose=2)


def test_training_ends_at_its_time_limit_and_more_time_continues_it(prepared, tmp_path, capsys):
    first = train(prepared, tmp_path / "run", "0.1s", epochs=3, keep_best=1)
    assert len(first.history) == 1 and (tmp_path / "run/model.keras").is_file()
    shown = capsys.readouterr().out
    assert re.search(r"The time limit is over after \d+ s: training ends in epoch 1\.\n", shown)

    again = train(prepared, tmp_path / "run", "0.1s", epochs=3, keep_best=1)
    assert again.history == first.history  # nothing was trained

    longer = train(prepared, tmp_path / "run", "1h", epochs=3, keep_best=1)
    assert longer.history[:1] == first.history and len(longer.history) == 3


def test_training_ends_within_an_epoch_and_is_validated(prepared, tmp_path):
    found = train(prepared, tmp_path / "run", 1e-9, batch_size=1, steps_per_call=4, epochs=3)
    (row,) = found.history
    assert row["epoch"] == 1 and row["val_loss"] > 0


@pytest.mark.parametrize("value", ["soon", "10 minutes", 0, -5, "0s", True, float("inf"), ""])
def test_a_time_that_cannot_be_read_is_rejected(value):
    with pytest.raises(
        UsageError, match=r"time_limit is .*; expected a time above 0. Pass time_limit=30m, 2h or a number"
    ):
        zoo.TrainConfig(time_limit=value)


@pytest.mark.parametrize(
    ("value", "seconds"), [("90s", 90), ("30m", 1800), ("1.5H", 5400), ("1d", 86400), (7, 7), ("7", 7)]
)
def test_times_are_kept_in_seconds(value, seconds):
    assert zoo.TrainConfig(time_limit=value).time_limit == seconds
