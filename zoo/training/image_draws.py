"""Random changes of images that depend on the seed and on the place of an image in its batch, on nothing else."""

from __future__ import annotations

from collections.abc import Callable

import keras
import tensorflow as tf

PLACED = frozenset({"flip", "crop"})
"""What changes some rows of a batch as it would in the whole batch."""

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


def flip(height: int, width: int, channels: int) -> Change:
    """Mirrors every other image, as Keras's RandomFlip draws it."""

    def change(images: tf.Tensor, draws: Draws) -> tf.Tensor:
        mirrored = draws.of_rows(keras.random.uniform((draws.size, 1, 1, 1), seed=draws) <= 0.5)
        return tf.where(mirrored, images[:, :, ::-1], images)

    return change


def crop(height: int, width: int, channels: int) -> Change:
    """Shifts every image by its own number of pixels: Keras's RandomCrop would cut all images of a batch at the same place.
    Its RandomTranslation, which draws the same, interpolates, which takes longer than reading pixels."""

    def drawn(size: int, draws: Draws) -> tf.Tensor:
        most = min(max(1, round(size / 8)), size - 1)  # pixels
        factor = (most + 0.5) / size  # rounded to whole pixels, so that every shift is as likely
        shift = keras.random.uniform((draws.size, 1), -factor, factor, seed=draws) * size
        return tf.cast(tf.clip_by_value(tf.round(draws.of_rows(shift)), -most, most), tf.int32)  # (batch, 1)

    def change(images: tf.Tensor, draws: Draws) -> tf.Tensor:
        for axis, size in ((1, height), (2, width)):
            source = tf.range(size) - drawn(size, draws)  # (batch, size)
            inside = tf.reshape((source >= 0) & (source < size), [-1, *(size if axis == i else 1 for i in (1, 2)), 1])
            images = tf.gather(images, tf.clip_by_value(source, 0, size - 1), axis=axis, batch_dims=1)
            images = tf.where(inside, images, 0.0)
        return images

    return change
