"""What editors and type checkers see of the package: every public name, with its signature."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import zoo

STUB = Path(zoo.__file__).with_suffix(".pyi")
PACKAGE = STUB.parents[1]

GOOD = """
import keras
import zoo

model = zoo.build_cnn_model(input_shape=(28, 28, 1), num_classes=10, filters=(32, 64))
config = zoo.TrainConfig(epochs=5, batch_size=64)
result = zoo.run("cnn", "digits", config=config, run_directory="runs/digits")
reveal_type(zoo.build_cnn_model)
reveal_type(model)
reveal_type(result.saved_model)
reveal_type(zoo.export.load)
"""
BAD = """
import zoo

zoo.build_cnn_model(input_shape=(28, 28, 1), num_class=10)
zoo.build_cnm_model(10)
zoo.TrainConfig(epoch=5)
zoo.run("cnn", "digits").saved_modell
"""


def builders() -> dict[str, str]:
    """Returns the module of each builder that the stub declares."""
    imports = [node for node in ast.walk(ast.parse(STUB.read_text())) if isinstance(node, ast.ImportFrom)]
    return {a.name: f"zoo.{i.module}" for i in imports for a in i.names if a.name.startswith("build_")}


def test_the_stub_declares_every_builder():
    registered = {f"build_{name}_model": zoo.get_spec(name).builder.__module__ for name in zoo.list_models()}
    lines = [
        f"from {module.removeprefix('zoo')} import {name} as {name}"
        for name, module in registered.items()
        if builders().get(name) != module
    ]
    assert not lines, f"add to {STUB.name}:\n" + "\n".join(lines)
    assert set(builders()) == set(registered)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Returns a folder with a user's files, next to the package as it is installed."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "good.py").write_text(GOOD)
    (folder / "bad.py").write_text(BAD)
    links = folder / "installed" / "zoo"
    links.mkdir(parents=True)
    for path in [*PACKAGE.glob("zoo/*"), *(PACKAGE / name for name in ("datasets", "export", "scripts"))]:
        (links / path.name).symlink_to(path)
    return folder


def check(folder, *command):
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout.replace(f"{folder}{os.sep}", "")


def test_pyright_knows_signatures_and_rejects_wrong_names(files):
    settings = {"extraPaths": ["installed"], "include": ["*.py"], "typeCheckingMode": "standard"}
    (files / "pyrightconfig.json").write_text(json.dumps(settings))
    printed = check(files, sys.executable, "-m", "basedpyright", "-p", ".", "--pythonpath", sys.executable)
    errors = [line.strip() for line in printed.splitlines() if " error: " in line or "error:" in line.split(" - ")[-1]]
    assert [re.sub(r" \(\w+\)$", "", line.split("error: ")[1]) for line in errors] == [
        'Argument missing for parameter "num_classes"',
        'No parameter named "num_class"',
        '"build_cnm_model" is not a known attribute of module "zoo"',
        'No parameter named "epoch"',
        'Cannot access attribute "saved_modell" for class "RunResult"',
    ], printed
    assert 'Type of "zoo.build_cnn_model" is "(input_shape: ' in printed
    assert 'Type of "model" is "Model"' in printed
    assert 'Type of "result.saved_model" is "Path | None"' in printed
    assert 'Type of "zoo.export.load" is "(' in printed


@pytest.mark.slow
def test_mypy_knows_signatures_and_rejects_wrong_names(files):
    words = ["--config-file=", "--ignore-missing-imports", "--explicit-package-bases", "good.py", "bad.py"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *words],
        cwd=files,
        env={**os.environ, "MYPYPATH": "installed"},
        capture_output=True,
        text=True,
        check=False,
    )
    errors = [line for line in done.stdout.splitlines() if " error: " in line]
    expected = ['argument "num_class"', '"build_cnm_model"', 'argument "epoch"', '"saved_modell"']
    assert len(errors) == 4 and all(word in line for word, line in zip(expected, errors, strict=True)), done.stdout
    assert 'Revealed type is "def (input_shape: ' in done.stdout
