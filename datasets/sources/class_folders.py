"""Folders with one subfolder per class, and folders of such folders for each split."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from zoo.datasets.sources.labels import check_classes, split_role, unified
from zoo.errors import UsageError, did_you_mean


@dataclasses.dataclass
class Labelled:
    """The files of a folder.

    Attributes:
        files: their paths.
        labels: the class of each.
        given: the split of each; None if the folder has no splits.
        left_out: what was left out, and how many of it.
    """

    files: list[Path]
    labels: list[str]
    given: list[str] | None
    left_out: Counter[str]

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names in the order of their numbers."""
        return tuple(sorted(set(self.labels)))

    def pick(self, kept: Sequence[int]) -> Labelled:
        """Returns some of the files."""
        given = None if self.given is None else [self.given[i] for i in kept]
        return Labelled([self.files[i] for i in kept], [self.labels[i] for i in kept], given, self.left_out)


def labelled_files(folder: Path, suffixes: Sequence[str], what: str) -> Labelled:
    """Returns the files FOLDER/CLASS/**, or FOLDER/SPLIT/CLASS/**, with these suffixes. Links to folders are followed.

    Hidden files and folders are ignored. Class names are in Unicode's composed form.

    Raises:
        UsageError: the folder is missing, holds no such file or one class, or its folders cannot be told to be classes or
            splits.
    """
    if not folder.is_dir():
        others = [p.name for p in folder.parent.glob("*/")] if folder.parent.is_dir() else []
        near = f" {did_you_mean(folder.name, others)}" if others else ""
        raise UsageError(f"{folder} is not a folder.{near} Pass a folder with one subfolder per class.")
    left_out: Counter[str] = Counter()
    tops = [_Top(top, suffixes, left_out) for top in _folders(folder)]
    used = [top for top in tops if top.files]
    left_out[f"folders without {what} files"] += len(tops) - len(used)
    if not used:
        raise UsageError(f"{folder} holds no {what} files. Put them there as {folder}/CLASS/FILE{suffixes[0]}.")
    divided = _has_splits(folder, used, what)
    found = Labelled([], [], [] if divided else None, left_out)
    for top in used:
        for file in top.files:
            parts = file.relative_to(top.path).parts
            if divided and len(parts) == 1:
                left_out["files outside the class folders"] += 1
                continue
            found.files.append(file)
            found.labels.append(unified(parts[0] if divided else top.path.name))
            if found.given is not None:
                found.given.append(top.role or "")
    left_out["files outside the class folders"] += sum(_is_wanted(p, suffixes) for p in folder.iterdir() if p.is_file())
    found.left_out = Counter({why: count for why, count in left_out.items() if count})
    if len(found.classes) == 1 and not divided and not used[0].direct:
        raise UsageError(
            f"{folder} has only one folder with {what} files, {used[0].path.name}. Pass {used[0].path}, if that one has a "
            "folder for each class."
        )
    check_classes(str(folder), found.classes)
    return found


class _Top:
    """A folder in the user's folder: a class or a split."""

    def __init__(self, path: Path, suffixes: Sequence[str], left_out: Counter[str]) -> None:
        self.path, self.role = path, split_role(path.name)
        found = _files(path, left_out)
        self.files = [file for file in found if _is_wanted(file, suffixes)]
        left_out[f"files that are not {', '.join(suffixes)}"] += len(found) - len(self.files)
        # Next to folders of files, a few files more are lists, as in train/urls.txt.
        self.direct = 2 * sum(file.parent == path for file in self.files) > len(self.files)
        self.inner = sorted({parts[0] for f in self.files if len(parts := f.relative_to(path).parts) > 1})


def _has_splits(folder: Path, tops: Sequence[_Top], what: str) -> bool:
    """Returns whether the folders are splits, which hold the folders of the classes; otherwise they are classes."""
    splits = [top for top in tops if top.role and not top.direct]
    names = ", ".join(top.path.name for top in tops)
    layout = f"{folder}/train/CLASS/FILE and {folder}/test/CLASS/FILE"
    if not splits:
        roles = {top.role for top in tops}
        if len(roles) > 1 and None not in roles:
            raise UsageError(
                f"{folder} has the splits {names}, whose {what} files are in no class folder. Put them there as {layout}."
            )
        if len(tops) > 1 and len(tops[0].inner) > 1 and all(not t.direct and t.inner == tops[0].inner for t in tops):
            raise UsageError(
                f"Each of {names} in {folder} holds the folders {', '.join(tops[0].inner[:5])}. Pass one of them; if they "
                "are splits, name them train, validation and test."
            )
        return False
    others = [top.path.name for top in tops if top not in splits]
    if others:
        raise UsageError(
            f"{folder} has the splits {', '.join(top.path.name for top in splits)} and also {', '.join(others[:5])}, which "
            f"is no split with class folders. Rename or remove it; expected {layout}."
        )
    if all(top.role != "train" for top in splits):
        raise UsageError(f"{folder} has the splits {names}; expected one named train. Rename one of them: {layout}.")
    deeper = [f"{top.path.name}/{name}" for top in splits for name in top.inner if split_role(name)]
    if deeper:
        raise UsageError(
            f"{folder} has a split within a split, {deeper[0]}. Expected {layout}; rename or move its folders."
        )
    return True


def _is_wanted(file: Path, suffixes: Sequence[str]) -> bool:
    return file.suffix.lower() in suffixes and not file.name.startswith(".")


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"  # a copy of the folder without contents, in macOS's archives


def _folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not _is_hidden(p.name))


def _files(folder: Path, left_out: Counter[str]) -> list[Path]:
    """Returns the regular files below a folder in sorted order. Links to folders are followed, each folder once."""
    found: list[Path] = []
    visited: set[tuple[int, int]] = set()
    for place, inner, names in os.walk(folder, followlinks=True):
        facts = os.stat(place)
        if (facts.st_dev, facts.st_ino) in visited:
            inner.clear()
            continue
        visited.add((facts.st_dev, facts.st_ino))
        inner[:] = sorted(name for name in inner if not _is_hidden(name))
        files = [Path(place, name) for name in names if not _is_hidden(name)]
        found += [file for file in files if file.is_file()]
        left_out["links without a target, pipes and devices"] += sum(not file.is_file() for file in files)
    return sorted(found)
