"""Layers for bags of n-grams: the numbers of sequences of neighbouring tokens or characters, by hashing, and their weights in
a text."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops

MOST_BUCKETS = 2**20
_SPACE = 32
_PART, _EXACT = 1_024, 2**24
_FACTOR = 1_031
"""The bucket of a pair is (first x factor + second) modulo buckets. A bucket below `MOST_BUCKETS`, times the factor, plus a
token id or a code point stays below 2^31, so int32 never overflows. Pairs of the most frequent tokens, which have the
smallest ids, do not share a bucket."""


class _HashedNgrams(layers.Layer):
    """Base of layers whose n-grams have a bucket, by a hash, and the number of that bucket in the constant `numbers`: `first`
    to `first` + `num_features` - 1, or 0 for n-grams that are left out.

    Buckets share all numbers evenly until `select` is called. The buckets depend on the inputs alone, so they are equal in
    every runtime and version. Source: Weinberger et al., Feature hashing for large scale multitask learning, ICML 2009.
    """

    def __init__(self, first: int, num_features: int, num_buckets: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.first = first
        self.num_features = num_features
        self.num_buckets = num_buckets

    def build(self, input_shape: Any) -> None:
        """Creates the numbers of the buckets. They are float32, which GPUs can look up, and exact."""

        def shared(shape: Any, dtype: Any = None) -> Any:
            numbers = np.arange(self.num_buckets) % self.num_features + self.first
            return ops.convert_to_tensor(numbers, dtype)

        settings = {"dtype": "float32", "trainable": False, "autocast": False}
        self.numbers = self.add_weight(name="numbers", shape=(self.num_buckets,), initializer=shared, **settings)

    def select(self, counts: np.ndarray) -> None:
        """Gives numbers of their own to the most frequent buckets, and leaves out the others.

        Args:
            counts: the number of texts with each bucket, int64 (num_buckets,). Buckets in fewer than two are left out.
        """
        best = np.argsort(-counts, kind="stable")[: self.num_features]
        best = best[counts[best] >= 2]
        numbers = np.zeros(self.num_buckets, np.float32)
        numbers[best] = np.arange(len(best)) + self.first
        self.numbers.assign(numbers)

    def _numbered(self, buckets: Any) -> Any:
        """The numbers of buckets, int32, 0 for the bucket -1."""
        numbers = ops.cast(ops.take(self.numbers, ops.maximum(buckets, 0), axis=0), "int32")
        return ops.where(buckets < 0, ops.zeros_like(numbers), numbers)

    def _next_bucket(self, buckets: Any, following: Any) -> Any:
        """(buckets x factor + following) modulo the number of buckets."""
        if self.num_buckets * _FACTOR < _EXACT or self.num_buckets % _PART:
            return ops.mod(buckets * _FACTOR + following, self.num_buckets)
        # The same in two parts, whose products are small: OpenVINO computes integers in float32.
        high = ops.floor_divide(buckets, _PART)
        low = buckets - high * _PART
        product = ops.mod(high * _FACTOR, self.num_buckets // _PART) * _PART + low * _FACTOR
        return ops.mod(product + following, self.num_buckets)


@keras.saving.register_keras_serializable("zoo")
class NgramIds(_HashedNgrams):
    """Numbers the n-grams of token ids, int32 (batch, steps): int32 (batch, size x steps), 0 for none.

    The first `steps` columns are the token ids, the next ones the pairs of tokens that begin at each step, then the triples,
    and so on. Sequences that would reach over the end of the text have the number 0, like padding. Those of several tokens
    have the number of their bucket, from `vocab_size` (`_HashedNgrams`).

    Args:
        vocab_size: number of token ids.
        size: number of tokens of the longest n-grams, at least 2.
        num_features: number of different numbers of n-grams of several tokens.
        num_buckets: number of buckets, at most 2^20.

    Example:
        >>> NgramIds(10, 2, 100, 100)(keras.ops.array([[3, 5, 7, 0]])).numpy().tolist()
        [[3, 5, 7, 0, 108, 72, 0, 0]]
    """

    def __init__(self, vocab_size: int, size: int, num_features: int, num_buckets: int, **kwargs: Any) -> None:
        super().__init__(vocab_size, num_features, num_buckets, **kwargs)
        self.size = size

    def buckets(self, inputs: Any) -> Any:
        """Returns the buckets of the n-grams of several tokens, int32 (batch, (size - 1) x steps), -1 for none."""
        buckets, following, found = ops.mod(inputs, self.num_buckets), inputs, []
        for _ in range(self.size - 1):
            following = _shifted(following)
            buckets = self._next_bucket(buckets, following)
            found.append(ops.where(ops.equal(following, 0), ops.full_like(buckets, -1), buckets))
        return ops.concatenate(found, axis=1)

    def call(self, inputs: Any) -> Any:
        """Returns the numbers."""
        return ops.concatenate([inputs, self._numbered(self.buckets(inputs))], axis=1)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        sizes = {"vocab_size": self.first, "size": self.size}
        return {**super().get_config(), **sizes, "num_features": self.num_features, "num_buckets": self.num_buckets}


@keras.saving.register_keras_serializable("zoo")
class CharacterNgramIds(_HashedNgrams):
    """Numbers the n-grams of a text's characters that lie within one word, int32 (batch, characters): int32 (batch, sizes x
    characters), 0 for none.

    The inputs are code points, 0 is padding. The space (32) before and after a word belongs to its n-grams, so that the
    beginnings and ends of words differ from what lies within. The numbers are those of the buckets, from `first`
    (`_HashedNgrams`). Source: Bojanowski et al., Enriching word vectors with subword information, TACL 5, 2017.

    Args:
        first: the first number.
        shortest: number of characters of the shortest n-grams, at least 2.
        longest: number of characters of the longest n-grams.
        num_features: number of different numbers.
        num_buckets: number of buckets, at most 2^20.

    Example:
        >>> CharacterNgramIds(10, 2, 3, 100, 100)(keras.ops.array([[32, 97, 98, 32, 0]])).numpy().tolist()
        [[99, 15, 80, 0, 0, 67, 107, 0, 0, 0]]
    """

    def __init__(
        self, first: int, shortest: int, longest: int, num_features: int, num_buckets: int, **kwargs: Any
    ) -> None:
        super().__init__(first, num_features, num_buckets, **kwargs)
        self.shortest = shortest
        self.longest = longest

    def buckets(self, inputs: Any) -> Any:
        """Returns the buckets of the n-grams, int32 (batch, sizes x characters), -1 for none."""
        buckets, following, within, found = ops.mod(inputs, self.num_buckets), inputs, None, []
        for size in range(2, self.longest + 1):
            if size > 2:  # what was the last character is now within the n-gram
                is_letter = ops.not_equal(following, _SPACE)
                within = is_letter if within is None else ops.logical_and(within, is_letter)
            following = _shifted(following)
            buckets = self._next_bucket(buckets, following)
            if size >= self.shortest:
                whole = ops.not_equal(following, 0)
                whole = whole if within is None else ops.logical_and(whole, within)
                found.append(ops.where(whole, buckets, ops.full_like(buckets, -1)))
        return ops.concatenate(found, axis=1)

    def call(self, inputs: Any) -> Any:
        """Returns the numbers."""
        return self._numbered(self.buckets(inputs))

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        sizes = {"first": self.first, "shortest": self.shortest, "longest": self.longest}
        return {**super().get_config(), **sizes, "num_features": self.num_features, "num_buckets": self.num_buckets}


def _shifted(steps: Any) -> Any:
    """The next step of each step, 0 after the last."""
    return ops.concatenate([steps[:, 1:], ops.zeros_like(steps[:, :1])], axis=1)


@keras.saving.register_keras_serializable("zoo")
class DistinctIds(layers.Layer):
    """Sorts the numbers of each text, int32 (batch, numbers), and sets repeated ones to 0. No weights.

    So a word counts once, however often a long text repeats it.

    Example:
        >>> DistinctIds()(keras.ops.array([[5, 3, 5, 0, 5]])).numpy().tolist()
        [[0, 3, 5, 0, 0]]
    """

    def call(self, inputs: Any) -> Any:
        """Returns the different numbers, of the inputs' shape."""
        numbers = ops.sort(inputs, axis=1)
        before = ops.concatenate([ops.zeros_like(numbers[:, :1]), numbers[:, :-1]], axis=1)
        return ops.where(ops.equal(numbers, before), ops.zeros_like(numbers), numbers)


