"""Runs references of PyTorch in processes of their own: this Python if it has PyTorch, otherwise ZOO_TORCH_PYTHON."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REFERENCES = Path(__file__).parents[1] / "references"


def run_reference(name: str, job: dict, folder: Path, *needs: str) -> None:
    """Runs references/NAME.py with a job; skips the test without PyTorch."""
    python = os.environ.get("ZOO_TORCH_PYTHON")
    if all(importlib.util.find_spec(package) for package in ("torch", *needs)):
        python = sys.executable
    if not python:
        pytest.skip(f"needs torch {' '.join(needs)}: pip install -e '.[test]', or set ZOO_TORCH_PYTHON")
    file = folder / "job.json"
    file.write_text(json.dumps({k: str(v) if isinstance(v, Path) else v for k, v in job.items()}))
    subprocess.run([python, str(REFERENCES / f"{name}.py"), str(file)], check=True)


class Torch:
    """The process that runs bert_reference.py."""

    def __init__(self, python: str) -> None:
        file = Path(__file__).parents[1] / "references" / "bert_reference.py"
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen([python, str(file)], text=True, **pipes)

    def __call__(self, do: str, **job) -> dict:
        self.process.stdin.write(json.dumps({"do": do, **job}, default=str) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, "the PyTorch process ended"
        answer = json.loads(line)
        assert "error" not in answer, answer["error"]
        return answer


def torch_process():
    """Yields the process: of this Python if it has torch and transformers, otherwise of ZOO_TORCH_PYTHON."""
    python = os.environ.get("ZOO_TORCH_PYTHON")
    if all(importlib.util.find_spec(name) for name in ("torch", "transformers")):
        python = sys.executable
    if not python:
        pytest.skip(
            "needs torch and transformers: pip install -e '.[test]', or set ZOO_TORCH_PYTHON to a Python with them"
        )
    side = Torch(python)
    yield side
    side.process.stdin.close()
    side.process.wait(60)
