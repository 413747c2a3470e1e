"""The commands and code blocks of the READMEs work, and their tables and links are correct."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import operator
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import processes
import zoo
from zoo.scripts import cli, results, train
from zoo.scripts.benchmarks import bulk, exports, generation, rows, runtimes, serving, tokenization, training
from zoo.scripts.benchmarks import input as image_input
from zoo.scripts.list_models import model_table

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("zoo", "datasets", "export", "scripts", "tests")
# The Python blocks run in this order: later pages use names that README.md defines.
PAGES = [ROOT / "README.md", *(page for folder in FOLDERS for page in sorted((ROOT / folder).rglob("README.md")))]
TEXTS = {page: page.read_text(encoding="utf-8") for page in PAGES}


def blocks(language, pages=PAGES):
    return [
        block
        for text in (TEXTS[page] for page in pages)
        for block in re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    ]


@pytest.mark.parametrize(
    ("page", "name", "current"),
    [
        ("zoo/models", "models", model_table),
        ("scripts/recipes", "results", lambda: results.markdown(results.read(results.RECORDED))),
        ("scripts/recipes", "behind", lambda: results.behind_markdown(results.behind(results.read(results.RECORDED)))),
        *(
            ("scripts/benchmarks", module.__name__.rpartition(".")[2], lambda module=module: printed(module))
            for module in (training, image_input, serving, bulk, rows, tokenization, generation)
        ),
        (
            "scripts/benchmarks",
            "runtimes",
            lambda: runtimes.table(runtimes.read(ROOT / "scripts/benchmarks/runtimes.csv")),
        ),
        ("scripts/benchmarks", "exports", lambda: exports.table(exports.read(ROOT / "scripts/benchmarks/exports.csv"))),
    ],
)
def test_generated_tables_are_current(page, name, current):
    text = TEXTS[ROOT / page / "README.md"]
    shown = re.search(rf"<!-- {name}: made by `(.*?)` -->\n(.*?)\n?<!-- /{name} -->", text, re.DOTALL)
    assert shown and shown[2] == current(), (
        f"{page}/README.md is stale. Replace its table by the output of `{shown[1]}`."
    )


def printed(module):
    """Returns the table of a benchmark's CSV file, as `--markdown` prints it."""
    name = module.__name__.rpartition(".")[2]
    return module.FIGURES.table(module.FIGURES.read(ROOT / "scripts" / "benchmarks" / f"{name}.csv"))


def test_main_readme_is_short():
    assert len(TEXTS[ROOT / "README.md"].splitlines()) <= 220


def test_every_link_and_picture_exists():
    for page, text in TEXTS.items():
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
            assert target.startswith("https://") or (page.parent / target).is_file(), f"{page}: {target}"


def test_every_contents_anchor_is_a_heading():
    text = TEXTS[ROOT / "README.md"]
    headings = {
        re.sub(r"[^a-z0-9 -]", "", line[3:].lower()).replace(" ", "-") for line in re.findall(r"^## .*$", text, re.M)
    }
    assert set(re.findall(r"\]\(#([\w-]+)\)", text)) == headings


def test_every_command_and_name_exists():
    """Includes the blocks that do not run."""
    lines = "\n".join([*blocks("bash"), *blocks("sh"), *re.findall(r"`(zoo [^`]*)`", "\n".join(TEXTS.values()))])
    assert {*re.findall(r"^zoo ([\w-]+)", lines, re.MULTILINE)} <= set(cli.COMMANDS)
    assert {*re.findall(r"--model (\w+)(?=[\s`]|$)", lines)} - {"MODEL"} <= set(zoo.list_models())
    assert {*re.findall(r"--config (\w+)(?=\s|$)", lines)} <= set(train.recipes())
    fields = {field.name for field in dataclasses.fields(zoo.TrainConfig)}
    assert {*re.findall(r"--config\.(\w+)", lines)} - {"NAME"} <= fields


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    return tmp_path_factory.mktemp("readme")


def environment():
    """Returns environment variables in which the commands of this environment, such as `zoo`, are found."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


@pytest.mark.slow
@pytest.mark.parametrize("part", [0, 1])
def test_shell_commands_work(workplace, part):
    """Runs all commands except the test suite, which would run itself. The quick start has its own test."""
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    assert {"bash scripts/quickstart.sh", "bash scripts/test.sh"} <= set(lines)
    until = next(
        i for i, line in enumerate(lines) if "tagged_commands" in line
    )  # the other tasks are trained in other tests
    for line in (lines[:until], lines[until:])[part]:
        if not line.startswith("bash scripts/"):
            done = subprocess.run(line, shell=True, cwd=workplace, env=environment(), capture_output=True, text=True)
            assert done.returncode == 0, f"{line}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"


def test_calls_in_python_blocks_fit_the_functions():
    """Reads the blocks; a slow test runs them."""
    checked = 0
    for block in blocks("python"):
        for call in (node for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Call)):
            name = ast.unparse(call.func)
            if not re.fullmatch(r"zoo(\.\w+)+", name) or any(isinstance(a, ast.Starred) for a in call.args):
                continue
            function = operator.attrgetter(name.removeprefix("zoo."))(zoo)
            arguments = {word.arg: None for word in call.keywords if word.arg}
            inspect.signature(function).bind(*[None] * len(call.args), **arguments)
            checked += 1
    assert checked > 12


@pytest.mark.slow
def test_python_blocks_work(workplace):
    """Runs all blocks in one process, in order, as a user would paste them."""
    command = [sys.executable, "-c", "\n".join(blocks("python", PAGES))]
    done = processes.run(command, cwd=workplace, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "SavedModel: runs/arrays/saved_model/1, verified\n" in done.stdout
    assert "exports/steps/1: verified (tensorflow" in done.stdout


@pytest.mark.slow
def test_quick_start_works(tmp_path):
    """Runs in a copy of the checkout with the existing environment; `bash scripts/quickstart.sh` creates its own."""
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
    assert done.stderr == "", "a new interpreter must import TensorFlow without log lines"
    assert re.search(r"The image shows a \d\n.*test-image.png: \d [01]\.\d{4}\n", done.stdout)
    listed = re.findall(r"^(?:SavedModel|Proof|Report|Plots|Model card)  +(\S+)$", done.stdout, re.MULTILINE)
    assert len(listed) == 5
    for path in listed:
        assert (copy / path).exists(), path
