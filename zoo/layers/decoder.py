"""The ends of a decoder: embeddings of target ids, and logits by the same table."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from zoo.errors import UsageError


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
