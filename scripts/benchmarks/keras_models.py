"""Keras models of the kinds that people build, each with examples of its inputs. None of them is registered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers

Built = tuple[keras.Model, Any]
"""A model, and examples of its inputs."""

_ROWS = 24


def _random() -> np.random.Generator:
    return np.random.default_rng(5)


def _numbers(*shape: int) -> np.ndarray[Any, Any]:
    return _random().normal(size=(_ROWS, *shape)).astype(np.float32)


def _whole(high: int, *shape: int) -> np.ndarray[Any, Any]:
    return _random().integers(1, high, (_ROWS, *shape)).astype(np.int32)


def siamese() -> Built:
    """The cosine of two vectors that one shared encoder makes."""
    encoder = keras.Sequential(
        [keras.Input((16,)), layers.Dense(24, activation="relu"), layers.BatchNormalization(), layers.Dense(8)],
        name="encoder",
    )
    left, right = keras.Input((16,), name="left"), keras.Input((16,), name="right")
    cosine = layers.Dot(1, normalize=True, name="cosine")([encoder(left), encoder(right)])
    return keras.Model([left, right], cosine, name="siamese"), {"left": _numbers(16), "right": -_numbers(16)}


def multi_output() -> Built:
    """A class and a number from an image."""
    image = keras.Input((16, 16, 3), name="image")
    hidden = layers.Conv2D(8, 3, use_bias=False)(image)
    hidden = layers.Activation("relu")(layers.BatchNormalization()(hidden))
    hidden = layers.GlobalAveragePooling2D()(hidden)
    outputs = {
        "kind": layers.Dense(4, activation="softmax", name="kind")(hidden),
        "age": layers.Dense(1, activation="softplus", name="age")(hidden),
    }
    return keras.Model(image, outputs, name="multi_output"), _numbers(16, 16, 3)


def autoencoder() -> Built:
    """An image through a narrow code and back."""
    stack = [
        keras.Input((16, 16, 1)),
        layers.Conv2D(8, 3, strides=2, padding="same", activation="relu"),
        layers.Conv2D(4, 3, strides=2, padding="same", activation="relu"),
        layers.Conv2DTranspose(8, 3, strides=2, padding="same", activation="relu"),
        layers.Conv2DTranspose(1, 3, strides=2, padding="same", activation="sigmoid"),
    ]
    return keras.Sequential(stack, name="autoencoder"), _numbers(16, 16, 1)


def masked_gru() -> Built:
    """Token numbers of any length, 0 for padding, to two classes."""
    ids = keras.Input((None,), dtype="int32", name="ids")
    hidden = layers.Embedding(50, 12, mask_zero=True)(ids)
    hidden = layers.Bidirectional(layers.GRU(10))(hidden)
    examples = _whole(50, 9)
    examples[::2, 6:] = 0
    return keras.Model(ids, layers.Dense(2, activation="softmax")(hidden), name="masked_gru"), examples


def attention() -> Built:
    """Two sequences, one of which reads the other."""
    query, value = keras.Input((None, 8), name="query"), keras.Input((None, 8), name="value")
    read = layers.MultiHeadAttention(2, 4)(query, value)
    hidden = layers.LayerNormalization()(layers.Add()([query, read]))
    mean = layers.GlobalAveragePooling1D()(hidden)
    examples = {"query": _numbers(5, 8), "value": _numbers(7, 8)}
    return keras.Model([query, value], layers.Dense(3)(mean), name="attention"), examples


def wide_and_deep() -> Built:
    """Crossed categories beside a deep network on numbers and embeddings."""
    numbers = keras.Input((5,), name="numbers")
    first, second = (keras.Input((1,), dtype="string", name=name) for name in ("town", "trade"))
    crossed = layers.HashedCrossing(64, output_mode="one_hot")((first, second))
    found = [layers.Hashing(16)(part) for part in (first, second)]
    embedded = [layers.Flatten()(layers.Embedding(16, 4)(part)) for part in found]
    deep = layers.Dense(16, activation="relu")(layers.Concatenate()([numbers, *embedded]))
    output = layers.Dense(1, activation="sigmoid", name="chance")(layers.Concatenate()([crossed, deep]))
    towns = np.array([["Bern"], ["Turku"], ["Łódź"]] * (_ROWS // 3), object)
    examples = {"numbers": _numbers(5), "town": towns, "trade": towns[::-1]}
    return keras.Model([numbers, first, second], output, name="wide_and_deep"), examples


def residual_mlp() -> Built:
    """Dense layers with additions around them."""
    row = keras.Input((20,), name="row")
    hidden = row
    for _ in range(3):
        inner = layers.Dense(40, activation="gelu")(layers.LayerNormalization()(hidden))
        hidden = layers.Add()([hidden, layers.Dense(20)(layers.Dropout(0.2)(inner))])
    return keras.Model(row, layers.Dense(1, name="value")(hidden), name="residual_mlp"), _numbers(20)


def text_vectorization() -> Built:
    """Sentences to classes, words split inside the model."""
    texts = ["turn the light on", "Turn it OFF, please", "was ist das", "unknown words here", "", "the the the"] * 4
    split = layers.TextVectorization(max_tokens=20, output_sequence_length=6)
    split.adapt(texts)
    text = keras.Input((), dtype="string", name="text")
    hidden = layers.GlobalAveragePooling1D()(layers.Embedding(20, 6)(split(text)))
    output = layers.Dense(3, activation="softmax", name="probabilities")(hidden)
    return keras.Model(text, output, name="text_vectorization"), np.array(texts, object)


def category_encoding() -> Built:
    """A row of a table: words, numbers of categories, and numbers."""
    colours = ["red", "green", "blue"]
    colour = keras.Input((1,), dtype="string", name="colour")
    size = keras.Input((1,), dtype="int64", name="size")
    weight = keras.Input((1,), name="weight")
    normal = layers.Normalization()
    normal.adapt(np.array([[1.0], [2.0], [5.0]]))
    parts = [
        layers.StringLookup(vocabulary=colours, output_mode="one_hot")(colour),
        layers.CategoryEncoding(4, output_mode="one_hot")(layers.IntegerLookup(vocabulary=[36, 38, 40])(size)),
        normal(weight),
    ]
    examples = {
        "colour": np.array([["red"], ["blue"], ["pink"]] * (_ROWS // 3), object),
        "size": np.array([[36], [40], [-7]] * (_ROWS // 3)),
        "weight": _numbers(1),
    }
    output = layers.Dense(1, name="price")(layers.Concatenate()(parts))
    return keras.Model([colour, size, weight], output, name="category_encoding"), examples


def dilated_series() -> Built:
    """A series of any length to the next value at every step."""
    series = keras.Input((None, 2), name="series")
    hidden = series
    for rate in (1, 2, 4):
        hidden = layers.Conv1D(12, 2, padding="causal", dilation_rate=rate, activation="relu")(hidden)
    return keras.Model(series, layers.Conv1D(1, 1, name="next")(hidden), name="dilated_series"), _numbers(19, 2)


def u_net() -> Built:
    """A class for every pixel of an image of any size."""
    image = keras.Input((None, None, 1), name="image")
    first = layers.Conv2D(6, 3, padding="same", activation="relu")(image)
    deep = layers.Conv2D(12, 3, padding="same", activation="relu")(layers.MaxPooling2D()(first))
    joined = layers.Concatenate()([first, layers.UpSampling2D()(deep)])
    return keras.Model(image, layers.Conv2D(3, 1, activation="softmax", name="mask")(joined), name="u_net"), _numbers(
        16, 12, 1
    )


@keras.saving.register_keras_serializable("keras_models")
class OwnStep(keras.Model):
    """A subclassed model with its own training step."""

    def __init__(self, units: int = 6, **options: Any) -> None:
        super().__init__(**options)
        self.hidden, self.normal = layers.Dense(units, activation="relu"), layers.BatchNormalization()
        self.last = layers.Dense(2)

    def call(self, row: Any, training: bool = False) -> Any:
        """Returns two numbers."""
        return self.last(self.normal(self.hidden(row), training=training))

    def train_step(self, data: Any) -> Any:
        """Takes a plain gradient step."""
        import tensorflow as tf

        x, y = data
        with tf.GradientTape() as tape:
            loss = keras.ops.mean(keras.ops.square(self(x, training=True) - y))
        self.optimizer.apply(tape.gradient(loss, self.trainable_weights), self.trainable_weights)
        return {"loss": loss}


def own_train_step() -> Built:
    """`OwnStep`, after an epoch of training."""
    model, rows = OwnStep(name="own_train_step"), _numbers(7)
    model.compile(optimizer="adam")
    model.fit(rows, _numbers(2), verbose=0)
    return model, rows


class Sampling(layers.Layer):
    """Draws from a normal distribution in training, and returns its mean otherwise."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.generator = keras.random.SeedGenerator(1)

    def call(self, mean: Any, deviation: Any, training: bool = False) -> Any:
        """Returns a draw or the mean."""
        if not training:
            return mean
        return mean + deviation * keras.random.normal(keras.ops.shape(mean), seed=self.generator)


