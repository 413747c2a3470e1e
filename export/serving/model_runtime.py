"""The model of an artifact in OpenVINO or ONNX Runtime: raw preprocessing and labels stay in TensorFlow.

An artifact traces its model once, and its signatures call this function. In a copy of the graph, the function calls the
other runtime. The golden examples are compared before anything is served, for every signature that is called alone.
Signatures that are called in turn, such as `prefill` and `step`, are not compared; models that generate text, which have
them, are rejected, because their signatures do not call the function of `predict`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import function_pb2, types_pb2
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.ops import script_ops

from zoo import storage
from zoo.errors import UsageError
from zoo.export import artifact_paths, scratch, zoo_json
from zoo.export.golden_questions import questions
from zoo.export.loading import LoadedModel
from zoo.export.runtimes import comparison, runtimes

Answer = Callable[[dict[str, Any]], Mapping[str, Any]]
_LARGEST_GRAPH = 2 << 30


def replace_model(model: LoadedModel, name: str, folder: Path) -> None:
    """Makes a loaded artifact compute its model with another runtime.

    Args:
        model: the loaded artifact.
        name: the runtime, which must compute in this process with a batch of any size.
        folder: an empty folder, which must exist as long as the model is used.

    Raises:
        UsageError: the runtime is not installed, cannot convert the model, or gives other outputs for the golden examples.
    """
    title = runtimes()[name].title
    if lacks := comparison.missing(name):
        raise UsageError(f"{title} cannot run on this machine: {lacks}. Or leave --runtime out.")
    asked = questions(model.path) if _is_ours(model.path) else {}
    if "predict" not in asked or len(asked) < 2:
        raise UsageError(
            f"{model.path} cannot be served by {title}: it has no golden examples to compare the outputs with. Leave "
            "--runtime out, or export the model with zoo."
        )
    file = _converted(model.path, name, folder)
    answer = runtimes()[name].answer
    assert answer is not None
    request = {"file": str(file), "signature": "predict", "batch": None, "length": None}
    call(model, name, answer(request), folder, asked)


def call(model: LoadedModel, name: str, answer: Answer, folder: Path, asked: Mapping[str, comparison.Question]) -> None:
    """Makes a loaded artifact compute its model with a function from model inputs to outputs by name, as arrays.

    Raises:
        UsageError: the outputs for the golden examples `asked` differ by more than the runtime's tolerance.
    """
    called = _write_graph(model.path, answer, folder / "graph")
    model.use_graph(folder / "graph", called)
    _compare(model, name, asked)


def _converted(path: Path, name: str, folder: Path) -> Path:
    """Converts the model in another process; returns the file."""
    runtime, title = runtimes()[name], runtimes()[name].title
    signature = str(zoo_json.read(path).get("portable_signature", "predict"))
    file = folder / "converted" / runtime.file
    file.parent.mkdir()
    with scratch.folder() as temporary:
        directory = path.absolute()
        if runtime.one_signature:
            directory = comparison.single_signature(path, signature, temporary / "model")
        request = {"model": str(directory), "signature": signature, "file": str(file)}
        found = comparison.ask(name, request, {}, temporary)
    if why := found.get("cannot") or found.get("error"):
        raise UsageError(
            f"{path} cannot be served by {title}, because its model cannot be converted: {why}. Leave --runtime out."
        )
    return file


def _is_ours(path: Path) -> bool:
    return all((path / artifact_paths.EXTRA / name).is_file() for name in ("golden.npz", "zoo.json"))


def _compare(model: LoadedModel, name: str, asked: Mapping[str, comparison.Question]) -> None:
    """Raises UsageError if a golden example has other outputs than the trained model."""
    answers: dict[str, dict[int, dict[str, np.ndarray]]] = {}
    for signature, question in asked.items():
        answers[signature] = {}
        for size, count in comparison.portions(question.inputs, question.sizes):
            parts = [
                model({key: value[at : min(at + size, count)] for key, value in question.inputs.items()}, signature)
                for at in range(0, count, size)
            ]
            joined = {key: _joined([part[key] for part in parts]) for key in parts[0]}
            answers[signature][size] = joined
    labels = [label.encode() for label in model.labels()]
    found = comparison.judged(name, model.path, asked, {"answers": answers, "version": ""}, True, labels)
    if failed := [row for row in found.checks if not row.passed]:
        raise UsageError(
            f"{model.path} is not served by {runtimes()[name].title}, because its outputs differ from the trained model's: "
            f"{failed[0].name}: {failed[0].detail}. Leave --runtime out to serve it with TensorFlow."
        )


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    """Returns batches as one; those with fewer steps are padded."""
    from zoo.export.standalone import arrays

    if len({part.shape[1:] for part in parts}) > 1:
        longest = max(parts, key=lambda part: part.shape[1])
        parts = [arrays.padded([longest, part])[1] for part in parts]
    return np.concatenate(parts)


def _write_graph(path: Path, answer: Answer, target: Path) -> Any:
    """Writes a copy of a SavedModel whose model is a call of Python; the weights are linked. Returns the function that the
    graph calls, which must be kept: TensorFlow holds only a weak reference."""
    proto = saved_model_pb2.SavedModel()
    proto.ParseFromString(storage.read_bytes(path / "saved_model.pb", _LARGEST_GRAPH))
    graph = proto.meta_graphs[0]
    signature = graph.signature_def["predict"]
    inputs, outputs = sorted(signature.inputs), sorted(signature.outputs)
    function = _model_function(path, graph)

    def answers(*tensors: tf.Tensor) -> list[tf.Tensor]:
        found = answer({key: value.numpy() for key, value in zip(inputs, tensors, strict=True)})
        return [tf.constant(found[key]) for key in outputs]

    dtypes = [signature.outputs[key].dtype for key in outputs]
    called = script_ops.EagerFunc(answers, [tf.as_dtype(dtype) for dtype in dtypes], False)
    token = script_ops._py_funcs.insert(called)
    given = [arg for arg in function.signature.input_arg if arg.type not in _RESOURCES]
    del function.node_def[:]
    function.ret.clear()
    function.control_ret.clear()
    del function.signature.control_output[:]
    function.signature.is_stateful = True
    node = function.node_def.add(name="runtime", op="EagerPyFunc", input=[arg.name for arg in given])
    node.attr["token"].s = token.encode()
    node.attr["is_async"].b = False
    node.attr["Tin"].list.type.extend([arg.type for arg in given])
    node.attr["Tout"].list.type.extend(dtypes)
    for place, (key, arg) in enumerate(zip(outputs, function.signature.output_arg, strict=True)):
        shape = function.node_def.add(name=f"shape_{place}", op="EnsureShape", input=[f"runtime:output:{place}"])
        shape.attr["T"].type = dtypes[place]
        shape.attr["shape"].shape.CopyFrom(signature.outputs[key].tensor_shape)
        function.ret[arg.name] = f"shape_{place}:output:0"
    target.mkdir()
    (target / "saved_model.pb").write_bytes(proto.SerializeToString())
    for name in ("variables", "assets"):
        if (path / name).exists():
            os.symlink((path / name).resolve(), target / name)
    return called


_RESOURCES = (types_pb2.DT_RESOURCE, types_pb2.DT_VARIANT)


def _model_function(path: Path, graph: Any) -> function_pb2.FunctionDef:
    """Returns the function of the model, which `predict` and `serving_default` call."""
    library = {function.signature.name: function for function in graph.graph_def.library.function}
    nodes = {node.name: node for node in graph.graph_def.node}

    def reached(signature: str) -> list[str]:
        output = next(iter(graph.signature_def[signature].outputs.values())).name.split(":")[0]
        waiting, found = [nodes[output].attr["f"].func.name], []
        while waiting:
            if (name := waiting.pop(0)) not in found:
                found.append(name)
                waiting += _called(library[name])
        return found

    wanted = [graph.signature_def["predict"].inputs[key].dtype for key in sorted(graph.signature_def["predict"].inputs)]
    results = len(graph.signature_def["predict"].outputs)
    served = set(reached("serving_default"))
    for name in reached("predict"):
        signature = library[name].signature
        takes = [arg.type for arg in signature.input_arg if arg.type not in _RESOURCES]
        if name in served and takes == wanted and len(signature.output_arg) == results:
            return library[name]
    raise UsageError(
        f"{path} cannot be served by another runtime: its signatures do not call one function for the model. Leave --runtime "
        "out."
    )


def _called(function: function_pb2.FunctionDef) -> Iterator[str]:
    for node in function.node_def:
        for value in node.attr.values():
            yield from [value.func.name] if value.HasField("func") else []
            yield from [part.name for part in value.list.func]
