"""Text generation: a text that follows a prompt. It needs no labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.tasks.contract import Served, Shown, Signature, Task
from zoo.tasks.registry import register_task
from zoo.tasks.shared import class_objective, element_accuracy, predicted_classes

if TYPE_CHECKING:
    import tensorflow as tf

_ANSWERS = {
    "text": "the text that follows the prompt",
    "tokens": "the text of each of its tokens, empty after its end; a token may hold a part of a character, U+FFFD",
    "log_probability": "the log-probability of these tokens and the end, at temperature 1 and without limits",
    "margins": "by how much each token was ahead of the next one, at most 1, 0 after the end; where it is below 0.001, "
    "another processor may write another text from there on",
}
_SHOWN = Shown("text", ("text",))


def _answer(served: Served) -> dict[str, tf.Tensor]:
    outputs = served.outputs
    ids = outputs["tokens"]
    written = {"text": served.preprocessor.to_text(ids), "tokens": served.preprocessor.each_text(ids)}
    return {**written, "log_probability": outputs["log_probability"], "margins": outputs["margins"]}


def _score(served: Served) -> dict[str, tf.Tensor]:
    import tensorflow as tf

    score, count = served.outputs["log_probability"], served.outputs["count"]
    mean = score / tf.cast(tf.maximum(count, 1), tf.float32)
    return {"log_probability": score, "perplexity": tf.exp(-mean), "count": count}


register_task(
    Task(
        name="text_generation",
        targets=(),
        preprocessor="prompt",
        default_model="gpt",
        data_of=("masked_language_modelling",),
        objective=class_objective("next", element_accuracy, named=False, monitor="loss"),
        prediction=predicted_classes,
        report="text_generation",
        margins="margins",
        signatures={
            "serving_default": Signature(("text",), _answer, _ANSWERS, head="sample", shown=_SHOWN),
            "sample": Signature(
                ("text", "seed", "temperature", "top_k", "top_p", "repetition_penalty", "max_new_tokens"),
                _answer,
                _ANSWERS,
                head="sample",
                shown=_SHOWN,
            ),
            "greedy": Signature(("text",), _answer, _ANSWERS, head="greedy", shown=_SHOWN),
            "score": Signature(
                ("text",),
                _score,
                {
                    "log_probability": "the log-probability of the text after the start of a text",
                    "perplexity": "the exponential of the mean over its tokens, without the sign",
                    "count": "the number of its tokens",
                },
                head="score",
            ),
        },
    )
)
