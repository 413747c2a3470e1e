"""Any Keras model as a Functional model whose inputs and outputs are named tensors."""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from zoo import copies, registry, tasks
from zoo.errors import UsageError, one_line
from zoo.export.graph.signatures import model_inputs
from zoo.export.keras_models.arrays import named_arrays
from zoo.export.prediction_items import numbers_of

_ROUNDING = 1e-5


def named_network(model: Any, examples: Any) -> tuple[keras.Model, dict[str, np.ndarray[Any, Any]], bool]:
    """Returns a model's layers as a Functional model with named inputs and outputs, the examples by input name, and whether
    the network can be rebuilt from its config.

    A Functional or Sequential model keeps its layers. Another model, such as a subclassed one, becomes the only layer of the
    network; its inputs have the shapes of the examples.

    Args:
        model: a Keras model that has weights.
        examples: its inputs, batch first: an array, a list of arrays in the order of its inputs, or a dict of arrays.

    Raises:
        UsageError: the object is no Keras model, the examples do not fit, or the model's outputs cannot be served.
    """
    _check(model)
    if not _has_weights(model):
        _call_once(model, examples)
    graph = _graph(model)
    if graph is None:
        names, arrays = _named_structure(model, examples)
        network = _wrapped(model, names, arrays)
    else:
        network = graph
        arrays, names = named_arrays(examples, model_inputs(network), model.name), None
    _check_inputs(network, model)
    _check_outputs(model, network, arrays, names)
    return network, arrays, graph is not None


def _check(model: Any) -> None:
    if not isinstance(model, keras.Model):
        what = f"the path {str(model)!r}" if isinstance(model, str) or hasattr(model, "__fspath__") else ""
        raise UsageError(
            f"Received {what or f'a {type(model).__name__}'}; expected a Keras model. Pass a keras.Model, such as the result "
            "of keras.saving.load_model(FILE)."
        )


def _has_weights(model: keras.Model) -> bool:
    return bool(model.built and not (isinstance(model, keras.Sequential) and not model.inputs))


def _call_once(model: keras.Model, examples: Any) -> None:
    """Calls a model on examples, which makes its initial weights.

    Raises:
        UsageError: it cannot be called on them.
    """
    names, arrays = _named_structure(model, examples)
    given = {name: tf.constant(v.tolist() if v.dtype == object else v) for name, v in arrays.items()}
    try:
        model(_structured(names, given))
    except Exception as error:  # code of the user may raise anything
        raise UsageError(
            f"Model {model.name!r} was never called, and cannot be called on the examples: {one_line(error, 200)} Pass "
            "examples in the form that it takes."
        ) from error
    warnings.warn(
        f"Model {model.name!r} was never called: it has its initial weights, which no training has changed.",
        stacklevel=5,
    )


def _graph(model: keras.Model) -> keras.Model | None:
    """Returns the Functional model of a model's layers; None if the model computes its outputs in code of its own."""
    if isinstance(model, keras.Sequential):
        if type(model).call is not keras.Sequential.call:
            return None
        if model.inputs[0].shape[0] is not None and not any(
            getattr(layer, "stateful", False) for layer in model.layers
        ):
            model = _of_any_batch(model)
    elif not _is_functional(model):
        return None
    takes = unique_names(_stable_names([t._keras_history.operation for t in model.inputs], "input"))
    gives = unique_names(_output_names(model))
    layers = [tensor._keras_history.operation.name for tensor in model.inputs]
    named = not isinstance(model, keras.Sequential) and (takes, gives) == (layers, tasks.output_names(model))
    if named and _is_flat(model._inputs_struct):
        return model
    network = keras.Model(_one_or_all(model.inputs), dict(zip(gives, model.outputs, strict=True)), name=model.name)
    copies.record(network, tasks.INPUT_NAMES, takes)
    if (build := registry.describe_build(model)) is not None:
        copies.record(network, "_zoo_build", build)
    return network


def _one_or_all(tensors: Iterable[Any]) -> Any:
    """Returns a single tensor, or a list of several, as Keras expects the inputs of a model when it is called."""
    found = list(tensors)
    return found if len(found) > 1 else found[0]


def _of_any_batch(model: keras.Sequential) -> keras.Model:
    """Returns the layers of a model that was built by its first batch, whose size Keras keeps, for batches of any size."""
    made = model.inputs[0]
    tensor = first = keras.Input(made.shape[1:], dtype=made.dtype, name=made._keras_history.operation.name)
    for layer in model.layers:
        tensor = layer(tensor)
    return keras.Model(first, tensor, name=model.name)


