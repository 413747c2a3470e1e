"""Tabular regression: one or several numbers for a row of a table."""

from zoo.scores import VALUE_RMSE, Score, value_distances
from zoo.tasks.contract import Task
from zoo.tasks.quantiles import with_quantiles
from zoo.tasks.registry import register_task
from zoo.tasks.shared import of_rows, predicted_values, value_objective, value_signatures

register_task(
    Task(
        name="tabular_regression",
        targets=("value",),
        preprocessor="table",
        default_model="mlp",
        objective=value_objective("value"),
        prediction=predicted_values,
        report="values",
        signatures=of_rows(value_signatures()),
        arguments={"classifier_activation": "linear"},
        score=Score("mae", "value", value_distances, higher_is_better=False, further=(VALUE_RMSE,)),
        with_quantiles=with_quantiles,
    )
)
