"""Converts one signature for another runtime and answers with it, in a process of its own.

Run as a script by `zoo.export.runtimes.comparison`, by path: converters crash, abort and hang, and none of that may
reach the caller.
Reads a request as JSON from the file that it is given, prints one JSON object. Inputs and answers are arrays of numbers, in
files as arrays.py writes them.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
import tempfile
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING or __package__:
    from . import arrays, process
else:  # run by its path, with this folder first on sys.path
    import arrays
    import process

BLOCKED = ("zoo", "export", "openvino_telemetry")


class CannotConvertError(Exception):
    """A reason in words that a person can act on."""


# --- From a SavedModel to a file -----------------------------------------------------------------------------------


def convert_openvino(request: dict[str, Any]) -> None:
    """Writes model.xml and model.bin."""
    import openvino

    model = openvino.convert_model(request["model"])
    if request["length"]:
        shapes = {port: port.get_partial_shape() for port in model.inputs}
        fixed = {
            port: _fixed([d.get_length() if d.is_static else None for d in s], request) for port, s in shapes.items()
        }
        model.reshape({port: [-1 if d is None else d for d in shape] for port, shape in fixed.items()})
    openvino.save_model(model, request["file"], compress_to_fp16=False)


def convert_onnxruntime(request: dict[str, Any]) -> None:
    """Writes model.onnx; what tf2onnx leaves unconverted it does not say, so that the file's ops are looked at."""
    import tensorflow as tf
    import tf2onnx
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    loaded = tf.saved_model.load(request["model"])
    function = _function(loaded, request, None)
    frozen = convert_variables_to_constants_v2(function, lower_control_flow=False, aggressive_inlining=True)
    takes, answers = sorted(function.structured_input_signature[1]), sorted(function.structured_outputs)
    inputs, outputs = [t.name for t in frozen.inputs], [t.name for t in frozen.outputs]
    model, _ = tf2onnx.convert._convert_common(
        frozen.graph.as_graph_def(),
        input_names=inputs,
        output_names=outputs,
        opset=18,
        custom_op_handlers={"Erfc": (_erfc, [])},
        tensors_to_rename=dict(zip(inputs, takes, strict=True)) | dict(zip(outputs, answers, strict=True)),
    )
    unknown = sorted(_unknown_ops(model.graph))
    if unknown:
        raise CannotConvertError(f"tf2onnx does not convert {', '.join(unknown[:5])}")
    with open(request["file"], "wb") as file:
        file.write(model.SerializeToString())


def _erfc(context: Any, node: Any, name: str, _: Any) -> None:
    """1 - erf(x): ONNX has no Erfc, and tf2onnx passes it on as it is."""
    one = context.make_const(f"{name}_one", np.ones((), np.float32)).output[0]
    erf = context.make_node("Erf", [node.input[0]], name=f"{name}_erf").output[0]
    shape, dtype = context.get_shape(node.output[0]), context.get_dtype(node.output[0])
    output = node.output[0]
    context.remove_node(node.name)
    context.make_node("Sub", [one, erf], outputs=[output], name=name, shapes=[shape], dtypes=[dtype])


def _unknown_ops(graph: Any) -> set[str]:
    from onnx import defs

    unknown = {n.op_type for n in graph.node if n.domain in ("", "ai.onnx") and not defs.has(n.op_type)}
    unknown |= {f"{n.domain}.{n.op_type}" for n in graph.node if n.domain not in ("", "ai.onnx")}
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                unknown |= _unknown_ops(inner)
    return unknown


def convert_litert(request: dict[str, Any]) -> None:
    """Writes model.tflite: of any batch and length, or of what the request fixes."""
    import tensorflow as tf

    batch, length = request["batch"], request["length"]
    with tempfile.TemporaryDirectory() as folder:
        model = _with_static_lists(request["model"], batch, folder) if batch else request["model"]
        if batch is None and length is None:
            converter = tf.lite.TFLiteConverter.from_saved_model(model, signature_keys=[request["signature"]])
        else:
            loaded = tf.saved_model.load(model)
            function = _function(loaded, request, batch)
            converter = tf.lite.TFLiteConverter.from_concrete_functions([function], loaded)
        content = converter.convert()
    with open(request["file"], "wb") as file:
        file.write(content)


