"""The served functions: raw request to labelled answer, model tensor to named output, raw request to features."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from zoo import registry, tasks
from zoo.errors import UsageError, one_line

if TYPE_CHECKING:
    from zoo.datasets.interface import Interface

Tensors = dict[str, tf.Tensor]


def served_model(
    model: keras.Model, interface: Interface, assets: Path, labels_file: Path | None
) -> tuple[tf.Module, dict[str, Any]]:
    """Returns what is saved: variables and labels, and a traced function per signature, each with a dynamic batch.

    The model is rebuilt from its config on the CPU, outside any strategy, with the weights copied: mirrored variables
    and kernels for one kind of device stay behind.

    Args:
        model: the trained Functional model.
        interface: the run's interface.
        assets: a folder for files that become assets, such as a vocabulary; it must stay until all is saved.
        labels_file: the class names, one a line; it becomes an asset. None for tasks without classes.
    """
    task = tasks.get_task(interface.task)
    preprocessor, resources = interface.preprocessor.for_export(assets)
    with tf.device("/cpu:0"):
        network = portable_copy(model)
    functions = heads(network, interface)
    tensor = model_input(network)

    module = tf.Module(name="served_model")
    # Plain variables alone, not the Keras model: it would be saved and loaded beside them, every weight twice.
    module.model_weights = [v.value for v in network.weights]
    module.model_variables = [v.value for v in network.variables]
    module.resources = resources
    module.labels = None if labels_file is None else _label_table(labels_file)

    def label(numbers: tf.Tensor) -> tf.Tensor:
        return module.labels.lookup(numbers)

    def answer(**request: tf.Tensor) -> Tensors:
        outputs = functions["predict"](preprocessor.serve(_filled(request)))
        return task.answer(tasks.Served(outputs=outputs, label=label))

    def predict(**inputs: tf.Tensor) -> Tensors:
        (value,) = _filled(inputs).values()
        return functions["predict"](value)

    def features(**request: tf.Tensor) -> Tensors:
        return functions["features"](preprocessor.serve(_filled(request)))

    traced = {
        "serving_default": tf.function(answer).get_concrete_function(**preprocessor.requests),
        "predict": tf.function(predict).get_concrete_function(**{tensor.name: tensor}),
    }
    if "features" in functions:
        traced["features"] = tf.function(features).get_concrete_function(**preprocessor.requests)
    return module, traced


def _label_table(file: Path) -> tf.lookup.StaticHashTable:
    """Returns the table from line number to line."""
    by_line = tf.lookup.TextFileInitializer(
        str(file),
        tf.int64,
        tf.lookup.TextFileIndex.LINE_NUMBER,
        tf.string,
        tf.lookup.TextFileIndex.WHOLE_LINE,
    )
    return tf.lookup.StaticHashTable(by_line, default_value="")


def portable_copy(model: keras.Model) -> keras.Model:
    """Returns an equal model outside any strategy, without kernels for one kind of device.

    Raises:
        UsageError: the model cannot be rebuilt from its config, as a subclassed one cannot.
    """
    try:
        copy = type(model).from_config(model.get_config())
        copy.set_weights(model.get_weights())
    except (TypeError, ValueError, NotImplementedError) as error:
        raise UsageError(
            f"Model {model.name!r} cannot be rebuilt from its config ({one_line(error, 200)}). Pass a Functional Keras "
            "model whose layers have get_config()."
        ) from error
    for layer in copy._flatten_layers():
        if hasattr(layer, "use_cudnn"):
            # Where a GPU is in sight a recurrent layer is traced into a kernel that runs on no CPU and converts to nothing.
            layer.use_cudnn = False
    return copy


def heads(model: keras.Model, interface: Interface) -> dict[str, Callable[[tf.Tensor], Tensors]]:
    """Returns functions from a batch of model inputs to named outputs: `predict`, and `features` where the spec has it.

    Raises:
        UsageError: the model has several outputs, or lacks the layer that its spec names.
    """
    name = tasks.output_name(model)
    functions: dict[str, Callable[[tf.Tensor], Tensors]] = {"predict": lambda x: {name: model(x, training=False)}}
    spec = registry.get_spec(interface.build["name"])
    if spec.features_layer is not None:
        if spec.features_layer not in [layer.name for layer in model.layers]:
            raise UsageError(
                f"Model {model.name!r} has no layer {spec.features_layer!r}, which every {spec.name!r} has. "
                f"Pass the model that prepared.build() or zoo.build({spec.name!r}, ...) made."
            )
        inner = keras.Model(model.inputs, model.get_layer(spec.features_layer).output)
        # Under a mixed precision policy the layer answers in half precision, which other runtimes misread.
        functions["features"] = lambda x: {"features": tf.cast(inner(x, training=False), tf.float32)}
    return functions


def model_input(model: keras.Model) -> tf.TensorSpec:
    """Returns the model's only input under its name, with a dynamic batch."""
    if len(model.inputs) != 1:
        raise UsageError(
            f"Model {model.name!r} has {len(model.inputs)} inputs; this task expects one. Build it with one input."
        )
    tensor = model.inputs[0]
    return tf.TensorSpec((None, *tensor.shape[1:]), tensor.dtype, tensor.name)


def _filled(request: Tensors) -> Tensors:
    """Refuses an empty batch with a sentence: some CPU kernels answer it with an error about primitives."""
    name, value = next(iter(request.items()))
    message = f"{name} is an empty batch; expected at least one example"
    with tf.control_dependencies([tf.debugging.Assert(tf.shape(value)[0] > 0, [message])]):
        return {k: tf.identity(v) for k, v in request.items()}
