"""Which cases of a parametrized test run in the quick suite."""

from __future__ import annotations

import pytest


def slow(*values: object):
    """Returns the values of one case, which runs in the slow suite: it repeats what a quick case proves."""
    return pytest.param(*values, marks=pytest.mark.slow)
