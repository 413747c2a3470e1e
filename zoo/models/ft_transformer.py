"""FT-Transformer: attention over the columns of a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from zoo.errors import UsageError
from zoo.recommended.tables import small_attention, table_options
from zoo.registry import register_model

if TYPE_CHECKING:
    import keras


@register_model(
    tasks=("tabular_classification", "tabular_multilabel", "tabular_regression"),
    reference="Gorishniy, Rubachev, Khrulkov and Babenko, Revisiting deep learning models for tabular data, NeurIPS 2021",
    features_layer="features",
    recommended_arguments=small_attention,
    recommended_options=table_options,
    data_arguments=("input_shape", "num_classes", "category_sizes", "bin_edges"),
    search_space={
        "config.learning_rate": "3e-5:3e-3:log",
        "model.num_layers": "1:4",
        "model.attention_dropout": "0:0.5",
        "model.dropout": "0:0.5",
    },
    tiny={
        "input_shape": (3,),
        "num_classes": 3,
        "category_sizes": (4, 5),
        "embedding_dim": 8,
        "num_heads": 2,
        "num_layers": 2,
        "feed_forward_dim": 6,
        "attention_dropout": 0.0,
        "dropout": 0.0,
    },
    golden=(
        # Tokens of 192: 2 numbers with weight and bias, 3 + 4 known categories and 2 biases, the class token. A block:
        # attention 4 x (192 x 192 + 192), feed-forward 192 x 512 + 512 and 256 x 192 + 192, two norms of 2 x 192; the first
        # has only one norm. The last norm, and dense 192 to 2.
        (
            {"input_shape": (2,), "num_classes": 2, "category_sizes": (4, 5)},
            192 * (4 + 7 + 2 + 1) + 3 * (148_224 + 98_816 + 49_344) + 5 * 384 + 384 + 386,
        ),
        # A number of 2 bins; channels 8: 2 weights, bias and class token; one block with one norm; the last norm; dense to 1.
        (
            {
                "input_shape": (1,),
                "num_classes": 1,
                "bin_edges": ((0, 1, 2),),
                "embedding_dim": 8,
                "num_heads": 2,
                "num_layers": 1,
                "classifier_activation": "linear",
            },
            8 * (2 + 1 + 1) + 4 * 72 + (8 * 20 + 20) + (10 * 8 + 8) + 16 + 16 + 9,
        ),
    ),
)
def build_ft_transformer_model(
    input_shape: Sequence[int],
    num_classes: int,
    category_sizes: Sequence[int] = (),
    bin_edges: Sequence[Sequence[float]] | None = None,
    number_embedding: Literal["linear", "bins", "waves"] = "bins",
    embedding_dim: int = 192,
    num_heads: int = 8,
    num_layers: int = 3,
    feed_forward_dim: int | None = None,
    attention_dropout: float = 0.2,
    dropout: float = 0.1,
    residual_dropout: float = 0.0,
    classifier_activation: Literal["softmax", "sigmoid", "linear"] | None = "softmax",
) -> keras.Model:
    """FT-Transformer: a vector for each column of a row, blocks of attention over them, a softmax on the class token.

    Use it for tables whose columns interact, if its cost is acceptable: a training step takes many times as long as that of
    `mlp`. Inputs `numbers`: float32 (batch, numbers), and `categories`: int32 (batch, columns), 0 for an unknown category;
    each only if there are any. Output `probabilities` (or `logits` with `classifier_activation=None`, `values` with
    "linear"): float32 (batch, num_classes).

    The attention of the first block has no norm before it, and the last block computes the class token alone, as in the
    authors' code. With n numbers, C known categories in m columns, c classes, channels d and feed-forward channels f, it has
    d (2 n + C + m + 1) parameters in the tokens, 4 (d^2 + d) + 3 d f + 2 f + d + 4 d in each block but for 2 d less in the
    first, and 2 d + (d + 1) c at the end. With bins, a number has as many weights of d as bins, instead of one.

    Args:
        input_shape: (numbers,), how many numbers a row has; (0,) for none.
        num_classes: Number of classes, or of values to predict.
        category_sizes: How many numbers the categories of each column have, 0 included; empty without categories.
        bin_edges: The edges of the bins of each number; null for none.
        number_embedding: How a number becomes a vector: by weights of its parts in the bins and a bias (bins), of the number
            alone, as in the paper (linear), or of learned frequencies (waves).
        embedding_dim: Channels of a token, divisible by num_heads.
        num_heads: Attention heads of a block.
        num_layers: Number of blocks.
        feed_forward_dim: Channels between the two dense layers of a block; null for 4/3 of embedding_dim.
        attention_dropout: Dropout rate of the attention weights.
        dropout: Dropout rate between the two dense layers of a block.
        residual_dropout: Dropout rate of the outputs of attention and feed-forward net.
        classifier_activation: Activation of the last layer, null for logits, linear for values.

    Raises:
        UsageError: a size that is not positive, a fraction out of range, channels that num_heads does not divide, or an
            unknown embedding.

    Example:
        >>> zoo.build_ft_transformer_model((3,), 2, category_sizes=(4, 5)).output_shape
        (None, 2)
    """
    import keras
    from keras import layers

    from zoo.layers import blocks, feature_tokens, tabular

    feed_forward_dim = embedding_dim * 4 // 3 if feed_forward_dim is None else feed_forward_dim
    blocks.check_positive(
        embedding_dim=embedding_dim, num_heads=num_heads, num_layers=num_layers, feed_forward_dim=feed_forward_dim
    )
    blocks.check_divides(num_heads, embedding_dim=embedding_dim)
    blocks.check_fraction(attention_dropout=attention_dropout, dropout=dropout, residual_dropout=residual_dropout)
    tabular.check_bin_edges(bin_edges)
    inputs = tabular.inputs_of(input_shape, category_sizes)
    bound = embedding_dim**-0.5
    tokens = []
    if "numbers" in inputs:
        edges = bin_edges if number_embedding == "bins" else None
        frequencies = tabular.WAVES if number_embedding == "waves" else 0
        if number_embedding not in ("linear", "bins", "waves"):
            raise UsageError(f"number_embedding is {number_embedding!r}. Pass 'linear', 'bins' or 'waves'.")
        layer = tabular.NumberEmbedding(embedding_dim, edges, frequencies, bound=bound, name="number_tokens")
        tokens.append(layer(inputs["numbers"]))
    if "categories" in inputs:
        # The deviation of a uniform distribution with that bound.
        deviation = bound / 3**0.5
        embedding = tabular.CategoryEmbedding(
            category_sizes, embedding_dim, deviation, use_bias=True, name="category_tokens"
        )
        tokens.append(embedding(inputs["categories"]))
    x = layers.Concatenate(axis=1, name="columns")(tokens) if len(tokens) > 1 else tokens[0]
    x = feature_tokens.ClassToken(deviation=bound / 3**0.5, name="tokens")(x)
    for i in range(1, num_layers + 1):
        x = feature_tokens.FeatureBlock(
            num_heads,
            feed_forward_dim,
            attention_dropout,
            dropout,
            residual_dropout,
            attention_norm=i > 1,
            only_first=i == num_layers,
            name=f"block_{i}",
        )(x)
    x = layers.Flatten(name="class_token")(x)
    x = layers.LayerNormalization(epsilon=1e-5, name="norm")(x)
    x = layers.ReLU(name="features")(x)
    outputs = blocks.classifier(x, num_classes, classifier_activation)
    return keras.Model(list(inputs.values()), outputs, name="ft_transformer")
