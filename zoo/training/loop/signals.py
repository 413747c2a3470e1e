"""Signals: a run that is asked to stop saves its state first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

if TYPE_CHECKING:
    import keras

    from zoo.training.cluster import Workers
    from zoo.training.loop.state import RunState

SIGNALS = (signal.SIGTERM, signal.SIGINT)
_SECONDS_TO_SAVE = 100.0  # launchers give 120 from SIGTERM to SIGKILL


class Interrupted(KeyboardInterrupt):
    """Training was asked to stop, and has stopped; what was done is in the last checkpoint, if the run keeps any.

    Attributes:
        status: the usual exit status: 130 after Ctrl-C, 143 after SIGTERM.
    """

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.status = 128 + number


class Interruption:
    """Notes SIGTERM and Ctrl-C while the block runs, instead of ending the process; a second Ctrl-C ends it at once.

    Attributes:
        number: the signal that came, 0 for none.

    Example:
        >>> with Interruption() as interruption:
        ...     while not interruption.number:
        ...         step()
    """

    def __init__(self) -> None:
        self.number = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():  # Python lets no other thread set handlers
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def _note(self, number: int, frame: Any) -> None:
        if self.number and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = self.number or number

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


class Stops:
    """Decides when a run stops early: all workers stop where a signal or a callback stops one of them.

    Args:
        interruption: notes the signals of this process.
        workers: all of them must make the same calls.
        state: the position, which is saved before the run is left.
        model: whose `stop_training` callbacks set.
    """

    def __init__(self, interruption: Interruption, workers: Workers, state: RunState, model: keras.Model) -> None:
        self._interruption, self._workers, self._state, self._model = interruption, workers, state, model

    def check(self) -> None:
        """Saves, and raises `Interrupted`, where a signal has come to any worker and epochs are left."""
        flags = [
            *(self._interruption.number == n for n in SIGNALS),
            self._model.stop_training or self._state.time_is_up,
        ]
        *came, stopped = self._workers.sum(np.array(flags, np.int64))
        self._model.stop_training = bool(stopped)
        if any(came) and self._state.epochs_left:
            self._state.save()
            self.leave(_first(came))

    def signal(self) -> int:
        """Returns the signal that has come to any worker, 0 for none."""
        came = self._workers.sum(np.array([self._interruption.number == n for n in SIGNALS], np.int64))
        return _first(came) if came.any() else 0

    def leave(self, number: int) -> NoReturn:
        """Raises `Interrupted`, which says how to resume, once every worker is here.

        The chief still writes its checkpoint when the others are here already, and some launchers, such as `srun
        --kill-on-bad-exit`, kill it when one of them ends.
        """
        state = self._state
        if state.directory:
            state.directory.publish(final=True)
        self._workers.wait_at_most(_SECONDS_TO_SAVE)
        where = f"epoch {state.epoch + 1}, step {state.step + 1}"
        if state.directory:
            kept = f"the same command resumes from {where}, with {state.directory.shown}"
        elif state.kept:
            kept = (
                f"worker 0 has saved the run, and this is worker {self._workers.index} of {self._workers.count}; the same "
                f"command on every worker resumes from {where}"
            )
        else:
            kept = "the run has no run directory, so nothing of it is kept; pass run_directory to keep it next time"
        raise Interrupted(number, f"Training was interrupted; {kept}.")


def _first(came: Sequence[int] | np.ndarray) -> int:
    return int(SIGNALS[int(np.argmax(np.array(came) > 0))])
