"""Augmentation compared with NumPy, image by image. The random numbers of a batch depend only on its index."""

from __future__ import annotations

import itertools
import random

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import zoo
from selection import slow
from zoo.errors import UsageError
from zoo.training.augmentation import MIXING, NAMES, _change_batch, _operations, augment, check_augmentation
from zoo.training.image_draws import Draws
from zoo.training.run_checks import check_images

GREY, COLOUR = (12, 10, 1), (12, 10, 3)
shapes = pytest.mark.parametrize("shape", [GREY, COLOUR], ids=["grey", "colour"])


def some_images(count, shape=GREY, seed=0):
    """Returns images in which all values differ, so that every pixel identifies its origin."""
    return np.random.default_rng(seed).uniform(0.05, 0.95, (count, *shape)).astype(np.float32)


def augmented(images, names, *, batch_size=None, seed=7, epoch=2, start=0, num_classes=None, skip=0, weights=()):
    """Returns the batches. The class of an image is its number, so a mixed target identifies the mixed images."""
    count = len(images)
    num_classes = num_classes or (count if set(names) & set(MIXING) else 1)
    data = tf.data.Dataset.from_tensor_slices((images, np.arange(count), *weights)).batch(batch_size or count)
    arguments = {"seed": seed, "epoch": epoch, "start": start, "num_classes": num_classes}
    batches = augment(data.map(named).skip(skip), names, **arguments).map(unnamed)
    return list(batches.as_numpy_iterator())


@tf.autograph.experimental.do_not_convert
def named(images, targets, *weights):
    """Returns a batch in the trainer's format."""
    return {"image": images}, {"label": targets}, {"label": weights[0]} if weights else {}


@tf.autograph.experimental.do_not_convert
def unnamed(images, targets, weights):
    """Inverts `named`."""
    return (images["image"], targets["label"], *weights.values())


def assert_equal_bits(batches, others):
    for batch, other in zip(batches, others, strict=True):
        for values, same in zip(batch, other, strict=True):
            assert values.dtype == same.dtype
            np.testing.assert_array_equal(values, same)


# --- Dependencies of the random numbers ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [*(pytest.param([name], marks=pytest.mark.slow) for name in ("mixup", "cutmix")), list(NAMES)],
    ids="-".join,
)
def test_a_resumed_epoch_continues_with_the_same_batches(names):
    images = some_images(12, COLOUR)
    whole = augmented(images, names, batch_size=5)
    assert_equal_bits(augmented(images, names, batch_size=5, start=1, skip=1), whole[1:])


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n == "rand_augment" else n for n in NAMES])
def test_seed_epoch_and_position_each_change_the_random_numbers(name):
    images = np.tile(some_images(8, COLOUR), (3, 1, 1, 1))
    results = [
        batch[0]
        for other in ({}, {"seed": 8}, {"epoch": 3})
        for batch in augmented(images, [name], batch_size=8, **other)
    ]
    assert len(results) == 9
    for one, another in itertools.combinations(results, 2):
        assert not np.array_equal(one, another)


def test_epoch_and_position_are_not_exchangeable():
    images = np.tile(some_images(8), (3, 1, 1, 1))
    early, late = (augmented(images, ["crop"], batch_size=8, epoch=epoch) for epoch in (1, 2))
    assert not np.array_equal(early[2][0], late[1][0])


@given(seed=st.integers(0, 2**32 - 1), epoch=st.integers(0, 10_000), start=st.integers(0, 3))
@settings(max_examples=4, deadline=None)
def test_an_epoch_can_resume_at_any_seed_epoch_and_batch(seed, epoch, start):
    images = some_images(10)
    whole = augmented(images, ["flip", "crop"], batch_size=3, seed=seed, epoch=epoch)
    rest = augmented(images, ["flip", "crop"], batch_size=3, seed=seed, epoch=epoch, start=start, skip=start)
    assert_equal_bits(rest, whole[start:])


