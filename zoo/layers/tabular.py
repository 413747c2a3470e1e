"""Layers for rows of a table: vectors for numbers and for categories."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from zoo.errors import UsageError
from zoo.layers import blocks

WAVES = 16
"""Number of learned frequencies of a number."""

_FAR = 3e38
"""A limit for numbers without bins, which are not clipped."""


@keras.saving.register_keras_serializable("zoo")
class NumberEmbedding(layers.Layer):
    """A vector for each number of a row: float32 (batch, numbers) becomes (batch, numbers, dim).

    With bins, a number is first encoded piecewise-linearly: 1 for each bin below it, 0 for each bin above it, and the part of
    the way for the bin that it lies in. Numbers beyond the outer edges are clipped. With frequencies, it becomes sines and
    cosines of learned multiples. Then follows a linear layer of its own for each number, and an activation.

    Source: Gorishniy, Rubachev and Babenko, On embeddings for numerical features in tabular deep learning, NeurIPS 2022.

    Args:
        dim: channels of a vector.
        edges: for each number the ascending edges of its bins; an empty list, or None for all, for a number as it is.
        frequencies: number of learned frequencies for each number, instead of bins; 0 for none.
        deviation: standard deviation of the initial frequencies.
        activation: a Keras activation, or None.
        bound: limit of the initial weights, which are uniform; None for that of a linear layer with the same inputs.
        use_bias: whether each number has a bias.

    Example:
        >>> layer = NumberEmbedding(4, edges=[[0.0, 1.0, 3.0], []])
        >>> layer(np.float32([[2.0, 5.0]])).shape
        TensorShape([1, 2, 4])
    """

    def __init__(
        self,
        dim: int,
        edges: Sequence[Sequence[float]] | None = None,
        frequencies: int = 0,
        deviation: float = 0.1,
        activation: Any = None,
        bound: float | None = None,
        use_bias: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"autocast": False, **kwargs})  # edges and numbers need all bits of float32
        self.dim, self.frequencies, self.deviation = dim, frequencies, deviation
        self.bound, self.use_bias = bound, use_bias
        self.edges = None if edges is None else [list(map(float, part)) for part in edges]
        self.activation = keras.activations.get(activation)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates a kernel (numbers, parts, dim) and a bias (numbers, dim)."""
        count = int(input_shape[-1] or 0)
        if self.frequencies:
            self.waves = self.add_weight(
                shape=(count, self.frequencies),
                initializer=keras.initializers.RandomNormal(stddev=self.deviation),
                name="waves",
            )
            parts = 2 * self.frequencies
        else:
            self._starts, self._factors, self._lows, self._highs = self._bins(count)
            parts = self._starts.shape[1]
        # The scale of a linear layer of one input: the bins of a number share it.
        bound = 1 / math.sqrt(parts if self.frequencies else 1) if self.bound is None else self.bound
        self.kernel = self.add_weight(
            shape=(count, parts, self.dim), initializer=keras.initializers.RandomUniform(-bound, bound), name="kernel"
        )
        if self.use_bias:
            self.bias = self.add_weight(
                shape=(count, self.dim), initializer=keras.initializers.RandomUniform(-bound, bound), name="bias"
            )

    def _bins(self, count: int) -> tuple[np.ndarray, ...]:
        """Returns start, reciprocal width and limits of every bin, (numbers, bins)."""
        edges = self.edges or [[] for _ in range(count)]
        if len(edges) != count:
            raise UsageError(
                f"bin_edges has {len(edges)} lists for {count} numbers. Pass one for each, [] for a number as it is."
            )
        most = max([1, *(len(part) - 1 for part in edges)])
        starts, factors, lows, highs = (np.zeros((count, most), np.float32) for _ in range(4))
        for row, part in enumerate(edges):
            if len(part) < 2:  # the number as it is
                factors[row, 0], lows[row, 0], highs[row, 0] = 1, -_FAR, _FAR
                continue
            bins, cut = len(part) - 1, np.asarray(part, np.float64)
            starts[row, :bins], factors[row, :bins], highs[row, :bins] = cut[:-1], 1 / np.diff(cut), 1
        return starts, factors, lows, highs

    def call(self, inputs: Any) -> Any:
        """Returns the vectors, in the layer's compute dtype."""
        numbers = ops.expand_dims(inputs, -1)
        if self.frequencies:
            angles = 2 * math.pi * numbers * self.waves
            parts = ops.concatenate([ops.sin(angles), ops.cos(angles)], axis=-1)
        else:
            scaled = (numbers - ops.cast(self._starts, numbers.dtype)) * ops.cast(self._factors, numbers.dtype)
            parts = ops.minimum(
                ops.maximum(scaled, ops.cast(self._lows, numbers.dtype)), ops.cast(self._highs, numbers.dtype)
            )
        parts, kernel = (ops.cast(part, self.compute_dtype) for part in (parts, self.kernel))
        # One product for each number. Other runtimes convert it, and einsum only in part.
        made = ops.transpose(ops.matmul(ops.transpose(parts, (1, 0, 2)), kernel), (1, 0, 2))
        return self.activation(made + ops.cast(self.bias, self.compute_dtype) if self.use_bias else made)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Returns (batch, numbers, dim)."""
        return *input_shape, self.dim

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        names = ("dim", "edges", "frequencies", "deviation", "bound", "use_bias")
        activation = keras.activations.serialize(self.activation)
        return {**super().get_config(), **{name: getattr(self, name) for name in names}, "activation": activation}


@keras.saving.register_keras_serializable("zoo")
class CategoryEmbedding(layers.Layer):
    """A vector for the category in each column: int32 (batch, columns) becomes (batch, columns, dim).

    The number 0 of a column is an unknown category and has the vector of zeros, which is not trained.

    Args:
        sizes: for each column, how many numbers it has, 0 included.
        dim: channels of a vector.
        deviation: standard deviation of the initial vectors.
        use_bias: whether each column has a vector that is added to those of its categories.

    Example:
        >>> layer = CategoryEmbedding(sizes=[3, 2], dim=4)
        >>> layer(np.array([[2, 0]])).shape, layer.count_params()
        (TensorShape([1, 2, 4]), 12)
    """

    def __init__(
        self, sizes: Sequence[int], dim: int, deviation: float = 0.1, use_bias: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.sizes, self.dim, self.deviation = [int(size) for size in sizes], dim, deviation
        self.use_bias = use_bias

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates one table for all columns, (known categories, dim)."""
        known = [size - 1 for size in self.sizes]
        self._starts = np.cumsum([0, *known])[:-1].astype(np.int32)
        self._sizes = np.asarray(self.sizes, np.int32)
        self.table = self.add_weight(
            shape=(max(1, sum(known)), self.dim),
            initializer=self._initializer(),
            name="table",
        )
        if self.use_bias:
            self.bias = self.add_weight(shape=(len(known), self.dim), initializer=self._initializer(), name="bias")

    def _initializer(self) -> Any:
        return keras.initializers.RandomNormal(stddev=self.deviation) if self.deviation else "zeros"

    def call(self, inputs: Any) -> Any:
        """Returns the vectors, in the layer's compute dtype."""
        known = ops.logical_and(inputs > 0, inputs < self._sizes)  # other numbers would be vectors of the next column
        rows = ops.take(self.table, ops.where(known, inputs - 1 + self._starts, 0), axis=0)
        made = rows * ops.cast(ops.expand_dims(known, -1), self.compute_dtype)
        return made + self.bias if self.use_bias else made

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Returns (batch, columns, dim)."""
        return *input_shape, self.dim

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        own = {"sizes": self.sizes, "dim": self.dim, "deviation": self.deviation, "use_bias": self.use_bias}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable("zoo")
class CategoryCrosses(layers.Layer):
    """Appends pairs of columns as further columns: int32 (batch, columns) becomes (batch, columns + pairs).

    A pair has a number for each combination of known categories, and 0 if one of the two is unknown.

    Source: Cheng et al., Wide and deep learning for recommender systems, 2016, section 3.1.

    Args:
        sizes: for each column, how many numbers it has, 0 included.
        pairs: the places of two columns for each pair.

    Example:
        >>> layer = CategoryCrosses(sizes=[3, 4], pairs=[[0, 1]])
        >>> layer(np.int32([[2, 3], [0, 3]])).numpy().tolist(), layer.all_sizes
        ([[2, 3, 6], [0, 3, 0]], [3, 4, 7])
    """

    def __init__(self, sizes: Sequence[int], pairs: Sequence[Sequence[int]], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.sizes, self.pairs = [int(size) for size in sizes], [[int(place) for place in pair] for pair in pairs]

    @property
    def all_sizes(self) -> list[int]:
        """How many numbers each returned column has, 0 included."""
        return [*self.sizes, *((self.sizes[a] - 1) * (self.sizes[b] - 1) + 1 for a, b in self.pairs)]

    def call(self, inputs: Any) -> Any:
        """Returns the numbers, int32."""
        first, second = (
            ops.take(inputs, np.asarray(places, np.int32), axis=1) for places in zip(*self.pairs, strict=True)
        )
        known = np.asarray([self.sizes[b] - 1 for _, b in self.pairs], np.int32)
        most = np.asarray([self.sizes[a] - 1 for a, _ in self.pairs], np.int32)
        both = ops.logical_and(ops.logical_and(first > 0, first <= most), ops.logical_and(second > 0, second <= known))
        return ops.concatenate([inputs, ops.where(both, (first - 1) * known + second, 0)], axis=1)

    def compute_output_spec(self, inputs: Any) -> keras.KerasTensor:
        """Shape and dtype of what `call` returns."""
        return keras.KerasTensor((inputs.shape[0], len(self.all_sizes)), dtype=inputs.dtype)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "sizes": self.sizes, "pairs": self.pairs}


@keras.saving.register_keras_serializable("zoo")
class ColumnSum(layers.Layer):
    """The sum of the vectors of all columns: (batch, columns, dim) becomes (batch, dim).

    Example:
        >>> ColumnSum()(np.ones((1, 3, 2), np.float32)).numpy().tolist()
        [[3.0, 3.0]]
    """

    def call(self, inputs: Any) -> Any:
        """Returns the sum, in the layer's compute dtype."""
        return ops.sum(inputs, axis=1)


