"""Sequence to sequence: the arithmetic of the models, decoding step by step, texts to pieces and back, the report."""

from __future__ import annotations

import functools
import itertools
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from zoo.datasets.preprocessing import translation as pieces
from zoo.datasets.preprocessing.translation import TranslationPreprocessor
from zoo.evaluation.translation import nearest_answers, summary, translation_report
from zoo.layers import blocks, decoder, decoding
from zoo.models import seq2seq_rnn, seq2seq_transformer

MODELS = ("seq2seq_transformer", "seq2seq_rnn")
every_model = pytest.mark.parametrize("name", MODELS)
START, END = 2, 3
STEPPERS = {"seq2seq_transformer": seq2seq_transformer.Stepper, "seq2seq_rnn": seq2seq_rnn.Stepper}


def wild(name: str, seed: int = 0, **changes) -> keras.Model:
    """A tiny model with weights far from their start, whose answers end sooner or later."""
    model = zoo.build(name, **{**zoo.get_spec(name).tiny, **changes})
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        # Biases and shifts stay small: else they alone would decide, and the source would not matter.
        size = 1.0 if len(weight.shape) > 1 else 0.2
        weight.assign(rng.normal(size=weight.shape) * size + (weight.name == "gamma"))
    table = model.get_layer("target_embedding")
    table.bias.assign(table.bias + 0.7 * tf.one_hot(END, table.vocab_size))
    return model