def test_batches_are_independent_of_precision_and_other_random_numbers():
    data = tf.data.Dataset.from_tensor_slices((some_images(12, COLOUR), np.arange(12))).batch(4)

    def changed(times=1):
        batches = augment(data.map(named), NAMES, seed=1, epoch=1, start=0, num_classes=12).map(unnamed)
        return [list(batches.as_numpy_iterator()) for _ in range(times)]

    def drawn_elsewhere():
        return random.random(), np.random.random(), float(keras.random.uniform(())), float(tf.random.uniform(()))

    keras.utils.set_random_seed(3)
    first, second = changed(times=2)
    after = drawn_elsewhere()
    keras.utils.set_random_seed(3)
    assert drawn_elsewhere() == after, "other random numbers are used up"
    before = keras.config.floatx(), keras.config.dtype_policy(), keras.config.image_data_format()
    try:
        keras.config.set_floatx("float64")
        keras.config.set_dtype_policy("mixed_bfloat16")
        keras.config.set_image_data_format("channels_first")
        _change_batch.cache_clear()  # layers and graph are built again
        (third,) = changed()
        assert keras.config.floatx() == "float64"
    finally:
        keras.config.set_floatx(before[0])
        keras.config.set_dtype_policy(before[1])
        keras.config.set_image_data_format(before[2])
    assert_equal_bits(first, second)
    assert_equal_bits(first, third)


def stateful_operations(function):
    definition = function.graph.as_graph_def()
    nodes = [*definition.node, *(node for part in definition.library.function for node in part.node_def)]
    return {node.op for node in nodes if "Variable" in node.op or node.op.startswith("Random")}


def test_no_variable_is_read_or_written():
    spec = tf.TensorSpec((None, *COLOUR))
    change = _change_batch(NAMES, COLOUR, 12)
    traced = change.get_concrete_function(spec, tf.TensorSpec((None,), tf.int64), None, tf.TensorSpec((2,), tf.int32))
    assert not traced.captured_inputs
    assert not stateful_operations(traced)
    flip = keras.layers.RandomFlip(seed=0)  # proves that the search finds the variable of a Keras layer
    keras_own = tf.function(lambda images: flip(images, training=True)).get_concrete_function(spec)
    assert {"ReadVariableOp", "AssignVariableOp"} <= stateful_operations(keras_own)


# --- Independence of the images in a batch ---------------------------------------------------------------------------


@shapes
def test_flip_mirrors_some_images_horizontally(shape):
    images = some_images(200, shape)
    ((changed, targets),) = augmented(images, ["flip"])
    flipped = [np.array_equal(one, image[:, ::-1]) for one, image in zip(changed, images, strict=True)]
    same = [np.array_equal(one, image) for one, image in zip(changed, images, strict=True)]
    assert all(a != b for a, b in zip(flipped, same, strict=True))
    assert 70 < sum(flipped) < 130
    np.testing.assert_array_equal(targets, np.arange(200))


@pytest.mark.parametrize(("shape", "most"), [((16, 24, 3), (2, 3)), ((8, 5, 1), (1, 1)), ((28, 1, 1), (4, 0))])
def test_crop_shifts_every_image_by_whole_pixels(shape, most):
    images = some_images(600, shape)
    ((changed, _),) = augmented(images, ["crop"])
    padded = np.pad(images, ((0, 0), (most[0], most[0]), (most[1], most[1]), (0, 0)))
    counts = {}
    found = np.zeros(600, bool)
    for down, right in itertools.product(range(2 * most[0] + 1), range(2 * most[1] + 1)):
        window = padded[:, down : down + shape[0], right : right + shape[1]]
        here = (changed == window).all(axis=(1, 2, 3))
        counts[down, right] = here.sum()
        found |= here
    assert found.all()
    assert sum(counts.values()) == 600  # no image matches two windows
    expected = 600 / len(counts)
    assert min(counts.values()) > expected - 4 * expected**0.5
    assert max(counts.values()) < expected + 4 * expected**0.5


@pytest.mark.parametrize("shape", [slow(GREY), COLOUR], ids=["grey", "colour"])
def test_rand_augment_changes_images_and_stays_in_range(shape):
    images = some_images(300, shape)
    ((changed, _),) = augmented(images, ["rand_augment"])
    assert changed.shape == images.shape
    assert changed.dtype == np.float32
    assert changed.min() >= 0
    assert changed.max() <= 1
    different = (changed != images).any(axis=(1, 2, 3)).mean()
    assert 0.96 < different < 1  # 1 of 14 x 14 pairs is the identity twice


