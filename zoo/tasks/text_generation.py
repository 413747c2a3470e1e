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


_WAYS = ("seed", "temperature", "top_k", "top_p", "repetition_penalty", "max_new_tokens", "stop")
"""How a text is generated, besides the prompt."""
_SEARCH = ("num_beams", "length_penalty", "max_new_tokens")
"""How `beam` searches, besides the prompt."""
_SEARCH_MARGINS = (
    "for each token the smallest distance of two scores whose order decided something in the search, at most 1, 0 after the "
    "end; where it is below 0.001, another processor may find another text"
)
_STATE = {
    "cache": "keys and values of all tokens but the last one: (batch, 2 x blocks, heads, tokens, channels)",
    "token_ids": "the tokens of the prompt and the text; where there is none, the number of tokens of the model",
    "waiting": "bytes of the text that are a part of a character or of a stop string",
    "written": "the number of generated tokens",
    **dict.fromkeys(_WAYS, "as in the request"),
}
"""Outputs that only the next call reads."""
_PARTS = {
    "text": "the next part of the text, perhaps empty; all parts together are the text of `sample`",
    "log_probability": "the log-probability of all tokens so far",
    "margins": _ANSWERS["margins"],
    "is_last": "whether the text ends here",
    **_STATE,
}


def _answer(served: Served) -> dict[str, tf.Tensor]:
    outputs = served.outputs
    ids = outputs["tokens"]
    written = {
        "text": served.preprocessor.to_text(ids, served.extras["stop"]),
        "tokens": served.preprocessor.each_text(ids),
    }
    return {**written, "log_probability": outputs["log_probability"], "margins": outputs["margins"]}


def _begun(served: Served) -> dict[str, tf.Tensor]:
    import tensorflow as tf

    return _part(served, tf.fill(tf.shape(served.outputs["chosen"]), ""))


def _continued(served: Served) -> dict[str, tf.Tensor]:
    return _part(served, served.extras["waiting"])


def _part(served: Served, waiting: tf.Tensor) -> dict[str, tf.Tensor]:
    """Returns the next part of each text with the state, given the bytes that wait."""
    outputs = dict(served.outputs)
    found = served.preprocessor.next_text(outputs.pop("chosen"), waiting, outputs["stop"], outputs["is_last"])
    outputs["text"], outputs["waiting"], stopped = found
    return {**outputs, "is_last": outputs["is_last"] | stopped}


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
            "serving_default": Signature(("text",), _answer, _ANSWERS, head="sample", shown=_SHOWN, generates=True),
            "sample": Signature(
                ("text", *_WAYS),
                _answer,
                _ANSWERS,
                head="sample",
                shown=_SHOWN,
                generates=True,
            ),
            "greedy": Signature(("text",), _answer, _ANSWERS, head="greedy", shown=_SHOWN, generates=True),
            "beam": Signature(
                ("text", *_SEARCH),
                _answer,
                {**_ANSWERS, "margins": _SEARCH_MARGINS},
                head="beam",
                shown=_SHOWN,
                generates=True,
            ),
            "prefill": Signature(("text", *_WAYS), _begun, _PARTS, head="prefill", shown=_SHOWN, state=tuple(_STATE)),
            "step": Signature(
                ("log_probability", "is_last", *_STATE),
                _continued,
                _PARTS,
                head="step",
                shown=_SHOWN,
                state=tuple(_STATE),
                continues="prefill",
                parts_of=("serving_default", "sample"),
            ),
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