def some_sources(rows: int = 6, steps: int = 7, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    ids = rng.integers(1, 12, (rows, steps)).astype(np.int32)
    for i in range(rows):
        ids[i, rng.integers(1, steps + 1) :] = 0
    ids[0] = rng.integers(1, 12, steps)  # one without padding
    return ids


def unpadded(ids: np.ndarray) -> np.ndarray:
    return ids[None, : max(1, np.count_nonzero(ids))]


def searching(name: str, model: keras.Model, kind: str):
    search = zoo.get_spec(name).functions[kind](model)
    return lambda ids: {k: v.numpy() for k, v in search({"source_ids": tf.constant(ids)}, {}).items()}


def f64(layer) -> list[np.ndarray]:
    return [np.asarray(w, np.float64) for w in layer.get_weights()]


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


# --- The arithmetic --------------------------------------------------------------------------------------------------


def dense(x: np.ndarray, layer) -> np.ndarray:
    kernel, bias = f64(layer)
    return x @ kernel + bias


def norm(x: np.ndarray, layer) -> np.ndarray:
    gamma, beta = f64(layer)
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * gamma + beta


def attend(x: np.ndarray, memory: np.ndarray, layer, readable: np.ndarray) -> np.ndarray:
    """One head after the other; `readable` is (batch, queries, keys)."""
    q, k, v = dense(x, layer.query_dense), dense(memory, layer.key_dense), dense(memory, layer.value_dense)
    size, parts = q.shape[-1] // layer.num_heads, []
    for h in range(layer.num_heads):
        here = slice(h * size, (h + 1) * size)
        scores = q[..., here] @ k[..., here].swapaxes(1, 2) / np.sqrt(size)
        parts.append(softmax(np.where(readable, scores, -np.inf)) @ v[..., here])
    return dense(np.concatenate(parts, -1), layer.output_dense)


def decoder_block(x: np.ndarray, memory: np.ndarray, block, memory_mask: np.ndarray) -> np.ndarray:
    steps = x.shape[1]
    causal = np.tril(np.ones((steps, steps), bool))[None]
    x = norm(x + attend(x, x, block.self_attention, causal), block.norm_1)
    x = norm(x + attend(x, memory, block.source_attention, memory_mask[:, None, :]), block.norm_2)
    return norm(x + dense(np.maximum(dense(x, block.inner), 0), block.outer), block.norm_3)


def encoder_block(x: np.ndarray, block, mask: np.ndarray) -> np.ndarray:
    (wq, bq, wk, bk, wv, bv, wo, bo) = f64(block.attention)
    q, k, v = (np.einsum("bsd,dhe->bhse", x, w) + b[:, None] for w, b in ((wq, bq), (wk, bk), (wv, bv)))
    scores = np.einsum("bhqe,bhke->bhqk", q, k) / np.sqrt(wq.shape[-1])
    read = softmax(np.where(mask[:, None, None], scores, -np.inf)) @ v
    x = norm(x + np.einsum("bhqe,hed->bqd", read, wo) + bo, block.attention_norm)
    return norm(x + dense(np.maximum(dense(x, block.inner), 0), block.outer), block.feed_forward_norm)


def positions(steps: int, dim: int) -> np.ndarray:
    table = np.zeros((steps, dim))
    for p, c in itertools.product(range(steps), range(dim)):
        angle = p / 10_000 ** (c // 2 * 2 / dim)
        table[p, c] = np.cos(angle) if c % 2 else np.sin(angle)
    return table


def numpy_transformer(model: keras.Model, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    layer = model.get_layer
    mask, (table, bias) = source != 0, f64(layer("target_embedding"))
    dim = table.shape[1]
    memory = f64(layer("source_embedding"))[0][source] * np.sqrt(dim) + positions(source.shape[1], dim)
    x = table[target] * np.sqrt(dim) + positions(target.shape[1], dim)
    for block in blocks.numbered(model, "encoder"):
        memory = encoder_block(memory, block, mask)
    for block in blocks.numbered(model, "decoder"):
        x = decoder_block(x, memory, block, mask)
    return softmax(x @ table.T + bias)


def gru(xs: np.ndarray, state: np.ndarray, weights, mask: np.ndarray | None = None) -> np.ndarray:
    """Outputs of every step; a masked step leaves the state alone. Keras's order of gates: update, reset, candidate."""
    kernel, recurrent, (b_in, b_rec) = weights
    n, outputs = state.shape[1], []
    for t in range(xs.shape[1]):
        a, r = xs[:, t] @ kernel + b_in, state @ recurrent + b_rec
        z, reset = (1 / (1 + np.exp(-(a[:, s] + r[:, s]))) for s in (slice(0, n), slice(n, 2 * n)))
        new = z * state + (1 - z) * np.tanh(a[:, 2 * n :] + reset * r[:, 2 * n :])
        state = new if mask is None else np.where(mask[:, t, None], new, state)
        outputs.append(state)
    return np.stack(outputs, 1)


def numpy_rnn(model: keras.Model, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Every row alone and without its padding, as a person would do it."""
    layer, rows = model.get_layer, []
    table, bias = f64(layer("target_embedding"))
    for ids, words in zip(source, target, strict=True):
        memory = f64(layer("source_embedding"))[0][unpadded(ids)]
        states = []
        for encoder, bridge in zip(blocks.numbered(model, "encoder"), blocks.numbered(model, "bridge"), strict=True):
            w = f64(encoder)
            nothing = np.zeros((1, w[1].shape[0]))
            forth, back = gru(memory, nothing, w[:3]), gru(memory[:, ::-1], nothing, w[3:])
            states.append(np.tanh(dense(np.concatenate([forth[:, -1], back[:, -1]], -1), bridge)))
            memory = np.concatenate([forth, back[:, ::-1]], -1)
        x = table[words][None]
        for cell, state in zip(blocks.numbered(model, "decoder"), states, strict=True):
            x = gru(x, state, f64(cell))
        read = softmax(dense(x, layer("query")) @ memory.swapaxes(1, 2)) @ memory
        rows.append(np.tanh(dense(np.concatenate([x, read], -1), layer("combined")))[0])
    return softmax(np.stack(rows) @ table.T + bias)


@every_model
@pytest.mark.parametrize("num_layers", [1, 2])
def test_a_model_is_what_numpy_says(name, num_layers):
    model = wild(name, num_layers=num_layers)
    source, target = some_sources(), np.random.default_rng(1).integers(1, 11, (6, 5)).astype(np.int32)
    expected = {"seq2seq_transformer": numpy_transformer, "seq2seq_rnn": numpy_rnn}[name](model, source, target)
    np.testing.assert_allclose(np.asarray(model([source, target])), expected, atol=1e-5)


def test_decoder_gru_is_that_of_torch():
    torch = pytest.importorskip("torch")
    model = wild("seq2seq_rnn")
    layer = model.get_layer("decoder_1")
    kernel, recurrent, bias = f64(layer)
    units = recurrent.shape[0]
    order = np.concatenate([np.arange(units, 2 * units), np.arange(units), np.arange(2 * units, 3 * units)])
    theirs = torch.nn.GRU(kernel.shape[0], units, batch_first=True)
    weights = {"weight_ih_l0": kernel.T, "weight_hh_l0": recurrent.T, "bias_ih_l0": bias[0], "bias_hh_l0": bias[1]}
    theirs.load_state_dict({k: torch.tensor(v[order], dtype=torch.float32) for k, v in weights.items()})
    rng = np.random.default_rng(0)
    x, state = rng.normal(size=(3, 5, kernel.shape[0])), rng.normal(size=(3, units))
    x, state = x.astype(np.float32), state.astype(np.float32)
    expected, _ = theirs(torch.tensor(x), torch.tensor(state)[None])
    np.testing.assert_allclose(np.asarray(layer(x, initial_state=state)), expected.detach().numpy(), atol=1e-5)


def test_numbers_of_parameters():
    def gru_size(units: int, channels: int) -> int:
        return 3 * units * (channels + units + 2)

    s, t, d, f, n = 50, 60, 12, 20, 3
    made = zoo.build(
        "seq2seq_transformer",
        source_vocab_size=s,
        target_vocab_size=t,
        embedding_dim=d,
        num_heads=4,
        feed_forward_dim=f,
        num_layers=n,
    )
    attend, feed = 4 * (d * d + d), d * f + f + f * d + d
    assert made.count_params() == (s + t) * d + t + n * (3 * attend + 2 * feed + 5 * 2 * d)
    u = 10
    made = zoo.build(
        "seq2seq_rnn", source_vocab_size=s, target_vocab_size=t, embedding_dim=d, rnn_units=u, num_layers=2
    )
    encoders = 2 * gru_size(u // 2, d) + 2 * gru_size(u // 2, u)
    decoders = gru_size(u, d) + gru_size(u, u)
    dense_layers = 3 * (u * u + u) + 2 * u * d + d
    assert made.count_params() == (s + t) * d + t + encoders + decoders + dense_layers


@every_model
def test_no_step_sees_a_later_one(name):
    model = wild(name)
    source, target = some_sources(), np.random.default_rng(1).integers(1, 11, (6, 8)).astype(np.int32)
    before = np.asarray(model([source, target]))
    for step in range(1, 8):
        changed = target.copy()
        changed[:, step:] = 11 - changed[:, step:]
        after = np.asarray(model([source, changed]))
        np.testing.assert_array_equal(after[:, :step], before[:, :step])
        assert (after[:, step:] != before[:, step:]).any(), "and the later ones do see it"


@every_model
def test_padding_changes_nothing(name):
    model = wild(name)
    source, target = some_sources(), np.random.default_rng(1).integers(1, 11, (6, 5)).astype(np.int32)
    target[:, 3:] = np.where(np.arange(6)[:, None] % 2, 0, target[:, 3:])
    together = np.asarray(model([source, target]))
    wider = np.asarray(model([np.pad(source, ((0, 0), (0, 2))), np.pad(target, ((0, 0), (0, 3)))]))
    np.testing.assert_allclose(wider[:, :5], together, atol=1e-6)
    for i in range(6):
        used = np.count_nonzero(target[i])
        alone = np.asarray(model([unpadded(source[i]), target[i : i + 1, :used]]))
        np.testing.assert_allclose(alone[0], together[i, :used], atol=1e-6)


@every_model
def test_the_words_of_the_source_matter(name):
    model, target = wild(name), np.full((1, 3), 4, np.int32)
    ids = np.array([[4, 5, 6, 7, 8]], np.int32)
    one, reversed_one, other = (np.asarray(model([s, target])) for s in (ids, ids[:, ::-1], ids + 1))
    assert np.abs(one - other).max() > 1e-4
    assert np.abs(one - reversed_one).max() > 1e-4, "and so does their order"


# --- Decoding --------------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=2)
def compiled(model: keras.Model):
    spec = [tf.TensorSpec([None, None], tf.int32)] * 2
    return tf.function(lambda *ids: model(list(ids)), input_signature=spec)


def log_likely(model: keras.Model, source: np.ndarray, beginnings: list) -> np.ndarray:
    """Of one row, from a whole forward pass: log probabilities of what follows each of some equally long beginnings.

    Padding, unknown and start cannot follow.
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
    """The best of all answers that end."""
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


@every_model
@pytest.mark.parametrize("num_layers", [1, 2])
def test_greedy_is_the_likeliest_step_by_step(name, num_layers):
    model, source = wild(name, num_layers=num_layers, seed=num_layers), some_sources()
    found = searching(name, model, "greedy")(source)
    assert found["token_ids"].dtype == np.int32 and found["score"].dtype == np.float32
    assert len({tuple(row) for row in found["token_ids"].tolist()}) > 1, "not one answer for all"
    for i in range(6):
        ids, score = step_by_step(model, unpadded(source[i]), 9)
        assert found["token_ids"][i].tolist() == padded(ids, 9)
        assert found["score"][i] == pytest.approx(score, abs=5e-5)


@every_model
@pytest.mark.parametrize("seed", [2, 4])
def test_beam_is_an_independent_beam(name, seed):
    model, source = wild(name, seed=seed), some_sources(seed=seed)
    found = searching(name, model, "beam")(source)
    for i in range(6):
        ids, score = python_beam(model, unpadded(source[i]), 9, 4)
        assert found["token_ids"][i].tolist() == padded(ids, 9)
        assert found["score"][i] == pytest.approx(score, abs=5e-5)


@every_model
@pytest.mark.parametrize(("width", "alpha"), [(2, 0.0), (3, 1.0)])
def test_beams_of_other_widths_and_penalties(name, width, alpha):
    model, source = wild(name, seed=5), some_sources(seed=5)
    found = decoding.beam(STEPPERS[name](model), width, alpha)({"source_ids": tf.constant(source)})
    for i in range(6):
        ids, score = python_beam(model, unpadded(source[i]), 9, width, alpha)
        assert found["token_ids"].numpy()[i].tolist() == padded(ids, 9)
        assert found["score"].numpy()[i] == pytest.approx(score, abs=5e-5)


class Written:
    """A stepper whose log probabilities are written down: by the number of ids so far and the last id."""

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


def test_bad_answers_that_end_early_do_not_end_the_search():
    """A sure model ends several unlikely answers before its own is complete."""
    sure, end = {END: 0.3, 6: 0.7}, {END: 1.0}
    junk = {(1, 5): end, (1, 6): end, (2, 6): end, (2, 5): end}
    likely = {(0, START): {4: 0.97, 5: 0.01, 6: 0.01, END: 0.01}, (1, 4): {4: 0.98, 5: 0.01, END: 0.01}, **junk}
    likely |= {(2, 4): {4: 0.98, END: 0.02}, (3, 4): end, (3, 6): sure}
    found = decoding.beam(Written(likely), 4)({"source_ids": tf.ones([1, 1], tf.int32)})
    assert found["token_ids"].numpy().tolist() == [[4, 4, 4, 0]]
    assert found["score"].numpy()[0] == pytest.approx(np.log(0.97 * 0.98 * 0.98) / penalty(4), abs=1e-4)


@every_model
def test_a_wide_beam_finds_the_best_of_all(name):
    model = wild(name, target_vocab_size=7, max_length=4)
    source = some_sources(4, steps=4)
    wide = decoding.beam(STEPPERS[name](model), 400)({"source_ids": tf.constant(source)})
    for i in range(4):
        ids, score = exhaustive(model, unpadded(source[i]), 4)
        assert wide["token_ids"].numpy()[i].tolist() == padded(ids, 4)
        assert wide["score"].numpy()[i] == pytest.approx(score, abs=5e-5)


@every_model
def test_a_beam_of_one_is_greedy(name):
    model, source = wild(name), some_sources(20)
    beam, likeliest = decoding.beam(STEPPERS[name](model), 1), searching(name, model, "greedy")
    for seed in range(5):
        model.set_weights(wild(name, seed=seed).get_weights())
        one, greedy = beam({"source_ids": tf.constant(source)}), likeliest(source)
        np.testing.assert_array_equal(one["token_ids"], greedy["token_ids"])
        np.testing.assert_allclose(one["score"], greedy["score"], atol=5e-5)


@every_model
@pytest.mark.parametrize("kind", ["greedy", "beam"])
def test_an_answer_does_not_depend_on_the_batch(name, kind):
    search, source = searching(name, wild(name, seed=1), kind), some_sources(9)
    together = search(source)
    wider = search(np.pad(source, ((0, 0), (0, 2))))
    np.testing.assert_array_equal(wider["token_ids"], together["token_ids"])
    for i in range(9):
        alone = search(unpadded(source[i]))
        assert alone["token_ids"][0].tolist() == together["token_ids"][i].tolist()
        assert alone["score"][0] == pytest.approx(together["score"][i], abs=5e-5)


@every_model
@pytest.mark.parametrize("kind", ["greedy", "beam"])
def test_an_answer_that_never_ends_is_cut(name, kind):
    model, source = wild(name), some_sources()
    search = searching(name, model, kind)
    bias = model.get_layer("target_embedding").bias
    bias.assign(bias - 100.0 * tf.one_hot(END, bias.shape[0]))
    found = search(source)
    assert found["token_ids"].shape == (6, 9)
    assert (found["token_ids"] > END).all() and np.isfinite(found["score"]).all()
    bias.assign(bias + 200.0 * tf.one_hot(END, bias.shape[0]))
    assert not search(source)["token_ids"].any(), "and one may be empty"


@every_model
def test_reserved_ids_are_never_answered(name):
    model = wild(name)
    bias = model.get_layer("target_embedding").bias
    bias.assign(bias + 50.0 * tf.reduce_sum(tf.one_hot([0, 1, 2], bias.shape[0]), 0))
    for kind in ("greedy", "beam"):
        found = searching(name, model, kind)(some_sources())["token_ids"]
        assert not np.isin(found, [1, START, END]).any()
        for row in found:
            assert (row[np.count_nonzero(row) :] == 0).all(), "0 only behind the end"


@pytest.mark.slow
@every_model
def test_saved_and_rebuilt_models_decode_alike(name, tmp_path):
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


@every_model
def test_half_precision_decodes_as_it_computes(name):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = wild(name)
    finally:
        keras.config.set_dtype_policy(before)
    for kind in ("greedy", "beam"):
        found = searching(name, model, kind)(some_sources())
        assert found["score"].dtype == np.float32 and np.isfinite(found["score"]).all()


def test_the_table_comes_back_from_its_config():
    layer = decoder.TiedEmbedding(9, 4, 5)
    assert type(layer).from_config(layer.get_config()).get_config() == layer.get_config()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: zoo.build("seq2seq_rnn", source_vocab_size=9, target_vocab_size=9, rnn_units=7), "two directions"),
        (
            lambda: zoo.build("seq2seq_transformer", source_vocab_size=9, target_vocab_size=9, num_heads=7),
            "embedding_dim=256 does not divide by num_heads=7",
        ),
        (
            lambda: zoo.build("seq2seq_rnn", source_vocab_size=9, target_vocab_size=9, classifier_activation="relu"),
            "Pass 'softmax' for probabilities, or None for logits",
        ),
        (lambda: blocks.numbered(wild("seq2seq_rnn"), "block"), "has no layer block_1. Pass a model"),
    ],
)
def test_what_cannot_be_is_answered(call, message):
    with pytest.raises(zoo.UsageError, match=message):
        call()


# --- Texts -----------------------------------------------------------------------------------------------------------

FRENCH = [
    "Va !",
    "Ça alors\u202f!",
    "J'ai 19 ans, et toi\u00a0?",
    "«\u00a0L'économie\u00a0», a-t-il dit… aujourd’hui\u202f!",
    "Arrête-toi\u00a0!  Deux espaces,   trois.",
    "Je l'ai emporté : 3,50 € (50 %) !",
    "Œuvre, cœur, Noël, où, À BIENTÔT",
]
ENGLISH = [
    "Go.",
    "Wow!",
    "I'm 19, and you?",
    '"Economics", he said… today!',
    "Stop!  Two.",
    "I won: 3.50",
    "Work, heart",
]
HOSTILE = [
    "",
    " ",
    "   two  inner   spaces at both ends   ",
    "\U0001f600 thumbs \U0001f44d\U0001f3fd and \U0001f468\u200d\U0001f469\u200d\U0001f467",
    "x" * 150,
    "a b! " * 40,
    "e\u0301 combining, \u0627\u0644\u0639\u0631\u0628\u064a\u0629, \u4e2d\u6587, \ufdfa",
    "[PAD][UNK][START][END] %s {0} \\1 $1 ^ . * \\",
    "'' ’’ l'l'l' --- !!! ... \u00a0\u00a0! \u202f?",
]


def data_of(texts: list[str], translations: list[str]) -> SimpleNamespace:
    examples = {"text": texts, "translation": translations}
    return SimpleNamespace(train=tf.data.Dataset.from_tensor_slices(examples))


def prepared(texts=ENGLISH, translations=FRENCH, vocab_size: int = 400, max_length: int = 60):
    # Twice: what occurs once stays unknown.
    data = data_of([*texts, *texts], [*translations, *translations])
    needs = {"vocab_size": vocab_size, "max_length": max_length}
    return TranslationPreprocessor.for_model(data, needs, {})


def encoded(preprocessor: TranslationPreprocessor, examples: dict[str, tf.Tensor]) -> tuple:
    """Inputs by name, and the only target with its weights."""
    inputs, targets, weights = preprocessor.encode(examples)
    return inputs, targets["translation"], weights["translation"]


def batch(texts: list, translations: list) -> dict[str, tf.Tensor]:
    return {"text": tf.constant(texts, tf.string), "translation": tf.constant(translations, tf.string)}


@pytest.mark.parametrize("vocab_size", [70, 120, 400])
def test_texts_come_back_as_they_were(vocab_size):
    preprocessor, fixed = prepared(vocab_size=vocab_size)
    assert fixed["target_vocab_size"] <= vocab_size
    inputs, targets, weights = encoded(preprocessor, batch(ENGLISH, FRENCH))
    assert [t.decode() for t in preprocessor.to_text(targets).numpy()] == FRENCH
    assert inputs["target_ids"].numpy()[:, 0].tolist() == [START] * len(FRENCH)
    used = np.count_nonzero(targets, axis=1)
    assert [row[n - 1] for row, n in zip(targets.numpy(), used, strict=True)] == [END] * len(FRENCH)
    np.testing.assert_array_equal(
        inputs["target_ids"].numpy()[:, 1:] * (targets.numpy()[:, 1:] != 0), _shifted(targets)
    )
    np.testing.assert_array_equal(weights, targets.numpy() != 0)
    assert targets.dtype == inputs["source_ids"].dtype == tf.int32 and weights.dtype == tf.float32


def _shifted(targets: tf.Tensor) -> np.ndarray:
    ids = targets.numpy()
    return np.where(ids[:, 1:] != 0, ids[:, :-1], 0)


def test_hostile_texts():
    preprocessor, _ = prepared([*ENGLISH, *HOSTILE], [*FRENCH, *HOSTILE], 500, 300)
    _, targets, _ = encoded(preprocessor, batch(HOSTILE, HOSTILE))
    assert [t.decode() for t in preprocessor.to_text(targets).numpy()] == HOSTILE
    strange, _ = prepared()
    mixed = [
        *HOSTILE,
        "x" * 10_000,
        "a b! " * 2_000,
        b"\xff\xfe broken \xc3",
        "nul\x00 tab\t line\n end",
        "\u2581 itself",
        "\U0001f600",
    ]
    inputs, targets, _ = encoded(strange, batch(mixed, mixed))
    assert inputs["source_ids"].shape[1] <= 60 and targets.shape[1] <= 60
    assert (inputs["source_ids"].numpy()[:, 0] != 0).all(), "no source is empty"
    back = [t.decode() for t in strange.to_text(targets).numpy()]
    assert back[0] == "" and back[1] == " " and back[-1] == "\ufffd"
    assert "\x00" not in back[-3] and "\n" not in back[-3]


def test_a_vocabulary_of_nothing():
    preprocessor, fixed = prepared([""], [""])
    assert preprocessor.target_vocabulary == (pieces.MARK,) and fixed["target_vocab_size"] == 5
    _, targets, _ = encoded(preprocessor, batch(["new"], ["new words"]))
    assert preprocessor.to_text(targets).numpy()[0].decode() == "\ufffd\ufffd\ufffd \ufffd\ufffd\ufffd\ufffd\ufffd"


def test_chunks_are_words_marks_and_digits():
    for text in [*FRENCH, *ENGLISH, *HOSTILE]:
        found = [c.decode() for c in pieces.chunks(tf.constant([text]))[0].numpy()]
        assert "".join(found) == pieces.MARK + text.replace(" ", pieces.MARK)
    (found,) = pieces.chunks(tf.constant(["L'été\u202f! Non : 19 l’a\u00a0?"])).to_list()
    mark = pieces.MARK
    assert [c.decode() for c in found] == [
        *(f"{mark}L'", "été", "\u202f!", f"{mark}Non", f"{mark}:", f"{mark}1", "9", f"{mark}l’", "a", "\u00a0?"),
    ]


def longest_first(chunk: str, known: list[str]) -> list[str]:
    found = []
    while chunk:
        piece = next((chunk[:n] for n in range(len(chunk), 0, -1) if chunk[:n] in known), None)
        found.append(piece or "?")
        chunk = chunk[len(piece or "?") :]
    return found


def test_pieces_are_the_longest_from_the_start():
    known = ["a", "b", "ab", "abc", "ca", "bcab", "é"]
    keys = tf.lookup.KeyValueTensorInitializer(tf.constant(known), tf.range(4, 11, dtype=tf.int64))
    table = tf.lookup.StaticHashTable(keys, 1)
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("abcéx"), rng.integers(1, 12))) for _ in range(200)] + known
    found = pieces.longest_pieces(tf.constant(texts), table).to_list()
    for text, numbers in zip(texts, found, strict=True):
        assert ["?" if n == 1 else known[n - 4] for n in numbers] == longest_first(text, known), text


