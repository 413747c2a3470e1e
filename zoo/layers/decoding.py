"""Greedy and beam search inside the graph, one step at a time, for any model of the zoo that says how it steps.

A stepper knows a Functional model's layers by their names, so that it works on a model that was rebuilt from its config. It
gives `start` and `step`; the searches know nothing else of the model. Ids: 0 padding, 1 unknown, 2 start, 3 end; an answer
never holds one of these but for padding after its end.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import keras
import tensorflow as tf

from zoo.errors import UsageError

START, END = 2, 3
NEVER = -1e9
"""Log probability of what cannot be; finite, for infinities subtracted are not a number."""

Answer = dict[str, tf.Tensor]


class Stepper(Protocol):
    """What a search asks of a model. State and context are nested tensors whose first dimension is the row."""

    max_length: int

    def start(self, source_ids: tf.Tensor) -> tuple[Any, Any]:
        """Encodes sources, int32 (batch, source steps): what changes with every step, and what all steps read."""

    def step(self, ids: tf.Tensor, position: tf.Tensor, state: Any, context: Any) -> tuple[tf.Tensor, Any]:
        """Logits (rows, vocab) of what follows `ids`, int32 (rows,), at a position, and the next state."""


class TransformerStepper:
    """Steps through `decoder_1`, `decoder_2`, ..., Transformer blocks, with the keys and values of earlier steps."""

    def __init__(self, model: keras.Model) -> None:
        self._layer = model.get_layer
        self._blocks = numbered(model, "decoder")
        memory = numbered(model, "encoder")[-1].output
        self._encoder = keras.Model(model.get_layer("source_ids").output, memory)
        self.max_length = model.get_layer("target_embedding").max_length

    def start(self, source_ids: tf.Tensor) -> tuple[Any, Any]:
        """Returns empty caches, and of every block the source's keys, values and mask."""
        memory = self._encoder(source_ids, training=False)
        context = [block.source(memory, source_ids != 0) for block in self._blocks]
        # No step yet: of the keys' shape, (rows, heads, 0, channels).
        return [(keys[:, :, :0], values[:, :, :0]) for keys, values, _ in context], context

    def step(self, ids: tf.Tensor, position: tf.Tensor, state: Any, context: Any) -> tuple[tf.Tensor, Any]:
        """Returns logits (rows, vocab), and the caches with this step added."""
        embedding = self._layer("target_embedding")
        x = self._layer("target_scale")(embedding(ids[:, tf.newaxis]))
        positions = self._layer("target_positions")(tf.zeros([1, self.max_length, embedding.dim], x.dtype))
        x += positions[:, position : position + 1]
        caches = []
        for block, cache, source in zip(self._blocks, state, context, strict=True):
            x, cache = block.step(x, cache, source)
            caches.append(cache)
        return embedding(x, reverse=True)[:, 0], caches


class RecurrentStepper:
    """Steps through `decoder_1`, `decoder_2`, ..., GRUs, with attention to encoder outputs that are made once."""

    def __init__(self, model: keras.Model) -> None:
        self._layer = model.get_layer
        self._cells = [layer.cell for layer in numbered(model, "decoder")]
        states = [layer.output for layer in numbered(model, "bridge")]
        self._encoder = keras.Model(model.get_layer("source_ids").output, [model.get_layer("memory").output, *states])
        self.max_length = model.get_layer("target_embedding").max_length

    def start(self, source_ids: tf.Tensor) -> tuple[Any, Any]:
        """Returns the decoder's first states, and the encoder's outputs with their mask."""
        memory, *states = self._encoder(source_ids, training=False)
        return list(states), (memory, source_ids != 0)

    def step(self, ids: tf.Tensor, position: tf.Tensor, state: Any, context: Any) -> tuple[tf.Tensor, Any]:
        """Returns logits (rows, vocab), and the states after this step."""
        embedding = self._layer("target_embedding")
        x = tf.identity(embedding(ids))  # without its mask: no row is padding here
        states = []
        for cell, before in zip(self._cells, state, strict=True):
            x, _ = cell(x, [before], training=False)
            states.append(x)
        memory, mask = context
        steps = x[:, tf.newaxis]
        read = self._layer("attention")([self._layer("query")(steps), memory], mask=[None, mask])
        x = self._layer("combined")(self._layer("joined")([steps, read]))
        return embedding(x, reverse=True)[:, 0], states


def numbered(model: keras.Model, name: str) -> list[Any]:
    """Returns the layers `NAME_1`, `NAME_2`, ... of a model in the order of their numbers.

    Raises:
        UsageError: there is none.
    """
    found = {int(m[1]): layer for layer in model.layers if (m := re.fullmatch(rf"{name}_(\d+)", layer.name))}
    if not found:
        raise UsageError(f"Model {model.name!r} has no layer {name}_1. Pass a model that zoo.build made.")
    return [found[number] for number in sorted(found)]


def greedy(stepper: Stepper) -> Callable[..., Answer]:
    """Returns a function that takes the likeliest id at every step: f(inputs, extras) -> token_ids, score.

    `inputs` holds `source_ids`, int32 (batch, source steps). `token_ids`: int32 (batch, max_length), 0 from the end on;
    `score`: float32 (batch,), the answer's log probability over its length penalty, as `beam` has it.
    """

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32)])
    def search(source_ids: tf.Tensor) -> Answer:
        state, context = stepper.start(source_ids)
        rows, length = tf.shape(source_ids)[0], stepper.max_length

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

        first = (tf.constant(0), tf.fill([rows], START), tf.fill([rows, length], END), tf.zeros([rows]), state)
        _, _, found, score, _ = tf.while_loop(goes_on, body, first, shape_invariants=_invariants(first))
        return _answer(found, score / _penalty(_lengths(found), _ALPHA))

    return lambda inputs, extras=None: search(inputs["source_ids"])


