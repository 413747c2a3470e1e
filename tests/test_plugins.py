"""Plugins: from raw files to a verified SavedModel. Plugins are recorded, and are imported only on request."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import processes
import zoo
from zoo import registries, storage
from zoo.config import read_yaml
from zoo.scripts import cli

PLUGINS = Path(__file__).parent / "plugins"
PAGE = Path(__file__).parents[1] / "zoo" / "PLUGINS.md"
ZOO = [sys.executable, "-P", "-m", "zoo.scripts.cli"]
INK = ["--model", "ink_boxes", "--data", "ink:digits", "--model.units", "16"]


def start(*words, cwd=None, **variables):
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", **variables}
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)  # the command must silence TensorFlow by itself
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen([*ZOO, *map(str, words)], env=environment, text=True, cwd=cwd, **streams)


def run_zoo(*words, status=0, cwd=None, **variables):
    command = [*ZOO, *map(str, words)]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", **variables}
    done = processes.run(command, env=environment, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == status, (done.stdout + done.stderr)[-4000:]
    return done.stdout + done.stderr


@pytest.fixture
def apart(monkeypatch):
    """Forgets all plugins for the duration of a test, as in a new process."""
    for registry in list(registries._REGISTRIES.values()):
        registry.names()  # scan first, because names scanned later would be removed afterwards
        own = {name: entry for name, entry in registry.entries.items() if entry.plugin is None}
        monkeypatch.setattr(registry, "entries", own)
    for name in [*registries._PLUGINS, "ink_boxes", "ink_layers", "my_net"]:
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(registries, "_PLUGINS", {})
    monkeypatch.setattr(sys, "path", [*sys.path])


@pytest.fixture
def here(apart, tmp_path, monkeypatch):
    """Returns the current folder, which holds copies of the plugins."""
    shutil.copytree(PLUGINS, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(capsys, *words, status=0):
    """Runs a command in this process; returns its output on both streams."""
    found = cli.main([str(word) for word in words])
    text = "".join(capsys.readouterr())
    assert found == status, text
    return text


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Writes raw files: dark images with one bright bar or square each, in one folder per class."""
    folder, random = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for name, (height, width) in {"bar": (2, 7), "square": (4, 4)}.items():
        (folder / name).mkdir()
        for number in range(160):
            image = random.integers(0, 50, (12, 14, 1)).astype(np.uint8)
            top, left = random.integers(0, 12 - height), random.integers(0, 14 - width)
            image[top : top + height, left : left + width] = 230
            (folder / name / f"{number}.png").write_bytes(tf.io.encode_png(image).numpy())
    return folder


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    """Trains the plugin by the command line in a separate process."""
    directory = tmp_path_factory.mktemp("run") / "ink"
    plugin = ("--plugin", PLUGINS / "ink_boxes.py", "--data.threshold", 100)
    size = ("--config.epochs", 6, "--config.learning_rate", 0.01, "--config.batch_size", 8)
    words = ("--model", "ink_boxes", "--data", f"ink:{photos}", *size, "--run_directory", directory, "--quiet")
    return directory, run_zoo("train", *plugin, *words)


# --- From raw files to a verified SavedModel -------------------------------------------------------------------------


def test_raw_files_become_a_verified_savedmodel(run):
    directory, text = run
    assert "SavedModel: " in text and ": verified" in text and "serving_default box, batch 32" in text
    report = storage.read_json(directory / "evaluation.json")
    assert report["accuracy"] > 0.8 and report["box_error"] < 0.12, report
    assert {"probabilities_loss", "corners_loss"} <= {
        *(directory / "history.csv").read_text().split("\n")[0].split(",")
    }
    assert read_yaml(directory / "config.yaml")["data"]["threshold"] == 100, "an option of the plugin's data source"


def test_a_run_and_its_savedmodel_record_the_plugin(run):
    directory, _ = run
    recorded = read_yaml(directory / "config.yaml")["plugins"]
    files = ("ink_boxes", "ink_layers")
    lines = "".join(f"{storage.sha256(PLUGINS / f'{name}.py')}  {name}\n" for name in files)
    expected = hashlib.sha256(lines.encode()).hexdigest()
    assert recorded == {"ink_boxes": {"source": str(PLUGINS / "ink_boxes.py"), "sha256": expected}}
    facts = storage.read_json(directory / "saved_model/1/assets.extra/zoo.json")
    assert facts["plugins"] == {"ink_boxes": expected} and facts["model"]["name"] == "ink_boxes"


def test_savedmodel_predicts_without_the_plugin(run, photos, apart, capsys):
    image = photos / "bar" / "3.png"
    text = command(capsys, "predict", run[0], image, "--json")
    answer = json.loads(text)
    assert answer["class_name"] == "bar" and len(answer["box"]) == 4
    assert "ink_boxes" not in sys.modules and not registries._PLUGINS


