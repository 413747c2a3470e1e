"""Published weights: one format per file, found by scanning this folder. `ModelSpec.checkpoints` lists a family's formats.

Weights are a local path, or a name: `hf:ORG/NAME[@REVISION]` of a Hugging Face repository, or a name of
`ModelSpec.published`, such as `imagenet`. Names are downloaded. No code of a checkpoint is run.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from zoo import registry, storage
from zoo.checkpoints import curated, hub, hub_cache, keras_download
from zoo.checkpoints.contract import (
    FORMATS,
    Checkpoint,
    CheckpointFormat,
    Classifier,
    Location,
    Published,
    PublishedFile,
    Repository,
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
    "Published",
    "PublishedFile",
    "Repository",
    "as_recorded",
    "build",
    "chosen",
    "expect",
    "families",
    "family_of",
    "fetch",
    "find",
    "get_format",
    "is_name",
    "locate",
    "on_this_machine",
    "pinned",
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


_NONE: Mapping[str, Any] = MappingProxyType({})


def find(model: str, path: Location, arguments: Mapping[str, Any] = _NONE) -> Checkpoint:
    """Returns the checkpoint at a path or of a name, in the format of the model that recognises it.

    If the model has a single format, that format is used, because its reader gives the exact error.

    Args:
        model: a registered model's name.
        path: a file, a folder or a name, see `fetch`.
        arguments: the builder's arguments on which the file of a name may depend.

    Raises:
        UsageError: the model does not support published weights, none of its several formats recognises the path, or as in
            `fetch`.

    Example:
        >>> find("bert", "bert-base-uncased").arguments()["hidden_size"]
        768
    """
    formats = _formats(model)
    if not formats:
        raise UsageError(
            f"Model {model!r} does not support published weights. Choose one that does: {', '.join(_takers())}."
        )
    published = fetch(model, path, arguments)
    path = str(published.path) if published else path
    if len(formats) == 1:
        return Checkpoint(path, formats[0], published)
    for checkpoint_format in formats:
        if checkpoint_format.recognises(path):
            return Checkpoint(path, checkpoint_format, published)
    titles = " or ".join(f.title for f in formats)
    raise UsageError(f"{str(path)!r} is not a checkpoint that {model!r} supports. Pass {titles}.")


def _takers(task: str | None = None) -> list[str]:
    return [name for name in registry.list_models(task=task, variants=False) if registry.get_spec(name).checkpoints]


def chosen(spec: registry.ModelSpec, arguments: Mapping[str, Any]) -> Checkpoint | None:
    """Returns the checkpoint of a builder's argument `weights`; None for random weights."""
    path = arguments.get("weights") if spec.checkpoints else None
    return None if path is None else find(spec.name, path, arguments)


# --- Names ------------------------------------------------------------------------------------------------------------


def is_name(weights: Any) -> bool:
    """Whether a value of the argument `weights` names a Hugging Face repository, and is not a path."""
    return hub.is_name(weights)


def fetch(model: str, weights: Any, arguments: Mapping[str, Any] = _NONE, *, verbose: int = 1) -> Published | None:
    """Returns the local copy of weights by name, after downloading what is missing; None if `weights` is no name.

    Args:
        model: a registered model's name.
        weights: a value of its builder's argument `weights`.
        arguments: the builder's arguments on which the file of a name may depend.
        verbose: 1 prints size, licence and place before a download, and a progress bar; 2 leaves out the bar, 0 both.

    Raises:
        UsageError: as in `hub.fetch` and `keras_download.fetch`, the model reads no repositories, or the weights are not
            those that a run has recorded.

    Example:
        >>> fetch("bert", "hf:google/bert_uncased_L-2_H-128_A-2").licence
        'apache-2.0'
    """
    spec = registry.get_spec(model)
    if hub.is_name(weights):
        formats = _formats(model)
        if not any(f.repository for f in formats):
            titles = " or ".join([f.title for f in formats] + [repr(name) for name in spec.published])
            raise UsageError(
                f"Model {model!r} is not read from repositories; received {str(weights)!r:.80}. Pass {titles}."
            )
        return as_recorded(hub.fetch(weights, formats, verbose=verbose))
    if isinstance(weights, str) and weights in spec.published:
        complete = {n: p.default for n, p in spec.parameters.items()} | dict(arguments)
        file = spec.published[weights](complete)
        return as_recorded(keras_download.fetch(weights, model, file, verbose=verbose))
    return None


