"""BERT as a masked language model: it predicts masked tokens, and is trained on plain text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from zoo.errors import UsageError
from zoo.models.bert import find_checkpoint, make_features
from zoo.registry import register_model

if TYPE_CHECKING:
    import keras


@register_model(
    tasks=("masked_language_modelling",),
    reference="Devlin, Chang, Lee and Toutanova, BERT: Pre-training of deep bidirectional transformers for language "
    "understanding, NAACL 2019, arXiv:1810.04805",
    functions={"features": make_features},
    preprocessing={"preprocessor": "masked_text", "vocab_size": 8000, "max_length": 128},
    data_arguments=(),
    checkpoints=("bert_folder",),
    initial_arguments=("weights", "vocabulary"),
    tiny={
        "vocab_size": 12,
        "hidden_size": 16,
        "num_layers": 2,
        "num_heads": 2,
        "intermediate_size": 17,
        "max_length": 9,
        "type_vocab_size": 3,
        "dropout": 0.0,
        "attention_dropout": 0.0,
    },
    golden=(({"vocab_size": 8000}, 1_511_360),),  # tests/tasks/test_masking.py has the formula
)
def build_bert_mlm_model(
    vocab_size: int,
    hidden_size: int = 128,
    num_layers: int = 2,
    num_heads: int = 2,
    intermediate_size: int = 512,
    max_length: int = 512,
    type_vocab_size: int = 2,
    dropout: float = 0.1,
    attention_dropout: float = 0.1,
    activation: Literal["gelu", "gelu_tanh", "relu", "silu", "tanh"] = "gelu",
    layer_norm_epsilon: float = 1e-12,
    weights: str | None = None,
    vocabulary: str | None = None,
    classifier_activation: Literal["softmax"] | None = "softmax",
) -> keras.Model:
    """BERT that predicts masked subword tokens, with the same body as `bert`.

    Train it on plain text without labels, then pass its body to `bert` with `zoo huggingface`. The score of a token is the
    product with its embedding, so the table is trained as input and as output. Only the masks are scored, which are about
    one token in seven of a training text. To score all tokens would cost seven times as much.

    Inputs `token_ids`, `token_type_ids` and `padding_mask`: int32 (batch, tokens), at most max_length tokens. The mask is 1
    on real tokens and 0 on padding, which does not affect the output. Input `positions`: int32 (batch, masks), the positions
    of the masks. Output `probabilities` (or `logits` with `classifier_activation=None`): float32 (batch, masks, vocab_size).

    Args:
        vocab_size: Number of token ids.
        hidden_size: Channels of a token's vector, divisible by num_heads.
        num_layers: Number of blocks.
        num_heads: Attention heads of a block.
        intermediate_size: Units of a block's inner dense layer.
        max_length: Maximum number of tokens of a text. If a checkpoint has more positions, the first ones are used.
        type_vocab_size: Number of token types, such as first and second text of a pair.
        dropout: Dropout rate of the embeddings and of the outputs of attention and dense layers.
        attention_dropout: Dropout rate of the attention weights.
        activation: Activation of a block's inner layer; gelu is exact, gelu_tanh its approximation.
        layer_norm_epsilon: Epsilon of the layer normalisations.
        weights: As in `build_bert_model`.
        vocabulary: As in `build_bert_model`.
        classifier_activation: Activation of the last layer, null for logits.

    Raises:
        UsageError: a size that is not positive, a fraction out of range, a hidden size that num_heads does not divide, an
            unknown activation, or a folder that is missing, damaged or of other sizes.

    Example:
        >>> zoo.build_bert_mlm_model(vocab_size=1000).count_params()
        608360
    """
    import keras

    from zoo.layers import bert

    if classifier_activation not in ("softmax", None):
        raise UsageError(f"classifier_activation is {classifier_activation!r}. Pass 'softmax', or None for logits.")
    sizes = (vocab_size, hidden_size, num_layers, num_heads, intermediate_size, max_length, type_vocab_size)
    checkpoint = find_checkpoint("bert_mlm", weights, sizes, activation, layer_norm_epsilon)
    inputs, x, words = bert.encoder(*sizes, dropout, attention_dropout, activation, layer_norm_epsilon)
    inputs = [*inputs, keras.Input((None,), dtype="int32", name="positions")]
    x = bert.TakePositions(name="blanks")([x, inputs[-1]])
    x = bert.BertTransform(activation, layer_norm_epsilon, name="transform")(x)
    # float32 or better, for the same reasons as in `blocks.classifier`.
    dtype = "float64" if keras.config.floatx() == "float64" else "float32"
    name = "probabilities" if classifier_activation else "logits"
    outputs = bert.WordScores(classifier_activation, dtype=dtype, name=name)(words(x, reverse=True))
    model = keras.Model(inputs, outputs, name="bert_mlm")
    if checkpoint is not None:
        checkpoint.load(model, classifier=False)
    return model
