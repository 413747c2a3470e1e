"""LiteRT, formerly TensorFlow Lite: model.tflite."""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or __package__:
    from zoo.export.standalone.runtime import Request, Runtime, function
else:  # loaded by its path, with export/standalone first on sys.path
    from runtime import Request, Runtime, function


def convert(request: Request) -> None:
    """Writes model.tflite, with dynamic or fixed batch and length as in the request."""
    import tensorflow as tf

    batch, length = request["batch"], request["length"]
    with tempfile.TemporaryDirectory() as folder:
        model = _with_static_lists(request["model"], batch, folder) if batch else request["model"]
        if batch is None and length is None:
            converter = tf.lite.TFLiteConverter.from_saved_model(model, signature_keys=[request["signature"]])
        else:
            loaded = tf.saved_model.load(model)
            signature = function(loaded, request)
            converter = tf.lite.TFLiteConverter.from_concrete_functions([signature], loaded)
        content = converter.convert()
    with open(request["file"], "wb") as file:
        file.write(content)


def _with_static_lists(model: str, batch: int, folder: str) -> str:
    """Returns a copy of the SavedModel in which the tensor lists of loops have a fixed batch; others do not convert."""
    from tensorflow.core.protobuf import saved_model_pb2
    from tensorflow.python.framework import tensor_util

    proto = saved_model_pb2.SavedModel()
    with open(os.path.join(model, "saved_model.pb"), "rb") as file:
        proto.ParseFromString(file.read())
    for held in proto.meta_graphs[0].graph_def.library.function:
        nodes = {node.name: node for node in held.node_def}
        for node in held.node_def:
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


def answer(request: Request) -> Any:
    """Loads a LiteRT file."""
    import tensorflow as tf

    runner = tf.lite.Interpreter(model_path=request["file"], num_threads=1).get_signature_runner()
    return lambda inputs: runner(**inputs)


RUNTIME = Runtime(
    title="LiteRT",
    tolerance=1e-4,
    modules=("tensorflow.lite",),
    version="tensorflow",
    format="litert",
    file="model.tflite",
    convert=convert,
    answer=answer,
    sample=(
        "import numpy as np, tensorflow as tf",
        'run = tf.lite.Interpreter("model.tflite").get_signature_runner()',
        "print(run(**{{{inputs}}}))",
    ),
    unsupported=(
        r"'tf\.(\w+)' op is neither a custom op nor a flex op",
        r"'tf\.(\w+)' op requires element_shape to be static",
    ),
    fixed_sizes=True,
    fails_late=True,
)
