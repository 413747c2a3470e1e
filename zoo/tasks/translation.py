"""Translation: a text in another language."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.tasks.contract import Served, Shown, Signature, Task
from zoo.tasks.registry import register_task
from zoo.tasks.shared import class_objective, element_accuracy, predicted_classes

if TYPE_CHECKING:
    import tensorflow as tf

_ANSWERS = {"text": "the translation", "score": "its log-probability, normalised by length"}
_SHOWN = Shown("text", ("text",))


def _answer(served: Served) -> dict[str, tf.Tensor]:
    return {"text": served.preprocessor.to_text(served.outputs["token_ids"]), "score": served.outputs["score"]}


register_task(
    Task(
        name="translation",
        targets=("translation",),
        preprocessor="translation",
        default_model="seq2seq_rnn",
        objective=class_objective("translation", element_accuracy, named=False, monitor="loss"),
        prediction=predicted_classes,
        report="translation",
        signatures={
            "serving_default": Signature(("text",), _answer, _ANSWERS, head="beam", shown=_SHOWN, generates=True),
            "greedy": Signature(("text",), _answer, _ANSWERS, head="greedy", shown=_SHOWN, generates=True),
        },
    )
)
