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
    """A progress bar for a loop that runs several steps in one call, with the time left of the whole training.

    A bar shows the loss, the metrics, the learning rate, the speed and the time left; where the terminal is too narrow
    the learning rate, and then the last metrics, wait for the end of the epoch. In a notebook each epoch has one line,
    which changes until the epoch ends, so that a saved notebook keeps plain lines. Keras's own callback starts every
    epoch at step 0, takes the compilation of the first call for steps, and draws bars into log files too.

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
        self._clock = _Clock(epochs, steps_per_epoch)
        self._as_bar = False
        self._cell = _Cell() if verbose == 1 and _in_notebook() else None
        self._hidden: set[str] = set()  # figures that did not fit: one that comes and goes would be unreadable
        self._drawn = 0.0
        self._open = False  # whether the cursor stands behind a bar that is not finished

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Prints the heading."""
        self._clock.begin_epoch(epoch)
        if not self._cell:
            self.close()
        self._as_bar = self.verbose == 1 and not self._cell and _has_cursor() and _columns() >= 60
        self._hidden = set()
        if self._as_bar:
            print(f"Epoch {epoch + 1}/{self.epochs}", flush=True)

    def on_train_batch_begin(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        """Notes where a resumed epoch starts."""
        self._clock.begin_step(batch)

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        """Moves the bar; `batch` is the index of the last step that was taken."""
        self._clock.end_step(batch + 1)
        now = time.perf_counter()
        if self._cell:
            self._cell.show(self._line(logs or {}))
        if not self._as_bar or (batch + 1 < self.steps and now - self._drawn < 0.1):
            return
        self._drawn, self._open = now, True
        figures = self._figures(logs or {})
        left = _duration((self.steps - self._clock.step) * self._clock.seconds_per_step())
        # A line that the terminal wraps cannot be overwritten: what does not fit waits for the end of the epoch.
        for name in ("", "learning_rate", *reversed(list(logs or {})), "examples/s", "left"):
            self._hidden |= {name} - {"loss"}
            if self._draw(left, {k: v for k, v in figures.items() if k not in self._hidden}, most=_columns() - 1):
                return

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Ends the bar, or prints the epoch's line, with the figures of validation."""
        if not self.verbose:
            return
        if self._as_bar:
            self._draw(self._taken(), self._figures(logs or {}))
            print(flush=True)
        elif self._cell:
            self._cell.show(self._line(logs or {}), ended=True)
        else:
            print(self._line(logs or {}), flush=True)
        self._open = False

    def on_train_end(self, logs: Mapping[str, float] | None = None) -> None:
        """Shows the last line."""
        self.close()

    def close(self) -> None:
        """Ends the line of a bar that was left in mid-epoch, so that what is printed next gets its own."""
        if self._cell:
            self._cell.flush()
        if self._open:
            print(flush=True)
        self._open = False

    def _line(self, logs: Mapping[str, float]) -> str:
        """Returns the epoch in one line, which is short in a notebook."""
        left_out = _NOT_IN_CELLS if self._cell else ()
        listed = [f"{name}: {text}" for name, text in self._figures(logs).items() if name not in left_out]
        step = f"{_step_time(self._clock.seconds_per_step())}/step"
        return " - ".join([f"Epoch {self._clock.epoch + 1}/{self.epochs}", self._place(), self._taken(), step, *listed])

    def _taken(self) -> str:
        return f"{time.perf_counter() - self._clock.epoch_began:.0f}s"

    def _place(self) -> str:
        step = self._clock.step or self.steps  # an epoch without steps: the weights were solved for at once
        return f"{step:>{len(str(self.steps))}}/{self.steps}"

    def _draw(self, duration: str, figures: Mapping[str, str], most: int | None = None) -> bool:
        """Writes the bar over the line; False, and nothing is written, where it takes more than `most` columns."""
        width = 20 if _columns() >= 110 else 10
        done = width * (self._clock.step or self.steps) // self.steps
        tail = "".join(f" - {name}: {text}" for name, text in figures.items())
        tail = f" {duration} {_step_time(self._clock.seconds_per_step())}/step{tail}"
        columns = len(self._place()) + 1 + width + len(tail)
        if most is not None and columns > most:
            return False
        full, empty = ("━", "━") if _can_print("━") else ("=", ".")
        bar = f"\x1b[32m{full * done}\x1b[37m{empty * (width - done)}\x1b[0m"
        print(f"\r{self._place()} {bar}{tail}{' ' * (_columns() - 1 - columns)}", end="", flush=True)
        return True

    def _figures(self, logs: Mapping[str, float]) -> dict[str, str]:
        clock = self._clock
        figures = {name: _figure(logs[name]) for name in sorted(logs, key="loss".__ne__)}  # the loss first
        if not clock.step:
            return figures
        examples = min(clock.step * self.batch_size, self.num_examples) - clock.first * self.batch_size
        speed = clock.per_second(examples)
        figures["learning_rate"] = f"{float(self.learning_rate()):.4g}"
        figures["examples/s"] = f"{speed:,.0f}" if speed >= 10 else f"{speed:.2g}"
        if clock.epoch + 1 < self.epochs or clock.step < self.steps:
            figures["left"] = _duration(clock.left())
        return figures


def _figure(value: float) -> str:
    value = float(value)
    large, small = abs(value) >= 1e5, 0 < abs(value) < 1e-3
    return f"{value:.3e}" if large or small else f"{value:.4f}"


def _step_time(seconds: float) -> str:
    if seconds >= 1 or not seconds:
        return f"{seconds:.0f}s"
    return f"{seconds * 1e3:.0f}ms" if seconds >= 1e-3 else f"{seconds * 1e6:.0f}us"


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
        if not self.step:  # the first call of the epoch: not 0 where a run resumes in mid-epoch
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


_NOT_IN_CELLS = ("learning_rate", "examples/s")


class _Cell:
    """The lines of a training in the output of a notebook's cell. The last one is replaced until its epoch ends."""

    def __init__(self) -> None:
        self._ended: list[str] = []
        self._handle: Any = None
        self._text, self._sent, self._when = "", "", 0.0

    def show(self, line: str, ended: bool = False) -> None:
        """Replaces the last line; at most twice a second, because the whole text is sent each time."""
        self._text = "\n".join([*self._ended, line])
        if ended:
            self._ended.append(line.split(" - left: ")[0])
        if time.perf_counter() - self._when >= 0.5:
            self.flush()

    def flush(self) -> None:
        """Shows what was not yet sent."""
        from IPython.display import display

        if self._text == self._sent:
            return
        self._sent, self._when = self._text, time.perf_counter()
        content = {"text/plain": self._text}
        if self._handle is None:
            self._handle = display(content, raw=True, display_id=True)
        else:
            self._handle.update(content, raw=True)


def _in_notebook() -> bool:
    """Whether standard output is the output of a notebook's cell."""
    return type(sys.stdout).__module__.startswith("ipykernel.")


def _has_cursor() -> bool:
    """Whether a line can be written over: in a terminal, not in a file, a CI log, or the output of a notebook's `!`."""
    kept = "JPY_PARENT_PID" in os.environ  # set by Jupyter for its kernels; a notebook saves all that `!` writes
    terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb" and not kept
    return terminal or "PYCHARM_HOSTED" in os.environ


def _can_print(text: str) -> bool:
    """Whether the encoding of standard output knows these characters."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def _columns() -> int:
    return shutil.get_terminal_size((120, 24)).columns
