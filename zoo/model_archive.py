"""Loads .keras files, after a check that config.json does not ask for more than the weights file holds."""

from __future__ import annotations

import collections
import contextlib
import copy
import hashlib
import json
import math
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import UsageError, one_line

if TYPE_CHECKING:
    import keras

_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"
_LARGEST_CONFIG = 64 << 20
_MOST_LAYERS = 20_000


def load(file: Path, restore: str) -> keras.Model:
    """Loads a .keras file, uncompiled, after comparing the sizes in it: of its members, of the weights, and of the model in
    its config. That model is first built without values, so a config that asks for a billion units takes no memory.

    Args:
        file: the .keras file.
        restore: a sentence that says what the user can do if the file cannot be loaded.

    Raises:
        UsageError: the file is damaged, the weights of its config are not in it, or Keras does not know a class in it.
    """
    import keras

    try:
        _check(file)
        return keras.saving.load_model(file, compile=False)
    except Exception as error:  # damaged bytes may raise any exception
        unknown = re.match(r"Could not locate (?:class|function) '([^']+)'", str(error))
        if unknown:
            raise UsageError(
                f"{file} cannot be loaded: Keras does not know its class {unknown[1]!r}. {restore} Then try again."
            ) from error
        raise UsageError(
            f"{file} cannot be loaded: {_sentence(error).rstrip('.')}. {restore} Or pass an intact file."
        ) from error


def _sentence(error: BaseException) -> str:
    """Returns an error of Keras as one line, without the config that it may end with."""
    return re.split(r"\s*(?:Full object config|config=\{|Exception encountered)", one_line(error, 2_000))[0][:300]


def weights_sha256(file: Path) -> str:
    """Returns the SHA-256 of the weights in a .keras file: names, shapes, dtypes and values, whatever else it holds.

    Raises:
        UsageError: the file is damaged.

    Example:
        >>> weights_sha256(Path("runs/digits-cnn/model.keras"))[:8]
        '8a3f...'
    """
    import h5py
    import numpy as np

    found: dict[str, bytes] = {}

    def add(name: str, part: Any) -> None:
        if isinstance(part, h5py.Dataset):
            values = np.ascontiguousarray(part[()])
            head = f"{name} {values.dtype.str} {values.shape}\n".encode()
            found[name] = hashlib.sha256(head + values.tobytes()).digest()

    try:
        with zipfile.ZipFile(file) as archive, archive.open(_WEIGHTS) as weights, h5py.File(weights, "r") as opened:
            opened.visititems(add)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile, NotImplementedError) as error:
        raise UsageError(f"{file} cannot be read: {one_line(error, 120)}. Put back a copy of it.") from error
    return hashlib.sha256(b"".join(found[name] for name in sorted(found))).hexdigest()


def _check(file: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        members = {member.filename: member for member in archive.infolist()}
        for name in (_CONFIG, _WEIGHTS):
            if name not in members:
                raise ValueError(f"{name} is missing; expected it in the file.")
        if sum(member.file_size for member in members.values()) > file.stat().st_size:  # Keras does not compress
            raise ValueError("Its members are larger than the file; expected members that are not compressed.")
        if members[_CONFIG].file_size > _LARGEST_CONFIG:
            raise ValueError(f"{_CONFIG} is too large; expected at most {_LARGEST_CONFIG:,} bytes.")
        content = archive.read(_CONFIG)
        with archive.open(_WEIGHTS) as weights:
            held = _elements(weights, members[_WEIGHTS].file_size)
    if content.count(b'"class_name"') > _MOST_LAYERS:
        raise ValueError(f"{_CONFIG} has too many layers; expected at most {_MOST_LAYERS:,}.")
    asked = _asked(json.loads(content))
    if asked > held:
        raise ValueError(f"{_CONFIG} asks for {asked:,} weights, {_WEIGHTS} holds {held:,}; expected as many.")


def _elements(file: Any, size: int) -> int:
    """Returns the number of values in an HDF5 file, whose data must have the size that their shapes declare."""
    import h5py

    counts: list[int] = []
    with h5py.File(file, "r") as opened:

        def count(_: str, found: Any) -> None:
            if isinstance(found, h5py.Dataset):
                if found.nbytes > size:
                    raise ValueError(
                        f"{_WEIGHTS} declares {found.nbytes:,} bytes for {found.name}; expected at most {size:,}."
                    )
                counts.append(math.prod(found.shape))

        opened.visititems(count)
    return sum(counts)


def _asked(config: Any) -> int:
    """Returns the number of weights of the model that a config describes; 0 if a layer makes variables that cannot be made
    without values, as a layer of the user may."""
    import keras

    with without_values():
        try:
            model = keras.saving.deserialize_keras_object({**config, "compile_config": None})
            return sum(math.prod(variable.shape) for variable in model.weights)
        except ValueError as error:
            if "stateless scope" in str(error):
                return 0
            raise


@contextlib.contextmanager
def names_from_start() -> Iterator[None]:
    """Numbers the layers without a name that are made in the block from 0, as in a new process.

    Example:
        >>> with names_from_start():
        ...     keras.layers.Flatten().name
        'flatten'
    """
    from keras.src.backend.common import global_state

    before = global_state.get_global_attribute("object_name_uids")
    global_state.set_global_attribute("object_name_uids", collections.defaultdict(int))
    try:
        yield
    finally:
        global_state.set_global_attribute("object_name_uids", before)


@contextlib.contextmanager
def without_values() -> Iterator[None]:
    """Builds models in the block for the shapes of their weights, without values, and forgets them afterwards.

    Variables that are made in the block have shapes only; in a graph, a layer that reads one computes nothing. Keras would
    give them values the next time it leaves a scope, and would count the names of their layers.

    Example:
        >>> with without_values():
        ...     shapes = [variable.shape for variable in zoo.build("vgg16", num_classes=2).weights]
    """
    import keras
    import tensorflow as tf
    from keras.src.backend.common import global_state

    pending, numbers = "uninitialized_variables", "object_name_uids"
    before = {name: global_state.get_global_attribute(name) for name in (pending, numbers)}
    global_state.set_global_attribute(pending, [])
    global_state.set_global_attribute(numbers, copy.copy(before[numbers]) or collections.defaultdict(int))
    try:
        with tf.Graph().as_default(), keras.StatelessScope(initialize_variables=False):
            yield
    finally:
        global_state.set_global_attribute(pending, before[pending] or [])
        global_state.set_global_attribute(numbers, before[numbers])
