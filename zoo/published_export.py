"""Exports a published classifier as it is: without training, and without a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo import registry, storage
from zoo.errors import UsageError

if TYPE_CHECKING:
    from zoo import tasks
    from zoo.checkpoints import Checkpoint, Classifier


def export_published(
    weights: str | Path,
    path: str | Path,
    examples: Sequence[str | Path] | None = None,
    runtimes: str | Sequence[str] = (),
    labels: Sequence[str] | None = None,
    model: str | None = None,
) -> Path:
    """Writes and verifies the SavedModel of a published classifier, whose weights say all that a model needs.

    Nothing is evaluated, because there are no labelled examples.

    Args:
        weights: the checkpoint, in a format of `zoo.checkpoints`, or its name.
        path: folder of the model: PATH/1, then PATH/2.
        examples: requests to publish as golden examples, such as image files; None for requests that are made up.
        runtimes: as in `zoo.export.save`.
        labels: names in the order of the classifier's outputs; None for those that the checkpoint has.
        model: the registered model to build; None for the family or named size that fits the checkpoint.

    Raises:
        UsageError: the checkpoint cannot be read, has no classifier, or has no class names; its model needs a data set to
            prepare requests; or as in `zoo.export.save`.

    Example:
        >>> export_published("efficientnet-lite0-57934424.pth", "exports/lite0", ["china.jpg", "flower.jpg"])
        PosixPath('exports/lite0/1')
    """
    from zoo import checkpoints, export
    from zoo.datasets.data import kind_for
    from zoo.datasets.preprocessing.base import get_preprocessor
    from zoo.export.keras_models.interface import Examples, GivenInterface
    from zoo.export.raw_requests import GENERATED, encoded, raw_requests

    spec, checkpoint = _find(weights, model)
    classifier = checkpoint.classifier()
    task = _task_of(spec, classifier)
    kind = get_preprocessor(kind_for(spec, task))
    make = getattr(kind, "without_data", None)
    if classifier is None or make is None:
        what = "has no classifier" if classifier is None else "needs a data set to prepare its requests"
        raise UsageError(f"{weights} {what}. Pass --data with a data set that has its classes, such as csv:texts.csv.")
    names = _class_names(weights, classifier, labels)
    situation = registry.Situation(task.name, 0, {"weights": checkpoint.weights})
    preprocessor, fixed = make(spec.preprocessing, {**spec.recommended_arguments(situation), **checkpoint.arguments()})
    network = checkpoints.build(spec.name, checkpoint.weights, **fixed)
    given = preprocessor.generated(np.random.default_rng(0), 1) if examples is None else list(examples)
    requests = raw_requests(preprocessor, given)
    interface = GivenInterface(
        definition=task.for_targets(preprocessor),
        spec=spec,
        build=registry.describe_build(network) or {},
        class_names=names,
        preprocessor=preprocessor,
        examples=Examples(requests, encoded(preprocessor, requests)),
        task=task.name,
        pretrained=_record(checkpoint, weights),
    )
    golden = GENERATED if examples is None else None
    saved: Path = export.save(network, path, interface=interface, golden=golden, runtimes=runtimes)  # type: ignore[arg-type]
    return saved


def _find(weights: str | Path, model: str | None) -> tuple[registry.ModelSpec, Checkpoint]:
    """Returns the model that fits a checkpoint, a named size if its sizes are those of the checkpoint, and the checkpoint."""
    from zoo import checkpoints

    published = checkpoints.locate(weights) if checkpoints.is_name(weights) else None
    place = published.path if published else weights
    families = [model] if model else checkpoints.families(place)
    if not families:
        raise UsageError(
            f"{weights} is not a checkpoint that a model supports. Pass a file or folder of published weights, "
            "such as efficientnet-lite0-57934424.pth, or --model NAME."
        )
    found = [(name, checkpoints.find(name, weights)) for name in families]
    name, checkpoint = next(((n, c) for n, c in found if c.classifier() is not None), found[0])
    sizes = {k: v for k, v in checkpoint.arguments().items() if k in checkpoint.format.exact}
    sized = [each for each in registry.list_models() if registry.get_spec(each).variant_of == name]
    fitting = [each for each in (name, *sized) if sizes and _defaults(each, sizes) == sizes]
    return registry.get_spec(fitting[0] if fitting and model is None else name), checkpoint


def _defaults(model: str, names: Mapping[str, Any]) -> dict[str, Any]:
    parameters = registry.get_spec(model).parameters
    return {name: parameters[name].default for name in names if name in parameters}


def _task_of(spec: registry.ModelSpec, classifier: Classifier | None) -> tasks.Task:
    """Returns the first task of a model with as many labels for an example as the classifier gives: one, or several."""
    from zoo import tasks

    several = classifier is not None and classifier.several
    known = [tasks.get_task(name) for name in spec.tasks]
    return next((task for task in known if (task.objective.labels is not None) == several), known[0])


def _class_names(weights: str | Path, classifier: Classifier, labels: Sequence[str] | None) -> tuple[str, ...]:
    found = classifier.labels if labels is None else tuple(labels)
    if found is None:
        raise UsageError(
            f"{weights} does not say what its {classifier.count:,} classes are. Pass --labels with a text file that has one "
            "name per line, in the order of the classifier's outputs."
        )
    if len(found) != classifier.count:
        raise UsageError(
            f"There are {len(found):,} labels; the classifier of {weights} has {classifier.count:,} outputs. Pass a label "
            "for each."
        )
    if len(set(found)) < len(found):
        twice = next(name for name in found if found.count(name) > 1)
        raise UsageError(f"The label {twice!r} occurs twice. Rename one of them, so that all labels differ.")
    return found


def _record(checkpoint: Checkpoint, weights: str | Path) -> dict[str, Any]:
    """Returns what zoo.json and the model card say of the weights. Of a folder the hash of every file of tensors is taken."""
    if checkpoint.published is not None:
        return checkpoint.published.record(str(weights))
    place = Path(checkpoint.path)
    files = [place] if place.is_file() else sorted(p for p in place.iterdir() if p.suffix in (".safetensors", ".bin"))
    hashes = {file.name: storage.sha256(file) for file in files}
    return {"name": place.name, "source": place.name, "licence": checkpoint.licence(), "sha256": hashes}
