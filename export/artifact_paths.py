"""Paths in an artifact, with versions NAME/1, NAME/2, ... as TensorFlow Serving expects them."""

from __future__ import annotations

import re
from pathlib import Path

from zoo import storage
from zoo.errors import UsageError

EXTRA = "assets.extra"
SUMS = "SHA256SUMS"
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
    """Returns the version folder of a path: the path itself, its newest version, or that of a run's `saved_model`.

    Raises:
        UsageError: there is no SavedModel.
    """
    path = Path(path)
    if (path / "saved_model.pb").is_file():
        return path
    for base in (path, path / "saved_model"):
        numbers = versions(base)
        if numbers:
            return base / str(numbers[-1])
    if (path / "config.yaml").is_file():
        raise UsageError(
            f"The run {path} has no SavedModel yet. `zoo train --config {path / 'config.yaml'} --run_directory {path}` "
            "resumes it and writes one."
        )
    for folder in (path, *sorted(path.glob("[0-9]*"))):
        if (folder / "verification.json").is_file() and any((folder / name).is_file() for name in _CONVERTED):
            raise UsageError(
                f"{path} holds a model that `zoo convert` wrote and compared; see {folder / 'README.md'}. Pass the "
                "SavedModel that it was converted from."
            )
    what = "does not exist" if not path.exists() else "holds no SavedModel"
    raise UsageError(f"{path} {what}. Pass a folder with saved_model.pb, one with versions 1, 2, ..., or a run.")


def files(directory: Path) -> list[Path]:
    """Returns all files of an artifact except SHA256SUMS, as sorted relative paths."""
    found = (p.relative_to(directory) for p in directory.rglob("*") if p.is_file())
    return sorted(p for p in found if p != Path(EXTRA, SUMS))


def write_sums(directory: Path) -> None:
    """Writes SHA256SUMS with the hash of every other file, for `sha256sum --check` in the artifact's folder."""
    lines = [f"{storage.sha256(directory / file)}  {file.as_posix()}\n" for file in files(directory)]
    storage.write_text(directory / EXTRA / SUMS, "".join(lines))


def check_sums(directory: Path) -> list[str]:
    """Returns a message for every file of an artifact that is changed, missing or not listed in SHA256SUMS."""
    sums = directory / EXTRA / SUMS
    if not sums.is_file():
        return [f"{EXTRA}/{SUMS} is missing"]
    text = sums.read_text(encoding="utf-8", errors="replace")
    listed = {}
    for line in text.split("\n")[:-1]:
        digest, _, name = line.partition("  ")
        listed[Path(name)] = digest
    present = set(files(directory))
    wrong = [f"{name} is missing" for name in sorted(set(listed) - present)]
    wrong += [f"{name} is not listed" for name in sorted(present - set(listed))]
    wrong += [f"{n} was changed" for n in sorted(present & set(listed)) if storage.sha256(directory / n) != listed[n]]
    if not wrong and text != "".join(f"{listed[name]}  {name.as_posix()}\n" for name in sorted(listed)):
        wrong.append(f"{EXTRA}/{SUMS} was changed")  # in the separators between hashes and names
    return wrong


def changes(directory: Path) -> list[str]:
    """Returns what `check_sums` finds in an artifact of this project; nothing for another SavedModel, which has no sums."""
    extra = directory / EXTRA
    ours = any((extra / name).exists() for name in (SUMS, "zoo.json", "golden.npz", "verification.json"))
    return check_sums(directory) if ours else []
