"""Forecasting: the next steps of a series."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.scores import Score, distances, root_mean_square
from zoo.tasks.contract import Served, Shown, Signature, Task
from zoo.tasks.registry import register_task
from zoo.tasks.shared import absolute_error, only_output, predicted_values, value_objective

if TYPE_CHECKING:
    import tensorflow as tf


def _answer(served: Served) -> dict[str, tf.Tensor]:
    return {"forecast": served.preprocessor.unscale(only_output(served.outputs), served.extras)}


register_task(
    Task(
        name="forecasting",
        targets=("forecast",),
        preprocessor="series",
        default_model="nlinear",
        objective=value_objective("forecast", absolute_error),
        prediction=predicted_values,
        report="regression",
        signatures={
            "serving_default": Signature(
                ("series",),
                _answer,
                {"forecast": "the next steps of the first channel, in its unit"},
                shown=Shown("forecast", ("forecast",)),
            )
        },
        arguments={"classifier_activation": "linear", "return_sequences": False},
        follows_time=True,
        score=Score(
            "mae",
            "forecast",
            distances("forecast"),
            higher_is_better=False,
            further=(root_mean_square(distances("forecast", power=2)),),
        ),
    )
)
