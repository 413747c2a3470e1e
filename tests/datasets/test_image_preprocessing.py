"""Image preprocessing compared with Pillow and NumPy: sizes, channels, and files of every kind."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import zoo
from dataset_arrays import noise, scaled
from zoo.datasets.preprocessing.base import get_preprocessor
from zoo.datasets.preprocessing.images import ImagePreprocessor


def smooth(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.uint8(127 + 60 * np.sin(x / 5) + 60 * np.cos(y / 7))[np.newaxis, ..., np.newaxis]


def test_images_of_the_right_size_are_only_scaled():
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    out = ImagePreprocessor(16, 16, 1)(levels).numpy()
    np.testing.assert_allclose(out, levels / 255, rtol=2e-7)
    assert (out.min(), out.max()) == (0, 1)
    images = noise(3, 6, 5, 1)
    np.testing.assert_array_equal(ImagePreprocessor(6, 5, 1)(images), scaled(images))


@pytest.mark.parametrize("alpha", [0, 1], ids=["opaque", "alpha"])
def test_colour_is_converted_to_grey(alpha):
    images = noise(4, 6, 5, 3 + alpha)
    grey = ImagePreprocessor(6, 5, 1)(images).numpy()
    np.testing.assert_allclose(grey[..., 0], images[..., :3] @ np.array([0.299, 0.587, 0.114]) / 255, atol=1e-6)
    pillow = np.stack([np.asarray(Image.fromarray(i[..., :3]).convert("L")) for i in images])
    np.testing.assert_allclose(grey[..., 0] * 255, pillow, atol=0.51, err_msg="Pillow rounds to whole levels")


@pytest.mark.parametrize("alpha", [0, 1], ids=["opaque", "alpha"])
def test_grey_is_converted_to_colour_and_grey(alpha):
    images = noise(4, 6, 5, 1 + alpha)
    expected = scaled(images[..., :1])
    np.testing.assert_array_equal(ImagePreprocessor(6, 5, 3)(images), np.repeat(expected, 3, axis=-1))
    np.testing.assert_array_equal(ImagePreprocessor(6, 5, 1)(images), expected)


def test_colour_stays_colour():
    images = noise(2, 4, 4, 4)
    np.testing.assert_array_equal(ImagePreprocessor(4, 4, 3)(images), scaled(images[..., :3]))


@pytest.mark.parametrize("size", [(1, 1), (5, 9), (28, 28), (41, 30)])
@pytest.mark.parametrize("level", [0, 1, 200, 255])
def test_a_constant_image_stays_constant(size, level):
    out = ImagePreprocessor(*size, 1)(np.full((1, 17, 12, 1), level, np.uint8)).numpy()
    np.testing.assert_allclose(out, level / 255, atol=1e-6)


@pytest.mark.parametrize("make", [smooth, lambda h, w: noise(1, h, w, 1)], ids=["smooth", "noise"])
@pytest.mark.parametrize("size", [(8, 8), (28, 28), (13, 40), (7, 64), (100, 90)])
def test_resizing_equals_pillow(make, size):
    """Pillow's bilinear filter widens when it shrinks an image: the same antialiasing, on float32 pixels."""
    image = make(64, 48)
    ours = ImagePreprocessor(*size, 1)(image).numpy()[0, ..., 0] * 255
    pillow = Image.fromarray(image[0, ..., 0].astype(np.float32)).resize(size[::-1], Image.Resampling.BILINEAR)
    np.testing.assert_allclose(ours, np.asarray(pillow), atol=0.01)


def test_shrinking_is_antialiased():
    """Stripes one pixel wide become grey; selecting every eighth pixel would give black or white."""
    stripes = np.zeros((1, 64, 64, 1), np.uint8)
    stripes[:, :, ::2] = 255
    out = ImagePreprocessor(8, 8, 1)(stripes).numpy()
    np.testing.assert_allclose(out[:, :, 1:-1], 0.5, atol=0.05)


def test_a_batch_equals_its_single_images():
    for channels in (1, 3):
        preprocessor = ImagePreprocessor(10, 12, channels)
        images = noise(5, 23, 17, 3)
        alone = np.concatenate([preprocessor(image[np.newaxis]) for image in images])
        np.testing.assert_array_equal(preprocessor(images), alone)


