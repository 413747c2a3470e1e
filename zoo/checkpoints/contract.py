"""The interface of a format of published weights, and the operations on weights in any format."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from zoo.errors import UsageError
from zoo.registries import Registry

if TYPE_CHECKING:
    import keras

Location = str | Path
Save = Callable[["keras.Model", Location, Mapping[str, Any], Sequence[str] | None], Path]


@dataclasses.dataclass(frozen=True)
class Classifier:
    """The classifier of a checkpoint.

    Attributes:
        count: number of classes.
        labels: their names in the order of their numbers; None if the checkpoint has no names.
    """

    count: int
    labels: tuple[str, ...] | None

    @property
    def several(self) -> bool:
        """Whether an example may have several labels at once, each with a sigmoid."""
        return False

    @property
    def builder(self) -> Mapping[str, Any]:
        """Arguments that a model with this classifier is built with, such as those of a tagger."""
        return {}


@dataclasses.dataclass(frozen=True)
class Repository:
    """The files of a Hugging Face repository that a format needs. All other files are not downloaded.

    A pattern is that of a shell, and does not match names in another folder.

    Attributes:
        types: the values of `model_type` in config.json that the format reads.
        files: patterns of the files besides the weights. config.json and the repository's README.md are always included.
        weights: patterns of the weights, one group for each way to store them. Of the groups whose first pattern matches a
            file, the first one is taken.
    """

    types: tuple[str, ...]
    files: tuple[str, ...]
    weights: tuple[tuple[str, ...], ...]


@dataclasses.dataclass(frozen=True)
class PublishedFile:
    """A file of weights that Keras downloads.

    Attributes:
        url: its address.
        licence: the licence of the weights.
        hash: the MD5 or SHA-256 that Keras compares; None if Keras has none for the file.
        cached_as: its name in Keras's cache; None for the last part of the address.
    """

    url: str
    licence: str
    hash: str | None = None
    cached_as: str | None = None


@dataclasses.dataclass(frozen=True)
class Published:
    """Local copy of weights that were found by their name.

    Attributes:
        name: the name that always means the same weights, such as `hf:ORG/NAME@COMMIT`.
        path: the local file or folder.
        source: where they come from: that name, or an address.
        licence: their licence; "unknown" if the source does not say.
        sha256: the SHA-256 of every file of weights by its name.
    """

    name: str
    path: Path
    source: str
    licence: str
    sha256: Mapping[str, str]

    def record(self, name: str) -> dict[str, Any]:
        """Returns the section `pretrained` of a run's config.yaml; `name` is the one that the user typed."""
        return {"name": name, "source": self.source, "licence": self.licence, "sha256": dict(self.sha256)}


