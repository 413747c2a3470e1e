"""Layers of BERT around its blocks: embeddings with learned positions, the first token's vector, the scores of words.

Padding is an input, not a Keras mask. Values on padding never affect the output at a real token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import layers, ops

from zoo.errors import UsageError, did_you_mean
from zoo.layers import blocks
from zoo.layers.activations import ACTIVATIONS
from zoo.layers.attention import TransformerBlock
from zoo.layers.sequences import MaskedMean, within
from zoo.layers.series import MaskedMax

INITIALIZER = {"class_name": "TruncatedNormal", "config": {"stddev": 0.02}}
"""Standard deviation of the initial tables and kernels: a normal distribution, truncated at twice this value."""


def initializer() -> keras.initializers.Initializer:
    """Returns a new initializer for a table or kernel.

    Example:
        >>> initializer()((2, 3)).shape
        TensorShape([2, 3])
    """
    return keras.initializers.get(INITIALIZER)


@keras.saving.register_keras_serializable("zoo")
class BertEmbedding(layers.Layer):
    """The normalised sum of the vectors of words, positions and token types.

    Inputs are [token_ids, token_type_ids], int32 (batch, tokens) each. The output is (batch, tokens, hidden_size).

    Args:
        vocab_size: number of token ids.
        hidden_size: channels of a vector.
        max_length: maximum number of tokens; a longer sequence is an error.
        type_vocab_size: number of token types.
        dropout: dropout rate.
        epsilon: epsilon of the normalisation.

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
        """Creates the three tables and the normalisation."""
        sizes = {"words": self.vocab_size, "positions": self.max_length, "token_types": self.type_vocab_size}
        for name, size in sizes.items():
            table = layers.Embedding(size, self.hidden_size, initializer(), dtype=self.dtype_policy, name=name)
            table.build((None, None))
            setattr(self, name, table)
        self.norm = layers.LayerNormalization(epsilon=self.epsilon, dtype=self.dtype_policy, name="norm")
        self.norm.build((None, None, self.hidden_size))
        self.drop = layers.Dropout(self.dropout, dtype=self.dtype_policy, name="drop")

    def call(self, inputs: Any, training: bool | None = None, reverse: bool = False) -> Any:
        """Returns the vectors. With `reverse`, inputs are vectors (batch, steps, hidden_size), and the outputs are their
        products with the vector of every word."""
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
    """Returns the vectors at some positions, (batch, masks, channels). Inputs are [x, positions]: x (batch, tokens,
    channels), and positions int32 (batch, masks), which must be below the number of tokens.

    Example:
        >>> TakePositions()([keras.ops.ones((2, 5, 16)), keras.ops.ones((2, 3), "int32")]).shape
        TensorShape([2, 3, 16])
    """

    def call(self, inputs: Sequence[Any]) -> Any:
        """Returns the vectors."""
        x, positions = inputs
        return tf.gather(x, positions, axis=1, batch_dims=1)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """(batch, masks, channels)."""
        return (*input_shape[1], input_shape[0][-1])


@keras.saving.register_keras_serializable("zoo")
class BertTransform(layers.Layer):
    """A dense layer, an activation and a normalisation between blocks and word scores: (batch, steps, channels).

    Args:
        activation: gelu, gelu_tanh, relu, silu or tanh.
        epsilon: epsilon of the normalisation.

    Example:
        >>> BertTransform()(keras.ops.ones((2, 5, 16))).shape
        TensorShape([2, 5, 16])
    """

    def __init__(self, activation: str = "gelu", epsilon: float = 1e-12, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.activation, self.epsilon = activation, epsilon

    def build(self, input_shape: Any) -> None:
        """Creates the layers for the inputs' channels."""
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
    """Adds a bias for every word to (batch, steps, vocab_size), and applies an optional softmax.

    Args:
        activation: softmax, or None for logits.

    Example:
        >>> float(WordScores("softmax")(keras.ops.zeros((1, 1, 4)))[0, 0, 0])
        0.25
    """

    def __init__(self, activation: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.activation = activation

    def build(self, input_shape: Any) -> None:
        """Creates the bias."""
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
    """Returns BERT's body: the three inputs, the last block's vectors, and the embedding layer.

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
    blocks.check_divides(num_heads, hidden_size=hidden_size)
    inputs = [keras.Input((None,), dtype="int32", name=name) for name in INPUTS]
    embeddings = BertEmbedding(
        vocab_size, hidden_size, max_length, type_vocab_size, dropout, epsilon, name="embeddings"
    )
    x = embeddings(inputs[:2])
    for i in range(1, num_layers + 1):
        block = TransformerBlock(
            num_heads,
            intermediate_size,
            dropout,
            attention_dropout,
            activation,
            epsilon,
            kernels="joined",
            kernel_initializer=INITIALIZER,
            name=f"block_{i}",
        )
        x = block(x, inputs_mask=inputs[2])
    return inputs, x, embeddings


POOLING = ("first", "mean", "max")
"""How the vectors of the tokens become one."""


def pool(x: keras.KerasTensor, padding_mask: keras.KerasTensor, pooling: str) -> keras.KerasTensor:
    """Returns one vector of every text, (batch, channels), from those of its tokens, (batch, tokens, channels).

    Args:
        x: the vectors.
        padding_mask: 1 on tokens, 0 on padding, (batch, tokens).
        pooling: `first` for the first token's vector, `mean` or `max` for the mean or the maximum over the tokens.

    Raises:
        UsageError: another pooling.

    Example:
        >>> inputs, x, words = encoder(100, 16, 2, 2, 32, 64, 2, 0.1, 0.1, "gelu", 1e-12)
        >>> pool(x, inputs[2], "mean").shape
        (None, 16)
    """
    if pooling not in POOLING:
        raise UsageError(f"pooling is {pooling!r}. {did_you_mean(str(pooling), POOLING)}")
    if pooling == "first":
        return FirstToken(name="first_token")(x)
    layer = MaskedMean(name="mean_pooled") if pooling == "mean" else MaskedMax(name="max_pooled")
    return layer(x, mask=ops.not_equal(padding_mask, 0))
