"""A finished model as it is served: raw requests in, named outputs out. A run or a SavedModel, whichever there is."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo import storage
from zoo.errors import UsageError, one_line
from zoo.finished_runs import finished, load_model

if TYPE_CHECKING:
    from zoo.datasets.interface import Interface

_BATCH = 64


@dataclasses.dataclass(frozen=True)
class Side:
    """A finished model.

    Attributes:
        name: the path that it was passed as.
        directory: the run's folder, or that of the SavedModel's version.
        interface: everything between a raw request and a labelled output, except the model.
        settings: the `data` section of the run's settings; of a SavedModel alone, the data's name and columns.
        saved_model: the version's folder; None for a run without export.
        is_run: whether the data that it was trained on can be loaded by its settings.
        counts: number of examples of each split that it was trained with, of a SavedModel without a run.
    """

    name: str
    directory: Path
    interface: Interface
    settings: Mapping[str, Any]
    saved_model: Path | None
    is_run: bool
    counts: Mapping[str, int] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def _loaded(self) -> Any:
        from zoo.export import load

        assert self.saved_model is not None
        return load(self.saved_model)

    @functools.cached_property
    def _live(self) -> Mapping[str, Any]:
        """The signatures of the trained model, traced once, for a run without a SavedModel."""
        import tensorflow as tf

        from zoo.export import live

        found = {}
        for name, function in live.signatures(self.model, self.interface).items():
            if function.takes is not None:
                specs = {key: self.interface.preprocessor.requests[key].spec for key in function.takes}
                found[name] = (
                    function.takes,
                    tf.function(function, input_signature=[specs], autograph=False, reduce_retracing=True),
                )
        return found

    @functools.cached_property
    def model(self) -> Any:
        """The trained Keras model of a run."""
        return load_model(self.directory / "model.keras")

    @functools.cached_property
    def parameters(self) -> int:
        """The number of the model's weights."""
        if self.saved_model is None:
            return int(self.model.count_params())
        return int(_facts(self.saved_model)["parameters"])

    @property
    def family(self) -> str:
        """The name of the registered model."""
        return str(self.interface.build["name"])

    @property
    def value_names(self) -> tuple[str, ...]:
        """The names of the predicted values, empty for a task without values."""
        return tuple(getattr(getattr(self.interface.preprocessor, "targets", None), "value_names", ()))

    def inputs(self, signature: str) -> list[str]:
        """Returns the names of a signature's raw inputs."""
        if self.saved_model is None:
            return list(self._live[signature][0])
        return list(self._loaded.inputs(signature))

    def answer(self, requests: Mapping[str, np.ndarray], signature: str) -> dict[str, np.ndarray]:
        """Returns a signature's outputs for raw requests, in batches of 64.

        Args:
            requests: arrays by input name, batch first; further names are ignored.
            signature: name of the signature.
        """
        from zoo.export.standalone import arrays

        given = {name: requests[name] for name in self.inputs(signature)}
        count = len(next(iter(given.values())))
        parts = [
            self._call({k: v[i : i + _BATCH] for k, v in given.items()}, signature) for i in range(0, count, _BATCH)
        ]
        return {name: arrays.joined([part[name] for part in parts]) for name in parts[0]}

    def _call(self, batch: Mapping[str, np.ndarray], signature: str) -> dict[str, np.ndarray]:
        import tensorflow as tf

        if self.saved_model is not None:
            return dict(self._loaded(batch, signature))
        tensors = {
            k: tf.constant(v.tolist(), tf.string) if v.dtype == object else tf.constant(v) for k, v in batch.items()
        }
        return {name: value.numpy() for name, value in self._live[signature][1](tensors).items()}

    def raw_signature(self, signature: str) -> tuple[Any, list[str]]:
        """Returns a function of the SavedModel, from tensors by name to tensors by name, and the names of its inputs."""
        return self._loaded.function(signature), list(self._loaded.inputs(signature))

    @property
    def decided(self) -> Mapping[str, Any]:
        """What the task decided after the training, such as thresholds, of a SavedModel."""
        assert self.saved_model is not None
        return dict(_facts(self.saved_model).get("decided", {}))

    def describe(self, answer: Mapping[str, Any], signature: str) -> str:
        """Returns the outputs for one example in one line, as `zoo predict` prints them."""
        shown = self.interface.definition.signatures[signature].shown
        if not shown.outputs:
            named = tuple(self.interface.definition.signatures[signature].named(self.interface.preprocessor))
            shown = dataclasses.replace(shown, outputs=named)
        decoded = {name: _decoded(value) for name, value in answer.items()}
        return shown.format(decoded, list(self.interface.class_names))


