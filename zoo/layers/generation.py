"""Text generation in the graph, one token at a time, with a cache of earlier tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import tensorflow as tf

from zoo import stop_strings
from zoo.hashes import scrambled

NONE = -1
"""No token: after the end of a generated text."""
_FAR = -1e9
"""Logit of a token that is not drawn. It is finite, because the difference of infinities is NaN."""

DRAWN = ("seed", "temperature", "top_k", "top_p", "repetition_penalty")
"""How tokens are drawn, each (batch,)."""

Answer = dict[str, tf.Tensor]
Ways = Mapping[str, tf.Tensor]


class Reader(Protocol):
    """The interface of a model that generates. The state is nested tensors whose first dimension is the row.

    Attributes:
        end: the token that ends a text.
    """

    end: int

    def start(self, token_ids: tf.Tensor, lengths: tf.Tensor) -> tuple[tf.Tensor, Any]:
        """Reads prompts, int32 (batch, tokens), of which each row has its length, int32 (batch,). Returns the logits of the
        token after each prompt, (batch, vocabulary), and the state."""

    def step(self, ids: tf.Tensor, positions: tf.Tensor, real: tf.Tensor, state: Any) -> tuple[tf.Tensor, Any]:
        """Returns the logits after one more token of each row, and the next state.

        `ids` and `positions` are int32 (batch,): the token and its place in the row. `real`, bool (batch, steps), is true for
        the tokens so far, this one included: a prompt that is shorter than others has false ones between.
        """


def generate(reader: Reader, *, greedily: bool = False) -> Callable[..., Answer]:
    """Returns a function that continues prompts: f(inputs, extras) -> tokens, log_probability, margins.

    `inputs` holds `token_ids`, int32 (batch, tokens), and `extras` `lengths` and `max_new_tokens`, int32 (batch,), and those
    of `DRAWN`; `stop`, string (batch, stops), and `pieces`, the bytes of every token, (vocabulary,), or of none if there are
    no stop strings. `tokens`: int32 (batch, steps), -1 from the end on; a token that completes a stop string is the last one.
    `log_probability`: float32 (batch,), that of all generated tokens and the end, at temperature 1 and without limits.
    `margins`: float32 (batch, steps), by how much each token was ahead of the next one, at most 1, and 0 after the end. Where
    a margin is as small as rounding, another processor may write another text from there on.

    A row's text depends only on its prompt, its seed and the other values of the row. It is the same in any batch.
    """

    @tf.function(autograph=False, reduce_retracing=True)
    def search(prompts: tf.Tensor, ways: Ways) -> Answer:
        lengths, most = ways["lengths"], ways["max_new_tokens"]
        rows, width = tf.shape(prompts)[0], tf.shape(prompts)[1]
        logits, state = reader.start(prompts, lengths)
        real = tf.sequence_mask(lengths, width)

        def goes_on(step: tf.Tensor, ended: tf.Tensor, *_: Any) -> tf.Tensor:
            return (step < tf.reduce_max(most)) & tf.reduce_any(~ended)

        def body(step: tf.Tensor, ended: tf.Tensor, found: tf.Tensor, score: tf.Tensor, *rest: Any) -> Any:
            margins, seen, waiting, logits, real, state = rest
            likely = tf.nn.log_softmax(logits)
            chosen, margin = first(logits if greedily else draws(penalised(logits, seen, ways), step, ways))
            score += tf.where(ended, 0.0, tf.gather(likely, chosen, batch_dims=1))
            now_ended = ended | (chosen == reader.end)
            stopped = tf.zeros_like(ended)
            if not greedily:
                seen, waiting, stopped = _occurred(seen, waiting, chosen, now_ended, ways)
            found = tf.concat([found, tf.where(now_ended, NONE, chosen)[:, tf.newaxis]], axis=1)
            margins = tf.concat([margins, tf.where(ended, 0.0, margin)[:, tf.newaxis]], axis=1)
            real = tf.concat([real, tf.ones([rows, 1], tf.bool)], axis=1)
            logits, state = reader.step(chosen, lengths + step, real, state)
            done = now_ended | stopped | (step + 1 >= most)
            return step + 1, done, found, score, margins, seen, waiting, logits, real, state

        start = (
            tf.constant(0),
            tf.zeros([rows], tf.bool),
            tf.zeros([rows, 0], tf.int32),
            tf.zeros([rows]),
            tf.zeros([rows, 0]),
            occurring(prompts, real, tf.shape(logits)[1]),
            tf.fill([rows], ""),
            logits,
            real,
            state,
        )
        last = tf.while_loop(goes_on, body, start, shape_invariants=invariants(start))
        return {"tokens": last[2], "log_probability": last[3], "margins": last[4]}

    def answer(inputs: Mapping[str, tf.Tensor], extras: Ways) -> Answer:
        names = ("lengths", "max_new_tokens", *(() if greedily else ("stop", "pieces", *DRAWN)))
        return search(inputs["token_ids"], {name: extras[name] for name in names})

    return answer


def score(forward: Callable[[tf.Tensor], tf.Tensor]) -> Callable[..., Answer]:
    """Returns a function that scores given texts: f(inputs, extras) -> log_probability, count.

    `extras` holds `scored_ids`, int32 (batch, tokens), whose first token is not scored, and `scored_lengths`, int32 (batch,).

    Args:
        forward: the logits of the next token, (batch, tokens, vocabulary), of token ids.
    """

    @tf.function(autograph=False, reduce_retracing=True)
    def scored(ids: tf.Tensor, lengths: tf.Tensor) -> Answer:
        likely = tf.nn.log_softmax(tf.cast(forward(ids[:, :-1]), tf.float32))
        each = tf.gather(likely, ids[:, 1:], axis=-1, batch_dims=2)
        real = tf.sequence_mask(lengths - 1, tf.shape(each)[1])
        return {"log_probability": tf.reduce_sum(tf.where(real, each, 0.0), axis=1), "count": lengths - 1}

    return lambda inputs, extras: scored(extras["scored_ids"], extras["scored_lengths"])


def draws(logits: tf.Tensor, step: tf.Tensor, ways: Ways) -> tf.Tensor:
    """Returns numbers of which the largest one of each row is that of a random token, (batch, vocabulary).

    They are sums of logits and Gumbel noise, of which a token has the largest one with the probability of the softmax. The
    noise is a function of the row's seed and the step. At temperature 0 they are the logits.

    Args:
        logits: (batch, vocabulary).
        step: number of the generated token from 0, a scalar or (batch,).
        ways: `seed`, `temperature`, `top_k` and `top_p`, each (batch,).

    Example:
        >>> ways = {"seed": [7], "temperature": [0.0], "top_k": [0], "top_p": [1.0]}
        >>> ways = {name: tf.constant(value) for name, value in ways.items()}
        >>> draws(tf.constant([[0.0, 2.0, 1.0]]), 0, ways).numpy()
        array([[0., 2., 1.]], dtype=float32)
    """
    temperature = ways["temperature"][:, tf.newaxis]
    # The best logit becomes 0, so that a low temperature makes none smaller than `_FAR` but hopeless ones.
    scaled = (logits - tf.reduce_max(logits, axis=1, keepdims=True)) / tf.where(temperature > 0, temperature, 1.0)
    limited = _limited(scaled, ways["top_k"], ways["top_p"])
    noise = _gumbel(tf.cast(ways["seed"], tf.int64), step, tf.shape(logits)[1])
    return tf.where(temperature > 0, limited + noise, logits)


def penalised(logits: tf.Tensor, seen: tf.Tensor, ways: Ways) -> tf.Tensor:
    """Returns logits in which tokens that occurred before are less probable, (batch, vocabulary).

    Source: Keskar et al., CTRL: A conditional transformer language model for controllable generation, 2019, section 4.1.

    Args:
        logits: (batch, vocabulary).
        seen: whether each token occurs in the prompt or the text so far, bool of the same shape.
        ways: `repetition_penalty`, (batch,): positive logits are divided by it, and negative ones multiplied with it.

    Example:
        >>> logits, seen = tf.constant([[2.0, -1.0, 3.0]]), tf.constant([[True, True, False]])
        >>> penalised(logits, seen, {"repetition_penalty": tf.constant([2.0])}).numpy()
        array([[ 1., -2.,  3.]], dtype=float32)
    """
    penalty = ways["repetition_penalty"][:, tf.newaxis]
    return tf.where(seen, tf.where(logits > 0, logits / penalty, logits * penalty), logits)


def _occurred(
    seen: tf.Tensor, waiting: tf.Tensor, chosen: tf.Tensor, ended: tf.Tensor, ways: Ways
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns which tokens occurred, the end of the text that may begin a stop string, and whether one was completed, after
    one more token of each row."""

    def with_stops() -> tuple[tf.Tensor, tf.Tensor]:
        added = tf.where(ended, "", tf.gather(ways["pieces"], chosen))
        _, waits, stopped = stop_strings.advance(waiting, added, ways["stop"])
        return waits, stopped

    seen |= tf.one_hot(chosen, tf.shape(seen)[1], True, False)
    without = (waiting, tf.zeros_like(ended))
    waiting, stopped = tf.cond(tf.size(ways["pieces"]) > 0, with_stops, lambda: without)
    return seen, waiting, stopped


