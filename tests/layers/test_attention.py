"""The attention layer and the Transformer block compared with NumPy, PyTorch and Keras, whole and step by step."""

from __future__ import annotations

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from numpy_layers import numpy_attention
from selection import slow
from zoo.layers import decoding
from zoo.layers.activations import ACTIVATIONS
from zoo.layers.attention import KERNELS, Attention, TransformerBlock

BATCH, STEPS, MEMORY, DIM, HEADS, INNER = 3, 5, 7, 8, 2, 11
every_form = pytest.mark.parametrize("kernels", KERNELS)
ACROSS = ("separate", "per_head")


def quick(*chosen: tuple):
    """Returns a function that marks the parameters of a test as slow, except the chosen combinations."""
    return lambda *values: pytest.param(*values, marks=[] if values in chosen else [pytest.mark.slow])


_activation = quick(("joined", "relu"), ("separate", "gelu"), ("per_head", "gelu_tanh"))
every_form_and_activation = pytest.mark.parametrize(
    ("kernels", "activation"), [_activation(k, a) for k in KERNELS for a in ("relu", "gelu", "gelu_tanh")]
)


def some(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def lengths(steps: int, *real: int) -> np.ndarray:
    return np.arange(steps) < np.array(real)[:, None]


X, MEMORY_X = some(BATCH, STEPS, DIM, seed=1), some(BATCH, MEMORY, DIM, seed=2)
MASK, MEMORY_MASK = lengths(STEPS, 5, 3, 1), lengths(MEMORY, 4, 7, 1)


def wild(layer: keras.layers.Layer, *shapes: tuple) -> keras.layers.Layer:
    """Returns the built layer with large random weights: no bias is 0 and no scale is 1."""
    layer.build(*(shapes or ((None, None, DIM),)))
    for i, weight in enumerate(layer.trainable_weights):
        weight.assign(some(*weight.shape, seed=10 + i) * 0.5 + (weight.name == "gamma"))
    return layer


def attention(**options) -> Attention:
    return wild(Attention(HEADS, dtype="float64", **options))


def block(**options) -> TransformerBlock:
    return wild(TransformerBlock(HEADS, INNER, **{"dropout": 0.0, "dtype": "float64", **options}))


# --- Comparison with NumPy -------------------------------------------------------------------------------------------


@every_form
@pytest.mark.parametrize("head_dim", [None, 3])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_self_attention_equals_numpy(kernels, head_dim, causal, training):
    layer = attention(kernels=kernels, head_dim=head_dim, causal=causal)
    readable = np.broadcast_to(MASK[:, None], (BATCH, STEPS, STEPS))
    readable = readable & np.tril(np.ones((STEPS, STEPS), bool)) if causal else readable
    expected = numpy_attention(layer, X, X, readable)
    for mask in (MASK, MASK.astype(np.int32)):
        np.testing.assert_allclose(layer(X, key_mask=tf.constant(mask), training=training), expected, atol=1e-12)


@pytest.mark.parametrize("kernels", ACROSS)
@pytest.mark.parametrize("head_dim", [None, 3])
def test_cross_attention_equals_numpy(kernels, head_dim):
    """The memory may have another number of channels than the queries."""
    memory = some(BATCH, MEMORY, 6, seed=3)
    layer = wild(Attention(HEADS, head_dim, kernels=kernels, dtype="float64"), X.shape, memory.shape)
    expected = numpy_attention(layer, X, memory, np.broadcast_to(MEMORY_MASK[:, None], (BATCH, STEPS, MEMORY)))
    found = layer(X, layer.keys_values(tf.constant(memory)), key_mask=tf.constant(MEMORY_MASK))
    np.testing.assert_allclose(found, expected, atol=1e-12)


# --- Comparison with PyTorch, including every gradient ---------------------------------------------------------------


def turned(layer, value) -> dict[str, np.ndarray]:
    """Returns PyTorch's weight and bias of a dense layer or norm; `value` gets a variable's value or gradient."""
    if hasattr(layer, "gamma"):
        return {"weight": value(layer.gamma), "bias": value(layer.beta)}
    kernel = value(layer.kernel)
    found = {"weight": kernel.reshape(-1, kernel.shape[-1]).T}
    return found if layer.bias is None else {**found, "bias": value(layer.bias)}


def attention_in_torch(owner, value) -> dict[str, np.ndarray]:
    if owner.kernels == "joined" and hasattr(owner, "query_key_value"):
        inside, out = turned(owner.query_key_value, value), owner.attention_output
    else:
        made = []
        for part in (owner.query_dense, owner.key_dense, owner.value_dense):
            kernel = value(part.kernel)
            made.append({"weight": kernel.reshape(len(kernel), -1).T})
            made[-1] |= {} if part.bias is None else {"bias": value(part.bias).reshape(-1)}
        inside, out = {k: np.concatenate([m[k] for m in made]) for k in made[0]}, owner.output_dense
    found = {f"in_proj_{k}": v for k, v in inside.items()}
    return found | {f"out_proj.{k}": v for k, v in turned(out, value).items()}


def block_in_torch(layer: TransformerBlock, value) -> dict[str, np.ndarray]:
    if layer.cross_attention:
        parts = {"self_attn": layer.self_attention, "multihead_attn": layer.source_attention}
        norms = (layer.norm_1, layer.norm_2, layer.norm_3)
    else:
        parts = {"self_attn": layer if layer.kernels == "joined" else layer.attention}
        norms = (layer.attention_norm, layer.feed_forward_norm)
    found = {f"{name}.{k}": v for name, part in parts.items() for k, v in attention_in_torch(part, value).items()}
    dense = {"linear1": layer.inner, "linear2": layer.outer, **{f"norm{i}": norm for i, norm in enumerate(norms, 1)}}
    return found | {f"{name}.{k}": v for name, part in dense.items() for k, v in turned(part, value).items()}


def check_against_torch(layer, in_torch, theirs, call, call_theirs, *arrays: np.ndarray, real=None) -> None:
    """Compares the outputs at real steps, and the gradients of a scalar function of them for inputs and weights."""
    import torch

    state = {k: torch.tensor(v) for k, v in in_torch(layer, lambda v: np.asarray(v)).items()}
    theirs.load_state_dict(state)
    real = np.ones(X.shape[:2], bool) if real is None else real
    ours, inputs = [tf.constant(a) for a in arrays], [torch.tensor(a, requires_grad=True) for a in arrays]
    with tf.GradientTape() as tape:
        tape.watch(ours)
        outputs = call(*ours)
        total = tf.reduce_sum(tf.boolean_mask(tf.sin(outputs) * outputs, real))
    expected = call_theirs(*inputs)
    ((torch.sin(expected) * expected)[torch.tensor(real)]).sum().backward()
    np.testing.assert_allclose(outputs.numpy()[real], expected.detach().numpy()[real], atol=1e-11)
    variables = layer.trainable_variables
    found = tape.gradient(total, [*ours, *(v.value for v in variables)])
    by_variable = {id(v): np.asarray(g) for v, g in zip(variables, found[len(ours) :], strict=True)}
    for gradient, source in zip(found, inputs, strict=False):
        np.testing.assert_allclose(gradient, source.grad.numpy(), atol=1e-10)
    gradients = in_torch(layer, lambda v: by_variable[id(v)])
    assert set(gradients) == {name for name, _ in theirs.named_parameters()}
    for name, parameter in theirs.named_parameters():
        np.testing.assert_allclose(gradients[name], parameter.grad.numpy(), atol=1e-10, err_msg=name)


def upper(torch):
    return torch.triu(torch.ones(STEPS, STEPS, dtype=torch.bool), 1)


_without_bias = quick(("joined", "all", False), ("separate", "cross", False), ("per_head", "causal", False))
CASES = ("all", "padded", "causal", "cross")


@pytest.mark.parametrize(
    ("kernels", "case", "use_bias"),
    [(k, c, True) for k in KERNELS for c in CASES] + [_without_bias(k, c, False) for k in KERNELS for c in CASES],
)
def test_attention_equals_torch(kernels, case, use_bias):
    torch = pytest.importorskip("torch")
    if case == "cross" and kernels == "joined":
        pytest.skip("one product reads one sequence")
    layer = attention(kernels=kernels, causal=case == "causal", use_bias=use_bias)
    theirs = torch.nn.MultiheadAttention(DIM, HEADS, bias=use_bias, batch_first=True, dtype=torch.float64)
    mask = {"padded": MASK, "cross": MEMORY_MASK}.get(case)
    padded = None if mask is None else torch.tensor(~mask)
    given = {"key_mask": None if mask is None else tf.constant(mask), "training": True}
    wall = upper(torch) if case == "causal" else None
    if case == "cross":
        check_against_torch(
            layer,
            attention_in_torch,
            theirs,
            lambda x, m: layer(x, layer.keys_values(m), **given),
            lambda x, m: theirs(x, m, m, key_padding_mask=padded)[0],
            *(X, MEMORY_X),
        )
    else:
        check_against_torch(
            layer,
            attention_in_torch,
            theirs,
            lambda x: layer(x, **given),
            lambda x: theirs(x, x, x, key_padding_mask=padded, attn_mask=wall)[0],
            X,
        )


def activations(torch):
    gelu = torch.nn.functional.gelu
    return {"relu": torch.relu, "gelu": gelu, "gelu_tanh": functools.partial(gelu, approximate="tanh")}


@every_form_and_activation
@pytest.mark.parametrize(
    ("pre_norm", "causal"),
    [(False, False), (True, True), slow(True, False), slow(False, True)],
    ids=["post", "pre-causal", "pre", "post-causal"],
)
def test_an_encoder_block_equals_torch(kernels, pre_norm, activation, causal):
    torch = pytest.importorskip("torch")
    layer = block(kernels=kernels, pre_norm=pre_norm, activation=activation, causal=causal)
    theirs = torch.nn.TransformerEncoderLayer(
        *(DIM, HEADS, INNER),
        dropout=0.0,
        activation=activations(torch)[activation],
        batch_first=True,
        norm_first=pre_norm,
        dtype=torch.float64,
    )
    padded, wall = torch.tensor(~MASK), upper(torch) if causal else None
    check_against_torch(
        layer,
        block_in_torch,
        theirs,
        lambda x: layer(x, inputs_mask=tf.constant(MASK), training=True),
        lambda x: theirs(x, src_mask=wall, src_key_padding_mask=padded),
        X,
        real=MASK,
    )


@every_form_and_activation
@pytest.mark.parametrize("pre_norm", [False, True], ids=["post", "pre"])
def test_a_decoder_block_equals_torch(kernels, pre_norm, activation):
    torch = pytest.importorskip("torch")
    options = {"pre_norm": pre_norm, "activation": activation, "causal": True, "cross_attention": True}
    layer = block(kernels=kernels, **options)
    theirs = torch.nn.TransformerDecoderLayer(
        *(DIM, HEADS, INNER),
        dropout=0.0,
        activation=activations(torch)[activation],
        batch_first=True,
        norm_first=pre_norm,
        dtype=torch.float64,
    )
    ours = {"inputs_mask": tf.constant(MASK), "memory_mask": tf.constant(MEMORY_MASK), "training": True}
    given = {"tgt_key_padding_mask": torch.tensor(~MASK), "memory_key_padding_mask": torch.tensor(~MEMORY_MASK)}
    check_against_torch(
        layer,
        block_in_torch,
        theirs,
        lambda x, m: layer(x, m, **ours),
        lambda x, m: theirs(x, m, tgt_mask=upper(torch), **given),
        *(X, MEMORY_X),
        real=MASK,
    )


@pytest.mark.parametrize("training", [False, True])
def test_an_encoder_block_equals_a_block_with_keras_attention(training):
    """The block stores its weights in the layout of Keras's attention layer, which therefore defines their meaning."""
    layer = block(kernels="per_head")
    theirs = keras.layers.MultiHeadAttention(HEADS, DIM // HEADS, dtype="float64")
    theirs.build(X.shape, X.shape)
    theirs.set_weights(layer.attention.get_weights())
    middle = layer.attention_norm(X + theirs(X, X, attention_mask=MASK[:, None, :], training=training))
    expected = layer.feed_forward_norm(middle + layer.outer(tf.nn.relu(layer.inner(middle))))
    np.testing.assert_allclose(layer(X, mask=tf.constant(MASK), training=training), expected, atol=1e-12)


# --- Step by step ----------------------------------------------------------------------------------------------------


@every_form
@pytest.mark.parametrize("pre_norm", [False, True], ids=["post", "pre"])
@pytest.mark.parametrize("across", [False, True], ids=["self", "cross"])
@pytest.mark.parametrize("sizes", [*map(quick(((1, 1, 3),)), [(1, 1, 3), (1, 1, 1, 1, 1), (2, 3)])], ids=str)
def test_cached_steps_equal_the_whole_pass(kernels, pre_norm, across, sizes):
    """Uses left padding, as in prompts of different lengths, and several steps per call."""
    options = {"activation": "gelu_tanh", "causal": True, "cross_attention": across, "head_dim": 3}
    layer, mask = block(kernels=kernels, pre_norm=pre_norm, **options), MASK[:, ::-1]
    if across:
        memory = tf.constant(MEMORY_X)
        once = {"source": layer.source(memory), "memory_mask": tf.constant(MEMORY_MASK)}
        expected = layer(X, memory, inputs_mask=tf.constant(mask), memory_mask=tf.constant(MEMORY_MASK))
    else:
        once, expected = {}, layer(X, inputs_mask=tf.constant(mask))
    cache, found, end = layer.empty_cache(BATCH), [], 0
    for size in sizes:
        start, end = end, end + size
        part, cache = layer(X[:, start:end], inputs_mask=tf.constant(mask[:, :end]), cache=cache, **once)
        found.append(part)
        assert [t.shape for t in cache] == [(BATCH, HEADS, end, 3)] * 2
    np.testing.assert_allclose(tf.concat(found, 1).numpy()[mask], expected.numpy()[mask], atol=1e-12)


def test_causal_outputs_do_not_depend_on_later_steps():
    layer = block(causal=True)
    before = layer(X).numpy()
    for step in range(1, STEPS):
        changed = X.copy()
        changed[:, step:] += 1
        after = layer(changed).numpy()
        np.testing.assert_array_equal(after[:, :step], before[:, :step])
        assert (after[:, step:] != before[:, step:]).all()


class Prompted:
    """A causal stepper with two pre-norm blocks after an embedding; reads a prompt without its last id in one call."""

    max_length, input_name, vocab = 6, "prompt_ids", 9

    def __init__(self) -> None:
        options = {"causal": True, "pre_norm": True, "activation": "gelu_tanh", "kernels": "joined"}
        self.table, self.places = tf.constant(some(self.vocab, DIM)), tf.constant(some(20, DIM, seed=5))
        self.blocks = [block(**options), block(**options)]

    def __call__(self, ids, caches, place):
        x, kept = tf.gather(self.table, ids) + self.places[place : place + tf.shape(ids)[1]], []
        for layer, cache in zip(self.blocks, caches, strict=True):
            x, cache = layer(x, cache=cache)
            kept.append(cache)
        return tf.matmul(x, self.table, transpose_b=True), kept

    def start(self, inputs):
        _, caches = self(inputs[:, :-1], [layer.empty_cache(tf.shape(inputs)[0]) for layer in self.blocks], 0)
        return inputs[:, -1], caches, tf.fill([tf.shape(inputs)[0]], tf.shape(inputs)[1] - 1)

    def step(self, ids, position, state, context):
        logits, state = self(ids[:, None], state, context[0] + position)
        return logits[:, 0], state


def test_a_causal_decoder_continues_a_prompt():
    """By greedy search, and by beam search of width 1."""
    model = Prompted()
    prompts = np.random.default_rng(0).integers(4, model.vocab, (4, 5)).astype(np.int32)
    found = decoding.greedy(model)({"prompt_ids": tf.constant(prompts)})
    beam = decoding.beam(model, width=1)({"prompt_ids": tf.constant(prompts)})
    np.testing.assert_array_equal(beam["token_ids"], found["token_ids"])
    np.testing.assert_allclose(beam["score"], found["score"], atol=1e-6)

    @tf.function(input_signature=[tf.TensorSpec([1, None], tf.int32)], autograph=False)
    def whole(ids):
        x = tf.gather(model.table, ids) + model.places[: tf.shape(ids)[1]]
        for layer in model.blocks:
            x = layer(x)
        return tf.nn.log_softmax(tf.matmul(x, model.table, transpose_b=True)[0, -1])

    for prompt, answer, score in zip(prompts, found["token_ids"].numpy(), found["score"].numpy(), strict=True):
        ids, total = list(prompt), 0.0
        while len(ids) < 11 and ids[-1] != decoding.END:
            likely = whole(np.array([ids], np.int32)).numpy()
            ids.append(int(likely[decoding.END :].argmax()) + decoding.END)
            total += likely[ids[-1]]
        answered = [i for i in ids[5:] if i != decoding.END]
        assert answer.tolist() == answered + [0] * (6 - len(answered))
        assert score == pytest.approx(total / ((5 + len(ids) - 5) / 6) ** 0.6, abs=1e-5)
    assert len({tuple(row) for row in found["token_ids"].numpy()}) > 1


# --- Other behaviour -------------------------------------------------------------------------------------------------


@every_form
def test_attention_dropout_is_active_only_in_training(kernels):
    layer = attention(kernels=kernels, dropout=0.5)
    assert (layer(X, training=True).numpy() != layer(X, training=True).numpy()).any()
    np.testing.assert_array_equal(layer(X, training=False), layer(X, training=False))
    without = attention(kernels=kernels)
    np.testing.assert_array_equal(layer(X, training=False), without(X))
    many = layer(np.tile(X, (1000, 1, 1)), training=True).numpy().reshape(1000, *X.shape)
    # Kept values are scaled up to replace the dropped ones.
    np.testing.assert_allclose(many.mean(axis=0), without(X), atol=0.4)


_half = quick(("separate", "mixed_float16"), *((kernels, "mixed_bfloat16") for kernels in KERNELS))


@pytest.mark.parametrize(
    ("kernels", "policy"), [_half(k, policy) for k in KERNELS for policy in ("mixed_bfloat16", "mixed_float16")]
)
def test_half_precision_is_close_whole_and_step_by_step(kernels, policy):
    options = {"causal": True, "cross_attention": True, "kernels": kernels}
    layer, exact = block(dtype=policy, **options), block(**options)
    dtype = keras.DTypePolicy(policy).compute_dtype
    memory = tf.cast(MEMORY_X, dtype)
    whole, cache, source = layer(X, memory, training=True), layer.empty_cache(BATCH), layer.source(memory)
    assert whole.dtype == dtype and {v.dtype for v in layer.trainable_weights} == {
        keras.DTypePolicy(policy).variable_dtype
    }
    np.testing.assert_allclose(tf.cast(whole, tf.float64), exact(X, MEMORY_X), atol=0.15)
    for step in range(2):
        part, cache = layer(tf.cast(X[:, step : step + 1], dtype), source=source, cache=cache)
        assert part.dtype == cache[0].dtype == dtype
        np.testing.assert_allclose(*(tf.cast(t, tf.float64) for t in (part[:, 0], whole[:, step])), atol=0.15)


_restored = quick(("joined", False), ("separate", True), ("per_head", False))


@pytest.mark.parametrize(("kernels", "across"), [_restored(k, across) for k in KERNELS for across in (False, True)])
def test_blocks_are_restored_from_a_model_file(kernels, across, tmp_path):
    """Keras's masks of the inputs and of the memory reach the blocks."""
    keras.utils.set_random_seed(0)
    ids, others = keras.Input((None,), dtype="int32"), keras.Input((None,), dtype="int32")
    x, memory = (keras.layers.Embedding(9, DIM, mask_zero=True)(i) for i in (ids, others))
    options = {"activation": "gelu", "attention_dropout": 0.2, "pre_norm": True, "kernel_initializer": "he_normal"}
    layer = TransformerBlock(HEADS, INNER, kernels=kernels, cross_attention=across, **options)
    model = keras.Model([ids, others], layer(x, memory) if across else layer(x))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.layers[-1].get_config() == layer.get_config()
    given = [np.array([[1, 2, 3, 0, 0]]), np.array([[4, 5, 0, 0]])]
    np.testing.assert_array_equal(again(given), model(given))
    shorter = model([given[0][:, :3], given[1][:, :2]])
    np.testing.assert_allclose(model(given)[:, :3], shorter, atol=1e-5)


def test_kernels_have_different_initial_values():
    one = keras.initializers.HeNormal()
    for layer in (Attention(HEADS), Attention(HEADS, kernels="per_head", kernel_initializer=one)):
        layer.build((None, None, DIM))
        first, *others = (np.asarray(w).ravel() for w in layer.weights if w.name == "kernel")
        assert all((first != other).any() for other in others)


def test_activations_equal_those_of_keras():
    x = np.linspace(-6, 6, 101)
    gelu = keras.activations.gelu
    theirs = {"gelu": gelu, "gelu_tanh": functools.partial(gelu, approximate=True)}
    for name, function in ACTIVATIONS.items():
        expected = theirs.get(name, getattr(keras.activations, name, None))(tf.constant(x))
        # Keras stores its constants in float32.
        np.testing.assert_allclose(function(tf.constant(x)), expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: Attention(3).build((None, None, 8)),
            "channels=8 is not divisible by num_heads=3. Pass a multiple of 3.",
        ),
        (lambda: Attention(0), "num_heads is 0; expected"),
        (lambda: Attention(2, head_dim=0), "head_dim is 0; expected"),
        (lambda: Attention(2, dropout=1.0), "dropout is 1.0; expected a fraction"),
        (lambda: Attention(2, kernels="join"), "kernels is 'join'. Did you mean 'joined'"),
        (lambda: attention(kernels="joined").keys_values(X), "Pass kernels='separate'"),
        (lambda: TransformerBlock(2, 0), "feed_forward_dim is 0; expected"),
        (lambda: TransformerBlock(2, 8, activation="gelo"), "activation is 'gelo'. Did you mean 'gelu'"),
        (lambda: block(cross_attention=True)(X), "has cross_attention; received no memory"),
        (lambda: block()(X, MEMORY_X), "has no cross_attention; received a memory"),
    ],
)
def test_invalid_arguments_are_rejected(call, message):
    with pytest.raises(zoo.UsageError, match=message):
        call()
