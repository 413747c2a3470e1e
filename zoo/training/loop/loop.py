"""The training loop: one for every strategy, single device included.

Keras's `fit` clips gradients per replica, loses steps when it resumes and rejects several steps per call on more than
one device. This loop runs a Keras model, optimizer and metrics on `strategy.run` and keeps Keras's callbacks, history
and progress bar. `zoo.training.loop.step` defines what a step computes.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras

from zoo import copies
from zoo.errors import UsageError
from zoo.tasks import model_input
from zoo.training.adaptations.collection import Adaptations
from zoo.training.cluster import Workers
from zoo.training.loop.call_length import CallLength
from zoo.training.loop.computation import Computation
from zoo.training.loop.epoch import Epoch
from zoo.training.loop.failures import explained
from zoo.training.loop.progress import ProgressBar
from zoo.training.loop.records import Records
from zoo.training.loop.selection import Selection
from zoo.training.loop.signals import Interrupted, Interruption, Stops
from zoo.training.loop.state import RunState
from zoo.training.loop.step import replicated
from zoo.training.loop.validation import Validation, ValidationInterrupted
from zoo.training.loop.weights import Weights
from zoo.training.mixed_precision import check_plain, plain_model
from zoo.training.protocols import TrainResult
from zoo.training.run_directory import RunDirectory


class Loop:
    """One run, from its first epoch or its last checkpoint to its end.

    Args:
        computation: what the run computes with.
        adaptations: closed when training ends, before the model is written.
        selection: compares the epochs.
        directory: where the run is kept, None to keep nothing.
        workers: all workers of the run.
        callbacks: the user's callbacks.
        verbose: see `zoo.train`.
    """

    def __init__(
        self,
        computation: Computation,
        adaptations: Adaptations,
        selection: Selection,
        directory: RunDirectory | None,
        workers: Workers,
        callbacks: Sequence[keras.callbacks.Callback],
        verbose: int,
    ) -> None:
        config, steps = computation.config, computation.steps
        self._computation, self._adaptations, self._workers = computation, adaptations, workers
        self._model, self._verbose = computation.model, verbose
        self._state = RunState(computation, selection, callbacks, workers, directory)
        self._weights = Weights(computation.model, adaptations.evaluated, selection, self._state.checkpoints)
        self._records = Records(computation, directory)
        self._bar = ProgressBar(
            config.epochs,
            steps,
            config.batch_size,
            computation.learning_rate,
            0 if any(isinstance(callback, keras.callbacks.ProgbarLogger) for callback in callbacks) else verbose,
            num_examples=computation.data.num_examples("train"),
        )
        self._user_callbacks = callbacks
        self._callbacks = keras.callbacks.CallbackList(
            *([self._bar, *callbacks], True, False, self._model), epochs=config.epochs, steps=steps, verbose=verbose
        )

    def run(self) -> TrainResult:
        """Trains to the end, or until a signal comes."""
        computation, state = self._computation, self._state
        self._model.stop_training = False
        with (
            Interruption() as interruption,
            replicated(self._model, computation.config.accumulation_steps) as draws,
            explained(computation.config, computation.strategy),
        ):
            computation.calls.draws = draws
            resumed = state.restore()
            if resumed and self._verbose:
                print(state.describe(), flush=True)
            self._records.begin()
            if not resumed:
                computation.solve_head(self._verbose)
            if state.finished:
                state.restore_callbacks()
            else:
                self._train(interruption)
            self._weights.choose(self._workers.from_chief if self._workers.count > 1 else None)
            self._adaptations.close()
            model = self._finish()
            if interruption.number:
                raise Interrupted(interruption.number, "Interrupted after training; the same command does the rest.")
        path = state.directory.path if state.directory else None
        epoch, selected = self._exported()
        monitor = (state.selection.monitor, state.selection.direction)
        return TrainResult(state.rows, path, resumed, model, self._workers.chief, epoch, monitor, selected)

    def _train(self, interruption: Interruption) -> None:
        """Runs the epochs that are left."""
        state, length = self._state, CallLength(self._workers)
        stops = Stops(interruption, self._workers, state, self._model)
        validation = Validation(self._computation, self._callbacks, stops, length)
        training = Epoch(self._computation, state, self._callbacks, stops, length, validation)
        self._model._initial_epoch = None
        self._callbacks.on_train_begin()
        state.follow_callbacks(self._model._initial_epoch)
        state.restore_callbacks()
        logs: dict[str, float] = {}
        try:
            while not state.finished:
                logs = self._run_epoch(training, validation, stops)
        except UsageError:  # no signal, after which the run resumes: this is its end
            self._callbacks.on_train_end(logs)
            raise
        self._callbacks.on_train_end(logs)
        if state.time_is_up and self._verbose:
            print(
                f"The time limit is over after {state.seconds:,.0f} s: training ends in epoch {state.epoch}.",
                flush=True,
            )
        state.save()  # a callback may have put the best weights back

    def _run_epoch(self, training: Epoch, validation: Validation, stops: Stops) -> dict[str, float]:
        """Trains and validates; returns the figures of the epoch."""
        state, epoch = self._state, self._state.epoch
        self._callbacks.on_epoch_begin(epoch)
        logs, speed = training.run()
        try:
            with self._weights.evaluated():
                logs.update(validation.run())
                if not state.is_finite(logs):
                    self._callbacks.on_epoch_end(epoch, logs)
                    state.reject_non_finite(logs)
                self._weights.score(epoch + 1, logs)
        except ValidationInterrupted as interrupted:
            state.save()  # of the weights that are trained on, not of their average
            stops.leave(interrupted.number)
        state.finish_epoch({**logs, "learning_rate": self._computation.learning_rate(), **speed})
        # Before the checkpoint: a callback that lowers the learning rate or ends the run has its say in what is kept.
        self._callbacks.on_epoch_end(epoch, logs)
        self._model.stop_training = self._model.stop_training or state.selection.exhausted
        state.save()
        self._records.write_epoch(state.rows, state.devices)
        stops.check()
        return logs

    def _exported(self) -> tuple[int | None, bool]:
        """Returns the epoch whose weights the model has, and whether it was selected as the best one."""
        state = self._state
        if (best := state.selection.chosen) is not None:
            return best, True
        for callback in self._user_callbacks:  # Keras's EarlyStopping
            if getattr(callback, "restore_best_weights", False) and getattr(callback, "best_weights", None) is not None:
                return int(getattr(callback, "best_epoch", 0)) + 1, True
        return (len(state.rows) or None), False

    def _finish(self) -> keras.Model:
        """Writes the trained model; returns it in float32 on one device."""
        self._records.write_graph()
        inputs = self._computation.data.some_inputs()
        copies.record_training(self._model, inputs, self._state.rows)
        model = plain_model(self._model)
        check_plain(self._model, model, model_input(self._model, inputs))
        decide = getattr(self._computation.data, "decide", None)
        found = {} if decide is None else decide(model, self._computation.config.abstain)
        for each in (self._model, model):  # also nothing: what was decided before belongs to the weights before
            copies.record_decided(each, found)
        self._records.finish(self._state.rows, self._state.devices, model, self._exported()[0])
        return model

    def close(self) -> None:
        """Ends the line of the progress bar."""
        self._bar.close()
