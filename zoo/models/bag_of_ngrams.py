"""Bag of n-grams: a linear model of words and their neighbours."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from zoo.errors import UsageError
from zoo.registry import Situation, register_model

if TYPE_CHECKING:
    import keras


_BATCH = 256
_LENGTH = 10.0
"""Euclidean length of a text's weights. In gradient descent, the steps of the vectors, most of which few texts have, are its
square as large as those of the biases."""
_SHORTEST = 3
"""Number of characters of the shortest n-grams of characters. With pairs, the accuracy on the validation split of clinc_oos
was only 0.002 higher, and the solution took half as long again."""
_LONGEST, _MOST_CHARACTERS = 5, 8
"""Number of characters of the longest n-grams of characters, and what it is at most."""
_KINDS = ("ngrams", "character_ngrams")
"""The layers that number n-grams, if a model has them."""


def selected_features(situation: Situation) -> dict[str, Any]:
    """Returns arguments of a bag of n-grams: few texts have few n-grams that occur twice.

    Example:
        >>> selected_features(Situation("text_classification", 1_000, {}))["num_features"]
        4096
    """
    features = min(2**17, max(2**12, 2 ** (4 * situation.examples).bit_length()))
    return {"num_features": features, "num_buckets": min(2**20, 16 * features)}


def options(situation: Situation) -> dict[str, Any]:
    """Returns options for a bag of n-grams: it is solved for, as in logistic regression. Gradient descent was less accurate
    on the validation splits of clinc_oos and chinese_reviews.

    The further options hold if an option of gradient descent is passed, such as `epochs`, or `embedding_dim`: a large rate,
    as for fastText, until the loss of the validation split no longer falls. Adam, which moves the vectors of rare n-grams as
    far as those of frequent ones, over-fitted chinese_reviews and sms_spam after one or two epochs. The gradient of several
    labels is their mean, so their rate is larger; that of squared errors is not bounded, so their rate is smaller.

    Example:
        >>> options(Situation("text_classification", 10_000, {"num_classes": 2}))["closed_form"]
        True
    """
    classes = situation.arguments.get("num_classes", 2)
    factor = {"text_multilabel": 0.5 * classes, "text_regression": 0.05}.get(situation.task, 1.0)
    return {
        "closed_form": situation.arguments.get("embedding_dim") is None,
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
        inputs: returns the batches of training texts, dicts with `token_ids`, int32 (batch, tokens), and `characters`, int32
            (batch, characters), if the model has this input.

    Example:
        >>> model = zoo.build_bag_of_ngrams_model(vocab_size=10, num_classes=2, character_ngrams=0)
        >>> inverse_document_frequencies(model, lambda: [{"token_ids": np.array([[2, 3], [2, 0]], np.int32)}])
    """
    import keras

    names = {layer.name for layer in model.layers}
    for name in _KINDS:
        if name in names:
            layer = model.get_layer(name)
            read = layer.input.name
            _, counts = _document_counts((layer.buckets(batch[read]) for batch in inputs()), layer.num_buckets)
            layer.select(counts)
    terms = model.get_layer("term_weights")
    ids = keras.Model(model.inputs, model.get_layer("numbers").output)
    texts, counts = _document_counts((np.asarray(ids(batch)) - 1 for batch in inputs()), terms.size - 1)
    frequencies = np.log((1 + texts) / (1 + counts)) + 1
    terms.values.assign(np.concatenate([[1.0], frequencies]))  # number 0 is padding


def _document_counts(batches: Iterable[Any], size: int) -> tuple[int, np.ndarray]:
    """Returns the number of texts, and in how many of them each number from 0 occurs, int64 (size,)."""
    texts, counts = 0, np.zeros(size, np.int64)
    for batch in batches:
        rows = np.sort(np.asarray(batch), axis=1)
        counts += np.bincount(rows[np.diff(rows, axis=1, prepend=-1) > 0], minlength=size)
        texts += len(rows)
    return texts, counts


def solve(model: keras.Model, inputs: Mapping[str, np.ndarray], targets: Mapping[str, np.ndarray]) -> None:
    """Sets the vectors and biases of a model whose channels are the logits, by regularised logistic regression, or by ridge
    regression for values; see `linear_solutions.solve_sparse`.

    Args:
        model: a model of `build_bag_of_ngrams_model` without `embedding_dim`, after `inverse_document_frequencies`.
        inputs: `token_ids` and `characters` of all training texts.
        targets: the only target: int (n,) class numbers, 0 or 1 of shape (n, labels), or float (n, values).

    Raises:
        UsageError: the model has a further layer, or all texts have the same label.

    Example:
        >>> solve(model, {"token_ids": np.array([[2, 3], [4, 0]], np.int32)}, {"label": np.array([0, 1])})
    """
    from zoo.layers.ngrams import BiasedActivation
    from zoo.linear_solutions import solve_sparse

    last, embedding = model.layers[-1], model.get_layer("embedding")
    if not isinstance(last, BiasedActivation):
        raise UsageError(
            f"embedding_dim={embedding.output_dim} adds a layer, so the model cannot be solved for at once. Leave "
            "closed_form or embedding_dim out."
        )
    (target,) = targets.values()
    features = _features(model, inputs, embedding.input_dim)
    kernel, bias = solve_sparse(features, np.asarray(target), embedding.output_dim, last.name == "values")
    embedding.embeddings.assign(kernel / _LENGTH)
    last.bias.assign(bias)