def _with_static_lists(model: str, batch: int, folder: str) -> str:
    """Returns a copy of the SavedModel in which what loops collect has a fixed batch: lists of another size do not
    convert."""
    from tensorflow.core.protobuf import saved_model_pb2
    from tensorflow.python.framework import tensor_util

    proto = saved_model_pb2.SavedModel()
    with open(os.path.join(model, "saved_model.pb"), "rb") as file:
        proto.ParseFromString(file.read())
    for function in proto.meta_graphs[0].graph_def.library.function:
        nodes = {node.name: node for node in function.node_def}
        for node in function.node_def:
            place = {"TensorListReserve": 0, "TensorListFromTensor": 1, "TensorListStack": 1}.get(node.op)
            shape = None if place is None else nodes.get(node.input[place].split(":")[0])
            if shape is not None and shape.op == "Const":
                value = tensor_util.MakeNdarray(shape.attr["value"].tensor)
                if value.ndim == 1 and len(value) and value[0] == -1:
                    fixed = [batch, *value[1:].tolist()]
                    shape.attr["value"].tensor.CopyFrom(tensor_util.make_tensor_proto(fixed, value.dtype))
    for name in os.listdir(model):
        if name != "saved_model.pb":
            os.symlink(os.path.realpath(os.path.join(model, name)), os.path.join(folder, name))
    with open(os.path.join(folder, "saved_model.pb"), "wb") as file:
        file.write(proto.SerializeToString())
    return folder


def _function(loaded: Any, request: dict[str, Any], batch: int | None) -> Any:
    """Returns the signature as a concrete function, of fixed sizes where they are asked for."""
    import tensorflow as tf

    signature = loaded.signatures[request["signature"]]
    if batch is None and request["length"] is None:
        return signature
    specs = {}
    for name, spec in signature.structured_input_signature[1].items():
        shape = _fixed(spec.shape.as_list(), request)
        specs[name] = tf.TensorSpec([batch or shape[0], *shape[1:]] if shape else shape, spec.dtype, name)

    def fixed(**inputs: Any) -> Any:
        return signature(**inputs)

    return tf.function(fixed, autograph=False).get_concrete_function(**specs)


def _fixed(shape: list[int | None], request: dict[str, Any]) -> list[int | None]:
    """Fills the length in where a dimension after the batch is unknown."""
    return shape[:1] + [request["length"] if size is None else size for size in shape[1:]]


# --- From a file to answers ----------------------------------------------------------------------------------------