def test_evaluate_and_export_load_the_run_again(run, here, capsys):
    directory, figures = run[0], storage.read_json(run[0] / "evaluation.json")
    assert "accuracy" in command(capsys, "evaluate", directory, "--plugin", "ink_boxes.py")
    again = storage.read_json(directory / "evaluation.json")
    assert [again[name] for name in ("accuracy", "box_error")] == pytest.approx(
        [figures[name] for name in ("accuracy", "box_error")], rel=1e-5
    )
    text = command(capsys, "export", directory, "exports", "--plugin=ink_boxes.py")
    assert "exports/1: verified" in text
    hashes = [storage.read_json(p / "1/assets.extra/zoo.json") for p in (directory / "saved_model", here / "exports")]
    assert hashes[0]["weights_sha256"] == hashes[1]["weights_sha256"]


def test_list_shows_the_additions_of_a_plugin(here, capsys):
    text = command(capsys, "list", "ink*", "--plugin", "ink_boxes.py")
    assert text.startswith("ink_boxes  ink_boxes") and "ink:PATH" in text
    assert (
        "Plugin ink_boxes (ink_boxes.py): data source ink; model ink_boxes; preprocessor ink; report ink_boxes; "
        "task ink_boxes" in text
    )
    assert "`ink_boxes` | ink_boxes | Ink along rows" in command(capsys, "list", "--markdown"), "without golden numbers"


@pytest.mark.slow
def test_python_api_accepts_the_same_plugin(here, capsys):
    plugin = zoo.load_plugin("ink_boxes.py")
    assert plugin.adds["task"] == ["ink_boxes"] and zoo.load_plugin(here / "ink_boxes.py") is plugin
    assert zoo.list_plugins() == [plugin]
    result = zoo.run("ink_boxes", "ink:digits", config=zoo.TrainConfig(epochs=1), export=False, verbose=0)
    assert result.run_directory == Path("runs/ink-digits-ink_boxes")
    folds = zoo.datasets.load("ink:digits", folds=4, fold=1)
    counts = np.bincount([int(e["label"]) for e in folds.test.as_numpy_iterator()])
    assert len(counts) == 10 and counts.max() - counts.min() <= 4, "classes are spread evenly over folds"


@pytest.mark.slow
def test_examples_on_the_plugin_page_work(apart, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n# stripes.py\n(.*?)```", PAGE.read_text(), re.DOTALL)
    Path("stripes.py").write_text(block)
    (shell,) = [b for b in re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL) if "zoo list" in b]
    image = np.tile(np.arange(0, 240, 20, dtype=np.uint8), (12, 1))[..., np.newaxis]
    Path("vertical.png").write_bytes(tf.io.encode_png(image).numpy())
    printed = [command(capsys, *line.split("#")[0].split()[1:]) for line in shell.splitlines()]
    assert "Plugin stripes (stripes.py): data source stripes; model steps" in printed[0]
    assert storage.read_json("runs/stripes-steps/evaluation.json")["accuracy"] > 0.9
    assert printed[-1].startswith("vertical.png: vertical")


# --- User-defined functions ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_user_defined_function_is_trained(here, capsys):
    train = ("train", "--data", "digits", "--config.epochs", 1, "--quiet", "--run_directory", "run")
    text = command(capsys, *train, "--model", "my_net.py:build_my_model", "--model.units", 20)
    assert "run/saved_model/1: verified" in text
    settings = read_yaml("run/config.yaml")
    expected = storage.sha256(here / "my_net.py")
    assert settings["plugins"] == {"my_net": {"source": "my_net.py:build_my_model", "sha256": expected}}
    assert settings["model"] == {"name": "my", "units": 20}
    facts = storage.read_json("run/saved_model/1/assets.extra/zoo.json")
    assert facts["plugins"] == {"my_net": expected} and facts["model"]["arguments"]["num_classes"] == 10
    assert "accuracy" in command(capsys, "evaluate", "run", "--plugin", "my_net.py:build_my_model")
    again = ("train", "--config", "run/config.yaml", "--no-export", "--quiet", "--run_directory", "again")
    command(capsys, *again, "--model", "my_net.py:build_my_model", "--config.epochs", 1)
    assert read_yaml("again/config.yaml")["model"] == settings["model"]


