"""Step-by-step decoding compared with independent searches: greedy, beam and exhaustive."""

from __future__ import annotations

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from selection import slow
from seq2seq_models import END, START, every_model, randomize, some_sources, unpadded, wild
from zoo.layers import decoding
from zoo.models import seq2seq_rnn, seq2seq_transformer

# The searches do not know the model, so one model proves properties that are theirs alone; the other is marked slow.
either_model = pytest.mark.parametrize(
    "name", ["seq2seq_rnn", pytest.param("seq2seq_transformer", marks=pytest.mark.slow)]
)
STEPPERS = {"seq2seq_transformer": seq2seq_transformer.Stepper, "seq2seq_rnn": seq2seq_rnn.Stepper}


def searching(name: str, model: keras.Model, kind: str):
    search = zoo.get_spec(name).functions[kind](model)
    return lambda ids: {k: v.numpy() for k, v in search({"source_ids": tf.constant(ids)}, {}).items()}


@functools.cache
def shared(name: str) -> tuple[keras.Model, dict]:
    """Returns a tiny model with two layers and its traced searches. They read weights that change later."""
    model = wild(name, num_layers=2)
    return model, {kind: searching(name, model, kind) for kind in ("greedy", "beam")}


def with_weights(name: str, seed: int = 0) -> tuple[keras.Model, dict]:
    """Returns the shared model and its searches after setting the weights of a seed."""
    model, searches = shared(name)
    return randomize(model, seed), searches


@functools.cache
def compiled(model: keras.Model):
    spec = [tf.TensorSpec([None, None], tf.int32)] * 2
    return tf.function(lambda *ids: model(list(ids)), input_signature=spec, autograph=False)


def log_likely(model: keras.Model, source: np.ndarray, beginnings: list) -> np.ndarray:
    """Returns the log probabilities of the next id after equally long beginnings, from a whole forward pass of one row.

    Padding, unknown and start ids cannot follow.
    """
    targets = np.array([[START, *ids] for ids in beginnings], np.int32)
    out = np.asarray(compiled(model)(np.repeat(source, len(targets), axis=0), targets), np.float64)[:, -1]
    return np.concatenate([np.full((len(targets), END), -np.inf), np.log(out[:, END:])], axis=1)


def penalty(length: int, alpha: float = 0.6) -> float:
    return ((5 + length) / 6) ** alpha


def step_by_step(model: keras.Model, source: np.ndarray, longest: int) -> tuple[list[int], float]:
    ids: list[int] = []
    total = 0.0
    while len(ids) < longest and ids[-1:] != [END]:
        likely = log_likely(model, source, [ids])[0]
        ids.append(int(likely.argmax()))
        total += likely[ids[-1]]
    return [i for i in ids if i != END], total / penalty(len(ids))


def python_beam(model, source, longest: int, width: int, alpha: float = 0.6) -> tuple[list[int], float]:
    alive, ended = [((), 0.0)], []
    for _ in range(longest):
        candidates = []
        likely = log_likely(model, source, [ids for ids, _ in alive])
        for (ids, total), row in zip(alive, likely, strict=True):
            candidates += [((*ids, i), total + row[i]) for i in range(END, len(row))]
        candidates.sort(key=lambda item: -item[1])
        ended += [(ids, total) for ids, total in candidates[: width - len(ended)] if ids[-1] == END]
        alive = [(ids, total) for ids, total in candidates if ids[-1] != END][:width]
        if len(ended) >= width:
            break
    pool = ended or alive
    ids, total = max(pool, key=lambda item: item[1] / penalty(len(item[0]), alpha))
    return [i for i in ids if i != END], total / penalty(len(ids), alpha)


def exhaustive(model, source, longest: int) -> tuple[list[int], float]:
    """Returns the best of all finished outputs."""
    best: tuple[list[int], float] = ([], -np.inf)
    level: list[tuple[list[int], float]] = [([], 0.0)]
    for length in range(1, longest + 1):
        likely = log_likely(model, source, [ids for ids, _ in level])
        following = []
        for (ids, total), row in zip(level, likely, strict=True):
            if (score := (total + row[END]) / penalty(length)) > best[1]:
                best = (ids, score)
            following += [([*ids, i], total + row[i]) for i in range(END + 1, len(row))]
        level = following
    return best


