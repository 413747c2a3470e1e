"""The BERT model: sizes, parameters, padding, features, dropout and messages."""

from __future__ import annotations

import types

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from small_bert import SMALL
from zoo.checkpoints.bert_folder import save_folder
from zoo.export.graph import signatures
from zoo.layers import dot_product
from zoo.models.bert import build_bert_tiny_model, make_features


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A model and its folder; tests must not change them."""
    keras.utils.set_random_seed(2)
    model = zoo.build("bert", vocab_size=20, num_classes=3, **SMALL)
    return model, save_folder(model, tmp_path_factory.mktemp("small") / "model", labels=["x", "y", "z"])


# --- Sizes ------------------------------------------------------------------------------------------------------------


def parameters_of(
    vocab_size, num_classes, hidden_size, num_layers, intermediate_size, max_length=512, type_vocab_size=2
):
    """Three tables and a norm; per block four projections, two dense layers and two norms; pooler and classifier."""
    h, i = hidden_size, intermediate_size
    block = 4 * (h * h + h) + h * i + i + i * h + h + 2 * 2 * h
    return (vocab_size + max_length + type_vocab_size + 2) * h + num_layers * block + h * h + h + (h + 1) * num_classes


SIZES = {
    "tiny": (2, 128),
    "mini": (4, 256),
    "small": (4, 512),
    "medium": (8, 512),
    "base": (12, 768),
    "large": (24, 1024),
}


@pytest.mark.parametrize("size", SIZES)
def test_named_sizes_equal_the_papers(size):
    layers, hidden = SIZES[size]
    spec = zoo.get_spec(f"bert_{size}")
    default = {name: parameter.default for name, parameter in spec.parameters.items()}
    assert (default["num_layers"], default["hidden_size"]) == (layers, hidden)
    assert default["num_heads"] == hidden // 64 and default["intermediate_size"] == 4 * hidden
    ((arguments, count),) = spec.golden
    assert count == parameters_of(**arguments, hidden_size=hidden, num_layers=layers, intermediate_size=4 * hidden)
    assert spec.variant_of == "bert" and spec.tasks == zoo.get_spec("bert").tasks
    assert f"bert_{size}" in zoo.list_models() and f"bert_{size}" not in zoo.list_models(variants=False)


@pytest.mark.parametrize(
    "size", [s if s in ("tiny", "mini") else pytest.param(s, marks=pytest.mark.slow) for s in SIZES]
)
def test_named_sizes_have_the_parameter_counts_of_their_specs(size):
    ((arguments, count),) = zoo.get_spec(f"bert_{size}").golden
    model = zoo.build(f"bert_{size}", **arguments)
    assert model.count_params() == count
    assert zoo.registry.describe_build(model)["name"] == f"bert_{size}"
    assert zoo.registry.describe_build(model)["arguments"]["hidden_size"] == SIZES[size][1]


def test_base_uncased_has_the_parameter_count_of_transformers():
    assert parameters_of(30_522, 2, 768, 12, 3072) == zoo.get_spec("bert").golden[0][1] == 109_483_778


def test_initial_weights_follow_the_paper():
    model = build_bert_tiny_model(vocab_size=2000, num_classes=2)
    for weight in model.weights:
        values = np.asarray(weight)
        if values.ndim == 2 and values.size > 1000:
            assert 0.016 < values.std() < 0.019 and np.abs(values).max() <= 0.04, weight.path  # truncated at twice 0.02
        elif values.ndim == 1:
            assert (values == (1 if weight.path.endswith("gamma") else 0)).all(), weight.path


# --- The model --------------------------------------------------------------------------------------------------------


def test_padding_has_no_effect_and_both_features_equal_numpy(small):
    model, _ = small
    features = make_features(model)
    rng = np.random.default_rng(0)
    ids = rng.integers(1, 20, (2, 9)).astype(np.int32)
    mask = (np.arange(9) < np.array([[9], [4]])).astype(np.int32)
    found = features({"token_ids": ids, "token_type_ids": ids % 2, "padding_mask": mask}, {})
    states = keras.Model(model.inputs, model.get_layer("first_token").input)([ids, ids % 2, mask])
    for row, length in enumerate((9, 4)):
        mean = np.asarray(states)[row, :length].mean(0)
        np.testing.assert_allclose(found["mean_pooled"][row], mean, atol=1e-5)
    alone = {"token_ids": ids[1:, :4], "token_type_ids": ids[1:, :4] % 2, "padding_mask": mask[1:, :4]}
    for name, value in features(alone, {}).items():
        np.testing.assert_allclose(found[name][1:], value, atol=1e-5)
    other = np.where(mask == 1, ids, 7)
    for name, value in features(
        {"token_ids": other, "token_type_ids": mask * (ids % 2), "padding_mask": mask}, {}
    ).items():
        np.testing.assert_allclose(found[name], value, atol=1e-5)
    pooled = keras.Model(model.inputs, model.get_layer("pooled").output)([ids, ids % 2, mask])
    np.testing.assert_array_equal(found["pooled"], pooled)


def test_exported_models_return_both_features(small):
    model, _ = small
    found = signatures.heads(model, types.SimpleNamespace(spec=zoo.get_spec("bert")))
    ones = {name: tf.ones((2, 5), tf.int32) for name in ("token_ids", "token_type_ids", "padding_mask")}
    assert {k: v.shape for k, v in found["features"](ones, {}).items()} == {"pooled": (2, 8), "mean_pooled": (2, 8)}
    assert {k: v.shape for k, v in found["predict"](ones, {}).items()} == {"probabilities": (2, 3)}


def test_features_are_full_precision_under_a_mixed_policy():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = zoo.build("bert", **zoo.get_spec("bert").tiny)
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.get_layer("block_1").query_key_value.compute_dtype == "bfloat16"
    ones = np.ones((2, 5), np.int32)
    found = make_features(model)({"token_ids": ones, "token_type_ids": ones, "padding_mask": ones}, {})
    assert {value.dtype for value in found.values()} == {tf.float32}


def test_dropout_of_attention_weights_has_the_correct_gradient():
    rng = np.random.default_rng(0)
    q, k, v = (tf.constant(rng.normal(size=(2, 3, 5, 4)), tf.float64) for _ in range(3))
    kept = tf.constant(rng.integers(0, 2, (2, 3, 5, 5)) * 2.0, tf.float64)
    reachable = tf.constant(np.arange(5) < np.array([[5], [3]]))[:, None, None, :]
    weigh = tf.constant(rng.normal(size=(2, 3, 5, 4)), tf.float64)

    def gradients(training):
        with tf.GradientTape() as tape:
            tape.watch([q, k, v])
            value = tf.reduce_sum(dot_product.attend(q, k, v, reachable, training, kept) * weigh)
        return value, tape.gradient(value, [q, k, v])

    (by_hand, d_by_hand), (plain, d_plain) = gradients(True), gradients(False)
    np.testing.assert_allclose(by_hand, plain, atol=1e-12)
    for ours, theirs in zip(d_by_hand, d_plain, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-12)
    without = dot_product.attend(q, k, v, reachable, True)
    assert (np.abs(without - dot_product.attend(q, k, v, reachable, True, kept)) > 1e-3).any()


def test_attention_dropout_is_active_only_in_training():
    arguments = {**zoo.get_spec("bert").tiny, "attention_dropout": 0.5}
    model = zoo.build("bert", **arguments)
    for weight in model.weights:
        weight.assign_add(np.random.default_rng(1).normal(size=weight.shape))
    ids = np.random.default_rng(2).integers(1, 3, (4, 7)).astype(np.int32)
    first, second = (np.asarray(model([ids, ids, ids], training=True)) for _ in range(2))
    assert (first != second).any()
    np.testing.assert_array_equal(model([ids, ids, ids], training=False), model([ids, ids, ids], training=False))


def test_messages_name_invalid_arguments():
    tiny = zoo.get_spec("bert").tiny
    for changes, message in (
        ({"num_heads": 4}, r"hidden_size=6 is not divisible by num_heads=4"),
        ({"activation": "gelo"}, r"activation is 'gelo'\. Did you mean 'gelu'"),
        ({"dropout": 1.0}, r"dropout is 1.0; expected a fraction"),
        ({"classifier_dropout": -1}, r"classifier_dropout is -1; expected a fraction"),
        ({"attention_dropout": "x"}, r"attention_dropout is 'x'; expected a fraction"),
        ({"weights": "nowhere"}, r"There is no folder 'nowhere'\. Pass a folder with config"),
    ):
        with pytest.raises(zoo.UsageError, match=message):
            zoo.build("bert", **{**tiny, **changes})
