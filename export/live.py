"""Outputs of the trained model, before any copy of it is made: for the golden examples and for a sample of test examples."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from zoo import copies, kernels
from zoo.errors import UsageError
from zoo.export.graph.signatures import SignatureFunction, Tensors, by_input, heads, signature_functions
from zoo.export.standalone import arrays

if TYPE_CHECKING:
    from zoo.datasets.interface import Interface


Serve = Callable[[Tensors], tuple[Tensors, Tensors]]
"""A preprocessor's `serve`: from raw requests to model inputs, and what else the signatures need."""


def compiled_serve(preprocessor: Any) -> Serve:
    """Returns the preprocessor's `serve`, traced once for each set of requests, because an export calls it often."""
    functions: dict[frozenset[str], Serve] = {}

    def serve(requests: Tensors) -> tuple[Tensors, Tensors]:
        names = frozenset(requests)
        if names not in functions:
            specs = {name: preprocessor.requests[name].spec for name in requests}
            functions[names] = kernels.traced(
                preprocessor.serve, reduce_retracing=False, input_signature=[specs], autograph=False
            )
        return functions[names](requests)

    return serve


def golden(model: keras.Model, interface: Interface, serve: Serve | None = None) -> dict[str, np.ndarray]:
    """Returns the contents of golden.npz: requests/NAME, inputs/NAME, targets/NAME and answers/SIGNATURE/NAME.

    The outputs come from the model itself, not from its copy in the artifact, and the labels from the list, not from
    the lookup table. An error in copying, tracing or labelling therefore shows as a difference.

    Args:
        model: the trained model.
        interface: the run's interface.
        serve: the result of `compiled_serve`; by default the preprocessor's own `serve`.
    """
    with kernels.on_cpu(model):
        found = _live_answers(model, interface, serve)
    if tf.config.list_logical_devices("GPU"):
        with kernels.whole_float32():
            _compare_devices(model, found, _live_answers(model, interface, serve))
    return found


_DEVICES_DIFFER = 1e-3
"""Largest difference of the outputs on a GPU from those on the CPU, multiplied by an output's largest value above 1. Rounding
alone reaches 1e-4 in resnet50; a kernel that computes something else differs by more."""


def _compare_devices(model: keras.Model, on_cpu: Mapping[str, np.ndarray], on_gpu: Mapping[str, np.ndarray]) -> None:
    for name, want in on_cpu.items():
        if want.dtype.kind != "f" or not name.startswith("answers/"):
            continue
        allowed = _DEVICES_DIFFER * max(1.0, float(np.max(np.abs(want), initial=0.0)))
        gap = float(np.max(np.abs(want - on_gpu[name]), initial=0.0)) if want.shape == on_gpu[name].shape else math.inf
        if not gap <= allowed:
            raise UsageError(
                f"Model {model.name!r} computes something else on the GPU, where it was trained, than on the CPU: "
                f"{name.removeprefix('answers/')} differs by {gap:.2g}, allowed {allowed:.2g}. Train it with use_cudnn=False "
                "in its recurrent layers, because cuDNN treats masked steps in another way; or train it on the CPU."
            )


def _live_answers(model: keras.Model, interface: Interface, serve: Serve | None) -> dict[str, np.ndarray]:
    functions = signatures(model, interface, serve)
    examples = interface.examples
    inputs = by_input(model, examples.inputs)
    found = {f"targets/{name}": values for name, values in examples.targets.items()}
    alone = {name: function for name, function in functions.items() if not function.continues}
    for takes in dict.fromkeys(function.takes for function in alone.values()):
        kind, given = ("inputs", inputs) if takes is None else ("requests", {k: examples.requests[k] for k in takes})
        alike = {name: function for name, function in alone.items() if function.takes == takes}
        found |= {f"{kind}/{k}": v for k, v in given.items()}
        found |= {f"answers/{k}": v for k, v in answers_to(given, functools.partial(_all_answers, alike)).items()}
    for name, function in functions.items():
        if function.continues:
            found |= {f"answers/{name}/{k}": v for k, v in _answers_in_turn(functions, name, examples.requests).items()}
    return found


