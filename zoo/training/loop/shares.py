"""Divides global batches over the replicas of all workers; each worker reads only its own rows where the data can do that."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf

Tensors = Mapping[str, tf.Tensor]
Shared = Callable[[int, int, int], "tf.data.Dataset | None"]
"""Returns a worker's rows of each batch from the number of the worker, the number of workers and the least rows of a batch,
as `Prepared.share` does; None if it must read whole batches."""


def divide(
    dataset: Callable[[], tf.data.Dataset],
    strategy: tf.distribute.Strategy,
    accumulation_steps: int = 1,
    *,
    numbered: bool = False,
    share: Shared | None = None,
) -> tf.data.Dataset | tf.distribute.DistributedDataset:
    """Divides global batches over the replicas of all workers: the first rows to the first replica, and so on.

    Every replica gets as many rows, or one less. Of a batch with fewer rows than there are parts the first row is
    repeated with weight 0, because some kernels reject an empty batch.

    Args:
        dataset: returns batches (inputs, targets, weights).
        strategy: whose replicas share a batch.
        accumulation_steps: parts of a replica's share.
        numbered: whether a share ends with the number of its first row in the batch, where there are several replicas.
        share: returns the rows of a worker alone.

    Returns:
        What `iter` gives the elements of for `strategy.run`.
    """
    replicas = strategy.num_replicas_in_sync
    least = replicas * accumulation_steps
    if replicas == 1:
        whole = _filled_batches(dataset(), least)
        return strategy.experimental_distribute_dataset(whole) if _has_gpu(strategy) else whole

    def shares(context: tf.distribute.InputContext) -> tf.data.Dataset:
        workers, index = context.num_input_pipelines, context.input_pipeline_id
        local = replicas // workers
        mine = tf.range(local) + index * local
        own = share(index, workers, least) if share is not None and workers > 1 else None
        if own is None:
            rows, held = _filled_batches(dataset(), least).map(_sized), 0
        else:
            rows, held = own.map(_weighted), index * local  # begins with the first row of this replica

        @tf.autograph.experimental.do_not_convert
        def cut(batch: Any, size: tf.Tensor) -> tf.data.Dataset:
            begin = size * held // replicas

            def part(replica: tf.Tensor) -> Any:
                first, last = size * replica // replicas, size * (replica + 1) // replicas
                here = tf.nest.map_structure(lambda rows: rows[first - begin : last - begin], batch)
                return (*here, first) if numbered else here

            return tf.data.Dataset.from_tensor_slices(mine).map(tf.autograph.experimental.do_not_convert(part))

        return rows.flat_map(cut).prefetch(2 * local)

    return strategy.distribute_datasets_from_function(shares)


def _has_gpu(strategy: tf.distribute.Strategy) -> bool:
    """Whether batches are copied to a GPU while the previous one is computed."""
    return isinstance(strategy, tf.distribute.OneDeviceStrategy) and "GPU" in strategy.extended.worker_devices[0]


def num_rows(batch: Any) -> tf.Tensor:
    """Returns the number of examples of a batch, int32."""
    return tf.shape(tf.nest.flatten(batch)[0])[0]


def _filled_batches(dataset: tf.data.Dataset, least: int) -> tf.data.Dataset:
    if least == 1:
        return dataset
    return dataset.map(tf.autograph.experimental.do_not_convert(functools.partial(_filled, least)))


def _filled(least: int, inputs: Tensors, targets: Tensors, weights: Tensors) -> tuple[Tensors, Tensors, Tensors]:
    missing = tf.maximum(0, least - num_rows(inputs))
    ones = tf.ones([num_rows(inputs)], keras.config.floatx())

    def longer(rows: tf.Tensor) -> tf.Tensor:
        return tf.concat([rows, tf.repeat(rows[:1], missing, axis=0)], axis=0)

    def weightless(rows: tf.Tensor) -> tf.Tensor:
        return tf.concat([rows, tf.zeros_like(tf.repeat(rows[:1], missing, axis=0))], axis=0)

    inputs, targets = tf.nest.map_structure(longer, (inputs, targets))
    return inputs, targets, {name: weightless(weights.get(name, ones)) for name in targets}


@tf.autograph.experimental.do_not_convert
def _sized(*batch: Tensors) -> Any:
    return batch, num_rows(batch)


@tf.autograph.experimental.do_not_convert
def _weighted(batch: tuple[Tensors, Tensors, Tensors], place: tuple[tf.Tensor, ...]) -> Any:
    """Gives the rows of a worker weights, which are 0 for rows that were added; also returns the size of the whole batch."""
    (inputs, targets, weights), (_, real, size) = batch, place
    ones = tf.ones([num_rows(inputs)], keras.config.floatx())

    def of_real_rows(rows: tf.Tensor) -> tf.Tensor:
        kept = tf.reshape(real > 0, [-1, *[1] * (rows.shape.rank - 1)])
        return tf.where(kept, rows, tf.zeros_like(rows))

    return (inputs, targets, {name: of_real_rows(weights.get(name, ones)) for name in targets}), size
