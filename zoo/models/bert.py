"""BERT: a bidirectional Transformer encoder for texts, from random weights or from a Hugging Face folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from zoo import checkpoints
from zoo.errors import UsageError
from zoo.frozen_head import solve_head
from zoo.recommended.texts import fine_tuning
from zoo.registry import register_model, register_variant

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

Function = Callable[[Mapping[str, Any], Mapping[str, Any]], "dict[str, tf.Tensor]"]


def make_features(model: keras.Model) -> Function:
    """Returns a function from the model's inputs by name to two vectors of every text, float32 (batch, hidden_size).

    `pooled` is the pooler's output, if the model has one: the input of the classifier. `mean_pooled` is the mean of the last
    block's vectors over the real tokens. It represents a text better if the pooler was not trained for this.

    Args:
        model: a model from `build_bert_model` or `build_bert_mlm_model`.

    Example:
        >>> model = zoo.build_bert_tiny_model(vocab_size=100, num_classes=2)
        >>> ones = tf.ones((3, 7), tf.int32)
        >>> features = make_features(model)({"token_ids": ones, "token_type_ids": ones, "padding_mask": ones}, {})
        >>> features["mean_pooled"].shape
        TensorShape([3, 128])
    """
    import keras
    import tensorflow as tf

    from zoo.layers import bert, sequences

    names = {layer.name for layer in model.layers}
    blocks = [name for name in names if name.startswith("block_")]
    outputs = {"tokens": model.get_layer(f"block_{len(blocks)}").output}
    if "pooled" in names:
        outputs["pooled"] = model.get_layer("pooled").output
    wanted = [tensor for tensor in model.inputs if tensor.name in bert.INPUTS]
    inner = keras.Model(wanted, outputs)
    mean = sequences.MaskedMean(dtype="float32")

    def features(inputs: Mapping[str, Any], extras: Mapping[str, Any]) -> dict[str, tf.Tensor]:
        found = inner({name: inputs[name] for name in bert.INPUTS}, training=False)
        # With mixed precision the outputs of the layers are half precision, which other runtimes misread.
        tokens = tf.cast(found.pop("tokens"), tf.float32)
        pooled = mean(tokens, mask=tf.not_equal(inputs["padding_mask"], 0))
        return {**{name: tf.cast(value, tf.float32) for name, value in found.items()}, "mean_pooled": pooled}

    return features


_TEXT_TASKS = ("text_classification", "text_multilabel", "text_regression")


@register_model(
    tasks=(*_TEXT_TASKS, "tagging"),
    reference="Devlin, Chang, Lee and Toutanova, BERT: Pre-training of deep bidirectional transformers for language "
    "understanding, NAACL 2019, arXiv:1810.04805",
    levels=(("pooled", "probabilities", "logits"),),
    functions={"features": make_features},
    preprocessing={
        "preprocessor": {**dict.fromkeys(_TEXT_TASKS, "wordpiece"), "tagging": "tagging_wordpiece"},
        "vocab_size": 30_522,
        "max_length": 512,
        "reads_pairs": True,
    },
    checkpoints=("bert_folder",),
    initial_arguments=("weights", "load_classifier", "labels", "vocabulary"),
    recommended_options=fine_tuning,
    closed_form=solve_head,
    search_space={"config.learning_rate": "1e-5:1e-4:log", "config.batch_size": "16,32", "config.epochs": "2,3,4"},
    tiny={
        "vocab_size": 12,
        "num_classes": 3,
        "hidden_size": 6,
        "num_layers": 2,
        "num_heads": 2,
        "intermediate_size": 7,
        "max_length": 9,
        "type_vocab_size": 3,
        "dropout": 0.0,
        "attention_dropout": 0.0,
    },
    golden=(({"vocab_size": 30_522, "num_classes": 2}, 109_483_778),),  # tests/models/test_bert.py has the formula
)
def build_bert_model(
    vocab_size: int,
    num_classes: int,
    hidden_size: int = 768,
    num_layers: int = 12,
    num_heads: int = 12,
    intermediate_size: int = 3072,
    max_length: int = 512,
    type_vocab_size: int = 2,
    dropout: float = 0.1,
    attention_dropout: float = 0.1,
    classifier_dropout: float | None = None,
    activation: Literal["gelu", "gelu_tanh", "relu", "silu", "tanh"] = "gelu",
    layer_norm_epsilon: float = 1e-12,
    pooling: Literal["pooler", "first", "mean", "max"] = "pooler",
    pooler_activation: Literal["tanh", "relu"] = "tanh",
    weights: str | None = None,
    load_classifier: bool = False,
    labels: list[str] | None = None,
    vocabulary: str | None = None,
    classifier_activation: Literal["softmax", "sigmoid", "linear"] | None = "softmax",
    tags_words: bool = False,
) -> keras.Model:
    """BERT: blocks of attention over the whole text, the first token's vector through a pooler, a softmax.

    Use it with the weights of a pretrained checkpoint. Then a few hundred labelled texts may be enough. Inputs
    `token_ids`, `token_type_ids` and `padding_mask`: int32 (batch, tokens), at most max_length tokens. The mask is 1 on
    real tokens and 0 on padding, which does not affect the output. Output `probabilities` (or `logits` with
    `classifier_activation=None`, `values` with `linear`): float32 (batch, num_classes).

    With tags_words it has no pooler, and tags the words of a text, as transformers' BertForTokenClassification does. The
    input `word_positions`, int32 (batch, words), is the position of the first token of each word, 0 on padding. The output
    is (batch, words, num_classes).

    Args:
        vocab_size: Number of token ids.
        num_classes: Number of classes.
        hidden_size: Channels of a token's vector, divisible by num_heads.
        num_layers: Number of blocks.
        num_heads: Attention heads of a block.
        intermediate_size: Units of a block's inner dense layer.
        max_length: Maximum number of tokens of a text. If a checkpoint has more positions, the first ones are used.
        type_vocab_size: Number of token types, such as first and second text of a pair.
        dropout: Dropout rate of the embeddings and of the outputs of attention and dense layers.
        attention_dropout: Dropout rate of the attention weights.
        classifier_dropout: Dropout rate of the classifier's inputs; null uses the value of dropout.
        activation: Activation of a block's inner layer; gelu is exact, gelu_tanh its approximation.
        layer_norm_epsilon: Epsilon of the layer normalisations.
        pooling: What the classifier reads: pooler is a dense layer on the first token's vector, as in BERT; first, mean and
            max are that vector, and the mean and the maximum over the tokens, as in sentence encoders.
        pooler_activation: Activation of the pooler: tanh in BERT, relu in DistilBERT.
        weights: Path of a Hugging Face folder with the same sizes, or hf:ORG/NAME@REVISION to download one, null for random
            weights. With a data set, all arguments that are left at their defaults get the sizes and settings of the folder.
        load_classifier: Whether to load the classifier from the folder, too. If false, it starts from random weights.
        labels: The folder's label names in the wanted order of the classes; null for the folder's order.
        vocabulary: Path of a vocab.txt, or of a folder with a tokenizer, for the data set's texts. Null uses the vocabulary
            of weights, or trains one on the data. The model itself needs only its size.
        classifier_activation: Activation of the last layer: sigmoid for several labels, linear for values, null for
            logits.
        tags_words: Whether the model tags the words of a text. The data decides it.

    Raises:
        UsageError: a size that is not positive, a fraction out of range, a hidden size that num_heads does not divide, an
            unknown activation, or a folder that is missing, damaged or of other sizes.

    Example:
        >>> sizes = {"hidden_size": 128, "num_layers": 2, "num_heads": 2, "intermediate_size": 512}
        >>> zoo.build_bert_model(vocab_size=1000, num_classes=2, **sizes).count_params()
        607362
    """
    import keras
    from keras import layers

    from zoo.layers import bert, blocks

    blocks.check_positive(num_classes=num_classes)
    last_dropout = dropout if classifier_dropout is None else classifier_dropout
    blocks.check_fraction(dropout=dropout, classifier_dropout=last_dropout)
    sizes = (vocab_size, hidden_size, num_layers, num_heads, intermediate_size, max_length, type_vocab_size)
    checkpoint = find_checkpoint("bert", weights, sizes, activation, layer_norm_epsilon, pooler_activation)
    if checkpoint is None and load_classifier:
        raise UsageError("load_classifier requires weights, which are not given. Pass weights, or leave it out.")
    inputs, x, _ = bert.encoder(*sizes, dropout, attention_dropout, activation, layer_norm_epsilon)
    if tags_words:
        inputs = [*inputs, keras.Input((None,), dtype="int32", name="word_positions")]
        x = bert.TakePositions(name="first_pieces")([x, inputs[-1]])
    else:
        x = bert.pool(x, inputs[2], "first" if pooling == "pooler" else pooling)
        if pooling == "pooler":
            dense = {"activation": pooler_activation, "kernel_initializer": bert.initializer()}
            x = layers.Dense(hidden_size, **dense, name="pooled")(x)
    x = layers.Dropout(last_dropout, name="classifier_dropout")(x)
    outputs = blocks.classifier(x, num_classes, classifier_activation, bert.initializer())
    model = keras.Model(inputs, outputs, name="bert")
    if checkpoint is not None:
        checkpoint.load(model, classifier=load_classifier, labels=labels)
    return model


_SIZES = ("vocab_size", "hidden_size", "num_layers", "num_heads", "intermediate_size", "max_length", "type_vocab_size")


def find_checkpoint(
    model: str,
    weights: str | None,
    sizes: Sequence[int],
    activation: str,
    layer_norm_epsilon: float,
    pooler_activation: str | None = None,
) -> checkpoints.Checkpoint | None:
    """Returns the checkpoint that `weights` names, None for none, and checks the builder's arguments against it.

    Raises:
        UsageError: the path is not a checkpoint, or its sizes or settings differ.
    """
    if weights is None:
        return None
    found = checkpoints.find(model, weights)
    body = dict(zip(_SIZES, sizes, strict=True))
    pooler = {} if pooler_activation is None else {"pooler_activation": pooler_activation}
    found.check({**body, **pooler, "activation": activation, "layer_norm_epsilon": layer_norm_epsilon})
    return found


# --- Named sizes: Turc, Chang, Lee and Toutanova, Well-read students learn better, 2019, arXiv:1908.08962 -----------------

_UNCASED = {"vocab_size": 30_522, "num_classes": 2}
build_bert_tiny_model = register_variant(
    build_bert_model,
    "bert_tiny",
    "BERT tiny: 2 blocks of 128 channels with 2 heads.",
    hidden_size=128,
    num_layers=2,
    num_heads=2,
    intermediate_size=512,
    golden=((_UNCASED, 4_386_178),),
)
build_bert_mini_model = register_variant(
    build_bert_model,
    "bert_mini",
    "BERT mini: 4 blocks of 256 channels with 4 heads.",
    hidden_size=256,
    num_layers=4,
    num_heads=4,
    intermediate_size=1024,
    golden=((_UNCASED, 11_171_074),),
)
build_bert_small_model = register_variant(
    build_bert_model,
    "bert_small",
    "BERT small: 4 blocks of 512 channels with 8 heads.",
    hidden_size=512,
    num_layers=4,
    num_heads=8,
    intermediate_size=2048,
    golden=((_UNCASED, 28_764_674),),
)
build_bert_medium_model = register_variant(
    build_bert_model,
    "bert_medium",
    "BERT medium: 8 blocks of 512 channels with 8 heads.",
    hidden_size=512,
    num_layers=8,
    num_heads=8,
    intermediate_size=2048,
    golden=((_UNCASED, 41_374_210),),
)
build_bert_base_model = register_variant(
    build_bert_model,
    "bert_base",
    "BERT base: 12 blocks of 768 channels with 12 heads.",
    hidden_size=768,
    num_layers=12,
    num_heads=12,
    intermediate_size=3072,
    golden=((_UNCASED, 109_483_778),),
)
build_bert_large_model = register_variant(
    build_bert_model,
    "bert_large",
    "BERT large: 24 blocks of 1024 channels with 16 heads.",
    hidden_size=1024,
    num_layers=24,
    num_heads=16,
    intermediate_size=4096,
    golden=((_UNCASED, 335_143_938),),
)
