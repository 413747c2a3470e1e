"""Image classification: a label for an image."""

from zoo.scores import LOG_LOSS, Score, right_labels
from zoo.tasks.abstention import decide_answers
from zoo.tasks.contract import Task
from zoo.tasks.registry import register_task
from zoo.tasks.shared import class_objective, class_signatures, last_step_accuracy, predicted_classes

register_task(
    Task(
        name="image_classification",
        targets=("label",),
        preprocessor="image",
        default_model="resnet_small",
        objective=class_objective("label", last_step_accuracy),
        prediction=predicted_classes,
        report="classification",
        signatures=class_signatures("image_bytes"),
        score=Score("accuracy", "label", right_labels, further=(LOG_LOSS,)),
        abstain=decide_answers,
    )
)
