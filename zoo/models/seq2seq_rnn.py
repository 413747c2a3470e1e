"""Recurrent encoder and decoder with attention: sequence to sequence."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from zoo.registry import register_model

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


class Stepper:
    """Runs the decoder GRUs of a `build_seq2seq_rnn_model` model step by step. The source is encoded once.

    It finds the layers by the names from the builder, so it also works on a model that was rebuilt from its config.
    """

    input_name = "source_ids"

    def __init__(self, model: keras.Model) -> None:
        import keras

        from zoo.layers import blocks

        self._embedding, self._query, self._attention, self._joined, self._combined = (
            model.get_layer(name) for name in ("target_embedding", "query", "attention", "joined", "combined")
        )
        self._cells = [layer.cell for layer in blocks.numbered(model, "decoder")]
        states = [layer.output for layer in blocks.numbered(model, "bridge")]
        self._encoder = keras.Model(model.get_layer("source_ids").output, [model.get_layer("memory").output, *states])
        self.max_length = self._embedding.max_length

    def start(self, source_ids: tf.Tensor) -> tuple[tf.Tensor, Any, Any]:
        """Returns the start ids, the decoder's initial states, and the encoder's outputs with their mask."""
        import tensorflow as tf

        from zoo.layers.decoding import START

        memory, *states = self._encoder(source_ids, training=False)
        return tf.fill([tf.shape(source_ids)[0]], START), list(states), (memory, source_ids != 0)

    def step(self, ids: tf.Tensor, position: tf.Tensor, state: Any, context: Any) -> tuple[tf.Tensor, Any]:
        """Returns logits (rows, vocab), and the states after this step."""
        import tensorflow as tf

        x = tf.identity(self._embedding(ids))  # removes the mask, because no row is padding here
        states = []
        for cell, before in zip(self._cells, state, strict=True):
            x, _ = cell(x, [before], training=False)
            states.append(x)
        memory, mask = context
        steps = x[:, tf.newaxis]
        read = self._attention([self._query(steps), memory], mask=[None, mask])
        x = self._combined(self._joined([steps, read]))
        return self._embedding(x, reverse=True)[:, 0], states


def make_greedy(model: keras.Model) -> Callable[..., dict[str, Any]]:
    """Returns greedy search through a model: f({"source_ids"}, extras) -> {"token_ids", "score"}."""
    from zoo.layers import decoding

    return decoding.greedy(Stepper(model))


def make_beam(model: keras.Model) -> Callable[..., dict[str, Any]]:
    """Returns beam search of width 4 through a model: f({"source_ids"}, extras) -> {"token_ids", "score"}."""
    from zoo.layers import decoding

    return decoding.beam(Stepper(model))


@register_model(
    tasks=("translation",),
    reference="Luong et al., Effective approaches to attention-based neural machine translation, EMNLP 2015",
    preprocessing={"vocab_size": 8_000, "max_length": 40, "longest": 128},
    data_arguments=(),
    functions={"greedy": make_greedy, "beam": make_beam},
    search_space={"config.learning_rate": "3e-4:3e-3:log", "model.rnn_units": "128,256,512", "model.dropout": "0:0.5"},
    tiny={
        "source_vocab_size": 12,
        "target_vocab_size": 11,
        "max_length": 9,
        "embedding_dim": 6,
        "rnn_units": 8,
        "dropout": 0.0,
    },
    # Tables 2 x 8,000 x 256 and a bias of 8,000; a GRU of n units on m channels 3 n (m + n + 2), here 128 twice and 256; the
    # bridge and the query 256 x 256 + 256, the combination 512 x 256 + 256.
    golden=(
        (
            {"source_vocab_size": 8_000, "target_vocab_size": 8_000},
            2 * 2_048_000 + 8_000 + 2 * 3 * 128 * 386 + 3 * 256 * 514 + 2 * 65_792 + 131_328,
        ),
    ),
)
def build_seq2seq_rnn_model(
    source_vocab_size: int,
    target_vocab_size: int,
    max_length: int = 40,
    embedding_dim: int = 256,
    rnn_units: int = 256,
    num_layers: int = 1,
    dropout: float = 0.2,
    classifier_activation: Literal["softmax"] | None = "softmax",
) -> keras.Model:
    """A bidirectional GRU reads the source, a GRU writes the target with attention to the encoder.

    Use it for short sentences; it needs no warm-up. Attention is Luong's "general" score: the product of the encoder's
    outputs and the decoder's outputs after a dense layer. It is applied after the recurrence, so the GRU runs over a whole
    target in one call. Target embedding and output layer share one table.
    Inputs `source_ids`: int32 (batch, source tokens), and `target_ids`: int32 (batch, target tokens), the target shifted
    right after the start token; 0 is padding, which does not affect the output.
    Output `probabilities` (or `logits` with `classifier_activation=None`): float32 (batch, target tokens,
    target_vocab_size), of the next token after each target token.

    Args:
        source_vocab_size: Number of source token ids, including padding and unknown; lowered if the data has fewer.
        target_vocab_size: Number of target token ids, including padding, unknown, start and end.
        max_length: Maximum number of tokens of source and target; longer texts and translations are truncated. If left
            out, training takes the length that 95% of the training pairs do not exceed, 40 to 128.
        embedding_dim: Channels of a token's vector.
        rnn_units: Units of the decoder's GRUs, an even number; each direction of the encoder has half of them.
        num_layers: Number of stacked encoder GRUs, and of decoder GRUs.
        dropout: Dropout rate of every layer's inputs.
        classifier_activation: Activation of the last layer, null for logits.

    Raises:
        UsageError: a size that is not positive, an odd number of units, or a fraction out of range.

    Example:
        >>> zoo.build_seq2seq_rnn_model(source_vocab_size=8000, target_vocab_size=9000).output_shape
        (None, None, 9000)
    """
    import keras
    from keras import layers

    from zoo.errors import UsageError
    from zoo.layers import blocks, decoder
    from zoo.layers.recurrent import lstm_gru

    blocks.check_positive(
        source_vocab_size=source_vocab_size,
        target_vocab_size=target_vocab_size,
        max_length=max_length,
        embedding_dim=embedding_dim,
        rnn_units=rnn_units,
        num_layers=num_layers,
    )
    blocks.check_fraction(dropout=dropout)
    if rnn_units % 2:
        raise UsageError(f"rnn_units is {rnn_units}; two directions share them. Pass an even number.")

    source_ids = keras.Input((None,), dtype="int32", name="source_ids")
    target_ids = keras.Input((None,), dtype="int32", name="target_ids")
    memory = layers.Embedding(source_vocab_size, embedding_dim, mask_zero=True, name="source_embedding")(source_ids)
    states = []
    for i in range(1, num_layers + 1):
        memory = layers.Dropout(dropout, name=f"encoder_dropout_{i}")(memory)
        gru = lstm_gru.GRU(rnn_units // 2, return_sequences=True, return_state=True, name="gru")
        memory, forward, backward = layers.Bidirectional(gru, name=f"encoder_{i}")(memory)
        both = layers.Concatenate(name=f"ends_{i}")([forward, backward])
        states.append(layers.Dense(rnn_units, activation="tanh", name=f"bridge_{i}")(both))
    memory = layers.Dropout(dropout, name="memory")(memory)
    table = decoder.TiedEmbedding(target_vocab_size, embedding_dim, max_length, name="target_embedding")
    x = table(target_ids)
    for i, state in enumerate(states, 1):
        x = layers.Dropout(dropout, name=f"decoder_dropout_{i}")(x)
        x = lstm_gru.GRU(rnn_units, return_sequences=True, name=f"decoder_{i}")(x, initial_state=state)
    query = layers.Dense(rnn_units, name="query")(x)
    read = layers.Attention(name="attention")([query, memory])
    x = layers.Concatenate(name="joined")([x, read])
    x = layers.Dense(embedding_dim, activation="tanh", name="combined")(x)
    x = layers.Dropout(dropout, name="features")(x)
    outputs = decoder.tied_classifier(x, table, classifier_activation)
    return keras.Model([source_ids, target_ids], outputs, name="seq2seq_rnn")
