"""What the exporter needs besides a Keras model of any origin: its inputs, its outputs, and perhaps labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from zoo import registry, tasks
from zoo.errors import UsageError
from zoo.export.graph.signatures import model_inputs
from zoo.export.keras_models.network import named_network
from zoo.export.raw_requests import encoded, raw_requests

if TYPE_CHECKING:
    from zoo.registries import Plugin

_SENT_AS = {
    "bfloat16": "float32",
    "float16": "float32",
    "uint32": "int64",
    "uint64": "int64",
}
"""Types that clients cannot send or that runtimes lack; the graph converts them."""
CLASS_NAME = "class_name"


@dataclasses.dataclass(frozen=True)
class TensorPreprocessor:
    """Takes model inputs as they are: a request for each input of the model, in its own shape.

    Attributes:
        inputs: type and shape of one example for each input by name, None for a size that varies.
    """

    kind: ClassVar[str] = "tensors"
    padding: ClassVar[float] = 0
    row_numbers: ClassVar[bool] = False
    inputs: Mapping[str, tuple[str, tuple[int | None, ...]]]

    @property
    def input_shapes(self) -> dict[str, tuple[int | None, ...]]:
        """The shape of one example for each input."""
        return {name: shape for name, (_, shape) in self.inputs.items()}

    @property
    def requests(self) -> dict[str, tasks.Request]:
        """An input of the signatures for each model input."""
        return {
            name: tasks.Request(
                name,
                "text" if dtype == "string" else "number",
                _SENT_AS.get(dtype, dtype),
                shape,
                "an input of the model",
            )
            for name, (dtype, shape) in self.inputs.items()
        }

    @property
    def limits(self) -> tuple[str, ...]:
        """What the artifact does to its inputs."""
        return ("Inputs are given to the model as they are; it was exported without a preprocessor.",)

    def serve(self, requests: Mapping[str, tf.Tensor]) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """Returns the requests in the types of the model."""
        return {name: tf.cast(value, self.inputs[name][0]) for name, value in requests.items()}, {}

    def for_export(self, directory: Path) -> tuple[TensorPreprocessor, list[Any]]:
        """Tensors need no vocabulary."""
        return self, []

    def config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {"inputs": {name: [dtype, list(shape)] for name, (dtype, shape) in self.inputs.items()}}


@dataclasses.dataclass(frozen=True)
class Examples:
    """Examples as the signatures take them and as model inputs, by name; no targets are known."""

    requests: Mapping[str, np.ndarray[Any, Any]]
    inputs: Mapping[str, np.ndarray[Any, Any]]
    targets: Mapping[str, np.ndarray[Any, Any]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class _NoData:
    sha256: str = ""


@dataclasses.dataclass(frozen=True)
class GivenInterface:
    """An `Interface` for a model that comes with examples alone; see `zoo.datasets.interface.Interface`."""

    definition: tasks.Task
    spec: registry.ModelSpec
    build: Mapping[str, Any]
    class_names: tuple[str, ...]
    preprocessor: Any
    examples: Examples
    task: str = ""
    data: Mapping[str, str] = dataclasses.field(default_factory=dict)
    splits: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    training: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    pretrained: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    statistics: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    plugins: Sequence[Plugin] = ()
    sample: None = None
    fingerprint: _NoData = _NoData()


def interface_of(
    model: keras.Model,
    examples: Any,
    *,
    class_names: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    preprocessor: Any = None,
) -> tuple[keras.Model, GivenInterface, bool]:
    """Returns a Functional model with the outputs of a model, its interface, and whether it can be rebuilt from its config.

    Args:
        model: any Keras model that has weights.
        examples: examples of the model's inputs; with a preprocessor, raw requests: a list, or a dict of lists.
        class_names: labels in the order of the model's classes, or {OUTPUT: labels} if several outputs have as many values.
        preprocessor: turns raw requests into the model's only input; None for a model that takes its inputs from clients.

    Raises:
        UsageError: as in `named_network`; or labels or preprocessor do not fit the model.
    """
    requests = None
    if preprocessor is not None:
        requests = raw_requests(preprocessor, examples)
        made = encoded(preprocessor, requests)
        examples = next(iter(made.values())) if len(made) == 1 else made
    network, inputs, is_graph = named_network(model, examples)
    if preprocessor is None or requests is None:
        preprocessor = TensorPreprocessor(
            {name: (spec.dtype.name, tuple(spec.shape[1:])) for name, spec in model_inputs(network).items()}
        )
        types = {name: request.dtype for name, request in preprocessor.requests.items()}
        requests = {k: v if v.dtype == object else v.astype(types[k]) for k, v in inputs.items()}
    labelled, labels = _labelled(network, class_names)
    outputs = dict(zip(tasks.output_names(network), network.outputs, strict=True))
    single = bool(labels) and outputs[labelled].shape[-1] == 1
    build = registry.describe_build(network) or {"name": model.name, "arguments": {}, "own": {"name": model.name}}
    known = "own" not in build and build["name"] in registry.MODELS.names()
    spec = registry.get_spec(build["name"]) if known else registry.ModelSpec(model.name, type(model), (), "")
    interface = GivenInterface(
        _task(tuple(preprocessor.requests), labelled, labels, single),
        spec,
        build,
        labels,
        preprocessor,
        Examples(requests, inputs),
    )
    return network, interface, is_graph


def _labelled(
    network: keras.Model, class_names: Sequence[str] | Mapping[str, Sequence[str]] | None
) -> tuple[str, tuple[str, ...]]:
    """Returns the output that class names belong to, and the class names; "" and () without class names."""
    if class_names is None:
        return "", ()
    sizes = {
        name: 2 if _is_chance(tensor) else tensor.shape[-1]
        for name, tensor in zip(tasks.output_names(network), network.outputs, strict=True)
        if len(tensor.shape) > 1
        and (tensor.shape[-1] != 1 or _is_chance(tensor))
        and tensor.dtype.startswith(("float", "bfloat"))
    }
    if isinstance(class_names, Mapping):
        if len(class_names) != 1 or next(iter(class_names)) not in sizes:
            raise UsageError(
                f"class_names is for {', '.join(map(str, class_names))}; expected one of the outputs {', '.join(sizes)}. "
                "Pass the labels of one output under its name."
            )
        ((name, labels),) = class_names.items()
        matching = [name] if sizes[name] == len(labels) else []
    else:
        labels = class_names
        matching = [name for name, size in sizes.items() if size == len(labels)]
    if isinstance(labels, str) or not all(isinstance(label, str) for label in labels):
        raise UsageError(
            f"class_names is {labels!r:.60}; expected a list of strings. Pass class_names=['cat', 'dog'], say."
        )
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if list(labels).count(label) > 1)
        raise UsageError(f"class_names has {twice!r} twice; expected different labels. Rename one of them.")
    if len(matching) != 1:
        shown = ", ".join(f"{name} for {size} classes" for name, size in sizes.items()) or "no output of numbers"
        raise UsageError(
            f"class_names has {len(labels)} labels; the model has {shown}. Pass as many labels as one output has classes, "
            "under its name if several have as many."
        )
    return matching[0], tuple(labels)


def _is_chance(tensor: Any) -> bool:
    """Whether an output is the probability of the second of two classes."""
    return (
        tensor.shape[-1] == 1
        and getattr(tensor._keras_history.operation, "activation", None) is keras.activations.sigmoid
    )


def _task(requests: tuple[str, ...], labelled: str, labels: Sequence[str], single: bool) -> tasks.Task:
    def outputs(served: tasks.Served) -> dict[str, tf.Tensor]:
        return dict(served.outputs)

    def with_label(served: tasks.Served) -> dict[str, tf.Tensor]:
        if CLASS_NAME in served.outputs:
            raise UsageError(f"The model has an output named {CLASS_NAME!r}, the name of the label. Rename its layer.")
        values = served.outputs[labelled]
        if values.shape[-1] == 1:
            numbers = tf.cast(values[..., 0] >= 0.5, tf.int64)
        else:
            numbers = tf.argmax(values, axis=-1, output_type=tf.int64)
        return {CLASS_NAME: served.label(numbers), **served.outputs}

    default = tasks.Signature(requests, outputs, {})
    if labels:
        values = "a value for every label, in the order of labels.txt"
        answers = {CLASS_NAME: "the label with the largest value", labelled: values}
        shown = tasks.Shown("labels", (labelled,))
        if single:
            answers = {CLASS_NAME: "the second label from 0.5 on", labelled: f"the probability of {labels[1]}"}
            shown = tasks.Shown("text", (CLASS_NAME,))
        default = tasks.Signature(requests, with_label, answers, shown=shown)
    return tasks.Task(
        name="keras_model",
        targets=(),
        preprocessor=TensorPreprocessor.kind,
        objective=tasks.Objective(loss=()),
        prediction=dict,
        report="",
        signatures={"serving_default": default},
    )
