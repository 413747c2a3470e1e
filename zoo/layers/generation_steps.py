"""Text generation for clients that show a text while it grows: one call for the prompt, and one for every further token.

The client holds the state between the calls. The tokens are those of `zoo.layers.generation.generate`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import tensorflow as tf

from zoo.layers import generation
from zoo.layers.generation import DRAWN, Answer, Reader, Ways


class PackingReader(Reader, Protocol):
    """A `Reader` whose state fits into one tensor."""

    def pack(self, state: Any) -> tf.Tensor:
        """Returns the state as float32 (batch, parts, heads, tokens, channels)."""

    def unpack(self, cache: tf.Tensor) -> Any:
        """Returns the state of the result of `pack`."""


def prefill(reader: PackingReader) -> Callable[..., Answer]:
    """Returns a function that reads prompts and draws the first token: f(inputs, extras) -> outputs and the state.

    `inputs` and `extras` are those of `generate`. Outputs: `chosen`, int32 (batch,), -1 for the end of a text;
    `log_probability`, float32 (batch,), of all tokens so far; `margins`, float32 (batch, 1). The state: `cache` of
    `PackingReader.pack`; `token_ids`, int32 (batch, tokens), of the prompt and the text, and the number of tokens of the
    model where there is none; `written`, int32 (batch,), the number of generated tokens; `is_last`, bool (batch,), whether a
    text has ended; `stop`, `max_new_tokens` and those of `DRAWN`, as they are.
    """

    @tf.function(autograph=False, reduce_retracing=True)
    def read(prompts: tf.Tensor, ways: Ways) -> Answer:
        rows = tf.shape(prompts)[0]
        logits, state = reader.start(prompts, ways["lengths"])
        real = tf.sequence_mask(ways["lengths"], tf.shape(prompts)[1])
        none = reader.end + 1
        begun = {
            "token_ids": tf.where(real, prompts, none),
            "written": tf.zeros([rows], tf.int32),
            "is_last": tf.zeros([rows], tf.bool),
            "log_probability": tf.zeros([rows]),
            **{name: ways[name] for name in ("max_new_tokens", *DRAWN)},
        }
        return {**_with_token(reader, logits, begun), "cache": reader.pack(state)}

    def answer(inputs: Mapping[str, tf.Tensor], extras: Ways) -> Answer:
        names = ("lengths", "max_new_tokens", *DRAWN)
        return {**read(inputs["token_ids"], {name: extras[name] for name in names}), "stop": extras["stop"]}

    return answer


def step(reader: PackingReader) -> Callable[..., Answer]:
    """Returns a function that reads the last token and draws the next one: f(state, {}) -> outputs and the state, those of
    `prefill`. Nothing is added to texts that have ended."""

    @tf.function(autograph=False, reduce_retracing=True)
    def read(state: Mapping[str, tf.Tensor]) -> Answer:
        tokens = state["token_ids"]
        real = tokens <= reader.end
        last = tf.where(real[:, -1], tokens[:, -1], 0)
        positions = tf.maximum(tf.reduce_sum(tf.cast(real, tf.int32), axis=1) - 1, 0)
        logits, after = reader.step(last, positions, real, reader.unpack(state["cache"]))
        return {**_with_token(reader, logits, state), "cache": reader.pack(after)}

    def answer(inputs: Mapping[str, tf.Tensor], extras: Ways) -> Answer:
        names = ("cache", "token_ids", "written", "is_last", "log_probability", "max_new_tokens", *DRAWN)
        return {**read({name: inputs[name] for name in names}), "stop": inputs["stop"]}

    return answer


def _with_token(reader: Reader, logits: tf.Tensor, state: Mapping[str, tf.Tensor]) -> Answer:
    """Returns the outputs and the state after one more token of every text that has not ended."""
    tokens, ended = state["token_ids"], state["is_last"]
    real = tokens <= reader.end
    seen = generation.occurring(tf.where(real, tokens, 0), real, tf.shape(logits)[1])
    drawn, margin = generation.first(
        generation.draws(generation.penalised(logits, seen, state), state["written"], state)
    )
    likely = tf.gather(tf.nn.log_softmax(logits), drawn, batch_dims=1)
    over = ended | (drawn == reader.end)
    written = state["written"] + tf.cast(~ended, tf.int32)
    return {
        **{name: state[name] for name in ("max_new_tokens", *DRAWN)},
        "chosen": tf.where(over, generation.NONE, drawn),
        "log_probability": state["log_probability"] + tf.where(ended, 0.0, likely),
        "margins": tf.where(ended, 0.0, margin)[:, tf.newaxis],
        "token_ids": tf.concat([tokens, tf.where(over, reader.end + 1, drawn)[:, tf.newaxis]], axis=1),
        "written": written,
        "is_last": over | (written >= state["max_new_tokens"]),
    }
