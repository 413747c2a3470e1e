"""Images that are cut out of photographs with annotations of PASCAL VOC, compared with the pixels of the photographs."""

from __future__ import annotations

import io
import zipfile

import numpy as np
from PIL import Image

import zoo
from source_examples import message, rows

FOLDER = "BCCD_Dataset-1.0/BCCD"
CELLS = {  # the boxes are left, top, right, bottom, counted from 1, with the last pixel
    "train": {
        "a": [("RBC", (1, 1, 10, 8)), ("WBC", (21, 5, 40, 30)), ("RBC", (7, 7, 7, 7))],
        "b": [("Platelets", (3, 4, 5, 5)), ("RBC", (11, 1, 16, 8))],
    },
    "val": {"c": [("WBC", (2, 2, 40, 30)), ("RBC", (2, 2, 9, 9)), ("Platelets", (5, 2, 9, 9))]},
    "test": {"d": [("RBC", (31, 21, 40, 30)), ("WBC", (2, 2, 9, 9)), ("Platelets", (5, 2, 9, 9))]},
}
EDGES = ("xmin", "ymin", "xmax", "ymax")


def photograph(name):
    """Noise as JPEG, 30x40, and the pixels that decoding it gives."""
    pixels = np.random.default_rng(ord(name)).integers(0, 256, (30, 40, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(buffer := io.BytesIO(), "JPEG")
    return buffer.getvalue(), np.array(Image.open(io.BytesIO(buffer.getvalue())))


def write(folder, annotation=None):
    with zipfile.ZipFile(folder / "BCCD_Dataset-1.0.zip", "w") as archive:
        for listed, found in CELLS.items():
            archive.writestr(f"{FOLDER}/ImageSets/Main/{listed}.txt", "".join(f"{name}\n" for name in found))
            for name, cells in found.items():
                archive.writestr(f"{FOLDER}/JPEGImages/{name}.jpg", photograph(name)[0])
                items = "".join(
                    f"<object><name>{label}</name><bndbox>"
                    + "".join(f"<{edge}>{at}</{edge}>" for edge, at in zip(EDGES, box, strict=True))
                    + "</bndbox></object>"
                    for label, box in cells
                )
                content = annotation or f"<annotation><filename>{name}.jpg</filename>{items}</annotation>"
                archive.writestr(f"{FOLDER}/Annotations/{name}.xml", content)
    return {"data_dir": str(folder / "data"), "manual_dir": str(folder)}


def test_cells_are_the_boxes_of_the_photographs(tmp_path):
    data = zoo.datasets.load("bccd_cells", **write(tmp_path))
    for listed, split in {"train": "train", "val": "validation", "test": "test"}.items():
        expected = sorted(
            (label, photograph(name)[1][top - 1 : bottom, left - 1 : right].tobytes())
            for name, cells in CELLS[listed].items()
            for label, (left, top, right, bottom) in cells
            if left < right
        )
        found = [(data.class_names[e["label"]], e["image"].tobytes()) for e in rows(data, split)]
        assert sorted(found) == expected, "a box of one pixel is left out, all others are exact"
    assert data.about["median_image_size"] == [8, 8], "of the training cells: 8x10, 26x20, 2x3, 8x6"
    assert data.prepare("cnn").preprocessor.shape == (28, 28, 3)


def test_damaged_annotations_are_rejected(tmp_path):
    for annotation, expected in (
        ("<annotation><object>", "An annotation is no XML: "),
        (
            "<annotation><object><name>RBC</name></object></annotation>",
            "An object of an annotation has the class 'RBC' ",
        ),
    ):
        found = message("bccd_cells", **write(tmp_path, annotation))
        assert expected in found and found.endswith("Replace it with the published file.")
