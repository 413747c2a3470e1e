"""The training loop: one for every strategy, single device included.

Keras's `fit` clips gradients per replica, loses steps when it resumes and refuses several steps per call on more than
one device. This loop runs a Keras model, optimizer and metrics on `strategy.run` and keeps Keras's callbacks, history
and progress bar. The loss of a step is the sum over all replicas divided by the number of real elements in the global
batch; gradients are summed over the replicas first and clipped then. So the numbers do not depend on the devices, but
for the masks of dropout, which every replica still draws alike.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from zoo import storage
from zoo.config import TrainConfig
from zoo.errors import UsageError, one_line
from zoo.registry import describe_build, get_spec, list_models
from zoo.tasks import Task
from zoo.training.checkpoints import Checkpoints
from zoo.training.plots import plot_history
from zoo.training.run_directory import RunDirectory, writing
from zoo.training.schedules import make_optimizer
from zoo.training.strategies import check_strategy


class TrainingData(Protocol):
    """What the loop asks of its data; `data.prepare(...)` returns it."""

    task: Task

    def describe(self) -> dict[str, Any]:
        """The `model` and `data` sections of config.yaml."""

    def num_examples(self, split: str) -> int:
        """Number of examples of a split."""

    def batches(
        self,
        split: str,
        batch_size: int,
        *,
        seed: int | None = None,
        epoch: int = 0,
        start: int = 0,
        group_by_length: bool = False,
    ) -> tf.data.Dataset:
        """Batches (input, target[, weights]) whose order is a function of (seed, epoch)."""

    @property
    def interface(self) -> Any:
        """What the exporter needs; has `save(directory)`."""


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """What a training run gives back.

    Attributes:
        history: a dict per epoch, as in history.csv.
        run_directory: where the run is kept, None where none was asked for.
        resumed_at: (epoch, step) at which this call went on, None for a run from the start.
    """

    history: list[dict[str, float]]
    run_directory: Path | None
    resumed_at: tuple[int, int] | None


def train(
    model: keras.Model,
    data: TrainingData,
    config: TrainConfig | None = None,
    *,
    run_directory: str | Path | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: int = 1,
    overwrite: bool = False,
) -> TrainResult:
    """Trains a model under the strategy that it was built under.

    With a run directory the run is checkpointed, and the same call after a kill goes on where it was.

    Args:
        model: a Functional Keras model; its weights change.
        data: what `data.prepare(...)` returned.
        config: how to train.
        run_directory: where config, history, checkpoints, plots and the trained model go; None keeps nothing.
        callbacks: Keras callbacks. What they remember themselves, such as the patience of EarlyStopping, starts anew when
            a killed run goes on.
        verbose: 1 for Keras's progress bar, 2 for a line per epoch, 0 for silence.
        overwrite: throws away the run that is in the directory.

    Returns:
        The history and where the run is.

    Raises:
        UsageError: settings that contradict the strategy or the run that is there, a run directory that cannot be
            used, a loss that is not finite.

    Example:
        >>> prepared = zoo.datasets.load("digits").prepare("cnn")
        >>> with zoo.strategy("one_device").scope():
        ...     model = prepared.build()
        >>> zoo.train(model, prepared, zoo.TrainConfig(epochs=5), run_directory="runs/digits-cnn").history[-1]
    """
    config = config or TrainConfig()
    if config.closed_form:
        config = dataclasses.replace(config, epochs=1)
    check_strategy(model, config)
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    loop = _Loop(model, data, config, callbacks, verbose)
    if run_directory is None:
        return loop.run()
    # Only now, when nothing of the settings can be refused any more, is anything written.
    settings = {**data.describe(), "config": config.to_dict()}
    directory = RunDirectory(run_directory, settings, overwrite=overwrite)
    try:
        with writing(directory.path):
            data.interface.save(directory.path / "interface")
        loop.keep_in(directory)
        return loop.run()
    finally:
        directory.close()


def _closed_form(model: keras.Model) -> Callable[..., None]:
    build = describe_build(model)
    solve = get_spec(build["name"]).closed_form if build else None
    if solve is None:
        able = [name for name in list_models() if get_spec(name).closed_form]
        raise UsageError(
            f"Model {model.name!r} has no closed form; only {', '.join(able)} can be solved. Leave closed_form out."
        )
    return solve


class _Loop:
    """One call of `train`: the traced functions, and the position in the run."""

    def __init__(
        self,
        model: keras.Model,
        data: TrainingData,
        config: TrainConfig,
        callbacks: Sequence[keras.callbacks.Callback],
        verbose: int,
    ) -> None:
        self.model, self.data, self.config = model, data, config
        self.directory: RunDirectory | None = None
        self.checkpoints: Checkpoints | None = None
        self.strategy = model.distribute_strategy
        self.closed_form = _closed_form(model) if config.closed_form else None
        self.has_validation = data.num_examples("validation") > 0
        self.steps = math.ceil(data.num_examples("train") / config.batch_size)
        if not self.steps:
            raise UsageError("The train split is empty. Choose another data set or split.")
        with self.strategy.scope():
            self.loss = data.task.loss(model)
            self.optimizer = make_optimizer(config, self.steps * config.epochs)
            # Eagerly, in scope: variables made while a replica's step is traced raise.
            self.optimizer.build(model.trainable_variables)
            # Keras's callbacks expect a compiled model: they look up its optimizer and which way a metric is better.
            model.compile(
                optimizer=self.optimizer, loss=self.loss, metrics=data.task.metrics(), jit_compile=config.jit_compile
            )
            self.metrics = [keras.metrics.Mean(name="loss"), *data.task.metrics()]
            self._build_metrics()
        self._reduce_once(self.optimizer)
        self.train_steps = self._trace(self._train_step)
        self.test_steps = self._trace(self._test_step)
        self.verbose = verbose
        self.epoch, self.step = 0, 0
        self.rows: list[dict[str, float]] = []
        self.callbacks = keras.callbacks.CallbackList(
            list(callbacks),
            add_history=True,
            add_progbar=verbose > 0,
            model=model,
            epochs=config.epochs,
            steps=self.steps,
            verbose=verbose,
        )

    def keep_in(self, directory: RunDirectory) -> None:
        """Keeps the run in a directory, and goes on with what is there."""
        self.directory = directory
        variables = {
            "model": self.model.variables,
            "optimizer": self.optimizer.variables,
            "metrics": [v for m in self.metrics for v in m.variables],
        }
        self.checkpoints = Checkpoints(directory.checkpoints, variables, self.config.keep_checkpoints)

    def _build_metrics(self) -> None:
        """Makes the metrics' variables now: a metric that makes them while traced cannot be restored first."""
        batch = next(iter(self.data.batches("train", 1)))
        output = self.model(batch[0], training=False)
        for metric in self.metrics[1:]:
            metric.update_state(batch[1], output)
        self._reset_metrics()
        self.model.compute_metrics(batch[0], batch[1], output)
        self.model.reset_metrics()

    @staticmethod
    def _reduce_once(optimizer: keras.optimizers.Optimizer) -> None:
        """Tells the optimizer that gradients arrive summed over the replicas.

        Keras sums them when it updates the variables, that is, after clipping: every replica then clips its own part,
        and the result depends on the number of devices. `_train_step` sums first, so Keras must not do it again.
        """
        if not hasattr(optimizer, "_all_reduce_sum_gradients"):
            raise RuntimeError(f"Keras {keras.__version__} reduces gradients in another place; install keras 3.15.")
        optimizer._all_reduce_sum_gradients = lambda grads_and_vars: grads_and_vars

    def _trace(self, step: Any) -> Any:
        """Compiles a function that takes an iterator and runs a number of steps from it."""
        replica_step = tf.function(step, jit_compile=True) if self.config.jit_compile else step

        @tf.function(reduce_retracing=True)
        def run(iterator: Any, count: tf.Tensor) -> None:
            for _ in tf.range(count):
                self.strategy.run(replica_step, args=next(iterator))

        return run

    def _losses(self, inputs: Any, targets: Any, weights: Any, training: bool) -> tuple[Any, Any, Any]:
        """Returns outputs, the sum of this replica's weighted losses, and its number of real elements."""
        outputs = self.model(inputs, training=training)
        losses = self.loss(targets, outputs)
        if weights is None:
            return outputs, tf.reduce_sum(losses), tf.cast(tf.size(losses), losses.dtype)
        weights = tf.cast(weights, losses.dtype)
        return outputs, tf.reduce_sum(losses * weights), tf.cast(tf.math.count_nonzero(weights), losses.dtype)

    def _train_step(self, inputs: Any, targets: Any, weights: Any = None) -> None:
        replica = tf.distribute.get_replica_context()
        with tf.GradientTape() as tape:
            outputs, total, count = self._losses(inputs, targets, weights, training=True)
            everywhere = replica.all_reduce(tf.distribute.ReduceOp.SUM, count)
            objective = tf.math.divide_no_nan(total, everywhere)
            penalty = tf.add_n(self.model.losses) if self.model.losses else tf.zeros_like(objective)
            objective += penalty / replica.num_replicas_in_sync
        variables = self.model.trainable_variables
        gradients = tape.gradient(objective, [v.value for v in variables])
        # Dense: of an embedding's sparse gradient Keras's optimizers square every repeated row before they add it up, and
        # clipping measures repeated rows apart; both are silently wrong. Replicas cannot sum sparse ones of two sizes.
        pairs = [(tf.convert_to_tensor(g), v) for g, v in zip(gradients, variables, strict=True) if g is not None]
        gradients = replica.all_reduce(tf.distribute.ReduceOp.SUM, [g for g, _ in pairs])
        if self.config.clip_norm is not None:
            gradients, _ = tf.clip_by_global_norm(gradients, self.config.clip_norm)
        self.optimizer.apply(gradients, [v for _, v in pairs])
        self._update_metrics(outputs, targets, weights, total, count, penalty)

    def _test_step(self, inputs: Any, targets: Any, weights: Any = None) -> None:
        outputs, total, count = self._losses(inputs, targets, weights, training=False)
        penalty = tf.add_n(self.model.losses) if self.model.losses else tf.zeros_like(total)
        self._update_metrics(outputs, targets, weights, total, count, penalty)

    def _update_metrics(self, outputs: Any, targets: Any, weights: Any, total: Any, count: Any, penalty: Any) -> None:
        # Weighted by the number of elements, so that a smaller last batch, or a replica's smaller part, counts as it should.
        self.metrics[0].update_state(tf.math.divide_no_nan(total, count) + penalty, sample_weight=count)
        for metric in self.metrics[1:]:
            metric.update_state(targets, outputs, sample_weight=weights)

    def _reset_metrics(self) -> None:
        for metric in self.metrics:
            metric.reset_state()

    def _logs(self, prefix: str = "") -> dict[str, float]:
        return {prefix + metric.name: float(metric.result()) for metric in self.metrics}

    def _iterator(self, dataset: tf.data.Dataset) -> Any:
        if self.strategy.num_replicas_in_sync > 1:
            dataset = dataset.map(self._fill)
        options = tf.data.Options()
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
        return iter(self.strategy.experimental_distribute_dataset(dataset.with_options(options)))

    def _fill(self, inputs: Any, targets: Any, weights: Any = None) -> tuple[Any, Any, Any]:
        """Repeats the first row, with weight 0, until every replica gets as many: some kernels refuse an empty batch."""
        missing = -tf.shape(targets)[0] % self.strategy.num_replicas_in_sync
        if weights is None:
            weights = tf.ones(tf.shape(targets)[:1], keras.config.floatx())

        def longer(rows: Any) -> Any:
            return tf.concat([rows, tf.repeat(rows[:1], missing, axis=0)], axis=0)

        nothing = tf.zeros_like(tf.repeat(weights[:1], missing, axis=0))
        return tf.nest.map_structure(longer, inputs), longer(targets), tf.concat([weights, nothing], axis=0)

    def run(self) -> TrainResult:
        self.model.stop_training = False
        resumed = self._resume()
        if not self.model.stop_training and self.epoch < self.config.epochs:
            self.callbacks.on_train_begin()
            logs: dict[str, float] = {}
            while self.epoch < self.config.epochs and not self.model.stop_training:
                try:
                    logs = self._run_epoch()
                except tf.errors.InvalidArgumentError as error:
                    if "assertion failed" not in str(error):
                        raise
                    raise UsageError(f"A batch was refused: {one_line(error)} Check the data set.") from error
            self.callbacks.on_train_end(logs)
            self._save()  # a callback may have put the best weights back
        self._finish()
        path = self.directory.path if self.directory else None
        return TrainResult(history=self.rows, run_directory=path, resumed_at=resumed)

    def _resume(self) -> tuple[int, int] | None:
        state = self.checkpoints.restore() if self.checkpoints else None
        if state is None:
            return None
        self.epoch, self.step, self.rows = state["epoch"], state["step_in_epoch"], state["history"]
        # A run that a callback ended stays ended, unless it is given more epochs than it was stopped under.
        self.model.stop_training = state["stopped"] and self.config.epochs <= state["epochs"]
        if self.verbose:
            if self.model.stop_training or self.epoch >= self.config.epochs:
                where = f"training is done, after {self.epoch} epochs"
            else:
                where = (
                    f"going on in epoch {self.epoch + 1} of {self.config.epochs}, step {self.step + 1} of {self.steps}"
                )
            print(f"Found the run in {self.directory.path if self.directory else ''}: {where}.", flush=True)
        return self.epoch, self.step

    def _save(self) -> None:
        if self.checkpoints:
            state = {
                "epoch": self.epoch,
                "step_in_epoch": self.step,
                "history": self.rows,
                "epochs": self.config.epochs,
                "stopped": self.model.stop_training,
            }
            done = self.epoch * self.steps + self.step
            self.checkpoints.save(done, state)

    def _run_epoch(self) -> dict[str, float]:
        epoch, config = self.epoch, self.config
        self.callbacks.on_epoch_begin(epoch)
        if self.step == 0:
            self._reset_metrics()
        started, first = time.perf_counter(), self.step
        order: dict[str, Any] = {"seed": config.seed, "epoch": epoch, "group_by_length": config.group_by_length}
        batches = self.data.batches("train", config.batch_size, start=self.step, **order)
        iterator = self._iterator(batches)
        logs = self._solve() if self.closed_form else {}
        while self.step < self.steps and not self.model.stop_training:
            count = self._steps_until_next_stop()
            self.callbacks.on_train_batch_begin(self.step)
            self.train_steps(iterator, tf.constant(count, tf.int32))
            self.step += count
            logs = self._logs()
            self._refuse_non_finite(logs)
            self.callbacks.on_train_batch_end(self.step - 1, logs)
            if config.checkpoint_steps and self.step % config.checkpoint_steps == 0 and self.step < self.steps:
                self._save()
        seconds = time.perf_counter() - started
        examples = min(self.step * config.batch_size, self.data.num_examples("train")) - first * config.batch_size
        logs.update(self._validate())
        self._refuse_non_finite(logs)
        self.rows.append(
            {
                "epoch": epoch + 1,
                **logs,
                "learning_rate": float(tf.convert_to_tensor(self.optimizer.learning_rate)),
                "seconds": round(seconds, 3),
                "examples_per_second": round(examples / seconds, 1),
            }
        )
        self.epoch, self.step = epoch + 1, 0
        # Before the checkpoint: a callback that lowers the learning rate or ends the run has its say in what is kept.
        self.callbacks.on_epoch_end(epoch, logs)
        self._keep_epoch()
        return logs

    def _steps_until_next_stop(self) -> int:
        """Steps of the next call: it ends at the epoch's end and at a checkpoint at the latest."""
        stops = [self.steps - self.step, self.config.steps_per_call]
        if self.config.checkpoint_steps:
            stops.append(self.config.checkpoint_steps - self.step % self.config.checkpoint_steps)
        return min(stops)

    def _solve(self) -> dict[str, float]:
        """Sets the weights from the whole training split at once; the logs are measured on it afterwards."""
        assert self.closed_form is not None
        inputs, targets, *_ = next(iter(self.data.batches("train", self.data.num_examples("train"))))
        self.closed_form(self.model, tf.nest.map_structure(np.asarray, inputs), np.asarray(targets))
        self.step = self.steps
        return self._measure("train")

    def _measure(self, split: str, prefix: str = "") -> dict[str, float]:
        self._reset_metrics()
        size = max(self.config.batch_size, 256)
        count = math.ceil(self.data.num_examples(split) / size)
        self.test_steps(self._iterator(self.data.batches(split, size)), tf.constant(count, tf.int32))
        logs = self._logs(prefix)
        self._reset_metrics()
        return logs

    def _validate(self) -> dict[str, float]:
        if not self.has_validation:
            return {}
        self.callbacks.on_test_begin()
        logs = self._measure("validation", "val_")
        self.callbacks.on_test_end({key.removeprefix("val_"): value for key, value in logs.items()})
        return logs

    def _refuse_non_finite(self, logs: dict[str, float]) -> None:
        wrong = next((key for key, value in logs.items() if not math.isfinite(value)), None)
        if wrong is not None:
            kept = f" The last checkpoint is in {self.directory.checkpoints}." if self.directory else ""
            raise UsageError(
                f"The {wrong} is {logs[wrong]} at step {self.step} of epoch {self.epoch + 1}.{kept} "
                "Try a lower learning_rate, or clip_norm=1.0."
            )

    def _keep_epoch(self) -> None:
        if self.directory is None:
            return
        self._save()
        with writing(self.directory.path):
            self.directory.write_history(self.rows)
            self.directory.write_scalars(self.rows[-1:])

    def _finish(self) -> None:
        if self.directory is None:
            return
        with writing(self.directory.path):
            self.directory.write_history(self.rows)
            plots = self.directory.path / "plots"
            plots.mkdir(exist_ok=True)
            if self.rows:
                plot_history(self.rows, plots / "history.png")
            with storage.replacing(self.directory.model_file) as temporary:
                self.model.save(temporary)
