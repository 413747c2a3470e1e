"""Columns of dates and times."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import tensorflow as tf

from zoo.datasets.preprocessing import moments
from zoo.datasets.preprocessing.columns.base import Columns, Tensors, checked, floats
from zoo.tasks import Request


@dataclasses.dataclass(frozen=True)
class Moments(Columns):
    """Dates and times: raw seconds since 1970, float64, NaN for a missing value; requests are texts in the order of the data.

    Attributes:
        orders: the order of year, month and day of every column.
        starts: first moment of the training split in every column, seconds.
        stops: the last one.
        clocks: places of the columns with a time of day.
        gaps: places of the columns with missing values in the training split.
    """

    kind: ClassVar[str] = "time"
    orders: tuple[str, ...]
    starts: tuple[float, ...]
    stops: tuple[float, ...]
    clocks: tuple[int, ...] = ()
    gaps: tuple[int, ...] = ()

    @classmethod
    def fit(cls, names: Sequence[str], inputs: Sequence[str], values: np.ndarray, options: Mapping[str, Any]) -> Self:
        """Finds the range of every column, and whether it has a time of day."""
        missing = np.isnan(values)
        clocks = (np.where(missing, 0, values) % moments.DAY > 0).any(axis=0)
        return cls(
            names=tuple(names),
            inputs=tuple(inputs),
            orders=tuple(options["orders"][name] for name in names),
            starts=floats(np.nanmin(values, axis=0)),
            stops=floats(np.nanmax(values, axis=0)),
            clocks=tuple(int(i) for i in np.flatnonzero(clocks)),
            gaps=tuple(int(i) for i in np.flatnonzero(missing.any(axis=0))),
        )

    def request(self, place: int) -> Request:
        """string."""
        form = moments.EXAMPLES[self.orders[place]].split(" ")[0 if place not in self.clocks else slice(None)]
        example = form if isinstance(form, str) else " ".join(form)
        text = f"a date such as {example}; blank is missing"
        return self._request(place, "string", text)

    def raw(self, requests: Tensors) -> tf.Tensor:
        """Reads the texts. A text that is no date of the data's form is an error."""
        pairs = [moments.parsed(requests[name], order) for name, order in zip(self.inputs, self.orders, strict=True)]
        values, valid = (tf.stack(part, axis=1) for part in zip(*pairs, strict=True))
        forms = ", ".join(sorted({moments.EXAMPLES[order] for order in self.orders}))
        return checked(
            values,
            valid,
            self.inputs,
            f"is no date of the data's form. Send {forms} or an empty text.",
        )

    def to_request(self, value: Any, place: int) -> Any:
        """Returns the moment as text in the column's order."""
        if np.isnan(value):
            return b""
        moment = np.datetime64(int(value), "s").astype(object)
        forms = {"ymd": "{0:04d}-{1:02d}-{2:02d}", "dmy": "{2:02d}.{1:02d}.{0:04d}", "mdy": "{1:02d}/{2:02d}/{0:04d}"}
        text = forms[self.orders[place]].format(moment.year, moment.month, moment.day)
        return f"{text} {moment:%H:%M:%S}".encode() if value % moments.DAY else text.encode()

    def numbers(self, raw: tf.Tensor) -> tf.Tensor:
        """Returns for each column: the place in the range of the training split (clipped), the season and the weekday as
        points of a circle and one number per weekday; the time of day likewise, if there is one; and the marks of missing
        values. All are 0 for a missing value."""
        missing = tf.math.is_nan(raw)
        moment = tf.where(missing, np.float64(0), raw)
        days = tf.math.floordiv(moment, moments.DAY)
        starts, stops = np.asarray(self.starts, np.float64), np.asarray(self.stops, np.float64)
        widths = np.maximum(stops - starts, 1.0)
        trend = tf.clip_by_value((moment - starts) / widths, np.float64(0), np.float64(1)) * 2 - 1
        parts = [trend[..., tf.newaxis], *_circle(days / 365.2425, 2)]
        weekday = tf.cast(tf.math.floormod(days + 3, 7), tf.int32)  # 1970-01-01 was a Thursday; Monday is 0
        parts.append(tf.one_hot(weekday, 7, dtype=tf.float64))
        values = tf.where(missing[..., tf.newaxis], np.float64(0), tf.concat(parts, axis=-1))
        flat = [tf.reshape(values, [-1, len(self.names) * values.shape[-1]])]
        if self.clocks:
            hours = tf.math.floormod(tf.gather(moment, list(self.clocks), axis=1), moments.DAY) / 3600
            clock = tf.concat([(hours / 12 - 1)[..., tf.newaxis], *_circle(hours / 24, 3)], axis=-1)
            unknown = tf.gather(missing, list(self.clocks), axis=1)[..., tf.newaxis]
            flat.append(tf.reshape(tf.where(unknown, np.float64(0), clock), [-1, len(self.clocks) * clock.shape[-1]]))
        if self.gaps:
            flat.append(tf.cast(tf.gather(missing, list(self.gaps), axis=1), tf.float64))
        return tf.cast(tf.concat(flat, axis=1), tf.float32)

    @property
    def limits(self) -> tuple[str, ...]:
        """Which dates are accepted."""
        forms = (
            f"{name} such as {moments.EXAMPLES[order]}" for name, order in zip(self.names, self.orders, strict=True)
        )
        return (
            f"Dates have the form of the data ({', '.join(forms)}) or begin with the year, in UTC if they name no zone; "
            "others are rejected.",
        )

    @property
    def binned(self) -> tuple[bool, ...]:
        """The place in the range and the hour are."""
        day, clock = (True, *[False] * 11), (True, *[False] * 6)
        return day * len(self.names) + clock * len(self.clocks) + (False,) * len(self.gaps)


def _circle(turns: tf.Tensor, waves: int) -> list[tf.Tensor]:
    """Returns sine and cosine of full turns and of their multiples, each with a new last axis of size 2."""
    angles = [2 * np.pi * wave * turns for wave in range(1, waves + 1)]
    return [tf.stack([tf.sin(angle), tf.cos(angle)], axis=-1) for angle in angles]
