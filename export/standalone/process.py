"""Code shared by the scripts of this folder: end with the parent process, block imports, print one JSON object."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

BLOCKED = ("keras", "tf_keras", "zoo", "datasets", "export")


def die_with_parent() -> None:
    """Has the kernel end this process when its parent process dies for any reason; works only on Linux."""
    try:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    except (OSError, AttributeError):
        return
    parent = os.environ.get("ZOO_PARENT")
    if parent and os.getppid() != int(parent):  # the parent has already died
        os._exit(1)


def run(mark: str, main: Callable[[], dict[str, Any]], blocked: Sequence[str] = BLOCKED) -> None:
    """Runs `main` with the blocked modules unavailable; prints `mark` and then its result, or its error, as JSON."""
    die_with_parent()
    gc.disable()  # it would repeatedly search all objects of TensorFlow's import, and this process is short-lived
    for module in blocked:
        # None makes every import of the module fail. `import tensorflow` imports Keras if it can and works without it, so
        # checking sys.modules afterwards would prove nothing.
        sys.modules[module] = None  # type: ignore[assignment]
    try:
        outcome = main()
    except Exception as error:  # an artifact that cannot be loaded or read
        outcome = {"error": f"{type(error).__name__}: {error}"}
    leaked = sorted(m for m, held in sys.modules.items() if m.split(".")[0] in blocked and held is not None)
    print(mark + json.dumps({**outcome, "leaked": leaked}), flush=True)
