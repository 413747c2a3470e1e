"""The words behind blanks in a text; nobody has to label anything."""

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
        objective=class_objective("pieces", element_accuracy, named=False, monitor="loss"),
        prediction=predicted_classes,
        report="masked_language",
        signatures={
            "serving_default": Signature(
                ("text",),
                _answer,
                {
                    "pieces": "the pieces of the text, the most probable one in every blank, empty on padding",
                    "probability": "of that piece, 1 where nothing was asked, 0 on padding",
                    "text": "the pieces put together",
                },
                shown=Shown("text", ("text",)),
            )
        },
    )
)
