"""The class that `load` returns: raw data that can be prepared for a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from zoo import checkpoints, config_checks, registry, tasks
from zoo import recommended as recommendations
from zoo.checkpoints import word_vectors
from zoo.datasets import display
from zoo.datasets.arguments import Read, check_fixed, complete_arguments
from zoo.datasets.interface import Interface, check_numbering
from zoo.datasets.prepared import Prepared
from zoo.datasets.preprocessing.base import Choices, Preprocessor, get_preprocessor
from zoo.datasets.raw import RawData
from zoo.errors import UsageError


@dataclasses.dataclass(frozen=True, repr=False)
class Data(RawData):
    """A loaded data set; see `RawData` for its attributes.

    Example:
        >>> zoo.datasets.load("digits").prepare("cnn").num_examples("train")
        1293
    """

    def __repr__(self) -> str:
        return display.as_text(self)

    def _repr_html_(self) -> str:
        return display.as_html(self)

    def prepare(self, model: str, /, *, quantiles: Sequence[float] | None = None, **arguments: Any) -> Prepared:
        """Creates the preprocessor for a model, fits it on the training split, and completes the builder's arguments.

        Args:
            model: a registered model's name.
            quantiles: levels between 0 and 1, such as [0.1, 0.5, 0.9]: the model of a data set with values also predicts
                these quantiles of each value.
            **arguments: arguments of its builder. Arguments that the data determines (classes, input shape) are filled in.

        Returns:
            Batches for training and evaluation, and the interface for the exporter.

        Raises:
            UsageError: the model or an argument is unknown, the model serves none or several of this data's tasks, an
                argument contradicts the data, or there are quantiles and no values.

        Example:
            >>> prepared = zoo.datasets.load("digits").prepare("cnn", filters=(32, 64, 64))
            >>> prepared.arguments["input_shape"], prepared.arguments["num_classes"]
            ((28, 28, 1), 10)
        """
        return self._prepare(model, arguments, None, () if quantiles is None else quantiles)

    def prepare_like(
        self, earlier: Interface, model: str, /, *, quantiles: Sequence[float] | None = None, **arguments: Any
    ) -> Prepared:
        """Prepares as `prepare` does, but with the vocabulary of an earlier run instead of a new one.

        Args:
            earlier: the run's interface.
            model: a registered model's name.
            quantiles: as in `prepare`; None for those of the earlier run, and an empty list for none.
            **arguments: arguments of its builder.

        Raises:
            UsageError: as in `prepare`, or the model's preprocessor is of another kind, or numbers other words or ids.

        Example:
            >>> earlier = zoo.datasets.load("commands").prepare("transformer").interface
            >>> zoo.datasets.from_arrays(texts, labels).prepare_like(earlier, "transformer").preprocessor.vocabulary
        """
        levels = earlier.definition.objective.quantiles if quantiles is None else quantiles
        prepared = self._prepare(model, arguments, earlier, levels)
        check_numbering(earlier.preprocessor, prepared.preprocessor)
        return prepared

    def _prepare(
        self, model: str, chosen: Mapping[str, Any], earlier: Interface | None, quantiles: Sequence[float]
    ) -> Prepared:
        spec = registry.get_spec(model)
        registry.check_arguments(spec, chosen)
        shared = tuple(task for task in self.served if task in spec.tasks) if spec.tasks else self.tasks
        if not shared:
            able = sorted({name for task in self.served for name in registry.list_models(task=task)})
            raise UsageError(
                f"Model {model!r} serves {', '.join(spec.tasks)}; data set {self.name!r} is for {', '.join(self.tasks)}. "
                f"Choose a model for this data: {', '.join(able)}."
            )
        data = dataclasses.replace(self, tasks=shared)
        task = tasks.get_task(data.task)
        levels = _levels(quantiles, task, self.name)
        if chosen.get("classifier_activation") == "sigmoid" and task.objective.labels is None:
            raise UsageError(
                f"classifier_activation is 'sigmoid', for several labels at once; data set {self.name!r} is for {task.name}. "
                "Leave it out."
            )
        recommended = {} if earlier is not None else self._recommended(spec, task.name, chosen)
        chosen = {**recommended, **chosen}
        arguments = {n: p.default for n, p in spec.parameters.items() if p.default is not p.empty} | dict(chosen)
        decided: dict[str, Any] = {k: v for k, v in task.arguments.items() if k in spec.parameters}
        if task.classes is not None or task.objective.labels is not None:
            decided["num_classes"] = len(self.class_names)
        arguments, pretrained = checkpoints.pinned(spec, arguments)
        checkpoint = checkpoints.chosen(spec, arguments)
        kind = get_preprocessor(kind_for(spec, task, checkpoint, earlier))
        several = task.objective.labels is not None
        arguments |= decided
        fitting: dict[str, Any] = {"several": several, "builder": arguments}
        from_checkpoint = checkpoint.arguments(self.class_names, **fitting) if checkpoint else {}
        from_checkpoint |= word_vectors.chosen(spec, arguments, chosen)
        _check_kind(model, kind.kind, earlier)
        needs = {**spec.preprocessing, "checkpoint": checkpoint, "earlier": earlier, "quantiles": levels}
        needs["open"] = {name for name in spec.parameters if chosen.get(name) is None}
        read = Read(arguments)
        preprocessor, fixed = kind.for_model(data, needs, read)
        if earlier is None:  # otherwise the arguments of that run are among the chosen ones
            check_fixed(spec, chosen, fixed, read.names, self.name)
        data, chosen, arguments = _with_choices(data, preprocessor, spec, chosen, dict(read))
        if levels != task.for_targets(preprocessor).objective.quantiles:
            raise UsageError(
                f"The preprocessor {kind.kind!r} has no targets for quantiles={list(levels)}. Leave quantiles out, or pass "
                "needs['quantiles'] to Targets.fit in its for_model."
            )
        complete, requested = complete_arguments(spec, chosen, arguments, fixed, {*decided}, self.name, from_checkpoint)
        vectors, pretrained = _with_vectors(spec, complete, preprocessor, self.name, pretrained)
        return Prepared(
            data=data,
            model=model,
            task=task,
            preprocessor=preprocessor,
            requested=requested,
            arguments=complete,
            recommended=recommended,
            pretrained=pretrained,
            word_vectors=vectors,
        )

    def _recommended(self, spec: registry.ModelSpec, task: str, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the arguments that the model recommends for the data, without those that the user chose."""
        situation = registry.Situation(task, self.splits["train"].num_examples, chosen)
        return {k: v for k, v in recommendations.arguments_of(spec, situation).items() if k not in chosen}

    def prepared_as(self, interface: Interface, requested: Mapping[str, Any]) -> Prepared:
        """Prepares this data with the preprocessor of an earlier run. Nothing is fitted, and no checkpoint is read.

        Args:
            interface: the run's interface.
            requested: the builder's arguments that were chosen for the run.
        """
        prepared = Prepared(
            data=self.for_task(interface.task),
            model=interface.build["name"],
            task=tasks.get_task(interface.task),
            preprocessor=interface.preprocessor,
            requested=dict(requested),
            arguments=dict(interface.build["arguments"]),
            pretrained=interface.pretrained,
        )
        old, now = interface.fingerprint, prepared.fingerprint
        return dataclasses.replace(prepared, changed=old.split_changes(now))


