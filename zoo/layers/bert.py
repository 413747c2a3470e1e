"""Layers of BERT: embeddings with learned positions, post-norm blocks with exact GELU, the first token's vector.

Padding is an input, not a Keras mask: what stands at padding never changes what comes out at a real token.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import layers, ops

from zoo.errors import UsageError, did_you_mean
from zoo.layers import blocks, dot_product
from zoo.layers.sequences import within


def gelu(x: Any) -> tf.Tensor:
    """Returns x times the normal distribution function of x, of the inputs' shape and dtype.

    By the error function: TensorFlow's own takes its complement, which other runtimes do not know. Source: Hendrycks and
    Gimpel, Gaussian error linear units, 2016, arXiv:1606.08415.

    Example:
        >>> round(float(gelu(tf.constant(1.0))), 4)
        0.8413
    """
    return 0.5 * x * (1.0 + tf.math.erf(x * math.sqrt(0.5)))


def gelu_tanh(x: Any) -> tf.Tensor:
    """Returns GELU's approximation by the hyperbolic tangent, off by up to 5e-4.

    Example:
        >>> round(float(gelu_tanh(tf.constant(1.0))), 4)
        0.8412
    """
    return 0.5 * x * (1.0 + tf.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))


ACTIVATIONS: dict[str, Callable[[Any], tf.Tensor]] = {
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "relu": tf.nn.relu,
    "silu": tf.nn.silu,
    "tanh": tf.tanh,
}


def initializer() -> keras.initializers.Initializer:
    """Returns a fresh initializer of every table and kernel: a normal distribution of 0.02, cut at twice that.

    Example:
        >>> initializer()((2, 3)).shape
        TensorShape([2, 3])
    """
    return keras.initializers.TruncatedNormal(stddev=0.02)


@keras.saving.register_keras_serializable("zoo")
class BertEmbedding(layers.Layer):
    """Vectors of words, positions and token types, added up and normalised.

    Takes [token_ids, token_type_ids], int32 (batch, tokens) each; returns (batch, tokens, hidden_size).

    Args:
        vocab_size: number of token ids.
        hidden_size: channels of a vector.
        max_length: longest sequence in tokens; a longer one is an error.
        type_vocab_size: number of token types.
        dropout: fraction dropped in training.
        epsilon: added to the variance.

    Example:
        >>> ids = keras.ops.ones((2, 5), "int32")
        >>> BertEmbedding(100, 16, max_length=8)([ids, ids]).shape
        TensorShape([2, 5, 16])
    """

    def __init__(
        self,
        vocab_size: int,
        hidden_size: int,
        max_length: int,
        type_vocab_size: int = 2,
        dropout: float = 0.1,
        epsilon: float = 1e-12,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.vocab_size, self.hidden_size, self.max_length = vocab_size, hidden_size, max_length
        self.type_vocab_size, self.dropout, self.epsilon = type_vocab_size, dropout, epsilon

    def build(self, input_shape: Any) -> None:
        """Makes the three tables and the norm."""
        sizes = {"words": self.vocab_size, "positions": self.max_length, "token_types": self.type_vocab_size}
        for name, size in sizes.items():
            table = layers.Embedding(size, self.hidden_size, initializer(), dtype=self.dtype_policy, name=name)
            table.build((None, None))
            setattr(self, name, table)
        self.norm = layers.LayerNormalization(epsilon=self.epsilon, dtype=self.dtype_policy, name="norm")
        self.norm.build((None, None, self.hidden_size))
        self.drop = layers.Dropout(self.dropout, dtype=self.dtype_policy, name="drop")

    def call(self, inputs: Any, training: bool | None = None, reverse: bool = False) -> Any:
        """Returns the vectors; with `reverse`, of vectors (batch, steps, hidden_size) their products with every word's."""
        if reverse:
            return ops.matmul(inputs, ops.transpose(ops.cast(self.words.embeddings, inputs.dtype)))
        token_ids, token_type_ids = inputs
        steps = token_ids.shape[1]
        if steps is not None and steps > self.max_length:
            raise UsageError(
                f"A sequence of {steps} tokens is longer than max_length={self.max_length}. Pass a shorter one."
            )
        x = self.words(within(token_ids, self.max_length)) + self.token_types(token_type_ids)
        positions = ops.cast(self.positions.embeddings, x.dtype)[: ops.shape(token_ids)[1]]
        return self.drop(self.norm(x + positions), training=training)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """(batch, tokens, hidden_size), or (batch, steps, vocab_size) in reverse."""
        if isinstance(input_shape[0], (list, tuple)):
            return (*input_shape[0], self.hidden_size)
        return (*input_shape[:-1], self.vocab_size)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        names = ("vocab_size", "hidden_size", "max_length", "type_vocab_size", "dropout", "epsilon")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable("zoo")
