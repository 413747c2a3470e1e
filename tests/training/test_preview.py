"""What a run would do: `zoo train --dry-run` and `zoo.preview`."""

from __future__ import annotations

import math

import numpy as np
import pytest

import zoo
from untrained_runs import untrained
from zoo.scripts import cli

X, Y = np.random.default_rng(0).integers(0, 256, (100, 6, 6), np.uint8), np.array(["cat", "dog", "owl", "dog"] * 25)
TINY = {"hidden_units": (5,), "input_shape": (6, 6, 1)}


def preview(directory, **others):
    settings = {"config": zoo.TrainConfig(batch_size=16), "model_arguments": TINY, **others}
    return zoo.preview("mlp", (X, Y), run_directory=directory, **settings)


def test_the_command_shows_everything_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = [
        "--model.hidden_units",
        "[7]",
        "--config.epochs",
        "2",
        "--config.freeze",
        "[hidden_1]",
        "--config.patience",
        "1",
    ]
    assert cli.main(["train", "--model", "mlp", "--data", "digits", "--dry-run", *words]) == 0
    printed = capsys.readouterr().out
    prepared = zoo.datasets.load("digits").prepare("mlp")
    for number, counts in enumerate(zip(*map(prepared.target_counts, ("train", "validation", "test")), strict=True)):
        assert f"\n{number}".ljust(6) + "".join(f"{count:>12}" for count in counts) in printed
    assert "hidden_1 (Dense)" in printed and " Non-trainable params: 5,495 (21.46 KB)" in printed
    assert "\n  num_classes: 10\n" in printed and "\n  freeze: [hidden_1]\n" in printed
    assert "\n  monitor: val_accuracy\n" in printed and "\nSteps:    21 an epoch, 42 in all\n" in printed
    assert printed.endswith(
        "\nRun:      runs/digits-mlp, new\nNothing was trained or written. Leave --dry-run out to train.\n"
    )
    assert not [*tmp_path.rglob("*")]


def test_memory_is_that_of_the_weights_the_optimizer_and_the_batch(tmp_path):
    found = preview(tmp_path / "new")
    model = zoo.build_mlp_model(num_classes=3, **TINY)
    weights = 4 * model.count_params()
    assert (found.memory["weights"], found.memory["gradients"]) == (weights, weights)
    assert 2 * weights < found.memory["optimizer"] < 2 * weights + 64  # two moments, the step and the rate
    outputs = sum(math.prod(layer.output.shape[1:]) for layer in model.layers if layer.weights)
    twice = preview(tmp_path / "new", config=zoo.TrainConfig(batch_size=32)).memory["activations"]
    assert 4 * 16 * outputs <= found.memory["activations"] <= 4 * 4 * 16 * outputs
    assert twice == pytest.approx(2 * found.memory["activations"], rel=0.01)
    count = zoo.datasets.load((X, Y)).splits["train"].num_examples
    assert found.held["train"] == count * (36 * 4 + 8) and found.steps_per_epoch == math.ceil(count / 16)
    part = preview(tmp_path / "new", config=zoo.TrainConfig(batch_size=32, accumulation_steps=2))
    assert (
        part.memory["activations"] == found.memory["activations"]
        and part.options["decided"]["batch_size on each device"] == 16
    )


def test_other_weights_and_an_earlier_run_are_shown(tmp_path):
    untrained(tmp_path / "a", (X, Y), "mlp", **TINY)
    found = preview(tmp_path / "b", start_from=tmp_path / "a", model_arguments={})
    assert f"Starts with 4 of 4 weights of {tmp_path / 'a'}." in str(found)
    assert found.options["start_from"]["run"] == str(tmp_path / "a") and found.options["model"]["hidden_units"] == [5]
    assert preview(tmp_path / "a").directory == f"{tmp_path / 'a'}, whose run would be resumed"
    assert preview(tmp_path / "a", overwrite=True).directory == f"{tmp_path / 'a'}, whose run would be deleted"
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"freeze": ["none"]}, "freeze has 'none', which matches nothing here"),
        ({"monitor": "val_f1", "patience": 1}, "monitor is 'val_f1', which no epoch of this run has"),
        ({"warmup_steps": 90, "epochs": 1}, "warmup_steps=90 covers all 2 steps"),
        ({"class_weights": {"cow": 2.0}}, "class_weights has the class 'cow'"),
    ],
)
def test_what_a_run_rejects_is_rejected(tmp_path, config, message):
    with pytest.raises(zoo.UsageError, match=message):
        preview(tmp_path, config=zoo.TrainConfig(**config))