def on_this_machine(task: str) -> list[tuple[str, str]]:
    """Returns models of a task with the names of their published weights that need no download, in the order of `zoo list`.

    Example:
        >>> on_this_machine("image_classification")
        [('mobilenet_v2', 'imagenet')]
    """
    found = []
    for row in curated.pretrained():
        spec = registry.get_spec(row.model)
        if task not in spec.tasks:
            continue
        if hub.is_name(row.name):
            local = hub_cache.cached_commit(row.name.removeprefix("hf:"), "main") is not None
        else:
            defaults = {name: parameter.default for name, parameter in spec.parameters.items()}
            local = keras_download.place_of(spec.published[row.name](defaults)).is_file()
        if local:
            found.append((row.model, row.name))
    return found


def locate(weights: Location, *, verbose: int = 1) -> Published | None:
    """Returns the local copy of a Hugging Face repository for any model that reads it; None for a path.

    Raises:
        UsageError: as in `hub.fetch`.
    """
    if not hub.is_name(weights):
        return None
    formats = [FORMATS.get(name) for name in FORMATS.names()]
    return as_recorded(hub.fetch(weights, [f for f in formats if f.repository], verbose=verbose))


def pinned(
    spec: registry.ModelSpec, arguments: Mapping[str, Any], recorded: Mapping[str, Any] = _NONE, *, verbose: int = 1
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Downloads weights by name, and replaces the name by the one that always means the same weights.

    Args:
        spec: the model's spec.
        arguments: arguments of its builder.
        recorded: the section `pretrained` of a run that began with these arguments. Its commit is taken again.
        verbose: as in `fetch`.

    Returns:
        The arguments, and the section `pretrained` of config.yaml, which is empty without a name.

    Raises:
        UsageError: as in `fetch`.
    """
    given = arguments.get("weights") if spec.checkpoints else None
    name = given
    expect(recorded)
    if recorded and given in (recorded["name"], recorded["source"]):
        given = recorded["source"] if hub.is_name(given) else given
        name = recorded["name"]
    found = None if given is None else fetch(spec.name, given, arguments, verbose=verbose)
    if found is None:
        return dict(arguments), {}
    return {**arguments, "weights": found.name}, found.record(str(name))


_expected: dict[str, Mapping[str, str]] = {}
"""The hashes of weights that runs have recorded, by their source."""


def expect(recorded: Mapping[str, Any] | None) -> None:
    """Makes `fetch` reject weights that differ from those of a section `pretrained` of config.yaml.

    Raises:
        UsageError: the section has another form.
    """
    if not recorded:
        return
    if wrong := storage.mismatch(recorded, {"name": str, "source": str, "sha256": dict}):
        raise UsageError(f"The section pretrained of the run is damaged: {wrong}. Put back a copy of its config.yaml.")
    _expected[recorded["source"]] = recorded["sha256"]


def as_recorded(found: Published) -> Published:
    """Returns weights unchanged, if no run has recorded others of the same source.

    Raises:
        UsageError: the hashes differ from those that were passed to `expect`.

    Example:
        >>> as_recorded(fetch("bert", "hf:google/bert_uncased_L-2_H-128_A-2")).licence
        'apache-2.0'
    """
    wanted = _expected.get(found.source, found.sha256)
    if dict(wanted) != dict(found.sha256):
        here, there = (
            ", ".join(f"{n} {str(h)[:12]}" for n, h in sorted(part.items())) for part in (found.sha256, wanted)
        )
        raise UsageError(
            f"{found.source} has other weights than the run recorded: sha256 of {here}; expected {there}. Check where they "
            "come from. To begin with the new ones, remove the section pretrained of its config.yaml and pass another "
            "run_directory."
        )
    return found


# --- Families ---------------------------------------------------------------------------------------------------------


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
        kind = classifier.builder if classifier else {}
        fits = num_classes == count and all(arguments.get(name, value) == value for name, value in kind.items())
        found |= {"num_classes": num_classes, "load_classifier": fits, **kind}
        if classifier and classifier.several and fits:
            found["classifier_activation"] = "sigmoid"
    return registry.build(model, **{**found, "weights": checkpoint.weights, **arguments})


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
