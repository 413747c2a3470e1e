"""Forecasting: the next steps of a series."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from zoo.scores import Score, distances, root_mean_square
from zoo.tasks.contract import Served, Shown, Signature, Task
from zoo.tasks.quantiles import calibrated, percent, quantile_name, split_columns, with_quantiles
from zoo.tasks.registry import register_task
from zoo.tasks.shared import absolute_error, only_output, predicted_values, value_objective

if TYPE_CHECKING:
    import tensorflow as tf


def _answer(served: Served) -> dict[str, tf.Tensor]:
    output, levels = only_output(served.outputs), served.preprocessor.targets.quantiles
    values, *rest = split_columns(output, levels) if levels else (output,)
    answer = {"forecast": served.preprocessor.unscale(values, served.extras)}
    for quantiles in rest:
        scaled = served.preprocessor.unscale(calibrated(quantiles, served.decided), served.extras)
        answer |= {quantile_name("forecast", level): scaled[..., k] for k, level in enumerate(levels)}
    return answer


def _named(preprocessor: Any) -> dict[str, str]:
    levels = preprocessor.targets.quantiles
    return {
        quantile_name("forecast", level): f"the {percent(level)} % quantile of each of these steps, in the same unit"
        for level in levels
    }


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
                named=_named,
            )
        },
        arguments={"classifier_activation": "linear", "return_sequences": False},
        follows_time=True,
        with_quantiles=functools.partial(with_quantiles, power=1),
        score=Score(
            "mae",
            "forecast",
            distances("forecast"),
            higher_is_better=False,
            further=(root_mean_square(distances("forecast", power=2)),),
        ),
    )
)
