"""One training step, the same on every strategy, and several of them in one compiled call.

The loss of a step is the sum of weighted losses over all replicas and accumulated parts, divided by the number of real
elements in them. Gradients are accumulated, summed over the replicas, divided, and clipped then: so the numbers do not
depend on how a batch is divided. A loss of several terms is the sum of their means: how many elements each has in the whole
batch is known before the forward pass, as targets and weights alone decide it.

A batch is a triple of dicts by name: inputs, targets, and weights by the targets' names, where a target has any.
"""

from __future__ import annotations

import contextlib
import functools
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from zoo.config import TrainConfig
from zoo.config_checks import MIXING
from zoo.kernels import traced, without_cudnn
from zoo.tasks import call_model
from zoo.training.loop.draws import Draws, rows_of_batch
from zoo.training.loop.shares import num_rows
from zoo.training.objective import ModelObjective, members_apart
from zoo.training.optimizers import Update

Tensors = Mapping[str, tf.Tensor]


class Steps:
    """The compiled functions of a run.

    Attributes:
        train: takes an iterator and a number of steps; runs them, or up to the first whose loss is not finite; returns
            how many were run, and the last one's loss.
        train_rows: takes columns in memory, the order of their rows, the first place in it, a number of steps and the size
            of a batch; the same for those who need no input pipeline, which on a CPU competes with the model.
        test: takes an iterator and a number of steps; updates the metrics.
        draws: the random draws of a batch that is divided; set it before the first step.
        without_gradient: the trainable weights that the loss does not depend on; None before the first step was traced.

    Args:
        model: the model, built in its strategy's scope.
        objective: losses and metrics, whose variables exist.
        update: what applies gradients.
        config: clipping and accumulation.
        class_factors: factor of each class's loss, (classes,), None for equal ones.
        jit_compile: whether XLA compiles a step.
        finish: makes a batch from the rows of columns in memory.
    """

    def __init__(
        self,
        model: keras.Model,
        objective: ModelObjective,
        update: Update,
        config: TrainConfig,
        *,
        class_factors: Sequence[float] | None = None,
        jit_compile: bool = False,
        finish: Callable[..., tuple[Any, ...]] | None = None,
    ) -> None:
        self.model, self.objective, self.update = model, objective, update
        self.config, self.class_factors = config, class_factors
        self.mixed = any(name in MIXING for name in config.augmentation)
        self.strategy = model.distribute_strategy
        self.without_gradient: list[str] | None = None
        self.draws: Draws | None = None
        self.train = self._trace_train(jit_compile)
        self.train_rows: Any = self._trace_rows(finish, jit_compile) if finish else None
        self.test = self._trace_test(jit_compile)

    def _trace_train(self, jit_compile: bool) -> Any:
        replica_step = _unconverted(self.model, self._train_step, jit_compile)
        dtype = keras.config.floatx()

        @traced
        def run(iterator: Any, count: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            done, loss = tf.constant(0, tf.int32), tf.constant(0, dtype)
            while done < count and tf.math.is_finite(loss):
                losses = self.strategy.run(replica_step, args=next(iterator))
                loss = tf.cast(self.strategy.experimental_local_results(losses)[0], dtype)
                done += 1
            return done, loss

        return run

    def _trace_test(self, jit_compile: bool) -> Any:
        replica_step = _unconverted(self.model, self._test_step, jit_compile)

        @traced
        def run(iterator: Any, count: tf.Tensor) -> None:
            # To the end whatever the loss: each worker sees its own part of it only, and none may leave the others.
            for _ in tf.range(count):
                self.strategy.run(replica_step, args=next(iterator))

        return run

    def _trace_rows(self, finish: Callable[..., tuple[Any, ...]], jit_compile: bool) -> Any:
        # XLA compiles the step alone: a whole loop of it would copy the columns at every step.
        replica_step = _unconverted(self.model, self._train_step, jit_compile)
        dtype = keras.config.floatx()

        @tf.autograph.experimental.do_not_convert
        def batch_of(columns: Any, rows: tf.Tensor) -> tuple[Any, ...]:
            return finish(*_gathered(columns, rows))

        @traced
        def run(columns: Any, order: tf.Tensor, first: tf.Tensor, count: tf.Tensor, size: int) -> Any:
            done, loss = tf.constant(0, tf.int32), tf.constant(0, dtype)
            while done < count and tf.math.is_finite(loss):
                batch = batch_of(columns, tf.slice(order, [first + done * size], [size]))
                losses = self.strategy.run(replica_step, args=batch)
                loss = tf.cast(self.strategy.experimental_local_results(losses)[0], dtype)
                done += 1
            return done, loss

        return run

    def _train_step(self, inputs: Tensors, targets: Tensors, weights: Tensors, first: Any = 0) -> tf.Tensor:
        replica = tf.distribute.get_replica_context()
        batch = (inputs, targets, weights)
        gradients, total, count = self._accumulated(batch, self._factors(replica, *batch), first)
        variables = self.model.trainable_variables
        known = [i for i, g in enumerate(gradients) if g is not None]
        self.without_gradient = [v.path for v, g in zip(variables, gradients, strict=True) if g is None]
        *summed, total, count = replica.all_reduce(
            tf.distribute.ReduceOp.SUM, [*(gradients[i] for i in known), total, count]
        )
        scale = self.update.scale()
        factor = tf.math.reciprocal_no_nan(count)
        if scale is not None:
            factor /= tf.cast(scale, factor.dtype)
        summed = [g * tf.cast(factor, g.dtype) for g in summed]
        if self.config.clip_norm is not None and known:
            summed = self._clip(summed)
        if known:
            self.update.apply(summed, [variables[i] for i in known])
        return tf.math.divide_no_nan(total, count)

    def _clip(self, gradients: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        clipped: list[tf.Tensor]
        clipped, _ = tf.clip_by_global_norm(gradients, self.config.clip_norm)
        return clipped

    def _factors(self, replica: Any, inputs: Tensors, targets: Tensors, weights: Tensors) -> list[Any]:
        """Returns the factor of each term's sum of losses, so that one division by the number of all elements makes
        weighted means of them: weight x elements of all terms / elements of the term, over all replicas and parts."""
        terms = self.objective.terms
        if len(terms) == 1:  # the two numbers are the same
            return [terms[0].weight]
        dtype = tf.as_dtype(keras.config.floatx())
        counts = tf.stack([term.count(targets, weights, dtype) for term in terms])
        counts = replica.all_reduce(tf.distribute.ReduceOp.SUM, counts)
        each = tf.math.divide_no_nan(tf.reduce_sum(counts) * [term.weight for term in terms], counts)
        return tf.unstack(each, len(terms))

    def _accumulated(
        self, batch: tuple[Tensors, ...], factors: Sequence[Any], first: Any
    ) -> tuple[list[Any], tf.Tensor, tf.Tensor]:
        """Returns sums over the parts of this replica's share: gradients, losses, numbers of real elements.

        Args:
            batch: the share.
            factors: see `_factors`.
            first: number of the share's first row in the global batch.
        """
        parts, draws = self.config.accumulation_steps, self.draws
        size, replica = num_rows(batch), tf.distribute.get_replica_context()
        seeds = draws.states() if draws is not None and parts > 1 else []

        def part(i: Any) -> tuple[list[Any], tf.Tensor, tf.Tensor]:
            if draws is None:
                return self._gradients(factors, *batch)
            begin, end = size * i // parts, size * (i + 1) // parts
            if seeds:
                draws.reset(seeds)
            number = replica.replica_id_in_sync_group * parts + i
            share = batch if parts == 1 else tf.nest.map_structure(lambda rows: rows[begin:end], batch)
            with rows_of_batch(first + begin, end - begin, number):
                return self._gradients(factors, *share)

        if parts == 1:
            return part(0)

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

    def _gradients(
        self, factors: Sequence[Any], inputs: Tensors, targets: Tensors, weights: Tensors
    ) -> tuple[list[Any], tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            with members_apart(self.model):
                outputs = call_model(self.model, inputs, training=True)
            sums = self._sums(targets, outputs, weights, training=True)
            totals = [
                total if isinstance(factor, float) and factor == 1 else total * tf.cast(factor, total.dtype)
                for (total, _), factor in zip(sums, factors, strict=True)
            ]
            total, count = functools.reduce(operator.add, totals), functools.reduce(operator.add, [n for _, n in sums])
            penalty = self._penalty(total)
            objective = total + penalty * count
            scale = self.update.scale()
            if scale is not None:
                objective *= tf.cast(scale, objective.dtype)
        self.objective.update_metrics(targets, outputs, weights, sums, penalty, self.mixed)
        variables = [v.value for v in self.model.trainable_variables]
        # Dense: of an embedding's sparse gradient Keras's optimizers square every repeated row before they add it up, and
        # clipping measures repeated rows apart; both are silently wrong. Replicas cannot sum sparse ones of two sizes.
        gradients = [g if g is None else tf.convert_to_tensor(g) for g in tape.gradient(objective, variables)]
        return gradients, total + penalty * count, count

    def _penalty(self, total: tf.Tensor) -> tf.Tensor:
        losses = [tf.cast(tf.reduce_sum(loss), total.dtype) for loss in self.model.losses]
        return tf.add_n(losses) if losses else tf.zeros_like(total)

    def _sums(
        self, targets: Tensors, outputs: Tensors, weights: Tensors, training: bool
    ) -> list[tuple[tf.Tensor, tf.Tensor]]:
        """Returns, of each term, the sum of weighted losses and the number of real elements."""
        factors = self.class_factors if training else None
        return [
            term.sum(targets, outputs, weights, factors if term.target == self.objective.weighted else None)
            for term in self.objective.terms
        ]

    def _test_step(self, inputs: Tensors, targets: Tensors, weights: Tensors) -> None:
        outputs = call_model(self.model, inputs)
        sums = self._sums(targets, outputs, weights, training=False)
        self.objective.update_metrics(targets, outputs, weights, sums, self._penalty(sums[0][0]))


def _unconverted(model: keras.Model, step: Callable[..., Any], jit_compile: bool) -> Any:
    """A step as TensorFlow traces it: AutoGraph, which Keras's training leaves out too, takes seconds and changes nothing."""
    if not jit_compile:
        return tf.autograph.experimental.do_not_convert(step)

    @tf.function(jit_compile=True, autograph=False)
    def compiled(*args: Any) -> Any:
        with without_cudnn(model):
            return step(*args)

    return compiled


def _gathered(columns: Any, rows: tf.Tensor) -> Any:
    return tf.nest.map_structure(lambda column: tf.gather(column, rows), columns)


@contextlib.contextmanager
def replicated(model: keras.Model, accumulation_steps: int = 1) -> Iterator[Draws | None]:
    """Fixes, while the block runs, two silent errors of Keras with several replicas.

    Every replica draws the dropout masks of its own rows; in Keras all replicas draw the same. See `zoo.training.loop.draws`.
    Batch normalization computes its statistics over all replicas; Keras does so only for layers with `synchronized=True`,
    and the moving statistics of other layers drift apart.

    Yields:
        What knows the random draws; None if a batch is not divided, so that they are Keras's own.
    """
    replicas = model.distribute_strategy.num_replicas_in_sync
    layers = list(model._flatten_layers()) if replicas > 1 else []
    norms = [n for n in layers if isinstance(n, keras.layers.BatchNormalization) and not n.synchronized]
    for norm in norms:
        norm.synchronized = True
    try:
        if replicas * accumulation_steps == 1:
            yield None
            return
        draws = Draws(model)
        with draws.placed():
            yield draws
    finally:
        for norm in norms:
            norm.synchronized = False