class BertBlock(layers.Layer):
    """Self-attention and a feed-forward net, each with dropout, residual connection and layer normalisation after it.

    Takes [x, padding_mask]: x (batch, tokens, channels), padding_mask (batch, tokens), 0 where a token is padding, which no
    token attends to. Returns (batch, tokens, channels). One product makes queries, keys and values.

    Args:
        num_heads: attention heads; the channels must divide by it.
        intermediate_size: units of the inner dense layer.
        activation: the inner layer's: gelu, gelu_tanh, relu, silu or tanh.
        dropout: fraction dropped from what attention and the feed-forward net add.
        attention_dropout: fraction of the attention weights dropped.
        epsilon: added to the variances.

    Example:
        >>> BertBlock(4, 64)([keras.ops.ones((2, 5, 16)), keras.ops.ones((2, 5), "int32")]).shape
        TensorShape([2, 5, 16])
    """

    def __init__(
        self,
        num_heads: int,
        intermediate_size: int,
        activation: str = "gelu",
        dropout: float = 0.1,
        attention_dropout: float = 0.1,
        epsilon: float = 1e-12,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        blocks.check_fraction(dropout=dropout, attention_dropout=attention_dropout)
        if activation not in ACTIVATIONS:
            raise UsageError(f"activation is {activation!r}. {did_you_mean(str(activation), ACTIVATIONS)}")
        self.num_heads, self.intermediate_size, self.activation = num_heads, intermediate_size, activation
        self.dropout, self.attention_dropout, self.epsilon = dropout, attention_dropout, epsilon

    def build(self, input_shape: Any) -> None:
        """Makes the layers for the inputs' channels."""
        dim = int(input_shape[0][-1] or 0)
        if dim % self.num_heads:
            raise UsageError(f"hidden_size={dim} does not divide by num_heads={self.num_heads}. Pass one that does.")

        def dense(name: str, inputs: int, units: int) -> layers.Dense:
            layer = layers.Dense(units, kernel_initializer=initializer(), dtype=self.dtype_policy, name=name)
            layer.build((None, inputs))
            return layer

        def norm(name: str) -> layers.LayerNormalization:
            layer = layers.LayerNormalization(epsilon=self.epsilon, dtype=self.dtype_policy, name=name)
            layer.build((None, None, dim))
            return layer

        self.query_key_value = dense("query_key_value", dim, 3 * dim)
        self.attention_output = dense("attention_output", dim, dim)
        self.attention_norm = norm("attention_norm")
        self.inner = dense("inner", dim, self.intermediate_size)
        self.outer = dense("outer", self.intermediate_size, dim)
        self.feed_forward_norm = norm("feed_forward_norm")
        self.weights_dropout = layers.Dropout(self.attention_dropout, dtype=self.dtype_policy, name="weights_dropout")
        self.attention_drop = layers.Dropout(self.dropout, dtype=self.dtype_policy, name="attention_drop")
        self.feed_forward_drop = layers.Dropout(self.dropout, dtype=self.dtype_policy, name="feed_forward_drop")

    def call(self, inputs: Sequence[Any], training: bool | None = None) -> Any:
        """Returns (batch, tokens, channels)."""
        x, padding_mask = inputs
        shape, dim = ops.shape(x), x.shape[-1]
        # As rows: only then does TensorFlow add the bias and apply the activation inside the product.
        rows = ops.reshape(x, (-1, dim))
        read = self.attention_output(self._attend(rows, padding_mask, shape, training))
        rows = self.attention_norm(rows + self.attention_drop(read, training=training))
        fed = self.outer(ACTIVATIONS[self.activation](self.inner(rows)))
        rows = self.feed_forward_norm(rows + self.feed_forward_drop(fed, training=training))
        return ops.reshape(rows, shape)

    def _attend(self, rows: Any, padding_mask: Any, shape: Sequence[Any], training: bool | None) -> Any:
        """What every token reads, (batch * tokens, channels)."""
        batch, steps, dim = shape
        split = ops.reshape(self.query_key_value(rows), (batch, steps, 3, self.num_heads, dim // self.num_heads))
        queries, keys, values = ops.unstack(ops.transpose(split, (2, 0, 3, 1, 4)))
        kept = None
        if training and self.attention_dropout:
            ones = ops.ones((batch, self.num_heads, steps, steps), dtype=queries.dtype)
            kept = self.weights_dropout(ones, training=True)
        reachable = ops.expand_dims(ops.not_equal(padding_mask, 0), (1, 2))  # (batch, 1, 1, tokens)
        read = dot_product.attend(queries, keys, values, reachable, training, kept)
        return ops.reshape(ops.transpose(read, (0, 2, 1, 3)), (-1, dim))

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """As the inputs."""
        return tuple(input_shape[0])

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        names = ("num_heads", "intermediate_size", "activation", "dropout", "attention_dropout", "epsilon")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable("zoo")
class FirstToken(layers.Layer):
    """The first token's vector of (batch, tokens, channels): (batch, channels).

    Example:
        >>> FirstToken()(keras.ops.ones((2, 5, 16))).shape
        TensorShape([2, 16])
    """

    def call(self, inputs: Any) -> Any:
        """Returns the vector."""
        return inputs[:, 0]


@keras.saving.register_keras_serializable("zoo")
class TakePositions(layers.Layer):
    """The vectors at some positions: of [x, positions], x (batch, tokens, channels) and positions int32 (batch, blanks), it
    returns (batch, blanks, channels). Positions stay below the number of tokens.

    Example:
        >>> TakePositions()([keras.ops.ones((2, 5, 16)), keras.ops.ones((2, 3), "int32")]).shape
        TensorShape([2, 3, 16])
    """

    def call(self, inputs: Sequence[Any]) -> Any:
        """Returns the vectors."""
        x, positions = inputs
        return tf.gather(x, positions, axis=1, batch_dims=1)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """(batch, blanks, channels)."""
        return (*input_shape[1], input_shape[0][-1])


@keras.saving.register_keras_serializable("zoo")
class BertTransform(layers.Layer):
    """What stands between the blocks and the words' scores: a dense layer, an activation, a norm; (batch, steps, channels).

    Args:
        activation: gelu, gelu_tanh, relu, silu or tanh.
        epsilon: added to the variance.

    Example:
        >>> BertTransform()(keras.ops.ones((2, 5, 16))).shape
        TensorShape([2, 5, 16])
    """

    def __init__(self, activation: str = "gelu", epsilon: float = 1e-12, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.activation, self.epsilon = activation, epsilon

    def build(self, input_shape: Any) -> None:
        """Makes the layers for the inputs' channels."""
        dim = int(input_shape[-1] or 0)
        self.dense = layers.Dense(dim, kernel_initializer=initializer(), dtype=self.dtype_policy, name="dense")
        self.dense.build((None, None, dim))
        self.norm = layers.LayerNormalization(epsilon=self.epsilon, dtype=self.dtype_policy, name="norm")
        self.norm.build((None, None, dim))

    def call(self, inputs: Any) -> Any:
        """Returns the vectors."""
        return self.norm(ACTIVATIONS[self.activation](self.dense(inputs)))

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "activation": self.activation, "epsilon": self.epsilon}


@keras.saving.register_keras_serializable("zoo")
class WordScores(layers.Layer):
    """Adds a bias for every word to (batch, steps, vocab_size), and takes the softmax where one is asked for.

    Args:
        activation: softmax, None for logits.

    Example:
        >>> float(WordScores("softmax")(keras.ops.zeros((1, 1, 4)))[0, 0, 0])
        0.25
    """

    def __init__(self, activation: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.activation = activation

    def build(self, input_shape: Any) -> None:
        """Makes the bias."""
        self.bias = self.add_weight(shape=(input_shape[-1],), initializer="zeros", name="bias")

    def call(self, inputs: Any) -> Any:
        """Returns probabilities or logits."""
        scores = inputs + self.bias
        return ops.softmax(scores) if self.activation == "softmax" else scores

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "activation": self.activation}


INPUTS = ("token_ids", "token_type_ids", "padding_mask")


def encoder(
    vocab_size: int,
    hidden_size: int,
    num_layers: int,
    num_heads: int,
    intermediate_size: int,
    max_length: int,
    type_vocab_size: int,
    dropout: float,
    attention_dropout: float,
    activation: str,
    epsilon: float,
) -> tuple[list[keras.KerasTensor], keras.KerasTensor, BertEmbedding]:
    """Returns BERT's body as every head takes it: the three inputs, the last block's vectors, the embedding layer.

    The arguments are those of the builders.

    Example:
        >>> inputs, x, words = encoder(100, 16, 2, 2, 32, 64, 2, 0.1, 0.1, "gelu", 1e-12)
        >>> x.shape
        (None, None, 16)
    """
    sizes = {"vocab_size": vocab_size, "hidden_size": hidden_size, "num_layers": num_layers, "num_heads": num_heads}
    blocks.check_positive(
        **sizes, intermediate_size=intermediate_size, max_length=max_length, type_vocab_size=type_vocab_size
    )
    blocks.check_fraction(dropout=dropout, attention_dropout=attention_dropout)
    inputs = [keras.Input((None,), dtype="int32", name=name) for name in INPUTS]
    embeddings = BertEmbedding(
        vocab_size, hidden_size, max_length, type_vocab_size, dropout, epsilon, name="embeddings"
    )
    x = embeddings(inputs[:2])
    for i in range(1, num_layers + 1):
        x = BertBlock(num_heads, intermediate_size, activation, dropout, attention_dropout, epsilon, name=f"block_{i}")(
            [x, inputs[2]]
        )
    return inputs, x, embeddings
