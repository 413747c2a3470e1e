"""Series: numbers in their original units to standardised model inputs, and forecasts back to the unit."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import tensorflow as tf

from zoo.datasets.preprocessing import references
from zoo.datasets.preprocessing.base import Choices, register_preprocessor
from zoo.datasets.preprocessing.known_ahead import KnownAhead
from zoo.datasets.preprocessing.series_values import latest, lengths, longest, measure
from zoo.errors import UsageError
from zoo.tasks import Request, get_task

if TYPE_CHECKING:
    from zoo.datasets.preprocessing.base import Batch, Tensors
    from zoo.datasets.raw import RawData

_FARTHEST = 1e6
"""Values farther from the training mean, in standard deviations, are rejected: they are errors, and sums of such values in
a model overflow."""


@dataclasses.dataclass(frozen=True)
class ForecastTargets:
    """What a model predicts of a series: `horizon` steps, and the quantiles of each of them.

    Example:
        >>> ForecastTargets(24, (0.1, 0.9)).arguments
        {'num_classes': 72}
    """

    horizon: int
    quantiles: tuple[float, ...] = ()

    @property
    def arguments(self) -> dict[str, Any]:
        """The argument of a model's builder that they determine: the number of its outputs."""
        return {"num_classes": self.horizon * (1 + len(self.quantiles))} if self.horizon else {}

    @property
    def described_outputs(self) -> dict[str, str]:
        """What the model's output holds, for the model card; empty without quantiles."""
        levels = ", ".join(f"{level:g}" for level in self.quantiles)
        text = f"the standardised steps, then for each step the quantiles {levels}, neither calibrated nor sorted"
        return {"values": text} if levels else {}


