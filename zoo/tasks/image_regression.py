"""Image regression: one or several numbers for an image."""

from zoo.scores import VALUE_RMSE, Score, value_distances
from zoo.tasks.contract import Task
from zoo.tasks.quantiles import with_quantiles
from zoo.tasks.registry import register_task
from zoo.tasks.shared import predicted_values, value_objective, value_signatures

register_task(
    Task(
        name="image_regression",
        targets=("value",),
        preprocessor="image",
        default_model="cnn",
        objective=value_objective("value"),
        prediction=predicted_values,
        report="values",
        signatures=value_signatures("image_bytes"),
        arguments={"classifier_activation": "linear", "return_sequences": False},
        score=Score("mae", "value", value_distances, higher_is_better=False, further=(VALUE_RMSE,)),
        with_quantiles=with_quantiles,
    )
)
