"""Greedy and beam search in the graph, one step at a time, for any model with a stepper.

A stepper is defined next to its model and has the methods `start` and `step`. The searches use nothing else of the model. A
stepper may encode a source and start every output at the same id, or read a prompt into its state and start at the prompt's
last id. Ids: 0 padding, 1 unknown, 2 start, 3 end. An output holds none of these, except padding after its end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import tensorflow as tf

START, END = 2, 3
NEVER = -1e9
"""Log probability of impossible ids. It is finite, because the difference of infinities is NaN."""

Answer = dict[str, tf.Tensor]


class Stepper(Protocol):
    """The interface of a model for a search. State and context are nested tensors whose first dimension is the row.

    Attributes:
        max_length: maximum number of ids of an output.
        input_name: name of the model input that `start` reads.
    """

    max_length: int
    input_name: str

    def start(self, inputs: tf.Tensor) -> tuple[tf.Tensor, Any, Any]:
        """Reads int32 (batch, steps). Returns the first ids, the state, and the context.

        The ids are int32 (batch,): `START`, or the last id of a prompt, whose other ids are in the state. The state changes
        with every step, and the context does not.
        """

    def step(self, ids: tf.Tensor, position: tf.Tensor, state: Any, context: Any) -> tuple[tf.Tensor, Any]:
        """Returns logits (rows, vocab) of the ids after `ids`, int32 (rows,), and the next state.

        `position`, int32 (), counts the steps of the output from 0. If prompts have different lengths, the lengths are in
        the context.
        """


def greedy(stepper: Stepper) -> Callable[..., Answer]:
    """Returns a function that selects the most likely id at every step: f(inputs, extras) -> token_ids, score.

    `inputs` holds the stepper's input, int32 (batch, steps). `token_ids`: int32 (batch, max_length), 0 from the end on;
    `score`: float32 (batch,), the output's log probability divided by its length penalty, as in `beam`.
    """

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32)], autograph=False)
    def search(read: tf.Tensor) -> Answer:
        ids, state, context = stepper.start(read)
        rows, length = tf.shape(read)[0], stepper.max_length

        def goes_on(step: tf.Tensor, ids: tf.Tensor, found: tf.Tensor, score: tf.Tensor, state: Any) -> tf.Tensor:
            return (step < length) & tf.reduce_any(ids != END)

        def body(step: tf.Tensor, ids: tf.Tensor, found: tf.Tensor, score: tf.Tensor, state: Any) -> Any:
            logits, state = stepper.step(ids, step, state, context)
            likely = _log_probabilities(logits)
            chosen = tf.argmax(likely, axis=-1, output_type=tf.int32)
            ended = ids == END
            score += tf.where(ended, 0.0, tf.gather(likely, chosen, batch_dims=1))
            ids = tf.where(ended, END, chosen)
            found = tf.where(tf.range(length) == step, ids[:, tf.newaxis], found)
            return step + 1, ids, found, score, state

        first = (tf.constant(0), ids, tf.fill([rows, length], END), tf.zeros([rows]), state)
        _, _, found, score, _ = tf.while_loop(goes_on, body, first, shape_invariants=_invariants(first))
        return _answer(found, score / _penalty(_lengths(found), _ALPHA))

    return lambda inputs, extras=None: search(inputs[stepper.input_name])


_ALPHA = 0.6


def beam(stepper: Stepper, width: int = 4, alpha: float = _ALPHA) -> Callable[..., Answer]:
    """Returns a function that keeps the `width` best hypotheses at every step: f(inputs, extras) -> token_ids, score.

    A hypothesis that ends is kept if it is among the best n of its step, where n is the number of outputs that the row still
    lacks. A row is done when it has `width` outputs, or when no open hypothesis can become better than the best output.
    Scores are log probabilities divided by ((5 + length) / 6) ** alpha, where the length includes the end. An output that is
    truncated at max_length is used only if a row has no other. Source: Wu et al., Google's neural machine translation
    system, 2016, section 7. Width 1 is `greedy`.

    Args:
        stepper: the model.
        width: number of hypotheses.
        alpha: strength of the length penalty, which favours long outputs; 0 disables it.
    """

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32)], autograph=False)
    def search(read: tf.Tensor) -> Answer:
        ids, state, context = tf.nest.map_structure(lambda t: tf.repeat(t, width, axis=0), stepper.start(read))
        first = {**_first(tf.reshape(ids, [-1, width]), stepper.max_length), "state": state}

        def goes_on(step: tf.Tensor, now: Mapping[str, Any]) -> tf.Tensor:
            return (step < stepper.max_length) & tf.reduce_any(~now["done"])

        def body(step: tf.Tensor, now: Mapping[str, Any]) -> Any:
            logits, state = stepper.step(tf.reshape(now["ids"], [-1]), step, now["state"], context)
            following, rows = _advance(step, now, _log_probabilities(logits), width, alpha)
            return step + 1, {**following, "state": tf.nest.map_structure(lambda t: tf.gather(t, rows), state)}

        start = (tf.constant(0), first)
        _, last = tf.while_loop(goes_on, body, start, shape_invariants=_invariants(start))
        cut = last["score"][:, 0] / _penalty(stepper.max_length, alpha)
        unended = last["count"] == 0
        found = tf.where(unended[:, tf.newaxis], last["found"][:, 0], last["best"])
        return _answer(found, tf.where(unended, cut, last["best_score"]))

    return lambda inputs, extras=None: search(inputs[stepper.input_name])


def _first(ids: tf.Tensor, length: int) -> dict[str, tf.Tensor]:
    """The initial state of beam search: open hypotheses that continue from (batch, width) ids, and the best output."""
    rows, width = tf.shape(ids)[0], ids.shape[1]
    return {
        "ids": ids,
        "found": tf.fill([rows, width, length], END),
        # Only the first hypothesis is possible: the others would repeat it.
        "score": tf.tile([[0.0] + [NEVER] * (width - 1)], [rows, 1]),
        "best": tf.fill([rows, length], END),
        "best_score": tf.fill([rows], NEVER),
        "count": tf.zeros([rows], tf.int32),
        "done": tf.zeros([rows], tf.bool),
    }


def _advance(
    step: tf.Tensor, now: Mapping[str, Any], likely: tf.Tensor, width: int, alpha: float
) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    """One step of beam search; returns the next state, and the rows of the model's state to continue with."""
    batch, length, vocab = tf.shape(now["ids"])[0], now["found"].shape[2], likely.shape[-1]
    total = tf.reshape(now["score"][:, :, tf.newaxis] + tf.reshape(likely, [batch, width, vocab]), [batch, -1])
    # Twice the width: at most one candidate of each hypothesis is the end, so enough others are left.
    scores, places = tf.math.top_k(total, 2 * width)
    parents, ids = places // vocab, places % vocab
    ends, possible = ids == END, scores > NEVER / 2
    place = tf.range(2 * width)

    # The first ended candidate is the best: all that end in this step have the same length and penalty.
    # Only among as many as are still missing. Otherwise bad outputs that end early would end the search before a good one.
    missing = width - now["count"][:, tf.newaxis]
    ended = ends & possible & (place < missing) & ~now["done"][:, tf.newaxis]
    some, first = tf.reduce_any(ended, axis=1), tf.argmax(ended, axis=1, output_type=tf.int32)
    score = tf.gather(scores, first, batch_dims=1) / _penalty(step + 1, alpha)
    better = some & (score > now["best_score"])
    ending = tf.gather(now["found"], tf.gather(parents, first, batch_dims=1), batch_dims=1)
    best = tf.where(better[:, tf.newaxis], ending, now["best"])
    best_score = tf.where(better, score, now["best_score"])
    count = now["count"] + tf.reduce_sum(tf.cast(ended, tf.int32), axis=1)

    # The open candidates, best first: ended ones are sorted last.
    _, kept = tf.math.top_k(-tf.where(ends, place + 2 * width, place), width)
    parents, ids, scores = (tf.gather(t, kept, batch_dims=1) for t in (parents, ids, scores))
    found = tf.gather(now["found"], parents, batch_dims=1)
    found = tf.where(tf.range(length) == step, ids[:, :, tf.newaxis], found)
    # Log probabilities only decrease, and this is the largest divisor: an upper bound of future scores.
    hope = scores[:, 0] / _penalty(length, alpha)
    done = now["done"] | (count >= width) | ((count > 0) & (best_score >= hope))
    kept_of_all = {"best": best, "best_score": best_score, "count": count, "done": done}
    rows = tf.reshape(tf.range(batch)[:, tf.newaxis] * width + parents, [-1])
    return {"ids": ids, "found": found, "score": scores, **kept_of_all}, rows