def _features(model: keras.Model, inputs: Mapping[str, np.ndarray], size: int) -> Any:
    """Returns the weights of the n-grams of all texts, a SciPy matrix (texts, size) with rows of Euclidean length 1 for each
    kind of n-gram."""
    import keras
    import scipy.sparse

    from zoo.kernels import traced

    parts = [model.get_layer(name).output for name in ("numbers", "weights")]
    body = keras.Model(model.inputs, parts)
    forward = traced(lambda batch: body([batch[part.name] for part in model.inputs], training=False), autograph=False)
    count = len(next(iter(inputs.values())))
    used = {name: (part != 0).sum(axis=1) for name, part in inputs.items()}
    order = np.argsort(sum(used.values()), kind="stable")  # batches of texts of similar length
    rows = []
    for start in range(0, count, _BATCH):
        chosen = order[start : start + _BATCH]
        batch = {name: part[chosen, : max(1, used[name][chosen].max())] for name, part in inputs.items()}
        numbers, weights = (np.asarray(part) for part in forward(batch))
        row, column = np.nonzero(weights)
        entries = (weights[row, column] / _LENGTH, (row, numbers[row, column]))
        rows.append(scipy.sparse.csr_matrix(entries, shape=(len(chosen), size)))
    places = np.empty(count, np.int64)
    places[order] = np.arange(count)
    return scipy.sparse.vstack(rows, format="csr")[places]


