"""The memory of a process that serves a SavedModel with TensorFlow alone."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from zoo.errors import UsageError
from zoo.export import artifact_paths

_SCRIPT = """
import json, resource, sys

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts kibibytes

import tensorflow as tf

found = [["TensorFlow", peak()]]
ask = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
found.append(["loaded", peak()])
for rows in map(int, sys.argv[2:]):
    given = {name: tf.constant(["The"] * rows) for name in ask.structured_input_signature[1]}
    ask(**given)
    found.append([f"batch {rows}", peak()])
print("@@" + json.dumps(found))
"""


def lines(path: str | Path, batches: Sequence[int]) -> list[str]:
    """Returns the peak memory of a new process after each step: TensorFlow alone, the SavedModel, and a request of each size.

    Args:
        path: a run, a folder of versions, or one version; `serving_default` takes one text.
        batches: numbers of texts, in ascending order.

    Raises:
        UsageError: there is no SavedModel, or the process fails.

    Example:
        >>> lines("runs/plays", [1, 8])[0]
        'TensorFlow: 412 MB'
    """
    found = artifact_paths.find(path)
    command = [sys.executable, "-c", _SCRIPT, str(found), *map(str, sorted(batches))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    answers = [line.removeprefix("@@") for line in done.stdout.splitlines() if line.startswith("@@")]
    if not answers:
        last = done.stderr.strip().splitlines()[-1:] or ["nothing"]
        raise UsageError(f"The process ended: {last[0]:.300} Pass a SavedModel whose serving_default takes a text.")
    files = sum(file.stat().st_size for file in Path(found).rglob("*") if file.is_file())
    return [
        *(f"{name}: {size / 1e6:,.0f} MB" for name, size in json.loads(answers[0])),
        f"files: {files / 1e6:,.0f} MB",
    ]
