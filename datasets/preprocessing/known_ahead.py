"""What is known in advance of the steps to forecast: columns of the data, and hour, weekday and month."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from zoo.datasets.preprocessing.series_values import lengths
from zoo.tables.calendars import PARTS

_WAVES = 3
"""Sine and cosine of a part of the calendar, and of its multiples."""
_UNITS = {
    "hour": "hour is from 0 to below 24",
    "weekday": "weekday is from 0, Monday, to 6",
    "month": "month is from 1 to 12",
}


@dataclasses.dataclass(frozen=True)
class KnownAhead:
    """Divides requests into the history and what is known in advance, and encodes the latter.

    Attributes:
        horizon: number of steps to forecast.
        means: mean of every channel that is known in advance, the last ones of a series.
        deviations: their standard deviations.
        calendar: the parts of the time, names of `PARTS`, which follow the channels.

    Example:
        >>> KnownAhead(2, (5.0,), (2.0,)).encode(tf.constant([[[7.0], [float("nan")]]])).numpy().tolist()
        [[[1.0], [0.0]]]
    """

    horizon: int
    means: tuple[float, ...] = ()
    deviations: tuple[float, ...] = ()
    calendar: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether anything is known."""
        return bool(self.means or self.calendar)

    @property
    def shapes(self) -> dict[str, tuple[int, int]]:
        """The shape of the model input `known`, if there is one: (horizon, features)."""
        return {"known": (self.horizon, len(self.means) + 2 * _WAVES * len(self.calendar))} if self else {}

    def described(self, channels: Sequence[str]) -> str:
        """Returns the part of a request's description; "" if nothing is known.

        Args:
            channels: the names of all columns of a request.
        """
        if not self:
            return ""
        ahead = ", ".join(channels[-len(self.means) - len(self.calendar) :])
        rows = f"; then a row for each of the {self.horizon} steps to forecast, with {ahead} and NaN for the rest"
        return rows + "".join(f"; {_UNITS[part]}" for part in self.calendar)

    def divide(self, raw: tf.Tensor, channels: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the histories of requests, (batch, steps, channels), and what is known, (batch, horizon, known).

        A series with a value of the quantity in its last `horizon` rows, without other rows, or without the quantity in the
        row before them is an error: the forecast would be for other steps.

        Args:
            raw: (batch, steps, channels and calendar); NaN after the end.
            channels: number of channels without the calendar.
        """
        start = lengths(raw) - self.horizon
        places = start[:, tf.newaxis] + tf.range(self.horizon)
        ahead = tf.gather(raw, tf.maximum(places, 0), axis=1, batch_dims=1)
        message = (
            f"series lacks the {self.horizon} rows of the steps to forecast, with NaN for the quantity and values of what is "
            "known in advance. Send the history, and these rows after it; the last row must have a value."
        )
        there = tf.reduce_all(start > 0) & tf.reduce_all(tf.math.is_nan(ahead[..., 0]))
        latest = tf.gather(raw[..., 0], tf.maximum(start - 1, 0), axis=1, batch_dims=1)
        shifted = (
            f"series has no value of the quantity right before its last {self.horizon} rows with values, which are the steps "
            f"to forecast. Send the history up to its last value of the quantity, then exactly {self.horizon} rows; the last "
            "row must have a value."
        )
        is_next = tf.reduce_all((start <= 0) | ~tf.math.is_nan(latest))
        checks = [tf.debugging.Assert(there, [message]), tf.debugging.Assert(is_next, [shifted])]
        with tf.control_dependencies(checks):
            is_past = tf.range(tf.shape(raw)[1]) < start[:, tf.newaxis]
            past = tf.where(is_past[..., tf.newaxis], raw[..., :channels], np.float32("nan"))
        return past, ahead[..., channels - len(self.means) :]

    def encode(self, known: tf.Tensor) -> tf.Tensor:
        """Returns the model input: standardised channels, then sine and cosine of the calendar; 0 for a missing value."""
        known, count = tf.convert_to_tensor(known, tf.float32), len(self.means)
        means, deviations = np.asarray(self.means, np.float32), np.asarray(self.deviations, np.float32)
        parts = [(known[..., :count] - means) / deviations]
        for place, part in enumerate(self.calendar, start=count):
            first, size = PARTS[part]
            turns = (known[..., place] - first) / size
            for wave in range(1, _WAVES + 1):
                parts.append(tf.stack([tf.sin(2 * np.pi * wave * turns), tf.cos(2 * np.pi * wave * turns)], axis=-1))
        whole = tf.concat(parts, axis=-1)
        return tf.where(tf.math.is_nan(whole), np.float32(0), whole)

    def generated(self, generator: np.random.Generator, count: int) -> np.ndarray:
        """Returns random values of what is known, float32 (count, horizon, known)."""
        columns: list[np.ndarray] = [np.zeros((count, self.horizon, len(self.means)))]
        for part in self.calendar:
            first, size = PARTS[part]
            columns.append(first + generator.integers(0, size, (count, self.horizon, 1)))
        return np.concatenate(columns, axis=-1).astype(np.float32)
