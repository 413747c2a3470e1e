"""Hostile requests to served models.

Every signature returns outputs or an error message; the process survives, memory and time stay small, and the next
request succeeds.
"""

from __future__ import annotations

import contextlib
import io
import re
import resource
import struct
import time
import zlib

import hypothesis.extra.numpy as arrays
import hypothesis.strategies as st
import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from PIL import Image

import zoo
from zoo.datasets.preprocessing import image_files
from zoo.datasets.preprocessing.image_files import MAX_PIXELS
from zoo.datasets.preprocessing.images import ImagePreprocessor
from zoo.errors import one_line
from zoo.export import artifact
from zoo.export.graph import signatures

HEIGHT, WIDTH = 12, 10
SMALL_RNN = {"embedding_dim": 4, "rnn_units": 4}
MODELS = {  # as small as possible; only the presence of outputs matters
    "image": ("mlp", "digits", {"hidden_units": (4,), "input_shape": (HEIGHT, WIDTH, 3)}),
    "text": ("embedding_lstm", "commands", {"embedding_dim": 4, "lstm_units": 4}),
    "series": ("lstm", "digit_rows", {"units": (4,)}),
    "recommendation": ("matrix_factorization", "tastes", {"embedding_dim": 4}),
    "transformer": ("transformer", "commands", {"embedding_dim": 8, "num_heads": 2, "feed_forward_dim": 8}),
    "attention": ("attention", "digit_rows", {}),
    "forecast": ("lstm", "seasons", {"units": (4,)}),
    "tagging": ("rnn", "tagged_commands", SMALL_RNN),
    "translation": ("seq2seq_rnn", "number_words", SMALL_RNN),
    "translation_transformer": (
        "seq2seq_transformer",
        "number_words",
        {"embedding_dim": 8, "num_heads": 2, "feed_forward_dim": 8, "num_layers": 1},
    ),
}
POSITIONS = {"transformer": 128, "translation_transformer": 40}
"""As many as a model has by default."""
USUAL = ("image", "transformer", "series", "recommendation")
every_family = pytest.mark.parametrize(
    "family", [name if name in USUAL else pytest.param(name, marks=pytest.mark.slow) for name in MODELS]
)
one_family = pytest.mark.parametrize(
    "family", [pytest.param(name, marks=[pytest.mark.slow] * (name != "recommendation")) for name in MODELS]
)


class Served:
    """A loaded SavedModel with untrained weights, and a valid request for each signature."""

    def __init__(self, family, directory):
        name, data, arguments = MODELS[family]
        prepared = zoo.datasets.load(data).prepare(name, **arguments)
        keras.utils.set_random_seed(0)
        model = prepared.build()
        (directory / "sources").mkdir()
        labels = artifact._labels_file(directory / "sources", prepared.interface)
        module, functions = signatures.served_model(model, prepared.interface, directory / "sources", labels)
        tf.saved_model.save(module, str(directory / "saved"), signatures=functions)
        self.signatures = tf.saved_model.load(str(directory / "saved")).signatures
        examples = prepared.interface.examples
        inputs = signatures.model_inputs(model)
        self.good = {}
        for signature in self.signatures:
            names = self.specs(signature)
            if not signature.startswith("predict"):
                asked = {key: examples.requests[key][:2] for key in names}
            else:
                asked = dict(zip(inputs, [v[:2] for v in examples.inputs.values()], strict=True))
            self.good[signature] = {
                k: tf.constant(v.tolist(), self.specs(signature)[k].dtype) for k, v in asked.items()
            }
        self.right = {signature: self.answer(signature, self.good[signature]) for signature in self.signatures}

    def specs(self, signature):
        return self.signatures[signature].structured_input_signature[1]

    def answer(self, signature, request):
        return {k: v.numpy() for k, v in self.signatures[signature](**request).items()}

    def ask(self, signature="serving_default", **changed):
        """Returns the outputs, or the message of an InvalidArgumentError; fails on any other error.

        Then sends a valid request.
        """
        request = self.good[signature] | {k: tf.convert_to_tensor(v) for k, v in changed.items()}
        try:
            return self.answer(signature, request)
        except tf.errors.InvalidArgumentError as error:
            return one_line(error)
        finally:
            for key, value in self.answer(signature, self.good[signature]).items():
                np.testing.assert_array_equal(value, self.right[signature][key])


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    made = {}

    def get(family):
        if family not in made:
            made[family] = Served(family, tmp_path_factory.mktemp(family))
        return made[family]

    return get