def test_rand_augment_draws_operations_and_strengths_per_image():
    plain = np.full((200, *COLOUR), 0.45, np.float32)
    ((changed, _),) = augmented(plain, ["rand_augment"])
    moved = (changed == 0).any(axis=(1, 2, 3))  # the moved-in border is black
    constant = changed.max(axis=(1, 2, 3)) - changed.min(axis=(1, 2, 3)) < 1e-6
    levels = changed[constant, 0, 0, 0].round(3)
    assert moved.sum() > 60
    assert constant.sum() > 20
    assert len(set(levels)) > 10


def operated(name, images):
    return _operations(*images.shape[1:])[name](tf.constant(images), Draws(tf.constant([1, 2]))).numpy()


def levels(count=40, shape=(11, 13, 3)):
    """Returns images whose values lie between two of the 256 levels, so that rounding cannot change a level."""
    whole = np.random.default_rng(2).integers(40, 215, (count, *shape))
    return ((whole + 0.5) / 255).astype(np.float32)


def grey_of(images):
    return np.repeat(images @ np.array([[0.2989], [0.587], [0.114]]), 3, axis=-1)


def smooth_of(images):
    height, width = images.shape[1:3]
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = [padded[:, i : i + height, j : j + width] for i, j in itertools.product(range(3), range(3))]
    return (sum(windows) + 4 * images) / 13


@pytest.mark.parametrize(
    ("name", "towards", "least", "most"),
    [
        ("brightness", lambda images: images + 1, -0.3, 0.3),
        ("contrast", lambda images: images.mean(axis=(1, 2), keepdims=True), -0.9, 0.9),
        ("sharpness", smooth_of, -0.9, 0.9),
        ("color", grey_of, -0.9, 0.9),
    ],
)
def test_strengths_are_drawn_per_image(name, towards, least, most):
    """The strength moves each image towards or away from another image. Both ends of the range occur."""
    images = levels()
    images = 0.4 + 0.2 * images  # few values are clipped at 0 and 1
    step = (towards(images) - images).reshape(40, -1)
    moved = (operated(name, images) - images).reshape(40, -1)
    shares = (moved * step).sum(axis=1) / (step**2).sum(axis=1)
    np.testing.assert_allclose(moved, shares[:, None] * step, atol=1e-5)
    assert least <= shares.min() < least + 0.2 * (most - least)
    assert most - 0.2 * (most - least) < shares.max() <= most


