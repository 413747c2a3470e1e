"""Beam search for models that continue prompts, in the graph, with a cache of earlier tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from zoo.layers.decoding import NEVER
from zoo.layers.generation import NONE, Answer, Reader, Ways, invariants

_LEAST, _MOST = 1e-9, 1.0
"""Bounds of a margin."""
_MOST_ROWS = 1 << 12
"""Most texts that are followed at once, of all rows."""


def beam(reader: Reader) -> Callable[..., Answer]:
    """Returns a function that continues prompts with the best text found: f(inputs, extras) -> tokens, log_probability,
    margins, as `zoo.layers.generation.generate`.

    `extras` holds `lengths`, `max_new_tokens` and `num_beams`, int32 (batch,), and `length_penalty`, float32 (batch,).

    Each step keeps the `num_beams` most probable open texts of a row. A text that ends is kept if it is among the `num_beams`
    best of its step; texts that reach `max_new_tokens` end there. The score of a text is its log-probability divided by its
    number of tokens, with the end, to the power of `length_penalty`. A row is done when it has `num_beams` texts and the best
    open one, divided by its present length, is no better than the worst of them. Of equal scores, the text of the earlier
    beam is first, and then the one with the smaller token. This is `generate(num_beams=...)` of Hugging Face transformers 5.

    A margin is the smallest distance of two scores whose order decided something in the search of the row: every token has
    the same one. With one beam the text is the greedy one. A row's text does not depend on the other rows of the batch.
    """

    @tf.function(autograph=False, reduce_retracing=True)
    def search(prompts: tf.Tensor, ways: Ways) -> Answer:
        lengths = ways["lengths"]
        rows, width = tf.shape(prompts)[0], tf.reduce_max(ways["num_beams"])

        most = (
            f"the texts times their num_beams are too many; expected at most {_MOST_ROWS:,}. Send fewer texts at once"
        )
        with tf.control_dependencies([tf.debugging.Assert(rows * width <= _MOST_ROWS, [most])]):
            width = tf.identity(width)

        def each_beam(values: Any) -> Any:
            return tf.nest.map_structure(lambda value: tf.repeat(value, width, axis=0), values)

        logits, state = each_beam(reader.start(prompts, lengths))
        real, places = each_beam((tf.sequence_mask(lengths, tf.shape(prompts)[1]), lengths))

        def goes_on(step: tf.Tensor, now: Mapping[str, tf.Tensor], *_: Any) -> tf.Tensor:
            return tf.reduce_any(~now["done"])

        def body(step: tf.Tensor, now: Mapping[str, tf.Tensor], logits: tf.Tensor, real: tf.Tensor, state: Any) -> Any:
            following, ids, parents = _advance(step, now, tf.nn.log_softmax(logits), reader.end, ways)
            real = tf.concat([real, tf.ones([rows * width, 1], tf.bool)], axis=1)
            state = tf.nest.map_structure(lambda value: tf.gather(value, parents), state)
            logits, state = reader.step(ids, places + step, real, state)
            return step + 1, following, logits, real, state

        start = (tf.constant(0), _first(rows, width), logits, real, state)
        _, last, *_ = tf.while_loop(goes_on, body, start, shape_invariants=invariants(start))
        return _answer(last)

    def answer(inputs: Mapping[str, tf.Tensor], extras: Ways) -> Answer:
        names = ("lengths", "max_new_tokens", "num_beams", "length_penalty")
        return search(inputs["token_ids"], {name: extras[name] for name in names})

    return answer


def _first(rows: tf.Tensor, width: tf.Tensor) -> dict[str, tf.Tensor]:
    """Returns the state before the first step.

    `open`, float32 (batch, width): log-probabilities of the open texts, best first; `found`, int32 (batch, width, steps):
    their tokens. `ended`, float32 (batch, width): scores of the texts that ended, best first. Of the first one, `best`, int32
    (batch, steps), are the tokens, `likely`, float32 (batch,), is the log-probability, and `size`, int32 (batch,), the number
    of tokens with the end.
    """
    is_first = tf.range(width)[tf.newaxis] == 0  # the others would repeat it
    return {
        "open": tf.where(tf.repeat(is_first, rows, axis=0), 0.0, NEVER),
        "found": tf.zeros([rows, width, 0], tf.int32),
        "ended": tf.fill([rows, width], NEVER),
        "best": tf.zeros([rows, 0], tf.int32),
        "likely": tf.fill([rows], NEVER),
        "size": tf.zeros([rows], tf.int32),
        "margin": tf.fill([rows], _MOST),
        "done": tf.zeros([rows], tf.bool),
    }


def _advance(
    step: tf.Tensor, now: Mapping[str, tf.Tensor], likely: tf.Tensor, end: int, ways: Ways
) -> tuple[dict[str, tf.Tensor], tf.Tensor, tf.Tensor]:
    """Returns the state after one more token of every text, and of each open text the token and the row of its cache."""
    rows, width, size = tf.shape(now["open"])[0], tf.shape(now["open"])[1], tf.shape(likely)[1]
    count = ways["num_beams"][:, tf.newaxis]
    total = now["open"][:, :, tf.newaxis] + tf.reshape(likely, [rows, width, size])
    # Each beam has one end, so twice as many candidates hold enough open ones; the last one is there for the margin.
    scores, places = tf.math.top_k(tf.reshape(total, [rows, -1]), 2 * width + 1)
    parents, ids = places // size, places % size
    is_last = (step + 1 >= ways["max_new_tokens"])[:, tf.newaxis]
    ends = (ids == end) | is_last
    place = tf.range(2 * width + 1)[tf.newaxis]
    divisor = tf.cast(step + 1, tf.float32) ** ways["length_penalty"][:, tf.newaxis]

    adds = ends & (scores > NEVER / 2) & (place < count) & ~now["done"][:, tf.newaxis]
    merged = tf.concat([now["ended"], tf.where(adds, scores / divisor, NEVER)], axis=1)
    best_two, chosen = tf.math.top_k(merged, width + 1)
    ended = tf.where(place[:, :width] < count, best_two[:, :width], NEVER)
    new = chosen[:, :1] - width  # the candidate that is the best text now, or below 0
    which = tf.maximum(new, 0)
    texts = tf.concat(
        [tf.gather(now["found"], parents, batch_dims=1), tf.where(ids == end, NONE, ids)[:, :, tf.newaxis]], axis=2
    )
    nothing = tf.fill([rows, 1], NONE)
    best = tf.where(new >= 0, tf.gather(texts, which, batch_dims=1)[:, 0], tf.concat([now["best"], nothing], axis=1))

    _, order = tf.math.top_k(-tf.where(ends, place + 2 * width + 1, place), width + 1)
    opened = tf.where(tf.gather(ends, order, batch_dims=1), NEVER, tf.gather(scores, order, batch_dims=1))
    kept = order[:, :width]
    hope, worst = opened[:, :1] / divisor, tf.gather(ended, count - 1, batch_dims=1)
    is_full = worst > NEVER / 2
    done = now["done"] | (is_last | (is_full & (hope <= worst)))[:, 0]

    at_border = tf.gather(ends, count - 1, batch_dims=1) | tf.gather(ends, count, batch_dims=1)
    margins = (
        _gap(opened, count, ~is_last),
        _gap(scores, tf.where(is_last, 1, count), is_last | at_border),
        _gap(best_two, tf.ones_like(count), tf.reduce_any(adds, axis=1, keepdims=True)),
        _gap(tf.concat([hope, worst], axis=1), tf.ones_like(count), is_full & ~is_last),
    )
    following = {
        "open": tf.where(place[:, :width] < count, opened[:, :width], NEVER),
        "found": tf.gather(texts, kept, batch_dims=1),
        "ended": ended,
        "best": best,
        "likely": tf.where(new >= 0, tf.gather(scores, which, batch_dims=1), now["likely"][:, tf.newaxis])[:, 0],
        "size": tf.where(new[:, 0] >= 0, step + 1, now["size"]),
        "margin": tf.where(now["done"], now["margin"], tf.reduce_min(tf.stack([now["margin"], *margins]), axis=0)),
        "done": done,
    }
    chosen_rows = tf.range(rows)[:, tf.newaxis] * width + tf.gather(parents, kept, batch_dims=1)
    return following, tf.reshape(tf.gather(ids, kept, batch_dims=1), [-1]), tf.reshape(chosen_rows, [-1])


def _gap(values: tf.Tensor, place: tf.Tensor, decides: tf.Tensor) -> tf.Tensor:
    """Returns how far the value at `place`, int32 (batch, 1), is from the one before it, (batch,), where that decides."""
    one, other = (tf.gather(values, at, batch_dims=1) for at in (place - 1, place))
    return tf.where(decides & (other > NEVER / 2), tf.abs(one - other), _MOST)[:, 0]


def _answer(last: Mapping[str, tf.Tensor]) -> Answer:
    """Returns the best text of each row."""
    longest = tf.reduce_max(last["size"])
    margin = tf.clip_by_value(last["margin"], _LEAST, _MOST)[:, tf.newaxis]
    return {
        "tokens": last["best"][:, :longest],
        "log_probability": last["likely"],
        "margins": tf.where(tf.sequence_mask(last["size"], longest), margin, 0.0),
    }
