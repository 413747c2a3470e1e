"""Prepared data for a model that its owner compiled, or that `prepared.build()` did not make."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, cast

import keras
import tensorflow as tf

from zoo import copies
from zoo.config import TrainConfig
from zoo.errors import UsageError
from zoo.registry import describe_build
from zoo.tasks import Measure, Objective, Term, call_model
from zoo.training.data import user_checks as checks
from zoo.training.data.user_identity import identity
from zoo.training.data.user_losses import CompiledLoss, resolve_loss
from zoo.training.data.user_metrics import PerElementMetric
from zoo.training.data.user_outputs import Compiled, compiled_optimizer, describe_compiled, metric_makers
from zoo.training.protocols import TrainingData


def for_model(model: keras.Model, data: Any) -> TrainingData:
    """Returns prepared data for a model.

    The losses, metrics and optimizer of a compiled model replace the task's. A model that `data.build()` did not make is
    recorded as what it is.

    Args:
        model: a Functional model with the inputs and outputs that the task needs.
        data: what `data.prepare(...)` returned.

    Raises:
        UsageError: the model does not fit the data, or its losses or metrics cannot score the targets.
    """
    checks.check_model(model)
    data.check_fits(model)
    if data.is_built(model) and not model.compiled:
        prepared: TrainingData = data
        return prepared
    return cast(TrainingData, ModelData(model, data))


class ModelData:
    """Prepared data with the objective, the optimizer and the description of one model; the rest is the data's own.

    Attributes:
        objective: the compiled losses and metrics, or the task's.
        optimizer: the compiled one, None for a model that is not compiled.
        own: True: `zoo train` cannot repeat the run.
        whole_batches: names of losses that are one number for a batch, so that its size changes them.
    """

    own = True
    whole_batches: Sequence[str] = ()

    def __init__(self, model: keras.Model, data: Any) -> None:
        self._data, self._as_prepared = data, data.is_built(model)
        self._build: Mapping[str, Any] | None = describe_build(model)
        self._facts = identity(model)
        if self._build is None:
            copies.record(model, "_zoo_own", self._facts)
            self._described: dict[str, Any] = {**self._facts, "prepared_for": data.model}
        elif self._as_prepared:
            self._described = dict(data.describe()["model"])
        else:
            self._described = {"name": self._build["name"], **self._build["arguments"]}
        self.objective: Objective = data.objective
        self.optimizer = compiled_optimizer(model)
        if model.compiled:
            compiled = Compiled(model, data.objective)
            self.objective, losses, metrics = _objective(model, data, compiled)
            made = (term.loss(term.outputs[0], 0.0) for term in self.objective.loss if term.outputs)
            self.whole_batches = [loss.name for loss in made if getattr(loss, "whole_batch", False)]
            self._described |= {"compiled": describe_compiled(model, compiled, losses, metrics)}

    @functools.cached_property
    def interface(self) -> Any:
        """The data's interface, with the record of this model."""
        interface = self._data.interface
        if self._build is None:
            return dataclasses.replace(interface, build={**interface.build, "own": self._facts})
        return interface if self._as_prepared else dataclasses.replace(interface, build=self._build)

    def describe(self) -> dict[str, Any]:
        """Returns the sections of config.yaml, with this model's facts."""
        return {**self._data.describe(), "model": self._described}

    def complete(self, config: TrainConfig) -> TrainConfig:
        """Returns the options as they are: the recommendations are for the model that `build` makes."""
        return config

    def __getattr__(self, name: str) -> Any:
        if name == "_data":
            raise AttributeError(name)
        return getattr(self._data, name)


def _objective(
    model: keras.Model, data: Any, compiled: Compiled
) -> tuple[Objective, dict[str, CompiledLoss], dict[str, list[str]]]:
    """Returns the objective of a compiled model on the targets of a task, the losses and the names of the metrics."""
    inputs, targets, weights = next(iter(data.batches("train", 2)))
    outputs = call_model(model, inputs)
    target_of = {part.output_of(compiled.outputs, model.name): part.target for part in data.objective.loss}
    terms: list[Term] = []
    measures: list[Measure] = []
    losses: dict[str, CompiledLoss] = {}
    names: dict[str, list[str]] = {}
    taken = ["loss"]
    for name in compiled.names:
        if name not in target_of:
            raise UsageError(
                f"The model is compiled with a loss or a metric for {name!r}; this data has targets for "
                f"{', '.join(target_of)} alone. Leave {name!r} out of compile."
            )
        target, output, weight = targets[target_of[name]], outputs[name], weights.get(target_of[name])
        where = f"the target {target_of[name]!r}"
        identifier = None if compiled.by_task else compiled.losses.get(name)
        if identifier is not None:
            loss = losses[name] = resolve_loss(identifier, tuple(target.shape), tuple(output.shape))
            checks.check_shapes(loss, tuple(target.shape[1:]), tuple(output.shape[1:]), where)
            rank = checks.loss_rank(loss, loss.per_element(), target.numpy(), output, where)
            if rank or weight is not None:
                _check_rank(loss.name, rank, weight, where)
            terms.append(Term(target_of[name], (name,), _maker(loss, whole_batch=not rank), compiled.factors[name]))
        prefix = f"{name}_" if len(compiled.outputs) > 1 else ""
        makers = metric_makers(compiled.metrics[name], (tuple(target.shape), tuple(output.shape)), prefix, taken)
        names[name] = [made for *_, made in makers]
        measures.append(Measure(target_of[name], (name,), _metrics(makers)))
    terms = terms or list(data.objective.loss)
    known = {"loss", *taken}
    monitor = data.objective.monitor if data.objective.monitor[0].removeprefix("val_") in known else ("val_loss", "min")
    objective = dataclasses.replace(data.objective, loss=tuple(terms), metrics=tuple(measures), monitor=monitor)
    return objective, losses, names


def _check_rank(loss: str, rank: int, weight: tf.Tensor | None, where: str) -> None:
    expected = 1 if weight is None else len(weight.shape)
    if rank != expected:
        each = "each example" if expected == 1 else "each element, as padding has weight 0"
        raise UsageError(
            f"The loss {loss} gives {rank} axes for {where}; expected {expected}, a number for {each}. Leave loss out of "
            "compile to train with the task's own."
        )


def _maker(loss: CompiledLoss, whole_batch: bool) -> Any:
    return lambda output, label_smoothing: loss.per_element(label_smoothing=label_smoothing, whole_batch=whole_batch)


def _metrics(makers: Any) -> Any:
    return lambda: [PerElementMetric(make(), weighted, name=name) for make, weighted, name in makers]
