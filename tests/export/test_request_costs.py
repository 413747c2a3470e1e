"""What a request may cost: numbers of tokens, pixels and rows that the graph computes are bounded or linear in its bytes."""

from __future__ import annotations

import types

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from zoo import registry, tasks
from zoo.datasets.preprocessing.images import ImagePreprocessor
from zoo.errors import one_line
from zoo.export.graph import request_checks, signatures

RECIPES = {  # a model and data for every task
    "image_classification": ("mlp", "digits"),
    "text_classification": ("transformer", "commands"),
    "series_classification": ("lstm", "digit_rows"),
    "forecasting": ("lstm", "seasons"),
    "tagging": ("rnn", "tagged_commands"),
    "translation": ("seq2seq_rnn", "number_words"),
    "masked_language_modelling": ("bert_mlm", "command_lines"),
    "text_generation": ("gpt", "spoken_sums"),
    "recommendation": ("matrix_factorization", "tastes"),
    "tabular_classification": ("mlp", "iris"),
    "tabular_regression": ("mlp", "diabetes"),
    "tabular_multilabel": ("mlp", "pastimes"),
    "image_multilabel": ("mlp", "digit_shapes"),
    "image_regression": ("mlp", "digit_ink"),
    "text_multilabel": ("embedding_lstm", "wishes"),
    "text_regression": ("embedding_lstm", "baskets"),
    "text_embedding": ("sentence_bert", "paraphrases"),
}
UNITS = ("turn 7on ", "a-", "a@", "http://", "[MASK]", "!", "x", "e\u0301")
BYTES = 2**16


SLOW = (  # their preprocessors have tests of their own, or are those of other tasks
    *("image_classification", "series_classification", "image_multilabel", "image_regression"),
    *("text_embedding", "text_multilabel", "text_regression", "tabular_regression", "tabular_multilabel"),
)


@pytest.fixture(scope="module", params=[pytest.param(t, marks=pytest.mark.slow) if t in SLOW else t for t in RECIPES])
def served(request):
    """The interface of a task, and a function from requests to the size of the largest result."""
    model, data = RECIPES[request.param]
    interface = zoo.datasets.load(data).prepare(model).interface
    preprocessor = interface.preprocessor
    function = tf.function(preprocessor.serve, autograph=False)

    def largest(**requests):
        return max(tf.size(part).numpy() for part in tf.nest.flatten(function(requests)))

    return interface, largest


def test_every_task_has_a_recipe():
    assert set(RECIPES) == set(tasks.list_tasks())


