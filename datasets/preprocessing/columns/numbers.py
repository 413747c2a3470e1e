"""Columns of numbers, and of yes and no."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import tensorflow as tf

from zoo.datasets.preprocessing import moments
from zoo.datasets.preprocessing.columns.base import Columns, Tensors, checked, floats
from zoo.tasks import Request

_EXACT = 2**62
"""Larger whole numbers are sent as floats."""
_FARTHEST = 1e6
"""Numbers farther from the training mean, in standard deviations, are rejected: they are errors, and sums of such numbers in
a model overflow."""
_SCORES = 256
"""Number of quantiles that determine the scaling by quantiles."""


def _known(values: tf.Tensor, fallback: Sequence[float]) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the values with NaN replaced, and where they were NaN, float32."""
    missing = tf.math.is_nan(values)
    return tf.where(missing, tf.constant(fallback, tf.float32), values), tf.cast(missing, tf.float32)


@dataclasses.dataclass(frozen=True)
class Numbers(Columns):
    """Measurements and counts: float32, NaN for a missing value, which becomes the median and a mark.

    Attributes:
        medians: the median of every column in the training split.
        means: its mean, with the median in place of missing values.
        deviations: its standard deviation, 1 for a constant column.
        lows: its smallest value.
        highs: its largest value.
        gaps: places of the columns with missing values in the training split; each has a mark, 1 where the value is missing.
        whole: places of the columns with whole numbers only. In `tf.Example` they are int64.
        clip: whether values beyond those of the training split are replaced by the nearest of them.
        quantiles: for scaling by quantiles, the ascending values of every column; empty for standard scaling.
    """

    kind: ClassVar[str] = "number"
    medians: tuple[float, ...]
    means: tuple[float, ...]
    deviations: tuple[float, ...]
    lows: tuple[float, ...]
    highs: tuple[float, ...]
    gaps: tuple[int, ...] = ()
    whole: tuple[int, ...] = ()
    clip: bool = False
    quantiles: tuple[tuple[float, ...], ...] = ()

    @classmethod
    def fit(cls, names: Sequence[str], inputs: Sequence[str], values: np.ndarray, options: Mapping[str, Any]) -> Self:
        """Computes the statistics of the columns in float64."""
        values = values.astype(np.float64)
        missing = np.isnan(values)
        medians = np.nanmedian(values, axis=0)
        filled = np.where(missing, medians, values)
        deviations = filled.std(axis=0)
        whole = (missing | ((values == np.floor(values)) & (np.abs(values) < _EXACT))).all(axis=0)
        quantiles: tuple[tuple[float, ...], ...] = ()
        if options.get("scaling") == "quantile":
            shares = np.linspace(0, 1, _SCORES)
            quantiles = tuple(floats(np.quantile(column, shares).astype(np.float32)) for column in filled.T)
        return cls(
            names=tuple(names),
            inputs=tuple(inputs),
            medians=floats(medians),
            means=floats(filled.mean(axis=0)),
            deviations=floats(np.where(deviations > 0, deviations, 1.0)),
            lows=floats(filled.min(axis=0)),
            highs=floats(filled.max(axis=0)),
            gaps=tuple(int(place) for place in np.flatnonzero(missing.any(axis=0))),
            whole=tuple(int(place) for place in np.flatnonzero(whole)),
            clip=bool(options.get("clip", False)),
            quantiles=quantiles,
        )

    def request(self, place: int) -> Request:
        """float32; the description has the range of the training split."""
        kind = "whole number" if place in self.whole else "number"
        missing = "NaN is missing" if place in self.gaps else f"NaN is missing and counts as {self.medians[place]:g}"
        text = f"{kind}, {self.lows[place]:g} to {self.highs[place]:g} in the data; {missing}"
        return self._request(place, "float32", text)

    def raw(self, requests: Tensors) -> tf.Tensor:
        """Stacks the requests. An infinite number is an error."""
        values = tf.stack([tf.cast(requests[name], tf.float32) for name in self.inputs], axis=1)
        finite = ~tf.math.is_inf(values)
        values = checked(values, finite, self.inputs, "is infinite. Send a finite number, or NaN where it is missing.")
        gaps = tf.abs(values / np.asarray(self.deviations, np.float32) - np.asarray(self._centers(), np.float32))
        said = f"is more than {_FARTHEST:,.0f} standard deviations from the training data's mean. Send it in the data's unit."
        return checked(values, ~(gaps > _FARTHEST), self.inputs, said)

    def _centers(self) -> list[float]:
        return [mean / deviation for mean, deviation in zip(self.means, self.deviations, strict=True)]

    def to_request(self, value: Any, place: int) -> Any:
        """Returns the number."""
        return np.float32(value)

    def numbers(self, raw: tf.Tensor) -> tf.Tensor:
        """Scales the values, and appends the marks of missing ones."""
        values, missing = _known(tf.cast(raw, tf.float32), self.medians)
        if self.clip or self.quantiles:
            values = tf.clip_by_value(values, np.asarray(self.lows, np.float32), np.asarray(self.highs, np.float32))
        if self.quantiles:
            scaled = _normal_scores(values, np.asarray(self.quantiles, np.float32))
        else:
            # A product, since graphs replace a quotient by one, and would differ from eager mode in the last bit.
            scaled = (values - np.asarray(self.means, np.float32)) * np.float32(1 / np.asarray(self.deviations))
        return tf.concat([scaled, tf.gather(missing, list(self.gaps), axis=1)], axis=1) if self.gaps else scaled

    @property
    def limits(self) -> tuple[str, ...]:
        """Which numbers are rejected, and what happens beyond the range of the data."""
        beyond = "are replaced by the nearest of them" if self.clip or self.quantiles else "are extrapolated"
        return (
            f"Numbers beyond those of the training data {beyond}. A batch is rejected if a number is infinite, or more than "
            f"{_FARTHEST:,.0f} standard deviations from the mean of the data.",
        )

    @property
    def binned(self) -> tuple[bool, ...]:
        """The values are binned, the marks are not."""
        return (True,) * len(self.names) + (False,) * len(self.gaps)


