"""Transformer encoder: attention over all words at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from zoo.checkpoints.word_vectors import assign_vectors
from zoo.recommended import texts
from zoo.registry import register_model

if TYPE_CHECKING:
    import keras


def _assign_vectors(model: keras.Model, data: Any) -> None:
    # The model multiplies its embedding by this root, so the vectors enter it as they are in the file.
    assign_vectors(model, data, scale=data.arguments["embedding_dim"] ** -0.5)


@register_model(
    tasks=("text_classification", "text_multilabel", "text_regression"),
    reference="Vaswani et al., Attention is all you need, NeurIPS 2017",
    features_layer="features",
    initial_arguments=("word_vectors",),
    adapt=_assign_vectors,
    preprocessing={"vocab_size": 10_000, "max_length": 128, "longest": 512},
    recommended_options=texts.best_epoch,
    search_space={
        "config.learning_rate": "1e-4:3e-3:log",
        "model.num_layers": "1,2,4",
        "model.embedding_dim": "64,128,256",
        "model.dropout": "0:0.4",
    },
    tiny={
        "vocab_size": 12,
        "num_classes": 3,
        "max_length": 9,
        "embedding_dim": 6,
        "num_heads": 2,
        "feed_forward_dim": 7,
        "num_layers": 2,
        "dropout": 0.0,
    },
    # Embedding 10,000 x 64; a block: attention 4 (64 x 64 + 64), feed-forward 64 x 512 + 512 and 512 x 64 + 64, two norms of
    # 128; the classifier 64 x 10 + 10. test_models.py has the formula.
    golden=(({"vocab_size": 10_000, "num_classes": 10}, 640_000 + 2 * (4 * 4_160 + 33_280 + 32_832 + 2 * 128) + 650),),
)
def build_transformer_model(
    vocab_size: int,
    num_classes: int,
    max_length: int = 128,
    embedding_dim: int = 64,
    num_heads: int = 8,
    feed_forward_dim: int = 512,
    num_layers: int = 2,
    dropout: float = 0.1,
    classifier_activation: Literal["softmax", "sigmoid", "linear"] | None = "softmax",
    word_vectors: str | None = None,
) -> keras.Model:
    """Word embeddings with sinusoidal positions, encoder blocks, the mean over the words, a softmax.

    Use it if word order and distant words matter. Input `token_ids`: int32 (batch, tokens), 0 is padding, which does
    not affect the output. Output `probabilities` (or `logits` with `classifier_activation=None`, `values` with
    `linear`): float32 (batch, num_classes).

    Args:
        vocab_size: Number of token ids, including padding and unknown words; lowered if the data has fewer words.
        num_classes: Number of classes.
        max_length: Maximum number of tokens of a text; longer texts are truncated. If left out, training takes the length
            that 95% of the training texts do not exceed, 128 to 512.
        embedding_dim: Channels of a word's vector, divisible by num_heads.
        num_heads: Attention heads of a block.
        feed_forward_dim: Units of a block's inner dense layer.
        num_layers: Number of blocks.
        dropout: Dropout rate of the embeddings and of the outputs of attention and dense layers.
        classifier_activation: Activation of the last layer: sigmoid for several labels, linear for values, null for
            logits.
        word_vectors: Text file of word vectors, as of GloVe or fastText, that the embedding begins with; embedding_dim
            is then the file's. They are read when data is prepared, because the builder does not know the words. Null
            for random ones.

    Raises:
        UsageError: a size that is not positive, a fraction out of range, or an embedding size that num_heads does not divide.

    Example:
        >>> zoo.build_transformer_model(vocab_size=10000, num_classes=10).output_shape
        (None, 10)
    """
    import keras
    from keras import layers

    from zoo.layers import attention, blocks, sequences

    blocks.check_positive(
        vocab_size=vocab_size,
        num_classes=num_classes,
        max_length=max_length,
        embedding_dim=embedding_dim,
        num_heads=num_heads,
        feed_forward_dim=feed_forward_dim,
        num_layers=num_layers,
    )
    blocks.check_fraction(dropout=dropout)
    blocks.check_divides(num_heads, embedding_dim=embedding_dim)
    inputs = keras.Input((None,), dtype="int32", name="token_ids")
    x = layers.Embedding(vocab_size, embedding_dim, mask_zero=True, name="embedding")(inputs)
    # Scaled up as in the paper. Otherwise the positions would dominate.
    x = layers.Rescaling(embedding_dim**0.5, name="scale")(x)
    x = sequences.PositionalEncoding(max_length, name="positions")(x)
    x = layers.Dropout(dropout, name="embedding_dropout")(x)
    for i in range(1, num_layers + 1):
        block = attention.TransformerBlock(num_heads, feed_forward_dim, dropout, kernels="per_head", name=f"block_{i}")
        x = block(x)
    x = sequences.MaskedMean(name="features")(x)
    outputs = blocks.classifier(x, num_classes, classifier_activation)
    return keras.Model(inputs, outputs, name="transformer")
