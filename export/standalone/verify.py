"""Checks the SavedModel in this folder: `python assets.extra/verify.py`, with TensorFlow and NumPy alone.

It compares the files with SHA256SUMS, replays the golden examples in assets.extra/golden.npz through every signature, and
compares weights and labels with assets.extra/zoo.json. Exit status 0 means that all checks passed, 1 that one failed. Read
this file before you run one that came with a SavedModel from others: it is a program, and the graph may be one too
(`zoo describe` lists what a graph does without running it).
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or __package__:
    from . import checks, replay
else:  # run by its path, with this folder first on sys.path
    import checks
    import replay


def verify(directory: str) -> int:
    """Prints the table for a version folder; returns the exit status."""
    made = [checks.of_sums(directory)]
    found: dict[str, Any] = {"python": sys.version.split()[0]}
    try:
        found |= replay.main(directory, {})
    except Exception as error:  # damaged files may raise anything
        found["error"] = f"{type(error).__name__}: {error}"
    if "error" in found:
        made.append(checks.row("replay", False, detail=checks.line(found["error"])))
    else:
        made += checks.of_signatures(found["signatures"]) + checks.of_facts(directory, found["weights"])
    passed = all(check["passed"] is not False for check in made)
    versions = ", ".join(f"{name} {found[name]}" for name in ("tensorflow", "python") if name in found)
    last = f"{directory}: {'verified' if passed else 'NOT VERIFIED'} ({versions})"
    for text in [*checks.lines(made), last]:
        print("".join(c if c.isprintable() else repr(c)[1:-1] for c in text), flush=True)
    return 0 if passed else 1


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if sys.argv[1:2] and sys.argv[1].startswith("-"):
        sys.exit(f"usage: python {sys.argv[0]} [VERSION_FOLDER]")
    sys.exit(verify(sys.argv[1] if len(sys.argv) > 1 else here))
