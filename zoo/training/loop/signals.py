"""Leaving in order when the machine or the user says so."""

from __future__ import annotations

import signal
import threading
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interrupted(KeyboardInterrupt):
    """Training was asked to stop, and has stopped; what was done is in the last checkpoint, if the run keeps any.

    Attributes:
        status: the usual exit status: 130 after Ctrl-C, 143 after SIGTERM.
    """

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.status = 128 + number


class Interruption:
    """Notes SIGTERM and Ctrl-C while the block runs, instead of dying of them; a second Ctrl-C is obeyed at once.

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
