"""The user's own files as data sets: folders of images, folders of texts, and lines of plain text."""

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
    """Reads FOLDER/class/*.png (also JPEG, BMP and GIF), or FOLDER/train/class/*.png and the same for other splits.

    Classes are the sorted names of the folders. Every image is decoded once here, so that a damaged one is reported before
    training. Later, images are decoded when they are read.

    Args:
        name: the name that `load` was called with.
        path: the folder.
        memory_limit: see `zoo.datasets.load`.

    Raises:
        UsageError: the folder is missing, has no images or only one class, or an image cannot be decoded.
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
    return rows.to_data(name, {}, f"images in the folder {path.name}", memory_limit)


@register_source("text")
def read_texts(name: str, path: Path, memory_limit: int) -> Data:
    """Reads FOLDER/class/*.txt, or FOLDER/train/class/*.txt and the same for other splits: UTF-8, one text per file.

    Args:
        name: the name that `load` was called with.
        path: the folder.
        memory_limit: see `zoo.datasets.load`.

    Raises:
        UsageError: the folder is missing, has no texts or only one class, or a file is not UTF-8.
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
    return rows.to_data(name, {}, f"texts in the folder {path.name}", memory_limit)


_LINE_SHARES = (0.98, 0.01, 0.01)


@register_source("lines")
def read_lines(name: str, path: Path, memory_limit: int) -> Data:
    """Reads plain text for masked language modelling: UTF-8, one text per line. Empty lines are left out.

    Lines are split 98/1/1 by a hash of their content.

    Args:
        name: the name that `load` was called with.
        path: the file.
        memory_limit: see `zoo.datasets.load`.

    Raises:
        UsageError: the file is missing, is not UTF-8, or has too few lines.
    """
    if not path.is_file():
        near = did_you_mean(path.name, [p.name for p in path.parent.glob("*.txt")]) if path.parent.is_dir() else ""
        raise UsageError(f"{path} is not a file. {near} Pass a UTF-8 text file with one text per line.")
    lines = _text(path).split("\n")
    kept = [text for line in lines if (text := line.strip())]
    empty = len(lines) - len(kept) - (not lines[-1])  # an empty string after the last line break is not a line
    digests = [digest(line) for line in kept]
    rows = Rows(
        tasks=("masked_language_modelling",),
        columns={"text": texts(kept)},
        digests=digests,
        parts=divide(digests, shares=_LINE_SHARES),
        about={"left_out": {"empty lines": empty} if empty else {}, "duplicates": duplicates(digests)},
    )
    return rows.to_data(name, {}, f"lines in the file {path.name}", memory_limit)


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
    """Returns the files, the class folder of each, its split if the folder has splits, and what was left out."""
    if not folder.is_dir():
        near = did_you_mean(folder.name, [p.name for p in folder.parent.glob("*/")]) if folder.parent.is_dir() else ""
        raise UsageError(f"{folder} is not a folder. {near} Pass a folder with one subfolder per class.")
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
            skipped[f"files that are not {', '.join(suffixes)}"] += len(found) - len(wanted)
            files += wanted
            labels += [place.name] * len(wanted)
            given += [role or ""] * len(wanted)
        stray = sum(1 for p in top.iterdir() if p.is_file() and p.suffix.lower() in suffixes)
        skipped["files outside the class folders"] += stray
    if not files:
        raise UsageError(f"{folder} holds no {what} files. Put them there as {folder}/CLASS/FILE{suffixes[0]}.")
    check_classes(str(folder), sorted(set(labels)))
    return files, labels, given if divided else None, {k: n for k, n in skipped.items() if n}


def _folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _hidden(path: Path, below: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(below).parts)