class Variational(keras.Model):
    """A variational autoencoder: a dict of outputs, and a layer that draws in training alone."""

    def __init__(self) -> None:
        super().__init__(name="variational")
        self.mean, self.deviation, self.draw = layers.Dense(3), layers.Dense(3, activation="softplus"), Sampling()
        self.decode = layers.Dense(9, activation="sigmoid")

    def call(self, row: Any, training: bool = False) -> Any:
        """Returns the code and the row that it stands for."""
        code = self.draw(self.mean(row), self.deviation(row), training=training)
        return {"code": code, "row": self.decode(code)}


def variational() -> Built:
    """`Variational`, called once."""
    model, rows = Variational(), _numbers(9)
    model(rows)
    return model, rows


def half_precision() -> Built:
    """Convolutions in bfloat16 with a float32 output."""
    stack = [
        keras.Input((12, 12, 3)),
        layers.Conv2D(8, 3, activation="relu", dtype="mixed_bfloat16"),
        layers.GlobalAveragePooling2D(dtype="mixed_bfloat16"),
        layers.Dense(4, activation="softmax", dtype="float32"),
    ]
    return keras.Sequential(stack, name="half_precision"), _numbers(12, 12, 3)


def byte_images() -> Built:
    """Images of uint8, scaled and augmented inside the model."""
    stack = [
        keras.Input((12, 12, 3), dtype="uint8"),
        layers.RandomFlip("horizontal", seed=3),
        layers.Rescaling(1 / 127.5, offset=-1),
        layers.SeparableConv2D(8, 3, activation="relu"),
        layers.Flatten(),
        layers.Dense(5, activation="softmax"),
    ]
    return keras.Sequential(stack, name="byte_images"), _whole(256, 12, 12, 3).astype(np.uint8)