def padded(ids: list[int], length: int) -> list[int]:
    return ids + [0] * (length - len(ids))


@pytest.mark.parametrize(
    ("name", "num_layers"),
    [("seq2seq_rnn", 2), slow("seq2seq_rnn", 1), slow("seq2seq_transformer", 2), slow("seq2seq_transformer", 1)],
)
def test_greedy_selects_the_most_likely_id_at_each_step(name, num_layers):
    source = some_sources()
    if num_layers == 2:
        model, searches = with_weights(name, seed=2)
        search = searches["greedy"]
    else:
        model = wild(name, num_layers=num_layers, seed=num_layers)
        search = searching(name, model, "greedy")
    found = search(source)
    assert found["token_ids"].dtype == np.int32 and found["score"].dtype == np.float32
    assert len({tuple(row) for row in found["token_ids"].tolist()}) > 1, "not one answer for all"
    for i in range(6):
        ids, score = step_by_step(model, unpadded(source[i]), 9)
        assert found["token_ids"][i].tolist() == padded(ids, 9)
        assert found["score"][i] == pytest.approx(score, abs=5e-5)


@pytest.mark.parametrize(
    ("name", "seed"),
    [("seq2seq_transformer", 2), slow("seq2seq_transformer", 4), slow("seq2seq_rnn", 2), slow("seq2seq_rnn", 4)],
)
def test_beam_equals_an_independent_implementation(name, seed):
    (model, searches), source = with_weights(name, seed), some_sources(seed=seed)
    found = searches["beam"](source)
    for i in range(6):
        ids, score = python_beam(model, unpadded(source[i]), 9, 4)
        assert found["token_ids"][i].tolist() == padded(ids, 9)
        assert found["score"][i] == pytest.approx(score, abs=5e-5)


@either_model
@pytest.mark.parametrize(("width", "alpha"), [pytest.param(2, 0.0, marks=pytest.mark.slow), (3, 1.0)])
def test_beams_of_other_widths_and_penalties_equal_the_reference(name, width, alpha):
    (model, _), source = with_weights(name, seed=5), some_sources(seed=5)
    found = decoding.beam(STEPPERS[name](model), width, alpha)({"source_ids": tf.constant(source)})
    for i in range(6):
        ids, score = python_beam(model, unpadded(source[i]), 9, width, alpha)
        assert found["token_ids"].numpy()[i].tolist() == padded(ids, 9)
        assert found["score"].numpy()[i] == pytest.approx(score, abs=5e-5)


class Written:
    """A stepper with explicit log probabilities, which depend on the number of ids so far and on the last id."""

    max_length, input_name = 4, "source_ids"

    def __init__(self, likely: dict[tuple[int, int], dict[int, float]]) -> None:
        table = np.full((self.max_length, 7, 7), -30.0, np.float32)
        for (position, last), following in likely.items():
            for id_, chance in following.items():
                table[position, last, id_] = np.log(chance)
        self._table = tf.constant(table)

    def start(self, source_ids):
        nothing = tf.zeros([tf.shape(source_ids)[0]])
        return tf.fill(tf.shape(nothing), START), nothing, nothing

    def step(self, ids, position, state, context):
        return tf.gather(self._table[position], ids), state


def test_unlikely_outputs_that_end_early_do_not_end_the_search():
    """A confident model finishes several unlikely outputs before the best output is complete."""
    sure, end = {END: 0.3, 6: 0.7}, {END: 1.0}
    junk = {(1, 5): end, (1, 6): end, (2, 6): end, (2, 5): end}
    likely = {(0, START): {4: 0.97, 5: 0.01, 6: 0.01, END: 0.01}, (1, 4): {4: 0.98, 5: 0.01, END: 0.01}, **junk}
    likely |= {(2, 4): {4: 0.98, END: 0.02}, (3, 4): end, (3, 6): sure}
    found = decoding.beam(Written(likely), 4)({"source_ids": tf.ones([1, 1], tf.int32)})
    assert found["token_ids"].numpy().tolist() == [[4, 4, 4, 0]]
    assert found["score"].numpy()[0] == pytest.approx(np.log(0.97 * 0.98 * 0.98) / penalty(4), abs=1e-4)