def test_a_repeated_run_does_not_import_the_function(here, capsys):
    (here / "config.yaml").write_text(
        "plugins: {my_net: {source: /tmp/my_net.py:build_my_model, sha256: abc}}\nmodel: {name: my_model}\n"
    )
    text = command(capsys, "train", "--config", "config.yaml", "--data", "digits", status=2)
    assert "made with the plugin 'my_net' (sha256 abc), which is not loaded" in text
    assert "Add --plugin my_net.py:build_my_model, or call zoo.load_plugin(" in text
    assert "my_net" not in sys.modules


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("build_my_modl", r"Plugin 'my_net' has no function 'build_my_modl'. Did you mean 'build_my_model'"),
        (
            "fixed_net",
            r"has the inputs \{.*: \[28, 28, 1\]\}; data set 'digits' gives .*\[8, 8, 1\].*argument input_shape",
        ),
        ("build_sequential_model", r"returned a Sequential; expected a Functional Keras model.*Return keras.Model\("),
    ],
)
def test_unsuitable_functions_are_rejected(here, capsys, function, message):
    words = ("train", "--model", f"my_net.py:{function}", "--data", "digits", "--quiet", "--run_directory", "run")
    text = command(capsys, *words, status=2)
    assert re.search(message, text) and not Path("run").exists()


def test_classes_are_compared_before_training(here, capsys):
    text = Path("my_net.py").read_text().replace("(28, 28, 1)", "(8, 8, 1)").replace("Dense(10,", "Dense(7,")
    Path("my_net.py").write_text(text)
    words = ("train", "--model", "my_net.py:fixed_net", "--data", "digits", "--quiet")
    assert "Model 'fixed_net' has 7 classes; data set 'digits' has 10. Give" in command(capsys, *words, status=2)


# --- What is never imported, and what has changed --------------------------------------------------------------------


