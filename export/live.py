"""What the live model answers, before any copy of it is made: the golden answers, and those to a sample of test examples."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import keras
import numpy as np
import tensorflow as tf

from zoo import tasks
from zoo.export.graph.signatures import by_input, heads, model_inputs
from zoo.export.standalone import arrays

if TYPE_CHECKING:
    from zoo.datasets.interface import Interface

Tensors = Mapping[str, tf.Tensor]


def golden(model: keras.Model, interface: Interface) -> dict[str, np.ndarray]:
    """Returns the contents of golden.npz: requests/NAME, inputs/NAME, targets/NAME and answers/SIGNATURE/NAME.

    Made by the model itself, not by its copy in the artifact, and with the labels taken from the list, not from the
    lookup table: an error in copying, tracing or labelling shows as a difference.
    """
    with whole_float32():
        return _live_answers(model, interface)


def _live_answers(model: keras.Model, interface: Interface) -> dict[str, np.ndarray]:
    functions = signatures(model, interface)
    examples = interface.examples
    inputs = by_input(model, examples.inputs)
    found = {f"targets/{name}": values for name, values in examples.targets.items()}
    for name, (takes, function) in functions.items():
        kind, given = (
            ("inputs", inputs) if name == "predict" else ("requests", {k: examples.requests[k] for k in takes})
        )
        found |= {f"{kind}/{k}": v for k, v in given.items()}
        found |= {f"answers/{name}/{k}": v for k, v in answers_to(given, function).items()}
    return found


def signatures(
    model: keras.Model, interface: Interface
) -> dict[str, tuple[tuple[str, ...], Callable[[Tensors], Tensors]]]:
    """Returns what a model answers through each signature: the names of the inputs, and a function of a batch of them."""
    task, preprocessor = tasks.get_task(interface.task), interface.preprocessor
    live = heads(model, interface)
    names = np.array([name.encode() for name in interface.class_names], object)
    declared = dict(task.signatures)
    if "features" in live:
        first = task.signatures["serving_default"].takes(preprocessor.requests)
        declared["features"] = tasks.Signature(first, lambda served: dict(served.outputs), {}, head="features")

    def label(numbers: tf.Tensor) -> tf.Tensor:
        return tf.gather(tf.constant(names.tolist(), tf.string), numbers)

    def answering(signature: tasks.Signature) -> Callable[[Tensors], Tensors]:
        def answer(requests: Tensors) -> Tensors:
            inputs, extras = preprocessor.serve(requests)
            outputs = live[signature.head](inputs, extras)
            return signature.answer(tasks.Served(outputs, label, extras, preprocessor))

        return answer

    def predict(inputs: Tensors) -> Tensors:
        return live["predict"](dict(inputs), {})

    found = {
        name: (signature.takes(preprocessor.requests), answering(signature)) for name, signature in declared.items()
    }
    return {"predict": (tuple(model_inputs(model)), predict), **found}


def answers_to(
    given: Mapping[str, np.ndarray], function: Callable[[Tensors], Tensors], seconds: float = math.inf
) -> dict[str, np.ndarray]:
    """Returns what a function of signatures answers, 64 examples at a time, as they are replayed; of as many as there is time
    for, and of the first 64 at least."""
    tensors = {k: tf.constant(v.tolist(), tf.string) if v.dtype == object else tf.constant(v) for k, v in given.items()}
    count, begun = len(next(iter(given.values()))), 0.0
    parts: list[Tensors] = []
    for i in range(0, count, 64):
        if parts and time.monotonic() - begun > seconds:
            break
        parts.append(function({k: v[i : i + 64] for k, v in tensors.items()}))
        begun = begun or time.monotonic()  # the first ones may be traced, which takes its time
    return {k: arrays.joined([part[k].numpy() for part in parts]) for k in parts[0]}


@contextlib.contextmanager
def whole_float32() -> Iterator[None]:
    """Has a GPU multiply with all bits of float32: with ten bits of mantissa, which it may be allowed, there is nothing to
    compare with."""
    shortened = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(shortened)
