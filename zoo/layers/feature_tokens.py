"""Layers of Transformers over the columns of a table, each of which is a token."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from zoo.layers import blocks
from zoo.layers.attention import Attention


@keras.saving.register_keras_serializable("zoo")
class ClassToken(layers.Layer):
    """Puts a trained vector before the tokens: (batch, tokens, channels) becomes (batch, 1 + tokens, channels).

    Args:
        deviation: standard deviation of the initial vector.

    Example:
        >>> ClassToken()(keras.ops.zeros((2, 5, 8))).shape
        TensorShape([2, 6, 8])
    """

    def __init__(self, deviation: float = 0.02, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.deviation = deviation

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the vector, (1, 1, channels)."""
        initializer = keras.initializers.RandomNormal(stddev=self.deviation)
        self.token = self.add_weight(shape=(1, 1, input_shape[-1]), initializer=initializer, name="token")

    def call(self, inputs: Any) -> Any:
        """Returns all tokens, the trained one first."""
        first = ops.broadcast_to(self.token, (ops.shape(inputs)[0], 1, inputs.shape[-1]))
        return ops.concatenate([first, inputs], axis=1)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Returns (batch, 1 + tokens, channels)."""
        return input_shape[0], None if input_shape[1] is None else input_shape[1] + 1, input_shape[2]

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "deviation": self.deviation}


@keras.saving.register_keras_serializable("zoo")
class FeatureBlock(layers.Layer):
    """Attention and a gated feed-forward net, with a norm before each and a residual connection around each.

    The feed-forward net is ReGLU: half of the inner dense layer's outputs times the ReLU of the other half.

    Source: Gorishniy et al., Revisiting deep learning models for tabular data, NeurIPS 2021; Shazeer, GLU variants improve
    Transformer, 2020.

    Args:
        num_heads: attention heads.
        feed_forward_dim: channels between the two dense layers; the inner one has twice as many units.
        attention_dropout: dropout rate of the attention weights.
        dropout: dropout rate between the two dense layers.
        residual_dropout: dropout rate of the output of each part, before the residual sum.
        attention_norm: whether the inputs of the attention are normalised.
        only_first: whether only the first token is computed. It reads all tokens.
        epsilon: epsilon of the layer normalisations.

    Example:
        >>> FeatureBlock(num_heads=2, feed_forward_dim=10, only_first=True)(keras.ops.zeros((3, 5, 8))).shape
        TensorShape([3, 1, 8])
    """

    def __init__(
        self,
        num_heads: int,
        feed_forward_dim: int,
        attention_dropout: float = 0.0,
        dropout: float = 0.0,
        residual_dropout: float = 0.0,
        attention_norm: bool = True,
        only_first: bool = False,
        epsilon: float = 1e-5,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        blocks.check_positive(num_heads=num_heads, feed_forward_dim=feed_forward_dim)
        blocks.check_fraction(attention_dropout=attention_dropout, dropout=dropout, residual_dropout=residual_dropout)
        self.num_heads, self.feed_forward_dim, self.attention_dropout = num_heads, feed_forward_dim, attention_dropout
        self.dropout, self.residual_dropout, self.epsilon = dropout, residual_dropout, epsilon
        self.attention_norm, self.only_first = attention_norm, only_first

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates attention, dense layers and norms for the channels."""
        dim, dtype = int(input_shape[-1] or 0), self.dtype_policy
        # Only separate matrices can compute keys and values of all tokens, but queries of the first alone.
        self.attention = Attention(
            self.num_heads, dropout=self.attention_dropout, kernels="separate", dtype=dtype, name="attention"
        )
        self.attention.build(input_shape)
        self.norms = [layers.LayerNormalization(epsilon=self.epsilon, dtype=dtype, name="feed_forward_norm")]
        if self.attention_norm:
            self.norms.append(layers.LayerNormalization(epsilon=self.epsilon, dtype=dtype, name="attention_norm"))
        for norm in self.norms:
            norm.build(input_shape)
        self.inner = layers.Dense(2 * self.feed_forward_dim, dtype=dtype, name="inner")
        self.inner.build((None, dim))
        self.outer = layers.Dense(dim, dtype=dtype, name="outer")
        self.outer.build((None, self.feed_forward_dim))
        rates = (self.residual_dropout, self.dropout, self.residual_dropout)
        self.dropouts = [
            layers.Dropout(rate, dtype=dtype, name=f"dropout_{i}") for i, rate in enumerate(rates, start=1)
        ]

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Returns (batch, tokens, channels), or (batch, 1, channels) with `only_first`."""
        x = self.norms[1](inputs) if self.attention_norm else inputs
        after_attention, between, after_feed = self.dropouts
        if self.only_first:
            read = self.attention(x[:, :1], self.attention.keys_values(x), training=training)
            inputs = inputs[:, :1]
        else:
            read = self.attention(x, training=training)
        x = inputs + after_attention(read, training=training)
        # As rows, because only then TensorFlow fuses the bias into the product.
        rows = ops.reshape(self.norms[0](x), (-1, x.shape[-1]))
        values, gates = ops.split(self.inner(rows), 2, axis=-1)
        made = self.outer(between(values * ops.relu(gates), training=training))
        return x + after_feed(ops.reshape(made, ops.shape(x)), training=training)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Returns the inputs' shape, with one token if `only_first`."""
        return input_shape[0], 1 if self.only_first else input_shape[1], input_shape[2]

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        sizes = ("num_heads", "feed_forward_dim", "attention_dropout", "dropout", "residual_dropout", "epsilon")
        names = (*sizes, "attention_norm", "only_first")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
