"""The served functions: from raw requests to labels, from model inputs to named outputs, from raw requests to features."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from zoo import copies, kernels, lookup, tasks
from zoo.errors import UsageError
from zoo.export.graph import forms
from zoo.export.graph.forms import Content, Form
from zoo.export.graph.request_checks import MOST_STEPS, checked, few_rows

if TYPE_CHECKING:
    from zoo.datasets.interface import Interface

Tensors = dict[str, tf.Tensor]

PORTABLE = "predict_portable"
"""A second version of `predict` without TensorFlow's fastest ops, which other runtimes do not support."""


def served_model(
    model: keras.Model,
    interface: Interface,
    assets: Path,
    labels_file: Path | None,
    form: Form = forms.SERVED,
    content: Content | None = None,
) -> tuple[tf.Module, dict[str, Any]]:
    """Returns the module to save, with variables and labels, and one traced function with a dynamic batch per signature.

    The model is rebuilt on the CPU outside any strategy, so that it has no mirrored variables and no device-specific
    kernels.

    Args:
        model: the trained Functional model.
        interface: the run's interface.
        assets: a folder for files that become assets, such as a vocabulary; it must exist until the model is saved.
        labels_file: the class names, one per line; it becomes an asset. None for tasks without classes.
        form: the form in which the model is written.
        content: the result of `form.content`, if it was already computed.
    """
    task = interface.definition
    preprocessor, resources = interface.preprocessor.for_export(assets)
    with tf.device("/cpu:0"):
        network = served_copy(model, content or form.content(model, interface))
    functions = heads(network, interface)
    # Layers with several implementations; see `Form`.
    several = [layer for layer in network._flatten_layers() if hasattr(layer, "pack_weights")]

    module = _module(network, several, form, resources, labels_file)

    def label(numbers: tf.Tensor) -> tf.Tensor:
        return module.labels.lookup(numbers)

    row_numbers = getattr(preprocessor, "row_numbers", True)
    checking = _checking(preprocessor, row_numbers)
    raw = {name: request.spec for name, request in preprocessor.requests.items()}
    optional = [name for name, request in preprocessor.requests.items() if request.default is not None]
    decided = copies.decided(model)
    # Traced once for all signatures: decoding images takes more ops than many models have.
    serve = kernels.traced(preprocessor.serve, reduce_retracing=False, autograph=False)
    whole, shared = _compiled_heads(network, functions, limited=row_numbers)
    found = {
        **signature_functions(
            task, preprocessor, shared, label, serve, decided=decided, class_names=interface.class_names
        ),
        "predict": signature_functions(task, preprocessor, whole, label)["predict"],  # converters take no loop
    }
    wanted: dict[str, tuple[Callable[..., Tensors], Mapping[str, tf.TensorSpec], Form]] = {
        name: (
            checking(function, () if function.takes is None else optional),
            model_inputs(network) if function.takes is None else {key: raw[key] for key in function.takes},
            form,
        )
        for name, function in found.items()
        if not function.continues
    }
    if several and not form.is_like(forms.PORTABLE):
        portable = signature_functions(task, preprocessor, functions, label)["predict"]
        wanted[PORTABLE] = (checking(portable), wanted["predict"][1], forms.PORTABLE)
    traced = {}
    for name, (function, specs, way) in wanted.items():
        with way.prepared(several, module.packed_weights), without_cudnn(network):
            once = kernels.traced(function, reduce_retracing=False, autograph=False)
            traced[name] = once.get_concrete_function(**specs)
        way.check_ops(traced[name], name)
    for name, following in found.items():
        if following.continues:
            outputs = traced[following.continues].structured_outputs
            specs = {key: tf.TensorSpec(outputs[key].shape, outputs[key].dtype, key) for key in following.takes or ()}
            once = kernels.traced(checking(following), reduce_retracing=False, autograph=False)
            traced[name] = once.get_concrete_function(**specs)
            form.check_ops(traced[name], name)
    module.other_variables = _other_variables(module, traced)
    return module, traced


