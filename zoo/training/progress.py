"""The progress of a run in a terminal, and a line per epoch in a log."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import keras


class ProgressBar(keras.callbacks.Callback):
    """Keras's progress bar for a loop that runs several steps in one call, with the time left of the whole training.

    A bar shows the loss, the metrics, the learning rate, the speed and the time left; where the terminal is too narrow
    the learning rate, and then the last metrics, wait for the end of the epoch. Keras's own callback starts every epoch
    at step 0, takes the compilation of the first call for steps, and draws bars into log files too.

    Args:
        epochs: number of epochs of the run.
        steps_per_epoch: number of steps of an epoch.
        batch_size: examples of a step, over all devices together.
        learning_rate: returns the learning rate of the step that comes next.
        verbose: 1 for a bar (a line per epoch where standard output is no terminal), 2 for a line per epoch, 0 for
            silence.
        num_examples: examples of an epoch where its last batch is smaller, None for full batches.

    Example:
        >>> bar = ProgressBar(epochs=10, steps_per_epoch=21, batch_size=64, learning_rate=lambda: 1e-3)
        >>> callbacks = keras.callbacks.CallbackList([bar, *others], model=model)
    """

    def __init__(
        self,
        epochs: int,
        steps_per_epoch: int,
        batch_size: int,
        learning_rate: Callable[[], float],
        verbose: int = 1,
        *,
        num_examples: int | None = None,
    ) -> None:
        super().__init__()
        self.epochs, self.steps, self.batch_size = epochs, steps_per_epoch, batch_size
        self.learning_rate = learning_rate
        self.verbose = verbose
        self.num_examples = num_examples or steps_per_epoch * batch_size
        self._bar: _Bar | None = None
        self._open = False  # whether the cursor stands behind a bar that is not finished
        self._clock = _Clock(epochs, steps_per_epoch)

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Prints the heading."""
        self._clock.begin_epoch(epoch)
        if not self.verbose:
            return
        self.close()
        as_bar = self.verbose == 1 and _has_cursor() and _columns() >= 60
        self._bar = _Bar(self._clock, self.steps, width=20 if _columns() >= 110 else 10, as_bar=as_bar)
        if as_bar:
            print(f"Epoch {epoch + 1}/{self.epochs}", flush=True)

    def on_train_batch_begin(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        """Notes where a resumed epoch goes on."""
        self._clock.begin_step(batch)

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        """Moves the bar; `batch` is the index of the last step that was taken."""
        self._clock.end_step(batch + 1)
        bar = self._bar
        if bar is None or not bar.as_bar or not (batch + 1 == self.steps or bar.is_due()):
            return
        shown = self._shown(logs or {})
        if not bar.names:
            # A line that the terminal wraps cannot be overwritten: what does not fit waits for the end of the epoch.
            fitting = dict(shown)
            for name in ("learning_rate", *reversed(list(logs or {})), "examples/s", "left"):
                if bar.columns(fitting) > _columns() and name != "loss":
                    fitting.pop(name, None)
            bar.names = list(fitting)
        bar.update(batch + 1, [(name, shown[name]) for name in bar.names if name in shown], finalize=False)
        self._open = True

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Ends the bar, or prints the epoch's line, with the figures of validation."""
        if self._bar is None:
            return
        if not self._bar.as_bar:
            print(f"Epoch {epoch + 1}/{self.epochs} - ", end="", flush=True)
        elif self._open:
            print(f"\r{' ' * (_columns() - 1)}", end="", flush=True)
        # Another one, with all figures in their order.
        bar = _Bar(self._clock, self.steps, width=self._bar.width, as_bar=self._bar.as_bar)
        bar.started(self._clock.epoch_began)
        step = self._clock.step or self.steps  # an epoch without steps: the weights were solved for at once
        bar.update(step, list(self._shown(logs or {}).items()), finalize=True)
        self._bar, self._open = None, False

    def _shown(self, logs: Mapping[str, float]) -> dict[str, _Shown]:
        clock = self._clock
        shown = {name: _figure(logs[name]) for name in sorted(logs, key="loss".__ne__)}  # the loss first
        if not clock.step:
            return shown
        examples = min(clock.step * self.batch_size, self.num_examples) - clock.first * self.batch_size
        rate, speed, left = float(self.learning_rate()), clock.per_second(examples), clock.left()
        shown["learning_rate"] = _Shown(rate, f"{rate:.4g}")
        shown["examples/s"] = _Shown(speed, f"{speed:,.0f}" if speed >= 10 else f"{speed:.2g}")
        if clock.epoch + 1 < self.epochs or clock.step < self.steps:
            shown["left"] = _Shown(left, _duration(left))
        return shown

    def close(self) -> None:
        """Ends the line of a bar that was left in mid-epoch, so that what is printed next gets its own."""
        if self._open:
            print(flush=True)
        self._bar, self._open = None, False


class _Shown(float):
    """A number that brings its own text: Progbar prints four decimals of everything, 0.0003 and 52,310 alike."""

    text: str

    def __new__(cls, value: float, text: str) -> _Shown:
        made = super().__new__(cls, value)
        made.text = text
        return made

    def __truediv__(self, other: Any) -> _Shown:
        return self  # Progbar divides by a count, which is 1 for what it does not average

    def __format__(self, specification: str) -> str:
        return self.text


def _figure(value: float) -> _Shown:
    value = float(value)
    large, small = abs(value) >= 1e5, 0 < abs(value) < 1e-3
    return _Shown(value, f"{value:.3e}" if large or small else f"{value:.4f}")


class _Bar(keras.utils.Progbar):
    """Keras's bar with the loop's own clock: Keras counts the steps before a resume, and compilation, as its time."""

    def __init__(self, clock: _Clock, steps: int, *, width: int, as_bar: bool) -> None:
        super().__init__(steps, width=width, verbose=1 if as_bar else 2, interval=0, stateless_metrics=())
        self.as_bar = as_bar
        self.names: list[str] = []  # of the figures that fit; a Progbar never takes back one that it has shown
        self._clock = clock
        self._drawn = 0.0

    def is_due(self) -> bool:
        """Whether the bar should be drawn again; asked before figures are put together that nobody would see."""
        now = time.perf_counter()
        if now - self._drawn < 0.1:
            return False
        self._drawn = now
        return True

    def started(self, began: float) -> None:
        """Sets when the epoch began, on `time.perf_counter`."""
        self._start = time.time() - (time.perf_counter() - began)

    def columns(self, shown: Mapping[str, _Shown]) -> int:
        """An upper bound of the columns that the bar takes with these figures."""
        digits = len(str(self.target))
        head = 2 * digits + 2 + self.width + len(" 00:00:00 000ms/step")
        return head + sum(len(f" - {name}: {value.text}") for name, value in shown.items()) + 1

    def _estimate_step_duration(self, current: int, now: float) -> float:
        return self._clock.seconds_per_step()


class _Clock:
    """What a step and the rest of an epoch take, and so what is left; all times in seconds.

    The first call compiles: it counts only until there is another one.
    """

    def __init__(self, epochs: int, steps: int) -> None:
        self.epochs, self.steps = epochs, steps
        self.epoch = self.step = 0
        self.first: int = 0  # of the steps of this epoch that this process takes
        self.epoch_began = time.perf_counter()
        self._ended: float | None = None  # when the last step of an epoch was done
        self._last = self.epoch_began
        self._calls = 0
        self._compiling = [0.0, 0]  # seconds and steps of the first call, and of all that came later
        self._stepping = [0.0, 0]
        self._in_epoch = [0.0, 0]
        self._between = [0.0, 0]  # from the last step of an epoch to the first of the next one: validation, files

    def begin_epoch(self, epoch: int) -> None:
        now = time.perf_counter()
        if self._ended is not None:
            self._between[0] += now - self._ended
            self._between[1] += 1
        self.epoch, self.step, self.first = epoch, 0, 0
        self.epoch_began = self._last = now
        self._in_epoch = [0.0, 0]

    def begin_step(self, step: int) -> None:
        if not self.step:  # the first call of the epoch: not 0 where a run goes on in mid-epoch
            self.step = self.first = step

    def end_step(self, step: int) -> None:
        now = time.perf_counter()
        sums = (self._stepping, self._in_epoch) if self._calls else (self._compiling,)
        for total in sums:
            total[0] += now - self._last
            total[1] += step - self.step
        self._calls += 1
        self._last = self._ended = now
        self.step = step

    def seconds_per_step(self) -> float:
        for seconds, steps in (self._in_epoch, self._stepping, self._compiling):
            if steps:
                return seconds / steps
        return 0.0

    def per_second(self, examples: int) -> float:
        """Returns the speed in this epoch, of `examples` that it has seen in this process."""
        taken = self.step - self.first
        seconds = self.seconds_per_step() * taken
        return examples / seconds if seconds else 0.0

    def left(self) -> float:
        """Returns the time left of the whole training, a high guess until the second call has been timed."""
        steps = (self.epochs - self.epoch) * self.steps - self.step
        if self._between[1]:
            between = self._between[0] / self._between[1]
        else:  # in the first epoch validation is unknown until it has begun
            between = time.perf_counter() - self._last if self.step else 0.0
        return steps * self.seconds_per_step() + (self.epochs - self.epoch) * between


def _duration(seconds: float) -> str:
    """Returns a duration as 42s, 3:07 or 1:02:03."""
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02d}:{rest:02d}"
    return f"{minutes}:{rest:02d}" if minutes else f"{rest}s"


def _has_cursor() -> bool:
    """Whether a line that is written can be written over: in a terminal or a notebook, not in a file or a CI log."""
    notebook = "ipykernel" in sys.modules or "PYCHARM_HOSTED" in os.environ
    return notebook or (sys.stdout.isatty() and os.environ.get("TERM") != "dumb")


def _columns() -> int:
    return shutil.get_terminal_size((120, 24)).columns