def inputs_of(input_shape: Sequence[int], category_sizes: Sequence[int]) -> dict[str, Any]:
    """Returns the Keras inputs of a row: `numbers`, float32 (batch, numbers), and `categories`, int32 (batch, columns); each
    only if there are any.

    Raises:
        UsageError: a size that is not positive, or no column at all.

    Example:
        >>> sorted(inputs_of((3,), [4, 2]))
        ['categories', 'numbers']
    """
    check_columns(input_shape, category_sizes)
    found: dict[str, Any] = {}
    if input_shape[0]:
        found["numbers"] = keras.Input((input_shape[0],), name="numbers")
    if category_sizes:
        found["categories"] = keras.Input((len(category_sizes),), dtype="int32", name="categories")
    return found


def check_columns(input_shape: Sequence[int], category_sizes: Sequence[int]) -> None:
    """Raises UsageError unless a row has columns: `input_shape` is (numbers,), `category_sizes` has positive integers."""
    blocks.check_each_positive(category_sizes=category_sizes)
    if not isinstance(input_shape, (list, tuple)) or len(input_shape) != 1 or list(input_shape) != [0]:
        blocks.check_input_shape(input_shape)
    if len(input_shape) != 1:
        raise UsageError(
            f"input_shape is {input_shape!r}; expected (numbers,) for a table. Pass input_shape=(3,), say."
        )
    if not input_shape[0] and not category_sizes:
        raise UsageError(
            "A row has no columns. Pass input_shape=(3,) for three numbers, or category_sizes=[4] for one column."
        )


