"""Reads the figures of a run for its conclusions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.checkpoints import on_this_machine
from zoo.checkpoints.curated import pretrained
from zoo.conclusions.advice import UNBALANCED
from zoo.conclusions.facts import Facts
from zoo.registry import get_spec

if TYPE_CHECKING:
    from zoo.config import TrainConfig
    from zoo.datasets.prepared import Prepared
    from zoo.training.protocols import TrainResult

NONE = (None, None)
_PREDICTED = 256
_BATCHES, _SIZE, _IMAGES = 16, 64, 32
"""Batches of training texts that are counted, their size, and images whose size is read."""


def gather(trained: TrainResult, prepared: Prepared, config: TrainConfig) -> Facts:
    """Returns the figures of a run.

    Args:
        trained: the result of its training.
        prepared: its data.
        config: its options, complete.
    """
    counts = _class_counts(prepared)
    recall, accuracy = (
        _recall(trained, prepared) if len(counts) > 1 and max(counts) >= UNBALANCED * min(counts) else NONE
    )
    return Facts(
        history=trained.history,
        epochs=1 if config.closed_form else config.epochs,
        exported=trained.epoch,
        monitor=trained.monitor,
        selected=trained.selected,
        options=config.to_dict(),
        arguments=prepared.arguments,
        class_counts=counts,
        macro_recall=recall,
        accuracy=accuracy,
        full=_full_texts(prepared),
        published=_published(prepared),
        transfer=_transfer(prepared),
        image_sizes=_image_sizes(prepared),
    )


def _class_counts(prepared: Prepared) -> list[int]:
    """Returns how many training examples each class that occurs has; empty for a task without one class per example."""
    counts = prepared.target_counts("train") if prepared.task.abstain is not None else None
    return [] if counts is None else [int(count) for count in counts if count]


def _recall(trained: TrainResult, prepared: Prepared) -> tuple[float | None, float | None]:
    """Returns the mean recall over the classes of the validation split, and the accuracy on it."""
    from zoo.predictions import predict_split

    if not prepared.num_examples("validation"):
        return NONE
    targets, predictions, _ = predict_split(trained.model, prepared, "validation", _PREDICTED)
    true, probabilities = targets[str(prepared.task.classes)], predictions["probabilities"]
    if probabilities.ndim != 2:
        return NONE
    right = probabilities.argmax(axis=-1) == true.reshape(-1)
    return float(np.mean([right[true.reshape(-1) == number].mean() for number in np.unique(true)])), float(right.mean())


def _published(prepared: Prepared) -> str:
    """Returns the first published weights of the family, if the model began with random ones. A named size of a family has
    those of its own name, and those that are found by the size, as `imagenet` is."""
    if prepared.start or prepared.arguments.get("weights") is not None:
        return ""
    spec = get_spec(prepared.model)
    return next((row.name for row in pretrained() if row.model == spec.name or row.name in spec.published), "")


def _transfer(prepared: Prepared) -> tuple[str, str] | tuple[()]:
    """Returns the first model of images whose published weights are on this machine, if the trained model takes none."""
    if prepared.start or "image" not in prepared.data.features or "weights" in prepared.arguments:
        return ()
    return next(iter(on_this_machine(prepared.task.name)), ())


def _full_texts(prepared: Prepared) -> tuple[float, int] | None:
    """Returns the share of the first training texts that fill the longest input of token numbers, and its length."""
    lengths = {
        name: shape[0]
        for name, shape in prepared.preprocessor.input_shapes.items()
        if len(shape) == 1 and shape[0] and "text" in prepared.data.features
    }
    full = total = 0
    name = next(iter(lengths), None)
    if name is None or hasattr(prepared.preprocessor, "arrange"):  # windows of joined texts are always full
        return None
    for inputs, _, _ in prepared.batches("train", _SIZE).take(_BATCHES):
        values = inputs[name].numpy()
        if values.dtype.kind != "i":
            return None
        is_full = values.shape[1] == lengths[name]
        full += int(np.sum(values[:, -1] != 0)) if is_full else 0
        total += len(values)
    return full / total, int(lengths[name] or 0)


def _image_sizes(prepared: Prepared) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Returns height and width of the images, the smallest of the first ones if they vary, and of the model's input."""
    feature = prepared.data.features.get("image")
    shape = next(iter(prepared.preprocessor.input_shapes.values()), ())
    if feature is None or len(shape) != 3 or None in shape[:2]:
        return None
    size: Any = feature.shape[:2]
    if None in size:
        first = prepared.data.splits["train"].dataset().take(_IMAGES).as_numpy_iterator()
        sizes = [np.shape(example["image"])[:2] for example in first]
        size = np.min([found for found in sizes if len(found) == 2] or [shape[:2]], axis=0).tolist()
    return (int(size[0]), int(size[1])), (int(shape[0] or 0), int(shape[1] or 0))
