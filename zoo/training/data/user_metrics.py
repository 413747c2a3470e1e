"""Metrics of a compiled model, in the form in which the loop needs them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from zoo.errors import UsageError, did_you_mean, one_line
from zoo.training.data.user_losses import aligned, kind_by_shapes, name_of


@keras.saving.register_keras_serializable("zoo")
class PerElementMetric(keras.metrics.Metric):
    """A metric that is fed as Keras feeds it, but never with what is not real.

    Args:
        metric: the metric.
        weighted: whether weights count as they are; else only whether they are 0, as `metrics` of `Model.compile` ask.
        elementwise: see `aligned`.
        name: the metric's own by default.

    Example:
        >>> metric = PerElementMetric(keras.metrics.MeanAbsoluteError(), weighted=False)
        >>> metric.update_state([1.0, 2.0, 3.0], [2.0, 2.0, 9.0], sample_weight=[5.0, 1.0, 0.0])
        >>> float(metric.result())
        0.5
    """

    def __init__(
        self, metric: keras.metrics.Metric, weighted: bool = True, elementwise: bool = False, name: str | None = None
    ) -> None:
        super().__init__(name=name or metric.name, dtype=metric.dtype)
        self.metric, self.weighted, self.elementwise = metric, weighted, elementwise
        if hasattr(metric, "_direction"):
            self._direction = metric._direction  # by which Keras's callbacks know what is better

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Adds a batch."""
        if sample_weight is not None and not self.weighted:
            sample_weight = ops.cast(ops.not_equal(sample_weight, 0), self.dtype)
        targets, outputs = aligned(y_true, y_pred, self.elementwise)
        return self.metric.update_state(targets, outputs, sample_weight=sample_weight)

    def is_of_whole_batch(self, y_true: Any, y_pred: Any) -> bool:
        """Returns whether the metric is a function with one number for a batch, not one for each example."""
        function = getattr(self.metric, "_fn", None)
        if function is None:
            return False
        value = function(*aligned(y_true, y_pred, self.elementwise), **self.metric._fn_kwargs)
        return len(ops.convert_to_tensor(value).shape) == 0

    def result(self) -> Any:
        """Returns the metric's value."""
        return self.metric.result()

    def reset_state(self) -> None:
        """Starts again."""
        self.metric.reset_state()

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            "metric": keras.saving.serialize_keras_object(self.metric),
            "weighted": self.weighted,
            "elementwise": self.elementwise,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> PerElementMetric:
        """Makes the metric from what `get_config` gave."""
        return cls(**{**config, "metric": keras.metrics.get(config["metric"])})


def make_metric(identifier: Any, target_shape: tuple[int, ...], output_shape: tuple[int, ...]) -> keras.metrics.Metric:
    """Returns a fresh metric for an entry of `Model.compile(metrics=[...])`.

    Args:
        identifier: a name, a function, a class or a Metric, which is copied.
        target_shape: of some examples, as `aligned` gives them.
        output_shape: of their outputs, likewise.

    Raises:
        UsageError: no metric of that name, or one that cannot be copied.
    """
    if isinstance(identifier, PerElementMetric):
        identifier = identifier.metric
    if isinstance(identifier, str) and identifier.lower() in ("accuracy", "acc"):
        choice = kind_by_shapes(target_shape, output_shape)
        metrics = keras.metrics
        classes = {
            "binary": metrics.BinaryAccuracy,
            "sparse": metrics.SparseCategoricalAccuracy,
            "one_hot": metrics.CategoricalAccuracy,
        }
        return classes[choice](name=identifier)
    if isinstance(identifier, keras.metrics.Metric):
        return _copied(identifier)
    try:
        found = keras.metrics.get(identifier)
    except (ValueError, TypeError) as error:
        known = [n for n in dir(keras.metrics) if not n.startswith("_")]
        raise UsageError(f"Unknown metric {identifier!r}. {did_you_mean(str(identifier), known)}") from error
    if not isinstance(found, keras.metrics.Metric):
        found = keras.metrics.MeanMetricWrapper(found, name=name_of(found))
    if isinstance(identifier, str):
        found.name = identifier
    return found


def _copied(metric: keras.metrics.Metric) -> keras.metrics.Metric:
    """A new metric with the same arguments, and none of the state."""
    advice = "Give its class a get_config that returns every argument of its constructor."
    try:
        fresh = type(metric).from_config(metric.get_config())
    except (TypeError, ValueError, NotImplementedError) as error:
        raise UsageError(f"Metric {metric.name!r} cannot be copied: {one_line(error, 150)} {advice}") from error
    for key, value in vars(metric).items():
        plain_value = isinstance(value, (bool, int, float, str)) and not key.startswith("_")
        if plain_value and getattr(fresh, key, value) != value:
            raise UsageError(
                f"Metric {metric.name!r} has {key}={value!r}, a copy of it {getattr(fresh, key)!r}: its configuration "
                f"leaves {key} out. {advice}"
            )
    return fresh
