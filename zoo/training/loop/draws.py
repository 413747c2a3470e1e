"""Random draws of layers that depend on the seed, the step and the row of the global batch, not on the devices.

Keras's layers draw one array for all rows that they are given. A device that holds some rows of a batch would draw other
numbers for them than a device that holds all rows. TensorFlow's generator (Philox) counts: its n-th number can be computed
without the numbers before it. So each part of a batch draws exactly those numbers that its rows would get in the whole batch.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf
from keras.src import backend  # keras.random calls these functions there; no public name can be replaced

_PART_STRIDE = 0x9E3779B1  # a large odd number, so that the seeds of parts are far apart
_MODULE: Any = backend.random


class _Here(threading.local):
    """What the replica that is being traced in this thread computes."""

    def __init__(self) -> None:
        self.first: Any = None  # number of its first row in the global batch, None where it is not known
        self.rows: Any = None  # number of its rows
        self.part: Any = 0  # number of the part, over all replicas
        self.placed = False  # whether the draw that takes a seed is one of `_placed_draws`


_here = _Here()


@contextlib.contextmanager
def rows_of_batch(first: tf.Tensor, rows: tf.Tensor, part: Any) -> Iterator[None]:
    """Says, while the block traces a forward pass, which rows of the global batch it computes.

    Args:
        first: number of the first row, an integer scalar.
        rows: how many rows, an integer scalar.
        part: number of the part, different for all parts of a step.
    """
    before = _here.first, _here.rows, _here.part
    _here.first, _here.rows, _here.part = first, rows, part
    try:
        yield
    finally:
        _here.first, _here.rows, _here.part = before


def seed_generators(model: keras.Model) -> list[tuple[keras.random.SeedGenerator, str]]:
    """Returns the seed generators of a model's layers, each once, with the name of its layer."""
    found = {id(g): (g, layer.name) for layer in model._flatten_layers() for g in layer._seed_generators}
    return list(found.values())


class Draws:
    """The random draws of a model's layers while it is trained in several parts.

    Attributes:
        unplaced: names of the layers whose draws depend on how a batch is divided, because they take a seed for something
            else than the dropout, uniform or normal numbers of rows. Known after the first step was traced.

    Args:
        model: the model.
    """

    def __init__(self, model: keras.Model) -> None:
        self.generators = seed_generators(model)
        self.unplaced: list[str] = []

    def states(self) -> list[tf.Tensor]:
        """Returns the state of every generator, for `reset`."""
        return [tf.identity(generator.state.value) for generator, _ in self.generators]

    def reset(self, states: Sequence[tf.Tensor]) -> None:
        """Sets the generators back: all parts of a step draw with the same seeds, for other rows."""
        for (generator, _), state in zip(self.generators, states, strict=True):
            generator.state.assign(state)

    @contextlib.contextmanager
    def placed(self) -> Iterator[None]:
        """Replaces, while the block runs, the functions that layers draw with."""
        kept = {name: getattr(_MODULE, name) for name in _DRAWS}
        for generator, name in self.generators:
            generator.next = functools.partial(self._next, generator.next, name)
        for name, draw in _DRAWS.items():
            setattr(_MODULE, name, functools.partial(draw, kept[name]))
        try:
            yield
        finally:
            for name, draw in kept.items():
                setattr(_MODULE, name, draw)
            for generator, _ in self.generators:
                del generator.next

    def _next(self, draw: Callable[..., tf.Tensor], name: str, ordered: bool = True) -> tf.Tensor:
        """Returns the seed of a draw; one that does not follow the rows differs at least between the parts."""
        seed = draw(ordered)
        if _here.placed:
            return seed
        replica = tf.distribute.get_replica_context()
        if _here.first is None:
            part: Any = 0 if replica is None else replica.replica_id_in_sync_group
        else:
            part = _here.part
            if name not in self.unplaced:
                self.unplaced.append(name)
        part = tf.cast(part, seed.dtype)
        return seed + tf.stack([part * _stride(seed.dtype), tf.zeros_like(part)])


def _stride(dtype: tf.DType) -> tf.Tensor:
    """Returns the distance of the seeds of two parts; products with it wrap around in int32."""
    return tf.constant(_PART_STRIDE - 2**32 if dtype == tf.int32 else _PART_STRIDE, dtype)


