"""What every process of this folder does: it ends with its parent, imports nothing of ours, and prints one JSON object."""

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
    """Has the kernel end this process when the one that started it dies, however it dies: Linux alone knows that."""
    try:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    except (OSError, AttributeError):
        return
    parent = os.environ.get("ZOO_PARENT")
    if parent and os.getppid() != int(parent):  # it died before
        os._exit(1)


def run(mark: str, main: Callable[[], dict[str, Any]], blocked: Sequence[str] = BLOCKED) -> None:
    """Runs `main` where the blocked modules cannot be imported; prints what it returns, or its error, behind `mark`."""
    die_with_parent()
    gc.disable()  # it would look through all that TensorFlow's import makes, again and again, and this process ends soon
    for module in blocked:
        # None makes every import of it fail. `import tensorflow` tries Keras itself and continues without, so that a look
        # at sys.modules after the import would prove nothing.
        sys.modules[module] = None  # type: ignore[assignment]
    try:
        outcome = main()
    except Exception as error:  # an artifact that cannot be loaded or read
        outcome = {"error": f"{type(error).__name__}: {error}"}
    leaked = sorted(m for m, held in sys.modules.items() if m.split(".")[0] in blocked and held is not None)
    print(mark + json.dumps({**outcome, "leaked": leaked}), flush=True)
