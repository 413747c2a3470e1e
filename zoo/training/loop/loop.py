"""The training loop: one for every strategy, single device included.

Keras's `fit` clips gradients per replica, loses steps when it resumes and refuses several steps per call on more than
one device. This loop runs a Keras model, optimizer and metrics on `strategy.run` and keeps Keras's callbacks, history
and progress bar. What a step computes stands in `zoo.training.loop.step`.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from zoo import copies
from zoo.config import TrainConfig
from zoo.errors import UsageError
from zoo.tasks import call_model, model_input
from zoo.training.adaptations.fine_tuning import Tuning
from zoo.training.adaptations.layer_decay import learning_rates
from zoo.training.augmentation import augment
from zoo.training.checkpoints import Checkpoints, assign_values, read_values
from zoo.training.cluster import Workers
from zoo.training.loop.callback_state import get_states, set_states
from zoo.training.loop.failures import explained
from zoo.training.loop.progress import ProgressBar
from zoo.training.loop.selection import Selection, directions
from zoo.training.loop.signals import SIGNALS, Interrupted, Interruption
from zoo.training.loop.step import Steps, divide, replicated
from zoo.training.loop.weights import Weights
from zoo.training.mixed_precision import check_plain, plain_model, policy_of
from zoo.training.objective import ModelObjective
from zoo.training.optimizers import Update, make_optimizer
from zoo.training.plots import plot_history
from zoo.training.protocols import TrainingData, TrainResult
from zoo.training.run_checks import check_images, class_factors, closed_form_of, is_compiled, takes_rows
from zoo.training.run_directory import RunDirectory, writing

_CALL_SECONDS = 1.0  # about how long one compiled call may take, so that signals are obeyed and progress is seen


class _LeaveValidation(Exception):
    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Loop:
    """One call of `train`: the compiled functions, and the position in the run."""

    def __init__(
        self,
        model: keras.Model,
        data: TrainingData,
        config: TrainConfig,
        callbacks: Sequence[keras.callbacks.Callback],
        verbose: int,
        tuning: Tuning,
    ) -> None:
        self.model, self.data, self.config, self.tuning = model, data, config, tuning
        self.directory: RunDirectory | None = None
        self.checkpoints: Checkpoints | None = None
        self.strategy = model.distribute_strategy
        self.workers = Workers(self.strategy)
        self.verbose = verbose if self.workers.chief else 0
        self.closed_form = closed_form_of(model) if config.closed_form else None
        self.has_validation = data.num_examples("validation") > 0
        self.steps = math.ceil(data.num_examples("train") / config.batch_size)
        if not self.steps:
            raise UsageError("The train split is empty. Choose another data set or split.")
        factors = class_factors(config, data)
        check_images(config, data)
        brought = tuning.optimizer(getattr(data, "optimizer", None))
        with self.strategy.scope():
            objective = ModelObjective(data.objective, model, config.label_smoothing)
            self.optimizer = brought or make_optimizer(config, self.steps * config.epochs)
            self.metrics = objective.metrics
            known = directions(self.metrics, validation=self.has_validation)
            selection = Selection(config, data.objective.monitor, known)
            # Keras's callbacks expect a compiled model: they look up its optimizer and which way a metric is better.
            model.compile(optimizer=self.optimizer, **objective.compile_arguments(data.objective))
            self._build_metrics(objective)
        compiled = is_compiled(model, config, self.steps * config.epochs)
        self.resident = data.resident("train") if takes_rows(model, config) else None
        with self.strategy.scope():  # late: what the optimizer is changed by here, `close` takes back
            scaled, rates = policy_of(model) == "mixed_float16", learning_rates(model, config.layer_decay)
            weights, own = model.trainable_variables, brought is not None
            self.update = Update(self.optimizer, weights, config, scaled=scaled, brought=own, rates=rates)
        self.weights = Weights(model, self.update.averages, selection)
        self.calls = Steps(
            model,
            objective,
            self.update,
            config,
            class_factors=factors,
            jit_compile=compiled,
            finish=self.resident.finish if self.resident else None,
        )
        self.epoch, self.step = 0, 0
        self.traced, self.step_seconds = False, math.inf
        self.rows: list[dict[str, float]] = []
        self.user_callbacks = list(callbacks)
        self.bar = ProgressBar(
            config.epochs,
            self.steps,
            config.batch_size,
            self._learning_rate,
            self.verbose,
            num_examples=data.num_examples("train"),
        )
        self.callbacks = keras.callbacks.CallbackList(
            [self.bar, *self.user_callbacks], add_history=True, model=model, epochs=config.epochs, steps=self.steps
        )
        self.variables = {
            "model": model.variables,
            "optimizer": self.update.variables,
            "metrics": [v for m in self.metrics for v in m.variables],
        }

    def keep_in(self, directory: RunDirectory) -> None:
        """Keeps the run in a directory, and goes on with what is there."""
        self.directory = directory
        self.checkpoints = self.weights.checkpoints = Checkpoints(directory.checkpoints, self.config.keep_checkpoints)

    def _build_metrics(self, objective: ModelObjective) -> None:
        """Makes the metrics' variables now: a metric that makes them while traced cannot be restored first."""
        inputs, targets, _ = next(iter(self.data.batches("train", 1)))
        outputs = call_model(self.model, inputs)
        objective.build_metrics(targets, outputs)
        self._reset_metrics()
        self.model.compute_metrics(model_input(self.model, inputs), *objective.compiled_pair(targets, outputs))
        self.model.reset_metrics()

    def _learning_rate(self) -> float:
        return float(tf.convert_to_tensor(self.optimizer.learning_rate))

    def _reset_metrics(self) -> None:
        for metric in self.metrics:
            metric.reset_state()

    def _logs(self, prefix: str = "") -> dict[str, float]:
        return {prefix + metric.name: float(metric.result()) for metric in self.metrics}

    def run(self) -> TrainResult:
        """Trains to the end, or until a signal comes."""
        self.model.stop_training = False
        with Interruption() as interruption, replicated(self.model), explained(self.config, self.strategy):
            resumed, states = self._resume()
            if self.directory is not None:
                self.directory.record()  # only now: everything has been checked
            if not self.model.stop_training and self.epoch < self.config.epochs:
                self.callbacks.on_train_begin()
                set_states(self.user_callbacks, states)  # after on_train_begin, which makes them forget
                logs: dict[str, float] = {}
                while self.epoch < self.config.epochs and not self.model.stop_training:
                    logs = self._run_epoch(interruption)
                self.callbacks.on_train_end(logs)
                self._save()  # a callback may have put the best weights back
            self.weights.settle(self._from_chief if self.workers.count > 1 else None)
            self.tuning.settle()
            self._write_graph()
            inputs = self.data.some_inputs()
            copies.record_training(self.model, inputs, self.rows)
            model = plain_model(self.model)
            check_plain(self.model, model, model_input(self.model, inputs))
            self._finish(model)
            if interruption.number:
                raise Interrupted(interruption.number, "Interrupted after training; the same command does the rest.")
        path = self.directory.path if self.directory else None
        return TrainResult(self.rows, path, resumed, model, self.workers.chief)

    def close(self) -> None:
        """Ends the line of the progress bar, and gives the optimizer back as it came."""
        self.bar.close()
        self.update.release()

    def _resume(self) -> tuple[tuple[int, int] | None, list[Any]]:
        """Restores the newest checkpoint on every worker; returns where the run goes on, and the callbacks' states."""
        values = read_values(self.variables)
        found = self.checkpoints.restore(values) if self.checkpoints else None
        state = json.loads(self.workers.text_from_chief(json.dumps(found[1] if found else None)))
        if state is None:
            return None, []
        if self.workers.count > 1:
            held = found[0] if found else values
            found = ({g: [self._from_chief(a) for a in arrays] for g, arrays in held.items()}, state)
        assert found is not None
        assign_values(self.variables, found[0])
        self.epoch, self.step, self.rows = state["epoch"], state["step_in_epoch"], state["history"]
        self.weights.selection.restore(state["selection"])
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
        return (self.epoch, self.step), state["callbacks"]

    def _from_chief(self, array: np.ndarray) -> np.ndarray:
        wide = array.astype(np.int64) if array.dtype.kind in "ub" else array  # what can be summed over workers
        return self.workers.from_chief(wide).astype(array.dtype)

    def _save(self) -> None:
        if self.workers.count == 1 and self.checkpoints is None:
            return
        values = read_values(self.variables)  # on every worker: a metric is the sum over all of them
        if self.checkpoints is None:
            return
        state = {
            "epoch": self.epoch,
            "step_in_epoch": self.step,
            "history": self.rows,
            "epochs": self.config.epochs,
            "stopped": self.model.stop_training,
            "selection": self.weights.selection.state(),
            "callbacks": get_states(self.user_callbacks),
        }
        self.checkpoints.save(self.epoch * self.steps + self.step, values, state)

    def _run_epoch(self, interruption: Interruption) -> dict[str, float]:
        epoch, config = self.epoch, self.config
        self.callbacks.on_epoch_begin(epoch)
        if self.step == 0:
            self._reset_metrics()
        started, first = time.perf_counter(), self.step
        source = self._source()
        logs = self._solve() if self.closed_form else self._logs()
        while self.step < self.steps and not self.model.stop_training:
            logs = self._call(source, interruption)
        seconds = time.perf_counter() - started
        whole = self.data.num_examples("train")
        examples = min(self.step * config.batch_size, whole) - min(first * config.batch_size, whole)
        try:
            with self.weights.averaged():
                logs.update(self._validate(interruption))
                self._refuse_non_finite(logs)
                self.weights.judge(epoch + 1, logs)
        except _LeaveValidation as leave:
            self._save()  # of the weights that are trained on, not of their average
            self._leave(leave.number)
        self.rows.append(
            {
                "epoch": epoch + 1,
                **logs,
                "learning_rate": self._learning_rate(),
                "seconds": round(seconds, 3),
                "examples_per_second": round(examples / seconds, 1),
            }
        )
        self.epoch, self.step = epoch + 1, 0
        # Before the checkpoint: a callback that lowers the learning rate or ends the run has its say in what is kept.
        self.callbacks.on_epoch_end(epoch, logs)
        self.model.stop_training = self.model.stop_training or self.weights.selection.exhausted
        self._keep_epoch()
        self._obey(interruption)
        return logs

    def _source(self) -> Callable[[int], Any]:
        """Returns what runs a number of steps from here on, in the order of this epoch."""
        config = self.config
        if self.resident is None:
            iterator = iter(divide(self._batches(), self.strategy, config.accumulation_steps))
            return lambda count: self.calls.train(iterator, tf.constant(count, tf.int32))
        numbers = self.resident.order(config.seed, self.epoch, config.batch_size, config.group_by_length)
        order, columns, examples = tf.constant(numbers, tf.int32), self.resident.columns, len(numbers)

        def run(count: int) -> Any:
            first = self.step * config.batch_size
            size = min(config.batch_size, examples - first)
            full = max(1, (examples - first) // config.batch_size)  # the last, smaller one is a call of its own
            numbers = (tf.constant(n, tf.int32) for n in (first, min(count, full)))
            return self.calls.train_rows(columns, order, *numbers, size)

        return run

    def _batches(self) -> tf.data.Dataset:
        config = self.config
        dataset = self.data.batches(
            "train",
            config.batch_size,
            seed=config.seed,
            epoch=self.epoch,
            start=self.step,
            group_by_length=config.group_by_length,
        )
        if not config.augmentation:
            return dataset
        return augment(
            dataset,
            config.augmentation,
            seed=config.seed,
            epoch=self.epoch,
            start=self.step,
            num_classes=len(self.data.class_names),
        )

    def _call(self, source: Callable[[int], Any], interruption: Interruption) -> dict[str, float]:
        """Runs a number of steps in one compiled call."""
        count = self._steps_of_next_call()
        self.callbacks.on_train_batch_begin(self.step)
        started = time.perf_counter()
        done, loss = source(count)
        done = int(done)
        if self.traced:  # the first call traces, and says nothing of the speed
            self.step_seconds = (time.perf_counter() - started) / max(1, done)
        self.traced = True
        self.step += done
        self._refuse_non_finite({"loss": float(loss)})
        logs = self._logs()
        self._refuse_non_finite(logs)
        self.callbacks.on_train_batch_end(self.step - 1, logs)
        if self.step < self.steps:
            every = self.config.checkpoint_steps
            if every and self.step % every == 0:
                self._save()
            self._obey(interruption)
        return logs

    def _obey(self, interruption: Interruption) -> None:
        """Saves and leaves if a signal has come, to this worker or to another one; all stop where a callback of one does."""
        flags = [*(interruption.number == n for n in SIGNALS), self.model.stop_training]
        *came, stopped = self.workers.sum(np.array(flags, np.int64))
        self.model.stop_training = bool(stopped)
        if any(came) and self.epoch < self.config.epochs:
            self._save()
            self._leave(SIGNALS[int(np.argmax(np.array(came) > 0))])

    def _leave(self, number: int) -> None:
        kept = (
            f"the same command goes on from epoch {self.epoch + 1}, step {self.step + 1}, with {self.directory.path}"
            if self.directory
            else "the run had no run directory, so nothing of it is kept; pass run_directory to keep it next time"
        )
        raise Interrupted(number, f"Training was interrupted; {kept}.")

    def _steps_of_next_call(self) -> int:
        """One at first, then as many as take about a second: the call ends at the epoch's end and at a checkpoint."""
        stops = [self.steps - self.step, self.config.steps_per_call]
        if self.config.checkpoint_steps:
            stops.append(self.config.checkpoint_steps - self.step % self.config.checkpoint_steps)
        count = max(1, min(stops[1], int(_CALL_SECONDS / max(self.step_seconds, 1e-6))))
        return min(*stops, self._agreed(count))

    def _solve(self) -> dict[str, float]:
        """Sets the weights from the whole training split at once; the logs are measured on it afterwards."""
        assert self.closed_form is not None
        inputs, targets, _ = next(iter(self.data.batches("train", self.data.num_examples("train"))))
        self.closed_form(self.model, *tf.nest.map_structure(np.asarray, (inputs, targets)))
        self.step = self.steps
        return self._measure("train")

    def _measure(self, split: str, interruption: Interruption | None = None) -> dict[str, float]:
        self._reset_metrics()
        size = max(self.config.batch_size, 256)
        batches = math.ceil(self.data.num_examples(split) / size)
        iterator = iter(divide(self.data.batches(split, size), self.strategy))
        # A validation step takes less than a training step, but its batch may be larger.
        seconds = self.step_seconds * size / self.config.batch_size if math.isfinite(self.step_seconds) else 0.0
        most = max(1, int(self._agreed(min(batches, int(_CALL_SECONDS / max(seconds, 1e-6))))))
        for first in range(0, batches, most):
            self.calls.test(iterator, tf.constant(min(most, batches - first), tf.int32))
            if interruption is not None:
                self._obey_while_validating(interruption)
        logs = self._logs()
        self._reset_metrics()
        return logs

    def _agreed(self, count: int) -> int:
        """The chief's number: workers measure different times, and must make the same calls."""
        return int(self.workers.from_chief(np.array([count], np.int64))[0])

    def _validate(self, interruption: Interruption) -> dict[str, float]:
        if not self.has_validation:
            return {}
        self.callbacks.on_test_begin()
        self.trained_metrics = read_values({"metrics": self.variables["metrics"]})
        logs = self._measure("validation", interruption)
        self.callbacks.on_test_end(logs)
        return {f"val_{name}": value for name, value in logs.items()}

    def _obey_while_validating(self, interruption: Interruption) -> None:
        """Saves the end of the epoch's training, from where the validation begins anew."""
        came = self.workers.sum(np.array([interruption.number == n for n in SIGNALS], np.int64))
        if came.any():
            assign_values({"metrics": self.variables["metrics"]}, self.trained_metrics)
            raise _LeaveValidation(SIGNALS[int(np.argmax(came > 0))])

    def _refuse_non_finite(self, logs: Mapping[str, float]) -> None:
        wrong = next((key for key, value in logs.items() if not math.isfinite(value)), None)
        if wrong is not None:
            kept = f" The last good checkpoint is in {self.directory.checkpoints}." if self.directory else ""
            raise UsageError(
                f"The {wrong} is {logs[wrong]} at step {self.step} of epoch {self.epoch + 1}.{kept} "
                "Try a lower learning_rate, a warm-up, or clip_norm=1.0."
            )

    def _keep_epoch(self) -> None:
        self._save()
        if self.directory is None:
            return
        with writing(self.directory.path):
            self.directory.write_history(self.rows)
            self.directory.write_scalars(self.rows)
            if self.config.histograms:
                self.directory.write_histograms(self.model, self.epoch)
            self._plot()

    def _write_graph(self) -> None:
        """Adds the forward pass to TensorBoard, as training made it."""
        if self.directory is None:
            return
        inputs, *_ = next(iter(self.data.batches("train", 1)))
        traced = tf.function(lambda inputs: call_model(self.model, inputs)).get_concrete_function(inputs)
        with writing(self.directory.path):
            self.directory.write_graph(traced)

    def _plot(self) -> None:
        assert self.directory is not None
        plots = self.directory.path / "plots"
        plots.mkdir(exist_ok=True)
        plot_history(self.rows, plots / "history.png")

    def _finish(self, model: keras.Model) -> None:
        if self.directory is None:
            return
        with writing(self.directory.path):
            self.directory.write_history(self.rows)
            if self.rows:
                self._plot()
            self.directory.write_model(model)
