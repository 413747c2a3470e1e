"""Fixtures and hooks that several test files share."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# Pytest explains failed assertions in these modules as it does in tests.
pytest.register_assert_rewrite(*(file.stem for file in Path(__file__).parent.glob("helpers/*.py")))


# The longest files must not run last when two processes share the suite, one file at a time.
LONG = (
    *("readme", "strategies", "tasks", "decoding", "interruption", "cli"),
    *("rejections", "verdicts", "contents", "requests", "training", "text", "results"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Moves the longest files to the front."""
    rank = {f"test_{name}": place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


@pytest.fixture(scope="session")
def run_python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Returns a function that runs source code in a new process; arguments arrive in sys.argv."""

    def run(source: str, *arguments: object, check: bool = True, **variables: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(source), *map(str, arguments)],
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            cwd=Path(sys.executable).anchor,
            check=False,
        )
        if check and done.returncode:
            pytest.fail(f"exit status {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
        return done

    return run