def slow_pairs(words: dict[str, int], size: int) -> set[str]:
    """Pair joining as the paper's listing has it: counts anew after every join."""
    spelled = {word: list(word) for word in words}
    known = {c for word in words for c in word}
    while len(known) < size:
        counts: dict[tuple[str, str], int] = {}
        for word, spelling in spelled.items():
            for pair in itertools.pairwise(spelling):
                counts[pair] = counts.get(pair, 0) + words[word]
        best = min(counts, key=lambda pair: (-counts[pair], pair), default=None)
        if best is None or counts[best] < 2:
            break
        known.add("".join(best))
        for spelling in spelled.values():
            i = 0
            while i < len(spelling) - 1:
                if (spelling[i], spelling[i + 1]) == best:
                    spelling[i : i + 2] = ["".join(best)]
                i += 1
    return known


@pytest.mark.parametrize("size", [8, 20, 60, 500])
def test_pieces_are_learned_as_by_counting_anew(size):
    rng = np.random.default_rng(size)
    words = {
        pieces.MARK + "".join(rng.choice(list("abcd"), rng.integers(1, 9))): int(n) for n in rng.integers(2, 50, 80)
    }
    assert set(pieces.learn_pieces(words, size)) == slow_pairs(words, size)


def test_long_texts_are_cut_without_an_end():
    preprocessor, _ = prepared(max_length=5)
    inputs, targets, weights = encoded(preprocessor, batch(["Go. " * 9, "Go."], ["Va ! " * 9, "Va !"]))
    assert inputs["source_ids"].shape == inputs["target_ids"].shape == targets.shape == weights.shape == (2, 5)
    assert END not in targets.numpy()[0] and END in targets.numpy()[1]
    np.testing.assert_array_equal(inputs["target_ids"][0, 1:], targets[0, :-1])


