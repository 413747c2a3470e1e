"""Bag of n-grams: a linear model of words and their neighbours."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from zoo.errors import UsageError
from zoo.registry import Situation, register_model

if TYPE_CHECKING:
    import keras


_LENGTH = 10.0
"""Euclidean length of a text's weights. The steps of the vectors, most of which few texts have, are its square as large as
those of the last layer."""
_MANY_CLASSES = 50
"""From here on the last layer is learned, because many classes have much in common: it was better on the validation split of
clinc_oos (150 classes), and worse on that of chinese_reviews (2 classes)."""


def selected_features(situation: Situation) -> dict[str, Any]:
    """Returns arguments of a bag of n-grams: few texts have few n-grams that occur twice.

    Example:
        >>> selected_features(Situation("text_classification", 1_000, {}))["num_features"]
        4096
    """
    features = min(2**16, max(2**10, 2 ** (4 * situation.examples).bit_length()))
    return {"num_features": features, "num_buckets": 16 * features}


def options(situation: Situation) -> dict[str, Any]:
    """Returns options for a bag of n-grams: stochastic gradient descent with a large rate, as for fastText, until the loss of
    the validation split no longer falls.

    Chosen on the validation splits of clinc_oos, chinese_reviews, sms_spam and goemotions. Adam, which moves the
    vectors of rare n-grams as far as those of frequent ones, over-fitted chinese_reviews and sms_spam after one or two
    epochs. The gradient of several labels is their mean, so their rate is larger; that of squared errors is not
    bounded, so their rate is smaller.

    Example:
        >>> options(Situation("text_classification", 10_000, {"num_classes": 2}))["optimizer"]
        'sgd'
    """
    classes = situation.arguments.get("num_classes", 2)
    factor = {"text_multilabel": 0.5 * classes, "text_regression": 0.05}.get(situation.task, 1.0)
    return {
        "epochs": 10,
        "batch_size": 64,
        "optimizer": "sgd",
        "learning_rate": round(0.6 * factor, 4),
        "schedule": "linear",
        "monitor": "val_loss",
        "patience": 3,
        "keep_best": 1,
    }


def inverse_document_frequencies(model: keras.Model, inputs: Callable[[], Iterable[Mapping[str, np.ndarray]]]) -> None:
    """Selects the n-grams that the model knows, the most frequent of those in two texts or more, and sets the weight of each
    to its inverse document frequency: ln((1 + n) / (1 + d)) + 1 for n texts, of which d have it.

    Args:
        model: a model of `build_bag_of_ngrams_model`.
        inputs: returns the batches of training texts, dicts with `token_ids`, int32 (batch, tokens).

    Example:
        >>> inverse_document_frequencies(model, lambda: [{"token_ids": np.array([[2, 3], [2, 0]], np.int32)}])
    """
    ngrams, terms = model.get_layer("ngrams"), model.get_layer("term_weights")
    if ngrams.size > 1:
        _, counts = _document_counts((ngrams.buckets(batch["token_ids"]) for batch in inputs()), ngrams.num_buckets)
        ngrams.select(counts)
    texts, counts = _document_counts((ngrams(batch["token_ids"]) - 1 for batch in inputs()), terms.size - 1)
    frequencies = np.log((1 + texts) / (1 + counts)) + 1
    terms.values.assign(np.concatenate([[1.0], frequencies]))  # number 0 is padding


def _adapt(model: keras.Model, data: Any) -> None:
    inverse_document_frequencies(
        model, lambda: (batch[0] for batch in data.batches("train", 1_024).as_numpy_iterator())
    )


def _document_counts(batches: Iterable[Any], size: int) -> tuple[int, np.ndarray]:
    """Returns the number of texts, and in how many of them each number from 0 occurs, int64 (size,)."""
    texts, counts = 0, np.zeros(size, np.int64)
    for batch in batches:
        rows = np.sort(np.asarray(batch), axis=1)
        counts += np.bincount(rows[np.diff(rows, axis=1, prepend=-1) > 0], minlength=size)
        texts += len(rows)
    return texts, counts


@register_model(
    tasks=("text_classification", "text_multilabel", "text_regression"),
    reference="Joulin, Grave, Bojanowski and Mikolov, Bag of tricks for efficient text classification, EACL 2017; weights as "
    "in Salton and Buckley, Term-weighting approaches in automatic text retrieval, Information Processing & Management 24, "
    "1988",
    features_layer="features",
    preprocessing={"vocab_size": 30_000, "max_length": 128, "longest": 512},
    recommended_arguments=selected_features,
    recommended_options=options,
    adapt=_adapt,
    tiny={
        "vocab_size": 12,
        "embedding_dim": 6,
        "num_features": 20,
        "num_buckets": 50,
        "dropout": 0.0,
        "num_classes": 3,
    },
    # Numbers of 2^20 buckets, vectors and weights of 10,000 + 65,536 n-grams; 10 biases, or 64 x 10 + 10.
    golden=(
        ({"vocab_size": 10_000, "num_classes": 10}, 2**20 + 75_536 * 10 + 75_536 + 10),
        ({"vocab_size": 10_000, "num_classes": 10, "ngrams": 1, "embedding_dim": 64}, 10_000 * 64 + 10_000 + 650),
    ),
)
def build_bag_of_ngrams_model(
    vocab_size: int,
    num_classes: int,
    ngrams: int = 2,
    num_features: int = 65_536,
    num_buckets: int = 2**20,
    embedding_dim: int | None = None,
    dropout: float = 0.2,
    classifier_activation: Literal["softmax", "sigmoid", "linear"] | None = "softmax",
    max_length: int | None = None,
) -> keras.Model:
    """Vectors of words and pairs of words, their sum weighted by inverse document frequency, a softmax.

    Use it first for every text classifier: it is fast, and often as good as larger models. It knows the order of neighbours
    alone. Input `token_ids`: int32 (batch, tokens), 0 is padding, which does not affect the output. Output `probabilities`
    (or `logits` with `classifier_activation=None`, `values` with `linear`): float32 (batch, num_classes).

    Args:
        vocab_size: Number of token ids, including padding and unknown words; lowered if the data has fewer words.
        num_classes: Number of classes.
        ngrams: Number of tokens of the longest n-grams: 1 for single words, 2 for pairs too, 3 for triples too.
        num_features: Number of n-grams of several tokens with a vector, the most frequent ones of the training split.
        num_buckets: Number of buckets of a hash of n-grams of several tokens. Those in the same bucket share a vector.
        embedding_dim: Channels of an n-gram's vector; null for one of each class, at most 256. With null and fewer than 50
            classes, the channels are the logits, without a further layer, as in logistic regression.
        dropout: Share of a text's n-grams that are left out in training.
        classifier_activation: Activation of the last layer: sigmoid for several labels, linear for values, null for
            logits.
        max_length: Maximum number of tokens of a text, which the preprocessor truncates. Null takes the length that 95% of
            the training texts do not exceed, 128 to 512.

    Raises:
        UsageError: a size that is not positive, too many buckets, or a fraction out of range.

    Example:
        >>> zoo.build_bag_of_ngrams_model(vocab_size=10000, num_classes=10).count_params()
        1879482
    """
    import keras
    from keras import layers

    from zoo.layers import blocks
    from zoo.layers.ngrams import MOST_BUCKETS, BiasedActivation, NgramIds, ScaledLength, TermWeights
    from zoo.layers.series import WeightedSum

    is_linear = embedding_dim is None and num_classes < _MANY_CLASSES
    embedding_dim = min(num_classes, 256) if embedding_dim is None else embedding_dim
    blocks.check_positive(
        vocab_size=vocab_size,
        num_classes=num_classes,
        ngrams=ngrams,
        num_features=num_features,
        num_buckets=num_buckets,
        embedding_dim=embedding_dim,
    )
    blocks.check_fraction(dropout=dropout)
    if num_buckets > MOST_BUCKETS:
        raise UsageError(
            f"num_buckets is {num_buckets}; expected at most {MOST_BUCKETS}. Pass num_buckets={MOST_BUCKETS}."
        )
    numbers = vocab_size + (num_features if ngrams > 1 else 0)
    inputs = keras.Input((None,), dtype="int32", name="token_ids")
    ids = NgramIds(vocab_size, ngrams, num_features, num_buckets, name="ngrams")(inputs)
    weights = TermWeights(numbers, name="term_weights")(ids)
    if dropout:
        weights = layers.Dropout(dropout, name="ngram_dropout")(weights)
    weights = ScaledLength(_LENGTH, name="scaled_weights")(weights)
    vectors = layers.Embedding(
        numbers, embedding_dim, keras.initializers.RandomUniform(-0.002, 0.002), name="embedding"
    )(ids)
    x: Any = WeightedSum(name="pooled")([vectors, weights])
    x = layers.Identity(name="features")(x)
    if is_linear:
        name, dtype = blocks.output_name(num_classes, classifier_activation), blocks.output_dtype()
        outputs = BiasedActivation(classifier_activation, name=name, dtype=dtype)(x)
    else:
        outputs = blocks.classifier(x, num_classes, classifier_activation, "identity")
    return keras.Model(inputs, outputs, name="bag_of_ngrams")