def _normal_scores(values: tf.Tensor, quantiles: np.ndarray) -> tf.Tensor:
    """Maps values (batch, columns) to those of a normal distribution with the same rank, between -3 and 3, linearly between
    quantiles, (columns, count). A value that fills several quantiles gets the middle of its ranks."""
    from scipy.special import ndtri

    count = quantiles.shape[1]
    middles = np.asarray(np.clip(ndtri(np.linspace(0, 1, 2 * count - 1)), -3, 3), np.float32)  # of two ranks each
    scores = middles[::2]
    sorted_values = tf.constant(quantiles)
    columns = tf.transpose(values)
    right = tf.searchsorted(sorted_values, columns, side="right")
    left = tf.searchsorted(sorted_values, columns, side="left")
    exact = tf.gather(middles, left + tf.maximum(right - 1, 0))
    upper, lower = tf.minimum(right, count - 1), tf.maximum(right - 1, 0)
    start = tf.gather(sorted_values, lower, batch_dims=1)
    width = tf.gather(sorted_values, upper, batch_dims=1) - start
    share = tf.math.divide_no_nan(columns - start, width)
    between = tf.gather(scores, lower) * (1 - share) + tf.gather(scores, upper) * share
    return tf.transpose(tf.where(right > left, exact, between))


# Words at the same place of both belong together: a column of y and no is none of yes or no.
_PAIRS = (
    *(("1", "0"), ("true", "false"), ("yes", "no"), ("y", "n"), ("t", "f"), ("on", "off")),
    *(("ja", "nein"), ("ja", "nee"), ("ja", "nej"), ("ja", "nei"), ("j", "n"), ("wahr", "falsch")),
    *(("oui", "non"), ("o", "n"), ("vrai", "faux"), ("sí", "no"), ("si", "no"), ("sì", "no"), ("s", "n")),
    *(("verdadero", "falso"), ("vero", "falso"), ("sim", "não"), ("sim", "nao"), ("verdadeiro", "falso")),
    *(
        ("da", "nu"),
        ("da", "ne"),
        ("да", "нет"),
        ("так", "ні"),
        ("да", "не"),
        ("tak", "nie"),
        ("ano", "ne"),
        ("áno", "nie"),
    ),
    *(("igen", "nem"), ("kyllä", "ei"), ("jah", "ei"), ("jā", "nē"), ("taip", "ne"), ("ναι", "όχι"), ("evet", "hayır")),
    *(("نعم", "لا"), ("بله", "خیر"), ("כן", "לא"), ("हाँ", "नहीं"), ("হ্যাঁ", "না"), ("ya", "tidak"), ("có", "không")),
    *(("是", "否"), ("はい", "いいえ"), ("예", "아니요"), ("네", "아니요"), ("ใช่", "ไม่ใช่"), ("ndiyo", "hapana")),
)
YES = tuple(yes for yes, _ in _PAIRS)
NO = tuple(no for _, no in _PAIRS)


