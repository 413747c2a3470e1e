"""Requests of the user, or made-up requests, take the place of test examples in the artifact."""

from __future__ import annotations

import re

import numpy as np
import pytest

import zoo
from zoo.errors import UsageError
from zoo.export.raw_requests import requests_to_publish
from zoo.export.standalone import arrays

JOBS = (
    *(("mlp", "digits"), ("lstm", "seasons"), ("seq2seq_rnn", "number_words"), ("matrix_factorization", "tastes")),
    *(
        pytest.param(*job, marks=pytest.mark.slow)
        for job in (("rnn", "tagged_commands"), ("lstm", "digit_rows"), ("bert_mlm", "command_lines"))
    ),
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
    assert zoo.export.verify(path, runtimes=()).passed


def test_own_requests(commands):
    _, interface = commands
    shown, origin = requests_to_publish(interface, ["Turn it on", "and off"])
    assert origin == "the examples that were passed to the export"
    assert shown.examples.requests["text"].tolist() == [b"Turn it on", b"and off"]
    for golden, said in [
        ("turn it on", "expected a list of requests, 'generated' or 'test'. Pass ['turn it on']"),
        ([], "There are 0 of text"),
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
