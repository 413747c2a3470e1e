"""Word embeddings and GRUs: a label for every word of a sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from zoo.checkpoints.word_vectors import assign_vectors
from zoo.recommended import tagging
from zoo.registry import register_model

if TYPE_CHECKING:
    import keras

_PARTS = 8
"""Parts of the form of a word, as the preprocessor makes them."""


@register_model(
    tasks=("tagging",),
    reference="Cho, van Merrienboer, Gulcehre et al., Learning phrase representations using RNN encoder-decoder for "
    "statistical machine translation, EMNLP 2014; dropout between steps: Gal and Ghahramani, NeurIPS 2016",
    features_layer="features",
    initial_arguments=("word_vectors",),
    adapt=assign_vectors,
    preprocessing={"vocab_size": 20_000, "max_length": 256, "reads_forms": True},
    data_arguments=("num_classes", "form_vocab_size"),
    recommended_arguments=tagging.tagger_arguments,
    recommended_options=tagging.tagging_options,
    search_space={
        "config.learning_rate": "3e-4:1e-2:log",
        "model.rnn_units": "64,128,256",
        "model.dropout": "0:0.6",
        "model.word_dropout": "0:0.4",
    },
    tiny={
        "vocab_size": 12,
        "embedding_dim": 6,
        "rnn_units": 5,
        "num_classes": 3,
        "dropout": 0.0,
        "recurrent_dropout": 0.0,
    },
    # Embedding 10,000 x 128; a GRU of u units over c channels, two biases: 3 ((c + u) u + 2 u), twice; 256 x 17 + 17.
    golden=(
        ({"vocab_size": 10_000, "num_classes": 17}, 1_280_000 + 2 * 99_072 + 4_369),
        (
            {
                "vocab_size": 10_000,
                "embedding_dim": 64,
                "rnn_units": 64,
                "num_classes": 10,
                "bidirectional": False,
            },
            640_000 + 24_960 + 650,
        ),
    ),
)
def build_rnn_model(
    vocab_size: int,
    embedding_dim: int = 128,
    rnn_units: int = 128,
    num_classes: int = 0,
    bidirectional: bool = True,
    dropout: float = 0.1,
    recurrent_dropout: float = 0.1,
    classifier_activation: Literal["softmax"] | None = "softmax",
    form_vocab_size: int = 0,
    form_dim: int = 32,
    word_dropout: float = 0.0,
    word_vectors: str | None = None,
) -> keras.Model:
    """Word embeddings, a GRU in both directions, a softmax at every word.

    Use it to tag the words of sentences. Sentences are truncated to 256 words. Input `token_ids`: int32 (batch, tokens), 0
    is padding, which does not affect the output. With form_vocab_size above 0 also `form_ids`, int32 (batch, tokens, 8): the
    signs, first and last letters of each word, so that a word is also known by its form. Output `probabilities` (or `logits`
    with `classifier_activation=None`): float32 (batch, tokens, num_classes).

    Args:
        vocab_size: Number of token ids, including padding and unknown words; lowered if the data has fewer words.
        embedding_dim: Channels of a word's vector.
        rnn_units: Units of the GRU in each direction.
        num_classes: Number of tags.
        bidirectional: Whether a second GRU reads the sentence backwards, so that a tag may depend on later words.
        dropout: Dropout rate of the GRU's inputs, with the same mask for every word.
        recurrent_dropout: Dropout rate of the GRU's state between words. Above 0, the fast kernels are not used, and training
            takes longer.
        classifier_activation: Activation of the last layer, null for logits.
        form_vocab_size: Number of form ids, including padding and unknown ones; 0 for a model without that input.
        form_dim: Channels of the vector of each of the 8 parts of a word's form.
        word_dropout: Rate at which the whole vector of a word is dropped, so that the model also learns from its form and its
            neighbours.
        word_vectors: Text file of word vectors, as of GloVe or fastText, that the embedding begins with; embedding_dim
            is then the file's. They are read when data is prepared, because the builder does not know the words. Null
            for random ones.

    Raises:
        UsageError: a size that is not positive, or a fraction out of range.

    Example:
        >>> zoo.build_rnn_model(vocab_size=10000, embedding_dim=128, rnn_units=128, num_classes=17).output_shape
        (None, None, 17)
    """
    import keras
    from keras import layers

    from zoo.layers import blocks
    from zoo.layers.forms import WordForms
    from zoo.layers.recurrent import lstm_gru

    blocks.check_positive(
        vocab_size=vocab_size, num_classes=num_classes, embedding_dim=embedding_dim, rnn_units=rnn_units
    )
    blocks.check_fraction(dropout=dropout, recurrent_dropout=recurrent_dropout, word_dropout=word_dropout)
    inputs = [keras.Input((None,), dtype="int32", name="token_ids")]
    x = layers.Embedding(vocab_size, embedding_dim, mask_zero=True, name="embedding")(inputs[0])
    if word_dropout:
        x = layers.Dropout(word_dropout, noise_shape=(None, None, 1), name="word_dropout")(x)
    if form_vocab_size:
        blocks.check_positive(form_vocab_size=form_vocab_size, form_dim=form_dim)
        inputs.append(keras.Input((None, _PARTS), dtype="int32", name="form_ids"))
        x = WordForms(form_vocab_size, form_dim, name="forms")([x, inputs[1]])
    gru = lstm_gru.GRU(
        rnn_units, return_sequences=True, dropout=dropout, recurrent_dropout=recurrent_dropout, name="gru"
    )
    x = (layers.Bidirectional(gru, name="bidirectional") if bidirectional else gru)(x)
    if form_vocab_size:
        x = layers.Dropout(dropout, name="output_dropout")(x)
    x = layers.Identity(name="features")(x)
    outputs = blocks.classifier(x, num_classes, classifier_activation)
    return keras.Model(inputs if form_vocab_size else inputs[0], outputs, name="rnn")
