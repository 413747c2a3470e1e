"""Tabular classification with several labels: any number of labels for a row of a table."""

from zoo.scores import Score, right_label_sets
from zoo.tasks.contract import Task
from zoo.tasks.registry import register_task
from zoo.tasks.shared import decided_thresholds, label_objective, label_signatures, of_rows, predicted_labels

register_task(
    Task(
        name="tabular_multilabel",
        targets=("labels",),
        preprocessor="table",
        default_model="mlp",
        objective=label_objective(),
        prediction=predicted_labels,
        report="multilabel",
        signatures=of_rows(label_signatures()),
        arguments={"classifier_activation": "sigmoid"},
        score=Score("micro_f1", "labels", right_label_sets),
        decide=decided_thresholds,
    )
)
