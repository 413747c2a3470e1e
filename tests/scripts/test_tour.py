"""The notebook in scripts/notebooks: its committed outputs, and a new execution."""

from __future__ import annotations

import copy
import os
import re
import sys
from pathlib import Path

import nbformat
import pytest

FILE = Path(__file__).resolve().parents[2] / "scripts" / "notebooks" / "tour.ipynb"
CHATTER = r"Assets written|INFO:|WARNING|absl::|\.cc:\d+|\x1b|\r(?!\n)"
KEY_OUTPUTS = {  # by the last line of a cell
    "data": "<td style='text-align:left'>switch off</td><td style='text-align:left'>192</td>",
    "print(prepared)": "Prepared for embedding_lstm by text: token_ids (128,)",
    "trained": "embedding_lstm after 5 epochs",
    "report": "0.2500 the most frequent class",
    "zoo.export.verify(path, runtimes=())": "exports/commands/1: verified (tensorflow ",
    '[(answer["class_name"], float(answer["probabilities"].max().round(2))) for answer in answers]': "'switch off'",
    ")": "runs/digits/saved_model/1: verified (tensorflow ",
    "result": "runs/digits/saved_model/1 (verified)",
    "result.prepared": "input of cnn",
    'print("digit.png:   ", digits.predict(["digit.png"])[0]["class_name"])': "true classes: 2 8 2 2 5 7",
    "!zoo train --model mlp --data digits --config.epochs 3 --no-export --run-directory runs/mlp": "Run:        runs/mlp",
}


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def texts(cell):
    """Returns everything that the outputs of a cell show."""
    shown = [part for output in cell.outputs for part in [output.get("text", ""), *output.get("data", {}).values()]]
    return "\n".join(shown)


def check(notebook):
    for cell in code_cells(notebook):
        shown = texts(cell)
        assert shown and all(output.output_type != "error" for output in cell.outputs), cell.source
        without_pictures = re.sub(r"base64,[^']+", "", shown)
        assert not re.findall(CHATTER, without_pictures), (cell.source, without_pictures)
        assert not re.findall(r"(?<![\w/])/(home|root|tmp|work|usr)/", without_pictures), cell.source
        assert all(len(output.get("data", {}).get("text/html", "")) < 300_000 for output in cell.outputs)
    shown = {cell.source.splitlines()[-1]: texts(cell) for cell in code_cells(notebook)}
    for line, expected in KEY_OUTPUTS.items():
        assert expected in shown[line], (line, expected)
    epochs = re.findall(r"^Epoch (\d)/5 - \d+/\d+ - ", "\n".join(shown.values()), re.MULTILINE)
    assert epochs == [*"12345"] * 2, "one line for every epoch of the two trainings"


def test_the_committed_notebook_has_outputs_without_errors_paths_and_log_lines():
    notebook = nbformat.read(FILE, 4)
    nbformat.validate(notebook)
    check(notebook)


@pytest.mark.slow
def test_the_notebook_runs_again(tmp_path, monkeypatch):
    from nbclient import NotebookClient

    # `!zoo` needs the command on the path, and the test's process may have set what a user has not.
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    for name in ("TF_CPP_MIN_LOG_LEVEL", "MPLBACKEND"):
        monkeypatch.delenv(name, raising=False)
    committed = nbformat.read(FILE, 4)
    notebook = copy.deepcopy(committed)
    for cell in code_cells(notebook):
        cell.outputs = []
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    check(notebook)
    for ours, theirs in zip(code_cells(notebook), code_cells(committed), strict=True):
        kinds = [{(o.output_type, *sorted(o.get("data", {}))) for o in cell.outputs} for cell in (ours, theirs)]
        assert kinds[0] == kinds[1], ours.source
