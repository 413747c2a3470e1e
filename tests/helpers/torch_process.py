"""Runs a reference of PyTorch in a process of its own: this Python if it has PyTorch, otherwise ZOO_TORCH_PYTHON."""

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