def texts(*values):
    return tf.constant(list(values), tf.string)


@contextlib.contextmanager
def little(seconds, megabytes):
    """Fails if the block takes more time or memory."""
    start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert time.monotonic() - start < seconds
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < megabytes * 1024


# --- Image files, some of them hand-written ---------------------------------------------------------------------------


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, data, depth=8, colour=0, interlaced=False):
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def empty_png(width, height):
    """Returns a grey PNG of zeros: its size in bytes is a thousandth of its pixels."""
    packer = zlib.compressobj(9)
    row = bytes(width + 1)
    return png(width, height, b"".join([packer.compress(row) for _ in range(height)]) + packer.flush())


def rows(levels):
    """Returns the rows of a PNG, each after its filter type 0."""
    return b"".join(b"\0" + row.tobytes() for row in levels)


def interlaced_png(levels):
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    parts = [levels[y::dy, x::dx] for y, x, dy, dx in passes]
    data = b"".join(rows(np.ascontiguousarray(part)) for part in parts if part.size)
    return png(levels.shape[1], levels.shape[0], zlib.compress(data), colour=2, interlaced=True)


def encoded(picture, kind="PNG", **options):
    file = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(file, kind, **options)
    return file.getvalue()


def with_jpeg_size(content, width, height):
    start = max(content.find(b"\xff\xc0"), content.find(b"\xff\xc2")) + 5
    return content[:start] + struct.pack(">HH", height, width) + content[start + 4 :]


def with_numbers(content, start, form, *numbers):
    return content[:start] + struct.pack(form, *numbers) + content[start + struct.calcsize(form) :]


def without_adobe(content):
    start = content.index(b"\xff\xee")
    return content[:start] + content[start + 16 :]


def scanned_again(content, times):
    start = content.rindex(b"\xff\xda")
    return content[:-2] + content[start:-2] * times + content[-2:]


NOISE = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
DEEP = np.random.default_rng(1).integers(0, 65536, (HEIGHT, WIDTH, 3)).astype(">u2")
SMOOTH = (np.add.outer(np.arange(HEIGHT), np.arange(WIDTH))[..., None] * [9, 4, 2] + 20).astype(np.uint8)
FEW = Image.fromarray(SMOOTH).quantize(16)
OTHER = Image.fromarray(NOISE).quantize(16)
TURNED = Image.Exif()
TURNED[0x112] = 6  # orientation: to be turned clockwise by a quarter
JPEG = encoded(SMOOTH, "JPEG", quality=98, subsampling=0)
PROGRESSIVE = encoded(SMOOTH, "JPEG", progressive=True)
CMYK = encoded(Image.fromarray(SMOOTH).convert("CMYK"), "JPEG", quality=98, subsampling=0)
GIF = encoded(FEW, "GIF")
GIF_TABLE_END = 13 + 3 * 2 ** (GIF[10] % 8 + 1)
GIF_PICTURE = GIF.index(b"\x2c", GIF_TABLE_END)
BMP = encoded(NOISE, "BMP")
ALPHA = np.dstack([NOISE, NOISE[..., 0]])

