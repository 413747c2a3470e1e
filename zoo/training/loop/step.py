"""One training step, the same on every strategy, and several of them in one compiled call.

The loss of a step is the sum of weighted losses over all replicas and accumulated parts, divided by the number of real
elements in them. Gradients are accumulated, summed over the replicas, divided, and clipped then: so the numbers do not
depend on how a batch is divided.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from zoo.config import TrainConfig
from zoo.training.optimizers import Update

_FOLD = 0x9E3779B1  # a large odd number, so that the seeds of replicas are far apart


class Steps:
    """The compiled functions of a run.

    Attributes:
        train: takes an iterator and a number of steps; runs them, or up to the first whose loss is not finite; returns
            how many were run, and the last one's loss.
        train_rows: takes columns in memory, the order of their rows, the first place in it, a number of steps and the size
            of a batch; the same for those who need no input pipeline, which on a CPU competes with the model.
        test: takes an iterator and a number of steps; updates the metrics.

    Args:
        model: the model, built in its strategy's scope.
        loss: one value per element of the target.
        metrics: the mean loss first; their variables exist.
        update: what applies gradients.
        config: clipping and accumulation.
        class_factors: factor of each class's loss, (classes,), None for equal ones.
        jit_compile: whether XLA compiles a step.
        finish: makes a batch from the rows of columns in memory.
    """

    def __init__(
        self,
        model: keras.Model,
        loss: keras.losses.Loss,
        metrics: Sequence[keras.metrics.Metric],
        update: Update,
        config: TrainConfig,
        *,
        class_factors: Sequence[float] | None = None,
        jit_compile: bool = False,
        finish: Callable[..., tuple[Any, ...]] | None = None,
    ) -> None:
        self.model, self.loss, self.metrics, self.update = model, loss, metrics, update
        self.config, self.class_factors = config, class_factors
        self.strategy = model.distribute_strategy
        self.train = self._trace_train(jit_compile)
        self.train_rows: Any = self._trace_rows(finish, jit_compile) if finish else None
        self.test = self._trace_test(jit_compile)

    def _trace_train(self, jit_compile: bool) -> Any:
        replica_step = tf.function(self._train_step, jit_compile=True) if jit_compile else self._train_step
        dtype = keras.config.floatx()

        @tf.function(reduce_retracing=True)
        def run(iterator: Any, count: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            done, loss = tf.constant(0, tf.int32), tf.constant(0, dtype)
            while done < count and tf.math.is_finite(loss):
                losses = self.strategy.run(replica_step, args=next(iterator))
                loss = tf.cast(self.strategy.experimental_local_results(losses)[0], dtype)
                done += 1
            return done, loss

        return run

    def _trace_test(self, jit_compile: bool) -> Any:
        replica_step = tf.function(self._test_step, jit_compile=True) if jit_compile else self._test_step

        @tf.function(reduce_retracing=True)
        def run(iterator: Any, count: tf.Tensor) -> None:
            # To the end whatever the loss: each worker sees its own part of it only, and none may leave the others.
            for _ in tf.range(count):
                self.strategy.run(replica_step, args=next(iterator))

        return run

    def _trace_rows(self, finish: Callable[..., tuple[Any, ...]], jit_compile: bool) -> Any:
        # XLA compiles the step alone: a whole loop of it would copy the columns at every step.
        replica_step = tf.function(self._train_step, jit_compile=True) if jit_compile else self._train_step
        dtype = keras.config.floatx()

        @tf.function(reduce_retracing=True)
        def run(columns: Any, order: tf.Tensor, first: tf.Tensor, count: tf.Tensor, size: int) -> Any:
            done, loss = tf.constant(0, tf.int32), tf.constant(0, dtype)
            while done < count and tf.math.is_finite(loss):
                batch = finish(*_gathered(columns, tf.slice(order, [first + done * size], [size])))
                losses = self.strategy.run(replica_step, args=batch)
                loss = tf.cast(self.strategy.experimental_local_results(losses)[0], dtype)
                done += 1
            return done, loss

        return run

    def _train_step(self, inputs: Any, targets: Any, weights: Any = None) -> tf.Tensor:
        replica = tf.distribute.get_replica_context()
        gradients, total, count = self._accumulated(inputs, targets, weights)
        known = [i for i, g in enumerate(gradients) if g is not None]
        *summed, total, count = replica.all_reduce(
            tf.distribute.ReduceOp.SUM, [*(gradients[i] for i in known), total, count]
        )
        scale = self.update.scale()
        factor = tf.math.reciprocal_no_nan(count)
        if scale is not None:
            factor /= tf.cast(scale, factor.dtype)
        summed = [g * tf.cast(factor, g.dtype) for g in summed]
        if self.config.clip_norm is not None:
            summed = self._clip(summed)
        variables = self.model.trainable_variables
        self.update.apply(summed, [variables[i] for i in known])
        return tf.math.divide_no_nan(total, count)

    def _clip(self, gradients: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        clipped: list[tf.Tensor]
        clipped, _ = tf.clip_by_global_norm(gradients, self.config.clip_norm)
        return clipped

    def _accumulated(self, inputs: Any, targets: Any, weights: Any) -> tuple[list[Any], tf.Tensor, tf.Tensor]:
        """Returns sums over the parts of this replica's share: gradients, losses, numbers of real elements."""
        parts = self.config.accumulation_steps
        if parts == 1:
            return self._gradients(inputs, targets, weights)
        size = tf.shape(targets)[0]

        def part(i: Any) -> tuple[list[Any], tf.Tensor, tf.Tensor]:
            first, last = size * i // parts, size * (i + 1) // parts
            cut = tf.nest.map_structure(lambda rows: rows[first:last], (inputs, targets, weights))
            return self._gradients(*cut)

        gradients, total, count = part(0)
        known = [i for i, g in enumerate(gradients) if g is not None]
        sums = [gradients[i] for i in known]
        if self.strategy.num_replicas_in_sync == 1:

            def body(i: tf.Tensor, total: Any, count: Any, *sums: tf.Tensor) -> tuple[Any, ...]:
                more, more_total, more_count = part(i)
                added = (a + more[k] for a, k in zip(sums, known, strict=True))
                return i + 1, total + more_total, count + more_count, *added

            _, total, count, *sums = tf.while_loop(
                lambda i, *_: i < parts, body, (1, total, count, *sums), parallel_iterations=1
            )
        else:  # batch normalisation talks to the other replicas, which no loop inside a replica may do
            for i in range(1, parts):
                with tf.control_dependencies(sums):  # one after the other: that is what saves memory
                    more, more_total, more_count = part(tf.identity(i))
                sums = [a + more[k] for a, k in zip(sums, known, strict=True)]
                total, count = total + more_total, count + more_count
        for i, value in zip(known, sums, strict=True):
            gradients[i] = value
        return gradients, total, count

    def _gradients(self, inputs: Any, targets: Any, weights: Any) -> tuple[list[Any], tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            outputs, total, count = self._losses(inputs, targets, weights, training=True)
            penalty = self._penalty(total)
            objective = total + penalty * count
            scale = self.update.scale()
            if scale is not None:
                objective *= tf.cast(scale, objective.dtype)
        self._update_metrics(outputs, targets, weights, total, count, penalty)
        variables = [v.value for v in self.model.trainable_variables]
        # Dense: of an embedding's sparse gradient Keras's optimizers square every repeated row before they add it up, and
        # clipping measures repeated rows apart; both are silently wrong. Replicas cannot sum sparse ones of two sizes.
        gradients = [g if g is None else tf.convert_to_tensor(g) for g in tape.gradient(objective, variables)]
        return gradients, total + penalty * count, count

    def _penalty(self, total: tf.Tensor) -> tf.Tensor:
        losses = self.model.losses
        return tf.cast(tf.add_n(losses), total.dtype) if losses else tf.zeros_like(total)

    def _losses(self, inputs: Any, targets: Any, weights: Any, training: bool) -> tuple[Any, tf.Tensor, tf.Tensor]:
        """Returns outputs, the sum of weighted losses, and the number of real elements."""
        outputs = self.model(inputs, training=training)
        losses = self.loss(targets, outputs)
        if weights is None:
            count = tf.cast(tf.size(losses), losses.dtype)
        else:
            weights = tf.cast(weights, losses.dtype)
            count = tf.cast(tf.math.count_nonzero(weights), losses.dtype)
            losses *= weights
        if training and self.class_factors is not None:
            losses *= self._factors_of(targets, losses.dtype)
        return outputs, tf.reduce_sum(losses), count

    def _factors_of(self, targets: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
        factors = tf.constant(self.class_factors, dtype)
        if targets.dtype.is_floating:  # shares of every class
            return tf.linalg.matvec(tf.cast(targets, dtype), factors)
        return tf.gather(factors, targets)

    def _test_step(self, inputs: Any, targets: Any, weights: Any = None) -> None:
        outputs, total, count = self._losses(inputs, targets, weights, training=False)
        self._update_metrics(outputs, targets, weights, total, count, self._penalty(total))

    def _update_metrics(self, outputs: Any, targets: Any, weights: Any, total: Any, count: Any, penalty: Any) -> None:
        # Weighted by the number of elements, so that a smaller last batch, or a replica's smaller part, counts as it should.
        self.metrics[0].update_state(tf.math.divide_no_nan(total, count) + penalty, sample_weight=count)
        if targets.dtype.is_floating and targets.shape.rank == outputs.shape.rank and self._has_classes(targets):
            targets = tf.argmax(targets, axis=-1)
        for metric in self.metrics[1:]:
            metric.update_state(targets, outputs, sample_weight=weights)

    def _has_classes(self, targets: tf.Tensor) -> bool:
        """Whether targets are shares of classes, as mixing images makes them of class numbers."""
        return any(name in ("mixup", "cutmix") for name in self.config.augmentation)


def _gathered(columns: Any, rows: tf.Tensor) -> Any:
    return tf.nest.map_structure(lambda column: tf.gather(column, rows), columns)


def divide(
    dataset: tf.data.Dataset, strategy: tf.distribute.Strategy, accumulation_steps: int = 1
) -> tf.data.Dataset | tf.distribute.DistributedDataset:
    """Divides global batches over the replicas of all workers: the first rows to the first replica, and so on.

    Every replica gets as many rows, or one less. Of a batch with fewer rows than there are parts the first row is
    repeated with weight 0, because some kernels refuse an empty batch.

    Args:
        dataset: batches (inputs, targets[, weights]).
        strategy: whose replicas share a batch.
        accumulation_steps: parts of a replica's share.

    Returns:
        What `iter` gives the elements of for `strategy.run`.
    """
    replicas = strategy.num_replicas_in_sync
    if replicas * accumulation_steps > 1:
        dataset = dataset.map(lambda *batch: _filled(replicas * accumulation_steps, *batch))
    if replicas == 1:
        return strategy.experimental_distribute_dataset(dataset) if _has_gpu(strategy) else dataset

    def shares(context: tf.distribute.InputContext) -> tf.data.Dataset:
        local = replicas // context.num_input_pipelines
        mine = tf.range(local) + context.input_pipeline_id * local

        def cut(*batch: Any) -> tf.data.Dataset:
            size = tf.shape(batch[1])[0]

            def share(replica: tf.Tensor) -> Any:
                first, last = size * replica // replicas, size * (replica + 1) // replicas
                return tf.nest.map_structure(lambda rows: rows[first:last], batch)

            return tf.data.Dataset.from_tensor_slices(mine).map(share)

        return dataset.flat_map(cut).prefetch(2 * local)

    return strategy.distribute_datasets_from_function(shares)


def _has_gpu(strategy: tf.distribute.Strategy) -> bool:
    """Whether batches are to be copied to a GPU while the one before them is computed."""
    return isinstance(strategy, tf.distribute.OneDeviceStrategy) and "GPU" in strategy.extended.worker_devices[0]


def _filled(least: int, inputs: Any, targets: Any, weights: Any = None) -> tuple[Any, Any, Any]:
    missing = tf.maximum(0, least - tf.shape(targets)[0])
    if weights is None:
        weights = tf.ones(tf.shape(targets)[:1], keras.config.floatx())

    def longer(rows: Any) -> Any:
        return tf.concat([rows, tf.repeat(rows[:1], missing, axis=0)], axis=0)

    nothing = tf.zeros_like(tf.repeat(weights[:1], missing, axis=0))
    return tf.nest.map_structure(longer, inputs), longer(targets), tf.concat([weights, nothing], axis=0)


@contextlib.contextmanager
def replicated(model: keras.Model) -> Iterator[None]:
    """Mends, while the block runs, what Keras does wrong without a word where several replicas share a batch.

    Every replica draws dropout masks of its own; Keras lets all of them draw the same. The replica's number goes into the
    seed, so the draws are still a function of the run's seed and the step. And batch normalisation takes its statistics
    over all replicas; Keras does so only where a layer was made with `synchronized=True`, and lets the moving statistics
    of others drift apart.
    """
    layers = model._flatten_layers() if model.distribute_strategy.num_replicas_in_sync > 1 else []
    layers = list(layers)
    norms = [n for n in layers if isinstance(n, keras.layers.BatchNormalization) and not n.synchronized]
    generators = {id(g): g for layer in layers for g in layer._seed_generators}
    for norm in norms:
        norm.synchronized = True
    for generator in generators.values():
        generator.next = _folded(generator.next)
    try:
        yield
    finally:
        for norm in norms:
            norm.synchronized = False
        for generator in generators.values():
            del generator.next


def _folded(draw: Callable[..., Any]) -> Callable[..., Any]:
    """A seed generator's `next` with the number of the replica in the seed."""

    def draw_for_replica(ordered: bool = True) -> Any:
        seed = draw(ordered)
        context = tf.distribute.get_replica_context()
        if context is None:
            return seed
        replica = tf.cast(context.replica_id_in_sync_group, seed.dtype)
        return seed + tf.stack([replica * tf.constant(_FOLD, seed.dtype), tf.zeros_like(replica)])

    return draw_for_replica