@pytest.mark.slow
@either_model
def test_a_wide_beam_finds_the_best_output(name):
    model = wild(name, target_vocab_size=7, max_length=4)
    source = some_sources(4, steps=4)
    wide = decoding.beam(STEPPERS[name](model), 400)({"source_ids": tf.constant(source)})
    for i in range(4):
        ids, score = exhaustive(model, unpadded(source[i]), 4)
        assert wide["token_ids"].numpy()[i].tolist() == padded(ids, 4)
        assert wide["score"].numpy()[i] == pytest.approx(score, abs=5e-5)


@pytest.mark.slow
@either_model
def test_a_beam_of_width_one_equals_greedy(name):
    (model, searches), source = with_weights(name), some_sources(20)
    beam = decoding.beam(STEPPERS[name](model), 1)
    for seed in range(5):
        randomize(model, seed)
        one, greedy = beam({"source_ids": tf.constant(source)}), searches["greedy"](source)
        np.testing.assert_array_equal(one["token_ids"], greedy["token_ids"])
        np.testing.assert_allclose(one["score"], greedy["score"], atol=5e-5)


@every_model
@pytest.mark.parametrize("kind", ["greedy", "beam"])
def test_outputs_do_not_depend_on_the_batch(name, kind):
    search, source = with_weights(name, seed=1)[1][kind], some_sources(9)
    together = search(source)
    wider = search(np.pad(source, ((0, 0), (0, 2))))
    np.testing.assert_array_equal(wider["token_ids"], together["token_ids"])
    for i in range(9):
        alone = search(unpadded(source[i]))
        assert alone["token_ids"][0].tolist() == together["token_ids"][i].tolist()
        assert alone["score"][0] == pytest.approx(together["score"][i], abs=5e-5)


@every_model
@pytest.mark.parametrize("kind", ["greedy", "beam"])
def test_outputs_without_an_end_are_truncated(name, kind):
    (model, searches), source = with_weights(name), some_sources()
    search, bias = searches[kind], model.get_layer("target_embedding").bias
    bias.assign(bias - 100.0 * tf.one_hot(END, bias.shape[0]))
    found = search(source)
    assert found["token_ids"].shape == (6, 9)
    assert (found["token_ids"] > END).all() and np.isfinite(found["score"]).all()
    bias.assign(bias + 200.0 * tf.one_hot(END, bias.shape[0]))
    assert not search(source)["token_ids"].any(), "and one may be empty"


@every_model
def test_reserved_ids_are_never_returned(name):
    model, searches = with_weights(name)
    bias = model.get_layer("target_embedding").bias
    bias.assign(bias + 50.0 * tf.reduce_sum(tf.one_hot([0, 1, 2], bias.shape[0]), 0))
    for kind in ("greedy", "beam"):
        found = searches[kind](some_sources())["token_ids"]
        assert not np.isin(found, [1, START, END]).any()
        for row in found:
            assert (row[np.count_nonzero(row) :] == 0).all(), "0 only behind the end"


@pytest.mark.slow
@every_model
def test_saved_and_rebuilt_models_decode_identically(name, tmp_path):
    model, source = wild(name), some_sources()
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    rebuilt = type(model).from_config(model.get_config())
    rebuilt.set_weights(model.get_weights())
    logits = wild(name, classifier_activation=None)
    logits.set_weights(model.get_weights())
    expected = searching(name, model, "beam")(source)
    for other in (loaded, rebuilt, logits):
        found = searching(name, other, "beam")(source)
        np.testing.assert_array_equal(found["token_ids"], expected["token_ids"])
        np.testing.assert_allclose(found["score"], expected["score"], atol=1e-6)


@pytest.mark.slow
@every_model
def test_half_precision_scores_are_finite_float32(name):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = wild(name)
    finally:
        keras.config.set_dtype_policy(before)
    for kind in ("greedy", "beam"):
        found = searching(name, model, kind)(some_sources())
        assert found["score"].dtype == np.float32 and np.isfinite(found["score"]).all()
