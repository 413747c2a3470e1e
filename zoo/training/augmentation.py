"""Augmentation of training images: random flips, shifts, colours and mixtures that a killed run repeats bit for bit.

The transformations are those of Keras's preprocessing layers. Their random numbers are not: a layer draws from a
variable, so what it does depends on how often and in which order it was called before. Here every draw is a function of
(seed, epoch, number of the batch, which draw it is) alone. So a batch looks the same on every strategy, after a resume
in the middle of an epoch, and in whatever order the input pipeline works.

What Keras decides once per batch is decided for every image here: the shift of a crop, the operations of RandAugment.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from zoo.config_checks import AUGMENTATIONS as NAMES
from zoo.config_checks import MIXING, augmentations
from zoo.errors import UsageError
from zoo.kernels import traced
from zoo.training.image_draws import PLACED, Change, Draws, mix_seed, moved

_MIXUP_ALPHA = 0.2  # what the paper took for ImageNet
_OPERATIONS_PER_IMAGE = 2


def check_augmentation(names: Sequence[str], element_spec: Any) -> None:
    """Raises `UsageError` where batches cannot be augmented as asked.

    Args:
        names: some of `NAMES`.
        element_spec: what a batch is made of: inputs, targets and weights, each a dict of `tf.TensorSpec`.

    Raises:
        UsageError: not a list of names; a name that is unknown, there twice, or after one that mixes; inputs that are not
            one image of floating-point numbers; several targets; for RandAugment, other than 1 or 3 channels; for what
            mixes, targets that are not one class number for each image.

    Example:
        >>> spec = ({"image": tf.TensorSpec((None, 28, 28, 1))}, {"label": tf.TensorSpec((None,), tf.int64)}, {})
        >>> check_augmentation(["flop"], spec)
        Traceback (most recent call last):
        zoo.errors.UsageError: Unknown augmentation 'flop'. Did you mean 'flip'?
    """
    augmentations("augmentation", names)
    if not names:
        return
    all_inputs, all_targets, _ = element_spec
    inputs, *others = all_inputs.values()
    if others or inputs.shape.rank != 4 or not inputs.dtype.is_floating:
        held = ", ".join(all_inputs) if others else f"{inputs.dtype.name} {inputs.shape}"
        raise UsageError(
            f"augmentation is for images, floating-point (batch, height, width, channels); the model's inputs are {held}. "
            "Choose a model that takes images, or leave augmentation out."
        )
    targets, *others = all_targets.values()
    if others:
        raise UsageError(
            f"augmentation changes images, which have the targets {', '.join(all_targets)}; it is for images with one "
            "target. Leave augmentation out."
        )
    if None in inputs.shape[1:]:
        raise UsageError(
            f"augmentation needs images of one size; the model's inputs are {inputs.shape}. "
            "Pass an input_shape without null, or leave augmentation out."
        )
    if "rand_augment" in names and inputs.shape[-1] not in (1, 3):
        raise UsageError(
            f"augmentation 'rand_augment' takes grey or RGB images; these have {inputs.shape[-1]} channels. "
            "Leave 'rand_augment' out."
        )
    mixes = [name for name in names if name in MIXING]
    if mixes and (targets.shape.rank != 1 or not targets.dtype.is_integer):
        raise UsageError(
            f"augmentation {mixes[0]!r} takes one class number for each image, integers (batch,); the targets are "
            f"{targets.dtype.name} {targets.shape}. Leave {mixes[0]!r} out."
        )


def augment(
    dataset: tf.data.Dataset,
    names: Sequence[str],
    *,
    seed: int,
    epoch: int,
    start: int,
    num_classes: int,
) -> tf.data.Dataset:
    """Changes the images of a training split's batches at random.

    Apply it to global batches, before they are divided among replicas or workers. What happens to a batch depends on
    the seed, the epoch and the batch's number in the epoch, on nothing else. Every image of a batch is changed by draws
    of its own, in the order of `names`:

    - `flip` (left and right are exchanged) for every other image;
    - `crop` shifts by up to an eighth of height and width, in whole pixels; what comes in is 0 (He et al. 2016: pad by
      4 pixels, crop to 32x32);
    - `rand_augment` applies two of 14 operations on geometry and colour (13 for grey images), with strengths anywhere
      in the paper's ranges (Cubuk et al. 2020);
    - `mixup` mixes every image with another one of the batch by a weight from Beta(0.2, 0.2) (Zhang et al. 2018);
    - `cutmix` pastes a rectangle of another one, whose expected area is half of the image (Yun et al. 2019).

    With both `mixup` and `cutmix` a batch takes one of the two, by chance.

    Args:
        dataset: batches (inputs, targets, weights), each a dict: one input, floating-point (batch, height, width,
            channels) in 0 to 1; one target, for what mixes integers (batch,); no weights, or the target's, (batch,).
        names: some of `NAMES`, in order of application; none returns the data set itself.
        seed: of the run, 0 to 2**32 - 1.
        epoch: number of the epoch, from 0.
        start: number of the data set's first batch in the epoch, above 0 in a resumed run.
        num_classes: number of classes, for what mixes.

    Returns:
        Batches of the same structure; inputs of the same dtype and shape, in 0 to 1. With `mixup` or `cutmix` the targets
        are float32 (batch, num_classes), each row a distribution; and given weights are mixed as well, so that a mixed
        image costs what its parts would: an example of weight 0 has no say in the targets.

    Raises:
        UsageError: see `check_augmentation`.

    Example:
        >>> batches = tf.data.Dataset.from_tensors(({"image": tf.ones((2, 8, 8, 1))}, {"label": tf.constant([0, 1])}, {}))
        >>> batches = augment(batches, ["flip", "mixup"], seed=0, epoch=0, start=0, num_classes=2)
        >>> images, targets, _ = next(iter(batches))
        >>> images["image"].shape, targets["label"].shape
        (TensorShape([2, 8, 8, 1]), TensorShape([2, 2]))
    """
    check_augmentation(names, dataset.element_spec)
    if not names:
        return dataset
    inputs_spec, targets_spec, _ = dataset.element_spec
    ((image, spec),), (target,) = inputs_spec.items(), targets_spec
    change = _change_batch(tuple(names), tuple(spec.shape[1:]), num_classes)
    key = mix_seed(tf.constant(np.array([seed, 0], np.uint32).view(np.int32)), epoch)

    @tf.autograph.experimental.do_not_convert
    def one(position: tf.Tensor, batch: tuple[Any, ...]) -> tuple[Any, ...]:
        inputs, targets, weights = batch
        images, labels, given = change(inputs[image], targets[target], weights.get(target), mix_seed(key, position))
        images = tf.ensure_shape(images, inputs[image].shape)
        return {image: images}, {target: labels}, weights if given is None else {target: given}

    return dataset.enumerate(start).map(one, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def augment_share(
    dataset: tf.data.Dataset, names: Sequence[str], *, seed: int, epoch: int, start: int
) -> tf.data.Dataset:
    """Changes a worker's rows of each batch as `augment` changes them in the whole batch.

    Args:
        dataset: ((inputs, targets, weights), (places, real, size)), as `Prepared.share` returns it.
        names: some of `PLACED`.
        seed: as in `augment`, like `epoch` and `start`.

    Returns:
        Elements of the same structure.

    Example:
        >>> rows = prepared.share("train", 64, (0, 2, 2), seed=0, epoch=3, start=0)
        >>> rows = augment_share(rows, ["flip"], seed=0, epoch=3, start=0)
    """
    (inputs_spec, targets_spec, weights_spec), _ = dataset.element_spec
    check_augmentation(names, (inputs_spec, targets_spec, weights_spec))
    ((image, spec),) = inputs_spec.items()
    change = _change_batch(tuple(names), tuple(spec.shape[1:]), 0)
    key = mix_seed(tf.constant(np.array([seed, 0], np.uint32).view(np.int32)), epoch)

    @tf.autograph.experimental.do_not_convert
    def one(position: tf.Tensor, rows: tuple[Any, ...]) -> tuple[Any, ...]:
        (inputs, targets, weights), (places, real, size) = rows
        (target,) = targets
        images, labels, given = change(
            inputs[image], targets[target], weights.get(target), mix_seed(key, position), size, places
        )
        changed = {image: tf.ensure_shape(images, inputs[image].shape)}, {target: labels}
        return (*changed, weights if given is None else {target: given}), (places, real, size)

    return dataset.enumerate(start).map(one, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


@contextlib.contextmanager
def _single_precision() -> Iterator[None]:
    """Lets Keras draw in float32 whatever its default: its rotation fails in float64, and the draws would be others."""
    before = keras.config.floatx()
    keras.config.set_floatx("float32")
    try:
        yield
    finally:
        keras.config.set_floatx(before)


@functools.lru_cache(maxsize=16)
def _change_batch(names: tuple[str, ...], shape: tuple[int, int, int], num_classes: int) -> Callable[..., Any]:
    """Returns the function that augments a batch; it is kept, so that not every epoch traces it again.

    Args:
        names: checked.
        shape: (height, width, channels).
        num_classes: number of classes.
    """
    with _single_precision(), tf.init_scope(), tf.device("/cpu:0"):  # layers make variables, even if nothing reads them
        randomly = _rand_augment(*shape) if "rand_augment" in names else None
        mixers = [_MIXERS[name]() for name in names if name in MIXING]

    @functools.partial(traced, autograph=False)
    def change(
        inputs: tf.Tensor,
        targets: tf.Tensor,
        weights: tf.Tensor | None,
        key: tf.Tensor,
        size: tf.Tensor | None = None,
        places: tf.Tensor | None = None,
    ) -> Any:
        with _single_precision():
            images = tf.cast(inputs, tf.float32)
            whole = tf.shape(images)[0] if size is None else size

            def draws(name: str) -> Draws:  # a key for each name: the draws of one do not depend on the others
                return Draws(mix_seed(key, NAMES.index(name)), whole, places)

            for are_moves, group in itertools.groupby((n for n in names if n not in MIXING), PLACED.__contains__):
                if are_moves:
                    images = moved(images, shape[:2], {name: draws(name) for name in group})
                elif randomly is not None:
                    images = randomly(images, draws("rand_augment"))
            if mixers:
                images, targets, weights = _mix(
                    mixers, images, targets, weights, num_classes, mix_seed(key, len(NAMES))
                )
            return tf.cast(images, inputs.dtype), targets, weights

    return change


# --- Every image for itself ------------------------------------------------------------------------------------------

_LAYER = {"seed": 0, "dtype": "float32", "data_format": "channels_last"}  # without a seed, Keras asks Python for one


def _apply(layer: Any) -> Change:
    """Returns what a Keras layer does to images, with random numbers of ours."""

    def change(images: tf.Tensor, draws: Draws) -> tf.Tensor:
        transformation = layer.get_random_transformation(images, training=True, seed=draws)
        return layer.transform_images(images, transformation, training=True)

    return change


def _rand_augment(height: int, width: int, channels: int) -> Change:
    """RandAugment with Keras's layers for its operations.

    Keras's layer of that name takes the same two operations for all images of a batch, computes all of them to keep two,
    equalizes the histogram of the whole batch, and turns, moves and shears in one direction, by up to 180 degrees.
    """
    operations = list(_operations(height, width, channels).values())

    def once(images: tf.Tensor, draws: Draws) -> tf.Tensor:
        count = tf.shape(images)[0]
        chosen = keras.random.randint((count,), 0, len(operations), seed=draws)
        # Each operation gets the images that chose it, so that nothing is computed in vain.
        parts = tf.dynamic_partition(images, chosen, len(operations))
        places = tf.dynamic_partition(tf.range(count), chosen, len(operations))
        changed = [apply(part, draws) for apply, part in zip(operations, parts, strict=True)]
        return tf.ensure_shape(tf.dynamic_stitch(places, changed), images.shape)

    def change(images: tf.Tensor, draws: Draws) -> tf.Tensor:
        key = draws.next()
        # A loop of the graph, not of Python: every epoch pays for the size of the graph.
        _, images = tf.while_loop(
            lambda number, _: number < _OPERATIONS_PER_IMAGE,
            lambda number, images: (number + 1, once(images, Draws(mix_seed(key, number)))),
            (tf.constant(0), images),
        )
        return tf.clip_by_value(images, 0.0, 1.0)

    return change


def _operations(height: int, width: int, channels: int) -> dict[str, Change]:
    """Returns RandAugment's operations for images in 0 to 1."""
    layers = keras.layers
    moved = {"fill_mode": "constant", **_LAYER}
    ranged = {"value_range": (0, 1), **_LAYER}
    fixed = {key: value for key, value in ranged.items() if key != "seed"}
    equalize = _apply(layers.Equalization(**fixed))

    def equalize_each(images: tf.Tensor, draws: Draws) -> tf.Tensor:
        # One by one: Keras counts the values of all images of a batch into one histogram.
        one = tf.TensorSpec((height, width, channels))
        return tf.map_fn(lambda image: equalize(image[tf.newaxis], draws)[0], images, fn_output_signature=one)

    operations = {
        "identity": lambda images, draws: images,
        "shear_x": _apply(layers.RandomShear(0.3, 0.0, **moved)),
        "shear_y": _apply(layers.RandomShear(0.0, 0.3, **moved)),
        "translate_x": _apply(layers.RandomTranslation(0.0, 0.3, **moved)),
        "translate_y": _apply(layers.RandomTranslation(0.3, 0.0, **moved)),
        "rotate": _apply(layers.RandomRotation(30 / 360, **moved)),
        # Added, where the paper multiplies: its 0.9 would leave nothing to see.
        "brightness": _apply(layers.RandomBrightness(0.3, **ranged)),
        "contrast": _apply(layers.RandomContrast((0.9, 0.9), **ranged)),  # 0.1 to 1.9; a single number only raises it
        "sharpness": _apply(layers.RandomSharpness((0.05, 0.95), **ranged)),  # 0 smooths, 0.5 leaves, 1 sharpens
        "posterize": _apply(layers.RandomPosterization((4, 8), **ranged)),  # keeps 4 to 7 bits
        "solarize": _apply(layers.Solarization(0.0, 1.0, **ranged)),
        "color": _apply(layers.RandomColorDegeneration(0.9, **ranged)),
        "auto_contrast": _apply(layers.AutoContrast(**fixed)),
        "equalize": equalize_each,
    }
    if channels == 1:
        del operations["color"]  # there is none to take away
    return operations