@dataclasses.dataclass(frozen=True)
class CheckpointFormat:
    """A format of published weights: how to recognise, read, load and write it.

    Every function gets the path of the file or folder. A reader raises `UsageError` if something is missing or damaged. Only
    `load` and `save` may import Keras.

    Attributes:
        name: its name in `ModelSpec.checkpoints`.
        title: its name in messages, such as "a Hugging Face folder of BERT".
        recognises: whether the path looks like this format. It never raises, and is fast.
        load: `load(model, path, classifier)` sets the weights of a built model, all or none. The last layer is only loaded
            if `classifier` is true; otherwise it keeps its initial weights.
        read_arguments: returns the builder's arguments in the checkpoint, such as sizes and dropout rates.
        exact: those of them that a builder must be called with, because the weights depend on them.
        at_most: those of them that are upper bounds: a smaller model uses the first part of the weights.
        read_classifier: returns the classifier if it has one or several labels per example, otherwise None.
        read_preprocessing: returns arguments of the preprocessor, by the names of its `config()`, such as `vocabulary`.
        preprocessors: returns the kinds of the preprocessors that the checkpoint's inputs need, by task, where they are not
            those of the model; None if they are.
        is_complete: whether the model is useful without training and without a data set, such as a sentence encoder.
        save: `save(model, path, preprocessing, labels)` writes a trained model and returns the path. `preprocessing` is the
            `config()` of its preprocessor. `labels` are its class names, or None.
        read_licence: returns the licence of a file or folder that is known, otherwise "unknown".
        repository: the files of a Hugging Face repository that it needs; None if it is not read from repositories.
    """

    name: str
    title: str
    recognises: Callable[[Any], bool]
    load: Callable[[keras.Model, Any, bool], None]
    read_arguments: Callable[[Any], Mapping[str, Any]] = lambda path: {}
    exact: tuple[str, ...] = ()
    at_most: tuple[str, ...] = ()
    read_classifier: Callable[[Any], Classifier | None] = lambda path: None
    read_preprocessing: Callable[[Any], Mapping[str, Any]] = lambda path: {}
    preprocessors: Callable[[Any], Mapping[str, str] | None] = lambda path: None
    is_complete: Callable[[Any], bool] = lambda path: False
    save: Save | None = None
    read_licence: Callable[[Any], str] = lambda path: "unknown"
    repository: Repository | None = None


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """Published weights: their path and their format.

    Attributes:
        path: the local file or folder.
        format: the format that reads it.
        published: what is known of weights that were found by their name; None for a local path.
    """

    path: Location
    format: CheckpointFormat
    published: Published | None = None

    @property
    def weights(self) -> str:
        """The builder's argument `weights` that loads the same weights again."""
        return self.published.name if self.published else str(self.path)

    def arguments(
        self,
        class_names: Sequence[str] = (),
        *,
        several: bool = False,
        builder: Mapping[str, Any] = MappingProxyType({}),
    ) -> dict[str, Any]:
        """Returns the builder's arguments in the checkpoint.

        Args:
            class_names: the classes of the data. If the checkpoint's classifier has the same classes, in any order, the
                result has `load_classifier` and `labels`, so that it is loaded too.
            several: whether an example of the data has any number of them.
            builder: the builder's arguments so far, with which the classifier must agree.
        """
        found = dict(self.format.read_arguments(self.path))
        classifier = self.classifier()
        same = classifier and classifier.labels is not None and sorted(classifier.labels) == sorted(class_names)
        fits = classifier and all(builder.get(name) == value for name, value in classifier.builder.items())
        if classifier and same and fits and classifier.several == several:
            found |= {"load_classifier": True, "labels": list(class_names)}
        return found

    def preprocessing(self) -> dict[str, Any]:
        """Returns the arguments of the preprocessor in the checkpoint, such as its vocabulary."""
        return dict(self.format.read_preprocessing(self.path))

    def preprocessor(self, task: str) -> str | None:
        """Returns the kind of the preprocessor that the checkpoint's inputs need for a task; None for that of the model.

        Raises:
            UsageError: there is none for this task.
        """
        found = self.format.preprocessors(self.path)
        if found is None:
            return None
        if task not in found:
            raise UsageError(
                f"{self.path} cannot be used for {task}, only for {', '.join(found)}. Pass the folder of another model."
            )
        return found[task]

    def classifier(self) -> Classifier | None:
        """Returns the checkpoint's classifier if it has one or several labels per example, otherwise None."""
        return self.format.read_classifier(self.path)

    def licence(self) -> str:
        """Returns the licence of the weights, "unknown" if nothing says it."""
        return self.published.licence if self.published else self.format.read_licence(self.path)

    def check(self, arguments: Mapping[str, Any]) -> None:
        """Raises `UsageError` if a builder's arguments differ from those of the checkpoint."""
        found = self.format.read_arguments(self.path)
        for name in self.format.exact:
            if name in arguments and arguments[name] != found[name]:
                raise UsageError(
                    f"{name} is {arguments[name]!r}; the checkpoint {self.path} has {found[name]!r}. "
                    f"Pass {name}={found[name]!r}."
                )
        for name in self.format.at_most:
            if arguments[name] > found[name]:
                raise UsageError(
                    f"{name} is {arguments[name]!r}; the checkpoint {self.path} has {found[name]!r}. "
                    f"Pass {name}={found[name]!r}, or less."
                )

    def load(self, model: keras.Model, *, classifier: bool = True, labels: Sequence[str] | None = None) -> None:
        """Sets a model's weights.

        Args:
            model: built with the checkpoint's sizes.
            classifier: whether the last layer is loaded too.
            labels: the checkpoint's labels in the order of the model's classes; None for the checkpoint's order.

        Raises:
            UsageError: weights are missing, damaged or have another shape, or the labels are not the checkpoint's.
        """
        self.format.load(model, self.path, classifier)
        if classifier and labels is not None:
            found = self.classifier()
            theirs = (found and found.labels) or ()
            if sorted(theirs) != sorted(labels):
                raise UsageError(
                    f"labels is {list(labels)[:5]}; {self.path} has {list(theirs)[:5]}. Pass these, in the order that you "
                    "want."
                )
            reorder_classes(model, theirs, labels)


def reorder_classes(model: keras.Model, found: Sequence[str], wanted: Sequence[str]) -> None:
    """Reorders the classes of a model's last layer from the order `found` to the order `wanted` of the same names."""
    order = [found.index(name) for name in wanted]
    last = model.layers[-1]
    last.set_weights([values[..., order] for values in last.get_weights()])


FORMATS: Registry[CheckpointFormat] = Registry("checkpoint format", "zoo.checkpoints")


def register_format(checkpoint_format: CheckpointFormat) -> CheckpointFormat:
    """Registers a format under its name, for use in `checkpoints` of a model's spec.

    Raises:
        ValueError: another module has registered the name.

    Example:
        >>> register_format(CheckpointFormat("mine", "my own file", recognises=os.path.isfile, load=load_mine))
    """
    FORMATS.add(checkpoint_format.name, checkpoint_format, checkpoint_format.load.__module__)
    return checkpoint_format