def test_texts_give_a_limited_number_of_tokens(served):
    interface, largest = served
    preprocessor = interface.preprocessor
    names = [name for name, request in preprocessor.requests.items() if request.kind == "text"]
    if not names:
        pytest.skip("takes no text")
    most = max(int(np.prod(shape)) for shape in preprocessor.input_shapes.values())  # a token may have several numbers
    largest(**dict.fromkeys(names, tf.constant(["warm up"])))
    for unit in UNITS:
        text = unit.encode() * (BYTES // len(unit.encode()))
        assert largest(**dict.fromkeys(names, tf.constant([text]))) <= most, unit


def test_results_grow_with_the_number_of_requests(served):
    interface, largest = served
    names = tasks.get_task(interface.task).signatures["serving_default"].takes(interface.preprocessor.requests)
    one = {name: tf.constant(interface.examples.requests[name][:1].tolist()) for name in names}
    sizes = [largest(**{k: tf.repeat(v, count, axis=0) for k, v in one.items()}) for count in (1, 16)]
    assert sizes[1] <= 16 * sizes[0]


def test_small_images_cannot_fill_the_memory():
    preprocessor = ImagePreprocessor(1024, 1024, 3)
    serve = tf.function(preprocessor.serve, autograph=False)
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        serve({"image_bytes": tf.constant(["not decoded"] * 100)})
    assert one_line(error.value) == "100 images; expected at most 85 in a request. Send fewer at once."


def test_only_large_models_compute_large_batches_in_slices():
    def rows(name, inputs, **arguments):
        return signatures._slice_rows(zoo.build(name, **arguments))(inputs)

    assert signatures._slice_rows(zoo.build("mlp", input_shape=(28, 28, 1), num_classes=10)) is None
    assert rows("cnn", {}, input_shape=(28, 28, 1), num_classes=10) >= 256, "usual batches stay whole"
    short, long = ({"token_ids": tf.zeros([300, steps], tf.int32)} for steps in (8, 512))
    assert rows("transformer", short, vocab_size=100, num_classes=2) >= 256
    assert rows("transformer", long, vocab_size=100, num_classes=2) == 32


def test_large_batches_are_computed_in_slices():
    rows = []
    model = keras.Sequential([keras.Input((None, 4)), keras.layers.LSTM(3, return_sequences=True)])

    def call(inputs):
        tf.py_function(lambda size: rows.append(int(size)), [tf.shape(inputs["x"])[0]], [])
        return {"y": model(inputs["x"]), "rank": tf.reduce_sum(inputs["x"], [1, 2])}

    function = tf.function(call, autograph=False)
    sliced = tf.function(lambda inputs: signatures.in_slices(function, inputs, 7), autograph=False)
    for count in (1, 7, 8, 21):
        inputs = {"x": tf.constant(np.random.default_rng(0).normal(size=(count, 5, 4)), tf.float32)}
        rows.clear()
        found = sliced(inputs)
        assert max(rows) <= 7 and sum(rows) == count
        for name, expected in function(inputs).items():
            np.testing.assert_allclose(found[name], expected, atol=1e-6)


def test_requests_of_too_many_examples_are_rejected():
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"too many examples; expected at most 8,192 .* Send fewer"
    ):
        request_checks.checked({"text": tf.fill([8_193], "x")})
    request_checks.checked({"text": tf.fill([8_192], "x")})
    ids = tf.zeros([1, 4_097], tf.int32)
    check = tf.function(
        lambda ids: request_checks.checked({"ids": ids}), input_signature=[tf.TensorSpec([None, None], tf.int32)]
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"ids has too many steps; expected at most 4,096"):
        check(ids)
    check(ids[:, 1:])
    request_checks.few_rows({"x": tf.zeros([1_024, 1])}, 7)
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"more examples of this length .* send fewer at once, 1,024"
    ):
        request_checks.few_rows({"x": tf.zeros([1_025, 1])}, 7)


def test_features_are_computed_in_slices_and_long_examples_in_smaller_numbers(monkeypatch):
    monkeypatch.setattr(signatures, "_SLICE_BYTES", 1 << 16)
    monkeypatch.setattr(signatures, "_MOST_SLICES", 3)
    model = zoo.build("transformer", vocab_size=9, num_classes=2, embedding_dim=32, num_heads=2, feed_forward_dim=64)
    interface = types.SimpleNamespace(spec=registry.get_spec("transformer"))
    functions = signatures.heads(model, interface)
    whole, shared = signatures._compiled_heads(model, functions)
    ids = tf.reshape(tf.range(1_024 * 8) % 8 + 1, [1_024, 8])
    rows = int(signatures._slice_rows(model)({"token_ids": ids}))
    assert rows == 32
    for name in ("predict", "features"):
        (output,) = (key for key in functions[name]({"token_ids": ids[:1]}, {}) if key in ("probabilities", "features"))
        expected = functions[name]({"token_ids": ids[:40]}, {})[output]
        np.testing.assert_allclose(shared[name]({"token_ids": ids[:40]}, {})[output], expected, atol=1e-6)
        traced = tf.function(lambda ids, name=name: shared[name]({"token_ids": ids}, {}), autograph=False)
        graph = traced.get_concrete_function(tf.TensorSpec([None, 8], tf.int32)).graph
        assert any("While" in op.type for op in graph.get_operations()) or any(
            "While" in node.op for function in graph.as_graph_def().library.function for node in function.node_def
        )
        for heads in (whole, shared):
            with pytest.raises(tf.errors.InvalidArgumentError, match="send fewer at once"):
                heads[name]({"token_ids": tf.repeat(ids, 2, axis=0)}, {})