ANSWERED = {  # with the levels that they encode, and the tolerance of a level
    "PNG, interlaced": (interlaced_png(NOISE), NOISE, 0),
    "PNG, 16 bits, colour": (png(WIDTH, HEIGHT, zlib.compress(rows(DEEP)), 16, 2), DEEP / 257, 1),
    "PNG, 16 bits, grey": (png(WIDTH, HEIGHT, zlib.compress(rows(DEEP[..., 0])), 16), DEEP[..., :1] / 257, 1),
    "PNG, 16 bits, black": (
        png(WIDTH, HEIGHT, zlib.compress(rows(0 * DEEP[..., 0])), 16),
        np.zeros((HEIGHT, WIDTH, 1)),
        0,
    ),
    "PNG, grey and alpha": (encoded(Image.fromarray(ALPHA[..., 2:], "LA")), NOISE[..., 2:], 0),
    "PNG, colour and alpha": (encoded(ALPHA), NOISE, 0),
    "PNG, palette": (encoded(FEW), np.asarray(FEW.convert("RGB")), 0),
    "PNG, something behind its end": (encoded(NOISE) + b"more", NOISE, 0),
    "JPEG": (JPEG, SMOOTH, 12),
    "JPEG, four inks": (CMYK, SMOOTH, 12),
    "JPEG, turned by EXIF": (
        encoded(np.rot90(SMOOTH), "JPEG", quality=98, subsampling=0, exif=TURNED),
        SMOOTH,
        12,
    ),
    "GIF": (GIF, np.asarray(FEW.convert("RGB")), 0),
    "GIF, its first picture": (
        encoded(FEW, "GIF", save_all=True, append_images=[OTHER] * 3, duration=50, comment=b"c" * 700),
        np.asarray(FEW.convert("RGB")),
        0,
    ),
    "GIF, of thousands": (
        GIF[:-1] + GIF[GIF_PICTURE:-1] * 20_000 + b";",
        np.asarray(FEW.convert("RGB")),
        0,
    ),
    "GIF, the next picture enormous": (
        GIF[:-1] + with_numbers(GIF[GIF_PICTURE:], 5, "<HH", 65535, 65535),
        np.asarray(FEW.convert("RGB")),
        0,
    ),
    "BMP": (BMP, NOISE, 0),
    "BMP, from the top": (
        with_numbers(encoded(NOISE[::-1], "BMP"), 22, "<i", -HEIGHT),
        NOISE,
        0,
    ),
}
TWELVE_BITS = (DEEP[..., 0] >> 4).astype(">u2")
TOO_LARGE = rf"row 1: {{}} pixels; expected 1 to {MAX_PIXELS:,} of them. Send a smaller image"
REFUSED = {
    "nothing": (b"", "row 1: this is not a PNG, JPEG, BMP or GIF file. Send one"),
    "one byte": (b"\x89", "this is not a PNG"),
    "a page": (b"<html>" * 1000, "this is not a PNG"),
    "TIFF": (encoded(NOISE, "TIFF"), "this is not a PNG"),
    "WebP": (encoded(NOISE, "WEBP"), "this is not a PNG"),
    "WebP, animated, which corrupts TensorFlow's memory": (
        encoded(Image.fromarray(NOISE), "WEBP", save_all=True, append_images=[OTHER.convert("RGB")] * 3),
        "this is not a PNG",
    ),
    "JPEG XL": (b"\xff\x0a" + bytes(40), "this is not a PNG"),
    "PNG, a bomb": (empty_png(10_000, 10_000), TOO_LARGE.format("10000 x 10000")),
    "PNG, a bomb's head": (png(30_000, 30_000, b""), TOO_LARGE.format("30000 x 30000")),
    "PNG, widest": (png(2**32 - 1, 2**32 - 1, b""), "-1 x -1 pixels"),
    "PNG, long": (png(1, 2**31 - 1, b""), "1 x 2147483647 pixels"),
    "PNG, 12 bits in 16": (
        png(WIDTH, HEIGHT, zlib.compress(rows(TWELVE_BITS)), 16),
        rf"a PNG file of 16 bits whose levels end at {TWELVE_BITS.max()} of 65535. Scale it to all 16 bits, or to 8",
    ),
    "PNG, no pixel": (png(0, 5, zlib.compress(b"")), "0 x 5 pixels"),
    "PNG, half": (encoded(NOISE)[:200], "Invalid PNG"),
    "PNG, its head alone": (encoded(NOISE)[:9], "0 x 0 pixels"),
    "PNG, wrong checksum": (with_numbers(encoded(NOISE), 40, "B", 255 - encoded(NOISE)[40]), "Invalid PNG"),
    "JPEG, a bomb": (with_jpeg_size(JPEG, 65_000, 65_000), TOO_LARGE.format("65000 x 65000")),
    "JPEG, a progressive bomb": (with_jpeg_size(PROGRESSIVE, 20_000, 20_000), "20000 x 20000 pixels"),
    "JPEG, no pixel": (with_jpeg_size(JPEG, 0, 0), "Invalid JPEG data"),
    "JPEG, half": (JPEG[: len(JPEG) // 2], "Invalid JPEG data"),
    "JPEG, its head alone": (JPEG[:3], "Invalid JPEG data"),
    "JPEG, four inks that nobody explains": (without_adobe(CMYK), r"CMYK JPEG file without Adobe's marker.*in RGB"),
    "JPEG, a thousand passes": (scanned_again(PROGRESSIVE, 1000), "JPEG file of more than 64 scans. Send it as PNG"),
    "GIF, a bomb": (with_numbers(GIF, 6, "<HH", 50_000, 50_000), TOO_LARGE.format("50000 x 50000")),
    "GIF, picture larger than its screen": (
        with_numbers(GIF, GIF_PICTURE + 5, "<HH", 50_000, 50_000),
        "first picture does not fill its screen. Send it as PNG",
    ),
    "GIF, picture at an offset": (with_numbers(GIF, GIF_PICTURE + 1, "<HH", 2, 0), "does not fill its screen"),
    "GIF, half": (GIF[: len(GIF) - 20], "GIF file without a complete picture"),
    "GIF, no picture": (GIF[:GIF_PICTURE] + b";", "GIF file without a complete picture"),
    "GIF, its head alone": (b"GIF89a", "0 x 0 pixels"),
    "GIF, a million tiny blocks": (
        GIF[:GIF_TABLE_END] + b"\x21\xfe" + b"\x01a\x02aa" * 500_000 + GIF[GIF_TABLE_END - 1 :],
        "GIF file without a complete picture",
    ),
    "BMP, a bomb's head": (with_numbers(BMP, 18, "<ii", 30_000, 30_000), TOO_LARGE.format("30000 x 30000")),
    "BMP, lowest": (with_numbers(BMP, 22, "<i", -(2**31)), "10 x -2147483648 pixels"),
    "BMP, larger than the file": (with_numbers(BMP, 18, "<ii", 1000, 1000), "Input size should match"),
    "BMP, half": (BMP[: len(BMP) // 2], "Input size should match"),
    "BMP, its head alone": (b"BM", "0 x 0 pixels"),
    "BMP, a palette of colours": (encoded(FEW, "BMP"), "colour palette cannot be read. Send it as PNG"),
    "BMP, compressed": (with_numbers(BMP, 30, "<I", 1), "BMP file that is compressed or very old cannot be read"),
}


@pytest.mark.parametrize("kind", ANSWERED)
def test_images_are_decoded_correctly(served, kind):
    content, levels, tolerance = ANSWERED[kind]
    picture = np.broadcast_to(levels / 255, (HEIGHT, WIDTH, 3)).astype(np.float32)
    image = served("image")
    with little(seconds=2, megabytes=200):
        got = image.ask(image_bytes=texts(content, encoded(NOISE)))
    expected = image.ask("predict", image=np.stack([picture, NOISE / np.float32(255)]))
    # The model sums 360 levels with weights of about 0.1; a swapped channel or row changes far more.
    np.testing.assert_allclose(got["probabilities"], expected["probabilities"], atol=1e-6 + 0.02 * tolerance)
    preprocessor = ImagePreprocessor(HEIGHT, WIDTH, 3)
    decoded = preprocessor.serve({"image_bytes": texts(content)})[0]["image"][0]
    np.testing.assert_allclose(decoded, picture, atol=1e-6 + tolerance / 255)


@pytest.mark.parametrize("kind", REFUSED)
def test_invalid_files_are_rejected(served, kind):
    content, message = REFUSED[kind]
    good = encoded(NOISE)
    image = served("image")
    with little(seconds=2, megabytes=200):
        said = image.ask(image_bytes=texts(good, content, good))
    assert isinstance(said, str), f"answered {said}"
    assert re.search(message, said), said


def test_training_decodes_what_serving_decodes(served):
    image, preprocessor, decode = served("image"), ImagePreprocessor(HEIGHT, WIDTH, 3), image_files.decoder()
    for kind, (content, levels, _) in ANSWERED.items():
        decoded = decode(tf.constant(content))
        assert image_files.check(content) == (decoded.shape, ""), kind
        assert decoded.shape[:2] == levels.shape[:2], kind
        expected = image.answer("predict", {"image": preprocessor(decoded[tf.newaxis])})["probabilities"]
        got = image.answer("serving_default", {"image_bytes": texts(content)})["probabilities"]
        np.testing.assert_array_equal(got, expected, err_msg=kind)
    for kind, (content, message) in REFUSED.items():
        shape, fault = image_files.check(content)
        assert shape == (), kind
        assert re.search(message.split(". ")[0].removeprefix("row 1: ").split(r".*")[0], fault), (kind, fault)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"An image file has changed"):
        decode(tf.constant(REFUSED["WebP, animated, which corrupts TensorFlow's memory"][0]))


def test_the_features_signature_rejects_large_images(served):
    said = served("image").ask("features", image_bytes=texts(png(30_000, 30_000, b"")))
    assert "row 0: 30000 x 30000 pixels" in said


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 12])
def test_images_of_the_maximum_size_are_accepted(served, count):
    """Images are decoded one at a time: twelve need no more memory than a few."""
    content = empty_png(8192, MAX_PIXELS // 8192)
    with little(seconds=20 * count, megabytes=4000):
        answer = served("image").ask(image_bytes=texts(*[content] * count))
    black = served("image").ask("predict", image=np.zeros((1, HEIGHT, WIDTH, 3), np.float32))
    np.testing.assert_allclose(answer["probabilities"], np.repeat(black["probabilities"], count, 0), atol=1e-6)


# --- Types, ranks, lengths --------------------------------------------------------------------------------------------


@one_family
def test_other_types_and_shapes_are_rejected(served, family):
    model = served(family)
    for signature in model.signatures:
        for name, spec in model.specs(signature).items():
            good = model.good[signature][name]
            other = tf.zeros([2], tf.int32) if spec.dtype == tf.string else tf.fill(tf.shape(good), "a")
            assert "was expected to be a" in model.ask(signature, **{name: other})
            for shaped in (good[0], good[tf.newaxis], good[..., tf.newaxis]):
                said = model.ask(signature, **{name: shaped})
                assert f"Shape of tensor {name}" in said and "is not compatible with expected shape" in said
            assert re.search(
                "empty batch; expected at least one|different numbers", model.ask(signature, **{name: good[:0]})
            )
            if len(model.specs(signature)) > 1:
                said = model.ask(signature, **{name: tf.concat([good, good], 0)})
                assert "have different numbers of rows; expected as many of each" in said
            if spec.shape.rank > 1 and spec.shape[1] is None:
                assert f"{name} has no steps; expected at least one" in model.ask(signature, **{name: good[:, :0]})
            if spec.shape.rank == 3 and spec.shape[2]:
                said = model.ask(signature, **{name: tf.concat([good, good], 2)})
                assert "is not compatible with expected shape" in said


@every_family
def test_ids_outside_the_table_are_rejected(served, family):
    model = served(family)
    for name, spec in model.specs("predict").items():
        if not spec.dtype.is_integer:
            continue
        for wrong in (-1, -(2**31), 10**6, 2**31 - 1):
            good = model.good["predict"][name].numpy()
            good.flat[-1] = wrong
            said = model.ask("predict", **{name: good})
            assert isinstance(said, str), f"{wrong} was answered"
            assert (f"{name} holds a number below 0" if wrong < 0 else "is not in [0, ") in said


@pytest.mark.parametrize("family", ["transformer", pytest.param("translation_transformer", marks=pytest.mark.slow)])
def test_more_steps_than_positions_are_rejected(served, family):
    model, longest = served(family), POSITIONS[family]
    for signature in ("predict", "predict_portable"):
        if signature not in model.signatures:
            continue
        for steps in (longest, longest + 1):
            asked = {name: tf.tile(good[:, :1], [1, steps]) for name, good in model.good["predict"].items()}
            said = model.ask(signature, **asked)
            if steps == longest:
                assert not isinstance(said, str), said
            else:
                assert f"A sequence is longer than max_length={longest}. Pass at most as many steps." in said


# --- Texts and ids ----------------------------------------------------------------------------------------------------

MEGABYTE = 2**20
TEXTS = {
    "nothing": b"",
    "spaces": b" \t\n\r ",
    "only NUL": b"\0\0",
    "NUL within": b"turn\0on\0\0",
    "not UTF-8": b"\xff\xfe turn \xc3( \xed\xa0\x80",
    "right to left, marks, an override": "שָׁלוֹם عَرَبِيّ e\u0301\u0301 \u202egnirts".encode(),
    "a family and a flag": "👩‍👩‍👧‍👦🏳️‍🌈".encode(),
    "marks without end": b"e" + "\u0301".encode() * 50_000,
    "one word": b"a" * MEGABYTE,
    "many words": b"turn on " * (MEGABYTE // 8),
    "marks": b"!" * MEGABYTE,
    "the start of addresses": b"a@" * (MEGABYTE // 2),
    "apostrophes": b"'s" * (MEGABYTE // 2),
    "wrong bytes": b"\xff" * MEGABYTE,
    "empty space": b" " * MEGABYTE,
}


@every_family
def test_texts_of_every_kind_are_accepted(served, family):
    model = served(family)
    (name,) = model.specs("serving_default")
    if name not in ("text", "user_id"):
        pytest.skip("takes no text")
    good = model.good["serving_default"][name]
    for what, text in TEXTS.items():
        with little(seconds=10, megabytes=400):
            answer = model.ask(**{name: texts(good[0].numpy(), text, good[1].numpy())})
        assert not isinstance(answer, str), f"{what}: {answer}"
        for key, value in answer.items():
            assert len(value) == 3
            if value.dtype != object:
                assert np.isfinite(value).all(), what
            if value.dtype == object and value.ndim == 1:
                right = model.right["serving_default"][key]
                assert value[[0, 2]].tolist() == right.tolist(), what  # an invalid neighbour changes nothing
            [part.decode("utf-8") for part in value.ravel() if value.dtype == object]


def test_message_shows_a_shortened_unknown_item(served):
    ratings = served("recommendation")
    said = ratings.ask("rating", user_id=texts("a"), item_id=texts(b"x" * MEGABYTE))
    assert re.search(r"^item_id <x{60}> is not one of the \d+ known items. Send an id of items.txt", said)
    said = ratings.ask("rating", user_id=texts("a"), item_id=texts(b"\xff\0\x1b[31m"))
    assert "is not one of the" in said and "\0" not in said and "\x1b" not in said


# --- Series -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "family", ["series", *(pytest.param(f, marks=pytest.mark.slow) for f in ("attention", "forecast"))]
)
def test_extreme_values_of_series_are_rejected_or_finite(served, family):
    model = served(family)
    good = model.good["serving_default"]["series"].numpy()

    def ask(value, where=(0, 0, 0)):
        changed = good.copy()
        changed[where] = value
        return model.ask(series=changed)

    for value in (np.inf, -np.inf, 1e38, -3e38):
        said = ask(value)
        assert re.search(
            "series holds a value that is infinite or more than 1,000,000 standard dev.*Send numbers", said
        )
    for value, where in ((np.nan, (0, 0, 0)), (np.nan, ...), (1e-45, (0, 0, 0)), (np.nan, (0, slice(None)))):
        for output in ask(value, where).values():
            assert output.dtype == object or np.isfinite(output).all()
    with little(seconds=20, megabytes=400):
        answer = model.ask(series=np.repeat(good[:1, :1], 20_000, axis=1))
    assert all(len(output) == 1 for output in answer.values())


# --- Random requests --------------------------------------------------------------------------------------------------

FILES = [encoded(NOISE), JPEG, PROGRESSIVE, GIF, BMP, CMYK, interlaced_png(NOISE)]


@st.composite
def damaged(draw, contents):
    """Changes, removes or repeats some bytes of a file, or truncates it."""
    content = bytearray(draw(st.sampled_from(contents)))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.one_of(st.integers(0, 40), st.integers(0, len(content))))
        what = draw(st.sampled_from(["change", "cut", "leave out", "double", "insert"]))
        if what == "change":
            content[place : place + 1] = draw(st.binary(min_size=1, max_size=4))
        elif what == "cut":
            del content[place:]
        elif what == "leave out":
            del content[place : place + draw(st.integers(1, 30))]
        elif what == "double":
            content[place:place] = content[place : place + draw(st.integers(1, 300))]
        else:
            content[place:place] = draw(st.binary(max_size=20))
    return bytes(content)


STRINGS = st.one_of(
    st.binary(max_size=40),
    st.text(max_size=40).map(str.encode),
    damaged(FILES),
    damaged([t[:300] for t in TEXTS.values() if t]),
)
DTYPES = ("float32", "int32", "int64", "float64", "bool")


@st.composite
def tensors(draw, spec, rows):
    """Draws a tensor that usually matches the input of a signature."""
    if draw(st.integers(0, 9)) == 0:  # a mismatch
        dtype = draw(st.sampled_from(DTYPES))
        return draw(arrays.arrays(dtype, arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)))
    if spec.dtype == tf.string:
        return texts(*draw(st.lists(STRINGS, min_size=rows, max_size=rows)))
    shape = [rows, *(draw(st.integers(0, 6)) if side is None else side for side in spec.shape[1:])]
    numbers = st.integers(-(2**31), 2**31 - 1) | st.integers(0, 60) if spec.dtype.is_integer else st.floats(width=32)
    return draw(arrays.arrays(spec.dtype.as_numpy_dtype, tuple(shape), elements=numbers))


def sweep(model, examples):
    """Calls every signature; outputs must have one row per request, and serving signatures return no NaN."""

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def ask(data):
        signature = data.draw(st.sampled_from(sorted(model.signatures)))
        count = data.draw(st.integers(0, 3))
        request = {name: data.draw(tensors(spec, count)) for name, spec in model.specs(signature).items()}
        with little(seconds=5, megabytes=1000):
            answer = model.ask(signature, **request)
        seen.append(isinstance(answer, str))
        if isinstance(answer, str):
            assert len(answer) > 10
            return
        for value in answer.values():
            assert len(value) == count
            if value.dtype != object and not signature.startswith("predict"):
                assert np.isfinite(value).all()

    seen = []
    ask()
    assert True in seen and False in seen  # proves that the sweep covered both outcomes


@every_family
def test_random_requests_succeed_or_are_rejected(served, family):
    sweep(served(family), 20)


@pytest.mark.slow
@pytest.mark.parametrize("family", MODELS)
def test_many_random_requests_succeed_or_are_rejected(served, family):
    sweep(served(family), 400)
