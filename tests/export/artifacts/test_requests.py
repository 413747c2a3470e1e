"""Requests to a written artifact: images of every kind, batches of every size, and rejected requests."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import zoo
from artifact_parts import encoded, golden, png, written
from selection import slow
from zoo.datasets.preprocessing.images import ImagePreprocessor
from zoo.errors import UsageError
from zoo.export.verification import verify


@pytest.fixture(scope="module")
def colour(digits, tmp_path_factory):
    """An untrained convolutional network for colour images of another size than the data."""
    prepared = digits.prepare("cnn", input_shape=(12, 10, 3), filters=(4,), dense_units=None)
    keras.utils.set_random_seed(1)
    folder = tmp_path_factory.mktemp("exports") / "colour" / "1"
    return zoo.export.load(written(prepared.build(), prepared.interface, folder))


def pictures():
    """An image file of every supported kind, with its pixel array."""
    rng = np.random.default_rng(0)

    def noise(*shape):
        return rng.integers(0, 256, (9, 7, *shape), np.uint8)

    grey, colour = Image.fromarray(noise()), Image.fromarray(noise(3))
    palette = colour.quantize(16)
    deep = rng.integers(0, 65536, (9, 7), np.uint16)
    other = Image.fromarray(noise(3)).quantize(8)
    # JPEG is lossy, so these images are smooth; a difference of one or two levels remains.
    slope = np.add.outer(np.arange(64), np.arange(48))[..., None]
    smooth = Image.fromarray((slope * [1, 2, 0.5]).astype(np.uint8))
    transparent, grey_transparent = Image.fromarray(noise(4)), Image.fromarray(noise(2), "LA")
    black_and_white = grey.convert("1")
    return {
        "PNG, grey": (encoded(grey), grey),
        "PNG, colour": (encoded(colour), colour),
        "PNG, colour and alpha": (encoded(transparent), transparent),
        "PNG, grey and alpha": (encoded(grey_transparent), grey_transparent),
        "PNG, palette": (encoded(palette), palette.convert("RGB")),
        "PNG, palette with a transparent colour": (encoded(palette, transparency=3), palette.convert("RGB")),
        "PNG, 16 bits": (encoded(Image.fromarray(deep)), Image.fromarray((deep >> 8).astype(np.uint8))),
        "PNG, 1 bit": (encoded(black_and_white), black_and_white.convert("L")),
        "JPEG, colour": (encoded(smooth, "JPEG", quality=95), smooth),
        "JPEG, grey": (encoded(smooth.convert("L"), "JPEG", quality=95), smooth.convert("L")),
        "JPEG, progressive": (encoded(smooth, "JPEG", quality=95, progressive=True), smooth),
        "BMP, colour": (encoded(colour, "BMP"), colour),
        "BMP, grey": (encoded(grey, "BMP"), grey),
        "BMP, colour and alpha": (encoded(transparent, "BMP"), transparent),
        "GIF": (encoded(palette, "GIF"), palette.convert("RGB")),
        "GIF, its first frame": (encoded(palette, "GIF", save_all=True, append_images=[other]), palette.convert("RGB")),
    }


@pytest.fixture(scope="module")
def grey(base):
    return zoo.export.load(base / "1")


@pytest.mark.parametrize("kind", list(pictures()))
def test_image_files_give_the_same_outputs_as_preprocessed_arrays(grey, colour, kind):
    content, picture = pictures()[kind]
    array = np.asarray(picture)
    for served, channels, size in ((grey, 1, (8, 8)), (colour, 3, (12, 10))):
        preprocess = ImagePreprocessor(*size, channels)
        image = preprocess(array.reshape(1, *array.shape[:2], -1))
        expected = served({"image": image}, "predict")["probabilities"]
        got = served({"image_bytes": [content]})["probabilities"]
        np.testing.assert_allclose(got, expected, atol=1e-2 if kind.startswith("JPEG") else 1e-6)


def test_a_bmp_palette_is_not_read_as_grey_levels(grey):
    palette = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)).quantize(16)
    expected = grey({"image_bytes": [encoded(palette.convert("RGB"))]})["probabilities"]
    try:
        got = grey({"image_bytes": [encoded(palette, "BMP")]})["probabilities"]
    except UsageError:
        return  # rejection is acceptable too
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_batches_can_mix_image_sizes(grey, colour, digits):
    rng = np.random.default_rng(2)
    files = [
        png(rng.integers(0, 256, shape, np.uint8)) for shape in [(8, 8), (28, 28), (1, 1), (5, 40, 3), (300, 200, 4)]
    ]
    for served in (grey, colour):
        together = served({"image_bytes": files})
        assert together["probabilities"].shape == (5, 10)
        for i, file in enumerate(files):
            alone = served({"image_bytes": [file]})
            assert alone["class_name"].shape == (1,)
            assert alone["class_name"][0] == together["class_name"][i]
            np.testing.assert_allclose(alone["probabilities"][0], together["probabilities"][i], atol=1e-6)
    features = colour({"image_bytes": files}, "features")["features"]
    assert features.shape == (5, 10 * 8 * 4)


def test_every_signature_rejects_an_empty_batch(grey, colour):
    requests = {"serving_default": "image_bytes", "features": "image_bytes", "predict": "image"}
    for served, shape in ((grey, (0, 8, 8, 1)), (colour, (0, 12, 10, 3))):
        for signature, name in requests.items():
            value = np.zeros(shape, np.float32) if signature == "predict" else []
            with pytest.raises(UsageError, match=rf"{name} is an empty batch; expected at least one example"):
                served({name: value}, signature)


NO_PICTURES = {
    "nothing": b"",
    "text": b"no picture at all",
    "half a PNG": png(np.random.default_rng(0).integers(0, 256, (30, 30), np.uint8))[:200],
    "half a JPEG": encoded(Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 30), np.uint8)), "JPEG")[
        :300
    ],
    "a TIFF": encoded(Image.fromarray(np.zeros((8, 8), np.uint8)), "TIFF"),
}


# The messages of every kind of file are those of `test_hostile`.
@pytest.mark.parametrize("kind", [kind if kind == "half a PNG" else slow(kind) for kind in NO_PICTURES])
def test_invalid_image_bytes_are_rejected_without_affecting_the_next_request(base, grey, kind):
    good = golden(base / "1")["requests/image_bytes"][:2]
    before = grey({"image_bytes": good})["probabilities"]
    function = tf.saved_model.load(str(base / "1")).signatures["serving_default"]
    with pytest.raises(tf.errors.InvalidArgumentError):
        function(image_bytes=tf.constant([good[0], NO_PICTURES[kind], good[1]]))
    with pytest.raises(UsageError, match="serving_default rejected the request: "):
        grey({"image_bytes": [good[0], NO_PICTURES[kind], good[1]]})
    np.testing.assert_array_equal(grey({"image_bytes": good})["probabilities"], before)


def test_files_are_classified_and_invalid_files_are_named(base, grey, tmp_path):
    content = golden(base / "1")
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(content["requests/image_bytes"][i])
    (tmp_path / "letter.txt").write_text("Dear all")
    answers = grey.predict([tmp_path / f"{i}.png" for i in range(3)])
    assert [a["class_name"] for a in answers] == [n.decode() for n in content["answers/serving_default/class_name"][:3]]
    np.testing.assert_allclose(
        [a["probabilities"] for a in answers], content["answers/serving_default/probabilities"][:3], atol=1e-6
    )
    with pytest.raises(
        UsageError, match=r"Cannot predict for .*letter.txt: .*this is not a PNG, JPEG, BMP or GIF file"
    ):
        grey.predict([tmp_path / "0.png", tmp_path / "letter.txt"])
    with pytest.raises(UsageError, match=r"Cannot read .*missing.png: No such file or directory. Pass a file"):
        grey.predict([tmp_path / "missing.png"])
    with pytest.raises(UsageError, match=r"Cannot read .*: Is a directory"):
        grey.predict([str(tmp_path)])


def test_requests_outside_the_contract_are_rejected(grey):
    with pytest.raises(UsageError, match=r"1 has no signature 'predct'. Did you mean 'predict'\?"):
        grey({"image": []}, "predct")
    with pytest.raises(UsageError, match="predict takes image; received picture"):
        grey({"picture": []}, "predict")
    with pytest.raises(UsageError, match="predict takes image; received nothing"):
        grey({}, "predict")
    with pytest.raises(UsageError, match="predict rejected the request: "):
        grey({"image": [["a"]]}, "predict")
    with pytest.raises(UsageError, match="predict rejected the request: "):
        grey({"image": np.zeros((2, 3, 3, 1))}, "predict")
    assert grey.inputs() == ["image_bytes"]
    assert grey.inputs("predict") == ["image"]
    assert grey.labels() == [str(n) for n in range(10)]


def test_a_third_party_savedmodel_can_be_loaded(tmp_path):
    module = tf.Module()
    module.double = tf.function(lambda x: {"y": 2 * x}, input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    tf.saved_model.save(module, str(tmp_path / "other"), signatures=module.double)
    served = zoo.export.load(tmp_path / "other")
    assert served({"x": [1.0, 2.0]})["y"].tolist() == [2, 4]
    assert served.labels() == []
    verdict = verify(tmp_path / "other", runtimes=())
    assert verdict.passed and verdict.table().splitlines()[-1].count("no training proof is available") == 1
