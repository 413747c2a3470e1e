"""What a training would do, without a step of it: its summary, its steps, its devices, and an estimate of its memory."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import sys
from collections.abc import Mapping
from contextlib import closing
from typing import Any

import keras
import tensorflow as tf

from zoo.config import TrainConfig
from zoo.tasks import call_model
from zoo.training.adaptations.collection import adapted
from zoo.training.loop.computation import Computation
from zoo.training.loop.selection import Selection, directions
from zoo.training.mixed_precision import check_precision, policy_of
from zoo.training.protocols import TrainingData
from zoo.training.run_checks import check_abstention, is_compiled
from zoo.training.strategies import check_strategy

_NOT_KEPT = frozenset(
    [
        *(
            "Placeholder",
            "Const",
            "Identity",
            "IdentityN",
            "ReadVariableOp",
            "Reshape",
            "ExpandDims",
            "Squeeze",
            "Shape",
        ),
        *(
            "Fill",
            "NoOp",
            "StopGradient",
            "BroadcastTo",
            "TensorListReserve",
            "TensorListFromTensor",
            "TensorListSetItem",
        ),
    ]
)
"""Ops whose outputs take no memory of their own in a training step, or are not needed for the gradient."""


def _without_display() -> contextlib.AbstractContextManager[Any]:
    """Keeps the empty output out of a notebook that Keras displays while it writes a summary to a function."""
    if "IPython" not in sys.modules:
        return contextlib.nullcontext()
    from IPython.utils.capture import capture_output

    return capture_output(stdout=False, stderr=False, display=True)


@dataclasses.dataclass(frozen=True)
class Outlook:
    """What a training would do.

    Attributes:
        summary: Keras's summary of the model, with the weights that train.
        steps: optimizer steps of an epoch.
        options: options that depend on the machine, the data or other options, by name, as they were decided.
        memory: estimated bytes on each device by part: weights, gradients, optimizer, activations.
        data: bytes of the splits that are held in memory, by name; None for a split that is read as a stream.
    """

    summary: str
    steps: int
    options: Mapping[str, Any]
    memory: Mapping[str, int]
    data: Mapping[str, int | None]


def look_ahead(model: keras.Model, data: TrainingData, config: TrainConfig) -> Outlook:
    """Makes all that a training needs before its first step, and returns what it would do.

    Args:
        model: built under the strategy.
        data: prepared data.
        config: how to train.

    Raises:
        UsageError: the model, the data and the config do not go together, as in `zoo.train`.

    Example:
        >>> look_ahead(prepared.build(), prepared, zoo.TrainConfig(epochs=5)).steps
        21
    """
    config = dataclasses.replace(config, epochs=1) if config.closed_form else config
    check_abstention(config, data)
    check_strategy(model, config)
    check_precision(model, config.precision)
    lines: list[str] = []
    with contextlib.ExitStack() as open_parts:
        adaptations = open_parts.enter_context(adapted(model, config))
        with _without_display():
            model.summary(print_fn=lambda text, **_: lines.append(text))  # before compilation, which adds the optimizer
        if adaptations.summary:
            lines.append(adaptations.summary)
        computation = open_parts.enter_context(closing(Computation(model, data, config, adaptations)))
        known = directions(computation.metrics, validation=computation.has_validation)
        selection = Selection(config, data.objective.monitor, known)
        total = computation.steps * config.epochs
        replicas = model.distribute_strategy.num_replicas_in_sync
        share = math.ceil(config.batch_size / replicas / config.accumulation_steps)
        weights = {"weights": model.variables, "gradients": model.trainable_variables}
        memory = {name: sum(map(_bytes, part)) for name, part in weights.items()}
        memory["optimizer"] = sum(map(_bytes, computation.variables["optimizer"]))
        memory["activations"] = _activations(model, data, share)
        options = {
            "devices": _devices(model.distribute_strategy),
            "precision": policy_of(model),
            "jit_compile": is_compiled(model, config, total),
            "batch_size on each device": share,
            "steps": total,
            "warmup_steps": config.warmup_steps or math.ceil(config.warmup_fraction * total),
            "monitor": selection.monitor if selection.active else None,
        }
        sizes = {split: _in_memory(data, split) for split in ("train", "validation")}
        return Outlook("\n".join(lines).strip("\n"), computation.steps, options, memory, sizes)


def _devices(strategy: tf.distribute.Strategy) -> str:
    """Returns the number and kind of the devices, such as "2 x CPU"."""
    names = [name.rpartition("device:")[2].split(":")[0] for name in strategy.extended.worker_devices]
    return f"{strategy.num_replicas_in_sync} x {names[0] if names else 'CPU'}"


def _bytes(variable: Any) -> int:
    return math.prod(variable.shape) * tf.as_dtype(variable.dtype).size


def _in_memory(data: TrainingData, split: str) -> int | None:
    resident = data.resident(split)
    if resident is None:
        return None
    columns = [part for part in tf.nest.flatten(resident.columns) if hasattr(part, "shape")]
    return sum(math.prod(column.shape) * tf.as_dtype(column.dtype).size for column in columns)


def _activations(model: keras.Model, data: TrainingData, batch_size: int) -> int:
    """Returns the bytes of the intermediate values that are kept for the gradient, for a batch of the longest inputs."""
    resident = data.resident("train")
    columns = resident.columns[0] if resident else data.some_inputs()
    longest = {} if resident else getattr(getattr(data, "preprocessor", None), "input_shapes", {})
    specs = {}
    for name, part in columns.items():
        sizes = longest.get(name, part.shape[1:])
        sizes = part.shape[1:] if len(sizes) != len(part.shape) - 1 or None in sizes else sizes
        specs[name] = tf.TensorSpec((batch_size, *sizes), part.dtype)

    @tf.function(autograph=False)
    def forward(inputs: Mapping[str, tf.Tensor]) -> Any:
        return call_model(model, inputs, training=True)

    graph = forward.get_concrete_function(specs).graph
    steps = max((spec.shape[1] for spec in specs.values() if spec.shape.rank > 1), default=1)
    return _graph_bytes(graph, steps)


def _graph_bytes(graph: Any, steps: int) -> int:
    """Returns the bytes of the floating-point outputs of a graph's ops; those of a loop once for every step."""
    total = 0
    for op in graph.get_operations():
        inner = [value.name for value in _functions(op)]
        for name in inner:
            with contextlib.suppress(AttributeError, KeyError, ValueError):  # a function without a graph
                total += _graph_bytes(graph._get_function(name).graph, steps) * (steps if "While" in op.type else 1)
        if op.type in _NOT_KEPT or inner:
            continue
        for output in op.outputs:
            if output.dtype.is_floating and output.shape.is_fully_defined():
                total += math.prod(output.shape) * output.dtype.size
    return total


def _functions(op: tf.Operation) -> list[Any]:
    names = [name for name in op.node_def.attr if op.node_def.attr[name].HasField("func")]
    return [op.node_def.attr[name].func for name in names if name != "cond"]
