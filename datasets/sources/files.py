"""The user's own files as data sets: folders of images, folders of texts, and lines of plain text."""

from __future__ import annotations

import os
from pathlib import Path

from zoo import storage
from zoo.datasets.data import Data
from zoo.datasets.sources.class_folders import labelled_files
from zoo.datasets.sources.in_memory import Rows, check_images, texts
from zoo.datasets.sources.labels import check_classes, numbered
from zoo.datasets.sources.registry import register_source
from zoo.datasets.sources.splitting import digest, divide, duplicates
from zoo.errors import UsageError, did_you_mean, printable

_IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif")
_TEXTS = (".txt",)
_LARGEST_TEXT = 4 << 30
"""Maximum bytes of a text file."""


@register_source("images")
def read_images(name: str, path: Path, memory_limit: int, skip_broken: bool = False) -> Data:
    """Reads FOLDER/class/*.png (also JPEG, BMP and GIF), or FOLDER/train/class/*.png and the same for other splits.

    Classes are the sorted names of the folders. Every image is decoded once here, so that damaged ones are reported before
    training. Later, images are decoded when they are read.

    Args:
        name: the name that `load` was called with.
        path: the folder.
        memory_limit: see `zoo.datasets.load`.
        skip_broken: Leave out image files that cannot be read, and print their names.

    Raises:
        UsageError: the folder is missing, has no images or only one class, or images cannot be decoded; all are named.
    """
    found = labelled_files(path, _IMAGES, "image")
    images = check_images(found.files, path, skip_broken=skip_broken)
    found = found.pick(images.kept)
    check_classes(str(path), found.classes)
    rows = Rows(
        tasks=("image_classification",),
        columns={
            "image": texts([os.fsencode(file) for file in found.files]),
            "label": numbered(found.labels, found.classes),
        },
        digests=images.contents,
        strata=found.labels,
        given=found.given,
        class_names=found.classes,
        about={
            "left_out": {**found.left_out, **images.left_out},
            "duplicates": duplicates(images.contents),
            "image_shape": images.shape,
            "image_sizes": images.sizes,
        },
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
    found = labelled_files(path, _TEXTS, "text")
    contents = [read_text(file) for file in found.files]
    kept = [i for i, content in enumerate(contents) if content.strip()]
    left_out = dict(found.left_out)
    if len(kept) < len(contents):
        left_out["empty files"] = len(contents) - len(kept)
    found = found.pick(kept)
    check_classes(str(path), found.classes)
    digests = [digest(contents[i]) for i in kept]
    rows = Rows(
        tasks=("text_classification",),
        columns={
            "text": texts([contents[i] for i in kept]),
            "label": numbered(found.labels, found.classes),
        },
        digests=digests,
        strata=found.labels,
        given=found.given,
        class_names=found.classes,
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
        others = [p.name for p in path.parent.glob("*.txt")] if path.parent.is_dir() else []
        near = f" {did_you_mean(path.name, others)}" if others else ""
        raise UsageError(f"{path} is not a file.{near} Pass a UTF-8 text file with one text per line.")
    lines = read_text(path).split("\n")
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


def read_text(file: Path) -> str:
    """Returns the content of a UTF-8 file, with line breaks as \\n.

    Raises:
        UsageError: it cannot be read, or is not UTF-8.
    """
    try:
        return storage.read_bytes(file, _LARGEST_TEXT).decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise UsageError(f"{printable(str(file))} is not UTF-8 at byte {error.start}. Convert it to UTF-8.") from error
    except OSError as error:
        raise UsageError(f"Cannot read {printable(str(file))}: {error.strerror}. Check the file.") from error
