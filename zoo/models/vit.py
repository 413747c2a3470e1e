"""ViT: a Transformer encoder over the patches of an image, from random weights or from a Hugging Face folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from zoo import checkpoints
from zoo.errors import UsageError
from zoo.frozen_head import solve_head
from zoo.recommended.images import fine_tuning_of_images
from zoo.registry import register_model, register_variant

if TYPE_CHECKING:
    import keras


@register_model(
    tasks=("image_classification", "image_multilabel", "image_regression"),
    reference="Dosovitskiy et al., An image is worth 16x16 words: Transformers for image recognition at scale, ICLR 2021, "
    "arXiv:2010.11929",
    features_layer="features",
    closed_form=solve_head,
    recommended_options=fine_tuning_of_images(),
    preprocessing={"image_size": (32, 32)},
    checkpoints=("vit_folder",),
    initial_arguments=("weights", "load_classifier", "labels"),
    tiny={
        "input_shape": (8, 12, 1),
        "num_classes": 3,
        "patch_size": 4,
        "hidden_size": 6,
        "num_layers": 2,
        "num_heads": 2,
        "intermediate_size": 7,
    },
    golden=(
        ({"input_shape": (224, 224, 3), "num_classes": 1000}, 86_567_656),
        ({"input_shape": (384, 384, 3), "num_classes": 1000}, 86_859_496),
    ),
)
def build_vit_model(
    input_shape: Sequence[int],
    num_classes: int,
    patch_size: int = 16,
    hidden_size: int = 768,
    num_layers: int = 12,
    num_heads: int = 12,
    intermediate_size: int = 3072,
    dropout: float = 0.0,
    attention_dropout: float = 0.0,
    activation: Literal["gelu", "gelu_tanh", "relu", "silu", "tanh"] = "gelu",
    layer_norm_epsilon: float = 1e-12,
    scaling: Literal["tf", "torch"] = "tf",
    weights: str | None = None,
    load_classifier: bool = False,
    labels: list[str] | None = None,
    classifier_activation: Literal["softmax", "sigmoid", "linear"] | None = "softmax",
) -> keras.Model:
    """ViT: blocks of attention over all patches of an image, the class token's vector, a softmax.

    Use it with the weights of a pretrained checkpoint; from random weights it needs far more images than a convolutional
    network. Input `image`: float32 (batch, *input_shape), 0 to 1, grey or colour, height and width divisible by patch_size.
    Output `probabilities` (or `logits` with `classifier_activation=None`, `values` with `linear`): float32 (batch,
    num_classes).

    Args:
        input_shape: Shape of one image, (height, width, channels) with 1 or 3 channels. With weights, height and width are
            those of the folder.
        num_classes: Number of classes.
        patch_size: Height and width of a patch.
        hidden_size: Channels of a patch's vector, divisible by num_heads.
        num_layers: Number of blocks.
        num_heads: Attention heads of a block.
        intermediate_size: Units of a block's inner dense layer.
        dropout: Dropout rate of the embeddings and of the outputs of attention and dense layers.
        attention_dropout: Dropout rate of the attention weights.
        activation: Activation of a block's inner layer; gelu is exact, gelu_tanh its approximation.
        layer_norm_epsilon: Epsilon of the layer normalisations.
        scaling: How images are scaled: tf is -1 to 1, torch subtracts ImageNet's mean and divides by its deviation.
        weights: Path of a Hugging Face folder with the same sizes, or hf:ORG/NAME@REVISION to download one, null for random
            weights. With a data set, all arguments that are left at their defaults get the sizes and settings of the folder.
        load_classifier: Whether to load the classifier from the folder, too. If false, it starts from random weights.
        labels: The folder's label names in the wanted order of the classes; null for the folder's order.
        classifier_activation: Activation of the last layer: sigmoid for several labels, linear for values, null for
            logits.

    Raises:
        UsageError: a size that is not positive, an image that is not divided into whole patches, a fraction out of range, a
            hidden size that num_heads does not divide, or a folder that is missing, damaged or of other sizes.

    Example:
        >>> sizes = {"patch_size": 8, "hidden_size": 64, "num_layers": 2, "num_heads": 2, "intermediate_size": 128}
        >>> zoo.build_vit_model((32, 32, 3), 10, **sizes).count_params()
        81226
    """
    import keras
    from keras import layers

    from zoo.layers import attention, bert, blocks, feature_tokens, images

    sizes = {"patch_size": patch_size, "hidden_size": hidden_size, "num_layers": num_layers, "num_heads": num_heads}
    blocks.check_positive(num_classes=num_classes, **sizes, intermediate_size=intermediate_size)
    blocks.check_fraction(dropout=dropout, attention_dropout=attention_dropout)
    blocks.check_divides(num_heads, hidden_size=hidden_size)
    settings = {"activation": activation, "layer_norm_epsilon": layer_norm_epsilon, "scaling": scaling}
    checkpoint = _find(weights, {**sizes, "intermediate_size": intermediate_size, **settings}, input_shape)
    if checkpoint is None and load_classifier:
        raise UsageError("load_classifier requires weights, which are not given. Pass weights, or leave it out.")
    inputs, x = images.scaled_input(scaling, input_shape, patch_size)
    _check_patches(input_shape, patch_size)
    initializer = bert.initializer()
    x = layers.Conv2D(hidden_size, patch_size, patch_size, kernel_initializer=initializer, name="patches")(x)
    x = layers.Reshape((-1, hidden_size), name="sequence")(x)
    x = images.Positions(name="positions")(feature_tokens.ClassToken(name="class_token")(x))
    x = layers.Dropout(dropout, name="embeddings_dropout")(x)
    form: dict[str, Any] = {"pre_norm": True, "kernels": "joined", "kernel_initializer": bert.INITIALIZER}
    numbers = (num_heads, intermediate_size, dropout, attention_dropout, activation, layer_norm_epsilon)
    for i in range(1, num_layers + 1):
        x = attention.TransformerBlock(*numbers, **form, name=f"block_{i}")(x)
    x = layers.LayerNormalization(epsilon=layer_norm_epsilon, name="norm")(x)
    x = bert.FirstToken(name="features")(x)
    model = keras.Model(
        inputs, blocks.classifier(x, num_classes, classifier_activation, bert.initializer()), name="vit"
    )
    if checkpoint is not None:
        checkpoint.load(model, classifier=load_classifier, labels=labels)
    return model


def _find(
    weights: str | None, arguments: Mapping[str, Any], input_shape: Sequence[int]
) -> checkpoints.Checkpoint | None:
    """Returns the checkpoint that `weights` names, None for none, after comparing its sizes and its images' size.

    Raises:
        UsageError: the path is not a checkpoint, or its sizes or settings differ.
    """
    if weights is None:
        return None
    found = checkpoints.find("vit", weights)
    found.check(arguments)
    size = found.arguments()["input_shape"][:2]
    if tuple(input_shape[:2]) != tuple(size):
        raise UsageError(
            f"An image is {input_shape[0]}x{input_shape[1]}; the weights of {found.path} are for {size[0]}x{size[1]}, "
            f"because they have a vector for every patch. Pass input_shape=[{size[0]}, {size[1]}, {input_shape[2]}]."
        )
    return found


def _check_patches(input_shape: Sequence[int], patch_size: int) -> None:
    if input_shape[0] % patch_size or input_shape[1] % patch_size:
        raise UsageError(
            f"An image of {input_shape[0]}x{input_shape[1]} is not divided into whole patches of {patch_size}x{patch_size}. "
            f"Pass an input_shape of multiples of {patch_size}, or another patch_size."
        )


# --- Named sizes ------------------------------------------------------------------------------------------------------

_IMAGENET = {"input_shape": (224, 224, 3), "num_classes": 1000}
build_vit_tiny_model = register_variant(
    build_vit_model,
    "vit_tiny",
    "ViT tiny: 12 blocks of 192 channels with 3 heads.",
    hidden_size=192,
    num_heads=3,
    intermediate_size=768,
    golden=((_IMAGENET, 5_717_416),),
)
build_vit_small_model = register_variant(
    build_vit_model,
    "vit_small",
    "ViT small: 12 blocks of 384 channels with 6 heads.",
    hidden_size=384,
    num_heads=6,
    intermediate_size=1536,
    golden=((_IMAGENET, 22_050_664),),
)
build_vit_base_model = register_variant(
    build_vit_model,
    "vit_base",
    "ViT base: 12 blocks of 768 channels with 12 heads.",
    golden=((_IMAGENET, 86_567_656),),
)
build_vit_large_model = register_variant(
    build_vit_model,
    "vit_large",
    "ViT large: 24 blocks of 1024 channels with 16 heads.",
    hidden_size=1024,
    num_layers=24,
    num_heads=16,
    intermediate_size=4096,
    golden=((_IMAGENET, 304_326_632),),
)
