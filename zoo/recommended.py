"""What several families recommend: arguments and training options by the size of the data, chosen on validation splits."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from zoo.errors import UsageError, did_you_mean, one_line

if TYPE_CHECKING:
    from zoo.config import TrainConfig
    from zoo.registry import ModelSpec, Recommend, Situation

_FEW_ROWS = 4_000


def describe(examples: int, arguments: Mapping[str, Any], given: TrainConfig, completed: TrainConfig) -> str:
    """Returns a line with what a model recommends for the data and the user has left open; empty if that is nothing.

    Args:
        examples: number of training examples.
        arguments: recommended arguments of the builder.
        given: the options that were passed.
        completed: these, with the recommended options.

    Example:
        >>> describe(300, {"members": 8}, TrainConfig(), TrainConfig(batch_size=32))
        'recommended for 300 examples: members 8, batch_size 32'
    """
    before = given.to_dict()
    options = {name: value for name, value in completed.to_dict().items() if value != before[name]}
    taken = [f"{name} {value}" for name, value in {**arguments, **options}.items()]
    return f"recommended for {examples:,} examples: {', '.join(taken)}" if taken else ""


def arguments_of(spec: ModelSpec, situation: Situation) -> dict[str, Any]:
    """Returns the arguments of the builder that a model recommends.

    Raises:
        UsageError: its function fails, returns no dict, or names an argument that the builder does not have.

    Example:
        >>> arguments_of(zoo.get_spec("mlp"), Situation("tabular_regression", 20_000, {}))["members"]
        8
    """
    return _checked(spec, "recommended_arguments", situation, spec.parameters)


def options_of(spec: ModelSpec, situation: Situation) -> dict[str, Any]:
    """Returns the options of `TrainConfig` that a model recommends.

    Raises:
        UsageError: its function fails, returns no dict, or names an option that `TrainConfig` does not have, or a value
            that it does not take.

    Example:
        >>> options_of(zoo.get_spec("mlp"), Situation("tabular_regression", 300, {}))["batch_size"]
        32
    """
    from zoo.config import TrainConfig

    found = _checked(spec, "recommended_options", situation, TrainConfig().to_dict())
    try:
        TrainConfig().completed(found)
    except UsageError as error:
        raise UsageError(f"recommended_options of the model {spec.name!r}: {error}") from error
    return found


def _checked(spec: ModelSpec, name: str, situation: Situation, known: Collection[str]) -> dict[str, Any]:
    try:
        found = getattr(spec, name)(situation)
    except UsageError:
        raise
    except Exception as error:  # whatever the function of a plugin raises
        raise UsageError(
            f"{name} of the model {spec.name!r} failed for {situation.examples:,} examples of {situation.task}: "
            f"{type(error).__name__}: {one_line(error, 120)}. Correct this function of the model."
        ) from error
    if not isinstance(found, Mapping):
        raise UsageError(
            f"{name} of the model {spec.name!r} returned {found!r:.60}; expected a dict. Return {{}} to recommend nothing."
        )
    for key in found:
        if key not in known:
            raise UsageError(
                f"{name} of the model {spec.name!r} returned {key!r}, which is unknown. {did_you_mean(str(key), known)}"
            )
    return dict(found)


def table_options(situation: Situation) -> dict[str, Any]:
    """Returns options for the rows of a table: training ends when the loss of the validation split no longer falls.

    The loss decides, because the accuracy of a small validation split takes few values. Small tables have few steps in an
    epoch, so batches are smaller and the patience is longer.

    Example:
        >>> table_options(Situation("tabular_regression", 300, {}))["batch_size"]
        32
    """
    if not situation.task.startswith("tabular_"):
        return {}
    few = situation.examples < _FEW_ROWS
    return {
        "epochs": 300 if few else 200,
        "batch_size": 32 if few else 256,
        "monitor": "val_loss",
        "patience": 40 if few else 12,
        "keep_best": 1,
    }


def large_table_layers(situation: Situation) -> dict[str, Any]:
    """Returns arguments of a network with dense layers for the rows of a large table.

    Example:
        >>> large_table_layers(Situation("tabular_regression", 20_000, {}))["hidden_units"]
        (128, 128)
    """
    is_large = situation.task.startswith("tabular_") and situation.examples >= _FEW_ROWS
    return {"hidden_units": (128, 128), "dropout": 0.1} if is_large else {}


def table_members(situation: Situation) -> dict[str, Any]:
    """Returns arguments of a multi-layer perceptron for the rows of a large table: an ensemble in one network.

    A model of logits stays a plain one, because their loss, and so that of the members, is unknown.

    Example:
        >>> table_members(Situation("tabular_regression", 20_000, {}))["members"]
        8
    """
    arguments = large_table_layers(situation)
    is_ensemble = arguments and situation.arguments.get("classifier_activation", "") is not None
    return {**arguments, "members": 8} if is_ensemble else arguments


def small_attention(situation: Situation) -> dict[str, Any]:
    """Returns arguments of attention over the columns of a table for processors without an accelerator.

    Example:
        >>> small_attention(Situation("tabular_regression", 20_000, {}))["num_layers"]
        2
    """
    return {"embedding_dim": 64, "num_layers": 2, "feed_forward_dim": 128}


def tagger_arguments(situation: Situation) -> dict[str, Any]:
    """Returns arguments of a recurrent network that tags words: strong dropout, of whole words too.

    Dropout of the state between words is left out, because it is slow and adds nothing to the others.

    Example:
        >>> tagger_arguments(Situation("tagging", 20_000, {}))["dropout"]
        0.5
    """
    return {"dropout": 0.5, "recurrent_dropout": 0.0, "word_dropout": 0.3}


def tagging_options(situation: Situation) -> dict[str, Any]:
    """Returns options for sentences whose words have tags.

    The learning rate falls to zero, so the number of epochs is that of the best result, and the weights of the best epoch of
    the validation split are kept. Few sentences need more passes and smaller batches.

    Example:
        >>> tagging_options(Situation("tagging", 20_000, {}))["epochs"]
        5
    """
    few = situation.examples < _FEW_ROWS
    return {
        "epochs": min(40, max(5, _SENTENCES // max(1, situation.examples))),
        "batch_size": 16 if few else 64,
        "learning_rate": 0.003,
        "schedule": "cosine",
        "group_by_length": True,
        "keep_best": 1,
    }


_SENTENCES = 30_000
"""Sentences of a training on few of them, in all epochs together."""


def small_image_options(situation: Situation) -> dict[str, Any]:
    """Returns options for a small network that learns images from random weights.

    The learning rate falls to zero, and the weights of the best epoch of the validation split are kept. Few images need
    more passes, and shifted copies of them: on the validation split, these helped `digits` and harmed `fashion_mnist`. The
    accuracy on few images takes few values, so that the loss decides.

    Example:
        >>> small_image_options(Situation("image_classification", 1_300, {}))["epochs"]
        60
    """
    if situation.task != "image_classification":
        return {}
    epochs = min(60, max(12, _IMAGES // max(1, situation.examples)))
    few = {"augmentation": ["crop"], "monitor": "val_loss"} if situation.examples < _FEW_IMAGES else {}
    return {"epochs": epochs, "schedule": "cosine", "keep_best": 1, **few}


_IMAGES = 80_000
"""Images of a training on few of them, in all epochs together."""
_FEW_IMAGES = 5_000


def published_image_size(size: int) -> Recommend:
    """Returns a function that recommends the image size of published weights, for a model that begins with them.

    Example:
        >>> published_image_size(224)(Situation("image_classification", 200, {"weights": "imagenet"}))
        {'input_shape': (224, 224, 3)}
    """

    def recommend(situation: Situation) -> dict[str, Any]:
        return {"input_shape": (size, size, 3)} if situation.arguments.get("weights") is not None else {}

    return recommend


_FEW_PHOTOGRAPHS = 2_000


def fine_tuning_of_images(*freeze: str) -> Recommend:
    """Returns a function that recommends options for published weights of an image network; nothing for random weights.

    The new last layer is solved for first. A small rate then changes what the weights know only a little. The statistics of
    batch normalisation stay those of the published weights: small batches of other images would destroy the features.

    Args:
        *freeze: layers that are not trained, such as BatchNormalization.

    Example:
        >>> recommend = fine_tuning_of_images("BatchNormalization")
        >>> recommend(Situation("image_classification", 200, {"weights": "imagenet"}))["head_first"]
        True
    """

    def recommend(situation: Situation) -> dict[str, Any]:
        if situation.arguments.get("weights") is None:
            return {}
        few = situation.examples < _FEW_PHOTOGRAPHS
        return {
            "head_first": True,
            "freeze": list(freeze),
            "epochs": 10 if few else 5,
            "batch_size": 16 if few else 32,
            "learning_rate": 1e-4,
            "schedule": "cosine",
            "warmup_fraction": 0.1,
            "keep_best": 1,
        }

    return recommend


_FEW_TEXTS = 2_000
_PEAK, _PEAK_SIZE = 2e-4, 384
"""The learning rate up to this hidden size; beyond, it falls with the square: 5e-5 for the 768 channels of BERT base."""


def fine_tuning(situation: Situation) -> dict[str, Any]:
    """Returns options for published weights of a Transformer of texts; nothing for random weights.

    A small rate with a warm-up keeps what the weights know. A small data set needs more epochs for enough steps.

    Example:
        >>> fine_tuning(Situation("text_classification", 15_000, {"weights": "bert-base-uncased", "hidden_size": 768}))
        {'epochs': 5, 'batch_size': 32, 'optimizer': 'adamw', 'learning_rate': 5e-05, ...
    """
    if situation.arguments.get("weights") is None:
        return {}
    few = situation.examples < _FEW_TEXTS
    size = max(_PEAK_SIZE, situation.arguments.get("hidden_size", _PEAK_SIZE))
    return {
        "epochs": 10 if few else 5,
        "batch_size": 16 if few else 32,
        "optimizer": "adamw",
        "learning_rate": float(f"{_PEAK * (_PEAK_SIZE / size) ** 2:.1e}"),
        "schedule": "linear",
        "warmup_fraction": 0.1,
        "weight_decay": 0.01,
        "clip_norm": 1.0,
        "group_by_length": True,
    }


def contrastive_tuning(situation: Situation) -> dict[str, Any]:
    """Returns options for published weights of a text encoder; nothing for random weights.

    The texts of a batch are compared with each other, so batches are larger than for a classifier, and epochs are fewer.

    Example:
        >>> contrastive_tuning(Situation("text_embedding", 15_000, {"weights": "all-MiniLM-L6-v2"}))["batch_size"]
        64
    """
    found = fine_tuning(situation)
    return {**found, "batch_size": 64, "epochs": 1 if situation.examples >= _FEW_TEXTS else 5} if found else {}
