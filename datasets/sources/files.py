"""The user's own files as data sets: a CSV file of any task, folders of images, folders of texts, lines of plain text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from zoo.datasets.data import Data
from zoo.datasets.sources.in_memory import Rows, check_images, texts
from zoo.datasets.sources.labels import SPLIT_NAMES, check_classes, numbered
from zoo.datasets.sources.registry import register_source
from zoo.datasets.sources.splitting import digest, divide, duplicates
from zoo.errors import UsageError, did_you_mean

_IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif")
_TEXTS = (".txt",)


@register_source("images")
def read_images(name: str, path: Path, memory_limit: int) -> Data:
    """Reads FOLDER/class/*.png (JPEG, BMP and GIF too), or FOLDER/train/class/*.png with its other splits beside it.

    Classes are the folders' names in sorting order. Every image is decoded once, so that one that cannot be is named now
    and not in the middle of training; later they are decoded when they are read.

    Args:
        name: the name that `load` got.
        path: the folder.
        memory_limit: see `zoo.datasets.load`.

    Raises:
        UsageError: no such folder, no images or one class only, an image that cannot be decoded.
    """
    files, labels, given, left_out = _labelled_files(path, _IMAGES, "image")
    shape, contents = check_images(files)
    classes = tuple(sorted(set(labels)))
    rows = Rows(
        tasks=("image_classification",),
        columns={"image": texts([str(file) for file in files]), "label": numbered(labels, classes)},
        digests=contents,
        strata=labels,
        given=given,
        class_names=classes,
        about={"left_out": left_out, "duplicates": duplicates(contents), "image_shape": shape},
        images="image",
    )
    return rows.to_data(name, {}, f"own images in the folder {path.name}", memory_limit)


@register_source("text")
def read_texts(name: str, path: Path, memory_limit: int) -> Data:
    """Reads FOLDER/class/*.txt, or FOLDER/train/class/*.txt with its other splits beside it; UTF-8, a file a text.

    Args:
        name: the name that `load` got.
        path: the folder.
        memory_limit: see `zoo.datasets.load`.

    Raises:
        UsageError: no such folder, no texts or one class only, a file that is not UTF-8.
    """
    files, labels, given, left_out = _labelled_files(path, _TEXTS, "text")
    contents = [_text(file) for file in files]
    kept = [i for i, content in enumerate(contents) if content.strip()]
    if len(kept) < len(files):
        left_out["empty files"] = len(files) - len(kept)
    classes = tuple(sorted({labels[i] for i in kept}))
    check_classes(str(path), classes)
    digests = [digest(contents[i]) for i in kept]
    rows = Rows(
        tasks=("text_classification",),
        columns={
            "text": texts([contents[i] for i in kept]),
            "label": numbered([labels[i] for i in kept], classes),
        },
        digests=digests,
        strata=[labels[i] for i in kept],
        given=None if given is None else [given[i] for i in kept],
        class_names=classes,
        about={"left_out": left_out, "duplicates": duplicates(digests)},
    )
    return rows.to_data(name, {}, f"own texts in the folder {path.name}", memory_limit)


_LINE_SHARES = (0.98, 0.01, 0.01)


@register_source("lines")
def read_lines(name: str, path: Path, memory_limit: int) -> Data:
    """Reads plain text, UTF-8, a text a line; empty lines are left out. Its task is to fill in blanks.

    Lines are divided by their content, 98 to 1 to 1: nobody labelled them, so most are there to be learned from.

    Args:
        name: the name that `load` got.
        path: the file.
        memory_limit: see `zoo.datasets.load`.

    Raises:
        UsageError: no such file, one that is not UTF-8, or too few lines.
    """
    if not path.is_file():
        near = did_you_mean(path.name, [p.name for p in path.parent.glob("*.txt")]) if path.parent.is_dir() else ""
        raise UsageError(f"{path} is not a file. {near} Pass a text file, UTF-8, a text a line.")
    lines = _text(path).split("\n")
    kept = [text for line in lines if (text := line.strip())]
    empty = len(lines) - len(kept) - (not lines[-1])  # what is behind the last line break is no line
    digests = [digest(line) for line in kept]
    rows = Rows(
        tasks=("masked_language_modelling",),
        columns={"text": texts(kept)},
        digests=digests,
        parts=divide(digests, shares=_LINE_SHARES),
        about={"left_out": {"empty lines": empty} if empty else {}, "duplicates": duplicates(digests)},
    )
    return rows.to_data(name, {}, f"own lines in the file {path.name}", memory_limit)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not UTF-8 at byte {error.start}. Convert it to UTF-8.") from error
    except OSError as error:
        raise UsageError(f"Cannot read {file}: {error.strerror}. Check the file.") from error


def _labelled_files(
    folder: Path, suffixes: Sequence[str], what: str
) -> tuple[list[Path], list[str], list[str] | None, dict[str, int]]:
    """Returns files, the folder each is in, its split where the folder has splits, and how much was left out."""
    if not folder.is_dir():
        near = did_you_mean(folder.name, [p.name for p in folder.parent.glob("*/")]) if folder.parent.is_dir() else ""
        raise UsageError(f"{folder} is not a folder. {near} Pass the folder that holds a folder per class.")
    tops = _folders(folder)
    roles = [SPLIT_NAMES.get(top.name.lower()) for top in tops]
    divided = "train" in roles and None not in roles
    pairs = list(zip(tops, roles, strict=True)) if divided else [(folder, None)]
    files: list[Path] = []
    labels: list[str] = []
    given: list[str] = []
    skipped: Counter[str] = Counter()
    for top, role in pairs:
        for place in _folders(top):
            found = sorted(p for p in place.rglob("*") if p.is_file() and not _hidden(p, place))
            wanted = [p for p in found if p.suffix.lower() in suffixes]
            skipped[f"files of another kind than {', '.join(suffixes)}"] += len(found) - len(wanted)
            files += wanted
            labels += [place.name] * len(wanted)
            given += [role or ""] * len(wanted)
        stray = sum(1 for p in top.iterdir() if p.is_file() and p.suffix.lower() in suffixes)
        skipped["files that are in no class's folder"] += stray
    if not files:
        raise UsageError(f"{folder} holds no {what} files. Put them there as {folder}/CLASS/FILE{suffixes[0]}.")
    check_classes(str(folder), sorted(set(labels)))
    return files, labels, given if divided else None, {k: n for k, n in skipped.items() if n}


def _folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _hidden(path: Path, below: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(below).parts)
