"""Wide and deep network for tables: a linear model with crosses of columns, and a multi-layer perceptron, in one sum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from zoo.errors import UsageError
from zoo.recommended.tables import large_table_layers, table_options
from zoo.registry import register_model

if TYPE_CHECKING:
    import keras


@register_model(
    tasks=("tabular_classification", "tabular_multilabel", "tabular_regression"),
    reference="Cheng et al., Wide and deep learning for recommender systems, DLRS 2016; numbers of a table as in Gorishniy, "
    "Rubachev and Babenko, On embeddings for numerical features in tabular deep learning, NeurIPS 2022",
    features_layer="features",
    recommended_arguments=large_table_layers,
    recommended_options=table_options,
    data_arguments=("input_shape", "num_classes", "category_sizes", "bin_edges"),
    search_space={
        "config.learning_rate": "1e-4:1e-2:log",
        "model.hidden_units": "[64, 64],[128, 128],[256, 256]",
        "model.dropout": "0:0.5",
    },
    tiny={
        "input_shape": (3,),
        "num_classes": 3,
        "category_sizes": (4, 5),
        "hidden_units": (6,),
        "embedding_dim": 2,
        "category_dim": 2,
    },
    golden=(
        # Wide: 2 numbers of 3 bins and 3 + 4 known categories, each with 2 weights. Deep: vectors of 16 and of 8 channels,
        # dense 2 + 2 x 16 + 2 x 8 to 64 to 64 to 2.
        (
            {
                "input_shape": (2,),
                "num_classes": 2,
                "category_sizes": (4, 5),
                "bin_edges": ((0, 1, 2, 3), (0, 1, 2, 4)),
            },
            (2 * 3 + 7) * 2 + 2 * 3 * 16 + 2 * 16 + 7 * 8 + 50 * 64 + 64 + 4_160 + 130,
        ),
        # Without numbers; 3 + 4 known categories and 3 x 4 pairs of them with 1 weight each; dense 2 x 8 to 5 to 1.
        (
            {
                "input_shape": (0,),
                "num_classes": 1,
                "category_sizes": (4, 5),
                "crosses": ((0, 1),),
                "hidden_units": (5,),
                "classifier_activation": "linear",
            },
            7 + 12 + 7 * 8 + 16 * 5 + 5 + 5 + 1,
        ),
    ),
)
def build_wide_deep_model(
    input_shape: Sequence[int],
    num_classes: int,
    category_sizes: Sequence[int] = (),
    bin_edges: Sequence[Sequence[float]] | None = None,
    crosses: Sequence[Sequence[int]] = (),
    max_cross_size: int = 10_000,
    hidden_units: Sequence[int] = (64, 64),
    activation: str = "relu",
    dropout: float = 0.0,
    classifier_activation: Literal["softmax", "sigmoid", "linear"] | None = "softmax",
    number_embedding: Literal["bins", "waves"] | None = "bins",
    embedding_dim: int = 16,
    category_dim: int = 8,
) -> keras.Model:
    """A linear model of a row and of pairs of its categories, plus dense layers over their vectors.

    Use it for tables with many categories whose combinations matter: the wide part learns single combinations, the deep part
    generalises to new ones. Inputs `numbers`: float32 (batch, numbers), and `categories`: int32 (batch, columns), 0 for an
    unknown category; each only if there are any. Output `probabilities` (or `logits` with `classifier_activation=None`,
    `values` with "linear"): float32 (batch, num_classes).

    The wide part has a weight for each class and each bin of a number (or each number without bins), each known category, and
    each combination of two known categories of a pair in `crosses`. Its output and that of the deep part are added before
    the activation. Both parts are trained together, by one optimizer.

    With n numbers of at most k bins, C known categories in m columns, X known combinations, c classes and hidden units u_1 to
    u_L, it has (n k + C + X) c parameters in the wide part, n (k + 1) embedding_dim + C category_dim in the vectors, and
    those of dense layers from n + n embedding_dim + m category_dim to u_1 to ... to u_L to c.

    Args:
        input_shape: (numbers,), how many numbers a row has; (0,) for none.
        num_classes: Number of classes, or of values to predict.
        category_sizes: How many numbers the categories of each column have, 0 included; empty without categories.
        bin_edges: The edges of the bins of each number; null for none.
        crosses: Pairs of category columns with a weight for each combination, by their places among the category columns
            from 0, such as [[0, 1]]. They help only where a combination says more than its parts: many pairs learn the
            training split by heart.
        max_cross_size: Limit of the combinations of one pair.
        hidden_units: Units of each hidden layer of the deep part.
        activation: Keras activation of the hidden layers.
        dropout: Dropout rate of each hidden layer's outputs.
        classifier_activation: Activation of the sum, null for logits, linear for values.
        number_embedding: How numbers become vectors of the deep part, next to the numbers themselves: from the bins, or from
            learned frequencies (waves); null for the numbers alone.
        embedding_dim: Channels of a number's vector.
        category_dim: Channels of a category's vector.

    Raises:
        UsageError: a size that is not positive, a fraction out of range, an unknown activation or embedding, no such pair of
            columns, or a pair with too many combinations.

    Example:
        >>> zoo.build_wide_deep_model((3,), 2, category_sizes=(4, 5), crosses=[[0, 1]]).output_shape
        (None, 2)
    """
    import keras
    from keras import layers

    from zoo.layers import blocks, tabular

    blocks.check_positive(max_cross_size=max_cross_size, embedding_dim=embedding_dim, category_dim=category_dim)
    blocks.check_each_positive(hidden_units=hidden_units)
    blocks.check_activation(activation=activation)
    blocks.check_fraction(dropout=dropout)
    tabular.check_bin_edges(bin_edges)
    name, dtype = blocks.output_name(num_classes, classifier_activation), blocks.output_dtype()
    inputs = tabular.inputs_of(input_shape, category_sizes)
    pairs = _pairs(crosses, category_sizes, max_cross_size)
    vectors = tabular.vectors(inputs, category_sizes, bin_edges, number_embedding, embedding_dim, category_dim)
    x = tabular.flat_row(inputs, vectors)
    for i, units in enumerate(hidden_units, start=1):
        x = layers.Dense(units, activation=activation, name=f"hidden_{i}")(x)
        if dropout:
            x = layers.Dropout(dropout, name=f"dropout_{i}")(x)
    x = layers.Identity(name="features")(x)
    parts = [layers.Dense(num_classes, dtype=dtype, name="deep")(x)]
    if "numbers" in inputs:
        weights = tabular.NumberEmbedding(num_classes, bin_edges, bound=0.0, use_bias=False, name="wide_number_weights")
        parts.append(tabular.ColumnSum(dtype=dtype, name="wide_numbers")(weights(inputs["numbers"])))
    if "categories" in inputs:
        sizes, columns = category_sizes, inputs["categories"]
        if pairs:
            crossed = tabular.CategoryCrosses(category_sizes, pairs, name="crosses")
            sizes, columns = crossed.all_sizes, crossed(columns)
        table = tabular.CategoryEmbedding(sizes, num_classes, deviation=0.0, name="wide_category_weights")
        parts.append(tabular.ColumnSum(dtype=dtype, name="wide_categories")(table(columns)))
    x = layers.Add(dtype=dtype, name="sum")(parts)
    outputs = layers.Activation(classifier_activation or "linear", dtype=dtype, name=name)(x)
    return keras.Model(list(inputs.values()), outputs, name="wide_deep")


def _pairs(crosses: Sequence[Sequence[int]], category_sizes: Sequence[int], limit: int) -> list[tuple[int, int]]:
    """Returns the pairs of columns that have combinations of known categories."""
    known = [size - 1 for size in category_sizes]
    pairs = []
    for pair in crosses if isinstance(crosses, (list, tuple)) else (crosses,):
        places = pair if isinstance(pair, (list, tuple)) else ()
        if len(set(places)) != 2 or len(places) != 2 or not all(place in range(len(known)) for place in places):
            raise UsageError(
                f"crosses is {crosses!r}; expected pairs of different category columns, by their places from 0 to "
                f"{len(known) - 1}. Pass crosses=[[0, 1]], or [] for none."
            )
        first, second = places
        if known[first] * known[second] > limit:
            raise UsageError(
                f"The pair {list(pair)} of crosses has {known[first] * known[second]:,} combinations, more than "
                f"max_cross_size={limit}. Leave the pair out, or pass a larger max_cross_size."
            )
        if known[first] * known[second]:
            pairs.append((first, second))
    return pairs