# --- Two images into one ---------------------------------------------------------------------------------------------


class _MixUp:
    """Keras's MixUp: a weight for every image, and which other image it is mixed with."""

    def __init__(self) -> None:
        self.layer = keras.layers.MixUp(alpha=_MIXUP_ALPHA, **_LAYER)

    def draw(self, images: tf.Tensor, draws: Draws) -> dict[str, tf.Tensor]:
        return self.layer.get_random_transformation(images, training=True, seed=draws)


class _CutMix(_MixUp):
    """Keras's CutMix, with the weight of a target corrected to the pixels that were pasted."""

    def __init__(self) -> None:
        # Beta(1, 1). By default Keras draws the distribution's parameter for every batch, and where that comes out near
        # 0 the weights are 0 / 0: targets that are not numbers.
        self.layer = keras.layers.CutMix(factor=(1.0, 1.0), **_LAYER)

    def draw(self, images: tf.Tensor, draws: Draws) -> dict[str, tf.Tensor]:
        transformation = self.layer.get_random_transformation(images, training=True, seed=draws)
        # Keras weighs by the area before it is cut to whole pixels.
        pasted = tf.reduce_mean(tf.cast(transformation["batch_masks"][..., 0], tf.float32), axis=(1, 2))
        return {**transformation, "mix_weight": 1.0 - pasted}