def _decoded(value: Any) -> Any:
    """Returns bytes, or an array of bytes, as text; other values unchanged."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, np.ndarray) and value.dtype == object:
        return np.array([_decoded(part) for part in value], object)
    return value


def open_side(given: Any) -> Side:
    """Opens a run or a SavedModel: its folder, a version's, or what `zoo.run` returned.

    A SavedModel in a run's folder is opened as this run.

    Raises:
        UsageError: the path holds neither, or the SavedModel was not made from a run with raw data.
    """
    from zoo.export import artifact_paths
    from zoo.training.run_directory import is_run

    path = Path(getattr(given, "run_directory", given))
    if not path.exists():
        raise UsageError(f"{path} does not exist. Pass the folder of a run or of a SavedModel.")
    if is_run(path):
        _, settings, interface = finished(path)
        versions = artifact_paths.versions(path / "saved_model")
        version = artifact_paths.find(path) if versions else None
        return Side(str(path), path, interface, settings["data"], version, True)
    version = artifact_paths.find(path)
    run = version.parent.parent
    if version.parent.name == "saved_model" and is_run(run) and (run / "model.keras").is_file():
        _, settings, interface = finished(run)
        return Side(str(path), run, interface, settings["data"], version, True)
    interface = _interface_of(version)
    columns = {name: interface.data[name] for name in ("columns",) if name in interface.data}
    settings = {"name": interface.data["name"], **columns}
    return Side(str(path), version, interface, settings, version, False, _facts(version).get("examples", {}))


def _facts(version: Path) -> dict[str, Any]:
    from zoo.export import artifact_paths

    file = version / artifact_paths.EXTRA / "zoo.json"
    needed = {"task": str, "preprocessor": {"kind": str}, "class_names": [str], "data": {"name": str}}
    try:
        found = storage.read_json(file)
        wrong = storage.mismatch(found, needed)
    except (OSError, ValueError) as error:
        wrong = one_line(error, 120)
    if wrong:
        raise UsageError(
            f"{version} does not say which task it answers and which raw requests it takes ({wrong.rstrip('.')}). Pass a "
            "SavedModel that `zoo train` or `zoo export` wrote, or a run."
        )
    return dict(found)


def _interface_of(version: Path) -> Interface:
    """Returns the interface of a SavedModel without its run, from zoo.json. It has no hashes of the splits."""
    from zoo.datasets.interface import Examples, Interface
    from zoo.datasets.preprocessing.base import get_preprocessor
    from zoo.export import artifact_paths
    from zoo.export.standalone import arrays

    facts = _facts(version)
    config = dict(facts["preprocessor"])
    try:
        preprocessor = get_preprocessor(config.pop("kind"))(**config)
        held = arrays.load(version / artifact_paths.EXTRA / "golden.npz")
    except UsageError:
        raise
    except (*arrays.UNREADABLE, TypeError, AttributeError) as error:
        raise UsageError(
            f"{version} is damaged: {one_line(error, 120)}. Run `zoo verify {version}` to find the cause."
        ) from error
    requests = {k.removeprefix("requests/"): v for k, v in held.items() if k.startswith("requests/")}
    return Interface(
        task=facts["task"],
        build=facts["model"],
        class_names=tuple(facts["class_names"]),
        preprocessor=preprocessor,
        data={"licence": "", "source": "", **facts["data"]},
        examples=Examples(requests, {}, {}),
    )
