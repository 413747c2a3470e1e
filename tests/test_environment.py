"""What a process inherits from its environment either works or is one sentence before anything is computed."""

from __future__ import annotations

import io
import json
import os
import sys

import keras
import pytest

import zoo
from zoo import environment
from zoo.errors import UsageError
from zoo.scripts.console import run_command
from zoo.training.detection.find import find_cluster


@pytest.mark.parametrize(
    ("setting", "value", "usual", "message"),
    [
        (
            "set_image_data_format",
            "channels_first",
            "channels_last",
            r"image_data_format is 'channels_first'; expected",
        ),
        ("set_floatx", "float16", "float32", r"floatx is 'float16', .*expected 'float32'. Change it in keras.json"),
    ],
)
def test_settings_of_keras_are_checked(setting, value, usual, message):
    getattr(keras.config, setting)(value)
    try:
        with pytest.raises(UsageError, match=message):
            zoo.run("mlp", "digits")
    finally:
        getattr(keras.config, setting)(usual)
    environment.check()


def test_another_backend_of_keras_is_rejected(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(
        UsageError, match=r"Keras runs on the backend 'torch'; expected 'tensorflow'. Set it in KERAS_BACK"
    ):
        environment.check()


def test_a_backend_of_a_notebook_is_replaced_where_it_is_not_installed(monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline_of_a_notebook.backend_inline")
    environment.check()
    assert os.environ["MPLBACKEND"] == "agg"
    for usable in ("svg", "module://json"):
        monkeypatch.setenv("MPLBACKEND", usable)
        environment.check()
        assert os.environ["MPLBACKEND"] == usable


def test_a_run_directory_with_a_long_name_is_rejected():
    for path in ("ü" * 128, "runs/" + "x" * 256 + "/one"):
        with pytest.raises(UsageError, match=r"has 256 bytes; file systems accept 255. Pass a shorter one"):
            zoo.run("mlp", "digits", run_directory=path)


def test_a_chief_is_the_first_worker(monkeypatch):
    cluster = {"chief": ["one:2222"], "worker": ["two:2222", "three:2222"]}
    for kind, index, place in (("chief", 0, 0), ("worker", 0, 1), ("worker", 1, 2)):
        monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}}))
        found = find_cluster(None, None)
        assert (found.addresses, found.index) == (("one:2222", "two:2222", "three:2222"), place)
    alone = {"cluster": {"chief": ["one:2222"]}, "task": {"type": "chief", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(alone))
    assert find_cluster(None, None).addresses == ("one:2222",)
    assert zoo.strategy("auto").num_replicas_in_sync == 1
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": {"ps": ["one:2222"]}, "task": {"type": "ps", "index": 0}}))
    with pytest.raises(UsageError, match=r"names ps and the task 'ps'; only workers train here. Pass all addresses"):
        find_cluster(None, None)


def test_names_that_a_terminal_cannot_show_are_escaped(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii", write_through=True))
    assert run_command(lambda words: print("günstig"), []) == 0
    assert written.getvalue() == b"g\\xfcnstig\n"