def _is_flat(structure: Any) -> bool:
    """Whether a model's inputs are one tensor, a list, or a dict by the names of their layers."""
    if not isinstance(structure, (Mapping, list, tuple)):
        return True
    if isinstance(structure, Mapping):
        return all(hasattr(t, "shape") and t._keras_history.operation.name == key for key, t in structure.items())
    return all(hasattr(tensor, "shape") for tensor in structure)


def _output_names(model: keras.Model) -> list[str]:
    """Returns the names of a model's outputs: dict keys, or the names of layers."""
    names = tasks.output_names(model)
    if isinstance(getattr(model, "_outputs_struct", None), Mapping):
        return names
    return _stable_names([tensor._keras_history.operation for tensor in model.outputs], "output")


def _stable_names(operations: Sequence[Any], kind: str) -> list[str]:
    """Returns the names of layers, and `input_0` and so on for names that Keras has made up, because they depend on the
    number of layers that the process has made before."""
    made = [bool(re.fullmatch(rf"{_snake(type(op).__name__)}(_\d+)?", op.name)) for op in operations]
    single = len(operations) == 1
    return [
        (kind if single else f"{kind}_{i}") if is_made else op.name
        for i, (op, is_made) in enumerate(zip(operations, made, strict=True))
    ]


def _snake(name: str) -> str:
    """Returns a class name as Keras writes it in the names of layers.

    Example:
        >>> _snake("Conv2D")
        'conv2d'
    """
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def _is_functional(model: keras.Model) -> bool:
    """Whether a model is made of its inputs and outputs, and computes nothing else when it is called."""
    bases = (c for c in type(model).__mro__ if c.__name__ == "Functional" and c.__module__.startswith("keras."))
    base: Any = next(bases, None)
    return base is not None and type(model).call is base.call and type(model).__call__ is base.__call__


def plain_name(name: str) -> str:
    """Returns a name with letters, digits and `_` only, as an input of a signature needs.

    Example:
        >>> plain_name("user id/2")
        'user_id_2'
    """
    plain = re.sub(r"\W", "_", name, flags=re.ASCII)
    return plain if plain[:1].isalpha() else f"x{plain}"


def unique_names(names: Sequence[str]) -> list[str]:
    """Returns plain names without repetition.

    Example:
        >>> unique_names(["lstm", "lstm", "lstm"])
        ['lstm', 'lstm_1', 'lstm_2']
    """
    found: list[str] = []
    for name in map(plain_name, names):
        number, chosen = 0, name
        while chosen in found:
            number += 1
            chosen = f"{name}_{number}"
        found.append(chosen)
    return found


# --- Models that compute their outputs in code of their own ---------------------------------------------------------


def _named_structure(model: keras.Model, examples: Any) -> tuple[Any, dict[str, np.ndarray[Any, Any]]]:
    """Returns the names of the inputs in the structure that the model takes, and the arrays by name."""
    if isinstance(examples, Mapping):
        names: Any = {key: plain_name(str(key)) for key in examples}
        parts = {names[key]: value for key, value in examples.items()}
    elif isinstance(examples, tuple) or (isinstance(examples, list) and examples and _is_array(examples[0])):
        names = [f"input_{i}" for i in range(len(examples))]
        parts = dict(zip(names, examples, strict=True))
    else:
        names = _first_argument(model)
        if hasattr(examples, "columns") and hasattr(examples, "iloc"):  # a DataFrame
            examples = numbers_of(examples, None, f"Model {model.name!r} takes {names}")
        parts = {names: examples}
    return names, named_arrays(parts, None, model.name)


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape") and len(value.shape) > 0


def _first_argument(model: keras.Model) -> str:
    known = [name for name in inspect.signature(model.call).parameters if name not in ("args", "kwargs")]
    return plain_name(known[0]) if known else "inputs"


def _wrapped(model: keras.Model, names: Any, arrays: Mapping[str, np.ndarray[Any, Any]]) -> keras.Model:
    tensors = {
        name: keras.Input(values.shape[1:], dtype="string" if values.dtype == object else values.dtype.name, name=name)
        for name, values in arrays.items()
    }
    try:
        outputs = model(_structured(names, tensors))
    except Exception as error:  # code of the user may raise anything
        raise UsageError(
            f"Model {model.name!r} cannot be called on tensors without values, as an export needs: {one_line(error, 200)} "
            "Use keras.ops or TensorFlow functions in call(), without NumPy and without Python conditions on values."
        ) from error
    found = dict(_flat_outputs(outputs))
    if not found:
        raise UsageError(
            f"Model {model.name!r} returns no tensor. Return a tensor, a list or a dict of tensors from call()."
        )
    outputs = dict(zip(unique_names(list(found)), found.values(), strict=True))
    return keras.Model(_one_or_all(tensors.values()), outputs, name=f"{plain_name(model.name)}_network")


