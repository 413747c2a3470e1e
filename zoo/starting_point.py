"""The start of a run with the weights of another run: which weights fit, and what config.yaml records of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo import model_archive, registry
from zoo.errors import UsageError
from zoo.finished_runs import finished, load_model

if TYPE_CHECKING:
    import keras

    from zoo.config import TrainConfig
    from zoo.datasets.data import Data
    from zoo.datasets.interface import Interface
    from zoo.datasets.prepared import Prepared

StartFrom = str | Path | Mapping[str, Any]
"""A run directory, or the section `start_from` of a config.yaml, whose `sha256` is checked."""


@dataclasses.dataclass(frozen=True)
class Start:
    """Where the first weights of a run come from.

    Attributes:
        record: the section `start_from` of config.yaml: the run's folder, and the SHA-256 of its weights.
        interface: the interface whose vocabulary the new run keeps: of that run, or of the new run itself if it resumes.
        arguments: arguments of the model's builder in that run.
        model_file: the file with the weights; None if the new run has begun, so that its checkpoint holds them.
    """

    record: Mapping[str, Any]
    interface: Interface
    arguments: Mapping[str, Any]
    model_file: Path | None

    def prepare(
        self, data: Data, model: str, chosen: Mapping[str, Any], quantiles: Sequence[float] | None = None
    ) -> Prepared:
        """Prepares data as for the earlier run: with its vocabulary, and its arguments of the builder.

        Args:
            data: the data of the new run.
            model: the model of the new run.
            chosen: arguments of the builder, which override the earlier run's.
            quantiles: levels of quantiles to predict; None for those of the earlier run.

        Raises:
            UsageError: as in `Data.prepare_like`, or an argument names other initial weights.
        """
        spec = registry.get_spec(model)
        for name in spec.initial_arguments:
            if chosen.get(name):
                raise UsageError(
                    f"{name}={chosen[name]!r:.60} and start_from={self.record['run']!r} both give initial weights or "
                    f"vocabularies. Leave one of them out."
                )
        prepared = data.prepare_like(self.interface, model, quantiles=quantiles, **{**self.arguments, **chosen})
        return dataclasses.replace(prepared, start=self.record, pretrained=self.interface.pretrained)

    def select(self, prepared: Prepared) -> Selected | None:
        """Returns the earlier run's weights for the model of the new run; None if that one resumes.

        Weights whose shape depends on the number of classes belong to the classes: they are taken if the new run has the
        same classes, in its order. All others must fit.

        Raises:
            UsageError: weights do not fit, or the run was trained on test examples of a fold.
        """
        if self.model_file is None:
            return None
        note = self._overlap(prepared)
        source = load_model(self.model_file)
        expected = _weights_of(prepared)
        found = [(variable.name, tuple(variable.shape)) for variable in source.weights]
        dependent = self._of_classes(prepared, expected)
        self._check(prepared, found, [(path.rpartition("/")[2], shape) for path, shape in expected], {*dependent})
        given: list[np.ndarray] = source.get_weights()
        values: list[np.ndarray | None] = [*given]
        order = self._order(prepared)
        for number, axis in dependent.items():
            fits = order is not None and found[number][1] == expected[number][1] and (axis is not None or not order)
            values[number] = np.take(given[number], order, axis) if fits and order else given[number] if fits else None
        paths = [path for path, _ in expected]
        if all(value is None for value in values):
            raise UsageError(
                f"No weight of {self.record['run']} fits: all of them belong to its classes, "
                f"{_listed(self.interface)}. Leave start_from out, or pass a run with these classes."
            )
        return Selected(self.record["run"], paths, values, note)

    def _overlap(self, prepared: Prepared) -> str:
        """Returns a sentence if the run was trained on other splits of the same data; empty if not."""
        earlier, data = self.interface.data, prepared.data
        same = (earlier["name"], earlier["source"]) == (data.name, data.source)
        if not same or self.interface.splits["test"]["sha256"] == data.splits["test"].sha256:
            return ""
        run = self.record["run"]
        if "fold" in data.arguments:
            raise UsageError(
                f"The run in {run} was trained on examples of {data.name} that are in the test split of a fold, so the "
                "metrics of the fold would be too good. Choose a run on other data, or leave start_from out."
            )
        return f" {run} was trained on other splits of {data.name}: some test examples may have been in its training split."

    def _of_classes(self, prepared: Prepared, expected: Sequence[tuple[str, tuple[int, ...]]]) -> dict[int, int | None]:
        """Returns the weights whose shape depends on the number of classes, with the axis of the classes; None without one.

        Raises:
            UsageError: the classes differ from the earlier run's, and the builder has no `num_classes`.
        """
        classes = prepared.arguments.get("num_classes")
        same = self._order(prepared) == []
        if classes == self.interface.build["arguments"].get("num_classes") and same:
            return {}
        if classes is None:
            raise UsageError(
                f"The run in {self.record['run']} has the classes {_listed(self.interface)}; data set "
                f"{prepared.data.name!r} has others. Give the builder of {prepared.model!r} an argument num_classes, which "
                "says which weights belong to classes."
            )
        dependent: dict[int, int | None] = {}
        for number, ((_, one), (_, other)) in enumerate(zip(expected, _weights_of(prepared, 1), strict=True)):
            if one != other:
                axes = [axis for axis, (a, b) in enumerate(zip(one, other, strict=True)) if (a, b) == (classes, a + 1)]
                dependent[number] = axes[0] if len(axes) == 1 else None
        return dependent

    def _order(self, prepared: Prepared) -> list[int] | None:
        """Returns the numbers of the classes in the earlier run, empty if they are the same; None for other classes, or
        for values with other quantiles."""
        class_names, earlier = prepared.class_names, self.interface.class_names
        if prepared.objective.quantiles != self.interface.definition.objective.quantiles:
            return None
        if tuple(class_names) == earlier:
            return []
        return [earlier.index(name) for name in class_names] if sorted(class_names) == sorted(earlier) else None

    def _check(
        self,
        prepared: Prepared,
        found: Sequence[tuple[str, tuple[int, ...]]],
        expected: Sequence[tuple[str, tuple[int, ...]]],
        dependent: set[int],
    ) -> None:
        """Raises UsageError if the models have other weights, apart from those of the classes."""
        names = [[name for name, _ in part] for part in (found, expected)]
        wrong = (
            next((n for n in range(len(found)) if n not in dependent and found[n] != expected[n]), None)
            if (names[0] == names[1])
            else -1
        )
        if wrong is None:
            return
        what = (
            f"{len(found)} weights there, {len(expected)} here"
            if wrong < 0
            else f"{expected[wrong][0]} is {list(found[wrong][1])} there, {list(expected[wrong][1])} here"
        )
        there, here = self.interface.build["arguments"], registry.plain(prepared.arguments)
        differing = [f"{name}={there[name]!r:.60}" for name in here if name in there and here[name] != there[name]]
        raise UsageError(
            f"The weights of {self.record['run']} do not fit the model: {what}. That run has "
            f"{', '.join(differing) or 'another architecture'}. Pass the same, such as --model.NAME VALUE or "
            "model_arguments={...}, or leave start_from out."
        )


@dataclasses.dataclass(frozen=True)
class Selected:
    """Weights for a new model.

    Attributes:
        run: where they come from.
        paths: the names of the model's weights.
        values: a value for each, None if the weight keeps its initial value.
        note: a sentence about the data, or an empty text.
    """

    run: str
    paths: Sequence[str]
    values: Sequence[np.ndarray | None]
    note: str

    def assign(self, model: keras.Model) -> None:
        """Sets the weights of a model that was just built."""
        initial = model.get_weights()
        model.set_weights([old if new is None else new for old, new in zip(initial, self.values, strict=True)])
        for layer in model._flatten_layers():
            if hasattr(layer, "finalize_state"):  # Normalization keeps constants that it computes from its weights
                layer.finalize_state()

    def __str__(self) -> str:
        new = [path for path, value in zip(self.paths, self.values, strict=True) if value is None]
        kept = len(self.paths) - len(new)
        rest = f"; {', '.join(new)} belong to the classes and are new" if new else ""
        return f"Starts with {kept} of {len(self.paths)} weights of {self.run}{rest}.{self.note}"


def find(
    given: StartFrom | None, model: str, config: TrainConfig, directory: Path, *, overwrite: bool = False
) -> Start | None:
    """Returns where a run's first weights come from; None for initial weights.

    Args:
        given: the other run.
        model: the model of the new run.
        config: the options of the new run.
        directory: the folder of the new run. If it has begun, the other run is not loaded again, and may be gone.
        overwrite: whether the new run begins again.

    Raises:
        UsageError: the other run has not finished, has another model or other weights than recorded, or is the new run.
    """
    from zoo.datasets.interface import Interface
    from zoo.training.run_directory import has_begun, read_settings

    if given is None:
        return None
    run, sha256 = (given.get("run"), given.get("sha256")) if isinstance(given, Mapping) else (given, None)
    if not isinstance(run, (str, Path)):
        raise UsageError(
            f"start_from is {given!r:.60}; expected the folder of a run. Pass start_from='runs/digits-cnn'."
        )
    place = Path(run).expanduser().resolve()
    if config.closed_form:
        raise UsageError("start_from has no effect with closed_form=true, which does not train. Leave one of them out.")
    if place == directory.resolve():
        raise UsageError(f"{run} cannot start from itself. Pass another run_directory for the new run.")
    file = place / "model.keras"
    if not overwrite and has_begun(directory):
        settings = read_settings(directory)
        recorded = settings.get("start_from") or {}
        if recorded.get("run") == str(place) and not file.is_file():
            return Start(recorded, Interface.load(directory / "interface"), _arguments(settings), None)
        if recorded and file.is_file():
            record = {"run": str(place), "sha256": model_archive.weights_sha256(file)}
            return Start(record, Interface.load(directory / "interface"), _arguments(settings), None)
    file, settings, interface = finished(place)
    _check_model(run, interface, settings, model)
    found = model_archive.weights_sha256(file)
    if sha256 not in (None, found):
        raise UsageError(
            f"{run} has other weights than recorded: sha256 {found[:12]}, expected {str(sha256)[:12]}. Put the old run back, "
            f"or pass --start-from {run} to begin with the new weights."
        )
    return Start({"run": str(place), "sha256": found}, interface, _arguments(settings, interface), file)


def _check_model(run: Any, interface: Interface, settings: Mapping[str, Any], model: str) -> None:
    name = settings["model"]["name"]
    if "own" in interface.build or "sha256" in settings["model"]:
        raise UsageError(
            f"The run in {run} has a model of your own, {name}. Call zoo.train with it; its weights stay as they are."
        )
    families = [registry.get_spec(each).variant_of or each for each in (name, model)]
    if families[0] != families[1]:
        raise UsageError(f"The run in {run} has the model {name}; this run has {model}. Choose --model {name}.")


def _arguments(settings: Mapping[str, Any], interface: Interface | None = None) -> dict[str, Any]:
    """Returns the arguments of the builder that a new run takes over: all that the data and published weights do not give.

    Those that the run took from published weights are in its interface only.
    """
    from zoo.tasks import get_task

    spec = registry.get_spec(settings["model"]["name"])
    complete = {
        name: value
        for name, value in (interface.build["arguments"].items() if interface else ())
        if name in spec.parameters and spec.parameters[name].default is not spec.parameters[name].empty
    }
    task = get_task(interface.task).arguments if interface else {}
    given = {"num_classes", *spec.data_arguments, *spec.initial_arguments, *task}
    arguments = {**complete, **settings["model"]}
    return {name: value for name, value in arguments.items() if name in spec.parameters and name not in given}


def _weights_of(prepared: Prepared, more_classes: int = 0) -> list[tuple[str, tuple[int, ...]]]:
    """Returns path and shape of the weights of a model for the data, or for one with more classes."""
    arguments = dict(prepared.arguments)
    if more_classes:
        arguments["num_classes"] += more_classes
    with model_archive.without_values():
        model = registry.build(prepared.model, **arguments)
        return [(variable.path, tuple(variable.shape)) for variable in model.weights]


def _listed(interface: Interface) -> str:
    names = interface.class_names
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
