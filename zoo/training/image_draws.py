"""Random changes of images that depend on the seed and on the place of an image in its batch, on nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import keras
import tensorflow as tf

Change = Callable[[tf.Tensor, "Draws"], tf.Tensor]


class Draws(keras.random.SeedGenerator):
    """Gives Keras's random functions, one after the other, seeds that are computed from a key instead of a variable."""

    def __init__(self, key: tf.Tensor, size: tf.Tensor | None = None, places: tf.Tensor | None = None) -> None:
        # Not Keras's own __init__: it makes the variable, and with no seed asks Python's global random numbers for one.
        self._key, self._count = key, 0
        self._size, self._places = size, places

    @property
    def size(self) -> tf.Tensor:
        """The number of rows of the whole batch, which all draws are for."""
        return self._size

    def of_rows(self, draws: tf.Tensor) -> tf.Tensor:
        """Returns the draws of the rows that are there, from those of the whole batch."""
        return draws if self._places is None else tf.gather(draws, self._places)

    def next(self, ordered: bool = True) -> tf.Tensor:
        """Returns the next seed, int32 (2,)."""
        self._count += 1  # while the graph is traced: every draw of the graph gets a number of its own
        return mix_seed(self._key, self._count)


def mix_seed(key: tf.Tensor, number: int | tf.Tensor) -> tf.Tensor:
    """Returns a key, int32 (2,), that is made of another one and a number."""
    return tf.random.experimental.stateless_fold_in(key, tf.cast(number, tf.int32))


class _Source(NamedTuple):
    """Where the pixels of each image come from: column x from sign * x + left, row y from y + top; each int32 (batch,)."""

    sign: tf.Tensor
    left: tf.Tensor
    top: tf.Tensor


def _flip(source: _Source, height: int, width: int, draws: Draws) -> _Source:
    """Mirrors every other image, as Keras's RandomFlip draws it."""
    mirrored = draws.of_rows(keras.random.uniform((draws.size, 1, 1, 1), seed=draws) <= 0.5)[:, 0, 0, 0]
    left = source.left + source.sign * (width - 1)
    return _Source(tf.where(mirrored, -source.sign, source.sign), tf.where(mirrored, left, source.left), source.top)


def _crop(source: _Source, height: int, width: int, draws: Draws) -> _Source:
    """Shifts every image, as Keras's RandomTranslation draws it: Keras's RandomCrop would cut all images of a batch at the
    same place."""

    def drawn(size: int) -> tf.Tensor:
        most = min(max(1, round(size / 8)), size - 1)  # pixels
        factor = (most + 0.5) / size  # rounded to whole pixels, so that every shift is as likely
        shift = keras.random.uniform((draws.size, 1), -factor, factor, seed=draws) * size
        return tf.cast(tf.clip_by_value(tf.round(draws.of_rows(shift)), -most, most), tf.int32)[:, 0]

    down, right = drawn(height), drawn(width)
    return _Source(source.sign, source.left - source.sign * right, source.top - down)


_MOVES = {"flip": _flip, "crop": _crop}
PLACED = frozenset(_MOVES)
"""What changes some rows of a batch as it would in the whole batch."""


def moved(images: tf.Tensor, size: tuple[int, int], draws: Mapping[str, Draws]) -> tf.Tensor:
    """Mirrors and shifts images, all at once; what comes in is 0.

    Args:
        images: float32 (batch, height, width, channels).
        size: height and width.
        draws: the random numbers of each change, by its name in `PLACED`, in their order.
    """
    count = tf.shape(images)[0]
    source = _Source(tf.ones([count], tf.int32), tf.zeros([count], tf.int32), tf.zeros([count], tf.int32))
    for name, numbers in draws.items():
        source = _MOVES[name](source, *size, numbers)

    def bounds(first: tf.Tensor, sign: Any, length: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the first and the last place that is read, as parts of the length. They are moved inwards by a quarter of a
        pixel, so that no rounding decides which pixel is the nearest, or whether it is outside."""
        ends = tf.cast(tf.stack([first, first + sign * (length - 1)]), tf.float32)
        last = max(1, length - 1)
        return tf.unstack((0.25 + ends * (1 - 0.5 / last)) / last)

    height, width = size
    (top, bottom), (left, right) = bounds(source.top, 1, height), bounds(source.left, source.sign, width)
    boxes = tf.stack([top, left, bottom, right], axis=1)
    return tf.image.crop_and_resize(images, boxes, tf.range(count), size, method="nearest")
