"""Builders for TensorFlow Datasets, for labelled images that it lacks. Importing this module registers them there."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from zoo.datasets.sources.builders import Declared, Example

_FOLDER = "BCCD_Dataset-1.0/BCCD"
_LISTS = {"train": "train", "val": "validation", "test": "test"}
"""The source's lists of photographs, and their splits."""


class BccdCells(Declared):
    """4,886 blood cells, cut out of 364 photographs through a microscope: red cell, white cell or platelets?

    Each image is the box that the source draws around a cell, and may show parts of other cells. Two boxes of a single
    pixel are left out. The splits are those of the source, so cells of one photograph stay together. Source: Shenggan, BCCD
    Dataset, version 1.0, 2018, in the format of PASCAL VOC.
    """

    FILES = ("BCCD_Dataset-1.0.zip",)
    HOME = "https://github.com/Shenggan/BCCD_Dataset"
    tasks = ("image_classification",)
    keys: ClassVar = {"image": "image", "label": "label"}

    def features(self) -> dict[str, Any]:
        """See the base."""
        return {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "label": tfds.features.ClassLabel(names=["Platelets", "RBC", "WBC"]),
            "photograph": tfds.features.Text(),
        }

    def rows(self, folder: Any) -> Iterator[tuple[str, Example]]:
        """See the base."""
        with zipfile.ZipFile(self.original(folder, *self.FILES)) as archive:
            for listed, split in _LISTS.items():
                for name in archive.read(f"{_FOLDER}/ImageSets/Main/{listed}.txt").decode("ascii").split():
                    with Image.open(io.BytesIO(archive.read(f"{_FOLDER}/JPEGImages/{name}.jpg"))) as file:
                        photograph = np.asarray(file.convert("RGB"))
                    for label, box in boxes(archive.read(f"{_FOLDER}/Annotations/{name}.xml")):
                        if box[0] < box[2] and box[1] < box[3]:
                            yield split, {"image": cut(photograph, box), "label": label, "photograph": name}


def boxes(annotation: bytes) -> Iterator[tuple[str, tuple[int, int, int, int]]]:
    """Yields the class and the box, (left, top, right, bottom) in pixels, of every object in an annotation of PASCAL VOC.

    Raises:
        ValueError: the annotation is no XML, or an object has no class or box.

    Example:
        >>> edges = "<xmin>1</xmin><ymin>2</ymin><xmax>9</xmax><ymax>8</ymax>"
        >>> text = f"<annotation><object><name>RBC</name><bndbox>{edges}</bndbox></object></annotation>"
        >>> list(boxes(text.encode()))
        [('RBC', (1, 2, 9, 8))]
    """
    from xml.etree import ElementTree  # seldom needed

    try:
        root = ElementTree.fromstring(annotation)
    except ElementTree.ParseError as error:
        raise ValueError(f"An annotation is no XML: {error}. Pass one of PASCAL VOC.") from error
    for item in root.iter("object"):
        label, *edges = (item.findtext(path) for path in ("name", *(f"bndbox/{edge}" for edge in _EDGES)))
        if label is None or None in edges:
            raise ValueError(
                f"An object of an annotation has the class {label!r} and the box {edges}. Pass one of PASCAL VOC."
            )
        left, top, right, bottom = (int(edge or "") for edge in edges)
        yield label, (left, top, right, bottom)


_EDGES = ("xmin", "ymin", "xmax", "ymax")


def cut(image: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    """Returns the pixels of a box of PASCAL VOC, which counts them from 1 and includes the right and bottom edges.

    Args:
        image: (height, width, channels).
        box: left, top, right and bottom edge.

    Example:
        >>> cut(np.zeros((480, 640, 3), np.uint8), (601, 11, 640, 30)).shape
        (20, 40, 3)
    """
    left, top, right, bottom = box
    return image[max(0, top - 1) : bottom, max(0, left - 1) : right]
