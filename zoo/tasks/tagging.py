"""Tagging: a tag for every word of a sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.scores import Score, right_tags
from zoo.tasks.contract import Served, Shown, Signature, Task
from zoo.tasks.registry import register_task
from zoo.tasks.shared import class_objective, class_probabilities, element_accuracy, every_step, predicted_classes

if TYPE_CHECKING:
    import tensorflow as tf


def _answer(served: Served) -> dict[str, tf.Tensor]:
    tags, probabilities = every_step(served, class_probabilities(served.outputs))
    return {"tokens": served.extras["tokens"], "tags": tags, "probabilities": probabilities}


register_task(
    Task(
        name="tagging",
        targets=("tags",),
        preprocessor="tagging",
        objective=class_objective("tags", element_accuracy),
        prediction=predicted_classes,
        report="tagging",
        signatures={
            "serving_default": Signature(
                ("text",),
                _answer,
                {
                    "tokens": "the words of the text, empty on padding",
                    "tags": "the most probable tag of each word, empty on padding",
                    "probabilities": "the probability of every tag, in the order of assets/labels.txt, 0 on padding",
                },
                shown=Shown("pairs", ("tokens", "tags")),
            )
        },
        score=Score("raw_text_accuracy", "tags", right_tags, trained="accuracy"),
    )
)
