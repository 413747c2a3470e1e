"""Layers for sequence-to-sequence models: tied target embeddings, attention over keys kept from before, decoder blocks.

Each can go over a whole target at once, for training, or one step at a time with what it has seen kept in a cache, for
decoding; both give the same numbers.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from zoo.errors import UsageError
from zoo.layers import dot_product


@keras.saving.register_keras_serializable("zoo")
class TiedEmbedding(layers.Layer):
    """Vectors of target ids, int (batch, steps); with `reverse=True`, logits of vectors by the same table and a bias.

    One table for both halves the weights and lets every word learn at every step. Id 0 is padding and masked. Source: Press
    and Wolf, Using the output embedding to improve language models, EACL 2017.

    Args:
        vocab_size: number of ids, padding included.
        dim: channels of a vector.
        max_length: longest target in ids: decoding ends there at the latest.

    Example:
        >>> layer = TiedEmbedding(vocab_size=100, dim=16, max_length=20)
        >>> layer(layer(keras.ops.ones((2, 5), "int32")), reverse=True).shape
        TensorShape([2, 5, 100])
    """

    def __init__(self, vocab_size: int, dim: int, max_length: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.vocab_size, self.dim, self.max_length = vocab_size, dim, max_length
        self.supports_masking = True

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes the table (vocab_size, dim) and the bias (vocab_size,)."""
        # Of this size the logits of normalised vectors start near one; a model that adds positions scales the vectors up.
        start = keras.initializers.RandomNormal(stddev=self.dim**-0.5)
        self.embeddings = self.add_weight(shape=(self.vocab_size, self.dim), initializer=start, name="embeddings")
        self.bias = self.add_weight(shape=(self.vocab_size,), initializer="zeros", name="bias")

    def call(self, inputs: Any, reverse: bool = False) -> Any:
        """Returns (batch, steps, dim), or logits (batch, steps, vocab_size)."""
        if reverse:
            return ops.matmul(inputs, ops.transpose(self.embeddings)) + self.bias
        return ops.take(self.embeddings, ops.cast(inputs, "int32"), axis=0)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """True where an id is not 0; of vectors, the mask that they came with."""
        return ops.not_equal(inputs, 0) if keras.backend.is_int_dtype(inputs.dtype) else previous_mask

    def compute_output_spec(self, inputs: Any, reverse: bool = False) -> keras.KerasTensor:
        """Shape and dtype of what `call` returns."""
        shape = (*inputs.shape[:-1], self.vocab_size) if reverse else (*inputs.shape, self.dim)
        return keras.KerasTensor(shape, dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        sizes = {"vocab_size": self.vocab_size, "dim": self.dim, "max_length": self.max_length}
        return {**super().get_config(), **sizes}


@keras.saving.register_keras_serializable("zoo")
class MultiHead(layers.Layer):
    """Multi-head attention whose keys and values are made apart, so that decoding makes those of a step only once.

    Source: Vaswani et al., Attention is all you need, 2017, section 3.2.

    Args:
        num_heads: attention heads; the channels must divide by it.

    Example:
        >>> layer = MultiHead(num_heads=4)
        >>> memory = keras.ops.zeros((2, 7, 16))
        >>> layer.build(memory.shape)
        >>> layer(keras.ops.zeros((2, 5, 16)), *layer.keys_values(memory)).shape
        TensorShape([2, 5, 16])
    """

    def __init__(self, num_heads: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.supports_masking = True

    def build(self, input_shape: tuple[int | None, ...], *_: Any) -> None:
        """Makes the four projections, each (dim, dim) with a bias; keys and values come with the queries' channels."""
        dim = int(input_shape[-1] or 0)
        if dim % self.num_heads:
            raise UsageError(f"embedding_dim={dim} does not divide by num_heads={self.num_heads}. Pass one that does.")
        for name in ("query", "key", "value", "output"):
            dense = layers.Dense(dim, dtype=self.dtype_policy, name=name)
            dense.build(input_shape)
            setattr(self, f"{name}_dense", dense)

    def keys_values(self, memory: Any) -> tuple[Any, Any]:
        """Returns keys and values of (batch, steps, dim), each (batch, heads, steps, dim / heads)."""
        split = dot_product.split_heads
        return split(self.key_dense(memory), self.num_heads), split(self.value_dense(memory), self.num_heads)

    def call(self, queries: Any, keys: Any, values: Any, reachable: Any = None, training: bool | None = None) -> Any:
        """Returns (batch, steps, dim); `reachable` is true where a query may read a key.

        Args:
            queries: (batch, steps, dim).
            keys: (batch, heads, key steps, dim / heads), as `keys_values` gives them.
            values: as the keys.
            reachable: (batch or 1, 1, steps or 1, key steps); None where all keys may be read.
            training: whether gradients will be asked for.
        """
        split = dot_product.split_heads(self.query_dense(queries), self.num_heads)
        read = dot_product.attend(split, keys, values, reachable, training)
        return self.output_dense(dot_product.join_heads(read))

    def compute_output_spec(
        self, queries: Any, keys: Any, values: Any, reachable: Any = None, **_: Any
    ) -> keras.KerasTensor:
        """Shape and dtype of what `call` returns."""
        return keras.KerasTensor(queries.shape, dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "num_heads": self.num_heads}


@keras.saving.register_keras_serializable("zoo")
class DecoderBlock(layers.Layer):
    """Attention to earlier target steps, attention to the source, a feed-forward net, as `EncoderBlock` puts them together.

    Each has dropout, residual connection and layer normalisation after it. A step never reads a later one, nor a padded
    step of target or source. Source: Vaswani et al., Attention is all you need, 2017, section 3.1.

    Args:
        num_heads: attention heads; the inputs' channels must divide by it.
        feed_forward_dim: units of the inner dense layer.
        dropout: fraction dropped from what both attentions and the feed-forward net add.

    Example:
        >>> DecoderBlock(num_heads=8, feed_forward_dim=512)(keras.ops.zeros((2, 5, 64)), keras.ops.zeros((2, 9, 64))).shape
        TensorShape([2, 5, 64])
    """

    def __init__(self, num_heads: int, feed_forward_dim: int, dropout: float = 0.1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_heads, self.feed_forward_dim, self.dropout = num_heads, feed_forward_dim, dropout
        self.supports_masking = True

    def build(self, inputs_shape: tuple[int | None, ...], memory_shape: tuple[int | None, ...]) -> None:
        """Makes the layers for the inputs' channels, which the memory must have too."""
        dim = int(inputs_shape[-1] or 0)
        if memory_shape[-1] != dim:
            raise UsageError(f"The memory has {memory_shape[-1]} channels, the inputs {dim}. Pass the same number.")
        policy = self.dtype_policy
        self.self_attention = MultiHead(self.num_heads, dtype=policy, name="self_attention")
        self.source_attention = MultiHead(self.num_heads, dtype=policy, name="source_attention")
        self.inner = layers.Dense(self.feed_forward_dim, activation="relu", dtype=policy, name="inner")
        self.outer = layers.Dense(dim, dtype=policy, name="outer")
        for layer in (self.self_attention, self.source_attention, self.inner):
            layer.build(inputs_shape)
        self.outer.build((*inputs_shape[:-1], self.feed_forward_dim))
        self.norms = [layers.LayerNormalization(epsilon=1e-5, dtype=policy, name=f"norm_{i}") for i in (1, 2, 3)]
        for norm in self.norms:
            norm.build(inputs_shape)
        self.dropouts = [layers.Dropout(self.dropout, dtype=policy, name=f"dropout_{i}") for i in (1, 2, 3)]

    def call(
        self, inputs: Any, memory: Any, inputs_mask: Any = None, memory_mask: Any = None, training: bool | None = None
    ) -> Any:
        """Returns (batch, steps, dim).

        Args:
            inputs: target steps (batch, steps, dim).
            memory: the encoded source (batch, source steps, dim).
            inputs_mask: true where a target step is real (batch, steps).
            memory_mask: true where a source step is real (batch, source steps).
            training: whether to drop.
        """
        steps = ops.arange(ops.shape(inputs)[1])
        reachable = (steps[None, :] <= steps[:, None])[None, None]  # (1, 1, steps, steps): no later step
        if inputs_mask is not None:
            reachable = ops.logical_and(reachable, inputs_mask[:, None, None, :])
        keys_values = self.self_attention.keys_values(inputs)
        return self._attend(inputs, keys_values, reachable, self.source(memory, memory_mask), training)

    def source(self, memory: Any, memory_mask: Any = None) -> tuple[Any, Any, Any]:
        """Returns keys, values and mask (batch, 1, 1, source steps) of the encoded source, the same for all steps."""
        mask = None if memory_mask is None else memory_mask[:, None, None, :]
        return (*self.source_attention.keys_values(memory), mask)

    def step(self, inputs: Any, cache: tuple[Any, Any], source: tuple[Any, Any, Any]) -> tuple[Any, tuple[Any, Any]]:
        """Returns the block's output for one more step (batch, 1, dim), and the cache with the step added.

        Args:
            inputs: the step (batch, 1, dim).
            cache: keys and values of the steps before, each (batch, heads, steps, dim / heads); steps is 0 at the start.
            source: what `source` returned.
        """
        made = self.self_attention.keys_values(inputs)
        cache = (ops.concatenate([cache[0], made[0]], axis=2), ops.concatenate([cache[1], made[1]], axis=2))
        return self._attend(inputs, cache, None, source, False), cache

    def _attend(
        self, x: Any, seen: tuple[Any, Any], reachable: Any, source: tuple[Any, Any, Any], training: Any
    ) -> Any:
        parts = (
            lambda x: self.self_attention(x, *seen, reachable, training=training),
            lambda x: self.source_attention(x, *source, training=training),
            lambda x: self.outer(self.inner(x)),
        )
        for part, dropout, norm in zip(parts, self.dropouts, self.norms, strict=True):
            x = norm(x + dropout(part(x), training=training))
        return x

    def compute_output_spec(self, inputs: Any, memory: Any, **_: Any) -> keras.KerasTensor:
        """Shape and dtype of what `call` returns."""
        return keras.KerasTensor(inputs.shape, dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "feed_forward_dim": self.feed_forward_dim,
            "dropout": self.dropout,
        }


def tied_classifier(x: keras.KerasTensor, table: TiedEmbedding, activation: str | None) -> keras.KerasTensor:
    """The last layer of a model that shares its target table: `probabilities` or `logits`, float32, as `classifier` has it.

    Raises:
        UsageError: another activation than softmax or none.
    """
    if activation not in ("softmax", None):
        raise UsageError(
            f"classifier_activation is {activation!r}. Pass 'softmax' for probabilities, or None for logits."
        )
    name = "logits" if activation is None else "probabilities"
    dtype = "float64" if keras.config.floatx() == "float64" else "float32"
    return layers.Activation(activation or "linear", dtype=dtype, name=name)(table(x, reverse=True))
