"""Sentence-BERT: one vector for a text, whose cosine with that of another text says how similar they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from zoo.models.bert import find_checkpoint
from zoo.recommended.texts import contrastive_tuning
from zoo.registry import register_model

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

TOP_K = 10
Function = Callable[[Mapping[str, Any], Mapping[str, Any]], "dict[str, tf.Tensor]"]


def _unit_vectors(model: keras.Model) -> Callable[[Mapping[str, Any]], tf.Tensor]:
    """Returns a function from model inputs by name to the texts' vectors of length 1, float32 (batch, hidden_size)."""
    import tensorflow as tf

    names = [tensor.name for tensor in model.inputs]

    def embed(inputs: Mapping[str, Any]) -> tf.Tensor:
        return tf.math.l2_normalize(model({name: inputs[name] for name in names}, training=False), axis=-1)

    return embed


def make_similarity(model: keras.Model) -> Function:
    """Returns a function from two texts to the cosine of their vectors, {"similarity": float32 (batch,)}.

    The model inputs of the second text are in `extras`, with the prefix `pair_`.

    Args:
        model: a model from `build_sentence_bert_model`.

    Example:
        >>> similarity = make_similarity(zoo.build("sentence_bert", vocab_size=20, **sizes))
        >>> similarity(inputs, {f"pair_{name}": value for name, value in inputs.items()})["similarity"].numpy()
        array([1.], dtype=float32)
    """
    import tensorflow as tf

    embed = _unit_vectors(model)

    def similarity(inputs: Mapping[str, Any], extras: Mapping[str, Any]) -> dict[str, tf.Tensor]:
        pair = {name: extras[f"pair_{name}"] for name in inputs}
        return {"similarity": tf.reduce_sum(embed(inputs) * embed(pair), axis=-1)}

    return similarity


def make_search(model: keras.Model) -> Function:
    """Returns a function from a text to the ten nearest texts of a corpus.

    It takes `extras` {"corpus": float32 (vectors, hidden_size), of length 1; "corpus_rows": int32 (texts,), the row of each
    text's vector}. It returns {"numbers": int32 (batch, 10), the texts' numbers in the corpus, nearest first; "score":
    float32 (batch, 10), the cosine}. Ties go to the lower number. A smaller corpus gives fewer columns.

    Args:
        model: a model from `build_sentence_bert_model`.

    Example:
        >>> search = make_search(zoo.build("sentence_bert", vocab_size=20, **sizes))
        >>> search(inputs, {"corpus": vectors, "corpus_rows": tf.range(20)})["numbers"].shape
        TensorShape([1, 10])
    """
    import tensorflow as tf

    embed = _unit_vectors(model)

    def search(inputs: Mapping[str, Any], extras: Mapping[str, Any]) -> dict[str, tf.Tensor]:
        rows = extras["corpus_rows"]
        scores = tf.gather(tf.linalg.matmul(embed(inputs), extras["corpus"], transpose_b=True), rows, axis=1)
        score, numbers = tf.math.top_k(scores, tf.minimum(TOP_K, tf.size(rows)))
        return {"numbers": numbers, "score": score}

    return search


@register_model(
    tasks=("text_embedding",),
    reference="Reimers and Gurevych, Sentence-BERT: Sentence embeddings using Siamese BERT-networks, EMNLP 2019, "
    "arXiv:1908.10084",
    functions={"similarity": make_similarity, "search": make_search},
    preprocessing={"preprocessor": "sentences", "vocab_size": 8000, "max_length": 128},
    data_arguments=(),
    checkpoints=("sentence_folder",),
    initial_arguments=("weights", "vocabulary"),
    recommended_options=contrastive_tuning,
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
    # (8,000 words + 512 positions + 2 token types + 2 of the norm) x 128, and 2 blocks of 198,272.
    golden=(({"vocab_size": 8000}, 8_516 * 128 + 2 * 198_272),),
)
def build_sentence_bert_model(
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
    pooling: Literal["mean", "first", "max"] = "mean",
    normalize: bool = True,
    weights: str | None = None,
    vocabulary: str | None = None,
) -> keras.Model:
    """Sentence-BERT: blocks of attention over a text, the mean of its tokens' vectors, divided by its length.

    Use it with the weights of a sentence encoder, such as `all-MiniLM-L6-v2`, for search, clustering and the similarity of
    texts. It needs no training. Trained on texts with labels, or on pairs of texts, it moves texts of a label, or of a pair,
    together. Inputs `token_ids`, `token_type_ids` and `padding_mask`: int32 (batch, tokens), at most max_length tokens. The
    mask is 1 on real tokens and 0 on padding, which does not affect the output. Output `embedding`: float32 (batch,
    hidden_size).

    Args:
        vocab_size: Number of token ids.
        hidden_size: Channels of a token's vector, divisible by num_heads.
        num_layers: Number of blocks.
        num_heads: Attention heads of a block.
        intermediate_size: Units of a block's inner dense layer.
        max_length: Maximum number of tokens of a text. If a checkpoint has more positions, the first ones are used.
        type_vocab_size: Number of token types. All tokens have the first type.
        dropout: Dropout rate of the embeddings and of the outputs of attention and dense layers.
        attention_dropout: Dropout rate of the attention weights.
        activation: Activation of a block's inner layer; gelu is exact, gelu_tanh its approximation.
        layer_norm_epsilon: Epsilon of the layer normalisations.
        pooling: How the tokens' vectors become one: their mean or maximum, or the first token's vector.
        normalize: Whether a vector is divided by its length, so that the product of two vectors is their cosine.
        weights: Path of a folder of sentence-transformers, or of a Hugging Face folder of BERT or DistilBERT, or
            hf:ORG/NAME@REVISION to download one, null for random weights. With a data set, arguments that are left at their
            defaults get the values of the folder.
        vocabulary: As in `build_bert_model`.

    Raises:
        UsageError: a size that is not positive, a fraction out of range, a hidden size that num_heads does not divide, an
            unknown activation or pooling, or a folder that is missing, damaged or of other sizes.

    Example:
        >>> zoo.build_sentence_bert_model(vocab_size=1000).count_params()
        590592
    """
    import keras
    from keras import layers

    from zoo.layers import bert

    sizes = (vocab_size, hidden_size, num_layers, num_heads, intermediate_size, max_length, type_vocab_size)
    checkpoint = find_checkpoint("sentence_bert", weights, sizes, activation, layer_norm_epsilon)
    inputs, x, _ = bert.encoder(*sizes, dropout, attention_dropout, activation, layer_norm_epsilon)
    x = bert.pool(x, inputs[2], pooling)
    last = layers.UnitNormalization if normalize else layers.Identity
    model = keras.Model(inputs, last(dtype="float32", name="embedding")(x), name="sentence_bert")
    if checkpoint is not None:
        checkpoint.load(model, classifier=False)
    return model
