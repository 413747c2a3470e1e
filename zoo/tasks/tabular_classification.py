"""Tabular classification: a label for a row of a table."""

from zoo.scores import LOG_LOSS, Score, right_labels
from zoo.tasks.abstention import decide_answers
from zoo.tasks.contract import Task
from zoo.tasks.registry import register_task
from zoo.tasks.shared import accuracy, class_objective, class_signatures, of_rows, predicted_classes

register_task(
    Task(
        name="tabular_classification",
        targets=("label",),
        preprocessor="table",
        default_model="mlp",
        objective=class_objective("label", accuracy),
        prediction=predicted_classes,
        report="classification",
        signatures=of_rows(class_signatures()),
        score=Score("accuracy", "label", right_labels, further=(LOG_LOSS,)),
        abstain=decide_answers,
    )
)