def test_sizes_and_channels_can_be_unknown_in_the_graph():
    preprocessor = ImagePreprocessor(9, 9, 1)
    traced = tf.function(preprocessor, input_signature=[tf.TensorSpec([None, None, None, None], tf.uint8)])
    for shape in [(2, 9, 9, 1), (1, 20, 5, 3), (3, 9, 9, 4), (1, 4, 4, 2)]:
        np.testing.assert_array_equal(traced(noise(*shape)), preprocessor(noise(*shape)))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.zeros((2, 8, 8, 1), np.float32), "An image batch is float32 of shape (2, 8, 8, 1); expected uint8 (batch,"),
        (np.zeros((8, 8, 1), np.uint8), "An image batch is uint8 of shape (8, 8, 1); expected uint8 (batch, height, w"),
        (np.zeros((2, 8, 8), np.int64), "An image batch is int64 of shape (2, 8, 8); expected uint8"),
    ],
)
def test_invalid_image_batches_are_rejected(wrong, message):
    with pytest.raises(zoo.UsageError) as caught:
        ImagePreprocessor(8, 8, 1)(wrong)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("channels", [1, 3])
def test_requests_are_preprocessed_as_in_training(channels):
    preprocessor = ImagePreprocessor(12, 11, channels)
    images = [noise(h, w, c, seed=h) for h, w, c in [(12, 11, 1), (30, 9, 3), (5, 40, 1), (12, 11, 3), (8, 8, 4)]]
    requests_ = preprocessor.to_requests([{"image": image} for image in images])
    assert list(requests_) == list(preprocessor.requests) == ["image_bytes"]
    served = preprocessor.serve({k: tf.constant(v.tolist()) for k, v in requests_.items()})[0]["image"]
    trained = np.concatenate([preprocessor(image[np.newaxis]) for image in images])
    np.testing.assert_array_equal(served, trained)
    specs = {name: request.spec for name, request in preprocessor.requests.items()}
    graph = tf.function(lambda r: preprocessor.serve(r)[0]["image"]).get_concrete_function(specs)
    np.testing.assert_array_equal(graph(tf.constant(requests_["image_bytes"].tolist())), trained)
    assert served.shape == (5, 12, 11, channels)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "JPEG"])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P"])
def test_image_files_of_many_kinds_are_decoded(kind, mode, tmp_path):
    if (kind, mode) in [("JPEG", "RGBA"), ("JPEG", "P")]:
        pytest.skip("JPEG has neither transparency nor palettes")
    picture = Image.fromarray(np.dstack([smooth(20, 30)[0]] * 3)).convert(mode)
    picture.save(tmp_path / "picture", format=kind)
    content = tf.constant([(tmp_path / "picture").read_bytes()] * 2)
    preprocessor = ImagePreprocessor(20, 30, 1)
    if (kind, mode) == ("BMP", "P"):  # decode_image would silently return palette indices
        with pytest.raises(
            tf.errors.InvalidArgumentError, match=r"BMP file with a colour palette cannot be read. Send"
        ):
            preprocessor.serve({"image_bytes": content})
        return
    served = preprocessor.serve({"image_bytes": content})[0]["image"].numpy()
    assert served.shape == (2, 20, 30, 1)
    expected = np.asarray(picture.convert("RGB")).astype(float) @ [0.299, 0.587, 0.114] / 255
    # Only JPEG and GIF's palette of 256 colours are lossy.
    np.testing.assert_allclose(served[0, ..., 0], expected, atol=0.05 if kind in ("JPEG", "GIF") else 1e-6)


def test_a_request_without_an_image_is_rejected():
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"row 0: this is not a PNG, JPEG, BMP or GIF file. Send"):
        ImagePreprocessor(8, 8, 1).serve({"image_bytes": tf.constant([b"no image"])})


@pytest.mark.parametrize("preprocessor", [ImagePreprocessor(9, 8, 3)], ids=lambda p: p.kind)
def test_a_preprocessor_is_restored_from_its_config(preprocessor):
    again = get_preprocessor(preprocessor.kind)(**preprocessor.config())
    assert again == preprocessor
    assert again.input_shapes == {"image": (9, 8, 3)}


def test_files_with_too_many_pixels_for_their_bytes_are_rejected_before_decoding():
    header = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (5792).to_bytes(4, "big") * 2 + b"\x08"
    preprocess = ImagePreprocessor(8, 8, 1)
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="too many pixels in few bytes; expected at most 134,217,728"
    ):
        preprocess.serve({"image_bytes": [header] * 5})
    padded = header + bytes(2**20)  # 32 more pixels for every byte, and so no longer too many: decoding is tried
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"(?s)^(?!.*too many pixels)"):
        preprocess.serve({"image_bytes": [padded] * 5})