def _answers_in_turn(
    functions: Mapping[str, SignatureFunction], name: str, requests: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Returns the outputs of a signature that continues another one, called in turn after it; see `arrays.in_turn`."""
    function = functions[name]
    first = functions[function.continues]

    def answer(batch: Tensors) -> Tensors:
        return arrays.in_turn(first, function, batch, function.takes or (), function.state)

    return answers_to({key: requests[key] for key in first.takes or ()}, answer)


def _all_answers(functions: Mapping[str, SignatureFunction], batch: Tensors) -> Tensors:
    """Returns the outputs of several signatures of the same inputs, as SIGNATURE/NAME; the inputs are prepared once."""
    prepared = next(iter(functions.values())).prepare(batch)
    return {
        f"{name}/{k}": v for name, f in functions.items() for k, v in f.answer(*prepared).items() if k not in f.state
    }


def signatures(model: keras.Model, interface: Interface, serve: Serve | None = None) -> dict[str, SignatureFunction]:
    """Returns the function of each signature, computed by the trained model, as `signature_functions` does; labels come
    from the list of class names, not from a lookup table."""
    names = tf.constant([name.encode() for name in interface.class_names], tf.string)
    task = interface.definition
    return signature_functions(
        task,
        interface.preprocessor,
        heads(model, interface),
        lambda numbers: tf.gather(names, numbers),
        serve,
        decided=copies.decided(model),
        class_names=interface.class_names,
    )


_FEW = 16
"""Examples whose outputs show the effect of rounding."""


def own_rounding(model: keras.Model, interface: Interface, held: Mapping[str, np.ndarray]) -> float:
    """Returns by how much the trained model's own outputs change when each of its weights changes by its last bit, relative
    to the larger of 1 and the output's largest value: what rounding alone can do, without any export.

    Args:
        model: the trained model; its weights are the same afterwards.
        interface: the run's interface.
        held: the result of `golden`.
    """
    weights = model.get_weights()
    with kernels.on_cpu(model):
        before = _few_answers(model, interface, held)
        model.set_weights([_other_last_bit(values) for values in weights])
        try:
            after = _few_answers(model, interface, held)
        finally:
            model.set_weights(weights)
    return max((_relative_gap(values, after[name]) for name, values in before.items()), default=0.0)


def _few_answers(model: keras.Model, interface: Interface, held: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for name, function in signatures(model, interface).items():
        if function.continues:
            continue
        kind = "inputs/" if function.takes is None else "requests/"
        names = function.takes or [key.removeprefix(kind) for key in held if key.startswith(kind)]
        found |= answers_to(
            {k: held[kind + k][:_FEW] for k in names}, functools.partial(_all_answers, {name: function})
        )
    return {name: values for name, values in found.items() if values.dtype.kind == "f"}


def _other_last_bit(values: np.ndarray) -> np.ndarray:
    """Moves about half of the numbers one step up and the others one step down."""
    if values.dtype.kind != "f":
        return values
    up = np.random.default_rng(values.size).random(values.shape) < 0.5
    return np.nextafter(values, np.where(up, np.inf, -np.inf).astype(values.dtype))


def _relative_gap(first: np.ndarray, second: np.ndarray) -> float:
    scale = max(1.0, float(np.max(np.abs(first), initial=0.0)))
    return float(np.max(np.abs(second.astype(np.float64) - first), initial=0.0)) / scale


def answers_to(
    given: Mapping[str, np.ndarray],
    function: Callable[[Tensors], Tensors],
    seconds: float = math.inf,
) -> dict[str, np.ndarray]:
    """Returns a signature function's outputs, computed in batches of 64 as in the replay. Stops after `seconds`, but
    computes at least the first batch."""
    tensors = {k: tf.constant(v.tolist(), tf.string) if v.dtype == object else tf.constant(v) for k, v in given.items()}
    count, begun = len(next(iter(given.values()))), 0.0
    parts: list[Tensors] = []
    for i in range(0, count, 64):
        if parts and time.monotonic() - begun > seconds:
            break
        parts.append(function({k: v[i : i + 64] for k, v in tensors.items()}))
        begun = begun or time.monotonic()  # the first call may include tracing
    return {k: arrays.joined([np.asarray(part[k]) for part in parts]) for k in parts[0]}
