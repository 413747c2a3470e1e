"""ONNX Runtime: model.onnx, converted by tf2onnx."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or __package__:
    from zoo.export.standalone.runtime import CannotConvertError, Request, Runtime, function
else:  # loaded by its path, with export/standalone first on sys.path
    from runtime import CannotConvertError, Request, Runtime, function


def convert(request: Request) -> None:
    """Writes model.onnx. tf2onnx does not report unconverted ops, so the ops of the file are checked."""
    import tensorflow as tf
    import tf2onnx
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    loaded = tf.saved_model.load(request["model"])
    signature = function(loaded, request)
    frozen = convert_variables_to_constants_v2(signature, lower_control_flow=False, aggressive_inlining=True)
    takes, answers = sorted(signature.structured_input_signature[1]), sorted(signature.structured_outputs)
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
    """Converts Erfc to 1 - erf(x), because ONNX has no Erfc and tf2onnx would leave the op unchanged."""
    import numpy as np

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


def answer(request: Request) -> Any:
    """Loads an ONNX file."""
    import onnxruntime

    session = onnxruntime.InferenceSession(request["file"], providers=["CPUExecutionProvider"])
    outputs, takes = [output.name for output in session.get_outputs()], [given.name for given in session.get_inputs()]

    def answers(inputs: dict[str, Any]) -> dict[str, Any]:
        return dict(zip(outputs, session.run(outputs, {name: inputs[name] for name in takes}), strict=True))

    return answers


RUNTIME = Runtime(
    title="ONNX Runtime",
    tolerance=1e-4,
    modules=("onnxruntime", "onnx", "tf2onnx"),
    version="onnxruntime",
    format="onnx",
    file="model.onnx",
    convert=convert,
    answer=answer,
    sample=(
        "import numpy as np, onnxruntime",
        'session = onnxruntime.InferenceSession("model.onnx")',
        "print(session.run(None, {{{inputs}}}))",
    ),
)
