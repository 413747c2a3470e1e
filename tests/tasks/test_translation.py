"""Translation from texts to a trained model in a SavedModel."""

from __future__ import annotations

import itertools

import keras
import pytest
import tensorflow as tf

import zoo
from seq2seq_models import every_model
from translation_texts import batch, data_of, encoded
from zoo.datasets.preprocessing.translation import TranslationPreprocessor


def reversals() -> tuple[list[str], list[str]]:
    """Returns all sentences of one to three of six words, and their reversals with French spacing."""
    words = ["red", "Green", "blue", "cat", "Dog", "l'owl"]
    told = [c for n in (1, 2, 3) for c in itertools.product(words, repeat=n)]
    return [" ".join(c) + "!" for c in told], [" ".join(reversed(c)) + "\u202f!" for c in told]


@pytest.mark.slow
@every_model
def test_a_trained_model_translates_in_a_savedmodel(name, tmp_path):
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
