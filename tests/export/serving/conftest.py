"""Servers over small artifacts: three for quick tests, two more for slow ones."""

from __future__ import annotations

import pytest

pytest.importorskip("starlette", reason="needs the extra `serve`")
pytest.importorskip("uvicorn", reason="needs the extra `serve`")

from served_models import QUICK, SMALL, serving, write_artifact


def written(base, names):
    for name in names:
        write_artifact(base / name / "1", name)
    return {name: base / name for name in names}


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory):
    """The folder of versions of each artifact by its name."""
    return written(tmp_path_factory.mktemp("served"), QUICK)


@pytest.fixture(scope="session")
def client(artifacts):
    with serving(artifacts, max_body=2_000_000) as found:
        yield found


@pytest.fixture(scope="session")
def more_artifacts(tmp_path_factory):
    return written(tmp_path_factory.mktemp("more"), [name for name in SMALL if name not in QUICK])


@pytest.fixture(scope="session")
def more(more_artifacts):
    with serving(more_artifacts) as found:
        yield found