def answer_openvino(request: dict[str, Any]) -> Any:
    """Reads an OpenVINO model, or a SavedModel as it is."""
    import openvino

    core = openvino.Core()
    # Without the hint a CPU with bfloat16 rounds to three digits.
    model = core.compile_model(core.read_model(request["file"]), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def answer(inputs: dict[str, Any]) -> dict[str, Any]:
        given = {port: inputs[name] for port in model.inputs for name in port.get_names() if name in inputs}
        result = model(given)
        return {name: result[port] for port in model.outputs for name in port.get_names()}

    return answer


def answer_onnxruntime(request: dict[str, Any]) -> Any:
    """Reads an ONNX file."""
    import onnxruntime

    session = onnxruntime.InferenceSession(request["file"], providers=["CPUExecutionProvider"])
    outputs, takes = [output.name for output in session.get_outputs()], [given.name for given in session.get_inputs()]

    def answer(inputs: dict[str, Any]) -> dict[str, Any]:
        return dict(zip(outputs, session.run(outputs, {name: inputs[name] for name in takes}), strict=True))

    return answer


def answer_litert(request: dict[str, Any]) -> Any:
    """Reads a LiteRT file."""
    import tensorflow as tf

    runner = tf.lite.Interpreter(model_path=request["file"], num_threads=1).get_signature_runner()
    return lambda inputs: runner(**inputs)


def answer_tensorflow(request: dict[str, Any]) -> Any:
    """Loads a SavedModel."""
    import tensorflow as tf

    loaded = tf.saved_model.load(request["file"])
    signature = loaded.signatures[request["signature"]]

    def answer(inputs: dict[str, Any], _: Any = loaded) -> dict[str, Any]:  # what is not held is freed
        outputs = signature(**{name: tf.constant(value) for name, value in inputs.items()})
        return {name: value.numpy() for name, value in outputs.items()}

    return answer


def _answers(request: dict[str, Any], answer: Any) -> None:
    """Answers the inputs in batches of each size, as many rows as the request says; size 0 is all of them as they are."""
    inputs = arrays.load(request["inputs"])
    written: dict[str, Any] = {}
    for size, some in request["portions"]:
        if not size:
            written |= {f"{size}/{name}": np.asarray(value) for name, value in answer(inputs).items()}
            continue
        parts = [answer({k: v[i : min(i + size, some)] for k, v in inputs.items()}) for i in range(0, some, size)]
        for name in parts[0]:
            written[f"{size}/{name}"] = np.concatenate([np.asarray(part[name]) for part in parts])
    arrays.save(request["answers"], written)


def _version(runtime: str) -> str:
    """Asks the module itself: what it was installed as differs, such as tensorflow-cpu."""
    return str(importlib.import_module({"litert": "tensorflow"}.get(runtime, runtime)).__version__)


def reason(error: Exception) -> str:
    """Returns why a conversion failed, in a few words where they can be found in the converter's many."""
    text = str(error)
    if isinstance(error, CannotConvertError):
        return text
    unsupported = {
        *re.findall(r"No translator found for (\w+) node", text),
        *re.findall(r"conversion is failed for operation:? (\w+)", text),
        *re.findall(r"'tf\.(\w+)' op is neither a custom op nor a flex op", text),
        *re.findall(r"'tf\.(\w+)' op requires element_shape to be static", text),
    }
    if unsupported:
        return f"the converter does not know {', '.join(sorted(unsupported)[:5])} in this form"
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [type(error).__name__]
    return f"{type(error).__name__}: {lines[0][:200]}"


def main(request: dict[str, Any]) -> dict[str, Any]:
    """Converts where the request names no finished file, answers where it names inputs.

    Up to the line LOADED, whatever goes wrong is a model that cannot be converted; behind it, a model that loads and cannot
    answer: `error`.
    """
    runtime = request["runtime"]
    outcome: dict[str, Any] = {"batch": request["batch"], "length": request["length"]}
    try:
        outcome["version"] = _version(runtime)
    except Exception as error:
        return outcome | {"cannot": f"its module cannot be imported: {reason(error)}"}
    if request["model"]:
        try:
            globals()[f"convert_{runtime}"](request)
        except Exception as error:
            return outcome | {"cannot": reason(error)}
    if not request["inputs"]:
        return outcome
    try:
        answer = globals()[f"answer_{runtime}"](request)
    except Exception as error:
        why = reason(error)
        made = f"the file that came out cannot be loaded: {why}" if request["model"] else why
        return outcome | {"cannot": made}
    print("LOADED", flush=True)
    try:
        _answers(request, answer)
    except Exception as error:
        return outcome | {"error": reason(error)}
    return outcome | {"answered": True}


def _asked(file: str) -> dict[str, Any]:
    with open(file, encoding="utf-8") as asked:
        return main(json.load(asked))


if __name__ == "__main__":
    process.run("WORKER ", lambda: _asked(sys.argv[1]), BLOCKED)