def _log_probabilities(logits: tf.Tensor) -> tf.Tensor:
    """Returns float32 log probabilities. Padding, unknown and start are impossible."""
    likely = tf.nn.log_softmax(tf.cast(logits, tf.float32))
    return tf.concat([tf.fill([tf.shape(likely)[0], END], 2 * NEVER), likely[:, END:]], axis=1)


def _penalty(length: tf.Tensor | int, alpha: float) -> tf.Tensor:
    return ((5.0 + tf.cast(length, tf.float32)) / 6.0) ** alpha


def _lengths(found: tf.Tensor) -> tf.Tensor:
    """Number of ids of an output, including the end if there is one."""
    return tf.minimum(tf.reduce_sum(tf.cast(found != END, tf.int32), axis=1) + 1, found.shape[1])


def _answer(found: tf.Tensor, score: tf.Tensor) -> Answer:
    return {"token_ids": tf.where(found == END, 0, found), "score": score}


def _invariants(loop_variables: Any) -> Any:
    """Shape invariants of a loop: the number of rows and the number of cached steps vary."""

    def shape(tensor: tf.Tensor) -> tf.TensorShape:
        sides = tensor.shape.as_list()
        return tf.TensorShape(sides if len(sides) < 4 else [*sides[:2], None, *sides[3:]])

    return tf.nest.map_structure(shape, loop_variables)