def test_columns_of_padding_are_cut():
    preprocessor, _ = prepared()
    examples = batch(["Go.", "I'm 19, and you?"], ["Va !", "Va !"])
    inputs, targets, weights = encoded(preprocessor, examples)
    wide = {name: tf.pad(ids, [[0, 0], [0, 3]]) for name, ids in inputs.items()}
    more = [{"translation": tf.pad(t, [[0, 0], [0, 3]])} for t in (targets, weights)]
    trimmed, cut_targets, cut_weights = preprocessor.trim(wide, *more)
    cut = ((trimmed, inputs), (cut_targets["translation"], targets), (cut_weights["translation"], weights))
    for found, expected in cut:
        tf.nest.map_structure(np.testing.assert_array_equal, found, expected)


def test_the_same_from_files_and_from_its_config(tmp_path):
    preprocessor, _ = prepared()
    served, tables = preprocessor.for_export(tmp_path)
    again = TranslationPreprocessor(**preprocessor.config())
    assert served == preprocessor == again and len(tables) == 2
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == ["source_vocabulary.txt", "target_vocabulary.txt"]
    requests = {"text": tf.constant([*ENGLISH, *HOSTILE])}
    ids = tf.constant([[4, 5, 6, 1, 0, 0], [7, 9_999, -3, START, END, 8]])
    for other in (served, again):
        np.testing.assert_array_equal(
            other.serve(requests)[0]["source_ids"], preprocessor.serve(requests)[0]["source_ids"]
        )
        np.testing.assert_array_equal(other.to_text(ids), preprocessor.to_text(ids))
    sent = preprocessor.to_requests([{"text": b"Go.\x00"}, {"text": "\xe9"}])["text"]
    assert sent.dtype == object and sent.tolist() == [b"Go.\x00", b"\xc3\xa9"]


