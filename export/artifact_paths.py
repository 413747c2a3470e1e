"""Paths in an artifact, with versions NAME/1, NAME/2, ... as TensorFlow Serving expects them."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from zoo import remote, storage
from zoo.errors import UsageError
from zoo.export.standalone import arrays, checks

EXTRA = "assets.extra"
SUMS = "SHA256SUMS"
STATISTICS = "statistics.json"
MOST_FILES = 10_000
LARGEST = {
    Path("saved_model.pb"): 2 << 30,  # the limit of its format
    Path(EXTRA, "golden.npz"): arrays.MOST_BYTES,
    Path(EXTRA, SUMS): 4 << 20,
    Path(EXTRA, "zoo.json"): 64 << 20,
    Path(EXTRA, "verification.json"): 64 << 20,
    Path(EXTRA, STATISTICS): 64 << 20,
    Path("assets", "labels.txt"): 64 << 20,
}
"""Largest sizes in bytes of the files that are read whole."""
LARGEST_FILE = 256 << 30
"""Largest size in bytes of any other file. Files of weights are large, and are hashed."""
_CONVERTED = ("model.onnx", "model.xml", "model.tflite")


def is_version(name: str) -> bool:
    """Returns whether a folder name is a version number, written as `str` writes it (no leading zeros)."""
    return re.fullmatch(r"0|[1-9][0-9]*", name) is not None


def versions(base: Path) -> list[int]:
    """Returns the version numbers in a folder, ascending."""
    if not base.is_dir():
        return []
    return sorted(int(p.name) for p in base.iterdir() if is_version(p.name) and (p / "saved_model.pb").is_file())


def find(path: str | Path) -> Path:
    """Returns the version folder of a path: the path itself, its newest version, or that of a run's `saved_model`. Of a
    remote path it is a local copy.

    Raises:
        UsageError: there is no SavedModel, or `check_files` rejects it.
    """
    path = remote.fetched_model(path)
    if (path / "saved_model.pb").is_file():
        return check_files(path)
    for base in (path, path / "saved_model"):
        numbers = versions(base)
        if numbers:
            return check_files(base / str(numbers[-1]))
    if (path / "config.yaml").is_file():
        raise UsageError(
            f"The run {path} has no SavedModel yet. Wait if it is at work; otherwise `zoo train --config "
            f"{path / 'config.yaml'} --run_directory {path}` resumes it and writes one."
        )
    for folder in (path, *sorted(path.glob("[0-9]*"))):
        if (folder / "verification.json").is_file() and any((folder / name).is_file() for name in _CONVERTED):
            raise UsageError(
                f"{path} holds a model that `zoo convert` wrote and compared; see {folder / 'README.md'}. Pass the "
                "SavedModel that it was converted from."
            )
    what = "does not exist" if not path.exists() else "holds no SavedModel"
    raise UsageError(f"{path} {what}. Pass a folder with saved_model.pb, one with versions 1, 2, ..., or a run.")


def check_files(directory: Path) -> Path:
    """Checks the kind and the size of every file of a SavedModel before any is read; returns the folder.

    Raises:
        UsageError: a link leads out of the folder, a file is no regular file, or files are too many or too large.
    """
    inside, count = directory.resolve(), 0
    for folder, folders, names in os.walk(directory):
        count += len(folders) + len(names)
        if count > MOST_FILES:
            raise UsageError(f"{directory} has more than {MOST_FILES:,} files. Pass the folder of one SavedModel.")
        for file in (Path(folder, name) for name in (*folders, *names)):
            if file.is_symlink() and not (file.exists() and file.resolve().is_relative_to(inside)):
                raise UsageError(
                    f"{file} is a link to {os.readlink(file)}, which is no file of this SavedModel. Links out of a "
                    "SavedModel are not followed; pass one whose files are all in its folder."
                )
            kind, size = file.stat().st_mode, file.stat().st_size
            if stat.S_ISDIR(kind):
                continue
            if not stat.S_ISREG(kind):
                raise UsageError(f"{file} is a device, a pipe or a socket. Pass a SavedModel of regular files.")
            most = LARGEST.get(file.relative_to(directory), LARGEST_FILE)
            if size > most:
                raise UsageError(f"{file} has {size:,} bytes; expected at most {most:,}. Pass an intact SavedModel.")
    return directory


def files(directory: Path) -> list[Path]:
    """Returns all files of an artifact except SHA256SUMS, as sorted relative paths."""
    return [Path(name) for name in checks.files(str(directory))]


def write_sums(directory: Path) -> None:
    """Writes SHA256SUMS with the hash of every other file, for `sha256sum --check` in the artifact's folder."""
    lines = [f"{storage.sha256(directory / name)}  {name}\n" for name in checks.files(str(directory))]
    storage.write_text(directory / EXTRA / SUMS, "".join(lines))


def check_sums(directory: Path) -> list[str]:
    """Returns a message for every file of an artifact that is changed, missing or not listed in SHA256SUMS."""
    return checks.changed_files(str(directory))


def changes(directory: Path) -> list[str]:
    """Returns what `check_sums` finds in an artifact of this project; nothing for another SavedModel, which has no sums."""
    extra = directory / EXTRA
    ours = any((extra / name).exists() for name in (SUMS, "zoo.json", "golden.npz", "verification.json"))
    return check_sums(directory) if ours else []
