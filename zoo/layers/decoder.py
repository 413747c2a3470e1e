"""First and last layer of a decoder: embeddings of target ids, and logits from the same table."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from zoo.errors import UsageError


@keras.saving.register_keras_serializable("zoo")
class TiedEmbedding(layers.Layer):
    """Vectors of target ids, int (batch, steps); with `reverse=True`, logits of vectors from the same table and a bias.

    The shared table halves the weights, and every word is trained at every step. Id 0 is padding and masked. Source: Press
    and Wolf, Using the output embedding to improve language models, EACL 2017.

    Args:
        vocab_size: number of ids, including padding.
        dim: channels of a vector.
        max_length: maximum number of ids of a target, at which decoding ends.
        stddev: standard deviation of the first values; None for dim ** -0.5.
        use_bias: whether logits have a bias.
        mask_zero: whether id 0 is padding.

    Example:
        >>> layer = TiedEmbedding(vocab_size=100, dim=16, max_length=20)
        >>> layer(layer(keras.ops.ones((2, 5), "int32")), reverse=True).shape
        TensorShape([2, 5, 100])
    """

    def __init__(
        self,
        vocab_size: int,
        dim: int,
        max_length: int,
        stddev: float | None = None,
        use_bias: bool = True,
        mask_zero: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.vocab_size, self.dim, self.max_length = vocab_size, dim, max_length
        self.stddev, self.use_bias, self.mask_zero = stddev, use_bias, mask_zero
        self.supports_masking = mask_zero

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the table (vocab_size, dim) and the bias (vocab_size,)."""
        # With this scale, the logits of normalised vectors start near one. A model with positions scales the vectors up.
        start = keras.initializers.RandomNormal(stddev=self.stddev or self.dim**-0.5)
        self.embeddings = self.add_weight(shape=(self.vocab_size, self.dim), initializer=start, name="embeddings")
        if self.use_bias:
            self.bias = self.add_weight(shape=(self.vocab_size,), initializer="zeros", name="bias")

    def call(self, inputs: Any, reverse: bool = False) -> Any:
        """Returns (batch, steps, dim), or logits (batch, steps, vocab_size)."""
        if reverse:
            logits = ops.matmul(inputs, ops.transpose(self.embeddings))
            return logits + self.bias if self.use_bias else logits
        return ops.take(self.embeddings, ops.cast(inputs, "int32"), axis=0)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """True for ids other than 0; for vectors, their own mask; None without padding."""
        if not self.mask_zero:
            return None
        return ops.not_equal(inputs, 0) if keras.backend.is_int_dtype(inputs.dtype) else previous_mask

    def compute_output_spec(self, inputs: Any, reverse: bool = False) -> keras.KerasTensor:
        """Shape and dtype of what `call` returns."""
        shape = (*inputs.shape[:-1], self.vocab_size) if reverse else (*inputs.shape, self.dim)
        return keras.KerasTensor(shape, dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        names = ("vocab_size", "dim", "max_length", "stddev", "use_bias", "mask_zero")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def tied_classifier(x: keras.KerasTensor, table: TiedEmbedding, activation: str | None) -> keras.KerasTensor:
    """The last layer of a model with a shared target table: `probabilities` or `logits`, float32, as in `classifier`.

    Raises:
        UsageError: an activation other than softmax or None.
    """
    if activation not in ("softmax", None):
        raise UsageError(
            f"classifier_activation is {activation!r}. Pass 'softmax' for probabilities, or None for logits."
        )
    name = "logits" if activation is None else "probabilities"
    dtype = "float64" if keras.config.floatx() == "float64" else "float32"
    return layers.Activation(activation or "linear", dtype=dtype, name=name)(table(x, reverse=True))