def test_a_traced_preprocessor_is_the_same():
    preprocessor, _ = prepared()
    texts = batch([*ENGLISH, *HOSTILE], [*ENGLISH, *HOSTILE])
    traced = tf.function(preprocessor.encode, input_signature=[{k: tf.TensorSpec([None], tf.string) for k in texts}])
    tf.nest.map_structure(np.testing.assert_array_equal, traced(texts), preprocessor.encode(texts))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"source_vocab_size": 3},
            "source_vocab_size is 3; expected a whole number of at least 8. Pass source_vocab_size=400",
        ),
        ({"target_vocab_size": "all"}, "target_vocab_size is 'all'; expected"),
        ({"max_length": True}, "max_length is True; expected a whole number of at least 3. Pass max_length=60"),
    ],
)
def test_a_wrong_size_is_answered(arguments, message):
    with pytest.raises(zoo.UsageError, match=message):
        TranslationPreprocessor.for_model(data_of(["a"], ["b"]), {"vocab_size": 400, "max_length": 60}, arguments)


def test_a_batch_that_is_no_text_is_answered():
    with pytest.raises(zoo.UsageError, match=r"A text batch is string of shape \(\); expected string \(batch,\)"):
        prepared()[0].serve({"text": tf.constant("Go.")})


# --- The report ------------------------------------------------------------------------------------------------------