def _with_vectors(
    spec: registry.ModelSpec,
    arguments: Mapping[str, Any],
    preprocessor: Preprocessor,
    name: str,
    pretrained: dict[str, Any],
) -> tuple[word_vectors.WordVectors | None, dict[str, Any]]:
    """Returns the vectors of the data's words, None without any, and the section `pretrained` of config.yaml.

    Raises:
        UsageError: as in `word_vectors.of_words`, or a run has recorded another file.
    """
    found = word_vectors.of_words(spec, arguments, getattr(preprocessor, "word_numbers", None), name)
    if found is None:
        return None, pretrained
    return found, checkpoints.as_recorded(found.published).record(found.published.name)


def _check_kind(model: str, kind: str, earlier: Interface | None) -> None:
    """Raises UsageError if the earlier run has another kind of preprocessor."""
    if earlier is not None and earlier.preprocessor.kind != kind:
        raise UsageError(
            f"Model {model!r} takes the inputs of the preprocessor {kind!r}; the earlier run has "
            f"{earlier.preprocessor.kind!r}. Choose the model of that run, {earlier.build['name']}."
        )


def _with_choices(
    data: Data,
    preprocessor: Preprocessor,
    spec: registry.ModelSpec,
    chosen: Mapping[str, Any],
    arguments: Mapping[str, Any],
) -> tuple[Data, dict[str, Any], dict[str, Any]]:
    """Returns the data with the options that the preprocessor chose, and the builder's chosen arguments and all its arguments
    with those that the preprocessor chose.

    Raises:
        UsageError: the data set has the option `tokenizer`, and the preprocessor takes none.
    """
    choices: Choices = getattr(preprocessor, "choices", Choices())
    if (given := data.arguments.get("tokenizer")) is not None and "tokenizer" not in choices.options:
        raise UsageError(
            f"tokenizer={given!r} has no effect: model {spec.name!r} splits texts in its own way. Leave tokenizer "
            "out, or choose another model, such as embedding_lstm."
        )
    taken = {name: value for name, value in choices.arguments.items() if name in spec.parameters}
    data = dataclasses.replace(data, arguments={**data.arguments, **choices.options})
    return data, {**chosen, **taken}, {**arguments, **taken}


def kind_for(
    spec: registry.ModelSpec,
    task: tasks.Task,
    checkpoint: checkpoints.Checkpoint | None = None,
    earlier: Interface | None = None,
) -> str:
    """Returns the kind of the preprocessor of a model for a task: the task's own, unless an earlier run of the same model
    and task, the checkpoint or the spec has another."""
    if earlier is not None and (earlier.build["name"], earlier.task) == (spec.name, task.name):
        return earlier.preprocessor.kind
    if checkpoint is not None and (needed := checkpoint.preprocessor(task.name)):
        return needed
    chosen = spec.preprocessing.get("preprocessor", task.preprocessor)
    return str(chosen if isinstance(chosen, str) else chosen.get(task.name, task.preprocessor))


def _levels(quantiles: Sequence[float], task: tasks.Task, name: str) -> tuple[float, ...]:
    """Returns the levels of quantiles, ascending.

    Raises:
        UsageError: a level is invalid, or the task has no values.
    """
    levels = tuple(config_checks.quantiles("quantiles", quantiles))
    if levels and task.with_quantiles is None:
        able = [known for known in tasks.list_tasks() if tasks.get_task(known).with_quantiles is not None]
        raise UsageError(
            f"quantiles={list(levels)} needs values to predict; data set {name!r} is for {task.name}. Leave quantiles out, "
            f"or choose data for {', '.join(able)}."
        )
    return levels
