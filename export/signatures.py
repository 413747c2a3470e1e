"""The served functions: raw request to labelled answer, model tensor to named output, raw request to features."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from zoo import registry, tasks
from zoo.errors import UsageError

if TYPE_CHECKING:
    from zoo.datasets.interface import Interface

Tensors = dict[str, tf.Tensor]


class ServedModel(tf.Module):
    """What is saved: the model's variables, its labels, and a function per signature.

    The model is rebuilt from its config on the CPU, outside any strategy, with the weights copied: mirrored variables
    and kernels for one kind of device stay behind.

    Args:
        model: the trained Functional model.
        interface: the run's interface.
        labels_file: the class names, one a line; it becomes an asset. None for tasks without classes.
    """

    def __init__(self, model: keras.Model, interface: Interface, labels_file: Path | None) -> None:
        super().__init__(name="served_model")
        self._task = tasks.get_task(interface.task)
        self._preprocessor = interface.preprocessor
        with tf.device("/cpu:0"):
            self._network = portable_copy(model)
        self._heads = heads(self._network, interface)
        # Tracked as plain variables: a Keras object would have its own loading code looked up in the other process.
        self.model_variables = [v.value for v in self._network.variables]
        self.labels = None
        if labels_file is not None:
            by_line = tf.lookup.TextFileInitializer(
                str(labels_file),
                tf.int64,
                tf.lookup.TextFileIndex.LINE_NUMBER,
                tf.string,
                tf.lookup.TextFileIndex.WHOLE_LINE,
            )
            self.labels = tf.lookup.StaticHashTable(by_line, default_value="")

    def _label(self, numbers: tf.Tensor) -> tf.Tensor:
        assert self.labels is not None
        return self.labels.lookup(numbers)

    def signatures(self) -> dict[str, Any]:
        """Returns the traced functions by signature name, each with a dynamic batch."""
        requests = self._preprocessor.requests
        tensor = model_input(self._network)

        def answer(**request: tf.Tensor) -> Tensors:
            outputs = self._heads["predict"](self._preprocessor.serve(_filled(request)))
            return self._task.answer(tasks.Served(outputs=outputs, label=self._label))

        def predict(**inputs: tf.Tensor) -> Tensors:
            (value,) = _filled(inputs).values()
            return self._heads["predict"](value)

        def features(**request: tf.Tensor) -> Tensors:
            return self._heads["features"](self._preprocessor.serve(_filled(request)))

        traced = {
            "serving_default": tf.function(answer).get_concrete_function(**requests),
            "predict": tf.function(predict).get_concrete_function(**{tensor.name: tensor}),
        }
        if "features" in self._heads:
            traced["features"] = tf.function(features).get_concrete_function(**requests)
        return traced


def portable_copy(model: keras.Model) -> keras.Model:
    """Returns an equal model outside any strategy.

    Raises:
        UsageError: the model cannot be rebuilt from its config, as a subclassed one cannot.
    """
    try:
        copy = type(model).from_config(model.get_config())
        copy.set_weights(model.get_weights())
    except (TypeError, ValueError, NotImplementedError) as error:
        raise UsageError(
            f"Model {model.name!r} cannot be rebuilt from its config ({error}). Export needs a Functional Keras model "
            "whose layers have get_config()."
        ) from error
    return copy


def heads(model: keras.Model, interface: Interface) -> dict[str, Callable[[tf.Tensor], Tensors]]:
    """Returns functions from a batch of model inputs to named outputs: `predict`, and `features` where the spec has it."""
    name = tasks.output_name(model)
    functions: dict[str, Callable[[tf.Tensor], Tensors]] = {"predict": lambda x: {name: model(x, training=False)}}
    layer = registry.get_spec(interface.build["name"]).features_layer
    if layer is not None:
        inner = keras.Model(model.inputs, model.get_layer(layer).output)
        functions["features"] = lambda x: {"features": inner(x, training=False)}
    return functions


def model_input(model: keras.Model) -> tf.TensorSpec:
    """Returns the model's only input under its name, with a dynamic batch."""
    if len(model.inputs) != 1:
        raise UsageError(f"Model {model.name!r} has {len(model.inputs)} inputs; this task expects exactly one.")
    tensor = model.inputs[0]
    return tf.TensorSpec((None, *tensor.shape[1:]), tensor.dtype, tensor.name)


def _filled(request: Tensors) -> Tensors:
    """Refuses an empty batch with a sentence: some CPU kernels answer it with an error about primitives."""
    name, value = next(iter(request.items()))
    message = f"{name} is an empty batch; expected at least one example."
    with tf.control_dependencies([tf.debugging.assert_positive(tf.shape(value)[0], message=message)]):
        return {k: tf.identity(v) for k, v in request.items()}
