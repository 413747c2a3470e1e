"""Fixtures and hooks that several test files share."""

from __future__ import annotations

import functools
import gc
import os
import subprocess
import sys
import textwrap
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import processes

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
gc.set_threshold(100_000, 20, 50)  # TensorFlow keeps a million objects, which would be searched again and again

# Pytest explains failed assertions in these modules as it does in tests.
pytest.register_assert_rewrite(*(p.stem for p in Path(__file__).parent.glob("helpers/*.py") if p.stem != "processes"))


# The longest files must not run last when several processes share the suite, one file at a time.
LONG = (
    *("tasks", "plugins", "cli", "masking", "models", "readme", "recurrent", "strategies", "rejections", "training"),
    *("applications", "hostile", "edited_data", "signatures", "user_outputs", "options", "contract", "augmentation"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Moves the longest files to the front."""
    rank = {f"test_{name}": place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


def pytest_collection_finish() -> None:
    """Leaves what the imports have made, a million objects that stay, out of every later search for garbage."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def run_python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Returns a function that runs source code in a new process; arguments arrive in sys.argv.

    `kind` saves the import of TensorFlow, see `processes`; None means a new interpreter.
    """

    def run(
        source: str, *arguments: object, check: bool = True, kind: str | None = None, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", textwrap.dedent(source), *map(str, arguments)]
        settings = {"env": {**os.environ, **variables}, "cwd": Path(sys.executable).anchor}
        start = functools.partial(processes.run, kind=kind) if kind else subprocess.run
        done = start(command, capture_output=True, text=True, check=False, **settings)
        if check and done.returncode:
            pytest.fail(f"exit status {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
        return done

    return run


@pytest.fixture(scope="session", autouse=True)
def exports_are_replayed_in_copies() -> Iterator[None]:
    """Exports from the test process replay in a process that has imported TensorFlow already; commands use their own."""
    from zoo.export.runtimes import comparison

    names = {**vars(subprocess), "run": functools.partial(processes.run, kind="tensorflow")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparison, "subprocess", types.SimpleNamespace(**names))
        yield