def test_pixel_value_operations_equal_numpy():
    images = levels()
    low, high = images.min(axis=(1, 2), keepdims=True), images.max(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(operated("auto_contrast", images), (images - low) / (high - low), atol=1e-5)
    np.testing.assert_array_equal(operated("identity", images), images)

    whole = np.floor(images * 255).astype(int)
    kept = [256 >> bits for bits in (4, 5, 6, 7)]
    found = operated("posterize", images) * 255
    each = np.array([[np.allclose(f, w // k * k, atol=1e-3) for k in kept] for f, w in zip(found, whole, strict=True)])
    assert each.any(axis=1).all()
    assert each.any(axis=0).all()

    images = np.where(np.abs(images - 0.5) < 0.01, np.float32(0.1), images)  # 0.5 equals its inverse
    found = operated("solarize", images)
    inverted = ~np.isclose(found, images, atol=1e-6)
    np.testing.assert_allclose(found[inverted], 1 - images[inverted], atol=1e-6)
    for image, where in zip(images, inverted, strict=True):
        assert image[~where].max(initial=0) <= image[where].min(initial=1)
    assert 0.2 < inverted.mean() < 0.8


def test_equalize_treats_each_image_separately():
    images = levels(8)
    whole = np.floor(images * 255).astype(int)
    found = operated("equalize", images) * 255
    for image, channel in itertools.product(range(8), range(3)):
        values = whole[image, ..., channel]
        below = np.cumsum(np.bincount(values.ravel(), minlength=256))
        first = below[values.min()]
        table = np.round((below - first) * 255 / (values.size - first))
        np.testing.assert_allclose(found[image, ..., channel], table[values], atol=1.01)
        assert (np.abs(found[image, ..., channel] - table[values]) < 1e-3).mean() > 0.98  # halves round differently


def test_geometric_operations_keep_their_axis_and_use_both_directions():
    images = some_images(60, (11, 13, 1))
    np.testing.assert_allclose(operated("shear_x", images)[:, 0], images[:, 0], atol=1e-6)
    np.testing.assert_allclose(operated("shear_y", images)[:, :, 0], images[:, :, 0], atol=1e-6)
    np.testing.assert_allclose(operated("rotate", images)[:, 5, 6], images[:, 5, 6], atol=1e-3)
    rows = np.repeat(images[:, :, :1], 13, axis=2)
    columns = np.repeat(images[:, :1], 11, axis=1)
    np.testing.assert_allclose(operated("translate_x", columns), operated("translate_x", columns)[:, :1] + 0 * columns)
    np.testing.assert_allclose(operated("translate_y", rows), operated("translate_y", rows)[:, :, :1] + 0 * rows)
    white = np.ones((60, 11, 13, 1), np.float32)
    corners = {"shear_x": (-1, 0), "shear_y": (0, -1), "translate_x": (5, 0), "translate_y": (0, 6), "rotate": (5, 0)}
    for name, (row, column) in corners.items():
        changed = operated(name, white)
        assert changed.min() == 0, name
        empty = changed[:, row, column, 0] < 0.5, changed[:, -1 - row, -1 - column, 0] < 0.5
        if name.startswith("translate"):
            assert all(10 < side.sum() < 50 for side in empty), name
        assert changed.mean() > 0.7, f"{name} leaves little of the image"


def test_colour_operation_is_omitted_for_grey_images():
    assert set(_operations(*COLOUR)) - set(_operations(*GREY)) == {"color"}
    assert len(_operations(*COLOUR)) == 14


def test_unmixed_images_are_independent_of_their_batch():
    images = some_images(256, COLOUR)
    others = images.copy()
    others[::2] = some_images(128, COLOUR, seed=1) ** 2
    ((changed, _),), ((beside, _),) = augmented(images, ["rand_augment"]), augmented(others, ["rand_augment"])
    np.testing.assert_array_equal(changed[1::2], beside[1::2])


def test_augmentations_are_applied_in_the_given_order():
    """A crop followed by a flip shifts in the opposite direction of a flip followed by a crop."""
    images = some_images(64)
    ((flip_first, _),), ((crop_first, _),) = (augmented(images, n) for n in (["flip", "crop"], ["crop", "flip"]))
    ((flipped, _),), ((cropped, _),) = (augmented(images, n) for n in (["flip"], ["crop"]))
    was_flipped = (flipped != images).any(axis=(1, 2, 3))
    expected = np.where(was_flipped[:, None, None, None], cropped[:, :, ::-1], cropped)
    np.testing.assert_array_equal(crop_first, expected)
    assert not np.array_equal(flip_first, crop_first)


# --- Mixing of two images --------------------------------------------------------------------------------------------


def partners(targets):
    """Returns each image's partner and the weight of its own target, for targets that number the images."""
    own = np.diagonal(targets)
    rest = targets - np.diag(own)
    return rest.argmax(axis=1), own, rest.max(axis=1) > 0


def test_mixup_uses_the_same_weights_for_images_and_targets():
    images = some_images(400, (3, 4, 3))
    ((changed, targets),) = augmented(images, ["mixup"])
    np.testing.assert_allclose(targets.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(changed.reshape(400, -1), targets @ images.reshape(400, -1), atol=1e-5)
    other, own, mixed = partners(targets)
    assert mixed.sum() > 350
    assert len(set(other[mixed])) == mixed.sum(), "every image is used once"
    # Beta(0.2, 0.2): mean 1/2, variance 1 / (4 x (2 x 0.2 + 1))
    assert own[mixed].mean() == pytest.approx(0.5, abs=0.07)
    assert own[mixed].var() == pytest.approx(0.25 / 1.4, abs=0.03)


@shapes
def test_cutmix_pastes_a_rectangle_and_weights_targets_by_area(shape):
    images = some_images(400, shape)
    ((changed, targets),) = augmented(images, ["cutmix"])
    other, own, mixed = partners(targets)
    np.testing.assert_allclose(targets.sum(axis=1), 1, atol=1e-6)
    for index in range(400):
        kept = (changed[index] == images[index]).all(axis=-1)
        if mixed[index]:
            pasted = (changed[index] == images[other[index]]).all(axis=-1)
            np.testing.assert_array_equal(pasted, ~kept)
            rows, columns = pasted.any(axis=1), pasted.any(axis=0)
            np.testing.assert_array_equal(pasted, np.outer(rows, columns))
            assert np.flatnonzero(np.diff(rows)).size <= 2  # the rectangle has no gap
            assert np.flatnonzero(np.diff(columns)).size <= 2
        else:
            assert kept.all()
        assert own[index] == pytest.approx(kept.mean(), abs=1e-6)
    assert mixed.sum() > 350
    assert own[mixed].mean() == pytest.approx(0.5, abs=0.07)  # Beta(1, 1)


def test_each_batch_uses_either_mixup_or_cutmix():
    images = some_images(160)
    kinds = []
    for index, (changed, targets) in enumerate(augmented(images, ["mixup", "cutmix"], batch_size=8)):
        own = images[8 * index : 8 * index + 8]
        targets = targets[:, 8 * index : 8 * index + 8]
        other, _, _ = partners(targets)
        pasted = ((changed == own) | (changed == own[other])).all()
        blended = np.allclose(changed.reshape(8, -1), targets @ own.reshape(8, -1), atol=1e-5)
        assert pasted != blended
        kinds.append(pasted)
    assert 3 < sum(kinds) < 17


@pytest.mark.parametrize("name", MIXING)
def test_sample_weights_are_mixed_with_their_targets(name):
    images = some_images(50)
    weights = np.random.default_rng(1).uniform(0, 3, 50)
    weights[::5] = 0
    ((plain, shares),) = augmented(images, [name])
    ((changed, targets, mixed),) = augmented(images, [name], weights=(weights,))
    np.testing.assert_array_equal(changed, plain)
    assert mixed.dtype == weights.dtype
    np.testing.assert_allclose(mixed, shares @ weights, atol=1e-5)
    # The cross-entropy of a mixture is the mixture of the losses of its two examples.
    np.testing.assert_allclose(targets * mixed[:, None], shares * weights, atol=1e-5)
    assert not np.isnan(targets).any()


def test_sample_weights_are_unchanged_without_mixing():
    weights = np.linspace(0, 1, 9)
    ((_, targets, kept),) = augmented(some_images(9), ["flip"], weights=(weights,))
    np.testing.assert_array_equal(kept, weights)
    np.testing.assert_array_equal(targets, np.arange(9))


def test_targets_of_an_unknown_class_become_nan():
    ((_, targets),) = augmented(some_images(4), ["cutmix"], num_classes=3)
    assert np.isnan(targets).any(axis=1).sum() in (1, 2)  # the image of class 3 and the image that received its patch


# --- Shapes, types, messages -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shape"),
    [*((name, COLOUR) for name in NAMES), pytest.param("rand_augment", GREY, marks=pytest.mark.slow)],
)
def test_small_batches_are_augmented(name, shape):
    images = some_images(7, shape)
    batches = augmented(images, [name], batch_size=3)
    assert [len(batch[0]) for batch in batches] == [3, 3, 1]
    for changed, targets in batches:
        assert changed.shape[1:] == shape
        assert changed.dtype == np.float32
        assert targets.shape == ((len(changed), 7) if name in MIXING else (len(changed),))
    if name in MIXING:  # an image that is alone in its batch is mixed with itself
        np.testing.assert_allclose(batches[-1][0], images[6:], atol=1e-6)
        np.testing.assert_allclose(batches[-1][1], np.eye(7)[6:], atol=1e-6)


def test_structure_and_dtypes_are_preserved():
    inputs = some_images(4, COLOUR).astype(np.float64)
    labels = np.arange(4, dtype=np.int32)
    for weights in ({}, {"label": np.ones(4, np.float32)}):
        data = tf.data.Dataset.from_tensors(({"image": inputs}, {"label": labels}, weights))
        plain = augment(data, ["flip"], seed=0, epoch=0, start=0, num_classes=4)
        assert plain.element_spec == data.element_spec
        mixed = augment(data, ["crop", "mixup"], seed=0, epoch=0, start=0, num_classes=9)
        images, targets, rest = next(iter(mixed))
        assert images["image"].dtype == tf.float64
        assert targets["label"].dtype == tf.float32
        assert targets["label"].shape == (4, 9)
        assert {name: w.shape.as_list() for name, w in rest.items()} == {key: [4] for key in weights}
    assert augment(data, [], seed=0, epoch=0, start=0, num_classes=4) is data


def spec(shape=(None, 8, 8, 3), dtype=tf.float32, labels=((None,), tf.int64), **others):
    """Returns the element spec of a batch."""
    return {"image": tf.TensorSpec(shape, dtype)}, {"label": tf.TensorSpec(*labels), **others}, {}


IMAGES = spec()


@pytest.mark.parametrize(
    ("names", "element_spec", "message"),
    [
        ("flip", IMAGES, r"augmentation is 'flip'; expected a list of names. Pass augmentation=\['flip'\], say."),
        (["flop"], IMAGES, "Unknown augmentation 'flop'. Did you mean 'flip'?"),
        ([3], IMAGES, "Unknown augmentation 3. Valid: crop, cutmix, flip, mixup, rand_augment."),
        (["flip", "crop", "flip"], IMAGES, "augmentation names 'flip' twice; expected it once. Remove one of the two."),
        (["mixup", "crop"], IMAGES, "'crop' after 'mixup' or 'cutmix': .* last. Put 'crop' before them."),
        (["flip"], spec((None, 28, 28)), r"the model's inputs are float32 \(None, 28, 28\)."),
        (
            ["flip"],
            spec(dtype=tf.int32),
            "inputs are int32 .* Choose a model that takes",
        ),
        (
            ["flip"],
            ({**IMAGES[0], "b": IMAGES[0]["image"]}, *IMAGES[1:]),
            "the model's inputs are image, b. Choose a model",
        ),
        (["flip"], spec(box=tf.TensorSpec((None, 4))), "have the targets label, box; .* Leave augmentation out"),
        (["crop"], spec((None, None, 8, 3)), "images of one size; .* input_shape without null"),
        (["rand_augment"], spec((None, 8, 8, 2)), "have 2 channels. Leave 'rand_augment' out."),
        (["cutmix"], spec(labels=((None, 8), tf.int64)), r"targets are int64 \(None, 8\). Leave 'cutmix'"),
        (["mixup"], spec(labels=((None,),)), r"targets are float32 \(None,\). Leave 'mixup' out."),
    ],
)
def test_unsupported_batches_and_augmentations_are_rejected(names, element_spec, message):
    with pytest.raises(UsageError, match=message) as caught:
        check_augmentation(names, element_spec)
    assert "\n" not in str(caught.value)


def test_resized_white_images_are_accepted(tmp_path):
    """Resizing gives values such as 1.0000001, which were rejected."""
    for i in range(20):
        (tmp_path / "ab"[i % 2]).mkdir(exist_ok=True)
        Image.new("RGB", (97, 61), (255, 255, 255 - i)).save(tmp_path / "ab"[i % 2] / f"{i}.png")
    prepared = zoo.datasets.load(f"images:{tmp_path}").prepare("mlp", input_shape=(32, 32, 3))
    (images,) = next(iter(prepared.batches("train", 64)))[0].values()
    assert 1 < np.max(images) < 1.00001
    check_images(zoo.TrainConfig(augmentation=["crop"]), prepared)


def test_augment_rejects_unknown_names():
    with pytest.raises(UsageError, match="Did you mean 'mixup'"):
        augmented(some_images(2), ["mixupp"])


@given(st.lists(st.sampled_from(NAMES), max_size=5))
def test_valid_lists_have_no_repetition_and_mix_last(names):
    kinds = [name in MIXING for name in names]
    if len(set(names)) == len(names) and kinds == sorted(kinds):
        check_augmentation(names, IMAGES)
    else:
        with pytest.raises(UsageError):
            check_augmentation(names, IMAGES)


def test_geometric_and_mixing_augmentations_accept_any_number_of_channels():
    images = some_images(5, (6, 6, 4))
    ((changed, _),) = augmented(images, ["flip", "crop", "cutmix"])
    assert changed.shape == images.shape