@register_preprocessor
@dataclasses.dataclass(frozen=True)
class SeriesPreprocessor:
    """Standardises series, float32 (batch, steps, channels). NaN is a missing value and stays NaN.

    Steps at the end that are NaN in every channel are padding. A series without any value counts as one step. The target of
    a forecast is the difference from the mean, the last value or the value one season earlier of channel 0, in standard
    deviations of channel 0. So level and seasonality need not be learned, and may change after training. With a season, an
    additional channel has the same difference for every step whose earlier value is in the series.

    What is known in advance has a model input of its own, `known`, float32 (batch, horizon, features): the last channels of
    the series, standardised, and sine and cosine of hour, weekday or month, for each step to forecast. A request then ends
    with `horizon` rows more, in which only these channels have values.

    Attributes:
        means: mean of every channel's values in the training split.
        deviations: their standard deviation, 1 for a constant channel.
        longest: steps of the longest series of the data; a request may have more.
        every_step: whether a label is the target of every step, or of the whole series.
        horizon: number of steps to forecast, 0 if the target is a label.
        season: lag in steps of the earlier value that a forecast is compared with, such as a week; 1 for the last value, 0
            for the mean.
        relative: whether channel 0 of the inputs is the difference from its last value.
        columns: the names of the columns of the data's CSV file by key: `series`, in the order of the channels, and perhaps
            `time` and `sequence`; or `steps` and `label` for a file with a series in each row; empty for other sources.
        note: how season and relative were chosen.
        quantiles: the levels of the quantiles that are forecast for every step, ascending; empty for none.
        known: number of the last channels that are known in advance.
        calendar: the parts of the time that are known in advance, names of `zoo.tables.calendars.PARTS`.

    Example:
        >>> preprocess = SeriesPreprocessor(means=(5.0,), deviations=(2.0,), longest=3)
        >>> preprocess.serve({"series": [[[7.0], [float("nan")], [1.0]]]})[0]["series"].numpy().tolist()
        [[[1.0], [nan], [-2.0]]]
    """

    kind: ClassVar[str] = "series"
    padding: ClassVar[float] = float("nan")
    means: tuple[float, ...]
    deviations: tuple[float, ...]
    longest: int
    every_step: bool = False
    horizon: int = 0
    season: int = 0
    relative: bool = False
    note: str = ""
    columns: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    quantiles: tuple[float, ...] = ()
    known: int = 0
    calendar: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("means", "deviations", "quantiles", "calendar"):  # they are lists if they were read from a file
            object.__setattr__(self, name, tuple(getattr(self, name)))

    @classmethod
    def for_model(
        cls, data: RawData, needs: Mapping[str, Any], arguments: Mapping[str, Any]
    ) -> tuple[SeriesPreprocessor, dict[str, Any]]:
        """Computes mean and standard deviation of every channel in the training split. The number of outputs of a forecaster
        is the data's horizon.

        Raises:
            UsageError: `input_shape` differs from the data's, a value is infinite, or the activation for labels is linear.
        """
        forecasts = "forecast" in get_task(data.task).targets
        reference, note = references.Reference(0, False), ""
        if forecasts:
            reference, note = references.choose(data, [*data.about.get("naive", {}).values()], data.about.get("season"))
        season = reference.season
        channels = data.features["series"].shape[-1]
        if channels is None:
            raise UsageError(
                f"Data set {data.name!r} has series whose number of channels varies. Choose one with fixed channels."
            )
        fixed: dict[str, Any] = {"input_shape": (None, channels + bool(season))}
        chosen = arguments.get("input_shape")
        if chosen is not None and (len(chosen) != 2 or chosen[1] != channels or chosen[0] is not None):
            raise UsageError(
                f"input_shape={chosen!r} contradicts data set {data.name!r}, whose series have the shape (None, {channels}). "
                "Leave input_shape out."
            )
        targets = ForecastTargets(0)
        if forecasts:
            targets = ForecastTargets(int(data.features["forecast"].shape[0] or 0), tuple(needs.get("quantiles", ())))
            fixed |= {**targets.arguments, "classifier_activation": "linear", "return_sequences": False}
        elif arguments.get("classifier_activation") == "linear":
            raise UsageError(
                f"classifier_activation is 'linear' for the labels of data set {data.name!r}. Leave it out."
            )
        every_step = not forecasts and bool(arguments.get("return_sequences", False))
        means, deviations = measure(data.train.map(lambda example: example["series"]), channels)
        columns = data.about.get("request_columns", {})
        fixed["length"] = steps = longest(data)
        own = targets.horizon, *reference, note, columns, targets.quantiles
        known = len(data.about.get("known", ())), tuple(data.about.get("calendar", ()))
        made = cls(means, deviations, steps, every_step, *own, *known)
        if made.ahead:
            fixed["known_shape"] = made.ahead.shapes["known"]
        return made, fixed

    @property
    def targets(self) -> ForecastTargets:
        """The steps and quantiles to forecast; no steps for labels."""
        return ForecastTargets(self.horizon, self.quantiles)

    @property
    def input_shapes(self) -> dict[str, tuple[int | None, ...]]:
        """{"series": (longest, channels)}, and {"known": (horizon, features)} if anything is known in advance."""
        return {"series": (self.longest, len(self.means) + bool(self.season)), **self.ahead.shapes}

    @property
    def ahead(self) -> KnownAhead:
        """What is known in advance; false if nothing is."""
        first = len(self.means) - self.known
        return KnownAhead(self.horizon, self.means[first:], self.deviations[first:], self.calendar)

    @property
    def choices(self) -> Choices:
        """What forecasts are compared with, as it was chosen on the validation split."""
        return Choices(notes=(self.note,) if self.note else ())

    @property
    def requests(self) -> dict[str, Request]:
        """`series`: float32 (batch, steps, channels), NaN for missing values."""
        shape = (None, len(self.means) + len(self.calendar))
        channels = [*self.columns.get("series", ()), *self.calendar]
        names = f" of {', '.join(channels)}" if "series" in self.columns else ""
        description = f"a row{names} for each step, NaN for a missing value{self.ahead.described(channels)}"
        return {"series": Request("series", "series", "float32", shape, description, self.columns)}

    def generated(self, generator: np.random.Generator, count: int) -> dict[str, np.ndarray]:
        """Returns random walks around the means of the channels, all of one length."""
        steps = generator.normal(size=(count, min(self.longest, 64), len(self.means))).cumsum(axis=1) / 4
        series = (np.asarray(self.means) + np.asarray(self.deviations) * steps).astype(np.float32)
        if not self.ahead:
            return {"series": series}
        known = self.ahead.generated(generator, count)
        examples = [{"series": one, "known": two} for one, two in zip(series, known, strict=True)]
        return self.to_requests(examples)

    @property
    def described_inputs(self) -> dict[str, str]:
        """How values are standardised."""
        if self.horizon:
            return {"series": "standardised values; `serving_default` makes them from values of the data"}
        means, deviations = (", ".join(f"{v:.6g}" for v in part[:8]) for part in (self.means, self.deviations))
        more = ", ..." if len(self.means) > 8 else ""
        return {
            "series": f"(value - mean) / deviation; means {means}{more}; deviations {deviations}{more}; NaN is missing"
        }

    @property
    def limits(self) -> tuple[str, ...]:
        """The valid content and length of a series, and what is rejected."""
        channels = f"{len(self.means)} channel{'s' * (len(self.means) != 1)}"
        return (
            f"A series has {channels} in the units of the data, and at least 1 step; the longest series of the data has "
            f"{self.longest:,}. NaN is a missing value. Steps at the end with only NaN are padding."
            + (f" The {self.horizon} steps to forecast follow, with what is known of them." if self.ahead else ""),
            f"A batch is rejected if a series has no steps, or if a value is infinite or more than {_FARTHEST:,.0f} standard "
            "deviations from the mean of the data.",
        )

    def encode(self, examples: Tensors) -> Batch:
        """Turns a raw batch into inputs, targets and weights.

        Returns:
            Inputs `series`, float32 (batch, steps, channels), and `known`, see the class.
            Target `label`, (batch,), or (batch, steps) with `every_step`;
            or target `forecast`, standardised numbers (batch, horizon). Weights with `every_step`: float32 (batch, steps),
            0 on padding.
        """
        inputs = self._standardised(tf.convert_to_tensor(examples["series"]))
        if self.horizon:
            start = self._start(tf.convert_to_tensor(examples["series"]))
            ahead = {"known": self.ahead.encode(examples["known"])} if self.ahead else {}
            return {"series": inputs, **ahead}, {"forecast": (examples["forecast"] - start) / self._deviations[0]}, {}
        labels = tf.convert_to_tensor(examples["label"])
        if not self.every_step:
            return {"series": inputs}, {"label": labels}, {}
        steps = tf.shape(inputs)[1]
        weights = tf.sequence_mask(lengths(inputs), steps, dtype=tf.float32)
        return {"series": inputs}, {"label": tf.repeat(labels[:, tf.newaxis], steps, axis=1)}, {"label": weights}

    def serve(self, requests: Tensors) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """Turns `series` into the input `series` and `lengths`, int32 (batch,): the real steps of every series, at least 1.
        For a forecast it adds `start`, float32 (batch, horizon): the values that the forecast is compared with. Rows of the
        steps to forecast become the input `known`.

        A series without steps, or with an infinite or extremely large value, is an error; also one that lacks the rows of the
        steps to forecast, if something is known of them.
        """
        raw = tf.convert_to_tensor(requests["series"], tf.float32)
        channels = len(self.means) + len(self.calendar)
        if raw.shape.rank != 3 or raw.shape[-1] != channels:
            raise UsageError(
                f"A series batch has the shape {raw.shape}; expected (batch, steps, {channels}). "
                "Pass one alone as series[None]."
            )
        with tf.control_dependencies(
            [
                tf.debugging.Assert(
                    tf.shape(raw)[1] > 0, ["series has no steps; expected at least one. Send a step of NaN if empty."]
                )
            ]
        ):
            raw = tf.identity(raw)
        known: dict[str, tf.Tensor] = {}
        if self.ahead:
            raw, ahead = self.ahead.divide(raw, len(self.means))
            known = {"known": self.ahead.encode(ahead)}
        inputs = self._standardised(raw)
        message = (
            f"series holds a value that is infinite or more than {_FARTHEST:,.0f} standard deviations from the "
            "training data's mean. Send numbers in the training data's units, NaN where one is missing."
        )
        near = tf.reduce_all(tf.math.is_nan(inputs) | (tf.abs(inputs) <= _FARTHEST))
        for part in known.values():
            near &= tf.reduce_all(tf.abs(part) <= _FARTHEST)
        with tf.control_dependencies([tf.debugging.Assert(near, [message])]):
            extras = {"lengths": lengths(raw)}
            if self.horizon:
                extras["start"] = self._start(raw)
            return {"series": tf.identity(inputs), **known}, extras

    def unscale(self, values: tf.Tensor, extras: Tensors) -> tf.Tensor:
        """Turns a model's standardised differences, (batch, horizon) or quantiles (batch, horizon, levels), into forecasts in
        channel 0's unit."""
        start = extras["start"] if len(values.shape) == 2 else extras["start"][..., tf.newaxis]
        return values * self._deviations[0] + start

    def _start(self, series: tf.Tensor) -> tf.Tensor:
        """The values that forecasts are compared with, (batch, horizon): channel 0 one season before each step, or the last
        known value before it; the mean if there is none."""
        mean = tf.fill([tf.shape(series)[0], self.horizon], self._means[0])
        if not self.season:
            return mean
        count = min(self.season, self.horizon)  # a season that is shorter than the horizon is repeated
        places = lengths(series)[:, tf.newaxis] - self.season + tf.range(count)
        values = tf.gather(latest(series[..., 0], places, self._means[0]), tf.range(self.horizon) % count, axis=1)
        return tf.reshape(values, tf.shape(mean))

    def trim(self, inputs: Tensors, targets: Tensors, weights: Tensors) -> Batch:
        """Removes the steps at the end that are padding in every series, so that batches of short series are fast."""
        used = tf.reduce_max(lengths(inputs["series"]))
        cut = {**inputs, "series": inputs["series"][:, :used]}
        if not self.every_step:
            return cut, targets, weights
        return cut, *tf.nest.map_structure(lambda part: part[:, :used], (targets, weights))

    def to_requests(self, examples: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """Returns series of a data set as a client sends them: one array, padded with NaN to the longest."""
        steps, channels = max((len(e["series"]) for e in examples), default=1), len(self.means)
        after = self.horizon if self.ahead else 0
        padded = np.full((len(examples), max(steps, 1) + after, channels + len(self.calendar)), np.nan, np.float32)
        for row, example in zip(padded, examples, strict=True):
            count = len(example["series"])
            row[:count, :channels] = example["series"]
            if after:
                row[count : count + after, channels - self.known :] = example["known"]
        return {"series": padded}

    def for_export(self, directory: Path) -> tuple[SeriesPreprocessor, list[Any]]:
        """Series need no vocabulary."""
        return self, []

    def config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        lists = {name: list(getattr(self, name)) for name in ("means", "deviations", "quantiles", "calendar")}
        return {**dataclasses.asdict(self), **lists}

    @property
    def _means(self) -> np.ndarray:
        return np.asarray(self.means, np.float32)

    @property
    def _deviations(self) -> np.ndarray:
        return np.asarray(self.deviations, np.float32)

    def _standardised(self, raw: tf.Tensor) -> tf.Tensor:
        inputs = (raw - self._means) / self._deviations
        if self.relative:
            last = latest(inputs[..., 0], lengths(raw)[:, tf.newaxis] - 1, np.float32(0))
            inputs = tf.concat([inputs[..., :1] - last[..., tf.newaxis], inputs[..., 1:]], axis=-1)
        if not self.season:
            return inputs
        values = raw[:, :, :1]
        gap = tf.fill([tf.shape(raw)[0], tf.minimum(self.season, tf.shape(raw)[1]), 1], np.float32("nan"))
        before = tf.concat([gap, values[:, : tf.maximum(tf.shape(raw)[1] - self.season, 0)]], axis=1)
        return tf.concat([inputs, (values - before) / self._deviations[0]], axis=-1)
