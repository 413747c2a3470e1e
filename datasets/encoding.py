"""Turns raw examples into batches of a model's inputs, targets and weights, in an input pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tensorflow as tf

from zoo.kernels import traced

if TYPE_CHECKING:
    from zoo.datasets.preprocessing.base import Batch, Preprocessor
    from zoo.datasets.raw import Access

_MISSING: dict[tf.DType, Any] = {tf.string: b"", tf.float32: float("nan"), tf.int64: 0}
"""Padding of raw examples of unequal length, by dtype: no token, no value, and 0, which gets the weight 0."""


class Encoder:
    """Maps a preprocessor over examples.

    Args:
        preprocessor: turns raw examples into inputs, targets and weights.
    """

    def __init__(self, preprocessor: Preprocessor) -> None:
        # Traced once; a dataset is made for every split and every epoch, and would trace its function again.
        self._encode = traced(preprocessor.encode, autograph=False)

    def batches(self, examples: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
        """Returns batches (inputs, targets, weights) of raw examples, in their order."""
        spec = examples.element_spec
        if _varies_in_size(spec):  # such images cannot be batched
            return examples.map(self._one, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).batch(batch_size)
        if any(None in part.shape for part in spec.values()):
            filler = {key: tf.constant(_MISSING[part.dtype], part.dtype) for key, part in spec.items()}
            examples = examples.padded_batch(batch_size, padding_values=filler)
        else:
            examples = examples.batch(batch_size)
        return examples.map(self._encode, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)

    def at(self, access: Access, numbers: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
        """Returns batches (inputs, targets, weights) of the examples with the numbers of a dataset, in its order."""
        if not _varies_in_size(access.at(tf.data.Dataset.range(0)).element_spec):
            return self.batches(access.at(numbers), batch_size)

        @tf.autograph.experimental.do_not_convert
        def one(number: tf.Tensor) -> Batch:
            return self._one(access.read(number))

        return numbers.map(one, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).batch(batch_size)

    @tf.autograph.experimental.do_not_convert
    def _one(self, example: dict[str, tf.Tensor]) -> Batch:
        row = self._encode({key: value[tf.newaxis] for key, value in example.items()})
        return tf.nest.map_structure(lambda column: column[0], row)


def _varies_in_size(spec: dict[str, tf.TensorSpec]) -> bool:
    return any(None in part.shape and part.dtype == tf.uint8 for part in spec.values())