def test_unknown_run_executes_no_code(run, tmp_path):
    """The plugin is next to the run, in the current folder and in Python's path."""
    shutil.copytree(run[0], tmp_path / "run")
    (tmp_path / "ink_boxes.py").write_text("open('executed', 'w')\n")
    sha256 = read_yaml(run[0] / "config.yaml")["plugins"]["ink_boxes"]["sha256"]
    text = run_zoo("evaluate", "run", status=2, cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert text == (
        f"zoo: The run in run was made with the plugin 'ink_boxes' (sha256 {sha256}), which is not loaded: code is "
        "imported only if you name it. Add --plugin ink_boxes.py, or call zoo.load_plugin('ink_boxes.py') first.\n"
    )
    assert not (tmp_path / "executed").exists()


def test_changed_plugin_is_detected(run, here, capsys):
    helper = here / "ink_layers.py"
    helper.write_text(helper.read_text() + "\n# another content\n")
    shutil.copytree(run[0], "run")
    for words in (("evaluate", "run"), ("export", "run", "exports")):
        text = command(capsys, *words, "--plugin", "ink_boxes.py", status=2)
        assert re.search(r"run was made with different content of the plugin 'ink_boxes' \(sha256 \w+, now \w+\)", text)
        assert "Put the old file back, or add --allow-changed-plugins (allow_changes=True in Python)" in text
    settings = read_yaml("run/config.yaml")
    data = ("--data", settings["data"]["name"], "--data.threshold", 100)
    words = ("train", "--plugin", "ink_boxes.py", "--config", "run/config.yaml", *data, "--run_directory", "run")
    text = command(capsys, *words, "--allow-changed-plugins", status=2)
    assert re.search(
        r"run holds a run with the plugin 'ink_boxes' of sha256 \w+; now it is \w+. Put the old file", text
    )
    text = command(capsys, "evaluate", "run", "--plugin", "ink_boxes.py", "--allow-changed-plugins")
    assert "You allowed this." in text and "accuracy" in text


def test_plugins_that_cannot_be_imported_are_rejected(here, capsys):
    Path("broken.py").write_text("import zoo\n\nzoo.nothing_at_all\n")
    Path("half.py").write_text(
        "import zoo\n\n@zoo.register_model(tasks=(), reference='none')\ndef build_half_model():\n    '''Half.'''\n\n1 / 0\n"
    )
    Path("taken.py").write_text(
        "import zoo\n\n@zoo.register_model(tasks=(), reference='none')\ndef build_mlp_model():\n    '''Mine.'''\n"
    )
    Path("json.py").write_text("")
    cases = {
        "ink_boxs.py": r"^zoo: Plugin ink_boxs.py is not a Python file. Did you mean 'ink_boxes.py'",
        "ink_boxes": r"^zoo: Python finds no module 'ink_boxes' for a plugin. Did you mean ink_boxes.py\?",
        "no.such_module": r"^zoo: Python finds no module 'no.such_module' for a plugin. Pass a file, or install",
        "broken.py": r"cannot be imported: AttributeError: module 'zoo' has no attribute .*\(broken.py, line 3\)",
        "half.py": r"cannot be imported: ZeroDivisionError: division by zero \(half.py, line 7\)",
        "taken.py": r"Model 'mlp' is registered twice: by zoo.models.mlp and by taken. Rename one of them",
        "json.py": r"json.py has the name of the module json \(.*json/__init__.py\). Rename the file",
    }
    for source, message in cases.items():
        assert re.search(message, command(capsys, "list", "--plugin", source, status=2)), source
    assert "half" not in zoo.list_models() and zoo.list_plugins() == [] and "half" not in sys.modules
    assert command(capsys, "list", "--plugin", status=2) == "zoo: --plugin has no value. Pass --plugin NAME.\n"


def test_installed_plugins_are_found(tmp_path):
    """Installs a package with an entry point. A broken entry point is skipped and reported."""
    for name, content in {"good": "def build_good_model(num_classes):\n    '''Good.'''\n", "bad": "1 / 0\n"}.items():
        decorated = "import zoo\n\n@zoo.register_model(tasks=('image_classification',), reference='none')\n"
        (tmp_path / f"{name}_pack.py").write_text(decorated + content if name == "good" else content)
        facts = tmp_path / f"{name}_pack-1.0.dist-info"
        facts.mkdir()
        (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-pack\nVersion: 1.0\n")
        (facts / "entry_points.txt").write_text(f"[zoo.plugins]\n{name} = {name}_pack\n")
    text = run_zoo("list", "good*", PYTHONPATH=str(tmp_path))
    assert "good  image_classification    Good." in text and "Plugin good_pack (good_pack): model good" in text
    assert "Plugin bad_pack cannot be imported: ZeroDivisionError: division by zero (bad_pack.py, line 1)" in text
    assert "It is installed by bad-pack and was skipped." in text


def test_hashes_cover_the_plugins_own_imports(tmp_path):
    files = {
        "pack/__init__.py": "",
        "pack/plugin.py": "from . import near\nfrom pack.deep import far\nimport json\n",
        "pack/near.py": "def lazily():\n    from .other import thing\n",
        "pack/other.py": "thing = 1\n",
        "pack/deep/__init__.py": "",
        "pack/deep/far.py": "",
        "pack/unused.py": "",
        "single.py": "import json\n",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    found = {name for name, _ in registries._own_files("pack.plugin", tmp_path / "pack/plugin.py")}
    assert found == {"pack", "pack.plugin", "pack.near", "pack.other", "pack.deep", "pack.deep.far"}
    assert registries._source_hash("single", tmp_path / "single.py") == storage.sha256(tmp_path / "single.py")
    before = registries._source_hash("pack.plugin", tmp_path / "pack/plugin.py")
    (tmp_path / "pack/other.py").write_text("thing = 2\n")
    assert registries._source_hash("pack.plugin", tmp_path / "pack/plugin.py") != before


# --- Kills, replicas and folds ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_weights(tmp_path):
    words = ("train", "--plugin", PLUGINS / "ink_boxes.py", *INK, "--no-export", "--quiet", "--config.deterministic")
    words = (*words, "true", "--config.epochs", 30, "--config.checkpoint_steps", 5, "--run_directory")
    process, history = start(*words, tmp_path / "run"), tmp_path / "run" / "history.csv"
    until = time.monotonic() + 300
    while not (history.exists() and len(history.read_text().splitlines()) > 3) and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait(60) == -9 and not (tmp_path / "run" / "model.keras").exists()
    assert "resuming in epoch" in run_zoo(*words, tmp_path / "run")
    run_zoo(*words, tmp_path / "whole")
    zoo.load_plugin(PLUGINS / "ink_boxes.py")
    models = [keras.saving.load_model(tmp_path / name / "model.keras", compile=False) for name in ("run", "whole")]
    for one, two in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.slow
def test_two_replicas_train_the_plugin(tmp_path):
    words = ("train", "--plugin", PLUGINS / "ink_boxes.py", *INK, "--config.epochs", 2, "--quiet", "--run_directory")
    text = run_zoo(*words, tmp_path / "two", "--config.strategy", "mirrored", "--config.replicas", 2)
    assert ", 2 replicas" in text and ": verified" in text
    run_zoo(*words, tmp_path / "one", "--no-export")
    losses = [json.loads((tmp_path / name / "evaluation.json").read_text())["box_error"] for name in ("one", "two")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.mark.slow
def test_cross_validation_accepts_plugins(tmp_path):
    words = ("cross-validate", "--plugin", PLUGINS / "ink_boxes.py", *INK, "--folds", 2, "--config.epochs", 1)
    text = run_zoo(*words, "--no-export", "--quiet", "--run_directory", tmp_path / "folds")
    assert "2 folds, mean and standard deviation" in text and "box error" in text
