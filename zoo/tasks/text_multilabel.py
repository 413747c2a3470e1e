"""Text classification with several labels: any number of labels for a text, or for a pair of texts."""

from zoo.scores import Score, right_label_sets
from zoo.tasks.contract import Task
from zoo.tasks.registry import register_task
from zoo.tasks.shared import decided_thresholds, label_objective, label_signatures, predicted_labels

register_task(
    Task(
        name="text_multilabel",
        targets=("labels",),
        preprocessor="text",
        default_model="bag_of_ngrams",
        objective=label_objective(),
        prediction=predicted_labels,
        report="multilabel",
        signatures=label_signatures("text", optional=("text_pair",)),
        arguments={"classifier_activation": "sigmoid", "return_sequences": False},
        score=Score("micro_f1", "labels", right_label_sets),
        decide=decided_thresholds,
    )
)
