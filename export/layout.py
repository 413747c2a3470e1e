"""Where things are in an artifact: NAME/1, NAME/2, ... as TensorFlow Serving watches them."""

from __future__ import annotations

from pathlib import Path

from zoo import storage
from zoo.errors import UsageError

EXTRA = "assets.extra"
SUMS = "SHA256SUMS"


def versions(base: Path) -> list[int]:
    """Returns the version numbers in a folder, ascending."""
    if not base.is_dir():
        return []
    return sorted(int(p.name) for p in base.iterdir() if p.name.isdecimal() and (p / "saved_model.pb").is_file())


def find(path: str | Path) -> Path:
    """Returns the version folder that a path means: itself, its newest version, or that of a run's `saved_model`.

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
    what = "does not exist" if not path.exists() else "holds no SavedModel"
    raise UsageError(f"{path} {what}. Pass a folder with saved_model.pb, one with versions 1, 2, ..., or a run.")


def files(directory: Path) -> list[Path]:
    """Returns every file of an artifact but the list of sums itself, relative, sorted."""
    found = (p.relative_to(directory) for p in directory.rglob("*") if p.is_file())
    return sorted(p for p in found if p != Path(EXTRA, SUMS))


def write_sums(directory: Path) -> None:
    """Writes SHA256SUMS of every other file, in the form that `sha256sum --check` reads from the artifact's folder."""
    lines = [f"{storage.sha256(directory / file)}  {file.as_posix()}\n" for file in files(directory)]
    storage.write_text(directory / EXTRA / SUMS, "".join(lines))


def check_sums(directory: Path) -> list[str]:
    """Returns what is wrong with an artifact's files: changed, missing or unlisted ones."""
    listed = {}
    for line in (directory / EXTRA / SUMS).read_text(encoding="utf-8").splitlines():
        digest, _, name = line.partition("  ")
        listed[Path(name)] = digest
    present = set(files(directory))
    wrong = [f"{name} is missing" for name in sorted(set(listed) - present)]
    wrong += [f"{name} is not listed" for name in sorted(present - set(listed))]
    wrong += [f"{n} was changed" for n in sorted(present & set(listed)) if storage.sha256(directory / n) != listed[n]]
    return wrong