def occurring(tokens: tf.Tensor, real: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Returns whether each token occurs in each row, bool (batch, size)."""
    row = tf.zeros_like(tokens) + tf.range(tf.shape(tokens)[0])[:, tf.newaxis]
    counts = tf.scatter_nd(
        tf.stack([row, tokens], axis=-1), tf.cast(real, tf.int32), tf.stack([tf.shape(tokens)[0], size])
    )
    return counts > 0


def first(numbers: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the place of the largest number of each row, int32 (batch,), and by how much it is larger than the next one,
    above 0 and at most 1."""
    best, places = tf.math.top_k(numbers, 2)
    return places[:, 0], tf.clip_by_value(best[:, 0] - best[:, 1], 1e-9, 1.0)


def _limited(logits: tf.Tensor, top_k: tf.Tensor, top_p: tf.Tensor) -> tf.Tensor:
    """Returns logits without tokens that are not among the k most probable, or beyond the probability p of these."""
    size = tf.shape(logits)[1]
    some = tf.where((top_k > 0) & (top_k < size), top_k, size)
    # A softmax over all tokens is exact only with all of them in order, so rows without top_k need them all.
    width = tf.reduce_max(tf.where((top_p < 1) | (some < size), some, 1))

    def limit() -> tf.Tensor:
        ordered = tf.math.top_k(logits, width).values
        kept = tf.range(width)[tf.newaxis] < some[:, tf.newaxis]
        shares = tf.nn.softmax(tf.where(kept, ordered, _FAR))
        before = tf.cumsum(shares, axis=1, exclusive=True)
        kept &= before < top_p[:, tf.newaxis]
        least = tf.reduce_min(tf.where(kept, ordered, tf.float32.max), axis=1, keepdims=True)
        free = (some >= size) & (top_p >= 1)
        return tf.where(free[:, tf.newaxis] | (logits >= least), logits, _FAR)

    return tf.cond(tf.reduce_any((some < size) | (top_p < 1)), limit, lambda: logits)


def _gumbel(seed: tf.Tensor, step: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Returns Gumbel noise, float32 (batch, size), a function of the seed, the step and the token.

    It is a hash rather than one of TensorFlow's generators, whose numbers differ between rows of a batch.
    """
    low = tf.cast(tf.bitwise.bitwise_and(seed, 0xFFFFFFFF), tf.uint32)
    high = tf.cast(
        tf.bitwise.bitwise_and(tf.bitwise.right_shift(seed, tf.constant(32, tf.int64)), 0xFFFFFFFF), tf.uint32
    )
    row = scrambled(scrambled(scrambled(low) + high) + tf.cast(step, tf.uint32))
    place = scrambled(tf.cast(tf.range(size), tf.uint32) * tf.constant(0x9E3779B1, tf.uint32))
    bits = scrambled(row[:, tf.newaxis] + place[tf.newaxis])
    # 23 bits and a half are exact in float32; one bit more would be rounded to 1, whose noise is infinite.
    uniform = (tf.cast(tf.bitwise.right_shift(bits, tf.constant(9, tf.uint32)), tf.float32) + 0.5) * 2.0**-23
    return -tf.math.log(-tf.math.log(uniform))


def invariants(loop_variables: Any) -> Any:
    """Shape invariants of the loop: the number of tokens of a row varies."""

    def shape(tensor: tf.Tensor) -> tf.TensorShape:
        sides = tensor.shape.as_list()
        if len(sides) == 4:  # keys or values: (batch, heads, tokens, channels)
            return tf.TensorShape([None, sides[1], None, sides[3]])
        return tf.TensorShape([None] * len(sides))

    return tf.nest.map_structure(shape, loop_variables)
