"""Runs with quantiles: what config, run directory and SavedModel know of them, and runs that start from other runs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import mean_pinball_loss

import zoo
from source_examples import rows
from untrained_runs import untrained
from zoo import pipeline, starting_point
from zoo.config import read_yaml
from zoo.export.verification import Verification
from zoo.finished_runs import load_model

CONFIG = zoo.TrainConfig(epochs=2, quantiles=[0.9, 0.1])
SMALL = {"hidden_units": (6,), "members": 3}


@pytest.mark.slow
def test_a_run_keeps_its_quantiles(tmp_path):
    """Trains, resumes, evaluates again, exports again and predicts; only the first call names the quantiles."""
    folder = tmp_path / "run"
    options = {"model_arguments": SMALL, "run_directory": folder, "verbose": 0}
    result = zoo.run("mlp", "diabetes", config=dataclasses.replace(CONFIG, keep_best=1), **options)
    assert result.verification.passed
    assert read_yaml(folder / "config.yaml")["config"]["quantiles"] == [0.1, 0.9]
    report = dict(result.report)
    assert {"predicted", "quantiles", "residuals"} <= {*result.plots}
    examples = rows(result.prepared.data, "test")
    columns = [name for name in examples[0] if name != "value"]
    requests = [{name: float(example[name]) for name in columns} for example in examples]
    answers = zoo.load(folder).predict(requests)
    assert sorted(answers[0]) == ["progression", "progression_q10", "progression_q90"]
    true = np.array([example["value"][0] for example in examples])
    low, high = (np.array([answer[f"progression_{q}"] for answer in answers]) for q in ("q10", "q90"))
    assert report["coverage"] == pytest.approx(np.mean((low <= true) & (true <= high)))
    assert report["interval_width"] == pytest.approx(np.mean(high - low), rel=1e-4)
    expected = (mean_pinball_loss(true, low, alpha=0.1) + mean_pinball_loss(true, high, alpha=0.9)) / 2
    assert report["pinball"] == pytest.approx(expected, rel=1e-4)
    card = (folder / "README.md").read_text()
    assert "coverage, expected 0.8" in card and "`progression_q10`: float32 (batch)" in card

    again = zoo.evaluate(folder, baselines="none")
    assert [again[key] for key in ("pinball", "coverage", "mae")] == [
        report[key] for key in ("pinball", "coverage", "mae")
    ]
    other = pipeline.export_run(folder, tmp_path / "exported")
    assert Verification.read(other).passed
    with pytest.raises(zoo.UsageError, match=r"config\.quantiles=\[0\.1, 0\.9\]; this one has \[\]\. Pass another"):
        zoo.run("mlp", "diabetes", config=dataclasses.replace(CONFIG, keep_best=1, quantiles=[]), **options)
    longer = dataclasses.replace(CONFIG, keep_best=1, epochs=3)
    assert len(zoo.run("mlp", "diabetes", config=longer, **options).history) == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"accumulation_steps": 2},
        {"precision": "mixed_bfloat16"},
        {"jit_compile": True},
        {"ema_momentum": 0.9},
    ],
)
def test_options_of_training_go_with_quantiles_of_members(options):
    whole = dataclasses.replace(CONFIG)  # nothing is left to the recommendations
    config = dataclasses.replace(CONFIG, **options)
    data = zoo.datasets.load("diabetes").prepare("mlp", quantiles=[0.1, 0.9], **SMALL)
    plain = zoo.train(_built(data, whole), data, whole, verbose=0)
    found = zoo.train(_built(data, config), data, config, verbose=0)
    exact = "precision" not in options
    for one, two in zip(plain.history, found.history, strict=True):
        assert one["loss"] == pytest.approx(two["loss"], rel=1e-4 if exact else 0.02)


def _built(data, config):
    with zoo.strategy(config.strategy, replicas=config.replicas).scope(), zoo.training.precision(config.precision):
        return data.build(seed=0)


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    """A run of one value with the quantiles 0.1 and 0.9, which was not trained."""
    folder = tmp_path_factory.mktemp("earlier") / "run"
    untrained(folder, "diabetes", "mlp", **SMALL, quantiles=[0.1, 0.9])
    return folder


@pytest.mark.parametrize(
    ("quantiles", "columns", "kept"),
    [(None, 3, True), ((), 1, False), ((0.1, 0.9), 3, True), ((0.25, 0.75), 3, False), ((0.1, 0.5, 0.9), 4, False)],
)
def test_a_new_run_takes_over_quantiles_and_their_weights(earlier, quantiles, columns, kept, tmp_path):
    """Without a choice the quantiles are those of the earlier run. Weights of the last layer are taken only for the same
    quantiles, also if the number of outputs is the same."""
    start = starting_point.find(earlier, "mlp", CONFIG, tmp_path / "new")
    prepared = start.prepare(zoo.datasets.load("diabetes"), "mlp", {}, quantiles)
    assert prepared.objective.quantiles == ((0.1, 0.9) if quantiles is None else quantiles)
    network = prepared.build(seed=3)
    assert network.output_shape == (None, columns)
    selected = start.select(prepared)
    selected.assign(network)
    old = load_model(Path(earlier) / "model.keras")
    same = [np.array_equal(a, b) for a, b in zip(old.get_weights()[-2:], network.get_weights()[-2:], strict=True)]
    assert same[0] == kept
    assert ("belong to the classes and are new" in str(selected)) != kept


def test_other_data_of_a_run_is_evaluated_with_its_quantiles(earlier):
    examples = rows(zoo.datasets.load("diabetes"), "train")[:60]
    frame = pd.DataFrame([{**example, "value": example["value"][0]} for example in examples])
    frame = frame.rename(columns={"value": "progression"})
    report = zoo.evaluate(earlier, frame, columns={"value": "progression"}, baselines="none")
    assert [row["level"] for row in report["targets"][0]["quantiles"]] == [0.1, 0.9]
    assert report["num_examples"] == 60 and 0 <= report["coverage"] <= 1
