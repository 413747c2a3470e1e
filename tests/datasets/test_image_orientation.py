"""The EXIF orientation of JPEG files, compared with Pillow, for valid and for damaged EXIF data."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

import zoo
from zoo.datasets.preprocessing import image_files
from zoo.datasets.preprocessing.images import ImagePreprocessor

y, x = np.mgrid[:13, :22]
PICTURE = np.stack([20 + 9 * x, 20 + 15 * y, 200 - 5 * x], axis=-1).astype(np.uint8)


def jpeg(exif: bytes | None, picture: np.ndarray = PICTURE) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=98, subsampling=0, **({} if exif is None else {"exif": exif}))
    return file.getvalue()


def directory(*entries: bytes, order: str = "<", head: bytes | None = None, at: int = 8) -> bytes:
    start = {"<": b"II*\0", ">": b"MM\0*"}[order] if head is None else head
    return b"Exif\0\0" + start + struct.pack(order + "IH", at, len(entries)) + b"".join(entries) + bytes(4)


def entry(value: int, *, order: str = "<", tag: int = 0x112, form: int = 3, count: int = 1) -> bytes:
    packed = struct.pack(order + ("HH" if form == 3 else "I"), *([value, 0] if form == 3 else [value]))
    return struct.pack(order + "HHI", tag, form, count) + packed


def by_pillow(content: bytes) -> np.ndarray:
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))))


def assert_like_pillow(content: bytes) -> None:
    want, got = by_pillow(content), image_files.decoder()(content).numpy()
    assert got.shape == want.shape == image_files.check(content)[0]
    np.testing.assert_allclose(
        got.astype(int), want, atol=6
    )  # decoders round differently; a wrong turn is 90 levels off


@pytest.mark.parametrize("order", ["<", ">"], ids=["little-endian", "big-endian"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_files_are_turned_as_pillow_turns_them(orientation, order):
    other = entry(7, order=order, tag=0x10F)
    content = jpeg(directory(other, entry(orientation, order=order), other, order=order))
    assert_like_pillow(content)
    stored = tf.io.decode_image(content).numpy()
    assert np.array_equal(stored, image_files.decoder()(content).numpy()) == (orientation == 1)


def test_pictures_of_one_channel_are_turned():
    content = jpeg(directory(entry(6)), PICTURE[..., 0])
    np.testing.assert_allclose(image_files.decoder()(content).numpy()[..., 0].astype(int), by_pillow(content), atol=6)


def test_the_exif_data_may_follow_other_segments():
    content = jpeg(directory(entry(8)))
    comments = b"".join(b"\xff\xfe" + struct.pack(">H", 60_002) + bytes(60_000) for _ in range(3))
    assert_like_pillow(content[:2] + comments + content[2:])


def test_a_longer_number_is_read():
    assert_like_pillow(jpeg(directory(entry(6, form=4))))


DAMAGED = {
    "no EXIF data": None,
    "nothing": b"Exif\0\0",
    "half a head": b"Exif\0\0II*",
    "an unknown byte order": directory(entry(6), head=b"XX*\0"),
    "a directory beyond the end": directory(entry(6), at=4_000),
    "a directory at a negative place": directory(entry(6), at=2**32 - 8),
    "the orientation 0": directory(entry(0)),
    "the orientation 9": directory(entry(9)),
    "the largest number": directory(entry(2**32 - 1, form=4)),
    "a directory of 65,535 entries without orientation": b"Exif\0\0II*\0"
    + struct.pack("<IH", 8, 65_535)
    + entry(6, tag=7),
    "an entry that is cut": directory(entry(6))[:-8],
    "several numbers": directory(entry(6, count=70_000)),
    "another directory": b"Exif\0\0MM\0*" + bytes(40),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_exif_data_leave_the_picture_as_it_is(name):
    content = jpeg(DAMAGED[name])
    np.testing.assert_array_equal(image_files.decoder()(content).numpy(), tf.io.decode_image(content).numpy())


def test_a_segment_longer_than_the_file_is_no_error():
    content = jpeg(directory(entry(6)))
    place = content.index(b"Exif") - 2
    cut = content[:place] + b"\xff\xff" + content[place + 2 :]
    from zoo.datasets.preprocessing.orientation import upright

    image = tf.zeros([2, 3, 1], tf.uint8)
    assert upright(tf.constant(cut), image).shape == (3, 2, 1)
    assert upright(tf.constant(content[: place + 2]), image).shape == (2, 3, 1)


def test_training_and_serving_see_the_same_upright_pictures(tmp_path):
    for label in ("left", "right"):
        (tmp_path / label).mkdir()
        for number in range(12):
            picture = np.roll(PICTURE, number * (1 if label == "left" else -1), axis=0)
            turned = directory(entry(6 if number % 2 else 1))
            (tmp_path / label / f"{number}.jpg").write_bytes(jpeg(turned, picture))
    data = zoo.datasets.load(f"images:{tmp_path}")
    preprocessor = ImagePreprocessor(16, 16, 3)
    contents = {file.read_bytes() for file in tmp_path.glob("*/*.jpg")}
    served = preprocessor.serve({"image_bytes": tf.constant(sorted(contents))})[0]["image"].numpy()
    trained = [
        preprocessor(example["image"][tf.newaxis])[0].numpy()
        for split in data.splits.values()
        for example in split.dataset()
    ]
    assert sum(any(np.array_equal(one, other) for other in served) for one in trained) == len(trained) == 24
