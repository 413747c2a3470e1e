"""Tagging: a tag for every word of a sentence, and the entities that tags such as B-PER and I-PER mark."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.scores import Score, right_tags
from zoo.tasks import entities
from zoo.tasks.contract import Served, Shown, Signature, Task
from zoo.tasks.registry import register_task
from zoo.tasks.shared import class_objective, class_probabilities, element_accuracy, every_step, predicted_classes

if TYPE_CHECKING:
    import tensorflow as tf


def _answer(served: Served) -> dict[str, tf.Tensor]:
    every = class_probabilities(served.outputs)
    tags, probabilities = every_step(served, every)
    tokens, scheme = served.extras["tokens"], entities.scheme_of(served.class_names)
    answer = {"tokens": tokens, "tags": tags, "probabilities": probabilities}
    if scheme is None or "text" not in served.extras:
        return answer
    text = served.extras["text"]
    places = served.preprocessor.places(text, tokens)
    return answer | entities.answers(scheme, text, places, tokens != "", every, served.label)


register_task(
    Task(
        name="tagging",
        targets=("tags",),
        preprocessor="tagging",
        default_model="rnn",
        arguments={"tags_words": True},
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
                    **entities.DESCRIBED,
                },
                shown=Shown("entities", ("tokens", "tags")),
            )
        },
        score=Score("raw_text_accuracy", "tags", right_tags, trained="accuracy"),
    )
)