@dataclasses.dataclass(frozen=True)
class YesNo(Columns):
    """Yes or no: raw float32, 1 or 0, NaN for a missing value; requests are words such as yes, no, true, false, 1, 0,
    in any of about 40 languages.

    Attributes:
        gaps: places of the columns with missing values in the training split.
    """

    kind: ClassVar[str] = "yes_no"
    gaps: tuple[int, ...] = ()

    @classmethod
    def fit(cls, names: Sequence[str], inputs: Sequence[str], values: np.ndarray, options: Mapping[str, Any]) -> Self:
        """Finds the columns with missing values."""
        return cls(tuple(names), tuple(inputs), tuple(int(i) for i in np.flatnonzero(np.isnan(values).any(axis=0))))

    def request(self, place: int) -> Request:
        """string."""
        return self._request(place, "string", "yes or no; blank is missing")

    def raw(self, requests: Tensors) -> tf.Tensor:
        """Reads the words. Other words are an error."""
        words = tf.strings.lower(
            tf.strings.strip(tf.stack([requests[name] for name in self.inputs], axis=1)), encoding="utf-8"
        )
        yes, no = (tf.reduce_any(words[..., tf.newaxis] == tf.constant(known), axis=-1) for known in (YES, NO))
        values = tf.where(yes, 1.0, tf.where(no, 0.0, float("nan")))
        valid = yes | no | moments.is_missing(words)
        return checked(
            values, valid, self.inputs, "is neither yes nor no. Send yes, no, true, false, 1, 0 or an empty text."
        )

    def to_request(self, value: Any, place: int) -> Any:
        """Returns yes, no or an empty text."""
        return b"" if np.isnan(value) else b"yes" if value else b"no"

    def numbers(self, raw: tf.Tensor) -> tf.Tensor:
        """Returns 1 for yes, -1 for no, 0 for a missing value, and the marks of missing values."""
        missing = tf.math.is_nan(raw)
        values = tf.where(missing, 0.0, 2 * raw - 1)
        if not self.gaps:
            return values
        return tf.concat([values, tf.gather(tf.cast(missing, tf.float32), list(self.gaps), axis=1)], axis=1)

    @property
    def limits(self) -> tuple[str, ...]:
        """Which words are accepted."""
        return (
            f"In {', '.join(self.names)}, yes is 1, true, yes or on, no is 0, false, no or off, or these words in another "
            "language, such as ja, oui or да; others are rejected.",
        )

    @property
    def binned(self) -> tuple[bool, ...]:
        """None is."""
        return (False,) * (len(self.names) + len(self.gaps))