def _structured(names: Any, values: Mapping[str, Any]) -> Any:
    """Returns values by name in the structure of the names."""
    if isinstance(names, Mapping):
        return {key: values[name] for key, name in names.items()}
    return values[names] if isinstance(names, str) else [values[name] for name in names]


def _flat_outputs(outputs: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yields a model's outputs by the names of their places: dict keys, positions in a list, or `output`."""
    if isinstance(outputs, Mapping):
        for key, part in outputs.items():
            yield from _flat_outputs(part, f"{path}_{key}" if path else str(key))
    elif isinstance(outputs, (list, tuple)):
        for i, part in enumerate(outputs):
            yield from _flat_outputs(part, f"{path or 'output'}_{i}")
    elif outputs is not None:
        yield path or "output", outputs


# --- Checks ----------------------------------------------------------------------------------------------------------


def _check_inputs(network: keras.Model, model: keras.Model) -> None:
    for tensor in network.inputs:
        name = tensor._keras_history.operation.name
        if getattr(tensor, "sparse", False) or getattr(tensor, "ragged", False):
            raise UsageError(
                f"Input {name!r} of model {model.name!r} is sparse or ragged; expected a dense tensor. Build the model with "
                "dense inputs, padded if their lengths differ."
            )
        if tensor.shape[0] is not None:
            raise UsageError(
                f"Input {name!r} of model {model.name!r} takes batches of {tensor.shape[0]} alone; expected any number of "
                "rows. Build it with shape=... instead of batch_shape=..., and without stateful layers."
            )


def _check_outputs(model: keras.Model, network: keras.Model, arrays: Mapping[str, Any], names: Any) -> None:
    """Compares the network with the model on the examples; they differ if the model's outputs are not determined by its
    inputs and weights."""
    given = {
        name: tf.constant(v.tolist(), tf.string) if v.dtype == object else tf.constant(v) for name, v in arrays.items()
    }
    try:
        direct = model(_packed(model, given) if names is None else _structured(names, given), training=False)
    except Exception as error:  # code of the user may raise anything
        raise UsageError(
            f"Model {model.name!r} rejects the examples: {one_line(error, 300)} Pass examples in the form that it was "
            "trained on."
        ) from error
    parts = keras.tree.flatten(direct) if names is None else [part for _, part in _flat_outputs(direct)]
    own = _output_names(model) if names is None else [name for name, _ in _flat_outputs(direct)]
    again, rows = tasks.call_model(network, given), len(next(iter(arrays.values())))
    for name, part in zip(unique_names(own), parts, strict=True):
        first, second = np.asarray(part), np.asarray(again[name])
        if not first.ndim or len(first) != rows:
            raise UsageError(
                f"Output {name!r} of model {model.name!r} has the shape {list(first.shape)} for {rows} examples; expected "
                "one row per example. Leave this output out: keras.Model(model.inputs, OUTPUTS)."
            )
        if _differ(first, second):
            raise UsageError(
                f"Model {model.name!r} gives other values for output {name!r} each time it is called on the same examples, "
                f"so no export could be checked. Make {_suspects(network)}."
            )


def _packed(model: keras.Model, given: Mapping[str, Any]) -> Any:
    """Returns values, in the order of a model's inputs, in the structure that the model was built with."""
    structure = getattr(model, "_inputs_struct", None)
    return (
        next(iter(given.values()))
        if structure is None
        else keras.tree.pack_sequence_as(structure, list(given.values()))
    )


def _differ(first: np.ndarray[Any, Any], second: np.ndarray[Any, Any]) -> bool:
    if first.dtype.kind not in "fV":  # V: half-precision types that NumPy lacks
        return not np.array_equal(first, second)
    first, second = first.astype(np.float64), second.astype(np.float64)
    scale = max(1.0, float(np.max(np.abs(np.nan_to_num(first)), initial=0.0)))
    return first.shape != second.shape or not np.allclose(first, second, rtol=0, atol=_ROUNDING * scale, equal_nan=True)


def _suspects(network: keras.Model) -> str:
    drawing = [layer.name for layer in network._flatten_layers() if getattr(layer, "_seed_generators", None)]
    if drawing:
        return f"its layers with random numbers ({', '.join(drawing[:3])}) draw them in training alone"
    return "call() depend on its inputs and weights alone"
