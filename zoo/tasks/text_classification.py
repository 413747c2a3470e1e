"""Text classification: a label for a text, or for a pair of texts."""

from zoo.scores import LOG_LOSS, Score, right_labels
from zoo.tasks.abstention import decide_answers
from zoo.tasks.contract import Task
from zoo.tasks.registry import register_task
from zoo.tasks.shared import accuracy, class_objective, class_signatures, predicted_classes

register_task(
    Task(
        name="text_classification",
        targets=("label",),
        preprocessor="text",
        default_model="bag_of_ngrams",
        objective=class_objective("label", accuracy),
        prediction=predicted_classes,
        report="classification",
        signatures=class_signatures("text", optional=("text_pair",)),
        score=Score("accuracy", "label", right_labels, further=(LOG_LOSS,)),
        abstain=decide_answers,
    )
)