def _uniform(
    original: Callable[..., Any], shape: Any, minval: Any = 0.0, maxval: Any = 1.0, dtype: Any = None, seed: Any = None
) -> Any:
    if not _has_place(seed):
        return original(shape, minval=minval, maxval=maxval, dtype=dtype, seed=seed)
    dtype = dtype or keras.config.floatx()
    low, high = tf.cast(minval, dtype), tf.cast(maxval, dtype)
    return _draw(tf.raw_ops.StatelessRandomUniformV2, shape, dtype, seed) * (high - low) + low


def _normal(
    original: Callable[..., Any], shape: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = None, seed: Any = None
) -> Any:
    if not _has_place(seed):
        return original(shape, mean=mean, stddev=stddev, dtype=dtype, seed=seed)
    dtype = dtype or keras.config.floatx()
    drawn = _draw(tf.raw_ops.StatelessRandomNormalV2, shape, dtype, seed)
    return drawn * tf.cast(stddev, dtype) + tf.cast(mean, dtype)


def _dropout(original: Callable[..., Any], inputs: Any, rate: float, noise_shape: Any = None, seed: Any = None) -> Any:
    if not _has_place(seed) or rate in (0.0, 1.0):
        return original(inputs, rate, noise_shape=noise_shape, seed=seed)
    if noise_shape is not None:
        whole = tf.shape(inputs)
        noise_shape = [whole[axis] if size is None else size for axis, size in enumerate(noise_shape)]

    def sample(shape: Any, dtype: Any) -> tf.Tensor:
        return _draw(tf.raw_ops.StatelessRandomUniformV2, shape, dtype, seed)

    return tf.nn.experimental.general_dropout(inputs, rate, sample, noise_shape)


_DRAWS: dict[str, Callable[..., Any]] = {"uniform": _uniform, "normal": _normal, "dropout": _dropout}


def _has_place(seed: Any) -> bool:
    return _here.first is not None and seed is not None


def _draw(operation: Callable[..., tf.Tensor], shape: Any, dtype: Any, seed: Any) -> tf.Tensor:
    """Returns the numbers of this part's rows, as the whole batch would draw them.

    The first axis counts rows, or a multiple of them, such as rows x heads. An axis of fixed length is none of rows: all
    parts then draw the same numbers. One of another length, such as all tokens of the rows, has no place in the whole batch:
    every part then draws its own numbers.
    """
    _here.placed = True
    try:
        seed = _MODULE._cast_seed(_MODULE.draw_seed(seed))
    finally:
        _here.placed = False
    dtype = tf.as_dtype(dtype)
    shape = tf.convert_to_tensor(shape, tf.int32)
    count, start = tf.reduce_prod(tf.cast(shape, tf.int64)), tf.constant(0, tf.int64)
    known = tf.zeros(shape).shape  # nothing is computed: its shape is inferred
    if known.rank and (known[0] is None or tf.executing_eagerly()):
        first, rows = tf.cast(_here.first, tf.int64), tf.cast(_here.rows, tf.int64)
        length = tf.cast(shape[0], tf.int64)
        follows = length % tf.maximum(rows, 1) == 0
        start = tf.where(follows, first * (count // tf.maximum(rows, 1)), start)
        # Tokens of all rows in one axis, say: no part may repeat the numbers of another.
        shift = tf.where(follows, tf.zeros_like(seed[0]), tf.cast(_here.part, seed.dtype) * _stride(seed.dtype))
        seed = seed + tf.stack([shift, tf.zeros_like(shift)])
    words = 2 if dtype == tf.float64 else 4  # numbers that one value of the counter gives
    key, counter = tf.raw_ops.StatelessRandomGetKeyCounter(seed=seed)
    moved = tf.bitcast(counter, tf.int64) + tf.stack([start // words, tf.zeros_like(start)])
    drawn = operation(
        shape=tf.expand_dims(count + start % words, 0),
        key=key,
        counter=tf.bitcast(moved, tf.uint64),
        alg=tf.raw_ops.StatelessRandomGetAlg(),
        dtype=dtype,
    )
    return tf.reshape(drawn[start % words :], shape)
