"""Tabular classification: a label for a row of a table."""

import dataclasses

from zoo.scores import Score, right_labels
from zoo.tasks.contract import Task
from zoo.tasks.registry import register_task
from zoo.tasks.shared import accuracy, class_objective, class_signatures, predicted_classes

RECORDS = "examples"
"""The input of serialized rows."""

_COLUMNS = class_signatures(all_but=(RECORDS,))

register_task(
    Task(
        name="tabular_classification",
        targets=("label",),
        preprocessor="table",
        objective=class_objective("label", accuracy),
        prediction=predicted_classes,
        report="classification",
        signatures={
            **_COLUMNS,
            RECORDS: dataclasses.replace(_COLUMNS["serving_default"], requests=(RECORDS,), all_but=None),
        },
        score=Score("accuracy", "label", right_labels),
    )
)
