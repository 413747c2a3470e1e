"""Masked language modelling: the words behind masks in a text. It needs no labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.tasks.contract import Served, Shown, Signature, Task
from zoo.tasks.registry import register_task
from zoo.tasks.shared import class_objective, class_probabilities, element_accuracy, predicted_classes

if TYPE_CHECKING:
    import tensorflow as tf


def _answer(served: Served) -> dict[str, tf.Tensor]:
    filled: dict[str, tf.Tensor] = served.preprocessor.fill(class_probabilities(served.outputs), served.extras)
    return filled


register_task(
    Task(
        name="masked_language_modelling",
        targets=(),
        preprocessor="masked_text",
        default_model="bert_mlm",
        objective=class_objective("pieces", element_accuracy, named=False, monitor="loss"),
        prediction=predicted_classes,
        report="masked_language",
        signatures={
            "serving_default": Signature(
                ("text",),
                _answer,
                {
                    "pieces": "the tokens of the text, with the most probable token for every mask, empty on padding",
                    "probability": "the probability of that token, 1 on given tokens, 0 on padding",
                    "text": "the joined tokens",
                },
                shown=Shown("text", ("text",)),
            )
        },
    )
)
