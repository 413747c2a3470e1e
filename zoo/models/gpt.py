"""GPT: a Transformer decoder that continues texts."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from zoo.registry import register_model, register_variant

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from zoo.registry import Situation


class Reader:
    """Runs a `build_gpt_model` model token by token, with a cache of earlier tokens.

    It finds the layers by the names from the builder, so it also works on a model that was rebuilt from its config.
    """

    def __init__(self, model: keras.Model) -> None:
        from zoo.layers import blocks

        self._tokens, self._positions, self._norm = (model.get_layer(name) for name in ("tokens", "positions", "norm"))
        self._blocks = blocks.numbered(model, "block")
        self.end = self._tokens.vocab_size - 1

    def start(self, token_ids: tf.Tensor, lengths: tf.Tensor) -> tuple[tf.Tensor, Any]:
        """Returns the logits of the token after each prompt, and keys and values of every block."""
        import tensorflow as tf

        rows = tf.shape(token_ids)[0]
        x, caches = self._positions(self._tokens(token_ids)), []
        for block in self._blocks:
            x, cache = block(x, cache=block.empty_cache(rows), training=False)
            caches.append(cache)
        last = tf.gather(x, lengths - 1, axis=1, batch_dims=1)
        return self._logits(last), caches

    def step(self, ids: tf.Tensor, positions: tf.Tensor, real: tf.Tensor, state: Any) -> tuple[tf.Tensor, Any]:
        """Returns the logits after one more token of each row, and keys and values with it."""
        import tensorflow as tf

        # The loop computes one step more than it needs, whose position may be beyond the last one.
        positions = tf.minimum(positions, self._positions.max_length - 1)
        x, caches = self._positions(self._tokens(ids[:, tf.newaxis]), positions[:, tf.newaxis]), []
        for block, cache in zip(self._blocks, state, strict=True):
            x, cache = block(x, mask=real, cache=cache, training=False)
            caches.append(cache)
        return self._logits(x[:, 0]), caches

    def pack(self, state: Any) -> tf.Tensor:
        """Returns keys and values of every block as float32 (batch, 2 x blocks, heads, tokens, channels)."""
        import tensorflow as tf

        return tf.cast(tf.stack(tf.nest.flatten(state), axis=1), tf.float32)

    def unpack(self, cache: tf.Tensor) -> Any:
        """Returns keys and values of every block from the result of `pack`."""
        import tensorflow as tf

        parts = tf.unstack(tf.cast(cache, self._blocks[0].compute_dtype), 2 * len(self._blocks), axis=1)
        return list(zip(parts[::2], parts[1::2], strict=True))

    def _logits(self, x: tf.Tensor) -> tf.Tensor:
        import tensorflow as tf

        return tf.cast(self._tokens(self._norm(x), reverse=True), tf.float32)


def make_sample(model: keras.Model) -> Callable[..., dict[str, Any]]:
    """Returns a function that draws texts from a model; see `zoo.layers.generation.generate`."""
    from zoo.layers import generation

    return generation.generate(Reader(model))


def make_greedy(model: keras.Model) -> Callable[..., dict[str, Any]]:
    """Returns a function that takes the most probable token each time."""
    from zoo.layers import generation

    return generation.generate(Reader(model), greedily=True)


def make_beam(model: keras.Model) -> Callable[..., dict[str, Any]]:
    """Returns a function that searches for the most probable text; see `zoo.layers.generation_beams.beam`."""
    from zoo.layers import generation_beams

    return generation_beams.beam(Reader(model))


def make_prefill(model: keras.Model) -> Callable[..., dict[str, Any]]:
    """Returns a function that reads prompts and draws the first token; see `zoo.layers.generation_steps.prefill`."""
    from zoo.layers import generation_steps

    return generation_steps.prefill(Reader(model))


def make_step(model: keras.Model) -> Callable[..., dict[str, Any]]:
    """Returns a function that draws the next token; see `zoo.layers.generation_steps.step`."""
    from zoo.layers import generation_steps

    return generation_steps.step(Reader(model))


def make_score(model: keras.Model) -> Callable[..., dict[str, Any]]:
    """Returns a function from texts to their log-probabilities."""
    from zoo.layers import generation

    name = model.layers[-1].name
    if name == "logits":
        return generation.score(lambda ids: model(ids, training=False))
    import tensorflow as tf

    return generation.score(lambda ids: tf.math.log(model(ids, training=False)))


def options(situation: Situation) -> dict[str, Any]:
    """Returns options for a language model from random weights: AdamW with a warm-up and a cosine, as for GPT-2.

    Example:
        >>> options(Situation("text_generation", 15_000, {}))["optimizer"]
        'adamw'
    """
    published = situation.arguments.get("weights") is not None
    return {
        "epochs": 3 if published else 20,
        "batch_size": 8 if published else 32,
        "optimizer": "adamw",
        "learning_rate": 5e-5 if published else 1e-3,
        "schedule": "cosine",
        "warmup_fraction": 0.05,
        "weight_decay": 0.01 if published else 0.1,
        "clip_norm": 1.0,
        "keep_best": 1,
    }


@register_model(
    tasks=("text_generation",),
    reference="Radford, Wu, Child, Luan, Amodei and Sutskever, Language models are unsupervised multitask learners, 2019",
    features_layer="norm",
    preprocessing={"vocab_size": 8_000, "max_length": 256},
    data_arguments=(),
    functions={
        "sample": make_sample,
        "greedy": make_greedy,
        "beam": make_beam,
        "score": make_score,
        "prefill": make_prefill,
        "step": make_step,
    },
    levels=(("tokens", "positions"),),
    checkpoints=("gpt2_folder",),
    initial_arguments=("weights",),
    recommended_options=options,
    tiny={
        "vocab_size": 258,
        "max_length": 8,
        "hidden_size": 16,
        "num_layers": 2,
        "num_heads": 2,
        "dropout": 0.0,
        "attention_dropout": 0.0,
    },
    # Tables 50,257 x 768 and 1,024 x 768; a block 3 x 768 x 769 + 768 x 769 + 768 x 3,072 + 3,072 + 3,072 x 768 + 768 and two
    # norms of 1,536; a last norm.
    golden=(
        (
            {"vocab_size": 50_257, "max_length": 1_024, "hidden_size": 768, "num_layers": 12, "num_heads": 12},
            124_439_808,
        ),
    ),
)
def build_gpt_model(
    vocab_size: int,
    max_length: int = 256,
    hidden_size: int = 384,
    num_layers: int = 6,
    num_heads: int = 6,
    intermediate_size: int | None = None,
    dropout: float = 0.1,
    attention_dropout: float = 0.1,
    activation: Literal["gelu", "gelu_tanh", "relu", "silu", "tanh"] = "gelu_tanh",
    layer_norm_epsilon: float = 1e-5,
    weights: str | None = None,
    classifier_activation: Literal["softmax"] | None = None,
) -> keras.Model:
    """Blocks of attention to earlier tokens: it writes a text token by token.

    The architecture of GPT-2: each block normalises before its parts, positions are learned, and the last layer is the
    table of tokens. Input `token_ids`: int32 (batch, tokens), at most max_length. Output `logits` (or `probabilities` with
    `classifier_activation="softmax"`): float32 (batch, tokens, vocab_size), of the token after each token.

    Args:
        vocab_size: Number of tokens; lowered if the data has fewer.
        max_length: Number of tokens that the model reads at once, prompt and generated text together.
        hidden_size: Channels of a token's vector, divisible by num_heads.
        num_layers: Number of blocks.
        num_heads: Attention heads of a block.
        intermediate_size: Units of a block's inner dense layer; null for four times hidden_size.
        dropout: Dropout rate of the embeddings and of the outputs of attention and dense layers.
        attention_dropout: Dropout rate of the attention weights.
        activation: Activation of a block's inner layer; gelu is exact, gelu_tanh its approximation.
        layer_norm_epsilon: Epsilon of the layer normalisations.
        weights: Folder of published weights with config.json, or hf:ORG/NAME; null for random weights.
        classifier_activation: Activation of the last layer, null for logits.

    Raises:
        UsageError: a size that is not positive, a fraction out of range, a hidden size that num_heads does not divide, an
            unknown activation, or a folder that is missing, damaged or of other sizes.

    Example:
        >>> zoo.build_gpt_model(vocab_size=1000, hidden_size=64, num_layers=2, num_heads=2).output_shape
        (None, None, 1000)
    """
    import keras
    from keras import layers

    from zoo import checkpoints
    from zoo.layers import attention, blocks, decoder, sequences

    blocks.check_positive(
        vocab_size=vocab_size,
        max_length=max_length,
        hidden_size=hidden_size,
        num_layers=num_layers,
        num_heads=num_heads,
    )
    intermediate_size = 4 * hidden_size if intermediate_size is None else intermediate_size
    blocks.check_positive(intermediate_size=intermediate_size)
    blocks.check_fraction(dropout=dropout, attention_dropout=attention_dropout)
    blocks.check_divides(num_heads, hidden_size=hidden_size)
    checkpoint = None if weights is None else checkpoints.find("gpt", weights)
    if checkpoint is not None:
        given = {"vocab_size": vocab_size, "max_length": max_length, "hidden_size": hidden_size}
        given |= {"num_layers": num_layers, "num_heads": num_heads, "intermediate_size": intermediate_size}
        checkpoint.check({**given, "activation": activation, "layer_norm_epsilon": layer_norm_epsilon})
    inputs = keras.Input((None,), dtype="int32", name="token_ids")
    table = decoder.TiedEmbedding(
        vocab_size, hidden_size, max_length, stddev=0.02, use_bias=False, mask_zero=False, name="tokens"
    )
    x = sequences.LearnedPositions(max_length, name="positions")(table(inputs))
    x = layers.Dropout(dropout, name="dropout")(x)
    for i in range(1, num_layers + 1):
        x = attention.TransformerBlock(
            num_heads,
            intermediate_size,
            dropout,
            attention_dropout,
            activation,
            layer_norm_epsilon,
            pre_norm=True,
            causal=True,
            kernels="joined",
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.02),
            name=f"block_{i}",
        )(x)
    x = layers.LayerNormalization(epsilon=layer_norm_epsilon, name="norm")(x)
    model = keras.Model(inputs, decoder.tied_classifier(x, table, classifier_activation), name="gpt")
    if checkpoint is not None:
        checkpoint.load(model, classifier=False)
    return model


_VOCABULARY = {"vocab_size": 50_257}
build_gpt_tiny_model = register_variant(
    build_gpt_model,
    "gpt_tiny",
    "GPT with 4 blocks of 128 channels and a context of 64 tokens, for a CPU.",
    max_length=64,
    hidden_size=128,
    num_layers=4,
    num_heads=4,
    golden=(({"vocab_size": 257}, 64 * 128 + 257 * 128 + 4 * 198_272 + 256),),
)
build_gpt2_model = register_variant(
    build_gpt_model,
    "gpt2",
    "GPT-2: 12 blocks of 768 channels, a context of 1,024 tokens.",
    max_length=1024,
    hidden_size=768,
    num_layers=12,
    num_heads=12,
    golden=((_VOCABULARY, 124_439_808),),
)
build_gpt2_medium_model = register_variant(
    build_gpt_model,
    "gpt2_medium",
    "GPT-2 medium: 24 blocks of 1,024 channels.",
    max_length=1024,
    hidden_size=1024,
    num_layers=24,
    num_heads=16,
    golden=((_VOCABULARY, 354_823_168),),
)
build_gpt2_large_model = register_variant(
    build_gpt_model,
    "gpt2_large",
    "GPT-2 large: 36 blocks of 1,280 channels.",
    max_length=1024,
    hidden_size=1280,
    num_layers=36,
    num_heads=20,
    golden=((_VOCABULARY, 774_030_080),),
)
