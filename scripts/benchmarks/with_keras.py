"""A contender of `zoo benchmark training`: zoo.train or Keras's fit. Prints its measurements on standard output."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras
    import numpy as np


def say(**answer: Any) -> None:
    """Sends an answer to the benchmark process."""
    print("@@" + json.dumps(answer), flush=True)


def make_data(job: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Returns synthetic inputs and targets for the steps of one round."""
    import numpy as np

    rng = np.random.default_rng(0)
    count, model = job["steps"] * job["batch_size"], job["model"]
    if "length" in job:
        x: np.ndarray = rng.integers(1, model["vocab_size"], (count, job["length"])).astype("int32")
    else:
        x = rng.normal(size=(count, *model["input_shape"])).astype("float32")
    every_step = job["family"] in ("lstm", "rnn", "gpt_tiny")
    shape = (count, x.shape[1]) if every_step else (count,)
    return x, rng.integers(0, model.get("num_classes", model.get("vocab_size")), shape).astype("int32")


def plain_keras(family: str, arguments: dict[str, Any], length: int | None = None) -> keras.Model:
    """Returns the family's architecture, built from Keras's own layers; `length` tokens for the transformer."""
    import keras
    from keras import layers

    if family == "gpt_tiny":
        return _keras_gpt(arguments["vocab_size"])
    classes = layers.Dense(arguments["num_classes"], activation="softmax", dtype="float32")
    if "input_shape" in arguments:
        inputs = x = keras.Input(arguments["input_shape"])
    else:
        inputs = keras.Input((length if family == "transformer" else None,), dtype="int32")
        dim = arguments.get("embedding_dim", 64 if family == "transformer" else 128)
        x = layers.Embedding(arguments["vocab_size"], dim, mask_zero=True)(inputs)
    if family == "mlp":
        x = layers.Flatten()(x)
        for _ in range(2):
            x = layers.Dense(64, activation="relu")(x)
    elif family == "cnn":
        for i, filters in enumerate(arguments["filters"]):
            x = layers.Conv2D(filters, 3, activation="relu")(layers.MaxPooling2D()(x) if i else x)
        x = layers.Flatten()(x)
    elif family == "lstm":
        for _ in range(2):
            x = layers.LSTM(64, return_sequences=True)(x)
    elif family == "embedding_lstm":
        x = layers.LSTM(64)(x)
    elif family == "rnn":
        x = layers.GRU(arguments["rnn_units"], return_sequences=True)(x)
    else:
        x = _keras_transformer(x, int(length or 0))
    return keras.Model(inputs, classes(x))