@register_model(
    tasks=("text_classification", "text_multilabel", "text_regression"),
    reference="Joulin, Grave, Bojanowski and Mikolov, Bag of tricks for efficient text classification, EACL 2017; weights as "
    "in Salton and Buckley, Term-weighting approaches in automatic text retrieval, Information Processing & Management 24, "
    "1988",
    features_layer="features",
    preprocessing={"vocab_size": 30_000, "max_length": 512, "longest": 2_048, "character_ngrams": 5},
    recommended_arguments=selected_features,
    recommended_options=options,
    adapt=lambda model, data: inverse_document_frequencies(model, data.training_inputs),
    closed_form=solve,
    search_space={"model.ngrams": "1,2", "model.num_features": "16384,65536,131072"},
    tiny={
        "vocab_size": 12,
        "embedding_dim": 6,
        "num_features": 20,
        "num_buckets": 50,
        "dropout": 0.0,
        "num_classes": 3,
    },
    # Numbers of 2^20 buckets for each kind, vectors and weights of 10,000 + 2 x 65,536 n-grams; 10 biases, or 64 x 10 + 10.
    golden=(
        ({"vocab_size": 10_000, "num_classes": 10}, 2**21 + 141_072 * 10 + 141_072 + 10),
        (
            {"vocab_size": 10_000, "num_classes": 10, "ngrams": 1, "character_ngrams": 0, "embedding_dim": 64},
            10_000 * 64 + 10_000 + 650,
        ),
    ),
)
def build_bag_of_ngrams_model(
    vocab_size: int,
    num_classes: int,
    ngrams: int = 2,
    num_features: int = 65_536,
    num_buckets: int = 2**20,
    character_ngrams: int | None = None,
    embedding_dim: int | None = None,
    dropout: float = 0.2,
    classifier_activation: Literal["softmax", "sigmoid", "linear"] | None = "softmax",
    max_length: int | None = None,
) -> keras.Model:
    """Vectors of words, pairs of words and parts of words, their sum weighted by inverse document frequency, a softmax.

    Use it first for every text classifier: it is fast, and often as good as larger models. It knows the order of neighbours
    alone, and each n-gram counts once in a text. Parts of words help with words that training did not have, and are n-grams
    of characters in languages without spaces. Inputs `token_ids`: int32 (batch, tokens), and `characters`: int32 (batch,
    characters), code points with a space before and after every word; 0 is padding, which does not affect the output. Output
    `probabilities` (or `logits` with `classifier_activation=None`, `values` with `linear`): float32 (batch, num_classes).

    Args:
        vocab_size: Number of token ids, including padding and unknown words; lowered if the data has fewer words.
        num_classes: Number of classes.
        ngrams: Number of tokens of the longest n-grams: 1 for single words, 2 for pairs too, 3 for triples too.
        num_features: Number of n-grams of several tokens with a vector, the most frequent ones of the training split; also
            that of n-grams of characters.
        num_buckets: Number of buckets of a hash of n-grams, for each kind. Those in the same bucket share a vector.
        character_ngrams: Number of characters of the longest n-grams of characters within a word; the shortest have 3. 0 for
            none, without the input `characters`. Null for 5, but 0 for training texts of more than 20 million characters,
            whose n-grams would take minutes to count; the run says so.
        embedding_dim: Channels of an n-gram's vector. With null, the channels are the logits, without a further layer, as in
            logistic regression.
        dropout: Share of a text's n-grams that are left out in training.
        classifier_activation: Activation of the last layer: sigmoid for several labels, linear for values, null for
            logits.
        max_length: Maximum number of tokens of a text, which the preprocessor truncates. Null takes the length that 95% of
            the training texts do not exceed, 512 to 2,048.

    Raises:
        UsageError: a size that is not positive, too many buckets, or a fraction out of range.

    Example:
        >>> zoo.build_bag_of_ngrams_model(vocab_size=10000, num_classes=10).count_params()
        3648954
    """
    import keras
    from keras import layers

    from zoo.layers import blocks
    from zoo.layers.ngrams import BiasedActivation, ScaledLength, TermWeights
    from zoo.layers.series import WeightedSum

    is_linear = embedding_dim is None
    embedding_dim = num_classes if embedding_dim is None else embedding_dim
    longest = _LONGEST if character_ngrams is None else character_ngrams
    blocks.check_positive(
        vocab_size=vocab_size,
        num_classes=num_classes,
        ngrams=ngrams,
        num_features=num_features,
        num_buckets=num_buckets,
        embedding_dim=embedding_dim,
    )
    blocks.check_fraction(dropout=dropout)
    _check_sizes(num_buckets, longest)
    size = vocab_size + num_features * ((ngrams > 1) + (longest > 0))
    inputs, kinds = _distinct(vocab_size, ngrams, longest, num_features, num_buckets)
    terms, weights = TermWeights(size, name="term_weights"), []
    for number, ids in enumerate(kinds):
        part = terms(ids)
        if dropout:
            part = layers.Dropout(dropout, name=f"dropout_{number}")(part)
        weights.append(ScaledLength(_LENGTH, name=f"scaled_weights_{number}")(part))
    all_ids, all_weights = (_joined(parts, name) for parts, name in ((kinds, "numbers"), (weights, "weights")))
    start = keras.initializers.RandomUniform(-0.002, 0.002)
    vectors = layers.Embedding(size, embedding_dim, start, name="embedding")(all_ids)
    x: Any = WeightedSum(name="pooled")([vectors, all_weights])
    x = layers.Identity(name="features")(x)
    if is_linear:
        name, dtype = blocks.output_name(num_classes, classifier_activation), blocks.output_dtype()
        outputs = BiasedActivation(classifier_activation, name=name, dtype=dtype)(x)
    else:
        outputs = blocks.classifier(x, num_classes, classifier_activation, "identity")
    return keras.Model(inputs, outputs, name="bag_of_ngrams")


def _check_sizes(num_buckets: int, longest: int) -> None:
    from zoo.layers.ngrams import MOST_BUCKETS

    if num_buckets > MOST_BUCKETS:
        raise UsageError(
            f"num_buckets is {num_buckets}; expected at most {MOST_BUCKETS}. Pass num_buckets={MOST_BUCKETS}."
        )
    if longest and not _SHORTEST <= longest <= _MOST_CHARACTERS:
        raise UsageError(
            f"character_ngrams is {longest}; expected {_SHORTEST} to {_MOST_CHARACTERS} characters, or 0 for none. Pass "
            f"character_ngrams={_LONGEST}."
        )


def _distinct(vocab_size: int, ngrams: int, longest: int, num_features: int, num_buckets: int) -> tuple[list, list]:
    """Returns the inputs, and the different n-grams of each kind."""
    import keras

    from zoo.layers.ngrams import CharacterNgramIds, DistinctIds, NgramIds

    tokens = keras.Input((None,), dtype="int32", name="token_ids")
    inputs, ids = [tokens], tokens
    if ngrams > 1:
        ids = NgramIds(vocab_size, ngrams, num_features, num_buckets, name="ngrams")(tokens)
    kinds = [DistinctIds(name="distinct_ngrams")(ids)]
    if longest:
        characters = keras.Input((None,), dtype="int32", name="characters")
        first, sizes = vocab_size + num_features * (ngrams > 1), (num_features, num_buckets)
        layer = CharacterNgramIds(first, _SHORTEST, longest, *sizes, name="character_ngrams")
        inputs.append(characters)
        kinds.append(DistinctIds(name="distinct_character_ngrams")(layer(characters)))
    return inputs, kinds


def _joined(parts: list[Any], name: str) -> Any:
    from keras import layers

    return layers.Concatenate(axis=1, name=name)(parts) if len(parts) > 1 else layers.Identity(name=name)(parts[0])