@keras.saving.register_keras_serializable("zoo")
class TermWeights(layers.Layer):
    """Looks up the weight of every number of a text, int32 (batch, numbers): float32 (batch, numbers), 0 for the number 0.

    The weights are constants: 1 until `model.get_layer(NAME).values` is assigned, such as inverse document frequencies.

    Args:
        size: number of different numbers.

    Example:
        >>> TermWeights(10)(keras.ops.array([[3, 5, 0]])).numpy().tolist()
        [[1.0, 1.0, 0.0]]
    """

    def __init__(self, size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.size = size

    def build(self, input_shape: Any) -> None:
        """Creates the weights."""
        self.values = self.add_weight(name="values", shape=(self.size,), initializer="ones", trainable=False)

    def call(self, inputs: Any) -> Any:
        """Returns the weights."""
        found = ops.take(ops.cast(self.values, self.compute_dtype), inputs, axis=0)
        return ops.where(ops.equal(inputs, 0), ops.zeros_like(found), found)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "size": self.size}


@keras.saving.register_keras_serializable("zoo")
class ScaledLength(layers.Layer):
    """Scales vectors, (..., size), to one Euclidean length; vectors of zeros stay zeros. No weights.

    Args:
        length: the length.

    Example:
        >>> ScaledLength(10.0)(keras.ops.array([[3.0, 4.0]])).numpy().tolist()
        [[6.0, 8.0]]
    """

    def __init__(self, length: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.length = length

    def call(self, inputs: Any) -> Any:
        """Returns the scaled vectors."""
        squares = ops.sum(ops.square(inputs), axis=-1, keepdims=True)
        return inputs * (self.length * ops.rsqrt(ops.maximum(squares, 1e-6)))

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "length": self.length}


@keras.saving.register_keras_serializable("zoo")
class BiasedActivation(layers.Layer):
    """Adds a bias to (batch, units) and applies an activation, such as the softmax of logits.

    Args:
        activation: Keras activation; None for none.

    Example:
        >>> BiasedActivation("sigmoid")(keras.ops.array([[0.0]])).numpy().tolist()
        [[0.5]]
    """

    def __init__(self, activation: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.activation = activation

    def build(self, input_shape: Any) -> None:
        """Creates the bias."""
        self.bias = self.add_weight(name="bias", shape=(input_shape[-1],), initializer="zeros")

    def call(self, inputs: Any) -> Any:
        """Returns the outputs, of the inputs' shape."""
        return keras.activations.get(self.activation)(inputs + self.bias)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "activation": self.activation}
