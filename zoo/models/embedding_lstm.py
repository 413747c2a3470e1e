"""Embedding and LSTM: the classic text classifier."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from zoo.checkpoints.word_vectors import assign_vectors
from zoo.recommended import texts
from zoo.registry import register_model

if TYPE_CHECKING:
    import keras


@register_model(
    tasks=("text_classification", "text_multilabel", "text_regression"),
    reference="Hochreiter and Schmidhuber, Long short-term memory, Neural Computation 9(8), 1997",
    features_layer="features",
    initial_arguments=("word_vectors",),
    adapt=assign_vectors,
    preprocessing={"vocab_size": 10_000, "max_length": 128, "longest": 512},
    data_arguments=("num_classes",),
    recommended_arguments=texts.bidirectional,
    recommended_options=texts.recurrent_options,
    search_space={
        "config.learning_rate": "3e-4:1e-2:log",
        "model.embedding_dim": "64,128,256",
        "model.lstm_units": "64,128,256",
        "model.bidirectional": "false,true",
        "model.dropout": "0:0.6",
    },
    tiny={"vocab_size": 12, "embedding_dim": 6, "lstm_units": 5, "num_classes": 3},
    golden=(({"vocab_size": 10_000, "embedding_dim": 128, "lstm_units": 64, "num_classes": 10}, 1_330_058),),
)
def build_embedding_lstm_model(
    vocab_size: int,
    num_classes: int,
    embedding_dim: int = 128,
    lstm_units: int = 64,
    bidirectional: bool = False,
    dropout: float = 0.0,
    classifier_activation: Literal["softmax", "sigmoid", "linear"] | None = "softmax",
    max_length: int | None = None,
    word_vectors: str | None = None,
) -> keras.Model:
    """Word embeddings, an LSTM over the words, a softmax on its last state.

    Use it for short texts and small data. Input `token_ids`: int32 (batch, tokens), 0
    is padding, which does not affect the output. Output `probabilities` (or `logits` with `classifier_activation=None`,
    `values` with `linear`): float32 (batch, num_classes).

    Args:
        vocab_size: Number of token ids, including padding and unknown words; lowered if the data has fewer words.
        num_classes: Number of classes.
        embedding_dim: Channels of a word's vector.
        lstm_units: Units of the LSTM in each direction.
        bidirectional: Whether a second LSTM reads the text backwards.
        dropout: Dropout rate of the embeddings and of the classifier's inputs.
        classifier_activation: Activation of the last layer: sigmoid for several labels, linear for values, null for
            logits.
        max_length: Maximum number of tokens of a text, which the preprocessor truncates. Null takes the length that 95% of
            the training texts do not exceed, 128 to 512.
        word_vectors: Text file of word vectors, as of GloVe or fastText, that the embedding begins with; embedding_dim
            is then the file's. They are read when data is prepared, because the builder does not know the words. Null
            for random ones.

    Raises:
        UsageError: a size that is not positive, or a fraction out of range.

    Example:
        >>> zoo.build_embedding_lstm_model(vocab_size=10000, num_classes=10).count_params()
        1330058
    """
    import keras
    from keras import layers

    from zoo.layers import blocks
    from zoo.layers.recurrent import lstm_gru

    blocks.check_positive(
        vocab_size=vocab_size, num_classes=num_classes, embedding_dim=embedding_dim, lstm_units=lstm_units
    )
    blocks.check_fraction(dropout=dropout)
    inputs = keras.Input((None,), dtype="int32", name="token_ids")
    x = layers.Embedding(vocab_size, embedding_dim, mask_zero=True, name="embedding")(inputs)
    if dropout:
        x = layers.Dropout(dropout, name="embedding_dropout")(x)
    lstm = lstm_gru.LSTM(lstm_units, name="lstm")
    x = (layers.Bidirectional(lstm, name="bidirectional") if bidirectional else lstm)(x)
    x = layers.Identity(name="features")(x)
    if dropout:
        x = layers.Dropout(dropout, name="classifier_dropout")(x)
    outputs = blocks.classifier(x, num_classes, classifier_activation)
    return keras.Model(inputs, outputs, name="embedding_lstm")
