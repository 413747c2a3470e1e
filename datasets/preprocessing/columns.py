"""The kinds of columns of a table: how each is requested, and the numbers or categories that it becomes.

All columns of one kind are computed together, so that a table of hundreds of columns is a graph of a few dozen ops.
"""

from __future__ import annotations

import dataclasses
import keyword
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import tensorflow as tf

from zoo import lookup
from zoo.datasets.preprocessing import moments
from zoo.tasks import Request

Tensors = Mapping[str, tf.Tensor]
_EXACT = 2**62
"""Larger whole numbers are sent as floats."""
_SCORES = 256
"""Number of quantiles that determine the scaling by quantiles."""


@dataclasses.dataclass(frozen=True)
class Columns:
    """The columns of one kind.

    Attributes:
        names: their names in the file, which are the keys of raw examples and of `tf.Example`.
        inputs: the names of the SavedModel's inputs.
    """

    kind: ClassVar[str]
    names: tuple[str, ...]
    inputs: tuple[str, ...]

    @classmethod
    def fit(cls, names: Sequence[str], inputs: Sequence[str], values: np.ndarray, options: Mapping[str, Any]) -> Self:
        """Creates the columns from the training split, an array (examples, columns) of raw values.

        Args:
            names: see `Columns`.
            inputs: see `Columns`.
            values: the raw values.
            options: the options of the data set: `scaling`, `min_count`, `orders` of dates.
        """
        raise NotImplementedError

    def request(self, place: int) -> Request:
        """The input of one column."""
        raise NotImplementedError

    def raw(self, requests: Tensors) -> tf.Tensor:
        """Turns requests into raw values, (batch, columns)."""
        raise NotImplementedError

    def to_request(self, value: Any, place: int) -> Any:
        """Returns the raw value of a column as a client sends it."""
        raise NotImplementedError

    def numbers(self, raw: tf.Tensor) -> tf.Tensor:
        """Turns raw values (batch, columns) into numbers, float32 (batch, `len(binned)`)."""
        return tf.zeros([tf.shape(raw)[0], 0])

    @property
    def binned(self) -> tuple[bool, ...]:
        """For each number, whether it is a measurement, which bins can describe, and not a part of a set, such as a
        weekday."""
        return ()

    def for_export(self, directory: Path) -> tuple[Columns, list[Any]]:
        """Returns equal columns that read vocabularies from files, and the objects to save with them."""
        return self, []

    @property
    def limits(self) -> tuple[str, ...]:
        """What is rejected or treated as unknown, as sentences for the model card."""
        return ()

    def config(self) -> dict[str, Any]:
        """Returns the fields as plain values."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if not f.name.startswith("_")}

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if isinstance(getattr(self, field.name), (list, tuple)):  # it may have been read from a file
                object.__setattr__(self, field.name, _hashable(getattr(self, field.name)))


def _hashable(values: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(_hashable(value) if isinstance(value, (list, tuple)) else value for value in values)


def _floats(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


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
            quantiles = tuple(_floats(np.quantile(column, shares).astype(np.float32)) for column in filled.T)
        return cls(
            names=tuple(names),
            inputs=tuple(inputs),
            medians=_floats(medians),
            means=_floats(filled.mean(axis=0)),
            deviations=_floats(np.where(deviations > 0, deviations, 1.0)),
            lows=_floats(filled.min(axis=0)),
            highs=_floats(filled.max(axis=0)),
            gaps=tuple(int(place) for place in np.flatnonzero(missing.any(axis=0))),
            whole=tuple(int(place) for place in np.flatnonzero(whole)),
            clip=bool(options.get("clip", False)),
            quantiles=quantiles,
        )

    def request(self, place: int) -> Request:
        """float32; the description has the range of the training split."""
        kind = "whole number" if place in self.whole else "number"
        text = f"{kind}, {self.lows[place]:g} to {self.highs[place]:g} in the data; NaN is missing"
        return Request(self.inputs[place], "value", "float32", (), text, {"column": self.names[place]})

    def raw(self, requests: Tensors) -> tf.Tensor:
        """Stacks the requests. An infinite number is an error."""
        values = tf.stack([tf.cast(requests[name], tf.float32) for name in self.inputs], axis=1)
        finite = tf.reduce_all(~tf.math.is_inf(values), axis=0)
        return _checked(values, finite, self.inputs, "is infinite. Send a finite number, or NaN where it is missing.")

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
    def binned(self) -> tuple[bool, ...]:
        """The values are binned, the marks are not."""
        return (True,) * len(self.names) + (False,) * len(self.gaps)


def _normal_scores(values: tf.Tensor, quantiles: np.ndarray) -> tf.Tensor:
    """Maps values (batch, columns) to those of a normal distribution with the same rank, between -3 and 3, linearly between
    quantiles, (columns, count). A value that fills several quantiles gets the middle of its ranks."""
    from scipy.special import ndtri

    count = quantiles.shape[1]
    middles = np.float32(np.clip(ndtri(np.linspace(0, 1, 2 * count - 1)), -3, 3))  # of two ranks each
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


YES = ("1", "true", "yes", "y", "t", "on")
NO = ("0", "false", "no", "n", "f", "off")


@dataclasses.dataclass(frozen=True)
class YesNo(Columns):
    """Yes or no: raw float32, 1 or 0, NaN for a missing value; requests are words such as yes, no, true, false, 1, 0.

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
        return Request(
            self.inputs[place], "value", "string", (), "yes or no; blank is missing", {"column": self.names[place]}
        )

    def raw(self, requests: Tensors) -> tf.Tensor:
        """Reads the words. Other words are an error."""
        words = tf.strings.lower(
            tf.strings.strip(tf.stack([requests[name] for name in self.inputs], axis=1)), encoding="utf-8"
        )
        yes, no = (tf.reduce_any(words[..., tf.newaxis] == tf.constant(known), axis=-1) for known in (YES, NO))
        values = tf.where(yes, 1.0, tf.where(no, 0.0, float("nan")))
        valid = tf.reduce_all(yes | no | moments.is_missing(words), axis=0)
        return _checked(
            values, valid, self.inputs, "is neither yes nor no. Send yes, no, true, false, 1, 0 or an empty text."
        )

    def to_request(self, value: Any, place: int) -> Any:
        """Returns yes, no or an empty text."""
        return b"" if np.isnan(value) else b"yes" if value else b"no"

    def numbers(self, raw: tf.Tensor) -> tf.Tensor:
        """Returns 1 for yes, -1 for no, 0 for a missing value, and the marks of missing values."""
        missing = tf.math.is_nan(raw)
        values = tf.where(missing, 0.0, 2 * raw - 1)
        marks = tf.gather(tf.cast(missing, tf.float32), list(self.gaps), axis=1)
        return tf.concat([values, marks], axis=1) if self.gaps else values

    @property
    def binned(self) -> tuple[bool, ...]:
        """None is."""
        return (False,) * (len(self.names) + len(self.gaps))


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
            starts=_floats(np.nanmin(values, axis=0)),
            stops=_floats(np.nanmax(values, axis=0)),
            clocks=tuple(int(i) for i in np.flatnonzero(clocks)),
            gaps=tuple(int(i) for i in np.flatnonzero(missing.any(axis=0))),
        )

    def request(self, place: int) -> Request:
        """string."""
        form = moments.EXAMPLES[self.orders[place]].split(" ")[0 if place not in self.clocks else slice(None)]
        example = form if isinstance(form, str) else " ".join(form)
        text = f"a date such as {example}; blank is missing"
        return Request(self.inputs[place], "value", "string", (), text, {"column": self.names[place]})

    def raw(self, requests: Tensors) -> tf.Tensor:
        """Reads the texts. A text that is no date of the data's form is an error."""
        pairs = [moments.parsed(requests[name], order) for name, order in zip(self.inputs, self.orders, strict=True)]
        values, valid = (tf.stack(part, axis=1) for part in zip(*pairs, strict=True))
        forms = ", ".join(sorted({moments.EXAMPLES[order] for order in self.orders}))
        return _checked(
            values,
            tf.reduce_all(valid, axis=0),
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
    def binned(self) -> tuple[bool, ...]:
        """The place in the range and the hour are."""
        day, clock = (True, *[False] * 11), (True, *[False] * 6)
        return day * len(self.names) + clock * len(self.clocks) + (False,) * len(self.gaps)


def _circle(turns: tf.Tensor, waves: int) -> list[tf.Tensor]:
    """Returns sine and cosine of full turns and of their multiples, each with a new last axis of size 2."""
    angles = [2 * np.pi * wave * turns for wave in range(1, waves + 1)]
    return [tf.stack([tf.sin(angle), tf.cos(angle)], axis=-1) for angle in angles]


UNKNOWN, MISSING = 0, ""
_FILE = "categories.txt"


@dataclasses.dataclass(frozen=True)
class Categories(Columns):
    """Words or numbers that name a group: strings, empty for a missing value.

    Number 0 is an unknown value. The others are numbered from 1, the most frequent of the training split first; a missing
    value has a number of its own if the training split has one.

    Attributes:
        vocabularies: the known values of every column.
    """

    kind: ClassVar[str] = "category"
    vocabularies: tuple[tuple[str, ...], ...]
    _file: Path | None = dataclasses.field(default=None, compare=False, repr=False)
    _tables: list[Any] = dataclasses.field(default_factory=list, compare=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "_tables", [])

    @classmethod
    def fit(cls, names: Sequence[str], inputs: Sequence[str], values: np.ndarray, options: Mapping[str, Any]) -> Self:
        """Collects the values that occur at least `min_count` times, at most `max_categories` of a column."""
        vocabularies = []
        for column in values.T:
            known, counts = np.unique(column.astype(object), return_counts=True)
            order = np.lexsort((np.arange(len(known)), -counts))
            often = [known[i].decode() for i in order if counts[i] >= options.get("min_count", 1)]
            vocabularies.append(tuple(often[: options.get("max_categories", 10_000)]))
        return cls(tuple(names), tuple(inputs), tuple(vocabularies))

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many numbers every column has, the unknown included."""
        return tuple(len(known) + 1 for known in self.vocabularies)

    def request(self, place: int) -> Request:
        """string; the description has the most frequent values."""
        known = [f"{value[:40]}{'...' * (len(value) > 40)}" or '""' for value in self.vocabularies[place]]
        shown = ", ".join(known[:6]) + (f", ... ({len(known):,} values)" if len(known) > 6 else "")
        text = f"one of {shown}; another value is unknown"
        return Request(self.inputs[place], "value", "string", (), text, {"column": self.names[place]})

    def raw(self, requests: Tensors) -> tf.Tensor:
        """Stacks the requests, without blanks around them."""
        return tf.strings.strip(tf.stack([requests[name] for name in self.inputs], axis=1))

    def to_request(self, value: Any, place: int) -> Any:
        """Returns the text."""
        return bytes(value)

    def lookup(self, raw: tf.Tensor) -> tf.Tensor:
        """Turns raw values (batch, columns) into their numbers, int32, by one table for all columns."""
        places = tf.constant([f"{place}:" for place in range(len(self.names))])
        starts = np.cumsum([0, *(len(known) for known in self.vocabularies)])[:-1]
        found = tf.cast(self._table().lookup(tf.strings.join([tf.broadcast_to(places, tf.shape(raw)), raw])), tf.int32)
        return tf.where(found > UNKNOWN, found - tf.constant(starts, tf.int32), UNKNOWN)

    def _keys(self) -> list[str]:
        return [f"{place}:{value}" for place, known in enumerate(self.vocabularies) for value in known]

    def _table(self) -> Any:
        if not self._tables:
            with tf.init_scope():  # needed if the first access is in a traced tf.data function
                if self._file is not None:
                    table = lookup.numbers_of_lines(self._file, UNKNOWN)
                else:
                    keys = self._keys()
                    numbers = tf.range(1, len(keys) + 1, dtype=tf.int64)
                    table = lookup.in_memory(tf.constant(keys, tf.string, [len(keys)]), numbers, UNKNOWN)
            self._tables.append(table)
        return self._tables[0]

    def for_export(self, directory: Path) -> tuple[Categories, list[Any]]:
        """Writes all values to a file. The number of a line is that of the value, line 0 is an unknown value."""
        file = directory / _FILE
        file.write_text("".join(f"{line}\n" for line in ("unknown", *self._keys())), encoding="utf-8", newline="\n")
        served = dataclasses.replace(self, _file=file)
        return served, [served._table()]

    @property
    def limits(self) -> tuple[str, ...]:
        """How unknown values are treated."""
        return (
            f"Of the columns {', '.join(self.names)}, the values in `assets/{_FILE}` are known, byte by byte. Others count "
            "as unknown, which the model treats as no information.",
        )


def _checked(values: tf.Tensor, valid: tf.Tensor, names: Sequence[str], said: str) -> tf.Tensor:
    """Returns values, or raises an error that names the first column, of `valid` (columns,), that is not."""
    wrong = tf.argmin(tf.concat([tf.cast(valid, tf.int32), [0]], axis=0))
    message = tf.strings.join([tf.constant([*names, ""])[wrong], said], separator=" ")
    with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(valid), [message])]):
        return tf.identity(values)


_TAKEN = ("examples", "self", *keyword.kwlist)
"""The input of serialized rows, and names that TensorFlow's functions do not accept."""


def input_names(columns: Sequence[str]) -> dict[str, str]:
    """Returns the input of every column: its name with letters, digits and underscores only, which all runtimes accept. A
    column whose name needs no change keeps it.

    Example:
        >>> input_names(["hours per week", "2nd", "年龄"])
        {'hours per week': 'hours_per_week', '2nd': 'column_2nd', '年龄': 'column_3'}
    """
    found = {
        column: column for column in columns if re.fullmatch(r"[A-Za-z]\w*", column, re.ASCII) and column not in _TAKEN
    }
    for number, column in enumerate(columns, start=1):
        if column in found:
            continue
        plain = unicodedata.normalize("NFKD", column).encode("ascii", "ignore").decode()
        name = re.sub(r"[^A-Za-z0-9_]+", "_", plain.strip()).strip("_") or f"column_{number}"
        name = name if name[0].isalpha() else f"column_{name}"
        while name in found.values() or name in _TAKEN:
            name += "_"
        found[column] = name
    return {column: found[column] for column in columns}


COLUMNS: dict[str, type[Columns]] = {cls.kind: cls for cls in (Numbers, YesNo, Moments, Categories)}
"""The kinds of columns, in the order of their numbers."""
