"""Sequence to sequence: the arithmetic of the models compared with NumPy and PyTorch."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import zoo
from numpy_layers import dense, f64, norm, numpy_attention, numpy_encoder_block, numpy_gru, numpy_positions, softmax
from seq2seq_models import every_model, some_sources, unpadded, wild
from zoo.layers import blocks, decoder

# --- The arithmetic --------------------------------------------------------------------------------------------------


def decoder_block(x: np.ndarray, memory: np.ndarray, block, memory_mask: np.ndarray) -> np.ndarray:
    steps = x.shape[1]
    causal = np.broadcast_to(np.tril(np.ones((steps, steps), bool)), (len(x), steps, steps))
    readable = np.broadcast_to(memory_mask[:, None], (len(x), steps, memory.shape[1]))
    x = norm(x + numpy_attention(block.self_attention, x, x, causal), block.norm_1)
    x = norm(x + numpy_attention(block.source_attention, x, memory, readable), block.norm_2)
    return norm(x + dense(np.maximum(dense(x, block.inner), 0), block.outer), block.norm_3)


def numpy_transformer(model: keras.Model, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    layer = model.get_layer
    mask, (table, bias) = source != 0, f64(layer("target_embedding"))
    dim = table.shape[1]
    memory = f64(layer("source_embedding"))[0][source] * np.sqrt(dim) + numpy_positions(source.shape[1], dim)
    x = table[target] * np.sqrt(dim) + numpy_positions(target.shape[1], dim)
    for block in blocks.numbered(model, "encoder"):
        memory = numpy_encoder_block(memory, mask, block)
    for block in blocks.numbered(model, "decoder"):
        x = decoder_block(x, memory, block, mask)
    return softmax(x @ table.T + bias)


def numpy_rnn(model: keras.Model, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Processes every row separately and without its padding."""
    layer, rows = model.get_layer, []
    table, bias = f64(layer("target_embedding"))
    for ids, words in zip(source, target, strict=True):
        memory = f64(layer("source_embedding"))[0][unpadded(ids)[0]]
        states = []
        for encoder, bridge in zip(blocks.numbered(model, "encoder"), blocks.numbered(model, "bridge"), strict=True):
            w = f64(encoder)
            forth, back = numpy_gru(memory, *w[:3]), numpy_gru(memory[::-1], *w[3:])
            states.append(np.tanh(dense(np.concatenate([forth[-1], back[-1]]), bridge)))
            memory = np.concatenate([forth, back[::-1]], -1)
        x = table[words]
        for cell, state in zip(blocks.numbered(model, "decoder"), states, strict=True):
            x = numpy_gru(x, *f64(cell), state)
        read = softmax(dense(x, layer("query")) @ memory.T) @ memory
        rows.append(np.tanh(dense(np.concatenate([x, read], -1), layer("combined"))))
    return softmax(np.stack(rows) @ table.T + bias)


@every_model
@pytest.mark.parametrize("num_layers", [1, 2])
def test_models_equal_numpy(name, num_layers):
    model = wild(name, num_layers=num_layers)
    source, target = some_sources(), np.random.default_rng(1).integers(1, 11, (6, 5)).astype(np.int32)
    expected = {"seq2seq_transformer": numpy_transformer, "seq2seq_rnn": numpy_rnn}[name](model, source, target)
    np.testing.assert_allclose(np.asarray(model([source, target])), expected, atol=1e-5)


def test_decoder_gru_equals_torch():
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


def test_parameter_counts_equal_the_formulas():
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
def test_outputs_do_not_depend_on_later_steps(name):
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
def test_padding_does_not_change_the_outputs(name):
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
def test_outputs_depend_on_the_source(name):
    model, target = wild(name), np.full((1, 3), 4, np.int32)
    ids = np.array([[4, 5, 6, 7, 8]], np.int32)
    one, reversed_one, other = (np.asarray(model([s, target])) for s in (ids, ids[:, ::-1], ids + 1))
    assert np.abs(one - other).max() > 1e-4
    assert np.abs(one - reversed_one).max() > 1e-4, "and so does their order"


# --- Configuration and messages --------------------------------------------------------------------------------------


def test_the_embedding_is_restored_from_its_config():
    layer = decoder.TiedEmbedding(9, 4, 5)
    assert type(layer).from_config(layer.get_config()).get_config() == layer.get_config()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: zoo.build("seq2seq_rnn", source_vocab_size=9, target_vocab_size=9, rnn_units=7), "two directions"),
        (
            lambda: zoo.build("seq2seq_transformer", source_vocab_size=9, target_vocab_size=9, num_heads=7),
            "embedding_dim=256 is not divisible by num_heads=7",
        ),
        (
            lambda: zoo.build("seq2seq_rnn", source_vocab_size=9, target_vocab_size=9, classifier_activation="relu"),
            "Pass 'softmax' for probabilities, or None for logits",
        ),
        (lambda: blocks.numbered(wild("seq2seq_rnn"), "block"), "has no layer block_1. Pass a model"),
    ],
)
def test_invalid_arguments_are_rejected(call, message):
    with pytest.raises(zoo.UsageError, match=message):
        call()