_MIXERS: dict[str, type[_MixUp]] = {"mixup": _MixUp, "cutmix": _CutMix}


def _mix(
    mixers: Sequence[_MixUp],
    images: tf.Tensor,
    targets: tf.Tensor,
    weights: tf.Tensor | None,
    num_classes: int,
    key: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor | None]:
    """Returns images, targets (batch, num_classes) and weights, mixed by one of the mixers."""
    known = (targets >= 0) & (targets < num_classes)
    # A class that does not exist would be a row of zeros, which costs nothing; not a number is noticed.
    targets = tf.where(known[:, tf.newaxis], tf.one_hot(targets, num_classes, dtype=tf.float32), float("nan"))
    if weights is not None:
        share = tf.cast(weights, tf.float32)[:, tf.newaxis]
        targets = tf.concat([targets * share, share], axis=1)

    def by(index: int) -> Callable[[], tuple[tf.Tensor, tf.Tensor]]:
        def mixed() -> tuple[tf.Tensor, tf.Tensor]:
            layer, how = mixers[index].layer, mixers[index].draw(images, Draws(mix_seed(key, 1 + index)))
            mixture = layer.transform_images(images, how, training=True)
            return tf.clip_by_value(mixture, 0.0, 1.0), layer.transform_labels(targets, how, training=True)

        return mixed

    chosen = tf.random.stateless_uniform((), mix_seed(key, 0), maxval=len(mixers), dtype=tf.int32)
    images, targets = tf.switch_case(chosen, [by(index) for index in range(len(mixers))])
    if weights is None:
        return images, targets, None
    share = targets[:, num_classes:]
    return images, tf.math.divide_no_nan(targets[:, :num_classes], share), tf.cast(share[:, 0], weights.dtype)
