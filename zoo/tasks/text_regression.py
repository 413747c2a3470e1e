"""Text regression: one or several numbers for a text, or for a pair of texts."""

from zoo.scores import VALUE_RMSE, Score, value_distances
from zoo.tasks.contract import Task
from zoo.tasks.quantiles import with_quantiles
from zoo.tasks.registry import register_task
from zoo.tasks.shared import predicted_values, value_objective, value_signatures

register_task(
    Task(
        name="text_regression",
        targets=("value",),
        preprocessor="text",
        default_model="bag_of_ngrams",
        objective=value_objective("value"),
        prediction=predicted_values,
        report="values",
        signatures=value_signatures("text", optional=("text_pair",)),
        arguments={"classifier_activation": "linear", "return_sequences": False},
        score=Score("mae", "value", value_distances, higher_is_better=False, further=(VALUE_RMSE,)),
        with_quantiles=with_quantiles,
    )
)
