"""Convolution windows and attention over the steps: a small classifier with readable attention weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from zoo.checkpoints.word_vectors import assign_vectors
from zoo.errors import UsageError
from zoo.recommended import texts
from zoo.registry import register_model

if TYPE_CHECKING:
    import keras


@register_model(
    tasks=("text_classification", "text_multilabel", "text_regression", "series_classification"),
    reference="Bahdanau, Cho and Bengio, Neural machine translation by jointly learning to align and translate, ICLR 2015; "
    "windows as in Kim, Convolutional neural networks for sentence classification, EMNLP 2014",
    features_layer="features",
    initial_arguments=("word_vectors",),
    adapt=assign_vectors,
    preprocessing={"vocab_size": 10_000, "max_length": 128, "longest": 512},
    recommended_options=texts.best_epoch,
    search_space={
        "config.learning_rate": "3e-4:1e-2:log",
        "model.filters": "64,128,256",
        "model.dropout": "0:0.6",
        "model.word_dropout": "0:0.4",
    },
    tiny={
        "vocab_size": 12,
        "num_classes": 3,
        "embedding_dim": 6,
        "filters": 5,
        "num_heads": 2,
        "dense_units": 7,
        "dropout": 0.0,
        "word_dropout": 0.0,
    },
    # Embedding 10,000 x 128; windows 3 x 128 x 128 + 128; scores 128 x 128 + 128 and 128 x 4; dense 5 x 128 x 256 + 256 for
    # four heads and their mean; 256 x 10 + 10.
    golden=(
        ({"vocab_size": 10_000, "num_classes": 10}, 1_280_000 + 49_280 + 16_512 + 512 + 164_096 + 2_570),
        (
            {"vocab_size": 10_000, "num_classes": 10, "filters": 64, "num_heads": 1, "dense_units": 64},
            1_280_000 + 24_640 + 4_160 + 64 + 4_160 + 650,
        ),
        ({"input_shape": (None, 4), "num_classes": 2, "pooling": "max"}, 1_664 + 33_024 + 514),
    ),
    side_outputs=("attention_weights",),
)
def build_attention_model(
    input_shape: Sequence[int | None] | None = None,
    num_classes: int = 0,
    vocab_size: int | None = None,
    embedding_dim: int = 128,
    filters: int = 128,
    kernel_size: int = 3,
    pooling: Literal["attention", "max"] = "attention",
    num_heads: int = 4,
    dense_units: int = 256,
    dropout: float = 0.4,
    word_dropout: float = 0.2,
    classifier_activation: Literal["softmax", "sigmoid", "linear"] | None = "softmax",
    max_length: int | None = None,
    word_vectors: str | None = None,
) -> keras.Model:
    """Convolution windows over words or steps, attention over the windows, a dense layer, a softmax.

    Use it for short texts, and for series with short decisive patterns. Its attention weights show which steps it used.
    Input `token_ids`: int32 (batch, tokens), 0 is padding, if `vocab_size` is given; or else `series`: float32 (batch,
    steps, channels), with trailing NaN as padding and other NaN as missing. Padding does not affect the output. Output
    `probabilities` (or `logits` with `classifier_activation=None`, `values` with `linear`): float32 (batch,
    num_classes). Layer `attention_weights`: float32 (batch, steps), sum 1, 0 at padding.

    Args:
        input_shape: Shape of a series, (steps or null, channels); null for texts.
        num_classes: Number of classes.
        vocab_size: Number of token ids, including padding and unknown words; null for series.
        embedding_dim: Channels of a word's vector.
        filters: Filters of the convolution.
        kernel_size: Steps of one window.
        pooling: How windows are reduced to one vector, attention or max.
        num_heads: Attention heads. With several heads, each head and their mean give one summary vector.
        dense_units: Units of the dense layer before the classifier.
        dropout: Dropout rate of the pooled windows and of the classifier's inputs.
        word_dropout: Dropout rate of whole words, so that no single word decides.
        classifier_activation: Activation of the last layer: sigmoid for several labels, linear for values, null for
            logits.
        max_length: Maximum number of tokens of a text, which the preprocessor truncates. Null takes the length that 95% of
            the training texts do not exceed, 128 to 512.
        word_vectors: Text file of word vectors, as of GloVe or fastText, that the embedding begins with; embedding_dim
            is then the file's. They are read when data is prepared, because the builder does not know the words. Null
            for random ones.

    Raises:
        UsageError: neither or both of `input_shape` and `vocab_size`, a size that is not positive, a fraction out of
            range, or another pooling.

    Example:
        >>> zoo.build_attention_model(vocab_size=10000, num_classes=10).get_layer("attention_weights").output.shape
        (None, None)
    """
    import keras
    from keras import layers

    from zoo.layers import blocks, series

    blocks.check_positive(num_classes=num_classes, filters=filters, kernel_size=kernel_size, dense_units=dense_units)
    blocks.check_fraction(dropout=dropout, word_dropout=word_dropout)
    if pooling not in ("attention", "max"):
        raise UsageError(f"pooling is {pooling!r}; expected 'attention' or 'max'. Pass pooling='attention'.")
    if (input_shape is None) == (vocab_size is None):
        raise UsageError(
            f"input_shape is {input_shape!r} and vocab_size is {vocab_size!r}; expected one of them. "
            "Pass vocab_size=10000 for texts, or input_shape=(None, 4) for series of four channels."
        )
    if vocab_size is not None:
        blocks.check_positive(vocab_size=vocab_size, embedding_dim=embedding_dim)
        inputs = keras.Input((None,), dtype="int32", name="token_ids")
        x = layers.Embedding(vocab_size, embedding_dim, mask_zero=True, name="embedding")(inputs)
        if word_dropout:
            x = layers.Dropout(word_dropout, noise_shape=(None, None, 1), name="word_dropout")(x)
    else:
        inputs = keras.Input(series.check_series_shape(input_shape), name="series")
        x = series.FillMissing(name="filled")(inputs)
    # "same": each window is centred on a step, so each attention weight belongs to a word.
    x = series.MaskedConv1D(filters, kernel_size, padding="same", activation="relu", name="windows")(x)
    if pooling == "attention":
        scores = layers.Dense(filters, activation="tanh", name="attention_hidden")(x)
        # No bias, because the softmax would cancel it.
        scores = layers.Dense(num_heads, use_bias=False, name="attention_scores")(scores)
        heads = series.AttentionWeights(name="head_weights")(scores)
        weights = series.MeanHead(name="attention_weights")(heads)
        # The mean head is used as well, because a Functional model keeps only layers that its output depends on.
        x = series.WeightedSum(name="pooled")([x, weights] if num_heads == 1 else [x, weights, heads])
    else:
        x = series.MaskedMax(name="pooled")(x)
    if dropout:
        x = layers.Dropout(dropout, name="pooled_dropout")(x)
    x = layers.Dense(dense_units, activation="relu", name="dense")(x)
    x = layers.Identity(name="features")(x)
    if dropout:
        x = layers.Dropout(dropout, name="classifier_dropout")(x)
    outputs = blocks.classifier(x, num_classes, classifier_activation)
    return keras.Model(inputs, outputs, name="attention")
