"""The recipes of the README for Ray Data and Spark, with the engines themselves. Each runs in a process of its own."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import zoo
from served_models import write_artifact

README = Path(__file__).resolve().parents[3] / "export" / "serving" / "README.md"
ROWS = 300


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """A model of a table, and a file of rows."""
    folder = tmp_path_factory.mktemp("engines")
    write_artifact(folder / "iris" / "1", "iris")
    file = folder / "people.csv"
    examples = zoo.datasets.load("iris").test.as_numpy_iterator()
    columns = list(zoo.load(folder / "iris").entries().values())
    names = [entry["columns"]["column"] for entry in columns]
    rows = [[float(example[name]) for name in names] for example in examples]
    pd.DataFrame((rows * ROWS)[:ROWS], columns=names).to_csv(file, index=False)
    return folder / "iris", file


def answers_of(engine, people, tmp_path):
    """Runs the block of the README that imports an engine; returns the rows that it has written."""
    model, file = people
    blocks = re.findall(r"^```py\n(.*?)^```$", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    (source,) = [block for block in blocks if re.search(rf"^(import|from) {engine}\b", block, re.MULTILINE)]
    for name, given in (("/models/income", model), ("people.csv", file), ("answers", tmp_path / "answers")):
        assert f'"{name}"' in source
        source = source.replace(f'"{name}"', repr(str(given)))
    python = {"PYSPARK_PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": "-1", "RAY_USAGE_STATS_ENABLED": "0"}
    words = [sys.executable, "-P", "-c", source]
    done = subprocess.run(
        words, cwd=tmp_path, env={**os.environ, **python}, capture_output=True, text=True, check=False, timeout=400
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return pd.concat([pd.read_parquet(part) for part in sorted((tmp_path / "answers").glob("*.parquet"))])


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["ray", "pyspark"])
def test_the_recipe_answers_as_the_model_does(engine, people, tmp_path):
    if importlib.util.find_spec(engine) is None:
        pytest.skip(f"{engine} is not installed")
    if engine == "pyspark" and shutil.which("java") is None:
        pytest.skip("Spark needs Java")
    model, file = people
    found = answers_of(engine, people, tmp_path)
    given = pd.read_csv(file)
    expected = [answer["class_name"] for answer in zoo.load(model).predict(given)]
    assert len(found) == ROWS and set(found.columns) == {*given.columns, "answer"}
    columns = list(given.columns)
    pairs = {tuple(row): answer for row, answer in zip(given[columns].to_numpy().tolist(), expected, strict=True)}
    assert len(set(expected)) > 1
    for row, answer in zip(found[columns].to_numpy().tolist(), found["answer"], strict=True):
        assert pairs[tuple(row)] == answer
