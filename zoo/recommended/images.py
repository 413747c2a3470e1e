"""What families of images recommend, by the number of images and with published weights; chosen on validation splits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.registry import Recommend, Situation

_IMAGES = 80_000
"""Images of a training on few of them, in all epochs together."""
_FEW_IMAGES = 5_000
FEW_IMAGES = 10_000
"""Images below which the residual network augments them."""
_PIXELS = 240_000_000
"""Pixels of all images that the residual network reads in all epochs together."""
_FEW_PHOTOGRAPHS = 2_000


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


def residual_image_options(situation: Situation) -> dict[str, Any]:
    """Returns options for a small residual network that learns images from random weights.

    The number of epochs falls with the number of pixels of all images, so that a training takes minutes on a CPU. The
    learning rate rises, then falls to zero, and the weights of the best epoch of the validation split are kept. Few images
    are shifted, and mirrored if the preprocessor found that mirrored images keep their classes.

    Example:
        >>> situation = Situation("image_classification", 1_300, {"input_shape": (28, 28, 1)}, {"mirrored": True})
        >>> residual_image_options(situation)["augmentation"]
        ['flip', 'crop']
    """
    few = situation.examples < FEW_IMAGES
    height, width, _ = situation.arguments.get("input_shape", (28, 28, 1))
    pixels = max(1, situation.examples) * height * width
    options = {
        "epochs": min(60, max(12 if few else 10, _PIXELS // pixels)),
        "batch_size": 32 if few else 64,
        "learning_rate": 3e-3,
        "schedule": "cosine",
        "warmup_fraction": 0.1,
        "keep_best": 1,
    }
    if few and situation.task == "image_classification":
        augmentation = ["flip", "crop"] if situation.facts.get("mirrored") else ["crop"]
        options |= {"augmentation": augmentation, "monitor": "val_loss"}
    return options


def published_image_size(size: int) -> Recommend:
    """Returns a function that recommends the image size of published weights, for a model that begins with them.

    Example:
        >>> published_image_size(224)(Situation("image_classification", 200, {"weights": "imagenet"}))
        {'input_shape': (224, 224, 3)}
    """

    def recommend(situation: Situation) -> dict[str, Any]:
        return {"input_shape": (size, size, 3)} if situation.arguments.get("weights") is not None else {}

    return recommend


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