def test_the_report_is_what_sacrebleu_says():
    sacrebleu = pytest.importorskip("sacrebleu")
    answers = ["Va !", "Ça alors !", "J'ai 18 ans et toi ?", "rien", "Arrête-toi !", "Je l'ai emporté.", "Œuvre, cœur "]
    report = translation_report(ENGLISH, FRENCH, answers, train_sources=["Go!", "Stop."], train_references=["A", "B"])
    assert report["bleu"] == pytest.approx(sacrebleu.corpus_bleu(answers, [FRENCH]).score)
    assert report["chrf"] == pytest.approx(sacrebleu.corpus_chrf(answers, [FRENCH]).score)
    assert report["exact_match"] == pytest.approx(1 / 7) and report["num_examples"] == 7
    nearest = nearest_answers(ENGLISH, ["Go!", "Stop."], ["A", "B"])
    assert nearest[0] == "A" and nearest[4] == "B"
    assert report["baseline"]["bleu"] == pytest.approx(sacrebleu.corpus_bleu(nearest, [FRENCH]).score)
    assert report["samples"][0] == {"source": "Go.", "reference": "Va !", "answer": "Va !"}
    assert "tok:13a" in report["signature"]
    assert summary(report).startswith(f"BLEU {report['bleu']:.1f}, chrF") and "nearest training sentence" in summary(
        report
    )


