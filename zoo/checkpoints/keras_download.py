"""Files of weights that Keras downloads, such as those of `keras.applications`, into its cache (KERAS_HOME)."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

from zoo import storage
from zoo.checkpoints.contract import Published, PublishedFile
from zoo.errors import UsageError, one_line

_SECONDS = 20


def fetch(name: str, model: str, file: PublishedFile, *, verbose: int = 1) -> Published:
    """Returns the local copy of a file, after downloading it if it is missing or damaged.

    Args:
        name: the name of the weights, such as `imagenet`.
        model: the model's name, for messages.
        file: the file.
        verbose: 1 prints size, licence and place before a download, and Keras's progress bar; 0 prints nothing.

    Raises:
        UsageError: the file cannot be downloaded or written, or has another hash than Keras expects.
    """
    place = place_of(file)
    folder = place.parent
    if not place.is_file() or (file.hash is not None and _hash(place, file.hash) != file.hash):
        size = _size(name, model, file)
        _check_room(folder, size)
        if verbose:
            shown = f"{size / 1e6:,.1f} MB" if size else "unknown size"
            print(f"Downloads {name} weights of {model}: {shown}, licence {file.licence}, into {folder}.", flush=True)
        _download(name, model, file, place, verbose)
    return Published(name, place, file.url, file.licence, {place.name: storage.sha256(place)})


def place_of(file: PublishedFile) -> Path:
    """Returns the path of a file in Keras's cache, whether it is there or not.

    Example:
        >>> place_of(PublishedFile("https://example.com/weights.h5", "MIT")).name
        'weights.h5'
    """
    folder = Path(os.path.expandvars(os.environ.get("KERAS_HOME") or "~/.keras")).expanduser() / "models"
    return folder / (file.cached_as or file.url.rpartition("/")[2])


def _size(name: str, model: str, file: PublishedFile) -> int:
    """Returns the size of a file in bytes; 0 if the server does not say."""
    try:
        with urllib.request.urlopen(urllib.request.Request(file.url, method="HEAD"), timeout=_SECONDS) as answer:
            return int(answer.headers.get("Content-Length") or 0)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"The {name} weights of {model} cannot be downloaded from {file.url} ({one_line(error, 120)}). Check the "
            "network, or put the file into the folder models of KERAS_HOME, or pass its path as weights."
        ) from error


def _check_room(folder: Path, size: int) -> None:
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    if size > (free := shutil.disk_usage(place).free):
        raise UsageError(
            f"The weights need {size / 1e6:,.1f} MB; the disk of {folder} has {free / 1e6:,.1f} MB left, so nothing was "
            "downloaded. Make room, or set KERAS_HOME to a folder on a larger disk."
        )


def _download(name: str, model: str, file: PublishedFile, place: Path, verbose: int) -> None:
    """Downloads into a temporary folder, so that a killed process leaves no half of a file that looks whole."""
    import keras

    output: Any = contextlib.nullcontext() if verbose == 1 else contextlib.redirect_stdout(io.StringIO())
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent) as folder, output:
            found = keras.utils.get_file(
                place.name, file.url, file_hash=file.hash, cache_dir=folder, cache_subdir="models"
            )
            os.replace(found, place)
    except OSError as error:
        raise UsageError(
            f"The {name} weights of {model} cannot be written into {place.parent} ({one_line(error, 120)}). Set "
            "KERAS_HOME to a folder that you may write."
        ) from error
    except Exception as error:  # Keras raises it for the failures of a download
        raise UsageError(
            f"The download of the {name} weights of {model} failed ({one_line(error, 160)}). Start the same command again, "
            "or pass the path of the file as weights."
        ) from error


def _hash(file: Path, expected: str) -> str:
    """Returns the hash of a file, of the kind of the expected one: as Keras does, by its length."""
    if len(expected) == 64:
        return storage.sha256(file)
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
