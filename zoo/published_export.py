"""Exports published weights as they are: classifiers and text encoders, without training and without a data set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo import registry, storage
from zoo.errors import UsageError

if TYPE_CHECKING:
    from zoo import tasks
    from zoo.checkpoints import Checkpoint, Classifier

_MOST_GOLDEN = 64
"""Texts of a corpus that are published as golden examples."""


def export_published(
    weights: str | Path,
    path: str | Path,
    examples: Sequence[str | Path] | None = None,
    runtimes: str | Sequence[str] = (),
    labels: Sequence[str] | None = None,
    model: str | None = None,
    *,
    corpus: str | None = None,
    golden: Any = None,
    licence: str | None = None,
) -> Path:
    """Writes and verifies the SavedModel of a published classifier or text encoder, whose weights say all that a model needs.

    Nothing is evaluated, because there are no labelled examples.

    Args:
        weights: the checkpoint, in a format of `zoo.checkpoints`, or its name.
        path: folder of the model: PATH/1, then PATH/2.
        examples: requests to publish as golden examples, such as image files or texts; None for texts of the corpus, or
            else for requests that are made up.
        runtimes: as in `zoo.export.save`.
        labels: names in the order of the classifier's outputs; None for those that the checkpoint has.
        model: the registered model to build; None for the family or named size that fits the checkpoint.
        corpus: texts for the signature `search` of a text encoder: `lines:FILE`, or `csv:FILE` with the columns id and text;
            None for none.
        licence: as in `zoo.export.save`; the weights have one of their own.
        golden: "generated" is the same as None; otherwise the same as `examples`.

    Returns:
        The version folder, such as `PATH/1`.

    Raises:
        UsageError: the checkpoint cannot be read, is neither a classifier nor a text encoder, or has no class names; its
            model needs a data set to prepare requests; or as in `read_corpus` and `zoo.export.save`.

    Example:
        >>> export_published("efficientnet-lite0-57934424.pth", "exports/lite0", ["china.jpg", "flower.jpg"])
        PosixPath('exports/lite0/1')
        >>> export_published("all-MiniLM-L6-v2", "exports/faq", corpus="lines:faq.txt")
        PosixPath('exports/faq/1')
    """
    from zoo import checkpoints, corpus_search, export
    from zoo.datasets.data import kind_for
    from zoo.datasets.preprocessing.base import get_preprocessor
    from zoo.export.keras_models.interface import Examples, GivenInterface
    from zoo.export.raw_requests import GENERATED, encoded, raw_requests

    spec, checkpoint = _find(weights, model)
    classifier = checkpoint.classifier()
    if classifier is None and not _is_complete(checkpoint):
        raise UsageError(
            f"{weights} has no classifier, and is no folder of sentence-transformers (with modules.json). Pass one of these, "
            f"or train first: `zoo train --model {spec.name} --model.weights {weights} --data csv:FILE`."
        )
    task = _task_of(spec, classifier)
    kind = get_preprocessor(kind_for(spec, task, checkpoint))
    make = _without_data(kind, weights)
    names = _class_names(weights, classifier, labels)
    situation = registry.Situation(task.name, 0, {"weights": checkpoint.weights})
    arguments = {**spec.recommended_arguments(situation), **checkpoint.arguments()}
    preprocessor, fixed = make({**spec.preprocessing, "checkpoint": checkpoint}, arguments)
    network = checkpoints.build(spec.name, checkpoint.weights, **fixed)
    if corpus is not None:
        preprocessor = corpus_search.with_corpus(network, preprocessor, corpus)
    given = _examples(examples, None if isinstance(golden, str) and golden == GENERATED else golden)
    if given is None and corpus is not None:
        given = preprocessor.corpus.texts[:_MOST_GOLDEN]
    requests = raw_requests(preprocessor, _complete(preprocessor, given))
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
    saved: Path = export.save(
        network,
        path,
        interface=interface,  # type: ignore[arg-type]  # it has what an export reads
        golden=GENERATED if given is None else None,
        runtimes=runtimes,
        licence=licence,
    )
    return saved


def _without_data(kind: Any, weights: str | Path) -> Any:
    """Returns the function of a preprocessor that needs no data set."""
    make = getattr(kind, "without_data", None)
    if make is None:
        raise UsageError(
            f"{weights} needs a data set to prepare its requests. Pass --data with a data set that has its classes, such as "
            "csv:texts.csv."
        )
    return make


def _examples(examples: Any, golden: Any) -> Any:
    if golden is None:
        return examples
    if isinstance(golden, str):
        raise UsageError(f"golden is {golden!r}, but there is no data set. Pass requests, or golden='generated'.")
    if examples is not None:
        raise UsageError("There are both examples and golden requests. Pass one of them.")
    return golden


def _complete(preprocessor: Any, given: Any) -> Any:
    """Returns requests by name: made up where none are given, and with the second texts of a preprocessor that takes two."""
    if given is None:
        return preprocessor.generated(np.random.default_rng(0), 1)
    first, *others = preprocessor.requests
    if others and not isinstance(given, Mapping):
        return preprocessor.to_requests([{first: each} for each in given])
    return given if isinstance(given, Mapping) else list(given)


def _is_complete(checkpoint: Checkpoint) -> bool:
    return checkpoint.format.is_complete(checkpoint.path)


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
    serving = ((n, c) for has in (_is_complete, _has_classifier) for n, c in found if has(c))
    name, checkpoint = next(serving, found[0])
    sizes = {k: v for k, v in checkpoint.arguments().items() if k in checkpoint.format.exact}
    sized = [each for each in registry.list_models() if registry.get_spec(each).variant_of == name]
    fitting = [each for each in (name, *sized) if sizes and _defaults(each, sizes) == sizes]
    return registry.get_spec(fitting[0] if fitting and model is None else name), checkpoint


def _has_classifier(checkpoint: Checkpoint) -> bool:
    return checkpoint.classifier() is not None


def _defaults(model: str, names: Mapping[str, Any]) -> dict[str, Any]:
    parameters = registry.get_spec(model).parameters
    return {name: parameters[name].default for name in names if name in parameters}


def _task_of(spec: registry.ModelSpec, classifier: Classifier | None) -> tasks.Task:
    """Returns the first task of a model with as many labels for an example as the classifier gives: one, or several."""
    from zoo import tasks

    several = classifier is not None and classifier.several
    known = [tasks.get_task(name) for name in spec.tasks]
    return next((task for task in known if (task.objective.labels is not None) == several), known[0])


def _class_names(weights: str | Path, classifier: Classifier | None, labels: Sequence[str] | None) -> tuple[str, ...]:
    if classifier is None:
        if labels is not None:
            raise UsageError(f"{weights} is a text encoder, which has no classes. Leave the labels out.")
        return ()
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
    if place.is_file():
        hashes = {place.name: storage.sha256(place)}
    else:  # sentence-transformers may keep the weights in a folder of their own
        files = [*_tensors(place.iterdir())] or [*_tensors(place.rglob("*"))]
        hashes = {file.relative_to(place).as_posix(): storage.sha256(file) for file in files}
    return {"name": place.name, "source": place.name, "licence": checkpoint.licence(), "sha256": hashes}


def _tensors(files: Iterable[Path]) -> list[Path]:
    return sorted(file for file in files if file.suffix in (".safetensors", ".bin"))