def test_right_answers_are_worth_a_hundred():
    pytest.importorskip("sacrebleu")
    report = translation_report(ENGLISH, FRENCH, FRENCH, train_sources=[], train_references=[], num_samples=0)
    assert report["bleu"] == pytest.approx(100) and report["chrf"] == pytest.approx(100)
    assert report["exact_match"] == 1 and report["baseline"] is None and report["samples"] == []
    assert "nearest" not in summary(report)


def test_the_nearest_sentence_is_the_first_of_the_nearest():
    known, said = ["I run.", "You eat.", "I run."], ["one", "two", "three"]
    assert nearest_answers(["I run!", "you ate", "?", ""], known, said)[:2] == ["one", "two"]
    assert nearest_answers(["Go."] * 600, known, said) == nearest_answers(["Go."], known, said) * 600, "chunk by chunk"
    assert nearest_answers(["a", "b"], ["", " "], ["x", "y"]) == ["x", "x"]


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        (([], [], [], [], []), "There is no translation to compare"),
        ((["a"], ["b"], [], [], []), "1 sources, 1 references and 0 answers came"),
        ((["a"], ["b"], ["c"], ["d"], []), "1 training sources and 0 references came"),
    ],
)
def test_lists_that_do_not_belong_together(lists, message):
    *three, known, said = lists
    with pytest.raises(zoo.UsageError, match=message):
        translation_report(*three, train_sources=known, train_references=said)