_ALPHA = 0.6


def beam(stepper: Stepper, width: int = 4, alpha: float = _ALPHA) -> Callable[..., Answer]:
    """Returns a function that keeps the `width` best beginnings at every step: f(inputs, extras) -> token_ids, score.

    An answer that ends among a step's best, as many of them as the row still lacks of `width` answers, is kept; a row is done
    when it has `width`, or when none that goes on can become better than the best of them. Scores are log probabilities over
    ((5 + length) / 6) ** alpha, the end counted; an answer cut at max_length counts only where a row has no other. Source: Wu
    et al., Google's neural machine translation system, 2016, section 7. Width 1 is `greedy`.

    Args:
        stepper: the model.
        width: how many beginnings go on.
        alpha: how much long answers are favoured; 0 not at all.
    """

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32)])
    def search(source_ids: tf.Tensor) -> Answer:
        state, context = tf.nest.map_structure(lambda t: tf.repeat(t, width, axis=0), stepper.start(source_ids))
        first = {**_first(tf.shape(source_ids)[0], width, stepper.max_length), "state": state}

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

    return lambda inputs, extras=None: search(inputs["source_ids"])


def _first(rows: tf.Tensor, width: int, length: int) -> dict[str, tf.Tensor]:
    """What beam search keeps of every row: its beginnings, and its best answer."""
    return {
        "ids": tf.fill([rows, width], START),
        "found": tf.fill([rows, width, length], END),
        # One beginning: the others would only repeat it.
        "score": tf.tile([[0.0] + [NEVER] * (width - 1)], [rows, 1]),
        "best": tf.fill([rows, length], END),
        "best_score": tf.fill([rows], NEVER),
        "count": tf.zeros([rows], tf.int32),
        "done": tf.zeros([rows], tf.bool),
    }


def _advance(
    step: tf.Tensor, now: Mapping[str, Any], likely: tf.Tensor, width: int, alpha: float
) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    """One step of beam search; returns what is kept, and the rows of the model's state that go on."""
    batch, length, vocab = tf.shape(now["ids"])[0], now["found"].shape[2], likely.shape[-1]
    total = tf.reshape(now["score"][:, :, tf.newaxis] + tf.reshape(likely, [batch, width, vocab]), [batch, -1])
    # Twice the width: at most one of every beginning's candidates is the end, so that enough others are left.
    scores, places = tf.math.top_k(total, 2 * width)
    parents, ids = places // vocab, places % vocab
    ends, possible = ids == END, scores > NEVER / 2
    place = tf.range(2 * width)

    # The first of the best that ends: its length, and so its penalty, is that of all others of this step.
    # Only among as many as are still missing: else bad answers that end early would end the search before a good one.
    missing = width - now["count"][:, tf.newaxis]
    ended = ends & possible & (place < missing) & ~now["done"][:, tf.newaxis]
    some, first = tf.reduce_any(ended, axis=1), tf.argmax(ended, axis=1, output_type=tf.int32)
    score = tf.gather(scores, first, batch_dims=1) / _penalty(step + 1, alpha)
    better = some & (score > now["best_score"])
    ending = tf.gather(now["found"], tf.gather(parents, first, batch_dims=1), batch_dims=1)
    best = tf.where(better[:, tf.newaxis], ending, now["best"])
    best_score = tf.where(better, score, now["best_score"])
    count = now["count"] + tf.reduce_sum(tf.cast(ended, tf.int32), axis=1)

    # Those that go on, best first: ends sort behind all others.
    _, kept = tf.math.top_k(-tf.where(ends, place + 2 * width, place), width)
    parents, ids, scores = (tf.gather(t, kept, batch_dims=1) for t in (parents, ids, scores))
    found = tf.gather(now["found"], parents, batch_dims=1)
    found = tf.where(tf.range(length) == step, ids[:, :, tf.newaxis], found)
    # Log probabilities only fall, the penalty divides by no more than this: the best that can still come.
    hope = scores[:, 0] / _penalty(length, alpha)
    done = now["done"] | (count >= width) | ((count > 0) & (best_score >= hope))
    kept_of_all = {"best": best, "best_score": best_score, "count": count, "done": done}
    rows = tf.reshape(tf.range(batch)[:, tf.newaxis] * width + parents, [-1])
    return {"ids": ids, "found": found, "score": scores, **kept_of_all}, rows


def _log_probabilities(logits: tf.Tensor) -> tf.Tensor:
    """Returns float32 log probabilities; padding, unknown and start are never answered."""
    likely = tf.nn.log_softmax(tf.cast(logits, tf.float32))
    return tf.concat([tf.fill([tf.shape(likely)[0], END], 2 * NEVER), likely[:, END:]], axis=1)


def _penalty(length: tf.Tensor | int, alpha: float) -> tf.Tensor:
    return ((5.0 + tf.cast(length, tf.float32)) / 6.0) ** alpha


def _lengths(found: tf.Tensor) -> tf.Tensor:
    """Ids of an answer, the end counted where there is one."""
    return tf.minimum(tf.reduce_sum(tf.cast(found != END, tf.int32), axis=1) + 1, found.shape[1])


def _answer(found: tf.Tensor, score: tf.Tensor) -> Answer:
    return {"token_ids": tf.where(found == END, 0, found), "score": score}


def _invariants(loop_variables: Any) -> Any:
    """Shapes that hold all through a loop: rows vary, and so does the number of steps in a cache."""

    def shape(tensor: tf.Tensor) -> tf.TensorShape:
        sides = tensor.shape.as_list()
        return tf.TensorShape(sides if len(sides) < 4 else [*sides[:2], None, *sides[3:]])

    return tf.nest.map_structure(shape, loop_variables)
