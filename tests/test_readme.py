"""What README says is run, and what it lists is compared."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import zoo
from zoo.scripts import cli, results, train
from zoo.scripts.list_models import model_table

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def test_the_model_table_is_current():
    shown = re.search(r"<!-- models: .*? -->\n(.*?)\n?<!-- /models -->", README, re.DOTALL)
    assert shown and shown[1] == model_table(), (
        "README's model table is stale. Put the output of `zoo list --markdown` between its two comments."
    )


def test_the_results_are_those_of_the_csv_file():
    shown = re.search(r"<!-- results: .*? -->\n(.*?)\n?<!-- /results -->", README, re.DOTALL)
    assert shown and shown[1] == results.markdown(results.RECIPES / "results.csv"), (
        "README's results are stale. Put the output of `zoo results --markdown --output scripts/recipes/results.csv` "
        "between its two comments."
    )


def test_every_link_and_picture_is_there():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).is_file(), target


def test_every_command_and_name_is_there():
    """Of the blocks that are not run too."""
    lines = "\n".join([*blocks("bash"), *blocks("sh"), *re.findall(r"`(zoo [^`]*)`", README)])
    assert {*re.findall(r"^zoo ([\w-]+)", lines, re.MULTILINE)} <= set(cli.COMMANDS)
    assert {*re.findall(r"--model (\w+)", lines)} - {"MODEL"} <= set(zoo.list_models())
    assert {*re.findall(r"--config (\w+)(?=\s|$)", lines)} <= set(train.recipes())
    fields = {field.name for field in dataclasses.fields(zoo.TrainConfig)}
    assert {*re.findall(r"--config\.(\w+)", lines)} - {"NAME"} <= fields


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    return tmp_path_factory.mktemp("readme")


def environment():
    """The commands of the environment that the tests run in, `zoo` among them."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


@pytest.mark.slow
@pytest.mark.parametrize("part", [0, 1])
def test_the_shell_commands_work(workplace, part):
    """All of them but the test suite, which would run itself; the quick start has a test of its own."""
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    assert {"bash scripts/quickstart.sh", "bash scripts/test.sh"} <= set(lines)
    until = next(
        i for i, line in enumerate(lines) if "tagged_commands" in line
    )  # other tasks, trained in other tests too
    for line in (lines[:until], lines[until:])[part]:
        if not line.startswith("bash scripts/"):
            done = subprocess.run(line, shell=True, cwd=workplace, env=environment(), capture_output=True, text=True)
            assert done.returncode == 0, f"{line}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"


def test_the_python_blocks_work(workplace):
    """In one process, in order, as somebody would paste them."""
    script = "\n".join(blocks("python"))
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=workplace, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "688138" in done.stdout and "True" in done.stdout and "verified (tensorflow" in done.stdout


def test_the_quick_start_works(tmp_path):
    """In a copy of the checkout, with the environment that is there; `bash scripts/quickstart.sh` makes its own."""
    if not (Path(sys.prefix) / "bin" / "zoo").exists():
        pytest.skip("the package is not installed in a virtual environment here")
    copy = tmp_path / "checkout"
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, tracked.split("\0")):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy / name)
    words = ["bash", "scripts/quickstart.sh", "--config.epochs", "2"]
    variables = {**environment(), "VENV": sys.prefix, "INSTALL": "no"}
    done = subprocess.run(words, cwd=copy, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout[-2000:]}{done.stderr[-2000:]}"
    assert re.search(r"The image shows a \d\n.*test-image.png: \d [01]\.\d{4}\n", done.stdout)
    listed = re.findall(r"^(?:SavedModel|Proof|Report|Plots|Model card)  +(\S+)$", done.stdout, re.MULTILINE)
    assert len(listed) == 5
    for path in listed:
        assert (copy / path).exists(), path