# --- All together ----------------------------------------------------------------------------------------------------


def reversals() -> tuple[list[str], list[str]]:
    """All sentences of one to three of six words, and the same backwards with French spacing."""
    words = ["red", "Green", "blue", "cat", "Dog", "l'owl"]
    told = [c for n in (1, 2, 3) for c in itertools.product(words, repeat=n)]
    return [" ".join(c) + "!" for c in told], [" ".join(reversed(c)) + "\u202f!" for c in told]


@pytest.mark.slow
@every_model
def test_a_trained_model_answers_texts_in_a_saved_model(name, tmp_path):
    texts, translations = reversals()
    preprocessor, sizes = TranslationPreprocessor.for_model(
        data_of(texts, translations), {"vocab_size": 60, "max_length": 12}, {}
    )
    keras.utils.set_random_seed(0)
    size = (
        {"feed_forward_dim": 64, "num_heads": 4, "num_layers": 1}
        if name == "seq2seq_transformer"
        else {"rnn_units": 48}
    )
    model = zoo.build(name, **sizes, embedding_dim=32, dropout=0.0, classifier_activation=None, **size)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=None)
    optimizer = keras.optimizers.Adam(3e-3)
    optimizer.build(model.trainable_variables)
    everything = tf.data.Dataset.from_tensor_slices(encoded(preprocessor, batch(texts, translations)))

    @tf.function
    def step(inputs, targets, weights):
        with tf.GradientTape() as tape:
            values = loss(targets, model(inputs, training=True)) * weights
            value = tf.reduce_sum(values) / tf.reduce_sum(weights)
        variables = model.trainable_variables
        gradients = [tf.convert_to_tensor(g) for g in tape.gradient(value, [v.value for v in variables])]
        optimizer.apply(gradients, variables)
        return value

    recent = 1.0
    for inputs in everything.shuffle(1000, seed=0).repeat().batch(64).take(2500):
        recent = 0.9 * recent + 0.1 * float(step(*inputs))
        if recent < 0.001:
            break
    assert recent < 0.01

    module = tf.Module()
    (tmp_path / "sources").mkdir()
    served, module.tables = preprocessor.for_export(tmp_path / "sources")
    rebuilt = type(model).from_config(model.get_config())
    rebuilt.set_weights(model.get_weights())
    module.weights = [v.value for v in rebuilt.variables]
    search = zoo.get_spec(name).functions["beam"](rebuilt)
    answer = tf.function(lambda text: {"text": served.to_text(search(*served.serve({"text": text}))["token_ids"])})
    traced = answer.get_concrete_function(text=tf.TensorSpec([None], tf.string))
    tf.saved_model.save(module, str(tmp_path / "1"), signatures={"serving_default": traced})
    again = tf.saved_model.load(str(tmp_path / "1")).signatures["serving_default"]
    found = [t.decode() for t in again(text=tf.constant(texts))["text"].numpy()]
    assert found == translations
    assert again(text=tf.constant(texts[7:8]))["text"].numpy()[0].decode() == translations[7]
    assert again(text=tf.constant(["", "\U0001f600", "x" * 10_000]))["text"].shape == (3,)
