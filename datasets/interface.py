"""The interface of a run: everything between a raw request and a labelled output, except the model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo import registry, storage
from zoo.datasets.fingerprint import Fingerprint
from zoo.errors import UsageError, one_line
from zoo.export.standalone import arrays as array_files
from zoo.registries import Plugin, plugins_of
from zoo.tasks import get_task

if TYPE_CHECKING:
    from zoo.datasets.preprocessing.base import Preprocessor
    from zoo.tasks import Task


@dataclasses.dataclass(frozen=True)
class Examples:
    """Raw requests by input name, their targets, and the same examples as model inputs by name. A single model input is
    called `input`."""

    requests: Mapping[str, np.ndarray]
    targets: Mapping[str, np.ndarray]
    inputs: Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Sample:
    """Raw requests by input name and their targets, drawn from the test split. On them the exporter compares the scores of
    the model and of the artifact with the report's.

    Attributes:
        requests: as in `Examples`.
        targets: as in `Examples`.
        whole: whether the sample was drawn from the whole split. Its score is then an estimate of the report's.
    """

    requests: Mapping[str, np.ndarray]
    targets: Mapping[str, np.ndarray]
    whole: bool


@dataclasses.dataclass(frozen=True)
class Interface:
    """What the exporter needs in addition to the model. `data.prepare` creates it, and the run saves it.

    Attributes:
        task: name of the task.
        build: name and arguments of the registered model that it belongs to.
        class_names: labels in the order of their numbers.
        preprocessor: turns raw input into model input.
        data: name, licence and source of the data, and its `columns` if they were named.
        examples: real test examples, from which the exporter makes the golden examples.
        splits: number and hash of the examples of each split, as in `Fingerprint`.
        sample: up to 1,000 more real test examples, which are not stored in the artifact; None if there are none.
        pretrained: name, source, licence and SHA-256 of the published weights that the model was made from; empty if it was
            made from none.
        statistics: statistics of the raw requests of training examples, see `sampling.describe_training`; empty if there are
            none.
        training: the options of the training that are not the defaults. The run's config.yaml holds them, not this folder.

    Example:
        >>> interface = zoo.datasets.load("digits").prepare("cnn").interface
        >>> interface.save("interface")
        >>> Interface.load("interface").class_names == interface.class_names
        True
    """

    task: str
    build: Mapping[str, Any]
    class_names: tuple[str, ...]
    preprocessor: Preprocessor
    data: Mapping[str, Any]
    examples: Examples
    splits: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    sample: Sample | None = None
    training: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    pretrained: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    statistics: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of the data that it was made from. It identifies the data that the model was trained on."""
        return Fingerprint(self.class_names, described(self.preprocessor), self.splits)

    @property
    def definition(self) -> Task:
        """The task, for the targets of the preprocessor."""
        return get_task(self.task).for_targets(self.preprocessor)

    @property
    def spec(self) -> registry.ModelSpec:
        """The metadata of the model."""
        return registry.get_spec(self.build["name"])

    @property
    def plugins(self) -> list[Plugin]:
        """The plugins that a run needs."""
        return needed_plugins(self.build["name"], self.task, self.preprocessor)

    def changes_since(self, directory: str | Path) -> list[str]:
        """Returns phrases that describe how the data differs from that of a saved interface, or an empty list.

        Raises:
            UsageError: as in `load`.
        """
        return Interface.load(directory).fingerprint.changes(self.fingerprint)

    def save(self, directory: str | Path) -> None:
        """Writes interface.json and examples.npz into a folder. A missing folder is created."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        arrays = {f"requests/{k}": v for k, v in self.examples.requests.items()}
        arrays |= {f"inputs/{k}": v for k, v in self.examples.inputs.items()}
        arrays |= {f"targets/{k}": v for k, v in self.examples.targets.items()}
        if self.sample is not None:
            arrays |= {f"sample/{k}": v for k, v in self.sample.requests.items()}
            arrays |= {f"sample_targets/{k}": v for k, v in self.sample.targets.items()}
            arrays["sample_whole"] = np.array(self.sample.whole)
        with storage.replacing(directory / "examples.npz") as temporary:
            array_files.save(temporary, arrays, compress=True)
        content = {
            "task": self.task,
            "build": registry.plain(self.build),
            "class_names": list(self.class_names),
            "preprocessor": described(self.preprocessor),
            "data": dict(self.data),
            "splits": registry.plain(self.splits),
            "pretrained": dict(self.pretrained),
            "data_sha256": self.fingerprint.sha256,
        }
        if self.statistics:
            storage.write_json(directory / _STATISTICS, self.statistics)
        storage.write_json(directory / "interface.json", content)

    @classmethod
    def load(cls, directory: str | Path) -> Interface:
        """Reads the files that `save` wrote.

        Raises:
            UsageError: the folder holds no interface, or the interface was changed or has no hash of its data.
        """
        from zoo.datasets.preprocessing.base import get_preprocessor

        directory = Path(directory)
        if not (directory / "interface.json").is_file():
            raise UsageError(
                f"{directory} holds no interface.json. Pass the folder `interface` of a run that `zoo train` made."
            )
        file = directory / "interface.json"
        content = storage.read_record(file, {}, _RESTORE)
        if "splits" not in content:
            raise UsageError(
                f"{directory} has no hash of its data: an earlier version wrote it. Train the model again, "
                "with another run_directory or with overwrite=True (--overwrite)."
            )
        if wrong := storage.mismatch(content, _SCHEMA):
            raise UsageError(f"{file} is damaged: {wrong}. {_RESTORE}")
        names, config = tuple(content["class_names"]), dict(content["preprocessor"])
        if Fingerprint(names, config, content["splits"]).sha256 != content["data_sha256"]:
            raise UsageError(
                f"{file} was changed after training: its class names, preprocessor and splits do not match its hash. "
                "Restore the original file, or train the model again."
            )
        kind = get_preprocessor(config.pop("kind"))
        try:
            preprocessor = kind(**config)
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise UsageError(f"{file} is damaged: {one_line(error, 120)}. {_RESTORE}") from error
        examples, sample = _read_examples(directory / "examples.npz")
        return cls(
            task=content["task"],
            build=content["build"],
            class_names=names,
            preprocessor=preprocessor,
            data=content["data"],
            examples=examples,
            splits=content["splits"],
            sample=sample,
            pretrained=content.get("pretrained", {}),  # earlier versions had none
            statistics=storage.read_record(known, {}, _RESTORE) if (known := directory / _STATISTICS).is_file() else {},
        )


_STATISTICS = "statistics.json"
_RESTORE = (
    "Put back a copy of the run's folder `interface`, or train the model again with overwrite=True (--overwrite)."
)
_SCHEMA = {
    "task": str,
    "build": {"name": str},
    "class_names": [str],
    "preprocessor": {"kind": str},
    "data": {"name": str, "licence": str, "source": str},
    "splits": dict,
    "data_sha256": str,
}


def _read_examples(file: Path) -> tuple[Examples, Sample | None]:
    """Reads examples.npz.

    Raises:
        UsageError: the file is damaged.
    """
    kinds = ("requests/", "targets/", "inputs/", "sample/", "sample_targets/")
    try:
        arrays = array_files.load(file)
        requests, targets, inputs, sample, right = (
            {k.removeprefix(kind): v for k, v in arrays.items() if k.startswith(kind)} for kind in kinds
        )
        if not requests or not inputs or len({len(v) for v in (*requests.values(), *targets.values())}) > 1:
            raise ValueError("it has no examples, or different numbers of them; expected a target for every request.")
        whole = bool(arrays["sample_whole"]) if sample else False
    except array_files.UNREADABLE as error:
        raise UsageError(f"{file} is damaged: {one_line(error, 120)}. {_RESTORE}") from error
    return Examples(requests, targets, inputs), Sample(sample, right, whole) if sample else None


def needed_plugins(model: str, task: str, preprocessor: Preprocessor, **more: str) -> list[Plugin]:
    """Returns the plugins that add these names or the task's report. `more` are further names by kind."""
    report = get_task(task).report
    return plugins_of({"model": model, "task": task, "preprocessor": preprocessor.kind, "report": report, **more})


def described(preprocessor: Preprocessor) -> dict[str, Any]:
    """Returns the kind and the configuration of a preprocessor as JSON values."""
    plain: dict[str, Any] = registry.plain({"kind": preprocessor.kind, **preprocessor.config()})
    return plain


def check_numbering(earlier: Preprocessor, now: Preprocessor) -> None:
    """Checks that the words, tokens or ids of an earlier preprocessor have the same numbers now.

    Raises:
        UsageError: they do not, so that weights of rows would belong to others.
    """
    old, new = described(earlier), described(now)
    for name, values in old.items():
        are_names = isinstance(values, list) and values and all(isinstance(value, str) for value in values)
        if are_names and (held := new.get(name)) != values:
            changes = Fingerprint((), {name: values}, {}).changes(Fingerprint((), {name: held}, {}))
            raise UsageError(
                f"The weights of the earlier run belong to other rows: {changes[0]}. Train on this data without them, or "
                "give it the same ones."
            )
