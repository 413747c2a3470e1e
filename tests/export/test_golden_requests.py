"""Requests of the user, or made-up requests, take the place of test examples in the artifact."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import zoo
from selection import slow
from untrained_runs import untrained
from zoo import storage
from zoo.config import read_yaml
from zoo.errors import UsageError
from zoo.export.raw_requests import recorded, requests_to_publish
from zoo.export.standalone import arrays
from zoo.export.verification import Verification
from zoo.scripts import cli

JOBS = (
    *(("mlp", "digits"), ("lstm", "seasons"), ("matrix_factorization", "tastes")),
    *(slow("rnn", "tagged_commands"), slow("lstm", "digit_rows"), slow("bert_mlm", "command_lines")),
    slow("seq2seq_rnn", "number_words"),
)


@pytest.mark.parametrize(("family", "data"), JOBS)
def test_every_preprocessor_makes_up_valid_requests(family, data):
    interface = zoo.datasets.load(data).prepare(family).interface
    shown, origin = requests_to_publish(interface, "generated")
    assert origin == "requests that were made up" and shown.examples.targets == {}
    assert shown.examples.inputs.keys() == interface.examples.inputs.keys()
    for name, values in shown.examples.requests.items():
        real = interface.examples.requests[name]
        assert len(values) == 64 and values.dtype == real.dtype and values.ndim == real.ndim
        if data != "tastes":  # ids must be known; the pairs are random
            held = {v if isinstance(v, bytes) else v.tobytes() for v in real}
            assert not held & {v if isinstance(v, bytes) else v.tobytes() for v in values}
    for name, values in shown.examples.inputs.items():
        real = interface.examples.inputs[name]
        assert values.dtype == real.dtype and values.ndim == real.ndim, name
    assert (
        requests_to_publish(interface, "generated")[0].examples.requests.keys()
        == interface.preprocessor.requests.keys()
    )


@pytest.fixture(scope="module")
def commands():
    prepared = zoo.datasets.load("commands").prepare("attention", embedding_dim=8)
    return prepared.build(seed=0), prepared.interface


def test_an_artifact_without_rows_of_the_data(commands, tmp_path):
    model, interface = commands
    path = zoo.export.save(model, tmp_path / "saved", interface=interface, golden="generated")
    held = arrays.load(path / "assets.extra" / "golden.npz")
    texts = set(interface.examples.requests["text"])
    assert len(held["requests/text"]) == 64 and not texts & set(held["requests/text"])
    assert not [name for name in held if name.startswith("targets/")]
    everything = b"".join(file.read_bytes() for file in path.rglob("*") if file.is_file())
    assert not [text for text in texts if len(text) > 20 and text in everything]
    card = (path / "README.md").read_text()
    assert "contains requests that were made up and the trained model's outputs" in card
    assert Verification.read(path).passed


def test_own_requests(commands):
    _, interface = commands
    shown, origin = requests_to_publish(interface, ["Turn it on", "and off"])
    assert origin == "the examples that were passed to the export"
    assert shown.examples.requests["text"].tolist() == [b"Turn it on", b"and off"]
    for golden, said in [
        ("turn it on", "expected a list of requests, 'generated' or 'test'. Pass ['turn it on']"),
        ([], "There are 0 of text"),
        (5, "text is one example, 5; expected several"),
        ({"text": "turn"}, "text is one example, 'turn'; expected several"),
        ([3], "The examples of text hold 3; expected strings"),
        ({"label": ["a"]}, "The preprocessor takes text; the examples have label"),
    ]:
        with pytest.raises(UsageError, match=re.escape(said)):
            requests_to_publish(interface, golden)
    translation = zoo.datasets.load("number_words").prepare("seq2seq_rnn").interface
    with pytest.raises(UsageError, match="also takes target_ids, which no request determines"):
        requests_to_publish(translation, ["one"])
    targets = np.ones((1, 4), np.int32)
    assert requests_to_publish(translation, {"text": ["one"], "target_ids": targets})[0].examples.inputs.keys() == {
        "source_ids",
        "target_ids",
    }


def origin(artifact):
    return storage.read_json(artifact / "assets.extra" / "zoo.json")["golden"]


def requests(artifact):
    return arrays.load(artifact / "assets.extra" / "golden.npz")["requests/text"].tolist()


def record(run, golden):
    """Writes golden examples into the config.yaml of an untrained run."""
    untrained(run, "commands", "attention", embedding_dim=4)
    config = run / "config.yaml"
    config.write_text(f"{config.read_text()}golden: {golden}\n")


@pytest.mark.slow
def test_an_export_publishes_what_its_run_has_recorded(tmp_path):
    record(tmp_path / "run", "[Turn it on, and off]")
    artifact = zoo.pipeline.export_run(tmp_path / "run", tmp_path / "saved")
    assert requests(artifact) == [b"Turn it on", b"and off"]
    assert origin(artifact) == "the examples that were passed to the export"


def test_an_export_does_not_replace_requests_that_a_run_cannot_repeat(tmp_path):
    record(tmp_path / "run", "in memory")
    with pytest.raises(UsageError, match=r"that were passed from memory .* or --golden generated, or --golden test"):
        zoo.pipeline.export_run(tmp_path / "run", tmp_path / "saved")


def test_a_run_rejects_golden_examples_before_it_trains(tmp_path):
    with pytest.raises(UsageError, match="The examples of text hold 3; expected strings"):
        zoo.run("attention", "commands", golden=[3], run_directory=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_golden_examples_are_recorded_as_options_of_the_command_line(commands, tmp_path, monkeypatch):
    _, interface = commands
    monkeypatch.chdir(tmp_path)
    np.savez("own.npz", text=np.array(["Turn it on"]))
    shown, _ = requests_to_publish(interface, ["own.npz"])
    assert shown.examples.requests["text"].tolist() == [b"Turn it on"]
    with pytest.raises(UsageError, match=r"nothing.npz cannot be read"):
        requests_to_publish(interface, ["nothing.npz"])
    for golden, expected in [
        ("generated", "generated"),
        (["Turn it on"], ["Turn it on"]),
        (["own.npz"], [str(tmp_path / "own.npz")]),
        ({"text": ["Turn it on"]}, "in memory"),
        (np.array(["Turn it on"]), "in memory"),
    ]:
        assert recorded(interface.preprocessor, golden) == expected
    images = zoo.datasets.image_files((8, 8))
    assert recorded(images, ["cat.png", Path("dog.png")]) == [str(tmp_path / "cat.png"), str(tmp_path / "dog.png")]


@pytest.mark.slow
def test_a_run_publishes_the_same_requests_when_it_is_resumed(tmp_path):
    command = ["train", "--model", "lstm", "--data", "seasons", "--model.units", "[4]", "--config.epochs", "1"]
    assert cli.main([*command, "--run-directory", str(tmp_path / "a"), "--golden", "generated"]) == 0
    held = read_yaml(tmp_path / "a" / "config.yaml")
    first = tmp_path / "a" / "saved_model" / "1"
    assert held["golden"] == "generated" and origin(first) == "requests that were made up"
    assert not (first / "assets.extra" / "forecasts.png").exists(), "it shows test examples"
    assert (first / "assets.extra" / "error_by_step.png").is_file()
    again = ["train", "--config", str(tmp_path / "a" / "config.yaml"), "--run-directory", str(tmp_path / "a")]
    assert cli.main(again) == 0 and not (tmp_path / "a" / "saved_model" / "2").exists()
    assert cli.main([*command, "--run-directory", str(tmp_path / "a")]) == 0, "also without the option"
    assert not (tmp_path / "a" / "saved_model" / "2").exists()
    assert read_yaml(tmp_path / "a" / "config.yaml")["golden"] == "generated"
    assert cli.main([*again, "--golden", "test"]) == 0
    second = tmp_path / "a" / "saved_model" / "2"
    assert origin(second) == "real test examples" and (second / "assets.extra" / "forecasts.png").is_file()
    assert cli.main(["export", str(tmp_path / "a"), str(tmp_path / "b"), "--golden", "generated"]) == 0
    assert origin(tmp_path / "b" / "1") == "requests that were made up"
    assert not (tmp_path / "b" / "1" / "assets.extra" / "forecasts.png").exists()
