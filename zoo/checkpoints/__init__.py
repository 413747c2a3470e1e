"""Published weights: one format per file, found by scanning this folder. `ModelSpec.checkpoints` lists a family's formats.

Nothing is downloaded, and no code of a checkpoint is run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from zoo import registry
from zoo.checkpoints.contract import (
    FORMATS,
    Checkpoint,
    CheckpointFormat,
    Classifier,
    Location,
    Save,
    register_format,
    reorder_classes,
)
from zoo.errors import UsageError

if TYPE_CHECKING:
    import keras

__all__ = [
    "Checkpoint",
    "CheckpointFormat",
    "Classifier",
    "build",
    "chosen",
    "families",
    "family_of",
    "find",
    "get_format",
    "register_format",
    "reorder_classes",
    "writer",
]


def get_format(name: str) -> CheckpointFormat:
    """Returns a registered format.

    Raises:
        UsageError: the format is unknown; the message suggests the nearest name.

    Example:
        >>> get_format("bert_folder").title
        'a Hugging Face folder of BERT'
    """
    return FORMATS.get(name)


def _formats(model: str) -> list[CheckpointFormat]:
    return [get_format(name) for name in registry.get_spec(model).checkpoints]


def find(model: str, path: Location) -> Checkpoint:
    """Returns the checkpoint at a path, in the format of the model that recognises it.

    If the model has a single format, that format is used, because its reader gives the exact error.

    Raises:
        UsageError: the model does not support published weights, or none of its several formats recognises the path.

    Example:
        >>> find("bert", "bert-base-uncased").arguments()["hidden_size"]
        768
    """
    formats = _formats(model)
    if not formats:
        raise UsageError(
            f"Model {model!r} does not support published weights. Choose one that does: {', '.join(_takers())}."
        )
    if len(formats) == 1:
        return Checkpoint(path, formats[0])
    for checkpoint_format in formats:
        if checkpoint_format.recognises(path):
            return Checkpoint(path, checkpoint_format)
    titles = " or ".join(f.title for f in formats)
    raise UsageError(f"{str(path)!r} is not a checkpoint that {model!r} supports. Pass {titles}.")


def _takers(task: str | None = None) -> list[str]:
    return [name for name in registry.list_models(task=task, variants=False) if registry.get_spec(name).checkpoints]


def chosen(spec: registry.ModelSpec, arguments: Mapping[str, Any]) -> Checkpoint | None:
    """Returns the checkpoint of a builder's argument `weights`; None for random weights."""
    path = arguments.get("weights") if spec.checkpoints else None
    return None if path is None else find(spec.name, path)


def families(path: Location, task: str | None = None) -> list[str]:
    """Returns the sorted families that have a format which recognises the path.

    Args:
        path: a file or folder.
        task: only families that serve this task.

    Example:
        >>> families("bert-base-uncased", "text_classification")
        ['bert']
    """
    names = registry.list_models(task=task, variants=False)
    return [name for name in names if any(f.recognises(path) for f in _formats(name))]


def family_of(path: Location, task: str) -> str:
    """Returns the first family that serves a task and has a format which recognises the path.

    If all families of the task share a single format, the first family is returned for any path, because the format's reader
    gives the exact error.

    Raises:
        UsageError: no family of this task supports published weights, or none of several formats recognises the path.
    """
    if found := families(path, task):
        return found[0]
    takers = _takers(task)
    formats = {f.name: f for name in takers for f in _formats(name)}
    if not takers:
        raise UsageError(
            f"No model for {task} supports published weights. Choose one that does: {', '.join(_takers())}."
        )
    if len(formats) == 1:
        return takers[0]
    titles = " or ".join(f.title for f in formats.values())
    raise UsageError(f"{str(path)!r} is not a checkpoint that a model for {task} supports. Pass {titles}.")


def build(model: str, path: Location, **arguments: Any) -> keras.Model:
    """Builds a registered model from a checkpoint: its sizes, its weights, and its classifier if that fits.

    Args:
        model: a registered model's name.
        path: the checkpoint, in one of the model's formats.
        **arguments: arguments of the model's builder, which override the checkpoint's, such as dropout=0.2. If `num_classes`
            differs from the checkpoint's, the classifier starts from random weights.

    Returns:
        An uncompiled model.

    Raises:
        UsageError: as in `find` and the builder, or num_classes is missing and the checkpoint has no classifier.

    Example:
        >>> model = build("bert", "bert-base-uncased", num_classes=3)
    """
    checkpoint, spec = find(model, path), registry.get_spec(model)
    found = {name: value for name, value in checkpoint.arguments().items() if name in spec.parameters}
    if "load_classifier" in spec.parameters:
        classifier = checkpoint.classifier()
        count = classifier.count if classifier else None
        num_classes = arguments.get("num_classes", count)
        if num_classes is None:
            raise UsageError(f"{path} has no classifier. Pass num_classes for a new one.")
        found |= {"num_classes": num_classes, "load_classifier": num_classes == count}
        if classifier and classifier.several and num_classes == count:
            found["classifier_activation"] = "sigmoid"
    return registry.build(model, **{**found, "weights": str(path), **arguments})


def writer(model: str) -> Save:
    """Returns the `save` function of the first of a model's formats that can be written.

    Raises:
        UsageError: the model has no such format.
    """
    if found := [f.save for f in _formats(model) if f.save is not None]:
        return found[0]
    names = [name for name in _takers() if any(f.save for f in _formats(name))]
    raise UsageError(
        f"Model {model!r} has no published format that can be written. Choose one that does: {', '.join(names)}, or a named "
        "size of them."
    )
