"""Transformer encoder and decoder: sequence to sequence."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from zoo.registry import register_model

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


class Stepper:
    """Runs the decoder blocks of a `build_seq2seq_transformer_model` model step by step, with a cache of earlier steps.

    It finds the layers by the names from the builder, so it also works on a model that was rebuilt from its config.
    """

    input_name = "source_ids"

    def __init__(self, model: keras.Model) -> None:
        import keras

        from zoo.layers import blocks

        self._embedding, self._scale, self._positions = (
            model.get_layer(f"target_{name}") for name in ("embedding", "scale", "positions")
        )
        self._blocks = blocks.numbered(model, "decoder")
        memory = blocks.numbered(model, "encoder")[-1].output
        self._encoder = keras.Model(model.get_layer("source_ids").output, memory)
        self.max_length = self._embedding.max_length

    def start(self, source_ids: tf.Tensor) -> tuple[tf.Tensor, Any, Any]:
        """Returns the start ids, empty caches, and the source's mask with the keys and values of every block."""
        import tensorflow as tf

        from zoo.layers.decoding import START

        memory, rows = self._encoder(source_ids, training=False), tf.shape(source_ids)[0]
        caches = [block.empty_cache(rows) for block in self._blocks]
        return tf.fill([rows], START), caches, (source_ids != 0, [block.source(memory) for block in self._blocks])

    def step(self, ids: tf.Tensor, position: tf.Tensor, state: Any, context: Any) -> tuple[tf.Tensor, Any]:
        """Returns logits (rows, vocab), and the caches with this step added."""
        import tensorflow as tf

        x = self._scale(self._embedding(ids[:, tf.newaxis]))
        positions = self._positions(tf.zeros([1, self.max_length, self._embedding.dim], x.dtype))
        x += positions[:, position : position + 1]
        caches, (mask, sources) = [], context
        for block, cache, source in zip(self._blocks, state, sources, strict=True):
            x, cache = block(x, source=source, memory_mask=mask, cache=cache, training=False)
            caches.append(cache)
        return self._embedding(x, reverse=True)[:, 0], caches


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
    reference="Vaswani et al., Attention is all you need, NeurIPS 2017",
    preprocessing={"vocab_size": 8_000, "max_length": 40, "longest": 128},
    data_arguments=(),
    functions={"greedy": make_greedy, "beam": make_beam},
    search_space={"config.learning_rate": "1e-4:3e-3:log", "model.num_layers": "1,2,3", "model.dropout": "0:0.4"},
    tiny={
        "source_vocab_size": 12,
        "target_vocab_size": 11,
        "max_length": 9,
        "embedding_dim": 6,
        "num_heads": 2,
        "feed_forward_dim": 7,
        "num_layers": 2,
        "dropout": 0.0,
    },
    # Tables 2 x 8,000 x 256 and a bias of 8,000; an attention is 4 (256 x 256 + 256), a feed-forward net 256 x 1,024 + 1,024
    # and 1,024 x 256 + 256, a norm 512. Encoder blocks have one, one and two of them, decoder blocks two, one and three.
    golden=(
        (
            {"source_vocab_size": 8_000, "target_vocab_size": 8_000},
            2 * 2_048_000 + 8_000 + 2 * (3 * 263_168 + 2 * 525_568 + 5 * 512),
        ),
    ),
)
def build_seq2seq_transformer_model(
    source_vocab_size: int,
    target_vocab_size: int,
    max_length: int = 40,
    embedding_dim: int = 256,
    num_heads: int = 8,
    feed_forward_dim: int = 1024,
    num_layers: int = 2,
    dropout: float = 0.1,
    classifier_activation: Literal["softmax"] | None = "softmax",
) -> keras.Model:
    """Encoder blocks read the source, decoder blocks write the target with attention to it.

    Use it for large data or long sentences. Every block normalises after its residual sum, so training needs a warm-up.
    Target embedding and output layer share one table.
    Inputs `source_ids`: int32 (batch, source tokens), and `target_ids`: int32 (batch, target tokens), the target shifted
    right after the start token; 0 is padding, which does not affect the output.
    Output `probabilities` (or `logits` with `classifier_activation=None`): float32 (batch, target tokens,
    target_vocab_size), of the next token after each target token.

    Args:
        source_vocab_size: Number of source token ids, including padding and unknown; lowered if the data has fewer.
        target_vocab_size: Number of target token ids, including padding, unknown, start and end.
        max_length: Maximum number of tokens of source and target; longer texts and translations are truncated. If left
            out, training takes the length that 95% of the training pairs do not exceed, 40 to 128.
        embedding_dim: Channels of a token's vector, divisible by num_heads.
        num_heads: Attention heads of a block.
        feed_forward_dim: Units of a block's inner dense layer.
        num_layers: Number of encoder blocks, and of decoder blocks.
        dropout: Dropout rate of the embeddings and of the outputs of attention and dense layers.
        classifier_activation: Activation of the last layer, null for logits.

    Raises:
        UsageError: a size that is not positive, a fraction out of range, or an embedding size that num_heads does not divide.

    Example:
        >>> zoo.build_seq2seq_transformer_model(source_vocab_size=8000, target_vocab_size=9000).output_shape
        (None, None, 9000)
    """
    import keras
    from keras import layers

    from zoo.layers import attention, blocks, decoder, sequences

    blocks.check_positive(
        source_vocab_size=source_vocab_size,
        target_vocab_size=target_vocab_size,
        max_length=max_length,
        embedding_dim=embedding_dim,
        num_heads=num_heads,
        feed_forward_dim=feed_forward_dim,
        num_layers=num_layers,
    )
    blocks.check_fraction(dropout=dropout)
    blocks.check_divides(num_heads, embedding_dim=embedding_dim)

    def with_positions(x: keras.KerasTensor, side: str) -> keras.KerasTensor:
        # Scaled up as in the paper. Otherwise the positions would dominate.
        x = layers.Rescaling(embedding_dim**0.5, name=f"{side}_scale")(x)
        x = sequences.PositionalEncoding(max_length, name=f"{side}_positions")(x)
        return layers.Dropout(dropout, name=f"{side}_dropout")(x)

    source_ids = keras.Input((None,), dtype="int32", name="source_ids")
    target_ids = keras.Input((None,), dtype="int32", name="target_ids")
    start = keras.initializers.RandomNormal(stddev=embedding_dim**-0.5)
    memory = layers.Embedding(
        source_vocab_size, embedding_dim, embeddings_initializer=start, mask_zero=True, name="source_embedding"
    )(source_ids)
    memory = with_positions(memory, "source")
    for i in range(1, num_layers + 1):
        block = attention.TransformerBlock(
            num_heads, feed_forward_dim, dropout, kernels="per_head", name=f"encoder_{i}"
        )
        memory = block(memory)
    table = decoder.TiedEmbedding(target_vocab_size, embedding_dim, max_length, name="target_embedding")
    x = with_positions(table(target_ids), "target")
    for i in range(1, num_layers + 1):
        block = attention.TransformerBlock(
            num_heads, feed_forward_dim, dropout, causal=True, cross_attention=True, name=f"decoder_{i}"
        )
        x = block(x, memory)
    outputs = decoder.tied_classifier(x, table, classifier_activation)
    return keras.Model([source_ids, target_ids], outputs, name="seq2seq_transformer")