def _keras_transformer(x: keras.KerasTensor, length: int) -> keras.KerasTensor:
    import numpy as np
    from keras import layers, ops

    class Positions(layers.Layer):
        """Adds sine and cosine of the place; the mask is passed on."""

        supports_masking = True

        def call(self, x: Any) -> Any:
            """Returns (batch, tokens, dim)."""
            return x + ops.convert_to_tensor(table, x.dtype)

    dim = x.shape[-1]
    angles = np.arange(length)[:, np.newaxis] * 10_000.0 ** (-(np.arange(dim) // 2 * 2) / dim)
    table = np.where(np.arange(dim) % 2, np.cos(angles), np.sin(angles))
    x = layers.Dropout(0.1)(Positions()(layers.Rescaling(dim**0.5)(x)))
    for _ in range(2):
        attended = layers.MultiHeadAttention(8, x.shape[-1] // 8)(x, x)
        x = layers.LayerNormalization(epsilon=1e-5)(layers.Add()([x, layers.Dropout(0.1)(attended)]))
        fed = layers.Dense(x.shape[-1])(layers.Dense(512, activation="relu")(x))
        x = layers.LayerNormalization(epsilon=1e-5)(layers.Add()([x, layers.Dropout(0.1)(fed)]))
    return layers.GlobalAveragePooling1D()(x)


def _keras_gpt(vocab_size: int, dim: int = 128, heads: int = 4, length: int = 64) -> keras.Model:
    import keras
    from keras import layers, ops

    class Block(layers.Layer):
        """A block of GPT-2, with its weights in the order of zoo's."""

        def __init__(self) -> None:
            super().__init__()
            self.query_key_value, self.projection = layers.Dense(3 * dim), layers.Dense(dim)
            self.attention_norm = layers.LayerNormalization(epsilon=1e-5)
            self.inner, self.outer = layers.Dense(4 * dim), layers.Dense(dim)
            self.norm = layers.LayerNormalization(epsilon=1e-5)

        def build(self, input_shape: Any) -> None:
            """Builds the layers."""
            for layer in (self.query_key_value, self.projection, self.attention_norm, self.inner, self.norm):
                layer.build((None, None, dim))
            self.outer.build((None, None, 4 * dim))

        def call(self, x: Any) -> Any:
            """Returns (batch, tokens, dim)."""
            shape = (-1, ops.shape(x)[1], heads, dim // heads)
            parts = ops.split(self.query_key_value(self.attention_norm(x)), 3, axis=-1)
            query, key, value = (ops.reshape(part, shape) for part in parts)
            attended = ops.dot_product_attention(query, key, value, is_causal=True)
            x = x + self.projection(ops.reshape(attended, (-1, ops.shape(x)[1], dim)))
            return x + self.outer(ops.gelu(self.inner(self.norm(x)), approximate=True))

    class Positions(layers.Layer):
        """Adds a learned vector for every place."""

        def build(self, input_shape: Any) -> None:
            """Creates the table."""
            self.table = self.add_weight(shape=(length, dim), name="table")

        def call(self, x: Any) -> Any:
            """Returns (batch, tokens, dim)."""
            return x + self.table

    inputs = keras.Input((length,), dtype="int32")
    table = layers.ReversibleEmbedding(vocab_size, dim)
    x = Positions()(table(inputs))
    for _ in range(4):
        x = Block()(x)
    x = layers.LayerNormalization(epsilon=1e-5)(x)
    return keras.Model(inputs, layers.Softmax(dtype="float32")(table(x, reverse=True)))


def rounds(examples: int) -> keras.callbacks.Callback:
    """Returns a callback that treats an epoch as a round: it waits for a request first and answers afterwards."""
    import keras

    class Rounds(keras.callbacks.Callback):
        """Waits for a request, measures an epoch and answers."""

        started = 0.0

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            """Waits for the request."""
            if sys.stdin.readline().strip() != "round":
                sys.exit(0)
            self.started = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            """Sends the duration of the round."""
            say(seconds=time.perf_counter() - self.started, examples=examples)

    return Rounds()


def run_zoo(job: dict[str, Any], x: np.ndarray, y: np.ndarray) -> None:
    """Trains with `zoo.train`; writes the data and the initial weights for the other contenders."""
    import numpy as np
    import tensorflow as tf

    import zoo
    from zoo.training.mixed_precision import precision

    def config(epochs: int) -> zoo.TrainConfig:
        return zoo.TrainConfig(epochs=epochs, batch_size=job["batch_size"], precision=job["precision"])

    with zoo.strategy("one_device").scope(), precision(job["precision"]):
        model = zoo.build(job["family"], **job["model"])
    weights = model.get_weights()
    np.savez(Path(job["folder"]) / "start.npz", x=x, y=y, **{f"w{i:03}": w for i, w in enumerate(weights)})
    ordered = tf.data.Dataset.from_tensor_slices((x, y)).batch(job["batch_size"])
    loss = zoo.train(model, ordered, config(1), verbose=0).history[0]["loss"]
    say(parameters=model.count_params(), loss=loss)
    zoo.train(model, (x, y), config(1_000_000), callbacks=[rounds(len(x))], verbose=0)


def run_keras(job: dict[str, Any], x: np.ndarray, y: np.ndarray) -> None:
    """Trains with Keras's fit, on arrays or on a dataset with several steps per call."""
    import keras
    import numpy as np

    keras.config.set_dtype_policy(job["precision"])
    model = plain_keras(job["family"], job["model"], job.get("length"))
    with np.load(Path(job["folder"]) / "start.npz") as start:
        model.set_weights([start[name] for name in sorted(start.files) if name.startswith("w")])
    by_dataset = job["contender"] == "keras_tf_data"
    model.compile(
        optimizer=keras.optimizers.Adam(1e-3),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        steps_per_execution=min(32, job["steps"]) if by_dataset else 1,
    )
    size = job["batch_size"]
    first = model.fit(x, y, batch_size=size, shuffle=False, verbose=0)
    say(parameters=model.count_params(), loss=first.history["loss"][0])
    callback = rounds(len(x))
    if by_dataset:
        import tensorflow as tf

        dataset = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(len(x)).batch(size).prefetch(tf.data.AUTOTUNE)
        model.fit(dataset, epochs=1_000_000, callbacks=[callback], verbose=0)
    else:
        model.fit(x, y, batch_size=size, epochs=1_000_000, callbacks=[callback], verbose=0)


def main(job: dict[str, Any]) -> None:
    """Runs one contender until its standard input ends."""
    try:
        import keras
    except ImportError as error:
        say(skipped=f"{error.name} is not installed; pip install {error.name}")
        return
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(job["threads"])
        tf.config.threading.set_inter_op_parallelism_threads(job["threads"])
    keras.utils.set_random_seed(0)
    run = run_zoo if job["contender"] == "zoo" else run_keras
    run(job, *make_data(job))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
