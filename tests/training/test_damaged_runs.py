"""Damaged files of a run: one sentence that names the file and says what to do, before anything is computed."""

from __future__ import annotations

import json
import os
import shutil
import zipfile

import keras
import pytest

import zoo
from selection import slow
from zoo import config, pipeline, storage
from zoo.errors import UsageError
from zoo.training import run_directory


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run in a folder whose name is a pattern."""
    directory = tmp_path_factory.mktemp("runs") / "rate[0.1]"
    train(directory)
    return directory


def train(directory, epochs=1):
    return pipeline.run(
        "mlp",
        "digits",
        model_arguments={"hidden_units": (4,)},
        config=zoo.TrainConfig(epochs=epochs, batch_size=512),
        run_directory=directory,
        export=False,
        verbose=0,
    )


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


@pytest.mark.slow
def test_a_run_in_a_folder_with_brackets_resumes(finished):
    assert [row["epoch"] for row in train(finished, epochs=2).history] == [1, 2]


GARBAGE = {"empty": b"", "bytes": bytes(range(256)), "list": b"[]", "null": b"null", "deep": b"[" * 100_000}
FILES = {
    "interface/interface.json": "Put back a copy of the run's folder `interface`, or train the model again",
    "interface/examples.npz": "Put back a copy of the run's folder `interface`, or train the model again",
    "evaluation.json": "Delete it, and run `zoo evaluate .*` to write it again",
    "model.keras": "Put back a copy, or delete it and start the training again with the same settings",
}


@pytest.mark.parametrize("kind", GARBAGE)
@pytest.mark.parametrize("name", FILES)
def test_damaged_files_are_named_with_advice(run, tmp_path, name, kind):
    (run / name).write_bytes(GARBAGE[kind])
    with pytest.raises(UsageError, match=rf"{name} (is damaged|cannot be loaded): .*\. {FILES[name]}"):
        pipeline.export_run(run, tmp_path / "new")
    assert not (tmp_path / "new").exists()


VALUES = (None, 3, "x", [[]], {})
KEYS = ("task", "build", "class_names", "preprocessor", "data", "splits", "data_sha256")


@pytest.mark.parametrize("key", KEYS)
def test_values_of_wrong_types_in_an_interface_are_named(run, key):
    file = run / "interface" / "interface.json"
    content = json.loads(file.read_text())
    for value in VALUES:
        if isinstance(value, type(content[key])) and key in ("task", "data_sha256", "class_names", "splits"):
            continue  # of the right type: found by the hash, or an unknown name
        file.write_text(json.dumps(content | {key: value}))
        with pytest.raises(UsageError, match=r"interface.json (is damaged: .*(expected|missing)|was changed after)"):
            zoo.datasets.interface.Interface.load(run / "interface")
    del content[key]
    file.write_text(json.dumps(content))
    with pytest.raises(UsageError, match=rf"interface.json is damaged: {key} is missing|has no hash of its data"):
        zoo.datasets.interface.Interface.load(run / "interface")


def test_settings_are_checked_before_a_run_resumes(run):
    (run / ".settings.json").write_text('{"model": [], "data": {}}')
    with pytest.raises(
        UsageError, match=r"settings.json is damaged: model is \[\]; expected a mapping. Put back .*delete"
    ):
        train(run, epochs=2)
    (run / ".settings.json").unlink()
    config_file = run / "config.yaml"
    config_file.write_text(config_file.read_text().splitlines()[0] + "\nmodel: 3\ndata: {name: digits}\nconfig: {}\n")
    with pytest.raises(UsageError, match=r"config.yaml is damaged: model is 3; expected a mapping. Put back a copy"):
        train(run, epochs=2)


@pytest.mark.parametrize(
    ("key", "damage"), [("history", 3), slow("layout", []), slow("selection", None), ("epoch", True)]
)
def test_a_checkpoint_with_a_damaged_state_is_passed_over(run, capsys, key, damage):
    for state in run.glob("checkpoints/step-*/state.json"):
        state.write_text(json.dumps(json.loads(state.read_text()) | {key: damage}))
    with pytest.raises(UsageError, match=r"Every checkpoint in .* is damaged. Start again with overwrite=True"):
        train(run, epochs=2)
    assert f"{key} is " in capsys.readouterr().out


def test_a_lock_that_is_a_link_is_not_followed(run, tmp_path):
    (tmp_path / "mine").write_text("mine")
    (run / ".lock").unlink()
    (run / ".lock").symlink_to(tmp_path / "mine")
    with pytest.raises(UsageError, match=r"\.lock is no regular file, but a link, a folder or a device. Remove it"):
        train(run, epochs=2)
    assert (tmp_path / "mine").read_text() == "mine"
    (run / ".lock").unlink()
    with run_directory.in_use(run):
        assert (run / ".lock").read_text() == str(os.getpid())


def test_a_config_that_asks_for_too_many_weights_is_not_built(run):
    def grown(content):
        text = content.decode().replace('"units": 4,', '"units": 1000000000,')
        return text.replace('"input_shape": [null, 4]', '"input_shape": [null, 1000000000]').encode()

    with zipfile.ZipFile(run / "model.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(run / "model.keras", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, grown(content) if name == "config.json" else content)
    with pytest.raises(
        UsageError, match=r"config.json asks for [0-9,]{14,} weights, model.weights.h5 holds [0-9,]{4,8};"
    ):
        pipeline.load_model(run / "model.keras")
    # Keras initializes pending variables when it next leaves a scope: those of the rejected model must not be among them.
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: " + "[" * 2_000, "nested too deeply"),
        (
            "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 60)),
            "aliases make it",
        ),
        ("a: &a [*a]", "aliases make it too large"),
        ("a: &a {b: 1}\nc: {<<: *a}", "merge keys .* are not read"),
    ],
)
def test_yaml_files_that_grow_are_rejected(tmp_path, text, message):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(UsageError, match=f"config.yaml is .*{message}"):
        config.read_yaml(tmp_path / "config.yaml")


def test_only_regular_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(5 << 30)
    for name, message in (
        ("pipe", "pipe is not a regular file. Pass a file"),
        ("sparse", "sparse has 5,368,709,120 bytes; expected at most"),
    ):
        with pytest.raises(ValueError, match=message):
            storage.read_text(tmp_path / name)
