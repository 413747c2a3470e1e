"""Converts one signature for another runtime and computes outputs with it, in a separate process.

`zoo.export.runtimes.comparison` runs this file as a script by its path, because converters may crash, abort or hang. The
argument is a file with a request as JSON. The script prints one JSON object. Inputs and outputs are numeric arrays in
files of arrays.py. The runtime is the `RUNTIME` of the file that the request names; see runtime.py.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING or __package__:
    from . import arrays, process
    from .runtime import CannotConvertError
else:  # run by its path, with this folder first on sys.path
    import arrays
    import process
    from runtime import CannotConvertError

BLOCKED = ("zoo", "export", "openvino_telemetry")


def load(file: str) -> Any:
    """Returns the `RUNTIME` of a file. The module gets another name, so that it does not hide a package like openvino."""
    spec = importlib.util.spec_from_file_location(f"runtime_{Path(file).stem}", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.RUNTIME


def _answers(request: dict[str, Any], answer: Any) -> None:
    """Computes outputs in batches of each size, for the requested number of rows; size 0 means all rows in one call."""
    inputs = arrays.load(request["inputs"])
    written: dict[str, Any] = {}
    for size, some in request["portions"]:
        if not size:
            written |= {f"{size}/{name}": np.asarray(value) for name, value in answer(inputs).items()}
            continue
        parts = [answer({k: v[i : min(i + size, some)] for k, v in inputs.items()}) for i in range(0, some, size)]
        for name in parts[0]:
            written[f"{size}/{name}"] = np.concatenate([np.asarray(part[name]) for part in parts])
    arrays.save(request["answers"], written)


def reason(error: Exception, runtime: Any) -> str:
    """Returns the reason of a failed conversion, shortened from the converter's message."""
    text = str(error)
    if isinstance(error, CannotConvertError):
        return text
    if found := {op for pattern in runtime.unsupported for op in re.findall(pattern, text)}:
        return f"the converter does not support {', '.join(sorted(found)[:5])} in this form"
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [type(error).__name__]
    return f"{type(error).__name__}: {lines[0][:200]}"


def main(request: dict[str, Any]) -> dict[str, Any]:
    """Converts if the request has a `model`, and computes outputs if it has `inputs`.

    A failure before the line LOADED means that the model cannot be converted (`cannot`). A failure after it means that
    the model was loaded but cannot run (`error`).
    """
    outcome: dict[str, Any] = {"batch": request["batch"], "length": request["length"]}
    runtime = load(request["runtime"])
    try:
        # From the module, because the package may have another name, such as tensorflow-cpu.
        outcome["version"] = str(importlib.import_module(runtime.version).__version__)
    except Exception as error:
        return outcome | {"cannot": f"its module cannot be imported: {reason(error, runtime)}"}
    if request["model"]:
        try:
            runtime.convert(request)
        except Exception as error:
            return outcome | {"cannot": reason(error, runtime)}
    if not request["inputs"]:
        return outcome
    try:
        answer = runtime.answer(request)
    except Exception as error:
        why = reason(error, runtime)
        made = f"the converted file cannot be loaded: {why}" if request["model"] else why
        return outcome | {"cannot": made}
    print("LOADED", flush=True)
    try:
        _answers(request, answer)
    except Exception as error:
        return outcome | {"error": reason(error, runtime)}
    return outcome | {"answered": True}


def _asked(file: str) -> dict[str, Any]:
    with open(file, encoding="utf-8") as asked:
        return main(json.load(asked))


if __name__ == "__main__":
    process.run("WORKER ", lambda: _asked(sys.argv[1]), BLOCKED)
