"""Multi-layer perceptron: the baseline that a first experiment should beat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from zoo.recommended.tables import table_members, table_options
from zoo.registry import register_model

if TYPE_CHECKING:
    import keras


@register_model(
    tasks=(
        *("image_classification", "image_multilabel", "image_regression"),
        *("tabular_classification", "tabular_multilabel", "tabular_regression"),
    ),
    reference="Rumelhart, Hinton and Williams, Learning representations by back-propagating errors, Nature 323, 1986; "
    "numbers of a table as in Gorishniy, Rubachev and Babenko, On embeddings for numerical features in tabular deep "
    "learning, NeurIPS 2022; members as in Gorishniy, Kotelnikov and Babenko, TabM, ICLR 2025",
    features_layer="features",
    recommended_arguments=table_members,
    recommended_options=table_options,
    jit_compile=True,
    preprocessing={"image_size": (28, 28)},
    data_arguments=("num_classes", "category_sizes", "bin_edges"),
    search_space={
        "config.learning_rate": "1e-4:1e-2:log",
        "model.hidden_units": "[64, 64],[128, 128],[256, 256],[128, 128, 128]",
        "model.dropout": "0:0.5",
    },
    tiny={"input_shape": (6, 5, 1), "num_classes": 3, "hidden_units": (4,)},
    golden=(
        ({"input_shape": (28, 28, 1), "num_classes": 10}, 55_050),
        ({"input_shape": (28, 28, 1), "num_classes": 10, "hidden_units": (128,)}, 101_770),
        ({"input_shape": (784,), "num_classes": 10}, 55_050),
        ({"input_shape": (784,), "num_classes": 10, "hidden_units": (128,)}, 101_770),
        # Vectors of 2 numbers with 3 bins, of 3 and 4 known categories; dense 2 + 2 x 16 + 2 x 8 to 64 to 64 to 2.
        (
            {
                "input_shape": (2,),
                "num_classes": 2,
                "category_sizes": (4, 5),
                "bin_edges": ((0, 1, 2, 3), (0, 1, 2, 4)),
            },
            2 * 3 * 16 + 2 * 16 + 7 * 8 + 50 * 64 + 64 + 4_160 + 130,
        ),
        # 3 members of 5 numbers: factors of the inputs, dense 5 to 64 to 64, and a last layer 64 to 2 for each member.
        (
            {"input_shape": (5,), "num_classes": 2, "category_sizes": (), "number_embedding": None, "members": 3},
            3 * 5 + 5 * 64 + 64 + 4_160 + 3 * 130,
        ),
    ),
)
def build_mlp_model(
    input_shape: Sequence[int],
    num_classes: int,
    hidden_units: Sequence[int] = (64, 64),
    activation: str = "relu",
    dropout: float = 0.0,
    classifier_activation: Literal["softmax", "sigmoid", "linear"] | None = "softmax",
    category_sizes: Sequence[int] | None = None,
    bin_edges: Sequence[Sequence[float]] | None = None,
    number_embedding: Literal["bins", "waves"] | None = "bins",
    embedding_dim: int = 16,
    category_dim: int = 8,
    members: int = 1,
) -> keras.Model:
    """Fully connected layers over a flattened image, or over the row of a table.

    Use it as a first baseline, for tables, and for small, centred images. Input `image`: float32 (batch, *input_shape),
    values 0 to 1; an image may be flat, as (batch, 784). With `category_sizes`, the inputs are those of a row instead:
    `numbers`, float32 (batch, numbers), and `categories`, int32 (batch, columns), 0 for an unknown category; each only if
    there are any. Output `probabilities` (or `logits` with `classifier_activation=None`, `values` with "linear"): float32
    (batch, num_classes).

    Args:
        input_shape: Shape of one example, such as (height, width, channels), (height, width) or the flat (784,); for a
            table, (numbers,).
        num_classes: Number of classes, or of values to predict.
        hidden_units: Units of each hidden layer; an empty list gives multinomial logistic regression.
        activation: Keras activation of the hidden layers.
        dropout: Dropout rate of each hidden layer's outputs.
        classifier_activation: Activation of the last layer, null for logits, linear for values.
        category_sizes: For a table, how many numbers the categories of each column have, 0 included; null for images.
        bin_edges: For a table, the edges of the bins of each number; null for none.
        number_embedding: How the numbers of a table become vectors, next to the numbers themselves: from the bins, or from
            learned frequencies (waves); null for the numbers alone.
        embedding_dim: Channels of a number's vector.
        category_dim: Channels of a category's vector.
        members: Networks in one, which share all weights but factors of the first layer's inputs and the last layer. Each is
            trained by its own loss, and their outputs before the last activation are averaged. 16 often predict better than
            one, and make a training step slower. In Keras's `fit`, weights of classes and examples apply to the loss of the
            averaged output alone, and other losses than that of the task do not fit. `features` are then (batch, members,
            units). 1 for a plain network.

    Raises:
        UsageError: a size that is not positive, a fraction out of range, an unknown activation or embedding, or several
            members with `classifier_activation=None`.

    Example:
        >>> zoo.build_mlp_model((784,), 10).count_params()
        55050
    """
    import keras
    from keras import layers

    from zoo.layers import blocks, tabular
    from zoo.layers.members import MemberScale, member_outputs

    blocks.check_each_positive(hidden_units=hidden_units)
    blocks.check_positive(embedding_dim=embedding_dim, category_dim=category_dim, members=members)
    blocks.check_activation(activation=activation)
    blocks.check_fraction(dropout=dropout)
    tabular.check_bin_edges(bin_edges)
    inputs: Any
    if category_sizes is None:
        blocks.check_input_shape(input_shape)
        inputs = keras.Input(tuple(input_shape), name="image")
        x = layers.Flatten(name="flatten")(inputs)
    else:
        inputs = tabular.inputs_of(input_shape, category_sizes)
        vectors = tabular.vectors(inputs, category_sizes, bin_edges, number_embedding, embedding_dim, category_dim)
        x = tabular.flat_row(inputs, vectors)
    if members > 1:
        x = MemberScale(members, name="members")(x)
    for i, units in enumerate(hidden_units, start=1):
        x = layers.Dense(units, activation=activation, name=f"hidden_{i}")(x)
        if dropout:
            x = layers.Dropout(dropout, name=f"dropout_{i}")(x)
    x = layers.Identity(name="features")(x)
    last = blocks.classifier if members == 1 else member_outputs
    return keras.Model(inputs, last(x, num_classes, classifier_activation), name="mlp")