def _module(
    network: keras.Model, several: Sequence[Any], form: Form, resources: Sequence[Any], labels_file: Path | None
) -> tf.Module:
    """Returns the module with the variables, tables and labels of the served model, without its functions."""
    module = tf.Module(name="served_model")
    pack = tf.function(
        lambda: [list(layer.pack_weights()) if form.packed else [] for layer in several], autograph=False
    )
    module.packed_weights = [[tf.Variable(w, trainable=False) for w in weights] for weights in pack()]
    module.pack_weights = pack  # verification calls it to check the packed weights
    # Only the variables, not the Keras model: otherwise every weight would be saved and loaded twice.
    module.model_weights = [v.value for v in network.weights]
    module.model_variables = [v.value for v in network.variables]
    module.resources = [*resources, *copies.tables(network)]
    module.labels = None if labels_file is None else lookup.lines_by_number(labels_file, "")
    return module


def _checking(preprocessor: Any, row_numbers: bool) -> Callable[..., Callable[..., Tensors]]:
    """Returns a function that makes a signature's function check its inputs first, given the names of those that a request
    may leave out."""
    longest = [shape[0] for shape in preprocessor.input_shapes.values() if shape and shape[0] is not None]
    most_steps = max([MOST_STEPS, *longest])

    def checking(function: Callable[[Tensors], Tensors], optional: Collection[str] = ()) -> Callable[..., Tensors]:
        return lambda **inputs: function(checked(inputs, row_numbers, most_steps, optional))

    return checking


def _other_variables(module: tf.Module, traced: Mapping[str, Any]) -> list[tf.Variable]:
    """Returns the variables of TensorFlow that a layer of the user holds, and that Keras does not know."""
    known = {id(variable) for variable in module.variables}
    read = {id(v): v for function in traced.values() for v in function.graph.variables}
    return [variable for key, variable in read.items() if key not in known]


_SLICE_BYTES = 1 << 26
_MOST_SLICES = 64
"""Slices of a request. A core computes about 3 GB of intermediate results a second."""
_FEWEST_ROWS = 32
_SMALL_ROW = (
    1 << 16
)  # bytes; for models with smaller results, slices would cost time on every call and save little memory
_USUAL_STEPS = 128
_INNER = 10
"""Bytes of a Transformer block's intermediate results, as a multiple of its output."""