def lstm_states() -> Built:
    """The output and both states of one LSTM layer."""
    series = keras.Input((8, 3), name="series")
    output, hidden, cell = layers.LSTM(6, return_sequences=True, return_state=True, name="lstm")(series)
    return keras.Model(series, [output, hidden, cell], name="lstm_states"), _numbers(8, 3)


def lambda_layer() -> Built:
    """A function of Python as a layer, which Keras does not make again from a config."""
    row = keras.Input((6,), name="row")
    parts = layers.Lambda(lambda x: x[:, :3] * x[:, 3:], output_shape=(3,))(row)
    return keras.Model(row, layers.Dense(1, name="value")(parts), name="lambda_layer"), _numbers(6)


KINDS: dict[str, Callable[[], Built]] = {
    function.__name__: function
    for function in (
        *(siamese, multi_output, autoencoder, masked_gru, attention, wide_and_deep, residual_mlp, text_vectorization),
        *(
            category_encoding,
            dilated_series,
            u_net,
            own_train_step,
            variational,
            half_precision,
            byte_images,
            lstm_states,
        ),
        lambda_layer,
    )
}


# --- keras.applications ----------------------------------------------------------------------------------------------


def list_applications() -> list[str]:
    """Returns the names of all architectures of `keras.applications`.

    Example:
        >>> "ResNet50" in list_applications()
        True
    """
    return sorted(name for name in dir(keras.applications) if name[0].isupper())


def application(name: str, size: int | None = None) -> Built:
    """Returns an architecture of `keras.applications` with random weights, batch norm fitted to images, and the images.

    Args:
        name: of the architecture.
        size: height and width of the images; None for its own.
    """
    keras.utils.set_random_seed(0)
    own = {} if size is None else {"input_shape": (size, size, 3)}
    model = getattr(keras.applications, name)(weights=None, **own)
    sizes = [length or 224 for length in model.inputs[0].shape[1:]]  # MobileNetV3 leaves height and width open
    examples = _random().uniform(0, 255, (4, *sizes)).astype(np.float32)
    # Values of untrained networks grow from layer to layer until rounding decides the answer; with the statistics of these
    # images in batch norm they stay as they are in a trained network.
    norms = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0.0
    model(examples, training=True)
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum
    return model, examples
