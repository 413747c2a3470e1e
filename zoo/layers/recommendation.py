"""Layers for recommenders: embeddings of known users and items, similar items, the rating, and a ranking."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import layers, ops

_TOP_K = 10
"""Items of a ranking."""


@keras.saving.register_keras_serializable("zoo")
class KnownEmbedding(layers.Layer):
    """A vector for every number from 1 to `count`. The number 0 stands for unknown and has the vector of zeros.

    There is no weight for the number 0, so it is never trained. int32 (batch,) becomes (batch, dim).

    Args:
        count: number of known users or items.
        dim: channels of a vector.
        deviation: standard deviation of the initial vectors; 0 starts at zero.
        l2: weight of the sum of squares of the whole table in the loss.

    Example:
        >>> layer = KnownEmbedding(count=2, dim=3, deviation=1.0)
        >>> layer(np.array([0, 2, 1])).shape, layer.count_params()
        (TensorShape([3, 3]), 6)
    """

    def __init__(self, count: int, dim: int, deviation: float = 0.0, l2: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.count, self.dim, self.deviation, self.l2 = count, dim, deviation, l2

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the table (count, dim)."""
        self.table = self.add_weight(
            shape=(self.count, self.dim),
            initializer=keras.initializers.RandomNormal(stddev=self.deviation) if self.deviation else "zeros",
            regularizer=keras.regularizers.L2(self.l2) if self.l2 else None,
            name="table",
        )

    def call(self, inputs: Any) -> Any:
        """Returns the vectors, in the layer's compute dtype."""
        rows = ops.take(self.table, ops.maximum(inputs - 1, 0), axis=0)
        return rows * ops.cast(ops.expand_dims(inputs > 0, -1), self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        own = {"count": self.count, "dim": self.dim, "deviation": self.deviation, "l2": self.l2}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable("zoo")
class SimilarItems(layers.Layer):
    """The similar items and the popularity by which items are ranked. It returns the item numbers that it is called with.

    Its weights are fitted and not trained. It is part of a model so that they are saved with it; functions of the model
    read them.

    Args:
        count: number of known items.
        neighbors: number of similar items that are kept for each item.

    Example:
        >>> layer = SimilarItems(count=4, neighbors=2)
        >>> layer(np.array([0, 3])).numpy().tolist(), [tuple(weight.shape) for weight in layer.weights]
        ([0, 3], [(4, 2), (4, 2), (4,), (), ()])
    """

    def __init__(self, count: int, neighbors: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.count, self.neighbors = count, neighbors

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the numbers of similar items, 0 for none, their similarities, the popularity, and the decay of a history:
        the factor by which an item of it counts less than the next one; and the power of the mean that sums of similarities
        are divided by."""
        fixed: dict[str, Any] = {"trainable": False, "autocast": False}
        shape = (self.count, self.neighbors)
        self.numbers = self.add_weight(shape=shape, dtype="int32", initializer="zeros", name="numbers", **fixed)
        self.similarities = self.add_weight(
            shape=shape, dtype="float32", initializer="zeros", name="similarities", **fixed
        )
        self.popularity = self.add_weight(
            shape=(self.count,), dtype="float32", initializer="zeros", name="popularity", **fixed
        )
        self.decay = self.add_weight(shape=(), dtype="float32", initializer="ones", name="decay", **fixed)
        self.mean_power = self.add_weight(shape=(), dtype="float32", initializer="ones", name="mean_power", **fixed)

    def call(self, inputs: Any) -> Any:
        """Returns the inputs."""
        return inputs

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "count": self.count, "neighbors": self.neighbors}


@keras.saving.register_keras_serializable("zoo")
class Rating(layers.Layer):
    """The rating, (batch,): a learned mean plus a list of parts, each (batch, 1).

    If a range is given, outputs are clipped to it, but not in training, where a clipped rating would have no gradient.

    Args:
        mean: initial value of the mean.
        rating_range: lowest and highest rating, None for no limits.

    Example:
        >>> Rating(mean=7.0, rating_range=(0, 10))([np.array([[1.0], [4.0]])]).numpy()
        array([ 8., 10.], dtype=float32)
    """

    def __init__(self, mean: float = 0.0, rating_range: Sequence[float] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.start, self.rating_range = mean, None if rating_range is None else tuple(rating_range)

    def build(self, input_shape: Any) -> None:
        """Creates the mean."""
        self.mean = self.add_weight(shape=(), initializer=keras.initializers.Constant(self.start), name="mean")

    def call(self, inputs: Sequence[Any], training: bool = False) -> Any:
        """Returns the ratings."""
        total = sum((ops.squeeze(ops.cast(part, self.compute_dtype), -1) for part in inputs), start=self.mean)
        return total if training else self.clipped(total)

    def clipped(self, ratings: Any) -> Any:
        """Returns ratings of any shape, clipped to the range."""
        return ratings if self.rating_range is None else ops.clip(ratings, *self.rating_range)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "mean": self.start, "rating_range": self.rating_range}


def best_unseen(scores: Any, seen: Any) -> dict[str, Any]:
    """Returns the ten best items, {"item_ids": int32 (batch, 10), best first; "score": float32 (batch, 10)}.

    Ties go to the lower item number. If fewer than ten items are left, the rest is item 0 with score 0.

    Args:
        scores: float32 (batch, items), the first column for item 1.
        seen: int32 (batch, n), numbers of items that are left out, and 0.

    Example:
        >>> best_unseen(tf.constant([[1.0, 3.0, 2.0]]), tf.constant([[2, 0]]))["item_ids"].numpy()[0, :3].tolist()
        [3, 1, 0]
    """
    import tensorflow as tf

    # Column 0 receives the padding of seen items, and is removed.
    rows = tf.repeat(tf.range(tf.shape(seen)[0]), tf.shape(seen)[1])
    places = tf.stack([rows, tf.reshape(seen, [-1])], axis=1)
    order = tf.concat([tf.zeros_like(scores[:, :1]), scores], axis=1)
    order = tf.tensor_scatter_nd_update(order, places, tf.fill(tf.shape(rows), -math.inf))[:, 1:]
    k = min(_TOP_K, scores.shape[1])
    best, places = tf.math.top_k(order, k)
    there = best > -math.inf
    missing = [[0, 0], [0, _TOP_K - k]]
    items, score = tf.where(there, places + 1, 0), tf.where(there, best, 0.0)
    return {"item_ids": tf.pad(items, missing), "score": tf.pad(score, missing)}
