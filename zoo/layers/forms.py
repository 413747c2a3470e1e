"""The vectors of words together with those of their forms."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable("zoo")
class WordForms(layers.Layer):
    """Appends the vectors of the parts of a word's form to the vector of the word.

    Inputs are [x, form_ids]: float32 (batch, words, channels) and int32 (batch, words, parts). The output is (batch, words,
    channels + parts * form_dim), with the mask of x.

    Args:
        form_vocab_size: number of form ids.
        form_dim: channels of the vector of a part.

    Example:
        >>> WordForms(100, 16)([keras.ops.ones((2, 5, 128)), keras.ops.ones((2, 5, 8), "int32")]).shape
        TensorShape([2, 5, 256])
    """

    def __init__(self, form_vocab_size: int, form_dim: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.form_vocab_size, self.form_dim = form_vocab_size, form_dim
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        """Creates the table."""
        self.table = layers.Embedding(self.form_vocab_size, self.form_dim, dtype=self.dtype_policy, name="table")
        self.table.build(input_shape[1])

    def call(self, inputs: Any, mask: Any = None) -> Any:
        """Returns the vectors."""
        x, form_ids = inputs
        found = self.table(form_ids)
        channels = form_ids.shape[-1] * self.form_dim
        return ops.concatenate([x, ops.reshape(found, (*ops.shape(found)[:2], channels))], axis=-1)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Returns the mask of the words."""
        return mask[0] if mask is not None else None

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """(batch, words, channels + parts * form_dim)."""
        return (*input_shape[0][:-1], input_shape[0][-1] + input_shape[1][-1] * self.form_dim)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "form_vocab_size": self.form_vocab_size, "form_dim": self.form_dim}