def _slice_rows(model: keras.Model) -> Callable[[Tensors], Any] | None:
    """Returns a function from a batch to the number of rows that a serving signature gives to a model at once, so that the
    results of all layers take about 64 MiB; None for a model whose results are small."""
    shapes = [tensor.shape[1:] for node in _nodes(model) for tensor in node.output_tensors]

    def size(steps: int) -> int:
        return 4 * sum(math.prod(number or steps for number in shape) for shape in shapes)

    if size(_USUAL_STEPS) <= _SMALL_ROW:
        return None
    lengths = [name for name, spec in model_inputs(model).items() if spec.shape.rank > 1 and spec.shape[1] is None]
    if not lengths:
        return lambda inputs: max(_FEWEST_ROWS, _SLICE_BYTES // size(1))

    def rows(inputs: Tensors) -> tf.Tensor:
        # A head that generates, such as a translation, has not all of the model's inputs.
        steps = tf.reduce_max(tf.stack([tf.shape(inputs[name])[1] for name in lengths if name in inputs] or [1]))
        return tf.maximum(_FEWEST_ROWS, _SLICE_BYTES // (_INNER * size(1) * tf.maximum(steps, 1)))

    return rows


def _nodes(model: keras.Model) -> list[Any]:
    """Returns the calls of a model's layers; a layer that is shared has several."""
    return [node for nodes in model._nodes_by_depth.values() for node in nodes]


def in_slices(function: Callable[[Any], Tensors], inputs: Mapping[str, Any], size: Any) -> Tensors:
    """Returns the outputs of a compiled function for a batch; a large batch is computed in slices, so that the memory that
    it takes does not grow with the number of rows.

    Args:
        function: a `tf.function` from named inputs to named outputs, all of them batch first; an output has the same shape
            for every row.
        inputs: tensors, batch first; they may be in dicts by name.
        size: rows of a slice, a number or a scalar tensor.

    Example:
        >>> double = tf.function(lambda inputs: {"y": 2 * inputs["x"]})
        >>> in_slices(double, {"x": tf.range(100)}, 32)["y"].shape
        TensorShape([100])
    """
    rows = tf.shape(tf.nest.flatten(inputs)[0])[0]
    specs = tf.nest.map_structure(lambda value: tf.TensorSpec((None, *value.shape[1:]), value.dtype), inputs)
    outputs = function.get_concrete_function(specs).structured_outputs  # type: ignore[attr-defined]

    def step(number: tf.Tensor, parts: dict[str, tf.TensorArray]) -> Any:
        start = number * size
        found = function(tf.nest.map_structure(lambda value: value[start : start + size], inputs))
        return number + 1, {name: part.write(number, found[name]) for name, part in parts.items()}

    def sliced() -> Tensors:
        count = (rows + size - 1) // size
        parts = {
            name: tf.TensorArray(spec.dtype, count, infer_shape=False, element_shape=(None, *spec.shape[1:]))
            for name, spec in outputs.items()
        }
        _, parts = tf.while_loop(lambda number, _: number < count, step, (0, parts), parallel_iterations=1)
        return {name: part.concat() for name, part in parts.items()}

    return tf.cond(rows <= size, lambda: function(inputs), sliced)


Heads = dict[str, Callable[[Tensors, Tensors], Tensors]]


def _compiled_heads(network: keras.Model, functions: Heads, *, limited: bool = True) -> tuple[Heads, Heads]:
    """Returns the heads with a forward pass that is traced once, and the same with large batches computed in slices. Of a
    large model, both reject more rows than it computes in about a second."""
    forward = kernels.traced(lambda inputs: functions["predict"](inputs, {}), reduce_retracing=False, autograph=False)
    whole: Heads = {**functions, "predict": lambda inputs, extras: forward(inputs)}
    rows = _slice_rows(network) if limited else None
    if rows is None:
        return whole, whole

    def few(inputs: Tensors) -> Tensors:
        return few_rows(inputs, _MOST_SLICES * rows(inputs))

    def with_few(name: str) -> Callable[[Tensors, Tensors], Tensors]:
        return lambda inputs, extras: whole[name](few(inputs), extras)

    def sliced(name: str) -> Callable[[Tensors, Tensors], Tensors]:
        function = kernels.traced(
            lambda both: whole[name](both["inputs"], both["extras"]), reduce_retracing=False, autograph=False
        )

        def answer(inputs: Tensors, extras: Tensors) -> Tensors:
            used = {key: extras[key] for key in ("lengths",) if key in extras}
            return in_slices(function, {"inputs": few(inputs), "extras": used}, rows(inputs))

        return answer

    limits: Heads = {name: with_few(name) for name in whole}
    return limits, {**limits, **{name: sliced(name) for name in ("predict", "features") if name in whole}}


@dataclasses.dataclass(frozen=True)
class SignatureFunction:
    """What a signature computes from a batch of inputs by name: named outputs.

    Attributes:
        takes: names of its raw requests, None for `predict`, which takes model inputs.
        prepare: function from the batch to model inputs and what else the preprocessor found.
        answer: function from these two to the outputs.
        state: see `zoo.tasks.Signature`.
        continues: likewise.
    """

    takes: tuple[str, ...] | None
    prepare: Callable[[Tensors], tuple[Tensors, Tensors]]
    answer: Callable[[Tensors, Tensors], Tensors]
    state: tuple[str, ...] = ()
    continues: str = ""

    def __call__(self, batch: Tensors) -> Tensors:
        """Returns the outputs for a batch of inputs."""
        return self.answer(*self.prepare(batch))


def signature_functions(
    task: tasks.Task,
    preprocessor: Any,
    functions: Mapping[str, Callable[[Tensors, Tensors], Tensors]],
    label: Callable[[tf.Tensor], tf.Tensor],
    serve: Callable[[Tensors], tuple[Tensors, Tensors]] | None = None,
    *,
    decided: Mapping[str, Any] = MappingProxyType({}),
    class_names: Sequence[str] = (),
) -> dict[str, SignatureFunction]:
    """Returns the function of each signature by name, for the artifact's model as well as for the trained model.

    Args:
        task: declares the signatures; `features` has the inputs of `serving_default`.
        preprocessor: makes model inputs from raw requests.
        functions: the result of `heads`.
        label: function from class numbers to labels.
        serve: the preprocessor's `serve` or the same in compiled form.
        decided: what the task decided after the training.
        class_names: the labels in the order of their numbers.
    """
    declared = dict(task.signatures)
    if "features" in functions:
        default = task.signatures["serving_default"]
        declared["features"] = dataclasses.replace(default, answer=lambda served: dict(served.outputs), head="features")

    def answering(signature: tasks.Signature) -> SignatureFunction:
        def answer(inputs: Tensors, extras: Tensors) -> Tensors:
            outputs = functions[signature.head](inputs, extras)
            return signature.answer(tasks.Served(outputs, label, extras, preprocessor, decided, class_names))

        takes = signature.takes(preprocessor.requests)
        if signature.continues:  # it takes the outputs of another signature instead of raw requests
            return SignatureFunction(takes, lambda state: (state, state), answer, signature.state, signature.continues)
        return SignatureFunction(takes, serve or preprocessor.serve, answer, signature.state)

    predict = SignatureFunction(None, lambda inputs: (dict(inputs), {}), functions["predict"])
    return {"predict": predict, **{name: answering(signature) for name, signature in declared.items()}}


def served_copy(model: keras.Model, content: Content) -> keras.Model:
    """Returns a model with a form's config and weights, outside any strategy and without device-specific kernels; or the
    model itself, if the form says so.

    Args:
        model: the trained model.
        content: the config and weights of a form.

    Raises:
        CannotRebuild: the model cannot be rebuilt from its config, such as a subclassed model.
    """
    if content.model is not None:
        return content.model
    with forms.rebuilding(model):
        copy = type(model).from_config(content.config)
        copies.carry(model, copy, content.weights, changed=content.changed)
    return copy


@contextlib.contextmanager
def without_cudnn(model: keras.Model) -> Iterator[None]:
    """Keeps recurrent layers from being traced to a kernel that runs on no CPU and cannot be converted, as with a GPU."""
    before = [(layer, layer.use_cudnn) for layer in model._flatten_layers() if hasattr(layer, "use_cudnn")]
    try:
        for layer, _ in before:
            layer.use_cudnn = False
        yield
    finally:
        for layer, held in before:
            layer.use_cudnn = held


def heads(model: keras.Model, interface: Interface) -> dict[str, Callable[[Tensors, Tensors], Tensors]]:
    """Returns functions from named model inputs and the preprocessor's extras to named outputs: `predict`, `features` if
    the spec has a features layer, and the spec's own functions.

    Raises:
        UsageError: the model lacks the layer that its spec names.
    """
    spec = interface.spec
    layers = {layer.name: layer for layer in model.layers}
    aside = {side: layers[side].output for side in spec.side_outputs if side in layers}
    outputs = dict(zip(tasks.output_names(model), model.outputs, strict=True))
    network = keras.Model(model.inputs, {**outputs, **aside}) if aside else model

    def predict(inputs: Tensors, extras: Tensors) -> Tensors:
        return tasks.call_model(network, inputs)

    functions: dict[str, Callable[[Tensors, Tensors], Tensors]] = {"predict": predict}
    if spec.features_layer is not None:
        if spec.features_layer not in layers:
            raise UsageError(
                f"Model {model.name!r} has no layer {spec.features_layer!r}, which every {spec.name!r} has. "
                f"Name the layer before the last {spec.features_layer!r}, or pass a model that prepared.build() made."
            )
        inner = keras.Model(model.inputs, layers[spec.features_layer].output)

        def features(inputs: Tensors, extras: Tensors) -> Tensors:
            # Under a mixed precision policy, the output is in half precision, which other runtimes misread.
            values = tf.cast(inner(tasks.model_input(inner, inputs), training=False), tf.float32)
            if values.shape.rank == 3 and "lengths" in extras:  # features of every step: 0 on padding
                real = tf.sequence_mask(extras["lengths"], tf.shape(values)[1])
                values = tf.where(tf.expand_dims(real, -1), values, 0.0)
            return {"features": values}

        functions["features"] = features
    return functions | {key: make(model) for key, make in spec.functions.items()}


def model_inputs(model: keras.Model) -> dict[str, tf.TensorSpec]:
    """Returns the model's inputs by name, with a dynamic batch."""
    # An unnamed input's tensor has another name in every copy of the model; its layer keeps the name.
    names = getattr(model, tasks.INPUT_NAMES, None) or [t._keras_history.operation.name for t in model.inputs]
    return {
        name: tf.TensorSpec((None, *t.shape[1:]), t.dtype, name) for name, t in zip(names, model.inputs, strict=True)
    }


def by_input(model: keras.Model, parts: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a preprocessor's results by the names of the model's inputs; a single result may have any name."""
    names = list(model_inputs(model))
    return dict(zip(names, parts.values(), strict=True)) if len(names) == len(parts) == 1 else dict(parts)
