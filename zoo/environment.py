"""Checks of what a process inherits from its environment: Keras's settings and matplotlib's backend."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from zoo import storage
from zoo.errors import UsageError, one_line

WORKER_PORT = 2222  # of every pod of Kubernetes: here, because a manifest is printed without importing TensorFlow


def check(run_directory: str | Path | None = None) -> None:
    """Checks Keras's settings before anything is computed, and replaces a matplotlib backend that is not installed here.

    Raises:
        UsageError: the run directory is remote, or its name is too long; or Keras runs on another backend than TensorFlow,
            has channels first, or makes weights in half precision.
    """
    if run_directory is not None:
        storage.check_local(run_directory, "run_directory")
        storage.check_name(run_directory)
    backend = os.environ.get("MPLBACKEND", "").removeprefix("module://")
    if backend != os.environ.get("MPLBACKEND", "") and not _is_installed(backend):
        os.environ["MPLBACKEND"] = "agg"  # notebooks pass their own backend on to every command
    where = "in KERAS_BACKEND or in keras.json (~/.keras, or the folder KERAS_HOME)"
    try:
        import keras
    except ImportError as error:
        raise UsageError(
            f"Keras cannot be imported: {one_line(error)}. Set the backend to tensorflow {where}."
        ) from error
    if keras.backend.backend() != "tensorflow":
        raise UsageError(
            f"Keras runs on the backend {keras.backend.backend()!r}; expected 'tensorflow'. Set it {where}, or unset it."
        )
    if keras.config.image_data_format() != "channels_last":
        raise UsageError(
            f"Keras's image_data_format is {keras.config.image_data_format()!r}; expected 'channels_last'. Set it in "
            "keras.json (~/.keras, or the folder KERAS_HOME), or pass another KERAS_HOME."
        )
    if keras.config.floatx() in ("float16", "bfloat16"):
        raise UsageError(
            f"Keras's floatx is {keras.config.floatx()!r}, in which training fails; expected 'float32'. Change it in "
            "keras.json (~/.keras, or the folder KERAS_HOME), and pass --config.precision mixed_float16 for speed."
        )


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False