def check_bin_edges(bin_edges: Sequence[Sequence[float]] | None) -> None:
    """Raises UsageError unless `bin_edges` is None or a list of ascending edges for each number."""
    lists = bin_edges is None or isinstance(bin_edges, (list, tuple))
    for part in bin_edges if lists and bin_edges is not None else ():
        lists = lists and isinstance(part, (list, tuple)) and all(a < b for a, b in itertools.pairwise(part))
    if not lists:
        raise UsageError(
            f"bin_edges is {bin_edges!r}; expected a list of ascending edges for each number, empty for a number as it is. "
            "Pass bin_edges=[[0.0, 1.0, 3.0]] for one number with two bins, or None."
        )


def flat_row(inputs: Mapping[str, Any], vectors: Mapping[str, Any]) -> Any:
    """Returns the numbers and all vectors of a row as one vector, (batch, channels).

    Args:
        inputs: from `inputs_of`.
        vectors: from `vectors`.
    """
    parts = [layers.Flatten(name=f"flat_{name}")(vector) for name, vector in vectors.items()]
    parts = [inputs["numbers"], *parts] if "numbers" in inputs else parts
    return layers.Concatenate(name="row")(parts) if len(parts) > 1 else parts[0]


def vectors(
    inputs: Mapping[str, Any],
    category_sizes: Sequence[int],
    edges: Sequence[Sequence[float]] | None,
    embedding: str | None,
    number_dim: int,
    category_dim: int,
) -> dict[str, Any]:
    """Returns the vectors of numbers and of categories by the input's name, each (batch, columns, channels).

    Args:
        inputs: from `inputs_of`.
        category_sizes: see `CategoryEmbedding`.
        edges: see `NumberEmbedding`.
        embedding: "bins", "waves", or None for no vectors of numbers.
        number_dim: channels of a number's vector.
        category_dim: channels of a category's vector.

    Raises:
        UsageError: another embedding.
    """
    if embedding not in ("bins", "waves", None):
        raise UsageError(f"number_embedding is {embedding!r}. Pass 'bins', 'waves', or None for the numbers alone.")
    found = {}
    if "numbers" in inputs and embedding is not None:
        binned = embedding == "bins"
        layer = NumberEmbedding(
            number_dim, edges if binned else None, 0 if binned else WAVES, activation="relu", name="number_vectors"
        )
        found["numbers"] = layer(inputs["numbers"])
    if "categories" in inputs:
        found["categories"] = CategoryEmbedding(category_sizes, category_dim, name="category_vectors")(
            inputs["categories"]
        )
    return found
